"""Credential files: pre-shared keys, private keys, certificates and trusted CAs, checked when they are read.

Everything that is wrong with a file is a Refusal that names the file, what is wrong and what to do. What will only
make peers refuse, such as an expired certificate of our own, is a warning: the rest of the gateway should run.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from appliance.ike.authentication import AuthenticationFailed, PrivateKey, PublicKeyCredential
from appliance.ike.authentication.certificate import Certificate, MalformedCertificate
from appliance.ike.authentication.signature import weakness_of
from appliance.reasons import Reason, Refusal
from appliance.sa.identity import Identity
from appliance.sa.keys import wipe

MAX_FILE = 4 << 20
"""Bytes of a credential file; a bundle of all public CAs has a quarter of a megabyte."""

SHORT_PSK = 16
"""Bytes. A shorter pre-shared key draws a warning: whoever answers in a peer's place can try keys offline."""

Warn = Callable[[str], None]


def _silent(text: str) -> None:
    """Take a warning and do nothing."""


def load_psk(path: Path, *, warn: Warn = _silent) -> bytes:
    """The pre-shared key in a file: its bytes as they stand, without one line end behind them. Raises Refusal."""
    data = _read(path, private=True)
    try:
        end = len(data) - 2 if data.endswith(b"\r\n") else len(data) - 1 if data.endswith(b"\n") else len(data)
        secret = bytes(data[:end])
    finally:
        wipe(data)
    if not secret.strip():
        raise Refusal(Reason.CREDENTIAL_EMPTY, str(path), remedy=f"openssl rand -base64 32 > {path}")
    if len(secret) < SHORT_PSK:
        warn(f"{path}: {Reason.CREDENTIAL_GUESSABLE.words} ({len(secret)} bytes); {Reason.CREDENTIAL_GUESSABLE.remedy}")
    if secret.strip() != secret:
        warn(f"{path}: blanks or line ends around it are part of the pre-shared key; the peer must have them too")
    return secret


def load_anchors(
    paths: Sequence[Path], *, warn: Warn = _silent, now: datetime | None = None
) -> tuple[x509.Certificate, ...]:
    """The trusted CAs in PEM files, each of which may hold several. Raises Refusal.

    A certificate that is not a CA's is trusted as a peer's own. Expired ones draw a warning and certify nobody.
    """
    anchors: dict[x509.Certificate, None] = {}
    for path in paths:
        for certificate in _certificates(path):
            anchors[certificate.certificate] = None
            _warn_of(path, certificate, warn, now)
    if not anchors:
        raise Refusal(Reason.CREDENTIAL_MISSING, "no trusted CA is named", remedy='add ca = "FILE.pem"')
    return tuple(anchors)


def load_credential(
    certificate_path: Path,
    key_path: Path,
    *,
    identity: Identity | None = None,
    warn: Warn = _silent,
    now: datetime | None = None,
) -> tuple[PublicKeyCredential, Identity | None]:
    """Private key and certificates, and the identity that the certificate suggests (RFC 4945 §3.1).

    The certificate file holds the gateway's own certificate first and intermediate CAs behind it. ``identity`` is the
    configured one: a warning tells if the certificate does not carry it. Raises Refusal.
    """
    chain = _certificates(certificate_path)
    key = _private_key(key_path)
    own = chain[0]
    if own.certificate.public_key() != key.public_key():
        detail = f"{key_path} does not belong to {own.title} in {certificate_path}"
        if any(other.certificate.public_key() == key.public_key() for other in chain[1:]):
            raise Refusal(
                Reason.CREDENTIAL_MISMATCH,
                f"{detail}, but to a certificate behind it",
                remedy=f"put the gateway's own certificate first in {certificate_path}",
            )
        raise Refusal(Reason.CREDENTIAL_MISMATCH, detail)
    _warn_of(certificate_path, own, warn, now)
    try:
        own.check_end_entity()
    except AuthenticationFailed as failure:
        warn(f"{certificate_path}: peers will refuse it: {failure}; {failure.remedy}")
    for certificate in chain[1:]:
        _warn_of(certificate_path, certificate, warn, now)
    if identity is not None and not own.carries(identity):
        words = Reason.CREDENTIAL_IDENTITY
        carried = ", ".join(str(each) for each in own.alternative_identities()[:8]) or "no subjectAltName"
        warn(f"{certificate_path}: {words.words}: {identity.described} is not in {own.title}, which carries {carried}")
    credential = PublicKeyCredential(key, tuple(each.certificate for each in chain))
    return credential, own.default_identity()


