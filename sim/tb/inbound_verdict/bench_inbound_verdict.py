"""Verdicts in order, beside a model that counts: ICVs, windows and contents are random, and come when they like."""

from __future__ import annotations

import random
from collections import Counter, deque
from itertools import pairwise
from typing import Any

import cocotb
from cocotb.handle import HierarchyObject
from cocotb.triggers import FallingEdge, Timer

from appliance.reasons import Reason
from sim.tb.structs import layout
from sim.tb.traffic.reset import reset

SAS, ITEMS = 4, 4
ITEM, CONTENT, DROP, EVENTS, USAGE, LIMITS, KIND, OP = (
    layout(name)
    for name in (
        "verdict_item_t",
        "content_t",
        "drop_t",
        "sa_events_t",
        "sa_usage_t",
        "limits_t",
        "item_kind_e",
        "replay_op_e",
    )
)
PACKET, COMMAND, SKIP = (KIND[name] for name in ("ItemPacket", "ItemCommand", "ItemSkip"))
KINDS = ("packets", "bytes")


class Model:
    """What is counted of one SA."""

    def __init__(self, hard: dict[str, int], soft: dict[str, int]) -> None:
        self.hard, self.soft = hard, soft
        self.used = dict.fromkeys(KINDS, 0)
        self.replayed = self.integrity = self.highest = 0

    def usage(self) -> dict[str, int]:
        return {
            "sequence_number": self.highest,
            **self.used,
            "replayed": self.replayed,
            "integrity_failures": self.integrity,
        }


