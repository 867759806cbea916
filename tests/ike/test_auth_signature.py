"""AUTH payloads: every method with every key, both ways, and what must not verify."""

from __future__ import annotations

import hmac
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.ike.authentication import (
    SUPPORTED_HASHES,
    AuthenticationFailed,
    Method,
    PskCredential,
    PublicKeyCredential,
    RemotePolicy,
    RsaScheme,
    Verified,
    make_auth,
    signed_octets,
    verify_auth,
)
from appliance.ike.authentication.signature import Scheme, SignatureAlgorithm, from_raw, parse_identifier, sign, verify
from appliance.ike.constants import AuthMethod, HashAlgorithm
from appliance.ike.payloads import AuthPayload
from appliance.reasons import Reason
from appliance.sa import der
from appliance.sa.algorithms import Prf
from appliance.sa.identity import Identity
from tests.pki import GOOD_KINDS, NOW, Issued, KeyKind, authority, end_entity, private_key

PRF = Prf.HMAC_SHA2_384
OCTETS = b"the octets that are signed"
GW_A = Identity.parse("gw-a.example")
H = HashAlgorithm
ALL = frozenset(SUPPORTED_HASHES)


def pubkey_policy(issued: Issued, **options: bool) -> RemotePolicy:
    return RemotePolicy(method=Method.PUBKEY, identity=GW_A, anchors=(issued.chain[-1],), **options)


def check(issued: Issued, auth: AuthPayload, policy: RemotePolicy | None = None, octets: bytes = OCTETS) -> Verified:
    return verify_auth(policy or pubkey_policy(issued), auth, GW_A, issued.chain_der, octets, PRF, NOW)


def refusal(issued: Issued, auth: AuthPayload, policy: RemotePolicy | None = None, octets: bytes = OCTETS) -> Reason:
    with pytest.raises(AuthenticationFailed) as caught:
        check(issued, auth, policy, octets)
    return caught.value.reason


def gateway(kind: KeyKind) -> Issued:
    return end_entity(authority(), kind)


# -- what is signed


def test_signed_octets_are_message_nonce_and_maced_id_rfc7296_2_15() -> None:
    maced = hmac.digest(b"SK_pi", b"\x02\0\0\0gw-a.example", "sha384")
    got = signed_octets(b"message", b"nonce", PRF, b"SK_pi", b"\x02\0\0\0gw-a.example")
    assert got == b"message" + b"nonce" + maced


@pytest.mark.parametrize(("prf", "hash_"), [(5, "sha256"), (6, "sha384"), (7, "sha512")])
def test_psk_auth_is_prf_of_padded_key_and_octets_rfc7296_2_15(prf: int, hash_: str) -> None:
    expected = hmac.digest(hmac.digest(b"secret", b"Key Pad for IKEv2", hash_), OCTETS, hash_)
    assert make_auth(PskCredential(b"secret"), OCTETS, Prf(prf), peer_hashes=ALL) == AuthPayload(2, expected)


# -- pre-shared keys


def psk_policy(secret: bytes = b"secret", identity: str = "gw-a.example") -> RemotePolicy:
    return RemotePolicy(method=Method.PSK, identity=Identity.parse(identity), psk=PskCredential(secret))


def test_the_same_psk_authenticates_rfc7296_2_15() -> None:
    auth = make_auth(PskCredential(b"secret"), OCTETS, PRF, peer_hashes=frozenset())
    got = verify_auth(psk_policy(), auth, GW_A, (), OCTETS, PRF, NOW)
    assert (got.method, got.identity, got.path, got.expires) == (AuthMethod.SHARED_KEY_MIC, GW_A, (), None)


