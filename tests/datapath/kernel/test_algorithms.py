"""Suites in the kernel's names."""

from __future__ import annotations

import pytest

from appliance.datapath.kernel.algorithms import algorithm_names, algorithms
from appliance.datapath.kernel.xfrm import Aead, Auth, Crypt
from appliance.sa.algorithms import Encryption, Integrity, Suite


def test_an_aead_has_its_salt_behind_the_key_and_an_icv_of_128_bits() -> None:
    key = bytearray(36)
    aead, crypt, auth = algorithms(Suite(Encryption.AES_GCM_16, 256), key)
    assert (aead, crypt, auth) == (Aead("rfc4106(gcm(aes))", key, 128), None, None)
    assert aead is not None and aead.key is key


@pytest.mark.parametrize(
    ("integrity", "name", "size", "bits"),
    [
        (Integrity.HMAC_SHA2_256_128, "hmac(sha256)", 32, 128),
        (Integrity.HMAC_SHA2_384_192, "hmac(sha384)", 48, 192),
        (Integrity.HMAC_SHA2_512_256, "hmac(sha512)", 64, 256),
    ],
)
def test_an_hmac_is_truncated_as_rfc_4868_has_it(integrity: Integrity, name: str, size: int, bits: int) -> None:
    suite = Suite(Encryption.AES_CBC, 128, integrity)
    assert algorithms(suite, bytes(16), bytes(size)) == (
        None,
        Crypt("cbc(aes)", bytes(16)),
        Auth(name, bytes(size), bits),
    )
    assert algorithm_names(suite) == ("cbc(aes)", name)


def test_null_encryption_has_a_key_of_no_bits() -> None:
    _, crypt, _ = algorithms(Suite(Encryption.NULL, 0, Integrity.HMAC_SHA2_256_128), b"", bytes(32))
    assert crypt == Crypt("ecb(cipher_null)", b"")


def test_keys_that_do_not_fit_are_no_state() -> None:
    with pytest.raises(ValueError, match="takes keys of 36 and 0 bytes"):
        algorithms(Suite(Encryption.CHACHA20_POLY1305, 256), bytes(32))
