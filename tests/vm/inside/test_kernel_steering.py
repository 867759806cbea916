"""The kernel's policies have a route to work on; where they are gone nothing leaves; default routes lead nowhere."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from appliance.datapath.demultiplexer import Demultiplexer
from appliance.datapath.kernel.datapath import KernelDatapath
from appliance.datapath.kernel.options import KernelOptions
from appliance.datapath.kernel.steering import ALIAS, KernelSteering
from appliance.reasons import Reason, Refusal
from appliance.sa.association import Mode
from tests.datapath.contract import run
from tests.datapath.kernel.gateways import kernel_gateway
from tests.datapath.kernel.sites import HOST, Sites, kernel_sites, ping, silent, two_sites
from tests.datapath.pair import INNER, OUTER, Gateway, Pair, gateway, inside
from tests.lab.capture import Kind
from tests.lab.lab import Lab
from tests.lab.namespace import Namespace

DEVICE = KernelOptions().device
DEFAULT = (
    ("route add default via 198.51.100.1", "route add default via 2001:db8:a::1"),
    ("route add default via 203.0.113.1", "route add default via 2001:db8:b::1"),
)
FROM_LEFT = ((HOST[4][1], INNER[4][0]), (HOST[6][1], INNER[6][0]))


@contextmanager
def steered(space: Namespace) -> Iterator[KernelSteering]:
    with inside(space):
        steering = KernelSteering(KernelOptions())
    try:
        yield steering
    finally:
        steering.close()


def reached(sites: Sites) -> list[bool]:
    """Forwarded and from the gateways, IPv4 and IPv6."""
    return [
        *(ping(sites.hosts[0], HOST[version][1]) for version in (4, 6)),
        *(ping(sites.gateways[0], *way) for way in FROM_LEFT),
        *(ping(sites.hosts[1], INNER[version][0]) for version in (4, 6)),
    ]


def unreached(sites: Sites) -> list[bool]:
    return [
        *(silent(sites.hosts[0], HOST[version][1]) for version in (4, 6)),
        *(silent(sites.gateways[0], *way) for way in FROM_LEFT),
    ]


@pytest.mark.parametrize(
    ("outer", "udp"), [pytest.param(4, True, marks=pytest.mark.essential), (4, False), (6, True), (6, False)]
)
def test_without_a_default_route_all_that_is_protected_finds_its_way(outer: int, udp: bool) -> None:
    async def body() -> None:
        async with kernel_sites() as (sites, pair):
            await pair.protect(outer=outer)
            await pair.connect(outer=outer, udp=udp)
            with sites.outside(0) as seen:
                assert all(reached(sites))
                # A program that chooses no source has one inside the policy.
                assert ping(sites.gateways[0], HOST[4][1]) and ping(sites.gateways[0], HOST[6][1])
            assert not sites.leaks(seen) and seen.count(Kind.ESP, Kind.ESP_IN_UDP) >= 40

    run(body())


def told_size(space: Namespace, target: str, *extra: str) -> int:
    """The largest packet, as one who asks for more is told."""
    done = space.run(
        ["ping", "-n", "-M", "do", "-c", "2", "-i", "0.3", "-W", "1", "-s", "1452", *extra, target], check=False
    )
    told = re.search(r"mtu ?[=:] ?(\d+)", done.stdout + done.stderr)
    if told is None:
        print(done.stdout, done.stderr)
    return int(told[1]) if told else 0


def test_the_path_mtu_is_that_of_the_way_to_the_peer() -> None:
    async def body() -> None:
        async with kernel_sites() as (sites, pair):
            await pair.protect()
            await pair.connect()

            def sizes(wanted: int) -> list[int]:
                found = []
                for version in (4, 6):
                    for space, extra in ((sites.hosts[0], ()), (sites.gateways[0], ("-I", INNER[version][0]))):
                        deadline, size = time.monotonic() + 5, 0
                        while size != wanted and time.monotonic() < deadline:
                            size = told_size(space, HOST[version][1], *extra)
                        found.append(size)
                return found

            # 1500 less IPv4, UDP, ESP, IV, ICV and padding.
            assert sizes(1438) == [1438] * 4
            sites.links[1].set_mtu(1400)
            assert sizes(1338) == [1338] * 4

    run(body())


@pytest.mark.parametrize("default", [False, True])
def test_where_no_policy_takes_them_packets_go_nowhere(default: bool) -> None:
    with Lab() as lab:
        sites = two_sites(lab)
        left = sites.gateways[0]
        if default:
            left.ip(*DEFAULT[0])
        policy = Pair(lab, ()).policy(0)
        with steered(left) as steering:
            steering.apply([policy])
            with sites.outside(0) as seen:
                assert all(unreached(sites))
                left.ip(f"link set dev {DEVICE} down")
                assert all(unreached(sites))
                left.ip(f"link del dev {DEVICE}")
                assert all(unreached(sites))
            assert not sites.leaks(seen)
            steering.apply([policy])
            assert "mtu 65535" in left.run(["ip", "link", "show", DEVICE]).stdout
            for target, source in FROM_LEFT:
                assert f"dev {DEVICE}" in left.run(["ip", "route", "get", target, "from", source]).stdout
            steering.remove()
            assert "lookup 222" not in left.run(["ip", "rule"]).stdout
            assert left.run(["ip", "link", "show", DEVICE], check=False).returncode


def test_policies_flushed_by_hand_let_nothing_through() -> None:
    async def body() -> None:
        async with kernel_sites() as (sites, pair):
            left = sites.gateways[0]
            left.ip(*DEFAULT[0])
            await pair.protect()
            await pair.connect()
            assert all(reached(sites))
            flood = [
                asyncio.to_thread(ping, *way, count=100)
                for way in ((sites.hosts[0], HOST[4][1]), (sites.hosts[0], HOST[6][1]), (left, *FROM_LEFT[0]))
            ]
            with sites.outside(0) as seen:
                running = asyncio.gather(*flood)
                for _ in range(8):
                    await asyncio.to_thread(left.run, ["ip", "xfrm", "policy", "flush"])
                    await asyncio.sleep(0.2)
                await running
            assert not sites.leaks(seen) and seen.count(Kind.ESP_IN_UDP) > 50
            assert all(reached(sites))

    run(body())


def test_what_was_decrypted_takes_no_default_route() -> None:
    async def body() -> None:
        async with kernel_sites() as (sites, pair):
            right = sites.gateways[1]
            right.ip(*DEFAULT[1])
            await pair.protect()
            await pair.connect()
            assert all(reached(sites))
            right.ip("route del 10.2.0.0/24 dev lan", "route del fd02::/64 dev lan")
            with sites.outside(1) as seen:
                assert silent(sites.hosts[0], HOST[4][1]) and silent(sites.hosts[0], HOST[6][1])
                # What is for the gateway itself still comes home.
                assert ping(sites.hosts[0], INNER[4][1]) and ping(sites.hosts[0], INNER[6][1])
            print([frame.addresses for frame in sites.leaks(seen)])
            for version in (4, 6):
                print(sites.hosts[0].run(["ping", "-n", "-c", "1", "-W", "1", HOST[version][1]], check=False).stdout)
            assert not sites.leaks(seen)
            right.ip("route add 10.2.0.0/24 dev lan", "route add fd02::/64 dev lan")
            assert all(reached(sites))
            # SAs may outlive their policy.
            right.ip("route del 10.2.0.0/24 dev lan", "route del fd02::/64 dev lan")
            with sites.outside(1) as seen:
                await pair.gateways[1].datapath.remove_policies(["net"])
                assert silent(sites.hosts[0], HOST[4][1]) and silent(sites.hosts[0], HOST[6][1])
            print([frame.addresses for frame in sites.leaks(seen)])
            assert not sites.leaks(seen)

    run(body())


def test_default_routes_are_ways_to_a_local_side_as_wide_as_the_internet() -> None:
    async def body() -> None:
        async with kernel_sites() as (sites, pair):
            sites.gateways[1].ip(*DEFAULT[1])
            wide = {"local": ("10.1.0.0/24", "fd01::/64"), "remote": ("0.0.0.0/0", "::/0")}
            await pair.protect(**wide)
            await pair.connect(**wide)
            with sites.outside(1) as seen:
                assert silent(sites.hosts[0], "198.18.0.1") and silent(sites.hosts[0], "2001:db8:77::1")
            assert {frame.addresses[1].version for frame in sites.leaks(seen)} == {4, 6}
            assert all(reached(sites))

    run(body())


def test_transport_mode_keeps_the_real_route() -> None:
    async def body() -> None:
        async with kernel_sites() as (sites, pair):
            host = (f"{OUTER[4][0]}/32",)
            wide = pair.policy(0, name="wide", local=host, remote=("0.0.0.0/0",), reqid=2, priority=2000)
            await pair.protect(mode=Mode.TRANSPORT)
            await pair.gateways[0].datapath.install_policies([wide])
            await pair.connect(mode=Mode.TRANSPORT, udp=False)
            with sites.outside(0) as seen:
                assert ping(sites.gateways[0], OUTER[4][1], OUTER[4][0])
            assert seen.count(Kind.ESP) >= 6

    run(body())


OTHER = {"local": ("10.1.0.0/24", "fd01::/64"), "remote": ("10.3.0.0/24", "fd03::/64"), "reqid": 2}
HUB = {"local": ("10.3.0.0/24", "fd03::/64"), "remote": ("10.2.0.0/24", "fd02::/64"), "reqid": 3}
HUB_BACK = {"local": HUB["remote"], "remote": HUB["local"], "reqid": 4}


def test_beside_the_soft_datapath() -> None:
    """Left has both: each carries a policy, what comes by one goes on by the other, and a policy changes hands."""

    async def body() -> None:
        with Lab() as lab:
            sites = two_sites(lab)
            left, right = sites.gateways
            right.ip("addr add 10.3.0.1/24 dev lan", "addr add fd03::1/64 dev lan nodad")
            left.ip(*DEFAULT[0])
            async with gateway(0, left) as soft, kernel_gateway(1, right) as peer:
                demultiplexer = Demultiplexer(soft.ingress)
                demultiplexer.open_kernel()
                datapath = KernelDatapath(demultiplexer=demultiplexer)
                with inside(left):
                    await datapath.start()
                by_kernel = Pair(lab, (Gateway(0, left, datapath), peer))  # type: ignore[arg-type]
                by_soft = Pair(lab, (soft, peer))
                try:
                    await by_kernel.protect()
                    await by_kernel.connect()
                    await by_soft.protect(name="other", **OTHER)
                    await by_soft.connect((0x2001, 0x2002), **OTHER)
                    with sites.outside(0) as seen:
                        assert all(reached(sites))
                        assert ping(sites.hosts[0], "10.3.0.1") and ping(sites.hosts[0], "fd03::1")
                    assert not sites.leaks(seen)
                    assert {sa.usage.packets > 0 for sa in (await datapath.dump()).sas} == {True}
                    assert {sa.usage.packets > 0 for sa in (await soft.datapath.dump()).sas} == {True}
                    # What comes out of a tunnel of either finds the other's.
                    await datapath.install_policies([by_kernel.policy(0, name="hub", **HUB)])
                    await soft.datapath.install_policies([by_soft.policy(0, name="hub", **HUB_BACK)])
                    for three, two in (("10.3.0.9", "10.2.0.9"), ("fd03::9", "fd02::9")):
                        there = left.run(["ip", "route", "get", two, "from", three, "iif", "esplanade0"])
                        back = left.run(["ip", "route", "get", three, "from", two, "iif", "wan", "mark", "0xe5b2"])
                        assert f"dev {DEVICE}" in there.stdout and "dev esplanade0" in back.stdout
                    # A policy changes hands, and again.
                    with sites.outside(0) as seen:
                        flood = asyncio.gather(*(
                            asyncio.to_thread(ping, sites.hosts[0], HOST[version][1], count=150) for version in (4, 6)
                        ))  # fmt: skip
                        await by_soft.protect()
                        await by_soft.connect((0x3001, 0x3002))
                        await datapath.remove_policies(["net"])
                        assert all(await asyncio.to_thread(reached, sites))
                        await by_kernel.protect()
                        await by_kernel.connect((0x4001, 0x4002))
                        await soft.datapath.remove_policies(["net"])
                        assert all(await asyncio.to_thread(reached, sites))
                        await flood
                    assert not sites.leaks(seen)
                    carried = {sa.sa.spi: sa.usage.packets for sa in (await datapath.dump()).sas}
                    assert carried[0x4001] and carried[0x4002]
                finally:
                    await datapath.close()

    run(body())


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
        # As far as a process came that was killed.
        space.ip(f"link add {DEVICE} type dummy")
        with steered(space) as steering:
            steering.apply([policy])
            assert ALIAS in space.run(["ip", "link", "show", DEVICE]).stdout
            assert not space.run(["ip", "-6", "addr", "show", DEVICE]).stdout


def test_a_successor_takes_over_what_a_killed_process_left() -> None:
    with Lab() as lab:
        space = lab.namespace("gw")
        pair = Pair(lab, ())

        def there() -> list[str]:
            tables = [["rule"], ["route", "show", "table", "222"]]
            shown = [space.run(["ip", version, *what]).stdout for version in ("-4", "-6") for what in tables]
            return [line for text in shown for line in sorted(text.splitlines())]

        with steered(space) as steering:
            steering.apply([pair.policy(0)])
            before = there()
            steering.apply([pair.policy(0), pair.policy(0, name="more", remote=("10.9.0.0/24",))])
            assert there() != before
        with steered(space) as steering:
            steering.apply([pair.policy(0)])
            assert there() == before
        with steered(space) as steering:
            steering.remove()
            assert "222" not in "".join(there()) and DEVICE not in space.run(["ip", "link"]).stdout
