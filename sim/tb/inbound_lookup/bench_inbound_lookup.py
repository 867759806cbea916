"""Packets and commands through the lookup: what goes on, in which order, how fast. The table: see spi_lookup."""

from __future__ import annotations

import os
import random
from collections import Counter, deque
from typing import Any

import cocotb
from cocotb.handle import HierarchyObject
from cocotb.triggers import FallingEdge, Timer

from appliance.reasons import Reason
from sim.tb.structs import layout
from sim.tb.traffic.reset import reset

SAS, PLACE_WIDTH, UDP = int(os.environ["NSA"]), int(os.environ["PLACEWIDTH"]), 17
HEADER, ITEM, KEY, KIND = (layout(name) for name in ("ip_header_t", "received_t", "spi_key_t", "item_kind_e"))


class TB:
    """Offers packets and commands, each with its own pauses; what is taken is expected to come out in that order."""

    def __init__(self, dut: HierarchyObject) -> None:
        self.dut = dut
        self.table: dict[tuple[int, int, int], int] = {}
        self.packets: deque[dict[str, int]] = deque()
        self.commands: deque[int] = deque()
        self.due: deque[dict[str, Any]] = deque()
        self.offered: dict[str, int] | None = None
        self.asking = self.room = self.gave = self.next = False
        self.command_open = 0  # cycles until the command under way is done
        self.pauses = [0.0, 0.0, 0.0]
        self.cycle = 0
        self.came_at: list[int] = []
        self.seen: Counter[object] = Counter()

    async def start(self) -> None:
        dut = self.dut
        await reset(
            dut, "packet_valid_i", "command_valid_i", "command_done_i", "op_valid_i", "item_room_i", started=False
        )
        await FallingEdge(dut.clk_i)
        while not dut.op_ready_o.value:  # the table empties itself
            await FallingEdge(dut.clk_i)
        for index in range(SAS):
            key = index & 1, random.getrandbits(128 if index & 1 else 32), random.getrandbits(32)
            self.table[key] = index
            dut.op_key_i.value = KEY.pack(v6=key[0], destination=key[1], spi=key[2])
            dut.op_i.value, dut.op_sa_i.value, dut.op_valid_i.value = 0, index, 1
            await FallingEdge(dut.clk_i)
            dut.op_valid_i.value = 0
            while not dut.answer_valid_o.value:
                await FallingEdge(dut.clk_i)
            assert int(dut.answer_o.value) == 0

    def some_header(self) -> dict[str, int]:
        header = HEADER.unpack(random.getrandbits(HEADER.width))
        v6, destination, spi = random.choice(list(self.table))
        header |= {"v6": v6, "destination": destination, "spi": spi}
        header["has_esp"] = int(random.random() < 0.8)
        header["protocol"] = random.choice((50, UDP))
        change = random.randrange(8)
        if change == 0:
            header["spi"] ^= 1 << random.randrange(32)
        elif change == 1:
            header["destination"] ^= 1 << random.randrange(128)
        elif change == 2:
            header["v6"] ^= 1
        return header

    async def tick(self) -> None:
        await FallingEdge(self.dut.clk_i)
        self.cycle += 1
        self.drive()
        await Timer(1, "ns")
        self.sample()

    def drive(self) -> None:
        dut = self.dut
        if self.offered is None and self.packets and random.random() >= self.pauses[0]:
            self.offered = self.packets.popleft()
            dut.packet_header_i.value = HEADER.pack(self.offered)
            self.place, self.beats = random.getrandbits(PLACE_WIDTH), random.getrandbits(PLACE_WIDTH + 1)
            dut.packet_place_i.value, dut.packet_beats_i.value = self.place, self.beats
        dut.packet_valid_i.value = self.offered is not None
        if self.offered is None:
            dut.packet_header_i.value = random.getrandbits(HEADER.width)
        self.asking = self.asking or (bool(self.commands) and random.random() >= self.pauses[1])
        dut.command_valid_i.value = self.asking
        if self.asking:
            dut.command_sa_i.value = self.commands[0]
        dut.command_done_i.value = 0
        if self.command_open:
            self.command_open -= 1
            dut.command_done_i.value = self.command_open == 0
        # Room stays until an item comes.
        self.room = (self.room and not self.gave) or random.random() >= self.pauses[2]
        dut.item_room_i.value = self.room

    def sample(self) -> None:
        dut = self.dut
        if dut.packet_valid_i.value and dut.packet_ready_o.value:
            assert self.offered is not None
            self.due.append(self.expected(self.offered))
            self.offered = None
        if dut.command_valid_i.value and dut.command_ready_o.value:
            assert not self.command_open, "a command before the one in front is done"
            self.due.append({"kind": KIND["ItemCommand"], "sa": self.commands.popleft()})
            self.command_open = random.randrange(12, 30)
            self.asking = False
        gave, self.gave = self.gave, bool(dut.item_valid_o.value)
        assert self.gave == self.next, "it was told otherwise"
        self.next = bool(dut.item_next_o.value)
        if self.gave:
            assert self.room, "an item comes without room"
            assert not gave, "right behind another one"
            due = self.due.popleft()
            got: dict[str, Any] = {"kind": int(dut.item_kind_o.value)}
            if "sa" in due:
                got["sa"] = int(dut.item_sa_o.value)
            if "reason" in due:
                got["reason"] = int(dut.item_reason_o.value)
            if "item" in due:
                got |= {"place": int(dut.item_place_o.value), "beats": int(dut.item_beats_o.value)}
                got["item"] = ITEM.unpack(int(dut.item_o.value))
            assert got == due
            self.came_at.append(self.cycle)
            self.seen[due["kind"], due.get("reason")] += 1

    def expected(self, header: dict[str, int]) -> dict[str, Any]:
        esp = header["has_esp"]
        item = {name: header[name] for name in ("v6", "destination_port", "headers", "esp_begin", "esp_end")}
        item |= {
            "udp": int(header["protocol"] == UDP),
            "ecn": header["traffic_class"] & 3,
            "header": header["upper_at"],
        }
        item |= {"protocol_at": header["upper_protocol_at"], "spi": header["spi"] if esp else 0}
        item["sequence_low"] = header["sequence_low"] if esp else 0
        due: dict[str, Any] = {"item": item, "place": self.place, "beats": self.beats}
        sa = self.table.get((header["v6"], header["destination"], header["spi"]))
        if esp and sa is not None:
            return due | {"kind": KIND["ItemPacket"], "sa": sa}
        reason = Reason.ESP_FRAGMENT if header["fragment"] else Reason.MALFORMED_ESP
        return due | {"kind": KIND["ItemSkip"], "reason": (Reason.UNKNOWN_SPI if esp else reason).value}


