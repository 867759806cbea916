"""Opening ESP packets in place: as many as stand in a buffer at equal distances (RFC 4303 §3.4)."""

from __future__ import annotations

import numpy as np

from appliance.datapath.soft.cipher import AeadCipher
from appliance.datapath.soft.sad import InboundState
from appliance.datapath.soft.segment import Bytes

MOST = 128
"""Packets of one batch."""
ROOM = 65536
"""Bytes of packets of one batch."""
_PLACES = 2048
"""More than there are of the shortest packets in the longest datagram."""
_OVERHEAD = 32  # SPI, sequence number, IV and ICV


class Opener:
    """Scratch space for batches, with its views made once. Packets are in ``buffer``."""

    def __init__(self, buffer: bytearray) -> None:
        self._buffer = buffer
        self._view = memoryview(buffer)
        self._plain = np.empty(ROOM, np.uint8)
        self._nonces = bytearray(12 * MOST)
        self._nonce_array: Bytes = np.frombuffer(self._nonces, np.uint8).reshape(MOST, 12)
        self._nonce_views = [memoryview(self._nonces)[at : at + 12] for at in range(0, 12 * MOST, 12)]
        self._aads = bytearray(12 * MOST)
        self._aad_array: Bytes = np.frombuffer(self._aads, np.uint8).reshape(MOST, 12)
        self._aad_views = [memoryview(self._aads)[at : at + 12] for at in range(0, 12 * MOST, 12)]
        self._views: dict[tuple[int, int, int], tuple[list[memoryview], list[memoryview], list[memoryview]]] = {}

    def rows(self, places: range, size: int) -> Bytes:
        """The packets of ``size`` bytes at ``places`` of the buffer, one a row."""
        return np.ndarray((len(places), size), np.uint8, self._buffer, places.start, (places.step, 1))

    def open_rows(self, state: InboundState, places: range, size: int, high: int) -> Bytes:
        """Decrypt packets of an AEAD's SA: plaintext with trailer, one a row, until the next call.

        At most MOST packets of ROOM bytes together. ``high`` is the upper half of their sequence numbers, in its place.
        Raises InvalidTag if any of them is forged or damaged.
        """
        cipher = state.cipher
        assert isinstance(cipher, AeadCipher)
        rows, count = self.rows(places, size), len(places)
        nonces = self._nonce_array
        nonces[:count, :4] = np.frombuffer(cipher.salt, np.uint8)
        nonces[:count, 4:] = rows[:, 8:16]
        heads, bodies, plains = self._slots(size, places)
        first = places.start // places.step
        if state.sa.suite.esn:
            aads = self._aad_array
            aads[:count, :4] = rows[:, :4]
            aads[:count, 4:8] = np.frombuffer((high >> 32).to_bytes(4), np.uint8)
            aads[:count, 8:] = rows[:, 4:8]
            heads = self._aad_views[:count]
        else:
            heads = heads[first : first + count]
        width = size - _OVERHEAD
        opened = sum(map(cipher.decrypt_into, self._nonce_views, bodies[first : first + count], heads, plains))
        if opened != count * width:  # map ends with the shortest list, and nothing unchecked may follow
            raise RuntimeError(f"{opened} bytes were opened of {count} packets of {width}")
        return self._plain[: count * width].reshape(count, width)

    def _slots(self, size: int, places: range) -> tuple[list[memoryview], list[memoryview], list[memoryview]]:
        """Views into the buffers for packets of ``size``: what is authenticated, ciphertext with ICV, plaintext."""
        step = places.step
        key = size, step, places.start % step
        found = self._views.get(key)
        if found is None:
            if len(self._views) >= 8:
                self._views.clear()
            view, width = self._view, size - _OVERHEAD
            starts = range(key[2], len(self._buffer) - size + 1, step)[:_PLACES]
            plain = self._plain.data
            most = min(len(starts), MOST, len(plain) // width)
            found = (
                [view[at : at + 8] for at in starts],
                [view[at + 16 : at + size] for at in starts],
                [plain[at : at + width] for at in range(0, width * most, width)],
            )
            self._views[key] = found
        return found
