"""The engine as it is built: a block every cycle, and every seventh."""

from __future__ import annotations

import pytest

from sim.tb.simulation import simulate

MEMORIES = (
    "ram_1r1w.mem", "ram_1r1w.read_data_q", "outbound_fetch.config_mem", "inbound_fetch.mem", "key_unit.words_q",
    "key_unit.block_q",
)  # fmt: skip


@pytest.mark.parametrize("interval", [pytest.param(1, marks=pytest.mark.verify), 7])
def test_esp_engine(interval: int) -> None:
    simulate(
        "esp_engine",
        "sim.tb.esp_engine.bench_esp_engine",
        parameters={"Interval": interval, "NSa": 8, "Window": 128, "NSelectors": 32, "MaxPerSa": 4,
                    "IntakeBytes": 16384, "ReleaseBytes": 16384},
        visible=MEMORIES,
        environment={"NSA": "8", "MOST": "4", "WINDOW": "128", "POWERS": {1: "4", 7: "1"}[interval]},
    )  # fmt: skip
