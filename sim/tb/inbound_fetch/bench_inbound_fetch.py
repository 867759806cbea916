"""Packets and commands through the inbound SAs, with a replay window that answers at random."""

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

SAS, PLACE_WIDTH = int(os.environ["NSA"]), int(os.environ["PLACEWIDTH"])
# Those that packets are for: few enough that each is met often, and the first and the last among them.
USED = sorted({0, SAS - 1, *random.sample(range(SAS), min(SAS, 4))})
ITEM, SA, JOB, KIND = (layout(name) for name in ("received_t", "inbound_sa_t", "inbound_job_t", "item_kind_e"))
FORM, ID = layout("inbound_form_t"), layout("inbound_id_t")
PACKET, COMMAND, SKIP = (KIND[name] for name in ("ItemPacket", "ItemCommand", "ItemSkip"))


def some_sa() -> dict[str, Any]:
    """Zeros, or what may be installed."""
    sa = SA.unpack(random.getrandbits(SA.width))
    sa["form"] |= {"valid": 1, "udp_port": random.choice((4500, 4501))}
    sa["id"]["spi"] = random.choice((0x1234, 0x5678))
    return SA.unpack(0) if random.random() < 0.2 else sa


class TB:
    """Gives items, answers checks, and takes jobs."""

    def __init__(self, dut: HierarchyObject) -> None:
        self.dut = dut
        self.sas: list[dict[str, Any]] = [SA.unpack(0)] * SAS
        self.command: dict[str, Any] | None = None
        self.command_sa = 0
        self.open = 0  # of the command under way: cycles until it is done, once it has left
        self.entered = self.left = False
        self.item: dict[str, Any] | None = None
        self.room = self.gives = False
        self.due: deque[dict[str, Any]] = deque()
        self.checking: tuple[int, bool, int] | None = None
        self.pause = self.patience = self.window = 0.0
        self.many = 0
        self.cycle = 0
        self.took_at: list[int] = []
        self.seen: Counter[object] = Counter()
        self.accept = 0.8

    async def start(self) -> None:
        names = ("item_valid_i", "item_next_i", "command_done_i", "check_ready_i", "check_done_i", "job_ready_i")
        await reset(self.dut, *names, started=False)
        for index in range(SAS):
            await self.install(index, SA.unpack(0))

    async def install(self, index: int, sa: dict[str, Any]) -> None:
        while self.command is not None:
            await self.tick()
        self.command, self.command_sa, self.entered, self.left = sa, index, False, False
        packed = SA.pack(sa)
        self.dut.command_form_i.value = packed & (1 << 128) - 1
        self.dut.command_id_i.value = packed >> 128 & (1 << 128) - 1
        await self.offer({"kind": COMMAND, "sa": index})

    async def offer(self, item: dict[str, Any]) -> None:
        while random.random() < self.pause:
            await self.tick()
        self.item = item
        while self.item is not None:
            await self.tick()

    async def packet(self, index: int) -> None:
        form, ident = self.sas[index]["form"], self.sas[index]["id"]
        if self.command is not None and self.command_sa == index:
            form, ident = self.command["form"], self.command["id"]
        begin = 4 * random.randrange(5, 40)
        body = random.choice((0, -4, -16, 1, 2, 3, 4, 8, 100, 1500, 1501, 4 * random.randrange(1, 1000)))
        item = ITEM.unpack(random.getrandbits(ITEM.width)) | {
            "udp": random.getrandbits(1),
            "destination_port": random.choice((form["udp_port"], form["udp_port"], form["udp_port"], 500)),
            "spi": ident["spi"] ^ (random.random() < 0.05),
            "esp_begin": begin,
            "esp_end": begin + 32 + body,
        }
        what = {
            "kind": PACKET,
            "sa": index,
            "item": item,
            "place": random.getrandbits(PLACE_WIDTH),
            "beats": random.getrandbits(PLACE_WIDTH + 1),
        }
        if random.random() < 0.1:
            what |= {"kind": SKIP, "reason": Reason.ESP_FRAGMENT.value}
        await self.offer(what)

    async def tick(self) -> None:
        await FallingEdge(self.dut.clk_i)
        self.cycle += 1
        self.drive()
        await Timer(1, "ns")
        self.sample()

    def drive(self) -> None:
        dut = self.dut
        # An item comes behind a cycle with room, and none behind an item.
        self.gives = self.item is not None and self.room and not self.gives
        item = self.item if self.gives else None
        dut.item_valid_i.value = self.gives
        if item is not None:
            dut.item_kind_i.value, dut.item_sa_i.value = item["kind"], item["sa"]
            dut.item_i.value = ITEM.pack(item.get("item", 0))
            dut.item_reason_i.value = item.get("reason", 1)
            dut.item_place_i.value, dut.item_beats_i.value = item.get("place", 0), item.get("beats", 0)
        dut.job_ready_i.value = random.random() >= self.patience
        dut.command_done_i.value = 0
        if self.command is not None and self.left:
            self.open -= 1
            if self.open == 0:
                dut.command_done_i.value = 1
                self.command = None
        dut.check_done_i.value = 0
        dut.check_accepted_i.value, dut.check_whole_i.value = random.getrandbits(1), random.getrandbits(64)
        if self.checking is not None:
            wait, accepted, whole = self.checking
            if wait:
                self.checking = wait - 1, accepted, whole
            else:
                dut.check_done_i.value = 1
                dut.check_accepted_i.value, dut.check_whole_i.value = accepted, whole
                self.checking = None
        dut.check_ready_i.value = self.checking is None and random.random() >= self.window

    def sample(self) -> None:
        dut = self.dut
        if dut.check_valid_o.value and dut.check_ready_i.value and self.checking is None:
            due = self.due[-1]
            pending = self.command is not None and self.entered and self.command_sa == due["sa"]
            assert not pending, "a check of a window that is not yet empty"
            item = due["item"]
            assert int(dut.check_sa_o.value) == due["sa"]
            assert int(dut.check_sequence_o.value) == item["sequence_low"]
            assert int(dut.check_esn_o.value) == self.sas[due["sa"]]["form"]["esn"]
            accepted, whole = random.random() < self.accept, random.getrandbits(64)
            self.checking = (3 if not self.window else random.randrange(2, 12)), accepted, whole
            self.checked(due, accepted, whole)
        self.room = bool(dut.item_room_o.value)
        if self.gives:
            assert self.item is not None
            item, self.item = self.item, None
            if item["kind"] == COMMAND:
                assert self.command is not None
                self.sas[item["sa"]] = self.command
                self.entered = True
            elif item["kind"] == PACKET and not self.sas[item["sa"]]["form"]["valid"]:
                item |= {"kind": SKIP, "reason": Reason.UNKNOWN_SPI.value, "has_sa": 0}
            self.due.append(item)
            self.took_at.append(self.cycle)
        if dut.job_valid_o.value and dut.job_ready_i.value:
            self.job(self.due.popleft())

    def checked(self, due: dict[str, Any], accepted: bool, whole: int) -> None:
        """What becomes of a packet whose window was asked."""
        item, sa = due["item"], self.sas[due["sa"]]
        body = item["esp_end"] - item["esp_begin"] - 32
        if item["spi"] != sa["id"]["spi"] or (item["udp"] and item["destination_port"] != sa["form"]["udp_port"]):
            due |= {"kind": SKIP, "reason": Reason.UNKNOWN_SPI.value}
            return
        due |= {"whole": whole, "has_sa": 1, "form": sa["form"], "id": sa["id"], "body": body}
        if not accepted:
            due |= {"kind": SKIP, "reason": Reason.REPLAYED.value}
        elif body < 4 or body % 4:
            due |= {"kind": SKIP, "reason": Reason.MALFORMED_ESP.value}

    def job(self, due: dict[str, Any]) -> None:
        dut = self.dut
        self.seen[due["kind"], due.get("reason")] += 1
        assert int(dut.job_kind_o.value) == due["kind"]
        if due["kind"] == COMMAND:
            assert int(dut.job_sa_o.value) == due["sa"]
            self.left, self.open = True, random.randrange(3, 40)
            return
        item, job = due["item"], JOB.unpack(int(dut.job_o.value))
        got = int(dut.job_place_o.value), int(dut.job_beats_o.value), int(dut.job_spi_o.value)
        assert got == (due["place"], due["beats"], item["spi"])
        assert int(dut.job_has_sa_o.value) == due.get("has_sa", 0)
        assert job["sequence_number"] == due.get("whole", item["sequence_low"])
        if due["kind"] == SKIP:
            assert int(dut.job_reason_o.value) == due["reason"]
            assert not due.get("has_sa") or int(dut.job_sa_o.value) == due["sa"]
            return
        form = due["form"]
        assert int(dut.job_sa_o.value) == due["sa"]
        assert job == {
            **{
                name: form[name]
                for name in ("transport", "esn", "key256", "generation", "selector_first", "selector_count")
            },
            **{name: item[name] for name in ("v6", "ecn", "protocol_at", "headers", "esp_begin")},
            "salt": due["id"]["salt"],
            "kept": item["header"] if form["transport"] else 0,
            "body": due["body"],
            "sequence_number": due["whole"],
        }


