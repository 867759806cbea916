"""The key schedule: prf, prf+, and the keys of IKE and child SAs (RFC 7296 §2.13, §2.14, §2.17, §2.18)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.hmac import HMAC

from appliance.sa.algorithms import (
    ENCRYPTION,
    INTEGRITY,
    Encryption,
    Integrity,
    KeyExchangeMethod,
    Prf,
    Suite,
    TransformType,
)
from appliance.sa.keys import KeyMaterial, wipe
from appliance.sa.proposal import Transform, format_transform

_PRF_HASH = {
    Prf.HMAC_SHA2_256: hashes.SHA256(),
    Prf.HMAC_SHA2_384: hashes.SHA384(),
    Prf.HMAC_SHA2_512: hashes.SHA512(),
}
_PRF_LENGTH = {Prf.HMAC_SHA2_256: 32, Prf.HMAC_SHA2_384: 48, Prf.HMAC_SHA2_512: 64}
_MAX_BLOCKS = 255


@dataclass(frozen=True, slots=True)
class IkeSuite:
    """The algorithms of one IKE SA, as negotiated. ``integrity`` is NONE for an AEAD."""

    encryption: Encryption
    key_bits: int
    integrity: Integrity
    prf: Prf
    ke: KeyExchangeMethod

    @property
    def encryption_key_length(self) -> int:
        """Bytes of SK_ei and SK_er, the salt included (RFC 5282 §7.1)."""
        return self.key_bits // 8 + ENCRYPTION[self.encryption].salt

    @property
    def integrity_key_length(self) -> int:
        """Bytes of SK_ai and SK_ar."""
        return 0 if self.integrity is Integrity.NONE else INTEGRITY[self.integrity].key

    def __str__(self) -> str:
        """As proposals of a configuration have it, such as aes256gcm16-prfsha384-ecp384."""
        bits = self.key_bits if ENCRYPTION[self.encryption].key_length_attribute else None
        transforms = [Transform(TransformType.ENCR, self.encryption, bits)]
        if self.integrity is not Integrity.NONE:
            transforms.append(Transform(TransformType.INTEG, self.integrity))
        transforms += [Transform(TransformType.PRF, self.prf), Transform(TransformType.KE, self.ke)]
        return "-".join(format_transform(transform) for transform in transforms)


def prf_key_length(prf_id: Prf) -> int:
    """Bytes of the preferred key, which for HMAC are those of the output (RFC 4868 §2.1.2)."""
    return _PRF_LENGTH[prf_id]


def prf(prf_id: Prf, key: bytes | bytearray, *data: bytes | bytearray) -> bytes:
    """prf(key, data | data | …)."""
    mac = HMAC(key, _PRF_HASH[prf_id])
    for part in data:
        mac.update(part)
    return mac.finalize()


def prf_plus(prf_id: Prf, key: bytes | bytearray, seed: bytes, length: int) -> bytes:
    """The first ``length`` bytes of prf+(key, seed), RFC 7296 §2.13. Raises ValueError beyond 255 blocks."""
    return bytes(_prf_plus(prf_id, key, seed, length))


def _prf_plus(prf_id: Prf, key: bytes | bytearray, seed: bytes, length: int) -> bytearray:
    if length > _MAX_BLOCKS * _PRF_LENGTH[prf_id]:
        raise ValueError(f"prf+ gives at most {_MAX_BLOCKS} blocks (RFC 7296 §2.13)")
    stream = bytearray()
    block = b""
    counter = 1
    while len(stream) < length:
        block = prf(prf_id, key, block, seed, bytes([counter]))
        stream += block
        counter += 1
    wipe_from(stream, length)
    return stream


def wipe_from(buffer: bytearray, length: int) -> None:
    """Cut a buffer to ``length`` bytes; what is cut is overwritten first."""
    buffer[length:] = bytes(len(buffer) - length)
    del buffer[length:]


class IkeKeys:
    """SK_d, SK_ai, SK_ar, SK_ei, SK_er, SK_pi, SK_pr of one IKE SA, in buffers to ``wipe``. Never shown."""

    __slots__ = ("sk_ai", "sk_ar", "sk_d", "sk_ei", "sk_er", "sk_pi", "sk_pr")

    def __init__(
        self,
        sk_d: bytearray,
        sk_ai: bytearray,
        sk_ar: bytearray,
        sk_ei: bytearray,
        sk_er: bytearray,
        sk_pi: bytearray,
        sk_pr: bytearray,
    ) -> None:
        self.sk_d, self.sk_pi, self.sk_pr = sk_d, sk_pi, sk_pr
        self.sk_ai, self.sk_ar = sk_ai, sk_ar
        self.sk_ei, self.sk_er = sk_ei, sk_er

    def wipe(self) -> None:
        """Overwrite all keys with zeros. Idempotent."""
        for buffer in (self.sk_d, self.sk_ai, self.sk_ar, self.sk_ei, self.sk_er, self.sk_pi, self.sk_pr):
            wipe(buffer)

    def __repr__(self) -> str:
        return "IkeKeys(…)"

    def __reduce__(self) -> str:
        raise TypeError("keys are neither copied nor serialised")


def derive_ike_keys(
    suite: IkeSuite, shared: bytes | bytearray, nonce_i: bytes, nonce_r: bytes, spi_i: bytes, spi_r: bytes
) -> IkeKeys:
    """The keys of an IKE SA from IKE_SA_INIT (§2.14). ``shared`` is g^ir as long as the group's prime."""
    skeyseed = prf(suite.prf, nonce_i + nonce_r, shared)
    return _ike_keys(suite, skeyseed, nonce_i, nonce_r, spi_i, spi_r)


