"""packet_buffer: what leaves is what the descriptors say, in order, and nothing leaves without one."""

from __future__ import annotations

import os
import random
from collections import deque
from dataclasses import dataclass, field

import cocotb
from cocotb.triggers import FallingEdge

from sim.tb.traffic.reset import reset

BEATS = int(os.environ["BYTES"]) // 16
PLACES = int(os.environ["DESCRIPTORS"])
USERS = 1 << int(os.environ["USERWIDTH"])
STALL = int(os.environ["STALLCYCLES"])
LATENCY = 4  # cycles from a beat's write, or its descriptor, to m_axis_tvalid


@dataclass
class Packet:
    """A packet in the buffer, and its descriptor."""

    beats: list[bytes]
    leave: int  # bytes
    reserve: int  # beats
    first: bytes | None = None
    patch: tuple[int, bytes, int] = (0, bytes(2), 0)  # place, bytes, mask
    user: int = 0
    early: float = 0.5  # how soon the descriptor comes
    unwritten: int = field(init=False)

    def __post_init__(self) -> None:
        self.unwritten = len(self.beats)

    def leaves(self) -> bytes:
        """What must come out."""
        content = bytearray(b"".join(self.beats))
        if self.first is not None:
            content[:16] = self.first
        at, new, mask = self.patch
        for number in range(2):
            if mask >> number & 1 and at + number < len(content):
                content[at + number] = new[number]
        return bytes(content[: self.leave])


def a_packet(most: int) -> Packet:
    """A packet of at most so many beats."""
    count = random.choice((1, 1, 2, 3, 4, random.randint(1, most)))
    count = min(count, most)
    size = 16 * count
    leave = random.choice((0, size, size - random.randrange(16), random.randint(1, size), random.randint(1, size)))
    at = random.choice((0, 1, 10, 15, 31, leave - 1, leave, random.randrange(size)))
    return Packet(
        [random.randbytes(16) for _ in range(count)],
        leave,
        random.randint(count, min(most, count + 3)),
        first=random.randbytes(16) if random.random() < 0.4 else None,
        patch=(max(at, 0), random.randbytes(2), random.randrange(4)),
        user=random.randrange(USERS),
        early=random.choice((1.0, 0.3, 0.0)),
    )


