"""Microseconds that encoding and reading an XFRM message costs, by the library's own layer and by pyroute2's nlmsg.

    python -m tests.bench.bench_xfrm_codec                      the codec; `make bench-kernel` has it too
    python -m tests.bench.bench_xfrm_codec --imports            what importing it adds to a process
    --json FILE                                                 the raw numbers

Every figure is the least of ``--rounds`` rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import timeit
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from appliance.datapath.kernel.xfrm import PolicyId, StateId, Stats, Usage, parse, parse_all, requests
from tests.bench import xfrm_samples as samples

T = TypeVar("T")
COUNT = 10000
FEW = 200
"""Of nlmsg: it is slow, and each costs the same."""
DATAGRAM = 32 << 10
"""Bytes that the kernel's dumps have at most."""
USED = Usage(bytes=123_456_789, packets=98_765, added=1_700_000_000, used=1_700_000_100)


class Cost(NamedTuple):
    """Microseconds a message; None where nlmsg was not measured."""

    what: str
    ours: float
    nlmsg: float | None


def least(rounds: int, count: int, action: Callable[[], object]) -> float:
    """Microseconds for each of ``count``. Without the cycle collector, as the library's dumps are and as timeit is."""
    return min(timeit.repeat(action, number=1, repeat=rounds)) * 1e6 / count


def each(action: Callable[[T], object], over: Iterable[T]) -> Callable[[], object]:
    """Do it with all; what comes of it is kept until the end."""
    return lambda: [action(one) for one in over]


def datagrams(messages: list[bytes]) -> list[bytes]:
    """As a dump comes: many in each."""
    found, size = [bytearray()], 0
    for raw in messages:
        size = len(found[-1]) + len(raw)
        if size > DATAGRAM:
            found.append(bytearray())
        found[-1] += raw
    return [bytes(one) for one in found]


def codec(rounds: int) -> Iterator[Cost]:
    """Every message that the kernel datapath sends and reads all the time."""
    try:
        from appliance.datapath.kernel.xfrm import messages
    except ImportError:
        messages = None  # type: ignore[assignment]
        print("  (no pyroute2 here: its classes are not measured)")
    states = [samples.state(number) for number in range(COUNT)]
    policies = [samples.policy(number) for number in range(COUNT)]

    def nlmsg_encodes(raw: bytes) -> float | None:
        if messages is None:
            return None
        (decoded,) = messages.decode(raw)
        fields = {name: value for name, value in decoded.items() if name not in ("attrs", "header")}
        attrs = [[slot[0], slot[1]] for slot in decoded["attrs"]]

        def encode() -> None:
            for _ in range(FEW):
                message = type(decoded)()
                message.update(fields)
                message["attrs"] = [list(pair) for pair in attrs]
                message.encode()

        return least(rounds, FEW, encode)

    def nlmsg_reads(raw: list[bytes]) -> float | None:
        if messages is None:
            return None
        count = sum(len(messages.decode(one)) for one in raw)
        return least(rounds, count, lambda: [messages.decode(one) for one in raw])

    encoders: list[tuple[str, Callable[[int], bytearray]]] = [
        ("new SA with GCM keys, to bytes", lambda number: requests.new_state(states[number])),
        ("new policy with template, to bytes", lambda number: requests.new_policy(policies[number])),
        ("delete SA, to bytes", lambda number: requests.delete_state(StateId.of(states[number]))),
        ("delete policy by index, to bytes", lambda number: requests.delete_policy(samples.by_index(policies[number]))),
        (
            "delete policy by selector, to bytes",
            lambda number: requests.delete_policy(PolicyId.of(policies[number])),
        ),
    ]
    for what, encode in encoders:
        yield Cost(what, least(rounds, COUNT, each(encode, range(COUNT))), nlmsg_encodes(bytes(encode(0))))

    # What the kernel says of those it has: counters and all.
    shown_states = [replace(one, usage=USED, stats=Stats(replay=1), last_used=1_700_000_100) for one in states]
    shown_policies = [replace(one, usage=USED) for one in policies]
    replies = {
        "SA": [bytes(requests.new_state(one)) for one in shown_states],
        "policy": [bytes(requests.new_policy(one)) for one in shown_policies],
    }
    for what, raw in replies.items():
        yield Cost(
            f"get reply of one {what}, to values", least(rounds, COUNT, each(parse, raw)), nlmsg_reads(raw[:FEW])
        )
        dump = datagrams(raw)
        ours = least(rounds, COUNT, each(lambda datagram: list(parse_all(datagram)), dump))
        yield Cost(f"dump of {COUNT} ({what}), to values", ours, nlmsg_reads(dump[:4]))
    yield Cost("making an SA's value, besides", least(rounds, COUNT, each(samples.state, range(COUNT))), None)
    yield Cost("making a policy's value, besides", least(rounds, COUNT, each(samples.policy, range(COUNT))), None)


def line(cost: Cost) -> str:
    """For a table."""
    if cost.nlmsg is None:
        return f"  {cost.what:38} {cost.ours:8.1f}"
    return f"  {cost.what:38} {cost.ours:8.1f} {cost.nlmsg:9.1f} {cost.nlmsg / cost.ours:7.1f} times"


IMPORTS = {
    "the standard library's part": "import dataclasses, enum, ipaddress, select, socket, struct",
    "this package": "import appliance.datapath.kernel.xfrm",
    "and its nlmsg classes": "import appliance.datapath.kernel.xfrm.messages",
    "pyroute2.netlink alone": "import pyroute2.netlink",
}
MEASURE = """
import time
def held():
    with open("/proc/self/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pss:"))
{before}
first, start = held(), time.perf_counter()
{script}
print(held() - first, time.perf_counter() - start)
"""


def imports() -> Iterator[tuple[str, int, float]]:
    """What, KiB of PSS and milliseconds, each beyond the standard library's part."""
    common = IMPORTS["the standard library's part"]
    for name, script in IMPORTS.items():
        source = MEASURE.format(before="pass" if script is common else common, script=script)
        runs = []
        for _ in range(5):
            done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
            kibibytes, seconds = done.stdout.split()
            runs.append((int(kibibytes), float(seconds) * 1e3))
        yield name, min(size for size, _ in runs), min(spent for _, spent in runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--imports", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.imports:
        print("KiB of memory (PSS) and milliseconds that an import adds, the least of 5:")
        for name, size, spent in imports():
            print(f"  {name:32} {size:8} {spent:8.1f}")
        return
    print(f"Python {sys.version.split()[0]}, Linux {os.uname().release}, {os.cpu_count()} CPUs")
    print(f"microseconds a message, the least of {arguments.rounds} rounds, here and by pyroute2's nlmsg:")
    costs: list[dict[str, Any]] = []
    for cost in codec(arguments.rounds):
        costs.append(cost._asdict())
        print(line(cost))
    if arguments.json:
        arguments.json.write_text(json.dumps(costs, indent=1) + "\n")


if __name__ == "__main__":
    main()
