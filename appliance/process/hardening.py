"""What keeps keys inside this process: no core dumps, no tracing by others, no swap."""

from __future__ import annotations

import ctypes
import os
import resource
from pathlib import Path

_PR_SET_DUMPABLE = 4
_MCL_CURRENT = 1
_MCL_FUTURE = 2
_MCL_ONFAULT = 4
_NOT_LOCKED = "memory is not locked and keys may be swapped out: {} (run as root, or with CAP_IPC_LOCK)"


def harden() -> tuple[str, ...]:
    """Make this process non-dumpable and lock its memory. Returns what could not be done, one line each."""
    problems: list[str] = []
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        problems.append(f"the process stays dumpable: {os.strerror(ctypes.get_errno())}")
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (OSError, ValueError) as error:
        problems.append(f"core dumps stay possible: {error}")
    if not _may_lock_all():
        problems.append(_NOT_LOCKED.format("its amount is limited"))
        return tuple(problems)
    # On fault: only pages that are used are locked, so that an interpreter does not grow by what it never touches.
    if libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) != 0:
        problems.append(_NOT_LOCKED.format(os.strerror(ctypes.get_errno())))
    return tuple(problems)


def _may_lock_all() -> bool:
    """Whether what is needed later can be locked, too: under a limit it could not be had at all, which is worse."""
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except (OSError, ValueError):
        limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        # Who has more than the limit already is let past it only with CAP_IPC_LOCK, and then at all times (mlock(2)).
        return size > limit
    return True
