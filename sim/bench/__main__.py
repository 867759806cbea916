"""``make bench-rtl``: cycles a packet and bits a cycle of the engine, in simulation; writes build/bench/rtl.json."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sim.bench import bars
from sim.tb.simulation import ROOT, simulate

OUTPUT = ROOT / "build" / "bench" / "rtl.json"
SIZES = (64, 128, 256, 512, 1518, 9000)
COUNTS = (1, 16, 1024)


def table(results: Sequence[dict[str, Any]]) -> str:
    """What was measured, for people."""
    lines = [
        "frame   SAs  NAT-T   out: cycles  bits/cycle  idle    in: cycles  bits/cycle  idle  MHz for 1 Gbit/s",
        "-----------------------------------------------------------------------------------------------------",
    ]
    for one in results:
        sides = (
            f"{one[f'{side}_cycles_a_packet']:11.2f} {one[f'{side}_bits_a_cycle']:11.1f} "
            f"{one[f'{side}_idle_cycles_a_packet']:5.2f}"
            for side in ("outbound", "inbound")
        )
        begin = f"{one['frame']:5} {one['sas']:5}  {'yes' if one['udp'] else 'no ':5} "
        lines.append(f"{begin}{'   '.join(sides)} {one['gigabit_mhz']:17.1f}")
    return "\n".join(lines)


def main(words: Sequence[str]) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m sim.bench", description=__doc__, epilog=bars.words())
    parser.add_argument("--interval", type=int, default=1, help="cycles between two blocks of the cipher")
    parser.add_argument("--sas", type=int, default=1024, help="SAs that the engine is built for")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="frames in bytes, with comma")
    parser.add_argument("--counts", default="", help="SAs in rotation, with comma")
    arguments = parser.parse_args(words)
    counts = arguments.counts or ",".join(str(count) for count in COUNTS if count <= arguments.sas)
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    part = OUTPUT.with_suffix(".part")
    parameters = {"NSa": arguments.sas, "Interval": arguments.interval, "Window": 1024, "NSelectors": 64}
    simulate(
        "esp_engine",
        "sim.bench.bench_rtl",
        parameters=parameters,
        environment={"NSA": str(arguments.sas), "WINDOW": "1024", "SIZES": arguments.sizes, "COUNTS": counts,
                     "RESULT": str(part)},
    )  # fmt: skip
    measured = json.loads(part.read_text())
    part.unlink()
    text = json.dumps(
        {"measured": "in simulation, both directions at once", "parameters": parameters, **measured}, indent=2
    )
    OUTPUT.write_text(text + "\n")
    print(table(measured["results"]))
    print(f"{measured['seconds']} s; {os.path.relpath(OUTPUT, Path.cwd())}")
    missed = bars.missed(measured["results"]) if arguments.interval == 1 else []
    for bar in missed:
        print(f"too slow: {bar}", file=sys.stderr)
    return int(bool(missed))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
