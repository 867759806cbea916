"""A small PKI for tests: CAs, intermediates and end entities of every key type, right or wrong as it is asked.

Keys are made once per process for each kind and label, since RSA keys take their time. What is issued is valid
from shortly before ``NOW`` for twenty years, so for the wall clock of tests with other programs too.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import cache
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from appliance.ike.authentication import PublicKeyCredential, RsaScheme

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey


class KeyKind(Enum):
    """Key types; the value is for names of tests and files."""

    RSA_1024 = "rsa1024"
    RSA_2048 = "rsa2048"
    RSA_3072 = "rsa3072"
    P256 = "p256"
    P384 = "p384"
    P521 = "p521"
    SECP256K1 = "secp256k1"
    ED25519 = "ed25519"
    ED448 = "ed448"


GOOD_KINDS = tuple(kind for kind in KeyKind if kind not in (KeyKind.RSA_1024, KeyKind.SECP256K1))

_CURVES: dict[KeyKind, ec.EllipticCurve] = {
    KeyKind.P256: ec.SECP256R1(),
    KeyKind.P384: ec.SECP384R1(),
    KeyKind.P521: ec.SECP521R1(),
    KeyKind.SECP256K1: ec.SECP256K1(),
}


@cache
def private_key(kind: KeyKind, label: str = "") -> Key:
    """The key of this kind and label; other labels have other keys."""
    if kind in _CURVES:
        return ec.generate_private_key(_CURVES[kind])
    if kind is KeyKind.ED25519:
        return ed25519.Ed25519PrivateKey.generate()
    if kind is KeyKind.ED448:
        return ed448.Ed448PrivateKey.generate()
    return rsa.generate_private_key(65537, int(kind.value.removeprefix("rsa")))


@dataclass(frozen=True)
class Issued:
    """A certificate with its key, and the one that issued it (None: itself)."""

    certificate: x509.Certificate
    key: Key
    issuer: Issued | None = None

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        """This certificate and its issuers', the root too."""
        return (self.certificate, *(self.issuer.chain if self.issuer else ()))

    @property
    def chain_der(self) -> list[bytes]:
        """As a peer sends it: without the root."""
        return [
            each.public_bytes(Encoding.DER)
            for each in self.chain
            if each.subject != each.issuer or each is self.certificate
        ]

    def key_pem(self, password: bytes | None = None) -> bytes:
        encryption = BestAvailableEncryption(password) if password else NoEncryption()
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)

    def credential(self, scheme: RsaScheme = RsaScheme.PSS, *, allow_sha1: bool = False) -> PublicKeyCredential:
        return PublicKeyCredential(self.key, self.chain, scheme, allow_sha1)

    def write(self, directory: Path, name: str) -> tuple[Path, Path]:
        """(certificate chain file, key file), the key for its owner only."""
        certificate, key = directory / f"{name}.cert.pem", directory / f"{name}.key.pem"
        certificate.write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in self.chain[:-1]) or self.pem)
        write_secret(key, self.key_pem())
        return certificate, key


def write_secret(path: Path, data: bytes) -> Path:
    """Write a file that only its owner may read."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
    path.chmod(0o600)
    return path


def name(text: str) -> x509.Name:
    """A distinguished name of one organisation and a common name; "" is the empty name."""
    if not text:
        return x509.Name([])
    organisation = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example")
    return x509.Name([organisation, x509.NameAttribute(NameOID.COMMON_NAME, text)])


def issue(
    subject: str | x509.Name,
    key: Key,
    issuer: Issued | None,
    extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
    *,
    not_before: datetime = NOW - 10 * DAY,
    not_after: datetime = NOW + 7300 * DAY,
    hash_: hashes.HashAlgorithm | None = None,
    pss: bool = False,
    serial: int | None = None,
    signer: Key | None = None,
) -> Issued:
    """A certificate. ``signer`` signs in place of the issuer's key: a forgery."""
    own = name(subject) if isinstance(subject, str) else subject
    builder = (
        x509.CertificateBuilder()
        .subject_name(own)
        .issuer_name(issuer.certificate.subject if issuer else own)
        .public_key(key.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    signing = signer or (issuer.key if issuer else key)
    if isinstance(signing, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey):
        algorithm = None
    else:
        algorithm = hash_ or hashes.SHA256()
    scheme = None
    if pss:
        scheme = padding.PSS(padding.MGF1(hash_ or hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
    return Issued(builder.sign(signing, algorithm, rsa_padding=scheme), key, issuer)


def key_usage(*bits: str) -> x509.KeyUsage:
    """Key usage with these bits, named as x509.KeyUsage names them."""
    names = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{each: each in bits for each in names})


CA_USAGE = key_usage("key_cert_sign", "crl_sign")
PEER_USAGE = key_usage("digital_signature")


def authority(
    subject: str | x509.Name = "Test CA",
    kind: KeyKind = KeyKind.P256,
    issuer: Issued | None = None,
    *,
    label: str | None = None,
    path_length: int | None = None,
    usage: x509.KeyUsage | None = CA_USAGE,
    ca: bool | None = True,
    extra: Sequence[tuple[x509.ExtensionType, bool]] = (),
    **options: object,
) -> Issued:
    """A CA: a root, or below ``issuer``. ``ca`` None leaves basicConstraints out. ``options``: those of ``issue``."""
    key = private_key(kind, label if label is not None else f"ca {subject}")
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
    ]
    if issuer is not None:
        extensions.append((x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), False))
    if ca is not None:
        extensions.append((x509.BasicConstraints(ca, path_length if ca else None), True))
    if usage is not None:
        extensions.append((usage, True))
    return issue(subject, key, issuer, [*extensions, *extra], **options)  # type: ignore[arg-type]


def end_entity(
    issuer: Issued | None,
    kind: KeyKind = KeyKind.P256,
    *,
    subject: str | x509.Name = "gw-a",
    dns: Sequence[str] = ("gw-a.example",),
    email: Sequence[str] = (),
    ip: Sequence[str] = (),
    names: Sequence[x509.GeneralName] = (),
    label: str = "end entity",
    usage: x509.KeyUsage | None = PEER_USAGE,
    purposes: Sequence[x509.ObjectIdentifier] | None = None,
    extra: Sequence[tuple[x509.ExtensionType, bool]] = (),
    **options: object,
) -> Issued:
    """A gateway's certificate (self-signed without ``issuer``). ``options`` are those of ``issue``."""
    key = private_key(kind, label)
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
    ]
    if issuer is not None:
        extensions.append((x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), False))
    alternatives: list[x509.GeneralName] = [
        *(x509.DNSName(each) for each in dns),
        *(x509.RFC822Name(each) for each in email),
        *(x509.IPAddress(ip_address(each)) for each in ip),
        *names,
    ]
    if alternatives:
        extensions.append((x509.SubjectAlternativeName(alternatives), False))
    if usage is not None:
        extensions.append((usage, True))
    if purposes is not None:
        extensions.append((x509.ExtendedKeyUsage(list(purposes)), False))
    return issue(subject, key, issuer, [*extensions, *extra], **options)  # type: ignore[arg-type]
