"""One X.509 certificate of a peer or of a CA, read whole and once, so that nothing behind this can meet bad DER.

What RFC 5280 and RFC 4945 §5.1 ask of a certificate by itself is checked here; what they ask of a path, in ``path``.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID, PublicKeyAlgorithmOID
from cryptography.x509.oid import SignatureAlgorithmOID as Sig

from appliance.ike.authentication.failure import AuthenticationFailed
from appliance.ike.authentication.signature import weakness_of
from appliance.reasons import Reason
from appliance.sa import der, distinguished_name
from appliance.sa.identity import Identity, IdentityType

MAX_CERTIFICATE = 32 * 1024
"""Bytes of one certificate."""

MAX_NAMES = 256
"""Names in one certificate, and constraints on them, that are looked at."""

# RFC 4945 §5.1.3.12, and the TLS purposes that certificates for gateways usually have.
IKE_PURPOSES = frozenset(
    {
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
        ExtendedKeyUsageOID.IPSEC_IKE,
        ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    }
)

# What is processed, or means nothing as long as no explicit policy is required (RFC 5280 §6.1.1).
_UNDERSTOOD = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.NAME_CONSTRAINTS,
        ExtensionOID.CERTIFICATE_POLICIES,
        ExtensionOID.INHIBIT_ANY_POLICY,
        ExtensionOID.POLICY_MAPPINGS,
    }
)

_EDDSA = (Sig.ED25519, Sig.ED448)
_STRONG_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)


class MalformedCertificate(Exception):  # noqa: N818 - it says what happened
    """A certificate cannot be read; the message says what is wrong."""


@dataclass(frozen=True, slots=True, eq=False)
class Certificate:
    """What is used of a certificate. Two are equal if their DER is; ``names`` are the subjectAltNames.

    ``pss_only`` is of RSA keys that are for RSASSA-PSS alone (RFC 4055 §1.2).
    """

    certificate: x509.Certificate = field(repr=False)
    der: bytes = field(repr=False)
    subject: distinguished_name.Name
    subject_der: bytes = field(repr=False)
    issuer: distinguished_name.Name
    issuer_der: bytes = field(repr=False)
    serial: int
    not_before: datetime
    not_after: datetime
    weakness: str | None
    pss_only: bool
    names: tuple[x509.GeneralName, ...]
    key_usage: x509.KeyUsage | None
    purposes: frozenset[x509.ObjectIdentifier] | None
    is_ca: bool
    has_basic_constraints: bool
    path_length: int | None
    name_constraints: x509.NameConstraints | None
    subject_key_id: bytes | None
    authority_key_id: bytes | None
    unknown_critical: tuple[str, ...]
    version1: bool

    @classmethod
    def parse(cls, data: bytes) -> Certificate:
        """Read DER. Raises MalformedCertificate whatever is wrong with it."""
        if len(data) > MAX_CERTIFICATE:
            raise MalformedCertificate(f"{len(data)} bytes; {MAX_CERTIFICATE} are taken")
        try:
            with warnings.catch_warnings():
                # The library warns of encodings that it still takes but that RFC 5280 forbids: here they are errors.
                warnings.simplefilter("error")
                certificate = cls._read(x509.load_der_x509_certificate(data))
            _check_signature_bits(data)
            return certificate
        except Exception as error:
            # The parser is not ours and the bytes are a stranger's: whatever it raises, the certificate is no good.
            raise MalformedCertificate(_words(error)) from error

    @classmethod
    def of(cls, certificate: x509.Certificate) -> Certificate:
        """Of a certificate that was loaded from a file. Raises MalformedCertificate too."""
        return cls.parse(certificate.public_bytes(Encoding.DER))

    @classmethod
    def _read(cls, certificate: x509.Certificate) -> Certificate:
        extensions = {extension.oid: extension for extension in certificate.extensions}
        values = {oid: extension.value for oid, extension in extensions.items()}
        basic = values.get(ExtensionOID.BASIC_CONSTRAINTS)
        usage = values.get(ExtensionOID.KEY_USAGE)
        purposes = values.get(ExtensionOID.EXTENDED_KEY_USAGE)
        names = values.get(ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
        constraints = values.get(ExtensionOID.NAME_CONSTRAINTS)
        own_id = values.get(ExtensionOID.SUBJECT_KEY_IDENTIFIER)
        issuer_id = values.get(ExtensionOID.AUTHORITY_KEY_IDENTIFIER)
        unknown = [oid.dotted_string for oid, e in extensions.items() if e.critical and not _understands(e)]
        subject_der, issuer_der = certificate.subject.public_bytes(), certificate.issuer.public_bytes()
        alternatives = tuple(names) if isinstance(names, x509.SubjectAlternativeName) else ()
        if len(alternatives) > MAX_NAMES:
            raise ValueError(f"{len(alternatives)} names; {MAX_NAMES} are taken")
        return cls(
            certificate=certificate,
            der=certificate.public_bytes(Encoding.DER),
            subject=distinguished_name.parse_der(subject_der),
            subject_der=subject_der,
            issuer=distinguished_name.parse_der(issuer_der),
            issuer_der=issuer_der,
            serial=certificate.serial_number,
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            weakness=_weakness(certificate),
            pss_only=certificate.public_key_algorithm_oid == PublicKeyAlgorithmOID.RSASSA_PSS,
            names=alternatives,
            key_usage=usage if isinstance(usage, x509.KeyUsage) else None,
            purposes=frozenset(purposes) if isinstance(purposes, x509.ExtendedKeyUsage) else None,
            is_ca=isinstance(basic, x509.BasicConstraints) and basic.ca,
            has_basic_constraints=basic is not None,
            path_length=basic.path_length if isinstance(basic, x509.BasicConstraints) else None,
            name_constraints=constraints if isinstance(constraints, x509.NameConstraints) else None,
            subject_key_id=own_id.digest if isinstance(own_id, x509.SubjectKeyIdentifier) else None,
            authority_key_id=issuer_id.key_identifier if isinstance(issuer_id, x509.AuthorityKeyIdentifier) else None,
            unknown_critical=tuple(unknown),
            version1=certificate.version is x509.Version.v1,
        )

    def __eq__(self, other: object) -> bool:
        return self.der == other.der if isinstance(other, Certificate) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.der)

    @property
    def self_issued(self) -> bool:
        """Whether issuer and subject are the same name (RFC 5280 §6.1)."""
        return distinguished_name.same(self.subject, self.issuer)

    @property
    def title(self) -> str:
        """Which certificate it is, for the log: subject and serial number."""
        shown = distinguished_name.show(self.subject) or ", ".join(_show_name(name) for name in self.names[:2])
        return f'"{shown[:200]}" (serial {self.serial:x})'

    @property
    def issuer_title(self) -> str:
        """The issuer's name, for the log."""
        return f'"{distinguished_name.show(self.issuer)[:200]}"'

    def check(self, now: datetime) -> None:
        """What every certificate of a path must keep: validity, strength, names. Raises AuthenticationFailed."""
        if now > self.not_after:
            raise AuthenticationFailed(
                Reason.CERT_EXPIRED, f"{self.title} was valid until {self.not_after:%Y-%m-%d %H:%M:%S} UTC"
            )
        if now < self.not_before:
            raise AuthenticationFailed(
                Reason.CERT_NOT_YET_VALID, f"{self.title} is valid from {self.not_before:%Y-%m-%d %H:%M:%S} UTC"
            )
        if self.weakness:
            raise AuthenticationFailed(Reason.CERT_WEAK, f"{self.title} has {self.weakness}")
        if self.unknown_critical:
            raise AuthenticationFailed(
                Reason.CERT_CRITICAL_EXTENSION, f"{self.title} has {', '.join(self.unknown_critical[:4])}"
            )
        if unsafe := self._unsafe_name():
            raise AuthenticationFailed(Reason.CERT_NAME_UNSAFE, f"{self.title}: {unsafe}")

    def check_end_entity(self) -> None:
        """What RFC 4945 §5.1.3 asks of a peer's own certificate. Raises AuthenticationFailed."""
        usage = self.key_usage
        # RFC 4945 §5.1.3.2: either bit will do.
        if usage is not None and not (usage.digital_signature or usage.content_commitment):
            raise AuthenticationFailed(
                Reason.CERT_KEY_USAGE, f"{self.title} has neither digitalSignature nor nonRepudiation"
            )
        self.check_purposes()

    def check_purposes(self) -> None:
        """Extended key usage, if there is one, must allow IKE (RFC 4945 §5.1.3.12). Raises AuthenticationFailed.

        It is asked of intermediate CAs too: one that is limited to signing code does not certify gateways.
        """
        if self.purposes is not None and not self.purposes & IKE_PURPOSES:
            shown = ", ".join(sorted(purpose.dotted_string for purpose in self.purposes)[:8])
            raise AuthenticationFailed(Reason.CERT_EXTENDED_KEY_USAGE, f"{self.title} is for {shown} only")

    def check_issuer(self) -> None:
        """What RFC 5280 §6.1.4 (k) and (n) ask of a CA. Raises AuthenticationFailed."""
        if not self.is_ca:
            raise AuthenticationFailed(Reason.CERT_NOT_CA, self.title)
        if self.key_usage is not None and not self.key_usage.key_cert_sign:
            raise AuthenticationFailed(Reason.CERT_KEY_USAGE, f"{self.title} has no keyCertSign")

    def carries(self, identity: Identity) -> bool:
        """Whether the identity is the subject, or one of the subjectAltNames (RFC 4945 §3.1).

        Exact: wildcards in certificates stand for nothing, and common names are no domain names.
        """
        if not identity.is_valid:
            return False
        if identity.type == IdentityType.DER_ASN1_DN:
            return distinguished_name.same(distinguished_name.parse_der(identity.data), self.subject)
        return any(_equal(mine, identity) for mine in self.alternative_identities())

    def alternative_identities(self) -> tuple[Identity, ...]:
        """The subjectAltNames that can be identities."""
        return tuple(identity for name in self.names if (identity := _as_identity(name)) is not None)

    def default_identity(self) -> Identity | None:
        """The identity where none is configured: the first domain name, mail address or address, or the subject."""
        alternatives = self.alternative_identities()
        for type_ in (IdentityType.FQDN, IdentityType.RFC822_ADDR, IdentityType.IPV4_ADDR, IdentityType.IPV6_ADDR):
            for identity in alternatives:
                if identity.type == type_ and identity.is_valid and not identity.is_pattern:
                    return identity
        return Identity(IdentityType.DER_ASN1_DN, self.subject_der) if self.subject else None

    def _unsafe_name(self) -> str | None:
        # A NUL ends a name for some programs and not for others; of two common names each takes another one.
        if any(not c.isprintable() for rdn in self.subject + self.issuer for _, value in rdn for c in value):
            return "a control character in subject or issuer"
        common = sum(oid == NameOID.COMMON_NAME.dotted_string for rdn in self.subject for oid, _ in rdn)
        if common > 1:
            return f"{common} common names"
        for name in self.names:
            if isinstance(name, x509.DNSName | x509.RFC822Name | x509.UniformResourceIdentifier) and any(
                not 0x20 < ord(character) < 0x7F for character in name.value
            ):
                return f"subjectAltName {_show_name(name)} with a character that does not belong there"
        return None


