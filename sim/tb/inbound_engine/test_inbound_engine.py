"""The inbound direction as a whole, with a slot every cycle, every seventh and every fourteenth."""

from __future__ import annotations

import pytest

from sim.tb.simulation import simulate

# Selectors of an SA.
MOST = 8
SIZES = {"IntakeBytes": 4096, "ReleaseBytes": 4096, "LargestPacket": 2000}


@pytest.mark.parametrize(
    ("interval", "sas", "window"),
    [
        (1, 8, 128),
        pytest.param(7, 16, 64, marks=pytest.mark.verify),
        pytest.param(14, 2, 1024, marks=pytest.mark.verify),
    ],
)
def test_inbound_engine(interval: int, sas: int, window: int) -> None:
    simulate(
        "inbound_engine_keyed",
        "sim.tb.inbound_engine.bench_inbound_engine",
        parameters={
            "Interval": interval,
            "NSa": sas,
            "Window": window,
            "NSelectors": MOST * sas,
            "MaxPerSa": MOST,
            **SIZES,
        },
        visible=["inbound_lookup.item_valid_o", "inbound_lookup.item_room_i", "inbound_lookup.item_kind_o"],
        environment={
            "INTERVAL": str(interval),
            "SAS": str(sas),
            "WINDOW": str(window),
            "MOST": str(MOST),
            "LARGEST": str(SIZES["LargestPacket"]),
        },
    )
