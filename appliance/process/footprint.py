"""What keeps a process small that lives for years."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
from pathlib import Path
from typing import cast

_MADV_DONTNEED = 4
_UNUSED = ("ssl", "_ssl", "_hashlib")


def leave_out_openssl() -> None:
    """Have asyncio, hashlib and hmac do without Python's own OpenSSL, which is a second one beside cryptography's.

    To be called before they are imported. They take it where they find it, and do not need it.
    """
    modules = cast(dict[str, object], sys.modules)
    for name in _UNUSED:
        modules.setdefault(name, None)  # to import it fails from now on


def trim_memory() -> None:
    """Give back what a start took and nobody needs any more."""
    gc.collect()
    libc = ctypes.CDLL(None)
    with contextlib.suppress(AttributeError):  # a C library without it
        libc.malloc_trim(0)
    for start, size in _clean_mappings(Path("/proc/self/smaps").read_text()):
        # Code is no secret, so it need not be locked, and locked pages stay. What is used again comes back by itself.
        libc.munlock(ctypes.c_void_p(start), ctypes.c_size_t(size))
        libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), _MADV_DONTNEED)


def _clean_mappings(smaps: str) -> list[tuple[int, int]]:
    """(address, bytes) of the mappings whose pages are all a file's: code and constants (proc(5), smaps)."""
    found = []
    mapping: tuple[int, int] | None = None
    for line in smaps.splitlines():
        name, *fields = line.split()
        if not name.endswith(":"):
            start, _, end = name.partition("-")
            of_file = len(fields) > 4 and fields[4].startswith("/")
            read_only = fields[0] in ("r-xp", "r--p")
            mapping = (int(start, 16), int(end, 16) - int(start, 16)) if of_file and read_only else None
        # A page that was written to, as by relocation, is in memory only: to drop it would bring back what was before.
        elif name == "Anonymous:" and fields[0] == "0" and mapping is not None:
            found.append(mapping)
    return found
