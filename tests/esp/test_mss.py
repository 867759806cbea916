"""Clamping the MSS of SYNs (RFC 9293 §3.7.1), checksums beside Scapy's."""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt

from appliance.esp.mss import clamp_mss, mss_for
from tests.esp.cases import ipv4

BASES = {
    "v4": IP(src="10.1.0.5", dst="10.2.0.9"),
    "v6": IPv6(src="fd01::5", dst="fd02::9"),
    "v6 behind an extension header": IPv6(src="fd01::5", dst="fd02::9") / IPv6ExtHdrDestOpt(),
}


def segment(base: IP | IPv6, options: list[tuple[str, object]], flags: str = "S", payload: bytes = b"") -> bytes:
    return bytes(base / TCP(sport=4000, dport=80, flags=flags, seq=0x12345678, options=options) / payload)


def mss_of(packet: bytes) -> int:
    layer = (IP if packet[0] >> 4 == 4 else IPv6)(packet)
    return dict(layer[TCP].options)["MSS"]


def has_right_checksum(packet: bytes) -> bool:
    cls = IP if packet[0] >> 4 == 4 else IPv6
    again = cls(packet)
    del again[TCP].chksum
    return bytes(again) == packet


# The option at even and at odd places of the segment.
OPTIONS: list[list[tuple[str, object]]] = [
    [("MSS", 1460)],
    [("NOP", None), ("MSS", 1460)],
    [("NOP", None), ("NOP", None), ("MSS", 1460), ("SAckOK", b"")],
    [("WScale", 7), ("MSS", 8960), ("Timestamp", (1, 2))],
    [("Timestamp", (9, 0)), ("MSS", 65535)],
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("flags", ["S", "SA", "SEC"])
@pytest.mark.parametrize("base", BASES.values(), ids=BASES)
def test_larger_mss_of_a_syn_is_clamped_and_the_checksum_follows_rfc9293_3_7_1(
    base: IP | IPv6, flags: str, options: list[tuple[str, object]]
) -> None:
    for payload in (b"", b"x", b"fast open"):
        packet = segment(base, options, flags, payload)
        for mss in (1400, 1220, 536, 1):
            clamped = clamp_mss(packet, mss)
            assert mss_of(bytes(clamped)) == mss
            assert has_right_checksum(bytes(clamped))
            assert len(clamped) == len(packet)


def test_smaller_mss_other_segments_and_other_packets_stay_rfc9293_3_7_1() -> None:
    for base in BASES.values():
        for packet in (
            segment(base, [("MSS", 1000)]),
            segment(base, [("MSS", 1200)]),
            segment(base, [("MSS", 9000)], "A"),
            segment(base, [], "S"),
            segment(base, [("EOL", None), ("MSS", 9000)]),
            bytes(base / UDP(sport=1, dport=2) / b"MSS"),
        ):
            assert clamp_mss(packet, 1200) is packet


def test_partial_checksums_are_left_alone() -> None:
    packet = segment(BASES["v4"], [("MSS", 1460)])
    clamped = bytes(clamp_mss(packet, 1200, partial_checksum=True))
    assert mss_of(clamped) == 1200
    assert clamped[36:38] == packet[36:38]


@pytest.mark.parametrize(
    "options",
    [
        b"\x02\x00\x23\x28",  # no length below 2
        b"\x02\x01\x23\x28",
        b"\x02\x03\x23\x28",  # an MSS has a length of 4
        b"\x01\x01\x01\x02",  # a length that is not there
        b"\x02\x06\x23\x28",  # longer than the options
        b"\x01\x02\x04\x23",
        b"\x03\x00\x01\x01",  # an option that never ends
        b"\x01\x03\x01\x01",
    ],
)
def test_options_that_do_not_hold_are_left_alone_rfc9293_3_2(options: bytes) -> None:
    tcp = bytes(12) + bytes((6 << 4, 0x02)) + bytes(6) + options
    packet = ipv4(tcp, protocol=6)
    assert clamp_mss(packet, 536) is packet


@pytest.mark.parametrize("offset", [0, 4, 7, 15])
def test_a_data_offset_that_does_not_hold_is_left_alone_rfc9293_3_1(offset: int) -> None:
    packet = ipv4(bytes(12) + bytes((offset << 4, 0x02)) + bytes(6) + b"\x02\x04\x23\x28", protocol=6)
    assert clamp_mss(packet, 536) is packet
    short = ipv4(bytes(19), protocol=6)
    assert clamp_mss(short, 536) is short
    later = ipv4(bytes(13) + b"\x02" + bytes(30), protocol=6, fragment_offset=9)
    assert clamp_mss(later, 536) is later


def test_mss_of_an_mtu_rfc9293_3_7_1() -> None:
    assert (mss_for(4, 1500), mss_for(6, 1500)) == (1460, 1440)
    assert (mss_for(4, 20), mss_for(6, 0)) == (1, 1)