@cocotb.test()
async def every_packet_gets_a_job_or_a_reason(dut: HierarchyObject) -> None:
    tb = TB(dut)
    await tb.start()
    for _ in range(2500):
        if random.random() < 0.05:
            tb.pause, tb.patience, tb.window = (random.choice((0.0, 0.0, 0.5, 0.9)) for _ in range(3))
        if random.random() < 0.06:
            await tb.install(random.choice(USED), some_sa())
        else:
            await tb.packet(random.choice(USED))
    tb.patience = 0.0
    for _ in range(200):
        await tb.tick()
    assert not tb.due
    reasons = (Reason.UNKNOWN_SPI, Reason.REPLAYED, Reason.MALFORMED_ESP, Reason.ESP_FRAGMENT)
    wanted = [(PACKET, None), (COMMAND, None), *((SKIP, reason.value) for reason in reasons)]
    assert all(tb.seen[one] > 50 for one in wanted), tb.seen


@cocotb.test()
async def a_packet_takes_eight_cycles(dut: HierarchyObject) -> None:
    tb = TB(dut)
    await tb.start()
    sa = some_sa()
    while not sa["form"]["valid"]:
        sa = some_sa()
    await tb.install(SAS - 1, sa)
    while tb.command is not None:
        await tb.tick()
    tb.took_at.clear()
    tb.accept = 1.0
    for _ in range(20):
        item = ITEM.unpack(0) | {"spi": sa["id"]["spi"], "esp_begin": 20, "esp_end": 100}
        await tb.offer({"kind": PACKET, "sa": SAS - 1, "item": item, "place": 0, "beats": 2})
    assert tb.took_at[-1] - tb.took_at[0] == 19 * 8
