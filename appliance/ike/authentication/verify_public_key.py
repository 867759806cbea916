"""Verifying a peer's signature and certificates (RFC 7296 §2.15, RFC 7427, RFC 4754).

Here all of X.509 comes in, megabytes of it: who has pre-shared keys only does not import this.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from appliance.ike.authentication.certificate import Certificate, MalformedCertificate
from appliance.ike.authentication.failure import AuthenticationFailed
from appliance.ike.authentication.path import validate
from appliance.ike.authentication.policy import RemotePolicy, Verified
from appliance.ike.authentication.signature import (
    ECDSA_METHODS,
    PublicKey,
    Scheme,
    SignatureAlgorithm,
    SignatureInvalid,
    describe_key,
    from_raw,
    parse_identifier,
    schemes_of,
    verify,
)
from appliance.ike.constants import AuthMethod, CertEncoding, HashAlgorithm, name
from appliance.ike.payloads import AuthPayload, CertPayload
from appliance.reasons import Reason
from appliance.sa.identity import Identity

MAX_CERTIFICATES = 16
"""CERT payloads that one peer may send."""

MAX_TOTAL = 128 * 1024
"""Bytes of all of them."""


def verify_public_key(
    policy: RemotePolicy,
    auth: AuthPayload,
    identity: Identity,
    payloads: Sequence[CertPayload | bytes],
    octets: bytes,
    now: datetime,
) -> Verified:
    """The second half of ``verify_auth`` for a peer that signs. Raises AuthenticationFailed."""
    end_entity, intermediates, notes = _read_certificates(payloads)
    anchors = [anchor for certificate in policy.anchors if (anchor := _anchor(certificate)) is not None]
    path = validate(end_entity, intermediates, anchors, now)
    # After the path, whose checks refuse names that are not what they seem.
    if not end_entity.carries(identity):
        carried = ", ".join(str(each) for each in end_entity.alternative_identities()[:8]) or "no subjectAltName"
        detail = f"{identity.described} is not in {end_entity.title}, which carries {carried}"
        raise AuthenticationFailed(Reason.CERT_IDENTITY_MISSING, detail)
    key = end_entity.certificate.public_key()
    assert isinstance(key, PublicKey)  # others were refused as weak
    algorithm = _verify_signature(policy, auth, key, octets, end_entity)
    return Verified(
        method=AuthMethod(auth.method),
        identity=identity,
        algorithm=f"{algorithm}, {describe_key(key)}",
        path=tuple(certificate.certificate for certificate in path),
        expires=min(certificate.not_after for certificate in path),
        notes=notes,
    )


def _read_certificates(
    payloads: Sequence[CertPayload | bytes],
) -> tuple[Certificate, tuple[Certificate, ...], tuple[str, ...]]:
    """(end entity, intermediates, notes of what was ignored)."""
    sent = [CertPayload(CertEncoding.X509_SIGNATURE, each) if isinstance(each, bytes) else each for each in payloads]
    total = sum(len(each.data) for each in sent)
    if len(sent) > MAX_CERTIFICATES or total > MAX_TOTAL:
        raise AuthenticationFailed(
            Reason.CERT_TOO_MANY,
            f"{len(sent)} certificates of {total} bytes; {MAX_CERTIFICATES} of {MAX_TOTAL} bytes are taken",
        )
    if not sent:
        raise AuthenticationFailed(Reason.CERT_MISSING)
    # §3.6: the first certificate is the one whose key verifies AUTH, so no other can stand in for it.
    if sent[0].encoding != CertEncoding.X509_SIGNATURE:
        raise AuthenticationFailed(Reason.CERT_ENCODING_UNSUPPORTED, name(CertEncoding, sent[0].encoding))
    certificates: list[Certificate] = []
    notes: list[str] = []
    for index, payload in enumerate(sent):
        if payload.encoding != CertEncoding.X509_SIGNATURE:
            # Hash and URL is not fetched either: what an unauthenticated peer names is not looked up.
            notes.append(f"certificate {index + 1} is ignored: encoding {name(CertEncoding, payload.encoding)}")
            continue
        try:
            certificate = Certificate.parse(payload.data)
        except MalformedCertificate as error:
            if index == 0:
                raise AuthenticationFailed(Reason.CERT_MALFORMED, str(error)) from error
            notes.append(f"certificate {index + 1} is ignored: {error}")
            continue
        if certificate not in certificates:
            certificates.append(certificate)
    return certificates[0], tuple(certificates[1:]), tuple(notes)


@lru_cache(maxsize=512)
def _anchor(certificate: x509.Certificate) -> Certificate | None:
    """A trusted certificate, read once. One that cannot be read is not trusted; it was refused when it was loaded."""
    try:
        return Certificate.of(certificate)
    except MalformedCertificate:
        return None


def _verify_signature(
    policy: RemotePolicy, auth: AuthPayload, key: PublicKey, octets: bytes, certificate: Certificate
) -> str:
    """Verify AUTH by its method; returns the algorithm in words."""
    try:
        if auth.method == AuthMethod.DIGITAL_SIGNATURE:
            return _verify_digital_signature(policy, auth.data, key, octets, pss_only=certificate.pss_only)
        if auth.method == AuthMethod.RSA_DIGITAL_SIGNATURE and certificate.pss_only:
            raise AuthenticationFailed(Reason.AUTH_KEY_MISMATCH, f"{certificate.title} is for RSASSA-PSS only")
        if auth.method == AuthMethod.RSA_DIGITAL_SIGNATURE:
            return _verify_rsa(policy, auth.data, key, octets)
        return _verify_ecdsa(AuthMethod(auth.method), auth.data, key, octets)
    except SignatureInvalid as error:
        raise AuthenticationFailed(Reason.AUTH_SIGNATURE_INVALID, certificate.title) from error


def _verify_digital_signature(
    policy: RemotePolicy, data: bytes, key: PublicKey, octets: bytes, *, pss_only: bool
) -> str:
    """Method 14 (RFC 7427 §3)."""
    if not data or len(data) < 1 + data[0] or data[0] == 0:
        raise AuthenticationFailed(Reason.AUTH_MALFORMED, "AUTH ends within its AlgorithmIdentifier")
    identifier, signature = data[1 : 1 + data[0]], data[1 + data[0] :]
    try:
        algorithm = parse_identifier(identifier)
    except ValueError as error:
        raise AuthenticationFailed(Reason.AUTH_MALFORMED, f"AlgorithmIdentifier: {error}") from error
    if algorithm is None:
        raise AuthenticationFailed(Reason.AUTH_ALGORITHM_UNSUPPORTED, f"AlgorithmIdentifier {identifier[:32].hex()}")
    if algorithm.scheme not in schemes_of(key) or (pss_only and algorithm.scheme is not Scheme.RSA_PSS):
        detail = f"{algorithm} with a key of type {describe_key(key)}{' for RSASSA-PSS only' if pss_only else ''}"
        raise AuthenticationFailed(Reason.AUTH_KEY_MISMATCH, detail)
    # RFC 7427 §4: only what was announced may be used. SHA-1 never is.
    if algorithm.hash is HashAlgorithm.SHA1:
        raise AuthenticationFailed(Reason.AUTH_ALGORITHM_WEAK, f"the peer used {algorithm}")
    if algorithm.hash not in policy.hashes:
        detail = f"{algorithm}; announced was {', '.join(sorted(hash_.name for hash_ in policy.hashes))}"
        raise AuthenticationFailed(Reason.AUTH_ALGORITHM_UNSUPPORTED, detail)
    verify(key, algorithm, signature, octets)
    return str(algorithm)


def _verify_rsa(policy: RemotePolicy, data: bytes, key: PublicKey, octets: bytes) -> str:
    """Method 1: RSASSA-PKCS1-v1_5. The hash is not told; SHA-1 is the default, others may be used (RFC 7296 §3.8)."""
    if not isinstance(key, rsa.RSAPublicKey):
        detail = f"{AuthMethod.RSA_DIGITAL_SIGNATURE.name} with a key of type {describe_key(key)}"
        raise AuthenticationFailed(Reason.AUTH_KEY_MISMATCH, detail)
    for hash_ in (HashAlgorithm.SHA2_256, HashAlgorithm.SHA2_384, HashAlgorithm.SHA2_512):
        algorithm = SignatureAlgorithm(Scheme.RSA_PKCS1, hash_)
        try:
            verify(key, algorithm, data, octets)
        except SignatureInvalid:
            continue
        return str(algorithm)
    algorithm = SignatureAlgorithm(Scheme.RSA_PKCS1, HashAlgorithm.SHA1)
    verify(key, algorithm, data, octets)
    if not policy.allow_sha1:
        raise AuthenticationFailed(Reason.AUTH_ALGORITHM_WEAK, f"the peer used {algorithm}")
    return str(algorithm)


def _verify_ecdsa(method: AuthMethod, data: bytes, key: PublicKey, octets: bytes) -> str:
    """Methods 9 to 11: a curve with its hash, r and s side by side (RFC 4754 §3, §7)."""
    if not isinstance(key, ec.EllipticCurvePublicKey) or ECDSA_METHODS[key.curve.name][0] is not method:
        detail = f"{method.name} with a key of type {describe_key(key)}"
        raise AuthenticationFailed(Reason.AUTH_KEY_MISMATCH, detail)
    algorithm = SignatureAlgorithm(Scheme.ECDSA, ECDSA_METHODS[key.curve.name][1])
    verify(key, algorithm, from_raw(data, key.curve), octets)
    return str(algorithm)