@pytest.mark.parametrize(
    ("auth", "policy", "reason"),
    [
        (PskCredential(b"other"), psk_policy(), Reason.AUTH_PSK_MISMATCH),
        (AuthPayload(2, b""), psk_policy(), Reason.AUTH_PSK_MISMATCH),
        (PskCredential(b"secret"), psk_policy(identity="gw-b.example"), Reason.AUTH_IDENTITY_MISMATCH),
        (AuthPayload(14, b"\x05"), psk_policy(), Reason.AUTH_METHOD_MISMATCH),
        (AuthPayload(1, b"x"), psk_policy(), Reason.AUTH_METHOD_MISMATCH),
        (AuthPayload(13, b""), psk_policy(), Reason.AUTH_METHOD_UNSUPPORTED),
        (AuthPayload(0, b""), psk_policy(), Reason.AUTH_METHOD_UNSUPPORTED),
        (AuthPayload(3, b""), psk_policy(), Reason.AUTH_METHOD_UNSUPPORTED),
        (AuthPayload(255, b""), psk_policy(), Reason.AUTH_METHOD_UNSUPPORTED),
    ],
)
def test_psk_refusals_say_why(auth: PskCredential | AuthPayload, policy: RemotePolicy, reason: Reason) -> None:
    if isinstance(auth, PskCredential):
        auth = make_auth(auth, OCTETS, PRF, peer_hashes=ALL)
    with pytest.raises(AuthenticationFailed) as caught:
        verify_auth(policy, auth, GW_A, (), OCTETS, PRF, NOW)
    assert caught.value.reason is reason


def test_identity_mismatch_names_both_identities() -> None:
    auth = make_auth(PskCredential(b"secret"), OCTETS, PRF, peer_hashes=ALL)
    with pytest.raises(AuthenticationFailed, match=r"FQDN gw-a\.example.*FQDN gw-b\.example"):
        verify_auth(psk_policy(identity="gw-b.example"), auth, GW_A, (), OCTETS, PRF, NOW)


def test_an_identity_with_nul_is_refused_whatever_is_expected() -> None:
    auth = make_auth(PskCredential(b"secret"), OCTETS, PRF, peer_hashes=ALL)
    with pytest.raises(AuthenticationFailed) as caught:
        verify_auth(psk_policy(identity="%any"), auth, Identity(2, b"gw\0"), (), OCTETS, PRF, NOW)
    assert caught.value.reason is Reason.AUTH_IDENTITY_INVALID


def test_secrets_are_not_shown() -> None:
    credential = PskCredential(b"horse battery")
    policy = psk_policy(b"horse battery")
    assert "horse" not in f"{credential!r} {policy!r} {credential} {policy}"
    assert "PrivateKey" not in repr(gateway(KeyKind.P256).credential())


def test_credentials_and_policies_that_cannot_work_are_not_made() -> None:
    one, other = gateway(KeyKind.P256), gateway(KeyKind.P384)
    with pytest.raises(ValueError, match="empty"):
        PskCredential(b"")
    with pytest.raises(ValueError, match="not the one"):
        PublicKeyCredential(one.key, other.chain)
    with pytest.raises(ValueError, match="at least"):
        PublicKeyCredential(one.key, ())
    with pytest.raises(ValueError, match="pre-shared"):
        RemotePolicy(method=Method.PSK, identity=GW_A)
    with pytest.raises(ValueError, match="trusted CA"):
        RemotePolicy(method=Method.PUBKEY, identity=GW_A)


def test_credentials_are_equal_if_nothing_changed() -> None:
    issued = gateway(KeyKind.ED25519)
    assert issued.credential() == issued.credential()
    assert hash(issued.credential()) == hash(issued.credential())
    assert issued.credential() != gateway(KeyKind.P256).credential()
    assert issued.credential() != issued.credential(RsaScheme.PKCS1)


# -- RFC 7427


