"""Outbound and inbound SAs: sequence numbers, IVs, padding, keys, and the order of checks (RFC 4303 §2 and §3)."""

from __future__ import annotations

import copy
import pickle

import pytest

from appliance.esp.drop import Drop
from appliance.esp.hmac_sha2 import HMACS
from appliance.esp.inbound import InboundSa
from appliance.esp.outbound import OutboundSa
from appliance.esp.replay import ReplayWindow
from appliance.esp.trailer import append_trailer
from appliance.esp.transform import transform
from appliance.reasons import Reason, Refusal
from tests.esp.cases import SPI, SUITES, SuiteCase, octets, pair

every_suite = pytest.mark.parametrize("suite", SUITES, ids=[suite.name for suite in SUITES])
BY_NAME = {suite.name: suite for suite in SUITES}
FAST = BY_NAME["gcm128"]


def reason_of(inbound: InboundSa, packet: bytes) -> Reason:
    with pytest.raises(Drop) as drop:
        inbound.open(packet)
    return drop.value.reason


@every_suite
@pytest.mark.parametrize("esn", [False, True])
def test_what_is_sealed_opens_at_every_length_rfc4303_2(suite: SuiteCase, esn: bool) -> None:
    out, inbound = pair(suite, esn=esn)
    for length in (*range(40), 575, 1400, 8900):
        payload = octets("p", length)
        packet = out.seal(payload, 17)
        assert len(packet) == out.sealed_length(length)
        assert (len(packet) - 8 - out.transform.iv_length - out.transform.icv_length) % out.transform.alignment == 0
        assert inbound.open(packet) == (17, payload)


@every_suite
def test_octets_may_come_in_any_buffer(suite: SuiteCase) -> None:
    out, inbound = pair(suite)
    for make in (bytes, bytearray, memoryview):
        packet = out.seal(make(octets("p", 50)), 17)
        assert inbound.open(make(packet)) == (17, octets("p", 50))


@every_suite
def test_largest_payload_fits_and_one_more_does_not(suite: SuiteCase) -> None:
    out, _ = pair(suite)
    for room in range(100, 180):
        length = out.largest_payload(room)
        assert out.sealed_length(length) <= room < out.sealed_length(length + 1)


def test_first_sequence_number_is_one_rfc4303_3_3_3() -> None:
    out, _ = pair(FAST)
    assert out.seal(b"", 17)[4:8] == b"\0\0\0\1"
    assert out.seal(b"", 17)[4:8] == b"\0\0\0\2"


@pytest.mark.parametrize(("esn", "last"), [(False, (1 << 32) - 1), (True, (1 << 64) - 1)])
def test_sequence_numbers_never_wrap_rfc4303_3_3_3(esn: bool, last: int) -> None:
    out, inbound = pair(FAST, esn=esn)
    out.sequence = last - 1
    inbound.window.highest = last - 2
    assert out.remaining == 1
    assert inbound.open(out.seal(b"last", 17)) == (17, b"last")
    for _ in range(3):
        with pytest.raises(Drop) as drop:
            out.seal(b"", 17)
        assert drop.value.reason is Reason.SEQUENCE_EXHAUSTED
    assert out.sequence == last
    assert out.remaining == 0


def test_esn_sends_the_low_half_and_continues_over_2_32_rfc4303_2_2_1() -> None:
    for suite in SUITES:
        out, inbound = pair(suite, esn=True)
        out.sequence = inbound.window.highest = (1 << 32) - 3
        for low in (0xFFFF_FFFE, 0xFFFF_FFFF, 0, 1):
            packet = out.seal(b"over", 17)
            assert packet[4:8] == low.to_bytes(4, "big")
            assert inbound.open(packet) == (17, b"over")
        assert inbound.window.highest == (1 << 32) + 1


@pytest.mark.parametrize("name", ["gcm128", "gcm256", "chacha"])
@pytest.mark.parametrize("esn", [False, True])
def test_iv_of_an_aead_is_the_64_bit_sequence_number_rfc4106_3_1(name: str, esn: bool) -> None:
    out, _ = pair(BY_NAME[name], esn=esn)
    out.sequence = (5 << 32) - 2 if esn else 9
    ivs = [out.seal(b"", 17)[8:16] for _ in range(4)]
    assert ivs == [(((5 << 32) - 1 if esn else 10) + i).to_bytes(8, "big") for i in range(4)]


