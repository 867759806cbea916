"""The memory with one port to write and one to read."""

from __future__ import annotations

import pytest

from sim.tb.simulation import simulate


@pytest.mark.parametrize("depth", [1, 7, 64])
def test_ram_1r1w(depth: int) -> None:
    simulate(
        "ram_1r1w",
        "sim.tb.ram_1r1w.bench_ram_1r1w",
        parameters={"Width": 20, "Depth": depth},
        environment={"DEPTH": str(depth)},
    )
