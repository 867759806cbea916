"""ICMP errors that a gateway sends (RFC 792, RFC 1191, RFC 1812 §4.3; RFC 4443), and when it must not.

Each function returns the whole IP packet to send, or None where the rules forbid an answer.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from struct import pack

from appliance.esp.checksum import internet_checksum, pseudo_header
from appliance.esp.drop import Drop
from appliance.esp.ip import ICMP, ICMPV6, IPV4_HEADER, IPV6_HEADER, IpHeader, Ipv4Header, Ipv6Header
from appliance.esp.octets import Octets
from appliance.esp.upper import UpperLayer, upper_layer

Address = IPv4Address | IPv6Address

ICMP_HEADER = 8
LARGEST_IPV4_ERROR = 576  # RFC 1812 §4.3.2.3
LARGEST_IPV6_ERROR = 1280  # RFC 4443 §2.4 (c): the minimum IPv6 MTU
SMALLEST_IPV4_MTU = 68  # RFC 791 §3.2
SMALLEST_IPV6_MTU = 1280  # RFC 8200 §5
INTERNETWORK_CONTROL = 0xC0  # RFC 1812 §4.3.2.5: errors have precedence 6
HOP_LIMIT = 64

_IPV4_ERRORS = frozenset({3, 4, 5, 11, 12})  # RFC 1122 §3.2.2
_IPV6_INFORMATIONAL = 128  # RFC 4443 §2.1: types below are errors
_IPV6_REDIRECT = 137  # RFC 4861 §4.5; an error in the eyes of RFC 4443 §2.4 (e.2)


def packet_too_big(packet: Octets, mtu: int, source: Address) -> bytes | None:
    """Tell a packet's sender that ``mtu`` bytes would have fitted.

    "Fragmentation needed" with the next-hop MTU of RFC 1191 §4, or "Packet Too Big" of RFC 4443 §3.2. An MTU below what
    the version guarantees is reported as that minimum: no sender may go lower. Whether an IPv4 packet had DF set, and
    so was not to be fragmented instead, is for the caller to look at.
    """
    if packet[:1] and packet[0] >> 4 == 4:
        return _error(packet, source, (3, 4), min(max(mtu, SMALLEST_IPV4_MTU), 0xFFFF))
    return _error(packet, source, (2, 0), max(mtu, SMALLEST_IPV6_MTU))


def time_exceeded(packet: Octets, source: Address) -> bytes | None:
    """Tell a packet's sender that its TTL or hop limit ran out on the way (RFC 792; RFC 4443 §3.3)."""
    return _error(packet, source, (11, 0) if packet[:1] and packet[0] >> 4 == 4 else (3, 0), 0)


def prohibited(packet: Octets, source: Address) -> bytes | None:
    """Tell a packet's sender that policy forbids it (RFC 1812 §5.2.7.1 code 13; RFC 4443 §3.1 code 1; RFC 4301 §6)."""
    return _error(packet, source, (3, 13) if packet[:1] and packet[0] >> 4 == 4 else (1, 1), 0)


def may_report(packet: Octets) -> bool:
    """Whether an error about this packet may be sent at all (RFC 1122 §3.2.2, RFC 1812 §4.3.2.7, RFC 4443 §2.4 (e))."""
    try:
        upper = upper_layer(packet)
    except Drop:
        return False  # a header that does not hold proves no sender
    return _may_report(packet, upper)


def _may_report(packet: Octets, upper: UpperLayer) -> bool:
    header = upper.header
    if not _is_one_node(header):
        return False
    if isinstance(header, Ipv4Header):
        if header.fragment_offset:
            return False  # RFC 1122 §3.2.2: about the first fragment only
        if header.protocol != ICMP:
            return True
        return upper.offset < upper.end and packet[upper.offset] not in _IPV4_ERRORS
    if upper.protocol != ICMPV6:
        return True
    # Of a later fragment of an ICMPv6 message the type cannot be seen: it may be an error.
    if upper.fragment_offset or upper.offset >= upper.end:
        return False
    return packet[upper.offset] >= _IPV6_INFORMATIONAL and packet[upper.offset] != _IPV6_REDIRECT


def _is_one_node(header: IpHeader) -> bool:
    """Whether the packet came from one node and went to one.

    RFC 4443 §2.4 (e.3) lets Packet Too Big answer multicast; multicast is not routed here, so it never does.
    """
    if isinstance(header, Ipv4Header):
        source, destination = IPv4Address(header.source), IPv4Address(header.destination)
        # RFC 1812 §5.3.7: network 0, loopback, multicast, class E with the limited broadcast.
        if header.source[0] == 0 or source.is_loopback or header.source[0] >= 224:
            return False
        return header.destination[0] < 224 and not destination.is_unspecified
    sender, receiver = IPv6Address(header.source), IPv6Address(header.destination)
    if sender.is_unspecified or sender.is_multicast or sender.is_loopback:
        return False
    return not receiver.is_multicast


def _error(packet: Octets, source: Address, type_and_code: tuple[int, int], word: int) -> bytes | None:
    try:
        upper = upper_layer(packet)
    except Drop:
        return None
    inner = upper.header
    # An error travels in the version of what it is about; a gateway without an address of that version is silent.
    if source.version != inner.version or not _may_report(packet, upper):
        return None
    sender, receiver = source.packed, inner.source
    header: IpHeader
    if isinstance(inner, Ipv4Header):
        room = LARGEST_IPV4_ERROR - IPV4_HEADER - ICMP_HEADER
        message = _message(type_and_code, word, packet[: min(inner.total_length, room)], b"")
        header = Ipv4Header(
            source=sender,
            destination=receiver,
            protocol=ICMP,
            total_length=IPV4_HEADER + len(message),
            hop_limit=HOP_LIMIT,
            traffic_class=INTERNETWORK_CONTROL,
            dont_fragment=True,  # so its identification may be anything, RFC 6864 §4.1
        )
    else:
        room = LARGEST_IPV6_ERROR - IPV6_HEADER - ICMP_HEADER
        quoted = packet[: min(inner.total_length, room)]
        pseudo = pseudo_header(sender, receiver, ICMPV6, ICMP_HEADER + len(quoted))
        message = _message(type_and_code, word, quoted, pseudo)
        header = Ipv6Header(
            source=sender,
            destination=receiver,
            protocol=ICMPV6,
            total_length=IPV6_HEADER + len(message),
            hop_limit=HOP_LIMIT,
        )
    return header.build() + message


def _message(type_and_code: tuple[int, int], word: int, quoted: Octets, pseudo: bytes) -> bytes:
    message = bytearray(pack("!BBHI", *type_and_code, 0, word) + quoted)
    message[2:4] = internet_checksum(pseudo + message).to_bytes(2, "big")
    return bytes(message)
