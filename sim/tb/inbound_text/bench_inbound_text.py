"""Text goes by: what is written, and what is noted of its beginning, its end and its headers."""

from __future__ import annotations

import os
import random
from collections import Counter, deque
from typing import Any

import cocotb
from cocotb.handle import HierarchyObject
from cocotb.triggers import FallingEdge, Timer

from appliance.esp.trailer import append_trailer
from sim.tb.model import gcm
from sim.tb.structs import layout
from sim.tb.traffic import packets
from sim.tb.traffic.header import expected
from sim.tb.traffic.reset import reset

PLAN, OPENED = layout("text_plan_t"), layout("opened_t")
PACKETS = int(os.environ["PACKETS"])
LATENCY = 17  # at least so many cycles from a packet's last part to its first text


class TB:
    """The stream and the cipher in front, the buffer and the inspector behind."""

    def __init__(self, dut: HierarchyObject) -> None:
        self.dut = dut
        self.cycle = 0
        self.schedule: dict[int, bytes] = {}  # text by its cycle
        self.plans: dict[int, dict[str, Any]] = {}
        self.parts: deque[tuple[int, bytes]] = deque()  # not before that cycle
        self.written: deque[bytes] = deque()
        self.opened: deque[dict[str, Any]] = deque()
        self.inside = 0
        self.patience = 0.0
        self.next = 0  # the next cycle that the stream is free in
        # Of transport mode's texts, by how they begin: what is to be found behind their extension headers.
        self.upper: dict[bytes, dict[str, int]] = {}
        self.seen: Counter[str] = Counter()

    async def start(self) -> None:
        await reset(self.dut, "plan_valid_i", "part_valid_i", "text_valid_i", "opened_ready_i", started=False)

    async def tick(self) -> None:
        await FallingEdge(self.dut.clk_i)
        self.cycle += 1
        dut = self.dut
        plan = self.plans.pop(self.cycle, None)
        dut.plan_valid_i.value = plan is not None
        if plan is not None:
            dut.plan_i.value = PLAN.pack(plan)
        part = self.parts[0] if self.parts and self.parts[0][0] <= self.cycle else None
        dut.part_valid_i.value = part is not None
        if part is not None:
            dut.part_i.value = gcm.packed(part[1])
        text = self.schedule.pop(self.cycle, None)
        dut.text_valid_i.value = text is not None
        dut.text_i.value = gcm.packed(text) if text is not None else random.getrandbits(128)
        dut.opened_ready_i.value = bool(dut.opened_valid_o.value) and random.random() >= self.patience
        await Timer(1, "ns")
        if part is not None:
            assert dut.part_room_o.value, "a part that has to wait, and its text does not"
            self.parts.popleft()
        if dut.write_valid_o.value:
            assert int(dut.write_data_o.value) == gcm.packed(self.written.popleft())
        if dut.opened_valid_o.value and dut.opened_ready_i.value:
            self.inside -= 1
            self.check(OPENED.unpack(int(dut.opened_o.value)))

    def check(self, opened: dict[str, Any]) -> None:
        want = self.opened.popleft()
        header = want.pop("header")
        head = want.pop("head")
        for name, at, size in (("first", 0, 16), ("second", 16, 16), ("third", 32, 8)):
            part = head[at : at + size]
            got = opened[name].to_bytes(size, "little")[: len(part)]
            assert got == part, f"{name} {got.hex()}, not {part.hex()}"
        assert opened["text"].to_bytes(4, "little") == want.pop("text")
        assert {name: opened[name] for name in want} == want
        if header is not None:
            names = [name for name in opened["inner"] if name in header and name not in ("malformed", "ecn")]
            assert {name: opened["inner"][name] for name in names} == {name: header[name] for name in names}
            assert not opened["inner"]["malformed"]
            assert "traffic_class" not in header or opened["inner"]["ecn"] == header["traffic_class"] & 3

    async def packet(self, text: bytes, kept: bytes, gap: int, interval: int) -> None:
        """What the stream and the cipher make of one packet, as early as they can."""
        # The stream stops where there is no room for a kept header, and so would the text.
        while (
            self.inside == PACKETS
            or sum(one["plan"]["kept"] + 15 >> 4 for one in self.opened) + (len(kept) + 15 >> 4) > 8
        ):
            await self.tick()
        self.inside += 1
        plan = PLAN.unpack(random.getrandbits(PLAN.width))
        plan |= {"transport": int(bool(kept)), "kept": len(kept), "body": len(text)}
        begin = max(self.next + gap, self.cycle + 1)
        self.plans[begin] = plan
        parts = [kept[at : at + 16] for at in range(0, len(kept), 16)]
        for number, part in enumerate(parts):
            self.parts.append((begin + 2 + number, part + random.randbytes(16 - len(part))))
        at = begin + 2 + len(parts) + LATENCY
        at += -at % interval
        blocks = gcm.blocks(text)
        for number, block in enumerate(blocks):
            self.schedule[at + interval * number] = block
        self.next = at - LATENCY + interval * (len(blocks) - 1) + 1
        self.written += gcm.blocks(kept + text)
        run = 0
        for byte in text[:-2]:
            run = byte if byte == 1 or (run and byte == run + 1) else 0
        header = None if kept else expected(text)
        if kept and text[:40] in self.upper:
            header = self.upper[text[:40]]
        self.seen["right"] += run == text[-2] or not text[-2]
        self.seen["header"] += header is not None
        self.opened.append(
            {
                "plan": plan,
                "head": kept or text[:16],
                "text": text[:4],
                "pad_length": text[-2],
                "next_header": text[-1],
                "padding_right": int(run == text[-2] or not text[-2]),
                "header": header,
            }
        )


