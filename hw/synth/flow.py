"""One build: from the RTL to numbers."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hw.synth import harness, timing, tools
from hw.synth.timing import plain

ROOT = Path(__file__).parents[2]
RTL = ROOT / "hw" / "rtl"
BENCHES = ROOT / "sim" / "tb"
BUILDS = Path(__file__).with_name("builds.toml")
RESULTS = ROOT / "build" / "synth"

TARGETS = ("ecp5", "xc7", "xcup")
# Each is run in two parts, since between them memories are words and not yet blocks, and can be told.
_SYNTH = {
    "ecp5": "synth_ecp5",
    "xc7": "synth_xilinx -flatten -noiopad -noclkbuf -family xc7",
    "xcup": "synth_xilinx -flatten -noiopad -noclkbuf -family xcup",
}
_MEMORIES_AT = {"ecp5": "map_ram", "xc7": "map_memory", "xcup": "map_memory"}

DEVICES = {"ecp5": "LFE5U-85F-8BG756", "xc7": "7 series", "xcup": "UltraScale+"}
_DEVICE = ("--85k", "--speed", "8", "--package", "CABGA756")
_HARNESS = "harness.json"
_SBOX = "aes_sbox"


@dataclass(frozen=True)
class Build:
    """A line of builds.toml."""

    name: str
    module: str
    parameters: Mapping[str, int | str] = field(default_factory=dict)
    interval: int | None = None
    wide: bool = False
    # nextpnr stops improving at the frequency that it is asked for, so it is asked for more than there is.
    wanted_mhz: int = 250
    # More of its options.
    nextpnr: Sequence[str] = ()
    # What is larger than the device is mapped, to see by how much.
    route: bool = True
    targets: Sequence[str] = TARGETS


def builds(path: Path = BUILDS) -> list[Build]:
    """All builds that there are. Raises ValueError for what is none."""
    made = [Build(**entry) for entry in tomllib.loads(path.read_text())["build"]]
    names = [build.name for build in made]
    if len(set(names)) != len(names):
        raise ValueError(f"{path}: two builds have one name")
    for build in made:
        if unknown := set(build.targets) - set(TARGETS):
            raise ValueError(f"{path}: {build.name} has unknown targets: {', '.join(sorted(unknown))}")
    return made


def synthesize(build: Build, target: str, folder: Path) -> dict[str, Any]:
    """Map a module to what a device has; returns what it takes. Leaves the netlist in ``folder``. Raises ToolError."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _HARNESS).unlink(missing_ok=True)  # of an older netlist
    top, synth, memories = build.module, _SYNTH[target], _MEMORIES_AT[target]
    before: list[str] = []
    after: list[str] = []
    constants: list[str] = []
    if target == "ecp5":
        if build.wide:
            # S-boxes by themselves, since it is all of a design or nothing that uses these multiplexers.
            sbox = Build(_SBOX, _SBOX, {"Impl": build.parameters["SboxImpl"]})
            constants = re.findall(r"(?:parameter|localparam) [^=;]*?(\w+) =", source(sbox).read_text())
            before = [
                _read(sbox),
                f"{synth} -top {_SBOX}",
                f"write_rtlil {_SBOX}.il",
                "design -reset",
            ]
            after = [f"delete ={_SBOX}", f"read_rtlil {_SBOX}.il", "setattr -mod -unset top *",
                     f"hierarchy -check -top {top}", "flatten", "opt_clean"]  # fmt: skip
        synth += " -nowidelut"
    script = [
        *before,
        _read(build, f"--blackboxed-module {_SBOX}" if before else ""),
        # The frontend has given each instance all constants of the module, which a black box has no use for.
        *(f"setparam -unset {name} t:{_SBOX}" for name in constants),
        f"hierarchy -check -top {top}",
        f"{synth} -top {top} -run begin:{memories}",
        "tee -q -o memories.txt dump t:$mem*",
        f"{synth} -top {top} -run {memories}:",
        *after,
        "tee -q -o cells.json stat -json",
        "write_rtlil netlist.il",
        f"blackbox {top}",
        "write_json ports.json",
    ]
    log = tools.yosys("\n".join(script) + "\n", folder, "synth")
    cells = json.loads((folder / "cells.json").read_text())["design"]["num_cells_by_type"]
    return {
        **count(target, cells),
        "cells": dict(sorted(cells.items())),
        "memories": memories_of(top, (folder / "memories.txt").read_text(), log),
    }


