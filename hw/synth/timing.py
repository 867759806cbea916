"""Paths of a netlist before it is placed, by a model of delays.

What a place in the design costs is not known then, so a wire has the delay that wires with as many ends have on
average. That is good for finding what is long, in seconds and not in an hour, and for a projection where there is no
free tool that routes. `MODELS` says what is assumed.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

# A bit of a netlist in Yosys's JSON is a number; constants are strings.
Bit = int


@dataclass(frozen=True)
class Model:
    """Delays in ns. A wire of n ends takes ``wire + doubling * log2(n)``, and ``most`` at most."""

    register: float  # clock to Q
    setup: float
    lut: float
    mux: float  # the one between two LUTs of a slice
    carry_in: float  # from a LUT's input to the carry chain
    carry: float  # from one carry cell to the next
    carry_out: float  # from the carry chain to a sum
    block_ram: float  # clock to data
    memory: float  # LUT RAM, address to data
    shift: float  # shift register in a LUT, clock to data
    wire: float
    doubling: float
    most: float

    def route(self, ends: int) -> float:
        """The delay of a wire to ``ends`` inputs, ns."""
        return min(self.wire + self.doubling * math.log2(max(ends, 1)), self.most)


_XC7 = Model(
    register=0.30, setup=0.05, lut=0.24, mux=0.22, carry_in=0.40, carry=0.12, carry_out=0.27, block_ram=2.45,
    memory=0.47, shift=1.47, wire=0.4, doubling=0.1, most=1.6,
)  # fmt: skip


def _scaled(model: Model, factor: float) -> Model:
    return Model(**{name: value * factor for name, value in vars(model).items()})


MODELS: Mapping[str, Model] = {
    # Cells of speed grade 8 as nextpnr reports them; wires as they come out on the paths that its placer cares for.
    "ecp5": Model(
        register=0.52, setup=0.0, lut=0.24, mux=0.20, carry_in=0.45, carry=0.07, carry_out=0.44, block_ram=4.2,
        memory=0.24, shift=0.52, wire=0.4, doubling=0.12, most=2.0,
    ),
    # Cells of Artix-7, speed grade 1, as Yosys's models of them have them, of Project X-Ray; a wire is assumed
    # to take what makes a level of logic 0.65 to 0.9 ns.
    "xc7": _XC7,
    # Nobody has published these: assumed to be half of the 7 series'.
    "xcup": _scaled(_XC7, 0.5),
}  # fmt: skip


@dataclass(frozen=True)
class Path:
    """From a register to another, by the names that the RTL gave: ``through`` with how many ends each net has."""

    ns: float
    begin: str
    end: str
    levels: int
    through: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class _Cell:
    name: str
    type: str
    pins: Mapping[str, list[Bit | str]]
    directions: Mapping[str, str]

    def bits(self, direction: str) -> Iterator[tuple[str, int, Bit]]:
        """Pins of a direction that are connected: name, which of it, and the bit."""
        for pin, bits in self.pins.items():
            if self.directions[pin] == direction:
                yield from ((pin, index, bit) for index, bit in enumerate(bits) if isinstance(bit, Bit))


class Netlist:
    """A flat module of a device's cells, as Yosys's ``write_json`` has it. Raises ValueError for a cell that the model
    does not know: what is not looked at is not fast."""

    def __init__(self, module: Mapping[str, Any], model: Model) -> None:
        self.model = model
        self.cells = [
            _Cell(name, cell["type"], cell["connections"], cell["port_directions"])
            for name, cell in module["cells"].items()
            if cell["type"] != "$scopeinfo"
        ]
        if unknown := {cell.type for cell in self.cells if _kind(cell.type) == "unknown"}:
            raise ValueError(f"no delays for cells of type {', '.join(sorted(unknown))}")
        self.outputs = {name: port["bits"] for name, port in module["ports"].items() if port["direction"] == "output"}
        self.names = _names(module["netnames"])
        self.driver = {bit: (cell, pin, index) for cell in self.cells for pin, index, bit in cell.bits("output")}
        self.ends = Counter(bit for cell in self.cells for _, _, bit in cell.bits("input"))
        self._arrival: dict[Bit, float] = {}
        self._before: dict[Bit, Bit | None] = {}

    def paths(self) -> list[Path]:
        """The longest path between any two registers, by their names in the RTL, longest first. Ports are registers."""
        longest: dict[tuple[str, str], tuple[float, Bit]] = {}
        for end, bit, setup in self._endpoints():
            ns = self.arrival(bit) + self.model.route(self.ends[bit]) + setup
            key = (self._name(self._first(bit)), end)
            if key not in longest or longest[key][0] < ns:
                longest[key] = (ns, bit)
        found = [self._path(ns, bit, end) for (_, end), (ns, bit) in longest.items()]
        return sorted(found, key=lambda path: -path.ns)

    def arrival(self, bit: Bit) -> float:
        """When a bit has settled behind the clock's edge, ns. Raises ValueError if it goes in a circle."""
        stack, under_way = [bit], set[Bit]()
        while stack:
            top = stack[-1]
            if top in self._arrival:
                stack.pop()
                continue
            sources = list(self._sources(top))
            if open_ones := [source for source, _ in sources if source is not None and source not in self._arrival]:
                if top in under_way:
                    raise ValueError(f"{self._name(top)} depends on itself, without a register")
                under_way.add(top)
                stack += open_ones
                continue
            times = [(self._arrival[source] if source is not None else 0.0) + delay for source, delay in sources]
            self._arrival[top] = max(times, default=0.0)
            self._before[top] = sources[times.index(max(times))][0] if times else None
            stack.pop()
        return self._arrival[bit]

    def _sources(self, bit: Bit) -> Iterator[tuple[Bit | None, float]]:
        """What a bit comes from and the delay from there, wire and cell; None is the clock."""
        if bit not in self.driver:
            yield None, self.model.register
            return
        cell, pin, index = self.driver[bit]
        kind = _kind(cell.type)
        if kind in _CLOCKED:
            yield None, _CLOCKED[kind](self.model)
        for source_pin, source_index, source in cell.bits("input"):
            delay = _arc(self.model, kind, (source_pin, source_index), (pin, index))
            if delay is not None:
                inside = (kind, source_pin) in _INSIDE
                yield source, delay + (0.0 if inside else self.model.route(self.ends[source]))

    def _endpoints(self) -> Iterator[tuple[str, Bit, float]]:
        """Where paths end: the name, the bit, and the setup time."""
        for cell in self.cells:
            kind = _kind(cell.type)
            if kind in _CLOCKED:
                for pin, _, bit in cell.bits("input"):
                    if not _CLOCK.fullmatch(pin) and not (kind in {"memory", "shift"} and _READ.match(pin)):
                        yield self._whose(cell, kind), bit, self.model.setup
        for name, bits in self.outputs.items():
            yield from ((name, bit, self.model.setup) for bit in bits if isinstance(bit, Bit))

    def _whose(self, cell: _Cell, kind: str) -> str:
        """The name of a cell where paths end: a register's is the one of what it holds."""
        if kind == "register" and (held := next((bit for pin, _, bit in cell.bits("output")), None)) is not None:
            return self._name(held)
        return plain(cell.name)

    def _first(self, bit: Bit) -> Bit:
        while (before := self._before[bit]) is not None:
            bit = before
        return bit

    def _path(self, ns: float, bit: Bit, end: str) -> Path:
        on_it = [bit]
        while (before := self._before[on_it[-1]]) is not None:
            on_it.append(before)
        on_it.reverse()
        through: dict[str, int] = {}
        for each in on_it[1:]:
            name = self.names.get(each)
            if not name:
                continue
            through[name] = max(through.get(name, 0), self.ends[each])
        levels = sum(_kind(self.driver[each][0].type) != "carry" for each in on_it[1:])
        return Path(round(ns, 2), self._name(on_it[0]), end, levels, tuple(through.items()))

    def _name(self, bit: Bit) -> str:
        return self.names.get(bit) or f"net {bit}"


