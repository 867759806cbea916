"""Credential files: what is taken, what is refused and in which words."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import x25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from appliance.config.credentials import load_anchors, load_credential, load_psk
from appliance.reasons import Reason, Refusal
from appliance.sa.identity import Identity
from tests.pki import DAY, GOOD_KINDS, NOW, Issued, KeyKind, authority, end_entity, key_usage, write_secret


def refusal_of(call: object, *arguments: object) -> Refusal:
    with pytest.raises(Refusal) as caught:
        call(*arguments)  # type: ignore[operator]
    assert caught.value.__cause__ is None or isinstance(caught.value.__cause__, Exception)
    return caught.value


def gateway(kind: KeyKind = KeyKind.P256, **options: object) -> Issued:
    return end_entity(authority("Middle", issuer=authority("Root")), kind, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", GOOD_KINDS, ids=lambda kind: kind.value)
def test_certificate_chain_and_key_are_loaded(tmp_path: Path, kind: KeyKind) -> None:
    peer = gateway(kind)
    warnings: list[str] = []
    credential, identity = load_credential(*peer.write(tmp_path, "gw"), warn=warnings.append, now=NOW)
    assert credential.certificates == peer.chain[:-1]
    assert identity == Identity.parse("gw-a.example")
    assert warnings == []


def test_traditional_key_formats_are_read(tmp_path: Path) -> None:
    for kind in (KeyKind.P256, KeyKind.RSA_2048):
        peer = gateway(kind)
        certificate, key = peer.write(tmp_path, kind.value)
        write_secret(key, peer.key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
        load_credential(certificate, key)


def test_anchors_are_loaded_once_each_from_all_files(tmp_path: Path) -> None:
    one, two = authority("One"), authority("Two", KeyKind.ED25519)
    (tmp_path / "a.pem").write_bytes(b"a comment\n" + one.pem + two.pem)
    (tmp_path / "b.pem").write_bytes(one.pem)
    anchors = load_anchors([tmp_path / "a.pem", tmp_path / "b.pem"])
    assert anchors == (one.certificate, two.certificate)


@pytest.mark.parametrize(
    ("content", "secret"),
    [
        (b"correct horse battery", b"correct horse battery"),
        (b"correct horse battery\n", b"correct horse battery"),
        (b"correct horse battery\r\n", b"correct horse battery"),
        (b"0x1234567890abcdef", b"0x1234567890abcdef"),
        (bytes(range(32)), bytes(range(32))),
    ],
)
def test_a_psk_is_the_file_without_one_line_end(tmp_path: Path, content: bytes, secret: bytes) -> None:
    warnings: list[str] = []
    assert load_psk(write_secret(tmp_path / "psk", content), warn=warnings.append) == secret
    assert warnings == []


@pytest.mark.parametrize("content", [b"kurz", b"a key with a line end too many\n\n", b" a key with a blank before it"])
def test_a_doubtful_psk_draws_a_warning_that_does_not_show_it(tmp_path: Path, content: bytes) -> None:
    warnings: list[str] = []
    load_psk(write_secret(tmp_path / "psk", content), warn=warnings.append)
    assert len(warnings) == 1
    assert content.strip().decode() not in warnings[0]


@pytest.mark.parametrize("content", [b"", b"\n", b"  \n", b"\r\n"])
def test_an_empty_psk_is_refused(tmp_path: Path, content: bytes) -> None:
    got = refusal_of(load_psk, write_secret(tmp_path / "psk", content))
    assert got.reason is Reason.CREDENTIAL_EMPTY
    assert "openssl rand" in got.remedy


def test_missing_files_are_named(tmp_path: Path) -> None:
    certificate, key = gateway().write(tmp_path, "gw")
    missing = tmp_path / "none.pem"
    for call, arguments in (
        (load_psk, (missing,)),
        (load_credential, (missing, key)),
        (load_credential, (certificate, missing)),
        (load_anchors, ([missing],)),
    ):
        got = refusal_of(call, *arguments)
        assert got.reason is Reason.CREDENTIAL_MISSING
        assert str(missing) in got.detail
    assert refusal_of(load_anchors, []).reason is Reason.CREDENTIAL_MISSING


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o666])
def test_secrets_that_others_can_access_are_refused_with_the_command_that_helps(tmp_path: Path, mode: int) -> None:
    certificate, key = gateway().write(tmp_path, "gw")
    psk = write_secret(tmp_path / "psk", b"correct horse battery")
    for path, call, arguments in ((key, load_credential, (certificate, key)), (psk, load_psk, (psk,))):
        path.chmod(mode)
        got = refusal_of(call, *arguments)
        assert got.reason is Reason.CREDENTIAL_EXPOSED
        assert got.remedy == f"chmod 600 {path}"
        assert f"{mode:04o}" in got.detail


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_secrets_for_their_owner_only_are_taken(tmp_path: Path, mode: int) -> None:
    certificate, key = gateway().write(tmp_path, "gw")
    key.chmod(mode)
    load_credential(certificate, key)


def test_folders_fifos_and_huge_files_are_refused(tmp_path: Path) -> None:
    certificate, _ = gateway().write(tmp_path, "gw")
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo, 0o600)
    huge = write_secret(tmp_path / "huge", b"")
    os.truncate(huge, 5 << 20)
    for path in (tmp_path, fifo, huge):
        assert refusal_of(load_psk, path).reason is Reason.CREDENTIAL_UNREADABLE
        assert refusal_of(load_anchors, [path]).reason is Reason.CREDENTIAL_UNREADABLE
        assert refusal_of(load_credential, certificate, path).reason is Reason.CREDENTIAL_UNREADABLE


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_files_of_others_are_refused(tmp_path: Path) -> None:
    path = write_secret(tmp_path / "psk", b"x" * 20)
    path.chmod(0)
    assert refusal_of(load_psk, path).reason is Reason.CREDENTIAL_UNREADABLE


def test_an_encrypted_key_is_refused_with_the_command_that_helps(tmp_path: Path) -> None:
    peer = gateway()
    certificate, key = peer.write(tmp_path, "gw")
    write_secret(key, peer.key_pem(b"passphrase"))
    got = refusal_of(load_credential, certificate, key)
    assert got.reason is Reason.CREDENTIAL_ENCRYPTED
    assert f"openssl pkey -in {key}" in got.remedy
    write_secret(key, b"-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END EC PRIVATE KEY-----\n")
    assert refusal_of(load_credential, certificate, key).reason is Reason.CREDENTIAL_ENCRYPTED


def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    certificate, _ = gateway().write(tmp_path, "gw")
    _, key = gateway(label="another").write(tmp_path, "other")
    got = refusal_of(load_credential, certificate, key)
    assert got.reason is Reason.CREDENTIAL_MISMATCH
    assert str(key) in got.detail
    assert str(certificate) in got.detail


def test_certificates_in_the_wrong_order_are_told(tmp_path: Path) -> None:
    peer = gateway()
    certificate, key = peer.write(tmp_path, "gw")
    assert peer.issuer is not None
    certificate.write_bytes(peer.issuer.pem + peer.pem)
    got = refusal_of(load_credential, certificate, key)
    assert got.reason is Reason.CREDENTIAL_MISMATCH
    assert "first" in got.remedy


@pytest.mark.parametrize("content", ["der", "empty", "junk", "cut", "damaged"])
def test_what_is_no_pem_is_refused(tmp_path: Path, content: str) -> None:
    peer = gateway()
    certificate, key = peer.write(tmp_path, "gw")
    key_der = peer.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    bad_certificate = {
        "der": peer.der,
        "empty": b"",
        "junk": b"\xff" * 100,
        "cut": peer.pem[:200],
        "damaged": peer.pem.replace(peer.pem[60:80], b"A" * 20),
    }[content]
    pem = peer.key_pem()
    bad_key = {
        "der": key_der,
        "empty": b"",
        "junk": b"\xff" * 100,
        "cut": pem[:100],
        "damaged": pem.replace(pem[40:60], b"A" * 20),
    }[content]
    bad = tmp_path / "bad.pem"
    bad.write_bytes(bad_certificate)
    assert refusal_of(load_anchors, [bad]).reason is Reason.CREDENTIAL_FORMAT
    assert refusal_of(load_credential, bad, key).reason is Reason.CREDENTIAL_FORMAT
    write_secret(bad, bad_key)
    got = refusal_of(load_credential, certificate, bad)
    assert got.reason is Reason.CREDENTIAL_FORMAT
    assert str(bad) in got.detail


def test_keys_that_cannot_authenticate_are_refused(tmp_path: Path) -> None:
    certificate, _ = gateway().write(tmp_path, "gw")
    for kind in (KeyKind.RSA_1024, KeyKind.SECP256K1):
        weak = end_entity(authority(), kind)
        assert refusal_of(load_credential, *weak.write(tmp_path, kind.value)).reason is Reason.CREDENTIAL_WEAK
    # X25519 stands for all keys that do not sign.
    other = x25519.X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    key = write_secret(tmp_path / "x25519.pem", other)
    assert refusal_of(load_credential, certificate, key).reason is Reason.CREDENTIAL_WEAK


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"not_after": NOW - DAY}, "not valid now"),
        ({"not_before": NOW + DAY}, "not valid now"),
        ({"usage": key_usage("key_agreement")}, "peers will refuse it"),
    ],
)
def test_what_only_peers_would_refuse_is_a_warning(tmp_path: Path, options: dict[str, object], words: str) -> None:
    warnings: list[str] = []
    load_credential(*gateway(**options).write(tmp_path, "gw"), warn=warnings.append, now=NOW)
    assert len(warnings) == 1
    assert words in warnings[0]


def test_expired_anchors_draw_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_bytes(authority(not_after=NOW - DAY).pem)
    warnings: list[str] = []
    load_anchors([path], warn=warnings.append, now=NOW)
    assert len(warnings) == 1


def test_an_identity_that_the_certificate_does_not_carry_draws_a_warning(tmp_path: Path) -> None:
    files = gateway().write(tmp_path, "gw")
    warnings: list[str] = []
    load_credential(*files, identity=Identity.parse("gw-b.example"), warn=warnings.append, now=NOW)
    assert len(warnings) == 1
    assert "FQDN gw-b.example" in warnings[0]
    load_credential(*files, identity=Identity.parse("gw-a.example"), warn=warnings.append, now=NOW)
    assert len(warnings) == 1


def test_no_refusal_quotes_a_secret(tmp_path: Path) -> None:
    peer = gateway()
    certificate, key = peer.write(tmp_path, "gw")
    pem = peer.key_pem().replace(b"BEGIN PRIVATE", b"BEGIN EC PRIVATE")
    write_secret(key, pem)
    got = refusal_of(load_credential, certificate, key)
    body = pem.splitlines()[1].decode()
    assert body not in f"{got!r} {got} {got.remedy}"
    assert got.__cause__ is None
