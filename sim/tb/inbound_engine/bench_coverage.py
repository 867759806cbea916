"""Planned packets through inbound_engine that hit every bin of sim.coverage.traffic, whatever the random numbers."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cocotb

from appliance.esp.encapsulation import encapsulate, encapsulate_dummy
from appliance.esp.ip import parse, with_traffic_class
from appliance.esp.trailer import append_trailer
from appliance.esp.transport import joined, split_to_protect
from appliance.esp.tunnel import Tunnel
from appliance.reasons import Reason
from appliance.sa.selector import TrafficSelector
from sim.coverage import traffic
from sim.tb.inbound_engine.senders import (
    LARGEST,
    SAS,
    WINDOW,
    addressed,
    fragment,
    next_sequence,
    plain,
    some_sa,
)
from sim.tb.inbound_engine.world import TB
from sim.tb.model.inbound import Sa, everything
from sim.tb.traffic import packets
from sim.tb.traffic.header import expected

PROTOCOL = 253  # plain()'s
# RFC 6040 §4.2, figure 4: rows are inside, columns outside, in the order of traffic.ECN; None is a drop.
LEAVING = ((0, 0, 0, None), (1, 1, 1, 3), (2, 1, 2, 3), (3, 3, 3, 3))


@cocotb.test()
async def every_kind_of_packet_is_opened(dut: Any) -> None:
    """The crosses of sim.coverage.traffic: every form with every size, padding, algorithm and back-pressure."""
    tb = TB(dut)
    await tb.reset()
    sas: dict[tuple[object, ...], Sa] = {}
    for cell in traffic.every_cross():
        kind = cell.transport, cell.outer, cell.key, cell.esn
        if tb.pressure != cell.pressure or (kind not in sas and len(sas) == min(SAS, 4)):
            await tb.drain()
            tb.press(cell.pressure)
        if kind not in sas:
            if len(sas) == min(SAS, 4):
                for old in sas.values():
                    await tb.remove(old)
                sas.clear()
            sas[kind] = some_sa(len(sas), transport=cell.transport, v6=cell.outer == 6, esn=cell.esn, key=cell.key // 8)
            await tb.install(sas[kind])
        sa = sas[kind]
        form = replace(sa.form, ports=(4500, sa.udp_port) if cell.udp else None)
        if cell.tfc:
            assert isinstance(form, Tunnel)
            longer = cell.size + 1 - (cell.size + 3 + cell.padding) % 4 + 4 * random.randint(1, 50)
            form = replace(form, tfc_length=longer)
        inner = plain(cell.inner, cell.size)
        tb.planned.append(cell)
        tb.send(encapsulate(sa.sender, form, addressed(sa, inner) if cell.transport else inner))
    await tb.drain()
    assert not tb.planned
    missed = traffic.missed(*(f"inbound.{name}" for name in ("form", "udp", "key", "esn", "size", "padding", "tfc")))
    assert not missed, missed


@cocotb.test()
async def padding_of_every_length_is_cut(dut: Any) -> None:
    """0 to 255 bytes (RFC 4303 §2.4), which are the sender's to choose."""
    tb = TB(dut)
    await tb.reset()
    sas = [some_sa(one, transport=bool(one), v6=bool(random.getrandbits(1)), esn=False) for one in range(2)]
    for sa in sas:
        await tb.install(sa)
    for pad in range(256):
        sa = random.choice(sas)
        version = sa.destination.version
        inner = plain(version, 80 + -(pad + 2) % 4)
        payload, protocol = inner, 4 if version == 4 else 41
        if sa.transport:
            parts = split_to_protect(addressed(sa, inner))
            inner, payload, protocol = joined(parts, 253, b""), parts.payload, parts.protocol
        plaintext = payload + bytes(range(1, pad + 1)) + bytes((pad, protocol))
        tb.send(sa.wrap(inner, sa.seal(next_sequence(sa), plaintext), sa.ported()))
    await tb.drain()
    assert tb.seen[None] == 256
    missed = traffic.missed("inbound.pad length")
    assert not missed, missed


@cocotb.test()
async def there_is_a_reason_for_every_drop(dut: Any) -> None:
    """One packet after another for each reason, in every mode, under every back-pressure; and good ones among them."""
    tb = TB(dut)
    await tb.reset()
    passing = 0
    turns = [("none", transport, v6) for transport in (False, True) for v6 in (False, True)]
    # Tunnels have all reasons.
    turns += [(pressure, False, turn % 2 == 0) for turn, pressure in enumerate(traffic.PRESSURE[1:])]
    for pressure, transport, v6 in turns:
        tb.press(pressure)
        sa = some_sa(0, transport=transport, v6=v6, esn=bool(random.getrandbits(1)))
        kind = everything(6 if v6 else 4)
        only = TrafficSelector(kind.start, kind.end, PROTOCOL, 0, 65535)
        sa.selectors = [(only, False), (only, True)]
        await tb.install(sa)
        good, wrong = right_and_wrong(sa)
        tb.send(wrong[0][1])  # what comes again then
        for _, packet in wrong:
            tb.send(packet)
            tb.send(good())
        passing += len(wrong) + 1
        await tb.drain()
        assert tb.seen[None] == passing
        await tb.remove(sa)
        sa = some_sa(1, transport=transport, v6=v6, esn=False)
        sa.hard = {"packets": 1, "bytes": 0}
        await tb.install(sa)
        good, _ = right_and_wrong(sa)
        for _ in range(2):
            tb.send(good())
        passing += 1
        await tb.drain()
        await tb.remove(sa)
    missed = traffic.missed("inbound.drop")
    assert not missed, missed


