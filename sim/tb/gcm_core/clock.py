"""Clock and reset, the same for every bench of the cipher."""

from __future__ import annotations

from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, Timer


async def begin(dut: object) -> None:
    """Start the clock and reset the module; returns at a falling edge, after which everything may be given.

    Inputs are given at falling edges and outputs seen there: what is combinational between them has settled, and a
    cycle is from one falling edge to the next.
    """
    dut.clk_i.value = 0
    dut.rst_ni.value = 0
    await Timer(1, "ns")  # nothing is checked before reset is known to be on
    Clock(dut.clk_i, 2, "ns").start(start_high=False)
    for _ in range(3):
        await FallingEdge(dut.clk_i)
    dut.rst_ni.value = 1
