"""Every way in which a payload can break the format is refused as such (RFC 7296 §3)."""

from __future__ import annotations

import pytest

from appliance.ike.constants import PayloadType
from appliance.ike.payloads import MAX_PAYLOADS, MalformedMessage, parse_payloads

P = PayloadType


def wrap(body: str) -> bytes:
    data = bytes.fromhex(body)
    return b"\0\0" + (4 + len(data)).to_bytes(2, "big") + data


T8 = "0000000801000014"  # a last transform without attributes
BODIES = {
    # Security Association
    "sa without proposals §3.3": (P.SA, "", "proposal has 0 bytes"),
    "sa with a cut proposal §3.3.1": (P.SA, "00000008010100", "proposal has 7 bytes"),
    "proposal longer than the payload §3.3.1": (P.SA, "0000000901010000", "says 9 bytes"),
    "proposal shorter than its header §3.3.1": (P.SA, "0000000701010000", "says 7 bytes"),
    "proposal with a wrong first byte §3.3.1": (P.SA, "0100000801010000", "starts with 1"),
    "more proposals promised §3.3.1": (P.SA, "0200000801010000", "proposal has 0 bytes"),
    "bytes behind the last proposal §3.3.1": (P.SA, "0000000801010000ff", "behind the last proposal"),
    "proposal number 0 §3.3.1": (P.SA, "0000000800010000", "numbered"),
    "proposals numbered 1, 3 §3.3.1": (P.SA, "02000008010100000000000803010000", "numbered"),
    "proposals numbered 1, 1 §3.3.1": (P.SA, "02000008010100000000000801010000", "numbered"),
    "proposals numbered from 2 §3.3.1": (P.SA, "02000008020100000000000803010000", "numbered"),
    "spi beyond the proposal §3.3.1": (P.SA, "0000000a01030400aaaa", "no room for its SPI"),
    "esp with an spi of 8 §3.3.1": (P.SA, "0000001001030800aaaaaaaaaaaaaaaa", "SPI of 8"),
    "ike with an spi of 4 §3.3.1": (P.SA, "0000000c01010400aaaaaaaa", "SPI of 4"),
    "ah without an spi §3.3.1": (P.SA, "0000000801020000", "SPI of 0"),
    "transforms promised, none there §3.3.1": (P.SA, "0000000801010001", "transform has 0 bytes"),
    "transform beyond the proposal §3.3.2": (P.SA, "00000010010100010000000901000014", "says 9"),
    "transform shorter than its header §3.3.2": (P.SA, "00000010010100010000000701000014", "says 7"),
    "transform with a wrong first byte §3.3.2": (P.SA, "00000010010100010200000801000014", "starts with 2"),
    "fewer transforms than counted §3.3.1": (P.SA, "0000001001010002" + T8, "has 1 transforms, not 2"),
    "more transforms than counted §3.3.1": (P.SA, "00000018010100010300000801000014" + T8, "more than its 1"),
    "bytes behind the last transform §3.3.2": (P.SA, "0000001201010001" + T8 + "ffff", "behind the last transform"),
    "transforms where none are counted §3.3.1": (P.SA, "0000001001010000" + T8, "behind the last transform"),
    "half an attribute §3.3.5": (P.SA, "00000012010100010000000a01000014800e", "2 bytes of an attribute"),
    "attribute beyond the transform §3.3.5": (P.SA, "00000014010100010000000c0100001400110001", "0 left"),
    "key length in the long format §3.3.5": (P.SA, "00000016010100010000000e01000014000e00020080", "variable"),
    # The others
    "ke without a method §3.4": (P.KE, "001400", "KE payload has 3 bytes"),
    "idi without its fields §3.5": (P.IDI, "020000", "ID payload has 3 bytes"),
    "idr of an ipv4 address of 5 bytes §3.5": (P.IDR, "01000000c000020101", "IPV4_ADDR of 5"),
    "idi of an ipv6 address of 4 bytes §3.5": (P.IDI, "05000000c0000201", "IPV6_ADDR of 4"),
    "cert without an encoding §3.6": (P.CERT, "", "CERT payload has 0 bytes"),
    "certreq without an encoding §3.7": (P.CERTREQ, "", "CERTREQ payload has 0 bytes"),
    "auth without its fields §3.8": (P.AUTH, "0e", "AUTH payload has 1 bytes"),
    "nonce of 15 bytes §3.9": (P.NONCE, "aa" * 15, "15 bytes"),
    "nonce of 257 bytes §3.9": (P.NONCE, "aa" * 257, "257 bytes"),
    "notify without its fields §3.10": (P.NOTIFY, "030440", "3 bytes"),
    "notify with half an spi §3.10": (P.NOTIFY, "03044009aaaa", "SPI of 4"),
    "delete without its fields §3.11": (P.DELETE, "0304", "2 bytes"),
    "delete of ike with an spi §3.11": (P.DELETE, "01080001aaaaaaaaaaaaaaaa", "no SPIs"),
    "delete of ike with a count §3.11": (P.DELETE, "01000001", "no SPIs"),
    "delete of esp with spis of 8 §3.11": (P.DELETE, "03080001aaaaaaaaaaaaaaaa", "not 4"),
    "delete with fewer spis than counted §3.11": (P.DELETE, "03040002aaaaaaaa", "2 SPIs"),
    "delete with more spis than counted §3.11": (P.DELETE, "03040001aaaaaaaaaaaaaaaa", "1 SPIs"),
    "delete of 65535 spis of no bytes §3.11": (P.DELETE, "6300ffff", "SPIs of 0"),
    "ts without its fields §3.13": (P.TSI, "010000", "3 bytes"),
    "ts without selectors §3.13": (P.TSR, "00000000", "without selectors"),
    "ts with fewer selectors than counted §3.13": (P.TSI, "01000000", "0 bytes of 4"),
    "ts with more bytes than counted §3.13": (P.TSI, "01000000630000040000", "behind the last"),
    "selector beyond the payload §3.13.1": (P.TSI, "01000000070000110000ffff0a0000000a0000ff", "says 17"),
    "selector of 3 bytes §3.13.1": (P.TSI, "0100000063000003", "says 3"),
    "ipv4 selector of 17 bytes §3.13.1": (P.TSI, "01000000070000110000ffff0a0000000a0000ff00", "not 16"),
    "ipv6 selector of 16 bytes §3.13.1": (P.TSI, "01000000080000100000ffff0a0000000a0000ff", "not 40"),
    "addresses upside down §3.13.1": (P.TSI, "01000000070000100000ffff0a0000ff0a000000", "upside down"),
    "ports upside down §3.13.1": (P.TSI, "0100000007110010000900080a0000000a0000ff", "upside down"),
    "cp without its fields §3.15": (P.CP, "01", "CP payload has 1 bytes"),
    "cp with half an attribute §3.15.1": (P.CP, "010000000001", "2 bytes of an attribute"),
    "cp attribute beyond the payload §3.15.1": (P.CP, "0100000000010004aaaa", "4 bytes, 2 left"),
    "eap of 3 bytes §3.16": (P.EAP, "010100", "EAP payload has 3 bytes"),
    "eap that says another length §3.16": (P.EAP, "0101000601", "says 6"),
}


