"""Tunnel interfaces, in memory, and what a kernel without them does. A kernel with them: tests/vm/inside."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_interface, ip_network
from pathlib import Path

import pytest

from appliance.config.load import loads
from appliance.daemon import guard
from appliance.datapath.kernel.interfaces import HELD_METRIC, METRIC, Interfaces, hold_routes, remove_routes
from appliance.datapath.kernel.link_events import LinkChange, LinkEvents
from appliance.datapath.kernel.xfrm import Overrun
from appliance.datapath.rtnetlink import UNICAST, UNREACHABLE
from appliance.reasons import Reason, Refusal
from appliance.sa.interface import TunnelInterface
from tests.datapath.kernel.routing import MemoryRouting
from tests.lab.lab import Lab
from tests.lab.namespace import Namespace, why_not

IPSEC0 = TunnelInterface(
    name="ipsec0",
    if_id=5,
    addresses=(ip_interface("10.9.0.1/30"), ip_interface("fd09::1/128")),
    routes=(ip_network("10.2.0.0/16"), ip_network("::/0")),
)


@pytest.fixture
def kernel() -> MemoryRouting:
    return MemoryRouting()


def networks(kernel: MemoryRouting, kind: int) -> set[str]:
    return {str(route.destination) for route in kernel.routes if route.kind == kind}


def test_what_is_wanted_is_made_and_asked_for_once(kernel: MemoryRouting) -> None:
    interfaces = Interfaces(kernel)
    done = interfaces.apply([IPSEC0])
    link = kernel.named("ipsec0")
    assert (link.if_id, link.mtu, link.up, link.alias, link.kind) == (5, 1400, True, "esplanade", "xfrm")
    assert kernel.addresses == {(link.index, address) for address in IPSEC0.addresses}
    # Halves are narrower than any default route; the interface's own network is held, too.
    expected = {"10.2.0.0/16", "::/1", "8000::/1", "10.9.0.0/30"}
    assert networks(kernel, UNICAST) == networks(kernel, UNREACHABLE) == expected
    assert {route.metric for route in kernel.routes if route.kind == UNICAST} == {METRIC}
    assert {route.metric for route in kernel.routes if route.kind == UNREACHABLE} == {HELD_METRIC}
    assert [line.split(":")[0] for line in done[1:]] == ["made ipsec0 (if_id 5)", *["ipsec0"] * 3]
    kernel.asked.clear()
    assert interfaces.apply([IPSEC0]) == [] and kernel.asked == []


def test_routes_are_held_before_an_interface_is_taken_away_or_made(kernel: MemoryRouting) -> None:
    Interfaces(kernel).apply([IPSEC0])
    kernel.asked.clear()
    Interfaces(kernel).apply([replace(IPSEC0, if_id=6, routes=(ip_network("10.3.0.0/16"),))])
    order = [what.split(" (")[0] for what in kernel.asked]
    steps = ["holding 10.3.0.0/16", "removing the interface ipsec0", "making the interface ipsec0"]
    steps += ["setting ipsec0 up", "routing 10.3.0.0/16", "removing the route to 10.2.0.0/16"]
    assert list(dict.fromkeys(step for step in order if step in steps)) == steps


def test_a_killed_daemons_interfaces_are_found_by_their_mark(kernel: MemoryRouting) -> None:
    Interfaces(kernel).apply([IPSEC0, TunnelInterface(name="ipsec1", if_id=1)])
    kernel.add("theirs", kind="xfrm", if_id=9)
    kernel.add("eth0")
    done = Interfaces(kernel).apply([TunnelInterface(name="ipsec1", if_id=1)])
    assert done[0] == "removed ipsec0, which nothing wants"
    assert {link.name for link in kernel.links.values()} == {"ipsec1", "theirs", "eth0"}
    assert Interfaces(kernel).indices() == {"ipsec1": kernel.named("ipsec1").index}
    assert not kernel.routes


@pytest.mark.parametrize("kind", ["xfrm", "veth", ""])
def test_an_interface_that_is_not_ours_is_not_touched_and_holds_up_no_other(kernel: MemoryRouting, kind: str) -> None:
    before = kernel.add("ipsec0", kind=kind, if_id=5)
    with pytest.raises(Refusal) as refused:
        Interfaces(kernel).apply([IPSEC0, TunnelInterface(name="ipsec1", if_id=1)])
    assert refused.value.reason is Reason.INTERFACE_TAKEN
    assert "ip link delete ipsec0" in refused.value.remedy
    assert kernel.named("ipsec0") == before and kernel.named("ipsec1").up
    assert networks(kernel, UNREACHABLE) and not networks(kernel, UNICAST)


def test_a_number_that_another_program_has_is_named(kernel: MemoryRouting) -> None:
    kernel.add("theirs", kind="xfrm", if_id=5)
    with pytest.raises(Refusal, match="theirs has if_id 5") as refused:
        Interfaces(kernel).apply([IPSEC0])
    assert "another if_id" in refused.value.remedy


@pytest.mark.parametrize(
    ("step", "code", "reason"),
    [
        ("making the interface", errno.EOPNOTSUPP, Reason.INTERFACE_UNSUPPORTED),
        ("making the interface", errno.EPERM, Reason.NO_PRIVILEGE),
        ("setting the MTU", errno.EINVAL, Reason.KERNEL_REFUSED),
        ("setting the MTU", errno.EOPNOTSUPP, Reason.KERNEL_REFUSED),
        ("adding 10.9.0.1/30", errno.EACCES, Reason.KERNEL_REFUSED),
        ("routing 10.2.0.0/16", errno.EEXIST, Reason.KERNEL_REFUSED),
    ],
)
def test_a_refusal_says_what_was_refused_and_what_is_routed_stays_held(
    kernel: MemoryRouting, step: str, code: int, reason: Reason
) -> None:
    kernel.refuse = {step: code}
    with pytest.raises(Refusal, match=step) as refused:
        Interfaces(kernel).apply([IPSEC0])
    assert refused.value.reason is reason and refused.value.remedy
    assert "10.2.0.0/16" in networks(kernel, UNREACHABLE)
    kernel.refuse = {}
    Interfaces(kernel).apply([IPSEC0])
    assert "10.2.0.0/16" in networks(kernel, UNICAST)


def test_what_somebody_changed_is_put_right(kernel: MemoryRouting) -> None:
    interfaces = Interfaces(kernel)
    interfaces.apply([IPSEC0])
    link = kernel.named("ipsec0")
    kernel.links[link.index] = replace(link, up=False, mtu=9000)
    kernel.routes = {route for route in kernel.routes if route.kind == UNREACHABLE}
    kernel.addresses = {(link.index, ip_interface("10.66.0.1/24"))}
    done = interfaces.apply([IPSEC0])
    assert done == [
        "ipsec0: MTU 1400 instead of 9000",
        "ipsec0: set up",
        "ipsec0: removed 10.66.0.1/24",
        "ipsec0: added 10.9.0.1/30, fd09::1/128",
        "ipsec0: routed 10.2.0.0/16, ::/1, 8000::/1, 10.9.0.0/30",
    ]
    kernel.links[link.index] = replace(kernel.named("ipsec0"), name="renamed")
    assert interfaces.apply([IPSEC0])[:2] == ["removed renamed, which nothing wants", "made ipsec0 (if_id 5)"]


def test_the_device_below_is_noted_and_a_vanished_one_takes_nothing_away(kernel: MemoryRouting) -> None:
    eth0, wanted = kernel.add("eth0"), replace(IPSEC0, device="eth0")
    Interfaces(kernel).apply([wanted])
    made, routed = kernel.named("ipsec0"), networks(kernel, UNICAST)
    assert made.below == eth0.index and routed
    kernel.delete(eth0.index)
    with pytest.raises(Refusal, match="no interface eth0"):
        Interfaces(kernel).apply([wanted])
    assert kernel.named("ipsec0") == made and networks(kernel, UNICAST) == routed
    kernel.add("eth0")
    assert "to make it anew" in Interfaces(kernel).apply([wanted])[0]


def test_the_end_takes_interfaces_and_leaves_what_they_carried_unreachable(kernel: MemoryRouting) -> None:
    interfaces = Interfaces(kernel)
    interfaces.apply([IPSEC0])
    assert interfaces.remove() == ["removed ipsec0, which nothing wants"]
    assert not kernel.links and networks(kernel, UNICAST) == set() and networks(kernel, UNREACHABLE)
    remove_routes(kernel)
    remove_routes(kernel)
    assert not kernel.routes
    hold_routes([IPSEC0], kernel)
    hold_routes([IPSEC0], kernel)
    assert "10.2.0.0/16" in networks(kernel, UNREACHABLE)


# This machine's kernel


@pytest.fixture
def space() -> Iterator[Namespace]:
    missing = why_not()
    if missing is not None:
        pytest.skip(missing)
    with Lab() as lab:
        made = lab.namespace("gateway")
        other = lab.namespace("other")
        lab.link(made, "wan", other, "wan")
        made.ip("addr add 192.0.2.1/24 dev wan", "route add default via 192.0.2.2")
        yield made


def shown(space: Namespace, *argv: str) -> str:
    done = space.run(["ip", *argv], check=False)
    return done.stdout + done.stderr


CONFIG = """\
schema = 1
[connection.a]
local = { address = "192.0.2.1", id = "a.example", auth = "psk" }
remote = { address = "192.0.2.2", id = "b.example", auth = "psk" }
psk = "correct horse battery staple"
[connection.a.child.net]
interface = "ipsec0"
[interface.ipsec0]
routes = ["10.2.0.0/16"]
[datapath]
order = ["kernel"]
"""


def test_the_guard_holds_what_is_routed_to_tunnel_interfaces(space: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.datapath.guard.install_guard", lambda *policies, **settings: None)
    monkeypatch.setattr("appliance.datapath.guard.remove_guard", lambda: None)
    assert "dev wan" in shown(space, "route", "get", "10.2.0.1")
    for _ in range(2):
        space.call(guard.apply, loads(CONFIG))
        assert "No route to host" in shown(space, "route", "get", "10.2.0.1")
        assert "dev wan" in shown(space, "route", "get", "10.3.0.1")
    for _ in range(2):
        space.call(guard.remove)
        assert "dev wan" in shown(space, "route", "get", "10.2.0.1")


def test_a_kernel_without_tunnel_interfaces_says_so_and_the_routes_are_held(space: Namespace) -> None:
    if "Unknown device type" not in shown(space, "link", "add", "probe", "type", "xfrm", "if_id", "1"):
        pytest.skip("this kernel has them")
    interfaces = space.call(Interfaces)
    with pytest.raises(Refusal, match="Unknown device type") as refused:
        interfaces.apply([IPSEC0])
    assert refused.value.reason is Reason.INTERFACE_UNSUPPORTED and "xfrm_interface" in refused.value.remedy
    assert "No route to host" in shown(space, "route", "get", "10.2.0.1")
    interfaces.apply([])
    assert "dev wan" in shown(space, "route", "get", "10.2.0.1")
    interfaces.close()


def test_links_that_come_change_and_go_are_heard(space: Namespace) -> None:
    with space.call(LinkEvents) as events:
        assert events.receive() == []
        space.ip("link add one type veth peer name two", "link set dev one up", "link set dev one down")
        space.ip("link set dev one name three", "link delete three")
        heard: list[LinkChange | Overrun] = []
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and sum(isinstance(c, LinkChange) and c.gone for c in heard) < 2:
            heard += events.receive()
        (index,) = {change.index for change in heard if isinstance(change, LinkChange) and change.name == "one"}
        assert LinkChange(index, "one", True, False) in heard
        assert LinkChange(index, "three", False, False) in heard
        assert LinkChange(index, "three", False, True) in heard


def test_a_bridge_that_lets_a_port_go_removes_no_interface(space: Namespace) -> None:
    if space.run(["ip", "link", "add", "bridge0", "type", "bridge"], check=False).returncode != 0:
        pytest.skip("this kernel has no bridges")
    space.ip("link add one type veth peer name two", "link set dev one master bridge0")
    with space.call(LinkEvents) as events:
        space.ip("link set dev one nomaster")
        time.sleep(0.1)
        assert not any(isinstance(change, LinkChange) and change.gone for change in events.receive())


def test_lost_events_are_an_overrun(space: Namespace) -> None:
    with space.call(LinkEvents) as events:
        limit = int(Path("/proc/sys/net/core/rmem_default").read_text()) // 500
        space.ip(*["link set dev wan mtu 1400\nlink set dev wan mtu 1500"] * min(limit, 2000))
        heard: list[LinkChange | Overrun] = []
        while more := events.receive():
            heard += more
        assert any(isinstance(change, Overrun) for change in heard)
        space.ip("link set dev wan mtu 1400")
        assert any(isinstance(change, LinkChange) and change.name == "wan" for change in events.receive())
