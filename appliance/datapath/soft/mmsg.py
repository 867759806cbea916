"""Many messages with one system call: sendmmsg(2) and recvmmsg(2), which Python's socket module lacks.

Native ESP has no segmentation offload: without these each packet costs a system call of its own.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

_CMSG = struct.Struct("@Nii")  # struct cmsghdr: length, level, type
_ALIGN = struct.calcsize("@N")
_IN = struct.Struct("=HH4s8x")
_IN6 = struct.Struct("=HHI16sI")
_NAME = 28  # sockaddr_in6
_CONTROL = 128

Ancillary = list[tuple[int, int, bytes]]
Column = NDArray[np.unsignedinteger[Any]]


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Msghdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("iov", ctypes.c_void_p),
        ("iov_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Mmsghdr(ctypes.Structure):
    _fields_ = (("header", _Msghdr), ("length", ctypes.c_uint32))


_libc = ctypes.CDLL(None, use_errno=True)


class _Vector:
    """``count`` messages of one piece each. Their fields are columns of arrays over the structures' memory."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.messages = (_Mmsghdr * count)()
        self._pieces = (_Iovec * count)()
        pieces = np.frombuffer(memoryview(self._pieces).cast("B"), np.uintp).reshape(count, 2)
        self.bases: Column = pieces[:, 0]
        self.sizes: Column = pieces[:, 1]
        memory = np.frombuffer(memoryview(self.messages).cast("B"), np.uint8).reshape(count, ctypes.sizeof(_Mmsghdr))

        def column(offset: int, kind: np.dtype[Any]) -> Column:
            found: Column = memory[:, offset : offset + kind.itemsize].view(kind)[:, 0]
            return found

        word, half = np.dtype(np.uintp), np.dtype(np.uint32)
        self.names = column(_Msghdr.name.offset, word)
        self.name_lengths = column(_Msghdr.name_length.offset, half)
        self.controls = column(_Msghdr.control.offset, word)
        self.control_lengths = column(_Msghdr.control_length.offset, word)
        self.lengths = column(_Mmsghdr.length.offset, half)
        first = ctypes.addressof(self._pieces)
        for index, message in enumerate(self.messages):
            message.header.iov = first + index * ctypes.sizeof(_Iovec)
            message.header.iov_count = 1


class Receiving:
    """Messages that land in a buffer, one every ``stride`` bytes."""

    def __init__(self, buffer: bytearray, stride: int, count: int) -> None:
        self._vector = _Vector(count)
        self._names = bytearray(_NAME * count)
        self._controls = bytearray(_CONTROL * count)
        vector, steps = self._vector, np.arange(count, dtype=np.uintp)
        vector.bases[:] = address_of(buffer) + steps * np.uintp(stride)
        vector.sizes[:] = stride
        self._name_addresses = address_of(self._names) + steps * np.uintp(_NAME)
        self._control_addresses = address_of(self._controls) + steps * np.uintp(_CONTROL)

    def receive(self, sock: socket.socket, *, names: bool) -> list[int]:
        """Take what waits, without blocking: the messages' lengths. Raises OSError, BlockingIOError for none.

        ``names`` asks for IPv6 peers' names and for ancillary data.
        """
        vector = self._vector
        if names:
            vector.names[:], vector.name_lengths[:] = self._name_addresses, _NAME
            vector.controls[:], vector.control_lengths[:] = self._control_addresses, _CONTROL
        else:
            vector.names[:] = vector.name_lengths[:] = vector.controls[:] = vector.control_lengths[:] = 0
        count = _libc.recvmmsg(sock.fileno(), vector.messages, vector.count, socket.MSG_DONTWAIT, None)
        if count < 0:
            number = ctypes.get_errno()
            raise OSError(number, "recvmmsg")
        lengths: list[int] = vector.lengths[:count].tolist()
        return lengths

    def name(self, index: int) -> bytes:
        """The IPv6 address that a message came from."""
        return bytes(self._names[index * _NAME + 8 : index * _NAME + 24])

    def control(self, index: int) -> bytes:
        """A message's ancillary data as it came, for ``unpack_control``."""
        start = index * _CONTROL
        return bytes(self._controls[start : start + int(self._vector.control_lengths[index])])


class Sending:
    """Messages to one peer that stand behind each other in a buffer."""

    def __init__(self, count: int) -> None:
        self._vector = _Vector(count)
        self._steps = np.arange(count, dtype=np.uintp)
        self._name = bytearray(_NAME)
        self._control = bytearray(_CONTROL)
        self._vector.names[:] = address_of(self._name)
        self._count = 0

    def prepare(self, address: int, used: int, size: int, target: str, ancillary: Ancillary) -> None:
        """Have ``used`` bytes at ``address`` sent, ``size`` a message, the last maybe less."""
        vector = self._vector
        count = self._count = -(-used // size)
        vector.bases[:count] = np.uintp(address) + self._steps[:count] * np.uintp(size)
        vector.sizes[:count] = size
        vector.sizes[count - 1] = used - (count - 1) * size
        name = _socket_name(target)
        self._name[: len(name)] = name
        vector.name_lengths[:count] = len(name)
        control = pack_control(ancillary)
        self._control[: len(control)] = control
        vector.controls[:count] = address_of(self._control) if control else 0
        vector.control_lengths[:count] = len(control)

    def send(self, sock: socket.socket, first: int) -> int:
        """Send from message ``first`` on; how many went. Raises OSError for what is wrong with that one."""
        messages = ctypes.byref(self._vector.messages, first * ctypes.sizeof(_Mmsghdr))
        count: int = _libc.sendmmsg(sock.fileno(), messages, self._count - first, socket.MSG_DONTWAIT)
        if count < 0:
            raise OSError(ctypes.get_errno(), "sendmmsg")
        return count


def address_of(buffer: bytearray) -> int:
    """Where a buffer is in memory. It must not change its size any more."""
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


def pack_control(ancillary: Ancillary) -> bytes:
    """Ancillary data as sendmsg(2) wants it (cmsg(3))."""
    packed = b""
    for level, kind, data in ancillary:
        packed += _CMSG.pack(_CMSG.size + len(data), level, kind) + data + bytes(-len(data) % _ALIGN)
    return packed


def unpack_control(control: bytes) -> Ancillary:
    """Ancillary data as recvmsg(2) leaves it."""
    found, at = [], 0
    while at + _CMSG.size <= len(control):
        length, level, kind = _CMSG.unpack_from(control, at)
        if length < _CMSG.size:
            break
        found.append((level, kind, control[at + _CMSG.size : at + length]))
        at += length + -length % _ALIGN
    return found


@lru_cache(maxsize=1024)
def _socket_name(target: str) -> bytes:
    host, _, scope = target.partition("%")
    if ":" not in host:
        return _IN.pack(socket.AF_INET, 0, socket.inet_pton(socket.AF_INET, host))
    index = 0 if not scope else int(scope) if scope.isdecimal() else socket.if_nametoindex(scope)
    return _IN6.pack(socket.AF_INET6, 0, 0, socket.inet_pton(socket.AF_INET6, host), index)
