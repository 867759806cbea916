"""Commands of software, for two SAs and for a number that is no power of two."""

from __future__ import annotations

import pytest

from sim.tb.simulation import simulate


@pytest.mark.parametrize(("sas", "selectors", "per_sa"), [(2, 1, 1), (5, 20, 3)])
def test_sa_control(sas: int, selectors: int, per_sa: int) -> None:
    simulate(
        "sa_control",
        "sim.tb.sa_control.bench_sa_control",
        parameters={"NSa": sas, "NSelectors": selectors, "MaxPerSa": per_sa},
        environment={"SAS": str(sas), "SELECTORS": str(selectors), "PER_SA": str(per_sa)},
    )
