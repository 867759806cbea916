"""The kernel datapath's offload to netdevsim: what reaches the device, what is said of it, and what is refused."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_network

import pytest

from appliance.datapath.kernel.datapath import KernelDatapath
from appliance.datapath.kernel.options import KernelOptions
from appliance.datapath.kernel.xfrm import (
    Answer,
    OffloadFlag,
    Policy,
    PolicyDirection,
    PolicyId,
    Selector,
    XfrmSocket,
)
from appliance.datapath.kernel.xfrm import Offload as XfrmOffload
from appliance.datapath.kernel.xfrm import requests as xfrm_requests
from appliance.reasons import Reason
from appliance.sa.algorithms import Encryption, Suite
from appliance.sa.association import Direction, Handling, Offload
from appliance.sa.datapath import Carried, DatapathRefusal, InstallRequest
from tests.datapath.contract import run
from tests.datapath.kernel.gateways import kernel_gateway, left_behind
from tests.datapath.pair import INNER, NETS, OUTER, Pair, keys
from tests.lab.lab import Lab
from tests.lab.namespace import Namespace
from tests.vm.inside.netdevsim import SAS, Device, OffloadedPolicy, OffloadedSa, Variant, device, loaded

AES_128 = Suite(Encryption.AES_GCM_16, 128)
IN, OUT = Direction.IN, Direction.OUT
HERE, THERE = (IPv4Address(address) for address in OUTER[4])


@dataclass
class Bench:
    """Gateway 0 of a pair, on a device; its peer is not there."""

    pair: Pair
    device: Device

    @property
    def space(self) -> Namespace:
        return self.pair.gateways[0].namespace

    @property
    def datapath(self) -> KernelDatapath:
        found = self.pair.gateways[0].datapath
        assert isinstance(found, KernelDatapath)
        return found

    def request(
        self,
        spi: int,
        direction: Direction = OUT,
        offload: Offload = Offload.CRYPTO,
        *,
        on: str | None = "nsim0",
        activate: bool = False,
        **how: object,
    ) -> InstallRequest:
        how = {"udp": False, "suite": AES_128, "handling": Handling(offload=offload, offload_device=on)} | how
        sa = self.pair.sa(0 if direction is OUT else 1, direction, spi, **how)  # type: ignore[arg-type]
        return InstallRequest(sa, keys(spi, sa.suite), activate=activate)

    async def install(self, *requests: InstallRequest) -> tuple[Carried, ...]:
        return await self.datapath.install(requests)

    async def refused(self, *requests: InstallRequest) -> DatapathRefusal:
        with pytest.raises(DatapathRefusal) as caught:
            await self.datapath.install(requests)
        assert not caught.value.in_doubt
        return caught.value

    def shown(self) -> dict[int, OffloadedSa]:
        """What the device has, by SPI."""
        return {sa.spi: sa for sa in self.device.ipsec().sas}

    def ways(self) -> dict[tuple[str, str, str], int]:
        """How many policies the device has from where to where."""
        return dict(Counter(way(policy) for policy in self.device.ipsec().policies))

    @contextmanager
    def crowded(self, room: int) -> Iterator[int]:
        """As many policies of another program's in the device as leave this much room. Gives their number."""
        index = self.space.call(socket.if_nametoindex, self.device.interface)
        offload = XfrmOffload(index, OffloadFlag.PACKET)
        foreign = [
            Policy(
                selector=Selector(ip_network(f"198.51.100.{n}"), ip_network(f"198.51.100.{n}")),
                direction=PolicyDirection.OUT,
                offload=offload,
            )
            for n in range(SAS - self.device.ipsec().policy_count - room)
        ]
        with self.space.call(XfrmSocket) as xfrm:
            assert not any(answer.error for answer in xfrm.batch([xfrm_requests.new_policy(one) for one in foreign]))
            yield len(foreign)
            xfrm.batch([xfrm_requests.delete_policy(PolicyId.of(one)) for one in foreign])

    async def how(self) -> dict[int, str]:
        """What the dump says, by SPI."""
        return {row.sa.spi: row.how for row in (await self.datapath.dump()).sas}

    def send(self, count: int = 1, *, port: int = 9) -> None:
        """Packets from inside, out of this machine."""
        with self.space.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((INNER[4][0], port))
            for _ in range(count):
                sock.sendto(bytes(100), (INNER[4][1], port))


