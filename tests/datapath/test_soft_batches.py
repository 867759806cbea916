"""The batched paths against the golden model, byte by byte."""

from __future__ import annotations

import os
import random
import socket
from dataclasses import replace
from ipaddress import ip_address

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.datapath.soft.cipher import make_cipher
from appliance.datapath.soft.coalesce import Coalescer
from appliance.datapath.soft.core import Core
from appliance.datapath.soft.inbound import Inbound
from appliance.datapath.soft.mmsg import pack_control
from appliance.datapath.soft.options import SoftOptions
from appliance.datapath.soft.packet import finish_checksum, fragment_ipv4, parse
from appliance.datapath.soft.sad import InboundState, OutboundState, Spending, ranges
from appliance.datapath.soft.seal import SPARE, Sealer, seal_one
from appliance.datapath.soft.segment import ROOM, Super, build_rows
from appliance.datapath.soft.sender import Burst
from appliance.datapath.soft.spd import Ambiguous, Spd
from appliance.datapath.soft.tun import GSO_UDP_L4, VNET_HEADER, Tun
from appliance.datapath.soft.unseal import Opener
from appliance.datapath.soft.window import BatchWindow
from appliance.esp.checksum import internet_checksum, pseudo_header
from appliance.esp.drop import Drop
from appliance.esp.ip import Ipv4Header, Ipv6Header, with_traffic_class
from appliance.esp.ip import parse as parse_ip
from appliance.esp.outbound import OutboundSa
from appliance.esp.replay import ReplayWindow
from appliance.esp.transform import transform
from appliance.sa.algorithms import Encryption, Suite
from appliance.sa.association import (
    Direction,
    Mode,
    PolicyAction,
    SecurityAssociation,
    SecurityPolicy,
    UdpEncapsulation,
)
from appliance.sa.selector import TrafficSelector

ENDS = {4: ("10.1.0.1", "10.2.0.1"), 6: ("fd01::1", "fd02::1")}


def packet(
    version: int, protocol: int, payload: bytes, *, sequence: int = 1, flags: int = 0x10, number: int = 7
) -> bytes:
    """A TCP (with a timestamp option) or UDP packet with right checksums."""
    source, target = (ip_address(text).packed for text in ENDS[version])
    if protocol == 6:
        upper = bytearray((4321).to_bytes(2) + (80).to_bytes(2) + (sequence & 0xFFFFFFFF).to_bytes(4) + bytes(4))
        upper += bytes((0x80, flags)) + (500).to_bytes(2) + bytes(4) + bytes.fromhex("0101080a0000000100000002")
        at = 16
    else:
        upper = bytearray((4321).to_bytes(2) + (53).to_bytes(2) + (8 + len(payload)).to_bytes(2) + bytes(2))
        at = 6
    upper += payload
    value = internet_checksum(pseudo_header(source, target, protocol, len(upper)) + upper)
    upper[at : at + 2] = (value or (0xFFFF if protocol == 17 else 0)).to_bytes(2)
    header: Ipv4Header | Ipv6Header
    if version == 4:
        header = Ipv4Header(
            source=source, destination=target, protocol=protocol, total_length=20 + len(upper),
            identification=number & 0xFFFF, dont_fragment=True,
        )  # fmt: skip
    else:
        header = Ipv6Header(source=source, destination=target, protocol=protocol, total_length=40 + len(upper))
    return header.build() + bytes(upper)


def segments(version: int, protocol: int, payload: bytes, size: int, sequence: int, flags: int) -> list[bytes]:
    """What a super-packet is cut into, one after the other."""
    found = []
    starts = range(0, len(payload), size)
    for index, at in enumerate(starts):
        last = index == len(starts) - 1
        kept = flags if last else flags & ~0x09
        kept = kept if index == 0 else kept & ~0x80
        part = payload[at : at + size]
        found.append(packet(version, protocol, part, sequence=sequence + at, flags=kept, number=65530 + index))
    return found


