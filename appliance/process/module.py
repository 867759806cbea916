"""Modules of ours as processes of their own."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def module_command(module: str, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """How ``python -m module`` is started: its arguments and environment.

    It runs as root: modules never come from the working directory (-P, and no empty entry in PYTHONPATH), and ours come
    from where this one came from.
    """
    given = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    path = os.pathsep.join([str(Path(__file__).resolve().parents[2]), *given])
    return [sys.executable, "-P", "-m", module, *arguments], dict(os.environ) | {"PYTHONPATH": path}
