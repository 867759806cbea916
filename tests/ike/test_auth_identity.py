"""Identities and distinguished names: what is read, shown and matched."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from appliance.ike.constants import IdType
from appliance.sa import der, distinguished_name
from appliance.sa.identity import Identity, IdentityType


@pytest.mark.parametrize(
    ("text", "type_", "data"),
    [
        ("192.0.2.1", IdentityType.IPV4_ADDR, bytes((192, 0, 2, 1))),
        ("2001:db8::1", IdentityType.IPV6_ADDR, ip_address("2001:db8::1").packed),
        ("gw-a.example", IdentityType.FQDN, b"gw-a.example"),
        ("@gw-a.example", IdentityType.FQDN, b"gw-a.example"),
        ("@192.0.2.1", IdentityType.FQDN, b"192.0.2.1"),
        ("fqdn:gw@a", IdentityType.FQDN, b"gw@a"),
        ("user@example.org", IdentityType.RFC822_ADDR, b"user@example.org"),
        ("@@gw-a.example", IdentityType.RFC822_ADDR, b"gw-a.example"),
        ("email:user", IdentityType.RFC822_ADDR, b"user"),
        ("@#00ff10", IdentityType.KEY_ID, b"\x00\xff\x10"),
        ("keyid:branch 7", IdentityType.KEY_ID, b"branch 7"),
        ("keyid:0x6162", IdentityType.KEY_ID, b"ab"),
        ("%any", IdentityType.ANY, b""),
        ("*.example", IdentityType.FQDN, b"*.example"),
        ("ipv6:::1", IdentityType.IPV6_ADDR, ip_address("::1").packed),
    ],
)
def test_identities_are_read_by_strongswans_conventions(text: str, type_: IdentityType, data: bytes) -> None:
    assert Identity.parse(text) == Identity(type_, data)


@pytest.mark.parametrize("text", ["", "  ", "@", "@#0", "@#xy", "keyid:", "gw a", "g\u00fc.example", "a\0b", "CN=",
                                  "X=y, CN=a", "ipv4:2001:db8::1", "ipv4:x", "CN=a, b"])  # fmt: skip
def test_what_is_no_identity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Identity.parse(text)


@pytest.mark.parametrize(
    "text", ["192.0.2.1", "2001:db8::1", "gw.example", "u@example.org", "C=CH, O=Ex\\, Inc, CN=gw", "@#00ff", "%any"]
)
def test_an_identity_is_shown_as_it_is_written(text: str) -> None:
    assert str(Identity.parse(text)) == text
    assert Identity.parse(str(Identity.parse(text))) == Identity.parse(text)


def test_type_numbers_are_those_of_the_wire_rfc7296_3_5() -> None:
    for type_ in IdentityType:
        if type_ is not IdentityType.ANY:
            assert IdType[type_.name] == type_


@pytest.mark.parametrize(
    ("identity", "pattern", "fits"),
    [
        ("gw-a.example", "GW-A.Example", True),
        ("gw-a.example", "gw-b.example", False),
        ("gw-a.example", "*.example", True),
        ("a.b.example", "*.example", True),
        ("example", "*.example", False),
        ("badexample", "*.example", False),
        ("*.example", "*.example", False),
        ("gw-a.example", "%any", True),
        ("%any", "%any", False),
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "@192.0.2.1", False),
        ("u@example.org", "u@EXAMPLE.org", True),
        ("U@example.org", "u@example.org", False),
        ("u@example.org", "*@example.org", True),
        ("u@sub.example.org", "*@example.org", False),
        ("u@sub.example.org", "*@*.example.org", True),
        ("@@example.org", "*@example.org", False),
        ("C=CH, O=Example, CN=gw", "C=CH, O=example,  CN=GW", True),
        ("C=CH, O=Example, CN=gw", "C=CH, O=*, CN=gw", True),
        ("C=CH, O=Example, CN=gw", "C=CH, CN=gw", False),
        ("C=CH, O=Example, CN=gw", "O=Example, C=CH, CN=gw", False),
        ("C=CH, O=Example, CN=gw", "C=CH, OU=*, CN=gw", False),
        ("@#6162", "keyid:ab", True),
        ("@#6162", "ab", False),
    ],
)
def test_matching_is_by_type_and_meaning(identity: str, pattern: str, fits: bool) -> None:
    assert Identity.parse(identity).matches(Identity.parse(pattern)) is fits


@pytest.mark.parametrize(
    "data",
    [b"gw-a.example\0.evil", b"\0", b"gw-a.example\0", b"gw\x1b[2J", b"g w", b"gw\x7f", b"g\xfc", b"", b"x" * 1025],
)
def test_control_characters_and_nul_never_match(data: bytes) -> None:
    for type_ in (IdentityType.FQDN, IdentityType.RFC822_ADDR):
        identity = Identity(type_, data)
        assert not identity.is_valid
        assert not identity.matches(Identity.any())
        assert not identity.matches(identity)
        assert not identity.matches(Identity.parse("*.evil"))
        assert str(identity).isprintable()


def test_nul_in_a_distinguished_name_never_matches() -> None:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gw\0.evil")])
    identity = Identity(IdentityType.DER_ASN1_DN, name.public_bytes())
    assert not identity.matches(Identity.any())
    assert "\\x00" in str(identity)


def test_the_empty_distinguished_name_names_nobody() -> None:
    assert not Identity(IdentityType.DER_ASN1_DN, b"\x30\x00").matches(Identity.any())


def test_addresses_of_the_wrong_length_and_unknown_types_match_nothing() -> None:
    for identity in (Identity(1, b"\x01\x02\x03"), Identity(5, bytes(4)), Identity(10, b"x"), Identity(99, b"x")):
        assert not identity.is_valid
        assert not identity.matches(Identity.any())
        assert str(identity)


def test_names_compare_over_string_types_rfc5280_7_1() -> None:
    text = x509.NameAttribute(NameOID.COMMON_NAME, "Gateway  A")
    for type_ in (x509.name._ASN1Type.UTF8String, x509.name._ASN1Type.PrintableString, x509.name._ASN1Type.BMPString):
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text.value, type_)])
        assert Identity(9, name.public_bytes()).matches(Identity.parse("CN=gateway a"))


def test_text_and_library_make_the_same_name() -> None:
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "CH"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example"),
            x509.NameAttribute(NameOID.DOMAIN_COMPONENT, "example"),
            x509.NameAttribute(NameOID.EMAIL_ADDRESS, "a@example.org"),
            x509.NameAttribute(NameOID.COMMON_NAME, "gw, a"),
        ]
    )
    ours = distinguished_name.parse_der(
        distinguished_name.parse_text("C=CH, O=Example, DC=example, E=a@example.org, CN=gw\\, a")
    )
    assert distinguished_name.same(ours, distinguished_name.parse_der(name.public_bytes()))


@pytest.mark.parametrize(
    "data",
    ["", "30", "3080", "300100", "3003020100", "30023100", "3000ff", "308101", "30830000010500", "31003000"],
)
def test_malformed_names_are_refused(data: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        distinguished_name.parse_der(bytes.fromhex(data))


@pytest.mark.parametrize("oid", ["2.5.4.3", "1.2.840.113549.1.1.10", "2.999.3", "0.9.2342.19200300.100.1.25"])
def test_object_identifiers_survive_the_way_there_and_back(oid: str) -> None:
    encoded = der.encode_oid(oid)
    assert der.decode_oid(der.read(encoded, der.OBJECT_IDENTIFIER)[0]) == oid


@given(st.binary(max_size=80), st.integers(0, 255))
def test_whatever_a_peer_calls_itself_can_be_matched_and_shown(data: bytes, type_: int) -> None:
    identity = Identity(type_, data)
    assert str(identity).isprintable()
    assert identity.described.isprintable()
    for pattern in (Identity.any(), Identity.parse("*.example"), Identity.parse("CN=*"), identity):
        identity.matches(pattern)


@given(st.text(max_size=60))
def test_any_text_is_an_identity_or_a_clear_refusal(text: str) -> None:
    try:
        identity = Identity.parse(text)
    except ValueError as error:
        assert str(error)
    else:
        assert identity.is_valid
