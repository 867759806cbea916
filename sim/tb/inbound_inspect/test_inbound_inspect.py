"""What is said of an opened packet."""

from __future__ import annotations

import pytest

from sim.tb.simulation import simulate


@pytest.mark.parametrize(("pool", "most"), [(32, 8), (20, 12)])
def test_inbound_inspect(pool: int, most: int) -> None:
    simulate(
        "inbound_inspect",
        "sim.tb.inbound_inspect.bench_inbound_inspect",
        parameters={"NSelectors": pool, "MaxPerSa": most},
        environment={"POOL": str(pool), "MOST": str(most)},
    )
