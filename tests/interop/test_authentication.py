"""PSK and certificates of every key type, and clear words where they are wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.console.protocol import LogRow, State
from tests import pki
from tests.interop.pair import NAME, Pair, Role
from tests.lab.gateway import GatewayError
from tests.lab.vici import ViciError
from tests.pki import Issued, KeyKind

BOTH = pytest.mark.parametrize("role", list(Role), ids=lambda role: role.value)
TODAY = datetime.now(UTC).replace(microsecond=0)
VALID = {"not_before": TODAY - timedelta(days=2), "not_after": TODAY + timedelta(days=300)}

# Key type, and what strongSwan is told to sign with and to accept. Its constraints without "ike:" are for the
# certificates' signatures as well, and it has none for EdDSA in versions that this has to run with.
SIGNATURES = {
    "rsa-pkcs1": (KeyKind.RSA_2048, "ike:rsa-sha256"),
    "rsa-pss": (KeyKind.RSA_3072, "ike:rsa/pss-sha256"),
    "ecdsa-p256": (KeyKind.P256, "ike:ecdsa-sha256"),
    "ecdsa-p384": (KeyKind.P384, "ike:ecdsa-sha384"),
    "ecdsa-p521": (KeyKind.P521, "ike:ecdsa-sha512"),
    "ed25519": (KeyKind.ED25519, "pubkey"),
    "ed448": (KeyKind.ED448, "pubkey"),
}


def authority(kind: KeyKind = KeyKind.P256, subject: str = "Interop CA", issuer: Issued | None = None) -> Issued:
    return pki.authority(subject, kind, issuer, **VALID)


def peers(ca: Issued, kind: KeyKind, **their_options: object) -> tuple[Issued, Issued]:
    """Our certificate and theirs."""
    ours = pki.end_entity(ca, kind, subject="gw-a", dns=["gw-a.example"], label="gw-a", **VALID)  # type: ignore[arg-type]
    options = VALID | their_options
    theirs = pki.end_entity(ca, kind, subject="gw-b", dns=["gw-b.example"], label="gw-b", **options)  # type: ignore[arg-type]
    return ours, theirs


def configure(
    pair: Pair,
    directory: Path,
    ours: Issued,
    theirs: Issued,
    *,
    our_ca: Issued,
    their_ca: Issued,
    their_auth: str = "pubkey",
    accepted: str = "pubkey",
    our_remote_id: str = "gw-b.example",
) -> None:
    """Both sides with certificates; ``our_ca`` is what we trust, ``their_ca`` what they trust."""
    cert, key = ours.write(directory, "gw-a")
    ca = directory / "ca.pem"
    ca.write_bytes(our_ca.pem)
    own = pair.sites.a
    peer = pair.sites.b
    pair.configure(
        psk=None,
        ours={
            "local": {
                "address": own.v6 if pair.v6 else own.v4,
                "id": "gw-a.example",
                "auth": "pubkey",
                "cert": str(cert),
                "key": str(key),
            },
            "remote": {
                "address": peer.v6 if pair.v6 else peer.v4,
                "id": our_remote_id,
                "auth": "pubkey",
                "ca": str(ca),
            },
        },
        their_local={"auth": their_auth, "certs": [theirs.pem]},
        their_remote={"auth": accepted, "cacerts": [their_ca.pem]},
    )
    for issued in chain(theirs):
        pair.charon.load_cert(issued)
    pair.charon.load_key(theirs.key_pem())


def chain(issued: Issued) -> list[bytes]:
    """The intermediates above a certificate, PEM."""
    found = []
    above = issued.issuer
    while above is not None and above.issuer is not None:
        found.append(above.pem)
        above = above.issuer
    return found


@BOTH
@pytest.mark.parametrize("signature", SIGNATURES)
def test_certificates_of_every_kind_rfc7427(pair: Pair, tmp_path: Path, signature: str, role: Role) -> None:
    kind, auth = SIGNATURES[signature]
    ca = authority(kind)
    ours, theirs = peers(ca, kind)
    # strongSwan refuses a signature of ours that is not of the named kind.
    accepted = auth if signature != "rsa-pkcs1" else "pubkey"
    configure(pair, tmp_path, ours, theirs, our_ca=ca, their_ca=ca, their_auth=auth, accepted=accepted)
    pair.up(role)
    seen = pair.traffic(1)
    assert (seen.theirs.local_id, seen.theirs.remote_id) == ("gw-b.example", "gw-a.example")
    assert seen.ours.remote_id == "gw-b.example"
    pair.down(role)


@BOTH
def test_intermediate_certificates_are_sent_and_used_rfc7296_3_6(pair: Pair, tmp_path: Path, role: Role) -> None:
    root = authority()
    below = authority(KeyKind.P384, "Interop intermediate CA", root)
    ours, theirs = peers(below, KeyKind.P256)
    configure(pair, tmp_path, ours, theirs, our_ca=root, their_ca=root)
    pair.up(role)
    pair.traffic(1)
    pair.down(role)


@BOTH
def test_psk_of_every_kind_of_identity_rfc7296_3_5(pair: Pair, role: Role) -> None:
    for ours, theirs in (("192.0.2.1", "192.0.2.2"), ("a@gw.example", "b@gw.example"), ("2001:db8::1", "2001:db8::2")):
        pair.configure(
            ours={
                "local": {"address": "192.0.2.1", "id": ours, "auth": "psk"},
                "remote": {"address": "192.0.2.2", "id": theirs, "auth": "psk"},
            },
            their_local={"id": theirs},
            their_remote={"id": ours},
        )
        pair.up(role)
        seen = pair.traffic(1).theirs
        assert (seen.local_id, seen.remote_id) == (theirs, ours)
        pair.down(role)


def attempt(pair: Pair, role: Role) -> None:
    """Tries to bring the tunnel up, which must fail."""
    with pytest.raises((GatewayError, ViciError)):
        if role is Role.INITIATOR:
            pair.gateway.initiate(NAME)
        else:
            pair.charon.initiate(child="net", ike=NAME)

    def gone() -> bool | None:
        return None if any(sa.state == "ESTABLISHED" and sa.installed for sa in pair.charon.sas()) else True

    # An initiator that refuses the answer says so in a message of its own (RFC 7296 §2.21.2).
    pair.gateway.wait("strongSwan to have no SA of the failed attempt", gone)


def reason_of(pair: Pair, since: float, *reasons: str) -> LogRow:
    """Our own log's entry with one of these reasons."""
    return pair.gateway.wait_log(
        lambda row: row.time >= since and row.reason in reasons, f"logged: {' or '.join(reasons)}", 5
    )


