"""Products beside SP 800-38D's algorithm 1: corners and random factors, back to back and with gaps."""

from __future__ import annotations

import os
import random
from collections import deque

import cocotb
from cocotb.triggers import FallingEdge

from sim.tb.model.gcm import latency, multiply, packed
from sim.tb.traffic.reset import reset


def corners() -> list[tuple[bytes, bytes]]:
    """Every single coefficient by the highest one, which reduces the most, and by one."""
    one, highest = b"\x80" + bytes(15), bytes(15) + b"\x01"
    single = [(1 << i).to_bytes(16, "big") for i in range(128)]
    full = [b"\xff" * 16, bytes(16), one, highest]
    pairs = [(a, b) for a in full for b in full]
    return [*pairs, *((a, highest) for a in single), *((highest, a) for a in single), *((a, one) for a in single)]


@cocotb.test()
async def products_are_the_standards_after_a_fixed_time(dut: object) -> None:
    interval = int(os.environ["INTERVAL"])
    await reset(dut, "valid_i", started=False)
    factors = deque(corners() + [(random.randbytes(16), random.randbytes(16)) for _ in range(600)])
    due: deque[tuple[int, int, int]] = deque()
    cycle, free, done = 0, 0, 0
    while factors or due:
        if due and due[0][0] == cycle:
            _, product, note = due.popleft()
            assert dut.valid_o.value == 1
            assert (dut.product_o.value.to_unsigned(), dut.note_o.value.to_unsigned()) == (product, note)
            done += 1
        else:
            assert dut.valid_o.value == 0
        dut.valid_i.value = 0
        # b_i stays for `interval` cycles, and is anything behind them.
        if cycle == free:
            dut.b_i.value = random.getrandbits(128)
        if cycle >= free and factors and random.random() < 0.9:
            a, b = factors.popleft()
            note = random.getrandbits(8)
            dut.valid_i.value, dut.note_i.value = 1, note
            dut.a_i.value, dut.b_i.value = packed(a), packed(b)
            due.append((cycle + latency(interval), packed(multiply(a, b)), note))
            free = cycle + interval
        else:
            dut.a_i.value = 0
        cycle += 1
        await FallingEdge(dut.clk_i)
    assert done == 1000
