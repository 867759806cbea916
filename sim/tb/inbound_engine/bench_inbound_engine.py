"""inbound_engine in what random traffic does not do, or does not do often."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from dataclasses import replace
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrRouting
from scapy.layers.ipsec import ESP, SecurityAssociation
from scapy.packet import Packet, Raw

from appliance.esp.encapsulation import encapsulate
from appliance.esp.trailer import append_trailer
from appliance.esp.transport import joined, split_to_protect
from appliance.reasons import Reason
from appliance.sa.selector import TrafficSelector
from sim.tb.inbound_engine.senders import (
    INTERVAL,
    LARGEST,
    MOST,
    SAS,
    addressed,
    dummy,
    forged,
    good,
    next_sequence,
    other_content,
    plain,
    some_address,
    some_inner,
    some_sa,
)
from sim.tb.inbound_engine.world import TB, every_kind
from sim.tb.model.inbound import Sa, everything
from sim.tb.traffic import packets
from sim.tb.traffic.header import expected


def made_by_scapy(sa: Sa, inner: Packet, sequence: int, *, udp: bool) -> bytes:
    """What another implementation makes of a packet."""
    kind = IPv6 if sa.destination.version == 6 else IP
    association = SecurityAssociation(
        ESP, sa.spi, crypt_algo="AES-GCM", crypt_key=sa.key + sa.salt, esn_en=sa.esn,
        tunnel_header=None if sa.transport else kind(src=str(sa.source), dst=str(sa.destination)),
        nat_t_header=UDP(sport=4500, dport=sa.udp_port) if udp else None,
    )  # fmt: skip
    association.seq_num = sequence & 0xFFFFFFFF  # given to encrypt, 0 would be taken for none
    return bytes(association.encrypt(inner, esn=sequence >> 32))


def some_by_scapy(sa: Sa, version: int) -> Packet:
    """A packet of Scapy's, as it is read from its own bytes; in transport mode between the SA's ends."""
    ends = (sa.source, sa.destination) if sa.transport else (some_address(version), some_address(version))
    head = (IP if version == 4 else IPv6)(src=str(ends[0]), dst=str(ends[1]))
    if version == 6 and random.random() < 0.4:
        head /= random.choice((IPv6ExtHdrDestOpt, IPv6ExtHdrRouting))()
    upper = random.choice((TCP(), UDP(), ICMP() if version == 4 else TCP(flags="R")))
    packet = head / upper / Raw(random.randbytes(random.randrange(1, 400)))
    return type(head.firstlayer())(bytes(packet))


@cocotb.test()
async def a_fragment_header_behind_esp_is_passed_by_its_protocol(dut: Any) -> None:
    """In transport mode over IPv6: what follows it has no ports, and it has to be whole."""
    tb = TB(dut)
    await tb.reset()
    sa = some_sa(0, transport=True, v6=True, esn=False)
    kind = everything(6)
    only = TrafficSelector(kind.start, kind.end, packets.UDP, 0, 65535)
    sa.selectors = [(only, False), (only, True)]
    await tb.install(sa)
    outer = joined(split_to_protect(addressed(sa, plain(6, 40))), 253, b"")
    counts = Counter[Reason | None]()
    for _ in range(60):
        protocol = random.choice((packets.UDP, packets.TCP))
        header = packets.extension(packets.FRAGMENT, protocol, offset=random.choice((0, 9)), more=random.random() < 0.5)
        text = header + random.randbytes(random.randrange(60))
        if random.random() < 0.3:
            text = text[: random.randrange(8)]
        tb.send(sa.wrap(outer, sa.seal(next_sequence(sa), append_trailer(text, packets.FRAGMENT, 4)), sa.form))
        mismatch = None if protocol == packets.UDP else Reason.SELECTOR_MISMATCH
        counts[Reason.MALFORMED_IP if len(text) < 8 else mismatch] += 1
    await tb.drain()
    assert {one: tb.seen[one] for one in counts} == counts and len(counts) == 3


@cocotb.test()
async def what_scapy_makes_is_opened(dut: Any) -> None:
    """Both modes and families, in UDP, with ESN on both sides of 2^32."""
    tb = TB(dut)
    await tb.reset()
    numbers = [1, 2, 1 << 31, (1 << 32) - 5, *range((1 << 32) - 2, (1 << 32) + 3)]
    wanted: list[bytes] = []
    for turn, (transport, v6, esn, key) in enumerate(
        itertools.product((False, True), (False, True), (False, True), (16, 32))
    ):
        sa = some_sa(turn % SAS, transport=transport, v6=v6, esn=esn, key=key)
        await tb.install(sa)
        for sequence in numbers:
            if sequence >> 32 and not esn:
                continue
            version = (6 if v6 else 4) if transport else random.choice((4, 6))
            inner = some_by_scapy(sa, version)
            wanted.append(bytes(inner))
            # Behind an extension header that stays in front, Scapy leaves the number of ESP in it where UDP follows.
            udp = random.getrandbits(1) == 1 and not (transport and inner.haslayer(IPv6) and inner.nh in (43, 60))
            tb.send(made_by_scapy(sa, inner, sequence, udp=udp))
            if sequence == 1 << 31:
                # The upper half is inferred from where the window is when the packet comes.
                await tb.drain()
        await tb.drain()
        await tb.remove(sa)
    assert list(tb.left) == wanted
    assert len(wanted) == 8 * 9 + 8 * 6


@cocotb.test()
async def a_wrong_byte_anywhere_is_noticed(dut: Any) -> None:
    """Each byte of a packet in turn; what is not authenticated does no harm, and the packet itself is good then."""
    tb = TB(dut)
    await tb.reset()
    for transport, v6, esn in ((False, False, True), (True, True, False), (False, True, False), (True, False, True)):
        sa = some_sa(random.randrange(SAS), transport=transport, v6=v6, esn=esn)
        await tb.install(sa)
        inner = packets.ipv4(6, random.randbytes(37)) if not v6 else packets.ipv6((), 6, random.randbytes(37))
        if transport:
            inner = addressed(sa, inner)
        form = replace(sa.form, ports=(1024, sa.udp_port)) if random.getrandbits(1) else sa.form
        packet = encapsulate(sa.sender, form, inner)
        begin = expected(packet)["esp_begin"]
        for at in range(begin, len(packet)):
            edited = bytearray(packet)
            edited[at] ^= 1 << random.randrange(8)
            tb.send(bytes(edited))
        await tb.drain()
        assert tb.seen[None] == 0 and sa.integrity >= len(packet) - begin - 8
        assert sa.window.highest == 0 and sa.packets == 0
        await tb.check_usage()
        tb.send(packet)
        await tb.drain()
        assert tb.seen[None] == 1
        tb.seen.clear()
        await tb.remove(sa)


@cocotb.test()
async def a_packet_cut_anywhere_does_no_harm(dut: Any) -> None:
    tb = TB(dut)
    await tb.reset()
    sa = some_sa(0, transport=False, v6=False, esn=False)
    await tb.install(sa)
    packet = encapsulate(sa.sender, replace(sa.form, ports=(1, sa.udp_port)), packets.ipv6((), 17, bytes(30)))
    for end in range(1, len(packet)):
        tb.send(packet[:end])
        # The same with headers that say so.
        cut = bytearray(packet[:end])
        if end >= 28:
            cut[2:4], cut[24:26] = end.to_bytes(2, "big"), (end - 20).to_bytes(2, "big")
            tb.send(packets.with_right_checksum(bytes(cut)))
    tb.send(packet)
    await tb.drain()
    await tb.check_usage()
    assert tb.seen[None] == 1


@cocotb.test()
async def lifetimes_end(dut: Any) -> None:
    """Soft limits are told of, hard ones too, and nothing more is carried then (RFC 4301 §4.4.2.1)."""
    tb = TB(dut)
    await tb.reset()
    none = {"packets": 0, "bytes": 0}
    limits = [{"packets": 12, "bytes": 0}, {"packets": 0, "bytes": 1}, {"packets": 20, "bytes": 2000}, none]
    for turn, (hard, soft) in enumerate(itertools.product(limits, limits[::-1])):
        sa = some_sa(turn % SAS, transport=bool(turn & 1), v6=bool(turn & 2), esn=False)
        sa.hard, sa.soft = dict(hard), dict(soft)
        await tb.install(sa)
        for _ in range(45):
            tb.send(random.choice((good, good, good, dummy, forged, other_content))(sa))
        await tb.drain()
        await tb.check_usage()
        await tb.remove(sa)
    wanted = ("hard_packets", "hard_bytes", "soft_packets", "soft_bytes", "integrity", Reason.LIFETIME_EXPIRED)
    assert all(tb.seen[one] for one in wanted), tb.seen


@cocotb.test()
async def who_does_not_take_stops_the_stream_and_loses_nothing(dut: Any) -> None:
    tb = TB(dut)
    await tb.reset()
    sas = await every_kind(tb)
    tb.patience = 1.0
    for number in range(60):
        tb.send(good(random.choice(sas)) if number % 5 else forged(random.choice(sas)))
    # More than both buffers hold.
    while len(tb.input) * 16 < 40_000:
        tb.send(encapsulate(sas[0].sender, sas[0].form, some_inner(sas[0])))
    for _ in range(6000 + 1500 * INTERVAL):
        await FallingEdge(dut.clk_i)
    assert tb.input and not dut.s_axis_tready.value
    assert len(tb.leaving) > 3, "nothing waits"
    tb.patience = 0.0
    await tb.drain()
    await tb.check_usage()


@cocotb.test()
async def the_longest_packet_passes(dut: Any) -> None:
    tb = TB(dut)
    await tb.reset()
    sa = some_sa(0, transport=False, v6=False, esn=True)
    await tb.install(sa)
    for size in (LARGEST - 54, LARGEST - 55, LARGEST - 50, LARGEST - 54):
        tb.send(encapsulate(sa.sender, sa.form, packets.ipv4(17, bytes(size - 20))))
    await tb.drain()
    assert (tb.seen[None], tb.seen[Reason.REPLAYED]) == (3, 0)


@cocotb.test()
async def packets_follow_each_other_without_a_pause(dut: Any) -> None:
    """Frames of 64, 128, 512 and 1,518 bytes, of SAs in rotation, each with as many selectors as there may be."""
    tb = TB(dut)
    await tb.reset()
    for transport in (False, True):
        sas = [some_sa(index, transport=transport, v6=False, esn=False) for index in range(min(SAS, 4))]
        for sa in sas:
            # What is inside the last two only has been compared with all.
            sa.selectors = [(everything(6), False)] * (MOST - 2) + [(everything(4), False), (everything(4), True)]
            await tb.install(sa)
        for frame in (64, 128, 512, 1518):
            inner = packets.ipv4(17, random.randbytes(frame - 38))
            turns = [sas[number % len(sas)] for number in range(40)]
            sent = [encapsulate(sa.sender, sa.form, addressed(sa, inner)) for sa in turns]
            for packet in sent:
                tb.send(packet)
            tb.left_at.clear()
            await tb.drain()
            # The last ones have nothing behind them.
            steady = tb.left_at[9:-8]
            cycles = (steady[-1] - steady[0]) / (len(steady) - 1)
            beats = -(-len(sent[0]) // 16)
            body = len(sent[0]) - 52
            # First, text and Last, and one more cycle; in front of that transport mode's header.
            slots = INTERVAL * (-(-body // 16) + 2)
            most = max(beats, slots + 1 + (4 if transport else 0), 9)
            mode = "transport" if transport else "tunnel"
            dut._log.info("%s, %d: %.2f cycles a packet of %d beats", mode, frame, cycles, beats)
            assert cycles <= most + (INTERVAL - 1), f"{cycles} cycles a packet, not {most}"
        for sa in sas:
            await tb.remove(sa)
