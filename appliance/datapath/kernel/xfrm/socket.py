"""The sockets: :class:`XfrmSocket` asks and is answered, :class:`XfrmEvents` listens.

Both stay in the network namespace in which they were made. They are plain AF_NETLINK sockets and not pyroute2's, which
run an asyncio loop in a thread of its own for each socket; see the README.
"""

from __future__ import annotations

import errno
import socket
import struct
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

from . import requests
from .constants import NETLINK_XFRM, Attribute, Group, MessageType, PolicyType
from .errors import DumpInterrupted, Malformed, NoAnswer, XfrmError
from .events import StateFilter
from .parse import Body, Message, parse_frame
from .policy import Policy
from .state import State
from .wire import (
    HEADER,
    NLM_F_ACK,
    NLM_F_ACK_TLVS,
    NLM_F_CAPPED,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    NLMSG_NOOP,
    NLMSG_OVERRUN,
    U32,
    Frame,
    attributes,
    frames,
    wipe,
)

_SOL_NETLINK = 270
_ADD_MEMBERSHIP, _CAP_ACK, _EXT_ACK = 1, 10, 11
_SO_RCVBUFFORCE = 33
_ERROR = struct.Struct("=i")
_MESSAGE, _OFFSET, _MISSING_TYPE = 1, 2, 5  # NLMSGERR_ATTR_*

_BUFFER = 1 << 17
"""Larger than any datagram of the kernel's: it makes dumps of 32 KiB at most."""

_BATCH = 128
"""Messages in one datagram: their answers wait in the receive buffer together, a bit under 1 KiB each."""

_BATCH_BYTES = 1 << 16


class Transport(Protocol):
    """As much of a socket as is needed, so that a test can be the kernel."""

    def sendmsg(self, buffers: Iterable[bytes | bytearray], /) -> int:
        """Send one datagram."""

    def recvmsg_into(
        self, buffers: Iterable[bytearray], ancbufsize: int = ..., flags: int = ..., /
    ) -> tuple[int, list[Any], int, Any]:
        """Receive one: length, ancillary data, flags and sender."""

    def settimeout(self, value: float | None, /) -> None:
        """For receiving, seconds."""

    def fileno(self) -> int:
        """The descriptor."""

    def close(self) -> None:
        """Close it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one request.

    ``error``: None if it was carried out; a NoAnswer if that is open; another XfrmError if it was refused.
    ``warning``: what the kernel had to say although it did it. ``replies``: what it sent back.
    """

    error: XfrmError | None = None
    warning: str = ""
    replies: tuple[Body, ...] = ()


@dataclass(frozen=True, slots=True)
class Overrun:
    """Events were lost (ENOBUFS): what is known from events may be wrong, and has to be asked for again."""


@dataclass(frozen=True, slots=True)
class Garbled:
    """A message of the events, or the rest of a datagram, could not be read; counts as lost events."""

    reason: str


