"""Round keys beside FIPS 197 §5.2, powers of H beside SP 800-38D, the time it takes, and that nothing is left."""

from __future__ import annotations

import os
import random

import cocotb
from cocotb.triggers import FallingEdge, RisingEdge

from sim.tb.model import gcm
from sim.tb.traffic.reset import reset

INTERVAL = int(os.environ["INTERVAL"])
POWERS = gcm.powers(INTERVAL)


async def run(dut: object, *, key: bytes | None) -> int:
    """One operation; returns how many cycles it was busy."""
    assert dut.busy_o.value == 0
    (dut.zero_i if key is None else dut.start_i).value = 1
    # What is above a key of 128 bits may be anything.
    above = random.randbytes(16) if key is None or len(key) == 16 else b""
    dut.key_i.value = random.getrandbits(256)
    dut.key256_i.value = key is not None and len(key) == 32
    await FallingEdge(dut.clk_i)
    dut.start_i.value = dut.zero_i.value = 0
    dut.key_i.value = gcm.packed((key or random.randbytes(16)) + above)
    dut.key256_i.value = random.getrandbits(1)
    cycles = 0
    while dut.busy_o.value == 1:
        assert dut.done_o.value == 0
        await FallingEdge(dut.clk_i)
        dut.key_i.value = random.getrandbits(256)
        cycles += 1
    assert dut.done_o.value == 1
    # The key's registers are clear.
    for register in (dut.words_q, dut.block_q, dut.columns_q, dut.to_substitute_q):
        assert register.value.to_unsigned() == 0
    assert dut.substituted_q.value.to_unsigned() == 0x63636363  # the S-boxes of zeros
    return cycles


async def staged(dut: object) -> tuple[list[bytes], list[bytes]]:
    """What the two memories have."""
    found: tuple[list[bytes], list[bytes]] = ([], [])
    ports = ((dut.round_key_addr_i, dut.round_key_o, 16), (dut.power_addr_i, dut.power_o, POWERS))
    for values, (address, data, places) in zip(found, ports, strict=True):
        for place in range(places):
            address.value = place
            await RisingEdge(dut.clk_i)
            await FallingEdge(dut.clk_i)
            values.append(data.value.to_unsigned().to_bytes(16, "little"))
        address.value = 0
    return found


@cocotb.test()
async def staged_keys_are_the_standards_in_a_fixed_time(dut: object) -> None:
    await reset(dut, "start_i", "zero_i", "round_key_addr_i", "power_addr_i", started=False)
    # FIPS 197 appendix A.1 and A.3, and random ones; a short key behind a long one finds nothing of it.
    keys = [
        bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c"),
        bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4"),
    ]
    keys += [random.randbytes(random.choice((16, 32))) for _ in range(40)]
    for key in keys:
        cycles = await run(dut, key=key)
        assert cycles == 18 + 6 * (60 if len(key) == 32 else 44) + 129 * (POWERS - 1), cycles
        round_keys, powers = await staged(dut)
        assert round_keys == gcm.staged_round_keys(key)
        assert powers == gcm.powers_of(gcm.hash_key(key), POWERS)


@cocotb.test()
async def zeros_take_the_place_of_keys(dut: object) -> None:
    await reset(dut, "start_i", "zero_i", "round_key_addr_i", "power_addr_i", started=False)
    for _ in range(3):
        await run(dut, key=random.randbytes(32))
        assert await run(dut, key=None) == 17
        assert await staged(dut) == ([bytes(16)] * 16, [bytes(16)] * POWERS)
