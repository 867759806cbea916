"""Tunnel mode: the outer header from the inner one, and the inner one after the tunnel (RFC 4301 §5.1.2)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address

from appliance.esp import ecn
from appliance.esp.drop import Drop
from appliance.esp.ip import (
    ESP,
    IPV4,
    IPV4_HEADER,
    IPV6,
    IPV6_HEADER,
    LARGEST_LENGTH,
    UDP,
    IpHeader,
    Ipv4Header,
    Ipv6Header,
    parse_ipv4,
    parse_ipv6,
    with_traffic_class,
)
from appliance.esp.octets import Octets
from appliance.esp.udp import build_udp
from appliance.reasons import Reason


class Dscp(Enum):
    """Where the outer DSCP comes from (RFC 4301 §5.1.2.1, note 5; RFC 2983), if it is not a number of its own."""

    COPY = "copy"
    CLEAR = "clear"


class Df(Enum):
    """Where the DF bit of an outer IPv4 header comes from (RFC 4301 §8.1)."""

    COPY = "copy"
    SET = "set"
    CLEAR = "clear"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tunnel:
    """The outer header of an SA in tunnel mode, one for each direction of an SA pair.

    ``dscp`` is where the outer DSCP comes from, or the DSCP itself. ``ports`` are UDP's, source and destination, for
    RFC 3948. ``copy_ecn``: RFC 6040's normal mode, else its compatibility mode, for peers that would ignore a CE mark.
    ``flow_label`` None copies the inner one, which RFC 4301 §5.1.2.2 leaves to end systems (at a gateway, labels of
    several sources collide); 0 tells an observer nothing. Inner packets are padded to ``tfc_length`` bytes
    (RFC 4303 §2.7). Raises ValueError for fields out of range.
    """

    source: IPv4Address | IPv6Address
    destination: IPv4Address | IPv6Address
    ports: tuple[int, int] | None = None
    dscp: Dscp | int = Dscp.COPY
    df: Df = Df.COPY
    copy_ecn: bool = True
    hop_limit: int = 64
    flow_label: int | None = 0
    tfc_length: int = 0

    def __post_init__(self) -> None:
        if self.source.version != self.destination.version:
            raise ValueError(f"a tunnel from {self.source} to {self.destination}")
        if not all(0 < port <= 0xFFFF for port in self.ports or ()):
            raise ValueError(f"UDP ports {self.ports}")
        if not 0 < self.hop_limit <= 0xFF or not 0 <= (self.flow_label or 0) <= 0xFFFFF:
            raise ValueError(f"hop limit {self.hop_limit}, flow label {self.flow_label}")
        if isinstance(self.dscp, int) and not 0 <= self.dscp <= 0x3F:
            raise ValueError(f"DSCP {self.dscp}")

    @property
    def overhead(self) -> int:
        """Bytes of IP and UDP header around an ESP packet."""
        return (IPV4_HEADER if self.source.version == 4 else IPV6_HEADER) + (8 if self.ports else 0)


def outer_traffic_class(tunnel: Tunnel, inner: IpHeader) -> int:
    """DSCP and ECN of the outer header."""
    if isinstance(tunnel.dscp, int):
        dscp = tunnel.dscp << 2
    else:
        dscp = inner.traffic_class & ~ecn.ECN if tunnel.dscp is Dscp.COPY else 0
    return dscp | ecn.entering(inner.traffic_class, copy=tunnel.copy_ecn)


def outer_dont_fragment(tunnel: Tunnel, inner: IpHeader) -> bool:
    """The DF bit of an outer IPv4 header. An inner IPv6 packet counts as one with DF: no router may fragment it."""
    if tunnel.df is Df.COPY:
        return inner.dont_fragment if isinstance(inner, Ipv4Header) else True
    return tunnel.df is Df.SET


def outer_packet(tunnel: Tunnel, inner: IpHeader, esp: Octets, *, identification: int) -> bytes:
    """An ESP packet in its outer headers, by the tables of RFC 4301 §5.1.2.1 and §5.1.2.2. Raises Drop(TOO_BIG)."""
    source, destination = tunnel.source.packed, tunnel.destination.packed
    protocol, body = ESP, esp
    if tunnel.ports:
        protocol, body = UDP, build_udp(tunnel.ports, source, destination, esp)
    traffic_class = outer_traffic_class(tunnel, inner)
    header: IpHeader
    if tunnel.source.version == 4:
        length = IPV4_HEADER + len(body)
        header = Ipv4Header(
            source=source,
            destination=destination,
            protocol=protocol,
            total_length=length,
            hop_limit=tunnel.hop_limit,
            traffic_class=traffic_class,
            identification=identification,
            dont_fragment=outer_dont_fragment(tunnel, inner),
        )
    else:
        length = len(body)
        flow_label = tunnel.flow_label
        if flow_label is None:
            flow_label = inner.flow_label if isinstance(inner, Ipv6Header) else 0
        header = Ipv6Header(
            source=source,
            destination=destination,
            protocol=protocol,
            total_length=IPV6_HEADER + len(body),
            hop_limit=tunnel.hop_limit,
            traffic_class=traffic_class,
            flow_label=flow_label,
        )
    if length > LARGEST_LENGTH:
        raise Drop(Reason.TOO_BIG, f"{length} bytes in IPv{header.version}")
    return b"".join((header.build(), body))


def inner_packet(next_header: int, payload: bytes) -> tuple[IpHeader, bytes]:
    """The IP packet in an opened tunnel-mode payload, and its header; TFC padding is cut off (RFC 4303 §2.7).

    Raises Drop(MALFORMED_ESP) if the next header is not an IP packet's, Drop(MALFORMED_IP) if the packet is not one.
    """
    header: IpHeader
    if next_header == IPV4:
        header = parse_ipv4(payload)
    elif next_header == IPV6:
        header = parse_ipv6(payload)
    else:
        raise Drop(Reason.MALFORMED_ESP, f"next header {next_header} in tunnel mode")
    return header, payload[: header.total_length]


def leave(header: IpHeader, packet: bytes, outer_class: int) -> tuple[bytes, bool]:
    """An inner packet as it leaves the tunnel, and whether its ECN is to be logged (RFC 6040 §4.2).

    The DSCP stays the inner one's (RFC 4301 §5.1.2.1). Raises Drop(ECN_NOT_CAPABLE).
    """
    outgoing, alarm = ecn.leaving(header.traffic_class, outer_class)
    if outgoing == header.traffic_class & ecn.ECN:
        return packet, alarm
    return with_traffic_class(packet, header.traffic_class & ~ecn.ECN | outgoing), alarm
