"""What the datapath reads from and changes in IP packets: flows, checksums, fragments."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from appliance.esp.octets import Octets

TCP, UDP, ICMP, ICMPV6, ESP = 6, 17, 1, 58, 50
_U16 = Struct("!H")
_PORTS = Struct("!HH")
_WITH_PORTS = frozenset((TCP, UDP, 33, 132, 136))
EXTENSIONS = frozenset((0, 43, 60, 135))
"""IPv6 extension headers that say what comes next (RFC 8200 §4.1, RFC 6275 §6.1); the fragment header is not here."""
_FRAGMENT_HEADER = 44


@dataclass(frozen=True, slots=True)
class Flow:
    """A packet as policies see it. Ports are None where they cannot be seen; ICMP has type and code in both.

    ``fragment`` is the fragment's identity (None for whole packets), ``offset`` its offset in bytes; ``header`` the
    bytes before the upper layer.
    """

    version: int
    source: int
    destination: int
    protocol: int
    source_port: int | None
    destination_port: int | None
    header: int
    fragment: tuple[int, int, int, int] | None = None
    offset: int = 0
    more: bool = False


def parse(packet: Octets) -> Flow | None:
    """Read the headers of an IP packet; None if they are damaged."""
    length = len(packet)
    if length < 20:
        return None
    version = packet[0] >> 4
    if version == 4:
        return _parse_ipv4(packet, length)
    if version == 6:
        return _parse_ipv6(packet, length)
    return None


def _parse_ipv4(packet: Octets, length: int) -> Flow | None:
    header = (packet[0] & 15) * 4
    if header < 20 or length < header or _U16.unpack_from(packet, 2)[0] > length:
        return None
    source, destination = int.from_bytes(packet[12:16]), int.from_bytes(packet[16:20])
    protocol = packet[9]
    bits: int = _U16.unpack_from(packet, 6)[0]
    fragment = None
    if bits & 0x3FFF:
        fragment = (source, destination, protocol, int(_U16.unpack_from(packet, 4)[0]))
    offset = (bits & 0x1FFF) * 8
    ports = (None, None) if offset else _ports(packet, header, protocol)
    return Flow(4, source, destination, protocol, *ports, header, fragment, offset, bool(bits & 0x2000))


def _parse_ipv6(packet: Octets, length: int) -> Flow | None:
    if length < 40:
        return None
    source, destination = int.from_bytes(packet[8:24]), int.from_bytes(packet[24:40])
    protocol, header = packet[6], 40
    fragment, offset, more = None, 0, False
    for _ in range(8):  # more extension headers than that are no honest packet
        if protocol in EXTENSIONS:
            if length < header + 8:
                return None
            protocol, header = packet[header], header + 8 + packet[header + 1] * 8
        elif protocol == _FRAGMENT_HEADER:
            if length < header + 8:
                return None
            bits = _U16.unpack_from(packet, header + 2)[0]
            offset, more = bits & 0xFFF8, bool(bits & 1)
            fragment = (source, destination, 0, int.from_bytes(packet[header + 4 : header + 8]))
            protocol, header = packet[header], header + 8
            if offset:
                break
        else:
            break
    else:
        if protocol in EXTENSIONS or protocol == _FRAGMENT_HEADER:
            return None
    if header > length:
        return None
    ports = (None, None) if offset else _ports(packet, header, protocol)
    return Flow(6, source, destination, protocol, *ports, header, fragment, offset, more)


def _ports(packet: Octets, start: int, protocol: int) -> tuple[int | None, int | None]:
    if protocol in _WITH_PORTS and len(packet) >= start + 4:
        return _PORTS.unpack_from(packet, start)
    if protocol in (ICMP, ICMPV6) and len(packet) >= start + 2:
        # One selector for both ends: type in the upper, code in the lower byte (RFC 7296 §3.13.1).
        both: int = _U16.unpack_from(packet, start)[0]
        return both, both
    return None, None


def flow_key(packet: Octets) -> bytes:
    """What tells flows apart that may be decided once; empty for packets that are looked at one by one.

    Those of TCP and UDP that are whole, with no IPv4 options and no extension headers: the upper layer is at 20 or 40.
    """
    first = packet[0]
    if first == 0x45:
        if len(packet) >= 28 and packet[9] in (TCP, UDP) and not (packet[6] & 0x3F or packet[7]):
            return bytes(packet[9:10]) + bytes(packet[12:24])
    elif first >> 4 == 6 and len(packet) >= 48 and packet[6] in (TCP, UDP):
        return bytes(packet[6:7]) + bytes(packet[8:44])
    return b""


def quoted(packet: Octets, flow: Flow) -> Octets | None:
    """The packet that an ICMP error message quotes, cut short as it is; None for anything else (RFC 4301 §6)."""
    if flow.source_port is None or flow.offset or len(packet) < flow.header + 28:
        return None
    kind = flow.source_port >> 8
    if (flow.protocol == ICMP and kind in (3, 4, 5, 11, 12)) or (flow.protocol == ICMPV6 and kind < 128):
        return packet[flow.header + 8 :]
    return None


def parse_quoted(packet: Octets) -> Flow | None:
    """Read a quoted packet, whose end is missing."""
    whole = bytearray(packet)
    if len(whole) >= 20 and whole[0] >> 4 == 4:
        _U16.pack_into(whole, 2, min(len(whole), 65535))
    return parse(whole)


def ones_sum(data: Octets) -> int:
    """The ones' complement sum of 16-bit big-endian words, an odd last byte padded with zero (RFC 1071)."""
    length = len(data)
    total = int.from_bytes(data) if length % 2 == 0 else int.from_bytes(data) << 8
    # 2^16 is 1 modulo 65535, so the sum of the words is the number itself modulo 65535.
    return total % 65535


