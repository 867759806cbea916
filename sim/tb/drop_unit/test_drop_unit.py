"""Drops: with a short queue of records and a longer one."""

from __future__ import annotations

import pytest

from appliance.reasons import Reason
from sim.tb.simulation import simulate


@pytest.mark.parametrize(("sas", "depth"), [(2, 2), (300, 32)])
def test_drop_unit(sas: int, depth: int) -> None:
    simulate(
        "drop_unit",
        "sim.tb.drop_unit.bench_drop_unit",
        parameters={"NSa": sas, "Depth": depth},
        visible=["ram_1r1w.mem"],
        environment={"SAS": str(sas), "DEPTH": str(depth)},
    )


def test_every_reason_has_a_counter() -> None:
    assert all(reason.value < 32 for reason in Reason if reason.kind == "drop")
