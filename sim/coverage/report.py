"""``make coverage``: reads what the benches left in build/sim, and writes build/coverage/index.html and summary.json.

Returns 1 if a goal is missed: every bin of the traffic, 95 % of lines and of branches, 90 % of toggles; or if there is
a module that nothing has run, or an exclusion that excludes nothing. With ``--forget`` what earlier runs left is
removed instead, since what a bench reached that is no longer there does not count.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path

from sim.coverage.code import GOALS, KINDS, Coverage, Module, exclusions, merged
from sim.coverage.traffic import Bins, bins_of
from sim.tb.simulation import BUILD, ROOT

OUTPUT = ROOT / "build" / "coverage"

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em; color: #222; }
table { border-collapse: collapse; margin: 1em 0; }
td, th { padding: .2em .8em; text-align: right; border-bottom: 1px solid #ddd; }
td:first-child, th:first-child { text-align: left; }
.low { color: #a00; font-weight: 600; }
code { font-size: 90%; }
summary { cursor: pointer; }
"""


def _percent(share: float, goal: float) -> str:
    return f'<td class="{"low" if share < goal else ""}">{100 * share:.1f} %</td>'


def _row(name: str, module: Module) -> str:
    cells = "".join(
        f"{_percent(module.share(kind), GOALS[kind])}<td>{module.reached[kind]}/{module.points[kind]}</td>"
        for kind in KINDS
    )
    return f"<tr><td>{name}</td>{cells}<td>{module.excluded}</td></tr>"


def _missed(module: Module) -> str:
    if not module.missed:
        return ""
    items = "".join(f"<li>line {point.line}, {point.kind}: {escape(point.what)}</li>" for point in module.missed)
    return f"<details><summary>{module.name}: {len(module.missed)} not reached</summary><ul>{items}</ul></details>"


def page(code: Coverage, traffic: Sequence[Bins]) -> str:
    """The report."""
    head = "".join(f'<th colspan="2">{kind}</th>' for kind in KINDS)
    rows = "".join(_row(f"<code>{module.name}</code>", module) for module in code.modules)
    bins = "".join(
        f"<tr><td><code>{point.name}</code></td>{_percent(point.share, 1.0)}"
        f"<td>{len(point.hit)}/{len(point.hit) + len(point.missed)}</td>"
        f"<td>{escape(', '.join(point.missed[:12]))}</td></tr>"
        for point in traffic
    )
    total = "".join(_percent(code.share(kind), GOALS[kind]) + "<td></td>" for kind in KINDS)
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Coverage of the ESP engine</title>"
        f"<style>{_STYLE}</style><h1>Coverage of the ESP engine</h1>"
        f"<h2>Traffic</h2><table><tr><th>point<th>hit<th>bins<th>missing</tr>{bins}</table>"
        f"<h2>Source</h2><table><tr><th>module</th>{head}<th>excluded</th></tr>"
        f"{rows}<tr><th>all</th>{total}<td></td></tr></table>"
        f"<h2>Not reached</h2>{''.join(_missed(module) for module in code.modules)}"
    )


def main(words: Sequence[str]) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m sim.coverage.report", description=__doc__)
    parser.add_argument("--build", type=Path, default=BUILD, help="where the benches were run")
    parser.add_argument("--forget", action="store_true", help="remove what was left there")
    arguments = parser.parse_args(words)
    data = sorted(arguments.build.glob("*-coverage/*/coverage.dat"))
    bins_hit = sorted(arguments.build.glob("*-coverage/*/traffic.yml"))
    if arguments.forget:
        for path in (*data, *bins_hit):
            path.unlink()
        return 0
    if not data:
        print(f"no coverage data under {arguments.build}: run the benches with RTL_COVERAGE=1", file=sys.stderr)
        return 2
    code = merged(data, exclusions())
    traffic = bins_of(bins_hit)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    (OUTPUT / "index.html").write_text(page(code, traffic))
    shares = {kind: code.share(kind) for kind in KINDS}
    hit = sum(len(point.hit) for point in traffic)
    bins = hit + sum(len(point.missed) for point in traffic)
    summary = {"data files": len(data), "bins": bins, "bins hit": hit, **shares}
    (OUTPUT / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    print(f"{len(data)} runs; report: {OUTPUT / 'index.html'}")
    print(f"traffic   {hit} of {bins} bins")
    for kind in KINDS:
        print(f"{kind:8}  {100 * shares[kind]:.1f} %, goal {100 * GOALS[kind]:.0f} %")
    for module in sorted(code.modules, key=lambda module: module.share("line")):
        low = [f"{kind} {100 * module.share(kind):.1f} %" for kind in KINDS if module.share(kind) < GOALS[kind]]
        if low:
            print(f"  {module.name}: {', '.join(low)}")
    for name in code.absent:
        print(f"  {name}: no run of it", file=sys.stderr)
    for entry in code.idle:
        print(f"  an exclusion of {entry.module} excludes nothing: {entry.what or entry.text}", file=sys.stderr)
    for point in traffic:
        if point.missed:
            print(f"  {point.name}: {len(point.missed)} not hit: {', '.join(point.missed[:3])}", file=sys.stderr)
    goals = all(shares[kind] >= GOALS[kind] for kind in KINDS)
    good = hit == bins and bins and goals and not code.idle and not code.absent
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
