"""Transport mode: where in an IP packet ESP goes, and the surgery (RFC 4303 §3.1.1)."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.esp.checksum import internet_checksum
from appliance.esp.drop import Drop
from appliance.esp.extension import DESTINATION_OPTIONS, FRAGMENT, ROUTING, Chain, walk
from appliance.esp.ip import IPV6_HEADER, LARGEST_LENGTH, Ipv4Header, parse
from appliance.esp.octets import Octets
from appliance.reasons import Reason


@dataclass(frozen=True, slots=True)
class Parts:
    """A packet cut in two: ``head`` with its ``protocol_at`` (the field that names what follows), and what follows."""

    head: bytes
    protocol_at: int
    protocol: int
    payload: bytes

    @property
    def source(self) -> bytes:
        """The IP header's source address."""
        return self.head[12:16] if self.head[0] >> 4 == 4 else self.head[8:24]

    @property
    def destination(self) -> bytes:
        """The IP header's destination address."""
        return self.head[16:20] if self.head[0] >> 4 == 4 else self.head[24:40]


def split_to_protect(packet: Octets) -> Parts:
    """Cut a packet where ESP is to be inserted.

    IPv4: behind the options. IPv6: behind hop-by-hop options, routing and fragment headers, and behind destination
    options that one of these follows; destination options for the final destination alone are better protected,
    so ESP goes before them (RFC 4303 §3.1.1, RFC 8200 §4.1).

    Raises Drop(MALFORMED_IP), and Drop(ESP_FRAGMENT): ESP takes whole datagrams (RFC 4303 §3.3.4).
    """
    header = parse(packet)
    if isinstance(header, Ipv4Header):
        if header.is_fragment:
            raise Drop(Reason.ESP_FRAGMENT)
        return _cut(packet, header.header_length, 9, header.total_length)
    chain = walk(packet, header)
    if chain.is_fragment:
        raise Drop(Reason.ESP_FRAGMENT)
    last = max((i for i, h in enumerate(chain.headers) if h.protocol in (ROUTING, FRAGMENT)), default=-1)
    kept = 0
    for index, extension in enumerate(chain.headers):
        if extension.protocol == DESTINATION_OPTIONS and index > last:
            break
        kept = index + 1
    at, protocol_at = _behind(chain, kept)
    return _cut(packet, at, protocol_at, header.total_length)


def split_received(packet: Octets) -> Parts:
    """Cut a packet behind its IPv4 options or IPv6 extension headers, where ESP or UDP is to be found.

    Raises Drop(MALFORMED_IP), and Drop(ESP_FRAGMENT): what ESP receives was reassembled (RFC 4303 §3.4.1).
    """
    header = parse(packet)
    if isinstance(header, Ipv4Header):
        if header.is_fragment:
            raise Drop(Reason.ESP_FRAGMENT)
        return _cut(packet, header.header_length, 9, header.total_length)
    chain = walk(packet, header)
    if chain.is_fragment:
        raise Drop(Reason.ESP_FRAGMENT)
    at, protocol_at = _behind(chain, len(chain.headers))
    return _cut(packet, at, protocol_at, header.total_length)


def joined(parts: Parts, protocol: int, payload: Octets) -> bytes:
    """The packet of ``parts`` with another protocol and payload; length and IPv4 checksum follow.

    Raises Drop(TOO_BIG).
    """
    head = bytearray(parts.head)
    head[parts.protocol_at] = protocol
    length = len(head) + len(payload)
    if head[0] >> 4 == 4:
        if length > LARGEST_LENGTH:
            raise Drop(Reason.TOO_BIG, f"{length} bytes in IPv4")
        head[2:4] = length.to_bytes(2, "big")
        head[10:12] = bytes(2)
        head[10:12] = internet_checksum(head).to_bytes(2, "big")
    else:
        if length - IPV6_HEADER > LARGEST_LENGTH:
            raise Drop(Reason.TOO_BIG, f"{length} bytes in IPv6")
        head[4:6] = (length - IPV6_HEADER).to_bytes(2, "big")
    return b"".join((head, payload))


def _behind(chain: Chain, count: int) -> tuple[int, int]:
    """The offset behind the first ``count`` extension headers, and of the field that names what is there."""
    if not count:
        return IPV6_HEADER, 6
    last = chain.headers[count - 1]
    return last.offset + last.length, last.offset


def _cut(packet: Octets, at: int, protocol_at: int, end: int) -> Parts:
    return Parts(bytes(packet[:at]), protocol_at, packet[protocol_at], bytes(packet[at:end]))
