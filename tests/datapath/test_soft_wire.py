"""What travels between daemon and process comes out as it went in, and what is not of its type does not come out."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import msgspec
import pytest

from appliance.datapath.ingress import Datagram
from appliance.datapath.soft import wire
from appliance.reasons import Reason
from appliance.sa.algorithms import Encryption, Suite
from appliance.sa.association import (
    Direction,
    Lifetime,
    Limits,
    Mode,
    PolicyAction,
    SaKey,
    SecurityAssociation,
    SecurityPolicy,
    UdpEncapsulation,
)
from appliance.sa.datapath import Acquire, Capabilities, Dump, Expired, ExpiryKind, InstalledSa, Missing, Usage
from appliance.sa.selector import TrafficSelector

LOCAL, REMOTE = TrafficSelector.parse("10.1.0.0/24[tcp/80]"), TrafficSelector.parse("fd02::/64")
SUITE = Suite(Encryption.AES_GCM_16, 256, esn=True)
SA = SecurityAssociation(
    direction=Direction.OUT,
    spi=0xC0000001,
    source=ip_address("192.0.2.1"),
    destination=ip_address("2001:db8::2"),
    suite=SUITE,
    mode=Mode.TUNNEL,
    local_ts=(LOCAL, REMOTE),
    remote_ts=(REMOTE,),
    reqid=3,
    child="site/net",
    encapsulation=UdpEncapsulation(4500, 1024),
    lifetime=Lifetime(Limits(seconds=3000.5), Limits(bytes=1 << 40, packets=7)),
)
VALUES = [
    SA,
    SA.key,
    SecurityPolicy(
        name="site/net", action=PolicyAction.PROTECT, priority=9, local_ts=(LOCAL,), remote_ts=(), reqid=3, acquire=True
    ),
    Usage(bytes=3, last_used=1.5),
    Dump(sas=(InstalledSa(sa=SA, usage=Usage(), active=True),), policies=()),
    Acquire(1, "site/net", ip_address("10.1.0.1"), ip_address("10.2.0.1"), 6, 1024, None),
    Expired(SA.key, ExpiryKind.BYTES, True),
    Capabilities(name="soft", usable=True, suites=(SUITE,), missing=(Missing("x", Reason.NO_TUN, "y"),)),
    Datagram(b"\0data", ip_address("192.0.2.2"), 4500, ip_address("192.0.2.1"), 4500),
]


def travel(value: object) -> Any:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(wire.encode(value)))


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_every_value_of_the_contract_comes_out_as_it_went_in(value: object) -> None:
    assert wire.decode(type(value), travel(value)) == value


def test_equal_selectors_suites_and_addresses_come_out_as_one_object() -> None:
    one, other = wire.decode(SecurityAssociation, travel(SA)), wire.decode(SecurityAssociation, travel(SA))
    assert one is not other
    assert one.local_ts[1] is one.remote_ts[0] is other.remote_ts[0]
    assert one.suite is other.suite
    assert one.source is other.source


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (SaKey, ["out", "5", b"\xc0\0\2\1", 50]),
        (SaKey, ["sideways", 5, b"\xc0\0\2\1", 50]),
        (SaKey, ["out", 5, b"\xc0\0\2", 50]),
        (SaKey, ["out", 5, b"\xc0\0\2\1"]),
        (SaKey, ["out", 5, b"\xc0\0\2\1", 50, 1]),
        (SaKey, 7),
        (Suite, [20, [], 0, True]),
        (UdpEncapsulation, [4500, None]),
        (TrafficSelector, [b"\n\0\0\2", b"\n\0\0\1", 0, 0, 65535]),
    ],
)
def test_what_is_not_of_its_type_is_refused(kind: type, value: Any) -> None:
    with pytest.raises(wire.WireError):
        wire.decode(kind, value)


def test_what_the_contract_does_not_have_does_not_travel() -> None:
    with pytest.raises(TypeError, match="set does not travel"):
        wire.encode({1, 2})