class TB:
    """Reserves, writes and describes, and takes what comes out; each with its own pauses."""

    def __init__(self, dut: object) -> None:
        self.dut = dut
        self.started = False
        self.cycle = 0
        self.wanted: deque[Packet] = deque()
        self.writing: deque[Packet] = deque()
        self.describing: deque[Packet] = deque()
        self.leaving: deque[Packet] = deque()  # of those that do leave, once described
        self.got = bytearray()
        self.out_at: list[int] = []  # the cycles in which beats left
        self.valid_at: list[int] = []  # in which packets' first beats were offered
        self.written_at: list[int] = []
        # How long a beat has waited in this cycle, and in the two before.
        self.waited: deque[int] = deque([0, 0, 0], maxlen=3)
        self.stalls = 0
        self.pauses()

    def pauses(self, reserve: float = 0.0, write: float = 0.0, describe: float = 0.0, take: float = 0.0) -> None:
        self.pause_reserve, self.pause_write, self.pause_describe, self.pause_take = reserve, write, describe, take

    async def reset(self) -> None:
        await reset(self.dut, "reserve_i", "write_valid_i", "valid_i", "m_axis_tready", started=self.started)
        self.started = True
        for queue in (self.wanted, self.writing, self.describing, self.leaving):
            queue.clear()
        self.got.clear()
        self.waited.extend((0, 0, 0))
        await FallingEdge(self.dut.clk_i)

    def produce(self) -> None:
        dut = self.dut
        # What was reserved in this cycle is written and described in later ones.
        write = bool(self.writing) and random.random() >= self.pause_write
        dut.write_valid_i.value = write
        if write:
            packet = self.writing[0]
            dut.write_data_i.value = int.from_bytes(packet.beats[-packet.unwritten], "little")
            packet.unwritten -= 1
            self.written_at.append(self.cycle)
            if not packet.unwritten:
                self.writing.popleft()
        else:
            dut.write_data_i.value = random.getrandbits(128)
        self.describe()
        reserve = False
        if self.wanted and random.random() >= self.pause_reserve:
            reserve = dut.free_beats_o.value.to_unsigned() >= self.wanted[0].reserve
        dut.reserve_i.value = reserve
        if reserve:
            packet = self.wanted.popleft()
            dut.reserve_beats_i.value = packet.reserve
            self.writing.append(packet)
            self.describing.append(packet)

    def describe(self) -> None:
        dut = self.dut
        dut.valid_i.value = 0
        if not self.describing or random.random() < self.pause_describe:
            return
        packet = self.describing[0]
        if packet.unwritten and random.random() >= packet.early:
            return
        self.describing.popleft()
        dut.valid_i.value = 1
        dut.beats_i.value = len(packet.beats)
        dut.bytes_i.value = packet.leave
        dut.first_valid_i.value = packet.first is not None
        dut.first_i.value = int.from_bytes(packet.first or random.randbytes(16), "little")
        at, new, mask = packet.patch
        dut.patch_at_i.value = at
        dut.patch_i.value = int.from_bytes(new, "little")
        dut.patch_mask_i.value = mask
        dut.user_i.value = packet.user
        if packet.leave:
            self.leaving.append(packet)

    def take(self) -> None:
        dut = self.dut
        ready = random.random() >= self.pause_take
        dut.m_axis_tready.value = ready
        self.waited.append(self.waited[-1] + 1 if dut.m_axis_tvalid.value and not ready else 0)
        assert bool(dut.stalled_o.value) == (self.waited[0] >= STALL)
        self.stalls += bool(dut.stalled_o.value)
        if not dut.m_axis_tvalid.value:
            return
        assert self.leaving, "something leaves without a descriptor"
        packet = self.leaving[0]
        if not self.got and (not self.valid_at or len(self.valid_at) == len(self.out_at)):
            self.valid_at.append(self.cycle)
        if not ready:
            return
        keep = dut.m_axis_tkeep.value.to_unsigned()
        count = keep.bit_count()
        last = bool(dut.m_axis_tlast.value)
        assert keep == (1 << count) - 1 and count and (last or count == 16), f"tkeep {keep:04x}"
        beat = dut.m_axis_tdata.value.to_unsigned().to_bytes(16, "little")
        assert not any(beat[count:]), "bytes that do not leave can be seen"
        assert dut.m_axis_tuser.value.to_unsigned() == packet.user
        self.got += beat[:count]
        self.out_at.append(self.cycle)
        if last:
            assert self.got.hex() == packet.leaves().hex()
            self.leaving.popleft()
            self.got.clear()

    async def tick(self) -> None:
        await FallingEdge(self.dut.clk_i)
        self.cycle += 1
        self.take()  # before a descriptor of this very cycle
        self.produce()

    def busy(self) -> bool:
        return bool(self.wanted or self.writing or self.describing or self.leaving)

    async def drain(self, limit: int = 100_000) -> None:
        limit += self.cycle
        while self.busy():
            await self.tick()
            assert self.cycle < limit, "stuck"
        for _ in range(8):
            await self.tick()
        assert not self.dut.stalled_o.value
        assert self.dut.free_beats_o.value.to_unsigned() == BEATS, "beats are lost"
        assert not self.dut.m_axis_tvalid.value

    def moods(self) -> None:
        self.pauses(*(random.choice((0.0, 0.0, 0.3, 0.9)) for _ in range(4)))


@cocotb.test()
async def an_output_that_takes_nothing_is_stalled_until_it_does(dut: object) -> None:
    tb = TB(dut)
    await tb.reset()
    for waits in (STALL - 1, STALL, STALL + 1, 3 * STALL):
        stalls = tb.stalls
        tb.wanted.append(a_packet(1))
        while not dut.m_axis_tvalid.value:
            tb.pauses(take=1.0)
            if not tb.busy():
                tb.wanted.append(a_packet(1))
            await tb.tick()
        while tb.waited[-1] < waits:
            await tb.tick()
        tb.pauses()
        await tb.drain()
        assert (tb.stalls > stalls) == (waits >= STALL)


