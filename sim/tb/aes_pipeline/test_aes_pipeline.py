"""AES for blocks of many SAs, with 14 rounds in hardware, seven pairs of rounds in time, two units of seven and one."""

from __future__ import annotations

import pytest

from sim.tb.simulation import simulate


@pytest.mark.parametrize(
    ("interval", "sbox", "sas"),
    [
        # Fourteen rounds in hardware take long to compile; the benches of gcm_core and outbound_engine have them too.
        pytest.param(1, 0, 5, marks=pytest.mark.verify),
        (7, 1, 1),
        pytest.param(2, 1, 8, marks=pytest.mark.verify),
        pytest.param(7, 0, 5, marks=pytest.mark.verify),
        pytest.param(14, 1, 3, marks=pytest.mark.verify),
    ],
    ids=lambda value: str(value),
)
def test_aes_pipeline(interval: int, sbox: int, sas: int) -> None:
    simulate(
        "aes_pipeline",
        "sim.tb.aes_pipeline.bench_aes_pipeline",
        parameters={"Interval": interval, "NSa": sas, "SboxImpl": f"1'd{sbox}"},
        visible=["ram_1r1w.mem"],
        environment={"INTERVAL": str(interval), "SAS": str(sas)},
    )
