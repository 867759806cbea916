"""How a bench begins."""

from __future__ import annotations

from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, Timer

CYCLE = 10  # ns


async def reset(dut: object, *low: str, started: bool) -> None:
    """Two cycles of reset with these inputs low, and the clock before if it does not run yet.

    No clock edge comes before the reset is there: registers hold anything then, and assertions would tell. Ends behind
    a falling edge, as everything of these benches happens there: outputs that are registers' have settled, and what is
    driven is what the next rising edge sees.
    """
    dut.rst_ni.value = 0
    for name in low:
        getattr(dut, name).value = 0
    if not started:
        await Timer(1, "ns")
        Clock(dut.clk_i, CYCLE, "ns").start()
    for _ in range(2):
        await FallingEdge(dut.clk_i)
    dut.rst_ni.value = 1
