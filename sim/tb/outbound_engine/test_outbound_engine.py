"""The outbound direction, with the benches of its parts behind it."""

from __future__ import annotations

import pytest

from sim.tb.simulation import simulate


@pytest.mark.parametrize("interval", [1, pytest.param(7, marks=pytest.mark.verify)])
def test_outbound_engine(interval: int) -> None:
    simulate(
        "outbound_engine_keyed",
        "sim.tb.outbound_engine.bench_outbound_engine",
        parameters={"NSa": 16, "Interval": interval},
        visible=("outbound_fetch.state_mem", "outbound_fetch.config_mem"),
        environment={"NSA": "16", "INTERVAL": str(interval)},
    )
