"""Whatever certificates a peer sends, AuthenticationFailed is the only exception, and the work is bounded."""

from __future__ import annotations

import time
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.ike.authentication import (
    SUPPORTED_HASHES,
    AuthenticationFailed,
    Method,
    RemotePolicy,
    make_auth,
    verify_auth,
)
from appliance.ike.authentication.certificate import Certificate, MalformedCertificate
from appliance.ike.payloads import AuthPayload, CertPayload
from appliance.reasons import Reason
from appliance.sa.algorithms import Prf
from appliance.sa.identity import Identity
from tests.pki import NOW, Issued, KeyKind, authority, end_entity

PRF = Prf.HMAC_SHA2_256
GW_A = Identity.parse("gw-a.example")


@cache
def corpus() -> tuple[Issued, ...]:
    root = authority("Root")
    ca = authority("Middle", issuer=root, path_length=3)
    return tuple(
        end_entity(ca, kind, ip=["192.0.2.1"], email=["a@example.org"], purposes=[], label="corpus")
        if kind is KeyKind.P384
        else end_entity(ca, kind, label="corpus")
        for kind in (KeyKind.P256, KeyKind.P384, KeyKind.RSA_2048, KeyKind.ED25519)
    )


def attempt(peer: Issued, certificates: list[CertPayload | bytes], identity: Identity = GW_A) -> None:
    auth = cached_auth(peer)
    policy = RemotePolicy(method=Method.PUBKEY, identity=Identity.any(), anchors=(peer.chain[-1],))
    try:
        verify_auth(policy, auth, identity, certificates, b"octets", PRF, NOW)
    except AuthenticationFailed as failure:
        assert str(failure).isprintable()
        assert failure.remedy


@cache
def _auth(index: int) -> AuthPayload:
    return make_auth(corpus()[index].credential(), b"octets", PRF, peer_hashes=SUPPORTED_HASHES)


def cached_auth(peer: Issued) -> AuthPayload:
    return _auth(corpus().index(peer))


QUICK = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@QUICK
@given(st.integers(0, 3), st.booleans(), st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=4))
def test_certificates_with_changed_bytes_are_refused_or_read(
    index: int, damage_ca: bool, changes: list[tuple[int, int]]
) -> None:
    peer = corpus()[index]
    damaged = bytearray(peer.chain_der[1 if damage_ca else 0])
    for position, value in changes:
        damaged[position % len(damaged)] = value
    attempt(peer, [peer.der, bytes(damaged)] if damage_ca else [bytes(damaged), peer.chain_der[1]])


@QUICK
@given(st.integers(0, 3), st.integers(0, 4000), st.integers(0, 4000), st.binary(max_size=40))
def test_certificates_with_parts_cut_out_and_put_in_are_refused(
    index: int, start: int, length: int, put: bytes
) -> None:
    peer = corpus()[index]
    start %= len(peer.der)
    attempt(peer, [peer.der[:start] + put + peer.der[start + length :], *peer.chain_der[1:]])


def test_every_single_bit_of_a_certificate_matters() -> None:
    peer = corpus()[0]
    policy = RemotePolicy(method=Method.PUBKEY, identity=GW_A, anchors=(peer.chain[-1],))
    for position in range(len(peer.der)):
        for bit in (0x01, 0x80):
            damaged = bytearray(peer.der)
            damaged[position] ^= bit
            with pytest.raises(AuthenticationFailed):
                verify_auth(policy, cached_auth(peer), GW_A, [bytes(damaged), peer.chain_der[1]], b"octets", PRF, NOW)


@QUICK
@given(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=100)), max_size=18), st.binary(max_size=40))
def test_any_payloads_are_refused(payloads: list[tuple[int, bytes]], identity: bytes) -> None:
    attempt(corpus()[0], [CertPayload(encoding, data) for encoding, data in payloads], Identity(2, identity))


@QUICK
@given(st.binary(max_size=300))
def test_any_bytes_are_a_certificate_or_malformed(data: bytes) -> None:
    try:
        Certificate.parse(data)
    except MalformedCertificate as error:
        assert str(error).isprintable()


def test_a_mesh_of_cas_costs_bounded_signatures_and_time() -> None:
    mesh = [authority("Mesh", label="mesh") for _ in range(15)]
    peer = end_entity(mesh[0], label="mesh peer")
    auth = make_auth(peer.credential(), b"octets", PRF, peer_hashes=SUPPORTED_HASHES)
    policy = RemotePolicy(method=Method.PUBKEY, identity=GW_A, anchors=(authority("Other").certificate,))
    begin = time.process_time()
    with pytest.raises(AuthenticationFailed) as caught:
        verify_auth(policy, auth, GW_A, [peer.der, *(ca.der for ca in mesh)], b"octets", PRF, NOW)
    assert caught.value.reason is Reason.CERT_TOO_MANY
    assert time.process_time() - begin < 1
