"""Every event comes out of the queue or is a bit in the memory, whatever comes at once."""

from __future__ import annotations

import os
import random
from collections import Counter, deque
from dataclasses import dataclass, field

import cocotb
from cocotb.triggers import FallingEdge, ReadOnly

from sim.tb.structs import layout
from sim.tb.traffic.reset import reset

SAS, DEPTH = int(os.environ["SAS"]), int(os.environ["DEPTH"])
KINDS = layout("engine_events_t").width
KEY_READY = 1 << KINDS - 1
DIRECTIONS = ("outbound", "inbound")
# Of a direction's packets.
APART = 8

Place = tuple[int, int]  # a direction and an SA
Event = tuple[Place, int, int]  # with a generation and bits
PLACES = [(direction, sa) for direction in range(2) for sa in range(SAS)]


@dataclass
class Told:
    """What went in and came out, in order."""

    given: list[Event] = field(default_factory=list)
    popped: list[Event] = field(default_factory=list)
    # Bits that were taken from the memory, by generation; and how many events went there.
    taken: dict[Place, dict[int, int]] = field(default_factory=dict)
    overflows: int = 0

    def check(self) -> None:
        """All is out: what was not popped is a bit, nothing else is; what is of an older generation may be gone."""
        assert self.overflows == len(self.given) - len(self.popped)
        left = Counter(self.given)
        left.subtract(self.popped)
        assert min(left.values(), default=0) >= 0, "an event that was not given"
        bits: dict[Place, dict[int, int]] = {}
        for (place, generation, events), count in left.items():
            if count:
                mine = bits.setdefault(place, {})
                mine[generation] = mine.get(generation, 0) | events
        for place in PLACES:
            wanted, taken = bits.get(place, {}), self.taken.get(place, {})
            last = max(wanted, default=0)
            assert taken.get(last, 0) == wanted.get(last, 0)
            assert all(not one & ~wanted.get(generation, 0) for generation, one in taken.items())
        for kind in (lambda one: not one[2] & KEY_READY and one[0][0] == 0,
                     lambda one: not one[2] & KEY_READY and one[0][0] == 1,
                     lambda one: one[2] & KEY_READY):  # fmt: skip
            given = iter([one for one in self.given if kind(one)])
            assert all(one in given for one in self.popped if kind(one)), "out of order"


class TB:
    """Drives all that can come in one cycle, and holds requests until they are taken."""

    def __init__(self, dut: object) -> None:
        self.dut = dut
        self.started = False
        self.told = Told()
        self.since = [APART, APART]
        self.requests: dict[str, deque[Place]] = {"key": deque(), "forget": deque(), "take": deque()}
        self.taking: deque[Place] = deque()
        self.generations = dict.fromkeys(PLACES, 0)
        self.changes = 0.0
        self.rate, self.pop_rate = 0.5, 0.5

    async def begin(self) -> None:
        low = ["pop_i", *(f"{one}_valid_i" for one in (*DIRECTIONS, *self.requests))]
        await reset(self.dut, *low, started=self.started)
        self.started = True
        self.told = Told()
        self.generations = {place: random.randrange(1, 60000) for place in PLACES}
        for _ in range(4 * SAS + 8):
            if self.dut.ready_o.value:
                return
            await self.tick(events=False)
        raise AssertionError("not ready")

    async def tick(self, *, events: bool = True) -> None:
        """One cycle, begun behind a falling edge: drive, see what is taken, see what the rising edge brings."""
        dut = self.dut
        # A new generation: what is told of an older one was told before.
        if random.random() < self.changes:
            place = random.choice(PLACES)
            if place not in self.requests["key"]:
                self.generations[place] += 1
        for number, direction in enumerate(DIRECTIONS):
            self.since[number] += 1
            comes = events and self.since[number] >= APART and random.random() < self.rate
            sa, bits = random.randrange(SAS), random.getrandbits(KINDS - 1) & random.getrandbits(KINDS - 1)
            getattr(dut, f"{direction}_valid_i").value = comes
            getattr(dut, f"{direction}_sa_i").value = sa
            generation = self.generations[number, sa]
            getattr(dut, f"{direction}_generation_i").value = generation
            getattr(dut, f"{direction}_events_i").value = bits
            if comes and bits:
                self.since[number] = 0
                self.told.given.append(((number, sa), generation, bits))
        for name, waiting in self.requests.items():
            getattr(dut, f"{name}_valid_i").value = bool(waiting)
            place = waiting[0] if waiting else random.choice(PLACES)
            getattr(dut, f"{name}_direction_i").value, getattr(dut, f"{name}_sa_i").value = place
            if name == "key":
                dut.key_generation_i.value = self.generations[place]
        pop = random.random() < self.pop_rate
        dut.pop_i.value = pop
        if dut.head_valid_o.value and pop:
            place = int(dut.head_direction_o.value), int(dut.head_sa_o.value)
            self.told.popped.append((place, int(dut.head_generation_o.value), int(dut.head_events_o.value)))
        await ReadOnly()
        for name, waiting in self.requests.items():
            if waiting and getattr(dut, f"{name}_ready_o").value:
                place = waiting.popleft()
                if name == "key":
                    self.told.given.append((place, self.generations[place], KEY_READY))
                elif name == "take":
                    self.taking.append(place)
        await FallingEdge(dut.clk_i)
        if dut.overflow_o.value:
            self.told.overflows += 1
        if dut.take_done_o.value:
            place = self.taking.popleft()
            taken, generation = self.told.taken.setdefault(place, {}), int(dut.take_generation_o.value)
            if dut.take_events_o.value:
                taken[generation] = taken.get(generation, 0) | int(dut.take_events_o.value)

    async def settle(self) -> None:
        """Until nothing waits."""
        quiet = 0
        for _ in range(5000):
            quiet = 0 if any(self.requests.values()) or self.taking or self.dut.head_valid_o.value else quiet + 1
            if quiet > 12:
                return
            await self.tick(events=False)
        raise AssertionError(f"{self.requests} {self.taking}")

    async def take(self, place: Place) -> int:
        """An SA's bits; nothing else happens meanwhile."""
        before = self.told.taken.pop(place, {})
        self.requests["take"].append(place)
        await self.settle()
        taken = self.told.taken.pop(place, {})
        self.told.taken[place] = before | {key: one | before.get(key, 0) for key, one in taken.items()}
        return sum(taken.values())


