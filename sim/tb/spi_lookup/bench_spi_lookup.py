"""The SPI table beside a dictionary: every entry is found at every moment, and nothing else is."""

from __future__ import annotations

import os
import random

import cocotb
from cocotb.clock import Clock
from cocotb.handle import HierarchyObject
from cocotb.triggers import ReadOnly, RisingEdge

SAS = int(os.environ["SAS"])
INSERT, REMOVE = range(2)
DONE, EXISTS, ABSENT, FULL = range(4)
Key = tuple[int, int, int]  # v6, destination, SPI


def packed(key: Key) -> int:
    return key[0] << 160 | key[1] << 32 | key[2]


class TB:
    """One master of lookups and one of changes, and what the table should hold."""

    def __init__(self, dut: HierarchyObject) -> None:
        self.dut = dut
        self.table: dict[Key, int] = {}

    async def start(self) -> None:
        dut = self.dut
        cocotb.start_soon(Clock(dut.clk_i, 10, "ns").start())
        dut.lookup_valid_i.value = dut.op_valid_i.value = 0
        dut.rst_ni.value = 0
        for _ in range(3):
            await RisingEdge(dut.clk_i)
        dut.rst_ni.value = 1
        self.table.clear()

    async def change(self, op: int, key: Key, sa: int = 0) -> int:
        """One change; returns the answer."""
        dut = self.dut
        dut.op_i.value, dut.op_key_i.value, dut.op_sa_i.value = op, packed(key), sa
        dut.op_valid_i.value = 1
        await ReadOnly()
        while not dut.op_ready_o.value:
            await RisingEdge(dut.clk_i)
            await ReadOnly()
        await RisingEdge(dut.clk_i)
        dut.op_valid_i.value = 0
        dut.op_key_i.value = random.getrandbits(161)
        await ReadOnly()
        while not dut.answer_valid_o.value:
            await RisingEdge(dut.clk_i)
            await ReadOnly()
        answer = int(dut.answer_o.value)
        await RisingEdge(dut.clk_i)
        return answer

    async def lookup(self, key: Key) -> tuple[int | None, int]:
        """The SA of a key or None, and how many cycles it took from its acceptance."""
        dut = self.dut
        dut.lookup_key_i.value = packed(key)
        dut.lookup_valid_i.value = 1
        await ReadOnly()
        while not dut.lookup_ready_o.value:
            await RisingEdge(dut.clk_i)
            await ReadOnly()
        await RisingEdge(dut.clk_i)
        dut.lookup_valid_i.value = 0
        dut.lookup_key_i.value = random.getrandbits(161)
        await ReadOnly()
        cycles = 1
        while not dut.found_valid_o.value:
            await RisingEdge(dut.clk_i)
            await ReadOnly()
            cycles += 1
        found = int(dut.found_sa_o.value) if dut.found_o.value else None
        await RisingEdge(dut.clk_i)
        return found, cycles

    async def insert(self, key: Key, sa: int) -> int:
        answer = await self.change(INSERT, key, sa)
        if answer == DONE:
            self.table[key] = sa
        return answer

    async def remove(self, key: Key) -> int:
        answer = await self.change(REMOVE, key)
        if answer == DONE:
            del self.table[key]
        return answer


def some_key() -> Key:
    v6 = random.getrandbits(1)
    return v6, random.getrandbits(128 if v6 else 32), random.randint(256, (1 << 32) - 1)


def neighbour(key: Key) -> Key:
    """A key that differs in one bit."""
    v6, destination, spi = key
    bit = random.randrange(161)
    if bit < 32:
        return v6, destination, spi ^ 1 << bit
    return (v6, destination ^ 1 << bit - 32, spi) if bit < 160 else (1 - v6, destination, spi)


@cocotb.test()
async def as_many_entries_as_sas_find_room_and_none_is_lost(dut: HierarchyObject) -> None:
    for _ in range(3):
        tb = TB(dut)
        await tb.start()
        while len(tb.table) < SAS:
            assert await tb.insert(some_key(), len(tb.table)) == DONE
        for key in random.sample(sorted(tb.table), min(SAS, 200)):
            assert (await tb.lookup(key))[0] == tb.table[key]
            assert (await tb.lookup(neighbour(key)))[0] is None


@cocotb.test()
async def an_entry_is_found_at_every_moment_of_changes_to_others(dut: HierarchyObject) -> None:
    tb = TB(dut)
    await tb.start()
    # What is changed, and what is looked for, are two sets: so a lookup has one right answer at any time.
    kept = [some_key() for _ in range(SAS // 2)]
    for sa, key in enumerate(kept):
        assert await tb.insert(key, sa) == DONE
    done = False

    async def changes() -> None:
        nonlocal done
        others: list[Key] = []
        for _ in range(400):
            if others and (len(others) + len(kept) >= SAS or random.random() < 0.4):
                assert await tb.remove(others.pop(random.randrange(len(others)))) == DONE
            else:
                others.append(some_key())
                assert await tb.insert(others[-1], random.randrange(SAS)) == DONE
        done = True

    task = cocotb.start_soon(changes())
    lookups = 0
    while not done:
        if kept and random.random() < 0.8:
            key = random.choice(kept)
            assert (await tb.lookup(key))[0] == kept.index(key)
        else:
            assert (await tb.lookup(neighbour(random.choice(kept)) if kept else some_key()))[0] is None
        lookups += 1
        for _ in range(random.choice((0, 0, 1, 5))):
            await RisingEdge(dut.clk_i)
    await task
    assert lookups > 400


@cocotb.test()
async def what_cannot_be_done_is_answered(dut: HierarchyObject) -> None:
    tb = TB(dut)
    await tb.start()
    key = some_key()
    assert await tb.remove(key) == ABSENT
    assert await tb.insert(key, 0) == DONE
    assert await tb.insert(key, SAS - 1) == EXISTS
    assert (await tb.lookup(key))[0] == 0
    assert await tb.remove(neighbour(key)) == ABSENT
    # Five keys of one SPI have four places and the nest; the sixth has none.
    spi = some_key()[2]
    same = [(1, random.getrandbits(128), spi) for _ in range(6)]
    answers = [await tb.insert(one, 0) for one in same]
    assert answers == [DONE] * 5 + [FULL]
    for one in same[:5]:
        assert (await tb.lookup(one))[0] == 0
    assert (await tb.lookup(same[5]))[0] is None
    # Room is used again, and what was in the nest has left it: taken away from there, or moved to a place.
    for _ in range(40):
        for one in random.sample(same[:5], 5):
            assert await tb.remove(one) == DONE
            assert (await tb.lookup(one))[0] is None
        assert [await tb.insert(one, 0) for one in same[:5]] == [DONE] * 5


@cocotb.test()
async def a_lookup_takes_seven_cycles(dut: HierarchyObject) -> None:
    tb = TB(dut)
    await tb.start()
    key = some_key()
    await tb.insert(key, 0)
    for _ in range(20):
        assert await tb.lookup(key) == (0, 7)
