"""The kernel datapath's offload to netdevsim: what reaches the device, what is said of it, and what is refused."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
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
from appliance.sa.algorithms import Encryption, Integrity, Suite
from appliance.sa.association import Direction, Handling, Lifetime, Limits, Mode, Offload, UdpEncapsulation
from appliance.sa.datapath import Carried, Changed, DatapathRefusal, Expired, InstallRequest, Vanished, WhyNot
from tests.datapath.contract import heard, run
from tests.datapath.kernel.gateways import kernel_gateway, kill, left_behind
from tests.datapath.pair import INNER, NETS, OUTER, Pair, inside, keys, two_hosts
from tests.lab.lab import Lab
from tests.lab.namespace import Namespace
from tests.vm.inside.netdevsim import SAS, Device, OffloadedPolicy, OffloadedSa, Variant, device, loaded, make, remove

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

    def carried(self) -> dict[int, int]:
        """Packets by each SA, as the lifted variant counts them."""
        return {spi: int(sa.more["packets"]) for spi, sa in self.shown().items()}

    async def told(self) -> str:
        """What the datapath told of since it was last asked, of what it put right or could not."""
        await asyncio.sleep(0.3)
        events = self.datapath._core.events
        found = [events.get_nowait() for _ in range(events.qsize())]
        return "; ".join(event.words for event in found if isinstance(event, Changed))

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


@contextmanager
def old_hardware(space: Namespace) -> Iterator[str]:
    """A device without a kind, as hardware is, whose driver knows nothing of IPsec."""
    subprocess.run(["modprobe", "eql"], check=True)
    try:
        subprocess.run(["ip", "link", "set", "dev", "eql", "netns", space.path], check=True)
        space.ip("link set dev eql up")
        yield "eql"
    finally:
        subprocess.run(["rmmod", "eql"], check=True)


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
            requester = gateway.datapath._core.requester
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


@LIFTED
def test_a_rekey_in_packet_mode_makes_before_it_breaks(module: Variant) -> None:
    async def body() -> None:
        async with bench() as gateway:
            datapath = gateway.datapath
            await datapath.install_policies([gateway.pair.policy(0)])
            old = [
                gateway.request(0x1001, IN, Offload.PACKET),
                gateway.request(0x1002, OUT, Offload.PACKET, activate=True),
            ]
            new = [gateway.request(0x2001, IN, Offload.PACKET), gateway.request(0x2002, OUT, Offload.PACKET)]
            await gateway.install(*old)
            gateway.send(2)
            policies = gateway.ways()
            await gateway.install(*new)
            gateway.send(2)
            assert gateway.carried() == {0x1001: 0, 0x1002: 4, 0x2001: 0, 0x2002: 0}
            await datapath.activate_outbound(new[1].sa.key)
            gateway.send(3)
            assert gateway.carried() == {0x1001: 0, 0x1002: 4, 0x2001: 0, 0x2002: 3}
            await datapath.remove([request.sa.key for request in old])
            gateway.send(1)
            assert gateway.carried() == {0x2001: 0, 0x2002: 4}
            assert gateway.ways() == policies
            assert len({sa.more["reqid"] for sa in gateway.shown().values()}) == 1
            usage = (await datapath.usage([new[1].sa.key]))[new[1].sa.key]
            assert (usage.packets, usage.bytes) == (4, int(gateway.shown()[0x2002].more["bytes"]))

    run(body())


@LIFTED
def test_ike_of_those_inside_is_protected_where_ours_passes(module: Variant) -> None:
    async def body() -> None:
        async with bench() as gateway:
            await gateway.datapath.install_policies([gateway.pair.policy(0)])
            await gateway.install(gateway.request(0x1002, OUT, Offload.PACKET, activate=True))
            for count, port in enumerate((500, 4500), 1):
                gateway.send(port=port)
                assert gateway.carried() == {0x1002: count}

    run(body())


@LIFTED
def test_a_successor_in_software_takes_the_policies_out_of_the_device(module: Variant) -> None:
    async def body() -> None:
        async with bench() as gateway:
            datapath = gateway.datapath
            await datapath.install_policies([gateway.pair.policy(0)])
            old = [
                gateway.request(0x1001, IN, Offload.PACKET),
                gateway.request(0x1002, OUT, Offload.PACKET, activate=True),
            ]
            new = [
                gateway.request(0x2001, IN, Offload.NONE),
                gateway.request(0x2002, OUT, Offload.NONE, activate=True),
            ]
            await gateway.install(*old)
            await gateway.install(*new)
            await datapath.remove([request.sa.key for request in old])
            gateway.send(2)
            shown = gateway.device.ipsec()
            assert (shown.count, shown.policy_count) == (0, 0)
            assert (await datapath.usage([new[1].sa.key]))[new[1].sa.key].packets == 2

    run(body())


NO_KEY = "netdevsim: Failed to get key data for SA table"
CBC = Suite(Encryption.AES_CBC, 256, Integrity.HMAC_SHA2_256_128)
CHACHA = Suite(Encryption.CHACHA20_POLY1305, 256)


@PLAIN
@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"suite": CBC}, NO_KEY),
        ({"suite": CHACHA}, NO_KEY),
        ({"suite": replace(AES_128, esn=True)}, "Device doesn't support offload with ESN"),
        ({"tfc_padding": 1400}, "TFC padding can't be offloaded"),
    ],
    ids=["cbc", "chacha20", "esn", "tfc"],
)
def test_an_sa_that_the_device_cannot_do_is_refused_or_done_in_software_with_its_words(
    module: Variant, how: dict[str, object], words: str
) -> None:
    async def body() -> None:
        async with bench() as gateway:
            refusal = await gateway.refused(gateway.request(0x1001, OUT, Offload.CRYPTO, **how))
            assert refusal.reason is Reason.OFFLOAD_REFUSED and words in refusal.detail
            assert "auto or none" in refusal.remedy
            (carried,) = await gateway.install(gateway.request(0x1001, OUT, Offload.AUTO, **how))
            assert carried.how == ""
            assert [why.datapath for why in carried.why_not] == ["kernel, packet offload", "kernel, crypto offload"]
            assert {why.reason for why in carried.why_not} == {Reason.OFFLOAD_REFUSED}
            assert words in carried.why_not[1].detail
            assert gateway.device.ipsec().count == 0 and await gateway.how() == {0x1001: ""}

    run(body())


@LIFTED
@pytest.mark.parametrize("offload", [Offload.CRYPTO, Offload.PACKET], ids=str)
def test_esn_windows_encapsulation_and_modes_reach_a_device_that_does_them(module: Variant, offload: Offload) -> None:
    async def body() -> None:
        async with bench() as gateway:
            suite = Suite(Encryption.AES_GCM_16, 256, esn=True)
            for spi, window in enumerate((32, 256, 4096), 0x1001):
                await gateway.install(gateway.request(spi, IN, offload, suite=suite, replay_window=window))
                sa = gateway.shown()[spi]
                assert (sa.more["esn"], sa.more["window"], len(sa.key)) == ("1", str(window), 32)
            for spi, mode in enumerate(Mode, 0x2001):
                (carried,) = await gateway.install(gateway.request(spi, OUT, offload, udp=True, mode=mode))
                more = gateway.shown()[spi].more
                assert (more["encap"], more["mode"]) == ("1", "1" if mode is Mode.TUNNEL else "0")
                assert carried.how == f"{offload.value} offload on nsim0"

    run(body())


def test_what_is_no_hardware_or_not_there_is_no_device_for_offload() -> None:
    async def body() -> None:
        with Lab() as lab:
            spaces = two_hosts(lab)
            spaces[0].ip("link add dummy7 type dummy")
            async with kernel_gateway(0, spaces[0]) as end:
                gateway = Bench(Pair(lab, (end,)), Device(0, "none"))
                for name, words in (
                    ("wan", "wan is one end of a pair, and no hardware"),
                    ("dummy7", "dummy7 is of kind dummy"),
                    ("lo", "lo is the loopback"),
                    ("nothing0", "there is no interface nothing0"),
                    (None, f"where packets to {THERE} leave: wan is one end of a pair, and no hardware"),
                ):
                    for offload in (Offload.CRYPTO, Offload.PACKET):
                        refusal = await gateway.refused(gateway.request(0x1001, OUT, offload, on=name))
                        assert (refusal.reason, refusal.detail) == (Reason.NO_OFFLOAD_DEVICE, words)
                        assert "offload_device" in refusal.remedy
                    request = gateway.request(0x1001, OUT, Offload.AUTO, on=name)
                    assert await gateway.install(request) == (
                        Carried("", (WhyNot("kernel, offload", Reason.NO_OFFLOAD_DEVICE, words),)),
                    )
                    await gateway.datapath.remove([request.sa.key])

    run(body())


def test_a_driver_without_offload_says_nothing_and_only_what_is_read_back_tells() -> None:
    """An old driver that looks like hardware: the kernel does crypto offload on it in software, and says it is done."""

    async def body() -> None:
        with Lab() as lab:
            spaces = two_hosts(lab)
            with old_hardware(spaces[0]) as name:
                async with kernel_gateway(0, spaces[0]) as end:
                    gateway = Bench(Pair(lab, (end,)), Device(0, name))
                    refusal = await gateway.refused(gateway.request(0x1001, OUT, Offload.CRYPTO, on=name))
                    assert (refusal.reason, refusal.detail) == (
                        Reason.OFFLOAD_NOT_DONE,
                        f"crypto offload on {name} was asked for",
                    )
                    refusal = await gateway.refused(gateway.request(0x1001, OUT, Offload.PACKET, on=name))
                    assert refusal.reason is Reason.OFFLOAD_UNSUPPORTED and name in refusal.detail
                    assert left_behind(gateway.space).count("spi") == 0
                    (carried,) = await gateway.install(gateway.request(0x1001, OUT, Offload.AUTO, on=name))
                    assert carried.how == "" and await gateway.how() == {0x1001: ""}
                    assert [(why.datapath, why.reason) for why in carried.why_not] == [
                        ("kernel, packet offload", Reason.OFFLOAD_UNSUPPORTED),
                        ("kernel, crypto offload", Reason.OFFLOAD_NOT_DONE),
                    ]

    run(body())


@EITHER
def test_one_sa_more_than_the_device_has_room_for(module: Variant) -> None:
    async def body() -> None:
        async with bench() as gateway:
            first = [gateway.request(0x1000 + number) for number in range(SAS)]
            await gateway.install(*first)
            refusal = await gateway.refused(gateway.request(0x2001))
            assert refusal.reason is Reason.TABLE_FULL and "offload" in refusal.remedy
            assert "netdevsim: No space for SA in Rx table!" in refusal.detail
            (carried,) = await gateway.install(auto := gateway.request(0x2002, offload=Offload.AUTO))
            assert carried.how == "" and carried.why_not[-1].reason is Reason.TABLE_FULL
            assert "netdevsim: No space for SA in Rx table!" in carried.why_not[-1].detail
            assert gateway.device.ipsec().count == SAS
            await gateway.datapath.remove([auto.sa.key, first[7].sa.key])
            for offload in (Offload.CRYPTO, Offload.AUTO):
                (carried,) = await gateway.install(again := gateway.request(0x2003, offload=offload))
                assert "offload on nsim0" in carried.how and gateway.device.ipsec().count == SAS
                await gateway.datapath.remove([again.sa.key])

    run(body())


@PLAIN
def test_two_children_in_a_batch_are_installed_both_or_none(module: Variant) -> None:
    async def body() -> None:
        async with bench() as gateway:
            await gateway.datapath.install_policies([gateway.pair.policy(0)])
            refusal = await gateway.refused(
                gateway.request(0x1001, IN),
                gateway.request(0x1002, OUT, activate=True),
                gateway.request(0x2001, IN, suite=CBC, reqid=2),
                gateway.request(0x2002, OUT, reqid=2),
            )
            assert refusal.reason is Reason.OFFLOAD_REFUSED and NO_KEY in refusal.detail
            assert gateway.device.ipsec().count == 0 and await gateway.how() == {}
            assert "spi" not in left_behind(gateway.space)

    run(body())


@PLAIN
def test_the_device_that_leads_to_the_peer_is_found_and_may_be_renamed(module: Variant) -> None:
    async def body() -> None:
        async with bench() as gateway:
            await gateway.datapath.install_policies([gateway.pair.policy(0)])
            for spi, outer in ((0x1001, 4), (0x1002, 6)):
                for direction in Direction:
                    (carried,) = await gateway.install(
                        gateway.request(spi + 0x100 * (direction is OUT), direction, on=None, outer=outer)
                    )
                    assert carried.how == "crypto offload on nsim0"
            gateway.space.ip("link set dev nsim0 name uplink")
            (carried,) = await gateway.install(sent := gateway.request(0x1003, on=None, activate=True))
            assert carried.how == "crypto offload on uplink"
            refusal = await gateway.refused(gateway.request(0x1004))
            assert (refusal.reason, refusal.detail) == (Reason.NO_OFFLOAD_DEVICE, "there is no interface nsim0")
            await gateway.datapath.audit()
            gateway.send(2)
            assert (await gateway.datapath.usage([sent.sa.key]))[sent.sa.key].packets == 2
            assert gateway.device.ipsec().count == 5 and gateway.device.ipsec().transmitted == 2

    run(body())


@EITHER
@pytest.mark.parametrize("pulled", [True, False], ids=["pulled out", "set down"])
def test_sas_vanish_with_their_device_and_the_next_ones_are_as_is_asked(module: Variant, pulled: bool) -> None:
    offload = Offload.CRYPTO if module is Variant.PLAIN else Offload.PACKET

    async def body() -> None:
        async with bench() as gateway:
            datapath, space = gateway.datapath, gateway.space
            await datapath.install_policies([gateway.pair.policy(0)])
            lost = gateway.request(0x1001, IN, offload), gateway.request(0x1002, OUT, offload, activate=True)
            await gateway.install(*lost, stays := gateway.request(0x1003, offload=Offload.NONE, reqid=2))
            if pulled:
                remove(gateway.device.number)
            else:
                space.ip("link set dev nsim0 down")
            await datapath.audit()
            gone = {await heard(gateway.pair, 0, Vanished) for _ in lost}
            words = "it was removed from outside, or with its network device"
            assert gone == {Vanished(request.sa.key, words) for request in lost}
            assert "offload" not in left_behind(space)
            assert "not put right" not in await gateway.told()
            await datapath.remove([request.sa.key for request in lost])
            assert await gateway.how() == {stays.sa.spi: ""}
            if pulled:
                refusal = await gateway.refused(gateway.request(0x2001, offload=offload))
                assert refusal.reason is Reason.NO_OFFLOAD_DEVICE
                auto = gateway.request(0x2001, offload=Offload.AUTO)
                assert await gateway.install(auto) == (
                    Carried("", (WhyNot("kernel, offload", Reason.NO_OFFLOAD_DEVICE, refusal.detail),)),
                )
                await datapath.remove([auto.sa.key])
                # It is back, as another device of this name.
                configure(space, make(gateway.device.number, namespace=space.path))
            else:
                space.ip("link set dev nsim0 up")
            again = gateway.request(0x3001, IN, offload), gateway.request(0x3002, OUT, offload, activate=True)
            assert await gateway.install(*again) == (Carried(f"{offload.value} offload on nsim0"),) * 2
            assert sorted(gateway.shown()) == [0x3001, 0x3002]

    run(body())


@PLAIN
def test_packets_by_an_sa_with_crypto_offload_are_the_devices(module: Variant) -> None:
    async def body() -> None:
        async with bench() as gateway:
            await gateway.datapath.install_policies([gateway.pair.policy(0)])
            await gateway.install(crypto := gateway.request(0x1002, activate=True))
            gateway.send(3)
            assert gateway.device.ipsec().transmitted == 3
            await gateway.install(software := gateway.request(0x1003, offload=Offload.NONE, activate=True))
            gateway.send(2)
            assert gateway.device.ipsec().transmitted == 3
            usage = await gateway.datapath.usage([crypto.sa.key, software.sa.key])
            assert [usage[request.sa.key].packets for request in (crypto, software)] == [3, 2]

    run(body())


@LIFTED
@pytest.mark.parametrize("offload", [Offload.CRYPTO, Offload.PACKET], ids=str)
def test_ports_follow_a_nat_where_the_kernel_makes_the_headers(module: Variant, offload: Offload) -> None:
    async def body() -> None:
        async with bench() as gateway:
            datapath, moved = gateway.datapath, UdpEncapsulation(4500, 4600)
            await gateway.install(
                *[gateway.request(0x1000 + number, offload=offload, udp=True) for number in range(SAS)]
            )
            sa = gateway.request(0x1000, udp=True).sa
            if offload is Offload.PACKET:
                with pytest.raises(DatapathRefusal) as caught:
                    await datapath.update_endpoints(sa.key, sa.source, sa.destination, moved)
                assert caught.value.reason is Reason.MOVE_UNSUPPORTED and "nsim0" in caught.value.detail
                assert await datapath.update_endpoints(sa.key, sa.source, sa.destination, sa.encapsulation) == sa.key
            else:
                assert await datapath.update_endpoints(sa.key, sa.source, sa.destination, moved) == sa.key
                assert left_behind(gateway.space).count("dport 4600") == 1
            assert (
                len(gateway.shown()) == SAS and left_behind(gateway.space).count(f"dir out mode {offload.value}") == SAS
            )

    run(body())


@LIFTED
def test_a_window_that_the_device_keeps_is_not_exported(module: Variant) -> None:
    async def body() -> None:
        async with bench() as gateway:
            crypto, packet = gateway.request(0x1001, IN), gateway.request(0x1002, IN, Offload.PACKET)
            await gateway.install(crypto, packet)
            assert (await gateway.datapath.export_inbound(crypto.sa.key)).highest == 0
            with pytest.raises(DatapathRefusal) as caught:
                await gateway.datapath.export_inbound(packet.sa.key)
            assert caught.value.reason is Reason.MOVE_UNSUPPORTED
            assert list(gateway.shown()) == [0x1002]

    run(body())


@LIFTED
def test_each_device_lets_ike_of_its_own_addresses_pass(module: Variant) -> None:
    async def body() -> None:
        async with bench() as gateway:
            await gateway.datapath.install_policies([])
            with device(1, namespace=gateway.space.path) as other:
                first = gateway.request(0x1001, OUT, Offload.PACKET)
                second = gateway.request(0x1002, OUT, Offload.PACKET, on=other.interface, outer=6)
                await gateway.install(first, second)
                assert {way(policy) for policy in other.ipsec().policies} == {
                    ("out", f"{OUTER[6][0]}/128", "::/0"),
                    ("in", "::/0", f"{OUTER[6][0]}/128"),
                }
                both = gateway.device.ipsec().policy_count, other.ipsec().policy_count
                assert both == (4, 4)
                await gateway.datapath.remove([first.sa.key])
                assert (gateway.device.ipsec().policy_count, other.ipsec().policy_count) == (0, 4)
                await gateway.datapath.remove([second.sa.key])
                assert other.ipsec().policy_count == 0

    run(body())


@LIFTED
def test_an_sa_that_the_device_ends_takes_its_policies_along(module: Variant) -> None:
    async def body() -> None:
        async with bench() as gateway:
            datapath = gateway.datapath
            await datapath.install_policies([gateway.pair.policy(0)])
            lifetime = Lifetime(Limits(packets=2), Limits(packets=4))
            await gateway.install(gateway.request(0x1002, OUT, Offload.PACKET, activate=True, lifetime=lifetime))
            gateway.send(4)
            told = [await heard(gateway.pair, 0, Expired) for _ in range(2)]
            assert [event.hard for event in told if isinstance(event, Expired)] == [False, True]
            assert await gateway.told() == ""
            shown = gateway.device.ipsec()
            assert (shown.count, shown.policy_count, shown.transmitted) == (0, 0, 4)

    run(body())


@LIFTED
def test_what_a_killed_daemon_left_in_a_device_stays_as_it_is_until_it_is_replaced(module: Variant) -> None:
    async def body() -> None:
        async with bench() as gateway:
            policy = gateway.pair.policy(0)
            await gateway.datapath.install_policies([policy])
            requests = [
                gateway.request(0x1001, IN, Offload.PACKET),
                gateway.request(0x1002, OUT, Offload.PACKET, activate=True),
            ]
            await gateway.install(*requests)
            before = gateway.device.text()
            kill(gateway.datapath)
            again = KernelDatapath(KernelOptions(survivors=30.0))
            with inside(gateway.space), gateway.crowded(0):
                await again.start()
                await again.install_policies([policy])
                await again.audit()
            try:
                assert gateway.device.text() == before
                gateway.send(2)
                assert gateway.carried() == {0x1001: 0, 0x1002: 2}
                await again.install(
                    [
                        gateway.request(0x2001, IN, Offload.PACKET),
                        gateway.request(0x2002, OUT, Offload.PACKET, activate=True),
                    ]
                )
                gateway.send(1)
                assert gateway.carried() == {0x1001: 0, 0x1002: 2, 0x2001: 0, 0x2002: 1}
                await asyncio.sleep(5.5)
                assert gateway.carried() == {0x2001: 0, 0x2002: 1}
                assert gateway.device.ipsec().policy_count == 8
            finally:
                await again.close()

    run(body())


@LIFTED
def test_a_policy_that_another_program_took_out_of_the_device_is_put_back_when_there_is_room(module: Variant) -> None:
    async def body() -> None:
        async with bench() as gateway:
            datapath = gateway.datapath
            await datapath.install_policies([gateway.pair.policy(0)])
            await gateway.install(gateway.request(0x1002, OUT, Offload.PACKET, activate=True))
            whole = gateway.ways()
            gateway.space.ip(f"xfrm policy delete src {NETS[4][0]} dst {NETS[4][1]} dir out")
            with gateway.crowded(0):
                # Said once, not with each look.
                assert (await gateway.told()).count("not put right") == 1
            await datapath.audit()
            assert gateway.ways() == whole
            gateway.send(1)
            assert gateway.carried() == {0x1002: 1}

    run(body())
