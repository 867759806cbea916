"""The inbound direction as a whole, with a slot every cycle, every other, every seventh and every fourteenth."""

from __future__ import annotations

import pytest

from sim.tb.simulation import simulate

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
        parameters={"Interval": interval, "NSa": sas, "Window": window, "NSelectors": 4 * sas, "MaxPerSa": 4, **SIZES},
        visible=["inbound_lookup.item_valid_o", "inbound_lookup.item_room_i", "inbound_lookup.item_kind_o"],
        environment={
            "INTERVAL": str(interval),
            "SAS": str(sas),
            "WINDOW": str(window),
            "MOST": "4",
            "LARGEST": str(SIZES["LargestPacket"]),
        },
    )
