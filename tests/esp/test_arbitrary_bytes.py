"""Whatever bytes come in, the only exception that goes out is Drop."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from appliance.esp.drop import Drop
from appliance.esp.encapsulation import decapsulate, encapsulate
from appliance.esp.icmp import may_report, packet_too_big, prohibited, time_exceeded
from appliance.esp.ip import forwarded, parse
from appliance.esp.mss import clamp_mss
from appliance.esp.nat import with_checksum_for
from appliance.esp.trailer import strip_trailer
from appliance.esp.transport import split_received, split_to_protect
from appliance.esp.tunnel import inner_packet
from appliance.esp.udp import classify, udp_payload
from appliance.esp.upper import upper_layer
from tests.esp.cases import DROPS, FORMS, OUTER, SPI, SUITES, V4_DESTINATION, V4_SOURCE, ipv4, ipv6, pair

PROTOCOLS = st.sampled_from([0, 1, 4, 6, 17, 41, 43, 44, 50, 51, 58, 59, 60, 253])
BODY = st.one_of(
    st.binary(max_size=120),
    st.builds(lambda tail: SPI.to_bytes(4, "big") + tail, st.binary(max_size=120)),
    # Chains of extension headers, most of them well-formed.
    st.builds(
        lambda chain, tail: b"".join(bytes((p, n % 3)) + bytes(6 + 8 * (n % 3)) for p, n in chain) + tail,
        st.lists(st.tuples(PROTOCOLS, st.integers(0, 5)), max_size=14),
        st.binary(max_size=60),
    ),
)
# Noise, and packets whose IP header holds so that what is behind it gets looked at.
PACKETS = st.one_of(
    st.binary(max_size=200),
    st.builds(lambda first, rest: bytes((first,)) + rest, st.sampled_from([0x45, 0x46, 0x4F, 0x60]), st.binary()),
    st.builds(lambda body, protocol: ipv4(body, protocol=protocol), BODY, PROTOCOLS),
    st.builds(lambda body, protocol: ipv4(body, protocol=protocol, options=b"\1\1\1\0"), BODY, PROTOCOLS),
    st.builds(lambda body, protocol: ipv6(body, protocol=protocol), BODY, PROTOCOLS),
)


def drops_or_returns(function: object, *arguments: object, **named: object) -> None:
    try:
        function(*arguments, **named)  # type: ignore[operator]
    except Drop as drop:
        assert drop.reason in DROPS
        assert drop.reason.words in str(drop)


@given(PACKETS)
@settings(deadline=None)
def test_packet_functions_drop_or_return(packet: bytes) -> None:
    for buffer in (packet, memoryview(packet)):
        for function in (parse, upper_layer, forwarded, split_received, split_to_protect, udp_payload, classify):
            drops_or_returns(function, buffer)
        drops_or_returns(clamp_mss, buffer, 1200)
        drops_or_returns(with_checksum_for, buffer, V4_SOURCE, V4_DESTINATION)
        for version in (4, 6):
            source = OUTER[version][0]
            for error in (
                packet_too_big(buffer, 1400, source),
                time_exceeded(buffer, source),
                prohibited(buffer, source),
            ):
                assert error is None or not may_report(error)
    drops_or_returns(strip_trailer, packet)
    for protocol in (4, 41, 6):
        drops_or_returns(inner_packet, protocol, packet)


@given(PACKETS, st.sampled_from(SUITES), st.sampled_from(sorted(FORMS)), st.booleans())
@settings(deadline=None)
def test_decapsulation_drops_or_returns_and_forgeries_never_move_the_window(
    packet: bytes, suite: object, form: str, esn: bool
) -> None:
    _, inbound = pair(suite, esn=esn)  # type: ignore[arg-type]
    drops_or_returns(decapsulate, inbound, FORMS[form], packet)
    drops_or_returns(inbound.open, packet)
    drops_or_returns(inbound.open, SPI.to_bytes(4, "big") + packet)
    assert inbound.window.export() == (0, 0)


@given(PACKETS, st.sampled_from(SUITES), st.sampled_from(sorted(FORMS)))
@example(ipv6(b"", protocol=59), SUITES[0], "transport")
@settings(deadline=None)
def test_what_is_encapsulated_comes_out_as_it_went_in(packet: bytes, suite: object, form: str) -> None:
    out, inbound = pair(suite)  # type: ignore[arg-type]
    try:
        sealed = encapsulate(out, FORMS[form], packet)
    except Drop as drop:
        assert drop.reason in DROPS
        return
    try:
        assert decapsulate(inbound, FORMS[form], sealed) == packet[: parse(packet).total_length]
    except Drop as drop:
        # A packet without a next header looks like a dummy in transport mode (RFC 4303 §2.6).
        assert drop.reason.name == "DUMMY"


@given(
    st.binary(max_size=120),
    st.sampled_from([4, 41, 59, 6, 0, 255]),
    st.sampled_from(SUITES),
    st.sampled_from(sorted(FORMS)),
)
@settings(deadline=None)
def test_an_authentic_peer_may_seal_anything(payload: bytes, next_header: int, suite: object, form: str) -> None:
    out, inbound = pair(suite)  # type: ignore[arg-type]
    esp = out.seal(payload, next_header)
    drops_or_returns(decapsulate, inbound, FORMS[form], ipv4(esp, protocol=50))
    esp = out.seal(payload, next_header)
    drops_or_returns(decapsulate, inbound, FORMS[form], ipv6(esp, protocol=50))
    assert inbound.window.highest == 2
    # The same for whatever trailer it seals.
    length = -len(payload) % out.transform.alignment
    header = SPI.to_bytes(4, "big") + b"\0\0\0\3"
    raw = out.transform.seal(header, b"", bytes(out.transform.iv_length), payload + bytes((next_header,)) * length)
    drops_or_returns(inbound.open, raw)
