"""Certificates of peers: paths, validity, usage, constraints, names; every refusal with its own reason."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from ipaddress import ip_network

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from appliance.ike.authentication import (
    SUPPORTED_HASHES,
    AuthenticationFailed,
    Method,
    RemotePolicy,
    Verified,
    make_auth,
    verify_auth,
)
from appliance.ike.authentication.certificate import Certificate
from appliance.ike.constants import CertEncoding
from appliance.ike.payloads import CertPayload
from appliance.reasons import Reason
from appliance.sa.algorithms import Prf
from appliance.sa.identity import Identity
from tests.pki import DAY, GOOD_KINDS, NOW, Issued, KeyKind, authority, end_entity, key_usage, name, private_key

OCTETS = b"octets"
PRF = Prf.HMAC_SHA2_256
Anchors = Sequence[Issued]


def authenticate(
    peer: Issued,
    anchors: Anchors,
    identity: str | Identity = "gw-a.example",
    sent: Sequence[CertPayload | bytes] | None = None,
    **policy: object,
) -> Verified:
    """The peer signs with its key and sends its chain, or what is given."""
    auth = make_auth(peer.credential(), OCTETS, PRF, peer_hashes=SUPPORTED_HASHES)
    claimed = Identity.parse(identity) if isinstance(identity, str) else identity
    wanted = RemotePolicy(
        method=Method.PUBKEY,
        identity=Identity.any(),
        anchors=tuple(anchor.certificate for anchor in anchors),
        **policy,  # type: ignore[arg-type]
    )
    return verify_auth(wanted, auth, claimed, peer.chain_der if sent is None else sent, OCTETS, PRF, NOW)


def refusal(
    peer: Issued,
    anchors: Anchors,
    identity: str | Identity = "gw-a.example",
    sent: Sequence[CertPayload | bytes] | None = None,
) -> AuthenticationFailed:
    with pytest.raises(AuthenticationFailed) as caught:
        authenticate(peer, anchors, identity, sent)
    assert caught.value.remedy
    assert str(caught.value).isprintable()
    return caught.value


# -- paths


@pytest.mark.parametrize("kind", GOOD_KINDS, ids=lambda kind: kind.value)
def test_cas_of_every_key_type_are_followed(kind: KeyKind) -> None:
    root = authority("Root", kind)
    intermediate = authority("Intermediate", kind, root)
    peer = end_entity(intermediate, KeyKind.P256)
    assert authenticate(peer, [root]).path == peer.chain


def test_a_ca_may_sign_with_rsassa_pss() -> None:
    root = authority("Root", KeyKind.RSA_2048)
    authenticate(end_entity(root, pss=True), [root])


@pytest.mark.parametrize("depth", [0, 1, 3, 6])
def test_paths_of_up_to_eight_certificates_are_followed_rfc5280_6_1(depth: int) -> None:
    root = ca = authority("Root")
    for level in range(depth):
        ca = authority(f"CA {level}", issuer=ca)
    peer = end_entity(ca)
    assert len(authenticate(peer, [root]).path) == depth + 2


def test_longer_paths_are_refused() -> None:
    root = ca = authority("Root")
    for level in range(7):
        ca = authority(f"CA {level}", issuer=ca)
    assert refusal(end_entity(ca), [root]).reason is Reason.CERT_PATH_LENGTH


def test_intermediates_come_in_any_order_and_among_others_rfc7296_3_6() -> None:
    root = authority("Root")
    one = authority("One", issuer=root)
    two = authority("Two", issuer=one)
    peer = end_entity(two)
    strays = [authority("Stray").der, end_entity(authority("Stray"), label="stray").der]
    authenticate(peer, [root], sent=[peer.der, strays[0], one.der, strays[1], two.der, root.der])


def test_the_root_sent_by_a_peer_is_not_trusted_for_that() -> None:
    evil = authority("Root", label="evil")
    peer = end_entity(evil)
    got = refusal(peer, [authority("Other")], sent=[peer.der, evil.der])
    assert got.reason is Reason.CERT_UNKNOWN_ISSUER
    assert '"O=Example, CN=Root"' in got.detail
    assert "CN=Other" in got.detail


def test_a_ca_of_the_same_name_is_not_the_ca() -> None:
    peer = end_entity(authority("Root", label="evil"))
    assert refusal(peer, [authority("Root")]).reason is Reason.CERT_BAD_SIGNATURE


def test_two_trusted_cas_of_one_name_are_told_apart_by_their_keys() -> None:
    old, new = authority("Root", label="old"), authority("Root", label="new")
    for root in (old, new):
        authenticate(end_entity(root), [old, new])


def test_an_intermediate_may_itself_be_trusted() -> None:
    intermediate = authority("Intermediate", issuer=authority("Root"))
    peer = end_entity(intermediate)
    assert len(authenticate(peer, [intermediate], sent=[peer.der]).path) == 2


def test_a_missing_intermediate_is_named() -> None:
    root = authority("Root")
    peer = end_entity(authority("Middle", issuer=root))
    got = refusal(peer, [root], sent=[peer.der])
    assert got.reason is Reason.CERT_UNKNOWN_ISSUER
    assert "CN=Middle" in got.detail


def test_a_missing_second_intermediate_is_named() -> None:
    root = authority("Root")
    lower = authority("Lower", issuer=authority("Upper", issuer=root))
    peer = end_entity(lower)
    got = refusal(peer, [root], sent=[peer.der, lower.der])
    assert got.reason is Reason.CERT_UNKNOWN_ISSUER
    assert "CN=Upper" in got.detail


def test_the_peers_own_certificate_may_be_the_anchor() -> None:
    peer = end_entity(None)
    assert authenticate(peer, [peer]).path == (peer.certificate,)
    assert refusal(peer, [authority()]).reason is Reason.CERT_UNKNOWN_ISSUER


def test_an_expired_certificate_is_no_anchor_either() -> None:
    peer = end_entity(None, not_after=NOW - DAY)
    assert refusal(peer, [peer]).reason is Reason.CERT_EXPIRED


def test_cross_signed_cas_that_form_a_loop_end_rfc4158() -> None:
    first, second = private_key(KeyKind.P256, "first"), private_key(KeyKind.P256, "second")
    assert first is not second
    one = authority("One", label="first")
    two = authority("Two", label="second")
    one_by_two = authority("One", label="first", issuer=two)
    two_by_one = authority("Two", label="second", issuer=one)
    peer = end_entity(one)
    got = refusal(peer, [authority("Other")], sent=[peer.der, one_by_two.der, two_by_one.der, one.der, two.der])
    assert got.reason is Reason.CERT_UNKNOWN_ISSUER


# -- validity


@pytest.mark.parametrize("seconds", [0, 1])
def test_a_certificate_is_valid_to_its_last_second_rfc5280_4_1_2_5(seconds: int) -> None:
    root = authority()
    peer = end_entity(root, not_after=NOW - timedelta(seconds=seconds))
    if seconds == 0:
        assert authenticate(peer, [root]).expires == NOW
    else:
        got = refusal(peer, [root])
        assert got.reason is Reason.CERT_EXPIRED
        assert "CN=gw-a" in got.detail
        assert "2026-06-01 11:59:59 UTC" in got.detail


def test_a_certificate_of_the_future_is_refused_with_its_date() -> None:
    root = authority()
    got = refusal(end_entity(root, not_before=NOW + DAY), [root])
    assert got.reason is Reason.CERT_NOT_YET_VALID
    assert "2026-06-02" in got.detail


@pytest.mark.parametrize("level", ["root", "intermediate"])
def test_an_expired_ca_is_named(level: str) -> None:
    old = {"not_after": NOW - DAY}
    root = authority("Root", **(old if level == "root" else {}))
    intermediate = authority("Middle", issuer=root, **(old if level == "intermediate" else {}))
    got = refusal(end_entity(intermediate), [root])
    assert got.reason is Reason.CERT_EXPIRED
    assert ("CN=Root" if level == "root" else "CN=Middle") in got.detail


def test_the_earliest_end_of_the_path_is_told() -> None:
    root = authority("Root", not_after=NOW + 5 * DAY)
    assert authenticate(end_entity(root), [root]).expires == NOW + 5 * DAY


# -- usage


@pytest.mark.parametrize(
    "bits", [(), ("digital_signature",), ("content_commitment",), ("digital_signature", "key_agreement")]
)
def test_key_usage_of_peers_rfc4945_5_1_3_2(bits: tuple[str, ...]) -> None:
    root = authority()
    authenticate(end_entity(root, usage=key_usage(*bits) if bits else None), [root])


@pytest.mark.parametrize("bits", [("key_encipherment",), ("key_cert_sign",), ("key_agreement",)])
def test_key_usage_without_signing_is_refused_rfc4945_5_1_3_2(bits: tuple[str, ...]) -> None:
    root = authority()
    assert refusal(end_entity(root, usage=key_usage(*bits)), [root]).reason is Reason.CERT_KEY_USAGE


@pytest.mark.parametrize(
    "purpose",
    [
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
        x509.ObjectIdentifier("1.3.6.1.5.5.7.3.17"),
        ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    ],
)
def test_purposes_that_allow_ike_rfc4945_5_1_3_12(purpose: x509.ObjectIdentifier) -> None:
    root = authority()
    authenticate(end_entity(root, purposes=[ExtendedKeyUsageOID.CODE_SIGNING, purpose]), [root])


def test_purposes_that_do_not_allow_ike_are_refused_rfc4945_5_1_3_12() -> None:
    root = authority()
    peer = end_entity(root, purposes=[ExtendedKeyUsageOID.CODE_SIGNING, ExtendedKeyUsageOID.OCSP_SIGNING])
    got = refusal(peer, [root])
    assert got.reason is Reason.CERT_EXTENDED_KEY_USAGE
    assert "1.3.6.1.5.5.7.3.3" in got.detail


def test_a_ca_limited_to_other_purposes_certifies_no_gateways() -> None:
    root = authority("Root")
    code = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), False)
    assert refusal(end_entity(authority("Code", issuer=root, extra=[code])), [root]).reason is (
        Reason.CERT_EXTENDED_KEY_USAGE
    )


@pytest.mark.parametrize("ca", [False, None])
def test_only_cas_certify_rfc5280_6_1_4_k(ca: bool | None) -> None:
    root = authority("Root")
    middle = authority("Middle", issuer=root, ca=ca, usage=None)
    got = refusal(end_entity(middle), [root])
    assert got.reason is Reason.CERT_NOT_CA
    assert "CN=Middle" in got.detail


def test_a_peer_cannot_certify_another() -> None:
    root = authority("Root")
    gateway = end_entity(root, subject="gw-b", dns=["gw-b.example"], label="gw-b")
    forged = end_entity(gateway)
    assert refusal(forged, [root]).reason is Reason.CERT_NOT_CA


def test_a_ca_needs_key_cert_sign_rfc5280_6_1_4_n() -> None:
    root = authority("Root")
    middle = authority("Middle", issuer=root, usage=key_usage("crl_sign", "digital_signature"))
    assert refusal(end_entity(middle), [root]).reason is Reason.CERT_KEY_USAGE


def test_anchors_that_are_no_cas_certify_nobody() -> None:
    anchor = end_entity(None, subject="gw-b", label="gw-b")
    assert refusal(end_entity(anchor), [anchor]).reason is Reason.CERT_NOT_CA


@pytest.mark.parametrize(("limit", "below", "good"), [(0, 0, True), (0, 1, False), (1, 1, True), (1, 2, False)])
def test_path_lengths_hold_rfc5280_4_2_1_9(limit: int, below: int, good: bool) -> None:
    root = ca = authority("Root", path_length=limit)
    for level in range(below):
        ca = authority(f"CA {level}", issuer=ca)
    peer = end_entity(ca)
    if good:
        authenticate(peer, [root])
    else:
        assert refusal(peer, [root]).reason is Reason.CERT_PATH_LENGTH


def test_self_issued_cas_do_not_count_in_path_lengths_rfc5280_6_1_4_l() -> None:
    old = authority("Root", label="old", path_length=0)
    rollover = authority("Root", label="new", issuer=old)
    peer = end_entity(rollover)
    authenticate(peer, [old], sent=[peer.der, rollover.der])


def test_a_damaged_signature_of_an_intermediate_is_told() -> None:
    root = authority("Root")
    forged = authority("Middle", issuer=root, signer=private_key(KeyKind.P256, "thief"))
    got = refusal(end_entity(forged), [root])
    assert got.reason is Reason.CERT_BAD_SIGNATURE
    assert "CN=Middle" in got.detail


# -- extensions


def test_unknown_critical_extensions_are_refused_rfc5280_4_2() -> None:
    root = authority()
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4.5"), b"\x05\0")
    authenticate(end_entity(root, extra=[(unknown, False)]), [root])
    got = refusal(end_entity(root, extra=[(unknown, True)]), [root])
    assert got.reason is Reason.CERT_CRITICAL_EXTENSION
    assert "1.2.3.4.5" in got.detail


def test_a_required_explicit_policy_is_not_understood_and_said_so() -> None:
    root = authority("Root")
    middle = authority("Middle", issuer=root, extra=[(x509.PolicyConstraints(0, None), True)])
    assert refusal(end_entity(middle), [root]).reason is Reason.CERT_CRITICAL_EXTENSION
    harmless = authority("Middle", issuer=root, extra=[(x509.PolicyConstraints(None, 0), True)])
    authenticate(end_entity(harmless), [root])


# -- name constraints


def constraint(*permitted: x509.GeneralName, excluded: Sequence[x509.GeneralName] = ()) -> x509.NameConstraints:
    return x509.NameConstraints(list(permitted) or None, list(excluded) or None)


NETWORK = x509.IPAddress(ip_network("192.0.2.0/24"))


@pytest.mark.parametrize(
    ("constraints", "options", "good"),
    [
        (constraint(x509.DNSName("example")), {}, True),
        (constraint(x509.DNSName(".example")), {}, True),
        (constraint(x509.DNSName("")), {}, True),
        (constraint(x509.DNSName("GW-A.example")), {}, True),
        (constraint(x509.DNSName(".gw-a.example")), {}, False),
        (constraint(x509.DNSName("a.example")), {}, False),
        (constraint(x509.DNSName("example.org"), x509.DNSName("example")), {}, True),
        (constraint(x509.DNSName("example.org")), {}, False),
        (constraint(excluded=[x509.DNSName("example")]), {}, False),
        (constraint(excluded=[x509.DNSName("example.org")]), {}, True),
        (constraint(x509.DNSName("example"), excluded=[x509.DNSName("gw-a.example")]), {}, False),
        (constraint(NETWORK), {}, True),
        (constraint(NETWORK), {"ip": ["192.0.2.7"]}, True),
        (constraint(NETWORK), {"ip": ["198.51.100.7"]}, False),
        (constraint(NETWORK), {"ip": ["2001:db8::7"]}, False),
        (constraint(x509.IPAddress(ip_network("2001:db8::/32"))), {"ip": ["2001:db8::7"]}, True),
        (constraint(excluded=[NETWORK]), {"ip": ["2001:db8::7"]}, True),
        (constraint(excluded=[NETWORK]), {"ip": ["192.0.2.7"]}, False),
        (constraint(x509.RFC822Name("example.org")), {"email": ["a@example.org"]}, True),
        (constraint(x509.RFC822Name("example.org")), {"email": ["a@sub.example.org"]}, False),
        (constraint(x509.RFC822Name(".example.org")), {"email": ["a@sub.example.org"]}, True),
        (constraint(x509.RFC822Name("a@example.org")), {"email": ["a@EXAMPLE.org"]}, True),
        (constraint(x509.RFC822Name("a@example.org")), {"email": ["b@example.org"]}, False),
        (
            constraint(x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "EXAMPLE")]))),
            {},
            True,
        ),
        (constraint(x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Else")]))), {}, False),
        (constraint(excluded=[x509.DirectoryName(name("gw-a"))]), {}, False),
        (constraint(x509.UniformResourceIdentifier("example")), {}, True),
        (
            constraint(x509.UniformResourceIdentifier("example")),
            {"names": [x509.UniformResourceIdentifier("http://x.example")]},
            False,
        ),
        (
            constraint(x509.DNSName("example")),
            {"names": [x509.UniformResourceIdentifier("http://x.example")]},
            True,
        ),
    ],
)
@pytest.mark.parametrize("where", ["root", "intermediate"])
def test_name_constraints_hold_rfc5280_4_2_1_10(
    constraints: x509.NameConstraints, options: dict[str, object], good: bool, where: str
) -> None:
    extra = [(constraints, True)]
    root = authority(name("Root"), extra=extra if where == "root" else ())
    ca = authority(name("Middle"), issuer=root, extra=extra) if where == "intermediate" else root
    peer = end_entity(ca, **options)  # type: ignore[arg-type]
    if good:
        authenticate(peer, [root])
    else:
        assert refusal(peer, [root]).reason is Reason.CERT_NAME_CONSTRAINTS


def test_mail_addresses_in_subjects_are_constrained_rfc5280_4_2_1_10() -> None:
    root = authority(extra=[(constraint(x509.RFC822Name("example.org")), True)])
    for address, good in (("a@example.org", True), ("a@example.com", False), ("nobody", False)):
        subject = x509.Name([x509.NameAttribute(NameOID.EMAIL_ADDRESS, address)])
        peer = end_entity(root, subject=subject)
        if good:
            authenticate(peer, [root])
        else:
            assert refusal(peer, [root]).reason is Reason.CERT_NAME_CONSTRAINTS


# -- strength


@pytest.mark.parametrize("kind", [KeyKind.RSA_1024, KeyKind.SECP256K1])
def test_weak_and_strange_keys_are_refused(kind: KeyKind) -> None:
    root = authority()
    peer = end_entity(root)
    weak = end_entity(root, kind)
    got = refusal(peer, [root], sent=[weak.der])
    assert got.reason is Reason.CERT_WEAK
    assert ("1024" if kind is KeyKind.RSA_1024 else "secp256k1") in got.detail


def test_a_weak_ca_is_refused() -> None:
    root = authority("Weak", KeyKind.RSA_1024)
    assert refusal(end_entity(root), [root]).reason is Reason.CERT_WEAK


@pytest.mark.parametrize("kind", [KeyKind.P256, KeyKind.RSA_2048])
def test_certificates_signed_with_weak_hashes_are_refused(kind: KeyKind) -> None:
    # The library signs with SHA-224 at least; SHA-1 and MD5 go the same way, since only SHA-2 of 256 bits on passes.
    root = authority("Root", kind)
    got = refusal(end_entity(root, hash_=hashes.SHA224()), [root])
    assert got.reason is Reason.CERT_WEAK
    assert "sha224" in got.detail


# -- identities


@pytest.mark.parametrize(
    "identity",
    ["gw-a.example", "GW-A.EXAMPLE", "192.0.2.1", "2001:db8::1", "a@example.org", "a@EXAMPLE.org", "O=Example, CN=gw-a",
     "O=example,CN=GW-A"],
)  # fmt: skip
def test_identities_that_the_certificate_carries_rfc4945_3_1(identity: str) -> None:
    root = authority()
    peer = end_entity(root, ip=["192.0.2.1", "2001:db8::1"], email=["a@example.org"])
    assert authenticate(peer, [root], identity).identity == Identity.parse(identity)


@pytest.mark.parametrize(
    "identity",
    ["gw-b.example", "example", "a.gw-a.example", "192.0.2.2", "@192.0.2.1", "2001:db8::2", "b@example.org", "CN=gw-a",
     "CN=gw-a, O=Example", "O=Example, CN=*", "@gw-a", "keyid:gw-a.example", "x.wild.example", "*.wild.example"],
)  # fmt: skip
def test_identities_that_it_does_not_carry_are_refused_rfc4945_3_1(identity: str) -> None:
    root = authority()
    peer = end_entity(
        root, ip=["192.0.2.1", "2001:db8::1"], email=["a@example.org"], dns=["gw-a.example", "*.wild.example"]
    )
    got = refusal(peer, [root], identity)
    assert got.reason is Reason.CERT_IDENTITY_MISSING
    assert "gw-a.example" in got.detail


def test_common_names_are_no_domain_names_rfc4945_3_1() -> None:
    root = authority()
    peer = end_entity(root, subject="gw-a.example", dns=())
    assert refusal(peer, [root], "gw-a.example").reason is Reason.CERT_IDENTITY_MISSING


def test_a_general_name_identity_is_refused_rfc4945_3_1_6() -> None:
    root = authority()
    assert refusal(end_entity(root), [root], Identity(10, b"x")).reason is Reason.AUTH_IDENTITY_INVALID


def test_a_subject_may_be_empty_rfc5280_4_1_2_6() -> None:
    root = authority()
    authenticate(end_entity(root, subject=""), [root])


def test_two_common_names_are_refused() -> None:
    root = authority()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each) for each in ("gw-a", "gw-b")])
    got = refusal(end_entity(root, subject=subject), [root])
    assert got.reason is Reason.CERT_NAME_UNSAFE
    assert "2 common names" in got.detail


@pytest.mark.parametrize(
    "options",
    [
        {"subject": name("gw-a\0.evil")},
        {"names": [x509.DNSName._init_without_validation("gw-a.example\0.evil")]},
        {"names": [x509.RFC822Name._init_without_validation("a@example.org\0.evil")]},
        {"names": [x509.DNSName._init_without_validation("gw-b\x1b[31m.example")]},
    ],
)
def test_nul_and_control_characters_in_names_are_refused(options: dict[str, object]) -> None:
    root = authority()
    assert refusal(end_entity(root, **options), [root]).reason is Reason.CERT_NAME_UNSAFE  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "identity"),
    [
        ({}, "gw-a.example"),
        ({"dns": ["*.example", "b.example"]}, "b.example"),
        ({"dns": (), "email": ["a@example.org"], "ip": ["192.0.2.1"]}, "a@example.org"),
        ({"dns": (), "ip": ["192.0.2.1"]}, "192.0.2.1"),
        ({"dns": (), "ip": ["2001:db8::1"]}, "2001:db8::1"),
        ({"dns": ()}, "O=Example, CN=gw-a"),
    ],
)
def test_the_identity_is_taken_from_the_certificate(options: dict[str, object], identity: str) -> None:
    certificate = Certificate.parse(end_entity(authority(), **options).der)  # type: ignore[arg-type]
    assert str(certificate.default_identity()) == identity
    assert Certificate.parse(end_entity(authority(), subject="", dns=()).der).default_identity() is None


# -- what a peer sends


def test_no_certificate_at_all_is_told() -> None:
    root = authority()
    assert refusal(end_entity(root), [root], sent=[]).reason is Reason.CERT_MISSING


@pytest.mark.parametrize("encoding", [1, 7, 11, 12, 13, 15, 200])
def test_a_first_certificate_in_another_encoding_is_refused_rfc7296_3_6(encoding: int) -> None:
    root = authority()
    peer = end_entity(root)
    sent = [CertPayload(encoding, peer.der), CertPayload(CertEncoding.X509_SIGNATURE, peer.der)]
    got = refusal(peer, [root], sent=sent)
    assert got.reason is Reason.CERT_ENCODING_UNSUPPORTED


def test_further_payloads_in_other_encodings_are_ignored_with_a_note_rfc7296_3_6() -> None:
    root = authority()
    peer = end_entity(root)
    sent = [peer.der, CertPayload(CertEncoding.CRL, b"crl"), CertPayload(12, b"x" * 20 + b"http://x.example"), b"junk"]
    notes = authenticate(peer, [root], sent=sent).notes
    assert len(notes) == 3
    assert "CRL" in notes[0]
    assert "HASH_AND_URL" in notes[1]


def test_the_first_certificate_is_the_one_that_counts_rfc7296_3_6() -> None:
    root = authority()
    peer, other = end_entity(root), end_entity(root, label="other")
    assert refusal(peer, [root], sent=[other.der, peer.der]).reason is Reason.AUTH_SIGNATURE_INVALID


def test_too_many_and_too_large_certificates_are_refused() -> None:
    root = authority()
    peer = end_entity(root)
    assert refusal(peer, [root], sent=[peer.der] * 17).reason is Reason.CERT_TOO_MANY
    assert refusal(peer, [root], sent=[peer.der, bytes(200_000)]).reason is Reason.CERT_TOO_MANY
    assert refusal(peer, [root], sent=[peer.der + bytes(40_000)]).reason is Reason.CERT_MALFORMED


def test_a_certificate_with_more_names_than_are_looked_at_is_refused() -> None:
    root = authority()
    peer = end_entity(root, dns=[f"h{number}.example" for number in range(300)])
    assert refusal(peer, [root]).reason is Reason.CERT_MALFORMED


@pytest.mark.parametrize("data", [b"", b"junk", b"\x30\x80", b"\x30\x03\x02\x01\x01"])
def test_an_unreadable_certificate_is_told(data: bytes) -> None:
    root = authority()
    assert refusal(end_entity(root), [root], sent=[data]).reason is Reason.CERT_MALFORMED


def test_bytes_after_a_certificate_make_it_unreadable() -> None:
    root = authority()
    peer = end_entity(root)
    assert refusal(peer, [root], sent=[peer.der + b"\0"]).reason is Reason.CERT_MALFORMED


def test_now_must_have_a_time_zone() -> None:
    root = authority()
    peer = end_entity(root)
    policy = RemotePolicy(method=Method.PUBKEY, identity=Identity.any(), anchors=(root.certificate,))
    auth = make_auth(peer.credential(), OCTETS, PRF, peer_hashes=SUPPORTED_HASHES)
    with pytest.raises(ValueError, match="time zone"):
        verify_auth(policy, auth, Identity.parse("gw-a.example"), [peer.der], OCTETS, PRF, NOW.replace(tzinfo=None))
