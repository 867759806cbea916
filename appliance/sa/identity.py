"""Identities of IKE peers: what ID payloads carry and what configurations expect (RFC 7296 §3.5).

They are written by strongSwan's conventions, see ``Identity.parse``.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address, ip_address

from appliance.sa import distinguished_name
from appliance.sa.selector import Address


class IdentityType(IntEnum):
    """ID types, RFC 7296 §3.5. ANY is not sent: it is the pattern ``%any``."""

    ANY = 0
    IPV4_ADDR = 1
    FQDN = 2
    RFC822_ADDR = 3
    IPV6_ADDR = 5
    DER_ASN1_DN = 9
    DER_ASN1_GN = 10
    KEY_ID = 11


_ADDRESS_SIZES: dict[int, int] = {IdentityType.IPV4_ADDR: 4, IdentityType.IPV6_ADDR: 16}
_NAMES = (IdentityType.FQDN, IdentityType.RFC822_ADDR)
_NAME_BYTES = bytes(range(0x21, 0x7F))


@dataclass(frozen=True, slots=True)
class Identity:
    """One identity as an ID payload carries it. A peer's may be anything at all: ``is_valid`` tells if it can be used.

    ``type`` is an IdentityType where the number is one, else the plain number.
    """

    type: int
    data: bytes

    def __post_init__(self) -> None:
        with suppress(ValueError):  # a type of the future or of nowhere is shown, and matches nothing
            object.__setattr__(self, "type", IdentityType(self.type))

    @classmethod
    def any(cls) -> Identity:
        """The pattern that every valid identity matches."""
        return cls(IdentityType.ANY, b"")

    @classmethod
    def from_address(cls, address: Address) -> Identity:
        """ID_IPV4_ADDR or ID_IPV6_ADDR."""
        type_ = IdentityType.IPV4_ADDR if address.version == 4 else IdentityType.IPV6_ADDR
        return cls(type_, address.packed)

    @classmethod
    def parse(cls, text: str) -> Identity:
        """Read an identity or a pattern, by strongSwan's conventions. Raises ValueError that says what is wrong.

        ``192.0.2.1`` and ``2001:db8::1`` are addresses; ``%any`` is the wildcard; ``C=CH, O=Example, CN=gw`` a
        distinguished name; ``@#6b6579`` a key ID in hexadecimal and ``keyid:key`` one in text; ``user@example`` a mail
        address; ``@gw.example`` and everything else a domain name. ``fqdn:``, ``email:``, ``ipv4:``, ``ipv6:``, ``dn:``
        or ``asn1dn:`` in front choose the type. In patterns ``*.example`` and ``*@example`` stand for all names below.
        """
        text = text.strip()
        if not text:
            raise ValueError("an identity is empty")
        if any(not character.isprintable() for character in text):
            raise ValueError(f"{text!r} has control characters")
        prefix, colon, rest = text.partition(":")
        if colon and prefix.lower() in _PREFIXES:
            return cls._of_type(_PREFIXES[prefix.lower()], rest, text)
        if text in ("%any", "%any4", "%any6", "0.0.0.0", "::"):  # noqa: S104 - the identity, no socket
            return cls.any()
        with suppress(ValueError):  # no address, so a name
            return cls.from_address(ip_address(text))
        if text.startswith("@#"):
            return cls._of_type(IdentityType.KEY_ID, "0x" + text[2:], text)
        if text.startswith("@@"):
            return cls._of_type(IdentityType.RFC822_ADDR, text[2:], text)
        if text.startswith("@"):
            return cls._of_type(IdentityType.FQDN, text[1:], text)
        if "=" in text:
            return cls._of_type(IdentityType.DER_ASN1_DN, text, text)
        return cls._of_type(IdentityType.RFC822_ADDR if "@" in text else IdentityType.FQDN, text, text)

    @classmethod
    def _of_type(cls, type_: IdentityType, value: str, text: str) -> Identity:
        if type_ is IdentityType.DER_ASN1_DN:
            return cls(type_, distinguished_name.parse_text(value))
        if type_ is IdentityType.KEY_ID:
            try:
                data = bytes.fromhex(value[2:]) if value.startswith("0x") else value.encode()
            except ValueError:
                raise ValueError(f"{text!r} is not a key ID in hexadecimal") from None
        elif type_ in _ADDRESS_SIZES:
            identity = cls.from_address(ip_address(value))
            if identity.type != type_:
                raise ValueError(f"{value!r} is of the other address family")
            return identity
        else:
            if not value.isascii():
                raise ValueError(f"{text!r} is not ASCII; write its labels in punycode (RFC 5890)")
            if " " in value:
                raise ValueError(f"{text!r} has a blank in it")
            data = value.encode()
        if not data:
            raise ValueError(f"{text!r} has nothing behind its type")
        return cls(type_, data)

    @property
    def address(self) -> Address | None:
        """The address, if the identity is a valid one of these types."""
        if _ADDRESS_SIZES.get(self.type) != len(self.data):
            return None
        return IPv4Address(self.data) if self.type == IdentityType.IPV4_ADDR else IPv6Address(self.data)

    @property
    def is_valid(self) -> bool:
        """Whether the data are what the type says (RFC 7296 §3.5), with no NUL or other control character in a name."""
        if self.type in _ADDRESS_SIZES:
            return self.address is not None
        if self.type in _NAMES:
            return 0 < len(self.data) <= 1024 and not self.data.translate(None, _NAME_BYTES)
        if self.type == IdentityType.DER_ASN1_DN:
            name = self._name()
            return bool(name) and not distinguished_name.has_nul(name or ())
        return self.type in (IdentityType.ANY, IdentityType.KEY_ID) and len(self.data) <= 1024

    def matches(self, pattern: Identity) -> bool:
        """Whether this identity, which a peer claims, is one that the pattern, which the configuration has, stands for.

        Domain names compare without case (RFC 4343); the local part of a mail address with it (RFC 5280 §7.5).
        Distinguished names compare by meaning. What is not valid, NUL in a name above all, matches nothing.
        """
        both_names = self.type in _NAMES and pattern.type in _NAMES
        if both_names and not pattern.data.startswith(b"*") and self.data.lower() != pattern.data.lower():
            return False  # as for most of a thousand connections: told before anything dear
        if not self.is_valid or not pattern.is_valid or self.type == IdentityType.ANY:
            return False
        if pattern.type == IdentityType.ANY:
            return True
        if self.type != pattern.type:
            return False
        if self.type == IdentityType.FQDN:
            return _domain_matches(self.data.decode(), pattern.data.decode())
        if self.type == IdentityType.RFC822_ADDR:
            return _mailbox_matches(self.data.decode(), pattern.data.decode())
        if self.type == IdentityType.DER_ASN1_DN:
            mine, wanted = self._name(), pattern._name()
            return mine is not None and wanted is not None and distinguished_name.matches(mine, wanted)
        return self.data == pattern.data

    @property
    def is_pattern(self) -> bool:
        """Whether it stands for more than one identity: ``%any`` or a wildcard."""
        if self.type in _NAMES:
            return self.data.startswith(b"*")
        if self.type == IdentityType.DER_ASN1_DN:
            return any(value == "*" for rdn in self._name() or () for _, value in rdn)
        return self.type == IdentityType.ANY

    def _name(self) -> distinguished_name.Name | None:
        try:
            return distinguished_name.parse_der(self.data)
        except ValueError:
            return None

    @property
    def described(self) -> str:
        """Type and identity, for messages in which the same text of two types must not look the same."""
        return f"{self.type.name} {self}" if isinstance(self.type, IdentityType) else str(self)

    def __str__(self) -> str:
        """The identity in the words of ``parse``; what a terminal must not get is shown escaped."""
        if self.type == IdentityType.ANY:
            return "%any"
        if self.address is not None:
            return str(self.address)
        if self.type in _NAMES:
            text = "".join(chr(b) if 0x20 < b < 0x7F and b != 0x5C else f"\\x{b:02x}" for b in self.data[:256])
            return text + ("…" if len(self.data) > 256 else "") or "(empty)"
        if self.type == IdentityType.DER_ASN1_DN and (name := self._name()) is not None:
            shown = distinguished_name.show(name)
            return shown[:512] + ("…" if len(shown) > 512 else "") or "(empty name)"
        shown = self.data[:64].hex() + ("…" if len(self.data) > 64 else "")
        return f"@#{shown}" if self.type == IdentityType.KEY_ID else f"(type {int(self.type)}: {shown})"


_PREFIXES = {
    "keyid": IdentityType.KEY_ID,
    "fqdn": IdentityType.FQDN,
    "dns": IdentityType.FQDN,
    "email": IdentityType.RFC822_ADDR,
    "rfc822": IdentityType.RFC822_ADDR,
    "ipv4": IdentityType.IPV4_ADDR,
    "ipv6": IdentityType.IPV6_ADDR,
    "dn": IdentityType.DER_ASN1_DN,
    "asn1dn": IdentityType.DER_ASN1_DN,
}


def _domain_matches(name: str, pattern: str) -> bool:
    name, pattern = name.lower(), pattern.lower()
    if pattern.startswith("*."):
        # A wildcard is for the configuration: a peer that calls itself "*.example" is no name below it.
        return "*" not in name and name.endswith(pattern[1:]) and len(name) > len(pattern) - 1
    return name == pattern


def _mailbox_matches(name: str, pattern: str) -> bool:
    local, at, domain = name.rpartition("@")
    wanted_local, wanted_at, wanted_domain = pattern.rpartition("@")
    if not at or not wanted_at or not local:
        return False
    if wanted_local == "*":
        return "*" not in name and _domain_matches(domain, wanted_domain)
    return local == wanted_local and domain.lower() == wanted_domain.lower()
