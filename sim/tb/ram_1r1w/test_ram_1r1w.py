"""The memory with one port to write and one to read."""

from __future__ import annotations

import pytest

from sim.tb.simulation import simulate


# Verilator has words of up to 32 bits, of up to 64, and wider ones.
@pytest.mark.parametrize(
    ("width", "depth", "forgets"), [(20, 1, 0), (20, 7, 0), (20, 64, 0), (20, 64, 1), (50, 64, 0), (128, 512, 0)]
)
def test_ram_1r1w(width: int, depth: int, forgets: int) -> None:
    simulate(
        "ram_1r1w",
        "sim.tb.ram_1r1w.bench_ram_1r1w",
        parameters={"Width": width, "Depth": depth, "Forgets": f"1'd{forgets}"},
        visible=["ram_1r1w.mem"],
        environment={"WIDTH": str(width), "DEPTH": str(depth), "FORGETS": str(forgets)},
    )
