"""inbound_engine between a peer and a network: what is sent to it, what it does, and what the golden model does."""

from __future__ import annotations

import itertools
import random
from collections import Counter, deque
from dataclasses import replace
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge

from appliance.reasons import Reason
from sim.coverage import traffic
from sim.tb.inbound_engine.sampling import sampled
from sim.tb.inbound_engine.senders import ALL, INTERVAL, LARGEST, SAS, some_sa
from sim.tb.model.inbound import KEY, Key, Outcome, Sa, agrees, copied, judge, selector_packed
from sim.tb.structs import layout
from sim.tb.traffic.header import expected
from sim.tb.traffic.reset import reset

DROP, EVENTS, USAGE, KIND = (layout(name) for name in ("drop_t", "sa_events_t", "sa_usage_t", "item_kind_e"))
INSERT, REMOVE = range(2)
DONE = 0
QUIET = ("s_axis_tvalid", "m_axis_tready", "command_valid_i", "start_i", "zero_i", "op_valid_i", "selector_write_i",
         "read_valid_i")  # fmt: skip


class TB:
    """Sends packets, takes what leaves, and holds all that is told against the model, in order.

    A packet has its turn in the model when it comes out of inbound_lookup, where commands come in between.
    """

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.lookup = dut.u_engine.u_lookup
        self.started = self.up = False
        self.cycle = 0
        self.pause = self.patience = 0.0
        self.seen: Counter[object] = Counter()
        self.clear()

    def clear(self) -> None:
        self.input: deque[tuple[int, int, bool]] = deque()  # data, keep, last
        self.valid = False
        self.coming: deque[bytes] = deque()  # not yet looked up
        self.bad: deque[Reason] = deque()  # dropped by intake
        self.changed: dict[bytes, str] = {}  # which part of a packet is not as its sender made it
        self.planned: deque[traffic.Sample] = deque()  # what the next that leave have to be, if that is planned
        self.leaving: deque[Outcome] = deque()
        self.drops: deque[Outcome] = deque()
        self.events: deque[Outcome] = deque()
        self.settled: deque[bytes] = deque(maxlen=40)  # packets whose number is in the window
        self.got = bytearray()
        self.left: deque[bytes] = deque(maxlen=1000)
        self.left_at: list[int] = []  # when packets' last beats did
        self.history: dict[int, list[dict[str, int]]] = {}  # of what was counted, since an SA was installed
        self.table: dict[Key, int] = {}
        self.installed: dict[int, Sa] = {}
        self.next: Sa | int | None = None  # what a command under way brings
        self.changing: Key | None = None

    async def reset(self) -> None:
        """Reset, and every SA removed, as whoever drives the engine has to."""
        dut = self.dut
        self.up = False
        await reset(dut, *QUIET, started=self.started)
        self.clear()
        self.up = True
        if not self.started:
            cocotb.start_soon(self.run())
        self.started = True
        await FallingEdge(dut.clk_i)
        while dut.busy_o.value:
            await FallingEdge(dut.clk_i)
        await self.stage(None)
        for index in range(SAS):
            await self.command(index)

    # What comes and goes in every cycle

    async def run(self) -> None:
        while True:
            await FallingEdge(self.dut.clk_i)
            self.cycle += 1
            if self.up:
                self.looked_up()
                self.told()
                self.take()
                self.stream()

    def stream(self) -> None:
        dut = self.dut
        if not self.valid and self.input and random.random() >= self.pause:
            self.valid = True
            dut.s_axis_tdata.value, dut.s_axis_tkeep.value, dut.s_axis_tlast.value = self.input[0]
        dut.s_axis_tvalid.value = self.valid
        if self.valid and dut.s_axis_tready.value:
            self.input.popleft()
            self.valid = False

    def looked_up(self) -> None:
        if not (self.lookup.item_valid_o.value and self.lookup.item_room_i.value):
            return
        kind = int(self.lookup.item_kind_o.value)
        if kind == KIND["ItemCommand"]:
            if isinstance(self.next, Sa):
                self.installed[self.next.index] = self.next
                self.history[self.next.index] = [self.next.usage()]
            elif self.next is not None:
                self.installed.pop(self.next, None)
                self.history.pop(self.next, None)
            return
        packet = self.coming.popleft()
        header = expected(packet)
        assert header is not None
        key = header["v6"], header["destination"], header.get("spi", 0)
        table = self.table
        if key == self.changing and kind == KIND["ItemSkip"]:
            table = {one: index for one, index in table.items() if one != key}
        sa = self.installed.get(self.table.get(key, -1))
        before = copied(sa.window) if sa is not None and random.random() < 0.1 else None
        edge = sa.window.highest if sa is not None else 0
        outcome = judge(packet, table, self.installed)
        kind = sampled(outcome, edge, self.pressure, self.changed.get(packet))
        assert kind is None or not self.planned or kind == replace(self.planned.popleft(), replay=kind.replay)
        if before is not None and outcome.sa is not None and outcome.reason is not Reason.LIFETIME_EXPIRED:
            self.seen["compared"] += 1
            assert agrees(packet[: header["total_length"]], before, outcome), packet.hex()
        if outcome.sa is not None:
            self.history[outcome.sa.index].append(outcome.sa.usage())
        if outcome.reason is None:
            self.leaving.append(outcome)
        else:
            self.drops.append(outcome)
        if any(outcome.events.values()):
            self.events.append(outcome)
        self.seen[outcome.reason] += 1
        self.seen.update(name for name, value in outcome.events.items() if value)

    def told(self) -> None:
        dut = self.dut
        if dut.intake_drop_valid_o.value:
            drop = DROP.unpack(int(dut.intake_drop_o.value))
            assert drop == {
                "direction": 1,
                "has_sa": 0,
                "reason": self.bad.popleft().value,
                "spi": 0,
                "sequence_number": 0,
            }
        if dut.drop_valid_o.value:
            assert self.drops, f"{DROP.unpack(int(dut.drop_o.value))} is not expected"
            outcome = self.drops.popleft()
            assert outcome.reason is not None
            drop = DROP.unpack(int(dut.drop_o.value))
            assert Reason(drop["reason"]) is outcome.reason, f"{outcome.sent.hex()}, in it {outcome.plaintext.hex()}"
            assert drop == {
                "direction": 1,
                "has_sa": int(outcome.sa is not None),
                "reason": outcome.reason.value,
                "spi": outcome.spi,
                "sequence_number": outcome.sequence,
            }, outcome
            assert int(dut.drop_sa_o.value) == (outcome.sa.index if outcome.sa else 0)
            if outcome.reason not in (Reason.INTEGRITY, Reason.REPLAYED, Reason.MALFORMED_ESP) and outcome.sa:
                self.settled.append(outcome.sent)
        if dut.events_valid_o.value:
            outcome = self.events.popleft()
            assert outcome.sa is not None and int(dut.events_sa_o.value) == outcome.sa.index
            events = {name: one for name, one in EVENTS.unpack(int(dut.events_o.value)).items() if one}
            assert events == {name: one for name, one in outcome.events.items() if one}, outcome

    def take(self) -> None:
        dut = self.dut
        ready = random.random() >= self.patience
        dut.m_axis_tready.value = ready
        if not (ready and dut.m_axis_tvalid.value):
            return
        assert self.leaving, "something leaves that should not"
        keep, last = int(dut.m_axis_tkeep.value), bool(dut.m_axis_tlast.value)
        count = keep.bit_count()
        assert keep == (1 << count) - 1 and count and (last or count == 16), f"tkeep {keep:04x}"
        self.got += int(dut.m_axis_tdata.value).to_bytes(16, "little")[:count]
        if last:
            self.left_at.append(self.cycle)
            self.left.append(bytes(self.got))
            outcome = self.leaving.popleft()
            assert self.got.hex() == outcome.leaves.hex(), outcome.sent.hex()
            assert outcome.sa is not None and int(dut.m_axis_tuser.value) == outcome.sa.index
            self.settled.append(outcome.sent)
            self.got.clear()

    # What a test does

    @property
    def pressure(self) -> str:
        """Who makes pauses now."""
        names = {(0, 0): "none", (1, 0): "source", (0, 1): "sink", (1, 1): "both"}
        return names[self.pause > 0, self.patience > 0]

    def send(self, packet: bytes, changed: str | None = None) -> None:
        if changed:
            self.changed[packet] = changed
        padded = packet + random.randbytes(-len(packet) % 16)
        for at in range(0, len(packet), 16):
            count = min(16, len(packet) - at)
            data = int.from_bytes(padded[at : at + 16], "little")
            self.input.append((data, (1 << count) - 1, at + 16 >= len(packet)))
        if len(packet) > LARGEST:
            self.bad.append(Reason.TOO_BIG)
        elif expected(packet) is None:
            self.bad.append(Reason.MALFORMED_IP)
        else:
            self.coming.append(packet)
            return
        traffic.inbound_drop(self.bad[-1], traffic.family(packet), self.pressure)

    async def until(self, few: int) -> None:
        """Until no more than so many beats are still to be sent."""
        limit = self.cycle + 80_000 * INTERVAL
        while len(self.input) > few:
            await FallingEdge(self.dut.clk_i)
            assert self.cycle < limit, "stuck"

    async def drain(self) -> None:
        limit = self.cycle + 80_000 * INTERVAL
        while self.input or self.coming or self.bad or self.leaving or self.drops or self.events:
            await FallingEdge(self.dut.clk_i)
            assert self.cycle < limit, f"stuck: {len(self.leaving)} should leave, {len(self.drops)} be dropped"
        for _ in range(60):
            await FallingEdge(self.dut.clk_i)
        traffic.write()

    async def stage(self, key: bytes | None) -> None:
        dut = self.dut
        dut.start_i.value, dut.zero_i.value = key is not None, key is None
        dut.key_i.value = int.from_bytes(key or b"", "little")
        dut.key256_i.value = len(key or b"") == 32
        await FallingEdge(dut.clk_i)
        dut.start_i.value = dut.zero_i.value = 0
        dut.key256_i.value = random.getrandbits(1)
        while not dut.done_o.value:
            await FallingEdge(dut.clk_i)
            dut.key_i.value = random.getrandbits(256)

    async def command(self, what: Sa | int) -> None:
        """Install an SA, or remove the one of a number; until it is done."""
        dut = self.dut
        self.next = what
        dut.command_sa_i.value = what.index if isinstance(what, Sa) else what
        dut.command_data_i.value = what.packed() if isinstance(what, Sa) else 0
        dut.command_valid_i.value = 1
        while not dut.command_ready_o.value:
            await FallingEdge(dut.clk_i)
        await FallingEdge(dut.clk_i)
        dut.command_valid_i.value = 0
        while not dut.command_done_o.value:
            await FallingEdge(dut.clk_i)
        self.next = None

    async def change(self, op: int, sa: Sa) -> None:
        dut = self.dut
        self.changing = sa.lookup
        if op == INSERT:
            self.table[sa.lookup] = sa.index
        dut.op_i.value, dut.op_key_i.value, dut.op_sa_i.value = op, key_packed(sa.lookup), sa.index
        dut.op_valid_i.value = 1
        while not dut.op_ready_o.value:
            await FallingEdge(dut.clk_i)
        await FallingEdge(dut.clk_i)
        dut.op_valid_i.value = 0
        while not dut.answer_valid_o.value:
            await FallingEdge(dut.clk_i)
        assert int(dut.answer_o.value) == DONE
        # A lookup that began before it may still be on its way.
        for _ in range(60):
            await FallingEdge(dut.clk_i)
        if op == REMOVE:
            del self.table[sa.lookup]
        self.changing = None

    async def install(self, sa: Sa) -> None:
        dut = self.dut
        for number, (selector, remote) in enumerate(sa.selectors):
            dut.selector_write_i.value = 1
            dut.selector_index_i.value = sa.selector_first + number
            dut.selector_i.value = selector_packed(selector, remote)
            await FallingEdge(dut.clk_i)
        dut.selector_write_i.value = 0
        await self.stage(sa.key)
        await self.command(sa)
        await self.stage(None)
        await self.change(INSERT, sa)

    async def remove(self, sa: Sa, *, entry: bool = True) -> None:
        if entry:
            await self.change(REMOVE, sa)
        await self.stage(None)
        await self.command(sa.index)

    async def read(self, index: int) -> dict[str, int]:
        dut = self.dut
        dut.read_sa_i.value = index
        dut.read_valid_i.value = 1
        while not dut.read_ready_o.value:
            await FallingEdge(dut.clk_i)
        await FallingEdge(dut.clk_i)
        dut.read_valid_i.value = 0
        while not dut.read_done_o.value:
            await FallingEdge(dut.clk_i)
        return USAGE.unpack(int(dut.read_usage_o.value))

    async def check_usage(self) -> None:
        for index in range(SAS):
            sa = self.installed.get(index)
            wanted = sa.usage() if sa else dict.fromkeys(USAGE.unpack(0), 0)
            assert await self.read(index) == wanted, f"SA {index}"

    def press(self, pressure: str) -> None:
        """Have pauses made by whom it says: see ``pressure``."""
        self.pause = 0.3 if pressure in ("source", "both") else 0.0
        self.patience = 0.3 if pressure in ("sink", "both") else 0.0

    def moods(self) -> None:
        self.pause = random.choice((0.0, 0.0, 0.3, 0.9))
        self.patience = random.choice((0.0, 0.0, 0.3, 0.8))


def key_packed(key: Key) -> int:
    return KEY.pack(v6=key[0], destination=key[1], spi=key[2])


async def every_kind(tb: TB, *, selectors: bool = False) -> list[Sa]:
    """An SA of each kind as far as there are numbers, both families and modes, with ESN and without."""
    kinds = [(transport, v6, esn) for transport in (False, True) for v6 in (False, True) for esn in (False, True)]
    # Both modes in turn, so that two SAs have both.
    pairs = zip(random.sample(kinds[:4], 4), random.sample(kinds[4:], 4), strict=True)
    numbers = random.sample(range(SAS), min(SAS, 8))
    sas = []
    for index, (transport, v6, esn) in zip(numbers, itertools.chain.from_iterable(pairs), strict=False):
        sa = some_sa(index, transport=transport, v6=v6, esn=esn, selectors=selectors)
        await tb.install(sa)
        sas.append(sa)
    return sas


def some_packet(tb: TB, sas: list[Sa]) -> bytes:
    if tb.settled and random.random() < 0.1:
        return random.choice(tb.settled)
    maker = random.choices([one for one, _ in ALL], [weight for _, weight in ALL])[0]
    return maker(random.choice(sas))
