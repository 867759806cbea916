"""Hashes beside SP 800-38D's algorithm 2: packets of all lengths back to back, while SAs get other powers of H."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field

import cocotb
from cocotb.triggers import FallingEdge, ReadOnly

from sim.tb.model import gcm
from sim.tb.traffic.reset import reset

INTERVAL, SAS = int(os.environ["INTERVAL"]), int(os.environ["SAS"])
POWERS = gcm.powers(INTERVAL)
# From what a block is told of by, which is a cycle ahead of it.
LATENCY = 2 + gcm.latency(INTERVAL)


@dataclass
class Plan:
    """What is given in which cycle, and what is due then. ``cycle`` is where the next block or command may be."""

    cycle: int = POWERS + 4
    blocks: dict[int, tuple[int, bool, int, bytes]] = field(default_factory=dict)
    commands: dict[int, tuple[int, list[bytes]]] = field(default_factory=dict)
    hashes: dict[int, bytes] = field(default_factory=dict)
    keys: dict[int, bytes] = field(default_factory=dict)
    free: int = 0

    def packet(self, sa: int, length: int, *, zeros: int = 0) -> None:
        """A packet of random blocks, some of zeros in front of them."""
        blocks = [bytes(16)] * zeros + [random.randbytes(16) for _ in range(length)]
        for i, block in enumerate(blocks):
            following = min(len(blocks) - 1 - i, POWERS)
            self.blocks[self.cycle] = (sa, i == 0, following, block)
            last, self.cycle = self.cycle, self.cycle + INTERVAL
        self.hashes[last + LATENCY] = gcm.ghash(self.keys[sa], blocks[zeros:])

    def command(self, sa: int, h: bytes) -> None:
        """Powers of ``h`` for an SA, in the place of a block."""
        while self.cycle - POWERS < self.free:
            self.cycle += INTERVAL
        self.commands[self.cycle - POWERS] = (sa, gcm.powers_of(h, POWERS))
        self.keys[sa] = h
        self.free = self.cycle + 2
        self.cycle += INTERVAL

    def gap(self) -> None:
        self.cycle += random.randrange(1, 5 * INTERVAL)


async def play(dut: object, plan: Plan) -> None:
    """Everything that is planned, from reset on."""
    await reset(dut, "valid_i", "command_i", "power_i", started=False)
    staging = [bytes(16)] * POWERS
    hashes = 0
    block = random.randbytes(16)
    for cycle in range(plan.cycle + LATENCY + 20):
        dut.block_i.value = gcm.packed(block)
        if cycle in plan.blocks:
            sa, first, following, block = plan.blocks[cycle]
        else:
            sa, first, following, block = random.randrange(SAS), bool(random.getrandbits(1)), 0, random.randbytes(16)
        dut.valid_i.value, dut.first_i.value = cycle in plan.blocks, first
        dut.sa_i.value, dut.following_i.value = sa, following
        dut.command_i.value = cycle in plan.commands
        if cycle in plan.commands:
            dut.command_sa_i.value, staging = plan.commands[cycle]
        else:
            dut.command_sa_i.value = random.randrange(SAS)
        await ReadOnly()
        place = dut.power_addr_o.value.to_unsigned()
        assert (dut.valid_o.value == 1) == (cycle in plan.hashes), cycle
        if cycle in plan.hashes:
            assert dut.hash_o.value.to_unsigned() == gcm.packed(plan.hashes[cycle])
            hashes += 1
        await FallingEdge(dut.clk_i)
        dut.power_i.value = gcm.packed(staging[place])
    assert hashes == len(plan.hashes)


def installed() -> Plan:
    plan = Plan()
    for sa in range(SAS):
        plan.command(sa, random.randbytes(16))
    return plan


@cocotb.test()
async def packets_of_every_length_back_to_back(dut: object) -> None:
    plan = installed()
    start = plan.cycle
    lengths = [length for length in range(1, 14) for _ in range(4)]
    random.shuffle(lengths)
    for length in lengths:
        plan.packet(random.randrange(SAS), length)
    assert plan.cycle == start + INTERVAL * sum(lengths)
    await play(dut, plan)


@cocotb.test()
async def leading_zeros_change_nothing(dut: object) -> None:
    plan = installed()
    for length in range(1, 8):
        for zeros in range(6):
            plan.packet(random.randrange(SAS), length, zeros=zeros)
    await play(dut, plan)


@cocotb.test()
async def powers_change_between_the_packets_in_front_and_behind(dut: object) -> None:
    plan = installed()
    for _ in range(120):
        if random.random() < 0.2:
            plan.gap()
        # The same SA close on both sides of a command, in packets of one block and more.
        sa = random.randrange(SAS)
        for _ in range(random.randrange(1, 4)):
            plan.packet(sa, random.choice((1, 1, 2, 2, 3, 4, 5, 9)))
        plan.command(sa, random.randbytes(16))
        for _ in range(random.randrange(1, 4)):
            plan.packet(sa, random.choice((1, 1, 2, 2, 3, 4, 5, 9)))
    await play(dut, plan)


@cocotb.test()
async def removal_leaves_zeros_and_the_others_alone(dut: object) -> None:
    plan = installed()
    removed = random.randrange(SAS)
    plan.packet(removed, 3)
    plan.command(removed, bytes(16))
    await play(dut, plan)
    for sa in range(SAS):
        words = [dut.u_powers.mem[sa * POWERS + i].value.to_unsigned() for i in range(POWERS)]
        assert words == [gcm.packed(power) for power in gcm.powers_of(plan.keys[sa], POWERS)]
        assert (words == [0] * POWERS) == (sa == removed)
