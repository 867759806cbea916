"""The test plan of the ESP engine: what is required, by which document, and the benches and proofs that show it.

``python -m sim.testplan`` writes it into hw/README.md; with ``--results`` it holds it against the runs under build/
instead, and says of which testpoints something failed or did not run. ``--forget`` removes what earlier runs of benches
left there.
"""

from __future__ import annotations

import argparse
import ast
import json
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

ROOT = Path(__file__).parents[1]
PLAN = ROOT / "hw" / "testplan.toml"
README = ROOT / "hw" / "README.md"
BENCHES = ROOT / "sim" / "tb"
PROOFS = ROOT / "hw" / "formal" / "proofs.toml"
_BEGIN, _END = "<!-- The test plan, from testplan.toml: python -m sim.testplan -->\n", "<!-- The end of it -->\n"


class PlanError(ValueError):
    """The plan, or what it names, is not as it has to be; the text says what and where."""


@dataclass(frozen=True)
class Testpoint:
    """A requirement, where it comes from, and what shows it.

    Benches are "module.test", on the RTL or on a netlist of it; proofs are "module.property".
    """

    __test__ = False  # pytest takes the name for a test's

    name: str
    requirement: str
    source: str
    benches: tuple[str, ...] = ()
    proofs: tuple[str, ...] = ()
    netlists: tuple[str, ...] = ()


def load(path: Path = PLAN) -> list[Testpoint]:
    """The plan. Raises PlanError."""
    points: list[Testpoint] = []
    for entry in tomllib.loads(path.read_text())["testpoint"]:
        try:
            values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in entry.items()}
            point = Testpoint(**values)
        except TypeError as error:
            raise PlanError(f"{path.name}: {entry.get('name', entry)}: {error}") from None
        if not point.benches and not point.proofs and not point.netlists:
            raise PlanError(f"{path.name}: {point.name} has neither benches nor proofs nor netlists")
        if point.name in {other.name for other in points}:
            raise PlanError(f"{path.name}: {point.name} is there twice")
        points.append(point)
    return points


def benches() -> set[str]:
    """Every cocotb test there is, as "folder.test"."""
    found = set()
    for path in BENCHES.glob("*/bench_*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.AsyncFunctionDef) and any("test" in ast.unparse(d) for d in node.decorator_list):
                found.add(f"{path.parent.name}.{node.name}")
    return found


def proofs(path: Path = PROOFS) -> set[str]:
    """Every property that is proved, as "module.property"."""
    modules = tomllib.loads(path.read_text())
    return {f"{module}.{name}" for module, entry in modules.items() for name in entry.get("properties", {})}


def unknown(points: Iterable[Testpoint]) -> list[str]:
    """What the plan names and is not there."""
    known_benches, known_proofs = benches(), proofs()
    named = [
        (point, name, known)
        for point in points
        for names, known in ((point.benches + point.netlists, known_benches), (point.proofs, known_proofs))
        for name in names
    ]
    return [f"{point.name}: {name}" for point, name, known in named if name not in known]


def render(points: Sequence[Testpoint]) -> str:
    """The plan as a table."""
    lines = ["| testpoint | requirement | source | shown by |", "|---|---|---|---|"]
    for point in points:
        shown = [
            *(f"`{name}`" for name in point.benches),
            *(f"netlist `{name}`" for name in point.netlists),
            *(f"proof `{name}`" for name in point.proofs),
        ]
        lines.append(f"| {point.name} | {point.requirement} | {point.source} | {'<br>'.join(shown)} |")
    return "\n".join(lines) + "\n"


def with_plan(readme: str, points: Sequence[Testpoint]) -> str:
    """hw/README.md with the plan in its place. Raises PlanError."""
    head, begin, rest = readme.partition(_BEGIN)
    _, end, tail = rest.partition(_END)
    if not begin or not end:
        raise PlanError(f"{README.name} has no place for the plan: {_BEGIN.strip()} … {_END.strip()}")
    return head + _BEGIN + render(points) + _END + tail


def results(build: Path) -> dict[str, bool]:
    """What ran under a folder, as "folder.test", and whether every run of it passed."""
    passed: dict[str, bool] = {}
    for path in build.rglob("results.xml"):
        for case in ElementTree.parse(path).getroot().iter("testcase"):
            module = (case.get("classname") or "").split(".")
            name = f"{module[-2] if len(module) > 1 else module[-1]}.{case.get('name')}"
            good = not any(case.find(kind) is not None for kind in ("failure", "error", "skipped"))
            passed[name] = passed.get(name, True) and good
    return passed


def forget(build: Path) -> None:
    """Remove what ran under a folder: a bench that failed once, and is not among those that run now, must not count."""
    for path in build.rglob("results.xml"):
        path.unlink()


def without(
    points: Iterable[Testpoint],
    passed: Mapping[str, bool],
    proved: Mapping[str, bool] | None,
    on_netlists: Mapping[str, bool] | None,
) -> list[str]:
    """Testpoints of which something failed or did not run. Proofs or netlists that are None are not asked for."""
    missing = []
    for point in points:
        shown = [(name, passed.get(name)) for name in point.benches]
        if proved is not None:
            shown += [(f"proof {name}", proved.get(name)) for name in point.proofs]
        if on_netlists is not None:
            shown += [(f"netlist {name}", on_netlists.get(name)) for name in point.netlists]
        bad = [name for name, good in shown if good is False]
        absent = [name for name, good in shown if good is None]
        if bad:
            missing.append(f"{point.name}: failed: {', '.join(bad)}")
        elif absent:
            missing.append(f"{point.name}: did not run: {', '.join(absent)}")
    return missing


def proved(path: Path) -> dict[str, bool]:
    """What `make formal` wrote, as "module.property", and whether every proof of it holds; empty if it did not run."""
    held: dict[str, bool] = {}
    if path.exists():
        for one in json.loads(path.read_text())["properties"]:
            name = f"{one['module']}.{one['property']}"
            held[name] = held.get(name, True) and one["result"] == "PASS"
    return held


def main(words: Sequence[str]) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m sim.testplan", description=__doc__)
    parser.add_argument("--results", action="store_true", help="hold the plan against what ran under build/")
    parser.add_argument("--forget", action="store_true", help="remove what earlier runs of benches left there")
    parser.add_argument("--no-netlists", action="store_true", help="without what netlists show: they did not run")
    parser.add_argument("--no-proofs", action="store_true", help="without what is proved: that did not run")
    arguments = parser.parse_args(words)
    runs, netlists = ROOT / "build" / "sim", ROOT / "build" / "netlist"
    if arguments.forget:
        forget(runs)
        forget(netlists)
        return 0
    try:
        points = load()
        if not arguments.results:
            README.write_text(with_plan(README.read_text(), points))
            return 0
        held = None if arguments.no_proofs else proved(ROOT / "build" / "formal" / "formal.json")
        missing = without(points, results(runs), held, None if arguments.no_netlists else results(netlists))
    except PlanError as error:
        print(error, file=sys.stderr)
        return 2
    for line in missing:
        print(line, file=sys.stderr)
    print(f"test plan: {len(points) - len(missing)} of {len(points)} testpoints are shown by what ran")
    return 1 if missing else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