class XfrmSocket:
    """Requests and their answers. Not for more than one thread at a time.

    ``timeout``: seconds that a batch, or each datagram of a dump, is waited for. Raises OSError where the kernel has
    no NETLINK_XFRM or permits no such socket.
    """

    def __init__(self, transport: Transport | None = None, *, timeout: float = 5.0) -> None:
        self._own = transport is None
        self._transport: Transport = _open() if transport is None else transport
        self._timeout = timeout
        self._sequence = int(time.monotonic() * 1000) & 0x7FFFFFFF
        self._buffer = bytearray(_BUFFER)
        self._used = 0
        self.strays = 0
        """Answers that belonged to no request that was waiting: late ones, repeated ones, other processes'."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it and wipe its buffer."""
        self._transport.close()
        wipe(self._buffer)

    def do(self, request: bytearray, *, keys: bool = False) -> Body:
        """Send one request and give the first reply, None for none. Raises XfrmError, NoAnswer."""
        (answer,) = self.batch([request], keys=keys)
        if answer.error is not None:
            raise answer.error
        return answer.replies[0] if answer.replies else None

    def batch(self, messages: Sequence[bytearray], *, keys: bool = False) -> list[Answer]:
        """Send requests, many in one datagram, and give the answer to each, in their order.

        Raises nothing: an Answer has the error. The kernel carries them out in their order and does not stop at one
        that it refuses. Dumps do not go here. The requests get their sequence numbers written into them and have to
        live on until this returns.
        """
        answers: list[Answer] = []
        start = size = 0
        for end, request in enumerate(messages):
            (flags,) = _U16.unpack_from(request, 6)
            if flags & NLM_F_DUMP == NLM_F_DUMP and _kind(request) in _LISTED:
                raise ValueError("a dump in a batch")
            if end > start and (end - start == _BATCH or size + len(request) > _BATCH_BYTES):
                answers += self._exchange(messages[start:end], keys)
                start, size = end, 0
            size += len(request)
        if start < len(messages):
            answers += self._exchange(messages[start:], keys)
        return answers

    def dump(self, request: bytearray, *, keys: bool = False, attempts: int = 3) -> list[Body]:
        """Everything that a dump request lists. Raises XfrmError, NoAnswer, Malformed.

        A list that changed while it was read is asked for again, ``attempts`` times in all, before DumpInterrupted is
        raised.
        """
        for attempt in range(1, attempts + 1):
            found, whole = self._dump(request, keys)
            if whole:
                return found
            if attempt == attempts:
                break
        raise DumpInterrupted(errno.EINTR, f"{attempts} times", kind=_kind(request))

    def states(self, which: StateFilter | None = None, *, keys: bool = False) -> list[State]:
        """All SAs, or those of a filter. Raises as :meth:`dump`."""
        return [body for body in self.dump(requests.dump_states(which), keys=keys) if isinstance(body, State)]

    def policies(self, policy_type: PolicyType | None = None) -> list[Policy]:
        """All policies, those of sockets (whose index modulo 8 is 3 and more) too. Raises as :meth:`dump`."""
        found = [body for body in self.dump(requests.dump_policies(policy_type)) if isinstance(body, Policy)]
        return [policy for policy in found if policy_type in (None, policy.policy_type)]

    def _number(self) -> int:
        self._sequence = self._sequence % 0xFFFFFFFE + 1
        return self._sequence

    def _exchange(self, messages: Sequence[bytearray], keys: bool) -> list[Answer]:
        waiting: dict[int, int] = {}
        parts: list[bytes | bytearray] = []
        for index, request in enumerate(messages):
            number = self._number()
            (flags,) = _U16.unpack_from(request, 6)
            _STAMP.pack_into(request, 6, flags | NLM_F_REQUEST | NLM_F_ACK, number)
            waiting[number] = index
            parts.append(request)
            if len(request) % 4:
                parts.append(bytes(-len(request) % 4))
        answers: list[Answer | None] = [None] * len(messages)
        replies: dict[int, list[Body]] = {}
        broken: dict[int, str] = {}
        try:
            self._transport.sendmsg(parts)
        except OSError as error:
            code = error.errno or errno.EIO
            return [Answer(XfrmError(code, "not sent", kind=_kind(request))) for request in messages]
        deadline = time.monotonic() + self._timeout
        trouble = ""
        code = 0
        try:
            while waiting:
                view = self._receive(deadline)
                for frame in frames(view):
                    index_or_none = waiting.get(frame.sequence)
                    if index_or_none is None:
                        self.strays += frame.kind != NLMSG_NOOP
                        continue
                    index = index_or_none
                    if frame.kind == NLMSG_ERROR:
                        refusal, warning = _read_error(view, frame, messages[index])
                        if refusal is None and index in broken:
                            refusal = NoAnswer(errno.EBADMSG, broken[index], kind=_kind(messages[index]))
                        answers[index] = Answer(refusal, warning, tuple(replies.pop(index, ())))
                        del waiting[frame.sequence]
                    elif frame.kind not in (NLMSG_NOOP, NLMSG_DONE, NLMSG_OVERRUN):
                        try:
                            replies.setdefault(index, []).append(parse_frame(view, frame, keys=keys).body)
                        except Malformed as error:
                            broken[index] = f"the answer cannot be read: {error}"
        except Malformed as error:
            code, trouble = errno.EBADMSG, f"the answer cannot be read: {error}"
        except OSError as error:
            code, trouble = error.errno or errno.ETIMEDOUT, "the answer was lost" if error.errno else "no answer"
        finally:
            self._wipe()
        return [
            Answer(NoAnswer(code, trouble, kind=_kind(request))) if answer is None else answer
            for answer, request in zip(answers, messages, strict=True)
        ]

    def _dump(self, request: bytearray, keys: bool) -> tuple[list[Body], bool]:
        number = self._number()
        (flags,) = _U16.unpack_from(request, 6)
        _STAMP.pack_into(request, 6, flags | NLM_F_REQUEST | NLM_F_DUMP, number)
        kind = _kind(request)
        try:
            self._transport.sendmsg([request])
        except OSError as error:
            raise XfrmError(error.errno or errno.EIO, "not sent", kind=kind) from error
        listing = _Listing(number, request, keys)
        try:
            while not listing.done:
                self.strays += listing.read(self._receive(time.monotonic() + self._timeout))
        except Malformed as error:
            self._reopen()
            raise NoAnswer(errno.EBADMSG, str(error), kind=kind) from error
        except OSError as error:
            self._reopen()
            code = error.errno or errno.ETIMEDOUT
            raise NoAnswer(code, "the list was lost" if error.errno else "no answer", kind=kind) from error
        finally:
            self._wipe()
        if listing.trouble is not None:
            raise listing.trouble
        return listing.found, listing.whole

    def _receive(self, deadline: float) -> memoryview:
        """One datagram of the kernel's. Raises TimeoutError (without errno), OSError and Malformed."""
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._transport.settimeout(left)
            length, _, flags, sender = self._transport.recvmsg_into([self._buffer])
            if isinstance(sender, tuple) and sender[0] != 0:
                self.strays += 1
                continue
            self._used = max(self._used, length)
            if flags & socket.MSG_TRUNC:
                raise Malformed(f"a datagram of more than {len(self._buffer)} bytes")
            return memoryview(self._buffer)[:length]

    def _wipe(self) -> None:
        self._buffer[: self._used] = bytes(self._used)
        self._used = 0

    def _reopen(self) -> None:
        """A dump that stuck would stand in the way of the next one."""
        if self._own:
            self._transport.close()
            self._transport = _open()


