"""The inbound direction as a whole, at every interval of the cipher and with the narrowest window and the widest."""

from __future__ import annotations

import pytest

from sim.tb.simulation import simulate

# Selectors of an SA.
MOST = 8
# As in esp_engine: the smallest buffers that its longest packets fit in.
SIZES = {"IntakeBytes": 16384, "ReleaseBytes": 16384, "LargestPacket": 9728}


# Interval, SAs, window.
FAST = "1"
MATRIX = {
    "1": (1, 8, 128),
    "2": (2, 4, 256),
    "7": (7, 16, 64),
    "14": (14, 2, 1024),
    "widest window": (1, 4, 4096),
}


@pytest.mark.parametrize(
    ("interval", "sas", "window"),
    [pytest.param(*one, id=name, marks=() if name == FAST else pytest.mark.verify) for name, one in MATRIX.items()],
)
@pytest.mark.parametrize("bench", ["inbound_engine", "random", "coverage"])
def test_inbound_engine(bench: str, interval: int, sas: int, window: int) -> None:
    simulate(
        "inbound_engine_keyed",
        f"sim.tb.inbound_engine.bench_{bench}",
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
