"""The key schedule (RFC 7296 §2.13 to §2.18) against NIST's and independent answers."""

from __future__ import annotations

import copy
import pickle

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.ike.keys import (
    IkeKeys,
    IkeSuite,
    derive_child_keys,
    derive_ike_keys,
    derive_rekeyed_ike_keys,
    prf,
    prf_key_length,
    prf_plus,
)
from appliance.sa.algorithms import Encryption, Integrity, KeyExchangeMethod, Prf, Suite
from tests.ike.vectors import records

HASHES = {
    Prf.HMAC_SHA2_256: (hashes.SHA256(), "rfc-4231-sha256.txt"),
    Prf.HMAC_SHA2_384: (hashes.SHA384(), "rfc-4231-sha384.txt"),
    Prf.HMAC_SHA2_512: (hashes.SHA512(), "rfc-4231-sha512.txt"),
}
CBC = IkeSuite(Encryption.AES_CBC, 128, Integrity.HMAC_SHA2_256_128, Prf.HMAC_SHA2_256, KeyExchangeMethod.MODP_2048)
GCM = IkeSuite(Encryption.AES_GCM_16, 256, Integrity.NONE, Prf.HMAC_SHA2_384, KeyExchangeMethod.ECP_384)

# NIST's IKEv2 key derivation inputs (SP 800-135, CAVP) with their SHA-256 answers: nonces, SPIs, g^ir, g^ir (new).
NI, NR = bytes.fromhex("3651fef5c9c35e93"), bytes.fromhex("c09a8b90a3f04d59")
SPI_I, SPI_R = bytes.fromhex("8e5c3ae507221684"), bytes.fromhex("b1f201bb155c3acd")
G_IR = bytes.fromhex(
    "d084a30166a50fb7325c3960874a839449ef9741c2f4f947d0201dd8c1269273d79509f37e3ca3eb4fa2fe2a28254e28"
    "9cd3f34dad4eb4df1a07685a4b8a94fa61e2491f7598b3ce65547ff133b3f63d1ac4175eaa695033f3cedb026a6873a3"
    "6455172a8540b8a5d23a0143bed0390ee49b168269d75fffee9fb62be965993c"
)
G_IR_NEW = bytes.fromhex(
    "52f00ab174c25d5b7139ae5ff4e8e9eddee5992d2e36adf8a559ffd90dab1442e4fbe429d320c0f33552a17d1557fa41"
    "ea70e8fb916c4fa27ed52b5f8ebd8461afa78f1159159a64055ac5f6319e29c28eae58cbc6847770f32c3fed1d047504"
    "84f854790f95e9ec01bc5bc461f24966462e359511329305038e94deb6dd42c2"
)
SKEYSEED = bytes.fromhex("efaa7ab0eaa85a3d0be2100cd4b6fe00ff5025a9eafddb3ef518e9f0d3fe60e6")
DKM = bytes.fromhex(
    "462b9dd525d4fd71169174272779e704baf62c6231779ae9efe8c58b21916b42010164af2111ebd762f6916ca9a6f0ee"
    "05c8b320e4ee27705521de2589adea1878f1a551738af7c88dc4f0bb0c096a3f7d1f1a670fc79f49f678d60d665bb371"
    "0c8657f03ba9f62b9a818d7a228968c506e237ae9502aa6db395c61ea6a3e79504f86b7368bfb5423df79e48809bbccd"
    "49fd826d024f63d7c2a5566400a12e736aa034510428f5ea008fe2fc16886fa388274ea6c2b4fcfc6141bf04f8207ef8"
)
DKM_CHILD = bytes.fromhex(
    "23647677e7d403fa1e3006f19840aee18ad9fecc4215814c4131bdeba98433d8b0e31bfbbddf822abcce5e06486aa388"
    "022b75e27e1e68aa5983028b65282c730c5d49ef7606770376cfdec41f7cc435d816029989bc353d3b67b9fd1168ddcb"
)
DKM_CHILD_DH = bytes.fromhex(
    "6a919387a5fa2835fe8a8237e4a14845bd2b9930db87eff7adf268f62186004902dba9aa942d0259a0edc4120b932a50"
    "3865b57ba8fb88117ef5df7b26799cd8ba37aa5438108cb1a4fe117907c9d0597b708c3f11151fefd624d2317202b7c8"
)
SKEYSEED_REKEY = bytes.fromhex("90722c42bd849e9b72d240fc254174270fa8295de6f0338dafc303a9ec104f12")


@pytest.mark.parametrize("prf_id", Prf)
def test_prf_gives_the_known_answers_rfc4231(prf_id: Prf) -> None:
    found = list(records(f"HMAC/{HASHES[prf_id][1]}"))
    assert len(found) >= 4
    for record in found:
        key, message = bytes.fromhex(record["key"]), bytes.fromhex(record["msg"])
        assert prf(prf_id, key, message).hex() == record["md"]
        assert prf(prf_id, bytearray(key), message[:3], message[3:]).hex() == record["md"]


