"""A module of the RTL in ECP5's cells, by the flow of `make synth`, with models of these cells.

The models are Yosys's, but for two: it has none of block RAM (DP16KD.sv), and its own of a LUT takes long to compile
(LUT4.sv).
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from hw.synth import flow, tools
from sim.tb.simulation import NETLISTS, Netlist

HERE = Path(__file__).parent
DP16KD, LUT4 = HERE / "DP16KD.sv", HERE / "LUT4.sv"
# Carry cells, and the rest. Under NO_INCLUDES the latter is without primitives of other tools and pins of a device.
_YOSYS_CELLS = ("ccu2c_sim.vh", "common_sim.vh")
_YOSYS_LUT4 = re.compile(r"^module LUT4\b.*?^endmodule", re.DOTALL | re.MULTILINE)
# The device's registers begin as they are reset, and LUT RAM with its INITVAL. The RTL relies on no such thing, so here
# they begin with anything, as block RAM does.
_BEGINNINGS = (re.compile(r"\binitial Q = srval;"), re.compile(r"\bmem\[i\] <= INITVAL\[4\*i \+: 4\](?=;)"))
_CONTENTS = re.compile(r"\.INITVAL\((?!64'hx{16}\))[^)]*\)")


def make(build: flow.Build) -> Netlist:
    """Synthesize a module. Raises ToolError."""
    folder = NETLISTS / "work" / build.name
    tools.share()  # tells what is missing
    flow.synthesize(build, "ecp5", folder)
    netlist, ports = flow.verilog(build, folder)
    if found := _CONTENTS.search(netlist.read_text()):
        raise tools.ToolError(f"{build.name} has LUT RAM with initial contents: {found[0]}")
    return Netlist((netlist, yosys_cells(folder), DP16KD, LUT4), ports, NETLISTS / build.name)


def yosys_cells(folder: Path) -> Path:
    """Yosys's models but for those that are replaced, as one file in ``folder``. Raises ToolError."""
    text = "\n".join((tools.share() / "ecp5" / name).read_text() for name in _YOSYS_CELLS)
    for pattern in (_YOSYS_LUT4, *_BEGINNINGS):
        text, found = pattern.subn("", text)
        if found != 1:
            raise tools.ToolError(f"Yosys's models of cells are not as expected: {found} of {pattern.pattern}")
    path = folder / "cells.v"
    path.write_text(f"`define NO_INCLUDES\n{text}")
    return path


def with_a_mistake(netlist: Netlist, cell: str, folder: Path) -> Netlist:
    """The same in another folder, with the table inverted of the first LUT4 whose name begins so. Raises ValueError."""
    text = netlist.sources[0].read_text()
    found = re.search(rf"\.INIT\(16'h([0-9a-f]{{4}})\)\s*\) \\?{re.escape(cell)}", text)
    if found is None:
        raise ValueError(f"no LUT4 has a name that begins with {cell}")
    path = folder / "netlist.v"
    path.write_text(f"{text[: found.start(1)]}{int(found[1], 16) ^ 0xFFFF:04x}{text[found.end(1) :]}")
    return replace(netlist, sources=(path, *netlist.sources[1:]), folder=folder / "build")
