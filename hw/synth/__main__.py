"""Synthesis of the builds in builds.toml: ``python -m hw.synth [NAME...] [--target T] [--seed N]...``.

Writes build/synth/NAME-TARGET.json for each and prints a table of all that were made.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hw.synth import flow, timing, tools

_HEADER = ("build", "target", "LUT", "carry", "LUT RAM", "FF", "block RAM", "DSP", "model MHz", "MHz", "Gbit/s")
_PATHS = 50  # in the JSON
_WIDE = 24


def main(arguments: Sequence[str]) -> int:
    """Make builds; returns how many could not be made."""
    parser = argparse.ArgumentParser(prog="python -m hw.synth", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="builds of builds.toml; all if none is named")
    parser.add_argument("--target", action="append", choices=flow.TARGETS, help="these only; may be given again")
    parser.add_argument("--seed", action="append", type=int, help="of placement, may be given again; 1 if not given")
    parser.add_argument("--no-route", action="store_true", help="area only")
    parser.add_argument("--paths", type=int, default=0, metavar="N", help="the N longest paths, by the model of delays")
    parser.add_argument("--list", action="store_true", help="the builds, and nothing else")
    options = parser.parse_args(arguments)

    known = {build.name: build for build in flow.builds()}
    if unknown := [name for name in options.names if name not in known]:
        parser.error(f"no build is called {', '.join(unknown)}; there are {', '.join(known)}")
    chosen = [known[name] for name in options.names] or list(known.values())
    if options.list:
        print("\n".join(f"{build.name:20} {build.module} {dict(build.parameters)}" for build in chosen))
        return 0

    done: list[dict[str, Any]] = []
    failed = 0
    for build in chosen:
        for target in build.targets:
            if options.target and target not in options.target:
                continue
            print(f"{build.name} for {target} ...", file=sys.stderr, flush=True)
            try:
                done.append(make(build, target, [] if options.no_route else options.seed or [1]))
            except tools.ToolError as error:
                print(f"{build.name} for {target} cannot be made: {error}", file=sys.stderr)
                failed += 1
    print(table(done))
    for result in done if options.paths else []:
        print(f"\nlongest paths of {result['name']} for {result['target']}, by the model of delays:")
        print(path_lines(result["model"]["paths"][: options.paths]))
    return min(failed, 100)


def make(build: flow.Build, target: str, seeds: Sequence[int], results: Path = flow.RESULTS) -> dict[str, Any]:
    """Make a build and write its JSON, which is returned. Raises ToolError."""
    folder = results / "work" / f"{build.name}-{target}"
    area = flow.synthesize(build, target, folder)
    longest: dict[str, timing.Path] = {}
    for path in flow.paths(build, target, folder):
        longest.setdefault(path.end, path)
    runs = [flow.route(build, seed, folder) for seed in seeds] if target == "ecp5" and build.route else []
    best = max((run["mhz"] for run in runs), default=None)
    result = {
        "name": build.name,
        "module": build.module,
        "parameters": dict(build.parameters),
        "target": target,
        "device": flow.DEVICES[target],
        "tools": tools.versions(),
        "area": area,
        # Not measured: see timing.py.
        "model": {
            "mhz": round(1000 / next(iter(longest.values())).ns, 1),
            "paths": [vars(path) for path in list(longest.values())[:_PATHS]],
        },
        "runs": runs,
        "mhz": best,
        "gbit_per_s": round(128 * best / build.interval / 1000, 2) if best and build.interval else None,
    }
    (results / f"{build.name}-{target}.json").write_text(json.dumps(result, indent=2) + "\n")
    return result


def path_lines(paths: Sequence[dict[str, Any]]) -> str:
    """Paths as lines of text: ns, levels of logic, what is on it, and how many ends a wide net has."""
    lines = []
    for path in paths:
        through = [f"{name} ({ends} ends)" if ends >= _WIDE else name for name, ends in path["through"]]
        lines.append(f"{path['ns']:6.2f}  {path['levels']:2}  " + " > ".join([path["begin"], *through, path["end"]]))
    return "\n".join(lines)


def table(results: Sequence[dict[str, Any]]) -> str:
    """Results as lines of text, with a note for each memory that is in flip-flops."""
    rows: list[Sequence[str]] = [_HEADER]
    notes: list[str] = []
    for result in results:
        area = result["area"]
        numbers = (*(area[key] for key in ("lut", "lut_carry", "lut_memory", "ff", "block_ram", "dsp")),
                   result["model"]["mhz"], result["mhz"], result["gbit_per_s"])  # fmt: skip
        rows.append((result["name"], result["target"], *("" if number is None else str(number) for number in numbers)))
        for name, memory in area["memories"].items():
            # Two or three words are a delay, which shall be flip-flops.
            if memory["words"] > 3 and memory["as"] in {"flip-flops", "unknown"}:
                where = f"{result['name']} for {result['target']}"
                notes.append(f"{where}: {name}, {memory['words']} x {memory['bits']} bits, is {memory['as']}")
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
    lines = [
        "  ".join(
            word.ljust(width) if column < 2 else word.rjust(width)
            for column, (word, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, *notes])


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
