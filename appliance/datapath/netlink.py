"""A netlink(7) socket that asks: one thing, a list of what there is, or many changes in one system call.

Over route or generic netlink. Standard library only, for processes that live for milliseconds: the framing in
``kernel/xfrm/wire.py`` comes with all of that library.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Protocol, Self

ROUTE, GENERIC = 0, 16
REQUEST, ACK, DUMP, CREATE, EXCLUSIVE = 1, 4, 0x300, 0x400, 0x200
NESTED = 0x8000
"""NLA_F_NESTED."""

NEWLINK, DELLINK, GETLINK, SETLINK = 16, 17, 18, 19
NEWADDR, DELADDR, GETADDR = 20, 21, 22
NEWROUTE, DELROUTE, GETROUTE = 24, 25, 26
NEWRULE, DELRULE, GETRULE = 32, 33, 34

BATCH = 64
"""Messages in one system call: their answers wait in the receive buffer together."""

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_CODE = struct.Struct("=i")
_ERROR, _DONE = 2, 3
_INTERRUPTED = 0x10
_CAPPED, _TLVS = 0x100, 0x200
_SOL_NETLINK, _CAP_ACK, _EXT_ACK, _STRICT = 270, 10, 11, 12
_WORDS = 1
"""NLMSGERR_ATTR_MSG."""
_RECEIVED = 1 << 20
_BUFFER = 1 << 17
_DUMPS = 5

_CONTROL, _GETFAMILY, _FAMILY_ID, _FAMILY_NAME = 0x10, 3, 1, 2

Message = tuple[int, int, bytes]
"""Type, flags beside those that each request has, payload."""


class Transport(Protocol):
    """As much of a socket as is needed, so that a test can be the kernel."""

    def send(self, data: bytes, /) -> int:
        """Send one datagram."""

    def recvfrom(self, size: int, /) -> tuple[bytes, Any]:
        """Receive one: it and its sender. Raises TimeoutError if it does not come."""

    def close(self) -> None:
        """Close it."""


class Refused(OSError):  # noqa: N818
    """The kernel's refusal: its number, and its own words in ``strerror``. Other OSErrors are the socket's."""


class Netlink:
    """A socket in the network namespace of the thread that made it. ``timeout``: seconds for each part of an answer."""

    def __init__(self, protocol: int = ROUTE, timeout: float = 5.0, transport: Transport | None = None) -> None:
        self._transport = _open(protocol, timeout) if transport is None else transport
        self._number = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it. Idempotent."""
        self._transport.close()

    def ask(self, kind: int, body: bytes, flags: int = 0) -> list[bytes]:
        """The payloads of what answers a request. Raises Refused; OSError, TimeoutError among them."""
        return self._ask(kind, flags | ACK, body)[0]

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """The payloads of what there is. Raises as ``ask``. Where it keeps changing, some may be missing or twice."""
        for _ in range(_DUMPS):
            found, whole = self._ask(kind, DUMP, body)
            if whole:
                break
        return found

    def batch(self, messages: Sequence[Message]) -> list[Refused | None]:
        """Do at most BATCH things in order, whatever becomes of each: None, or how it was refused. Raises OSError."""
        first = self._send([(kind, flags | ACK, body) for kind, flags, body in messages])
        waiting = set(range(first, first + len(messages)))
        refused: list[Refused | None] = [None] * len(messages)
        while waiting:
            for kind, flags, number, payload in self._receive():
                if kind == _ERROR and number in waiting:
                    waiting.remove(number)
                    refused[number - first] = _refusal(payload, flags, quotes=True)
        return refused

    def family(self, name: str) -> int:
        """The number of a generic netlink family, whose module is loaded if need be. Raises OSError (ENOENT)."""
        body = generic(_GETFAMILY, attribute(_FAMILY_NAME, name.encode() + b"\0"))
        for payload in self.ask(_CONTROL, body):
            found = attributes(payload[4:]).get(_FAMILY_ID)
            if found is not None:
                return int.from_bytes(found[:2], sys.byteorder)
        raise OSError(errno.ENOENT, f"no generic netlink family {name}")

    def _ask(self, kind: int, flags: int, body: bytes) -> tuple[list[bytes], bool]:
        """The answer, and whether nothing changed meanwhile."""
        number = self._send([(kind, flags, body)])
        found: list[bytes] = []
        whole = True
        while True:
            for kind_, flags_, number_, payload in self._receive():
                if number_ != number:
                    continue
                whole = whole and not flags_ & _INTERRUPTED
                if kind_ in (_ERROR, _DONE):
                    refused = _refusal(payload, flags_, quotes=kind_ == _ERROR)
                    if refused is not None:
                        raise refused
                    return found, whole
                found.append(payload)

    def _send(self, messages: Sequence[Message]) -> int:
        """Send them in one datagram. Returns the number of the first, from which on they are counted."""
        first = self._number + 1
        parts: list[bytes] = []
        for kind, flags, body in messages:
            self._number += 1
            parts += (_HEADER.pack(_HEADER.size + len(body), kind, REQUEST | flags, self._number, 0), body)
            parts.append(bytes(-len(body) % 4))
        self._transport.send(b"".join(parts))
        return first

    def _receive(self) -> Iterator[tuple[int, int, int, bytes]]:
        while True:
            data, sender = self._transport.recvfrom(_BUFFER)
            if sender[0] == 0:
                return split(data)


def _open(protocol: int, timeout: float) -> socket.socket:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    try:
        sock.bind((0, 0))
        sock.settimeout(timeout)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVED)
        for option in (_CAP_ACK, _EXT_ACK, _STRICT):
            with suppress(OSError):  # older kernels say less, and list more
                sock.setsockopt(_SOL_NETLINK, option, 1)
    except BaseException:
        sock.close()
        raise
    return sock


def split(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """The messages of a datagram: type, flags, number, payload; ends at one that does not fit."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, flags, number, _ = _HEADER.unpack_from(data, at)
        if length < _HEADER.size or at + length > len(data):
            return
        yield kind, flags, number, data[at + _HEADER.size : at + length]
        at += length + -length % 4


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


def text(value: bytes | None) -> str:
    """A string attribute; "" for none."""
    return (value or b"").split(b"\0")[0].decode("utf-8", "replace")


def u32(value: bytes | None) -> int:
    """A u32 attribute; 0 for none."""
    return int(struct.unpack_from("=I", value)[0]) if value is not None and len(value) >= 4 else 0


def _refusal(payload: bytes, flags: int, *, quotes: bool) -> Refused | None:
    """What an acknowledgement says, which ``quotes`` the request, or the end of a list, which does not."""
    code = -int(_CODE.unpack_from(payload)[0]) if len(payload) >= _CODE.size else 0
    if code == 0:
        return None
    words = os.strerror(code)
    if flags & _TLVS:
        quoted = 0 if not quotes else _HEADER.size if flags & _CAPPED else max(_HEADER.size, u32(payload[4:8]))
        said = text(attributes(payload[_CODE.size + quoted :]).get(_WORDS))
        words = f"{words}: {said}" if said else words
    return Refused(code, words)
