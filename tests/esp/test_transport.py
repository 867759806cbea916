"""Transport mode: where ESP goes, what stays outside, and what is refused (RFC 4303 §3.1.1)."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6

from appliance.esp.drop import Drop
from appliance.esp.encapsulation import Transport, decapsulate, encapsulate
from appliance.esp.ip import parse
from appliance.esp.nat import with_checksum_for
from appliance.esp.transport import split_received, split_to_protect
from appliance.esp.upper import upper_layer
from appliance.reasons import Reason
from tests.esp.cases import SUITES, V4_DESTINATION, V4_SOURCE, V6_DESTINATION, V6_SOURCE, ipv4, ipv6, octets, pair

FAST = SUITES[0]
OTHER = ip_address("192.0.2.200")
FORMS = (Transport(), Transport(ports=(4500, 4500)))

# Extension headers: what comes next, and eight bytes in all. 253 stands for the upper layer.
UPPER = 253


def options(next_header: int) -> bytes:
    return bytes((next_header, 0, 1, 4, 0, 0, 0, 0))


def routing(next_header: int) -> bytes:
    return bytes((next_header, 0, 4, 0, 0, 0, 0, 0))


def fragment(next_header: int, offset: int = 0, more: bool = False) -> bytes:
    return bytes((next_header, 0)) + (offset << 3 | more).to_bytes(2, "big") + b"\0\0\0\7"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("suite", SUITES, ids=[suite.name for suite in SUITES])
def test_packets_round_trip_and_keep_their_header_rfc4303_3_1_1(suite: object, form: Transport) -> None:
    out, inbound = pair(suite)  # type: ignore[arg-type]
    for packet in (
        ipv4(octets("t", 41), traffic_class=0xB9, hop_limit=7, identification=0xABCD, dont_fragment=True),
        ipv4(octets("t", 5), options=b"\x94\x04\0\0\1\1\1\0"),
        ipv4(),
        ipv6(octets("t", 30), traffic_class=0xB9, hop_limit=7, flow_label=0x54321),
        ipv6(options(43) + routing(UPPER) + octets("t", 30), protocol=0),
        ipv6(),
    ):
        sealed = encapsulate(out, form, packet)
        before, after = parse(packet), parse(sealed)
        for field in ("source", "destination", "traffic_class", "hop_limit", "version"):
            assert getattr(before, field) == getattr(after, field)
        assert decapsulate(inbound, form, sealed) == packet


@pytest.mark.parametrize(
    ("chain", "kept"),
    [
        ((), 0),
        ((0,), 1),
        ((43,), 1),
        ((60,), 0),  # for the final destination: protected
        ((0, 60), 1),
        ((60, 43), 2),  # for the routing header's destinations: outside
        ((0, 60, 43, 60), 3),
        ((0, 60, 43, 44, 60), 4),
        ((44,), 1),  # an atomic fragment, RFC 6946
        ((0, 44, 60), 2),
        ((60, 44), 2),
    ],
)
def test_esp_goes_behind_what_routers_read_and_before_the_rest_rfc4303_3_1_1(chain: tuple[int, ...], kept: int) -> None:
    makers = {0: options, 60: options, 43: routing, 44: fragment}
    following = (*chain[1:], UPPER)
    headers = b"".join(makers[kind](after) for kind, after in zip(chain, following, strict=False))
    packet = ipv6(headers + b"upper layer!", protocol=chain[0] if chain else UPPER)
    parts = split_to_protect(packet)
    assert len(parts.head) == 40 + 8 * kept
    assert parts.protocol == (*chain, UPPER)[kept]
    out, inbound = pair(FAST)
    sealed = encapsulate(out, Transport(), packet)
    assert sealed[parts.protocol_at] == 50
    assert split_received(sealed).protocol == 50
    assert decapsulate(inbound, Transport(), sealed) == packet


@pytest.mark.parametrize(
    "packet",
    [
        ipv4(bytes(80), more_fragments=True),
        ipv4(bytes(80), fragment_offset=1),
        ipv6(fragment(UPPER, more=True) + bytes(80), protocol=44),
        ipv6(fragment(UPPER, offset=1) + bytes(80), protocol=44),
        # Whatever a second fragment header says.
        ipv6(fragment(44, more=True) + fragment(UPPER) + bytes(80), protocol=44),
    ],
)
def test_fragments_are_not_for_transport_mode_rfc4303_3_3_4(packet: bytes) -> None:
    out, _ = pair(FAST)
    with pytest.raises(Drop) as drop:
        encapsulate(out, Transport(), packet)
    assert drop.value.reason is Reason.ESP_FRAGMENT
    assert out.sequence == 0


@pytest.mark.parametrize(
    "packet",
    [
        ipv6(options(0) + options(UPPER), protocol=60),  # hop-by-hop behind another, RFC 8200 §4.1
        ipv6(options(60) * 11, protocol=60),  # more headers than anybody needs
        ipv6(b"\x11\x05" + bytes(30), protocol=60),  # longer than the packet
        ipv6(b"\x11\x01" + bytes(13), protocol=60),  # by one byte
        ipv6(b"\x11", protocol=0),  # no room for it
        ipv6(b"", protocol=43),
        ipv6(fragment(UPPER)[:7], protocol=44),
    ],
)
def test_extension_headers_that_do_not_hold_are_malformed_rfc8200_4(packet: bytes) -> None:
    out, _ = pair(FAST)
    with pytest.raises(Drop) as drop:
        encapsulate(out, Transport(), packet)
    assert drop.value.reason is Reason.MALFORMED_IP


def test_nothing_behind_the_fragment_header_of_a_later_fragment_is_read_as_a_header_rfc8200_4_5() -> None:
    upper = upper_layer(ipv6(options(44) + fragment(60, offset=3) + b"\xff" * 20, protocol=0))
    assert (upper.protocol, upper.offset, upper.fragment_offset) == (60, 56, 3)
    first = upper_layer(ipv6(fragment(60, more=True) + options(UPPER) + b"upper", protocol=44))
    assert (first.protocol, first.offset, first.fragment_offset) == (UPPER, 56, 0)


def test_a_udp_checksum_that_comes_out_as_zero_is_sent_as_ones_rfc768() -> None:
    # Two packets whose word sums differ by what the address changes by, such that one has the checksum 0xFFFF.
    for value in range(0x10000):
        packet = bytearray(ipv4(b"\0\1\0\2\0\x0a" + value.to_bytes(2, "big") + b"xy", protocol=17))
        fixed = with_checksum_for(bytes(packet), V4_DESTINATION, OTHER)
        if value and fixed[26:28] in (b"\0\0", b"\xff\xff"):
            assert fixed[26:28] == b"\xff\xff"
            break
    else:
        pytest.fail("no packet has that checksum")


@pytest.mark.parametrize("layer", [TCP(sport=1, dport=2), UDP(sport=1, dport=2)])
def test_checksums_follow_addresses_that_a_nat_changed_rfc3948_3_1_2(layer: TCP | UDP) -> None:
    for length in range(30):
        sent = bytes(IP(src=str(V4_SOURCE), dst=str(V4_DESTINATION)) / layer / octets("n", length))
        # As received: the header's addresses are the NAT's, the checksum is the sender's.
        received = IP(sent)
        received.src, received.dst = "203.0.113.77", "192.0.2.2"
        del received.chksum
        fixed = with_checksum_for(bytes(received), V4_SOURCE, V4_DESTINATION)
        again = IP(bytes(received))
        del again[type(layer)].chksum
        assert fixed == bytes(again)


def test_icmpv6_checksum_follows_its_addresses_and_a_missing_udp_one_stays_missing_rfc3948_3_1_2() -> None:
    sent = IPv6(src=str(V6_SOURCE), dst=str(V6_DESTINATION)) / ICMPv6EchoRequest(data=b"ping!")
    received = IPv6(bytes(sent))
    received.src = "2001:db8::77"
    again = IPv6(bytes(received))
    del again[ICMPv6EchoRequest].cksum
    assert with_checksum_for(bytes(received), V6_SOURCE, V6_DESTINATION) == bytes(again)
    silent = ipv4(b"\0\1\0\2\0\x09\0\0x", protocol=17)
    assert with_checksum_for(silent, V4_DESTINATION, V4_SOURCE) == silent
    other = ipv4(b"anything", protocol=253)
    assert with_checksum_for(other, V4_DESTINATION, V4_SOURCE) == other
    short = ipv4(b"\0\1\0\2\0\x09\0", protocol=17)
    assert with_checksum_for(short, V4_DESTINATION, V4_SOURCE) == short