class TB:
    """All that comes in, each at its own time; and who answers for the windows."""

    def __init__(self, dut: HierarchyObject) -> None:
        self.dut = dut
        self.cycle = 0
        self.models = [Model(dict.fromkeys(KINDS, 0), dict.fromkeys(KINDS, 0)) for _ in range(SAS)]
        self.items: deque[dict[str, Any]] = deque()  # to be given
        self.inside: deque[dict[str, Any]] = deque()  # given and not yet over
        self.at: dict[str, deque[tuple[int, int]]] = {name: deque() for name in ("icv", "tag", "content", "key")}
        self.replay: tuple[int, dict[str, int]] | None = None
        self.descriptors: deque[dict[str, int]] = deque()
        self.drops: deque[tuple[int, dict[str, int]]] = deque()
        self.events: deque[tuple[int, dict[str, int]]] = deque()
        self.reading: int | None = None
        self.read: dict[str, int] | None = None
        self.wants: int | None = None
        self.known: set[int] = set()  # SAs that a command has written
        self.told_at = -100
        self.times: list[int] = []
        self.hurry = False
        self.seen: Counter[object] = Counter()

    async def start(self) -> None:
        names = ("item_valid_i", "icv_valid_i", "tag_valid_i", "content_valid_i", "replay_ready_i", "replay_done_i",
                 "key_done_i", "read_valid_i")  # fmt: skip
        await reset(self.dut, *names, started=False)
        for sa in range(SAS):
            await self.command(sa, *self.some_limits())
        await self.drain()

    def some_limits(self) -> tuple[dict[str, int], dict[str, int]]:
        def limit(kind: str) -> int:
            return random.choice((0, 0, random.randrange(1, 40) * (1 if kind == "packets" else 700)))

        return {kind: limit(kind) for kind in KINDS}, {kind: limit(kind) for kind in KINDS}

    async def tick(self) -> None:
        await FallingEdge(self.dut.clk_i)
        self.cycle += 1
        self.drive()
        await Timer(1, "ns")
        self.sample()

    def due(self, name: str) -> int | None:
        queue = self.at[name]
        return queue.popleft()[1] if queue and queue[0][0] <= self.cycle else None

    def drive(self) -> None:
        dut = self.dut
        for name in ("icv", "tag", "content"):
            value = self.due(name)
            getattr(dut, f"{name}_valid_i").value = value is not None
            port = getattr(dut, f"{name}_i")
            port.value = random.getrandbits(len(port)) if value is None else value
        dut.key_done_i.value = self.due("key") is not None
        give = bool(self.items) and len(self.inside) < ITEMS and (self.hurry or random.random() < 0.5)
        dut.item_valid_i.value = give
        if give:
            self.give(self.items.popleft())
        dut.replay_done_i.value = 0
        dut.replay_accepted_i.value, dut.replay_highest_i.value = random.getrandbits(1), random.getrandbits(64)
        if self.replay is not None and self.replay[0] <= self.cycle:
            dut.replay_done_i.value = 1
            answer = self.replay[1]
            dut.replay_accepted_i.value, dut.replay_highest_i.value = answer["accepted"], answer["highest"]
            self.replay = None
        dut.replay_ready_i.value = self.replay is None and (self.hurry or random.random() < 0.5)
        dut.read_valid_i.value = self.wants is not None
        if self.wants is not None:
            dut.read_sa_i.value = self.wants

    def give(self, what: dict[str, Any]) -> None:
        dut = self.dut
        dut.item_i.value, dut.item_sa_i.value = ITEM.pack(what["item"]), what["sa"]
        self.inside.append(what)
        kind = what["item"]["kind"]

        def later(name: str, value: int, least: int, most: int) -> None:
            last = self.at[name][-1][0] if self.at[name] else 0
            wait = least if self.hurry else random.randrange(least, most)
            self.at[name].append((max(last + 1, self.cycle + wait), value))

        if kind == PACKET:
            later("icv", what["icv"], 1, 8)
            # The tag comes three cycles behind its ICV at least.
            last = self.at["tag"][-1][0] if self.at["tag"] else 0
            wait = 3 if self.hurry else random.randrange(3, 30)
            self.at["tag"].append((max(last + 1, self.at["icv"][-1][0] + wait), what["tag"]))
            later("content", CONTENT.pack(what["content"]), 2, 40)
        elif kind == COMMAND:
            later("key", 1, 2, 60)

    def sample(self) -> None:
        dut = self.dut
        assert not dut.item_valid_i.value or dut.item_room_o.value
        if dut.read_valid_i.value and dut.read_ready_o.value:
            self.reading, self.wants = self.wants, None
        if dut.read_done_o.value:
            usage = USAGE.unpack(int(dut.read_usage_o.value))
            if self.reading is not None:
                self.read = usage
                assert self.read == self.models[self.reading].usage()
                self.reading = None
            else:
                # What a command replaces.
                what = self.inside[0]
                assert what["item"]["kind"] == COMMAND and what["asked"] and "found" not in what
                what["found"] = True
                if what["sa"] in self.known:
                    assert usage == self.models[what["sa"]].usage()
                    self.seen["found"] += usage["packets"] > 0
        if dut.replay_valid_o.value and dut.replay_ready_i.value:
            self.ask(int(dut.replay_op_o.value), int(dut.replay_sa_o.value), int(dut.replay_sequence_o.value))
        # A packet's own window was asked before: what becomes of it is known when it is told.
        told = bool(dut.descriptor_valid_o.value or dut.drop_valid_o.value or dut.command_done_o.value)
        if told:
            self.over(self.inside.popleft())
        else:
            assert not dut.events_valid_o.value

    def ask(self, op: int, sa: int, sequence: int) -> None:
        model = self.models[sa]
        wait = 2 if self.hurry else random.randrange(2, 14)
        accepted = int(random.random() < 0.8)
        if self.reading is not None:
            assert op == OP["ReplayCheck"] and sa == self.reading
        else:
            what = self.inside[0]
            assert sa == what["sa"]
            if what["item"]["kind"] == COMMAND and "asked" not in what:
                assert op == OP["ReplayCheck"]
                what["asked"] = True
                self.replay = self.cycle + wait, {"accepted": accepted, "highest": model.highest}
                return
            assert "accepted" not in what, "asked twice"
            what["accepted"] = accepted
            if what["item"]["kind"] == COMMAND:
                assert what["found"], "what was counted is not told yet"
                assert op == OP["ReplayClear"]
                what["highest"] = 0
            else:
                assert op == OP["ReplayUpdate"] and sequence == what["item"]["sequence_number"]
                assert what["icv"] == what["tag"], "the window is moved by a packet whose ICV is wrong"
                what["highest"] = max(model.highest, sequence) if accepted else model.highest
        self.replay = self.cycle + wait, {"accepted": accepted, "highest": model.highest}

    def over(self, what: dict[str, Any]) -> None:
        dut, item, sa = self.dut, what["item"], what["sa"]
        assert self.cycle - self.told_at >= 8 or item["kind"] == COMMAND or dut.command_done_o.value
        self.told_at = self.cycle
        self.times.append(self.cycle)
        if item["kind"] == COMMAND:
            assert dut.command_done_o.value and "accepted" in what and not self.at["key"]
            self.models[sa] = Model(*what["limits"])
            self.known.add(sa)
            self.seen["command"] += 1
            return
        assert not dut.command_done_o.value
        model = self.models[sa]
        reason, events = self.verdict(what, model)
        self.seen[reason] += 1
        self.seen.update(events)
        assert bool(dut.descriptor_valid_o.value) == (item["kind"] == PACKET)
        if item["kind"] == PACKET:
            content = what["content"]
            assert int(dut.descriptor_beats_o.value) == item["beats"]
            assert int(dut.descriptor_bytes_o.value) == (content["bytes"] if reason is None else 0)
            if reason is None:
                got = (int(dut.first_valid_o.value), int(dut.first_o.value), int(dut.patch_at_o.value))
                assert got == (content["first_valid"], content["first"], content["patch_at"])
                assert int(dut.patch_mask_o.value) == content["patch_valid"]
                assert int(dut.patch_o.value) & 0xFF == content["patch"]
                assert int(dut.user_o.value) == sa
        assert bool(dut.drop_valid_o.value) == (reason is not None)
        if reason is not None:
            assert DROP.unpack(int(dut.drop_o.value)) == {
                "direction": 1, "has_sa": item["has_sa"], "reason": reason.value, "spi": item["spi"],
                "sequence_number": item["sequence_number"],
            }  # fmt: skip
            assert not item["has_sa"] or int(dut.drop_sa_o.value) == sa
        assert bool(dut.events_valid_o.value) == bool(events)
        if events:
            got_events = {name for name, one in EVENTS.unpack(int(dut.events_o.value)).items() if one}
            assert got_events == set(events) and int(dut.events_sa_o.value) == sa
            assert int(dut.events_generation_o.value) == item["generation"]

    def verdict(self, what: dict[str, Any], model: Model) -> tuple[Reason | None, list[str]]:
        item, content = what["item"], what.get("content")
        if item["kind"] == SKIP:
            model.replayed += item["reason"] == Reason.REPLAYED.value
            return Reason(item["reason"]), []
        if what["icv"] != what["tag"]:
            assert "accepted" not in what
            model.integrity += 1
            return Reason.INTEGRITY, ["integrity"] if model.integrity == 1 else []
        model.highest = what["highest"]
        if not what["accepted"]:
            model.replayed += 1
            return Reason.REPLAYED, []
        if any(model.hard[kind] and model.used[kind] >= model.hard[kind] for kind in KINDS):
            return Reason.LIFETIME_EXPIRED, []
        old = dict(model.used)
        model.used["packets"] += 1
        model.used["bytes"] += item["body"]
        events = [
            f"{name}_{kind}"
            for name, limits in (("hard", model.hard), ("soft", model.soft))
            for kind in KINDS
            if limits[kind] and old[kind] < limits[kind] <= model.used[kind]
        ]
        return (Reason(content["reason"]) if content["bad"] else None), events

    async def command(self, sa: int, hard: dict[str, int], soft: dict[str, int]) -> None:
        """One at a time, as inbound_lookup has it; packets come behind it."""
        while any(one["item"]["kind"] == COMMAND for one in (*self.items, *self.inside)):
            await self.tick()
        self.dut.command_hard_i.value, self.dut.command_soft_i.value = LIMITS.pack(hard), LIMITS.pack(soft)
        item = ITEM.unpack(random.getrandbits(ITEM.width)) | {"kind": COMMAND}
        self.items.append({"item": item, "sa": sa, "limits": (hard, soft)})

    async def packet(self) -> None:
        while len(self.items) > 3:
            await self.tick()
        item = ITEM.unpack(random.getrandbits(ITEM.width)) | {
            "kind": PACKET,
            "has_sa": 1,
            "body": random.randrange(4, 1500),
        }
        content = CONTENT.unpack(random.getrandbits(CONTENT.width))
        content |= {"reason": random.choice((7, 8, 9, 15, 20)), "bad": int(random.random() < 0.2)}
        content["bytes"] = max(1, content["bytes"])
        tag = random.getrandbits(128)
        wrong = random.choice((1 << random.randrange(128), 0, 0, 0))
        what = {"item": item, "sa": random.randrange(SAS), "tag": tag, "icv": tag ^ wrong, "content": content}
        item["beats"] = random.randrange(1, 300)
        if random.random() < 0.2:
            reason = random.choice((Reason.REPLAYED, Reason.UNKNOWN_SPI, Reason.MALFORMED_ESP, Reason.ESP_FRAGMENT))
            what["item"] = item | {"kind": SKIP, "reason": reason.value}
            what["item"]["has_sa"] = int(reason in (Reason.REPLAYED, Reason.MALFORMED_ESP))
        self.items.append(what)

    async def drain(self) -> None:
        for _ in range(2000):
            if not self.items and not self.inside and self.wants is None and self.reading is None:
                break
            await self.tick()
        assert not self.items and not self.inside


