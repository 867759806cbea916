"""CERTREQ and the certificates that are sent (RFC 7296 §3.6, §3.7)."""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from appliance.ike.authentication import PskCredential, certreq_for, chain_for
from appliance.ike.constants import CertEncoding
from appliance.ike.payloads import CertPayload, CertReqPayload
from tests.pki import Issued, KeyKind, authority, end_entity


def sent(payloads: tuple[CertPayload, ...]) -> list[bytes]:
    assert all(payload.encoding == CertEncoding.X509_SIGNATURE for payload in payloads)
    return [payload.data for payload in payloads]


def chain() -> tuple[Issued, Issued, Issued, Issued]:
    root = authority("Root")
    upper = authority("Upper", issuer=root)
    lower = authority("Lower", issuer=upper)
    return root, upper, lower, end_entity(lower)


def test_a_request_names_each_key_once_by_sha1_rfc7296_3_7() -> None:
    roots = [authority("A"), authority("B", KeyKind.RSA_2048), authority("A renewed", label="ca A")]
    spki = [
        root.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) for root in roots
    ]
    request = certreq_for([root.certificate for root in roots])
    assert request.encoding == CertEncoding.X509_SIGNATURE
    assert request.key_hashes == tuple(hashlib.sha1(each).digest() for each in spki[:2])
    assert CertReqPayload.parse(request.encode()) == request


def test_the_end_entity_comes_first_and_the_root_is_left_out_rfc7296_3_6() -> None:
    _, upper, lower, peer = chain()
    assert sent(chain_for(peer.credential(), ())) == [peer.der, lower.der, upper.der]


def test_what_the_peer_trusts_is_left_out_rfc7296_3_7() -> None:
    root, upper, lower, peer = chain()
    assert sent(chain_for(peer.credential(), [certreq_for([upper.certificate])])) == [peer.der, lower.der]
    assert sent(chain_for(peer.credential(), [certreq_for([lower.certificate])])) == [peer.der]
    assert sent(chain_for(peer.credential(), [certreq_for([root.certificate])])) == [peer.der, lower.der, upper.der]


def test_an_unknown_or_malformed_request_keeps_nothing_back_rfc7296_3_7() -> None:
    _, upper, lower, peer = chain()
    requests = [certreq_for([authority("Other").certificate]), CertReqPayload(4, b"odd"), CertReqPayload(12, bytes(20))]
    assert sent(chain_for(peer.credential(), requests)) == [peer.der, lower.der, upper.der]


def test_a_self_signed_peer_sends_its_certificate() -> None:
    peer = end_entity(None)
    assert sent(chain_for(peer.credential(), ())) == [peer.der]


def test_a_psk_sends_none() -> None:
    assert chain_for(PskCredential(b"secret"), [certreq_for([])]) == ()
