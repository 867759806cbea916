"""Nothing that is dropped or passes is missed, and a drop has a record or is counted as one without."""

from __future__ import annotations

import os
import random
from collections import Counter, deque
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge

from appliance.reasons import Reason
from sim.tb.structs import layout
from sim.tb.traffic.reset import reset

SAS, DEPTH = int(os.environ["SAS"]), int(os.environ["DEPTH"])
DROP = layout("drop_t")
REASONS = [reason.value for reason in Reason if reason.kind == "drop"]
INTAKE = [Reason.TOO_BIG.value, Reason.MALFORMED_IP.value]
DIRECTIONS = ("outbound", "inbound")
SOURCES = [f"{direction}_{kind}" for direction in DIRECTIONS for kind in ("pipe", "intake")]
PASSING = [f"{direction}_{kind}" for direction in DIRECTIONS for kind in ("in", "out")]
COUNTERS = 72
APART = 8
# Cycles after which all is counted: each total has its turn in one of eight rounds.
LATE = 80

Record = tuple[tuple[str, int], ...]


def record(drop: int, sa: int) -> Record:
    fields: dict[str, int] = DROP.unpack(drop)
    return (*fields.items(), ("sa", sa))


class TB:
    """Drives all sources in one cycle, and counts beside the module."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.started = False
        self.rate, self.pop_rate, self.reads = 0.5, 0.5, 0.2

    async def begin(self, cycles: int = 130) -> None:
        """Reset; with fewer cycles the counters are not ready yet."""
        low = ["pop_i", "read_valid_i", *(f"{one}_valid_i" for one in (*SOURCES, *PASSING))]
        await reset(self.dut, *low, started=self.started)
        self.started = True
        self.counts = [0] * COUNTERS
        self.history: deque[list[int]] = deque([self.counts], maxlen=LATE)
        self.drops: Counter[Record] = Counter()
        self.popped: list[Record] = []
        self.pipes: dict[str, list[Record]] = {direction: [] for direction in DIRECTIONS}
        self.since = dict.fromkeys(SOURCES, APART)
        self.reading: int | None = None
        for _ in range(cycles):
            await self.tick(traffic=False)
        assert self.dut.ready_o.value == (cycles >= 128)

    def _drop(self, source: str) -> None:
        dut, (name, kind) = self.dut, source.split("_")
        direction = DIRECTIONS.index(name)
        if kind == "intake":
            reason = random.choice(INTAKE)
            getattr(dut, f"{source}_reason_i").value = reason
            fields, sa = {"reason": reason, "has_sa": int(name == "outbound")}, 0
            if name == "outbound":
                sa = random.randrange(SAS)
                dut.outbound_intake_sa_i.value = sa
        else:
            fields = {
                "has_sa": random.getrandbits(1),
                "reason": random.choice(REASONS),
                "spi": random.getrandbits(32),
                "sequence_number": random.getrandbits(64),
            }
            sa = random.randrange(SAS)
            getattr(dut, f"{source}_drop_i").value = DROP.pack(fields, direction=random.getrandbits(1))
            getattr(dut, f"{source}_sa_i").value = sa
            sa = sa if fields["has_sa"] else 0
        said = record(DROP.pack(fields, direction=direction), sa)
        self.drops[said] += 1
        if kind == "pipe":
            self.pipes[name].append(said)
        self.counts[32 * direction + fields["reason"]] += 1

    async def tick(self, *, traffic: bool = True) -> None:
        dut = self.dut
        self.counts = list(self.counts)
        for source in SOURCES:
            self.since[source] += 1
            comes = traffic and random.random() < self.rate and ("intake" in source or self.since[source] >= APART)
            getattr(dut, f"{source}_valid_i").value = comes
            if comes:
                self.since[source] = 0
                self._drop(source)
        for number, name in enumerate(PASSING):
            comes = traffic and random.random() < self.rate
            length = random.choice((random.randint(20, 65535), 65535))
            getattr(dut, f"{name}_valid_i").value = comes
            getattr(dut, f"{name}_bytes_i").value = length
            if comes:
                self.counts[64 + 2 * number] += 1
                self.counts[65 + 2 * number] += length
        pop = random.random() < self.pop_rate
        dut.pop_i.value = pop
        if pop and dut.head_valid_o.value:
            self.popped.append(record(int(dut.head_o.value), int(dut.head_sa_o.value)))
        if traffic and self.reading is None and random.random() < self.reads:
            self.reading = random.randrange(COUNTERS)
        dut.read_valid_i.value = self.reading is not None
        dut.read_index_i.value = random.randrange(COUNTERS) if self.reading is None else self.reading
        self.history.append(self.counts)
        await FallingEdge(dut.clk_i)
        if dut.read_done_o.value:
            assert self.reading is not None
            assert self.history[0][self.reading] <= int(dut.read_count_o.value) <= self.counts[self.reading]
            self.reading = None

    async def count(self, index: int) -> int:
        self.dut.read_valid_i.value, self.dut.read_index_i.value = 1, index
        for _ in range(12):
            await FallingEdge(self.dut.clk_i)
            if self.dut.read_done_o.value:
                self.dut.read_valid_i.value = 0
                return int(self.dut.read_count_o.value)
        raise AssertionError("no counter came")

    async def settle(self) -> None:
        """All is counted and popped; checks it."""
        dut = self.dut
        self.pop_rate = 1.0
        for _ in range(LATE + DEPTH):
            await self.tick(traffic=False)
        assert not dut.head_valid_o.value
        dut.pop_i.value = 0
        assert [await self.count(index) for index in range(COUNTERS)] == self.counts
        assert int(dut.lost_o.value) == self.drops.total() - len(self.popped)
        self.drops.subtract(self.popped)
        assert min(self.drops.values()) >= 0, "a record of nothing"
        for direction in DIRECTIONS:
            given = iter(self.pipes[direction])
            mine = [one for one in self.popped if one in set(self.pipes[direction])]
            assert all(one in given for one in mine), "out of order"
        self.drops.clear()
        self.popped.clear()


@cocotb.test()
async def nothing_is_missed(dut: Any) -> None:
    tb = TB(dut)
    for round_number in range(12):
        await tb.begin()
        tb.rate = 1.0 if round_number < 3 else random.choice((0.01, 0.1, 0.5))
        tb.pop_rate, tb.reads = random.choice((0.0, 0.05, 0.3, 1.0)), random.choice((0.0, 0.2, 1.0))
        for _ in range(random.choice((50, 400))):
            await tb.tick()
        await tb.settle()


@cocotb.test()
async def drops_one_at_a_time_all_have_records(dut: Any) -> None:
    tb = TB(dut)
    await tb.begin()
    tb.rate, tb.pop_rate = 0.0, 1.0
    for _ in range(60):
        source = random.choice(SOURCES)
        tb._drop(source)
        getattr(dut, f"{source}_valid_i").value = 1
        tb.history.append(tb.counts)
        dut.pop_i.value = 0
        await FallingEdge(dut.clk_i)
        for _ in range(12):
            await tb.tick()
    assert len(tb.popped) == 60
    await tb.settle()
    assert int(dut.lost_o.value) == 0


@cocotb.test()
async def what_comes_before_the_counters_are_ready_is_counted(dut: Any) -> None:
    tb = TB(dut)
    for _ in range(4):
        await tb.begin(0)
        tb.rate, tb.pop_rate, tb.reads = 1.0, 0.0, 0.0
        tb.since = {source: -1000 if "pipe" in source else APART for source in SOURCES}
        for _ in range(random.randint(120, 200)):
            await tb.tick()
        await tb.settle()


@cocotb.test()
async def counters_have_64_bits(dut: Any) -> None:
    tb = TB(dut)
    await tb.begin()
    tb.rate, tb.reads = 1.0, 0.0
    begun = [random.choice((1 << 32, 1 << 63, 1 << 40)) - random.randint(1, 3) for _ in range(COUNTERS)]
    # Twice: three of them are on their way round and are written back as they were.
    for _ in range(2):
        for index, number in enumerate(begun):
            dut.u_counters.mem[index].value = number
        for _ in range(4):
            await FallingEdge(dut.clk_i)
    tb.counts = begun
    tb.history.append(begun)
    for _ in range(600):
        await tb.tick()
    assert sum(now > old for now, old in zip(tb.counts, begun, strict=True)) > 45
    await tb.settle()