def test_iv_of_cbc_comes_from_the_random_source_rfc3602_3() -> None:
    given: list[int] = []

    def random(length: int) -> bytes:
        given.append(length)
        return octets("iv", length)

    out = OutboundSa(SPI, BY_NAME["cbc128-SHA2-256-128"].transform(), esn=False, random=random)
    assert out.seal(b"", 17)[8:24] == octets("iv", 16)
    assert given == [16]


def test_a_number_is_spent_even_if_sealing_fails_so_that_no_iv_repeats() -> None:
    out, _ = pair(FAST)
    with pytest.raises(TypeError):
        out.seal(None, 17)  # type: ignore[arg-type]
    assert out.seal(b"", 17)[4:8] == b"\0\0\0\2"


@every_suite
def test_any_flipped_bit_is_refused_and_leaves_the_window_alone_rfc4303_3_4_3(suite: SuiteCase) -> None:
    out, inbound = pair(suite)
    out.sequence = 70  # so that a flipped bit does not make a number left of the window
    packet = out.seal(b"payload", 17)
    before = inbound.window.export()
    for at in range(4, len(packet)):
        broken = bytearray(packet)
        broken[at] ^= 0x80
        assert reason_of(inbound, bytes(broken)) is Reason.INTEGRITY
    assert inbound.window.export() == before
    assert inbound.open(packet) == (17, b"payload")
    assert reason_of(inbound, packet) is Reason.REPLAYED


@every_suite
def test_every_truncation_is_refused_rfc4303_2(suite: SuiteCase) -> None:
    out, inbound = pair(suite)
    packet = out.seal(octets("p", 40), 17)
    for length in range(len(packet)):
        assert reason_of(inbound, packet[:length]) in (Reason.MALFORMED_ESP, Reason.INTEGRITY)
    assert reason_of(inbound, packet + b"\0") is Reason.MALFORMED_ESP
    assert inbound.window.highest == 0


def test_replay_is_checked_before_the_icv_rfc4303_3_4_3() -> None:
    out, inbound = pair(FAST)
    packet = out.seal(b"", 17)
    inbound.open(packet)
    assert reason_of(inbound, packet[:-1] + b"\xff") is Reason.REPLAYED


def test_another_spi_is_not_this_sa_rfc4303_2_1() -> None:
    out, inbound = pair(FAST)
    inbound.spi += 1
    assert reason_of(inbound, out.seal(b"", 17)) is Reason.UNKNOWN_SPI


@every_suite
@pytest.mark.parametrize(
    "plaintext",
    [
        bytes(30) + b"\x1f\x11",  # more padding than there is
        bytes(28) + b"\0\0\x02\x11",  # zeros for 1, 2
        bytes(28) + b"\2\1\x02\x11",
        bytes(28) + b"\1\3\x02\x11",
    ],
)
def test_wrong_padding_is_malformed_but_the_packet_was_authentic_rfc4303_2_4(
    suite: SuiteCase, plaintext: bytes
) -> None:
    _, inbound = pair(suite)
    cipher = suite.transform()
    header = SPI.to_bytes(4, "big") + b"\0\0\0\1"
    packet = cipher.seal(header, b"", bytes(cipher.iv_length), plaintext)
    assert reason_of(inbound, packet) is Reason.MALFORMED_ESP
    assert inbound.window.highest == 1  # the window moves with the ICV, not with what is inside
    assert reason_of(inbound, packet) is Reason.REPLAYED


@every_suite
def test_an_authentic_packet_that_does_not_end_on_its_alignment_is_malformed_rfc4303_2_4(suite: SuiteCase) -> None:
    cipher = suite.transform()
    if cipher.random_iv:
        return  # CBC has whole blocks only
    header = SPI.to_bytes(4, "big") + b"\0\0\0\1"
    for excess in (1, 2, 3):
        _, inbound = pair(suite)
        packet = cipher.seal(header, b"", bytes(cipher.iv_length), bytes(excess) + b"\1\2\2\x11")
        assert reason_of(inbound, packet) is Reason.MALFORMED_ESP


def test_padding_is_the_default_one_and_up_to_255_bytes_are_read_rfc4303_2_4() -> None:
    assert append_trailer(b"", 4, 4) == b"\x01\x02\x02\x04"
    assert append_trailer(b"ab", 41, 4) == b"ab\x00\x29"
    assert append_trailer(b"abc", 4, 16) == b"abc" + bytes(range(1, 12)) + b"\x0b\x04"
    _, inbound = pair(FAST)
    cipher = FAST.transform()
    plaintext = b"abc" + bytes(range(1, 256)) + b"\xff\x04"
    packet = cipher.seal(SPI.to_bytes(4, "big") + b"\0\0\0\1", b"", bytes(8), plaintext)
    assert inbound.open(packet) == (4, b"abc")