def route(build: Build, seed: int, folder: Path) -> dict[str, Any]:
    """Place and route the netlist that ``synthesize`` left for ECP5, in a harness. Raises ToolError."""
    if not (folder / _HARNESS).exists():
        _frame(build, folder)
    name = f"route-{seed}"
    arguments = (*_DEVICE, "--json", _HARNESS, "--seed", str(seed), "--freq", str(build.wanted_mhz),
                 *build.nextpnr, "--timing-allow-fail", "--report", f"{name}.json")  # fmt: skip
    _, seconds = tools.nextpnr(arguments, folder, name)
    report = json.loads((folder / f"{name}.json").read_text())
    (clock,) = report["fmax"].values()
    return {
        "seed": seed,
        "mhz": round(clock["achieved"], 1),
        "seconds": round(seconds),
        "critical_path": critical_path(report),
    }


def paths(build: Build, target: str, folder: Path) -> list[timing.Path]:
    """Paths of the netlist that ``synthesize`` left, by a model of delays, longest first. Raises ToolError."""
    tools.yosys("read_rtlil netlist.il\nwrite_json netlist.json\n", folder, "json")
    modules = json.loads((folder / "netlist.json").read_text())["modules"]
    return timing.Netlist(modules[build.module], timing.MODELS[target]).paths()


def verilog(build: Build, folder: Path) -> tuple[Path, tuple[str, ...]]:
    """The netlist that ``synthesize`` left, as Verilog, and the names of its ports. Raises ToolError."""
    tools.yosys("read_rtlil netlist.il\nwrite_verilog -noattr netlist.v\n", folder, "verilog")
    return folder / "netlist.v", tuple(_ports(build, folder))


def source(build: Build) -> Path:
    """The file of a build's module. Raises FileNotFoundError."""
    found = [*RTL.rglob(f"{build.module}.sv"), *BENCHES.rglob(f"{build.module}.sv")]
    if len(found) != 1:
        raise FileNotFoundError(f"{build.name}: {len(found)} files are called {build.module}.sv")
    return found[0]


def _read(build: Build, options: str = "") -> str:
    lines = (RTL / "packages.f").read_text().splitlines()
    packages = [str(RTL / line) for line in lines if line and not line.startswith("//")]
    folders = {path.parent for path in (*RTL.rglob("*.sv"), *BENCHES.rglob("*.sv"))}
    words = ["read_slang", "--threads", "1", "-DSYNTHESIS", "--top", build.module]
    words += [f"-G{name}={value}" for name, value in build.parameters.items()]
    words += [word for folder in sorted(folders) for word in ("-y", str(folder))]
    return " ".join([*words, options, *packages, str(source(build))])


def _ports(build: Build, folder: Path) -> dict[str, Any]:
    ports: dict[str, Any] = json.loads((folder / "ports.json").read_text())["modules"][build.module]["ports"]
    return ports


def _frame(build: Build, folder: Path) -> None:
    ports = _ports(build, folder)
    shapes = [harness.Port(name, port["direction"], len(port["bits"])) for name, port in ports.items()]
    (folder / "harness.v").write_text(harness.verilog(build.module, shapes))
    script = [
        "read_verilog harness.v",
        f"{_SYNTH['ecp5']} -top harness",
        f"delete ={build.module}",
        "read_rtlil netlist.il",
        "setattr -mod -unset top *",
        "hierarchy -top harness",
        "flatten",
        "opt_clean",
        f"write_json {_HARNESS}",
    ]
    tools.yosys("\n".join(script) + "\n", folder, "frame")


