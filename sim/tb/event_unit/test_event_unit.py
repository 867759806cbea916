"""Events: a short queue and a longer one, and numbers of SAs that are no power of two."""

from __future__ import annotations

import pytest

from sim.tb.simulation import simulate


@pytest.mark.parametrize(("sas", "depth"), [(2, 2), (5, 8), (16, 5)])
def test_event_unit(sas: int, depth: int) -> None:
    simulate(
        "event_unit",
        "sim.tb.event_unit.bench_event_unit",
        parameters={"NSa": sas, "Depth": depth},
        environment={"SAS": str(sas), "DEPTH": str(depth)},
    )
