"""GHASH's multiplier, pipelined and serial."""

from __future__ import annotations

import pytest

from sim.tb.model.gcm import INTERVALS
from sim.tb.simulation import simulate


# Those with a product each cycle and every second take long to compile; ghash has the first in its own bench.
@pytest.mark.parametrize(
    "interval", [pytest.param(one, marks=pytest.mark.verify) if one in (1, 2) else one for one in INTERVALS]
)
def test_ghash_multiplier(interval: int) -> None:
    simulate(
        "ghash_multiplier",
        "sim.tb.ghash_multiplier.bench_ghash_multiplier",
        parameters={"Interval": interval, "NoteWidth": 8},
        environment={"INTERVAL": str(interval)},
    )