def derive_rekeyed_ike_keys(
    old_prf: Prf,
    old_sk_d: bytes | bytearray,
    suite: IkeSuite,
    shared: bytes | bytearray,
    nonce_i: bytes,
    nonce_r: bytes,
    spi_i: bytes,
    spi_r: bytes,
) -> IkeKeys:
    """The keys of an IKE SA that replaces another (§2.18).

    SKEYSEED comes from the old SA's prf and SK_d, the rest from the new SA's prf, nonces and SPIs. Initiator is who
    started the rekey.
    """
    skeyseed = prf(old_prf, old_sk_d, shared, nonce_i, nonce_r)
    return _ike_keys(suite, skeyseed, nonce_i, nonce_r, spi_i, spi_r)


def _ike_keys(suite: IkeSuite, skeyseed: bytes, nonce_i: bytes, nonce_r: bytes, spi_i: bytes, spi_r: bytes) -> IkeKeys:
    key = prf_key_length(suite.prf)
    auth, encryption = suite.integrity_key_length, suite.encryption_key_length
    lengths = (
        key,
        auth,
        auth,
        encryption,
        encryption,
        key,
        key,
    )  # SK_d | SK_ai | SK_ar | SK_ei | SK_er | SK_pi | SK_pr
    stream = _prf_plus(suite.prf, skeyseed, nonce_i + nonce_r + spi_i + spi_r, sum(lengths))
    return IkeKeys(*_slices(stream, lengths))


def derive_child_keys(
    prf_id: Prf,
    sk_d: bytes | bytearray,
    suite: Suite,
    nonce_i: bytes,
    nonce_r: bytes,
    shared: bytes | bytearray = b"",
) -> tuple[KeyMaterial, KeyMaterial]:
    """Keys of a child SA's two ESP SAs (§2.17): first those of the one from initiator to responder.

    ``prf_id`` and ``sk_d`` are the IKE SA's; ``shared`` is g^ir of a CREATE_CHILD_SA with a key exchange. Initiator is
    who sent the request of this exchange.
    """
    encryption, integrity = suite.encryption_key_length, suite.integrity_key_length
    lengths = (encryption, integrity, encryption, integrity)
    stream = _prf_plus(prf_id, sk_d, bytes(shared) + nonce_i + nonce_r, sum(lengths))
    parts = list(_slices(stream, lengths))
    materials = KeyMaterial(parts[0], parts[1]), KeyMaterial(parts[2], parts[3])
    for part in parts:
        wipe(part)  # KeyMaterial has its own copy
    return materials


def _slices(stream: bytearray, lengths: tuple[int, ...]) -> Iterator[bytearray]:
    """Cut key material into its keys, then overwrite it."""
    at = 0
    for length in lengths:
        yield stream[at : at + length]
        at += length
    wipe(stream)
