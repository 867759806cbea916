"""GHASH's multiplier, pipelined and serial."""

from __future__ import annotations

import pytest

from sim.tb.model.gcm import INTERVALS
from sim.tb.simulation import simulate


@pytest.mark.parametrize("interval", INTERVALS)
def test_ghash_multiplier(interval: int) -> None:
    simulate(
        "ghash_multiplier",
        "sim.tb.ghash_multiplier.bench_ghash_multiplier",
        parameters={"Interval": interval, "NoteWidth": 8},
        environment={"INTERVAL": str(interval)},
    )
