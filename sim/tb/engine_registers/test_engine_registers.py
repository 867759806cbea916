"""The registers of the engine over AXI4-Lite, by the names that the generated classes give them."""

from __future__ import annotations

import pytest

from sim.tb.simulation import simulate


@pytest.mark.parametrize("parameters", [
    {"NSa": 4, "NSelectors": 6, "MaxPerSa": 2, "EventDepth": 3, "DropDepth": 4},
    pytest.param(
        {"NSa": 5, "NSelectors": 16, "MaxPerSa": 8, "EventDepth": 8, "DropDepth": 8, "Window": 128, "Interval": 1,
         "MaxPacket": 2000, "MaxOuter": 2100, "StallCycles": 4096, "TowerSbox": 1, "InputBytes": 4096,
         "OutputBytes": 8192},
        marks=pytest.mark.verify,
    ),
])  # fmt: skip
def test_engine_registers(parameters: dict[str, int]) -> None:
    simulate(
        "engine_registers",
        "sim.tb.engine_registers.bench_engine_registers",
        parameters=parameters,
        visible=["ram_1r1w.mem"],
        environment={name.upper(): str(value) for name, value in parameters.items()},
    )
