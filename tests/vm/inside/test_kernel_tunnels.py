"""Route-based children on the kernel datapath: their interfaces are kept, and other policies leave them alone."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from ipaddress import ip_network

from appliance.datapath.kernel.datapath import KernelDatapath
from appliance.datapath.kernel.options import KernelOptions
from appliance.reasons import Reason
from appliance.sa.association import Handling, PolicyAction, SecurityPolicy
from appliance.sa.datapath import Changed
from appliance.sa.interface import TunnelInterface
from tests.datapath.contract import heard, run
from tests.datapath.kernel.sites import HOST, Sites, kernel_sites, ping, silent, soon
from tests.datapath.pair import INNER, NETS, Pair
from tests.lab.capture import Kind
from tests.vm.inside.test_kernel_steering import DEFAULT

ALL = {"local": ("0.0.0.0/0", "::/0"), "remote": ("0.0.0.0/0", "::/0")}
IF_IDS = 7, 9


def interface(number: int) -> TunnelInterface:
    routes = tuple(ip_network(nets[1 - number]) for nets in NETS.values())
    return TunnelInterface(name="ipsec0", if_id=IF_IDS[number], routes=routes)


def handling(number: int) -> Handling:
    return Handling(interface="ipsec0", if_id=IF_IDS[number])


def route_based(pair: Pair, number: int, *, priority: int = 1000) -> SecurityPolicy:
    return replace(pair.policy(number, priority=priority, **ALL), handling=handling(number))


def kernels(pair: Pair) -> list[KernelDatapath]:
    found = [gateway.datapath for gateway in pair.gateways]
    assert all(isinstance(datapath, KernelDatapath) for datapath in found)
    return found  # type: ignore[return-value]


async def join(pair: Pair) -> None:
    """Interfaces, policies and SAs at both ends."""
    for number, datapath in enumerate(kernels(pair)):
        assert any("made ipsec0" in words for words in await datapath.keep_interfaces([interface(number)]))
        await datapath.install_policies([route_based(pair, number)])
    await pair.connect_by(handling, **ALL)


def reached(sites: Sites) -> bool:
    return all(ping(sites.hosts[end], HOST[version][1 - end]) for version in (4, 6) for end in (0, 1))


def test_what_is_routed_there_is_carried_whatever_happens_to_the_interface() -> None:
    async def body() -> None:
        async with kernel_sites() as (sites, pair):
            left = sites.gateways[0]
            left.ip(*DEFAULT[0])
            with sites.outside(0) as seen:
                await join(pair)
                assert await asyncio.to_thread(reached, sites)
                assert ping(left, HOST[4][1], INNER[4][0])
                for how in (
                    ["link del dev ipsec0"],
                    ["link set dev ipsec0 down"],
                    ["link set dev ipsec0 down", "link set dev ipsec0 name other"],
                ):
                    left.ip(*how)
                    assert await soon(lambda: reached(sites), 10), how
                await kernels(pair)[0].keep_interfaces([])
                assert "ipsec0" not in left.run(["ip", "link"]).stdout
                await asyncio.sleep(0.2)
                await kernels(pair)[0].keep_interfaces([interface(0)])
                assert await asyncio.to_thread(reached, sites)
                await kernels(pair)[0].close()
                assert "ipsec0" not in left.run(["ip", "link"]).stdout
                assert silent(sites.hosts[0], HOST[4][1]) and silent(sites.hosts[0], HOST[6][1])
            assert seen.count(Kind.ESP_IN_UDP) > 30
            # While nothing wanted the interface its routes were not held: see Interfaces.
            assert not sites.leaks(seen)

    run(body())


def test_what_is_discarded_is_so_on_interfaces_in_the_order_of_priorities() -> None:
    async def body() -> None:
        async with kernel_sites() as (sites, pair):
            left, _ = kernels(pair)
            await join(pair)
            discard = pair.policy(0, name="no", reqid=0, priority=10, action=PolicyAction.DISCARD,
                                  remote=("10.2.0.9/32",))  # fmt: skip
            await left.install_policies([replace(discard, local_ts=discard.local_ts[:1])])
            assert silent(sites.hosts[0], HOST[4][1]) and ping(sites.hosts[0], HOST[6][1])
            # What comes after the child's policy does not count.
            await left.install_policies([replace(discard, local_ts=discard.local_ts[:1], priority=2000)])
            assert await asyncio.to_thread(reached, sites)

    run(body())


def test_a_default_of_block_lets_pass_what_policies_take_and_what_comes_out() -> None:
    async def body() -> None:
        async with kernel_sites(KernelOptions(block=True)) as (sites, pair):
            await join(pair)
            assert await asyncio.to_thread(reached, sites)
            # The hosts' networks are forwarded to nowhere else.
            sites.gateways[0].ip(*DEFAULT[0])
            with sites.outside(0) as seen:
                assert silent(sites.hosts[0], "203.0.113.2")
            assert not sites.leaks(seen)

    run(body())


def test_a_default_of_block_lets_sites_with_policies_of_addresses_talk() -> None:
    async def body() -> None:
        async with kernel_sites(KernelOptions(block=True)) as (sites, pair):
            await pair.protect()
            await pair.connect()
            assert await asyncio.to_thread(reached, sites)
            bypass = pair.policy(0, name="by", action=PolicyAction.BYPASS, remote=("203.0.113.2/32",), reqid=0)
            sites.gateways[0].ip(*DEFAULT[0])
            assert silent(sites.hosts[0], "203.0.113.2")
            sites.router.ip("route add 10.1.0.0/24 via 198.51.100.2")
            sites.gateways[1].ip(*DEFAULT[1])
            await kernels(pair)[1].install_policies(
                [replace(pair.policy(1, name="by", action=PolicyAction.BYPASS, remote=("203.0.113.2/32",), reqid=0),
                         remote_ts=pair.policy(1).remote_ts[:1])]
            )  # fmt: skip
            await kernels(pair)[0].install_policies([replace(bypass, local_ts=bypass.local_ts[:1])])
            assert ping(sites.hosts[0], "203.0.113.2")

    run(body())


def test_an_interface_of_somebody_else_is_told_and_tried_again() -> None:
    async def body() -> None:
        async with kernel_sites() as (sites, pair):
            space = sites.gateways[0]
            left = kernels(pair)[0]
            space.ip("link add ipsec0 type dummy")
            assert not any("made" in words for words in await left.keep_interfaces([interface(0)]))
            event = await heard(pair, 0, Changed)
            assert isinstance(event, Changed)
            assert event.reason is Reason.INTERFACE_TAKEN and "ip link delete ipsec0" in event.words
            space.ip("link del ipsec0")
            deadline = time.monotonic() + 5
            while "esplanade" not in space.run(["ip", "link", "show", "ipsec0"], check=False).stdout:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)

    run(body())
