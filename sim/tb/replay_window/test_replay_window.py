"""The replay window at the sizes that are offered, for one SA and for several."""

from __future__ import annotations

import pytest

from sim.tb.simulation import simulate


@pytest.mark.parametrize(("window", "sas"), [(64, 1), (128, 3), (1024, 4), (4096, 2)])
def test_replay_window(window: int, sas: int) -> None:
    simulate(
        "replay_window",
        "sim.tb.replay_window.bench_replay_window",
        parameters={"NSa": sas, "Window": window},
        environment={"WINDOW": str(window), "SAS": str(sas)},
    )
