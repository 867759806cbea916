"""Asking for certificates, and which to send (RFC 7296 §3.6, §3.7)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from appliance.ike.authentication.credential import LocalCredential, PublicKeyCredential
from appliance.ike.constants import CertEncoding
from appliance.ike.payloads import CertPayload, CertReqPayload

if TYPE_CHECKING:
    from cryptography import x509


@lru_cache(maxsize=1024)
def key_hash(certificate: x509.Certificate) -> bytes:
    """SHA-1 of the SubjectPublicKeyInfo, 20 bytes, by which a CERTREQ names a CA."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha1(key, usedforsecurity=False).digest()


def certreq_for(anchors: Sequence[x509.Certificate]) -> CertReqPayload:
    """The CERTREQ that names the trusted CAs, each key once; without any, it asks for certificates of any CA."""
    hashes = dict.fromkeys(key_hash(anchor) for anchor in anchors)
    return CertReqPayload(CertEncoding.X509_SIGNATURE, b"".join(hashes))


def chain_for(credential: LocalCredential, requests: Iterable[CertReqPayload]) -> tuple[CertPayload, ...]:
    """The CERT payloads to send: the end entity's certificate first, then intermediates up to what the peer trusts.

    None for a pre-shared key. A root is left out, the peer has it or does not trust it; so is an intermediate whose key
    the peer asked for, with all behind it. A request never keeps the certificate back: it is a hint, and a peer may
    trust a CA without naming it (§3.7).
    """
    if not isinstance(credential, PublicKeyCredential):
        return ()
    from cryptography.hazmat.primitives.serialization import Encoding

    trusted = {hash_ for request in requests for hash_ in request.key_hashes}
    chain = [credential.certificates[0]]
    for certificate in credential.certificates[1:]:
        if certificate.subject == certificate.issuer or key_hash(certificate) in trusted:
            break
        chain.append(certificate)
    return tuple(CertPayload(CertEncoding.X509_SIGNATURE, each.public_bytes(Encoding.DER)) for each in chain)
