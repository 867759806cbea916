"""Fragments that become whole again before ESP takes them (RFC 4303 §3.3.4)."""

from __future__ import annotations

import random
from dataclasses import replace
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.datapath.soft.packet import fragment_ipv4, parse
from appliance.datapath.soft.reassembly import LIFETIME, MOST, Reassembler
from appliance.esp.checksum import internet_checksum
from appliance.esp.drop import Drop
from appliance.esp.ip import Ipv4Header, Ipv6Header
from appliance.reasons import Reason


def whole_ipv4(payload: bytes, identification: int = 7) -> bytes:
    header = Ipv4Header(
        source=ip_address("192.0.2.1").packed, destination=ip_address("192.0.2.2").packed, protocol=17,
        total_length=20 + len(payload), identification=identification, dont_fragment=False,
    )  # fmt: skip
    return header.build() + payload


def whole_ipv6(payload: bytes) -> bytes:
    header = Ipv6Header(
        source=ip_address("2001:db8::1").packed, destination=ip_address("2001:db8::2").packed, protocol=17,
        total_length=40 + len(payload),
    )  # fmt: skip
    return header.build() + payload


def fragment_ipv6(whole: bytes, room: int) -> list[bytes]:
    """RFC 8200 §4.5."""
    pieces, payload = [], whole[40:]
    for at in range(0, len(payload), room):
        part = payload[at : at + room]
        more = at + len(part) < len(payload)
        head = bytearray(whole[:40])
        head[4:6] = (8 + len(part)).to_bytes(2)
        head[6] = 44
        pieces.append(bytes(head) + bytes((whole[6], 0)) + (at | more).to_bytes(2) + (99).to_bytes(4) + part)
    return pieces


def add(reassembler: Reassembler, piece: bytes, now: float = 0.0) -> bytes | None:
    flow = parse(piece)
    assert flow is not None and flow.fragment is not None
    return reassembler.add(bytes(piece), flow, now)


@given(length=st.integers(1, 9000), mtu=st.integers(68, 1500), seed=st.integers(0, 99), version=st.sampled_from([4, 6]))
@settings(max_examples=80, deadline=None)
def test_fragments_in_any_order_and_twice_make_the_packet_again(length: int, mtu: int, seed: int, version: int) -> None:
    source = random.Random(seed)
    payload = source.randbytes(length)
    whole = whole_ipv4(payload) if version == 4 else whole_ipv6(payload)
    pieces = fragment_ipv4(whole, mtu) if version == 4 else fragment_ipv6(whole, mtu & ~7)
    if len(pieces) == 1:
        return
    source.shuffle(pieces)
    pieces.insert(0, pieces[source.randrange(len(pieces) - 1)])
    reassembler = Reassembler()
    found = [add(reassembler, piece) for piece in pieces]
    assert found == [None] * (len(pieces) - 1) + [whole]
    assert version == 6 or internet_checksum(found[-1][:20]) == 0  # type: ignore[index]
    assert reassembler.expire(1e9) == 0


def test_fragments_that_overlap_or_contradict_are_dropped_with_their_datagram_rfc5722_4() -> None:
    whole = whole_ipv4(bytes(range(200)) * 4)
    first, second, third = fragment_ipv4(whole, 300)
    overlapping = bytearray(fragment_ipv4(whole, 200)[1])
    changed = bytearray(first)
    changed[-1] ^= 1
    short_last = bytearray(second)
    short_last[6] &= 0x1F  # says that nothing follows, but the third one is there
    for before, bad in (
        ([first], overlapping),
        ([first], changed),
        ([first, third], short_last),
        ([third], third + b"x"),
    ):
        reassembler = Reassembler()
        for piece in before:
            assert add(reassembler, bytes(piece)) is None
        if bad[2:4] != len(bad).to_bytes(2):
            bad[2:4] = len(bad).to_bytes(2)
        with pytest.raises(Drop) as drop:
            add(reassembler, bytes(bad))
        assert drop.value.reason is Reason.ESP_FRAGMENT
        assert reassembler.expire(1e9) == 0
    uneven = bytearray(first[:-3])
    uneven[2:4] = len(uneven).to_bytes(2)
    with pytest.raises(Drop):
        add(Reassembler(), bytes(uneven))


def test_what_is_longer_than_a_packet_may_be_is_dropped() -> None:
    reassembler = Reassembler()
    piece = bytearray(fragment_ipv4(whole_ipv4(bytes(3000)), 1500)[0])
    piece[6:8] = (0x2000 | 65528 >> 3).to_bytes(2)
    with pytest.raises(Drop):
        add(reassembler, bytes(piece))


def test_incomplete_datagrams_are_bounded_in_number_and_time() -> None:
    reassembler = Reassembler()
    firsts = [fragment_ipv4(whole_ipv4(bytes(1000), number), 600) for number in range(MOST + 1)]
    for index, (first, _) in enumerate(firsts):
        assert add(reassembler, bytes(first), now=index / 100) is None
    assert add(reassembler, bytes(firsts[0][1])) is None  # the oldest gave way
    assert add(reassembler, bytes(firsts[-1][1])) == whole_ipv4(bytes(1000), MOST)
    assert reassembler.expire(LIFETIME) == 0
    assert reassembler.expire(LIFETIME + 0.001) == 1  # what the oldest's second fragment began
    assert reassembler.expire(LIFETIME + 1) == MOST - 2


def test_extension_headers_before_the_fragment_header_are_not_understood() -> None:
    piece = fragment_ipv6(whole_ipv6(bytes(400)), 200)[0]
    flow = parse(piece)
    assert flow is not None
    with pytest.raises(Drop):
        Reassembler().add(piece, replace(flow, header=56), 0.0)
