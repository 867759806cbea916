"""Verilator's -Wall over modules of the RTL: ``python -m sim.tb.lint [MODULE...]``, all without a name."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from sim.tb.simulation import RTL, WAIVERS, packages, rtl_folders, source, verilator_environment


def modules() -> list[Path]:
    """Every module of the RTL."""
    return sorted(path for path in RTL.rglob("*.sv") if not path.name.endswith("_pkg.sv"))


def lint(module: Path, parameters: Sequence[str] = ()) -> str:
    """What is to be said of a module; empty if nothing is."""
    folders = [word for path in rtl_folders() for word in ("-y", str(path))]
    command = [
        "verilator",
        "--lint-only",
        "-Wall",
        "--no-timing",
        "--assert",
        *folders,
        *parameters,
        "--top-module",
        module.stem,
    ]
    done = subprocess.run(
        [*command, str(WAIVERS), *map(str, packages()), str(module)],
        env={**os.environ, **verilator_environment()},
        capture_output=True,
        text=True,
    )
    return done.stderr if done.returncode or done.stderr else ""


def main(names: Sequence[str]) -> int:
    """Lint; returns how many modules have something to be said of them."""
    bad = 0
    for module in [source(name) for name in names] or modules():
        said = lint(module)
        bad += bool(said)
        sys.stderr.write(said)
    return min(bad, 100)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