def _warn_of(path: Path, certificate: Certificate, warn: Warn, now: datetime | None) -> None:
    try:
        certificate.check(now or datetime.now(UTC))
    except AuthenticationFailed as failure:
        expired = failure.reason in (Reason.CERT_EXPIRED, Reason.CERT_NOT_YET_VALID)
        reason = Reason.CREDENTIAL_EXPIRED if expired else failure.reason
        warn(f"{path}: {reason.words}: {failure.detail}; {reason.remedy}")


def _certificates(path: Path) -> tuple[Certificate, ...]:
    data = bytes(_read(path, private=False))
    if b"-----BEGIN CERTIFICATE-----" not in data:
        raise Refusal(
            Reason.CREDENTIAL_FORMAT,
            f"{path} has no certificate in PEM",
            remedy=f"openssl x509 -inform DER -in {path} -out NEW.pem, if it is one in DER",
        )
    try:
        return tuple(Certificate.of(each) for each in x509.load_pem_x509_certificates(data))
    except (ValueError, MalformedCertificate) as error:
        raise Refusal(
            Reason.CREDENTIAL_FORMAT,
            f"{path}: a certificate cannot be read: {error}",
            remedy=f"see what is in it: openssl x509 -in {path} -noout -text",
        ) from error


def _private_key(path: Path) -> PrivateKey:
    data = _read(path, private=True)
    try:
        if b"PRIVATE KEY-----" not in data:
            raise Refusal(
                Reason.CREDENTIAL_FORMAT,
                f"{path} has no private key in PEM",
                remedy=f"openssl pkey -inform DER -in {path} -out NEW.pem, if it is one in DER",
            )
        if b"ENCRYPTED" in data:
            remedy = f"openssl pkey -in {path} -out NEW.pem; chmod 600 NEW.pem"
            raise Refusal(Reason.CREDENTIAL_ENCRYPTED, str(path), remedy=remedy)
        try:
            key = load_pem_private_key(data, None)
        except UnsupportedAlgorithm:
            raise Refusal(Reason.CREDENTIAL_WEAK, f"{path} has a key of a type that is not known") from None
        except (ValueError, TypeError):
            # The library's words may quote what it read: of a private key nothing is passed on.
            raise Refusal(Reason.CREDENTIAL_FORMAT, f"the private key in {path} is damaged") from None
    finally:
        wipe(data)
    if not isinstance(
        key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
    ):
        raise Refusal(Reason.CREDENTIAL_WEAK, f"{path} has a {type(key).__name__.removesuffix('PrivateKey')} key")
    if weakness := weakness_of(key.public_key()):
        raise Refusal(Reason.CREDENTIAL_WEAK, f"{path} has {weakness}")
    return key


def _read(path: Path, *, private: bool) -> bytearray:
    """A whole file in a buffer that can be wiped. A private one is for its owner only, which the open file is asked."""
    try:
        # Not blocking, so that a FIFO in its place cannot hold up the daemon.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise Refusal(Reason.CREDENTIAL_MISSING, str(path)) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise Refusal(Reason.CREDENTIAL_UNREADABLE, f"{path}: {error}") from None
    try:
        status = os.fstat(descriptor)
        _check_status(path, status, private=private)
        data = bytearray(status.st_size)
        filled = 0
        # Straight into the buffer: what the library reads by itself cannot be wiped.
        with memoryview(data) as view:
            while filled < len(data) and (count := os.readv(descriptor, [view[filled:]])):
                filled += count
        del data[filled:]
        return data
    except OSError as error:
        raise Refusal(Reason.CREDENTIAL_UNREADABLE, f"{path}: {error.strerror or error}") from None
    finally:
        os.close(descriptor)


def _check_status(path: Path, status: os.stat_result, *, private: bool) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise Refusal(Reason.CREDENTIAL_UNREADABLE, f"{path} is no plain file")
    if status.st_size > MAX_FILE:
        raise Refusal(Reason.CREDENTIAL_UNREADABLE, f"{path} has {status.st_size} bytes, more than {MAX_FILE}")
    mode = stat.S_IMODE(status.st_mode)
    if private and mode & 0o077:
        raise Refusal(Reason.CREDENTIAL_EXPOSED, f"{path} has mode {mode:04o}", remedy=f"chmod 600 {path}")
