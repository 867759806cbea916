"""The outbound direction, with the benches of its parts behind it."""

from __future__ import annotations

import pytest

from sim.tb.simulation import simulate

# Cycles between two blocks of the cipher: all that there are.
FAST = 1
INTERVALS = (1, 2, 7, 14)


@pytest.mark.parametrize(
    "interval", [pytest.param(one, marks=() if one == FAST else pytest.mark.verify) for one in INTERVALS]
)
def test_outbound_engine(interval: int) -> None:
    simulate(
        "outbound_engine_keyed",
        "sim.tb.outbound_engine.bench_outbound_engine",
        parameters={"NSa": 16, "Interval": interval},
        visible=("outbound_fetch.state_mem", "outbound_fetch.config_mem"),
        environment={"NSA": "16", "INTERVAL": str(interval)},
    )
