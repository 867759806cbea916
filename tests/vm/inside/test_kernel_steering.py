"""The kernel's policies have a route to work on, nothing leaves where they are gone, and default routes lead nowhere."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from appliance.datapath.kernel.options import KernelOptions
from appliance.datapath.kernel.steering import ALIAS, KernelSteering
from appliance.reasons import Reason, Refusal
from appliance.sa.association import Mode, PolicyAction
from tests.datapath.contract import run
from tests.datapath.kernel.gateways import encapsulation, kernel_gateway
from tests.datapath.kernel.sites import HOST, Sites, kernel_sites, ping, two_sites
from tests.datapath.pair import INNER, OUTER, Pair, gateway, inside
from tests.lab.capture import Kind
from tests.lab.lab import Lab
from tests.lab.namespace import Namespace

DEVICE = KernelOptions().device


@contextmanager
def steered(space: Namespace) -> Iterator[KernelSteering]:
    with inside(space):
        steering = KernelSteering(KernelOptions())
    try:
        yield steering
    finally:
        steering.close()


def both_ways(sites: Sites) -> list[bool]:
    """Forwarded and local, IPv4 and IPv6, each without a source of its own where the gateway is the source."""
    return [
        ping(sites.hosts[0], HOST[4][1]), ping(sites.hosts[0], HOST[6][1]),
        ping(sites.gateways[0], HOST[4][1]), ping(sites.gateways[0], HOST[6][1], "-I", INNER[6][0]),
        ping(sites.hosts[1], INNER[4][0]), ping(sites.hosts[1], INNER[6][0]),
    ]  # fmt: skip


@pytest.mark.parametrize("udp", [True, False])
@pytest.mark.parametrize("outer", [4, 6])
def test_without_a_default_route_all_that_is_protected_finds_its_way(outer: int, udp: bool) -> None:
    async def body() -> None:
        async with kernel_sites() as (sites, pair):
            await pair.protect(outer=outer)
            await pair.connect(outer=outer, udp=udp)
            with sites.outside(0) as seen:
                assert all(both_ways(sites))
            assert not sites.leaks(seen) and seen.count(Kind.ESP, Kind.ESP_IN_UDP) >= 30
            unbound = ping(sites.gateways[0], HOST[6][1])
            print("IPv6 without a source:", unbound)

    run(body())


def packet_size(space: Namespace, target: str, *extra: str) -> int:
    """The largest packet, as the one that asks for more is told."""
    argv = ["ping", "-n", "-M", "do", "-c", "2", "-i", "0.3", "-W", "1", "-s", "1452", *extra, target]
    told = re.search(
        r"mtu ?= ?(\d+)", "".join(vars(space.run(argv, check=False))[name] for name in ("stdout", "stderr"))
    )
    return int(told[1]) if told else 0


def test_the_path_mtu_is_that_of_the_way_to_the_peer() -> None:
    async def body() -> None:
        async with kernel_sites() as (sites, pair):
            await pair.protect()
            await pair.connect()
            found = []
            for version in (4, 6):
                found.append(packet_size(sites.hosts[0], HOST[version][1]))
                found.append(packet_size(sites.gateways[0], HOST[version][1], "-I", INNER[version][0]))
            print(found)
            # 1500 less IPv4, UDP, ESP, IV, ICV and padding.
            assert found == [1438] * 4
            sites.router.ip("link set dev wan1 mtu 1400")
            sites.gateways[1].ip("link set dev wan mtu 1400")
            found = []
            for version in (4, 6):
                for space, extra in ((sites.hosts[0], ()), (sites.gateways[0], ("-I", INNER[version][0]))):
                    deadline = time.monotonic() + 5
                    size = 0
                    while size != 1338 and time.monotonic() < deadline:
                        size = packet_size(space, HOST[version][1], *extra)
                    found.append(size)
            print(found)
            assert found == [1338] * 4

    run(body())


def test_tcp_goes_at_the_size_of_the_path() -> None:
    async def body() -> None:
        async with kernel_sites() as (sites, pair):
            await pair.protect()
            await pair.connect()
            sites.router.ip("link set dev wan1 mtu 1400")
            sites.gateways[1].ip("link set dev wan mtu 1400")
            for version in (4, 6):
                for space, target in ((sites.hosts[0], HOST), (sites.gateways[0], HOST)):
                    server = sites.hosts[1].spawn(["iperf3", "-s", "-1"], name=f"s{time.monotonic_ns()}")
                    await asyncio.sleep(0.5)
                    bind = [] if space is sites.hosts[0] else ["-B", INNER[version][0]]
                    done = await asyncio.to_thread(
                        space.run, ["iperf3", "-c", target[version][1], "-n", "2M", *bind], check=False, timeout=30
                    )
                    print(done.stdout[-600:], done.stderr)
                    assert done.returncode == 0
                    server.stop()

    run(body())


@pytest.mark.parametrize("default", [False, True])
def test_where_no_policy_takes_them_packets_go_nowhere(default: bool) -> None:
    with Lab() as lab:
        sites = two_sites(lab)
        left = sites.gateways[0]
        if default:
            left.ip("route add default via 198.51.100.1", "route add default via 2001:db8:a::1")
        with steered(left) as steering:
            steering.apply([Pair(lab, ()).policy(0)])
            with sites.outside(0) as seen:
                assert not any(both_ways(sites))
                left.ip(f"link set dev {DEVICE} down")
                assert not any(both_ways(sites))
                left.ip(f"link del dev {DEVICE}")
                assert not any(both_ways(sites))
            assert not sites.leaks(seen)
            steering.apply([Pair(lab, ()).policy(0)])
            assert "mtu 65535" in left.run(["ip", "link", "show", DEVICE]).stdout
            assert f"dev {DEVICE}" in left.run(["ip", "route", "get", HOST[4][1], "from", INNER[4][0]]).stdout
            steering.remove()
            left.run(["ip", "rule"])
            assert "222" not in left.run(["ip", "rule"]).stdout
            assert left.run(["ip", "link", "show", DEVICE], check=False).returncode


def test_policies_flushed_by_hand_let_nothing_through() -> None:
    async def body() -> None:
        async with kernel_sites() as (sites, pair):
            left = sites.gateways[0]
            left.ip("route add default via 198.51.100.1", "route add default via 2001:db8:a::1")
            await pair.protect()
            await pair.connect()
            assert ping(sites.hosts[0], HOST[4][1])
            with sites.outside(0) as seen:
                flood = [
                    asyncio.create_task(asyncio.to_thread(ping, space, target, "-i", "0.002", count=1000))
                    for space, target in (
                        (sites.hosts[0], HOST[4][1]), (sites.hosts[0], HOST[6][1]), (left, HOST[4][1]),
                    )
                ]  # fmt: skip
                for _ in range(10):
                    await asyncio.to_thread(left.run, ["ip", "xfrm", "policy", "flush"])
                    await asyncio.sleep(0.3)
                await asyncio.gather(*flood)
            print(seen.kinds())
            assert not sites.leaks(seen) and seen.count(Kind.ESP_IN_UDP) > 100
            assert ping(sites.hosts[0], HOST[4][1])

    run(body())


def test_what_was_decrypted_takes_no_default_route() -> None:
    async def body() -> None:
        async with kernel_sites() as (sites, pair):
            right = sites.gateways[1]
            right.ip("route add default via 203.0.113.1", "route add default via 2001:db8:b::1")
            await pair.protect()
            await pair.connect()
            assert all(both_ways(sites))
            right.ip("route del 10.2.0.0/24 dev lan", "route del fd02::/64 dev lan")
            with sites.outside(1) as seen:
                assert not ping(sites.hosts[0], HOST[4][1]) and not ping(sites.hosts[0], HOST[6][1])
                # What is for the gateway itself still comes home.
                assert ping(sites.hosts[0], INNER[4][1]) and ping(sites.hosts[0], INNER[6][1])
            assert not sites.leaks(seen)
            print(right.run(["cat", "/proc/net/snmp"]).stdout[:900])
            told = sites.hosts[0].run(["ping", "-n", "-c", "1", "-W", "2", HOST[4][1]], check=False).stdout
            print(told)
            right.ip("route add 10.2.0.0/24 dev lan", "route add fd02::/64 dev lan")
            assert all(both_ways(sites))
            # After the policy, as long as the SAs may be there.
            right.ip("route del 10.2.0.0/24 dev lan", "route del fd02::/64 dev lan")
            with sites.outside(1) as seen:
                await pair.gateways[1].datapath.remove_policies(["net"])
                assert not ping(sites.hosts[0], HOST[4][1]) and not ping(sites.hosts[0], HOST[6][1])
            assert not sites.leaks(seen)

    run(body())


def test_a_local_side_as_wide_as_the_internet_has_default_routes() -> None:
    async def body() -> None:
        async with kernel_sites() as (sites, pair):
            right = sites.gateways[1]
            right.ip("route add default via 203.0.113.1", "route add default via 2001:db8:b::1")
            wide = {"local": ("10.1.0.0/24", "fd01::/64"), "remote": ("0.0.0.0/0", "::/0")}
            await pair.protect(**wide)
            await pair.connect(**wide)
            with sites.outside(1) as seen:
                assert not ping(sites.hosts[0], "198.18.0.1") and not ping(sites.hosts[0], "2001:db8:77::1")
            assert {frame.addresses[1].version for frame in sites.leaks(seen)} == {4, 6}
            assert all(both_ways(sites))

    run(body())


def test_transport_mode_keeps_the_real_route() -> None:
    async def body() -> None:
        async with kernel_sites() as (sites, pair):
            wide = pair.policy(
                0, name="wide", local=(f"{OUTER[4][0]}/32",), remote=("0.0.0.0/0",), reqid=2, priority=2000
            )
            await pair.protect(mode=Mode.TRANSPORT)
            await pair.gateways[0].datapath.install_policies([wide])
            await pair.connect(mode=Mode.TRANSPORT)
            assert ping(sites.gateways[0], OUTER[4][1], "-I", OUTER[4][0])

    run(body())


def test_beside_the_soft_datapath() -> None:
    """Each datapath has a policy; a packet out of one's tunnel gets into the other's; policies change hands."""

    async def body() -> None:
        with Lab() as lab:
            sites = two_sites(lab)
            for space in sites.gateways:
                space.sysctl(ipv4__conf__all__rp_filter=0)
            sites.gateways[1].ip("addr add 10.3.0.1/24 dev lan", "addr add fd03::1/64 dev lan nodad")
            async with gateway(0, sites.gateways[0]) as left, gateway(1, sites.gateways[1]) as right:
                soft = Pair(lab, (left, right))
                kernels = []
                try:
                    for number in (0, 1):
                        context = kernel_gateway_without_sockets(number, sites.gateways[number])
                        kernels.append(await context.__aenter__())
                    kernel = Pair(lab, tuple(kernels))
                    other = {"local": ("10.1.0.0/24", "fd01::/64"), "remote": ("10.3.0.0/24", "fd03::/64")}
                    await soft.protect(**other, name="other")
                    await soft.connect((0x2001, 0x2002), **other)
                    await kernel.protect()
                    await kernel.connect(udp=False)
                    with sites.outside(0) as seen:
                        print("kernel", both_ways(sites))
                        print("soft", ping(sites.hosts[0], "10.3.0.1"), ping(sites.hosts[0], "fd03::1"))
                    print(seen.kinds())
                    assert not sites.leaks(seen)
                finally:
                    for one in kernels:
                        await one.datapath.close()

    run(body())


def kernel_gateway_without_sockets(number: int, space: Namespace):  # type: ignore[no-untyped-def]
    from contextlib import asynccontextmanager

    from appliance.datapath.kernel.datapath import KernelDatapath
    from tests.datapath.pair import Gateway

    @asynccontextmanager
    async def made():  # type: ignore[no-untyped-def]
        datapath = KernelDatapath()
        with inside(space):
            await datapath.start()
        yield Gateway(number, space, datapath)  # type: ignore[arg-type]

    return made()


def test_an_interface_of_somebody_else_is_left_alone() -> None:
    with Lab() as lab:
        space = lab.namespace("gw")
        policy = Pair(lab, ()).policy(0)
        for how in (f"link add {DEVICE} up type dummy", f"link add {DEVICE} type bridge"):
            space.ip(how)
            with steered(space) as steering:
                with pytest.raises(Refusal) as refusal:
                    steering.apply([policy])
                assert refusal.value.reason is Reason.INTERFACE_TAKEN and DEVICE in refusal.value.detail
                steering.remove()
            space.ip(f"link del {DEVICE}")
        space.ip(f"link add {DEVICE} type dummy")
        with steered(space) as steering:
            steering.apply([policy])
            assert ALIAS in space.run(["ip", "link", "show", DEVICE]).stdout
            assert not space.run(["ip", "-6", "addr", "show", DEVICE]).stdout
            print(space.run(["ip", "-d", "link", "show", DEVICE]).stdout)


def test_a_successor_takes_over_what_a_killed_process_left() -> None:
    with Lab() as lab:
        space = lab.namespace("gw")
        pair = Pair(lab, ())

        def there() -> list[str]:
            shown = (
                ["rule"],
                ["-6", "rule"],
                ["route", "show", "table", "222"],
                ["-6", "route", "show", "table", "222"],
            )
            return [line for what in shown for line in sorted(space.run(["ip", *what]).stdout.splitlines())]

        with steered(space) as steering:
            before = there_safe = None
            steering.apply([pair.policy(0)])
            before = there()
            steering.apply([pair.policy(0), pair.policy(0, name="more", remote=("10.9.0.0/24",))])
            assert there() != before
            del there_safe
        with steered(space) as steering:
            steering.apply([pair.policy(0)])
            assert there() == before
        with steered(space) as steering:
            steering.remove()
            assert "esplanade" not in "".join(space.run(["ip", *what]).stdout for what in (["rule"], ["link"]))