class _Listing:
    """A dump on its way in."""

    def __init__(self, number: int, request: bytearray, keys: bool) -> None:
        self._number = number
        self._request = request
        self._keys = keys
        self.found: list[Body] = []
        self.whole = True
        self.done = False
        self.trouble: XfrmError | Malformed | None = None

    def read(self, view: memoryview) -> int:
        """Take a datagram; the number of messages in it that belong to something else. Raises Malformed.

        After a message that says nonsense the rest has to be read all the same: before its end the kernel begins no
        other dump on this socket.
        """
        strays = 0
        for frame in frames(view):
            if frame.sequence != self._number:
                strays += 1
                continue
            if frame.flags & NLM_F_DUMP_INTR and frame.kind != NLMSG_ERROR:
                self.whole = False
            if frame.kind in (NLMSG_DONE, NLMSG_ERROR):
                self.done = True
                refusal, _ = _read_error(view, frame, self._request)
                self.trouble = self.trouble or refusal
                break
            if self.trouble is None and frame.kind != NLMSG_NOOP:
                try:
                    self.found.append(parse_frame(view, frame, keys=self._keys).body)
                except Malformed as error:
                    self.trouble = error
        return strays


class XfrmEvents:
    """Multicast groups, for an event loop: when :meth:`fileno` is readable, call :meth:`receive`. Never blocks.

    ``groups``: all, if not said. ``buffer``: bytes that the kernel may keep for us; past that it drops events and
    :class:`Overrun` tells. The SA group carries keys, which are wiped unless ``keys``. Raises OSError as XfrmSocket.
    """

    def __init__(
        self,
        groups: Iterable[Group] = tuple(Group),
        *,
        transport: Transport | None = None,
        buffer: int = 4 << 20,
        keys: bool = False,
    ) -> None:
        if transport is None:
            opened = _open(buffer)
            try:
                for group in groups:
                    opened.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, int(group))
            except OSError:
                opened.close()
                raise
            transport = opened
        self._transport = transport
        self._transport.settimeout(0)
        self._buffer = bytearray(_BUFFER)
        self._keys = keys

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """The descriptor, readable when there are events."""
        return self._transport.fileno()

    def close(self) -> None:
        """Close it and wipe its buffer."""
        self._transport.close()
        wipe(self._buffer)

    def receive(self, limit: int = 64) -> list[Message | Overrun | Garbled]:
        """What has come, at most ``limit`` datagrams of it; an empty list for nothing.

        Raises OSError for a dead socket. Overrun and Garbled mean that something is missing at that place.
        """
        events: list[Message | Overrun | Garbled] = []
        for _ in range(limit):
            try:
                length, _, flags, sender = self._transport.recvmsg_into([self._buffer])
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                events.append(Overrun())
                continue
            if isinstance(sender, tuple) and sender[0] != 0:
                continue
            view = memoryview(self._buffer)[:length]
            try:
                if flags & socket.MSG_TRUNC:
                    raise Malformed(f"a datagram of more than {len(self._buffer)} bytes")
                for frame in frames(view):
                    if frame.kind == NLMSG_OVERRUN:
                        events.append(Overrun())
                    elif frame.kind not in (NLMSG_NOOP, NLMSG_ERROR, NLMSG_DONE):
                        try:
                            events.append(parse_frame(view, frame, keys=self._keys))
                        except Malformed as error:
                            events.append(Garbled(str(error)))
            except Malformed as error:
                events.append(Garbled(str(error)))
            finally:
                view.release()
                self._buffer[:length] = bytes(length)
        return events


