"""The one authority for inbound SPIs over all datapaths (RFC 4303 §2.1)."""

from __future__ import annotations

from collections.abc import Callable

FIRST_SPI = 0x100
"""SPIs 1 to 255 are reserved, 0 is never sent (RFC 4303 §2.1)."""


class SpiAllocator:
    """Hands out SPIs that are not in use, at random so that they cannot be guessed from outside."""

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._random = random
        self._used: set[int] = set()

    def allocate(self) -> int:
        """A free SPI; it stays taken until released."""
        while True:
            spi = int.from_bytes(self._random(4), "big")
            if spi >= FIRST_SPI and spi not in self._used:
                self._used.add(spi)
                return spi

    def reserve(self, spi: int) -> None:
        """Mark an SPI taken, as found in a datapath after a restart."""
        self._used.add(spi)

    def release(self, spi: int) -> None:
        """Give an SPI back."""
        self._used.discard(spi)

    def __len__(self) -> int:
        return len(self._used)
