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
_PADDING = np.arange(1, 256, dtype=np.uint8)
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
    rows[:, :header] = source[:header]
    rows[:, header:length] = source[start : start + count * size].reshape(count, size)
    rows[:, length:] = 0
    index = _INDEX[first : first + count]
    if packet.version == 4:
        _ipv4_headers(rows, packet, index, length)
    else:
        rows[:, 4] = (length - 40) >> 8
        rows[:, 5] = (length - 40) & 0xFF
    if packet.protocol == TCP:
        _tcp_headers(rows, packet, index)
        field = upper + 16
    else:
        rows[:, upper + 4] = (length - upper) >> 8
        rows[:, upper + 5] = (length - upper) & 0xFF
        field = upper + 6
    rows[:, field] = 0
    rows[:, field + 1] = 0
    addresses = packet.data[12:20] if packet.version == 4 else packet.data[8:40]
    pseudo = (ones_sum(addresses) + packet.protocol + length - upper) % 65535
    total = upper_sums(rows, upper) + swap(pseudo)
    value = 65535 - total % 65535  # 1 to 65535
    if packet.protocol == TCP:
        value %= 65535  # UDP says 65535 where the checksum is zero (RFC 768), TCP says zero
    rows[:, field] = value & 0xFF
    rows[:, field + 1] = value >> 8
    if pad:
        rows[:, length : length + pad] = _PADDING[:pad]
    rows[:, length + pad] = pad
    rows[:, width - 1] = next_header
    return rows


def upper_sums(rows: Bytes, upper: int) -> NDArray[np.int64]:
    """Sums of little-endian words from ``upper`` to the end of each row. Rows are a multiple of 4 bytes."""
    words = rows[:, upper:].view("<u4")
    sums: NDArray[np.uint64] = words.sum(axis=1, dtype=np.uint64)
    # Two halves of 32 bits are words too.
    return ((sums & np.uint64(0xFFFF)) + (sums >> np.uint64(16))).astype(np.int64)


def _ipv4_headers(rows: Bytes, packet: Super, index: NDArray[np.int64], length: int) -> None:
    head = bytearray(packet.data[: packet.upper])
    identification = _U16.unpack_from(head, 4)[0]
    _U16.pack_into(head, 2, length)
    head[4] = head[5] = head[10] = head[11] = 0
    numbers = (identification + index) & 0xFFFF
    value = (65535 - (ones_sum(head) + numbers) % 65535) % 65535
    rows[:, 2] = length >> 8
    rows[:, 3] = length & 0xFF
    rows[:, 4] = numbers >> 8
    rows[:, 5] = numbers & 0xFF
    rows[:, 10] = value >> 8
    rows[:, 11] = value & 0xFF


def _tcp_headers(rows: Bytes, packet: Super, index: NDArray[np.int64]) -> None:
    upper = packet.upper
    sequence = _U32.unpack_from(packet.data, upper + 4)[0]
    numbers = ((sequence + index * packet.size) & 0xFFFF_FFFF).astype(">u4")
    rows[:, upper + 4 : upper + 8] = numbers.view(np.uint8).reshape(-1, 4)
    flags = packet.data[upper + 13]
    if flags & _FIN_PSH:
        rows[:, upper + 13] &= np.uint8(0xFF ^ _FIN_PSH)
        if int(index[-1]) == packet.count - 1:
            rows[-1, upper + 13] |= np.uint8(flags & _FIN_PSH)
    if flags & _CWR:
        rows[1 if int(index[0]) == 0 else 0 :, upper + 13] &= np.uint8(0xFF ^ _CWR)


def header_length(data: memoryview, upper: int, protocol: int) -> int | None:
    """Bytes of IP and upper-layer header; None if they are damaged."""
    if protocol == UDP:
        return upper + 8 if len(data) > upper + 8 else None
    if len(data) < upper + 20:
        return None
    length = (data[upper + 12] >> 4) * 4
    return upper + length if length >= 20 and len(data) > upper + length else None
