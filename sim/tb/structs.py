"""Packed structs of the RTL's packages, read from their source: a bench packs and unpacks by the names of fields."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from sim.tb.simulation import packages

Value = int | dict[str, Any]

_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_TYPEDEF = re.compile(
    r"typedef\s+(?:(?P<struct>struct\s+packed\s*\{(?P<body>.*?)\})|enum\s+(?P<enum>logic\b[^{]*)\{(?P<names>.*?)\}"
    r"|(?P<plain>[\w: ]+?(?:\[[^\]]*\]\s*)*))\s*(?P<name>\w+)\s*;",
    re.DOTALL,
)
_FIELD = re.compile(r"\s*(?P<type>[\w:]+)\s*(?P<range>(?:\[[^\]]*\]\s*)*)\s*(?P<name>\w+)\s*$")


@dataclass(frozen=True)
class Layout:
    """A type: how many bits it has, its fields from the leftmost on if it is a struct, its names if an enumeration."""

    width: int
    fields: tuple[tuple[str, Layout], ...] = ()
    names: tuple[tuple[str, int], ...] = ()

    def pack(self, value: Value = 0, /, **fields: Value) -> int:
        """The number of a struct; fields that are not given are zero. Raises KeyError, ValueError."""
        if isinstance(value, dict):
            fields = {**value, **fields}
        elif value or not self.fields:
            if not 0 <= value < 1 << self.width:
                raise ValueError(f"{value:#x} in {self.width} bits")
            return int(value)
        packed, left = 0, dict(fields)
        for name, layout in self.fields:
            packed = packed << layout.width | layout.pack(left.pop(name, 0))
        if left:
            raise KeyError(f"no fields {sorted(left)}")
        return packed

    def unpack(self, number: int) -> Any:
        """A dictionary for a struct, a number for anything else."""
        if not self.fields:
            return number
        fields = {}
        for name, layout in reversed(self.fields):
            fields[name] = layout.unpack(number & (1 << layout.width) - 1)
            number >>= layout.width
        return fields

    def __getitem__(self, name: str) -> int:
        """The number of an enumeration's name."""
        return dict(self.names)[name]


@cache
def _types() -> dict[str, Layout]:
    types: dict[str, Layout] = {"logic": Layout(1)}
    for path in packages():
        for found in _TYPEDEF.finditer(_COMMENT.sub("", path.read_text())):
            name = found["name"]
            if found["struct"]:
                fields = [_FIELD.match(field) for field in found["body"].split(";") if field.strip()]
                types[name] = _struct(
                    tuple((one["name"], _type(types, one["type"], one["range"])) for one in fields if one)
                )
            elif found["enum"]:
                base = _plain(types, found["enum"].strip()) or Layout(32)
                types[name] = Layout(base.width, (), tuple(_names(found["names"])))
            elif (plain := _plain(types, found["plain"].strip())) is not None:
                types[name] = plain
    return types


def _struct(fields: tuple[tuple[str, Layout], ...]) -> Layout:
    return Layout(sum(layout.width for _, layout in fields), fields)


def _names(text: str) -> list[tuple[str, int]]:
    names, value = [], 0
    for word in text.split(","):
        name, _, number = (part.strip() for part in word.partition("="))
        if name:
            value = _literal(number) if number else value
            names.append((name, value))
            value += 1
    return names


def _literal(text: str) -> int:
    """A number as SystemVerilog writes it."""
    _, tick, digits = text.partition("'")
    return int(digits[1:], {"b": 2, "d": 10, "h": 16}[digits[0]]) if tick else int(text)


def _plain(types: dict[str, Layout], text: str) -> Layout | None:
    word, _, rest = text.partition(" ")
    if "[" in word:
        word, _, rest = text.partition("[")
        rest = "[" + rest
    try:
        return _type(types, word.strip(), rest)
    except (KeyError, ValueError):
        return None  # with parameters of its own: not for a bench to pack


def _type(types: dict[str, Layout], name: str, ranges: str) -> Layout:
    base = types[name.rpartition("::")[2]]
    for left, right in re.findall(r"\[\s*(\d+)\s*:\s*(\d+)\s*\]", ranges):
        base = Layout(base.width * (abs(int(left) - int(right)) + 1))
    if ranges.count("[") != len(re.findall(r"\[\s*\d+\s*:\s*\d+\s*\]", ranges)):
        raise ValueError(ranges)
    return base


def layout(name: str) -> Layout:
    """A type of any package, by its name. Raises KeyError."""
    return _types()[name]