def way(policy: OffloadedPolicy) -> tuple[str, str, str]:
    return policy.more["dir"], str(policy.source), str(policy.destination)


@pytest.fixture(scope="module")
def module(request: pytest.FixtureRequest) -> Iterator[Variant]:
    with loaded(request.param):
        yield request.param


def variants(*which: Variant) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("module", which, indirect=True, ids=str)


EITHER, PLAIN, LIFTED = variants(*Variant), variants(Variant.PLAIN), variants(Variant.LIFTED)


@asynccontextmanager
async def bench(options: KernelOptions | None = None) -> AsyncIterator[Bench]:
    with Lab() as lab:
        space = lab.namespace("gateway")
        with device(namespace=space.path) as one:
            configure(space, one)
            async with kernel_gateway(0, space, options) as gateway:
                yield Bench(Pair(lab, (gateway,)), one)
            assert left_behind(space) == ""
            if (found := one.found()) is not None:
                assert (found.count, found.policy_count) == (0, 0)


def configure(space: Namespace, one: Device) -> None:
    name = one.interface
    space.ip(
        f"address add {OUTER[4][0]}/24 dev {name}",
        f"address add {OUTER[6][0]}/64 dev {name} nodad",
        f"neighbour replace {OUTER[4][1]} dev {name} lladdr 02:00:00:00:00:02 nud permanent",
        f"address replace {INNER[4][0]}/32 dev lo",
        f"address replace {INNER[6][0]}/128 dev lo",
    )


@PLAIN
@pytest.mark.parametrize("direction", list(Direction), ids=str)
@pytest.mark.parametrize("outer", [4, 6])
def test_an_sa_with_crypto_offload_is_in_the_device_until_it_is_removed(
    module: Variant, direction: Direction, outer: int
) -> None:
    async def body() -> None:
        async with bench() as gateway:
            request = gateway.request(0x1001, direction, outer=outer)
            assert await gateway.install(request) == (Carried("crypto offload on nsim0"),)
            (sa,) = gateway.device.ipsec().sas
            material = bytes(keys(0x1001, AES_128).take()[0])
            assert (sa.inbound, sa.destination, sa.spi) == (direction is IN, request.sa.destination, 0x1001)
            assert (sa.key + sa.salt, sa.protocol) == (material, 50)
            assert await gateway.how() == {0x1001: "crypto offload on nsim0"}
            assert await gateway.datapath.remove([request.sa.key]) == (request.sa.key,)
            assert gateway.device.ipsec().count == 0 and await gateway.how() == {}

    run(body())


@PLAIN
def test_auto_takes_crypto_offload_where_packet_offload_is_refused_and_says_so(module: Variant) -> None:
    async def body() -> None:
        async with bench() as gateway:
            (carried,) = await gateway.install(gateway.request(0x1001, offload=Offload.AUTO))
            assert carried.how == "crypto offload on nsim0"
            (why,) = carried.why_not
            assert (why.datapath, why.reason) == ("kernel, packet offload", Reason.OFFLOAD_REFUSED)
            assert "netdevsim: Unsupported ipsec offload type" in why.detail
            assert "set offload to auto or none" in why.reason.remedy
            assert list(gateway.shown()) == [0x1001]

    run(body())


@PLAIN
def test_packet_offload_that_a_device_does_not_have_is_refused_with_the_drivers_words(module: Variant) -> None:
    async def body() -> None:
        async with bench() as gateway:
            refusal = await gateway.refused(gateway.request(0x1001, offload=Offload.PACKET))
            assert refusal.reason is Reason.OFFLOAD_REFUSED
            assert "netdevsim: Unsupported ipsec offload type" in refusal.detail
            assert await gateway.how() == {} and gateway.device.ipsec().count == 0

    run(body())


