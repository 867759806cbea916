"""An outbound SA: sequence numbers, IVs, and the making of ESP packets (RFC 4303 §3.3)."""

from __future__ import annotations

import os
from collections.abc import Callable
from struct import Struct
from typing import NoReturn

from appliance.esp.drop import Drop
from appliance.esp.octets import Octets
from appliance.esp.trailer import NO_NEXT_HEADER, TRAILER, append_trailer
from appliance.esp.transform import Transform
from appliance.reasons import Reason

_HEADER = Struct("!II")
_HIGH = Struct("!I")
_SEQUENCE = Struct("!Q")
_LOW = 0xFFFF_FFFF
HEADER = 8  # SPI and the low half of the sequence number, RFC 4303 §2


class OutboundSa:
    """What one outbound SA needs to make packets. Its keys live and die here: it is not copied, restored or moved.

    ``random`` gives n unpredictable bytes, for the IVs of CBC. ``transform`` is of this SA alone.
    """

    __slots__ = ("_last", "_random", "_sequence", "esn", "spi", "transform")

    def __init__(
        self,
        spi: int,
        transform: Transform,
        *,
        esn: bool,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.spi = spi
        self.transform = transform
        self.esn = esn
        self._sequence = 0
        self._random = random
        self._last = (1 << 64) - 1 if esn else _LOW

    @property
    def sequence(self) -> int:
        """The number of the packet sent last, 0 before the first, whose number is 1 (RFC 4303 §3.3.3).

        Numbers may be skipped, never taken again: setting it to less raises ValueError.
        """
        return self._sequence

    @sequence.setter
    def sequence(self, sequence: int) -> None:
        if not self._sequence <= sequence <= self._last:
            raise ValueError(f"sequence number {sequence} after {self._sequence}")
        self._sequence = sequence

    @property
    def remaining(self) -> int:
        """How many sequence numbers are left."""
        return self._last - self._sequence

    def seal(self, payload: Octets, next_header: int, *, tfc_length: int = 0) -> bytes:
        """One ESP packet: SPI, sequence number, IV, ciphertext, ICV.

        ``next_header`` is 4 or 41 for a whole IP packet (tunnel mode), the upper-layer protocol in transport mode.
        The payload is padded to ``tfc_length`` bytes first, which only a packet that knows its own length survives
        (RFC 4303 §2.7). Raises Drop(SEQUENCE_EXHAUSTED): numbers never wrap (RFC 4303 §3.3.3).
        """
        sequence = self._sequence + 1
        if sequence > self._last:
            raise Drop(Reason.SEQUENCE_EXHAUSTED)
        self._sequence = sequence  # whatever happens below, this number and so this IV are spent
        transform = self.transform
        iv_length = transform.iv_length
        if transform.random_iv:
            iv = self._random(iv_length)
        else:
            # RFC 4106 §3.1: any IV does that is unique under the key. The 64-bit sequence number is.
            iv = _SEQUENCE.pack(sequence)[:iv_length]
        return transform.seal(
            _HEADER.pack(self.spi, sequence & _LOW),
            _HIGH.pack(sequence >> 32) if self.esn else b"",
            iv,
            append_trailer(payload, next_header, transform.alignment, tfc_length),
        )

    def dummy(self, length: int) -> bytes:
        """A dummy packet with ``length`` bytes of payload, which the receiver discards (RFC 4303 §2.6)."""
        return self.seal(bytes(length), NO_NEXT_HEADER)

    def sealed_length(self, length: int) -> int:
        """How many bytes the ESP packet of a payload of ``length`` has."""
        transform = self.transform
        body = length + TRAILER
        body += -body % transform.alignment
        return HEADER + transform.iv_length + body + transform.icv_length

    def largest_payload(self, room: int) -> int:
        """The longest payload whose ESP packet fits ``room`` bytes; below 0 if none does."""
        transform = self.transform
        body = room - HEADER - transform.iv_length - transform.icv_length
        return body - body % transform.alignment - TRAILER

    def wipe(self) -> None:
        """Overwrite the keys; sealing afterwards raises Drop(NO_SA)."""
        self.transform.wipe()

    def __repr__(self) -> str:
        return f"<outbound SA {self.spi:#010x}, sequence {self.sequence}, {self.transform!r}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an outbound SA is not copied or serialised: its IVs would repeat")
