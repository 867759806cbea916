"""The outbound SAs, for two and for several."""

from __future__ import annotations

import pytest

from sim.tb.simulation import simulate


@pytest.mark.parametrize("sas", [2, 8])
def test_outbound_fetch(sas: int) -> None:
    simulate(
        "outbound_fetch",
        "sim.tb.outbound_fetch.bench_outbound_fetch",
        parameters={"NSa": sas, "MaxPacket": 2000},
        visible=["outbound_fetch.state_mem"],
        environment={"SAS": str(sas)},
    )
