"""The soft datapath against the kernel's IPsec: a foreign peer for native ESP, ESN and transport mode."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from appliance.reasons import Reason
from appliance.sa.algorithms import Suite
from appliance.sa.association import Mode
from tests.datapath.contract import run
from tests.datapath.pair import INNER, OUTER, Pair
from tests.datapath.test_soft_traffic import SUITES, transfer
from tests.lab.capture import Capture, Kind
from tests.vm.inside.kernel import KernelPeer, beside_kernel

WRONG = (Reason.INTEGRITY, Reason.REPLAYED, Reason.INTERNAL, Reason.MALFORMED_IP)


async def assert_carries(pair: Pair, peer: KernelPeer, ends: tuple[str, str], *, udp: bool) -> None:
    """Bytes arrive whole both ways, all of them in ESP."""
    ours = pair.gateways[0].namespace
    with Capture(ours, "wan") as capture:
        assert await asyncio.to_thread(transfer, ours, peer.namespace, ends, 300_000), peer.errors()
        assert await asyncio.to_thread(transfer, peer.namespace, ours, ends[::-1], 300_000), peer.errors()
    assert capture.count(Kind.PLAIN) == 0
    assert capture.count(Kind.ESP_IN_UDP if udp else Kind.ESP) > 100


@pytest.mark.essential
def test_a_tunnel_in_udp_and_a_transport_without_carry() -> None:
    async def body() -> None:
        async with beside_kernel() as (pair, peer):
            for number, (mode, outer) in enumerate(((Mode.TUNNEL, 4), (Mode.TRANSPORT, 6))):
                udp = mode is Mode.TUNNEL
                await pair.gateways[0].datapath.install_policies([pair.policy(0, mode=mode, outer=outer)])
                spis = (0x1001 + 16 * number, 0x1002 + 16 * number)
                await peer.connect(spis, mode=mode, outer=outer, udp=udp, suite=SUITES[number])
                ends = INNER[6] if mode is Mode.TUNNEL else OUTER[outer]
                await assert_carries(pair, peer, (ends[0], ends[1]), udp=udp)

    run(body())


@pytest.mark.parametrize("suite", SUITES, ids=str)
@pytest.mark.parametrize("mode", list(Mode), ids=str)
def test_each_suite_and_mode_carries_native_and_in_udp_over_both_families(suite: Suite, mode: Mode) -> None:
    async def body() -> None:
        async with beside_kernel() as (pair, peer):
            datapath = pair.gateways[0].datapath
            for number, (outer, udp) in enumerate(itertools.product((4, 6), (False, True))):
                await datapath.install_policies([pair.policy(0, mode=mode, outer=outer)])
                spis = (0x1001 + 16 * number, 0x1002 + 16 * number)
                await peer.connect(spis, mode=mode, outer=outer, udp=udp, suite=suite)
                for ends in [INNER[4], INNER[6]] if mode is Mode.TUNNEL else [OUTER[outer]]:
                    await assert_carries(pair, peer, (ends[0], ends[1]), udp=udp)
            counters = await datapath.counters()
            assert not {reason.name for reason in WRONG if counters.get(reason.name)}, counters
            assert not peer.errors()

    run(body())
