"""Packet offload to netdevsim: policies, and IKE's way past them, are in the device as long as the SAs they are for."""

from __future__ import annotations

import asyncio

import pytest

from appliance.datapath.kernel.datapath import KernelDatapath
from appliance.datapath.kernel.options import KernelOptions
from appliance.reasons import Reason
from appliance.sa.association import Lifetime, Limits, Offload, UdpEncapsulation
from appliance.sa.datapath import Carried, Expired
from tests.datapath.contract import run
from tests.datapath.kernel.gateways import kill, left_behind
from tests.datapath.pair import NETS, OUTER, inside
from tests.vm.inside.netdevsim import SAS, Variant, device
from tests.vm.inside.offload import HERE, IN, LIFTED, OUT, OffloadGateway, on, on_netdevsim, refused, variants, ways

IKE = {("out", f"{HERE}/32", "0.0.0.0/0"): 2, ("in", "0.0.0.0/0", f"{HERE}/32"): 2}
"""The policies of IKE's way past the SAs, for each of our two ports, as ``ways`` counts them."""
NETS_OUT = {("out", ours, theirs): 1 for ours, theirs in NETS.values()}
NETS_IN = {("in", theirs, ours): 1 for ours, theirs in NETS.values()}
"""The policies of the protected networks."""


@variants(LIFTED)
@pytest.mark.parametrize("ports", [(500, 4500), (1500, 14500)])
def test_packet_offload_has_sas_policies_and_ikes_way_past_them_in_the_device(
    netdevsim: Variant, ports: tuple[int, int]
) -> None:
    async def body() -> None:
        async with on_netdevsim(KernelOptions(ike_ports=ports)) as gateway:
            await gateway.protect()
            came, sent = gateway.child(0x1001, Offload.PACKET)
            assert await gateway.install(came, sent) == (Carried("packet offload on nsim0"),) * 2
            assert await gateway.how() == dict.fromkeys((0x1001, 0x1002), "packet offload on nsim0")
            shown = gateway.shown()
            for spi, direction in ((0x1001, "in"), (0x1002, "out")):
                more = shown[spi].more
                assert (more["offload"], more["dir"], more["mode"]) == ("packet", direction, "1")
            assert gateway.ways() == IKE | NETS_OUT | NETS_IN
            for policy in gateway.device.ipsec().policies:
                assert (policy.more["offload"], policy.more["action"]) == ("packet", "allow")
                past = "0.0.0.0/0" in (str(policy.source), str(policy.destination))
                assert policy.more["reqid"] == ("0" if past else shown[0x1001].more["reqid"])
            for port in ports:
                assert f"src {HERE}/32 dst 0.0.0.0/0 proto udp sport {port}" in left_behind(gateway.space)
                assert f"src 0.0.0.0/0 dst {HERE}/32 proto udp dport {port}" in left_behind(gateway.space)
            # The first is gone, the second goes.
            await gateway.remove(came)
            assert gateway.ways() == IKE | NETS_OUT
            await gateway.remove(sent)
            assert gateway.held() == (0, 0)
            await gateway.install(gateway.request(0x1003, IN, Offload.PACKET))
            assert 0x1003 in gateway.shown()
        # Closing leaves nothing: see on_netdevsim.

    run(body())


@on(LIFTED)
async def test_what_packet_offload_has_put_is_as_it_should_be(gateway: OffloadGateway) -> None:
    """The kernel shows another flag than it takes: an audit is not to see a change in that."""
    await gateway.protect()
    await gateway.install(*gateway.child(0x1001, Offload.PACKET))
    before = gateway.device.text()
    assert "changed_from_outside" not in await gateway.audited()
    assert gateway.device.text() == before


@on(LIFTED)
async def test_a_rekey_in_packet_mode_makes_before_it_breaks(gateway: OffloadGateway) -> None:
    await gateway.protect()
    old = gateway.child(0x1001, Offload.PACKET)
    _, new_out = new = gateway.child(0x2001, Offload.PACKET, activate=False)
    await gateway.install(*old)
    gateway.send(2)
    policies = gateway.ways()
    await gateway.install(*new)
    gateway.send(2)
    assert gateway.carried() == {0x1001: 0, 0x1002: 4, 0x2001: 0, 0x2002: 0}
    await gateway.activate(new_out)
    gateway.send(3)
    assert gateway.carried() == {0x1001: 0, 0x1002: 4, 0x2001: 0, 0x2002: 3}
    await gateway.remove(*old)
    gateway.send(1)
    assert gateway.carried() == {0x2001: 0, 0x2002: 4}
    assert gateway.ways() == policies
    assert len({sa.more["reqid"] for sa in gateway.shown().values()}) == 1
    (usage,) = await gateway.usage(new_out)
    assert (usage.packets, usage.bytes) == (4, int(gateway.shown()[0x2002].more["bytes"]))


@on(LIFTED)
async def test_a_successor_in_software_takes_the_policies_out_of_the_device(gateway: OffloadGateway) -> None:
    await gateway.protect()
    old, new = gateway.child(0x1001, Offload.PACKET), gateway.child(0x2001, Offload.NONE)
    await gateway.install(*old)
    await gateway.install(*new)
    await gateway.remove(*old)
    gateway.send(2)
    assert gateway.held() == (0, 0)
    assert [usage.packets for usage in await gateway.usage(new[1])] == [2]