@cocotb.test()
async def an_event_is_popped_or_a_bit(dut: object) -> None:
    tb = TB(dut)
    await tb.begin()
    overflows = 0
    for _ in range(40):
        tb.told = Told()
        tb.changes = random.choice((0.0, 0.02, 0.3))
        tb.rate, tb.pop_rate = random.choice((0.1, 1.0)), random.choice((0.0, 0.02, 0.1, 0.5, 1.0))
        for _ in range(random.choice((20, 200))):
            for name in ("key", "take"):
                if len(tb.requests[name]) < 3 and random.random() < 0.1:
                    tb.requests[name].append(random.choice(PLACES))
            await tb.tick()
        tb.pop_rate = 1.0
        await tb.settle()
        kept = int(dut.sticky_count_o.value)
        assert kept == sum([bool(await tb.take(place)) for place in PLACES])
        tb.told.check()
        overflows += tb.told.overflows
        assert int(dut.sticky_count_o.value) == 0
    assert overflows > 100


@cocotb.test()
async def bits_are_counted_by_sa_and_forgotten_with_it(dut: object) -> None:
    tb = TB(dut)
    await tb.begin()
    for _ in range(20):
        tb.rate, tb.pop_rate = 1.0, 0.0
        for _ in range(60 + 12 * DEPTH):
            await tb.tick()
        # The queue stays full here, so all that comes goes to the memory.
        for _ in range(20):
            await tb.tick(events=False)
        kept = int(dut.sticky_count_o.value)
        forgotten = random.sample(PLACES, random.randint(1, len(PLACES)))
        tb.requests["forget"].extend(forgotten)
        for _ in range(4 * len(forgotten) + 4):
            await tb.tick(events=False)
        assert not tb.requests["forget"]
        left = int(dut.sticky_count_o.value)
        assert left <= kept
        tb.pop_rate = 1.0
        await tb.settle()
        bits = {place: await tb.take(place) for place in PLACES}
        assert left == sum(bool(one) for one in bits.values())
        assert not any(bits[place] for place in forgotten)
        assert int(dut.sticky_count_o.value) == 0


@cocotb.test()
async def bits_of_an_older_generation_make_room(dut: object) -> None:
    tb = TB(dut)
    await tb.begin()
    direction, sa = place = random.choice(PLACES)
    tb.rate, tb.pop_rate = 1.0, 0.0
    for _ in range(60 + 12 * DEPTH):
        await tb.tick()
    for _ in range(20):
        await tb.tick(events=False)
    name = DIRECTIONS[direction]

    async def tell(generation: int, bits: int) -> None:
        for signal, value in (("valid", 1), ("sa", sa), ("generation", generation), ("events", bits)):
            getattr(dut, f"{name}_{signal}_i").value = value
        await FallingEdge(dut.clk_i)
        for _ in range(12):
            await tb.tick(events=False)

    generation = tb.generations[place]
    await tell(generation + 1, 0b000001)
    counted = int(dut.sticky_count_o.value)
    await tell(generation + 1, 0b000100)
    await tell(generation + 2, 0b001000)
    await tell(generation + 2, 0b100000)
    assert int(dut.sticky_count_o.value) == counted
    tb.told.taken.clear()
    tb.requests["take"].append(place)
    for _ in range(6):
        await tb.tick(events=False)
    assert tb.told.taken[place] == {generation + 2: 0b101000}
    assert int(dut.sticky_count_o.value) == counted - 1


@cocotb.test()
async def a_bit_that_is_taken_is_gone_and_one_that_comes_meanwhile_is_not(dut: object) -> None:
    tb = TB(dut)
    await tb.begin()
    tb.rate, tb.pop_rate = 1.0, 0.0
    # Both directions as often as may be, with a request in every cycle: nothing of it may be late.
    for _ in range(1500):
        if not tb.requests["take"]:
            tb.requests["take"].append(random.choice(PLACES))
        await tb.tick()
    tb.pop_rate = 1.0
    await tb.settle()
    for place in PLACES:
        await tb.take(place)
    tb.told.check()


@cocotb.test()
async def reset_empties_all(dut: object) -> None:
    tb = TB(dut)
    for _ in range(3):
        await tb.begin()
        assert not dut.head_valid_o.value
        assert int(dut.sticky_count_o.value) == 0
        for place in PLACES:
            assert await tb.take(place) == 0
        tb.rate, tb.pop_rate = 1.0, 0.0
        for _ in range(20 * DEPTH):
            await tb.tick()
