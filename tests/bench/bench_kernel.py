"""The netlink library of the kernel datapath: what a message costs beside pyroute2's nlmsg, and 10,000 SAs and policies
through a kernel beside `ip -batch` and `ip xfrm`.

The first is measured here. The second in the virtual machine of tests/vm, whose CPU is emulated: there an interpreter
suffers more than C does, and its seconds compare with nothing but what stands beside them. Writes
build/bench/kernel.json (where it ran, versions, every raw number, least, median and most, ratios).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import statistics
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from tests.bench import bench_xfrm_codec
from tests.bench.place import commit, machine
from tests.vm import image
from tests.vm.machine import MachineError, run

OUT = Path(__file__).parents[2] / "build" / "bench"
FOUND = "xfrm_kernel.json"
SIDES = ("ours", "iproute2")


def say(text: str) -> None:
    print(text, flush=True)


def codec(rounds: int) -> list[dict[str, Any]]:
    """Microseconds a message, here."""
    say(f"Microseconds a message, the least of {rounds} rounds, ours and pyroute2's nlmsg:")
    found = []
    for cost in bench_xfrm_codec.codec(rounds):
        say(bench_xfrm_codec.line(cost))
        found.append(cost._asdict())
    return found


def in_machine(count: int, rounds: int) -> dict[str, Any]:
    """What tests.bench.xfrm_kernel found in the virtual machine. Raises MachineError and ImageError."""
    say(f"In the virtual machine: {count} SAs and policies, {rounds} rounds, a minute or so for each …")
    argv = ["--count", str(count), "--rounds", str(rounds), "--json", f"/run/results/{FOUND}"]
    command = shlex.join(["unshare", "--net", "python3", "-m", "tests.bench.xfrm_kernel", *argv])
    outcome = run(command, timeout=300.0 + rounds * count * 0.05)
    if outcome.status != 0 or FOUND not in outcome.files:
        raise MachineError(f"the benchmark in it ended with {outcome.status}:\n{outcome.output[-2000:]}")
    found: dict[str, Any] = json.loads(outcome.files[FOUND])
    return found | {"accelerator": os.environ.get("ESPLANADE_VM_ACCEL", "tcg"), "boot_s": round(outcome.seconds, 1)}


def summary(rounds: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, Any]]:
    """Of each step: least, median and most seconds of both, and how many times as fast as ip we were, by medians."""
    steps: dict[str, dict[str, Any]] = {}
    for step in rounds[0]["ours"]:
        row: dict[str, Any] = {}
        for side in SIDES:
            spent = [one[side][step] for one in rounds]
            row[side] = {"least": min(spent), "median": statistics.median(spent), "most": max(spent)}
        row["times_as_fast"] = round(row["iproute2"]["median"] / row["ours"]["median"], 2)
        steps[step] = row
    return steps


def table(found: dict[str, Any], steps: dict[str, dict[str, Any]]) -> str:
    """The second part's, for people."""
    lines = [
        f"Linux {found['kernel']}, Python {found['python']}, iproute2 {found['iproute2']}, {found['cpus']} CPUs "
        f"({found['accelerator']}: the columns compare with each other only)",
        f"{found['count']} of each, {len(found['rounds_s'])} rounds; seconds: least, median, most",
        f"  {'':28} {'ours':>21}   {'ip -batch, ip xfrm':>21}",
    ]
    for step, row in steps.items():
        ours, theirs = (
            f"{row[side]['least']:6.2f} {row[side]['median']:6.2f} {row[side]['most']:7.2f}" for side in SIDES
        )
        lines.append(f"  {step:28} {ours}   {theirs} {row['times_as_fast']:7.2f} times as fast")
    return "\n".join(lines)


def main() -> int:
    """Runs it; exit status 0 if everything could be measured."""
    parser = argparse.ArgumentParser(prog="bench_kernel")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--codec-rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=10000)
    parser.add_argument("--only", nargs="+", choices=("codec", "machine"), default=["codec", "machine"])
    args = parser.parse_args()
    report: dict[str, Any] = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": {
            "python": platform.python_version(),
            "pyroute2": metadata.version("pyroute2"),
            "commit": commit(),
        },
        "arguments": vars(args),
    }
    status = 0
    if "codec" in args.only:
        report["codec_us"] = codec(args.codec_rounds)
    if "machine" in args.only:
        missing = image.why_not()
        try:
            if missing is not None:
                raise MachineError(missing)
            found = in_machine(args.count, args.rounds)
        except (MachineError, image.ImageError) as error:
            say(f"No kernel to be measured: {error}")
            report["virtual_machine"] = {"missing": str(error)}
            status = 1
        else:
            steps = summary(found["rounds_s"])
            report["virtual_machine"] = found | {"summary": steps}
            say(table(found, steps))
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "kernel.json").write_text(json.dumps(report, indent=1) + "\n")
    say(f"written: {OUT / 'kernel.json'}" + (", without what could not be measured" if status else ""))
    return status


if __name__ == "__main__":
    sys.exit(main())
