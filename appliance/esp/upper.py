"""Where a packet's upper layer is, in either version."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.esp.extension import walk
from appliance.esp.ip import IpHeader, Ipv4Header, parse
from appliance.esp.octets import Octets


@dataclass(frozen=True, slots=True)
class UpperLayer:
    """Protocol and place of the upper layer: ``packet[offset:end]``.

    In a fragment other than the first (``fragment_offset`` > 0) its header is not there.
    """

    header: IpHeader
    protocol: int
    offset: int
    end: int
    fragment_offset: int


def upper_layer(packet: Octets) -> UpperLayer:
    """Find the upper layer behind IPv4 options or IPv6 extension headers. Raises Drop(MALFORMED_IP)."""
    header = parse(packet)
    if isinstance(header, Ipv4Header):
        return UpperLayer(header, header.protocol, header.header_length, header.total_length, header.fragment_offset)
    chain = walk(packet, header)
    return UpperLayer(header, chain.protocol, chain.offset, header.total_length, chain.fragment_offset)
