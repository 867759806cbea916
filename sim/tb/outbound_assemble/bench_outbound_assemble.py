"""Header words, text and ICVs at the pace of the cipher, put together as the bytes that they are."""

from __future__ import annotations

import os
import random
from collections import deque
from dataclasses import dataclass

import cocotb
from cocotb.handle import HierarchyObject
from cocotb.triggers import ReadOnly, RisingEdge

from appliance.esp.checksum import internet_checksum
from sim.tb.structs import layout
from sim.tb.traffic.reset import reset

ASSEMBLY, PART = layout("assembly_t"), layout("head_part_t")
FASTEST = int(os.environ["FASTEST"])  # the fewest cycles between two blocks of the cipher
# Cycles that an ICV may take longer. Text of the packets behind waits meanwhile: as many blocks as there is room for
# beside those that may wait when a packet is begun.
LATE = (int(os.environ["TEXTDEPTH"]) - int(os.environ["TEXTMARGIN"])) * FASTEST
BEATS = (1 << int(os.environ["BEATSWIDTH"])) - 1  # the most that a packet has


@dataclass
class Packet:
    head: bytes
    body: bytes
    tag: bytes
    outer: int
    udp_checksum: bool
    udp_sum: int

    @property
    def whole(self) -> bytes:
        return self.head + self.body + self.tag