@pytest.mark.parametrize("kind", GOOD_KINDS, ids=lambda kind: kind.value)
@pytest.mark.parametrize("scheme", RsaScheme, ids=lambda scheme: scheme.value)
def test_every_key_signs_and_verifies_by_rfc7427(kind: KeyKind, scheme: RsaScheme) -> None:
    issued = gateway(kind)
    auth = make_auth(issued.credential(scheme), OCTETS, PRF, peer_hashes=ALL)
    assert auth.method == AuthMethod.DIGITAL_SIGNATURE
    got = check(issued, auth)
    assert (got.method, got.identity) == (AuthMethod.DIGITAL_SIGNATURE, GW_A)
    assert got.path == issued.chain
    assert got.expires == min(each.not_valid_after_utc for each in issued.chain)
    assert refusal(issued, auth, octets=OCTETS + b"x") is Reason.AUTH_SIGNATURE_INVALID
    damaged = replace(auth, data=auth.data[:-1] + bytes((auth.data[-1] ^ 1,)))
    assert refusal(issued, damaged) is Reason.AUTH_SIGNATURE_INVALID


@pytest.mark.parametrize(
    ("kind", "announced", "algorithm"),
    [
        (KeyKind.RSA_2048, {H.SHA2_256, H.SHA2_384, H.SHA2_512}, "RSASSA-PSS with SHA2_256, RSA 2048"),
        (KeyKind.RSA_2048, {H.SHA2_512}, "RSASSA-PSS with SHA2_512, RSA 2048"),
        (KeyKind.RSA_2048, {H.SHA1, H.SHA2_384}, "RSASSA-PSS with SHA2_384, RSA 2048"),
        (KeyKind.P256, {H.SHA2_256, H.SHA2_512}, "ECDSA with SHA2_256, EC secp256r1"),
        (KeyKind.P384, {H.SHA2_256, H.SHA2_384}, "ECDSA with SHA2_384, EC secp384r1"),
        (KeyKind.P521, {H.SHA2_256, H.SHA2_512}, "ECDSA with SHA2_512, EC secp521r1"),
        (KeyKind.P521, {H.SHA2_256}, "ECDSA with SHA2_256, EC secp521r1"),
        (KeyKind.ED25519, {H.SHA2_256, H.IDENTITY}, "Ed25519, Ed25519"),
        (KeyKind.ED448, {H.IDENTITY}, "Ed448, Ed448"),
    ],
)
def test_only_announced_hashes_are_used_and_the_suited_one_first_rfc7427_4(
    kind: KeyKind, announced: set[HashAlgorithm], algorithm: str
) -> None:
    issued = gateway(kind)
    auth = make_auth(issued.credential(), OCTETS, PRF, peer_hashes=announced)
    assert check(issued, auth).algorithm == algorithm


@pytest.mark.parametrize(
    ("kind", "announced", "reason"),
    [
        (KeyKind.ED25519, {H.SHA2_256}, Reason.AUTH_NO_COMMON_ALGORITHM),
        (KeyKind.ED25519, set(), Reason.AUTH_NO_COMMON_ALGORITHM),
        (KeyKind.ED448, set(), Reason.AUTH_NO_COMMON_ALGORITHM),
        (KeyKind.RSA_2048, {H.SHA1}, Reason.AUTH_ALGORITHM_WEAK),
        (KeyKind.RSA_2048, {H.IDENTITY}, Reason.AUTH_ALGORITHM_WEAK),
        (KeyKind.RSA_2048, set(), Reason.AUTH_ALGORITHM_WEAK),
    ],
)
def test_a_key_without_common_algorithm_says_so_rfc8420_2(
    kind: KeyKind, announced: set[HashAlgorithm], reason: Reason
) -> None:
    with pytest.raises(AuthenticationFailed) as caught:
        make_auth(gateway(kind).credential(), OCTETS, PRF, peer_hashes=announced)
    assert caught.value.reason is reason


def test_a_hash_that_was_not_announced_is_refused_rfc7427_4() -> None:
    issued = gateway(KeyKind.P256)
    auth = make_auth(issued.credential(), OCTETS, PRF, peer_hashes={H.SHA2_256})
    policy = replace(pubkey_policy(issued), hashes=frozenset({H.SHA2_384}))
    assert refusal(issued, auth, policy) is Reason.AUTH_ALGORITHM_UNSUPPORTED


