"""The memory with one port to write and one to read."""

from __future__ import annotations

import pytest

from sim.tb.simulation import simulate


@pytest.mark.parametrize(("depth", "forgets"), [(1, 0), (7, 0), (64, 0), (64, 1)])
def test_ram_1r1w(depth: int, forgets: int) -> None:
    simulate(
        "ram_1r1w",
        "sim.tb.ram_1r1w.bench_ram_1r1w",
        parameters={"Width": 20, "Depth": depth, "Forgets": f"1'd{forgets}"},
        environment={"DEPTH": str(depth), "FORGETS": str(forgets)},
    )