def right_and_wrong(sa: Sa) -> tuple[Callable[[], bytes], list[tuple[Reason, bytes]]]:
    """What makes good packets of an SA, and a packet for every reason that there is to drop one but its lifetime."""
    version = sa.destination.version
    inner = with_traffic_class(plain(version, 100), 0)
    payload, protocol, around = inner, 4 if version == 4 else 41, inner
    if sa.transport:
        inner = addressed(sa, inner)
        parts = split_to_protect(inner)
        payload, protocol, around = parts.payload, parts.protocol, joined(parts, PROTOCOL, b"")

    def sealed(plaintext: bytes) -> bytes:
        return sa.wrap(around, sa.seal(next_sequence(sa), plaintext), sa.form)

    def made(packet: bytes = inner) -> bytes:
        return encapsulate(sa.sender, sa.form, packet)

    first, last = made(), made()
    padded = bytearray(append_trailer(payload, protocol, 4))
    assert padded[-2] == 2
    padded[-3] ^= 1
    head = packets.ipv4 if version == 4 else lambda protocol, payload: packets.ipv6((), protocol, payload)
    other = head(packets.UDP, packets.udp(random.randbytes(30)))
    wrong = [
        (Reason.REPLAYED, first),
        (Reason.UNKNOWN_SPI, encapsulate(sa.sender, replace(sa.form, ports=(4500, sa.udp_port ^ 1)), inner)),
        (Reason.INTEGRITY, bytes((*last[:-1], last[-1] ^ 1))),
        (Reason.MALFORMED_ESP, sealed(bytes(padded))),
        (Reason.MALFORMED_ESP, head(packets.ESP, random.randbytes(15))),
        (Reason.MALFORMED_IP, first[:-1]),
        (Reason.SELECTOR_MISMATCH, made(addressed(sa, other) if sa.transport else other)),
        (Reason.DUMMY, sealed(append_trailer(payload, 59, 4))),
        (Reason.ESP_FRAGMENT, fragment(sa)),
        (Reason.TOO_BIG, plain(version, LARGEST + 1)),
    ]
    if not sa.transport:
        wrong.append((Reason.MALFORMED_IP, sealed(append_trailer(inner[:-1], protocol, 4))))
        wrong.append((Reason.ECN_NOT_CAPABLE, with_traffic_class(made(), 3)))
        wrong.append((Reason.DUMMY, encapsulate_dummy(sa.sender, sa.form, 20)))
    elif version == 6:
        # Destination options that are not whole.
        wrong.append((Reason.MALFORMED_IP, sealed(append_trailer(bytes((17, 9)) + bytes(6), packets.DESTINATION, 4))))

    return made, wrong


@cocotb.test()
async def congestion_is_told_inside(dut: Any) -> None:
    """RFC 6040 §4.2, figure 4: all that can be inside and outside, in every form of a tunnel."""
    tb = TB(dut)
    await tb.reset()
    leaving: list[int | None] = []
    for number, v6 in enumerate((False, True)):
        sa = some_sa(number, transport=False, v6=v6, esn=False)
        await tb.install(sa)
        for version, inside, outside in itertools.product((4, 6), range(4), range(4)):
            dscps = random.randrange(64) << 2, random.randrange(64) << 2
            inner = with_traffic_class(plain(version, 60), dscps[0] | inside)
            tb.send(with_traffic_class(encapsulate(sa.sender, sa.form, inner), dscps[1] | outside))
            leaving.append(None if LEAVING[inside][outside] is None else dscps[0] | (LEAVING[inside][outside] or 0))
    await tb.drain()
    assert [parse(packet).traffic_class for packet in tb.left] == [one for one in leaving if one is not None]
    assert tb.seen[Reason.ECN_NOT_CAPABLE] == leaving.count(None) == 4
    missed = traffic.missed("inbound.ecn")
    assert not missed, missed


