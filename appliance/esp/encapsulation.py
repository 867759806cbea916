"""Whole packets in, whole packets out: ESP in tunnel and in transport mode, native or in UDP.

Callers whose kernel makes and strips the outer IP and UDP headers use ``OutboundSa.seal`` and ``InboundSa.open`` and,
in tunnel mode, the functions of ``tunnel`` for what belongs to the outer header.
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.esp.drop import Drop
from appliance.esp.inbound import InboundSa
from appliance.esp.ip import ESP, IPV4, IPV4_HEADER, IPV6, UDP, Ipv4Header, parse
from appliance.esp.octets import Octets
from appliance.esp.outbound import OutboundSa
from appliance.esp.trailer import NO_NEXT_HEADER
from appliance.esp.transport import joined, split_received, split_to_protect
from appliance.esp.tunnel import Tunnel, inner_packet, leave, outer_packet
from appliance.esp.udp import Datagram, build_udp, classify, udp_payload
from appliance.reasons import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Transport:
    """An SA in transport mode: the packet's own header goes outside. ``ports`` are UDP's, for RFC 3948."""

    ports: tuple[int, int] | None = None


def encapsulate(
    sa: OutboundSa, form: Tunnel | Transport, packet: Octets, *, identification: int | None = None
) -> bytes:
    """Protect an IP packet; returns the IP packet to send. The inner TTL is left alone: see ``ip.forwarded``.

    ``identification`` is for an outer IPv4 header; by default the low bits of the sequence number, so it does not
    repeat for 65536 packets of the SA (RFC 6864 §4.3). Raises Drop(MALFORMED_IP, ESP_FRAGMENT, TOO_BIG or
    SEQUENCE_EXHAUSTED). A packet that is dropped as too big has spent its sequence number.
    """
    if isinstance(form, Tunnel):
        header = parse(packet)
        esp = sa.seal(
            packet[: header.total_length],
            IPV4 if isinstance(header, Ipv4Header) else IPV6,
            tfc_length=form.tfc_length,
        )
        if identification is None:
            identification = sa.sequence & 0xFFFF
        return outer_packet(form, header, esp, identification=identification)
    parts = split_to_protect(packet)
    esp = sa.seal(parts.payload, parts.protocol)
    if form.ports:
        return joined(parts, UDP, build_udp(form.ports, parts.source, parts.destination, esp))
    return joined(parts, ESP, esp)


def encapsulate_dummy(sa: OutboundSa, form: Tunnel, length: int) -> bytes:
    """A dummy packet with ``length`` bytes of payload, to send between real ones (RFC 4303 §2.6, §2.7).

    Outside it looks like a packet with traffic class 0 and no DF. Raises Drop(TOO_BIG or SEQUENCE_EXHAUSTED).
    """
    nothing = Ipv4Header(source=bytes(4), destination=bytes(4), protocol=NO_NEXT_HEADER, total_length=IPV4_HEADER)
    esp = sa.dummy(length)
    return outer_packet(form, nothing, esp, identification=sa.sequence & 0xFFFF)


def decapsulate(sa: InboundSa, form: Tunnel | Transport, packet: Octets) -> bytes:
    """Verify a received IP packet and return the IP packet inside.

    ESP is taken native and in UDP, whichever ``form`` says: a peer may change over (RFC 7296 §2.23). The caller checks
    the traffic selectors of what it gets (RFC 4301 §5.2). Raises Drop.
    """
    parts = split_received(packet)
    esp: Octets = parts.payload
    if parts.protocol == UDP:
        esp = udp_payload(esp)
        if classify(esp) is not Datagram.ESP:
            raise Drop(Reason.MALFORMED_ESP, "no ESP in UDP")
    elif parts.protocol != ESP:
        raise Drop(Reason.MALFORMED_ESP, f"IP protocol {parts.protocol} is not ESP")
    next_header, payload = sa.open(esp)
    if isinstance(form, Transport):
        return joined(parts, next_header, payload)
    header, inner = inner_packet(next_header, payload)
    inner, alarm = leave(header, inner, parse(packet).traffic_class)
    sa.ecn_alarms += alarm
    return inner


def largest_packet(sa: OutboundSa, form: Tunnel, mtu: int) -> int:
    """The longest inner packet that leaves in a tunnel within ``mtu`` bytes: the tunnel's own MTU."""
    return sa.largest_payload(mtu - form.overhead)
