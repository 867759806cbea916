"""Keep keys out of core dumps, other processes' reach and swap."""

from __future__ import annotations

import ctypes
import os
import resource

_PR_SET_DUMPABLE = 4
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4


def harden() -> tuple[str, ...]:
    """Make the process non-dumpable and lock its memory. Returns what could not be done, in words."""
    libc = ctypes.CDLL(None, use_errno=True)
    missing = []
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        missing.append(f"non-dumpable: {os.strerror(ctypes.get_errno())}")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # ONFAULT: only pages that are touched count, which keeps the process small.
    if libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) != 0:
        missing.append(f"locked memory: {os.strerror(ctypes.get_errno())}")
    return tuple(missing)