_U16 = struct.Struct("=H")
_STAMP = struct.Struct("=HI")
_LISTED = frozenset({MessageType.GETSA, MessageType.GETPOLICY})


def _kind(request: bytearray) -> MessageType:
    return MessageType(_U16.unpack_from(request, 4)[0])


def _open(buffer: int = 4 << 20) -> socket.socket:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_XFRM)
    try:
        sock.bind((0, 0))
        sock.setsockopt(_SOL_NETLINK, _EXT_ACK, 1)
        sock.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)
        try:
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, buffer)
        except PermissionError:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    except OSError:
        sock.close()
        raise
    return sock


def _read_error(view: memoryview, frame: Frame, request: bytearray) -> tuple[XfrmError | None, str]:
    """From NLMSG_ERROR or NLMSG_DONE: the refusal if it is one, and the kernel's own words. Raises Malformed."""
    if frame.end - frame.start < _ERROR.size:
        if frame.kind == NLMSG_DONE:
            return None, ""
        raise Malformed(f"an acknowledgement of {frame.end - frame.start} bytes")
    (code,) = _ERROR.unpack_from(view, frame.start)
    words, attribute = "", None
    if frame.flags & NLM_F_ACK_TLVS:
        at = frame.start + _ERROR.size
        if frame.kind == NLMSG_ERROR:
            if frame.end - at < HEADER:
                raise Malformed("an acknowledgement without the header of its request")
            at += HEADER if frame.flags & NLM_F_CAPPED else max(HEADER, U32.unpack_from(view, at)[0])
        for kind, payload in attributes(view, at, frame.end):
            if kind == _MESSAGE:
                words = bytes(payload).rstrip(b"\0").decode("utf-8", "replace")
            elif kind in (_OFFSET, _MISSING_TYPE) and len(payload) >= 4:
                (number,) = U32.unpack_from(payload)
                attribute = Attribute(number) if kind == _MISSING_TYPE else _attribute_at(request, number)
    if code == 0:
        return None, words
    return XfrmError(-code if code < 0 else errno.EPROTO, words, attribute, _kind(request)), words


def _attribute_at(request: bytearray, offset: int) -> Attribute | None:
    """Which attribute begins there; none does in the fixed part of a message."""
    if offset < HEADER + 4 or offset + 4 > len(request):
        return None
    return Attribute(_U16.unpack_from(request, offset + 2)[0] & 0x3FFF)
