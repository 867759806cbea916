"""Making ESP packets in place: one, or as many as an array has rows (RFC 4303 §3.3).

``appliance.esp.outbound`` says what they must look like, and tests compare the two byte by byte.
"""

from __future__ import annotations

import os
from struct import Struct

import numpy as np

from appliance.datapath.soft.cipher import AeadCipher, MacCipher
from appliance.datapath.soft.sad import OutboundState
from appliance.datapath.soft.segment import ROOM, Bytes
from appliance.datapath.soft.sender import MOST_SEGMENTS, Burst
from appliance.esp.trailer import append_trailer

_HEADER = Struct("!IIQ")
_SHORT_HEADER = Struct("!II")
_LOW = 0xFFFF_FFFF
_PADDING = tuple(bytes(range(1, n + 1)) + bytes((n,)) for n in range(4))
_STEPS = np.arange(MOST_SEGMENTS, dtype=np.uint64)

SPARE = 8
"""Bytes that ``seal_one`` may write behind the payload: at most 3 of padding, and two."""


class Sealer:
    """Scratch space for batches, with its views made once. Rows to be sealed are made in ``scratch``."""

    def __init__(self) -> None:
        self.scratch: Bytes = np.empty(ROOM, np.uint8)
        self._plaintexts: dict[int, list[memoryview]] = {}
        self._nonces = bytearray(12 * MOST_SEGMENTS)
        self._nonce_array: Bytes = np.frombuffer(self._nonces, np.uint8).reshape(MOST_SEGMENTS, 12)
        self._nonce_views = [memoryview(self._nonces)[at : at + 12] for at in range(0, 12 * MOST_SEGMENTS, 12)]
        self._aads = bytearray(12 * MOST_SEGMENTS)
        self._aad_array: Bytes = np.frombuffer(self._aads, np.uint8).reshape(MOST_SEGMENTS, 12)
        self._aad_views = [memoryview(self._aads)[at : at + 12] for at in range(0, 12 * MOST_SEGMENTS, 12)]

    def seal_rows(self, state: OutboundState, rows: Bytes, burst: Burst) -> None:
        """Encrypt the rows in ``scratch`` (plaintext and trailer) into a burst behind what it has, of the same size.

        The caller made sure of room in the burst and of sequence numbers.
        """
        count, width = rows.shape
        cipher = state.cipher
        first = state.sequence + 1
        state.sequence += count  # spent, whatever happens below
        if isinstance(cipher, MacCipher):
            self._seal_rows_with_mac(state, cipher, rows, burst, first)
            return
        size = width + 32
        used, start = burst.used, burst.count
        sequences = (_STEPS[:count] + np.uint64(first)).astype(">u8").view(np.uint8).reshape(count, 8)
        out = burst.array[used : used + count * size].reshape(count, size)
        out[:, :4] = np.frombuffer(state.sa.spi.to_bytes(4), np.uint8)
        out[:, 4:8] = sequences[:, 4:]
        out[:, 8:16] = sequences
        nonces = self._nonce_array
        nonces[:count, :4] = np.frombuffer(cipher.salt, np.uint8)
        nonces[:count, 4:] = sequences
        heads, bodies = burst.slots(size)
        if state.sa.suite.esn:
            aads = self._aad_array
            aads[:count, :4] = out[:, :4]
            aads[:count, 4:] = sequences
            heads = self._aad_views[:count]
        else:
            heads = heads[start : start + count]
        bodies = bodies[start : start + count]
        written = sum(map(cipher.encrypt_into, self._nonce_views, self._slots(width), heads, bodies))
        if written != count * (width + 16):  # map ends with the shortest list, and nothing unsealed may follow
            raise RuntimeError(f"{written} bytes were sealed of {count} rows of {width}")
        burst.used += count * size
        burst.count += count

    def _slots(self, width: int) -> list[memoryview]:
        """The rows of ``scratch``."""
        found = self._plaintexts.get(width)
        if found is None:
            if len(self._plaintexts) >= 8:
                self._plaintexts.clear()
            data = self.scratch.data
            most = min(MOST_SEGMENTS, len(data) // width)
            found = self._plaintexts[width] = [data[at : at + width] for at in range(0, most * width, width)]
        return found

    def _seal_rows_with_mac(
        self, state: OutboundState, cipher: MacCipher, rows: Bytes, burst: Burst, first: int
    ) -> None:
        for number, row in enumerate(rows):
            packet = _seal_with_mac(state, cipher, first + number, row.tobytes())
            burst.view[burst.used : burst.used + len(packet)] = packet
            burst.used += len(packet)
            burst.count += 1


def seal_one(
    state: OutboundState, packet: memoryview, length: int, next_header: int, burst: Burst, *, tfc_length: int = 0
) -> int:
    """Encrypt ``length`` bytes of ``packet`` into a burst at its end; returns the ESP packet's size.

    The trailer is written behind the payload, so ``packet`` has SPARE bytes more than that. The caller made sure of
    room and of a sequence number, and calls ``burst.added``.
    """
    cipher = state.cipher
    sequence = state.sequence + 1
    state.sequence = sequence  # spent, whatever happens below
    used = burst.used
    if isinstance(cipher, AeadCipher) and tfc_length <= length:
        pad = -(length + 2) & 3
        end = length + pad + 2
        packet[length : end - 1] = _PADDING[pad]
        packet[end - 1] = next_header
        size = end + 32
        view = burst.view
        _HEADER.pack_into(view, used, state.sa.spi, sequence & _LOW, sequence)
        number = view[used + 8 : used + 16]
        aad = view[used : used + 4].tobytes() + number if state.sa.suite.esn else view[used : used + 8]
        cipher.encrypt_into(cipher.salt + number, packet[:end], aad, view[used + 16 : used + size])
        return size
    plaintext = append_trailer(packet[:length], next_header, cipher.alignment, tfc_length)
    if isinstance(cipher, AeadCipher):
        size = len(plaintext) + 32
        head = _HEADER.pack(state.sa.spi, sequence & _LOW, sequence)
        burst.view[used : used + 16] = head
        aad = head[:4] + head[8:16] if state.sa.suite.esn else head[:8]
        cipher.encrypt_into(cipher.salt + head[8:16], plaintext, aad, burst.view[used + 16 : used + size])
        return size
    sealed = _seal_with_mac(state, cipher, sequence, plaintext)
    burst.view[used : used + len(sealed)] = sealed
    return len(sealed)


def _seal_with_mac(state: OutboundState, cipher: MacCipher, sequence: int, plaintext: bytes) -> bytes:
    return cipher.transform.seal(
        _SHORT_HEADER.pack(state.sa.spi, sequence & _LOW),
        (sequence >> 32).to_bytes(4) if state.sa.suite.esn else b"",
        os.urandom(cipher.iv_length),
        plaintext,
    )
