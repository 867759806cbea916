"""Slots and header words beside the plaintext and the headers of the golden model."""

from __future__ import annotations

import random
from collections import deque
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.handle import HierarchyObject
from cocotb.triggers import ReadOnly, RisingEdge

from appliance.esp.encapsulation import Transport, encapsulate
from appliance.esp.ip import IPV6_HEADER, Ipv4Header, Ipv6Header, parse
from appliance.esp.outbound import OutboundSa
from appliance.esp.trailer import append_trailer
from appliance.esp.transform import AES_GCM_16, transform
from appliance.esp.transport import split_to_protect
from appliance.esp.tunnel import Tunnel
from sim.tb.structs import layout

TYPES = ("outbound_job", "outbound_head", "slot", "head_part", "assembly")
JOB, HEAD, SLOT, PART, ASSEMBLY = (layout(f"{name}_t") for name in TYPES)
KIND, SLOT_KIND = layout("job_kind_e"), layout("slot_kind_e")
BEATS = 2048
PARTS = 16  # that the queue behind holds


def some_packet(version: int) -> bytes:
    body = random.randbytes(random.choice((0, 1, random.randint(0, 64), random.randint(0, 400))))
    if version == 4:
        options = random.randbytes(4 * random.choice((0, 0, 1, 2, 3, 10)))
        return Ipv4Header(
            source=random.randbytes(4), destination=random.randbytes(4), protocol=random.choice((6, 17, 1)),
            options=options, total_length=20 + len(options) + len(body), traffic_class=random.getrandbits(8),
        ).build() + body  # fmt: skip
    extensions, protocol = b"", random.choice((6, 17, 58))
    for kind in random.sample((43, 60, 0), random.randint(0, 3)):
        # Hop-by-hop options are first or nowhere, and so are last to be put in front.
        if kind != 0 or random.random() < 0.5:
            size = random.choice((0, 0, 1, 5))
            extensions = bytes((protocol, size)) + bytes(6 + 8 * size) + extensions
            protocol = kind
            if kind == 0:
                break
    return Ipv6Header(
        source=random.randbytes(16), destination=random.randbytes(16), protocol=protocol,
        total_length=IPV6_HEADER + len(extensions) + len(body), traffic_class=random.getrandbits(8),
    ).build() + extensions + body  # fmt: skip


