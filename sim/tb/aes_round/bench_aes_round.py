"""AES's round beside the definition (FIPS 197), and the S-box at all 256 places."""

from __future__ import annotations

import random

import cocotb
from cocotb.triggers import Timer

from sim.tb.model import aes


@cocotb.test()
async def every_substitution_is_the_definitions(dut: object) -> None:
    for value in range(256):
        state = bytes((value + 16 * i) & 255 for i in range(16))
        dut.state_i.value = int.from_bytes(state, "little")
        dut.key_i.value = 0
        dut.last_i.value = 1
        await Timer(1, "ns")
        assert dut.state_o.value.to_unsigned().to_bytes(16, "little") == aes.round(state, bytes(16), last=True)


@cocotb.test()
async def rounds_are_the_definitions(dut: object) -> None:
    for _ in range(500):
        state, key, last = random.randbytes(16), random.randbytes(16), random.random() < 0.3
        dut.state_i.value = int.from_bytes(state, "little")
        dut.key_i.value = int.from_bytes(key, "little")
        dut.last_i.value = last
        await Timer(1, "ns")
        assert dut.state_o.value.to_unsigned().to_bytes(16, "little") == aes.round(state, key, last=last)
