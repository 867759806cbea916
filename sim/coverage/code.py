"""Line, branch and toggle coverage, from the files that a simulation under Verilator writes.

Each of its points is one place of the source, counted over all instances, parameters and benches. What guards the
callers of a module and is in no hardware (``ifndef SYNTHESIS``) does not count, nor what exclusions.toml names with its
reason.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from sim.tb.simulation import RTL

EXCLUSIONS = Path(__file__).with_name("exclusions.toml")
KINDS = ("line", "branch", "toggle")
GOALS = {"line": 0.95, "branch": 0.95, "toggle": 0.90}

_LINE = re.compile(r"C '(?P<words>.*)' (?P<count>\d+)$")


@dataclass(frozen=True, order=True)
class Point:
    """A place: ``what`` is the signal and its direction, or which side of a branch."""

    module: str
    line: int
    column: int
    kind: str
    what: str


def read(path: Path) -> Iterator[tuple[Point, int]]:
    """The points of a data file, with their counts; those of the RTL only. Raises ValueError for another format."""
    for text in path.read_text().splitlines():
        if text.startswith("#"):
            continue
        found = _LINE.match(text)
        if not found:
            raise ValueError(f"{path}: not a line of coverage data: {text[:80]}")
        words = dict(word.split("\x02", 1) for word in found["words"].split("\x01") if word)
        source = Path(words["f"])
        if source.is_relative_to(RTL):
            what = words.get("o", "")
            yield Point(source.stem, int(words["l"]), int(words["n"]), words["t"], what), int(found["count"])


@dataclass(frozen=True)
class Exclusion:
    """Points that need not be reached: all of a module whose ``what`` or source line match."""

    module: str
    reason: str
    kind: str = ""
    what: str = ""
    text: str = ""

    def covers(self, point: Point) -> bool:
        """Whether it is meant."""
        return (
            point.module == self.module
            and self.kind in ("", point.kind)
            and (not self.what or re.fullmatch(self.what, point.what) is not None)
            and (not self.text or re.search(self.text, _source(point.module)[point.line - 1]) is not None)
        )


def exclusions(path: Path = EXCLUSIONS) -> list[Exclusion]:
    """What exclusions.toml says. Raises ValueError for an entry without a reason or without a bound."""
    made = [Exclusion(**entry) for entry in tomllib.loads(path.read_text()).get("exclusion", [])]
    for entry in made:
        if not entry.reason or not (entry.what or entry.text):
            raise ValueError(f"an exclusion of {entry.module} without its reason, or of all that it has")
    return made


@cache
def _source(module: str) -> list[str]:
    (path,) = RTL.rglob(f"{module}.sv")
    return path.read_text().splitlines()


@cache
def _checks(module: str) -> frozenset[int]:
    """The lines that are in no hardware."""
    lines, inside = set(), False
    for number, text in enumerate(_source(module), 1):
        if text.startswith("`ifndef SYNTHESIS"):
            inside = True
        elif text.startswith(("`else", "`endif")):
            inside = False
        elif inside:
            lines.add(number)
    return frozenset(lines)


@dataclass
class Module:
    """What was reached of a module, by kind: points reached and points in all; and those that were not."""

    name: str
    reached: Counter[str] = field(default_factory=Counter)
    points: Counter[str] = field(default_factory=Counter)
    missed: list[Point] = field(default_factory=list)
    excluded: int = 0

    def share(self, kind: str) -> float:
        """Of 1; 1 where there is nothing to reach."""
        return self.reached[kind] / self.points[kind] if self.points[kind] else 1.0


@dataclass
class Coverage:
    """All of it, the exclusions that excluded nothing, and modules that nothing has run."""

    modules: list[Module]
    idle: list[Exclusion]
    absent: list[str]  # modules of which no run says anything

    def share(self, kind: str) -> float:
        """Over all modules, of 1."""
        points = sum(module.points[kind] for module in self.modules)
        return sum(module.reached[kind] for module in self.modules) / points if points else 0.0


def merged(paths: Iterable[Path], but: Iterable[Exclusion]) -> Coverage:
    """The data of many runs as one."""
    counts: Counter[Point] = Counter()
    for path in paths:
        for point, count in read(path):
            counts[point] += count
    modules: dict[str, Module] = {}
    idle = set(but)
    listed = list(idle)
    for point in sorted(counts):
        module = modules.setdefault(point.module, Module(point.module))
        if point.line in _checks(point.module):
            continue
        excluding = [entry for entry in listed if not counts[point] and entry.covers(point)]
        if excluding:
            idle -= set(excluding)
            module.excluded += 1
            continue
        module.points[point.kind] += 1
        if counts[point]:
            module.reached[point.kind] += 1
        else:
            module.missed.append(point)
    absent = {path.stem for path in RTL.rglob("*.sv") if not path.stem.endswith("_pkg")} - modules.keys()
    return Coverage(list(modules.values()), sorted(idle, key=lambda entry: entry.module), sorted(absent))
