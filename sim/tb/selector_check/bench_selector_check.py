"""Packets against the selectors of an SA, beside appliance.sa.selector."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

import cocotb
from cocotb.clock import Clock
from cocotb.handle import HierarchyObject
from cocotb.triggers import ReadOnly, RisingEdge

from appliance.sa.selector import Address, TrafficSelector

POOL, MOST = int(os.environ["POOL"]), int(os.environ["MOST"])


@dataclass(frozen=True)
class Packet:
    protocol: int
    has_ports: bool
    ports: tuple[int, int]
    addresses: tuple[Address, Address]

    def packed(self) -> int:
        """As flow_t: local before remote."""
        word = int(self.addresses[0].version == 6)
        for value, bits in (
            (self.protocol, 8),
            (int(self.has_ports), 1),
            (self.ports[0], 16),
            (self.ports[1], 16),
            (int(self.addresses[0]), 128),
            (int(self.addresses[1]), 128),
        ):
            word = word << bits | value
        return word


def packed(selector: TrafficSelector, remote: bool) -> int:
    """As selector_t."""
    word = int(remote)
    for value, bits in (
        (int(selector.version == 6), 1),
        (selector.protocol, 8),
        (selector.start_port, 16),
        (selector.end_port, 16),
        (int(selector.start), 128),
        (int(selector.end), 128),
    ):
        word = word << bits | value
    return word


def some_selector(version: int) -> TrafficSelector:
    """Small ranges around the same place, so that packets are as often in as out."""
    base = 0x0A010000 if version == 4 else 0xFD01 << 112
    first = base + random.randrange(40)
    kind = IPv4Address if version == 4 else IPv6Address
    ports = random.choice([(0, 65535), (0, 65535), (65535, 0), (80, 80), (1000, 2000), (65535, 65535), (0, 0)])
    start, end = kind(first), kind(first + random.choice((0, 5, 40)))
    if random.random() < 0.1:
        start, end = kind(0), kind((1 << (32 if version == 4 else 128)) - 1)
    return TrafficSelector(start, end, random.choice((0, 0, 6, 17)), *ports)


def some_packet(selectors: list[tuple[TrafficSelector, bool]]) -> Packet:
    version = random.choice((4, 6)) if not selectors else random.choice(selectors)[0].version
    kind, base = (IPv4Address, 0x0A010000) if version == 4 else (IPv6Address, 0xFD01 << 112)

    def end(remote: bool) -> tuple[Address, int]:
        mine = [one for one, which in selectors if which is remote and one.version == version]
        if mine and random.random() < 0.8:
            one = random.choice(mine)
            near = random.choice((int(one.start), int(one.end))) + random.choice((-1, *[0] * 8, 1))
            port = random.choice((one.start_port, one.end_port)) + random.choice((-1, *[0] * 8, 1))
            return kind(min(max(near, 0), (1 << kind(0).max_prefixlen) - 1)), min(max(port, 0), 65535)
        return kind(base + random.randrange(90)), random.choice((80, 1500, 0, 65535))

    (local, local_port), (remote, remote_port) = end(False), end(True)
    protocols = [one.protocol for one, _ in selectors if one.protocol] or [6]
    return Packet(random.choice((*protocols, 6, 17)), random.random() < 0.8, (local_port, remote_port), (local, remote))


def inside(packet: Packet, selectors: list[tuple[TrafficSelector, bool]]) -> bool:
    def end(remote: bool) -> bool:
        port = packet.ports[remote] if packet.has_ports else None
        return any(
            one.matches(packet.addresses[remote], packet.protocol, port) for one, which in selectors if which is remote
        )

    return end(False) and end(True)


@cocotb.test()
async def packets_are_inside_or_not_as_the_selectors_say(dut: HierarchyObject) -> None:
    cocotb.start_soon(Clock(dut.clk_i, 10, "ns").start())
    dut.valid_i.value = dut.write_i.value = 0
    dut.rst_ni.value = 0
    for _ in range(3):
        await RisingEdge(dut.clk_i)
    dut.rst_ni.value = 1
    seen = {True: 0, False: 0}
    for _ in range(250):
        count = random.randint(0, MOST) if random.random() < 0.3 else MOST
        first = random.randrange(POOL - count + 1)
        version = random.choice((4, 6, None))
        selectors = [
            (some_selector(version or random.choice((4, 6))), bool(random.getrandbits(1))) for _ in range(count)
        ]
        for index, (selector, remote) in enumerate(selectors):
            dut.write_i.value, dut.write_index_i.value = 1, first + index
            dut.write_selector_i.value = packed(selector, remote)
            await RisingEdge(dut.clk_i)
        dut.write_i.value = 0
        await checks(dut, first, selectors, seen, random.random() < 0.5)
    assert min(seen.values()) > 200, seen


async def checks(
    dut: HierarchyObject,
    first: int,
    selectors: list[tuple[TrafficSelector, bool]],
    seen: dict[bool, int],
    back_to_back: bool,
) -> None:
    """Twelve packets, one right behind the other or not; each is there two cycles behind its request only."""
    packets = [some_packet(selectors) for _ in range(12)]
    due: dict[int, Packet] = {}
    asked: list[int] = []
    told = cycle = pause = 0
    slots = max(len(selectors), 1)
    while told < len(packets):
        packet = due.get(cycle)
        dut.flow_i.value = packet.packed() if packet else random.getrandbits(298)
        asks = len(asked) < len(packets) and not pause
        dut.valid_i.value, dut.first_i.value, dut.count_i.value = int(asks), first, len(selectors)
        if not asks:
            dut.first_i.value, dut.count_i.value = random.randrange(POOL), random.randint(0, MOST)
        await ReadOnly()
        if asks and dut.ready_o.value:
            due[cycle + 2] = packets[len(asked)]
            asked.append(cycle)
            pause = 0 if back_to_back else random.choice((0, 0, 1, 2, 3, slots, slots + 5))
        elif pause:
            pause -= 1
        if dut.done_o.value:
            assert cycle == asked[told] + slots + 4
            expected = inside(packets[told], selectors)
            assert bool(dut.inside_o.value) is expected, (packets[told], selectors)
            seen[expected] += 1
            told += 1
        await RisingEdge(dut.clk_i)
        cycle += 1
    dut.valid_i.value = 0
    if back_to_back:
        assert asked == [asked[0] + slots * number for number in range(len(packets))]
