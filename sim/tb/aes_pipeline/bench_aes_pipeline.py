"""Blocks beside the library's AES, while SAs get other keys; and what is in the memories behind."""

from __future__ import annotations

import os
import random
from collections import deque

import cocotb
from cocotb.triggers import FallingEdge, ReadOnly

from sim.tb.model import gcm
from sim.tb.traffic.reset import reset

INTERVAL, SAS = int(os.environ["INTERVAL"]), int(os.environ["SAS"])
LATENCY = gcm.pipeline_latency(INTERVAL)


class TB:
    """The pipeline, a staging memory, and what is due when."""

    def __init__(self, dut: object) -> None:
        self.dut = dut
        self.cycle = 0
        self.staging = [bytes(16)] * 16
        self.keys: list[bytes] = [b""] * SAS
        self.due: deque[tuple[int, int]] = deque()
        self.command_done = 0
        self.blocks = 0

    async def begin(self) -> None:
        await reset(self.dut, "valid_i", "command_i", "round_key_i", started=False)
        for _ in range(3):  # the first place is there before a command comes
            await self.step()

    def ready(self) -> bool:
        return self.dut.ready_o.value == 1

    async def step(self) -> None:
        """One cycle: what was given is taken, and what comes out is looked at."""
        await ReadOnly()
        place = self.dut.round_key_addr_o.value.to_unsigned()
        await FallingEdge(self.dut.clk_i)
        self.cycle += 1
        self.dut.round_key_i.value = gcm.packed(self.staging[place])
        self.dut.valid_i.value = 0
        # Without valid the others mean nothing.
        self.dut.command_i.value = random.getrandbits(1)
        if self.due and self.due[0][0] == self.cycle:
            assert self.dut.valid_o.value == 1
            assert self.dut.block_o.value.to_unsigned() == self.due.popleft()[1]
            self.blocks += 1
        else:
            assert self.dut.valid_o.value == 0

    def give(self, *, command: bool, sa: int, block: bytes = bytes(16)) -> None:
        dut = self.dut
        dut.valid_i.value, dut.command_i.value, dut.sa_i.value = 1, command, sa
        dut.block_i.value = gcm.packed(block)
        dut.key256_i.value = random.getrandbits(1) if command else len(self.keys[sa]) == 32

    def block(self) -> None:
        sa, block = random.randrange(SAS), random.randbytes(16)
        self.give(command=False, sa=sa, block=block)
        self.due.append((self.cycle + LATENCY, gcm.packed(gcm.encrypt(self.keys[sa], block))))

    def stage(self, keys: list[bytes]) -> None:
        """Allowed when no command is on its way; the first place is read a cycle later."""
        assert self.cycle >= self.command_done
        self.staging = keys

    def command(self, sa: int) -> None:
        self.give(command=True, sa=sa)
        self.command_done = self.cycle + LATENCY - 1

    async def ready_again(self) -> None:
        while not self.ready():
            await self.step()

    async def install(self, sa: int) -> None:
        """New keys at once, with whatever is on its way."""
        key = random.randbytes(random.choice((16, 32)))
        self.stage(gcm.staged_round_keys(key))
        await self.step()
        await self.ready_again()
        self.command(sa)
        self.keys[sa] = key
        await self.step()

    def memory(self, sa: int) -> list[int]:
        """The round keys of an SA, from all banks."""
        dut = self.dut
        words = [dut.u_whitening.mem[sa]]
        places = 1 << (INTERVAL - 1).bit_length()
        for unit in range(14 // INTERVAL):
            bank = dut.gen_unit[unit].u_unit.u_keys.mem
            words += [bank[sa * places + step] for step in range(INTERVAL)]
        return [word.value.to_unsigned() for word in words]


@cocotb.test()
async def blocks_are_encrypted_with_the_keys_of_their_place(dut: object) -> None:
    tb = TB(dut)
    await tb.begin()
    for sa in range(SAS):
        await tb.install(sa)
        while tb.cycle < tb.command_done:
            await tb.step()
    load, given, commands = 1.0, 0, 0
    while given < 1500:
        if random.random() < 0.02:
            load = random.choice((1.0, 1.0, 0.7, 0.1))
        if tb.cycle >= tb.command_done and random.random() < 0.1:
            # Blocks in front of it and behind it without a gap.
            sa, key = random.randrange(SAS), random.randbytes(random.choice((16, 32)))
            tb.stage(gcm.staged_round_keys(key))
            for _ in range(2):
                await tb.ready_again()
                tb.block()
                await tb.step()
            await tb.ready_again()
            tb.command(sa)
            tb.keys[sa] = key
            commands += 1
            given += 2
        elif tb.ready() and random.random() < load:
            tb.block()
            given += 1
        await tb.step()
    while tb.due:
        await tb.step()
    assert tb.blocks == given
    assert commands > 50


@cocotb.test()
async def a_block_at_every_opportunity(dut: object) -> None:
    tb = TB(dut)
    await tb.begin()
    for sa in range(SAS):
        await tb.install(sa)
        while tb.cycle < tb.command_done:
            await tb.step()
    await tb.ready_again()
    start = tb.cycle
    for _ in range(200):
        assert tb.ready()
        tb.block()
        for _ in range(INTERVAL):
            await tb.step()
    assert tb.cycle == start + 200 * INTERVAL
    while tb.due:
        await tb.step()


@cocotb.test()
async def removal_leaves_zeros_and_the_others_alone(dut: object) -> None:
    tb = TB(dut)
    await tb.begin()
    for sa in range(SAS):
        await tb.install(sa)
        while tb.cycle < tb.command_done:
            await tb.step()
    for removed in random.sample(range(SAS), SAS):
        before = [tb.memory(sa) for sa in range(SAS)]
        tb.stage([bytes(16)] * 16)
        await tb.step()
        await tb.ready_again()
        tb.command(removed)
        while tb.cycle < tb.command_done:
            await tb.step()
        for sa in range(SAS):
            assert tb.memory(sa) == ([0] * 15 if sa == removed else before[sa])