_KINDS: tuple[tuple[str, str], ...] = (
    ("lut", r"LUT[1-6]|INV"),
    ("mux", r"PFUMX|L6MUX21|MUXF[789]"),
    ("carry", r"CCU2C|CARRY4|CARRY8"),
    ("register", r"TRELLIS_FF|FD[RSCP]E(_1)?"),
    ("block_ram", r"DP16KD|PDPW16KD|RAMB(18|36)E[12]"),
    ("memory", r"TRELLIS_DPR16X4|RAM\d+X\d+(S|D|SW)|RAM(32|64)M(8|16)?"),
    ("shift", r"SRLC?(16|32)E"),
)
_CLOCKED: Mapping[str, Callable[[Model], float]] = {
    "register": lambda model: model.register,
    "block_ram": lambda model: model.block_ram,
    "memory": lambda model: model.register,
    "shift": lambda model: model.shift,
}
_CLOCK = re.compile(r"CLK[ABWR]?|C|WCK|WCLK|CLK(ARD|BWR)CLK")
# Addresses that a memory in LUTs is read by: of these the data depends without a clock.
_READ = re.compile(r"RAD|DPRA|ADDR[A-H]|A\d*$")
# A carry cell's input from the one in front of it, and that of a multiplexer from its LUTs, have no wire.
_INSIDE = {("carry", pin) for pin in ("CIN", "CI")} | {("mux", pin) for pin in ("ALUT", "BLUT", "D0", "D1", "I0", "I1")}