def super_packet(version: int, protocol: int, payload: bytes, size: int, sequence: int, flags: int) -> Super:
    whole = packet(version, protocol, payload, sequence=sequence, flags=flags, number=65530)
    upper = 20 if version == 4 else 40
    return Super(memoryview(whole), version, protocol, upper, len(whole) - len(payload), size)


def state(suite: Suite) -> OutboundState:
    ends = [ip_address(text) for text in ("192.0.2.1", "192.0.2.2")]
    anything = (TrafficSelector.parse("0.0.0.0/0"),)
    sa = SecurityAssociation(
        direction=Direction.OUT, spi=0xABCD0123, source=ends[0], destination=ends[1], suite=suite, mode=Mode.TUNNEL,
        local_ts=anything, remote_ts=anything, reqid=1, child="a/b",
    )  # fmt: skip
    key = bytearray(range(suite.encryption_key_length))
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.close()
    cipher = make_cipher(suite, key, bytearray())
    return OutboundState(sa, cipher, Spending(sa, 0.0), sock, ("192.0.2.2", 4500), [], last=1 << 63)


def inbound_state(sa: SecurityAssociation, *, port: int = 4500) -> InboundState:
    """The other end's, with the key that ``state`` has."""
    cipher = make_cipher(sa.suite, bytearray(range(sa.suite.encryption_key_length)), bytearray())
    window = BatchWindow(64, esn=sa.suite.esn)
    return InboundState(
        sa, cipher, Spending(sa, 0.0), window, ("192.0.2.1", port), ranges(sa.local_ts), ranges(sa.remote_ts)
    )


AEADS = [
    Suite(kind, 256, esn=esn) for kind in (Encryption.AES_GCM_16, Encryption.CHACHA20_POLY1305) for esn in (True, False)
]


@pytest.mark.parametrize("suite", AEADS, ids=str)
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("protocol", [6, 17])
def test_batch_is_what_the_golden_model_makes_packet_by_packet(suite: Suite, version: int, protocol: int) -> None:
    source = random.Random(version * protocol)
    for size in (1, 2, 3, 64, 513, 1348, 1373):
        count = source.randint(1, 40)
        payload = source.randbytes(size * count)
        flags = 0x10 if protocol == 17 else source.choice((0x10, 0x18, 0x19, 0x98, 0x50))
        ours = state(suite)
        ours.sequence = 0xFFFF_FFF0 if suite.esn else 41  # with ESN the low half turns over amid the batch
        golden = OutboundSa(
            ours.sa.spi, transform(suite.encryption, 0, bytes(range(suite.encryption_key_length)), b""), esn=suite.esn
        )
        golden.sequence = ours.sequence
        sequence = 0xFFFF_FF00
        whole = super_packet(version, protocol, payload, size, sequence, flags)
        next_header = 4 if version == 4 else 41
        sealer, burst = Sealer(), Burst()
        rows = build_rows(sealer.scratch, whole, 0, count, size, alignment=4, next_header=next_header)
        sealer.seal_rows(ours, rows, burst)
        expected = [
            golden.seal(part, next_header) for part in segments(version, protocol, payload, size, sequence, flags)
        ]
        assert bytes(burst.view[: burst.used]) == b"".join(expected)
        assert ours.sequence == golden.sequence


@pytest.mark.parametrize("suite", AEADS, ids=str)
def test_a_batch_is_sealed_and_opened_whole_or_fails(suite: Suite) -> None:
    """Each packet has its place in several lists of views; were one too short, the rest would pass as it is."""
    sealer, burst, ours = Sealer(), Burst(), state(suite)
    sealer.seal_rows(ours, sealer.scratch[: 5 * 64].reshape(5, 64), burst)
    opener = Opener(bytearray(burst.view[: burst.used]))
    theirs = inbound_state(replace(ours.sa, direction=Direction.IN))
    places = range(0, burst.used, 96)
    assert opener.open_rows(theirs, places, 96, 0).tobytes() == sealer.scratch[: 5 * 64].tobytes()
    del opener._nonce_views[4:]
    with pytest.raises(RuntimeError):
        opener.open_rows(theirs, places, 96, 0)
    sealer._slots(64).clear()
    with pytest.raises(RuntimeError):
        sealer.seal_rows(ours, sealer.scratch[: 5 * 64].reshape(5, 64), burst)
    assert (burst.count, ours.sequence) == (5, 10)  # nothing is sent, and no number is used again


