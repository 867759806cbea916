"""Traffic selectors: RFC 7296 §3.13.1, RFC 4301 §4.4.1.1."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.sa.selector import TrafficSelector

parse = TrafficSelector.parse


def addresses() -> st.SearchStrategy[IPv4Address]:
    return st.integers(0, 15).map(lambda n: IPv4Address(0x0A000000 + n))


@st.composite
def selectors(draw: st.DrawFn) -> TrafficSelector:
    start, end = sorted((draw(addresses()), draw(addresses())))
    ports = draw(st.one_of(st.just((0, 65535)), st.just((65535, 0)), st.tuples(st.integers(0, 4), st.integers(5, 8))))
    return TrafficSelector(start, end, draw(st.sampled_from((0, 6, 17))), *ports)


@pytest.mark.parametrize(
    "text",
    [
        "10.1.0.0/24",
        "192.0.2.1",
        "fd01::/64",
        "::/0",
        "10.0.0.1-10.0.0.9",
        "10.1.0.0/24[tcp]",
        "10.1.0.0/24[tcp/80]",
        "fd01::/64[udp/1000-2000]",
        "10.1.0.0/24[any/53]",
        "10.1.0.0/24[99/opaque]",
    ],
)
def test_a_selector_is_shown_as_it_is_written(text: str) -> None:
    assert str(parse(text)) == text


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("10.1.0.1/24", "host bits"),
        ("10.1.0.0/33", "33"),
        ("10.1.0.9-10.1.0.1", "upside down"),
        ("10.1.0.0-fd01::", "one family"),
        ("10.1.0.0/24[tcp", "not closed"),
        ("10.1.0.0/24[tpc]", "tpc"),
        ("10.1.0.0/24[tcp/80-]", "80-"),
        ("10.1.0.0/24[tcp/90-80]", "rising order"),
        ("10.1.0.0/24[tcp/65536]", "65535"),
        ("10.1.0.0/24[300]", "300"),
        ("", "''"),
    ],
)
def test_what_cannot_be_read_is_named(text: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        parse(text)


@given(selectors(), selectors(), addresses(), st.sampled_from((6, 17, 1)), st.none() | st.integers(0, 9))
def test_an_intersection_matches_what_both_match(
    a: TrafficSelector, b: TrafficSelector, address: IPv4Address, protocol: int, port: int | None
) -> None:
    common = a.intersection(b)
    both = a.matches(address, protocol, port) and b.matches(address, protocol, port)
    assert both == (common is not None and common.matches(address, protocol, port))
    assert common == b.intersection(a)


def test_a_selector_that_the_other_contains_is_the_intersection_itself() -> None:
    mine, same, wider = parse("10.1.0.0/24[tcp/80]"), parse("10.1.0.0/24[tcp/80]"), parse("10.0.0.0/8")
    assert mine.intersection(same) is mine
    assert mine.intersection(wider) is mine
    assert parse("10.1.0.0/24").intersection(mine) == mine


@given(selectors(), selectors())
def test_a_selector_contains_its_intersections(a: TrafficSelector, b: TrafficSelector) -> None:
    common = a.intersection(b)
    assert a.contains(a)
    assert common is None or (a.contains(common) and b.contains(common))


@given(selectors())
def test_networks_cover_the_range_exactly(selector: TrafficSelector) -> None:
    inside = {address for network in selector.networks for address in network}
    assert inside == {ip_address(n) for n in range(int(selector.start), int(selector.end) + 1)}


def test_unseen_ports_match_any_and_opaque_only_rfc4301_4_4_1_1() -> None:
    address = IPv4Address("10.1.0.1")
    assert parse("10.1.0.0/24[tcp]").matches(address, 6, None)
    assert parse("10.1.0.0/24[tcp/opaque]").matches(address, 6, None)
    assert not parse("10.1.0.0/24[tcp/opaque]").matches(address, 6, 80)
    assert not parse("10.1.0.0/24[tcp/80]").matches(address, 6, None)


def test_families_never_meet() -> None:
    assert parse("0.0.0.0/0").intersection(parse("::/0")) is None
    assert not parse("0.0.0.0/0").matches(IPv6Address("::1"), 6, 80)


def test_every_ipv4_and_ipv6_address_is_one_network() -> None:
    assert [str(n) for n in parse("0.0.0.0/0").networks] == ["0.0.0.0/0"]
    assert [str(n) for n in parse("::/0").networks] == ["::/0"]