def count(target: str, cells: Mapping[str, int]) -> dict[str, int]:
    """What cells of a device take of it: LUTs, of them those that are carry chains or memory, and the rest."""
    if target == "ecp5":
        # A carry cell is two LUTs. A memory of 16 words of 4 bits is four, and its write port takes two more.
        carry, memory = 2 * cells.get("CCU2C", 0), 6 * cells.get("TRELLIS_DPR16X4", 0)
        return {
            "lut": cells.get("LUT4", 0) + carry + memory,
            "lut_carry": carry,
            "lut_memory": memory,
            "ff": cells.get("TRELLIS_FF", 0),
            "block_ram": cells.get("DP16KD", 0),
            "dsp": cells.get("MULT18X18D", 0),
        }
    logic = sum(cells.get(f"LUT{inputs}", 0) for inputs in range(1, 7)) + cells.get("INV", 0)
    memory = sum(_XILINX_MEMORY_LUTS.get(name, 0) * number for name, number in cells.items())
    return {
        "lut": logic + memory,
        "lut_carry": 0,
        "lut_memory": memory,
        "ff": sum(number for name, number in cells.items() if name in {"FDRE", "FDSE", "FDCE", "FDPE"}),
        # In units of 36 Kbit, the half ones rounded up.
        "block_ram": cells.get("RAMB36E1", 0) + cells.get("RAMB36E2", 0)
        + (cells.get("RAMB18E1", 0) + cells.get("RAMB18E2", 0) + 1) // 2,
        "dsp": cells.get("DSP48E1", 0) + cells.get("DSP48E2", 0),
    }  # fmt: skip


# LUTs that each takes. Shift registers among them.
_XILINX_MEMORY_LUTS = {
    "SRL16E": 1, "SRLC16E": 1, "SRLC32E": 1,
    "RAM32X1S": 1, "RAM64X1S": 1, "RAM128X1S": 2, "RAM256X1S": 4, "RAM512X1S": 8,
    "RAM32X1D": 2, "RAM64X1D": 2, "RAM128X1D": 4, "RAM256X1D": 8,
    "RAM32M": 4, "RAM64M": 4, "RAM32M16": 8, "RAM64M8": 8, "RAM64X8SW": 8,
}  # fmt: skip


def memories_of(top: str, dump: str, log: str) -> dict[str, dict[str, Any]]:
    """The memories that were there before mapping, with their sizes, and what each has become."""
    found: dict[str, dict[str, Any]] = {}
    for cell in re.split(r"\n(?=\s*cell )", dump):
        name = re.search(r"parameter \\MEMID \"\\*([^\"]+)\"", cell)
        if name is None:
            continue
        sizes = {key: int(_number(cell, key)) for key in ("SIZE", "WIDTH")}
        found[name[1].lstrip("\\")] = {"words": sizes["SIZE"], "bits": sizes["WIDTH"], "as": "unknown"}
    # What Yosys itself took for a ROM is a table of constants, in LUTs.
    found = {name: memory for name, memory in found.items() if "$" not in name}
    become = re.findall(r"mapping memory (\S+) via (\S+)", log)
    become += [(name, "flip-flops") for name in re.findall(r"using FF mapping for memory (\S+)", log)]
    for name, kind in become:
        if memory := found.get(name.removeprefix(f"{top}.")):
            memory["as"] = kind.strip("$_")
    return dict(sorted(found.items()))


def _number(cell: str, key: str) -> int:
    value = re.search(rf"parameter (?:signed )?\\{key} (?:(\d+)'([01]+)|(\d+))", cell)
    assert value is not None, f"a memory without {key}"
    return int(value[2], 2) if value[2] else int(value[3])


def critical_path(report: Mapping[str, Any]) -> dict[str, Any]:
    """The longest path between two registers: its ends, what is on it, and those nets that still have a name."""
    between = [path for path in report["critical_paths"] if "<async>" not in (path["from"], path["to"])]
    longest = max(between, key=lambda path: sum(step["delay"] for step in path["path"]))
    steps = longest["path"]
    nets = [plain(step["net"]) for step in steps if step["type"] == "routing"]

    def spent(*kinds: str) -> float:
        return round(sum(float(step["delay"]) for step in steps if step["type"] in kinds), 2)

    return {
        "from": plain(steps[0]["from"]["cell"]),
        "to": plain(steps[-1]["to"]["cell"]),
        # A run of carry cells is one.
        "levels": len([step for step in steps if step["type"] == "routing" and step["delay"] > 0]) - 1,
        "logic_ns": spent("logic"),
        "routing_ns": spent("routing"),
        "register_ns": spent("setup", "clk-to-q"),
        "through": list(dict.fromkeys(nets)),
    }