@given(data=st.binary(min_size=20, max_size=200), esn=st.booleans(), tfc=st.integers(0, 250))
@settings(max_examples=60, deadline=None)
def test_one_packet_is_what_the_golden_model_makes(data: bytes, esn: bool, tfc: int) -> None:
    suite = Suite(Encryption.AES_GCM_16, 128, esn=esn)
    ours = state(suite)
    golden = OutboundSa(ours.sa.spi, transform(20, 0, bytes(range(suite.encryption_key_length)), b""), esn=esn)
    burst = Burst()
    size = seal_one(ours, memoryview(bytearray(data + bytes(SPARE))), len(data), 4, burst, tfc_length=tfc)
    assert bytes(burst.view[:size]) == golden.seal(data, 4, tfc_length=tfc)


@given(
    size=st.sampled_from([64, 100, 1024, 4096]),
    esn=st.booleans(),
    steps=st.lists(st.tuples(st.integers(-200, 300), st.integers(1, 5)), max_size=60),
)
@settings(max_examples=150, deadline=None)
def test_batch_window_is_the_golden_one_rfc4303_3_4_3(size: int, esn: bool, steps: list[tuple[int, int]]) -> None:
    golden, ours = ReplayWindow(size, esn=esn), BatchWindow(size, esn=esn)
    at = 0xFFFF_FF00 if esn else 500
    golden.update(at)
    ours.update(at)
    for step, run in steps:
        sequence = max(at + step, 1)
        if sequence > ours.highest and run > 1:
            numbers = list(range(sequence, sequence + run))
            for number in numbers:
                golden.check(number)
                golden.update(number)
            ours.update_rising(numbers)
            at = numbers[-1]
        else:
            try:
                whole = golden.infer(sequence & 0xFFFF_FFFF)
                golden.check(whole)
            except Drop:
                inferred = ours.infer(sequence & 0xFFFF_FFFF)
                assert inferred < 0 or not ours.fresh(inferred)
                continue
            assert ours.infer(sequence & 0xFFFF_FFFF) == whole and ours.fresh(whole)
            golden.update(whole)
            ours.update(whole)
            at = max(at, whole)
        known = (1 << min(size, ours.highest)) - 1
        assert (ours.highest, ours.bitmap & known) == (golden.highest, golden.export()[1])


def glued(parts: list[bytes], protocol: int, monkeypatch: pytest.MonkeyPatch) -> list[tuple[bytes, bytes]]:
    """What the coalescer writes for packets that come one by one: (virtio header, packet)."""
    from appliance.datapath.soft import coalesce

    written: list[tuple[bytes, bytes]] = []

    monkeypatch.setattr(coalesce.os, "writev", lambda fd, parts: written.append((bytes(parts[0]), bytes(parts[1]))))
    core = Core(SoftOptions(), Tun(-1, "none", tso=True, uso=True), lambda event: None, lambda datagram: None)
    coalescer = Coalescer(core)
    for part in parts:
        upper = 20 if part[0] >> 4 == 4 else 40
        if not coalescer.packet(part, upper, protocol):
            coalescer.flush()
            written.append((bytes(10), part))
    coalescer.flush()
    return written


def cut(header: bytes, whole: bytes) -> list[bytes]:
    """What the kernel makes of a write to the TUN device."""
    flags, kind, length, size, upper, offset = VNET_HEADER.unpack(header)
    if not flags:
        return [whole]
    if not kind:
        finished = bytearray(whole)
        assert finish_checksum(finished, upper, offset)
        return [bytes(finished)]
    protocol = 17 if kind == GSO_UDP_L4 else 6
    packet = Super(memoryview(whole), whole[0] >> 4, protocol, upper, length, size)
    again = []
    for index in range(packet.count):
        part = min(size, packet.payload - index * size)
        row = build_rows(np.empty(ROOM, np.uint8), packet, index, 1, part, alignment=4, next_header=0)
        again.append(row[0, : length + part].tobytes())
    return again


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("protocol", [6, 17])
def test_what_is_glued_is_cut_into_the_same_again(version: int, protocol: int, monkeypatch: pytest.MonkeyPatch) -> None:
    payload = random.Random(1).randbytes(1348 * 9 + 77)
    parts = segments(version, protocol, payload, 1348, 0xFFFF_FF00, 0x18)
    written = glued(parts, protocol, monkeypatch)
    assert len(written) == 1
    assert cut(*written[0]) == parts


