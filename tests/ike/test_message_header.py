"""The IKE header (RFC 7296 §3.1) and messages in the clear."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings

from appliance.ike.constants import ExchangeType, PayloadType
from appliance.ike.message import Header, InvalidMajorVersion, MalformedMessage, encode_message, parse_header
from appliance.ike.payloads import NoncePayload, Payload, parse_payloads
from tests.ike.codec_strategies import chains, headers

INIT = Header(b"initspi!", bytes(8), 0, ExchangeType.IKE_SA_INIT, 0, initiator=True, response=False)


def test_the_header_looks_as_drawn_rfc7296_3_1() -> None:
    message = encode_message(INIT, [NoncePayload(bytes(16))])
    assert (
        message.hex() == (b"initspi!".hex() + "00" * 8 + "28202208" + "00000000" + "00000030") + "00000014" + "00" * 16
    )


@settings(deadline=None)
@given(headers, chains)
def test_messages_survive_a_round_trip_rfc7296_3_1(header: Header, chain: tuple[Payload, ...]) -> None:
    message = encode_message(header, chain)
    parsed = parse_header(message)
    assert parsed == replace(header, next_payload=parsed.next_payload, length=len(message))
    assert parse_payloads(parsed.next_payload, message[28:]) == chain


@pytest.mark.parametrize(("flags", "initiator", "response", "higher"), [
    (0x08, True, False, False),
    (0x20, False, True, False),
    (0x10, False, False, True),
    (0xC7, False, False, False),
])  # fmt: skip
def test_flags_are_read_and_reserved_ones_ignored_rfc7296_3_1(
    flags: int, initiator: bool, response: bool, higher: bool
) -> None:
    data = bytearray(encode_message(INIT, []))
    data[19] = flags
    header = parse_header(bytes(data))
    assert (header.initiator, header.response, header.higher_version) == (initiator, response, higher)


def test_a_higher_major_version_is_told_apart_rfc7296_2_5() -> None:
    data = bytearray(encode_message(INIT, []))
    data[17] = 0x30
    with pytest.raises(InvalidMajorVersion) as caught:
        parse_header(bytes(data) + b"whatever version 3 has here")
    assert caught.value.header.initiator_spi == b"initspi!"
    assert caught.value.header.major == 3


def test_a_higher_minor_version_is_taken_rfc7296_2_5() -> None:
    data = bytearray(encode_message(INIT, []))
    data[17] = 0x2F
    assert parse_header(bytes(data)).minor == 15


def test_ikev1_is_not_ours_rfc7296_2_5() -> None:
    data = bytearray(encode_message(INIT, []))
    data[17] = 0x10
    with pytest.raises(MalformedMessage, match="not IKEv2") as caught:
        parse_header(bytes(data))
    assert not isinstance(caught.value, InvalidMajorVersion)


@pytest.mark.parametrize("length", [0, 1, 27])
def test_less_than_a_header_is_malformed_rfc7296_3_1(length: int) -> None:
    with pytest.raises(MalformedMessage, match="a header has 28"):
        parse_header(bytes(length))


@pytest.mark.parametrize("said", [0, 27, 29, 0xFFFFFFFF])
def test_a_length_other_than_the_datagrams_is_malformed_rfc7296_3_1(said: int) -> None:
    data = encode_message(INIT, [])
    with pytest.raises(MalformedMessage, match="says"):
        parse_header(data[:24] + said.to_bytes(4, "big"))


def test_an_initiator_spi_of_zero_is_malformed_rfc7296_3_1() -> None:
    with pytest.raises(MalformedMessage, match="SPI is zero"):
        parse_header(encode_message(replace(INIT, initiator_spi=bytes(8)), []))


def test_a_message_without_payloads_has_next_payload_none_rfc7296_3_2() -> None:
    assert parse_header(encode_message(INIT, [])).next_payload == PayloadType.NONE
