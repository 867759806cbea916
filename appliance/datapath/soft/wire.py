"""What the daemon and the datapath process say to each other over a stream socket.

A frame is a length, the length of the key material, a number of file descriptors, a MessagePack value and the key
material. Keys travel outside the
value so that they are only ever in buffers that can be overwritten. File descriptors ride along as SCM_RIGHTS.
"""

from __future__ import annotations

import array
import dataclasses
import socket
import struct
from collections import deque
from collections.abc import Callable
from enum import Enum
from functools import cache, lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from operator import attrgetter
from types import NoneType, UnionType
from typing import Any, Union, cast, get_args, get_origin, get_type_hints

import msgspec

from appliance.sa.algorithms import Suite
from appliance.sa.association import Limits, UdpEncapsulation
from appliance.sa.keys import wipe
from appliance.sa.selector import TrafficSelector

_HEADER = struct.Struct("!IIB")
MAX_FRAME = 64 << 20
_ENCODER = msgspec.msgpack.Encoder()
_CHUNK = 1 << 16
_FDS_ROOM = socket.CMSG_SPACE(64 * 4)
_SHARED = (TrafficSelector, Suite, Limits, UdpEncapsulation)
"""Small values that many SAs have in common: equal ones are decoded to one object."""
_SHARED_VALUES = 4096
_Convert = Callable[[Any], Any]


class WireError(Exception):
    """The other side does not speak this protocol."""


def encode(value: object) -> object:
    """A value of the contract as what MessagePack has.

    Dataclasses become lists of their fields, enums their values, addresses their bytes.
    """
    kind: Any = type(value)
    return _encoder(kind)(value)


def decode(kind: Any, value: Any) -> Any:
    """The inverse of ``encode`` for a value of type ``kind``. Raises WireError where it is not one."""
    try:
        return _decoder(kind)(value)
    except (TypeError, ValueError) as error:
        raise WireError(f"{kind}: {error}") from error


@cache
def _encoder(kind: Any) -> _Convert:
    """How values of a type are encoded: looked into once, since every SA has some fifty of them."""
    if issubclass(kind, Enum):
        return attrgetter("_value_")
    if issubclass(kind, NoneType | bool | int | float | str | bytes):
        return lambda value: value
    if issubclass(kind, IPv4Address | IPv6Address):
        return attrgetter("packed")
    if issubclass(kind, tuple | list):
        return lambda value: [encode(item) for item in value]
    if dataclasses.is_dataclass(kind):
        names = _field_names(cast(type, kind))
        return lambda value: [encode(getattr(value, name)) for name in names]
    raise TypeError(f"{kind.__name__} does not travel")


@cache
def _decoder(kind: Any) -> _Convert:
    """How values of a type are decoded."""
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        members = [member for member in get_args(kind) if member is not NoneType]
        inner = _address if members[0] in (IPv4Address, IPv6Address) else _decoder(members[0])
        return inner if NoneType not in get_args(kind) else lambda value: None if value is None else inner(value)
    if origin is tuple:
        item = _decoder(get_args(kind)[0])
        return lambda value: tuple([item(each) for each in value])
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _dataclass_decoder(kind)

    def checked(value: Any) -> Any:
        if isinstance(value, kind):
            return value
        if kind is float and isinstance(value, int):
            return float(value)
        raise TypeError(f"{value!r} is not {kind.__name__}")

    return checked


def _dataclass_decoder(kind: type) -> _Convert:
    fields = [(name, _decoder(hint)) for name, hint in _hints(kind).items()]

    def whole(row: Any) -> Any:
        return kind(**{name: convert(item) for (name, convert), item in zip(fields, row, strict=True)})

    if kind not in _SHARED:
        return whole
    shared = lru_cache(maxsize=_SHARED_VALUES)(whole)
    return lambda row: shared(tuple(row))


@lru_cache(maxsize=_SHARED_VALUES)
def _address(value: bytes) -> Any:
    return ip_address(value)


