"""Ends what a killed test run left behind: its directories, and processes that carry its mark. Nothing else.

The mark is the process id of the lab that started them; while that one lives, they are left alone.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

PREFIX = "esplanade-lab-"
TAG = b"ESPLANADE_LAB="


def _alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _mark(process: Path) -> int | None:
    """The lab that a process belongs to."""
    try:
        for entry in (process / "environ").read_bytes().split(b"\0"):
            if entry.startswith(TAG):
                return int(entry[len(TAG) :])
    except (OSError, ValueError):
        pass  # ended meanwhile, or not ours to look at
    return None


def main() -> int:
    """Sweeps; says what it did. Exit status 0."""
    for process in Path("/proc").glob("[0-9]*"):
        lab = _mark(process)
        if lab is not None and not _alive(lab):
            print(f"ending process {process.name} of lab {lab}")
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(process.name), signal.SIGKILL)
    for directory in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        owner = directory.name.removeprefix(PREFIX).partition("-")[0]
        if owner.isdigit() and not _alive(int(owner)):
            print(f"removing {directory}")
            shutil.rmtree(directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
