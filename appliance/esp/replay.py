"""The anti-replay window (RFC 4303 §3.4.3 and appendix A; RFC 6479 for how it is kept).

RFC 6479: bits stand at fixed places, in a ring of words with one word more than the window needs. The window moves by
clearing whole words; nothing is shifted. That is also how hardware keeps it.
"""

from __future__ import annotations

from appliance.esp.drop import Drop
from appliance.reasons import Reason, Refusal

SMALLEST = 64
LARGEST = 4096
WORD = 64
_LOW = 0xFFFF_FFFF


class ReplayWindow:
    """Which of the newest ``size`` sequence numbers (64 to 4096) were received.

    Sequence numbers here are whole: 64 bits with ESN, 32 without. ``highest`` is the right edge; 0 before any packet.
    Raises Refusal(REPLAY_WINDOW_UNSUPPORTED).
    """

    __slots__ = ("_words", "esn", "highest", "size")

    def __init__(self, size: int, *, esn: bool) -> None:
        if not SMALLEST <= size <= LARGEST:
            raise Refusal(Reason.REPLAY_WINDOW_UNSUPPORTED, f"{size} packets; {SMALLEST} to {LARGEST} are supported")
        self.size = size
        self.esn = esn
        self.highest = 0
        self._words = [0] * (-(-size // WORD) + 1)

    def infer(self, low: int) -> int:
        """The whole sequence number of a packet that carries ``low``, its lower 32 bits.

        With ESN the upper half is the one that puts the number into the window or closest to the right of it
        (RFC 4303 appendix A2.2). Raises Drop(REPLAYED) where no such number exists.
        """
        if not self.esn:
            return low
        top_high, top_low = self.highest >> 32, self.highest & _LOW
        bottom = top_low - self.size + 1
        if bottom >= 0:
            # Case A: the window lies in one subspace of 2^32 numbers. Left of it means the next subspace.
            high = top_high if low >= bottom else top_high + 1
        else:
            # Case B: the window's left part lies in the subspace before.
            high = top_high - 1 if low >= bottom + (1 << 32) else top_high
        # Before the first number, or after the last that 64 bits have, there is nothing.
        if not 0 <= high <= _LOW:
            raise Drop(Reason.REPLAYED, "outside of all sequence numbers")
        return high << 32 | low

    def check(self, sequence: int) -> None:
        """Raise Drop(REPLAYED) for a whole sequence number that was seen, or is left of the window. Changes nothing."""
        # RFC 4303 §2.2, §3.3.3: the first number is 1; 0 is never sent.
        if sequence == 0:
            raise Drop(Reason.REPLAYED, "sequence number 0")
        if sequence > self.highest:
            return
        if self.highest - sequence >= self.size:
            raise Drop(Reason.REPLAYED, "left of the window")
        if self._words[sequence // WORD % len(self._words)] >> sequence % WORD & 1:
            raise Drop(Reason.REPLAYED, "seen before")

    def update(self, sequence: int) -> None:
        """Mark a checked whole sequence number as received. Only after its ICV verified (RFC 4303 §3.4.3)."""
        words = self._words
        if sequence > self.highest:
            old, new = self.highest // WORD, sequence // WORD
            # The words that the right edge moves into still hold what left the window.
            for index in range(old + 1, min(new, old + len(words)) + 1):
                words[index % len(words)] = 0
            self.highest = sequence
        words[sequence // WORD % len(words)] |= 1 << sequence % WORD

    def export(self) -> tuple[int, int]:
        """(highest, bitmap) for moving the SA: bit i of the bitmap is sequence number highest - i."""
        bitmap = 0
        for back in range(min(self.size, self.highest)):
            sequence = self.highest - back
            bitmap |= (self._words[sequence // WORD % len(self._words)] >> sequence % WORD & 1) << back
        return self.highest, bitmap

    @classmethod
    def restore(cls, size: int, *, esn: bool, highest: int, bitmap: int, known: int | None = None) -> ReplayWindow:
        """A window as another one was exported.

        ``known`` is how many bits the exported bitmap really had, if fewer than ``size``: what is left of them may
        have been received, and is refused.
        """
        window = cls(size, esn=esn)
        window.highest = highest
        known = size if known is None else known
        for back in range(min(size, highest)):
            if back >= known or bitmap >> back & 1:
                sequence = highest - back
                window._words[sequence // WORD % len(window._words)] |= 1 << sequence % WORD
        return window
