"""The synthesised netlists of the cipher and of the replay window pass the benches that their RTL passes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hw.synth import flow, tools
from sim.netlist.ecp5 import make
from sim.tb.simulation import simulate

# Minutes, and the tools come with `make verify` and `make test-rtl`.
pytestmark = pytest.mark.verify

BUILDS = {build.name: build for build in flow.builds()}


@pytest.mark.parametrize("name", ["gcm-7-table", "gcm-7-tower"])
def test_the_netlist_of_the_cipher_passes_its_bench(name: str) -> None:
    build = BUILDS[name]
    simulate(
        build.module,
        "sim.tb.gcm_core.bench_gcm_core",
        parameters=build.parameters,
        visible=["DP16KD.mem"],
        environment={"INTERVAL": str(build.interval), "SAS": str(build.parameters["NSa"])},
        netlist=make(build),
    )


@pytest.mark.parametrize("sas", [4, 256])
def test_the_netlist_of_the_replay_window_passes_its_bench(sas: int) -> None:
    """With 4 SAs the windows are in LUT RAM, with 256 in block RAM."""
    build = replace(BUILDS["replay_window"], name=f"replay_window-{sas}", parameters={"NSa": sas, "Window": 1024})
    simulate(
        build.module,
        "sim.tb.replay_window.bench_replay_window",
        parameters=build.parameters,
        environment={"WINDOW": "1024", "SAS": str(sas)},
        netlist=make(build),
    )
