"""AES-GCM for packets of many SAs, a slot every cycle, every other, every seventh and every fourteenth."""

from __future__ import annotations

import pytest

from sim.tb.simulation import BuildError, build, simulate


@pytest.mark.parametrize(
    ("interval", "sbox", "sas"),
    [
        (1, 0, 1024),
        pytest.param(2, 0, 5, marks=pytest.mark.verify),
        pytest.param(7, 1, 256, marks=pytest.mark.verify),
        pytest.param(14, 0, 1, marks=pytest.mark.verify),
    ],
    ids=lambda value: str(value),
)
def test_gcm_core(interval: int, sbox: int, sas: int) -> None:
    simulate(
        "gcm_core_keyed",
        "sim.tb.gcm_core.bench_gcm_core",
        parameters={"Interval": interval, "NSa": sas, "SboxImpl": f"1'd{sbox}"},
        visible=["ram_1r1w.mem"],
        environment={"INTERVAL": str(interval), "SAS": str(sas)},
    )


@pytest.mark.parametrize("module", ["gcm_core", "aes_pipeline", "ghash", "ghash_multiplier", "key_unit"])
def test_another_interval_is_refused(module: str) -> None:
    with pytest.raises(BuildError, match="Interval must be 1, 2, 7 or 14"):
        build(module, {"Interval": 4})