@pytest.mark.parametrize(
    ("kind", "scheme"),
    [(KeyKind.RSA_2048, Scheme.RSA_PKCS1), (KeyKind.RSA_2048, Scheme.RSA_PSS), (KeyKind.P256, Scheme.ECDSA)],
)
def test_sha1_is_refused_in_digital_signatures_even_where_allowed_for_rsa(kind: KeyKind, scheme: Scheme) -> None:
    issued = gateway(kind)
    algorithm = SignatureAlgorithm(scheme, H.SHA1, 20 if scheme is Scheme.RSA_PSS else 0)
    auth = digital_signature(algorithm.identifier(), sign(issued.key, algorithm, OCTETS))
    assert refusal(issued, auth) is Reason.AUTH_ALGORITHM_WEAK
    assert refusal(issued, auth, pubkey_policy(issued, allow_sha1=True)) is Reason.AUTH_ALGORITHM_WEAK


def digital_signature(identifier: bytes, signature: bytes) -> AuthPayload:
    return AuthPayload(AuthMethod.DIGITAL_SIGNATURE, bytes((len(identifier),)) + identifier + signature)


@pytest.mark.parametrize(
    ("signer", "presenter"),
    [
        (KeyKind.RSA_2048, KeyKind.P256),
        (KeyKind.P256, KeyKind.RSA_2048),
        (KeyKind.ED25519, KeyKind.ED448),
        (KeyKind.P256, KeyKind.ED25519),
    ],
)
def test_an_algorithm_that_does_not_fit_the_key_is_refused_rfc7427_3(signer: KeyKind, presenter: KeyKind) -> None:
    auth = make_auth(gateway(signer).credential(), OCTETS, PRF, peer_hashes=ALL)
    assert refusal(gateway(presenter), auth) is Reason.AUTH_KEY_MISMATCH


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"\0\x30", b"\x0c\x30\x0a", b"\xff", b"\x02\x30\x05abc", b"\x02\x05\0x",
             b"\x04\x30\x02\x05\0sig", b"\x0b\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03sig"]
)  # fmt: skip
def test_a_malformed_algorithm_identifier_is_refused_rfc7427_3(data: bytes) -> None:
    assert refusal(gateway(KeyKind.P256), AuthPayload(14, data)) is Reason.AUTH_MALFORMED


def test_an_unknown_algorithm_identifier_is_refused_rfc7427_3() -> None:
    sm2 = bytes.fromhex("300a06082a811ccf55018375")
    assert refusal(gateway(KeyKind.P256), digital_signature(sm2, b"x" * 64)) is Reason.AUTH_ALGORITHM_UNSUPPORTED


# RFC 7427 appendix A, RFC 8420 appendix A.
IDENTIFIERS = {
    SignatureAlgorithm(Scheme.RSA_PKCS1, H.SHA1): "300d06092a864886f70d0101050500",
    SignatureAlgorithm(Scheme.RSA_PKCS1, H.SHA2_256): "300d06092a864886f70d01010b0500",
    SignatureAlgorithm(Scheme.RSA_PKCS1, H.SHA2_384): "300d06092a864886f70d01010c0500",
    SignatureAlgorithm(Scheme.RSA_PKCS1, H.SHA2_512): "300d06092a864886f70d01010d0500",
    SignatureAlgorithm(Scheme.ECDSA, H.SHA1): "300906072a8648ce3d0401",
    SignatureAlgorithm(Scheme.ECDSA, H.SHA2_256): "300a06082a8648ce3d040302",
    SignatureAlgorithm(Scheme.ECDSA, H.SHA2_384): "300a06082a8648ce3d040303",
    SignatureAlgorithm(Scheme.ECDSA, H.SHA2_512): "300a06082a8648ce3d040304",
    SignatureAlgorithm(Scheme.RSA_PSS, H.SHA1, 20): "300d06092a864886f70d01010a3000",
    SignatureAlgorithm(Scheme.RSA_PSS, H.SHA2_256, 32): (
        "304106092a864886f70d01010a3034a00f300d06096086480165030402010500"
        "a11c301a06092a864886f70d010108300d06096086480165030402010500a203020120"
    ),
    SignatureAlgorithm(Scheme.RSA_PSS, H.SHA2_384, 48): (
        "304106092a864886f70d01010a3034a00f300d06096086480165030402020500"
        "a11c301a06092a864886f70d010108300d06096086480165030402020500a203020130"
    ),
    SignatureAlgorithm(Scheme.RSA_PSS, H.SHA2_512, 64): (
        "304106092a864886f70d01010a3034a00f300d06096086480165030402030500"
        "a11c301a06092a864886f70d010108300d06096086480165030402030500a203020140"
    ),
    SignatureAlgorithm(Scheme.ED25519, H.IDENTITY): "300506032b6570",
    SignatureAlgorithm(Scheme.ED448, H.IDENTITY): "300506032b6571",
}