@cocotb.test()
async def packets_and_commands_keep_their_order(dut: HierarchyObject) -> None:
    tb = TB(dut)
    await tb.start()
    for _ in range(1500):
        tb.packets.append(tb.some_header())
        if random.random() < 0.2:
            tb.commands.append(random.randrange(SAS))
        if random.random() < 0.05:
            tb.pauses = [random.choice((0.0, 0.0, 0.5, 0.9)) for _ in range(3)]
        while len(tb.packets) > 2 or len(tb.commands) > 2:
            await tb.tick()
    for _ in range(1000):
        await tb.tick()
    assert not tb.due and not tb.packets and not tb.commands
    assert len(tb.seen) == 5 and min(tb.seen.values()) > 50, tb.seen


@cocotb.test()
async def a_packet_takes_nine_cycles(dut: HierarchyObject) -> None:
    tb = TB(dut)
    await tb.start()
    # In a full table the last entry may push others on, which lookups would wait for.
    for _ in range(1000):
        await tb.tick()
    v6, destination, spi = next(iter(tb.table))
    header = HEADER.unpack(0) | {"v6": v6, "destination": destination, "spi": spi, "has_esp": 1}
    tb.packets.extend(header for _ in range(20))
    for _ in range(20 * 9 + 5):
        await tb.tick()
    assert len(tb.came_at) == 20
    assert tb.came_at[-1] - tb.came_at[0] == 19 * 9
