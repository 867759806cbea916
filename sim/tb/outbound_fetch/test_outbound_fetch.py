"""The outbound SAs, for two and for several."""

from __future__ import annotations

import pytest

from sim.tb.simulation import simulate


@pytest.mark.parametrize(("sas", "largest"), [(2, 2000), (8, 2000), (2, 65535)])
def test_outbound_fetch(sas: int, largest: int) -> None:
    simulate(
        "outbound_fetch",
        "sim.tb.outbound_fetch.bench_outbound_fetch",
        parameters={"NSa": sas, "MaxPacket": largest},
        visible=["outbound_fetch.state_mem"],
        environment={"SAS": str(sas), "LARGEST": str(largest)},
    )