class TB:
    """The frame buffer, the cipher's side and the side of the header words, at any pace."""

    def __init__(self, dut: HierarchyObject) -> None:
        self.dut = dut
        self.ring = [0] * BEATS
        self.place = 0
        self.slots: deque[dict[str, Any]] = deque()
        self.parts = bytearray()
        self.waiting = 0  # parts in the queue behind
        self.heads: deque[bytes] = deque()
        self.assemblies: deque[dict[str, int]] = deque()
        self.freed: deque[int] = deque()
        self.owned: deque[int] = deque()  # places of the beats that are not freed
        self.drops = 0
        self.within = False
        self.pace = (1, 0.0)
        self.cycle = 0
        self.hurry = False

    async def start(self) -> None:
        dut = self.dut
        cocotb.start_soon(Clock(dut.clk_i, 10, "ns").start())
        dut.job_valid_i.value = dut.head_valid_i.value = 0
        dut.room_i.value = 1000
        dut.stalled_i.value = 0
        dut.text_room_i.value = dut.part_room_i.value = dut.assembly_room_i.value = dut.slot_ready_i.value = 1
        dut.rst_ni.value = 0
        for _ in range(3):
            await RisingEdge(dut.clk_i)
        dut.rst_ni.value = 1
        cocotb.start_soon(self._watch())

    async def _watch(self) -> None:
        dut = self.dut
        while True:
            await ReadOnly()
            place = int(dut.read_place_o.value) if dut.read_o.value else None
            # What is behind a packet may be written in that cycle.
            assert place is None or place in self.owned, "a beat is read that is nobody's"
            beat = None if place is None else self.ring[place]
            if dut.slot_ready_i.value:
                if dut.slot_valid_o.value:
                    self._slot(SLOT.unpack(int(dut.slot_o.value)), int(dut.slot_sa_o.value))
                else:
                    assert not self.within, "a gap in a packet"
            if dut.part_valid_o.value:
                self.waiting += 1
                assert self.waiting <= PARTS, "no place for a part"
                part = PART.unpack(int(dut.part_o.value))
                self.parts += part["words"].to_bytes(16, "little")[: 4 * part["count"]]
                if part["last"]:
                    assert bytes(self.parts) == self.heads.popleft()
                    self.parts.clear()
            if dut.assembly_valid_o.value:
                assembly = ASSEMBLY.unpack(int(dut.assembly_o.value))
                assert assembly == self.assemblies.popleft()
                assert int(dut.reserve_beats_o.value) == -(-assembly["total"] // 16)
            assert int(dut.reserve_o.value) == int(dut.assembly_valid_o.value)
            if dut.drop_o.value:
                assert dut.job_ready_o.value and not dut.reserve_o.value
                self.drops += 1
            if dut.free_o.value:
                count = self.freed.popleft()
                assert int(dut.free_beats_o.value) == count
                for _ in range(count):
                    self.owned.popleft()
            await RisingEdge(dut.clk_i)
            self.cycle += 1
            if beat is not None:
                dut.read_beat_i.value = beat
            interval, lazy = self.pace
            if self.waiting and random.random() >= lazy:
                self.waiting -= 1
            dut.part_room_i.value = int(self.waiting <= PARTS - 4)
            dut.slot_ready_i.value = self.cycle % interval == 0 and random.random() >= lazy

    def _slot(self, slot: dict[str, Any], sa: int) -> None:
        expected = self.slots.popleft()
        text = slot["kind"] == SLOT_KIND["SlotText"]
        if text:
            slot["data"] &= (1 << 8 * slot["bytes"]) - 1
        if slot["kind"] in (SLOT_KIND["SlotFirst"], SLOT_KIND["SlotKey"]):
            assert sa == expected.pop("sa")
        assert {name: slot[name] for name in expected} == expected
        if slot["kind"] != SLOT_KIND["SlotKey"]:
            self.within = slot["kind"] != SLOT_KIND["SlotLast"]

    async def job(
        self, kind: str, sa: int = 0, job: dict[str, Any] | None = None, head: dict[str, int] | None = None
    ) -> None:
        dut = self.dut
        dut.job_kind_i.value, dut.job_sa_i.value = KIND[kind], sa
        dut.job_i.value = JOB.pack(job or {})
        dut.job_place_i.value = self.place
        dut.job_valid_i.value = 1
        if head:
            for _ in range(0 if self.hurry else random.choice((0, 0, 3))):
                await RisingEdge(dut.clk_i)
            dut.head_i.value, dut.head_valid_i.value = HEAD.pack(head), 1
        await ReadOnly()
        while not dut.job_ready_o.value:
            await RisingEdge(dut.clk_i)
            await ReadOnly()
        assert int(dut.head_ready_o.value) == int(head is not None)
        await RisingEdge(dut.clk_i)
        dut.job_valid_i.value = dut.head_valid_i.value = 0

    def load(self, packet: bytes) -> int:
        """Put a packet into the ring; returns how many beats it has."""
        count = -(-len(packet) // 16)
        for i in range(count):
            beat = packet[16 * i : 16 * i + 16]
            self.owned.append((self.place + i) % BEATS)
            self.ring[self.owned[-1]] = int.from_bytes(beat + random.randbytes(16 - len(beat)), "little")
        return count

    async def packet(self, packet: bytes, form: Tunnel | Transport, sa: OutboundSa, number: int, esn: bool) -> None:
        """One packet through, with all that is to come of it noted."""
        sealed = encapsulate(sa, form, packet)
        header, transport = parse(packet), isinstance(form, Transport)
        parts = split_to_protect(packet) if transport else None
        payload = parts.payload if parts else packet
        kept = len(parts.head) if parts else 0
        protocol = parts.protocol if parts else 4 if header.version == 4 else 41
        tfc = 0 if transport else form.tfc_length
        body = append_trailer(payload, protocol, 4, tfc)
        outer = kept if transport else form.overhead - 8 * bool(form.ports)
        head = bytearray(sealed[: outer + 8 * bool(form.ports) + 16])
        v6 = sealed[0] >> 4 == 6
        if form.ports and v6:
            head[outer + 6 : outer + 8] = bytes(2)
        words = bytes(head[kept:])
        sequence = sa.sequence
        checksum = 0
        if transport and not v6:
            old = 0xFFFF ^ int.from_bytes(packet[10:12])
            checksum = (0xFFFF ^ int.from_bytes(sealed[10:12])) - old
            checksum += 0xFFFF if checksum <= 0 else 0
        salt = random.getrandbits(32)
        job = {
            "header": {
                "v6": int(header.version == 6),
                "total_length": header.total_length,
                "protocol_at": parts.protocol_at if parts else 0,
                "esp_protocol": protocol if transport else 0,
            },
            "form": {"transport": int(transport), "esn": int(esn), "key256": random.getrandbits(1)},
            "id": {"spi": sa.spi, "salt": salt},
            "sequence_number": sequence,
            "kept": kept,
            "payload": len(payload),
            "padded": max(len(payload), tfc),
            "body": len(body),
            "total": len(sealed),
            "outer": outer,
        }
        field = int.from_bytes(sealed[4:6] if v6 else sealed[2:4])
        job_head = {
            "words": int.from_bytes(words, "little"), "count": len(words) // 4, "length_field": field,
            "protocol": 17 if form.ports else 50, "checksum": checksum,
            "udp_checksum": random.getrandbits(1), "udp_sum": random.getrandbits(16),
        }  # fmt: skip
        beats = self.load(packet)
        self.heads.append(bytes(head))
        self.freed.append(beats)
        self.assemblies.append(
            {"body": len(body), "total": len(sealed), "outer": outer, "udp_checksum": job_head["udp_checksum"],
             "udp_sum": job_head["udp_sum"]}
        )  # fmt: skip
        spi, numbers = sa.spi.to_bytes(4), sequence.to_bytes(8)
        aad = spi + (numbers if esn else numbers[4:])
        texts = [body[at : at + 16] for at in range(0, len(body), 16)]
        self.slots.append({"kind": SLOT_KIND["SlotFirst"], "sa": number, "key256": job["form"]["key256"], "decrypt": 0,
                           "following": len(texts) + 1, "data": int.from_bytes(aad, "little"),
                           "nonce": int.from_bytes(salt.to_bytes(4, "little") + numbers, "little")})  # fmt: skip
        for text in texts:
            self.slots.append(
                {"kind": SLOT_KIND["SlotText"], "bytes": len(text), "data": int.from_bytes(text, "little")}
            )
        lengths = (8 * len(aad)).to_bytes(8) + (8 * len(body)).to_bytes(8)
        self.slots.append({"kind": SLOT_KIND["SlotLast"], "data": int.from_bytes(lengths, "little")})
        await self.job("JobPacket", number, job, job_head)
        self.place = (self.place + beats) % BEATS

    async def settle(self) -> None:
        for _ in range(2000):
            if not (self.slots or self.heads or self.freed):
                return
            await RisingEdge(self.dut.clk_i)
        raise AssertionError("something is missing")


def some_form(tfc: int = 0) -> Tunnel | Transport:
    ports = random.choice((None, (4500, 4500)))
    if random.random() < 0.5:
        return Transport(ports=ports)
    address = random.choice((IPv4Address, IPv6Address))
    return Tunnel(source=address(1), destination=address(2), ports=ports, tfc_length=tfc)


@cocotb.test()
async def packets_become_slots_and_header_words(dut: HierarchyObject) -> None:
    tb = TB(dut)
    await tb.start()
    for _ in range(1200):
        if random.random() < 0.02:
            await tb.settle()
            tb.pace = random.choice(((1, 0.0), (2, 0.0), (7, 0.0), (14, 0.0), (1, 0.5)))
        kind = random.random()
        if kind < 0.05:
            tb.slots.append({"kind": SLOT_KIND["SlotKey"], "sa": (number := random.randrange(1024))})
            await tb.job("JobCommand", number)
        elif kind < 0.1:
            length = random.randint(20, 300)
            beats = tb.load(bytes(length))
            tb.freed.append(beats)
            await tb.job("JobSkip", 0, {"header": {"total_length": length}})
            tb.place = (tb.place + beats) % BEATS
        else:
            esn = bool(random.getrandbits(1))
            sa = OutboundSa(random.getrandbits(32), transform(AES_GCM_16, 0, bytes(20), b""), esn=esn)
            sa.sequence = random.getrandbits(63 if esn else 31)
            form = some_form(random.choice((0, 0, 40, 41, 250)))
            # With room it makes no difference.
            dut.stalled_i.value = random.getrandbits(1)
            await tb.packet(some_packet(random.choice((4, 6))), form, sa, random.randrange(1024), esn)
    await tb.settle()
    assert tb.drops == 0


@cocotb.test()
async def nothing_begins_without_room(dut: HierarchyObject) -> None:
    tb = TB(dut)
    await tb.start()
    sa = OutboundSa(5, transform(AES_GCM_16, 0, bytes(20), b""), esn=False)
    form = Tunnel(source=IPv4Address(1), destination=IPv4Address(2))
    packet = some_packet(4)
    beats = -(-(20 + sa.sealed_length(len(packet))) // 16)
    for name, short in (("room_i", beats - 1), ("text_room_i", 0), ("assembly_room_i", 0)):
        port = getattr(dut, name)
        port.value = short
        task = cocotb.start_soon(tb.packet(packet, form, sa, 1, False))
        for _ in range(100):
            await RisingEdge(dut.clk_i)
        assert not task.done() and len(tb.freed) == 1
        port.value = beats if name == "room_i" else 1
        await task
        await tb.settle()


@cocotb.test()
async def what_has_no_room_behind_a_stalled_output_is_dropped(dut: HierarchyObject) -> None:
    tb = TB(dut)
    await tb.start()
    sa = OutboundSa(5, transform(AES_GCM_16, 0, bytes(20), b""), esn=False)
    for _ in range(60):
        form, packet = some_form(), some_packet(random.choice((4, 6)))
        beats = -(-len(encapsulate(sa, form, packet)) // 16)
        jam = random.random() < 0.5
        dut.room_i.value = random.randrange(beats) if jam else beats
        drops = tb.drops
        if jam:
            # Nothing is dropped while the output goes on, nor for want of anything else but room.
            dut.stalled_i.value = 0
            task = cocotb.start_soon(tb.packet(packet, form, sa, 1, False))
            for _ in range(random.choice((1, 3, 30))):
                await RisingEdge(dut.clk_i)
            assert not task.done() and tb.drops == drops
            dut.stalled_i.value = 1
        else:
            name = random.choice(("text_room_i", "assembly_room_i"))
            dut.stalled_i.value, getattr(dut, name).value = 1, 0
            task = cocotb.start_soon(tb.packet(packet, form, sa, 1, False))
            for _ in range(30):
                await RisingEdge(dut.clk_i)
            assert not task.done()
            getattr(dut, name).value = 1
        await task
        if jam:
            assert tb.drops == drops + 1
            tb.heads.pop()
            tb.assemblies.pop()
            tb.slots.clear()
        await tb.settle()
        assert tb.drops == drops + jam


@cocotb.test()
async def small_packets_take_at_most_ten_cycles_and_large_ones_a_cycle_a_beat(dut: HierarchyObject) -> None:
    tb = TB(dut)
    await tb.start()
    sa = OutboundSa(5, transform(AES_GCM_16, 0, bytes(20), b""), esn=True)
    form = Tunnel(source=IPv4Address(1), destination=IPv4Address(2))
    tb.hurry = True
    for size in (46, 110, 494, 1500, 8982):
        packet = Ipv4Header(source=bytes(4), destination=bytes(4), protocol=6, total_length=size).build() + bytes(
            size - 20
        )
        count = 12
        begun = 0
        for index in range(count + 1):
            if index == 1:
                begun = tb.cycle
            await tb.packet(packet, form, sa, 0, True)
        # The last one's acceptance is the end of the one before.
        cycles = (tb.cycle - begun) / count
        out = -(-len(encapsulate(sa, form, packet)) // 16)
        assert cycles <= max(10, out + 1), (size, cycles, out)
        await tb.settle()
