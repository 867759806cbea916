"""IPv4 and IPv6 headers (RFC 791, RFC 8200): parsing, building, and the edits that a gateway makes.

Both headers answer to the same names, IPv6's where the two differ: ``traffic_class`` is IPv4's type of service,
``hop_limit`` its time to live. Addresses are 4 or 16 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from appliance.esp.checksum import adjusted, internet_checksum
from appliance.esp.drop import Drop
from appliance.esp.octets import Octets
from appliance.reasons import Reason

IPV4_HEADER = 20  # without options
IPV6_HEADER = 40
IPV4 = 4  # IP protocol numbers of whole packets inside others
IPV6 = 41
TCP = 6
UDP = 17
ESP = 50
ICMP = 1
ICMPV6 = 58
LARGEST_LENGTH = 65535  # of a total length or payload length field

_V4 = Struct("!BBHHHBBH4s4s")
_V6 = Struct("!IHBB16s16s")
_DONT_FRAGMENT = 0x4000
_MORE_FRAGMENTS = 0x2000
_FRAGMENT_OFFSET = 0x1FFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Ipv4Header:
    """An IPv4 header, RFC 791 §3.1. ``fragment_offset`` in units of 8 bytes; ``options`` padded to 4 bytes."""

    source: bytes
    destination: bytes
    protocol: int
    total_length: int
    hop_limit: int = 64
    traffic_class: int = 0
    identification: int = 0
    dont_fragment: bool = False
    more_fragments: bool = False
    fragment_offset: int = 0
    options: bytes = b""

    @property
    def version(self) -> int:
        """4."""
        return 4

    @property
    def header_length(self) -> int:
        """Bytes of the header with its options."""
        return IPV4_HEADER + len(self.options)

    @property
    def is_fragment(self) -> bool:
        """Whether this is a part of a datagram."""
        return self.more_fragments or self.fragment_offset > 0

    def build(self) -> bytes:
        """The header with its checksum."""
        flags = _DONT_FRAGMENT * self.dont_fragment | _MORE_FRAGMENTS * self.more_fragments | self.fragment_offset
        header = bytearray(
            _V4.pack(
                0x40 | self.header_length // 4,
                self.traffic_class,
                self.total_length,
                self.identification,
                flags,
                self.hop_limit,
                self.protocol,
                0,
                self.source,
                self.destination,
            )
        )
        header += self.options
        header[10:12] = internet_checksum(header).to_bytes(2, "big")
        return bytes(header)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ipv6Header:
    """An IPv6 header without extension headers, RFC 8200 §3. ``protocol`` is its Next Header field."""

    source: bytes
    destination: bytes
    protocol: int
    total_length: int
    hop_limit: int = 64
    traffic_class: int = 0
    flow_label: int = 0

    @property
    def version(self) -> int:
        """6."""
        return 6

    @property
    def header_length(self) -> int:
        """40 bytes."""
        return IPV6_HEADER

    def build(self) -> bytes:
        """The header; its Payload Length is ``total_length`` without the 40 bytes."""
        return _V6.pack(
            6 << 28 | self.traffic_class << 20 | self.flow_label,
            self.total_length - IPV6_HEADER,
            self.protocol,
            self.hop_limit,
            self.source,
            self.destination,
        )


IpHeader = Ipv4Header | Ipv6Header


def parse(packet: Octets) -> IpHeader:
    """Read the header of a packet of either version. Raises Drop(MALFORMED_IP)."""
    if not len(packet):
        raise Drop(Reason.MALFORMED_IP, "an empty packet")
    version = packet[0] >> 4
    if version == 4:
        return parse_ipv4(packet)
    if version == 6:
        return parse_ipv6(packet)
    raise Drop(Reason.MALFORMED_IP, f"IP version {version}")


def parse_ipv4(packet: Octets) -> Ipv4Header:
    """Read an IPv4 header and verify what RFC 1812 §5.2.2 asks for. Bytes behind the total length are allowed."""
    if len(packet) < IPV4_HEADER:
        raise Drop(Reason.MALFORMED_IP, "no room for an IPv4 header")
    first, tos, total, identification, flags, ttl, protocol, _, source, destination = _V4.unpack_from(packet)
    if first >> 4 != 4:
        raise Drop(Reason.MALFORMED_IP, f"IP version {first >> 4} where 4 is due")
    header_length = (first & 15) * 4
    # The header length counts itself, and the total length counts the header: both must have their minimum, and what
    # they count must be there.
    if header_length < IPV4_HEADER or total < header_length or total > len(packet):
        raise Drop(Reason.MALFORMED_IP, f"header length {header_length}, total length {total}, {len(packet)} bytes")
    if internet_checksum(packet[:header_length]):
        raise Drop(Reason.MALFORMED_IP, "header checksum")
    return Ipv4Header(
        source=source,
        destination=destination,
        protocol=protocol,
        total_length=total,
        hop_limit=ttl,
        traffic_class=tos,
        identification=identification,
        dont_fragment=bool(flags & _DONT_FRAGMENT),
        more_fragments=bool(flags & _MORE_FRAGMENTS),
        fragment_offset=flags & _FRAGMENT_OFFSET,
        options=bytes(packet[IPV4_HEADER:header_length]),
    )


def parse_ipv6(packet: Octets) -> Ipv6Header:
    """Read an IPv6 header. Bytes behind the payload length are allowed. Jumbograms (RFC 2675) are not known here."""
    if len(packet) < IPV6_HEADER:
        raise Drop(Reason.MALFORMED_IP, "no room for an IPv6 header")
    first, payload, next_header, hop_limit, source, destination = _V6.unpack_from(packet)
    if first >> 28 != 6:
        raise Drop(Reason.MALFORMED_IP, f"IP version {first >> 28} where 6 is due")
    # The payload length does not count the header; what it counts must be there.
    if IPV6_HEADER + payload > len(packet):
        raise Drop(Reason.MALFORMED_IP, f"payload length {payload}, {len(packet)} bytes")
    return Ipv6Header(
        source=source,
        destination=destination,
        protocol=next_header,
        total_length=IPV6_HEADER + payload,
        hop_limit=hop_limit,
        traffic_class=first >> 20 & 0xFF,
        flow_label=first & 0xFFFFF,
    )


def with_traffic_class(packet: Octets, traffic_class: int) -> bytes:
    """A parsed packet with another DSCP and ECN; an IPv4 checksum follows."""
    edited = bytearray(packet)
    if packet[0] >> 4 == 4:
        edited[1] = traffic_class
        _follow(edited, packet, 0)
    else:
        edited[0] = 0x60 | traffic_class >> 4
        edited[1] = traffic_class << 4 & 0xF0 | packet[1] & 0x0F
    return bytes(edited)


def forwarded(packet: Octets) -> bytes:
    """A packet as it is after one hop: TTL or hop limit less by one.

    A gateway forwards before it encapsulates and after it decapsulates (RFC 4301 §5.1.2.1, note 2), but encapsulation
    itself does not count. Raises Drop(TTL_EXPIRED) where nothing would be left, Drop(MALFORMED_IP).
    """
    header = parse(packet)
    if header.hop_limit <= 1:
        raise Drop(Reason.TTL_EXPIRED)
    edited = bytearray(packet)
    if header.version == 4:
        edited[8] -= 1
        _follow(edited, packet, 8)
    else:
        edited[7] -= 1
    return bytes(edited)


def _follow(edited: bytearray, packet: Octets, at: int) -> None:
    """Bring an IPv4 checksum up to date after the 16-bit word at ``at`` changed."""
    checksum = int.from_bytes(packet[10:12], "big")
    edited[10:12] = adjusted(checksum, packet[at : at + 2], edited[at : at + 2]).to_bytes(2, "big")