def test_damaged_reordered_and_other_flows_are_not_glued(monkeypatch: pytest.MonkeyPatch) -> None:
    payload = bytes(400)
    parts = segments(4, 6, payload, 100, 1000, 0x10)
    assert len(glued(parts, 6, monkeypatch)) == 1
    damaged = bytearray(parts[2])
    damaged[-1] ^= 1
    written = glued([*parts[:2], bytes(damaged), parts[3]], 6, monkeypatch)
    assert len(written) == 3 and written[1] == (bytes(10), bytes(damaged))
    assert len(glued([parts[0], parts[2], parts[1], parts[3]], 6, monkeypatch)) == 4
    pushed = packet(4, 6, payload[:100], sequence=1000, flags=0x18, number=65530)
    assert len(glued([pushed, *parts[1:]], 6, monkeypatch)) == 2
    syn = packet(4, 6, payload[:100], sequence=900, flags=0x12)
    assert glued([syn], 6, monkeypatch)[0][1] == syn


@pytest.mark.parametrize("protocol", [6, 17])
def test_of_a_super_packet_only_the_last_one_is_shorter(protocol: int) -> None:
    """Several shorter ones behind a longer one, in one batch: each stays what it was."""
    core = quiet()
    written: list[tuple[bytes, bytes]] = []
    sizes = [900, 700, 700, 700, 700]
    parts = [packet(4, protocol, bytes([n]) * size, sequence=sum(sizes[:n])) for n, size in enumerate(sizes)]
    with pytest.MonkeyPatch.context() as patch:
        from appliance.datapath.soft import coalesce

        patch.setattr(coalesce.os, "writev", lambda fd, parts: written.append((bytes(parts[0]), bytes(parts[1]))))
        coalescer = Coalescer(core)
        assert coalescer.packet(parts[0], 20, protocol)
        rows = np.frombuffer(b"".join(part + b"\1\2\2\4" for part in parts[1:]), np.uint8).reshape(4, -1)
        assert coalescer.rows(rows, rows[0].tobytes(), len(parts[1]), 20, protocol) == 4
        coalescer.flush()
    os.close(core.tun.fd)
    assert [meant(piece) for write in written for piece in cut(*write)] == [meant(part) for part in parts]


KINDS = (
    "next",
    "next",
    "next",
    "push",
    "fin",
    "jump",
    "port",
    "damaged",
    "syn",
    "urgent",
    "congested",
    "identification",
)


@given(
    kinds=st.lists(st.sampled_from(KINDS), min_size=4, max_size=50),
    version=st.sampled_from([4, 6]),
    protocol=st.sampled_from([6, 17]),
    df=st.booleans(),
    size=st.sampled_from([1, 2, 3, 48, 701]),
    sequence=st.sampled_from([1000, 0xFFFF_FF00]),
)
@settings(max_examples=150, deadline=None)
def test_a_batch_comes_out_as_its_packets_one_by_one(
    kinds: list[str], version: int, protocol: int, df: bool, size: int, sequence: int
) -> None:
    """Whatever packets of one size follow each other: none is lost, changed or overtaken, and streams are glued."""
    parts = []
    identification = 65530
    source = random.Random(len(kinds))
    for kind in kinds:
        sequence += 99 if kind == "jump" else 0
        identification += 5 if kind == "identification" else 1
        flags = {"push": 0x18, "fin": 0x11, "syn": 0x12, "urgent": 0x30, "congested": 0x50}.get(kind, 0x10)
        part = bytearray(
            packet(version, protocol, source.randbytes(size), sequence=sequence, flags=flags, number=identification)
        )
        if version == 4 and not df:
            part[6] = 0
            part[10:12] = bytes(2)
            part[10:12] = internet_checksum(bytes(part[:20])).to_bytes(2)
        upper = 20 if version == 4 else 40
        if kind == "port":
            # Another flow: port and checksum change by the same.
            part[upper + 1] ^= 1
            field = upper + (16 if protocol == 6 else 6)
            step = -1 if part[upper + 1] & 1 else 1
            value = int.from_bytes(part[field : field + 2]) + step
            if not 1 < value < 65534:
                part[upper + 1] ^= 1
            else:
                part[field : field + 2] = value.to_bytes(2)
        if kind == "damaged":
            part[-1] ^= 0x55
        sequence += size
        parts.append(bytes(part))
    written = through_inbound(parts)
    assert [meant(piece) for write in written for piece in cut(*write)] == [meant(part) for part in parts]
    if set(kinds) == {"next"}:
        assert len(written) == 1


