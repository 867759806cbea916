"""Signature algorithms: their AlgorithmIdentifiers, signing and verifying (RFC 7427, RFC 8420, RFC 4754).

An AlgorithmIdentifier is made and read exactly: what it says about hash, mask and salt is what is then verified with.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from appliance.ike.authentication.credential import PrivateKey
from appliance.ike.constants import AuthMethod, HashAlgorithm
from appliance.sa import der

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey


class Scheme(Enum):
    """A signature scheme; with a hash algorithm it is a signature algorithm."""

    RSA_PSS = "RSASSA-PSS"
    RSA_PKCS1 = "RSASSA-PKCS1-v1_5"
    ECDSA = "ECDSA"
    ED25519 = "Ed25519"
    ED448 = "Ed448"


HASHES: dict[HashAlgorithm, hashes.HashAlgorithm] = {
    HashAlgorithm.SHA1: hashes.SHA1(),  # noqa: S303 - only where a configuration allows it
    HashAlgorithm.SHA2_256: hashes.SHA256(),
    HashAlgorithm.SHA2_384: hashes.SHA384(),
    HashAlgorithm.SHA2_512: hashes.SHA512(),
}

ECDSA_METHODS: dict[str, tuple[AuthMethod, HashAlgorithm]] = {
    "secp256r1": (AuthMethod.ECDSA_SHA256_P256, HashAlgorithm.SHA2_256),
    "secp384r1": (AuthMethod.ECDSA_SHA384_P384, HashAlgorithm.SHA2_384),
    "secp521r1": (AuthMethod.ECDSA_SHA512_P521, HashAlgorithm.SHA2_512),
}
"""The methods of RFC 4754 by curve, each with the only hash that it has."""

_NULL = der.element(der.NULL, b"")
_HASH_OIDS = {
    HashAlgorithm.SHA1: der.encode_oid("1.3.14.3.2.26"),
    HashAlgorithm.SHA2_256: der.encode_oid("2.16.840.1.101.3.4.2.1"),
    HashAlgorithm.SHA2_384: der.encode_oid("2.16.840.1.101.3.4.2.2"),
    HashAlgorithm.SHA2_512: der.encode_oid("2.16.840.1.101.3.4.2.3"),
}
_PKCS1_OIDS = {
    HashAlgorithm.SHA1: der.encode_oid("1.2.840.113549.1.1.5"),
    HashAlgorithm.SHA2_256: der.encode_oid("1.2.840.113549.1.1.11"),
    HashAlgorithm.SHA2_384: der.encode_oid("1.2.840.113549.1.1.12"),
    HashAlgorithm.SHA2_512: der.encode_oid("1.2.840.113549.1.1.13"),
}
_ECDSA_OIDS = {
    HashAlgorithm.SHA1: der.encode_oid("1.2.840.10045.4.1"),
    HashAlgorithm.SHA2_256: der.encode_oid("1.2.840.10045.4.3.2"),
    HashAlgorithm.SHA2_384: der.encode_oid("1.2.840.10045.4.3.3"),
    HashAlgorithm.SHA2_512: der.encode_oid("1.2.840.10045.4.3.4"),
}
_EDDSA_OIDS = {Scheme.ED25519: der.encode_oid("1.3.101.112"), Scheme.ED448: der.encode_oid("1.3.101.113")}
_PSS_OID = der.encode_oid("1.2.840.113549.1.1.10")
_MGF1_OID = der.encode_oid("1.2.840.113549.1.1.8")

_MAX_SALT = 1024
"""Bytes; no RSA key that is accepted has room for more."""


class SignatureInvalid(Exception):  # noqa: N818 - it says what happened
    """A signature does not verify."""


@dataclass(frozen=True, slots=True)
class SignatureAlgorithm:
    """A scheme and its hash: IDENTITY for EdDSA (RFC 8420 §2). ``salt_length`` is RSASSA-PSS's, in bytes."""

    scheme: Scheme
    hash: HashAlgorithm
    salt_length: int = 0

    @classmethod
    def of(cls, scheme: Scheme, hash_: HashAlgorithm) -> SignatureAlgorithm:
        """With the salt of RSASSA-PSS as long as the hash (RFC 7427 appendix A.4)."""
        return cls(scheme, hash_, HASHES[hash_].digest_size if scheme is Scheme.RSA_PSS else 0)

    def identifier(self) -> bytes:
        """The DER AlgorithmIdentifier (RFC 7427 appendix A, RFC 8420 appendix A)."""
        if self.scheme in _EDDSA_OIDS:
            return der.element(der.SEQUENCE, _EDDSA_OIDS[self.scheme])
        if self.scheme is Scheme.ECDSA:
            return der.element(der.SEQUENCE, _ECDSA_OIDS[self.hash])
        if self.scheme is Scheme.RSA_PKCS1:
            return der.element(der.SEQUENCE, _PKCS1_OIDS[self.hash] + _NULL)
        return der.element(der.SEQUENCE, _PSS_OID + self._pss_parameters())

    def _pss_parameters(self) -> bytes:
        """RSASSA-PSS-params (RFC 4055 §3.1); DER leaves defaults out: SHA-1, MGF1 with SHA-1, a salt of 20 bytes."""
        parameters = b""
        if self.hash is not HashAlgorithm.SHA1:
            hash_ = der.element(der.SEQUENCE, _HASH_OIDS[self.hash] + _NULL)
            parameters += der.element(0xA0, hash_)
            parameters += der.element(0xA1, der.element(der.SEQUENCE, _MGF1_OID + hash_))
        if self.salt_length != 20:
            salt = self.salt_length.to_bytes(self.salt_length.bit_length() // 8 + 1, "big")
            parameters += der.element(0xA2, der.element(der.INTEGER, salt))
        return der.element(der.SEQUENCE, parameters)

    def __str__(self) -> str:
        return self.scheme.value if self.scheme in _EDDSA_OIDS else f"{self.scheme.value} with {self.hash.name}"


def parse_identifier(data: bytes) -> SignatureAlgorithm | None:
    """The algorithm of a DER AlgorithmIdentifier, or None for one not known here. Raises ValueError if malformed.

    Absent and NULL parameters of RSASSA-PKCS1-v1_5 and of hashes are both taken (RFC 4055 §2.1, §5).
    """
    body, rest = der.read(data, der.SEQUENCE)
    if rest:
        raise ValueError("bytes after the AlgorithmIdentifier")
    _, value, parameters = der.read_any(body)
    oid = body[: len(body) - len(parameters)]
    if body[0] != der.OBJECT_IDENTIFIER:
        raise ValueError("an AlgorithmIdentifier without an object identifier")
    der.decode_oid(value)
    for scheme, known in _EDDSA_OIDS.items():
        if oid == known:
            _require(not parameters, "EdDSA with parameters")
            return SignatureAlgorithm(scheme, HashAlgorithm.IDENTITY)
    for hash_, known in _ECDSA_OIDS.items():
        if oid == known:
            _require(not parameters, "ECDSA with parameters")
            return SignatureAlgorithm(Scheme.ECDSA, hash_)
    for hash_, known in _PKCS1_OIDS.items():
        if oid == known:
            _require(parameters in (b"", _NULL), "RSASSA-PKCS1-v1_5 with parameters")
            return SignatureAlgorithm(Scheme.RSA_PKCS1, hash_)
    return _parse_pss(parameters) if oid == _PSS_OID else None


def _parse_pss(data: bytes) -> SignatureAlgorithm | None:
    body, rest = der.read(data, der.SEQUENCE)
    _require(not rest, "bytes after RSASSA-PSS parameters")
    hash_: HashAlgorithm | None = HashAlgorithm.SHA1
    mask: HashAlgorithm | None = HashAlgorithm.SHA1
    salt, last = 20, 0
    while body:
        tag, value, body = der.read_any(body)
        _require(last < tag and 0xA0 <= tag <= 0xA3, "RSASSA-PSS parameters out of order or unknown")
        last = tag
        if tag == 0xA0:
            hash_ = _parse_hash(value)
        elif tag == 0xA1:
            function, rest = der.read(value, der.SEQUENCE)
            _require(not rest, "bytes after the mask generation function")
            if not function.startswith(_MGF1_OID):
                return None
            mask = _parse_hash(function[len(_MGF1_OID) :])
        elif tag == 0xA2:
            salt = _parse_integer(value)
        elif _parse_integer(value) != 1:
            raise ValueError("a trailer field that is not 1")
    # One hash for both is what RFC 4055 §3.1 recommends, and all that appendix A.4 of RFC 7427 has.
    if hash_ is None or hash_ is not mask or salt > _MAX_SALT:
        return None
    return SignatureAlgorithm(Scheme.RSA_PSS, hash_, salt)


def _parse_hash(data: bytes) -> HashAlgorithm | None:
    body, rest = der.read(data, der.SEQUENCE)
    _require(not rest, "bytes after a hash algorithm")
    return next((hash_ for hash_, oid in _HASH_OIDS.items() if body in (oid, oid + _NULL)), None)


def _parse_integer(data: bytes) -> int:
    value, rest = der.read(data, der.INTEGER)
    _require(not rest and 1 <= len(value) <= 4 and not value[0] & 0x80, "a number out of range")
    _require(len(value) == 1 or value[0] != 0 or bool(value[1] & 0x80), "a number that is not the shortest")
    return int.from_bytes(value, "big")


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise ValueError(otherwise)


def schemes_of(key: PublicKey) -> tuple[Scheme, ...]:
    """The schemes that a key can be used with."""
    match key:
        case rsa.RSAPublicKey():
            return Scheme.RSA_PSS, Scheme.RSA_PKCS1
        case ec.EllipticCurvePublicKey():
            return (Scheme.ECDSA,)
        case ed25519.Ed25519PublicKey():
            return (Scheme.ED25519,)
        case ed448.Ed448PublicKey():
            return (Scheme.ED448,)


def describe_key(key: PublicKey) -> str:
    """A key's type and size, for people."""
    match key:
        case rsa.RSAPublicKey():
            return f"RSA {key.key_size}"
        case ec.EllipticCurvePublicKey():
            return f"EC {key.curve.name}"
        case ed25519.Ed25519PublicKey():
            return "Ed25519"
        case ed448.Ed448PublicKey():
            return "Ed448"


def weakness_of(key: object) -> str | None:
    """Why a public key is not accepted, or None: RSA of 2048 to 8192 bits, three curves, Ed25519 and Ed448 are.

    RSA is bounded above too, in modulus and exponent, so that verifying a stranger's signature stays cheap.
    """
    if isinstance(key, rsa.RSAPublicKey):
        if not 2048 <= key.key_size <= 8192:
            return f"RSA with {key.key_size} bits"
        exponent = key.public_numbers().e
        return None if 3 <= exponent < 1 << 64 else "RSA with an unusual public exponent"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return None if isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1 | ec.SECP521R1) else f"curve {key.curve.name}"
    if isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        return None
    return f"a key of type {type(key).__name__.removesuffix('PublicKey')}"