class TB:
    """Feeds parts and, as the cipher would, text and tags; collects beats and descriptors."""

    def __init__(self, dut: HierarchyObject) -> None:
        self.dut = dut
        self.cycle = 0
        self.assemblies: deque[int] = deque()
        self.parts: deque[int] = deque()
        self.text: deque[tuple[int, int]] = deque()
        self.tags: deque[tuple[int, int]] = deque()
        self.beats: list[int] = []
        self.expected: deque[Packet] = deque()
        self.descriptors = 0
        self.spans: list[tuple[int, int]] = []

    async def start(self) -> None:
        dut = self.dut
        inputs = ("assembly_valid_i", "part_valid_i", "text_valid_i", "tag_valid_i")
        await reset(dut, *inputs, started=False)
        await RisingEdge(dut.clk_i)
        cocotb.start_soon(self._run())

    async def _run(self) -> None:
        dut = self.dut
        described: deque[tuple[int, ...]] = deque()
        while True:
            await ReadOnly()
            room = bool(dut.part_room_o.value)
            if dut.descriptor_valid_o.value:
                said = (dut.descriptor_beats_o, dut.descriptor_bytes_o, dut.patch_at_o, dut.patch_o, dut.patch_mask_o)
                described.append(tuple(int(one.value) for one in said))
            if dut.write_valid_o.value:
                self.beats.append(int(dut.write_data_o.value))
                self.spans.append((self.cycle, len(self.expected)))
            self._match(described)
            await RisingEdge(dut.clk_i)
            self.cycle += 1
            dut.assembly_valid_i.value = int(bool(self.assemblies))
            if self.assemblies:
                dut.assembly_i.value = self.assemblies.popleft()
            dut.part_valid_i.value = int(room and bool(self.parts))
            if room and self.parts:
                dut.part_i.value = self.parts.popleft()
            for queue, valid, data in (
                (self.text, dut.text_valid_i, dut.text_i),
                (self.tags, dut.tag_valid_i, dut.tag_i),
            ):
                due = bool(queue) and queue[0][0] <= self.cycle
                valid.value = int(due)
                if due:
                    data.value = queue.popleft()[1]

    def _match(self, described: deque[tuple[int, ...]]) -> None:
        """Take the oldest packet once all of it is here."""
        while self.expected and described:
            packet = self.expected[0]
            count = -(-len(packet.whole) // 16)
            if len(self.beats) < count:
                return
            beats, size, at, patch, mask = described.popleft()
            seen = bytearray(b"".join(beat.to_bytes(16, "little") for beat in self.beats[:count])[: len(packet.whole)])
            del self.beats[:count]
            assert bytes(seen) == packet.whole
            assert (beats, size) == (count, len(packet.whole))
            assert mask == (3 if packet.udp_checksum else 0)
            if mask:
                covered = packet.udp_sum.to_bytes(2) + packet.body + packet.tag
                assert at == packet.outer + 6
                # The lower byte of a patch goes first.
                assert patch.to_bytes(2, "little")[::-1] == (internet_checksum(covered) or 0xFFFF).to_bytes(2)[::-1]
            self.expected.popleft()
            self.descriptors += 1

    async def send(self, packet: Packet, interval: int = 1, late: int = 0) -> int:
        """Begin a packet as outbound_stream does; returns the cycle."""
        dut = self.dut
        await ReadOnly()
        while not (dut.assembly_room_o.value and dut.text_room_o.value and not self.parts):
            await RisingEdge(dut.clk_i)
            await ReadOnly()
        assembly = {"body": len(packet.body), "total": len(packet.whole), "outer": packet.outer,
                    "udp_checksum": int(packet.udp_checksum), "udp_sum": packet.udp_sum}  # fmt: skip
        self.assemblies.append(ASSEMBLY.pack(assembly))
        self.expected.append(packet)
        for at in range(0, len(packet.head), 16):
            words = packet.head[at : at + 16]
            junk = random.randbytes(16 - len(words))
            part = {"last": int(at + 16 >= len(packet.head)), "count": len(words) // 4}
            self.parts.append(PART.pack({**part, "words": int.from_bytes(words + junk, "little")}))
        at = self.cycle + 18
        blocks = [packet.body[i : i + 16] for i in range(0, len(packet.body), 16)]
        for block in blocks:
            self.text.append((at, int.from_bytes(block, "little")))
            at += interval
        self.tags.append((at + interval + 5 + late, int.from_bytes(packet.tag, "little")))
        return self.cycle

    async def settle(self) -> None:
        for _ in range(5000):
            if not self.expected:
                return
            await RisingEdge(self.dut.clk_i)
        raise AssertionError(f"{len(self.expected)} packets are missing")


def some_packet(head: int = 0, body: int = 0, udp_checksum: bool | None = None) -> Packet:
    outer = random.choice((20, 24, 40, 48, 120))
    udp = random.random() < 0.3 if udp_checksum is None else udp_checksum
    head = head or outer + 16 + 8 * random.getrandbits(1)
    body = body or 4 * random.choice((1, 2, 3, 4, 5, random.randint(1, 100)))
    return Packet(
        random.randbytes(head), random.randbytes(body), random.randbytes(16), outer, udp, random.getrandbits(16)
    )


def pushes(packet: Packet) -> int:
    return -(-len(packet.head) // 16) + -(-len(packet.body) // 16)


@cocotb.test()
async def packets_come_out_as_their_parts_joined(dut: HierarchyObject) -> None:
    tb = TB(dut)
    await tb.start()
    fullest = 0
    for number in range(800):
        interval = random.choice([one for one in (1, 1, 2, 7, 14) if one >= FASTEST]) if number < 500 else FASTEST
        packet = some_packet()
        # As the cipher has it, the same for all that follow each other.
        await tb.send(packet, interval, LATE if number % 100 >= 60 else 0)
        fullest = max(fullest, int(dut.text_count.value))
        # What follows is not begun before the cipher is through with this one's slots, nor faster than parts go out.
        blocks = -(-len(packet.body) // 16)
        for _ in range(max(pushes(packet), (blocks + 2) * interval)):
            await RisingEdge(dut.clk_i)
    await tb.settle()
    assert tb.descriptors == 800
    assert fullest >= LATE // FASTEST // 2, "no text has waited"


@cocotb.test()
async def a_checksum_of_zero_is_sent_as_all_ones(dut: HierarchyObject) -> None:
    """RFC 8200 §8.1."""
    tb = TB(dut)
    await tb.start()
    packet = some_packet(udp_checksum=True)
    total = 0xFFFF ^ internet_checksum(packet.body + packet.tag)
    packet.udp_sum = 0xFFFF - total
    await tb.send(packet, FASTEST)
    await tb.settle()


@cocotb.test()
async def back_to_back_at_most_a_cycle_a_packet_is_idle(dut: HierarchyObject) -> None:
    tb = TB(dut)
    await tb.start()
    for head, body in ((36, 496), (36, 1504), (44, 1504), (36, 8984), (44, 8984), (36, 52)):
        packets = [some_packet(head, body, udp_checksum=False) for _ in range(6)]
        if -(-len(packets[0].whole) // 16) > BEATS:
            continue
        slots = FASTEST * (-(-body // 16) + 2)
        tb.spans.clear()
        for packet in packets:
            await tb.send(packet, FASTEST)
            for _ in range(max(pushes(packet), slots if FASTEST > 1 else 0) - 1):
                await RisingEdge(dut.clk_i)
        await tb.settle()
        for _ in range(3):
            await RisingEdge(dut.clk_i)
        beats = -(-len(packets[0].whole) // 16)
        assert len(tb.spans) == 6 * beats
        # From the first packet's last beat to the last one's: five packets. Each may be a cycle longer than its beats.
        cycles = tb.spans[-1][0] - tb.spans[beats - 1][0]
        assert cycles <= 5 * max(beats + 1, slots if FASTEST > 1 else 0), (head, body, cycles, beats)
