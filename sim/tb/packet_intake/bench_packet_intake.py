"""packet_intake: good packets are stored whole and described, bad ones leave a drop and nothing else."""

from __future__ import annotations

import os
import random
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import cocotb
from cocotb.triggers import FallingEdge

from appliance.reasons import Reason
from sim.tb.traffic import packets
from sim.tb.traffic.header import HEADER, differences, expected
from sim.tb.traffic.reset import reset

BYTES, LARGEST = int(os.environ["BYTES"]), int(os.environ["LARGESTPACKET"])
DESCRIPTORS = int(os.environ["DESCRIPTORS"])
USERS = 1 << int(os.environ["USERWIDTH"])
BEATS = BYTES // 16


@dataclass
class Sent:
    """A packet as it went in: its bytes, and the tkeep of each beat."""

    packet: bytes
    keeps: list[int]
    user: int
    wrong_keep: bool = False

    def verdict(self) -> Reason | None:
        """What must become of it; None: it is good."""
        if len(self.packet) > LARGEST or len(self.keeps) * 16 > LARGEST + 15:
            return Reason.TOO_BIG
        return Reason.MALFORMED_IP if self.wrong_keep or expected(self.packet) is None else None


def sent(packet: bytes) -> Sent:
    """A packet with the tkeep that it should have."""
    beats = -(-len(packet) // 16)
    return Sent(packet, [0xFFFF] * (beats - 1) + [0xFFFF >> -len(packet) % 16], random.randrange(USERS))


def with_wrong_keep(packet: bytes) -> Sent:
    """Somewhere a beat is empty, has holes, or is not full before the last."""
    item = sent(packet)
    at = random.randrange(len(item.keeps))
    bad = [0, 0xFFFE, 0xFF7F, 0x8000, 0x5555, 0xFFFF ^ (1 << random.randrange(15))]
    if at < len(item.keeps) - 1:
        bad += [0x7FFF, 0x0001, 0x00FF]
    item.keeps[at] = random.choice(bad)
    item.wrong_keep = True
    return item


class TB:
    """Drives the stream, takes descriptors, reads the buffer and frees it, each with its own pauses."""

    def __init__(self, dut: object) -> None:
        self.dut = dut
        self.cycle = 0
        self.stalls = 0
        self.input: deque[tuple[int, int, int, int]] = deque()  # data, keep, last, user of beats
        self.good: deque[Sent] = deque()
        self.bad: deque[tuple[Sent, Reason]] = deque()
        self.base = 0
        self.taken: deque[tuple[bytes, int, int]] = deque()  # content, first beat, beats
        self.read: list[bytes] = []
        self.reading = False
        self.owed = 0  # beats read and not yet freed
        self.pause = 0.0  # of the stream
        self.patience = 0.0  # of who takes descriptors
        self.sloth = 0.0  # of the reader
        self.started = False

    async def reset(self) -> None:
        dut = self.dut
        await reset(dut, "s_axis_tvalid", "ready_i", "read_i", "free_i", started=self.started)
        self.started = True
        assert not dut.s_axis_tready.value
        await FallingEdge(dut.clk_i)
        self.base = 0
        self.valid = False
        for queue in (self.input, self.good, self.bad, self.taken):
            queue.clear()
        self.read, self.reading, self.owed = [], False, 0

    def add(self, item: Sent) -> None:
        """One more packet to send."""
        count = len(item.keeps)
        padded = item.packet + random.randbytes(16 * count - len(item.packet))
        for number, keep in enumerate(item.keeps):
            data = int.from_bytes(padded[16 * number : 16 * number + 16], "little")
            # Only the first beat's tuser counts.
            user = item.user if not number else random.randrange(USERS)
            self.input.append((data, keep, number == count - 1, user))
        reason = item.verdict()
        if reason is None:
            self.good.append(item)
        else:
            self.bad.append((item, reason))

    def stream(self) -> None:
        """AXI4-Stream: what is offered stays until it is taken."""
        dut = self.dut
        if not self.valid and self.input and random.random() >= self.pause:
            self.valid = True
            dut.s_axis_tdata.value, dut.s_axis_tkeep.value, dut.s_axis_tlast.value, dut.s_axis_tuser.value = self.input[
                0
            ]
        dut.s_axis_tvalid.value = self.valid
        if self.valid:
            if dut.s_axis_tready.value:
                self.input.popleft()
                self.valid = False
            else:
                self.stalls += 1

    def drops(self) -> None:
        dut = self.dut
        if not dut.drop_o.value:
            return
        item, reason = self.bad.popleft()
        assert dut.drop_reason_o.value.to_unsigned() == reason.value, item.packet.hex()
        assert dut.drop_user_o.value.to_unsigned() == item.user
        if reason is Reason.TOO_BIG and expected(item.packet) is not None:
            assert not differences(item.packet, dut.drop_header_o.value.to_unsigned())

    def descriptors(self) -> None:
        dut = self.dut
        take = random.random() >= self.patience
        dut.ready_i.value = take
        if not (take and dut.valid_o.value):
            return
        item = self.good.popleft()
        header = dut.header_o.value.to_unsigned()
        wrong = differences(item.packet, header)
        assert not wrong, f"{wrong} (RTL, golden) of {item.packet.hex()}"
        length = HEADER.unpack(header)["total_length"]
        beats = -(-length // 16)
        assert dut.begin_o.value.to_unsigned() == self.base
        assert dut.beats_o.value.to_unsigned() == beats
        assert dut.user_o.value.to_unsigned() == item.user
        self.taken.append((item.packet[:length], self.base, beats))
        self.base = (self.base + beats) % BEATS

    def reader(self) -> None:
        """Reads each packet beat by beat, and frees what it has read, in pieces of any size."""
        dut = self.dut
        if self.reading:
            self.read.append(dut.read_data_o.value.to_unsigned().to_bytes(16, "little"))
            self.reading = False
        if self.taken:
            content, first, beats = self.taken[0]
            if len(self.read) == beats:
                assert b"".join(self.read)[: len(content)] == content
                self.taken.popleft()
                self.read = []
                self.owed += beats
        dut.read_i.value = 0
        if self.taken and random.random() >= self.sloth:
            _, first, beats = self.taken[0]
            self.reading = True
            dut.read_i.value = 1
            dut.read_addr_i.value = (first + len(self.read)) % BEATS
        dut.free_i.value = 0
        if self.owed and random.random() >= self.sloth:
            free = random.randint(1, self.owed)
            dut.free_i.value = 1
            dut.free_beats_i.value = free
            self.owed -= free

    async def tick(self) -> None:
        await FallingEdge(self.dut.clk_i)
        self.cycle += 1
        self.drops()
        self.descriptors()
        self.reader()
        self.stream()

    async def drain(self, limit: int = 200_000) -> None:
        """Until all that was sent has been seen, and a little longer."""
        limit += self.cycle
        while self.input or self.valid or self.good or self.bad or self.taken or self.owed:
            await self.tick()
            assert self.cycle < limit, f"stuck: {len(self.input)} beats, {len(self.good)} good, {len(self.bad)} bad"
        for _ in range(4):
            await self.tick()
        assert not self.dut.valid_o.value
        assert self.dut.taken_q.value.to_unsigned() == 0, "beats are lost"
        assert self.dut.slots_q.value.to_unsigned() == 0, "places of descriptors are lost"

    async def run(self, items: Iterable[Sent]) -> None:
        for item in items:
            self.add(item)
            while len(self.input) > 60:
                if random.random() < 0.01:
                    self.moods()
                await self.tick()
        await self.drain()

    def moods(self) -> None:
        """Who is slow now: the stream, the reader, both or nobody."""
        self.pause, self.patience, self.sloth = (random.choice((0.0, 0.0, 0.3, 0.9)) for _ in range(3))


def a_packet() -> Sent:
    """A packet of any kind, of a size that matters."""
    kind = random.random()
    if kind < 0.5:
        return sent(next(packets.some(1, 150, wrong=0.3)))
    if kind < 0.6:
        return with_wrong_keep(next(packets.some(1, 150, wrong=0.0)))
    if kind < 0.7:  # lengths around a beat's end
        return sent(packets.ipv4(50, random.randbytes(random.randrange(60))))
    if kind < 0.9:  # about as long as it may be
        length = LARGEST + random.choice((-17, -16, -1, 0, 0, 0, 1, 1, 15, 16, 17, 40))
        if random.random() < 0.5:
            return sent(packets.ipv4(17, random.randbytes(length - 20)))
        return sent(packets.ipv6((), 17, random.randbytes(100)) + random.randbytes(length - 140))
    if kind < 0.95:  # without tlast the next packet is behind it
        return sent(b"".join(packets.some(random.randrange(2, 4), 40, wrong=0.0)))
    return sent(packets.ipv4(17, bytes(30)) + random.randbytes(random.randrange(3 * LARGEST)))


@cocotb.test()
async def good_packets_come_whole_and_bad_ones_leave_nothing(dut: object) -> None:
    tb = TB(dut)
    await tb.reset()
    await tb.run(a_packet() for _ in range(1000 if LARGEST < 4000 else 250))


@cocotb.test()
async def short_packets_of_all_kinds_follow_one_another(dut: object) -> None:
    tb = TB(dut)
    await tb.reset()

    def items() -> Iterable[Sent]:
        for _ in range(1500):
            kind = random.random()
            if kind < 0.3:  # a beat each
                yield sent(random.randbytes(random.randrange(1, 17)))
            elif kind < 0.4:
                yield with_wrong_keep(packets.ipv4(6, b""))
            else:
                yield sent(packets.ipv4(6, random.randbytes(random.randrange(20))))

    await tb.run(items())


@cocotb.test()
async def nothing_is_lost_when_nobody_reads_for_long(dut: object) -> None:
    """The ring and the queue of descriptors fill up in turn; the stream waits and goes on."""
    tb = TB(dut)
    await tb.reset()
    for size in (0, 30, 400):
        for _ in range(3):
            tb.patience = tb.sloth = 1.0
            total = 0
            while total < 2 * BEATS:
                item = sent(packets.ipv4(50, random.randbytes(size)))
                total += len(item.keeps)
                tb.add(item)
                if random.random() < 0.2:
                    tb.add(sent(random.randbytes(20)))
            stalls = tb.stalls
            for _ in range(4 * BEATS):
                await tb.tick()
            assert tb.stalls > stalls, "the stream never waited"
            assert tb.dut.taken_q.value.to_unsigned() <= BEATS
            tb.patience = tb.sloth = 0.0
            await tb.drain()


@cocotb.test()
async def a_packet_without_end_does_not_stop_the_stream(dut: object) -> None:
    tb = TB(dut)
    await tb.reset()
    tb.add(sent(packets.ipv4(50, random.randbytes(100))))
    tb.patience = 1.0  # what is in front of it stays where it is
    for _ in range(50):
        await tb.tick()
    tb.patience = 0.0
    tb.add(sent(packets.ipv4(50, random.randbytes(100)) + bytes(70000)))
    tb.add(sent(packets.ipv4(50, random.randbytes(100))))
    await tb.drain()


@cocotb.test()
async def a_beat_is_taken_every_cycle(dut: object) -> None:
    """Packets of 64 bytes, some of them bad, while the reader keeps up: the stream never waits."""
    tb = TB(dut)
    await tb.reset()
    for number in range(300):
        tb.add(sent(packets.ipv4(50, random.randbytes(44)) if number % 7 else random.randbytes(64)))
    # Reading takes a cycle more for each packet; who only frees keeps up.
    tb.reader = lambda: freeing(tb)
    start, beats = tb.cycle, len(tb.input)
    while tb.input:
        await tb.tick()
    # A packet has its descriptor's place from its first beat on, 8 cycles longer than it takes to come.
    waits = 0 if DESCRIPTORS >= 4 else beats // 2
    assert tb.cycle - start <= beats + waits and tb.stalls <= waits, f"{tb.cycle - start} cycles for {beats} beats"
    await tb.drain()


def freeing(tb: TB) -> None:
    """Frees a packet as soon as it is described."""
    tb.dut.read_i.value = 0
    tb.dut.free_i.value = bool(tb.taken)
    if tb.taken:
        tb.dut.free_beats_i.value = tb.taken.popleft()[2]


@cocotb.test()
async def reset_forgets_all_packets(dut: object) -> None:
    tb = TB(dut)
    for _ in range(30):
        await tb.reset()
        tb.moods()
        for _ in range(8):
            tb.add(a_packet())
        for _ in range(random.randrange(100)):
            await tb.tick()
    await tb.reset()
    tb.pause = tb.patience = tb.sloth = 0.0
    await tb.run(a_packet() for _ in range(30))
