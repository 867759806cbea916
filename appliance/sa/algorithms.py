"""Algorithms by their IKEv2 transform numbers, with the sizes that keys and packets need.

Numbers: IANA "Internet Key Exchange Version 2 (IKEv2) Parameters". Which are offered: RFC 8221 (ESP), RFC 8247 (IKE).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class TransformType(IntEnum):
    """Transform types, RFC 7296 §3.3.2."""

    ENCR = 1
    PRF = 2
    INTEG = 3
    KE = 4
    ESN = 5


class Encryption(IntEnum):
    """Encryption algorithms (transform type 1)."""

    NULL = 11
    AES_CBC = 12
    AES_GCM_16 = 20
    CHACHA20_POLY1305 = 28


class Prf(IntEnum):
    """Pseudorandom functions (transform type 2)."""

    HMAC_SHA2_256 = 5
    HMAC_SHA2_384 = 6
    HMAC_SHA2_512 = 7


class Integrity(IntEnum):
    """Integrity algorithms (transform type 3)."""

    NONE = 0
    HMAC_SHA2_256_128 = 12
    HMAC_SHA2_384_192 = 13
    HMAC_SHA2_512_256 = 14


class KeyExchangeMethod(IntEnum):
    """Key exchange methods (transform type 4), "Diffie-Hellman groups" in RFC 7296."""

    NONE = 0
    MODP_2048 = 14
    MODP_3072 = 15
    MODP_4096 = 16
    ECP_256 = 19
    ECP_384 = 20
    ECP_521 = 21
    CURVE25519 = 31
    CURVE448 = 32


class Esn(IntEnum):
    """Extended sequence numbers (transform type 5)."""

    NO_ESN = 0
    ESN = 1


@dataclass(frozen=True, slots=True)
class EncryptionSpec:
    """What an encryption algorithm needs. Sizes in bytes, key sizes in bits.

    ``salt`` is the implicit part of the nonce that key material carries behind the key (RFC 4106 §8.1, RFC 7634 §2).
    ``icv`` is 0 where an integrity algorithm gives the ICV.
    """

    key_bits: tuple[int, ...]
    salt: int
    iv: int
    block: int
    icv: int
    key_length_attribute: bool

    @property
    def aead(self) -> bool:
        """Whether the algorithm authenticates by itself."""
        return self.icv > 0


ENCRYPTION: dict[Encryption, EncryptionSpec] = {
    Encryption.NULL: EncryptionSpec((0,), 0, 0, 1, 0, False),
    Encryption.AES_CBC: EncryptionSpec((128, 192, 256), 0, 16, 16, 0, True),
    Encryption.AES_GCM_16: EncryptionSpec((128, 192, 256), 4, 8, 1, 16, True),
    Encryption.CHACHA20_POLY1305: EncryptionSpec((256,), 4, 8, 1, 16, False),
}


@dataclass(frozen=True, slots=True)
class IntegritySpec:
    """An HMAC's hash by its name in ``hashlib``; key and ICV in bytes (RFC 4868 §2.1)."""

    hash: str
    key: int
    icv: int


INTEGRITY: dict[Integrity, IntegritySpec] = {
    Integrity.HMAC_SHA2_256_128: IntegritySpec("sha256", 32, 16),
    Integrity.HMAC_SHA2_384_192: IntegritySpec("sha384", 48, 24),
    Integrity.HMAC_SHA2_512_256: IntegritySpec("sha512", 64, 32),
}


@dataclass(frozen=True, slots=True)
class Suite:
    """The algorithms of one ESP SA, as negotiated. ``integrity`` is NONE for an AEAD."""

    encryption: Encryption
    key_bits: int
    integrity: Integrity = Integrity.NONE
    esn: bool = False

    @property
    def encryption_key_length(self) -> int:
        """Bytes of key material for encryption, the salt included."""
        return self.key_bits // 8 + ENCRYPTION[self.encryption].salt

    @property
    def integrity_key_length(self) -> int:
        """Bytes of key material for integrity."""
        return 0 if self.integrity is Integrity.NONE else INTEGRITY[self.integrity].key

    @property
    def icv_length(self) -> int:
        """Bytes of ICV at the end of each packet."""
        spec = ENCRYPTION[self.encryption]
        return spec.icv if spec.aead else INTEGRITY[self.integrity].icv

    def __str__(self) -> str:
        """As proposals of a configuration have it, such as aes256gcm16-esn; without ESN it is not named."""
        from appliance.sa.proposal import Transform, format_transform  # it imports this module

        bits = self.key_bits if ENCRYPTION[self.encryption].key_length_attribute else None
        words = [format_transform(Transform(TransformType.ENCR, self.encryption, bits))]
        if self.integrity is not Integrity.NONE:
            words.append(format_transform(Transform(TransformType.INTEG, self.integrity)))
        return "-".join([*words, "esn"] if self.esn else words)


def every_suite() -> tuple[Suite, ...]:
    """All that there are, with and without ESN."""
    found = []
    for encryption, spec in ENCRYPTION.items():
        integrities = [Integrity.NONE] if spec.aead else [item for item in Integrity if item is not Integrity.NONE]
        for bits in spec.key_bits:
            for integrity in integrities:
                found += [Suite(encryption, bits, integrity, esn) for esn in (True, False)]
    return tuple(found)
