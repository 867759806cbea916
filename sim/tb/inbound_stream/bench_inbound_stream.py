"""Slots, ICVs and kept headers out of packets anywhere in a ring, beside the slots that the model makes of them."""

from __future__ import annotations

import random
from collections import Counter, deque
from itertools import pairwise
from typing import Any

import cocotb
from cocotb.handle import HierarchyObject
from cocotb.triggers import FallingEdge, Timer

from appliance.reasons import Reason
from sim.tb.model import gcm
from sim.tb.structs import layout
from sim.tb.traffic.reset import reset

BEATS, ROOM = 128, 100
JOB, ITEM, PLAN, SLOT, KIND = (
    layout(name) for name in ("inbound_job_t", "verdict_item_t", "text_plan_t", "slot_t", "item_kind_e")
)
PACKET, COMMAND, SKIP = (KIND[name] for name in ("ItemPacket", "ItemCommand", "ItemSkip"))
NONE = gcm.Slot(gcm.Kind.KEY)


class TB:
    """The frame buffer in front and all who take something behind."""

    def __init__(self, dut: HierarchyObject) -> None:
        self.dut = dut
        self.ring = [random.randbytes(16)] * BEATS
        self.filled: set[int] = set()  # places that may be read
        self.place = 0
        self.jobs: deque[dict[str, Any]] = deque()
        self.slots: deque[gcm.Slot] = deque()
        self.icvs: deque[bytes] = deque()
        self.parts: deque[bytes] = deque()
        self.freed: deque[list[int]] = deque()
        self.within = self.offered = self.told = False
        self.beat: bytes | None = None
        self.interval, self.lazy = 1, 0.0
        self.item_room = False
        self.room = ROOM
        self.draining = 0.2  # how often room comes back
        self.stalling = 0.0  # how often the output is one that stalled
        self.rooms: deque[int] = deque(maxlen=3)
        self.jammed = 0
        self.cycle = 0
        self.slot_at: list[int] = []
        self.seen: Counter[str] = Counter()

    async def start(self) -> None:
        names = ("job_valid_i", "slot_ready_i", "item_room_i", "part_room_i", "room_i", "stalled_i")
        await reset(self.dut, *names, started=False)

    async def tick(self) -> None:
        await FallingEdge(self.dut.clk_i)
        self.cycle += 1
        self.drive()
        await Timer(1, "ns")
        self.sample()

    def drive(self) -> None:
        dut = self.dut
        if self.beat is not None:
            dut.read_beat_i.value = gcm.packed(self.beat)
        self.beat = None
        self.offered = bool(self.jobs) and (self.offered or random.random() >= self.lazy)
        dut.job_valid_i.value = self.offered
        if self.offered:
            job = self.jobs[0]
            dut.job_kind_i.value, dut.job_sa_i.value = job["kind"], job["sa"]
            dut.job_i.value = JOB.pack(job.get("job", 0))
            dut.job_reason_i.value, dut.job_has_sa_i.value = job["reason"], job["has_sa"]
            dut.job_spi_i.value = job["spi"]
            dut.job_place_i.value, dut.job_beats_i.value = job["place"], job["beats"]
        # The cipher takes a slot in every such cycle, and does not take none in the middle of a packet.
        dut.slot_ready_i.value = self.cycle % self.interval == 0
        # There is only more of it until an item comes.
        self.item_room = (self.item_room and not self.told) or random.random() >= self.lazy
        dut.item_room_i.value = self.item_room
        dut.part_room_i.value = random.random() >= self.lazy
        if self.room < ROOM and random.random() < self.draining:
            self.room = min(ROOM, self.room + random.choice((1, 1, 20)))
        dut.room_i.value = self.room
        self.rooms.append(self.room)
        dut.stalled_i.value = random.random() < self.stalling

    def sample(self) -> None:
        dut = self.dut
        if dut.slot_ready_i.value:
            if dut.slot_valid_o.value:
                self.slot(SLOT.unpack(int(dut.slot_o.value)), int(dut.slot_sa_o.value))
            else:
                assert not self.within, "a gap in a packet"
        if dut.icv_valid_o.value:
            assert int(dut.icv_o.value) == gcm.packed(self.icvs.popleft())
        if dut.part_valid_o.value:
            part = self.parts.popleft()
            assert int(dut.part_o.value).to_bytes(16, "little")[: len(part)] == part
        if dut.free_o.value:
            places = self.freed.popleft()
            assert int(dut.free_beats_o.value) == len(places)
            # What is read in this very cycle is still there.
            self.filled -= set(places)
            if dut.read_o.value and int(dut.read_place_o.value) in places:
                self.filled.add(int(dut.read_place_o.value))
        if dut.read_o.value:
            place = int(dut.read_place_o.value)
            assert place in self.filled, f"beat {place} is read and is not there"
            self.beat = self.ring[place]
            if not any(place in places for places in self.freed):
                self.filled.discard(place)
        assert bool(dut.plan_valid_o.value) == bool(dut.reserve_o.value)
        if dut.item_valid_o.value:
            assert self.offered and not self.told, "an item is told of twice"
            self.told = True
            self.begun(self.jobs[0])
        else:
            assert not dut.reserve_o.value
        if dut.job_ready_o.value:
            assert self.told, "a job is taken that was not begun"
            self.jobs.popleft()
            self.offered = self.told = False

    def begun(self, job: dict[str, Any]) -> None:
        dut = self.dut
        assert self.item_room, "no place for an item when it was begun"
        item = ITEM.unpack(int(dut.item_o.value))
        if job["kind"] == PACKET and item["kind"] == SKIP:
            # What has room is not skipped, whether the output stalled or not.
            beats = -(-(job["job"]["kept"] + job["job"]["body"]) // 16)
            assert self.stalling and beats > min(self.rooms), "skipped, with room"
            job |= {"kind": SKIP, "reason": Reason.QUEUE_FULL.value}
            self.filled -= set(job["places"])
            self.jammed += 1
        assert bool(dut.plan_valid_o.value) == (job["kind"] == PACKET)
        assert int(dut.item_sa_o.value) == job["sa"] and item["kind"] == job["kind"]
        if job["kind"] == COMMAND:
            self.slots.append(gcm.Slot(gcm.Kind.KEY, job["sa"]))
            return
        assert (item["has_sa"], item["spi"]) == (job["has_sa"], job["spi"])
        assert item["sequence_number"] == job["job"]["sequence_number"]
        if job["kind"] == SKIP:
            assert item["reason"] == job["reason"]
            return
        beats = -(-(job["job"]["kept"] + job["job"]["body"]) // 16)
        assert item["body"] == job["job"]["body"] and item["beats"] == beats
        assert int(dut.reserve_beats_o.value) == beats <= self.room
        self.room -= beats
        self.slots += job["slots"]
        self.icvs.append(job["icv"])
        self.parts += job["parts"]
        plan = PLAN.unpack(int(dut.plan_o.value))
        assert plan == {name: job["job"][name] for name in plan}

    def slot(self, slot: dict[str, int], sa: int) -> None:
        want = self.slots.popleft()
        self.slot_at.append(self.cycle)
        assert slot["kind"] == want.kind
        if want.kind in (gcm.Kind.FIRST, gcm.Kind.KEY):
            assert sa == want.sa
        if want.kind == gcm.Kind.KEY:
            return
        self.within = want.kind != gcm.Kind.LAST
        data = slot["data"]
        if want.kind == gcm.Kind.FIRST:
            got = slot["key256"], slot["decrypt"], slot["following"], slot["nonce"]
            assert got == (int(want.key256), 1, want.following, gcm.packed(want.nonce))
        if want.kind == gcm.Kind.TEXT:
            assert slot["bytes"] == want.count
            data &= (1 << 8 * want.count) - 1
            assert data == gcm.packed(want.data[: want.count])
        else:
            assert data == gcm.packed(want.data)

    def load(self, packet: bytes) -> list[int]:
        count = -(-len(packet) // 16)
        places = [(self.place + i) % BEATS for i in range(count)]
        for number, place in enumerate(places):
            beat = packet[16 * number : 16 * number + 16]
            self.ring[place] = beat + random.randbytes(16 - len(beat))
        self.place = (self.place + count) % BEATS
        return places

    async def give(self, kind: int, packet: bytes = b"", job: dict[str, int] | None = None) -> None:
        """One item, when there is room in the ring."""
        count = -(-len(packet) // 16)
        while sum(map(len, self.freed)) + count > BEATS or len(self.jobs) > 3:
            await self.tick()
        job = {"sequence_number": random.getrandbits(64), **(job or {})}
        places = self.load(packet)
        what = {
            "kind": kind,
            "sa": random.getrandbits(3),
            "reason": random.randrange(1, 20),
            "has_sa": random.getrandbits(1),
            "spi": random.getrandbits(32),
            "place": places[0] if places else 0,
            "beats": count,
            "places": places,
            "job": job,
        }
        self.jobs.append(what)
        if kind == COMMAND:
            return
        self.filled |= set(places)
        self.freed.append(places)
        if kind == SKIP:
            self.filled -= set(places)
            return
        begin, body, kept = job["esp_begin"], job["body"], job["kept"]
        esp = packet[begin : begin + 32 + body]
        high = (job["sequence_number"] >> 32).to_bytes(4, "big") if job["esn"] else b""
        nonce = job["salt"].to_bytes(4, "little") + esp[8:16]
        aad, text = esp[:4] + high + esp[4:8], esp[16:-16]
        what["slots"] = gcm.packet(what["sa"], bool(job["key256"]), nonce, aad, text, decrypt=True)
        what["icv"] = esp[-16:]
        what["parts"] = [packet[at : min(at + 16, kept)] for at in range(0, kept, 16)]
        self.seen[f"shift {begin % 16}, end {body % 16}, {'kept' if kept else 'tunnel'}"] += 1

    async def packet(self, *, transport: bool | None = None, body: int | None = None) -> None:
        header = 4 * random.choice((5, 6, 10, 12, random.randrange(5, 40)))
        begin = header + random.choice((0, 8))
        body = 4 * random.choice((1, 2, 3, 4, 5, 6, random.randrange(1, 60))) if body is None else body
        behind = random.choice((0, 0, 3, 20))  # UDP's length may end before IP's
        job = JOB.unpack(random.getrandbits(JOB.width))
        transport = random.random() < 0.4 if transport is None else transport
        job |= {"kept": header if transport else 0, "esp_begin": begin, "body": body, "transport": int(transport)}
        await self.give(PACKET, random.randbytes(begin + 32 + body + behind), job)

    async def drain(self) -> None:
        for _ in range(8000):
            if not (self.jobs or self.slots):
                break
            await self.tick()
        for _ in range(5):
            await self.tick()
        assert not (self.jobs or self.slots or self.icvs or self.parts or self.freed), "something did not come"


@cocotb.test()
async def slots_are_those_of_the_model(dut: HierarchyObject) -> None:
    tb = TB(dut)
    await tb.start()
    for _ in range(1800):
        if random.random() < 0.04:
            tb.interval, tb.lazy = random.choice((1, 1, 2, 7)), random.choice((0.0, 0.0, 0.5, 0.9))
            tb.draining = random.choice((0.2, 0.02, 0.004))
            tb.stalling = random.choice((0.0, 0.0, 0.1, 1.0)) if tb.draining == 0.2 else random.choice((0.0, 1.0))
        kind = random.random()
        if kind < 0.1:
            await tb.give(COMMAND)
        elif kind < 0.25:
            await tb.give(SKIP, random.randbytes(random.randrange(1, 200)))
        else:
            await tb.packet()
    tb.interval, tb.lazy, tb.draining, tb.stalling = 1, 0.0, 0.2, 0.0
    await tb.drain()
    assert tb.jammed > 20
    assert len(tb.seen) == 32, sorted(tb.seen)


@cocotb.test()
async def one_cycle_between_two_packets(dut: HierarchyObject) -> None:
    tb = TB(dut)
    await tb.start()
    for body in (48, 500):
        blocks = -(-body // 16)
        for _ in range(10):
            await tb.packet(transport=False, body=body)
        tb.slot_at.clear()
        tb.room = ROOM
        for _ in range(10 * (blocks + 3) + 10):
            tb.room = ROOM
            await tb.tick()
        await tb.drain()
        firsts = tb.slot_at[:: blocks + 2]
        assert {later - one for one, later in pairwise(firsts)} <= {blocks + 3}
