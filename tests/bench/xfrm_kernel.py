"""SAs and policies through the kernel: our netlink library, asked as the kernel datapath asks it, beside ip(8).

    unshare --net python3 -m tests.bench.xfrm_kernel [--count 10000] [--rounds 3] [--json FILE]

In each round both take a turn, and by turns the first. Ours is from values to answers, and from a request to values;
ip's is the whole command, `ip -batch FILE` and `ip xfrm … list >FILE`. After each step the kernel is asked how many
there are. Needs root and a network namespace with no SA and no policy in it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, Self

from appliance.datapath.kernel.requester import Requester
from appliance.datapath.kernel.xfrm import (
    Answer,
    Policy,
    PolicyId,
    SadInfo,
    SpdInfo,
    State,
    StateId,
    XfrmSocket,
    requests,
)
from tests.bench import xfrm_samples as samples


class Table(StrEnum):
    """What is installed."""

    STATES = "SAs"
    POLICIES = "policies"


class Way(StrEnum):
    """How it is removed."""

    BY_NAME = "removed"
    BY_SELECTOR = "removed by selector"
    BY_INDEX = "removed by index"


WAYS = {Table.STATES: (Way.BY_NAME,), Table.POLICIES: (Way.BY_INDEX, Way.BY_SELECTOR)}


class StepError(Exception):
    """A step did not do what was asked, so that its time says nothing."""


class Side(Protocol):
    """A competitor. Each step takes as many seconds as it returns; ``listed`` says also how many there were."""

    def install(self, table: Table) -> float: ...
    def listed(self, table: Table) -> tuple[float, int]: ...
    def remove(self, table: Table, way: Way) -> float: ...


@dataclass(frozen=True, slots=True)
class Values:
    """What both install."""

    states: tuple[State, ...]
    policies: tuple[Policy, ...]
    seconds: float
    """That making them took."""

    @classmethod
    def make(cls, count: int) -> Self:
        start = time.perf_counter()
        states = tuple(samples.state(number) for number in range(count))
        policies = tuple(samples.policy(number) for number in range(count))
        return cls(states, policies, time.perf_counter() - start)


class Ours:
    """The library by way of the kernel datapath's Requester."""

    def __init__(self, values: Values) -> None:
        self._values = values
        self._runner = asyncio.Runner()
        self._requester = Requester(XfrmSocket(timeout=60.0))

    def close(self) -> None:
        self._requester.close()
        self._runner.close()

    def install(self, table: Table) -> float:
        if table is Table.STATES:
            return self._batch(lambda: [requests.new_state(one) for one in self._values.states])
        return self._batch(lambda: [requests.new_policy(one) for one in self._values.policies])

    def listed(self, table: Table) -> tuple[float, int]:
        asked: Coroutine[Any, Any, list[State]] | Coroutine[Any, Any, list[Policy]]
        asked = self._requester.states() if table is Table.STATES else self._requester.policies()
        start = time.perf_counter()
        found: Sequence[object] = self._runner.run(asked)
        return time.perf_counter() - start, len(found)

    def remove(self, table: Table, way: Way) -> float:
        if table is Table.STATES:
            return self._batch(lambda: [requests.delete_state(StateId.of(one)) for one in self._values.states])
        name = PolicyId.of if way is Way.BY_SELECTOR else samples.by_index
        return self._batch(lambda: [requests.delete_policy(name(one)) for one in self._values.policies])

    def _batch(self, encode: Callable[[], list[bytearray]]) -> float:
        async def ask() -> list[Answer]:
            return await self._requester.batch(encode())

        start = time.perf_counter()
        answers = self._runner.run(ask())
        spent = time.perf_counter() - start
        for answer in answers:
            if answer.error is not None:
                raise answer.error
        return spent