@pytest.mark.parametrize("case", BODIES)
def test_bad_contents_are_malformed_rfc7296_3(case: str) -> None:
    payload_type, body, detail = BODIES[case]
    with pytest.raises(MalformedMessage) as caught:
        parse_payloads(payload_type, wrap(body))
    assert type(caught.value) is MalformedMessage
    assert detail in caught.value.detail


@pytest.mark.parametrize(
    ("payload_type", "chain", "detail"),
    [
        (P.VENDOR_ID, "", "payload header has 0 bytes"),
        (P.VENDOR_ID, "000000", "payload header has 3 bytes"),
        (P.VENDOR_ID, "00000003", "says 3 bytes"),
        (P.VENDOR_ID, "00000000", "says 0 bytes"),
        (P.VENDOR_ID, "00000006aa", "says 6 bytes, 5 are left"),
        (P.VENDOR_ID, "2b000004", "payload header has 0 bytes"),
        (P.VENDOR_ID, "00000004aa", "1 bytes behind the last payload"),
        (P.NONE, "aa", "1 bytes behind the last payload"),
        (200, "0000ffff", "says 65535 bytes"),
    ],
)
def test_bad_chains_are_malformed_rfc7296_3_2(payload_type: int, chain: str, detail: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        parse_payloads(payload_type, bytes.fromhex(chain))
    assert detail in caught.value.detail


@pytest.mark.parametrize("payload_type", [P.SK, P.SKF])
def test_an_encrypted_payload_inside_a_chain_is_malformed_rfc7296_3_14(payload_type: int) -> None:
    with pytest.raises(MalformedMessage, match="encrypted"):
        parse_payloads(payload_type, wrap("aa" * 40))
    with pytest.raises(MalformedMessage, match="encrypted"):
        parse_payloads(P.VENDOR_ID, bytes([payload_type, 0, 0, 4]) + wrap("aa" * 40))


def test_the_number_of_payloads_is_bounded() -> None:
    vendor = bytes([P.VENDOR_ID, 0, 0, 4])
    last = bytes([0, 0, 0, 4])
    assert len(parse_payloads(P.VENDOR_ID, vendor * (MAX_PAYLOADS - 1) + last)) == MAX_PAYLOADS
    with pytest.raises(MalformedMessage, match="more than 64 payloads"):
        parse_payloads(P.VENDOR_ID, vendor * MAX_PAYLOADS + last)


def test_the_number_of_proposals_is_bounded() -> None:
    body = b"".join(bytes([2 if n < 65 else 0, 0, 0, 8, n, 1, 0, 0]) for n in range(1, 66))
    with pytest.raises(MalformedMessage, match="more than 64 proposals"):
        parse_payloads(P.SA, b"\0\0" + (4 + len(body)).to_bytes(2, "big") + body)
