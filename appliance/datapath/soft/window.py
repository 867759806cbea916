"""The replay window for batches: one big integer, so that a run of packets is one shift (RFC 4303 §3.4.3).

``appliance.esp.replay`` says what is right, and a test holds this one to it.
"""

from __future__ import annotations

from collections.abc import Sequence

_LOW = 0xFFFF_FFFF


class BatchWindow:
    """Which of the newest ``size`` whole sequence numbers were received; bit i of ``bitmap`` is ``highest`` - i."""

    __slots__ = ("_mask", "bitmap", "esn", "highest", "size")

    def __init__(self, size: int, *, esn: bool) -> None:
        self.size = size
        self.esn = esn
        self.highest = 0
        self.bitmap = 0
        self._mask = (1 << size) - 1

    def infer(self, low: int) -> int:
        """The whole sequence number of a packet that carries ``low``; -1 where there is none (RFC 4303 A2.2)."""
        if not self.esn:
            return low
        high, top = self.highest >> 32, self.highest & _LOW
        bottom = top - self.size + 1
        if bottom >= 0:
            if low < bottom:
                high += 1
        elif low >= bottom + (1 << 32):
            high -= 1
        return high << 32 | low if 0 <= high <= _LOW else -1

    def fresh(self, sequence: int) -> bool:
        """Whether a whole sequence number may be received: not seen, and not left of the window."""
        back = self.highest - sequence
        if back < 0:
            return True
        return sequence > 0 and back < self.size and not self.bitmap >> back & 1

    def update(self, sequence: int) -> None:
        """Mark one authenticated number."""
        ahead = sequence - self.highest
        if ahead > 0:
            self.bitmap = ((self.bitmap << ahead) & self._mask | 1) if ahead < self.size else 1
            self.highest = sequence
        else:
            self.bitmap |= 1 << -ahead

    def update_rising(self, sequences: Sequence[int]) -> None:
        """Mark authenticated numbers that rise and are all right of the window."""
        last = sequences[-1]
        count = len(sequences)
        if last - sequences[0] == count - 1:
            new = (1 << count) - 1
        else:
            # A peer may jump as far as it likes: what the jump leaves behind is not marked, nor shifted.
            new = 0
            for sequence in sequences:
                if last - sequence < self.size:
                    new |= 1 << last - sequence
        ahead = last - self.highest
        old = self.bitmap << ahead if ahead < self.size else 0
        self.bitmap = (old | new) & self._mask
        self.highest = last
