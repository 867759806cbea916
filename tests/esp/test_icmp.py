"""ICMP errors: what they say, how they are built, and when none may be sent (RFC 792, 1122, 1191, 1812, 4443)."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6PacketTooBig, ICMPv6TimeExceeded, IPv6

from appliance.esp.icmp import may_report, packet_too_big, prohibited, time_exceeded
from tests.esp.cases import ipv4, ipv6, octets

GATEWAY4, GATEWAY6 = ip_address("10.1.0.1"), ip_address("fd01::1")
UDP4 = bytes(IP(src="10.1.0.5", dst="10.2.0.9") / UDP(sport=1, dport=2) / octets("u", 1400))
UDP6 = bytes(IPv6(src="fd01::5", dst="fd02::9") / UDP(sport=1, dport=2) / octets("u", 1400))


def checked4(packet: bytes | None) -> IP:
    """Read it as Scapy does, and hold both checksums against Scapy's."""
    assert packet is not None
    again = IP(packet)
    del again.chksum
    del again[ICMP].chksum
    assert bytes(again) == packet
    return IP(packet)


def checked6(packet: bytes | None) -> IPv6:
    assert packet is not None
    again = IPv6(packet)
    del again.payload.cksum
    assert bytes(again) == packet
    return IPv6(packet)


def test_fragmentation_needed_carries_the_mtu_and_the_packet_rfc1191_4() -> None:
    error = checked4(packet_too_big(UDP4, 1380, GATEWAY4))
    assert (error.src, error.dst, error.tos >> 5) == ("10.1.0.1", "10.1.0.5", 6)  # RFC 1812 §4.3.2.5
    assert (error[ICMP].type, error[ICMP].code, error[ICMP].nexthopmtu) == (3, 4, 1380)
    assert len(error) == 576  # RFC 1812 §4.3.2.3
    assert bytes(error)[28:] == UDP4[:548]


def test_packet_too_big_carries_the_mtu_and_the_packet_rfc4443_3_2() -> None:
    error = checked6(packet_too_big(UDP6, 1380, GATEWAY6))
    assert (error.src, error.dst, error.hlim) == ("fd01::1", "fd01::5", 64)
    assert error[ICMPv6PacketTooBig].mtu == 1380
    assert len(error) == 1280  # RFC 4443 §2.4 (c)
    assert bytes(error)[48:] == UDP6[:1232]


def test_short_packets_are_quoted_whole_and_no_further() -> None:
    error = time_exceeded(ipv4(b"abc") + b"junk", GATEWAY4)
    assert error is not None
    assert error[28:] == ipv4(b"abc")
    error = time_exceeded(ipv6(b"abcd") + b"junk", GATEWAY6)
    assert error is not None
    assert error[48:] == ipv6(b"abcd")


def test_time_exceeded_and_prohibited_have_their_codes_rfc792_rfc1812_5_2_7_1_rfc4443_3() -> None:
    error = checked4(time_exceeded(UDP4, GATEWAY4))
    assert (error[ICMP].type, error[ICMP].code) == (11, 0)
    error = checked4(prohibited(UDP4, GATEWAY4))
    assert (error[ICMP].type, error[ICMP].code) == (3, 13)
    assert checked6(time_exceeded(UDP6, GATEWAY6))[ICMPv6TimeExceeded].code == 0
    assert checked6(prohibited(UDP6, GATEWAY6))[ICMPv6DestUnreach].code == 1


@pytest.mark.parametrize(
    ("mtu", "four", "six"), [(0, 68, 1280), (-5, 68, 1280), (1000, 1000, 1280), (70000, 65535, 70000)]
)
def test_no_sender_is_told_to_go_below_the_version_s_minimum_rfc791_3_2_rfc8200_5(
    mtu: int, four: int, six: int
) -> None:
    assert checked4(packet_too_big(UDP4, mtu, GATEWAY4))[ICMP].nexthopmtu == four
    assert checked6(packet_too_big(UDP6, mtu, GATEWAY6))[ICMPv6PacketTooBig].mtu == six


ICMP4 = {t: ipv4(bytes((t, 0)) + bytes(30), protocol=1) for t in (0, 3, 4, 5, 8, 11, 12, 13)}
ICMP6 = {t: ipv6(bytes((t, 0)) + bytes(30), protocol=58) for t in (1, 2, 3, 4, 100, 127, 128, 129, 135, 137)}


def address(text: str) -> bytes:
    return ip_address(text).packed


@pytest.mark.parametrize(
    ("packet", "allowed"),
    [
        (UDP4, True),
        (UDP6, True),
        *((packet, kind in (0, 8, 13)) for kind, packet in ICMP4.items()),
        *((packet, kind in (128, 129, 135)) for kind, packet in ICMP6.items()),
        (ipv4(protocol=1), False),  # an ICMP message without a type
        (ipv6(protocol=58), False),
        # An ICMPv6 error behind an extension header is one too, and so may be a later fragment.
        (ipv6(b"\x3a\0\1\4\0\0\0\0" + b"\1\0" + bytes(30), protocol=60), False),
        (ipv6(b"\x3a\0\1\4\0\0\0\0" + b"\x80\0" + bytes(30), protocol=60), True),
        (ipv6(b"\x3a\0\0\x08\0\0\0\1" + b"\x80\0" + bytes(30), protocol=44), False),
        (ipv4(bytes(40), more_fragments=True), True),
        (ipv4(bytes(40), fragment_offset=1), False),
        (ipv4(destination=address("224.0.0.5")), False),
        (ipv4(destination=address("255.255.255.255")), False),
        (ipv4(destination=address("0.0.0.0")), False),
        (ipv4(source=address("0.0.0.0")), False),
        (ipv4(source=address("0.1.2.3")), False),
        (ipv4(source=address("127.0.0.1")), False),
        (ipv4(source=address("239.1.1.1")), False),
        (ipv4(source=address("250.1.1.1")), False),
        (ipv6(destination=address("ff02::1")), False),
        (ipv6(source=address("::")), False),
        (ipv6(source=address("::1")), False),
        (ipv6(source=address("ff05::2")), False),
        (b"", False),
        (b"\x45", False),
        (ipv4()[:10] + b"\0\0" + ipv4()[12:], False),  # a wrong checksum proves no sender
        (ipv6(b"\x3a", protocol=60), False),
    ],
)
def test_errors_are_sent_only_where_the_rules_allow_rfc1122_3_2_2_rfc4443_2_4(packet: bytes, allowed: bool) -> None:
    assert may_report(packet) is allowed
    source = GATEWAY6 if packet[:1] and packet[0] >> 4 == 6 else GATEWAY4
    for error in (packet_too_big(packet, 1400, source), time_exceeded(packet, source), prohibited(packet, source)):
        assert (error is not None) is allowed


def test_no_error_about_an_error_of_ours() -> None:
    for packet, source in ((UDP4, GATEWAY4), (UDP6, GATEWAY6)):
        for error in (packet_too_big(packet, 1400, source), time_exceeded(packet, source), prohibited(packet, source)):
            assert error is not None
            assert not may_report(error)


def test_a_gateway_without_an_address_of_the_version_is_silent() -> None:
    assert time_exceeded(UDP4, GATEWAY6) is None
    assert time_exceeded(UDP6, GATEWAY4) is None