def _kind(cell_type: str) -> str:
    return next((kind for kind, pattern in _KINDS if re.fullmatch(pattern, cell_type)), "unknown")


def _arc(model: Model, kind: str, source: tuple[str, int], target: tuple[str, int]) -> float | None:
    """The delay through a cell from an input to an output, or None if it does not depend on that."""
    if kind in {"lut", "mux"}:
        return model.lut if kind == "lut" else model.mux
    if kind == "carry":
        chained = source[0] in {"CIN", "CI"}
        if _place(source) > _place(target):
            return None
        if target[0] in {"COUT", "CO"}:
            return model.carry if chained else model.carry_in
        return model.carry_out if chained else model.carry_in + 0.15 * (_place(source) < _place(target))
    if kind in {"memory", "shift"}:
        if not _READ.match(source[0]):
            return None
        # Ports of the larger ones are told by a letter: ADDRA reads DOA.
        ports = re.match(r"ADDR([A-H])", source[0]), re.match(r"DO([A-H])", target[0])
        if ports[0] and ports[1] and ports[0][1] != ports[1][1]:
            return None
        if target[0] == "DPO" and source[0] != "DPRA":
            return None
        return model.memory
    return None


def _place(pin: tuple[str, int]) -> int:
    """Which bit of a carry cell a pin is of: in ECP5 a digit of its name, in Xilinx's its index."""
    name, index = pin
    if name in {"CIN", "CI", "CYINIT"}:
        return -1
    if name == "COUT":
        return 9
    digit = re.fullmatch(r"[ABCDS]([01])", name)
    return int(digit[1]) if digit else index


def _names(netnames: Mapping[str, Any]) -> dict[Bit, str]:
    """The name of each bit: one that the RTL gave if there is one, and the shortest of those."""
    found: dict[Bit, tuple[bool, int, str]] = {}
    for name, net in netnames.items():
        key = (bool(net.get("hide_name")), len(name), name)
        for bit in net["bits"]:
            if isinstance(bit, Bit) and (bit not in found or key < found[bit]):
                found[bit] = key
    return {bit: plain(name) for bit, (_, _, name) in found.items()}


# What Yosys puts behind a name for a cell or a net that has none of its own.
_MADE_UP = re.compile(
    r"(?:_(?:TRELLIS|LUT\d|CCU2C|CARRY\d|PFUMX|L6MUX21|MUXF\d|DP16KD|RAMB\d+E\d|RAM\d+\w+|SRL\w+|FD[RSCP]E|MULT18X18D|INV)_.*"
    r"|\$.*)$"
)


def plain(name: str) -> str:
    """The name in the RTL that a cell or a net was named after; empty if there is none."""
    return _MADE_UP.sub("", name.removeprefix("dut."))
