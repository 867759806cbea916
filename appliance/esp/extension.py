"""IPv6 extension headers (RFC 8200 §4): a bounded walk to the upper layer."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.esp.drop import Drop
from appliance.esp.ip import IPV6_HEADER, Ipv6Header
from appliance.esp.octets import Octets
from appliance.reasons import Reason

HOP_BY_HOP = 0
ROUTING = 43
FRAGMENT = 44
DESTINATION_OPTIONS = 60
_WALKED = frozenset({HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION_OPTIONS})

# RFC 8200 §4.1 has one of each and destination options twice: five. Twice that is generous, and bounds the work.
MOST_HEADERS = 10


@dataclass(frozen=True, slots=True)
class ExtensionHeader:
    """One extension header: its protocol number, and where in the packet it is."""

    protocol: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Chain:
    """A packet's extension headers, and what follows them.

    ``protocol`` and ``offset`` are of the upper layer. In a fragment other than the first (``fragment_offset`` > 0,
    in units of 8 bytes) nothing at ``offset`` can be read as a header.
    """

    headers: tuple[ExtensionHeader, ...]
    protocol: int
    offset: int
    fragment_offset: int = 0
    more_fragments: bool = False

    @property
    def is_fragment(self) -> bool:
        """Whether this is a part of a datagram. An atomic fragment (RFC 6946) is a whole one."""
        return self.more_fragments or self.fragment_offset > 0


def walk(packet: Octets, header: Ipv6Header) -> Chain:
    """Walk hop-by-hop options, routing, fragment and destination options headers. Raises Drop(MALFORMED_IP).

    ESP, AH and everything else end the walk.
    """
    end = header.total_length
    headers: list[ExtensionHeader] = []
    protocol, offset = header.protocol, IPV6_HEADER
    fragment_offset, more_fragments = 0, False
    while protocol in _WALKED and not fragment_offset:
        if len(headers) == MOST_HEADERS:
            raise Drop(Reason.MALFORMED_IP, f"more than {MOST_HEADERS} extension headers")
        # RFC 8200 §4.1: hop-by-hop options come right behind the IPv6 header, or not at all.
        if protocol == HOP_BY_HOP and headers:
            raise Drop(Reason.MALFORMED_IP, "hop-by-hop options behind another extension header")
        # Every extension header has at least 8 bytes, and its length is in the second.
        if offset + 8 > end:
            raise Drop(Reason.MALFORMED_IP, f"no room for extension header {protocol}")
        if protocol == FRAGMENT:
            length = 8  # RFC 8200 §4.5: the second byte is reserved
            field = int.from_bytes(packet[offset + 2 : offset + 4], "big")
            # A second one, which nobody has to send, does not make a whole datagram of a part.
            fragment_offset, more_fragments = field >> 3, more_fragments or bool(field & 1)
        else:
            length = (packet[offset + 1] + 1) * 8
        if offset + length > end:
            raise Drop(Reason.MALFORMED_IP, f"extension header {protocol} is longer than its packet")
        headers.append(ExtensionHeader(protocol, offset, length))
        protocol, offset = packet[offset], offset + length
    return Chain(tuple(headers), protocol, offset, fragment_offset, more_fragments)
