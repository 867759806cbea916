"""The sockets: :class:`XfrmSocket` asks and is answered, :class:`XfrmEvents` listens.

Both stay in the network namespace in which they were made. They are plain AF_NETLINK sockets and not pyroute2's, which
run on an asyncio loop; see the README.
"""

from __future__ import annotations

import errno
import gc
import select
import socket
import struct
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

from . import requests
from .constants import NETLINK_XFRM, Attribute, Group, MessageType, PolicyType
from .errors import DumpInterrupted, Malformed, NoAnswer, XfrmError
from .parse import Body, Message, parse_body, parse_frame
from .policy import Policy
from .state import State
from .tables import StateFilter
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

    def recvfrom_into(self, buffer: bytearray, nbytes: int = ..., flags: int = ..., /) -> tuple[int, Any]:
        """Receive one, without waiting: its length (all of it, with MSG_TRUNC) and sender."""

    def wait(self, seconds: float, /) -> bool:
        """Wait until there is one; False if the time is over."""

    def fileno(self) -> int:
        """The descriptor."""

    def close(self) -> None:
        """Close it."""


class Netlink(socket.socket):
    """A NETLINK_XFRM socket that does not block, with NETLINK_EXT_ACK and NETLINK_CAP_ACK.

    ``buffer``: bytes for what waits to be received; it takes CAP_NET_ADMIN to have more than net.core.rmem_max.
    """

    def __init__(self, buffer: int = 4 << 20, groups: Iterable[Group] = ()) -> None:
        super().__init__(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_XFRM)
        try:
            self.setblocking(False)
            self.bind((0, 0))
            self.setsockopt(_SOL_NETLINK, _EXT_ACK, 1)
            self.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)
            try:
                self.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, buffer)
            except PermissionError:
                self.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            for group in groups:
                self.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, int(group))
        except OSError:
            self.close()
            raise

    def wait(self, seconds: float, /) -> bool:
        """Until there is something to receive."""
        poll = select.poll()
        poll.register(self, select.POLLIN)
        return bool(poll.poll(seconds * 1000))


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
        self._transport: Transport = Netlink() if transport is None else transport
        self._timeout = timeout
        self.port = _port(self._transport)
        """Its netlink address: events that come of its requests carry it, and answers are for it."""
        self._sequence = int(time.monotonic() * 1000) & 0x7FFFFFFF
        self._buffer = bytearray(_BUFFER)
        self._view = memoryview(self._buffer)
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
            kind, flags = _TWO.unpack_from(request, 4)
            if flags & NLM_F_DUMP == NLM_F_DUMP and kind in _LISTED:
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
            # The kernel copies the port from here into the event that tells others of the change.
            _STAMP.pack_into(request, 6, flags | NLM_F_REQUEST | NLM_F_ACK, number, self.port)
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
        trouble, trouble_code = "", 0
        try:
            while waiting:
                view = self._receive(deadline)
                if len(view) == _ACK_SIZE:
                    # All but a few are this: one success, without words.
                    length, kind, flags, number, _, code = _ACK.unpack_from(view)
                    if (length, kind, code) == _SUCCESS and number in waiting and not flags & NLM_F_ACK_TLVS:
                        index = waiting[number]
                        if index not in replies and index not in broken:
                            del waiting[number]
                            answers[index] = _DONE
                            continue
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
                            replies.setdefault(index, []).append(parse_body(view, frame, keys=keys))
                        except Malformed as error:
                            broken[index] = f"the answer cannot be read: {error}"
        except Malformed as error:
            trouble_code, trouble = errno.EBADMSG, f"the answer cannot be read: {error}"
        except OSError as error:
            trouble_code = error.errno or errno.ETIMEDOUT
            trouble = "the answer was lost" if error.errno else "no answer"
        finally:
            self._wipe()
        return [
            Answer(NoAnswer(trouble_code, trouble, kind=_kind(request))) if answer is None else answer
            for answer, request in zip(answers, messages, strict=True)
        ]

    def _dump(self, request: bytearray, keys: bool) -> tuple[list[Body], bool]:
        number = self._number()
        (flags,) = _U16.unpack_from(request, 6)
        _STAMP.pack_into(request, 6, flags | NLM_F_REQUEST | NLM_F_DUMP, number, self.port)
        kind = _kind(request)
        try:
            self._transport.sendmsg([request])
        except OSError as error:
            raise XfrmError(error.errno or errno.EIO, "not sent", kind=kind) from error
        listing = _Listing(number, request, keys)
        # Tens of thousands of objects and no cycle among them: looking for some takes a third of the time.
        collecting = gc.isenabled()
        gc.disable()
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
            if collecting:
                gc.enable()
        if listing.trouble is not None:
            raise listing.trouble
        return listing.found, listing.whole

    def _receive(self, deadline: float) -> memoryview:
        """One datagram of the kernel's. Raises TimeoutError (without errno), OSError and Malformed."""
        while True:
            try:
                length, sender = self._transport.recvfrom_into(self._buffer, 0, _TRUNC)
            except (BlockingIOError, InterruptedError):
                if not self._transport.wait(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError from None
                continue
            if sender[0] != 0:
                self.strays += 1
                continue
            if length > self._used:
                self._used = min(length, _BUFFER)
            if length > _BUFFER:
                raise Malformed(f"a datagram of {length} bytes")
            return self._view[:length]

    def _wipe(self) -> None:
        self._buffer[: self._used] = bytes(self._used)
        self._used = 0

    def _reopen(self) -> None:
        """A dump that stuck would stand in the way of the next one."""
        if self._own:
            self._transport.close()
            self._transport = Netlink()
            self.port = _port(self._transport)


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
                    self.found.append(parse_body(view, frame, keys=self._keys))
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
            transport = Netlink(buffer, groups)
        self._transport = transport
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
                length, sender = self._transport.recvfrom_into(self._buffer, 0, _TRUNC)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                events.append(Overrun())
                continue
            if sender[0] != 0:
                continue
            view = memoryview(self._buffer)[:length]
            try:
                if length > _BUFFER:
                    raise Malformed(f"a datagram of {length} bytes")
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
                self._buffer[:length] = bytes(min(length, _BUFFER))
        return events


_U16 = struct.Struct("=H")
_TWO = struct.Struct("=HH")
_STAMP = struct.Struct("=HII")
_ACK = struct.Struct("=IHHIIi")
_ACK_SIZE = 36
_SUCCESS = (_ACK_SIZE, NLMSG_ERROR, 0)
_DONE = Answer()
_TRUNC = int(socket.MSG_TRUNC)
_OTHER_ATTRIBUTES = frozenset({MessageType.NEWSPDINFO, MessageType.NEWSADINFO})
_LISTED = frozenset({MessageType.GETSA, MessageType.GETPOLICY})


def _port(transport: Transport) -> int:
    return int(transport.getsockname()[0]) if isinstance(transport, Netlink) else 0


def _kind(request: bytearray) -> MessageType:
    return MessageType(_U16.unpack_from(request, 4)[0])


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
    if _kind(request) in _OTHER_ATTRIBUTES:
        return None
    if offset < HEADER + 4 or offset + 4 > len(request):
        return None
    return Attribute(_U16.unpack_from(request, offset + 2)[0] & 0x3FFF)
