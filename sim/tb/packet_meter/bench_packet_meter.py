"""packet_meter: the bytes of packets, whatever their tkeep, and 65,535 for more."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge

from sim.tb.traffic.reset import reset
from sim.tb.traffic.stream import BEAT

MOST = 65535


class TB:
    """Shows beats, and holds what is told of a packet, and when, against a count of its own."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.cycle = 0
        self.told: deque[tuple[int, int]] = deque()  # cycle, bytes

    async def tick(self) -> None:
        await FallingEdge(self.dut.clk_i)
        self.cycle += 1
        if self.dut.valid_o.value:
            assert self.told, "a packet that was not there"
            assert (self.cycle, int(self.dut.bytes_o.value)) == self.told.popleft()
        assert not self.told or self.told[0][0] > self.cycle, "a packet is not told"

    async def packet(self, keeps: list[int], *, pause: float = 0.0) -> None:
        """A packet with these tkeep; in a pause anything may be there."""
        dut = self.dut
        for number, keep in enumerate(keeps):
            while random.random() < pause:
                dut.taken_i.value, dut.tkeep_i.value = 0, random.getrandbits(BEAT)
                dut.tlast_i.value = random.getrandbits(1)
                await self.tick()
            last = number == len(keeps) - 1
            dut.taken_i.value, dut.tkeep_i.value, dut.tlast_i.value = 1, keep, last
            if last:
                self.told.append((self.cycle + 2, min(MOST, sum(one.bit_count() for one in keeps))))
            await self.tick()
        dut.taken_i.value = 0


@cocotb.test()
async def bytes_are_counted_by_tkeep(dut: object) -> None:
    tb = TB(dut)
    await reset(dut, "taken_i", started=False)
    for _ in range(600):
        size = random.choice((1, 1, 2, 3, random.randint(1, 40)))
        await tb.packet([random.choice((0xFFFF, random.getrandbits(BEAT))) for _ in range(size)],
                        pause=random.choice((0.0, 0.4)))  # fmt: skip
    for _ in range(3):
        await tb.tick()
    assert not tb.told


@cocotb.test()
async def what_is_longer_than_a_packet_can_be_is_65535_bytes(dut: object) -> None:
    """Also where 16 bits would have wrapped around to the length of a packet."""
    tb = TB(dut)
    await reset(dut, "taken_i", started=False)
    full = 0xFFFF
    for extra in ([0x7FFF], [full], [full, full], [1] * 3, [full] * 4, [full] * 4100):
        await tb.packet([full] * 4095 + extra)
        await tb.packet([full, 0x7])
    for _ in range(3):
        await tb.tick()
    assert not tb.told