@EITHER
def test_without_offload_nothing_is_in_the_device(module: Variant) -> None:
    async def body() -> None:
        async with bench() as gateway:
            assert await gateway.install(gateway.request(0x1001, offload=Offload.NONE)) == (Carried(),)
            assert gateway.device.ipsec().count == 0 and await gateway.how() == {0x1001: ""}

    run(body())


@LIFTED
@pytest.mark.parametrize("ports", [(500, 4500), (1500, 14500)])
def test_packet_offload_has_sas_policies_and_ikes_way_past_them_in_the_device(
    module: Variant, ports: tuple[int, int]
) -> None:
    async def body() -> None:
        async with bench(KernelOptions(ike_ports=ports)) as gateway:
            datapath = gateway.datapath
            await datapath.install_policies([gateway.pair.policy(0)])
            came = gateway.request(0x1001, IN, Offload.PACKET)
            sent = gateway.request(0x1002, OUT, Offload.PACKET, activate=True)
            assert await gateway.install(came, sent) == (Carried("packet offload on nsim0"),) * 2
            assert await gateway.how() == dict.fromkeys((0x1001, 0x1002), "packet offload on nsim0")
            for spi, direction in ((0x1001, "in"), (0x1002, "out")):
                more = gateway.shown()[spi].more
                assert (more["offload"], more["dir"], more["mode"]) == ("packet", direction, "1")
            reqid = gateway.shown()[0x1001].more["reqid"]
            policies = {way(policy): policy for policy in gateway.device.ipsec().policies}
            bypass = {("out", f"{HERE}/32", "0.0.0.0/0"): 2, ("in", "0.0.0.0/0", f"{HERE}/32"): 2}
            net = [("out", NETS[v][0], NETS[v][1]) for v in (4, 6)] + [("in", NETS[v][1], NETS[v][0]) for v in (4, 6)]
            assert gateway.ways() == bypass | dict.fromkeys(net, 1)
            for key, policy in policies.items():
                assert (policy.more["offload"], policy.more["action"]) == ("packet", "allow")
                assert policy.more["reqid"] == (reqid if key in net else "0")
            for port in ports:
                assert f"src {HERE}/32 dst 0.0.0.0/0 proto udp sport {port}" in left_behind(gateway.space)
                assert f"src 0.0.0.0/0 dst {HERE}/32 proto udp dport {port}" in left_behind(gateway.space)
            # The first is gone, the second goes.
            await datapath.remove([came.sa.key])
            assert gateway.ways() == bypass | dict.fromkeys(net[:2], 1)
            await datapath.remove([sent.sa.key])
            assert (gateway.device.ipsec().count, gateway.device.ipsec().policy_count) == (0, 0)
            await gateway.install(came_again := gateway.request(0x1003, IN, Offload.PACKET))
            assert came_again.sa.spi in gateway.shown()
        # Closing leaves nothing: see bench.

    run(body())


@LIFTED
def test_what_packet_offload_has_put_is_as_it_should_be(module: Variant) -> None:
    """The kernel shows another flag than it takes: an audit is not to see a change in that."""

    async def body() -> None:
        async with bench() as gateway:
            await gateway.datapath.install_policies([gateway.pair.policy(0)])
            await gateway.install(
                gateway.request(0x1001, IN, Offload.PACKET),
                gateway.request(0x1002, OUT, Offload.PACKET, activate=True),
            )
            before = gateway.device.text()
            await gateway.datapath.audit()
            assert "changed_from_outside" not in await gateway.datapath.counters()
            assert gateway.device.text() == before

    run(body())


@LIFTED
def test_auto_takes_crypto_offload_where_the_device_refuses_the_policies(module: Variant) -> None:
    async def body() -> None:
        async with bench() as gateway:
            await gateway.datapath.install_policies([gateway.pair.policy(0)])
            with gateway.crowded(5) as foreign:
                requests = [
                    gateway.request(0x1001, IN, Offload.AUTO),
                    gateway.request(0x1002, OUT, Offload.AUTO, activate=True),
                ]
                for carried in await gateway.install(*requests):
                    assert carried.how == "crypto offload on nsim0"
                    (why,) = carried.why_not
                    assert (why.datapath, why.reason) == ("kernel, packet offload", Reason.OFFLOAD_REFUSED)
                    assert "netdevsim: No space for policy" in why.detail
                assert gateway.device.ipsec().policy_count == foreign
                assert {sa.more["offload"] for sa in gateway.shown().values()} == {"crypto"}
                gateway.send(2)
                assert gateway.shown()[0x1002].more["packets"] == "2"
                await gateway.datapath.audit()
                assert "changed_from_outside" not in await gateway.datapath.counters()

    run(body())