@on(LIFTED)
async def test_ike_of_those_inside_is_protected_where_ours_passes(gateway: OffloadGateway) -> None:
    await gateway.protect()
    await gateway.install(gateway.request(0x1002, OUT, Offload.PACKET, activate=True))
    for count, port in enumerate((500, 4500), 1):
        gateway.send(port=port)
        assert gateway.carried() == {0x1002: count}


@on(LIFTED)
async def test_each_device_lets_ike_of_its_own_addresses_pass(gateway: OffloadGateway) -> None:
    await gateway.datapath.install_policies([])
    with device(1, namespace=gateway.space.path) as other:
        first = gateway.request(0x1001, OUT, Offload.PACKET)
        second = gateway.request(0x1002, OUT, Offload.PACKET, device=other.interface, outer=6)
        await gateway.install(first, second)
        here = f"{OUTER[6][0]}/128"
        assert set(ways(other)) == {("out", here, "::/0"), ("in", "::/0", here)}
        assert (gateway.device.ipsec().policy_count, other.ipsec().policy_count) == (4, 4)
        await gateway.remove(first)
        assert (gateway.device.ipsec().policy_count, other.ipsec().policy_count) == (0, 4)
        await gateway.remove(second)
        assert other.ipsec().policy_count == 0


@on(LIFTED)
async def test_ports_do_not_follow_a_nat_where_the_device_makes_the_headers(gateway: OffloadGateway) -> None:
    await gateway.install(
        *[gateway.request(0x1000 + number, offload=Offload.PACKET, udp=True) for number in range(SAS)]
    )
    sa, datapath = gateway.request(0x1000, udp=True).sa, gateway.datapath
    moved = UdpEncapsulation(4500, 4600)
    refusal = await refused(datapath.update_endpoints(sa.key, sa.source, sa.destination, moved))
    assert refusal.reason is Reason.MOVE_UNSUPPORTED and "nsim0" in refusal.detail
    assert await datapath.update_endpoints(sa.key, sa.source, sa.destination, sa.encapsulation) == sa.key
    assert len(gateway.shown()) == left_behind(gateway.space).count("dir out mode packet") == SAS


@on(LIFTED)
async def test_a_window_that_the_device_keeps_is_not_exported(gateway: OffloadGateway) -> None:
    crypto, packet = gateway.request(0x1001, IN), gateway.request(0x1002, IN, Offload.PACKET)
    await gateway.install(crypto, packet)
    assert (await gateway.datapath.export_inbound(crypto.sa.key)).highest == 0
    refusal = await refused(gateway.datapath.export_inbound(packet.sa.key))
    assert refusal.reason is Reason.MOVE_UNSUPPORTED
    assert list(gateway.shown()) == [0x1002]


@on(LIFTED)
async def test_an_sa_that_the_device_ends_takes_its_policies_along(gateway: OffloadGateway) -> None:
    await gateway.protect()
    lifetime = Lifetime(Limits(packets=2), Limits(packets=4))
    await gateway.install(gateway.request(0x1002, OUT, Offload.PACKET, activate=True, lifetime=lifetime))
    gateway.send(4)
    expired = [await gateway.heard(Expired) for _ in range(2)]
    assert [event.hard for event in expired if isinstance(event, Expired)] == [False, True]
    assert await gateway.told() == ""
    assert gateway.held() == (0, 0)
    assert gateway.device.ipsec().transmitted == 4


@on(LIFTED)
async def test_what_a_killed_daemon_left_in_a_device_stays_as_it_is_until_it_is_replaced(
    gateway: OffloadGateway,
) -> None:
    await gateway.protect()
    await gateway.install(*gateway.child(0x1001, Offload.PACKET))
    before = gateway.device.text()
    kill(gateway.datapath)
    again = KernelDatapath(KernelOptions(survivors=30.0))
    with inside(gateway.space), gateway.crowded(0):
        await again.start()
        await again.install_policies([gateway.pair.policy(0)])
        await again.audit()
    try:
        assert gateway.device.text() == before
        gateway.send(2)
        assert gateway.carried() == {0x1001: 0, 0x1002: 2}
        await again.install(gateway.child(0x2001, Offload.PACKET))
        gateway.send(1)
        assert gateway.carried() == {0x1001: 0, 0x1002: 2, 0x2001: 0, 0x2002: 1}
        # What was replaced goes after a while.
        await asyncio.sleep(5.5)
        assert gateway.carried() == {0x2001: 0, 0x2002: 1}
        assert gateway.device.ipsec().policy_count == 8
    finally:
        await again.close()


@on(LIFTED)
async def test_a_policy_that_another_program_took_out_of_the_device_is_put_back_when_there_is_room(
    gateway: OffloadGateway,
) -> None:
    await gateway.protect()
    await gateway.install(gateway.request(0x1002, OUT, Offload.PACKET, activate=True))
    whole = gateway.ways()
    with gateway.crowded(0):
        assert await gateway.told() == ""
        # Two changes only, which one look is sure to see.
        gateway.space.ip(f"xfrm policy delete src {NETS[4][0]} dst {NETS[4][1]} dir out")
        with gateway.crowded(0):
            # Said once, not with each look.
            assert (await gateway.told()).count("not put right") == 1
    await gateway.datapath.audit()
    assert gateway.ways() == whole
    gateway.send(1)
    assert gateway.carried() == {0x1002: 1}
