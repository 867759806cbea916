"""Key material is taken once: one IV, one key, once; SPIs have one authority (RFC 4303 §2.1)."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator

import pytest

from appliance.sa.algorithms import ENCRYPTION, Encryption, Integrity, Suite
from appliance.sa.keys import KeyMaterial, KeysConsumedError, wipe
from appliance.sa.spi import FIRST_SPI, SpiAllocator


def test_keys_are_taken_once() -> None:
    keys = KeyMaterial(b"k" * 20, b"i" * 32)
    encryption, integrity = keys.take()
    assert (bytes(encryption), bytes(integrity)) == (b"k" * 20, b"i" * 32)
    assert keys.consumed
    with pytest.raises(KeysConsumedError):
        keys.take()


def test_wiped_keys_are_gone() -> None:
    keys = KeyMaterial(b"k" * 20)
    keys.wipe()
    keys.wipe()
    assert keys.consumed
    with pytest.raises(KeysConsumedError):
        keys.take()
    buffer = bytearray(b"secret")
    wipe(buffer)
    assert buffer == bytes(6)


def test_keys_are_neither_shown_nor_copied_nor_serialised() -> None:
    keys = KeyMaterial(b"k" * 20, b"i" * 32)
    assert "k" * 4 not in repr(keys) and repr(keys) == str(keys)
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            attempt(keys)


def _chances(*spis: int) -> Iterator[bytes]:
    yield from (spi.to_bytes(4, "big") for spi in spis)


def test_reserved_and_used_spis_are_passed_over_rfc4303_2_1() -> None:
    chances = _chances(0, 1, FIRST_SPI - 1, FIRST_SPI, FIRST_SPI, 0x1234, 0x5678, FIRST_SPI)
    allocator = SpiAllocator(lambda n: next(chances))
    assert allocator.allocate() == FIRST_SPI
    allocator.reserve(0x1234)
    assert allocator.allocate() == 0x5678
    allocator.release(FIRST_SPI)
    assert allocator.allocate() == FIRST_SPI
    assert len(allocator) == 3


@pytest.mark.parametrize(
    ("suite", "encryption", "integrity", "icv"),
    [
        (Suite(Encryption.AES_GCM_16, 256), 36, 0, 16),
        (Suite(Encryption.AES_GCM_16, 128, esn=True), 20, 0, 16),
        (Suite(Encryption.CHACHA20_POLY1305, 256), 36, 0, 16),
        (Suite(Encryption.AES_CBC, 256, Integrity.HMAC_SHA2_256_128), 32, 32, 16),
        (Suite(Encryption.AES_CBC, 128, Integrity.HMAC_SHA2_384_192), 16, 48, 24),
        (Suite(Encryption.NULL, 0, Integrity.HMAC_SHA2_512_256), 0, 64, 32),
    ],
    ids=str,
)
def test_key_and_icv_lengths_rfc4106_8_1_rfc7634_2_rfc4868_2_1(
    suite: Suite, encryption: int, integrity: int, icv: int
) -> None:
    assert suite.encryption_key_length == encryption
    assert suite.integrity_key_length == integrity
    assert suite.icv_length == icv


def test_only_algorithms_with_several_key_sizes_have_the_key_length_attribute_rfc7296_3_3_5() -> None:
    assert {e for e, spec in ENCRYPTION.items() if spec.key_length_attribute} == {
        Encryption.AES_CBC,
        Encryption.AES_GCM_16,
    }
