"""Random IP packets: every header that the parser knows, whole and cut, right and wrong."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence

from appliance.esp.checksum import internet_checksum
from appliance.esp.ip import Ipv4Header, Ipv6Header

HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION = 0, 43, 44, 60
TCP, UDP, DCCP, ESP, AH, ICMPV6, SCTP, MOBILITY, UDP_LITE = 6, 17, 33, 50, 51, 58, 132, 135, 136
EXTENSIONS = (HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION)
UPPER = (TCP, UDP, UDP, UDP, DCCP, ESP, ESP, AH, 1, ICMPV6, SCTP, MOBILITY, UDP_LITE, 4, 41, 59, 255)


def extension(kind: int, following: int, *, units: int = 0, offset: int = 0, more: bool = False) -> bytes:
    """An extension header of 8 + 8 * ``units`` bytes; ``offset`` and ``more`` are a fragment header's."""
    if kind == FRAGMENT:
        # The second byte is reserved: what stands there must not matter (RFC 8200 §4.5).
        field = offset << 3 | random.randrange(4) << 1 | more
        return bytes((following, random.randrange(256))) + field.to_bytes(2, "big") + random.randbytes(4)
    return bytes((following, units)) + random.randbytes(6 + 8 * units)


def ipv6(kinds: Sequence[int], protocol: int, payload: bytes, *, long: bool = False, atomic: bool = True) -> bytes:
    """An IPv6 packet with these extension headers."""
    head = b""
    following = [*kinds, protocol][1:]
    for kind, after in zip(kinds, following, strict=True):
        units = random.choice((0, 0, 0, 1, 2, 3, 5)) if long else 0
        whole = atomic or random.random() < 0.3
        offset = 0 if whole else random.choice((0, 1, random.randrange(1 << 13)))
        more = not whole and random.random() < 0.5
        head += extension(kind, after, units=units, offset=offset, more=more)
    header = Ipv6Header(
        source=random.randbytes(16),
        destination=random.randbytes(16),
        protocol=kinds[0] if kinds else protocol,
        total_length=40 + len(head) + len(payload),
        traffic_class=random.randrange(256),
        flow_label=random.randrange(1 << 20),
    )
    return header.build() + head + payload


def ipv4(protocol: int, payload: bytes, *, options: int = 0, fragment: bool = False) -> bytes:
    """An IPv4 packet with so many words of options."""
    header = Ipv4Header(
        source=random.randbytes(4),
        destination=random.randbytes(4),
        protocol=protocol,
        total_length=20 + 4 * options + len(payload),
        traffic_class=random.randrange(256),
        identification=random.randrange(1 << 16),
        dont_fragment=random.random() < 0.5,
        more_fragments=fragment and random.random() < 0.5,
        fragment_offset=random.choice((0, 1, random.randrange(1 << 13))) if fragment else 0,
        options=random.randbytes(4 * options),
    )
    return header.build() + payload


def udp(payload: bytes, *, lie: bool = False) -> bytes:
    """A UDP datagram, maybe with another length than it has."""
    length = 8 + len(payload)
    if lie:
        length = random.choice(
            (0, 7, 8, 9, 23, 24, length - 1, length + 1, length + 5, 65535, random.randrange(1 << 16))
        )
    return random.randbytes(4) + (length & 0xFFFF).to_bytes(2, "big") + random.randbytes(2) + payload


def upper(protocol: int, most: int) -> bytes:
    """Something for an upper layer: short enough, often enough, that its header is not whole."""
    size = random.choice((0, 1, 2, 3, 4, 7, 8, 12, 15, 16, 17, 23, 24, 25, *(random.randrange(most + 1),) * 8))
    data = random.randbytes(min(size, most))
    if protocol != UDP or random.random() < 0.2:
        return data
    if random.random() < 0.2:
        data = bytes(min(4, len(data))) + data[4:]  # the non-ESP marker, whole or cut
    return udp(data, lie=random.random() < 0.3)


def whole(most: int = 200) -> bytes:
    """A packet that mostly holds."""
    protocol = random.choice(UPPER)
    if random.random() < 0.45:
        options = random.choice((0, 0, 0, 1, 5, 10, random.randrange(11)))
        return ipv4(protocol, upper(protocol, most), options=options, fragment=random.random() < 0.2)
    count = random.choice((0, 0, 0, 0, 1, 1, 2, 2, 3, 4, 5, 9, 10, 11))
    kinds = [random.choice(EXTENSIONS[1:]) for _ in range(count)]
    if kinds and random.random() < 0.3:
        kinds[0] = HOP_BY_HOP
    if kinds and random.random() < 0.05:
        kinds[random.randrange(count)] = HOP_BY_HOP
    return ipv6(kinds, protocol, upper(protocol, most), long=random.random() < 0.5, atomic=random.random() < 0.6)


def with_right_checksum(packet: bytes) -> bytes:
    """The same with the IPv4 header checksum that its header length asks for, so that other faults are what counts."""
    end = (packet[0] & 15) * 4
    if packet[0] >> 4 != 4 or not 20 <= end <= len(packet):
        return packet
    head = packet[:10] + bytes(2) + packet[12:end]
    return packet[:10] + internet_checksum(head).to_bytes(2, "big") + packet[12:]


def damaged(packet: bytes) -> bytes:
    """Cut, lengthened or changed in some byte."""
    kind = random.randrange(5)
    if kind == 0:
        return packet[: random.randrange(1, len(packet) + 1)]
    if kind == 1:
        return packet + random.randbytes(random.choice((1, 6, 15, 16, 17, 40)))
    edited = bytearray(packet)
    if kind == 2:
        edited[random.randrange(min(len(edited), 120))] = random.randrange(256)
    elif kind == 3:  # the length field
        at = 2 if packet[0] >> 4 == 4 else 4
        length = int.from_bytes(edited[at : at + 2], "big") + random.choice((-41, -20, -8, -1, 1, 2, 9))
        edited[at : at + 2] = (length & 0xFFFF).to_bytes(2, "big")
    else:  # version, header length
        edited[0] = random.choice((0x44, 0x45, 0x46, 0x4F, 0x55, 0x05, 0x6F, random.randrange(256)))
    return with_right_checksum(bytes(edited)) if random.random() < 0.7 else bytes(edited)


def some(count: int, most: int = 200, *, wrong: float = 0.35) -> Iterator[bytes]:
    """Random packets, so many of them damaged."""
    for _ in range(count):
        packet = whole(most)
        yield damaged(packet) if random.random() < wrong else packet


def every_chain(most: int) -> Iterator[bytes]:
    """IPv6 packets with every sequence of up to so many extension headers, before ESP in UDP."""
    for count in range(most + 1):
        for kinds in itertools.product(EXTENSIONS, repeat=count):
            yield ipv6(kinds, UDP, udp(random.randbytes(random.choice((15, 16, 40)))))


def every_byte_changed(packet: bytes, headers: int) -> Iterator[bytes]:
    """The packet with each byte of its headers changed in turn, with the checksum following or not."""
    for at in range(min(headers, len(packet))):
        edited = bytearray(packet)
        edited[at] ^= random.randrange(1, 256)
        yield bytes(edited)
        yield with_right_checksum(bytes(edited))
