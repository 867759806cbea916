"""Fragments of IKE messages (RFC 7383)."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.ike.constants import ExchangeType, PayloadType
from appliance.ike.fragment import Reassembler, fragment_number
from appliance.ike.message import Header, IntegrityFailure, MalformedMessage, parse_header, seal_fragments
from appliance.ike.payloads import CertPayload, Payload, VendorIdPayload, parse_payloads
from appliance.sa.algorithms import Encryption, Integrity
from tests.ike.codec_strategies import CIPHERS, chains, ciphers, make_sealer

AUTH = Header(b"initspi!", b"respspi!", 0, ExchangeType.IKE_AUTH, 1, initiator=True, response=False)
GCM, CBC = CIPHERS[0], CIPHERS[3]
LARGE = (CertPayload(4, bytes(range(256)) * 12), VendorIdPayload(b"end"))
Cipher = tuple[Encryption, int, Integrity]


def fragments(
    size: int = 500, payloads: tuple[Payload, ...] = LARGE, header: Header = AUTH, cipher: Cipher = GCM
) -> list[bytes]:
    return seal_fragments(header, payloads, make_sealer(cipher), size)


def add(reassembler: Reassembler, data: bytes, cipher: Cipher = GCM) -> tuple[int, bytes] | None:
    return reassembler.add(data, parse_header(data), make_sealer(cipher))


@settings(deadline=None)
@given(ciphers, chains, st.integers(120, 1500), st.randoms(use_true_random=False))
def test_fragments_in_any_order_make_the_message_rfc7383_2_6(
    cipher: Cipher, chain: tuple[Payload, ...], size: int, order: Random
) -> None:
    pieces = seal_fragments(AUTH, chain, make_sealer(cipher), size)
    assert all(len(piece) <= size for piece in pieces)
    if len(pieces) == 1:
        assert parse_header(pieces[0]).next_payload == PayloadType.SK
        return
    order.shuffle(pieces)
    reassembler = Reassembler()
    opener = make_sealer(cipher)
    results = [reassembler.add(piece, parse_header(piece), opener) for piece in pieces]
    assert results[:-1] == [None] * (len(pieces) - 1)
    assert results[-1] is not None
    assert parse_payloads(*results[-1]) == chain
    assert reassembler.held == 0


def test_a_message_that_fits_is_not_fragmented_rfc7383_2_5() -> None:
    whole = seal_fragments(AUTH, LARGE, make_sealer(GCM), 65535)
    assert len(whole) == 1
    assert len(seal_fragments(AUTH, LARGE, make_sealer(GCM), len(whole[0]))) == 1
    assert len(seal_fragments(AUTH, LARGE, make_sealer(GCM), len(whole[0]) - 1)) == 2


def test_only_the_first_fragment_tells_the_first_payload_rfc7383_2_5() -> None:
    pieces = fragments()
    assert [piece[28] for piece in pieces] == [PayloadType.CERT] + [0] * (len(pieces) - 1)
    assert [fragment_number(piece, parse_header(piece)) for piece in pieces] == [
        (number, len(pieces)) for number in range(1, len(pieces) + 1)
    ]


def test_all_fragments_but_the_last_are_as_large_as_allowed_rfc7383_2_5_1() -> None:
    assert {len(piece) for piece in fragments()[:-1]} == {500}
    assert all(500 - 16 < len(piece) <= 500 for piece in fragments(cipher=CBC)[:-1])


def test_duplicates_are_ignored_rfc7383_2_6() -> None:
    pieces = fragments()
    reassembler = Reassembler()
    for piece in pieces[:-1]:
        assert add(reassembler, piece) is None
        held = reassembler.held
        assert add(reassembler, piece) is None
        assert reassembler.held == held
    assert add(reassembler, pieces[-1]) is not None


def test_a_forged_fragment_is_not_kept_and_harms_nothing_rfc7383_2_6() -> None:
    pieces = fragments()
    reassembler = Reassembler()
    add(reassembler, pieces[0])
    for at in (28, 29, -1):
        forged = bytearray(pieces[1])
        forged[at] ^= 1
        with pytest.raises(IntegrityFailure):
            add(reassembler, bytes(forged))
    held = reassembler.held
    renumbered = pieces[1][:33] + bytes([3]) + pieces[1][34:]  # the number is authenticated too
    with pytest.raises(IntegrityFailure):
        add(reassembler, renumbered)
    assert reassembler.held == held
    results = [add(reassembler, piece) for piece in pieces[1:]]
    assert results[-1] is not None
    assert parse_payloads(*results[-1]) == LARGE


def test_a_greater_total_starts_anew_once_authentic_rfc7383_2_6() -> None:
    large, small = fragments(1000), fragments(500)
    reassembler = Reassembler()
    for piece in large[:-1]:
        add(reassembler, piece)
    forged = small[0][:-1] + bytes([small[0][-1] ^ 1])
    held = reassembler.held
    with pytest.raises(IntegrityFailure):
        add(reassembler, forged)
    assert reassembler.held == held
    for piece in small[:-1]:
        assert add(reassembler, piece) is None
    assert add(reassembler, large[-1]) is None, "a smaller total is discarded"
    whole = add(reassembler, small[-1])
    assert whole is not None
    assert parse_payloads(*whole) == LARGE


def test_a_smaller_total_is_discarded_rfc7383_2_6() -> None:
    large, small = fragments(1000), fragments(500)
    reassembler = Reassembler()
    add(reassembler, small[0])
    held = reassembler.held
    for piece in large:
        assert add(reassembler, piece) is None
    assert reassembler.held == held


@pytest.mark.parametrize(
    "other",
    [replace(AUTH, message_id=2), replace(AUTH, exchange=ExchangeType.INFORMATIONAL), replace(AUTH, response=True)],
)
def test_fragments_of_different_messages_do_not_mix_rfc7383_2_6(other: Header) -> None:
    mine, theirs = fragments(), fragments(header=other)
    reassembler = Reassembler()
    add(reassembler, mine[0])
    for piece in theirs[1:]:
        assert add(reassembler, piece) is None
    whole = add(reassembler, theirs[0])
    assert whole is not None
    assert parse_payloads(*whole) == LARGE


def test_the_number_of_fragments_is_bounded() -> None:
    pieces = fragments(100)
    assert len(pieces) > 64
    with pytest.raises(MalformedMessage, match="at most 64"):
        add(Reassembler(), pieces[0])


def test_as_many_fragments_and_bytes_as_the_bounds_say_are_taken() -> None:
    pieces = fragments()
    size = len(CertPayload(4, bytes(3072)).encode()) + len(b"end") + 2 * 4
    reassembler = Reassembler(max_fragments=len(pieces), max_bytes=size)
    results = [add(reassembler, piece) for piece in pieces]
    assert results[-1] is not None
    assert len(results[-1][1]) == size
    with pytest.raises(MalformedMessage, match="at most"):
        add(Reassembler(max_fragments=len(pieces) - 1), pieces[0])


def test_the_smallest_datagram_with_room_carries_a_byte_each() -> None:
    least = 28 + 4 + 4 + make_sealer(GCM).overhead(1) + 1
    pieces = fragments(least, (VendorIdPayload(b"tiny"),))
    assert {len(piece) for piece in pieces} == {least}
    with pytest.raises(ValueError, match="no room"):
        fragments(least - 1, (VendorIdPayload(b"tiny"),))


def test_the_bytes_held_are_bounded() -> None:
    pieces = fragments()
    reassembler = Reassembler(max_bytes=1000)
    with pytest.raises(MalformedMessage, match="more than 1000 bytes"):
        for piece in pieces:
            add(reassembler, piece)
    assert reassembler.held == 0


@pytest.mark.parametrize(("number", "total"), [(0, 1), (1, 0), (0, 0), (3, 2), (65535, 2)])
def test_impossible_numbers_are_malformed_rfc7383_2_5(number: int, total: int) -> None:
    piece = fragments()[0]
    bad = piece[:32] + number.to_bytes(2, "big") + total.to_bytes(2, "big") + piece[36:]
    with pytest.raises(MalformedMessage, match=f"fragment {number} of {total}"):
        add(Reassembler(), bad)


def test_every_cut_of_a_fragment_is_malformed_rfc7383_2_5() -> None:
    piece = fragments()[0]
    for length in range(28, 90):
        cut = piece[:24] + length.to_bytes(4, "big") + piece[28:length]
        if length > 32:
            cut = cut[:30] + (length - 28).to_bytes(2, "big") + cut[32:]
        with pytest.raises(MalformedMessage):
            add(Reassembler(), cut)


def test_other_payloads_are_not_fragments_rfc7383_2_5() -> None:
    whole = seal_fragments(AUTH, LARGE, make_sealer(GCM), 65535)[0]
    with pytest.raises(MalformedMessage, match="not an Encrypted Fragment"):
        add(Reassembler(), whole)
    longer = fragments()[0] + b"\0\0\0\4"
    longer = longer[:24] + len(longer).to_bytes(4, "big") + longer[28:]
    with pytest.raises(MalformedMessage, match="not the last"):
        add(Reassembler(), longer)


def test_every_fragment_has_its_own_iv_rfc7383_2_5() -> None:
    pieces = fragments(200)
    assert len({piece[36:44] for piece in pieces}) == len(pieces)


@pytest.mark.parametrize("size", [0, 36, 60])
def test_datagrams_without_room_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match="no room"):
        fragments(size)


def test_the_first_fragment_is_remembered_only_if_authentic_rfc7383_2_6_1() -> None:
    """Retransmissions are known by it, so a forged one must not take its place, not even as a duplicate."""
    pieces = fragments()
    forged = pieces[0][:-1] + bytes([pieces[0][-1] ^ 1])
    reassembler = Reassembler()
    assert reassembler.first_fragment == b""
    with pytest.raises(IntegrityFailure):
        add(reassembler, forged)
    assert reassembler.first_fragment == b""
    for piece in (pieces[0], forged, *pieces[1:]):
        add(reassembler, piece)
    assert reassembler.held == 0
    assert reassembler.first_fragment == pieces[0]
