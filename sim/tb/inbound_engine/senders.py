"""SAs with both ends, and the packets that their peers send: right, wrong, and not quite right."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

from appliance.esp.encapsulation import Transport, encapsulate, encapsulate_dummy
from appliance.esp.ip import with_traffic_class
from appliance.esp.trailer import append_trailer
from appliance.esp.transport import joined, split_to_protect
from appliance.esp.tunnel import Tunnel
from appliance.sa.selector import TrafficSelector
from sim.tb.model.inbound import Sa, everything
from sim.tb.traffic import packets
from sim.tb.traffic.header import expected

INTERVAL, SAS, WINDOW, MOST = (int(os.environ[name]) for name in ("INTERVAL", "SAS", "WINDOW", "MOST"))
LARGEST = int(os.environ["LARGEST"])
LONG = 0.005  # of the packets have up to LONGEST bytes, so that it takes no longer for them
LONGEST = LARGEST - 128  # what is left for headers, trailer and ICV


def some_sa(index: int, *, transport: bool, v6: bool, esn: bool, selectors: bool = False, key: int = 0) -> Sa:
    """An SA with random keys and addresses; its selectors are for everything unless some are wanted."""
    kind, width = (IPv6Address, 16) if v6 else (IPv4Address, 4)
    source, destination = (kind(random.randbytes(width)) for _ in range(2))
    form: Tunnel | Transport = Transport() if transport else Tunnel(source=source, destination=destination)
    chosen = [(everything(version), remote) for remote in (False, True) for version in (4, 6)]
    if transport or MOST < 4:
        chosen = [one for one in chosen if one[0].version == (6 if v6 else 4)]
    if selectors:
        chosen = [some_selector(random.choice((4, 6)), remote) for remote in (False, True, True, False)][:MOST]
    return Sa(
        index,
        transport,
        esn,
        random.randbytes(key or random.choice((16, 32))),
        random.randbytes(4),
        random.randrange(256, 1 << 32),
        form,
        source,
        destination,
        4500 if random.random() < 0.7 else 4501,
        chosen,
        WINDOW,
        selector_first=index * MOST,
        generation=random.getrandbits(16),
    )


def some_selector(version: int, remote: bool) -> tuple[TrafficSelector, bool]:
    """Half of all addresses, and sometimes a protocol and ports."""
    kind, bits = (IPv4Address, 32) if version == 4 else (IPv6Address, 128)
    half = 1 << bits - 1
    start, end = random.choice(((0, half), (half, 2 * half - 1), (0, 2 * half - 1)))
    ports = random.choice(((0, 65535), (0, 65535), (0, 30000), (65535, 0)))
    return TrafficSelector(kind(start), kind(end), random.choice((0, 0, 6, 17, 1, 58)), *ports), remote


def addressed(sa: Sa, packet: bytes) -> bytes:
    """The same packet, from the SA's one end to the other."""
    at, width = (24, 16) if packet[0] >> 4 == 6 else (16, 4)
    packet = packet[: at - width] + sa.source.packed + sa.destination.packed + packet[at + width :]
    return packets.with_right_checksum(packet)


def long_one(size: int) -> bytes:
    """A packet of so many bytes of either family."""
    if random.getrandbits(1):
        return packets.ipv4(17, packets.udp(random.randbytes(size - 28)))
    return packets.ipv6((packets.DESTINATION,), 17, packets.udp(random.randbytes(size - 56)))


def some_inner(sa: Sa) -> bytes:
    """A packet that the SA may carry, as far as its headers are concerned."""
    while True:
        if random.random() < LONG:
            packet = long_one(random.randint(1500, LONGEST))
        else:
            packet = packets.whole(random.choice((20, 20, 200, 200, 900)))
        header = expected(packet)
        if header is None:
            continue
        if not sa.transport:
            return packet
        if header["fragment"] or header["v6"] != int(sa.destination.version == 6):
            continue
        packet = addressed(sa, packet)
        # A fragment header in front of the upper layer is not walked in the text: see inbound_inspect.
        if split_to_protect(packet).protocol != packets.FRAGMENT:
            return packet


def around(sa: Sa) -> tuple[bytes, bytes, int]:
    """A packet to be protected, what of it is, and its next header."""
    packet = some_inner(sa)
    if not sa.transport:
        return packet, packet, 4 if packet[0] >> 4 == 4 else 41
    parts = split_to_protect(packet)
    # A whole packet without anything in it, so that all of it is kept.
    return joined(parts, 253, b""), parts.payload, parts.protocol


# What is sent: each takes an SA and gives a packet. All take a new sequence number.


def next_sequence(sa: Sa) -> int:
    sa.sender.sequence += random.choice((1, 1, 1, 2, 3, 17))
    return sa.sender.sequence


def good(sa: Sa) -> bytes:
    return encapsulate(sa.sender, sa.ported(), some_inner(sa))


def tfc(sa: Sa) -> bytes:
    if sa.transport:
        return good(sa)
    return encapsulate(sa.sender, replace(sa.form, tfc_length=random.choice((100, 400, 801))), some_inner(sa))


def long_padding(sa: Sa) -> bytes:
    """Any pad length that the trailer comes out with, right or with one byte of it wrong."""
    outer, payload, protocol = around(sa)
    pad = (-(len(payload) + 2) % 4) + 4 * random.randrange(64)
    pad -= 4 if pad > 255 else 0
    padding = bytearray(range(1, pad + 1))
    if pad and random.random() < 0.5:
        padding[random.choice((0, pad - 1, random.randrange(pad)))] ^= 1 << random.randrange(8)
    plaintext = payload + bytes(padding) + bytes((pad, protocol))
    return sa.wrap(outer, sa.seal(next_sequence(sa), plaintext), sa.ported())