def test_wrong_psk_is_named_where_it_is_seen_rfc7296_2_15(pair: Pair) -> None:
    for role, reason in ((Role.RESPONDER, "AUTH_PSK_MISMATCH"), (Role.INITIATOR, "PEER_REFUSED_AUTHENTICATION")):
        pair.configure(their_psk="wrong horse")
        since = datetime.now(UTC).timestamp()
        attempt(pair, role)
        row = reason_of(pair, since, reason)
        assert row.connection in (NAME, "")
        assert "horse" not in pair.gateway.log


def test_wrong_identity_is_named(pair: Pair) -> None:
    for role in Role:
        pair.configure(their_local={"id": "mallory.example"}, their_remote={"id": "gw-a.example"})
        since = datetime.now(UTC).timestamp()
        attempt(pair, role)
        if role is Role.INITIATOR:
            # We name the peer that we want (IDr), so it is the peer that finds the difference and ends it.
            reason_of(pair, since, "PEER_REFUSED_AUTHENTICATION")
        else:
            assert "mallory.example" in reason_of(pair, since, "AUTH_IDENTITY_MISMATCH", "NO_CONNECTION").text


@BOTH
def test_expired_certificate_is_named_with_its_date(pair: Pair, tmp_path: Path, role: Role) -> None:
    ca = authority()
    gone = TODAY - timedelta(days=1)
    ours, theirs = peers(ca, KeyKind.P256, not_before=TODAY - timedelta(days=30), not_after=gone)
    configure(pair, tmp_path, ours, theirs, our_ca=ca, their_ca=ca)
    since = datetime.now(UTC).timestamp()
    attempt(pair, role)
    row = reason_of(pair, since, "CERT_EXPIRED")
    assert gone.strftime("%Y-%m-%d") in row.text


@BOTH
def test_unknown_authority_is_named(pair: Pair, tmp_path: Path, role: Role) -> None:
    known, unknown = authority(), authority(subject="Somebody else's CA")
    ours, _ = peers(known, KeyKind.P256)
    _, theirs = peers(unknown, KeyKind.P256)
    configure(pair, tmp_path, ours, theirs, our_ca=known, their_ca=known)
    since = datetime.now(UTC).timestamp()
    attempt(pair, role)
    row = reason_of(pair, since, "CERT_UNKNOWN_ISSUER")
    assert "Somebody else's CA" in row.text


def test_a_failed_tunnel_still_shows_with_the_reason(pair: Pair) -> None:
    pair.configure(their_psk="wrong horse")
    attempt(pair, Role.INITIATOR)
    row = pair.gateway.connection(NAME)
    assert row.state is not State.ESTABLISHED
    assert row.reason is not None
    assert row.reason.reason == "PEER_REFUSED_AUTHENTICATION"
    assert row.reason.remedy


@BOTH
def test_no_common_proposal_says_what_was_offered(pair: Pair, role: Role) -> None:
    pair.configure(
        ours={"ike_proposals": ["chacha20poly1305-prfsha256-x25519"]}, theirs={"proposals": ["aes256-sha512-ecp521"]}
    )
    since = datetime.now(UTC).timestamp()
    attempt(pair, role)
    row = reason_of(pair, since, "NO_PROPOSAL_CHOSEN")
    if role is Role.RESPONDER:
        assert "ecp521" in row.text
        assert "x25519" in row.text


@BOTH
def test_selectors_without_overlap_are_named(pair: Pair, role: Role) -> None:
    pair.configure(their_child={"local_ts": ["10.9.0.0/24"]})
    since = datetime.now(UTC).timestamp()
    attempt(pair, role)
    row = reason_of(pair, since, "TS_UNACCEPTABLE")
    if role is Role.RESPONDER:
        assert "10.9.0.0/24" in row.text
