"""Two tunnels of one pair of gateways at once, one in the soft datapath and one in the kernel."""

from __future__ import annotations

import asyncio
import itertools
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from appliance.datapath.demultiplexer import Demultiplexer
from appliance.datapath.filters import Owner
from appliance.datapath.ingress import OWN_MARK
from appliance.reasons import Reason
from appliance.sa.association import Direction
from tests.datapath.contract import run
from tests.datapath.pair import INNER, OUTER, Pair, inside
from tests.datapath.test_soft_traffic import transfer
from tests.lab.capture import Capture, Kind
from tests.lab.namespace import Namespace
from tests.vm.inside.kernel import KernelPeer, add_policies, add_state, beside_kernel, errors, flush, plain_sent

KERNEL_NETS = "10.3.0.0/24", "10.4.0.0/24"
KERNEL_INNER = "10.3.0.1", "10.4.0.1"
MANY = range(0x10_0000, 0x10_1100)
"""More SPIs than a program can list."""


@dataclass
class Mixed:
    """Our end has both datapaths; the other end is all kernel."""

    pair: Pair
    peer: KernelPeer
    table: Demultiplexer

    @property
    def ours(self) -> Namespace:
        return self.pair.gateways[0].namespace

    async def connect(self, number: int, *, outer: int, udp: bool) -> None:
        """Both tunnels anew: the soft datapath's between the usual networks, the kernel's between its own."""
        first = 0x1001 + 16 * number
        flush(self.ours)
        await self.pair.gateways[0].datapath.install_policies([self.pair.policy(0, outer=outer)])
        self.table.claim([first + 1], Owner.SOFT)
        self.table.claim([first + 3], Owner.KERNEL)
        await self.peer.connect((first, first + 1), mode=self.pair.policy(0).mode, outer=outer, udp=udp)
        for sender, spi in enumerate((first + 2, first + 3)):
            sa = self.pair.sa(
                sender, Direction.OUT, spi, outer=outer, udp=udp, reqid=2, local=KERNEL_NETS[:1], remote=KERNEL_NETS[1:]
            )
            add_state(self.peer.namespace, sa)
            add_state(self.ours, sa, mark=OWN_MARK if sender == 0 else 0)
        ends = OUTER[outer]
        add_policies(self.ours, KERNEL_NETS, (ends[0], ends[1]), reqid=2)
        add_policies(self.peer.namespace, KERNEL_NETS[::-1], (ends[1], ends[0]), reqid=2)

    async def assert_both_carry(self, size: int) -> None:
        """Bytes arrive whole both ways through both tunnels at once."""
        ways = []
        for ends in ((INNER[4][0], INNER[4][1]), KERNEL_INNER):
            ways.append(asyncio.to_thread(transfer, self.ours, self.peer.namespace, ends, size))
            ways.append(asyncio.to_thread(transfer, self.peer.namespace, self.ours, ends[::-1], size))
        assert await asyncio.gather(*ways) == [True] * 4, (self.peer.errors(), errors(self.ours))

    async def assert_nothing_strayed(self, *, udp: bool) -> None:
        counters = await self.pair.gateways[0].datapath.counters()
        wrong = (Reason.UNKNOWN_SPI, Reason.INTEGRITY, Reason.MALFORMED_ESP, Reason.INTERNAL)
        assert not {reason.name for reason in wrong if counters.get(reason.name)}, counters
        assert not self.peer.errors()
        if udp:  # of native ESP the kernel sees the soft datapath's as well
            assert not errors(self.ours)


@asynccontextmanager
async def mixed() -> AsyncIterator[Mixed]:
    async with beside_kernel() as (pair, peer):
        ours = pair.gateways[0]
        for namespace, address in zip((ours.namespace, peer.namespace), KERNEL_INNER, strict=True):
            namespace.ip(f"addr add {address}/32 dev lo")
        table = Demultiplexer(ours.ingress)
        with inside(ours.namespace):
            for ingress in ours.ingress:
                ingress.bypass_xfrm()
            table.open_kernel()
        yield Mixed(pair, peer, table)


def test_tunnels_of_two_datapaths_carry_side_by_side_in_udp_and_native_over_both_families() -> None:
    async def body() -> None:
        async with mixed() as both:
            # Native ESP last: what the kernel counts of it stays counted.
            for number, (udp, outer) in enumerate(itertools.product((True, False), (4, 6))):
                await both.connect(number, outer=outer, udp=udp)
                with Capture(both.ours, "wan") as capture:
                    await both.assert_both_carry(200_000)
                assert plain_sent(capture) == 0
                assert capture.count(Kind.ESP_IN_UDP if udp else Kind.ESP) > 100
                soft = await both.pair.gateways[0].datapath.dump()
                assert {row.usage.packets > 100 for row in soft.sas if row.sa.spi & 0xF in (1, 2)} == {True}
                if udp:
                    await both.assert_nothing_strayed(udp=True)
                else:
                    assert set(errors(both.ours)) <= {"XfrmInNoStates"}
            await both.assert_nothing_strayed(udp=False)

    run(body())


@pytest.mark.essential
def test_receive_offload_does_not_mix_sas_of_one_peer() -> None:
    async def body() -> None:
        async with mixed() as both:
            for namespace in (both.ours, both.peer.namespace):
                namespace.run(["ethtool", "-K", "wan", "gro", "on"])
            await both.connect(0, outer=4, udp=True)
            await both.assert_both_carry(1_000_000)
            await both.assert_nothing_strayed(udp=True)

    run(body())


def test_switching_whose_the_rest_is_loses_no_packet_under_load() -> None:
    async def body() -> None:
        async with mixed() as both:
            await both.connect(0, outer=4, udp=True)
            ends = INNER[4], KERNEL_INNER
            done = asyncio.gather(
                *(asyncio.to_thread(count, both.peer.namespace, both.ours, (far, near)) for near, far in ends)
            )
            switched = 0
            while not done.done():
                both.table.claim(MANY, Owner.KERNEL)
                assert both.table.owner(0x7777) is Owner.KERNEL
                await asyncio.sleep(0.1)
                both.table.release(MANY)
                assert both.table.owner(0x7777) is Owner.SOFT
                await asyncio.sleep(0.1)
                switched += 1
            assert await done == [SENT, SENT]
            assert switched >= 3
            await both.assert_nothing_strayed(udp=True)

    run(body())


SENT = 4000


def count(source: Namespace, target: Namespace, ends: tuple[str, str]) -> int:
    """How many of ``SENT`` datagrams arrive."""
    with (
        target.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        source.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        receiver.bind((ends[1], 0))
        receiver.settimeout(2)
        sender.bind((ends[0], 0))
        sender.connect(receiver.getsockname())
        arrived = 0
        for _ in range(SENT // 20):
            for _ in range(20):
                sender.send(bytes(100))
            for _ in range(20):
                try:
                    receiver.recv(200)
                except TimeoutError:
                    break
                arrived += 1
            time.sleep(0.002)
        return arrived


def test_all_is_the_soft_datapaths_when_the_kernels_is_gone() -> None:
    async def body() -> None:
        async with mixed() as both:
            await both.connect(0, outer=4, udp=True)
            both.table.close_kernel()
            assert await asyncio.to_thread(both.pair.ping)
            argv = ["ping", "-c1", "-W1", "-I", KERNEL_INNER[0], KERNEL_INNER[1]]
            assert both.ours.run(argv, check=False).returncode != 0
            counters = await both.pair.gateways[0].datapath.counters()
            assert counters[Reason.UNKNOWN_SPI.name] == 1

    run(body())
