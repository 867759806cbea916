"""The engine as it is built: a block every cycle, every seventh, and engine-7 of hw/synth as it stands there."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from hw.synth import flow
from sim.tb.simulation import simulate, source

MEMORIES = (
    "ram_1r1w.mem", "ram_1r1w.read_data_q", "outbound_fetch.config_mem", "inbound_fetch.mem", "key_unit.words_q",
    "key_unit.block_q",
)  # fmt: skip
SMALL = {"NSa": 8, "Window": 128, "NSelectors": 32, "MaxPerSa": 4, "IntakeBytes": 16384, "ReleaseBytes": 16384}
# An output stalls sooner than it does as built, which would take a million cycles.
STALL = 2048
FAST = "7"
MATRIX: dict[str, Mapping[str, object]] = {
    "1": {"Interval": 1, **SMALL},
    "7": {"Interval": 7, **SMALL},
    "engine-7": next(build.parameters for build in flow.builds() if build.name == "engine-7"),
}
SBOXES = {"aes_pkg::SboxTable": "1'd0", "aes_pkg::SboxTower": "1'd1"}  # Verilator's -G takes numbers only


def in_all(parameters: Mapping[str, object]) -> dict[str, int]:
    """What the module has, with its own defaults for what is not given."""
    text = source("esp_engine").read_text()
    found = re.findall(r"parameter int unsigned (\w+) = (\d+)", text)
    assert len(found) > 8
    return {name: int(str(parameters.get(name, default))) for name, default in found}


@pytest.mark.parametrize(
    "parameters",
    [pytest.param(one, id=name, marks=() if name == FAST else pytest.mark.verify) for name, one in MATRIX.items()],
)
def test_esp_engine(parameters: Mapping[str, object]) -> None:
    has = in_all(parameters)
    simulate(
        "esp_engine",
        "sim.tb.esp_engine.bench_esp_engine",
        parameters={name: SBOXES.get(str(value), value) for name, value in parameters.items()} | {"StallCycles": STALL},
        visible=MEMORIES,
        environment={
            "NSA": str(has["NSa"]),
            "MOST": str(has["MaxPerSa"]),
            "WINDOW": str(has["Window"]),
            "SELECTORS": str(has["NSelectors"]),
            "STALL": str(STALL),
            "POWERS": {1: "4", 7: "1"}[has["Interval"]],
        },
    )
