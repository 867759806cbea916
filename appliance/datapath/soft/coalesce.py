"""Gluing decrypted packets of one flow into a super-packet for the TUN device (what a NIC's GRO does)."""

from __future__ import annotations

import os
from functools import cache
from struct import Struct

import numpy as np

from appliance.datapath.soft.core import Core
from appliance.datapath.soft.packet import TCP, checksum, ones_sum
from appliance.datapath.soft.segment import Bytes, swap, upper_sums
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
_STEPS = np.arange(_MOST + 1, dtype=np.int64)


class Coalescer:
    """One super-packet in the making. ``rows`` adds to it, ``flush`` writes it out."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._buffer = bytearray(_LONGEST + 64)
        self._view = memoryview(self._buffer)
        self._array: Bytes = np.frombuffer(self._buffer, np.uint8)
        self._count = 0
        self._used = 0
        self._header = self._upper = self._size = self._protocol = self._next = self._identification = 0
        self._ended = False
        self._template = b""

    def rows(self, rows: Bytes, length: int, upper: int, protocol: int) -> bool:
        """Take packets of ``length`` bytes of one flow, one a row, zeros behind them. False if they cannot be glued.

        Rows are a multiple of 4 bytes, their IP headers were checked and have no options or extension headers.
        Packets leave one by one where a checksum is wrong, so that the receiver sees that.
        """
        count = rows.shape[0]
        first = rows[0]
        version = int(first[0]) >> 4
        if protocol == TCP:
            header = upper + (int(first[upper + 12]) >> 4) * 4
            if header < upper + 20:
                return False
        else:
            header = upper + 8
        size = length - header
        # Nothing to glue, or a packet that stands for itself: SYN, RST, URG, CWR.
        if size <= 0 or count > _MOST:
            return False
        if protocol == TCP and int(first[upper + 13]) & ~(_FIN_PSH | _ACK | _ECE):
            return False
        mask = _mask(version, upper, protocol, header)
        heads = rows[:, :header] & mask
        template = heads[0].tobytes()
        if count > 1 and not (heads == heads[0]).all():
            return False
        fragile = version == 4 and not first[6] & 0x40
        identification = int(first[4]) << 8 | int(first[5])
        if fragile and not _identified(rows, count):
            return False
        if fragile and identification != self._identification:
            self._ended = True
        sequence = 0
        if protocol == TCP:
            sequence = _U32.unpack(first[upper + 4 : upper + 8].tobytes())[0]
            if count > 1:
                numbers = rows[:, upper + 4 : upper + 8].copy().view(">u4").reshape(count)
                if not (numbers == (sequence + _STEPS[:count] * size) & 0xFFFF_FFFF).all():
                    return False
                if (rows[:-1, upper + 13] & _FIN_PSH).any():
                    return False
        elif version == 4 and not first[upper + 6] and not first[upper + 7]:
            return False  # UDP without a checksum: gluing would make one
        elif _U16.unpack(first[upper + 4 : upper + 6].tobytes())[0] != length - upper:
            return False
        addresses = first[12:20] if version == 4 else first[8:40]
        pseudo = (ones_sum(addresses.tobytes()) + protocol + length - upper) % 65535
        if ((upper_sums(rows, upper) + swap(pseudo)) % 65535).any():
            return False
        done = 0
        while done < count:
            if not self._follows(template, size, sequence + done * size):
                self.flush()
                self._begin(rows[done], template, header, upper, protocol, size)
            room = min(_MOST - self._count, (_LONGEST - self._used) // size)
            batch = min(room, count - done)
            target = self._array[self._used : self._used + batch * size].reshape(batch, size)
            target[:] = rows[done : done + batch, header:length]
            self._used += batch * size
            self._count += batch
            done += batch
            self._next = (sequence + done * size) & 0xFFFF_FFFF
            self._ended = size < self._size
        self._identification = (identification + count) & 0xFFFF
        if protocol == TCP:
            flags = int(rows[-1, upper + 13]) & _FIN_PSH
            if flags:
                self._buffer[upper + 13] |= flags
                self._ended = True
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

    def _follows(self, template: bytes, size: int, sequence: int) -> bool:
        return (
            self._count > 0
            and not self._ended
            and size <= self._size
            and template == self._template
            and (self._protocol != TCP or sequence & 0xFFFF_FFFF == self._next)
            and self._count < _MOST
            and self._used + size <= _LONGEST
        )

    def _begin(self, first: Bytes, template: bytes, header: int, upper: int, protocol: int, size: int) -> None:
        self._buffer[:header] = first[:header].tobytes()
        if protocol == TCP:
            self._buffer[upper + 13] &= 0xFF ^ _FIN_PSH
        self._template, self._header, self._upper, self._protocol = template, header, upper, protocol
        self._size, self._used, self._count, self._ended = size, header, 0, False


def _identified(rows: Bytes, count: int) -> bool:
    """Whether IPv4 identifications rise by one, as cutting makes them again; without DF they matter (RFC 6864)."""
    numbers = rows[:, 4].astype(np.int64) << 8 | rows[:, 5]
    return bool((numbers == (numbers[0] + _STEPS[:count]) & 0xFFFF).all())


@cache
def _mask(version: int, upper: int, protocol: int, header: int) -> Bytes:
    """Bits of the headers that are the same in all packets that may be glued."""
    mask = np.full(header, 0xFF, np.uint8)
    if version == 4:
        mask[2:6] = 0
        mask[10:12] = 0
    else:
        mask[4:6] = 0
    if protocol == TCP:
        mask[upper + 4 : upper + 8] = 0
        mask[upper + 13] = 0xFF ^ _FIN_PSH
        mask[upper + 16 : upper + 18] = 0
    else:
        mask[upper + 4 : upper + 8] = 0
    return mask
