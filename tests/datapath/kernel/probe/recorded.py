"""Netlink answers as kernels give them, behind a socket."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from typing import Any

from appliance.datapath.netlink import Netlink, attribute, split
from tests.datapath.kernel.xfrm.scripted import HEADER, ack, done

Answer = Callable[[int, bytes], list[tuple[int, bytes]] | tuple[int, str]]
"""From a request's type and payload to the messages of its answer, or to an error number and words."""


class _Socket:
    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._queue: deque[bytes] = deque()

    def send(self, data: bytes, /) -> int:
        ((kind, flags, number, payload),) = split(data)
        answer = self._answer(kind, payload)
        if isinstance(answer, tuple):
            self._queue.append(ack(number, *answer))
            return len(data)
        dump = flags & 0x300 == 0x300
        for kind_, body in answer:
            padded = body + bytes(-len(body) % 4)
            self._queue.append(HEADER.pack(16 + len(body), kind_, 2 if dump else 0, number, 0) + padded)
        self._queue.append(done(number) if dump else ack(number))
        return len(data)

    def recvfrom(self, size: int, /) -> tuple[bytes, Any]:
        if not self._queue:
            raise TimeoutError
        return self._queue.popleft(), (0, 0)

    def close(self) -> None:
        """Nothing is open."""


def recorded(answer: Answer) -> Netlink:
    return Netlink(transport=_Socket(answer))


def u32(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=I", value))


def string(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")