@cache
def _field_names(kind: type) -> tuple[str, ...]:
    return tuple(item.name for item in dataclasses.fields(cast(Any, kind)))


def _hints(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {name: hints[name] for name in _field_names(kind)}


class Channel:
    """Frames over a non-blocking stream socket. ``pending`` is True while something waits to be sent."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self._out: deque[tuple[bytearray, list[int]]] = deque()
        self._sent = 0
        self._in = bytearray()
        self._scratch = bytearray(_CHUNK)
        self._fds: deque[int] = deque()
        self.queued = 0

    @property
    def pending(self) -> bool:
        """Whether frames wait for room."""
        return bool(self._out)

    def push(self, value: object, secret: bytearray | None = None, fds: list[int] | None = None) -> None:
        """Queue a frame and send what goes. ``secret`` is wiped here, its copy in the queue after it was sent."""
        frame = bytearray(_HEADER.size)
        _ENCODER.encode_into(value, frame, _HEADER.size)
        _HEADER.pack_into(frame, 0, len(frame) - _HEADER.size, len(secret or b""), len(fds or []))
        if secret:
            whole = bytearray(len(frame) + len(secret))
            whole[: len(frame)] = frame
            whole[len(frame) :] = secret
            wipe(secret)
            frame = whole
        self._out.append((frame, fds or []))
        self.queued += len(frame)
        self.flush()

    def flush(self) -> None:
        """Send what the socket takes. Raises OSError if the other side is gone."""
        while self._out:
            frame, fds = self._out[0]
            rights: list[Any] = (
                [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds and not self._sent else []
            )
            with memoryview(frame) as view, view[self._sent : self._sent + _CHUNK] as part:
                try:
                    self._sent += self.sock.sendmsg([part], rights, socket.MSG_NOSIGNAL)
                except (BlockingIOError, InterruptedError):
                    return
            if self._sent >= len(frame):
                self._out.popleft()
                self.queued -= len(frame)
                wipe(frame)
                self._sent = 0

    def pull(self) -> list[tuple[Any, bytearray, list[int]]] | None:
        """Read what is there: (value, key material, file descriptors) for each whole frame; None at the end.

        The taker wipes the key material. Raises WireError for what is not a frame.
        """
        ended = False
        for _ in range(16):
            try:
                count, ancillary, _, _ = self.sock.recvmsg_into([self._scratch], _FDS_ROOM, socket.MSG_CMSG_CLOEXEC)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                ended = True
                break
            for level, kind, data in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    received = array.array("i")
                    received.frombytes(data[: len(data) - len(data) % received.itemsize])
                    self._fds.extend(received)
            if not count:
                ended = True
                break
            with memoryview(self._scratch) as view, view[:count] as part:
                self._in += part
                part[:] = bytes(count)
        frames = list(self._frames())
        return None if ended and not frames else frames

    def _frames(self) -> list[tuple[Any, bytearray, list[int]]]:
        found = []
        offset = 0
        buffer = self._in
        while len(buffer) - offset >= _HEADER.size:
            length, secret_length, fd_count = _HEADER.unpack_from(buffer, offset)
            if length + secret_length > MAX_FRAME:
                raise WireError(f"a frame of {length + secret_length} bytes")
            end = offset + _HEADER.size + length + secret_length
            if len(buffer) < end:
                break
            start = offset + _HEADER.size
            try:
                value = msgspec.msgpack.decode(bytes(buffer[start : start + length]))
            except msgspec.DecodeError as error:
                raise WireError(str(error)) from error
            if fd_count > len(self._fds):
                raise WireError("file descriptors are missing")
            found.append((value, buffer[start + length : end], [self._fds.popleft() for _ in range(fd_count)]))
            offset = end
        if offset:
            rest = buffer[offset:]
            wipe(buffer)
            self._in = rest
        return found

    def close(self) -> None:
        """Close the socket and wipe what was queued."""
        for frame, _ in self._out:
            wipe(frame)
        self._out.clear()
        wipe(self._in)
        self.sock.close()
