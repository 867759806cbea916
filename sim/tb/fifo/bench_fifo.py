"""A handshake in, a handshake out: what comes out is what went in, in order, at full rate."""

from __future__ import annotations

import os
import random
from collections import deque

import cocotb
from cocotb.triggers import FallingEdge

from sim.tb.traffic.reset import reset

DEPTH, WIDTH = int(os.environ["DEPTH"]), int(os.environ["WIDTH"])


class TB:
    """Offers words, takes words, and knows what is inside."""

    def __init__(self, dut: object) -> None:
        self.dut = dut
        self.started = False
        self.inside: deque[int] = deque()
        self.offered: int | None = None
        self.moved = 0

    async def reset(self) -> None:
        await reset(self.dut, "valid_i", "ready_i", started=self.started)
        self.started = True
        self.inside.clear()
        self.offered = None

    async def tick(self, pause_in: float, pause_out: float) -> None:
        """One cycle; what crosses in it is known, since valid_o and ready_o come from registers."""
        dut = self.dut
        await FallingEdge(dut.clk_i)
        valid, ready = bool(dut.valid_o.value), bool(dut.ready_o.value)
        assert valid == bool(self.inside), "a word in one cycle is there in the next"
        assert ready == (len(self.inside) < DEPTH)
        if hasattr(dut, "count_o"):
            assert dut.count_o.value.to_unsigned() == len(self.inside)
        take = random.random() >= pause_out
        dut.ready_i.value = take
        if valid:
            assert dut.data_o.value.to_unsigned() == self.inside[0]
            if take:
                self.inside.popleft()
                self.moved += 1
        if self.offered is None and random.random() >= pause_in:
            self.offered = random.getrandbits(WIDTH)
        dut.valid_i.value = self.offered is not None
        dut.data_i.value = random.getrandbits(WIDTH) if self.offered is None else self.offered
        if self.offered is not None and ready:
            self.inside.append(self.offered)
            self.offered = None


@cocotb.test()
async def what_comes_out_is_what_went_in(dut: object) -> None:
    tb = TB(dut)
    await tb.reset()
    for _ in range(100):
        pauses = random.choice((0.0, 0.1, 0.5, 0.9)), random.choice((0.0, 0.1, 0.5, 0.9))
        for _ in range(60):
            await tb.tick(*pauses)
    assert tb.moved > 1000


@cocotb.test()
async def a_word_crosses_every_cycle(dut: object) -> None:
    tb = TB(dut)
    await tb.reset()
    for _ in range(101):
        await tb.tick(0.0, 0.0)
    assert tb.moved == 100


@cocotb.test()
async def it_is_empty_after_reset(dut: object) -> None:
    tb = TB(dut)
    for _ in range(10):
        await tb.reset()
        for _ in range(random.randrange(20)):
            await tb.tick(0.2, 0.8)
