"""GHASH of packets of many SAs, with four powers of H, two and one."""

from __future__ import annotations

import pytest

from sim.tb.simulation import simulate


@pytest.mark.parametrize(("interval", "sas"), [(1, 5), (2, 8), (7, 5), (14, 1)])
def test_ghash(interval: int, sas: int) -> None:
    simulate(
        "ghash",
        "sim.tb.ghash.bench_ghash",
        parameters={"Interval": interval, "NSa": sas},
        visible=["ram_1r1w.mem"],
        environment={"INTERVAL": str(interval), "SAS": str(sas)},
    )
