"""rtnetlink(7): batches of requests, with the kernel's own words about what it refuses, and lists of what there is."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from appliance.datapath.kernel.xfrm.wire import (
    HEADER,
    NLM_F_ACK,
    NLM_F_ACK_TLVS,
    NLM_F_CAPPED,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    attributes,
    frames,
    message,
)
from appliance.reasons import Reason, Refusal

NLM_F_CREATE, NLM_F_EXCL = 0x400, 0x200
_SOL_NETLINK, _CAP_ACK, _EXT_ACK, _STRICT = 270, 10, 11, 12
_BATCH = 64
_BUFFER = 1 << 18
_DUMPS = 5
_CODE = struct.Struct("=i")
_SEQUENCE = struct.Struct("=I")


@dataclass(frozen=True, slots=True)
class Request:
    """A message with its flags. ``what`` it does, for refusals; an errno in ``ignored`` is as good as done."""

    kind: int
    flags: int
    body: bytes
    what: str
    ignored: tuple[int, ...] = ()


class Unsupported(Refusal):
    """The kernel does not know what it is asked for (EOPNOTSUPP)."""


class Routing(Protocol):
    """What interfaces are kept with: the kernel's, or a test's."""

    def do(self, requests: Sequence[Request]) -> None:
        """Do all of them, in order; at the first that is refused, those behind it are done all the same.

        Raises Refusal with the kernel's words about it: NO_PRIVILEGE, KERNEL_REFUSED, DATAPATH_TIMEOUT; Unsupported.
        """

    def dump(self, kind: int, body: bytes) -> list[memoryview]:
        """The payloads of what there is. Raises Refusal as ``do``."""

    def close(self) -> None:
        """Give it back."""


class RouteSocket:
    """The kernel's routing, in the network namespace that it was made in."""

    def __init__(self) -> None:
        self._sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._sock.bind((0, 0))
        self._sock.settimeout(5.0)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        for option in (_CAP_ACK, _EXT_ACK, _STRICT):
            with suppress(OSError):  # older kernels say less, and list more
                self._sock.setsockopt(_SOL_NETLINK, option, 1)
        self._number = 0

    def close(self) -> None:
        """Close it."""
        self._sock.close()

    def do(self, requests: Sequence[Request]) -> None:
        """See Routing."""
        refused: Refusal | None = None
        for at in range(0, len(requests), _BATCH):
            waiting: dict[int, Request] = {}
            data = bytearray()
            for request in requests[at : at + _BATCH]:
                waiting[self._next()] = request
                data += self._message(request.kind, request.flags | NLM_F_ACK, request.body)
            self._sock.send(data)
            while waiting:
                view = self._receive(next(iter(waiting.values())).what)
                for frame in frames(view):
                    if frame.kind != NLMSG_ERROR or frame.sequence not in waiting:
                        continue
                    request = waiting.pop(frame.sequence)
                    code, words = _answer(view[frame.start : frame.end], frame.flags)
                    if code and code not in request.ignored:
                        refused = refused or refusal(code, words, request.what)
        if refused is not None:
            raise refused

    def dump(self, kind: int, body: bytes) -> list[memoryview]:
        """See Routing."""
        for _ in range(_DUMPS):
            found, whole = self._dump(kind, body)
            if whole:
                break
        return found

    def _dump(self, kind: int, body: bytes) -> tuple[list[memoryview], bool]:
        number = self._next()
        self._sock.send(self._message(kind, NLM_F_DUMP, body))
        found: list[memoryview] = []
        whole = True
        while True:
            view = self._receive("listing what there is")
            for frame in frames(view):
                if frame.sequence != number:
                    continue
                whole = whole and not frame.flags & NLM_F_DUMP_INTR
                if frame.kind in (NLMSG_DONE, NLMSG_ERROR):
                    code, words = _answer(view[frame.start : frame.end], 0)
                    if code:
                        raise refusal(code, words, "listing what there is")
                    return found, whole
                found.append(view[frame.start : frame.end])

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _message(self, kind: int, flags: int, body: bytes) -> bytearray:
        made = message(kind, flags | NLM_F_REQUEST, body)
        made += bytes(-len(made) % 4)
        _SEQUENCE.pack_into(made, 8, self._number)
        return made

    def _receive(self, what: str) -> memoryview:
        try:
            while True:
                data, sender = self._sock.recvfrom(_BUFFER)
                if sender[0] == 0:
                    return memoryview(data)
        except TimeoutError:
            raise Refusal(Reason.DATAPATH_TIMEOUT, f"{what}: the kernel does not answer") from None
        except OSError as error:
            raise Refusal(Reason.DATAPATH_TIMEOUT, f"{what}: {error.strerror}") from None


def refusal(code: int, words: str, what: str) -> Refusal:
    """What an errno means, with the kernel's own words."""
    said = os.strerror(code) + (f": {words}" if words else "")
    if code == errno.EPERM:
        return Refusal(Reason.NO_PRIVILEGE, f"{what}: {said}")
    kind = Unsupported if code == errno.EOPNOTSUPP else Refusal
    return kind(Reason.KERNEL_REFUSED, f"{what}: {said}")


def _answer(payload: memoryview, flags: int) -> tuple[int, str]:
    """Errno and the kernel's words of an acknowledgement. Raises Malformed."""
    if len(payload) < _CODE.size:
        return 0, ""
    code = -_CODE.unpack_from(payload)[0]
    words = ""
    if flags & NLM_F_ACK_TLVS and len(payload) >= _CODE.size + HEADER:
        length = HEADER if flags & NLM_F_CAPPED else _SEQUENCE.unpack_from(payload, _CODE.size)[0]
        for kind, value in attributes(payload, _CODE.size + length, len(payload)):
            if kind == 1:
                words = bytes(value).rstrip(b"\0").decode("utf-8", "replace")
    return code, words