@LIFTED
def test_packet_offload_is_refused_as_a_whole_where_the_device_refuses_the_policies(module: Variant) -> None:
    async def body() -> None:
        async with bench() as gateway:
            await gateway.datapath.install_policies([gateway.pair.policy(0)])
            with gateway.crowded(5) as foreign:
                refusal = await gateway.refused(
                    gateway.request(0x1001, IN, Offload.PACKET),
                    gateway.request(0x1002, OUT, Offload.PACKET, activate=True),
                )
                assert refusal.reason is Reason.OFFLOAD_REFUSED and "netdevsim: No space for policy" in refusal.detail
                shown = gateway.device.ipsec()
                assert (shown.count, shown.policy_count) == (0, foreign)
                assert await gateway.how() == {}

    run(body())


@LIFTED
@pytest.mark.parametrize("later", [False, True], ids=["at once", "later"])
def test_the_old_sa_goes_on_where_the_device_refuses_its_successors_policies(module: Variant, later: bool) -> None:
    """The kernel gives a device a policy's successor before it takes that away: it needs room for one more."""

    async def body() -> None:
        async with bench() as gateway:
            datapath = gateway.datapath
            await datapath.install_policies([gateway.pair.policy(0)])
            await gateway.install(gateway.request(0x1002, OUT, Offload.PACKET, activate=True))
            with gateway.crowded(0):
                new = gateway.request(0x2002, OUT, Offload.PACKET, activate=not later)
                if later:
                    await gateway.install(new)
                    with pytest.raises(DatapathRefusal) as caught:
                        await datapath.activate_outbound(new.sa.key)
                    refusal = caught.value
                else:
                    refusal = await gateway.refused(new)
                assert refusal.reason is Reason.OFFLOAD_REFUSED and not refusal.in_doubt
                gateway.send(2)
                await datapath.audit()
                gateway.send(1)
                assert gateway.shown()[0x1002].more["packets"] == "3"
                assert {row.sa.spi: row.active for row in (await datapath.dump()).sas}[0x1002]
            if later:
                await datapath.activate_outbound(new.sa.key)
            else:
                await gateway.install(new := gateway.request(0x2002, OUT, Offload.PACKET, activate=True))
            gateway.send(1)
            assert {spi: sa.more["packets"] for spi, sa in gateway.shown().items()} == {0x1002: "3", 0x2002: "1"}

    run(body())


@LIFTED
def test_keys_that_something_left_by_are_not_used_once_more(module: Variant) -> None:
    """The device takes the policy for IPv4 and refuses the one for IPv6; meanwhile a packet leaves."""

    async def body() -> None:
        async with bench() as gateway:
            await gateway.datapath.install_policies([gateway.pair.policy(0)])
            requester = gateway.datapath._requester
            assert requester is not None
            batch = requester.batch

            async def busy(requests: Sequence[bytearray]) -> list[Answer]:
                answers = await batch(requests)
                if any(answer.error for answer in answers):
                    gateway.send(1)
                return answers

            requester.batch = busy  # type: ignore[method-assign]
            with gateway.crowded(5) as foreign:
                with pytest.raises(DatapathRefusal) as caught:
                    await gateway.install(gateway.request(0x1002, OUT, Offload.AUTO, activate=True))
                assert caught.value.reason is Reason.OFFLOAD_REFUSED and caught.value.in_doubt
                shown = gateway.device.ipsec()
                assert (shown.count, shown.policy_count, shown.transmitted) == (0, foreign, 1)
                assert await gateway.how() == {}

    run(body())