@cocotb.test()
async def what_leaves_is_what_descriptors_say(dut: object) -> None:
    tb = TB(dut)
    await tb.reset()
    most = min(BEATS, 40)
    for _ in range(4000 if BEATS < 100 else 1500):
        tb.wanted.append(a_packet(most))
        if random.random() < 0.02:
            tb.moods()
        while len(tb.wanted) > 3:
            await tb.tick()
    tb.pauses()
    await tb.drain()


@cocotb.test()
async def packets_as_long_as_the_ring_pass(dut: object) -> None:
    tb = TB(dut)
    await tb.reset()
    for early in (1.0, 0.0):
        count = min(BEATS, 4095)  # what a length can say
        for leave in (16 * count, 16 * count - 15, 1, 0):
            packet = Packet([random.randbytes(16) for _ in range(count)], leave, count, early=early)
            packet.patch = (16 * count - 1, b"\x55\xaa", 3)
            tb.wanted.append(packet)
    await tb.drain()


@cocotb.test()
async def nothing_leaves_before_its_descriptor(dut: object) -> None:
    tb = TB(dut)
    await tb.reset()
    tb.pauses(describe=1.0)
    for _ in range(BEATS // 2):
        tb.wanted.append(Packet([random.randbytes(16)], 16, 1))
    for _ in range(4 * BEATS):
        await tb.tick()  # where something that leaves is noticed
    room = tb.dut.free_beats_o.value.to_unsigned()
    assert room == (0 if PLACES <= BEATS // 2 else BEATS - BEATS // 2)
    tb.pauses()
    await tb.drain()


@cocotb.test()
async def beats_leave_as_they_come(dut: object) -> None:
    """Cut-through: described in advance, each beat is offered four cycles after it was written."""
    tb = TB(dut)
    await tb.reset()
    for count in (1, 2, min(BEATS, 8)):
        packet = Packet([random.randbytes(16) for _ in range(count)], 16 * count, count, early=1.0)
        tb.wanted.append(packet)
        tb.pauses(write=1.0)
        for _ in range(6):
            await tb.tick()
        tb.pauses(write=0.4)
        written, out = len(tb.written_at), len(tb.out_at)
        await tb.drain()
        pairs = zip(tb.written_at[written:], tb.out_at[out:], strict=True)
        assert {left - wrote for wrote, left in pairs} == {LATENCY}


@cocotb.test()
async def a_beat_leaves_every_cycle(dut: object) -> None:
    """Short packets whose ends stay behind, back to back: no cycle between them is without a beat."""
    if BEATS < 64:
        return  # so few beats do not cover the way from leaving to being free again
    tb = TB(dut)
    await tb.reset()
    tb.pauses(take=1.0)
    for number in range(PLACES):
        count = 1 + number % 3
        leave = 16 if number % 5 == 0 else 16 * count - 3
        tb.wanted.append(Packet([random.randbytes(16) for _ in range(count)], leave, count))
    for _ in range(4 * PLACES):
        await tb.tick()
    assert not tb.describing
    tb.pauses()
    await tb.drain()
    assert tb.out_at[-1] - tb.out_at[0] == len(tb.out_at) - 1, "a gap"
    # And while they are written at the same rate.
    out = len(tb.out_at)
    for number in range(200):
        count = 1 + number % 4
        tb.wanted.append(Packet([random.randbytes(16) for _ in range(count)], 16 * count, count, early=1.0))
    await tb.drain()
    cycles = tb.out_at[-1] - tb.out_at[out] + 1
    assert cycles == len(tb.out_at) - out, f"{cycles} cycles for {len(tb.out_at) - out} beats"


@cocotb.test()
async def reset_forgets_all_packets(dut: object) -> None:
    tb = TB(dut)
    for _ in range(30):
        await tb.reset()
        tb.moods()
        for _ in range(10):
            tb.wanted.append(a_packet(min(BEATS, 20)))
        for _ in range(random.randrange(60)):
            await tb.tick()
    await tb.reset()
    tb.pauses()
    tb.wanted.extend(a_packet(min(BEATS, 20)) for _ in range(30))
    await tb.drain()