@pytest.mark.parametrize(("algorithm", "identifier"), IDENTIFIERS.items(), ids=str)
def test_algorithm_identifiers_are_byte_for_byte_those_of_rfc7427_appendix_a(
    algorithm: SignatureAlgorithm, identifier: str
) -> None:
    assert algorithm.identifier().hex() == identifier
    assert parse_identifier(bytes.fromhex(identifier)) == algorithm


@pytest.mark.parametrize(
    ("identifier", "algorithm"),
    [
        ("300b06092a864886f70d01010b", SignatureAlgorithm(Scheme.RSA_PKCS1, H.SHA2_256)),
        (  # hashes without NULL
            "303d06092a864886f70d01010a3030a00d300b0609608648016503040201"
            "a11a301806092a864886f70d010108300b0609608648016503040201a203020120",
            SignatureAlgorithm(Scheme.RSA_PSS, H.SHA2_256, 32),
        ),
        (  # the default salt of 20 bytes left out
            "303c06092a864886f70d01010a302fa00f300d06096086480165030402010500"
            "a11c301a06092a864886f70d010108300d06096086480165030402010500",
            SignatureAlgorithm(Scheme.RSA_PSS, H.SHA2_256, 20),
        ),
        (  # the trailer field written out
            "304606092a864886f70d01010a3039a00f300d06096086480165030402010500"
            "a11c301a06092a864886f70d010108300d06096086480165030402010500a203020120a303020101",
            SignatureAlgorithm(Scheme.RSA_PSS, H.SHA2_256, 32),
        ),
        # Another hash in the mask than in the signature; SHA-1 in the mask by default.
        (
            "304106092a864886f70d01010a3034a00f300d06096086480165030402010500"
            "a11c301a06092a864886f70d010108300d06096086480165030402020500a203020120",
            None,
        ),
        ("302306092a864886f70d01010a3016a00f300d06096086480165030402010500a203020120", None),
    ],
)
def test_variants_of_algorithm_identifiers_rfc4055_3_1(identifier: str, algorithm: SignatureAlgorithm | None) -> None:
    assert parse_identifier(bytes.fromhex(identifier)) == algorithm


