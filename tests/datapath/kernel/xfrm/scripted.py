"""A kernel that says what a test tells it to."""

from __future__ import annotations

import errno
import os
import struct
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from appliance.datapath.kernel.xfrm.wire import NLM_F_ACK_TLVS, NLM_F_CAPPED, NLMSG_DONE, NLMSG_ERROR, Frame, frames

HEADER = struct.Struct("=IHHII")

Script = Callable[[bytes, list[Frame]], Iterable[bytes | OSError]]


class ScriptedKernel:
    """A transport. ``script`` answers each datagram with datagrams, or errors that receiving them gives."""

    def __init__(self, script: Script | None = None, sender: Any = (0, 0)) -> None:
        self._script = script
        self._sender = sender
        self.queue: deque[bytes | OSError] = deque()
        self.sent: list[bytes] = []
        self.closed = False

    def sendmsg(self, buffers: Iterable[bytes | bytearray], /) -> int:
        data = b"".join(bytes(one) for one in buffers)
        self.sent.append(data)
        if self._script is not None:
            self.queue.extend(self._script(data, list(frames(data.ljust(len(data) + -len(data) % 4, b"\0")))))
        return len(data)

    def recvfrom_into(self, buffer: bytearray, nbytes: int = 0, flags: int = 0, /) -> tuple[int, Any]:
        if not self.queue:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        data = self.queue.popleft()
        if isinstance(data, OSError):
            raise data
        kept = min(len(data), len(buffer))
        buffer[:kept] = data[:kept]
        return len(data), self._sender

    def wait(self, seconds: float, /) -> bool:
        return bool(self.queue)

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        self.closed = True


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def ack(sequence: int, code: int = 0, words: str = "", offset: int | None = None, missing: int | None = None) -> bytes:
    """As with NETLINK_EXT_ACK and NETLINK_CAP_ACK."""
    more = b""
    if words:
        more += attribute(1, words.encode() + b"\0")
    if offset is not None:
        more += attribute(2, struct.pack("=I", offset))
    if missing is not None:
        more += attribute(5, struct.pack("=I", missing))
    flags = NLM_F_CAPPED | (NLM_F_ACK_TLVS if more else 0)
    body = struct.pack("=i", -code) + HEADER.pack(100, 0x10, 5, sequence, 0) + more
    return HEADER.pack(16 + len(body), NLMSG_ERROR, flags, sequence, 0) + body


def done(sequence: int, code: int = 0, flags: int = 2) -> bytes:
    return HEADER.pack(20, NLMSG_DONE, flags, sequence, 0) + struct.pack("=i", -code)


def numbered(message: bytes | bytearray, sequence: int, flags: int = 0, kind: int | None = None) -> bytes:
    """``message`` as an answer to request ``sequence``, padded to whole words."""
    raw = bytearray(message)
    struct.pack_into("=HI", raw, 6, flags, sequence)
    if kind is not None:
        struct.pack_into("=H", raw, 4, kind)
    return bytes(raw) + bytes(-len(raw) % 4)
