"""Tunnel interfaces in a real kernel, with a route-based tunnel through them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_interface, ip_network

import pytest

from appliance.datapath.kernel.interfaces import Interfaces, hold_routes, remove_routes
from appliance.datapath.kernel.link_events import LinkChange, LinkEvents
from appliance.datapath.kernel.xfrm import Overrun
from appliance.reasons import Reason, Refusal
from appliance.sa.interface import TunnelInterface
from tests.lab.lab import Lab
from tests.lab.namespace import Namespace

KEY = "0x" + "a5" * 20
OUTER = ("192.0.2.1", "192.0.2.2")
IPSEC0 = TunnelInterface(
    name="ipsec0",
    if_id=0x80000005,
    addresses=(ip_interface("10.9.0.1/30"), ip_interface("fd09::1/64")),
    mtu=1400,
    routes=(ip_network("10.2.0.0/16"), ip_network("fd02::/48")),
)


@pytest.fixture
def ends() -> Iterator[tuple[Namespace, Namespace]]:
    """Two hosts on a link. Each has a default route to the other, by which what is not held would leave."""
    with Lab() as lab:
        left, right = lab.namespace("left"), lab.namespace("right")
        lab.link(left, "wan", right, "wan")
        for number, end in enumerate((left, right)):
            end.ip(f"addr add {OUTER[number]}/24 dev wan", f"addr add 2001:db8::{number + 1}/64 dev wan nodad")
            end.ip(f"route add default via {OUTER[1 - number]}", f"route add default via 2001:db8::{2 - number}")
        yield left, right


@pytest.fixture
def interfaces(ends: tuple[Namespace, Namespace]) -> Iterator[Interfaces]:
    made = ends[0].call(Interfaces)
    yield made
    made.close()


def words(namespace: Namespace, command: str) -> str:
    return namespace.run(["ip", *command.split()]).stdout


def route(namespace: Namespace, destination: str) -> str:
    done = namespace.run(["ip", "route", "get", destination], check=False)
    return done.stdout + done.stderr


def held(namespace: Namespace, destination: str) -> bool:
    """Whether there is no way there, not even by the default route."""
    return "No route to host" in route(namespace, destination)


def tunnel(end: Namespace, number: int, if_id: int) -> None:
    """Policies of everything and SAs, by ip(8)."""
    here, there = OUTER[number], OUTER[1 - number]
    for family in ("0.0.0.0/0", "::/0"):
        for direction, source, destination in (("out", here, there), ("in", there, here), ("fwd", there, here)):
            end.ip(
                f"xfrm policy add dir {direction} src {family} dst {family} if_id {if_id} "
                f"tmpl src {source} dst {destination} proto esp reqid 1 mode tunnel"
            )
    for source, destination, spi in ((here, there, 0x1001 + number), (there, here, 0x1002 - number)):
        end.ip(
            f"xfrm state add src {source} dst {destination} proto esp spi {spi:#x} reqid 1 mode tunnel "
            f"replay-window 32 flag af-unspec if_id {if_id} aead rfc4106(gcm(aes)) {KEY} 128"
        )


def far_end(right: Namespace) -> None:
    """The other gateway, made by ip(8), with the hosts behind it on lo."""
    right.ip(
        "link add ipsec7 type xfrm if_id 7",
        "link set dev ipsec7 up mtu 1400",
        "addr add 10.9.0.2/30 dev ipsec7",
        "addr add fd09::2/64 dev ipsec7 nodad",
        "addr add 10.2.0.1/32 dev lo",
        "addr add fd02::1/128 dev lo nodad",
        "addr add 172.16.0.1/32 dev lo",
    )
    tunnel(right, 1, 7)


def pings(namespace: Namespace, destination: str, *more: str) -> bool:
    return namespace.run(["ping", "-c", "1", "-W", "2", *more, destination], check=False).returncode == 0


def test_an_interface_is_made_as_wanted_and_then_left_alone(
    ends: tuple[Namespace, Namespace], interfaces: Interfaces
) -> None:
    left, _ = ends
    done = interfaces.apply([IPSEC0])
    assert any("made ipsec0" in line for line in done)
    shown = words(left, "-d link show dev ipsec0")
    assert "xfrm if_id 0x80000005" in shown and "alias esplanade" in shown and "mtu 1400" in shown
    assert "UP" in shown and "addrgenmode none" in shown
    addresses = words(left, "addr show dev ipsec0")
    assert "10.9.0.1/30" in addresses and "fd09::1/64" in addresses
    assert "fe80" not in addresses and "tentative" not in addresses
    for destination in ("10.2.0.1", "fd02::1", "10.9.0.2", "fd09::2"):
        assert "dev ipsec0" in route(left, destination)
    assert "unreachable 10.2.0.0/16 proto 229 metric 2" in words(left, "route show")
    before = words(left, "-d addr show"), words(left, "route show"), words(left, "-6 route show")
    assert interfaces.apply([IPSEC0]) == []
    assert before == (words(left, "-d addr show"), words(left, "route show"), words(left, "-6 route show"))


def test_what_can_be_changed_in_place_is(ends: tuple[Namespace, Namespace], interfaces: Interfaces) -> None:
    left, _ = ends
    interfaces.apply([IPSEC0])
    index = words(left, "-o link show dev ipsec0").split(":")[0]
    changed = replace(
        IPSEC0,
        mtu=1300,
        addresses=(ip_interface("10.9.0.5/30"), ip_interface("10.9.0.6/30"), ip_interface("fd09::5/64")),
        routes=(ip_network("10.3.0.0/16"), ip_network("fd02::/48")),
    )
    interfaces.apply([changed])
    assert words(left, "-o link show dev ipsec0").split(":")[0] == index
    assert "mtu 1300" in words(left, "link show dev ipsec0")
    addresses = words(left, "addr show dev ipsec0")
    assert all(address in addresses for address in ("10.9.0.5/30", "10.9.0.6/30", "fd09::5/64"))
    assert "10.9.0.1/" not in addresses and "fd09::1/" not in addresses
    assert "dev ipsec0" in route(left, "10.3.0.1") and "dev ipsec0" in route(left, "fd02::1")
    assert "dev wan" in route(left, "10.2.0.1")
    assert interfaces.apply([changed]) == []
    # The first address of a network takes the second with it.
    fewer = replace(changed, addresses=changed.addresses[1:])
    interfaces.apply([fewer])
    assert "10.9.0.6/30" in words(left, "addr show dev ipsec0") and "dev ipsec0" in route(left, "10.3.0.1")


def test_another_number_or_device_makes_it_anew(ends: tuple[Namespace, Namespace], interfaces: Interfaces) -> None:
    left, _ = ends
    interfaces.apply([IPSEC0])
    interfaces.apply([replace(IPSEC0, if_id=9, device="wan")])
    shown = words(left, "-d link show dev ipsec0")
    assert "ipsec0@wan" in shown and "if_id 0x9" in shown and "dev ipsec0" in route(left, "10.2.0.1")
    with pytest.raises(Refusal, match="no interface eth9") as refused:
        interfaces.apply([replace(IPSEC0, if_id=9, device="eth9")])
    assert refused.value.reason is Reason.KERNEL_REFUSED
    assert "ipsec0@wan" in words(left, "link show dev ipsec0")


def test_numbers_can_be_exchanged(ends: tuple[Namespace, Namespace], interfaces: Interfaces) -> None:
    one, two = TunnelInterface(name="one", if_id=1), TunnelInterface(name="two", if_id=2)
    interfaces.apply([one, two])
    interfaces.apply([replace(one, if_id=2), replace(two, if_id=1)])
    shown = words(ends[0], "-d link show type xfrm")
    assert shown.index("one") < shown.index("if_id 0x2") < shown.index("two") < shown.index("if_id 0x1")


def test_what_nobody_wants_goes_and_what_is_not_ours_is_never_touched(ends: tuple[Namespace, Namespace]) -> None:
    left, _ = ends
    former = left.call(Interfaces)
    former.apply([IPSEC0, TunnelInterface(name="ipsec1", if_id=1)])
    former.close()
    left.ip("link add theirs type xfrm if_id 77", "link add taken type veth peer name peer")
    later = left.call(Interfaces)
    taken = TunnelInterface(name="taken", if_id=3, routes=(ip_network("10.5.0.0/16"),))
    with pytest.raises(Refusal) as refused:
        later.apply([taken, TunnelInterface(name="ipsec2", if_id=2)])
    assert refused.value.reason is Reason.INTERFACE_TAKEN and "ip link delete taken" in refused.value.remedy
    shown = words(left, "-d link show")
    assert "ipsec0" not in shown and "ipsec1" not in shown
    assert "theirs" in shown and "taken" in shown and "ipsec2" in shown
    assert "alias" not in words(left, "link show dev taken") and "unreachable" in words(left, "route show")
    assert "10.2.0.0/16" not in words(left, "route show") and "fd02::/48" not in words(left, "-6 route show")
    with pytest.raises(Refusal, match="theirs has if_id 77"):
        later.apply([TunnelInterface(name="ipsec2", if_id=77)])
    later.remove()
    assert "theirs" in words(left, "link show") and "ipsec2" not in words(left, "link show")
    later.close()


def test_the_kernels_own_words_are_told(ends: tuple[Namespace, Namespace], interfaces: Interfaces) -> None:
    left, _ = ends
    left.sysctl(ipv6__conf__default__disable_ipv6=1)
    with pytest.raises(Refusal, match=r"adding fd09::1/64 to ipsec0.*IPv6 is disabled on this device") as refused:
        interfaces.apply([IPSEC0])
    assert refused.value.reason is Reason.KERNEL_REFUSED
    assert "10.9.0.1/30" in words(left, "addr show dev ipsec0")


@pytest.mark.essential
def test_a_route_based_tunnel_carries_and_fails_closed(
    ends: tuple[Namespace, Namespace], interfaces: Interfaces
) -> None:
    left, right = ends
    left.sysctl(ipv4__conf__all__rp_filter=1, ipv4__conf__default__rp_filter=1)
    tunnel(left, 0, IPSEC0.if_id)
    far_end(right)
    interfaces.apply([IPSEC0])
    inside = ("10.9.0.2", "fd09::2", "10.2.0.1", "fd02::1")
    assert all(pings(left, destination) for destination in inside)
    # Strict reverse path filters let in what came through an SA: 172.16.0.1 is not routed to the tunnel here.
    assert "dev wan" in route(left, "172.16.0.1")
    before = received(left)
    pings(right, "10.9.0.1", "-I", "172.16.0.1")
    assert received(left) == before + 1

    left.ip("link delete ipsec0")
    assert all(held(left, destination) and not pings(left, destination) for destination in inside)
    assert "dev wan" in route(left, "10.4.0.1")
    done = interfaces.apply([IPSEC0])
    assert any("made ipsec0" in line for line in done) and any("routed 10.2.0.0/16" in line for line in done)
    assert all(pings(left, destination) for destination in inside)

    left.ip("link set dev ipsec0 down")
    assert all(held(left, destination) for destination in inside)
    interfaces.apply([IPSEC0])
    left.ip("link set dev ipsec0 down", "link set dev ipsec0 name other", "link set dev other up")
    assert interfaces.apply([IPSEC0])[0] == "removed other, which nothing wants"
    assert all(pings(left, destination) for destination in inside)

    interfaces.remove()
    assert "ipsec0" not in words(left, "link show")
    assert all(held(left, destination) for destination in inside)
    left.call(remove_routes)
    left.call(remove_routes)
    assert all("dev wan" in route(left, destination) for destination in inside)
    left.call(hold_routes, [IPSEC0])
    assert all(held(left, destination) for destination in inside)


def test_policies_without_an_interface_are_asked_first_unless_one_lets_its_packets_pass(
    ends: tuple[Namespace, Namespace], interfaces: Interfaces
) -> None:
    left, right = ends
    tunnel(left, 0, IPSEC0.if_id)
    far_end(right)
    interfaces.apply([IPSEC0])
    assert pings(left, "10.2.0.1")
    left.ip("xfrm policy add dir out src 0.0.0.0/0 dst 10.2.0.0/16 priority 100 action block")
    assert not pings(left, "10.2.0.1")
    passing = "xfrm policy add dir out src 0.0.0.0/0 dst 0.0.0.0/0 dev ipsec0 priority 1"
    left.ip(passing)
    assert pings(left, "10.2.0.1")
    left.ip("xfrm policy delete dir out src 0.0.0.0/0 dst 10.2.0.0/16")
    left.ip("xfrm policy delete dir out src 0.0.0.0/0 dst 0.0.0.0/0 dev ipsec0")
    assert pings(left, "10.2.0.1")
    left.ip("xfrm policy setdefault in block fwd block out block")
    assert not pings(left, "10.2.0.1")
    left.ip(passing)
    assert pings(left, "10.2.0.1")


def test_a_gateway_forwards_through_it_and_with_a_default_of_block_needs_policies_that_let_pass() -> None:
    with Lab() as lab:
        host, gateway, far = lab.namespace("host"), lab.namespace("gateway", forwarding=True), lab.namespace("far")
        lab.link(host, "lan", gateway, "lan")
        lab.link(gateway, "wan", far, "wan")
        host.ip("addr add 10.1.0.2/24 dev lan", "route add default via 10.1.0.1")
        gateway.ip("addr add 10.1.0.1/24 dev lan", f"addr add {OUTER[0]}/24 dev wan")
        gateway.ip(f"route add default via {OUTER[1]}")
        far.ip(f"addr add {OUTER[1]}/24 dev wan")
        interfaces = gateway.call(Interfaces)
        interfaces.apply([IPSEC0])
        tunnel(gateway, 0, IPSEC0.if_id)
        far_end(far)
        far.ip("route add 10.1.0.0/24 dev ipsec7")
        assert pings(host, "10.2.0.1")
        gateway.ip("link delete ipsec0")
        assert "Host Unreachable" in host.run(["ping", "-c", "1", "-W", "2", "10.2.0.1"], check=False).stdout
        interfaces.apply([IPSEC0])
        assert pings(host, "10.2.0.1")
        gateway.ip("xfrm policy setdefault in block fwd block out block")
        # There and, for what was decrypted, from there on.
        for direction, device in (("fwd", "ipsec0"), ("out", "ipsec0"), ("out", "lan")):
            assert not pings(host, "10.2.0.1")
            gateway.ip(f"xfrm policy add dir {direction} src 0.0.0.0/0 dst 0.0.0.0/0 dev {device} priority 1")
        assert pings(host, "10.2.0.1")
        interfaces.close()


def received(namespace: Namespace) -> int:
    """Echo requests that were received and not dropped on the way."""
    lines = namespace.run(["cat", "/proc/net/snmp"]).stdout.splitlines()
    names, values = (line.split() for line in lines if line.startswith("Icmp:"))
    return int(values[names.index("InEchos")])


def test_everything_can_be_routed_there_whatever_default_route_there_is(
    ends: tuple[Namespace, Namespace], interfaces: Interfaces
) -> None:
    left, _ = ends
    everything = replace(IPSEC0, routes=(ip_network("0.0.0.0/0"), ip_network("::/0")))
    interfaces.apply([everything])
    assert "dev ipsec0" in route(left, "203.0.113.1") and "dev ipsec0" in route(left, "2001:db9::1")
    assert "dev wan" in route(left, OUTER[1]) and "dev wan" in route(left, "2001:db8::2")
    left.ip("link delete ipsec0")
    assert held(left, "203.0.113.1") and held(left, "2001:db9::1")


def test_changes_of_links_are_heard(ends: tuple[Namespace, Namespace], interfaces: Interfaces) -> None:
    left, _ = ends
    with left.call(LinkEvents) as events:
        assert events.receive() == []
        interfaces.apply([IPSEC0])
        left.ip("link set dev ipsec0 down", "link set dev ipsec0 name other", "link delete other")
        time.sleep(0.2)
        heard = [change for change in events.receive() if not isinstance(change, Overrun)]
        (index,) = {change.index for change in heard}
        for expected in (("ipsec0", True, False), ("ipsec0", False, False), ("other", False, False)):
            assert LinkChange(index, *expected) in heard
        assert heard[-1] == LinkChange(index, "other", False, True)


def test_a_thousand_are_quick(ends: tuple[Namespace, Namespace], interfaces: Interfaces) -> None:
    many = [
        TunnelInterface(
            name=f"ipsec{n}",
            if_id=n + 1,
            addresses=(ip_interface(f"10.{n // 250}.{n % 250}.1/30"),),
            routes=(ip_network(f"10.{100 + n // 250}.{n % 250}.0/24"),),
        )
        for n in range(1000)
    ]
    started = time.monotonic()
    interfaces.apply(many)
    made = time.monotonic()
    assert interfaces.apply(many) == []
    looked = time.monotonic()
    interfaces.apply([])
    removed = time.monotonic()
    print(f"made in {made - started:.2f} s, looked at in {looked - made:.2f} s, removed in {removed - looked:.2f} s")
    assert "ipsec" not in words(ends[0], "link show")
