"""Payloads: every one survives encoding and parsing, and looks on the wire as RFC 7296 §3 draws it."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.ike.constants import CertEncoding, ExchangeType, IdType, NotifyType, PayloadType, name
from appliance.ike.payloads import (
    CertReqPayload,
    DeletePayload,
    IdPayload,
    KePayload,
    MalformedMessage,
    NoncePayload,
    NotifyPayload,
    Payload,
    SaPayload,
    TsPayload,
    UnknownPayload,
    UnsupportedCritical,
    VendorIdPayload,
    WireProposal,
    WireTransform,
    all_of,
    encode_payloads,
    first,
    notify,
    parse_payloads,
)
from appliance.sa.selector import TrafficSelector
from tests.ike.codec_strategies import chains, known_payloads


@settings(deadline=None)
@given(known_payloads)
def test_every_known_payload_survives_a_round_trip(payload: Payload) -> None:
    first_type, data = encode_payloads([payload])
    assert first_type == payload.payload_type
    assert parse_payloads(first_type, data) == (payload,)


@settings(deadline=None)
@given(chains)
def test_chains_survive_a_round_trip_rfc7296_3_2(chain: tuple[Payload, ...]) -> None:
    first_type, data = encode_payloads(chain)
    parsed = parse_payloads(first_type, data)
    assert parsed == chain
    assert encode_payloads(parsed) == (first_type, data)


def test_the_empty_chain_is_no_next_payload_rfc7296_3_2() -> None:
    assert encode_payloads([]) == (0, b"")
    assert parse_payloads(0, b"") == ()


def test_sa_payload_looks_as_drawn_rfc7296_3_3() -> None:
    sa = SaPayload(
        (
            WireProposal(1, 3, b"\x01\x02\x03\x04", (WireTransform(1, 20, 256), WireTransform(5, 0))),
            WireProposal(2, 3, b"\x01\x02\x03\x04", (WireTransform(1, 28),)),
        )
    )
    assert sa.encode().hex(" ", 4) == bytes.fromhex(
        "02000020 01030402 01020304 0300000c 01000014 800e0100 00000008 05000000"
        "00000014 02030401 01020304 00000008 0100001c"
    ).hex(" ", 4)
    assert SaPayload.parse(sa.encode()) == sa


def test_a_single_proposal_may_have_any_number_since_answers_keep_the_offers_rfc7296_3_3_1() -> None:
    answer = SaPayload((WireProposal(4, 1, b"", (WireTransform(1, 20, 256),)),))
    assert SaPayload.parse(answer.encode()) == answer


@pytest.mark.parametrize(
    ("attributes", "key_bits", "unknown"),
    [
        ("", None, False),
        ("800e0080", 128, False),
        ("80110001", None, True),
        ("00110003aabbcc", None, True),
        ("00110000", None, True),
        ("800e008080110001", 128, True),
        ("800e0080800e0100", 256, True),  # which of two key lengths is meant, nobody can tell
    ],
)
def test_transforms_with_unknown_attributes_are_marked_rfc7296_3_3_6(
    attributes: str, key_bits: int | None, unknown: bool
) -> None:
    attribute = bytes.fromhex(attributes)
    transform = b"\0\0" + (8 + len(attribute)).to_bytes(2, "big") + bytes.fromhex("0100000c") + attribute
    body = b"\0\0" + (8 + len(transform)).to_bytes(2, "big") + bytes.fromhex("01010001") + transform
    assert SaPayload.parse(body).proposals[0].transforms == (WireTransform(1, 12, key_bits, unknown),)


def test_notify_and_delete_look_as_drawn_rfc7296_3_10_3_11() -> None:
    rekey = NotifyPayload(NotifyType.REKEY_SA, b"", 3, b"\xde\xad\xbe\xef")
    assert rekey.encode().hex() == "03044009deadbeef"
    assert DeletePayload(3, (b"\0\0\1\0", b"\0\0\1\1")).encode().hex() == "030400020000010000000101"
    assert DeletePayload(1).encode().hex() == "01000000"


def test_a_delete_without_spis_of_esp_keeps_their_size_rfc7296_3_11() -> None:
    assert DeletePayload(3).encode().hex() == "03040000"
    assert DeletePayload.parse(bytes.fromhex("03040000")) == DeletePayload(3)


def test_spis_of_different_lengths_cannot_be_deleted_together_rfc7296_3_11() -> None:
    with pytest.raises(ValueError, match="one length"):
        DeletePayload(3, (b"1234", b"12345")).encode()


def test_traffic_selectors_look_as_drawn_rfc7296_3_13_1() -> None:
    ts = TsPayload(True, (TrafficSelector.parse("10.1.0.0/24[tcp/80]"), TrafficSelector.parse("fd01::/64")))
    assert ts.encode().hex() == (
        "02000000" + "07060010005000500a0100000a0100ff" + "080000280000ffff"
        "fd010000000000000000000000000000fd01000000000000ffffffffffffffff"
    )


def test_opaque_ports_survive_rfc7296_3_13_1() -> None:
    opaque = TrafficSelector(IPv4Address("192.0.2.1"), IPv4Address("192.0.2.9"), 17, 65535, 0)
    assert TsPayload.parse(TsPayload(False, (opaque,)).encode(), False).selectors == (opaque,)


def test_unknown_selector_types_are_skipped_and_counted_rfc7296_3_13_1() -> None:
    known = TsPayload(True, (TrafficSelector.parse("10.0.0.0/8"),)).encode()[4:]
    label = bytes.fromhex("0a000008") + b"blah"
    parsed = TsPayload.parse(b"\3\0\0\0" + label + known + label, True)
    assert parsed == TsPayload(True, (TrafficSelector.parse("10.0.0.0/8"),), unknown=2)


def test_reserved_fields_are_ignored_rfc7296_3() -> None:
    chain = bytes.fromhex("00 7f 0018") + bytes(20)  # reserved bits of the generic header
    assert parse_payloads(PayloadType.NONCE, chain) == (NoncePayload(bytes(20)),)
    assert KePayload.parse(bytes.fromhex("0014ffff") + b"x") == KePayload(20, b"x")
    ts = bytearray(TsPayload(True, (TrafficSelector.parse("10.0.0.0/8"),)).encode())
    ts[1:4] = b"abc"
    assert TsPayload.parse(bytes(ts), True).selectors == (TrafficSelector.parse("10.0.0.0/8"),)
    sa = bytearray(SaPayload((WireProposal(1, 1, b"", (WireTransform(2, 5),)),)).encode())
    sa[1] = sa[9] = sa[13] = 0xFF
    assert SaPayload.parse(bytes(sa)) == SaPayload((WireProposal(1, 1, b"", (WireTransform(2, 5),)),))


def test_the_body_of_an_identity_keeps_reserved_bytes_for_auth_rfc7296_2_15() -> None:
    received = bytes([IdType.FQDN]) + b"\1\2\3" + b"gw.example"
    parsed = IdPayload.parse(received, initiator=False)
    assert parsed.body == received
    assert IdPayload(True, IdType.FQDN, b"gw.example").body == b"\2\0\0\0gw.example"


def test_unknown_payloads_are_skipped_rfc7296_2_5() -> None:
    _, data = encode_payloads([UnknownPayload(200, b"what"), VendorIdPayload(b"who")])
    assert parse_payloads(200, data) == (UnknownPayload(200, b"what"), VendorIdPayload(b"who"))


def test_unknown_critical_payloads_are_refused_with_their_type_rfc7296_2_5() -> None:
    _, data = encode_payloads([VendorIdPayload(b"who"), UnknownPayload(200, b"what", critical=True)])
    with pytest.raises(UnsupportedCritical) as caught:
        parse_payloads(PayloadType.VENDOR_ID, data)
    assert caught.value.payload_type == 200


@pytest.mark.parametrize("payload_type", [PayloadType.GSPM, PayloadType.IDG, PayloadType.PS])
def test_registered_types_without_an_implementation_are_unknown_rfc7296_2_5(payload_type: int) -> None:
    with pytest.raises(UnsupportedCritical):
        parse_payloads(payload_type, b"\0\x80\0\4")


def test_the_critical_bit_of_known_payloads_changes_nothing_rfc7296_2_5() -> None:
    assert parse_payloads(PayloadType.VENDOR_ID, b"\0\x80\0\5x") == (VendorIdPayload(b"x", critical=True),)


def test_lookups_find_by_class_and_by_type() -> None:
    chain = (
        NotifyPayload(NotifyType.COOKIE, b"c"),
        NoncePayload(bytes(16)),
        NotifyPayload(NotifyType.COOKIE, b"d"),
        TsPayload(True, ()),
        TsPayload(False, ()),
    )
    assert first(chain, NoncePayload) == NoncePayload(bytes(16))
    assert first(chain, KePayload) is None
    assert all_of(chain, TsPayload) == chain[3:]
    cookie = notify(chain, NotifyType.COOKIE)
    assert cookie is not None
    assert cookie.data == b"c"
    assert notify(chain, NotifyType.REKEY_SA) is None


def test_certificate_requests_split_into_key_hashes_rfc7296_3_7() -> None:
    hashes = (b"a" * 20, b"b" * 20)
    assert CertReqPayload(CertEncoding.X509_SIGNATURE, b"".join(hashes)).key_hashes == hashes
    assert CertReqPayload(CertEncoding.X509_SIGNATURE, b"c" * 21).key_hashes == ()
    assert CertReqPayload(CertEncoding.CRL, b"d" * 20).key_hashes == ()


def test_numbers_have_names_or_say_what_they_are() -> None:
    assert name(NotifyType, 14) == "NO_PROPOSAL_CHOSEN"
    assert name(NotifyType, 16500) == "NotifyType 16500"
    assert name(ExchangeType, 35) == "IKE_AUTH"
    assert NotifyType.TS_UNACCEPTABLE.is_error
    assert not NotifyType.INITIAL_CONTACT.is_error


@pytest.mark.parametrize(
    "payload",
    [VendorIdPayload(bytes(65531)), TsPayload(True, (TrafficSelector.parse("10.0.0.0/8"),) * 255)],
)
def test_what_just_fits_the_format_is_encoded(payload: Payload) -> None:
    assert parse_payloads(*encode_payloads([payload])) == (payload,)


@pytest.mark.parametrize(
    "payload",
    [VendorIdPayload(bytes(65532)), TsPayload(True, (TrafficSelector.parse("10.0.0.0/8"),) * 256)],
)
def test_what_the_format_cannot_hold_is_not_encoded(payload: Payload) -> None:
    with pytest.raises(ValueError, match=r"fit|at most"):
        encode_payloads([payload])


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_errors_never_quote_contents(data: bytes) -> None:
    """Details go to logs, so they hold numbers and the rule only."""
    secret = b"SECRETSECRETSECRET" + data
    try:
        parse_payloads(PayloadType.AUTH, secret)
    except MalformedMessage as error:
        assert "SECRET" not in error.detail
        assert "RFC" in error.detail or "more than" in error.detail
