"""An inbound SA: replay protection, verification, and the opening of ESP packets (RFC 4303 §3.4)."""

from __future__ import annotations

from struct import Struct

from appliance.esp.drop import Drop
from appliance.esp.octets import Octets
from appliance.esp.replay import ReplayWindow
from appliance.esp.trailer import strip_trailer
from appliance.esp.transform import Transform
from appliance.reasons import Reason

_HEADER = Struct("!II")
_HIGH = Struct("!I")
HEADER = 8  # SPI and the low half of the sequence number, RFC 4303 §2


class InboundSa:
    """What one inbound SA needs to open packets.

    ``window`` is public for reading and for ``export``. ``ecn_alarms`` counts the combinations of inner and outer ECN
    that RFC 6040 §4.2 asks to be logged.
    """

    __slots__ = ("ecn_alarms", "spi", "transform", "window")

    def __init__(self, spi: int, transform: Transform, window: ReplayWindow) -> None:
        self.spi = spi
        self.transform = transform
        self.window = window
        self.ecn_alarms = 0

    def open(self, packet: Octets) -> tuple[int, bytes]:
        """Verify one ESP packet and take it apart: (next header, payload). TFC padding is still behind the payload.

        The order is RFC 4303 §3.4: replay check, verification, window, then padding. Raises Drop(MALFORMED_ESP,
        UNKNOWN_SPI, REPLAYED, INTEGRITY or DUMMY); the window moves for authenticated packets only.
        """
        if len(packet) < HEADER:
            raise Drop(Reason.MALFORMED_ESP, "no room for SPI and sequence number")
        spi, low = _HEADER.unpack_from(packet)
        if spi != self.spi:
            raise Drop(Reason.UNKNOWN_SPI)
        window = self.window
        sequence = window.infer(low)
        window.check(sequence)
        plaintext = self.transform.open(packet, _HIGH.pack(sequence >> 32) if window.esn else b"")
        window.update(sequence)
        return strip_trailer(plaintext)

    def wipe(self) -> None:
        """Overwrite the keys; opening afterwards raises Drop(NO_SA)."""
        self.transform.wipe()

    def __repr__(self) -> str:
        return f"<inbound SA {self.spi:#010x}, highest {self.window.highest}, {self.transform!r}>"
