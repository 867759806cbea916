"""Gluing decrypted packets of one flow into a super-packet for the TUN device (what a NIC's GRO does)."""

from __future__ import annotations

import os
from functools import cache
from struct import Struct, unpack

import numpy as np

from appliance.datapath.soft.core import Core
from appliance.datapath.soft.packet import TCP, checksum, ones_sum
from appliance.datapath.soft.segment import Bytes, swap
from appliance.datapath.soft.tun import (
    GSO_TCPV4,
    GSO_TCPV6,
    GSO_UDP_L4,
    NEEDS_CSUM,
    VNET_HEADER,
)
from appliance.reasons import Reason

_U16 = Struct("!H")
_U32 = Struct("!I")
_LONGEST = 65535
_MOST = 128
_FIN_PSH = 0x09
_ACK = 0x10
_ECE = 0x40


class Coalescer:
    """One super-packet in the making. ``rows`` and ``packet`` add to it, ``flush`` writes it out.

    Packets leave one by one where a checksum is wrong, so that the receiver sees that.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._buffer = bytearray(_LONGEST + 64)
        self._view = memoryview(self._buffer)
        self._array: Bytes = np.frombuffer(self._buffer, np.uint8)
        self._count = 0
        self._used = 0
        self._header = self._upper = self._size = self._protocol = self._next = self._identification = 0
        self._ended = False
        self._template = 0

    def rows(self, rows: Bytes, first: bytes, length: int, upper: int, protocol: int) -> int:
        """Take packets of ``length`` bytes, one a row with its ESP trailer behind it; returns how many.

        Those are taken that are like the first one: of its flow, with its trailer. None if it stands for itself.
        Rows are a multiple of 4 bytes and ``first`` is the first one. Its IP header was checked and has no options or
        extension headers, and its trailer was.
        """
        header = _header_length(first, length, upper, protocol)
        if header == 0:
            return 0
        count: int = min(rows.shape[0], _MOST)
        rows = rows[:count]
        mask, template_mask = _masks(first[0] >> 4, protocol, header)
        heads = rows[:, :header] & mask
        head, tail = heads[0].tobytes(), first[length:]
        if heads.tobytes() != head * count or rows[:, length:].tobytes() != tail * count:
            same = (heads == heads[0]).all(axis=1) & (rows[:, length:] == rows[0, length:]).all(axis=1)
            count = int(same.argmin())  # the first one is like itself
            rows = rows[:count]
        template = int.from_bytes(head) & template_mask
        wrong = _wrong_sums(rows, first, length, upper, protocol)
        starts, sequences = _runs(rows, first, header, length, upper, protocol, wrong)
        for start, end in zip(starts, [*starts[1:], count], strict=True):
            if start in wrong:
                self.single(rows[start, :length].tobytes())
                continue
            flags = int(rows[end - 1, upper + 13]) & _FIN_PSH if protocol == TCP else 0
            if _fragile(first):
                self._follow_identification(_U16.unpack(rows[start, 4:6].tobytes())[0], end - start)
            self._add(rows[start:end, :length], template, header, upper, protocol, sequences[start], flags)
        return count

    def packet(self, packet: bytes, upper: int, protocol: int) -> bool:
        """Take one packet without its trailer, as ``rows`` does. False if it cannot be glued."""
        length = len(packet)
        header = _header_length(packet, length, upper, protocol)
        if header == 0:
            return False
        version = packet[0] >> 4
        addresses = packet[12:20] if version == 4 else packet[8:40]
        if (ones_sum(packet[upper:]) + ones_sum(addresses) + protocol + length - upper) % 65535:
            return False
        sequence = flags = 0
        if protocol == TCP:
            sequence, flags = _U32.unpack_from(packet, upper + 4)[0], packet[upper + 13] & _FIN_PSH
        _, template_mask = _masks(version, protocol, header)
        template = int.from_bytes(packet[:header]) & template_mask
        if _fragile(packet):
            self._follow_identification(_U16.unpack_from(packet, 4)[0], 1)
        row = np.frombuffer(packet, np.uint8).reshape(1, length)
        self._add(row, template, header, upper, protocol, sequence, flags)
        return True

    def single(self, packet: bytes | bytearray | memoryview) -> None:
        """A packet that is not glued: it goes after what is there."""
        self.flush()
        self._core.counters["tun_tx_packets"] += 1
        self._core.write_tun(packet)

    def flush(self) -> None:
        """Write what is there."""
        if not self._count:
            return
        buffer, upper, used = self._buffer, self._upper, self._used
        version = buffer[0] >> 4
        if version == 4:
            _U16.pack_into(buffer, 2, used)
            buffer[10] = buffer[11] = 0
            _U16.pack_into(buffer, 10, checksum(ones_sum(self._view[:upper])))
        else:
            _U16.pack_into(buffer, 4, used - 40)
        tcp = self._protocol == TCP
        field = upper + (16 if tcp else 6)
        if not tcp:
            _U16.pack_into(buffer, upper + 4, used - upper)
        pseudo = ones_sum(self._view[12:20] if version == 4 else self._view[8:40]) + self._protocol + used - upper
        _U16.pack_into(buffer, field, pseudo % 65535)
        if self._count > 1:
            kind = (GSO_TCPV4 if version == 4 else GSO_TCPV6) if tcp else GSO_UDP_L4
            header = VNET_HEADER.pack(NEEDS_CSUM, kind, self._header, self._size, upper, field - upper)
        else:
            header = VNET_HEADER.pack(NEEDS_CSUM, 0, 0, 0, upper, field - upper)
        try:
            os.writev(self._core.tun.fd, (header, self._view[:used]))
        except BlockingIOError:
            self._core.drop(Reason.QUEUE_FULL, self._count)
        except OSError:
            self._core.drop(Reason.SEND_FAILED, self._count)
        self._core.counters["tun_tx_packets"] += 1
        self._count = 0

    def _follow_identification(self, identification: int, count: int) -> None:
        if identification != self._identification:
            self._ended = True
        self._identification = (identification + count) & 0xFFFF

    def _add(
        self, rows: Bytes, template: int, header: int, upper: int, protocol: int, sequence: int, flags: int
    ) -> None:
        """Add packets that follow each other; ``flags`` are FIN and PSH of the last one."""
        count, length = rows.shape
        size = length - header
        done = 0
        while done < count:
            if not self._follows(template, size, sequence):
                self.flush()
                self._begin(rows[done], template, header, upper, protocol, size)
            # A shorter packet can only be the last one.
            most = _MOST - self._count if size == self._size else 1
            batch = min(most, (_LONGEST - self._used) // size, count - done)
            target = self._array[self._used : self._used + batch * size].reshape(batch, size)
            target[:] = rows[done : done + batch, header:]
            self._used += batch * size
            self._count += batch
            done += batch
            sequence = self._next = (sequence + batch * size) & 0xFFFF_FFFF
            self._ended = size < self._size
        if flags:
            self._buffer[upper + 13] |= flags
            self._ended = True

    def _follows(self, template: int, size: int, sequence: int) -> bool:
        return (
            self._count > 0
            and not self._ended
            and size <= self._size
            and template == self._template
            and (self._protocol != TCP or sequence == self._next)
            and self._count < _MOST
            and self._used + size <= _LONGEST
        )

    def _begin(self, first: Bytes, template: int, header: int, upper: int, protocol: int, size: int) -> None:
        self._buffer[:header] = first[:header].tobytes()
        if protocol == TCP:
            self._buffer[upper + 13] &= 0xFF ^ _FIN_PSH
        self._template, self._header, self._upper, self._protocol = template, header, upper, protocol
        self._size, self._used, self._count, self._ended = size, header, 0, False


def _header_length(first: bytes, length: int, upper: int, protocol: int) -> int:
    """Bytes of headers; 0 if there is nothing to glue, or the packet stands for itself: SYN, RST, URG, CWR."""
    if protocol == TCP:
        if length < upper + 20 or first[upper + 13] & ~(_FIN_PSH | _ACK | _ECE):
            return 0
        header = upper + (first[upper + 12] >> 4) * 4
        return header if upper + 20 <= header < length else 0
    header = upper + 8
    if length <= header or _U16.unpack_from(first, upper + 4)[0] != length - upper:
        return 0
    return header


def _fragile(first: bytes) -> bool:
    """Whether identifications matter (IPv4 without DF, RFC 6864): they have to rise by one, as cutting makes them."""
    return first[0] >> 4 == 4 and not first[6] & 0x40


def _wrong_sums(rows: Bytes, first: bytes, length: int, upper: int, protocol: int) -> set[int]:
    """The rows whose TCP or UDP checksum is wrong, as that of UDP is which has none: gluing would make one."""
    addresses = first[12:20] if first[0] >> 4 == 4 else first[8:40]
    pseudo = (ones_sum(addresses) + protocol + length - upper) % 65535
    # Words of 32 bits, little-endian: 2^16 is 1 modulo 65535. The trailer is the same in all rows.
    trailer = int.from_bytes(bytes((length - upper) % 4) + first[length:], "little")
    rest = (swap(pseudo) - trailer) % 65535
    sums = np.add.reduce(rows[:, upper:].view("<u4"), axis=1, dtype=np.uint64).tolist()
    return {index for index, total in enumerate(sums) if (total + rest) % 65535}


def _runs(
    rows: Bytes, first: bytes, header: int, length: int, upper: int, protocol: int, wrong: set[int]
) -> tuple[list[int], tuple[int, ...]]:
    """Where runs of packets start that cutting makes again from one super-packet, and all sequence numbers."""
    count, size = rows.shape[0], length - header
    breaks = {0}
    for index in wrong:
        breaks.update((index, index + 1))
    sequences: tuple[int, ...] = (0,) * count
    if protocol == TCP:
        sequences = unpack(f"!{count}I", rows[:, upper + 4 : upper + 8].tobytes())
        start = sequences[0]
        if sequences != tuple(range(start, start + count * size, size)):
            breaks.update(at for at in range(1, count) if sequences[at] != (sequences[at - 1] + size) & 0xFFFF_FFFF)
        flags = rows[:, upper + 13].tobytes()
        if flags.count(flags[0] & ~_FIN_PSH) != count:
            breaks.update(at + 1 for at in range(count) if flags[at] & _FIN_PSH)
    if _fragile(first):
        numbers = unpack(f"!{count}H", rows[:, 4:6].tobytes())
        breaks.update(at for at in range(1, count) if numbers[at] != (numbers[at - 1] + 1) & 0xFFFF)
    breaks.discard(count)
    return sorted(breaks), sequences


@cache
def _masks(version: int, protocol: int, header: int) -> tuple[Bytes, int]:
    """Bits of the headers that are the same in all packets of one length that may be glued, and of any length."""
    upper = 20 if version == 4 else 40
    mask = np.full(header, 0xFF, np.uint8)
    if version == 4:
        mask[4:6] = 0
        mask[10:12] = 0
    if protocol == TCP:
        mask[upper + 4 : upper + 8] = 0
        mask[upper + 13] = 0xFF ^ _FIN_PSH
        mask[upper + 16 : upper + 18] = 0
    else:
        mask[upper + 6 : upper + 8] = 0
    template = mask.copy()
    if version == 4:
        template[2:4] = 0
    else:
        template[4:6] = 0
    if protocol != TCP:
        template[upper + 4 : upper + 6] = 0
    return mask, int.from_bytes(template.tobytes())