def meant(part: bytes) -> bytes:
    """A packet without what says nothing: the identification of IPv4 packets with DF (RFC 6864 §4.1)."""
    if part[0] >> 4 == 4 and part[6] & 0x40:
        assert internet_checksum(part[:20]) == 0
        return part[:4] + part[6:10] + part[12:]
    return part


@pytest.mark.parametrize(("path_mtu", "mss"), [(1500, 1438 - 40), (1300, 1238 - 40), (9000, 1438 - 40)])
def test_a_syn_that_arrives_is_clamped_to_the_way_back_rfc9293_3_7_1(path_mtu: int, mss: int) -> None:
    """The peer's host learns what fits into the SA that goes the other way, and into the TUN device."""
    back = state(Suite(Encryption.AES_GCM_16, 128))
    back.sa = replace(back.sa, encapsulation=UdpEncapsulation(4500, 4500))
    back.set_path_mtu(path_mtu)
    options = bytes.fromhex("020405b4") + bytes((1,)) * 8  # 1460
    syn = bytearray(packet(4, 6, b"", flags=2))
    syn[40:52] = options
    syn[36:38] = bytes(2)
    upper = bytes(syn[20:])
    syn[36:38] = internet_checksum(pseudo_header(bytes(syn[12:16]), bytes(syn[16:20]), 6, len(upper)) + upper).to_bytes(
        2
    )
    [(_, written)] = through_inbound([bytes(syn)], back)
    assert written[40:44] == b"\2\4" + mss.to_bytes(2)
    assert internet_checksum(pseudo_header(written[12:16], written[16:20], 6, 32) + written[20:]) == 0


def through_inbound(parts: list[bytes], back: OutboundState | None = None) -> list[tuple[bytes, bytes]]:
    """What is written for packets of one size that come in one super-datagram: (virtio header, packet)."""
    from appliance.datapath.soft import coalesce

    written: list[tuple[bytes, bytes]] = []
    core = quiet()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coalesce.os, "writev", lambda fd, parts: written.append((bytes(parts[0]), bytes(parts[1]))))
        suite = Suite(Encryption.AES_GCM_16, 128)
        everything = tuple(TrafficSelector.parse(text) for text in ("0.0.0.0/0", "::/0"))
        sa = replace(state(suite).sa, direction=Direction.IN, local_ts=everything, remote_ts=everything)
        key = bytes(range(suite.encryption_key_length))
        core.sad.add(inbound_state(sa))
        if back is not None:
            core.sad.add(back)
            core.sad.activate(back)
        coalescer = Coalescer(core)
        inbound = Inbound(core, coalescer)
        golden = OutboundSa(sa.spi, transform(20, 0, key, b""), esn=False)
        sealed = [golden.seal(part, 4 if part[0] >> 4 == 4 else 41) for part in parts]
        data = b"".join(sealed)
        inbound._buffer[: len(data)] = data
        inbound.datagrams(len(data), len(sealed[0]), ("192.0.2.1", 4500), 0, bytes(4), 4500)
        coalescer.flush()
    os.close(core.tun.fd)
    assert core.counters["rx_packets"] == len(parts)
    return written


