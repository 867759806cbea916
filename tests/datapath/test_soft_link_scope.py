"""What belongs to a link never asks for a tunnel: RFC 4291 §2.5 and §2.7, RFC 3927 §2.7, RFC 5771 §4."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from appliance.datapath.soft.outbound import Outbound, _of_link_scope
from appliance.datapath.soft.packet import Flow
from appliance.reasons import Reason


@pytest.mark.parametrize(
    ("source", "destination", "of_link"),
    [
        ("::", "ff02::16", True),
        ("fe80::1", "ff02::fb", True),
        ("fd01::1", "ff02::1", True),
        ("fd01::1", "fe80::2", True),
        ("fe80::1", "fd02::2", True),
        ("fd01::1", "ff05::2", False),
        ("fd01::1", "fd02::2", False),
        ("2001:db8::1", "2001:db8::2", False),
        ("0.0.0.0", "255.255.255.255", True),
        ("10.1.0.1", "224.0.0.251", True),
        ("10.1.0.1", "224.0.1.1", False),
        ("169.254.0.1", "10.2.0.1", True),
        ("10.1.0.1", "169.254.9.9", True),
        ("10.1.0.1", "10.2.0.1", False),
    ],
)
def test_packets_of_link_scope_are_known(source: str, destination: str, of_link: bool) -> None:
    here, there = ip_address(source), ip_address(destination)
    assert _of_link_scope(Flow(here.version, int(here), int(there), 17, 1, 2, 20)) is of_link


def test_a_packet_of_link_scope_is_dropped_before_any_policy_is_asked() -> None:
    outbound = Outbound.__new__(Outbound)  # without policies: asking one would fail
    outbound.own_addresses, outbound.own_ports = set(), set()
    report = Flow(6, 0, int(ip_address("ff02::16")), 58, 143, 0, 48)
    verdict = outbound._decide(report, memoryview(b""))
    assert verdict.reason is Reason.LINK_SCOPE
    assert verdict.policy is None
