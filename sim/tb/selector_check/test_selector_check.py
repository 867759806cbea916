"""Traffic selectors against packets."""

from __future__ import annotations

import pytest

from sim.tb.simulation import simulate


@pytest.mark.parametrize(("pool", "most"), [(512, 16), (7, 3)])
def test_selector_check(pool: int, most: int) -> None:
    simulate(
        "selector_check",
        "sim.tb.selector_check.bench_selector_check",
        parameters={"NSelectors": pool, "MaxPerSa": most},
        environment={"POOL": str(pool), "MOST": str(most)},
    )
