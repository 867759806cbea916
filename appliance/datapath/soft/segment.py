"""Cutting a super-packet from the TUN device into packets, all of them at once (what a NIC's TSO and USO do)."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

import numpy as np
from numpy.typing import NDArray

from appliance.datapath.soft.packet import TCP, UDP, ones_sum

Bytes = NDArray[np.uint8]
_U16 = Struct("!H")
_U32 = Struct("!I")
_INDEX = np.arange(65536, dtype=np.int64)
_PADDING = bytes(range(1, 256))
_FIN_PSH = 0x09
_CWR = 0x80
ROOM = 1 << 18
"""Bytes of scratch space that rows need at most: 64 KiB of payload in packets as small as headers make them."""


@dataclass(frozen=True, slots=True)
class Super:
    """A super-packet: ``header`` bytes of IP and TCP or UDP, the latter at ``upper``; ``size`` bytes a segment."""

    data: memoryview
    version: int
    protocol: int
    upper: int
    header: int
    size: int

    @property
    def payload(self) -> int:
        """Bytes of payload."""
        return len(self.data) - self.header

    @property
    def count(self) -> int:
        """How many packets it makes."""
        return -(-self.payload // self.size)


def swap(value: int) -> int:
    """A 16-bit number with its bytes exchanged: sums are made of little-endian words here (RFC 1071 §2 (B))."""
    return (value & 0xFF) << 8 | value >> 8


def build_rows(
    scratch: Bytes, packet: Super, first: int, count: int, size: int, *, alignment: int, next_header: int
) -> Bytes:
    """Packets ``first`` to ``first + count`` of a super-packet, each with its ESP trailer: an array of one row each.

    ``size`` is the payload of each of these; only the last packet of all may have less than ``packet.size``. Rows are
    padded to ``alignment`` (RFC 4303 §2.4) and live in ``scratch`` until the next call.
    """
    header, upper = packet.header, packet.upper
    length = header + size
    pad = -(length + 2) % alignment
    width = length + pad + 2
    rows = scratch[: count * width].reshape(count, width)
    source = np.frombuffer(packet.data, np.uint8)
    start = header + first * packet.size
    trailer = _PADDING[:pad] + bytes((pad, next_header))
    index = _INDEX[first : first + count]
    rows[:, :header] = np.frombuffer(_common_header(packet, length), np.uint8)
    rows[:, header:length] = source[start : start + count * size].reshape(count, size)
    rows[:, length:] = np.frombuffer(trailer, np.uint8)
    if packet.version == 4:
        # The identification rises, so the header's checksum falls (RFC 6864 §4.1, RFC 1624).
        numbers = (_U16.unpack_from(packet.data, 4)[0] + index) & 0xFFFF
        rows[:, 4:6] = _two_bytes(numbers)
        rows[:, 10:12] = _two_bytes(
            (65535 - (ones_sum(rows[0, :upper].tobytes()) + numbers - numbers[0]) % 65535) % 65535
        )
    if packet.protocol == TCP:
        _tcp_headers(rows, packet, index)
        field = upper + 16
    else:
        field = upper + 6
    addresses = packet.data[12:20] if packet.version == 4 else packet.data[8:40]
    pseudo = (ones_sum(addresses) + packet.protocol + length - upper) % 65535
    # Words of 32 bits, little-endian: 2^16 is 1 modulo 65535. The trailer is the same in all rows.
    behind = int.from_bytes(bytes((length - upper) % 4) + trailer, "little")
    total = np.add.reduce(rows[:, upper:].view("<u4"), axis=1, dtype=np.uint64)
    value = 65535 - (total.view(np.int64) + (swap(pseudo) - behind) % 65535) % 65535  # 1 to 65535
    if packet.protocol == TCP:
        value %= 65535  # UDP says 65535 where the checksum is zero (RFC 768), TCP says zero
    rows[:, field : field + 2] = value.astype("<u2").view(np.uint8).reshape(count, 2)
    return rows


def _common_header(packet: Super, length: int) -> bytearray:
    """The header of all packets, with zeros where they differ or where a checksum comes."""
    head, upper = bytearray(packet.data[: packet.header]), packet.upper
    if packet.version == 4:
        _U16.pack_into(head, 2, length)
        head[4] = head[5] = head[10] = head[11] = 0
    else:
        _U16.pack_into(head, 4, length - 40)
    if packet.protocol == TCP:
        head[upper + 16] = head[upper + 17] = 0
        # The last packet alone ends and pushes, the first one alone says that the window shrank (RFC 3168 §6.1.2).
        head[upper + 13] &= 0xFF ^ (_FIN_PSH | _CWR)
    else:
        _U16.pack_into(head, upper + 4, length - upper)
        head[upper + 6] = head[upper + 7] = 0
    return head


def _two_bytes(values: NDArray[np.int64]) -> Bytes:
    return values.astype(">u2").view(np.uint8).reshape(-1, 2)


def _tcp_headers(rows: Bytes, packet: Super, index: NDArray[np.int64]) -> None:
    upper = packet.upper
    sequence = _U32.unpack_from(packet.data, upper + 4)[0]
    numbers = ((sequence + index * packet.size) & 0xFFFF_FFFF).astype(">u4")
    rows[:, upper + 4 : upper + 8] = numbers.view(np.uint8).reshape(-1, 4)
    flags = packet.data[upper + 13]
    if flags & _FIN_PSH and int(index[-1]) == packet.count - 1:
        rows[-1, upper + 13] |= np.uint8(flags & _FIN_PSH)
    if flags & _CWR and int(index[0]) == 0:
        rows[0, upper + 13] |= np.uint8(_CWR)


def header_length(data: memoryview, upper: int, protocol: int) -> int | None:
    """Bytes of IP and upper-layer header; None if they are damaged."""
    if protocol == UDP:
        return upper + 8 if len(data) > upper + 8 else None
    if len(data) < upper + 20:
        return None
    length = (data[upper + 12] >> 4) * 4
    return upper + length if length >= 20 and len(data) > upper + length else None
