"""AES's round beside the definition (FIPS 197), and the S-box at all 256 places."""

from __future__ import annotations

import os
import random

import cocotb
from cocotb.triggers import Timer

from sim.tb.model import aes

CYCLES = int(os.environ["CYCLES"])


async def made(dut: object, state: bytes, key: bytes, *, last: bool = False, bypass: bool = False) -> bytes:
    """What comes of a state. With two cycles the inputs are others in the second."""
    dut.clk_i.value = 0
    dut.state_i.value, dut.key_i.value = int.from_bytes(state, "little"), int.from_bytes(key, "little")
    dut.last_i.value, dut.bypass_i.value = last, bypass
    await Timer(1, "ns")
    if CYCLES == 2:
        dut.clk_i.value = 1
        await Timer(1, "ns")
        dut.state_i.value, dut.key_i.value = random.getrandbits(128), random.getrandbits(128)
        dut.last_i.value, dut.bypass_i.value = random.getrandbits(1), random.getrandbits(1)
        await Timer(1, "ns")
    return bytes(dut.state_o.value.to_unsigned().to_bytes(16, "little"))


@cocotb.test()
async def every_substitution_is_the_definitions(dut: object) -> None:
    for value in range(256):
        state = bytes((value + 16 * i) & 255 for i in range(16))
        assert await made(dut, state, bytes(16), last=True) == aes.round(state, bytes(16), last=True)


@cocotb.test()
async def rounds_are_the_definitions(dut: object) -> None:
    for _ in range(500):
        state, key, last = random.randbytes(16), random.randbytes(16), random.random() < 0.3
        assert await made(dut, state, key, last=last) == aes.round(state, key, last=last)


@cocotb.test()
async def a_state_that_passes_by_stays_as_it_is(dut: object) -> None:
    for _ in range(100):
        state = random.randbytes(16)
        assert await made(dut, state, random.randbytes(16), last=bool(random.getrandbits(1)), bypass=True) == state
