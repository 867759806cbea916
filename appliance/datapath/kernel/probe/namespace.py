"""A network namespace that lasts as long as one function: what is tried in it touches none of the machine's tables."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

_CLONE_NEWNET = 0x40000000
_CAP_NET_ADMIN, _CAP_SYS_ADMIN = 12, 21

_T = TypeVar("_T")


def elsewhere(function: Callable[[], _T], seconds: float = 60.0) -> _T:
    """Run ``function`` in a thread that has an empty namespace of its own; both end with it.

    Raises what it raises, OSError where no namespace can be made, TimeoutError if it does not end.
    """
    results: list[_T] = []
    errors: list[BaseException] = []

    def enter() -> None:
        try:
            _unshare()
            results.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=enter, name="namespace", daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError(f"the kernel is at it for {seconds:g} s")
    return results[0]


def lacking() -> str:
    """Which capability of this process is missing for that, "" if none."""
    try:
        lines = Path("/proc/self/status").read_text(errors="replace").splitlines()
        held = next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff:"))
    except (OSError, ValueError, StopIteration):
        return ""
    for number, name in ((_CAP_NET_ADMIN, "CAP_NET_ADMIN"), (_CAP_SYS_ADMIN, "CAP_SYS_ADMIN")):
        if not held >> number & 1:
            return name
    return ""


def _unshare() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
