"""The kernel's policies have a route to work on; where they are gone nothing leaves; default routes lead nowhere."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest

from appliance.datapath.demultiplexer import Demultiplexer
from appliance.datapath.guard import install_guard
from appliance.datapath.kernel.datapath import KernelDatapath
from appliance.datapath.kernel.options import KernelOptions, trusted_mark
from appliance.datapath.kernel.steering import ALIAS, KernelSteering
from appliance.datapath.soft.options import SoftOptions
from appliance.reasons import Reason, Refusal
from appliance.sa.association import Mode, PolicyAction
from tests.datapath.contract import run
from tests.datapath.kernel.gateways import kernel_gateway
from tests.datapath.kernel.sites import HOST, Sites, kernel_sites, ping, silent, soon, two_sites
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


def fits(space: Namespace, version: int, size: int, *extra: str) -> bool:
    """Whether packets of ``size`` octets get to the other host and back, unfragmented."""
    headers = 28 if version == 4 else 48
    argv = ["ping", "-q", "-n", "-M", "do", "-c", "1", "-W", "1", "-s", str(size - headers), *extra, HOST[version][1]]
    return not space.run(argv, check=False).returncode


def test_the_path_mtu_is_that_of_the_way_to_the_peer() -> None:
    async def body() -> None:
        async with kernel_sites() as (sites, pair):
            await pair.protect()
            await pair.connect()
            # 1500 less IPv4, UDP, ESP, IV, ICV and padding.
            for link, inner in ((1500, 1438), (1400, 1338)):
                sites.links[1].set_mtu(link)
                for version in (4, 6):
                    for space, extra in ((sites.hosts[0], ()), (sites.gateways[0], ("-I", INNER[version][0]))):
                        # The first ones are lost further on; then the gateway is told, and then who sends by it.
                        deadline = time.monotonic() + 10
                        while not (fits(space, version, inner, *extra) and not fits(space, version, inner + 1, *extra)):
                            assert time.monotonic() < deadline, (link, version, space.name)
            argv = ["ping", "-n", "-M", "do", "-c", "1", "-W", "1", "-s", "1452", HOST[4][1]]
            sites.hosts[0].ip("route flush cache")
            assert "mtu = 1338" in sites.hosts[0].run(argv, check=False).stdout

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
            assert await soon(lambda: all(reached(sites)), 20)

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
                for version, words in ((4, "Net Unreachable"), (6, "No route")):
                    argv = ["ping", "-n", "-c", "1", "-W", "1", HOST[version][1]]
                    assert words in sites.hosts[0].run(argv, check=False).stdout
                # What is for the gateway itself still comes home.
                assert ping(sites.hosts[0], INNER[4][1]) and ping(sites.hosts[0], INNER[6][1])
            assert not sites.leaks(seen)
            right.ip("route add 10.2.0.0/24 dev lan", "route add fd02::/64 dev lan")
            assert all(reached(sites))
            # SAs may outlive their policy.
            right.ip("route del 10.2.0.0/24 dev lan", "route del fd02::/64 dev lan")
            with sites.outside(1) as seen:
                await pair.gateways[1].datapath.remove_policies(["net"])
                assert silent(sites.hosts[0], HOST[4][1]) and silent(sites.hosts[0], HOST[6][1])
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
            with inside(left):
                # The kernel's policies for inbound SAs let pass what soft decrypted, which the guard marks.
                trusted = trusted_mark(KernelOptions().mark)
                install_guard([Pair(lab, ()).policy(0)], trusted_mark=trusted)
            async with gateway(0, left) as soft, kernel_gateway(1, right) as peer:
                datapath = KernelDatapath(demultiplexer=Demultiplexer(soft.ingress))
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


@asynccontextmanager
async def both_datapaths() -> AsyncIterator[tuple[Sites, Pair, Pair]]:
    """Left has soft and the kernel: pairs of each with the kernel of the right."""
    with Lab() as lab:
        sites = two_sites(lab)
        left, right = sites.gateways
        left.ip(*DEFAULT[0])
        options = KernelOptions()
        soft_options = SoftOptions(discards=False)
        with inside(left):
            install_guard([Pair(lab, ()).policy(0)], trusted_mark=trusted_mark(options.mark))
        async with gateway(0, left, soft_options) as soft, kernel_gateway(1, right) as peer:
            datapath = KernelDatapath(options, demultiplexer=Demultiplexer(soft.ingress))
            with inside(left):
                await datapath.start()
            try:
                yield sites, Pair(lab, (soft, peer)), Pair(lab, (Gateway(0, left, datapath), peer))  # type: ignore[arg-type]
            finally:
                await datapath.close()


def test_overlapping_policies_of_two_datapaths_keep_their_order() -> None:
    """A narrow one by soft before a wide one in the kernel, and a last one that discards the rest."""

    async def body() -> None:
        async with both_datapaths() as (sites, by_soft, by_kernel):
            soft, kernel = by_soft.gateways[0].datapath, by_kernel.gateways[0].datapath
            wide = {"local": ("10.1.0.0/24", "fd01::/64"), "remote": ("10.0.0.0/8", "fd00::/8"), "reqid": 2}
            narrow = by_soft.policy(0, priority=100)
            await soft.install_policies([narrow])
            await kernel.note_elsewhere([narrow])
            await kernel.install_policies([by_kernel.policy(0, name="wide", priority=200, **wide)])
            await by_soft.gateways[1].datapath.install_policies([by_soft.policy(1)])
            await by_kernel.connect((0x2001, 0x2002), **wide)
            await by_soft.connect()
            for datapath in (soft, kernel):
                everything = {"remote": ("0.0.0.0/0", "::/0"), "reqid": 0, "action": PolicyAction.DISCARD}
                await datapath.install_policies([by_soft.policy(0, name="rest", priority=900, **everything)])
            assert all(reached(sites))
            sent = {sa.sa.spi: sa.usage.packets for sa in (await kernel.dump()).sas}
            assert sent[0x2001] == 0
            assert all(sa.usage.packets for sa in (await soft.dump()).sas)
            # The wide one has what is not in the narrow one; nobody is there, but it is sent.
            silent(sites.hosts[0], "10.9.0.1")
            assert {sa.sa.spi: sa.usage.packets for sa in (await kernel.dump()).sas}[0x2001] == 1
            with sites.outside(0) as seen:
                assert silent(sites.hosts[0], "203.0.113.2")
            assert not sites.leaks(seen)

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