@given(
    runs=st.lists(st.tuples(st.integers(0, 1), st.sampled_from([0, 1, 3]), st.sampled_from([40, 41, 900]),
                            st.integers(1, 9)), min_size=1, max_size=7),
    family=st.sampled_from([socket.AF_INET, socket.AF_INET6]),
)  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_native_packets_of_many_senders_come_out_in_their_order_each_by_its_own_sa_rfc6040_4_2(
    runs: list[tuple[int, int, int, int]], family: int
) -> None:
    """Runs of (SA, outer ECN, size, count) that one system call brought: ECN shows which outer header a packet had."""
    from appliance.datapath.soft import coalesce
    from appliance.datapath.soft import core as core_module

    written: list[tuple[bytes, bytes]] = []
    core = quiet()
    key = bytes(range(20))
    suite = Suite(Encryption.AES_GCM_16, 128)
    goldens = []
    for spi in (0x1001, 0x1002):
        networks = tuple(TrafficSelector.parse(text) for text in ("10.1.0.0/24", "10.2.0.0/24"))
        sa = replace(state(suite).sa, direction=Direction.IN, spi=spi, local_ts=networks, remote_ts=networks)
        core.sad.add(inbound_state(sa, port=0))
        goldens.append(OutboundSa(spi, transform(20, 0, key, b""), esn=False))
    expected, lengths, outers = [], [], []
    coalescer = Coalescer(core)
    inbound = Inbound(core, coalescer)
    sequence = 1
    for number, mark, size, count in runs:
        for _ in range(count):
            part = packet(4, 6, bytes(size), sequence=sequence, number=len(lengths))
            part = with_traffic_class(part, 2)
            sequence += size
            expected.append(with_traffic_class(part, mark or 2))
            sealed = goldens[number].seal(part, 4)
            source = bytes((192, 0, 2, 1 + number))
            header = b""
            if family == socket.AF_INET:
                header = Ipv4Header(
                    source=source, destination=bytes((192, 0, 2, 9)), protocol=50, traffic_class=mark,
                    total_length=20 + len(sealed),
                ).build()  # fmt: skip
            start = len(lengths) * 65728
            inbound._buffer[start : start + len(header) + len(sealed)] = header + sealed
            lengths.append(len(header) + len(sealed))
            outers.append((source.rjust(16, b"\x20"), mark))

    class Arrived:
        def receive(self, sock: object, *, names: bool) -> list[int]:
            assert names == (family == socket.AF_INET6)
            return lengths

        def name(self, index: int) -> bytes:
            return outers[index][0]

        def control(self, index: int) -> bytes:
            return pack_control([(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, outers[index][1].to_bytes(4, "little"))])

    inbound._raw = Arrived()  # type: ignore[assignment]
    with pytest.MonkeyPatch.context() as patch, socket.socket(family, socket.SOCK_DGRAM) as sock:
        take = lambda fd, parts: written.append((bytes(parts[0]), bytes(parts[1])))  # noqa: E731
        patch.setattr(coalesce.os, "writev", take)
        patch.setattr(core_module.os, "writev", take)
        assert not inbound.read_raw(sock, 1)
        coalescer.flush()
    os.close(core.tun.fd)
    assert [meant(piece) for write in written for piece in cut(*write)] == [meant(part) for part in expected]
    assert core.counters["rx_packets"] == len(lengths)
    assert {name for name in core.counters if name.isupper()} == set()


@given(length=st.integers(21, 3000), mtu=st.integers(68, 1500))
@settings(max_examples=60, deadline=None)
def test_fragments_are_whole_again_when_joined_rfc791_3_2(length: int, mtu: int) -> None:
    whole = packet(4, 17, bytes(length))
    pieces = fragment_ipv4(whole, mtu)
    data = bytearray(len(whole) - 20)
    for index, piece in enumerate(pieces):
        header = parse_ip(piece)
        assert isinstance(header, Ipv4Header) and len(piece) <= mtu
        assert header.more_fragments == (index < len(pieces) - 1)
        data[header.fragment_offset * 8 : header.fragment_offset * 8 + len(piece) - 20] = piece[20:]
    assert bytes(data) == whole[20:]