@cocotb.test()
async def options_and_extension_headers_are_opened(dut: Any) -> None:
    """In front of ESP and behind it: IPv4 options, and every extension header of IPv6 in every mode."""
    tb = TB(dut)
    await tb.reset()
    for transport, v6 in itertools.product((False, True), (False, True)):
        sa = some_sa(int(transport), transport=transport, v6=v6, esn=False)
        await tb.install(sa)
        for version in (4, 6) if not transport else (6 if v6 else 4,):
            inners = [packets.ipv4(PROTOCOL, random.randbytes(20), options=one) for one in (0, 1, 10)]
            if version == 6:
                kinds = [(), *((kind,) for kind in packets.EXTENSIONS), packets.EXTENSIONS]
                inners = [packets.ipv6(one, PROTOCOL, random.randbytes(20)) for one in kinds]
            for packet in inners:
                inner = with_traffic_class(addressed(sa, packet) if transport else packet, 0)
                for ports in (None, (4500, sa.udp_port)):
                    tb.send(encapsulate(sa.sender, replace(sa.form, ports=ports), inner))
        await tb.drain()
        await tb.remove(sa)
    assert tb.seen == {None: tb.seen[None], "compared": tb.seen["compared"]}, tb.seen
    missed = traffic.missed("inbound.options", "inbound.extensions")
    assert not missed, missed


@cocotb.test()
async def every_part_of_a_packet_is_authenticated(dut: Any) -> None:
    """The SPI too: changed to that of another SA (RFC 4106 §5)."""
    tb = TB(dut)
    await tb.reset()
    for esn in (False, True):
        sa, other = (some_sa(one, transport=False, v6=False, esn=esn) for one in range(2))
        other.destination, other.spi = sa.destination, sa.spi ^ 1 << random.randrange(8)
        other.form = replace(other.form, destination=sa.destination)
        other.udp_port, other.key, other.salt = sa.udp_port, sa.key, sa.salt  # so that nothing but the SPI is another
        other = replace(other)
        for one in (sa, other):
            await tb.install(one)
        for udp in (False, True):
            form = replace(sa.form, ports=(1024, sa.udp_port) if udp else None)
            packet = encapsulate(sa.sender, form, plain(4, 100))
            at = expected(packet)["esp_begin"]
            begins = dict(zip(traffic.ICV_PLACES, (at, at + 4, at + 8, at + 16, len(packet) - 16), strict=True))
            for place, begin in begins.items():
                edited = bytearray(packet)
                if place == "SPI":
                    edited[at : at + 4] = other.spi.to_bytes(4, "big")
                else:
                    edited[begin + random.randrange(3)] ^= 1 << random.randrange(8)  # no number gets less by it
                tb.send(bytes(edited), place)
            tb.send(packet)
        await tb.drain()
        for one in (sa, other):
            await tb.remove(one)
    assert (tb.seen[Reason.INTEGRITY], tb.seen[None]) == (20, 4)
    missed = traffic.missed("inbound.damaged")
    assert not missed, missed


@cocotb.test()
async def numbers_are_taken_once(dut: Any) -> None:
    """RFC 4303 §3.4.3 and appendix A: copies, the left edge, far jumps, and over 2^32 with ESN."""
    tb = TB(dut)
    await tb.reset()
    for esn in (False, True):
        sa = some_sa(SAS - 1, transport=False, v6=bool(random.getrandbits(1)), esn=esn)
        await tb.install(sa)
        plaintext = append_trailer(packets.ipv4(6, random.randbytes(20)), 4, 4)
        outer = packets.ipv4(1, b"")
        while outer[1] & 3 == 3:  # congestion, for which all of them could be dropped
            outer = packets.ipv4(1, b"")

        def numbered(sequence: int, sa: Sa = sa, plaintext: bytes = plaintext, outer: bytes = outer) -> bytes:
            return sa.wrap(outer, sa.seal(sequence, plaintext), sa.ported())

        top = 0
        for jump in (1, 5, WINDOW - 1, 1, WINDOW, 3, WINDOW + 1, 40 * WINDOW, 1, 1 << 31, (1 << 31) - 45 * WINDOW,
                     30 * WINDOW, *[WINDOW // 2] * 40, 2, 1 << 31):  # fmt: skip
            top += jump
            if not esn and top >> 32:
                break
            tb.send(numbered(top))
            tb.send(numbered(top))  # at once, before the first one is known to be good
            await tb.drain()
            if esn and top < WINDOW - 1:
                tb.send(numbered((1 << 32) - 1 - random.randrange(WINDOW - 1 - top)))  # its upper half would be -1
            for back in (0, 1, WINDOW // 3, WINDOW - 2, WINDOW - 1, WINDOW, WINDOW + 1, random.randrange(WINDOW)):
                if top - back >= 0:
                    tb.send(numbered(top - back))
                    tb.send(numbered(top - back))
            await tb.drain()
            await tb.check_usage()
        assert sa.window.highest >> 32 == int(esn) or not esn
        await tb.remove(sa)
    assert tb.seen[None] > 300 and tb.seen[Reason.REPLAYED] > 400, tb.seen
    missed = traffic.missed("inbound.replay")
    assert not missed, missed
