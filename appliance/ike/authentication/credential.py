"""What this side proves its identity with: a pre-shared key, or a private key with its certificates."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

if TYPE_CHECKING:
    from cryptography import x509

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey


class RsaScheme(Enum):
    """How an RSA key signs by RFC 7427. RFC 8247 §3.2 wants PSS; PKCS1 is for peers that cannot."""

    PSS = "pss"
    PKCS1 = "pkcs1"


@dataclass(frozen=True, slots=True)
class PskCredential:
    """A pre-shared key (RFC 7296 §2.15). Both sides of a connection use the same one."""

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        # An empty key is every attacker's first guess.
        if not self.secret:
            raise ValueError("a pre-shared key is empty")


@dataclass(frozen=True, slots=True, eq=False)
class PublicKeyCredential:
    """A private key and the certificates to send: the end entity's first, then its issuers' (RFC 7296 §3.6).

    Two are equal if their certificates and their public keys are. ``allow_sha1`` lets an RSA key sign with SHA-1 for a
    peer that announces no hash algorithms (RFC 7296 §3.8); signatures over SHA-1 can be forged, so it is off.
    """

    private_key: PrivateKey = field(repr=False)
    certificates: tuple[x509.Certificate, ...]
    rsa_scheme: RsaScheme = RsaScheme.PSS
    allow_sha1: bool = False

    def __post_init__(self) -> None:
        if not self.certificates:
            raise ValueError("a private key comes with at least its own certificate")
        if self.certificates[0].public_key() != self.private_key.public_key():
            raise ValueError("the private key is not the one of the first certificate")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PublicKeyCredential):
            return NotImplemented
        # The public key is the first certificate's, as was checked above.
        return (self.certificates, self.rsa_scheme, self.allow_sha1) == (
            other.certificates,
            other.rsa_scheme,
            other.allow_sha1,
        )

    def __hash__(self) -> int:
        return hash((self.certificates, self.rsa_scheme, self.allow_sha1))


LocalCredential = PskCredential | PublicKeyCredential
