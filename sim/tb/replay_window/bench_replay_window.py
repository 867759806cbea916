"""The replay window of the RTL beside that of the golden model (appliance.esp.replay)."""

from __future__ import annotations

import os
import random

import cocotb
from cocotb.clock import Clock
from cocotb.handle import HierarchyObject
from cocotb.triggers import ReadOnly, RisingEdge

from appliance.esp.drop import Drop
from appliance.esp.replay import ReplayWindow

WINDOW, SAS = int(os.environ["WINDOW"]), int(os.environ["SAS"])
CHECK, UPDATE, CLEAR = range(3)
LOW = (1 << 32) - 1


class TB:
    """The window's one port, and a golden window for each SA."""

    def __init__(self, dut: HierarchyObject) -> None:
        self.dut = dut
        self.cycles = 0
        self.models = [ReplayWindow(WINDOW, esn=bool(sa & 1)) for sa in range(SAS)]

    async def start(self) -> None:
        """Reset, and clear every SA."""
        dut = self.dut
        cocotb.start_soon(Clock(dut.clk_i, 10, "ns").start())
        dut.valid_i.value = 0
        dut.rst_ni.value = 0
        for _ in range(3):
            await RisingEdge(dut.clk_i)
        dut.rst_ni.value = 1
        for sa in range(SAS):
            await self.clear(sa, esn=bool((sa + 1) & 1))

    async def ask(self, op: int, sa: int, sequence: int, *, esn: bool = False) -> tuple[bool, int, int, int]:
        """One operation: (accepted, whole number, right edge, cycles that it took)."""
        dut = self.dut
        dut.valid_i.value = 1
        dut.op_i.value = op
        dut.sa_i.value = sa
        dut.esn_i.value = esn
        dut.sequence_i.value = sequence
        await RisingEdge(dut.clk_i)  # ready_o is high whenever nothing is under way
        dut.valid_i.value = 0
        for cycles in range(1, 100):
            await ReadOnly()
            if dut.done_o.value:
                answer = bool(dut.accepted_o.value), int(dut.sequence_o.value), int(dut.highest_o.value), cycles
                assert dut.ready_o.value
                break
            await RisingEdge(dut.clk_i)
            dut.esn_i.value = random.getrandbits(1)
            dut.sequence_i.value = random.getrandbits(64)
        else:
            raise AssertionError("no answer")
        await RisingEdge(dut.clk_i)
        return answer

    async def clear(self, sa: int, *, esn: bool) -> None:
        self.models[sa] = ReplayWindow(WINDOW, esn=esn)
        await self.ask(CLEAR, sa, random.getrandbits(64))

    async def check(self, sa: int, low: int) -> int | None:
        """Check a number on both sides; returns the whole one if it may be new."""
        model = self.models[sa]
        expected: int | None = None
        told = low  # without a whole number, the half that is known
        try:
            told = model.infer(low)
            model.check(told)
            expected = told
        except Drop:
            pass
        junk = random.getrandbits(32) << 32
        accepted, sequence, highest, _ = await self.ask(CHECK, sa, junk | low, esn=model.esn)
        assert highest == model.highest
        assert (sequence if accepted else None) == expected, (low, model.highest)
        assert sequence == told, (low, model.highest)
        return expected

    async def update(self, sa: int, sequence: int) -> int:
        """Mark a whole number on both sides, whether or not it was checked; returns how many cycles it took."""
        model = self.models[sa]
        try:
            model.check(sequence)
            expected = True
            model.update(sequence)
        except Drop:
            expected = False
        accepted, _, highest, cycles = await self.ask(UPDATE, sa, sequence)
        assert accepted == expected, (sequence, model.highest)
        assert highest == model.highest
        return cycles

    def somewhere(self, sa: int) -> int:
        """A whole number at or near an edge of the window, or a step or a jump away."""
        model = self.models[sa]
        around = random.choice(
            [0, 1, 2, -1, -WINDOW, -WINDOW + 1, -WINDOW - 1, WINDOW, WINDOW - 1, WINDOW + 1, 2 * WINDOW]
        )
        spread = random.choice([0, 0, 3, 130, WINDOW, 3 * WINDOW])
        last = (1 << 64) - 1 if model.esn else LOW
        return min(max(model.highest + around + random.randint(-spread, spread), 0), last)


@cocotb.test()
async def packets_in_every_order_are_judged_as_the_golden_model_does(dut: HierarchyObject) -> None:
    tb = TB(dut)
    await tb.start()
    for _ in range(4000):
        sa = random.randrange(SAS)
        sequence = await tb.check(sa, tb.somewhere(sa) & LOW)
        # Another copy may be in flight, which was checked too.
        if sequence is not None and random.random() < 0.8:
            for _ in range(random.choice((1, 1, 2))):
                await tb.update(sa, sequence)
        if random.random() < 0.002:
            await tb.clear(sa, esn=tb.models[sa].esn)


@cocotb.test()
async def whatever_is_to_be_marked_is_judged_again(dut: HierarchyObject) -> None:
    tb = TB(dut)
    await tb.start()
    for _ in range(3000):
        sa = random.randrange(SAS)
        await tb.update(sa, tb.somewhere(sa))


@cocotb.test()
async def extended_numbers_go_on_across_subspaces(dut: HierarchyObject) -> None:
    """RFC 4303 appendix A2.2, both cases, at the edges of several subspaces and at the end of all numbers."""
    tb = TB(dut)
    await tb.start()
    sa = 0
    for edge in (0, 1, WINDOW - 2):
        await tb.clear(sa, esn=True)
        if edge:
            await tb.update(sa, edge)
        # Left of the first number: the upper half would be -1.
        for back in range(1, WINDOW - edge):
            assert await tb.check(sa, (1 << 32) - back) is None
    for high in (1, 2, 77, 1 << 31, LOW, 1 << 32):
        await tb.clear(sa, esn=True)
        edge = high << 32
        await tb.update(sa, edge - random.randint(1, 2 * WINDOW))
        for _ in range(400):
            last = (1 << 64) - 1
            near = min(max(tb.somewhere(sa), edge - 2 * WINDOW), edge + 2 * WINDOW, last)
            sequence = await tb.check(sa, near & LOW)
            if sequence is not None:
                await tb.update(sa, sequence)


@cocotb.test()
async def a_step_takes_four_cycles_and_the_farthest_jump_a_bound(dut: HierarchyObject) -> None:
    tb = TB(dut)
    await tb.start()
    words = max(1, WINDOW // 128)
    sequence = 5
    await tb.update(0, sequence)
    for step in (1, 1, WINDOW - 1, WINDOW, WINDOW + 1, 1 << 30, 1):
        sequence += step
        cycles = await tb.update(0, sequence)
        assert cycles <= (4 if step == 1 and sequence % 64 else words + 9), (step, cycles)
