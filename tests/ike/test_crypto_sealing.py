"""Sealers: known answers, IVs that never repeat, keys that go away (RFC 5282, RFC 7634, RFC 7296 §3.14)."""

from __future__ import annotations

import copy
import hmac
import os
import pickle

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher as RawCipher
from cryptography.hazmat.primitives.ciphers import algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from appliance.ike.errors import MalformedMessage
from appliance.ike.sealing import Sealer, SealerExhausted
from appliance.sa.algorithms import Encryption, Integrity
from tests.ike.codec_strategies import CIPHERS, make_sealer


def test_chacha20_poly1305_opens_the_message_of_rfc7634_appendix_b() -> None:
    key = bytes(range(0x80, 0xA0)) + bytes.fromhex("a0a1a2a3")
    sealer = Sealer(Encryption.CHACHA20_POLY1305, 256, Integrity.NONE, key, b"", os.urandom)
    aad = bytes.fromhex("c0c1c2c3c4c5c6c7d0d1d2d3d4d5d6d72e202500000000090000004529000029")
    body = bytes.fromhex("1011121314151617610394701f8d017f7c129248896b71bfe25236efd7cdc670669063 15b2")
    assert sealer.open(aad, body) == bytes.fromhex("0000000c000040010000000a")


def test_aes_gcm_nonces_are_salt_and_iv_rfc5282_4() -> None:
    key = bytes(range(36))
    body = Sealer(Encryption.AES_GCM_16, 256, Integrity.NONE, key, b"", os.urandom).seal(b"aad", b"payloads")
    assert body[:8] == bytes(8)
    assert AESGCM(key[:32]).decrypt(key[32:] + body[:8], body[8:], b"aad") == b"payloads\0"


def test_cbc_with_hmac_covers_header_iv_and_ciphertext_rfc7296_3_14() -> None:
    key, auth, iv = bytes(range(32)), bytes(range(64)), bytes(range(100, 116))
    sealer = Sealer(Encryption.AES_CBC, 256, Integrity.HMAC_SHA2_512_256, key, auth, lambda n: iv[:n])
    body = sealer.seal(b"aad", b"payloads")
    assert body[:16] == iv
    assert body[-32:] == hmac.digest(auth, b"aad" + body[:-32], "sha512")[:32]
    decryptor = RawCipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
    assert decryptor.update(body[16:-32]) + decryptor.finalize() == b"payloads" + bytes(7) + b"\7"


@pytest.mark.parametrize("cipher", CIPHERS[:3])
def test_aead_ivs_are_a_counter_and_never_repeat_rfc5282_3_1(cipher: tuple[Encryption, int, Integrity]) -> None:
    sealer = make_sealer(cipher)
    assert [int.from_bytes(sealer.seal(b"", b"")[:8], "big") for _ in range(1000)] == list(range(1000))


def test_an_aead_key_ends_with_its_last_iv_rfc5282_3_1() -> None:
    sealer = make_sealer(CIPHERS[0])
    sealer._next_iv = 2**64 - 1
    assert sealer.seal(b"", b"")[:8] == b"\xff" * 8
    with pytest.raises(SealerExhausted, match="all IVs"):
        sealer.seal(b"", b"")


def test_cbc_ivs_come_from_the_random_source_rfc7296_3_14() -> None:
    asked: list[int] = []

    def random(length: int) -> bytes:
        asked.append(length)
        return os.urandom(length)

    sealer = Sealer(Encryption.AES_CBC, 128, Integrity.HMAC_SHA2_256_128, bytes(16), bytes(32), random)
    assert sealer.seal(b"", b"")[:16] != sealer.seal(b"", b"")[:16]
    assert asked == [16, 16]


@pytest.mark.parametrize("cipher", CIPHERS)
def test_a_wiped_sealer_does_nothing_more(cipher: tuple[Encryption, int, Integrity]) -> None:
    sealer = make_sealer(cipher, seed=7)
    body = sealer.seal(b"aad", b"data")
    sealer.wipe()
    assert not any(sealer._encryption_key)
    assert not any(sealer._integrity_key)
    for attempt in (lambda: sealer.seal(b"aad", b"data"), lambda: sealer.open(b"aad", body)):
        with pytest.raises(SealerExhausted, match="wiped"):
            attempt()


def test_a_sealer_is_not_shown_copied_or_serialised() -> None:
    sealer = make_sealer(CIPHERS[3])
    assert repr(sealer) == "Sealer(AES_CBC, HMAC_SHA2_256_128, keys …)"
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="neither copied nor serialised"):
            attempt(sealer)


@pytest.mark.parametrize(
    ("encryption", "bits", "integrity", "key", "auth"),
    [
        (Encryption.NULL, 0, Integrity.HMAC_SHA2_256_128, 0, 32),
        (Encryption.AES_CBC, 128, Integrity.NONE, 16, 0),
        (Encryption.AES_GCM_16, 256, Integrity.HMAC_SHA2_256_128, 36, 32),
        (Encryption.AES_GCM_16, 256, Integrity.NONE, 32, 0),
        (Encryption.AES_GCM_16, 512, Integrity.NONE, 68, 0),
        (Encryption.AES_CBC, 128, Integrity.HMAC_SHA2_256_128, 16, 16),
    ],
)
def test_what_would_not_protect_ike_is_refused_rfc7296_5(
    encryption: Encryption, bits: int, integrity: Integrity, key: int, auth: int
) -> None:
    with pytest.raises(ValueError, match=r"protect|authenticates|wrong length"):
        Sealer(encryption, bits, integrity, bytes(key), bytes(auth), os.urandom)


@pytest.mark.parametrize("cipher", CIPHERS)
def test_short_bodies_are_malformed_not_errors(cipher: tuple[Encryption, int, Integrity]) -> None:
    sealer = make_sealer(cipher)
    for length in range(sealer.overhead(0)):
        with pytest.raises(MalformedMessage):
            sealer.open(b"aad", bytes(length))