def lying_trailer(sa: Sa) -> bytes:
    """A pad length about as long as all there is, and in front of it whatever."""
    outer, _, protocol = around(sa)
    size = 4 * random.choice((1, 2, 3, 4, 5, 8, 20, 63, 64))
    runs = bytes(range(1, 256))
    said = min(255, max(0, size - 2 + random.choice((-1, 0, 1, 2, -20, random.randrange(256)))))
    run = runs[:said][-(size - 2) :] if said else b""
    body = random.randbytes(size - 2 - len(run)) + run
    plaintext = body + bytes((said, random.choice((protocol, protocol, 59, 4, 41, 6, 0, 60, 43))))
    return sa.wrap(outer, sa.seal(next_sequence(sa), plaintext), sa.ported())


def dummy(sa: Sa) -> bytes:
    if isinstance(sa.form, Tunnel) and random.random() < 0.5:
        return encapsulate_dummy(sa.sender, sa.form, random.randrange(200))
    outer, payload, _ = around(sa)
    plaintext = bytearray(append_trailer(payload, 59, 4))
    plaintext[-3] ^= random.choice((0, 0x40))
    return sa.wrap(outer, sa.seal(next_sequence(sa), bytes(plaintext)), sa.ported())


def other_content(sa: Sa) -> bytes:
    """Damaged inner packets, of the wrong family, and next headers that do not fit."""
    outer, payload, protocol = around(sa)
    kind = random.randrange(4)
    if kind == 0:
        payload = packets.damaged(payload) if payload else b""
    elif kind == 1:
        payload = packets.whole(100)
    elif kind == 2:
        protocol = random.choice((4, 41, 6, 17, 0, 43, 60, 50, 255))
    else:
        payload = payload[: random.randrange(len(payload) + 1)]
    plaintext = append_trailer(payload, protocol, 4, random.choice((0, 0, 90)))
    return sa.wrap(outer, sa.seal(next_sequence(sa), plaintext), sa.ported())


def wrong_length(sa: Sa) -> bytes:
    """ESP that is no multiple of four, or too short for a trailer."""
    outer, payload, protocol = around(sa)
    esp = sa.seal(next_sequence(sa), append_trailer(payload, protocol, 4))
    cut = random.choice((len(esp) - 1, len(esp) - 2, len(esp) - 3, 32, 31, 28, 16, 17, 12, 8, 4, 3))
    return sa.wrap(outer, esp[:cut], sa.ported())


def shorter(sa: Sa) -> bytes:
    """A packet that was cut at a word by somebody who knew where lengths are."""
    outer, payload, protocol = around(sa)
    esp = sa.seal(next_sequence(sa), append_trailer(payload, protocol, 4))
    return sa.wrap(outer, esp[: -4 * random.choice((1, 1, 2, 4))], sa.ported())


def forged(sa: Sa) -> bytes:
    """One bit of IV, ciphertext or ICV is another."""
    packet = bytearray(good(sa))
    begin = expected(bytes(packet))["esp_begin"]
    packet[random.randrange(begin + 8, len(packet))] ^= 1 << random.randrange(8)
    return bytes(packet)


def congested(sa: Sa) -> bytes:
    """All that can be on the way in and out (RFC 6040 §4.2)."""
    inner = with_traffic_class(some_inner(sa), random.choice((0x00, 0x40, random.randrange(256))))
    return with_traffic_class(encapsulate(sa.sender, sa.form, inner), random.choice((0x03, random.randrange(256))))


def other_port(sa: Sa) -> bytes:
    form = replace(sa.form, ports=(4500, random.choice((sa.udp_port ^ 1, 500, 65535))))
    return encapsulate(sa.sender, form, some_inner(sa))


def other_spi(sa: Sa) -> bytes:
    packet = bytearray(good(sa))
    begin = expected(bytes(packet))["esp_begin"]
    packet[begin + random.randrange(4)] ^= 1 << random.randrange(8)
    return bytes(packet)


def other_destination(sa: Sa) -> bytes:
    packet = bytearray(good(sa))
    packet[(24 if packet[0] >> 4 == 6 else 16) + random.randrange(4)] ^= 1 << random.randrange(8)
    return packets.with_right_checksum(bytes(packet))


def no_esp(_: Sa) -> bytes:
    return packets.whole(120)


def damaged(sa: Sa) -> bytes:
    return packets.damaged(good(sa))


def fragment(sa: Sa) -> bytes:
    packet = bytearray(good(sa))
    if packet[0] >> 4 == 4:
        packet[6] |= 0x20
        return packets.with_right_checksum(bytes(packet))
    extension = packets.extension(packets.FRAGMENT, packet[6], more=True)
    packet[4:6] = (int.from_bytes(packet[4:6], "big") + 8).to_bytes(2, "big")
    packet[6] = packets.FRAGMENT
    return bytes(packet[:40]) + extension + bytes(packet[40:])


ALL: tuple[tuple[Callable[[Sa], bytes], int], ...] = (
    (good, 16), (tfc, 4), (long_padding, 5), (lying_trailer, 5), (dummy, 3), (other_content, 5), (wrong_length, 3),
    (shorter, 2), (forged, 5), (congested, 5), (other_port, 2), (other_spi, 2), (other_destination, 2), (no_esp, 2),
    (damaged, 3), (fragment, 2),
)  # fmt: skip


def some_address(version: int) -> IPv4Address | IPv6Address:
    return IPv4Address(random.randbytes(4)) if version == 4 else IPv6Address(random.randbytes(16))


def plain(version: int, size: int) -> bytes:
    """A packet of so many bytes without options and extension headers."""
    if version == 4:
        return packets.ipv4(253, random.randbytes(size - 20))
    return packets.ipv6((), 253, random.randbytes(size - 40))
