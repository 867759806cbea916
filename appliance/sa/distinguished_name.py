"""X.500 distinguished names: read from DER and from text, compared by meaning, shown safely (X.690, RFC 5280 §7.1).

A name is a tuple of RDNs in the order of the encoding; an RDN is a set of (object identifier, value). Text is in that
order too, ``C=CH, O=Example, CN=gw-a.example``, as strongSwan writes it (RFC 4514 has it the other way round). RDNs of
several attributes are read from DER and shown, but not read from text.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

from appliance.sa import der

Rdn = frozenset[tuple[str, str]]
Name = tuple[Rdn, ...]

_MAX_DER = 4096
_MAX_ATTRIBUTES = 64

_OIDS = {
    "CN": "2.5.4.3",
    "SURNAME": "2.5.4.4",
    "SERIALNUMBER": "2.5.4.5",
    "C": "2.5.4.6",
    "L": "2.5.4.7",
    "ST": "2.5.4.8",
    "STREET": "2.5.4.9",
    "O": "2.5.4.10",
    "OU": "2.5.4.11",
    "T": "2.5.4.12",
    "TITLE": "2.5.4.12",
    "N": "2.5.4.41",
    "G": "2.5.4.42",
    "GN": "2.5.4.42",
    "SN": "2.5.4.4",
    "S": "2.5.4.4",
    "I": "2.5.4.43",
    "UID": "0.9.2342.19200300.100.1.1",
    "USERID": "0.9.2342.19200300.100.1.1",
    "DC": "0.9.2342.19200300.100.1.25",
    "E": "1.2.840.113549.1.9.1",
    "EMAIL": "1.2.840.113549.1.9.1",
    "EMAILADDRESS": "1.2.840.113549.1.9.1",
    "UNSTRUCTUREDNAME": "1.2.840.113549.1.9.2",
}
_SHOWN = {oid: name for name, oid in reversed(_OIDS.items())}
_IA5 = {_OIDS["DC"], _OIDS["E"], _OIDS["UNSTRUCTUREDNAME"]}
_PRINTABLE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 '()+,-./:=?")

_STRINGS = {
    0x0C: "utf-8",  # UTF8String
    0x12: "ascii",  # NumericString
    0x13: "ascii",  # PrintableString
    0x14: "latin-1",  # TeletexString, as everybody uses it
    0x16: "ascii",  # IA5String
    0x1A: "ascii",  # VisibleString
    0x1C: "utf-32-be",  # UniversalString
    0x1E: "utf-16-be",  # BMPString
}


def parse_text(text: str) -> bytes:
    """DER of ``C=CH, O=Example, CN=gw-a.example``; ``/C=CH/O=Example`` is read too, ``\\`` makes a character plain.

    Raises ValueError that says what is wrong with the text.
    """
    separator = "/" if text.lstrip().startswith("/") else ","
    rdns = []
    for part in _split(text.strip().removeprefix("/"), separator):
        key, equals, value = part.partition("=")
        key, value = key.strip(), _unescape(_trim(value))
        if not equals or not value:
            raise ValueError(f"{part.strip()!r} in {text!r} is not KEY=VALUE")
        oid = _OIDS.get(key.upper(), key)
        if not all(arc.isdecimal() for arc in oid.split(".")) or oid.count(".") < 2:
            raise ValueError(f"{key!r} in {text!r} is not an attribute; known are {', '.join(sorted(_OIDS))}")
        rdns.append(der.element(der.SET, der.element(der.SEQUENCE, der.encode_oid(oid) + _encode_value(oid, value))))
    return der.element(der.SEQUENCE, b"".join(rdns))


@lru_cache(maxsize=256)  # the name that a peer claims is held against that of each connection
def parse_der(data: bytes) -> Name:
    """The name in a DER ``Name``. Raises ValueError if it is not exactly one, or larger than names need be."""
    if len(data) > _MAX_DER:
        raise ValueError(f"a name of {len(data)} bytes")
    body, rest = der.read(data, der.SEQUENCE)
    if rest:
        raise ValueError("bytes after the name")
    rdns: list[Rdn] = []
    attributes = 0
    while body:
        rdn, body = der.read(body, der.SET)
        pairs: set[tuple[str, str]] = set()
        while rdn:
            attribute, rdn = der.read(rdn, der.SEQUENCE)
            oid, value = der.read(attribute, der.OBJECT_IDENTIFIER)
            pairs.add((der.decode_oid(oid), _decode_value(value)))
            attributes += 1
            if attributes > _MAX_ATTRIBUTES:
                raise ValueError(f"more than {_MAX_ATTRIBUTES} attributes in a name")
        if not pairs:
            raise ValueError("an empty RDN")
        rdns.append(frozenset(pairs))
    return tuple(rdns)


def show(name: Name) -> str:
    """The name as text, in the order of the encoding, with what could mislead escaped."""
    return ", ".join("+".join(f"{_SHOWN.get(oid, oid)}={_escape(value)}" for oid, value in sorted(rdn)) for rdn in name)


def same(one: Name, other: Name) -> bool:
    """Whether two names are equal by RFC 5280 §7.1: case and surplus white space do not count, string types neither."""
    return len(one) == len(other) and all(
        {(oid, _fold(value)) for oid, value in a} == {(oid, _fold(value)) for oid, value in b}
        for a, b in zip(one, other, strict=True)
    )


def matches(name: Name, pattern: Name) -> bool:
    """Whether a name fits a pattern of as many RDNs, in which the value ``*`` stands for any one value."""
    if len(name) != len(pattern):
        return False
    for rdn, wanted in zip(name, pattern, strict=True):
        wild = {oid for oid, value in wanted if value == "*"}
        if {oid for oid, _ in rdn} != {oid for oid, _ in wanted}:
            return False
        have = {(oid, _fold(value)) for oid, value in rdn if oid not in wild}
        if have != {(oid, _fold(value)) for oid, value in wanted if oid not in wild}:
            return False
    return True


def is_within(name: Name, base: Name) -> bool:
    """Whether ``base`` is the beginning of the name, as name constraints have it (RFC 5280 §4.2.1.10)."""
    return same(name[: len(base)], base)


def has_nul(name: Name) -> bool:
    """Whether a value holds a NUL, which no honest name does."""
    return any("\0" in value for rdn in name for _, value in rdn)


def _fold(value: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", value).casefold().split())


def _split(text: str, separator: str) -> list[str]:
    parts, current, escaped = [], "", False
    for character in text:
        if not escaped and character == separator:
            parts.append(current)
            current = ""
            continue
        escaped = character == "\\" and not escaped
        current += character
    return [*parts, current]


def _trim(text: str) -> str:
    """Without white space around, but with an escaped blank at the end."""
    text = text.lstrip()
    short = text.rstrip()
    slashes = len(short) - len(short.rstrip("\\"))
    return text[: len(short) + 1] if slashes % 2 and len(short) < len(text) else short


def _unescape(text: str) -> str:
    out, escaped = "", False
    for character in text:
        if character == "\\" and not escaped:
            escaped = True
            continue
        out += character
        escaped = False
    if escaped:
        raise ValueError(f"{text!r} ends in a lone backslash")
    return out


def _escape(value: str) -> str:
    out = ""
    for character in value:
        if character in ',+\\"<>;=/':
            out += "\\" + character
        else:
            out += character if character.isprintable() else character.encode("unicode_escape").decode()
    return out


def _encode_value(oid: str, value: str) -> bytes:
    if oid in _IA5 and value.isascii():
        return der.element(0x16, value.encode("ascii"))
    if _PRINTABLE.issuperset(value):
        return der.element(0x13, value.encode("ascii"))
    return der.element(0x0C, value.encode())


def _decode_value(data: bytes) -> str:
    tag, value, rest = der.read_any(data)
    if rest or tag not in _STRINGS:
        raise ValueError(f"a value of type {tag:#04x}, which is no string")
    return value.decode(_STRINGS[tag])  # UnicodeDecodeError is a ValueError
