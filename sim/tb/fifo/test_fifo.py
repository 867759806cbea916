"""The queue and the register slice: one bench for both, since both are a handshake in and a handshake out."""

from __future__ import annotations

import pytest

from sim.tb.simulation import simulate


@pytest.mark.parametrize(
    "parameters", [{"Depth": 2, "Width": 8}, {"Depth": 3, "Width": 24}, {"Depth": 16, "Width": 24}]
)
def test_fifo(parameters: dict[str, int]) -> None:
    environment = {name.upper(): str(value) for name, value in parameters.items()}
    simulate("fifo", "sim.tb.fifo.bench_fifo", parameters=parameters, environment=environment)


def test_skid_buffer() -> None:
    simulate(
        "skid_buffer",
        "sim.tb.fifo.bench_fifo",
        parameters={"Width": 24},
        environment={"DEPTH": "2", "WIDTH": "24"},
    )