@cocotb.test()
async def verdicts_come_in_order_and_are_counted(dut: HierarchyObject) -> None:
    tb = TB(dut)
    await tb.start()
    for _ in range(8000):
        if random.random() < 0.01:
            tb.hurry = not tb.hurry
        if random.random() < 0.02:
            await tb.command(random.randrange(SAS), *tb.some_limits())
        if tb.wants is None and tb.reading is None and random.random() < 0.2:
            tb.wants = random.randrange(SAS)
        await tb.packet()
    await tb.drain()
    for sa in range(SAS):
        tb.wants, tb.read = sa, None
        await tb.drain()
        assert tb.read is not None
    wanted = (None, "command", "found", "integrity", "hard_packets", "hard_bytes", "soft_packets", "soft_bytes",
              Reason.INTEGRITY, Reason.REPLAYED, Reason.LIFETIME_EXPIRED, Reason.DUMMY, Reason.UNKNOWN_SPI)  # fmt: skip
    assert all(tb.seen[one] >= 10 for one in wanted), tb.seen


@cocotb.test()
async def eight_cycles_a_packet_and_a_request_is_not_forgotten(dut: HierarchyObject) -> None:
    tb = TB(dut)
    await tb.start()
    tb.hurry = True
    for _ in range(60):
        await tb.packet()
    assert min(later - one for one, later in pairwise(tb.times[10:])) == 8
    assert tb.times[-1] - tb.times[10] <= 8 * (len(tb.times) - 11) + 60
    tb.wants, tb.read = 0, None
    for _ in range(4):
        await tb.packet()
    assert tb.wants is None
    await tb.drain()
