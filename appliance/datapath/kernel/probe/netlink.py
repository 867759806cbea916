"""Questions over route and generic netlink. Standard library only, for a process that lives for milliseconds."""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
import time
from collections.abc import Iterator

ROUTE, GENERIC = 0, 16
REQUEST, ACK, DUMP, CREATE, EXCLUSIVE = 1, 4, 0x300, 0x400, 0x200
NESTED = 0x8000
"""NLA_F_NESTED."""

NEWLINK, GETLINK, NEWROUTE, GETROUTE = 16, 18, 24, 26

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_ERROR, _DONE = 2, 3
_CAPPED, _TLVS = 0x100, 0x200
_SOL_NETLINK, _CAP_ACK, _EXT_ACK = 270, 10, 11
_WORDS = 1
"""NLMSGERR_ATTR_MSG."""
_BUFFER = 1 << 17

_CONTROL, _GETFAMILY, _FAMILY_ID, _FAMILY_NAME = 0x10, 3, 1, 2


class Netlink:
    """A socket in the network namespace of the thread that made it. ``timeout``: seconds for a whole answer."""

    def __init__(self, protocol: int, timeout: float = 2.0, sock: socket.socket | None = None) -> None:
        if sock is None:
            sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
            sock.bind((0, 0))
            sock.setsockopt(_SOL_NETLINK, _EXT_ACK, 1)
            sock.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)
        self._sock = sock
        self._timeout = timeout
        self._number = 0

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    def ask(self, kind: int, body: bytes, flags: int = 0) -> list[tuple[int, bytes]]:
        """The messages that answer a request: their types and payloads.

        Raises OSError with the kernel's own words in ``strerror``, TimeoutError if they do not come.
        """
        self._number += 1
        flags |= REQUEST if flags & DUMP == DUMP else REQUEST | ACK
        self._sock.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, self._number, 0) + body)
        found: list[tuple[int, bytes]] = []
        deadline = time.monotonic() + self._timeout
        while True:
            self._sock.settimeout(max(0.001, deadline - time.monotonic()))
            for kind_, flags_, number, payload in messages(self._sock.recv(_BUFFER)):
                if number != self._number:
                    continue
                if kind_ in (_ERROR, _DONE):
                    _raise(payload, flags_, quotes=kind_ == _ERROR)
                    return found
                found.append((kind_, payload))

    def family(self, name: str) -> int:
        """The number of a generic netlink family, whose module is loaded if need be. Raises OSError (ENOENT)."""
        body = generic(_GETFAMILY, attribute(_FAMILY_NAME, name.encode() + b"\0"))
        for _, payload in self.ask(_CONTROL, body):
            found = attributes(payload[4:]).get(_FAMILY_ID)
            if found is not None:
                return int.from_bytes(found[:2], sys.byteorder)
        raise OSError(errno.ENOENT, f"no generic netlink family {name}")


def generic(command: int, body: bytes = b"") -> bytes:
    """A generic netlink message's payload."""
    return struct.pack("=BBH", command, 1, 0) + body


def attribute(kind: int, value: bytes) -> bytes:
    """An attribute with its padding."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def attribute_list(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Attributes in their order; ends at one that does not fit."""
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size or at + length > len(data):
            return
        yield kind & 0x3FFF, data[at + _ATTRIBUTE.size : at + length]
        at += length + -length % 4


def attributes(data: bytes) -> dict[int, bytes]:
    """The same by type; the last one counts."""
    return dict(attribute_list(data))


def messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """The messages of a datagram: type, flags, number, payload; ends at one that does not fit."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, flags, number, _ = _HEADER.unpack_from(data, at)
        if length < _HEADER.size or at + length > len(data):
            return
        yield kind, flags, number, data[at + _HEADER.size : at + length]
        at += length + -length % 4


def text(value: bytes | None) -> str:
    """A string attribute; "" for none."""
    return (value or b"").split(b"\0")[0].decode("utf-8", "replace")


def u32(value: bytes | None) -> int:
    """A u32 attribute; 0 for none."""
    return int(struct.unpack_from("=I", value)[0]) if value is not None and len(value) >= 4 else 0


def _raise(payload: bytes, flags: int, *, quotes: bool) -> None:
    """Raise what an acknowledgement says, which ``quotes`` the request, or the end of a list, which does not."""
    code = -int(struct.unpack_from("=i", payload)[0]) if len(payload) >= 4 else 0
    if code == 0:
        return
    words = os.strerror(code)
    if flags & _TLVS:
        quoted = 0 if not quotes else _HEADER.size if flags & _CAPPED else max(_HEADER.size, u32(payload[4:8]))
        said = text(attributes(payload[4 + quoted :]).get(_WORDS))
        words = f"{words}: {said}" if said else words
    raise OSError(code, words)
