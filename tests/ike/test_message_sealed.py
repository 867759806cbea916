"""Messages in an SK payload (RFC 7296 §3.14, RFC 5282)."""

from __future__ import annotations

import hmac

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher as RawCipher
from cryptography.hazmat.primitives.ciphers import algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.ike.constants import ExchangeType, PayloadType
from appliance.ike.message import (
    Header,
    IntegrityFailure,
    MalformedMessage,
    encode_message,
    open_message,
    parse_header,
    seal_message,
)
from appliance.ike.payloads import NoncePayload, Payload, VendorIdPayload, encode_payloads, parse_payloads
from appliance.sa.algorithms import Encryption, Integrity
from tests.ike.codec_strategies import CIPHERS, chains, ciphers, headers, make_sealer

AUTH = Header(b"initspi!", b"respspi!", 0, ExchangeType.IKE_AUTH, 1, initiator=True, response=False)
Cipher = tuple[Encryption, int, Integrity]


@settings(deadline=None)
@given(ciphers, headers, chains)
def test_sealed_messages_open_to_what_was_sealed_rfc7296_3_14(
    cipher: Cipher, header: Header, chain: tuple[Payload, ...]
) -> None:
    message = seal_message(header, chain, make_sealer(cipher))
    parsed = parse_header(message)
    assert parsed.next_payload == PayloadType.SK
    first_type, data = open_message(message, parsed, make_sealer(cipher))
    assert parse_payloads(first_type, data) == chain


@settings(deadline=None)
@given(ciphers, st.integers(0, 2000))
def test_padding_is_the_least_that_fills_the_blocks_rfc7296_3_14(cipher: Cipher, size: int) -> None:
    sealer = make_sealer(cipher)
    block = 16 if cipher[0] is Encryption.AES_CBC else 1
    iv = 16 if cipher[0] is Encryption.AES_CBC else 8
    added = sealer.overhead(size)
    assert len(sealer.seal(b"aad", bytes(size))) == size + added
    assert added - iv - 1 - sealer.icv_length < block
    room = size + added
    assert sealer.capacity(room) >= size
    assert sealer.capacity(room - 1) < size or block > 1
    largest = sealer.capacity(room)
    assert largest + sealer.overhead(largest) <= room
    assert largest + 1 + sealer.overhead(largest + 1) > room


@pytest.mark.parametrize("cipher", CIPHERS)
def test_every_flipped_bit_is_an_integrity_failure_rfc7296_3_14(cipher: Cipher) -> None:
    message = seal_message(AUTH, [VendorIdPayload(b"twelve bytes")], make_sealer(cipher))
    opener = make_sealer(cipher)
    for bit in range(len(message) * 8):
        bad = bytearray(message)
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises(MalformedMessage) as caught:
            open_message(bytes(bad), parse_header(bytes(bad)), opener)
        # Outside of the lengths and the type of the outer payload, only the ICV can tell.
        if bit // 8 not in (16, 17, 24, 25, 26, 27, 30, 31):
            assert type(caught.value) is IntegrityFailure or bit // 8 < 8, f"bit {bit}"


@pytest.mark.parametrize("cipher", CIPHERS)
def test_another_key_is_an_integrity_failure_rfc7296_3_14(cipher: Cipher) -> None:
    message = seal_message(AUTH, [VendorIdPayload(b"x")], make_sealer(cipher, seed=1))
    with pytest.raises(IntegrityFailure):
        open_message(message, parse_header(message), make_sealer(cipher, seed=2))


@pytest.mark.parametrize("cipher", CIPHERS)
def test_every_cut_is_malformed_rfc7296_3_14(cipher: Cipher) -> None:
    message = seal_message(AUTH, [VendorIdPayload(b"twelve bytes")], make_sealer(cipher))
    for length in range(len(message)):
        cut = message[:24] + length.to_bytes(4, "big") + message[28:length]
        if length > 32:
            cut = cut[:30] + (length - 28).to_bytes(2, "big") + cut[32:]
        with pytest.raises(MalformedMessage):
            open_message(cut, parse_header(cut), make_sealer(cipher))