def sign(key: PrivateKey, algorithm: SignatureAlgorithm, octets: bytes) -> bytes:
    """A signature as PKIX has it: ECDSA's is a DER sequence of r and s (RFC 7427 §3)."""
    match key:
        case rsa.RSAPrivateKey():
            return key.sign(octets, _rsa_padding(algorithm), HASHES[algorithm.hash])
        case ec.EllipticCurvePrivateKey():
            return key.sign(octets, ec.ECDSA(HASHES[algorithm.hash]))
        case ed25519.Ed25519PrivateKey() | ed448.Ed448PrivateKey():
            return key.sign(octets)


def verify(key: PublicKey, algorithm: SignatureAlgorithm, signature: bytes, octets: bytes) -> None:
    """Verify what ``sign`` made. The algorithm must be one of the key's schemes. Raises SignatureInvalid."""
    try:
        match key:
            case rsa.RSAPublicKey():
                key.verify(signature, octets, _rsa_padding(algorithm), HASHES[algorithm.hash])
            case ec.EllipticCurvePublicKey():
                key.verify(signature, octets, ec.ECDSA(HASHES[algorithm.hash]))
            case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey():
                key.verify(signature, octets)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError) as error:
        raise SignatureInvalid from error


def _rsa_padding(algorithm: SignatureAlgorithm) -> padding.AsymmetricPadding:
    if algorithm.scheme is Scheme.RSA_PSS:
        return padding.PSS(padding.MGF1(HASHES[algorithm.hash]), algorithm.salt_length)
    return padding.PKCS1v15()


def to_raw(signature: bytes, curve: ec.EllipticCurve) -> bytes:
    """A DER ECDSA signature as r and s side by side, each as long as the order of the group (RFC 4754 §7)."""
    size = (curve.key_size + 7) // 8
    r, s = decode_dss_signature(signature)
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


def from_raw(signature: bytes, curve: ec.EllipticCurve) -> bytes:
    """The reverse of ``to_raw``. Raises SignatureInvalid if the length is another."""
    size = (curve.key_size + 7) // 8
    if len(signature) != 2 * size:
        raise SignatureInvalid(f"{len(signature)} bytes, not {2 * size}")
    return encode_dss_signature(int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big"))
