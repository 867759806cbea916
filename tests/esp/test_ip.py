"""Checksums and headers, beside their definitions and beside Scapy (RFC 1071, RFC 1624, RFC 791, RFC 8200)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.utils import checksum as scapy_checksum

from appliance.esp.checksum import adjusted, internet_checksum, pseudo_header
from appliance.esp.drop import Drop
from appliance.esp.ip import Ipv4Header, parse, parse_ipv4, parse_ipv6
from appliance.reasons import Reason
from tests.esp.cases import ipv4, ipv6


def folded(octets: bytes) -> int:
    """RFC 1071 §1 word by word: add with end-around carry, complement."""
    octets += b"\0" * (len(octets) % 2)
    total = 0
    for at in range(0, len(octets), 2):
        total += octets[at] << 8 | octets[at + 1]
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_checksum_is_the_complement_of_the_one_s_complement_sum_rfc1071_1(octets: bytes) -> None:
    assert internet_checksum(octets) == folded(octets)
    assert internet_checksum(octets) == scapy_checksum(octets)
    assert internet_checksum(memoryview(octets)) == folded(octets)


@pytest.mark.parametrize("octets", [b"", b"\0\0", b"\xff\xff", b"\xff\xff\xff\xff", b"\0", b"\xff", b"\x80\0\x7f\xff"])
def test_checksum_tells_the_two_zeros_apart_rfc1071_1(octets: bytes) -> None:
    assert internet_checksum(octets) == folded(octets)


def test_checksum_of_the_example_of_rfc1071_3() -> None:
    assert internet_checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0xDDF2 ^ 0xFFFF


@given(st.binary(min_size=1, max_size=60), st.data())
@settings(deadline=None)
def test_adjusting_gives_what_computing_again_would_rfc1624_3(octets: bytes, data: st.DataObject) -> None:
    # Real packets have at least one word that is not zero (their version, their pseudo-header).
    octets = b"\x45" + octets + b"\0" * ((len(octets) + 1) % 2)
    at = 2 * data.draw(st.integers(0, len(octets) // 2 - 1))
    new = data.draw(st.binary(min_size=2, max_size=len(octets) - at).filter(lambda b: len(b) % 2 == 0))
    changed = octets[:at] + new + octets[at + len(new) :]
    if not any(changed):
        return
    assert adjusted(internet_checksum(octets), octets[at : at + len(new)], new) == internet_checksum(changed)


def test_adjusting_gets_the_case_right_that_rfc1141_gets_wrong_rfc1624_4() -> None:
    # The example of RFC 1624 §4: the checksum becomes 0x0000, not 0xFFFF.
    assert adjusted(0xDD2F, b"\x55\x55", b"\x32\x85") == 0x0000


def test_pseudo_headers_have_the_shape_of_rfc768_and_rfc8200_8_1() -> None:
    assert pseudo_header(b"abcd", b"efgh", 17, 0x1234).hex() == "616263646566676800111234"
    six = pseudo_header(b"a" * 16, b"b" * 16, 58, 0x12345)
    assert six == b"a" * 16 + b"b" * 16 + bytes.fromhex("000123450000003a")


@given(
    payload=st.binary(max_size=50),
    tos=st.integers(0, 255),
    ttl=st.integers(0, 255),
    ident=st.integers(0, 65535),
    dont=st.booleans(),
    more=st.booleans(),
    offset=st.integers(0, 0x1FFF),
)
@settings(deadline=None)
def test_ipv4_headers_are_scapy_s_and_read_back_rfc791_3_1(
    payload: bytes, tos: int, ttl: int, ident: int, dont: bool, more: bool, offset: int
) -> None:
    packet = ipv4(
        payload,
        traffic_class=tos,
        hop_limit=ttl,
        identification=ident,
        dont_fragment=dont,
        more_fragments=more,
        fragment_offset=offset,
    )
    flags = ("DF" if dont else "") + ("+" if dont and more else "") + ("MF" if more else "")
    theirs = IP(src="10.1.0.5", dst="10.2.0.9", proto=253, tos=tos, ttl=ttl, id=ident, flags=flags, frag=offset)
    assert packet == bytes(theirs / payload)
    header = parse(packet)
    assert isinstance(header, Ipv4Header)
    assert header.build() + payload == packet
    assert header.is_fragment == (more or offset > 0)


@given(payload=st.binary(max_size=50), tc=st.integers(0, 255), limit=st.integers(0, 255), label=st.integers(0, 0xFFFFF))
@settings(deadline=None)
def test_ipv6_headers_are_scapy_s_and_read_back_rfc8200_3(payload: bytes, tc: int, limit: int, label: int) -> None:
    packet = ipv6(payload, traffic_class=tc, hop_limit=limit, flow_label=label)
    assert packet == bytes(IPv6(src="fd01::5", dst="fd02::9", nh=253, tc=tc, hlim=limit, fl=label) / payload)
    assert parse(packet).build() + payload == packet


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\x45",
        b"\x55" + bytes(60),
        ipv4()[:19],
        ipv6()[:39],
        ipv4(b"abc")[:-1],
        ipv6(b"abc")[:-1],
        b"\x44" + ipv4()[1:],  # a header length below 20
        b"\x46" + ipv4()[1:],  # options that are not there
        ipv4(total_length=19),  # below the header's
        ipv4(total_length=0),
        ipv4(bytes(4), options=b"\1\1\1\1", total_length=23),
        ipv4()[:10] + b"\0\0" + ipv4()[12:],  # the checksum
        ipv4()[:8] + b"\x3f" + ipv4()[9:],
    ],
)
def test_headers_that_do_not_hold_are_malformed_rfc1812_5_2_2(packet: bytes) -> None:
    with pytest.raises(Drop) as drop:
        parse(packet)
    assert drop.value.reason is Reason.MALFORMED_IP


def test_the_wrong_version_is_not_parsed_as_the_other() -> None:
    for parser, packet in ((parse_ipv4, ipv6()), (parse_ipv6, ipv4(bytes(40)))):
        with pytest.raises(Drop) as drop:
            parser(packet)
        assert drop.value.reason is Reason.MALFORMED_IP
