"""The model of delays: what it makes of netlists that can be added up by hand."""

from __future__ import annotations

from typing import Any

import pytest

from hw.synth.timing import MODELS, Netlist, plain

_INPUTS = {"A", "B", "C", "D", "I0", "I1", "DI", "S", "CI", "A0", "B0", "CIN", "CLK", "ADDRA", "ADDRB", "WCLK", "RAD"}


def cell(cell_type: str, **pins: list[int | str]) -> dict[str, Any]:
    """A cell of a netlist in JSON."""
    inputs = {"C", "D"} if cell_type == "FDRE" else _INPUTS
    directions = {pin: "input" if pin in inputs else "output" for pin in pins}
    return {"type": cell_type, "connections": pins, "port_directions": directions}


def netlist(target: str, names: dict[str, list[int | str]], **cells: dict[str, Any]) -> Netlist:
    """A module without ports."""
    nets = {name: {"bits": bits, "hide_name": 0} for name, bits in names.items()}
    return Netlist({"cells": cells, "ports": {}, "netnames": nets}, MODELS[target])


def test_a_path_is_the_sum_of_its_cells_and_wires() -> None:
    found = netlist(
        "ecp5",
        {"from_q": [1], "middle": [2], "to": [3], "held_q": [4]},
        first=cell("TRELLIS_FF", CLK=[9], DI=["0"], Q=[1]),
        one=cell("LUT4", A=[1], B=[1], C=["0"], D=["1"], Z=[2]),
        two=cell("LUT4", A=[2], B=["0"], C=["0"], D=["0"], Z=[3]),
        last=cell("TRELLIS_FF", CLK=[9], DI=[3], Q=[4]),
    )
    model = MODELS["ecp5"]
    longest = found.paths()[0]
    assert longest.ns == pytest.approx(
        model.register + model.route(2) + model.lut + model.route(1) + model.lut + model.route(1) + model.setup,
        abs=0.006,
    )
    assert (longest.begin, longest.end, longest.levels) == ("from_q", "held_q", 2)
    assert longest.through == (("middle", 1), ("to", 1))
    assert model.route(1) < model.route(2) < model.route(1 << 20) == model.most


def test_a_carry_chain_goes_up_and_has_no_wires_inside() -> None:
    found = netlist(
        "xc7",
        {"from_q": [1], "sum": [7], "lowest": [30], "highest": [31]},
        first=cell("FDRE", C=[9], D=["0"], Q=[1]),
        low=cell("CARRY4", CI=["0"], DI=[1, "0", "0", "0"], S=["0"] * 4, CO=[10, 11, 12, 13], O=[5, 14, 15, 16]),
        high=cell("CARRY4", CI=[13], DI=["0"] * 4, S=["0"] * 4, CO=[20, 21, 22, 23], O=[6, 24, 25, 7]),
        lowest=cell("FDRE", C=[9], D=[5], Q=[30]),
        highest=cell("FDRE", C=[9], D=[7], Q=[31]),
    )
    model = MODELS["xc7"]
    ns = {path.end: path.ns for path in found.paths()}
    assert ns["highest"] == pytest.approx(
        model.register + model.route(1) + model.carry_in + model.carry_out + model.route(1) + model.setup, abs=0.006
    )
    assert ns["lowest"] < ns["highest"]
    assert found.arrival(13) == found.arrival(10), "an input reaches every carry above it"


def test_a_memory_of_luts_is_read_by_its_own_address_alone() -> None:
    found = netlist(
        "xc7",
        {"address_q": [1], "read": [4], "last": [6], "other": [7]},
        late=cell("RAMB36E1", CLKARDCLK=[9], DOADO=[2]),
        first=cell("FDRE", C=[9], D=["0"], Q=[1]),
        memory=cell("RAM32M", ADDRA=[1], ADDRB=[2], WCLK=[9], DOA=[4], DOB=[5]),
        last=cell("FDRE", C=[9], D=[4], Q=[6]),
        other=cell("FDRE", C=[9], D=[5], Q=[7]),
    )
    model = MODELS["xc7"]
    ns = {path.end: path.ns for path in found.paths()}
    wires = 2 * model.route(1) + model.memory + model.setup
    assert ns["last"] == pytest.approx(model.register + wires, abs=0.006)
    assert ns["other"] == pytest.approx(model.block_ram + wires, abs=0.006)


def test_what_the_model_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="MULT18X18D"):
        netlist("ecp5", {}, one=cell("MULT18X18D", A=[1], P0=[2]))
    circle = netlist(
        "ecp5",
        {"round_and_round": [1]},
        one=cell("LUT4", A=[2], Z=[1]),
        two=cell("LUT4", A=[1], Z=[2]),
        last=cell("TRELLIS_FF", CLK=[9], DI=[1], Q=[3]),
    )
    with pytest.raises(ValueError, match="round_and_round depends on itself"):
        circle.paths()


@pytest.mark.parametrize(
    ("name", "is_called"),
    [
        ("dut.u_keys.state_q_TRELLIS_FF_Q_3", "u_keys.state_q"),
        ("u_regs.words_q_FDRE_Q", "u_regs.words_q"),
        ("u_core.sum_q_CARRY4_O_1", "u_core.sum_q"),
        ("u_core.sum_q$12", "u_core.sum_q"),
        ("u_core.sum_q", "u_core.sum_q"),
    ],
)
def test_names_are_those_of_the_rtl(name: str, is_called: str) -> None:
    assert plain(name) == is_called