@every_suite
def test_dummies_are_made_and_dropped_and_move_the_window_rfc4303_2_6(suite: SuiteCase) -> None:
    out, inbound = pair(suite)
    assert reason_of(inbound, out.dummy(100)) is Reason.DUMMY
    assert inbound.window.highest == 1
    assert len(out.dummy(100)) == len(out.seal(bytes(100), 4))


@every_suite
def test_wiped_keys_are_zero_and_nothing_is_sealed_or_opened_any_more(suite: SuiteCase) -> None:
    encryption, integrity = (bytearray(key) for key in suite.keys)
    out = OutboundSa(SPI, transform(suite.encryption, suite.integrity, encryption, integrity), esn=False)
    _, inbound = pair(suite)
    packet = out.seal(b"before", 17)
    assert inbound.open(packet) == (17, b"before")
    for _ in range(2):
        out.wipe()
        assert not any(encryption)
        assert not any(integrity)
        with pytest.raises(Drop) as drop:
            out.seal(b"after", 17)
        assert drop.value.reason is Reason.NO_SA
    inbound.wipe()
    inbound.window = ReplayWindow(64, esn=False)
    assert reason_of(inbound, packet) is Reason.NO_SA


@every_suite
def test_keys_are_never_shown(suite: SuiteCase) -> None:
    out, inbound = pair(suite)
    for key in suite.keys:
        for thing in (out, inbound, out.transform):
            for shown in (repr(thing), str(thing)):
                assert not key or key.hex() not in shown
                assert not key or repr(bytes(key)) not in shown


def test_sequence_numbers_may_be_skipped_but_never_taken_again_rfc4106_3_1() -> None:
    out, _ = pair(FAST)
    out.sequence = 100
    for wrong in (99, 0, -1, 1 << 32):
        with pytest.raises(ValueError):
            out.sequence = wrong
    assert out.seal(b"", 17)[4:8] == b"\0\0\0\x65"


def test_outbound_sas_are_not_copied() -> None:
    out, _ = pair(FAST)
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            attempt(out)


@pytest.mark.parametrize(
    ("encryption", "integrity", "key", "integrity_key", "reason"),
    [
        (20, 0, 16, 0, Reason.BAD_KEY),  # no salt
        (20, 0, 37, 0, Reason.BAD_KEY),
        (28, 0, 32, 0, Reason.BAD_KEY),
        (12, 12, 20, 32, Reason.BAD_KEY),
        (12, 12, 16, 20, Reason.BAD_KEY),
        (12, 14, 16, 32, Reason.BAD_KEY),
        (11, 12, 1, 32, Reason.BAD_KEY),
        (20, 12, 20, 32, Reason.ALGORITHM_UNSUPPORTED),  # RFC 7296 §3.3
        (11, 0, 0, 0, Reason.ALGORITHM_UNSUPPORTED),  # RFC 4303 §3.2
        (12, 0, 16, 0, Reason.ALGORITHM_UNSUPPORTED),  # RFC 8221 §4
        (3, 12, 24, 32, Reason.ALGORITHM_UNSUPPORTED),
        (12, 2, 16, 20, Reason.ALGORITHM_UNSUPPORTED),
    ],
)
def test_keys_and_pairs_that_do_not_fit_are_refused(
    encryption: int, integrity: int, key: int, integrity_key: int, reason: Reason
) -> None:
    with pytest.raises(Refusal) as refusal:
        transform(encryption, integrity, bytes(key), bytes(integrity_key))
    assert refusal.value.reason is reason


def test_sizes_of_the_algorithms_rfc4106_rfc7634_rfc3602_rfc4868() -> None:
    sizes = {s.name: (t.iv_length, t.icv_length, t.alignment) for s in SUITES for t in (s.transform(),)}
    assert sizes["gcm256"] == sizes["chacha"] == (8, 16, 4)
    assert sizes["cbc256-SHA2-256-128"] == (16, 16, 16)
    assert sizes["cbc128-SHA2-384-192"] == (16, 24, 16)
    assert sizes["null-SHA2-512-256"] == (0, 32, 4)
    assert {number: (spec.key, spec.icv) for number, spec in HMACS.items()} == {
        12: (32, 16),
        13: (48, 24),
        14: (64, 32),
    }