def some_text() -> bytes:
    """An inner packet with padding, mostly; sometimes nothing but padding, and often not quite right."""
    inner = random.choice((b"", packets.whole(60), packets.whole(200), random.randbytes(random.randrange(40))))
    pad = (-(len(inner) + 2) % 4) + 4 * random.choice((0, 0, 0, 1, 2, random.randrange(63)))
    padding = bytearray(range(1, pad + 1))
    if pad and random.random() < 0.3:
        padding[random.choice((0, -1, random.randrange(pad)))] ^= 1 << random.randrange(8)
    said = pad if random.random() < 0.8 else random.choice((0, pad - 1, pad + 1, 255, 1)) % 256
    return inner + bytes(padding) + bytes((said, random.randrange(256)))


def behind_ipv6(tb: TB) -> bytes:
    """A text that begins with extension headers."""
    kinds = [random.choice((packets.DESTINATION, packets.ROUTING)) for _ in range(random.randrange(1, 5))]
    packet = packets.ipv6(kinds, packets.TCP, random.randbytes(20), long=True)
    header = expected(packet)
    assert header is not None
    names = ("protocol", "headers", "later_fragment", "source_port", "destination_port")
    text = append_trailer(packet[40:], packet[6], 4)
    tb.upper[text[:40]] = {name: header[name] for name in names} | {"upper_at": header["upper_at"] - 40}
    tb.seen["upper"] += 1
    return text


@cocotb.test()
async def text_is_written_and_noted(dut: HierarchyObject) -> None:
    tb = TB(dut)
    await tb.start()
    for _ in range(2500):
        if random.random() < 0.05:
            tb.patience = random.choice((0.0, 0.0, 0.7, 0.98))
        kept = random.randbytes(4 * random.choice((5, 10, 10, 12, 15, 30))) if random.random() < 0.4 else b""
        text = some_text()
        if kept and random.random() < 0.7:
            text = behind_ipv6(tb)
        await tb.packet(text, kept, random.choice((0, 0, 0, 1, 30)), random.choice((1, 1, 2, 7)))
    tb.patience = 0.0
    for _ in range(3000):
        await tb.tick()
    assert not (tb.opened or tb.written or tb.parts or tb.schedule)
    assert tb.seen["right"] > 1000 and tb.seen["header"] > 400 and tb.seen["upper"] > 400, tb.seen


@cocotb.test()
async def every_pad_length_at_every_place(dut: HierarchyObject) -> None:
    """RFC 4303 §2.4: 0 to 255 bytes of it, right and wrong."""
    tb = TB(dut)
    await tb.start()
    for pad in range(256):
        for change in range(5):
            inner = random.randbytes(-(pad + 2) % 4 + 4 * random.randrange(4))
            padding = bytearray(range(1, pad + 1))
            at = random.randrange(max(1, pad))
            if pad and change in (1, 2):
                padding[0 if change == 1 else at] ^= 1 << random.randrange(8)
            elif at > 1 and change > 2:
                # Another run in front, and the rest goes on where it would be: nothing but the seam is wrong.
                short = random.randrange(1, at)
                padding[:at] = random.randbytes(at - short) + bytes(range(1, short + 1))
            await tb.packet(inner + bytes(padding) + bytes((pad, 4)), b"", 0, 1)
    # A run that goes on from one packet into the next is none.
    for _ in range(3):
        await tb.packet(random.randbytes(13) + bytes((1, 2, 3)), b"", 0, 1)
        await tb.packet(bytes((4, 5, 5, 4)) + random.randbytes(16) + bytes((0, 4, 0, 4)), b"", 0, 1)
        await tb.packet(random.randbytes(13) + bytes((1, 2, 3)), b"", 0, 1)
        await tb.packet(bytes((4, 5, 5, 4)), b"", 0, 1)
    for _ in range(600):
        await tb.tick()
    assert not tb.opened