def _check_signature_bits(data: bytes) -> None:
    # The library takes a signature with some of its bits "unused" too, so one certificate would have several encodings.
    body, _ = der.read(data, der.SEQUENCE)
    _, _, rest = der.read_any(body)
    _, _, rest = der.read_any(rest)
    signature, _ = der.read(rest, der.BIT_STRING)
    if signature[:1] != b"\0":
        raise ValueError("a signature of no whole number of bytes")


def _equal(one: Identity, other: Identity) -> bool:
    # One way with ``matches`` would let a wildcard of the certificate stand for names.
    return not one.is_pattern and one.matches(other) and other.matches(one)


def _as_identity(name: x509.GeneralName) -> Identity | None:
    match name:
        case x509.DNSName():
            return Identity(IdentityType.FQDN, name.value.encode())
        case x509.RFC822Name():
            return Identity(IdentityType.RFC822_ADDR, name.value.encode())
        case x509.IPAddress():
            # Networks are for name constraints and name nobody.
            return Identity.from_address(name.value) if isinstance(name.value, IPv4Address | IPv6Address) else None
        case x509.DirectoryName():
            return None  # RFC 4945 §3.1.5: a DN identity is the subject
    return None


def _show_name(name: x509.GeneralName) -> str:
    identity = _as_identity(name)
    return str(identity) if identity is not None else type(name).__name__


def _understands(extension: x509.Extension[x509.ExtensionType]) -> bool:
    if isinstance(extension.value, x509.PolicyConstraints):
        # Without requireExplicitPolicy the policies of a path need not be worked out.
        return extension.value.require_explicit_policy is None
    return extension.oid in _UNDERSTOOD


def _weakness(certificate: x509.Certificate) -> str | None:
    weakness = weakness_of(certificate.public_key())
    if weakness:
        return weakness
    if certificate.signature_algorithm_oid in _EDDSA:
        return None
    try:
        hash_ = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return f"a signature by {certificate.signature_algorithm_oid.dotted_string}"
    if isinstance(hash_, _STRONG_HASHES):
        return None
    return f"a signature with {hash_.name if hash_ else certificate.signature_algorithm_oid.dotted_string}"


def _words(error: Exception) -> str:
    text = " ".join(str(error).split())[:200] or type(error).__name__
    return "".join(character if character.isprintable() else "?" for character in text)
