"""UDP encapsulation of ESP (RFC 3948)."""

from __future__ import annotations

from enum import Enum
from struct import Struct

from appliance.esp.checksum import internet_checksum, pseudo_header
from appliance.esp.drop import Drop
from appliance.esp.ip import LARGEST_LENGTH, UDP
from appliance.esp.octets import Octets
from appliance.reasons import Reason

UDP_HEADER = 8
KEEPALIVE = b"\xff"  # RFC 3948 §2.3
NON_ESP_MARKER = bytes(4)  # RFC 3948 §2.2; no SPI is 0
_HEADER = Struct("!HHHH")


class Datagram(Enum):
    """What a datagram on port 4500 is (RFC 3948 §2, §4)."""

    IKE = "ike"
    ESP = "esp"
    KEEPALIVE = "keepalive"
    MALFORMED = "malformed"


def classify(payload: Octets) -> Datagram:
    """Tell IKE, ESP and keepalives apart by the first bytes of a datagram on port 4500."""
    if len(payload) == 1 and payload[0] == 0xFF:
        return Datagram.KEEPALIVE
    # Four bytes are the marker or an SPI; the rest of either header is for its reader to check.
    if len(payload) < 4:
        return Datagram.MALFORMED
    return Datagram.IKE if payload[:4] == NON_ESP_MARKER else Datagram.ESP


def build_udp(ports: tuple[int, int], source: bytes, destination: bytes, payload: Octets) -> bytes:
    """A UDP datagram of ESP. The addresses are those of the IP header, 4 or 16 bytes each.

    The checksum is 0 in IPv4 (RFC 3948 §2.1 says SHOULD) and a right one in IPv6, which has no zero checksum outside of
    RFC 6935. Raises Drop(TOO_BIG).
    """
    length = UDP_HEADER + len(payload)
    if length > LARGEST_LENGTH:
        raise Drop(Reason.TOO_BIG, f"{length} bytes in UDP")
    header = _HEADER.pack(*ports, length, 0)
    if len(source) == 4:
        return header + payload
    octets = b"".join((pseudo_header(source, destination, UDP, length), header, payload))
    # RFC 768, RFC 8200 §8.1: a checksum that comes out as zero is sent as all ones.
    checksum = internet_checksum(octets) or 0xFFFF
    return b"".join((_HEADER.pack(*ports, length, checksum), payload))


def udp_payload(datagram: Octets) -> Octets:
    """The payload of a UDP datagram, by its length field. Raises Drop(MALFORMED_IP).

    The checksum is not looked at: ESP authenticates what counts, and NATs are known to leave it wrong
    (RFC 3948 §2.1: a receiver must not depend on it being zero).
    """
    if len(datagram) < UDP_HEADER:
        raise Drop(Reason.MALFORMED_IP, "no room for a UDP header")
    length = int.from_bytes(datagram[4:6], "big")
    # The length counts the header, and what it counts must be there.
    if not UDP_HEADER <= length <= len(datagram):
        raise Drop(Reason.MALFORMED_IP, f"UDP length {length}, {len(datagram)} bytes")
    return datagram[UDP_HEADER:length]
