"""GHASH of packets of many SAs, with four powers of H, two and one."""

from __future__ import annotations

from typing import Any

import pytest

from sim.tb.simulation import simulate


def verify(*values: int) -> Any:
    return pytest.param(*values, marks=pytest.mark.verify)


@pytest.mark.parametrize(("interval", "sas"), [(1, 5), (7, 5), verify(2, 8), verify(14, 1)])
def test_ghash(interval: int, sas: int) -> None:
    simulate(
        "ghash",
        "sim.tb.ghash.bench_ghash",
        parameters={"Interval": interval, "NSa": sas},
        visible=["ram_1r1w.mem"],
        environment={"INTERVAL": str(interval), "SAS": str(sas)},
    )
