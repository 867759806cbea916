"""ram_1r1w beside a dictionary: read a cycle later, held, and old words when both ports meet."""

from __future__ import annotations

import os
import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge

from sim.tb import memory

WIDTH, DEPTH, FORGETS = int(os.environ["WIDTH"]), int(os.environ["DEPTH"]), os.environ["FORGETS"] == "1"


@cocotb.test()
async def each_word_begins_with_its_own(dut: object) -> None:
    """In simulation, so that nobody takes one word for another. The first test: nothing is written yet."""
    words = {memory.word(dut, "mem", address, WIDTH) for address in range(DEPTH)}
    assert len(words) > DEPTH // 2, f"{len(words)} values in {DEPTH} words"


@cocotb.test()
async def words_are_read_as_they_were_before_the_cycle(dut: object) -> None:
    dut.write_i.value, dut.read_i.value = 0, 0
    Clock(dut.clk_i, 10, "ns").start()
    words: dict[int, int] = {}
    due: int | None = None
    written: int | None = None  # in the cycle before
    for _ in range(3000):
        await FallingEdge(dut.clk_i)
        if due is not None:
            assert dut.read_data_o.value.to_unsigned() == due
        write, read = random.random() < 0.6, random.random() < 0.6
        where, there = random.randrange(DEPTH), random.randrange(DEPTH)
        if read:
            due = words.get(there)  # None: never written
        elif FORGETS and written is not None:
            due = words[written]
        written = where if write else None
        data = random.getrandbits(WIDTH)
        if write:
            words[where] = data
        dut.write_i.value, dut.write_addr_i.value, dut.write_data_i.value = write, where, data
        dut.read_i.value, dut.read_addr_i.value = read, there