@given(st.binary(max_size=120))
@settings(max_examples=300, deadline=None)
def test_any_bytes_parse_or_are_refused(data: bytes) -> None:
    parse(data)
    parse(b"\x45" + data)
    parse(b"\x60" + data)


def policy(name: str, priority: int, action: PolicyAction, local: str, remote: str) -> SecurityPolicy:
    return SecurityPolicy(
        name=name, action=action, priority=priority,
        local_ts=(TrafficSelector.parse(local),), remote_ts=(TrafficSelector.parse(remote),),
    )  # fmt: skip


def test_policies_are_looked_at_in_their_order_rfc4301_4_4_1() -> None:
    spd = Spd()
    spd.add(policy("wide", 20, PolicyAction.PROTECT, "10.1.0.0/24", "0.0.0.0/0"))
    spd.add(policy("web", 10, PolicyAction.DISCARD, "10.1.0.0/24", "10.2.0.0/24[udp/53]"))
    flow = parse(packet(4, 17, b"query"))
    assert flow is not None
    found = spd.match(flow)
    assert isinstance(found, SecurityPolicy) and found.name == "web"
    later = fragment_ipv4(packet(4, 17, bytes(200)), 100)[1]
    fragment = parse(later)
    assert fragment is not None and spd.match(fragment) is Ambiguous.FRAGMENT
    assert spd.remove("web") and not spd.remove("web")
    found = spd.match(fragment)
    assert isinstance(found, SecurityPolicy) and found.name == "wide"
    assert spd.remove("wide") and spd.match(flow) is None


def test_selectors_match_as_the_shared_ones_do() -> None:
    from appliance.datapath.soft.sad import inside

    source = random.Random(5)
    selectors = [TrafficSelector.parse(text) for text in (
        "10.1.0.0/24", "10.1.0.1[tcp/80]", "10.1.0.0/30[udp/opaque]", "10.1.0.2-10.1.0.5[17/1000-2000]",
    )]  # fmt: skip
    for _ in range(2000):
        selector = source.choice(selectors)
        address = ip_address(f"10.1.0.{source.randint(0, 9)}")
        protocol, port = source.choice((6, 17)), source.choice((None, 80, 1500, 0, 65535))
        assert inside(ranges([selector]), 4, int(address), protocol, port) == selector.matches(address, protocol, port)


def quiet() -> Core:
    """A core whose TUN device takes everything and keeps nothing."""
    return Core(
        SoftOptions(), Tun(os.open(os.devnull, os.O_RDWR), "none", tso=True, uso=True), lambda event: None,
        lambda datagram: None,
    )  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from([4, 41, 6, 59, 0]), st.binary(max_size=120)), max_size=8), st.booleans())
@settings(max_examples=200, deadline=None)
def test_an_authenticated_peer_cannot_break_the_receiver(inner: list[tuple[int, bytes]], tunnel: bool) -> None:
    """Whatever is inside: it is delivered or dropped with a reason, and the next packet is looked at."""
    core = quiet()
    try:
        suite = Suite(Encryption.AES_GCM_16, 128)
        out = state(suite)
        sa = replace(out.sa, direction=Direction.IN, mode=Mode.TUNNEL if tunnel else Mode.TRANSPORT)
        key = bytes(range(suite.encryption_key_length))
        core.sad.add(inbound_state(sa))
        inbound = Inbound(core, Coalescer(core))
        golden = OutboundSa(sa.spi, transform(20, 0, key, b""), esn=False)
        starts = (b"", b"\x45", b"\x60", packet(4, 6, b"", flags=2)[:30], packet(6, 6, b"", flags=2)[:50])
        count = 0
        for next_header, data in inner:
            for start in starts:
                inbound.inject(golden.seal(start + data, next_header), ("192.0.2.1", 4500), bytes(4))
                count += 1
        assert core.counters["rx_packets"] == count
    finally:
        os.close(core.tun.fd)
