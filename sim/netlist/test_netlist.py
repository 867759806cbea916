"""The synthesised netlists of the cipher and of the replay window pass the benches that their RTL passes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hw.synth import flow, tools
from sim.netlist.ecp5 import LUT4, make, with_a_mistake
from sim.tb.simulation import Netlist, simulate

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


def replay_window(name: str, sas: int) -> Netlist:
    return make(replace(BUILDS["replay_window"], name=name, parameters={"NSa": sas, "Window": 1024}))


def simulate_replay_window(netlist: Netlist, sas: int) -> None:
    simulate(
        "replay_window",
        "sim.tb.replay_window.bench_replay_window",
        environment={"WINDOW": "1024", "SAS": str(sas)},
        netlist=netlist,
    )


@pytest.mark.parametrize("sas", [4, 256])
def test_the_netlist_of_the_replay_window_passes_its_bench(sas: int) -> None:
    """With 4 SAs the windows are in LUT RAM, with 256 in block RAM."""
    simulate_replay_window(replay_window(f"replay_window-{sas}", sas), sas)


def test_a_wrong_table_is_found(tmp_path: Path) -> None:
    """It is one of those that tell whether a number was seen."""
    netlist = with_a_mistake(replay_window("replay_window-mistake", 4), "seen_q", tmp_path)
    with pytest.raises(pytest.fail.Exception, match="are_judged_as_the_golden_model_does failed"):
        simulate_replay_window(netlist, 4)


def test_a_lut_is_yosys_own(tmp_path: Path) -> None:
    """For each of the 16 entries by itself, and so for all tables: what comes out is an entry that inputs choose."""
    script = [
        f"read_verilog {tools.share() / 'ecp5' / 'common_sim.vh'}",
        "rename LUT4 theirs",
        f"read_verilog -sv {LUT4}",
        "rename LUT4 ours",
    ]
    for entry in range(16):
        script += [
            f"chparam -set INIT {1 << entry} ours theirs",
            f"miter -equiv -flatten ours theirs miter{entry}",
            f"sat -verify -prove trigger 0 miter{entry}",
        ]
    tools.yosys("\n".join(script) + "\n", tmp_path, "lut4")
