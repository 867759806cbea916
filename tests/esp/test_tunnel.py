"""Tunnel mode: all four combinations, and every field of the outer header (RFC 4301 §5.1.2)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from appliance.esp.drop import Drop
from appliance.esp.encapsulation import Transport, decapsulate, encapsulate, encapsulate_dummy, largest_packet
from appliance.esp.ip import Ipv4Header, Ipv6Header, forwarded, parse, with_traffic_class
from appliance.esp.tunnel import Df, Dscp, Tunnel, inner_packet
from appliance.esp.udp import Datagram, build_udp, classify, udp_payload
from appliance.reasons import Reason
from tests.esp.cases import FORMS, OUTER, SPI, SUITES, ipv4, ipv6, octets, pair, tunnel

FAST = SUITES[0]
TUNNELS = {name: form for name, form in FORMS.items() if isinstance(form, Tunnel)}


def outer(form: Tunnel, packet: bytes) -> Ipv4Header | Ipv6Header:
    out, _ = pair(FAST)
    return parse(encapsulate(out, form, packet))


def outer4(form: Tunnel, packet: bytes) -> Ipv4Header:
    header = outer(form, packet)
    assert isinstance(header, Ipv4Header)
    return header


@pytest.mark.parametrize("suite", SUITES, ids=[suite.name for suite in SUITES])
@pytest.mark.parametrize("form", TUNNELS.values(), ids=TUNNELS)
def test_all_four_combinations_of_versions_round_trip_rfc4303_3_1_2(suite: object, form: Tunnel) -> None:
    assert suite in SUITES
    out, inbound = pair(suite)  # type: ignore[arg-type]
    for packet in (ipv4(octets("a", 77)), ipv6(octets("b", 78)), ipv4(b"", options=b"\x94\x04\0\0"), ipv6()):
        assert decapsulate(inbound, form, encapsulate(out, form, packet)) == packet


def test_tunnels_that_cannot_be_are_refused_where_they_are_made() -> None:
    for wrong in (
        {"destination": OUTER[6][1]},
        {"ports": (0, 4500)},
        {"ports": (4500, 65536)},
        {"hop_limit": 0},
        {"hop_limit": 256},
        {"flow_label": 1 << 20},
        {"flow_label": -1},
        {"dscp": 64},
        {"dscp": -1},
    ):
        with pytest.raises(ValueError):
            replace(tunnel(4), **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("version", [4, 6])
def test_outer_addresses_protocol_and_lengths_rfc4301_5_1_2(version: int) -> None:
    header = outer(tunnel(version), ipv4(octets("a", 77)))
    source, destination = OUTER[version]
    assert (header.source, header.destination, header.protocol) == (source.packed, destination.packed, 50)
    assert outer(tunnel(version, ports=(4500, 4500)), ipv4()).protocol == 17


def test_outer_ttl_is_fresh_and_the_inner_one_untouched_rfc4301_5_1_2_1() -> None:
    out, inbound = pair(FAST)
    packet = ipv4(hop_limit=3)
    sealed = encapsulate(out, tunnel(4, hop_limit=99), packet)
    assert parse(sealed).hop_limit == 99
    assert decapsulate(inbound, tunnel(4), sealed) == packet
    assert outer(tunnel(6, hop_limit=12), ipv6(hop_limit=1)).hop_limit == 12


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("make", [ipv4, ipv6])
def test_dscp_is_copied_cleared_or_set_and_ecn_stays_rfc4301_5_1_2_1(version: int, make: type) -> None:
    packet = make(traffic_class=0xB8 | 2)
    assert outer(tunnel(version), packet).traffic_class == 0xBA
    assert outer(tunnel(version, dscp=Dscp.CLEAR), packet).traffic_class == 2
    assert outer(tunnel(version, dscp=46), packet).traffic_class == 46 << 2 | 2


@pytest.mark.parametrize(
    ("df", "inner", "expected"),
    [
        (Df.COPY, True, True),
        (Df.COPY, False, False),
        (Df.SET, False, True),
        (Df.SET, True, True),
        (Df.CLEAR, True, False),
        (Df.CLEAR, False, False),
    ],
)
def test_df_is_copied_set_or_cleared_rfc4301_8_1(df: Df, inner: bool, expected: bool) -> None:
    assert outer4(tunnel(4, df=df), ipv4(dont_fragment=inner)).dont_fragment is expected


@pytest.mark.parametrize(("df", "expected"), [(Df.COPY, True), (Df.SET, True), (Df.CLEAR, False)])
def test_an_inner_ipv6_packet_counts_as_one_with_df_rfc4301_8_1(df: Df, expected: bool) -> None:
    assert outer4(tunnel(4, df=df), ipv6()).dont_fragment is expected


def test_ipv4_identification_is_the_sequence_number_unless_given_rfc6864_4_3() -> None:
    out, _ = pair(FAST)
    ids = []
    for given in (None, None, 7):
        header = parse(encapsulate(out, tunnel(4), ipv4(), identification=given))
        assert isinstance(header, Ipv4Header)
        ids.append(header.identification)
    assert ids == [1, 2, 7]
    out.sequence = 0x1_FFFF
    assert encapsulate(out, tunnel(4), ipv4())[4:6] == b"\0\0"


@pytest.mark.parametrize(
    ("label", "packet", "expected"),
    [(0, ipv6(flow_label=0xABCDE), 0), (None, ipv6(flow_label=0xABCDE), 0xABCDE), (None, ipv4(), 0), (5, ipv4(), 5)],
)
def test_ipv6_flow_label_is_fixed_or_copied_rfc4301_5_1_2_2(label: int | None, packet: bytes, expected: int) -> None:
    header = outer(tunnel(6, flow_label=label), packet)
    assert isinstance(header, Ipv6Header)
    assert header.flow_label == expected


def test_options_are_never_copied_rfc4301_5_1_2_1() -> None:
    assert outer4(tunnel(4), ipv4(options=b"\x94\x04\0\0")).header_length == 20


def test_fragments_are_protected_whole_in_a_tunnel_rfc4301_7_1() -> None:
    out, inbound = pair(FAST)
    packet = ipv4(bytes(80), fragment_offset=10, more_fragments=True)
    sealed = encapsulate(out, tunnel(4), packet)
    assert not outer4(tunnel(4), packet).is_fragment
    assert decapsulate(inbound, tunnel(4), sealed) == packet


@pytest.mark.parametrize("packet", [ipv4(bytes(30)), ipv6(bytes(30)), ipv4(bytes(1300))])
@pytest.mark.parametrize("form", TUNNELS.values(), ids=TUNNELS)
def test_tfc_padding_makes_all_packets_one_size_and_is_cut_off_rfc4303_2_7(form: Tunnel, packet: bytes) -> None:
    padded = Tunnel(source=form.source, destination=form.destination, ports=form.ports, tfc_length=1400)
    out, inbound = pair(FAST)
    sealed = encapsulate(out, padded, packet)
    assert len(sealed) == out.sealed_length(1400) + form.overhead
    assert decapsulate(inbound, form, sealed) == packet
    # A packet that is longer already is not padded, nor cut.
    assert decapsulate(inbound, form, encapsulate(out, padded, ipv4(bytes(1500)))) == ipv4(bytes(1500))


@pytest.mark.parametrize("form", TUNNELS.values(), ids=TUNNELS)
def test_a_dummy_has_the_size_of_a_real_packet_and_is_dropped_rfc4303_2_6(form: Tunnel) -> None:
    for suite in SUITES:
        out, inbound = pair(suite)
        dummy = encapsulate_dummy(out, form, 500)
        assert len(dummy) == len(encapsulate(out, form, ipv4(bytes(480))))
        with pytest.raises(Drop) as drop:
            decapsulate(inbound, form, dummy)
        assert drop.value.reason is Reason.DUMMY
        assert inbound.window.highest == 1


def test_bytes_behind_the_inner_packet_are_not_sealed_rfc791_3_1() -> None:
    out, inbound = pair(FAST)
    sealed = encapsulate(out, tunnel(4), ipv4(b"abc") + bytes(100))
    assert len(sealed) == len(encapsulate(out, tunnel(4), ipv4(b"abc")))
    assert decapsulate(inbound, tunnel(4), sealed) == ipv4(b"abc")


@pytest.mark.parametrize("mtu", [576, 1280, 1400, 1500, 9000])
@pytest.mark.parametrize("form", TUNNELS.values(), ids=TUNNELS)
def test_largest_packet_fits_the_mtu_and_one_more_byte_does_not(form: Tunnel, mtu: int) -> None:
    for suite in SUITES:
        out, _ = pair(suite)
        size = largest_packet(out, form, mtu)
        assert len(encapsulate(out, form, ipv4(bytes(size - 20)))) <= mtu
        assert len(encapsulate(out, form, ipv4(bytes(size - 19)))) > mtu


def test_too_big_for_any_packet_is_dropped_not_truncated() -> None:
    out, _ = pair(FAST)
    packet = ipv4(bytes(65535 - 20))
    for form in (tunnel(4), tunnel(6), tunnel(4, ports=(4500, 4500)), Transport(), Transport(ports=(4500, 4500))):
        with pytest.raises(Drop) as drop:
            encapsulate(out, form, packet)
        assert drop.value.reason is Reason.TOO_BIG


@pytest.mark.parametrize(
    ("next_header", "payload", "reason"),
    [
        (17, ipv4(), Reason.MALFORMED_ESP),
        (4, ipv6(), Reason.MALFORMED_IP),
        (41, ipv4(bytes(40)), Reason.MALFORMED_IP),
        (4, ipv4(bytes(9))[:-1], Reason.MALFORMED_IP),
        (41, ipv6(bytes(9))[:-1], Reason.MALFORMED_IP),
        (4, b"", Reason.MALFORMED_IP),
        (41, b"", Reason.MALFORMED_IP),
    ],
)
def test_what_is_no_ip_packet_inside_is_refused_rfc4303_3_4_4(next_header: int, payload: bytes, reason: Reason) -> None:
    with pytest.raises(Drop) as drop:
        inner_packet(next_header, payload)
    assert drop.value.reason is reason


@pytest.mark.parametrize("ports", [None, (4500, 4500)])
def test_native_and_encapsulated_esp_are_both_taken_rfc7296_2_23(ports: tuple[int, int] | None) -> None:
    for version in (4, 6):
        out, inbound = pair(FAST)
        sealed = encapsulate(out, tunnel(version, ports=ports), ipv4())
        assert decapsulate(inbound, tunnel(version), sealed) == ipv4()


def test_udp_checksum_is_zero_over_ipv4_and_datagrams_are_told_apart_rfc3948_2() -> None:
    out, _ = pair(FAST)
    sealed = encapsulate(out, tunnel(4, ports=(4500, 34567)), ipv4())
    assert sealed[20:22] == (4500).to_bytes(2, "big")
    assert sealed[22:24] == (34567).to_bytes(2, "big")
    assert sealed[26:28] == b"\0\0"
    assert classify(sealed[28:]) is Datagram.ESP
    assert classify(b"\xff") is Datagram.KEEPALIVE
    assert classify(bytes(4) + b"IKE") is Datagram.IKE
    assert [classify(x) for x in (b"", b"\0", b"\xff\xff", b"abc")] == [Datagram.MALFORMED] * 4


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("length", [0, 7, 9, 4000])
def test_udp_length_is_checked_before_it_is_used_rfc768(version: int, length: int) -> None:
    out, inbound = pair(FAST)
    sealed = bytearray(encapsulate(out, tunnel(version, ports=(4500, 4500)), ipv4()))
    at = 24 if version == 4 else 44
    sealed[at : at + 2] = length.to_bytes(2, "big")
    with pytest.raises(Drop) as drop:
        decapsulate(inbound, tunnel(version), bytes(sealed))
    assert drop.value.reason in (Reason.MALFORMED_IP, Reason.MALFORMED_ESP)


@pytest.mark.parametrize("length", [0, 1, 7, 13])
def test_udp_length_counts_its_header_and_no_more_than_there_is_rfc768(length: int) -> None:
    with pytest.raises(Drop) as drop:
        udp_payload(bytes(4) + length.to_bytes(2, "big") + bytes(6))
    assert drop.value.reason is Reason.MALFORMED_IP
    assert udp_payload(b"\0\1\0\2\0\x0a\0\0abcd") == b"ab"


def test_udp_checksum_over_ipv6_is_never_zero_rfc8200_8_1() -> None:
    source, destination = OUTER[6]
    # The payload that completes the sum to 0xFFFF, whose complement would be zero.
    rest = build_udp((4500, 4500), source.packed, destination.packed, b"\0\0")[6:8]
    assert build_udp((4500, 4500), source.packed, destination.packed, rest)[6:8] == b"\xff\xff"


def test_esp_that_is_a_fragment_is_refused_rfc4303_3_4_1() -> None:
    _, inbound = pair(FAST)
    esp = SPI.to_bytes(4, "big") + bytes(60)
    fragment6 = b"\x32\0\0\x01\0\0\0\x09"
    for packet in (
        ipv4(esp, protocol=50, more_fragments=True),
        ipv4(esp, protocol=50, fragment_offset=8),
        ipv6(fragment6 + esp, protocol=44),
    ):
        with pytest.raises(Drop) as drop:
            decapsulate(inbound, tunnel(4), packet)
        assert drop.value.reason is Reason.ESP_FRAGMENT


def test_what_is_not_esp_is_refused() -> None:
    _, inbound = pair(FAST)
    with pytest.raises(Drop) as drop:
        decapsulate(inbound, tunnel(4), ipv4(bytes(60), protocol=6))
    assert drop.value.reason is Reason.MALFORMED_ESP


def test_outer_options_and_extension_headers_are_walked_over_on_receipt_rfc4303_3_1() -> None:
    out, inbound = pair(FAST)
    esp = out.seal(ipv4(b"hello"), 4)
    assert decapsulate(inbound, tunnel(4), ipv4(esp, protocol=50, options=b"\x94\x04\0\0")) == ipv4(b"hello")
    esp = out.seal(ipv4(b"hello"), 4)
    options = b"\x32\0\x01\x04\0\0\0\0"
    assert decapsulate(inbound, tunnel(6), ipv6(options + esp, protocol=60)) == ipv4(b"hello")


@pytest.mark.parametrize("make", [ipv4, ipv6])
def test_forwarding_takes_one_from_the_ttl_and_stops_at_one_rfc1812_5_3_1(make: type) -> None:
    assert forwarded(make(b"abc", hop_limit=64)) == make(b"abc", hop_limit=63)
    assert forwarded(make(b"abc", hop_limit=2)) == make(b"abc", hop_limit=1)
    for ttl in (0, 1):
        with pytest.raises(Drop) as drop:
            forwarded(make(b"abc", hop_limit=ttl))
        assert drop.value.reason is Reason.TTL_EXPIRED


@pytest.mark.parametrize("make", [ipv4, ipv6])
def test_traffic_class_is_edited_with_the_checksum_rfc1624(make: type) -> None:
    for old in range(0, 256, 17):
        for new in range(0, 256, 5):
            assert with_traffic_class(make(b"abc", traffic_class=old), new) == make(b"abc", traffic_class=new)