def test_payloads_in_the_clear_before_the_encrypted_one_are_refused_rfc7296_3_14() -> None:
    inner = seal_message(AUTH, [], make_sealer(CIPHERS[0]))[28:]
    vendor = bytes([PayloadType.SK, 0, 0, 8]) + b"evil"
    message = encode_message(AUTH, [])[:16] + bytes([PayloadType.VENDOR_ID])
    message += encode_message(AUTH, [])[17:24] + (28 + 8 + len(inner)).to_bytes(4, "big") + vendor + inner
    with pytest.raises(MalformedMessage, match="outside the Encrypted payload"):
        open_message(message, parse_header(message), make_sealer(CIPHERS[0]))


def test_nothing_follows_the_encrypted_payload_rfc7296_3_14() -> None:
    message = seal_message(AUTH, [], make_sealer(CIPHERS[0])) + bytes([0, 0, 0, 4])
    message = message[:24] + len(message).to_bytes(4, "big") + message[28:]
    with pytest.raises(MalformedMessage, match="not the last"):
        open_message(message, parse_header(message), make_sealer(CIPHERS[0]))


@pytest.mark.parametrize("cipher", [CIPHERS[0], CIPHERS[3]])
@pytest.mark.parametrize("padding", [0, 1, 15, 16, 255])
def test_any_padding_is_taken_rfc7296_3_14(cipher: Cipher, padding: int) -> None:
    """A sender may pad more, with any bytes; this seals by hand what it would send."""
    _, chain = encode_payloads([NoncePayload(bytes(16))])
    while cipher[0] is Encryption.AES_CBC and (len(chain) + padding + 1) % 16:
        padding += 1
    if padding > 255:
        padding -= 16
    opened = _open_padded(cipher, chain + b"\xaa" * padding + bytes([padding]))
    assert opened == chain


@pytest.mark.parametrize("cipher", [CIPHERS[0], CIPHERS[3]])
def test_padding_beyond_the_contents_is_malformed_rfc7296_3_14(cipher: Cipher) -> None:
    with pytest.raises(MalformedMessage, match="padding") as caught:
        _open_padded(cipher, bytes(15) + b"\x10")
    assert not isinstance(caught.value, IntegrityFailure)


def _open_padded(cipher: Cipher, padded: bytes) -> bytes:
    """Open contents whose last byte is the pad length, as given."""
    bits = cipher[1]
    key = bytes(range(bits // 8))
    if cipher[0] is Encryption.AES_GCM_16:
        salt, iv = bytes(range(bits // 8, bits // 8 + 4)), b"IVIVIVIV"
        body = iv + AESGCM(key).encrypt(salt + iv, padded, b"aad")
    else:
        iv = b"an iv of a block"
        encryptor = RawCipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
        body = iv + encryptor.update(padded) + encryptor.finalize()
        body += hmac.digest(bytes(32), b"aad" + body, "sha256")[:16]
    return make_sealer(cipher).open(b"aad", body)


def test_what_does_not_fit_the_length_field_is_not_sealed_rfc7296_3_2() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        seal_message(AUTH, [VendorIdPayload(bytes(65000)), VendorIdPayload(bytes(1000))], make_sealer(CIPHERS[0]))


def test_what_just_fits_the_length_field_is_sealed_rfc7296_3_2() -> None:
    room = 0xFFFF - 4 - make_sealer(CIPHERS[0]).overhead(0)
    chain = (VendorIdPayload(bytes(room - 4)),)
    message = seal_message(AUTH, chain, make_sealer(CIPHERS[0]))
    assert message[30:32] == b"\xff\xff"
    with pytest.raises(ValueError, match="does not fit"):
        seal_message(AUTH, (VendorIdPayload(bytes(room - 3)),), make_sealer(CIPHERS[0]))
