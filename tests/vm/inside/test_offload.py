"""The kernel datapath's offload to netdevsim: what reaches the device, which device that is, and what if it goes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from appliance.reasons import Reason
from appliance.sa.algorithms import Encryption, Suite
from appliance.sa.association import Direction, Mode, Offload, UdpEncapsulation
from appliance.sa.datapath import Carried, Vanished, WhyNot
from tests.datapath.kernel.gateways import left_behind
from tests.datapath.pair import keys
from tests.vm.inside.netdevsim import SAS, Variant, make, remove
from tests.vm.inside.offload import AES_128, IN, LIFTED, OUT, PLAIN, OffloadGateway, attach, on

MOST = {PLAIN: Offload.CRYPTO, LIFTED: Offload.PACKET}
"""What each variant can do at most."""


@on(PLAIN)
@pytest.mark.parametrize("direction", list(Direction), ids=str)
@pytest.mark.parametrize("outer", [4, 6])
async def test_an_sa_with_crypto_offload_is_in_the_device_until_it_is_removed(
    gateway: OffloadGateway, direction: Direction, outer: int
) -> None:
    request = gateway.request(0x1001, direction, outer=outer)
    assert await gateway.install(request) == (Carried("crypto offload on nsim0"),)
    (sa,) = gateway.device.ipsec().sas
    material = bytes(keys(0x1001, AES_128).take()[0])
    assert (sa.inbound, sa.destination, sa.spi) == (direction is IN, request.sa.destination, 0x1001)
    assert (sa.key + sa.salt, sa.protocol) == (material, 50)
    assert await gateway.how() == {0x1001: "crypto offload on nsim0"}
    assert await gateway.remove(request) == (request.sa.key,)
    assert gateway.device.ipsec().count == 0 and await gateway.how() == {}


@on(PLAIN, LIFTED)
async def test_without_offload_nothing_is_in_the_device(gateway: OffloadGateway) -> None:
    assert await gateway.install(gateway.request(0x1001, offload=Offload.NONE)) == (Carried(),)
    assert gateway.device.ipsec().count == 0 and await gateway.how() == {0x1001: ""}


@on(LIFTED)
@pytest.mark.parametrize("offload", [Offload.CRYPTO, Offload.PACKET], ids=str)
async def test_esn_windows_encapsulation_and_modes_reach_a_device_that_does_them(
    gateway: OffloadGateway, offload: Offload
) -> None:
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


@on(PLAIN)
async def test_packets_by_an_sa_with_crypto_offload_are_the_devices(gateway: OffloadGateway) -> None:
    await gateway.protect()
    await gateway.install(crypto := gateway.request(0x1002, activate=True))
    gateway.send(3)
    assert gateway.device.ipsec().transmitted == 3
    await gateway.install(software := gateway.request(0x1003, offload=Offload.NONE, activate=True))
    gateway.send(2)
    assert gateway.device.ipsec().transmitted == 3
    assert [usage.packets for usage in await gateway.usage(crypto, software)] == [3, 2]


@on(LIFTED)
async def test_ports_follow_a_nat_where_the_kernel_makes_the_headers(gateway: OffloadGateway) -> None:
    await gateway.install(*[gateway.request(0x1000 + number, udp=True) for number in range(SAS)])
    sa = gateway.request(0x1000, udp=True).sa
    moved = UdpEncapsulation(4500, 4600)
    assert await gateway.datapath.update_endpoints(sa.key, sa.source, sa.destination, moved) == sa.key
    assert left_behind(gateway.space).count("dport 4600") == 1
    assert len(gateway.shown()) == left_behind(gateway.space).count("dir out mode crypto") == SAS


@on(PLAIN)
async def test_the_device_that_leads_to_the_peer_is_found_and_may_be_renamed(gateway: OffloadGateway) -> None:
    await gateway.protect()
    for spi, outer in ((0x1001, 4), (0x1002, 6)):
        for direction in Direction:
            request = gateway.request(spi + 0x100 * (direction is OUT), direction, device=None, outer=outer)
            (carried,) = await gateway.install(request)
            assert carried.how == "crypto offload on nsim0"
    gateway.space.ip("link set dev nsim0 name uplink")
    (carried,) = await gateway.install(sent := gateway.request(0x1003, device=None, activate=True))
    assert carried.how == "crypto offload on uplink"
    refusal = await gateway.refused(gateway.request(0x1004))
    assert (refusal.reason, refusal.detail) == (Reason.NO_OFFLOAD_DEVICE, "there is no interface nsim0")
    await gateway.datapath.audit()
    gateway.send(2)
    assert [usage.packets for usage in await gateway.usage(sent)] == [2]
    assert gateway.device.ipsec().count == 5 and gateway.device.ipsec().transmitted == 2


@on(PLAIN, LIFTED)
async def test_sas_vanish_with_a_device_that_is_pulled_out_and_the_next_ones_are_as_is_asked(
    gateway: OffloadGateway, netdevsim: Variant
) -> None:
    offload = MOST[netdevsim]
    await lose_a_child(gateway, offload, lambda: remove(gateway.device.number))
    refusal = await gateway.refused(gateway.request(0x2001, offload=offload))
    assert refusal.reason is Reason.NO_OFFLOAD_DEVICE
    (carried,) = await gateway.install(auto := gateway.request(0x2001, offload=Offload.AUTO))
    assert carried == Carried("", (WhyNot("kernel, offload", Reason.NO_OFFLOAD_DEVICE, refusal.detail),))
    await gateway.remove(auto)
    # It is back, as another device of this name.
    attach(gateway.space, make(gateway.device.number, namespace=gateway.space.path))
    await assert_takes_a_child(gateway, offload)


@on(PLAIN, LIFTED)
async def test_sas_vanish_with_a_device_that_is_set_down_and_the_next_ones_are_as_is_asked(
    gateway: OffloadGateway, netdevsim: Variant
) -> None:
    offload = MOST[netdevsim]
    await lose_a_child(gateway, offload, lambda: gateway.space.ip("link set dev nsim0 down"))
    gateway.space.ip("link set dev nsim0 up")
    await assert_takes_a_child(gateway, offload)


async def lose_a_child(gateway: OffloadGateway, offload: Offload, lose: Callable[[], None]) -> None:
    """``lose`` the device of a child's SAs: they are told to have vanished, and another in software stays."""
    await gateway.protect()
    lost = gateway.child(0x1001, offload)
    await gateway.install(*lost, stays := gateway.request(0x1003, offload=Offload.NONE, reqid=2))
    lose()
    await gateway.datapath.audit()
    gone = {await gateway.heard(Vanished) for _ in lost}
    words = "it was removed from outside, or with its network device"
    assert gone == {Vanished(request.sa.key, words) for request in lost}
    assert "offload" not in left_behind(gateway.space)
    assert "not put right" not in await gateway.told()
    await gateway.remove(*lost)
    assert await gateway.how() == {stays.sa.spi: ""}


async def assert_takes_a_child(gateway: OffloadGateway, offload: Offload) -> None:
    assert await gateway.install(*gateway.child(0x3001, offload)) == (Carried(f"{offload.value} offload on nsim0"),) * 2
    assert sorted(gateway.shown()) == [0x3001, 0x3002]