class Iproute2:
    """ip(8), with its files where they cost no disk."""

    def __init__(self, values: Values, folder: Path) -> None:
        self._folder = folder
        self._write("add SAs", [samples.add_state_words(one) for one in values.states])
        self._write("add policies", [samples.add_policy_words(one) for one in values.policies])
        self._write(Way.BY_NAME, [samples.delete_state_words(one) for one in values.states])
        self._write(Way.BY_SELECTOR, [samples.delete_policy_words(one) for one in values.policies])
        self._write(Way.BY_INDEX, [samples.delete_policy_by_index_words(one) for one in values.policies])

    def install(self, table: Table) -> float:
        return self._ip("-batch", str(self._folder / f"add {table}"))

    def listed(self, table: Table) -> tuple[float, int]:
        spent = self._ip("xfrm", "state" if table is Table.STATES else "policy", "list")
        with (self._folder / "output").open() as output:
            return spent, sum(line.startswith("src ") for line in output)

    def remove(self, table: Table, way: Way) -> float:
        return self._ip("-batch", str(self._folder / way))

    def _write(self, name: str, lines: list[str]) -> None:
        (self._folder / name).write_text("\n".join(lines) + "\n")

    def _ip(self, *words: str) -> float:
        with (self._folder / "output").open("w") as output:
            start = time.perf_counter()
            done = subprocess.run(
                ["ip", *words], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.PIPE, text=True, check=False
            )
            spent = time.perf_counter() - start
        if done.returncode != 0:
            raise StepError(f"ip {' '.join(words)} ended with {done.returncode}: {done.stderr[-500:]}")
        return spent


def there_are(socket: XfrmSocket, table: Table) -> int:
    """How many the kernel counts."""
    if table is Table.STATES:
        states = socket.do(requests.get_sad_info())
        return states.count if isinstance(states, SadInfo) else -1
    policies = socket.do(requests.get_spd_info())
    return policies.inbound + policies.outbound + policies.forward if isinstance(policies, SpdInfo) else -1


def turn(side: Side, tables: Sequence[Table], count: int, socket: XfrmSocket) -> dict[str, float]:
    """Seconds that each step took. Raises StepError, XfrmError."""
    spent: dict[str, float] = {}

    def expect(number: int, wanted: int, step: str) -> None:
        if number != wanted:
            raise StepError(f"{table} {step}: {number}, not {wanted}")

    for table in tables:
        for way in WAYS[table]:
            installed = side.install(table)
            expect(there_are(socket, table), count, "installed")
            spent.setdefault(f"{table} installed", installed)
            if f"{table} listed" not in spent:
                spent[f"{table} listed"], number = side.listed(table)
                expect(number, count, "listed")
            spent[f"{table} {way}"] = side.remove(table, way)
            expect(there_are(socket, table), 0, "left")
    return spent


def measure(count: int, rounds: int) -> dict[str, Any]:
    """All rounds, with what they ran on. Raises StepError, XfrmError, DatapathRefusal."""
    with XfrmSocket() as socket, tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        for table in Table:
            if there_are(socket, table):
                raise StepError(f"there are {table} in this network namespace: nothing is measured beside them")
        tables = list(Table)
        (trial,) = socket.batch([requests.new_state(samples.state(0))])
        if trial.error is not None:
            tables.remove(Table.STATES)
        socket.do(requests.flush_states())
        values = Values.make(count)
        ours, iproute2 = Ours(values), Iproute2(values, Path(folder))
        done: list[dict[str, Any]] = []
        try:
            for number in range(rounds):
                sides: list[tuple[str, Side]] = [("ours", ours), ("iproute2", iproute2)]
                if number % 2:
                    sides.reverse()
                done.append({name: turn(side, tables, count, socket) for name, side in sides})
                print(json.dumps(done[-1]), flush=True)
        finally:
            ours.close()
    words = subprocess.run(["ip", "-V"], capture_output=True, text=True, check=True).stdout
    return {
        "kernel": platform.release(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "iproute2": words.partition("iproute2-")[2].split(",")[0].strip(),
        "count": count,
        "values_made_s": values.seconds,
        "no_states": str(trial.error) if trial.error is not None else None,
        "rounds_s": done,
    }


def main() -> int:
    """Measures and writes what came of it."""
    parser = argparse.ArgumentParser(prog="xfrm_kernel")
    parser.add_argument("--count", type=int, default=10000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found = measure(args.count, args.rounds)
    if args.json is not None:
        args.json.write_text(json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
