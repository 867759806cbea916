"""An initial RAM disk in the kernel's format ("newc", Documentation/driver-api/early-userspace/buffer-format.rst)."""

from __future__ import annotations

import stat


class Archive:
    """Folders and files, all of them root's."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._inode = 0

    def folder(self, name: str) -> None:
        """Add a folder; those above it were added before."""
        self._add(name, b"", stat.S_IFDIR | 0o755)

    def file(self, name: str, data: bytes, mode: int) -> None:
        """Add a file with these permissions."""
        self._add(name, data, stat.S_IFREG | mode)

    def finish(self) -> bytes:
        """The whole archive."""
        self._add("TRAILER!!!", b"", 0)
        return bytes(self._data)

    def _add(self, name: str, data: bytes, mode: int) -> None:
        self._inode += 1
        path = name.encode() + b"\0"
        # Inode, mode, uid, gid, links, time, size, two devices' major and minor, the name's size, checksum.
        fields = (self._inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
        self._data += b"070701" + b"".join(b"%08X" % field for field in fields) + path
        self._pad()
        self._data += data
        self._pad()

    def _pad(self) -> None:
        self._data += bytes(-len(self._data) % 4)
