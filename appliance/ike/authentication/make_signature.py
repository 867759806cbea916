"""Making this side's AUTH payload with a private key (RFC 7427, RFC 4754)."""

from __future__ import annotations

from collections.abc import Collection

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from appliance.ike.authentication.credential import PublicKeyCredential, RsaScheme
from appliance.ike.authentication.failure import AuthenticationFailed
from appliance.ike.authentication.signature import (
    ECDSA_METHODS,
    PublicKey,
    Scheme,
    SignatureAlgorithm,
    describe_key,
    schemes_of,
    sign,
    to_raw,
)
from appliance.ike.constants import AuthMethod, HashAlgorithm
from appliance.ike.payloads import AuthPayload
from appliance.reasons import Reason

_SHA2 = (HashAlgorithm.SHA2_256, HashAlgorithm.SHA2_384, HashAlgorithm.SHA2_512)


def make_signature(
    credential: PublicKeyCredential, octets: bytes, *, peer_hashes: Collection[HashAlgorithm]
) -> AuthPayload:
    """``make_auth`` for a private key."""
    algorithm = choose_algorithm(credential, peer_hashes)
    if algorithm is None:
        return _older_method(credential, octets, announced=bool(peer_hashes))
    identifier = algorithm.identifier()
    # RFC 7427 §3: the length of the AlgorithmIdentifier, itself, and the signature.
    signature = sign(credential.private_key, algorithm, octets)
    return AuthPayload(AuthMethod.DIGITAL_SIGNATURE, bytes((len(identifier),)) + identifier + signature)


def choose_algorithm(
    credential: PublicKeyCredential, peer_hashes: Collection[HashAlgorithm]
) -> SignatureAlgorithm | None:
    """The RFC 7427 algorithm for a key among those the peer announced hashes for, or None. Never one with SHA-1."""
    key = credential.private_key.public_key()
    scheme = schemes_of(key)[0]
    if scheme is Scheme.RSA_PSS and credential.rsa_scheme is RsaScheme.PKCS1:
        scheme = Scheme.RSA_PKCS1
    for hash_ in _preferred_hashes(key):
        if hash_ in peer_hashes:
            return SignatureAlgorithm.of(scheme, hash_)
    return None


def _preferred_hashes(key: PublicKey) -> tuple[HashAlgorithm, ...]:
    """Hashes by how well their strength suits the key's (RFC 7427 §5), the best one first."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        suited = ECDSA_METHODS[key.curve.name][1]
    elif isinstance(key, rsa.RSAPublicKey):
        suited = _SHA2[(key.key_size > 3072) + (key.key_size > 7680)]
    else:
        return (HashAlgorithm.IDENTITY,)
    return (suited, *(hash_ for hash_ in _SHA2 if hash_ is not suited))


def _older_method(credential: PublicKeyCredential, octets: bytes, *, announced: bool) -> AuthPayload:
    key = credential.private_key
    why = "the peer announces none of the hashes for it" if announced else "the peer announces no hash algorithms"
    if isinstance(key, ec.EllipticCurvePrivateKey):
        method, hash_ = ECDSA_METHODS[key.curve.name]
        return AuthPayload(method, to_raw(sign(key, SignatureAlgorithm(Scheme.ECDSA, hash_), octets), key.curve))
    if isinstance(key, rsa.RSAPrivateKey):
        if not credential.allow_sha1:
            raise AuthenticationFailed(Reason.AUTH_ALGORITHM_WEAK, f"the local key is RSA, and {why}")
        algorithm = SignatureAlgorithm(Scheme.RSA_PKCS1, HashAlgorithm.SHA1)
        return AuthPayload(AuthMethod.RSA_DIGITAL_SIGNATURE, sign(key, algorithm, octets))
    raise AuthenticationFailed(
        Reason.AUTH_NO_COMMON_ALGORITHM, f"the local key is {describe_key(key.public_key())}, and {why} (RFC 8420)"
    )