def checksum(total: int) -> int:
    """The checksum field for the sum of words that are not all zero."""
    return (0xFFFF - total % 65535) % 65535


def pseudo_header(flow: Flow, length: int, protocol: int | None = None) -> int:
    """The sum over the pseudo header (RFC 9293 §3.1, RFC 8200 §8.1)."""
    return (flow.source + flow.destination + (flow.protocol if protocol is None else protocol) + length) % 65535


def finish_checksum(packet: bytearray | memoryview, start: int, offset: int) -> bool:
    """Complete a checksum whose field holds the sum over the pseudo header. False where that is outside the packet."""
    if start + offset + 2 > len(packet):
        return False
    value = checksum(ones_sum(packet[start:]))
    # UDP's field is at 6, TCP's at 16. UDP says 0xFFFF for a checksum of zero (RFC 768).
    _U16.pack_into(packet, start + offset, value or (0xFFFF if offset == 6 else 0))
    return True


def refresh_ipv4_checksum(packet: bytearray | memoryview) -> None:
    """Compute an IPv4 header's checksum anew."""
    header = (packet[0] & 15) * 4
    packet[10] = packet[11] = 0
    _U16.pack_into(packet, 10, checksum(ones_sum(packet[:header])))


def refresh_upper_checksum(packet: bytearray, flow: Flow) -> None:
    """Compute TCP's, UDP's or ICMPv6's checksum anew, as RFC 3948 §3.1.2 wants behind a NAT."""
    field = {TCP: 16, UDP: 6, ICMPV6: 2}.get(flow.protocol)
    if field is None or flow.fragment is not None or len(packet) < flow.header + field + 2:
        return
    if flow.protocol == UDP and flow.version == 4 and packet[flow.header + 6 : flow.header + 8] == bytes(2):
        return
    length = len(packet) - flow.header
    packet[flow.header + field : flow.header + field + 2] = bytes(2)
    total = pseudo_header(flow, length) + ones_sum(packet[flow.header :])
    _U16.pack_into(packet, flow.header + field, checksum(total) or (0xFFFF if flow.protocol == UDP else 0))


def fragment_ipv4(packet: Octets, mtu: int) -> list[bytearray]:
    """Cut an IPv4 packet into fragments of at most ``mtu`` bytes (RFC 791 §3.2)."""
    header = (packet[0] & 15) * 4
    bits: int = _U16.unpack_from(packet, 6)[0]
    first, more = (bits & 0x1FFF) * 8, bits & 0x2000
    head, options = bytearray(packet[:header]), bytes(packet[20:header])
    found = []
    at = 0
    body = packet[header:]
    while at < len(body):
        room = (mtu - len(head)) & ~7
        part = body[at : at + room]
        last = at + len(part) >= len(body)
        piece = bytearray(head)
        piece += part
        _U16.pack_into(piece, 2, len(piece))
        _U16.pack_into(piece, 6, (first + at) >> 3 | (more if last else 0x2000))
        refresh_ipv4_checksum(piece)
        found.append(piece)
        at += len(part)
        if at and options:
            copied = _copied_options(options)
            head = bytearray(head[:20]) + copied
            head[0] = 0x40 | len(head) // 4
            options = b""
    return found


def _copied_options(options: bytes) -> bytes:
    """The options that later fragments carry too: those with the copied flag (RFC 791 §3.1)."""
    kept, at = bytearray(), 0
    while at < len(options) and options[at] != 0:
        if options[at] == 1:
            at += 1
            continue
        size = options[at + 1] if at + 1 < len(options) else 0
        if size < 2 or at + size > len(options):
            break
        if options[at] & 0x80:
            kept += options[at : at + size]
        at += size
    return bytes(kept) + bytes(-len(kept) % 4)