@pytest.mark.parametrize(
    "identifier",
    [
        "300c06082a8648ce3d0403020500",  # ECDSA with NULL (RFC 5758 §3.2)
        "300706032b65700500",  # EdDSA with NULL (RFC 8410 §3)
        "300b06092a864886f70d01010a",  # PSS without parameters
        "301206092a864886f70d01010a3005a203020114ff",
        "301206092a864886f70d01010a3005a303020102",  # a trailer that is not 1
        "301206092a864886f70d01010a3005a2030201ff",  # a negative salt
        "301306092a864886f70d01010a3006a20402020014",  # a salt that is not DER
        "301706092a864886f70d01010a300aa203020120a203020120",  # twice
        "300506032b65700000",
    ],
)
def test_malformed_algorithm_identifiers_raise_value_error(identifier: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_identifier(bytes.fromhex(identifier))


def test_another_salt_length_verifies_as_it_is_told() -> None:
    issued = gateway(KeyKind.RSA_2048)
    assert isinstance(issued.key, rsa.RSAPrivateKey)
    signature = issued.key.sign(OCTETS, padding.PSS(padding.MGF1(hashes.SHA256()), 20), hashes.SHA256())
    check(issued, digital_signature(SignatureAlgorithm(Scheme.RSA_PSS, H.SHA2_256, 20).identifier(), signature))
    lying = SignatureAlgorithm(Scheme.RSA_PSS, H.SHA2_256, 32).identifier()
    assert refusal(issued, digital_signature(lying, signature)) is Reason.AUTH_SIGNATURE_INVALID


# -- the older methods


@pytest.mark.parametrize(
    ("kind", "method", "length"), [(KeyKind.P256, 9, 64), (KeyKind.P384, 10, 96), (KeyKind.P521, 11, 132)]
)
def test_ecdsa_without_rfc7427_is_r_and_s_side_by_side_rfc4754_7(kind: KeyKind, method: int, length: int) -> None:
    issued = gateway(kind)
    auth = make_auth(issued.credential(), OCTETS, PRF, peer_hashes=frozenset())
    assert (auth.method, len(auth.data)) == (method, length)
    assert check(issued, auth).method == method
    assert refusal(issued, auth, octets=b"other") is Reason.AUTH_SIGNATURE_INVALID
    assert refusal(issued, replace(auth, data=auth.data + b"\0")) is Reason.AUTH_SIGNATURE_INVALID
    assert refusal(issued, replace(auth, data=bytes(length))) is Reason.AUTH_SIGNATURE_INVALID
    for other in {9, 10, 11} - {method}:
        assert refusal(issued, replace(auth, method=other)) is Reason.AUTH_KEY_MISMATCH


def test_rfc4754_ecdsa_256_vector() -> None:
    # RFC 4754 §8.1: P-256, the message "abc".
    public = ec.EllipticCurvePublicNumbers(
        0x2442A5CC0ECD015FA3CA31DC8E2BBC70BF42D60CBCA20085E0822CB04235E970,
        0x6FC98BD7E50211A4A27102FA3549DF79EBCB4BF246B80945CDDFE7D509BBFD7D,
        ec.SECP256R1(),
    ).public_key()
    raw = bytes.fromhex(
        "cb28e0999b9c7715fd0a80d8e47a77079716cbbf917dd72e97566ea1c066957c"
        "86fa3bb4e26cad5bf90b7f81899256ce7594bb1ea0c89212748bff3b3d5b0315"
    )
    verify(public, SignatureAlgorithm(Scheme.ECDSA, H.SHA2_256), from_raw(raw, public.curve), b"abc")


def test_rsa_with_sha1_only_where_both_sides_allow_it_rfc7296_3_8() -> None:
    issued = gateway(KeyKind.RSA_2048)
    auth = make_auth(issued.credential(allow_sha1=True), OCTETS, PRF, peer_hashes=frozenset())
    assert auth.method == AuthMethod.RSA_DIGITAL_SIGNATURE
    assert isinstance(issued.key, rsa.RSAPrivateKey)
    issued.key.public_key().verify(auth.data, OCTETS, padding.PKCS1v15(), hashes.SHA1())
    assert check(issued, auth, pubkey_policy(issued, allow_sha1=True)).method == AuthMethod.RSA_DIGITAL_SIGNATURE
    assert refusal(issued, auth) is Reason.AUTH_ALGORITHM_WEAK
    assert refusal(issued, auth, octets=b"other") is Reason.AUTH_SIGNATURE_INVALID


@pytest.mark.parametrize("hash_", [hashes.SHA256(), hashes.SHA384(), hashes.SHA512()], ids=lambda each: each.name)
def test_rsa_method_1_may_use_sha2_rfc7296_3_8(hash_: hashes.HashAlgorithm) -> None:
    issued = gateway(KeyKind.RSA_2048)
    assert isinstance(issued.key, rsa.RSAPrivateKey)
    auth = AuthPayload(1, issued.key.sign(OCTETS, padding.PKCS1v15(), hash_))
    assert check(issued, auth).algorithm.startswith("RSASSA-PKCS1-v1_5 with SHA2_")


@pytest.mark.parametrize("kind", [KeyKind.P256, KeyKind.ED25519])
def test_rsa_method_with_another_key_is_refused(kind: KeyKind) -> None:
    assert refusal(gateway(kind), AuthPayload(1, b"x" * 256)) is Reason.AUTH_KEY_MISMATCH


def test_psk_where_a_signature_is_due_is_refused() -> None:
    auth = make_auth(PskCredential(b"secret"), OCTETS, PRF, peer_hashes=ALL)
    assert refusal(gateway(KeyKind.P256), auth) is Reason.AUTH_METHOD_MISMATCH


@settings(max_examples=300)
@given(st.integers(0, 255), st.binary(max_size=300))
def test_any_auth_payload_is_refused_without_another_exception(method: int, data: bytes) -> None:
    for kind in (KeyKind.RSA_2048, KeyKind.P256):
        refusal(gateway_once(kind), AuthPayload(method, data))


@settings(max_examples=300)
@given(st.sampled_from(sorted(IDENTIFIERS.values())), st.integers(0, 200), st.integers(0, 255))
def test_mutated_algorithm_identifiers_are_read_or_refused(identifier: str, position: int, value: int) -> None:
    data = bytearray.fromhex(identifier)
    data[position % len(data)] = value
    refusal(gateway_once(KeyKind.RSA_2048), digital_signature(bytes(data), b"x" * 256))


_GATEWAYS: dict[KeyKind, Issued] = {}


def gateway_once(kind: KeyKind) -> Issued:
    if kind not in _GATEWAYS:
        _GATEWAYS[kind] = gateway(kind)
    return _GATEWAYS[kind]


def test_keys_of_other_peers_do_not_verify() -> None:
    issued = gateway(KeyKind.P256)
    other = end_entity(authority(), KeyKind.P256, label="another")
    assert private_key(KeyKind.P256, "another") is other.key
    auth = make_auth(other.credential(), OCTETS, PRF, peer_hashes=ALL)
    assert refusal(issued, auth) is Reason.AUTH_SIGNATURE_INVALID


def test_a_key_for_rsassa_pss_makes_no_other_signatures_rfc4055_1_2() -> None:
    issued = gateway(KeyKind.RSA_2048)
    assert issued.issuer is not None
    # The same certificate with id-RSASSA-PSS as its key's algorithm, signed anew.
    tbs = issued.certificate.tbs_certificate_bytes.replace(
        bytes.fromhex("300d06092a864886f70d0101010500"), bytes.fromhex("300d06092a864886f70d01010a3000")
    )
    ecdsa = SignatureAlgorithm(Scheme.ECDSA, H.SHA2_256)
    signature = der.element(der.BIT_STRING, b"\0" + sign(issued.issuer.key, ecdsa, tbs))
    certificate = der.element(der.SEQUENCE, tbs + ecdsa.identifier() + signature)
    policy = pubkey_policy(issued)
    for scheme, reason in ((RsaScheme.PSS, None), (RsaScheme.PKCS1, Reason.AUTH_KEY_MISMATCH)):
        auth = make_auth(issued.credential(scheme), OCTETS, PRF, peer_hashes=ALL)
        try:
            verify_auth(policy, auth, GW_A, [certificate], OCTETS, PRF, NOW)
        except AuthenticationFailed as failure:
            assert failure.reason is reason
        else:
            assert reason is None
    older = make_auth(issued.credential(allow_sha1=True), OCTETS, PRF, peer_hashes=frozenset())
    with pytest.raises(AuthenticationFailed, match="PSS only"):
        verify_auth(replace(policy, allow_sha1=True), older, GW_A, [certificate], OCTETS, PRF, NOW)