@settings(deadline=None)
@given(st.sampled_from(Prf), st.binary(min_size=1, max_size=64), st.binary(max_size=100), st.integers(0, 600))
def test_prf_plus_is_the_expansion_of_hkdf_rfc7296_2_13_rfc5869(prf_id: Prf, key: bytes, seed: bytes, n: int) -> None:
    expected = b"" if n == 0 else HKDFExpand(HASHES[prf_id][0], n, seed).derive(key)
    assert prf_plus(prf_id, key, seed, n) == expected


@pytest.mark.parametrize("prf_id", Prf)
def test_prf_plus_ends_after_255_blocks_rfc7296_2_13(prf_id: Prf) -> None:
    most = 255 * prf_key_length(prf_id)
    assert len(prf_plus(prf_id, b"key", b"seed", most)) == most
    with pytest.raises(ValueError, match="255 blocks"):
        prf_plus(prf_id, b"key", b"seed", most + 1)


def test_skeyseed_and_the_ike_keys_are_nists_rfc7296_2_14() -> None:
    assert prf(Prf.HMAC_SHA2_256, NI + NR, G_IR) == SKEYSEED
    keys = derive_ike_keys(CBC, G_IR, NI, NR, SPI_I, SPI_R)
    parts = (keys.sk_d, keys.sk_ai, keys.sk_ar, keys.sk_ei, keys.sk_er, keys.sk_pi, keys.sk_pr)
    assert [len(part) for part in parts] == [32, 32, 32, 16, 16, 32, 32]
    assert b"".join(parts) == DKM


def test_child_keys_are_nists_initiator_to_responder_first_rfc7296_2_17() -> None:
    suite = Suite(Encryption.AES_CBC, 128, Integrity.HMAC_SHA2_256_128)
    for shared, expected in ((b"", DKM_CHILD), (G_IR_NEW, DKM_CHILD_DH)):
        first, second = derive_child_keys(Prf.HMAC_SHA2_256, DKM[:32], suite, NI, NR, shared)
        assert b"".join((*first.take(), *second.take())) == expected


def test_aead_child_keys_carry_their_salt_and_no_integrity_key_rfc4106_8_1() -> None:
    suite = Suite(Encryption.AES_GCM_16, 256)
    first, second = derive_child_keys(Prf.HMAC_SHA2_256, DKM[:32], suite, NI, NR)
    encryption, integrity = first.take()
    assert (encryption, integrity) == (DKM_CHILD[:36], b"")
    assert second.take()[0] == DKM_CHILD[36:72]


def test_rekeyed_ike_keys_start_from_the_old_sk_d_rfc7296_2_18() -> None:
    assert prf(Prf.HMAC_SHA2_256, DKM[:32], G_IR_NEW, NI, NR) == SKEYSEED_REKEY
    keys = derive_rekeyed_ike_keys(Prf.HMAC_SHA2_256, DKM[:32], GCM, G_IR_NEW, NI, NR, SPI_I, SPI_R)
    stream = HKDFExpand(hashes.SHA384(), 3 * 48 + 2 * 36, NI + NR + SPI_I + SPI_R).derive(SKEYSEED_REKEY)
    parts = (keys.sk_d, keys.sk_ai, keys.sk_ar, keys.sk_ei, keys.sk_er, keys.sk_pi, keys.sk_pr)
    assert [len(part) for part in parts] == [48, 0, 0, 36, 36, 48, 48]
    assert b"".join(parts) == stream


def test_the_rekeyed_seed_uses_the_old_prf_and_the_rest_the_new_one_rfc7296_2_18() -> None:
    seed = prf(Prf.HMAC_SHA2_512, bytes(64), b"shared", b"Ni", b"Nr")
    keys = derive_rekeyed_ike_keys(Prf.HMAC_SHA2_512, bytes(64), CBC, b"shared", b"Ni", b"Nr", SPI_I, SPI_R)
    assert keys.sk_d == prf(Prf.HMAC_SHA2_256, seed, b"Ni" + b"Nr" + SPI_I + SPI_R + b"\x01")


def test_chacha20_keys_have_their_salt_behind_them_rfc7634_2() -> None:
    suite = IkeSuite(Encryption.CHACHA20_POLY1305, 256, Integrity.NONE, Prf.HMAC_SHA2_256, KeyExchangeMethod.CURVE25519)
    keys = derive_ike_keys(suite, G_IR, NI, NR, SPI_I, SPI_R)
    assert len(keys.sk_ei) == 36
    assert not keys.sk_ai


def test_wiping_overwrites_every_key() -> None:
    keys = derive_ike_keys(CBC, G_IR, NI, NR, SPI_I, SPI_R)
    buffers = [getattr(keys, field) for field in IkeKeys.__slots__]
    assert all(any(buffer) for buffer in buffers)
    keys.wipe()
    assert not any(any(buffer) for buffer in buffers)
    keys.wipe()


def test_keys_are_not_shown_copied_or_serialised() -> None:
    keys = derive_ike_keys(CBC, G_IR, NI, NR, SPI_I, SPI_R)
    assert repr(keys) == "IkeKeys(…)"
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="neither copied nor serialised"):
            attempt(keys)


def test_a_suite_reads_well() -> None:
    assert str(GCM) == "aes256gcm16-prfsha384-ecp384"
    assert str(CBC) == "aes128-sha256-prfsha256-modp2048"
