"""Commands beside a model of all that they go to: key_unit, both directions, the SPI table, the events."""

from __future__ import annotations

import os
import random
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge, ReadOnly

from sim.tb.sa_control.world import DIRECTIONS, SA, World
from sim.tb.structs import layout
from sim.tb.traffic.reset import reset

SAS, SELECTORS, PER_SA = (int(os.environ[name]) for name in ("SAS", "SELECTORS", "PER_SA"))
COMMAND, ANSWER, SPI_KEY = layout("command_e"), layout("answer_e"), layout("spi_key_t")


class TB:
    """Drives commands, and is the rest of the engine."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.started = False
        self.key_taken = False
        self.answer: int | None = None
        self.usage: int | None = None
        self.selectors: list[int] = []
        self.cleared = False

    async def begin(self) -> None:
        self.world = World(self.dut, SAS)
        for name in ("outbound_sa_i", "inbound_sa_i", "spi_key_i", "key_i"):
            getattr(self.dut, name).value = 0
        low = ("go_i", "event_ready_i", "forget_ready_i", "others_ready_i")
        await reset(self.dut, *low, *self.world.inputs(), started=self.started)
        self.started = True

    async def tick(self) -> None:
        """One cycle, begun behind a falling edge."""
        dut, world = self.dut, self.world
        world.drive()
        dut.event_ready_i.value, dut.forget_ready_i.value = random.random() < 0.5, random.random() < 0.5
        await ReadOnly()
        world.sample()
        for name in ("event", "forget"):
            if getattr(dut, f"{name}_valid_o").value and getattr(dut, f"{name}_ready_i").value:
                direction = DIRECTIONS[int(dut.event_direction_o.value)]
                world.log.append(f"{name} {direction} {int(dut.event_sa_o.value)}")
        if dut.selector_write_o.value:
            self.selectors.append(int(dut.selector_index_o.value))
        if dut.usage_valid_o.value:
            self.usage = int(dut.usage_o.value)
        if self.key_taken:
            assert dut.key_clear_o.value, "the key stays in its registers"
        self.key_taken = bool(dut.key_start_o.value)
        self.cleared |= bool(dut.key_clear_o.value)
        if dut.done_o.value:
            assert self.answer is None
            self.answer = int(dut.answer_o.value)
        await FallingEdge(dut.clk_i)

    async def ready(self) -> None:
        """The sweep."""
        dut = self.dut
        for cycle in range(200 * SAS + 200):
            if dut.ready_o.value:
                break
            dut.others_ready_i.value = cycle > 20 * SAS
            await self.tick()
        assert dut.ready_o.value and not dut.busy_o.value
        world = self.world
        assert world.staged == 0
        assert all(one.table == one.keys == [0] * SAS for one in world.directions.values())
        world.log.clear()

    async def command(self, name: str, direction: str, index: int, staged: dict[str, Any], key: int = 0) -> str:
        """A command to its end; the answer."""
        dut = self.dut
        dut.outbound_sa_i.value = SA["outbound"].pack(staged.get("outbound", {}))
        dut.inbound_sa_i.value = SA["inbound"].pack(staged.get("inbound", {}))
        dut.spi_key_i.value, dut.key_i.value = staged.get("spi_key", 0), key
        dut.command_i.value, dut.direction_i.value = COMMAND[f"Command{name}"], DIRECTIONS.index(direction)
        dut.index_i.value, dut.go_i.value = index, 1
        self.answer, self.usage, self.cleared = None, None, False
        self.selectors.clear()
        self.world.log.clear()
        assert not dut.busy_o.value
        await self.tick()
        dut.go_i.value = 0
        # The registers of the command may have another one soon, and the key goes when it was taken.
        dut.command_i.value, dut.direction_i.value = random.getrandbits(2), random.getrandbits(1)
        dut.index_i.value = random.getrandbits(16)
        for _ in range(1000):
            if self.answer is not None:
                break
            assert dut.busy_o.value
            if self.cleared:
                dut.key_i.value = 0
            await self.tick()
        assert self.answer is not None and dut.busy_o.value, "the key is not cleared yet"
        await self.tick()
        assert not dut.busy_o.value
        assert self.cleared == (name == "Install")
        assert self.world.staged == 0 and not self.world.busy, "keys are left in the staging memories"
        return {number: one for one, number in ANSWER.names}[self.answer].removeprefix("Answer")


def some_sa(direction: str, **fields: int) -> dict[str, Any]:
    """What is staged for an SA, its SPI among few."""
    spi = random.randint(256, 257)
    key = {"v6": random.getrandbits(1), "destination": random.randrange(2), "spi": spi}
    made: dict[str, Any] = SA[direction].unpack(random.getrandbits(SA[direction].width))
    made["form"]["valid"], made["id"]["spi"] = 1, spi
    if direction == "inbound":
        count = random.randint(0, PER_SA)
        made["form"] |= {"selector_count": count, "selector_first": random.randint(0, SELECTORS - count)}
    else:
        made["form"]["df"] = random.randrange(3)
        made["form"] |= {name: made["form"][name] or 1 for name in ("hop_limit", "source_port", "destination_port")}
    made["form"] |= fields
    return {direction: made, "spi_key": SPI_KEY.pack(key)}


@cocotb.test()
async def nothing_is_left_after_reset(dut: Any) -> None:
    tb = TB(dut)
    for _ in range(3):
        await tb.begin()
        for _ in range(random.randint(0, 20 * SAS)):
            assert not dut.ready_o.value
            await tb.tick()
        # Once more in the middle of it.
        await tb.begin()
        await tb.ready()


@cocotb.test()
async def commands_do_what_they_say_and_nothing_else(dut: Any) -> None:
    tb = TB(dut)
    await tb.begin()
    await tb.ready()
    tables = {name: [0] * SAS for name in DIRECTIONS}
    keys = {name: [0] * SAS for name in DIRECTIONS}
    spis: dict[int, int] = {}
    seen: set[tuple[str, str, str]] = set()
    for _ in range(600):
        direction = random.choice(DIRECTIONS)
        name = random.choice(("Install", "Install", "Remove", "Read", "Selector"))
        index = random.randrange(SAS) if random.random() < 0.9 else random.choice((SAS, SAS + 1, 0x8000, 0xFFFF))
        staged, key = some_sa(direction), random.getrandbits(256) << random.choice((0, 0, 0, 128, 256)) & (1 << 256) - 1
        tb.world.full = random.random() < 0.1
        number = SA[direction].pack(staged[direction])
        log: list[str] | None = None
        if name == "Selector":
            index = random.choice((0, SELECTORS - 1, SELECTORS, random.randrange(65536)))
            wanted = "Done" if index < SELECTORS else "BadIndex"
            log = []
        elif index >= SAS:
            wanted, log = "BadIndex", []
        elif name == "Read":
            wanted, log = "Done", []
        elif name == "Remove":
            owner = [one for one, sa in spis.items() if sa == index]
            if direction == "inbound" and not owner:
                wanted, log = "Absent", []
            else:
                wanted = "Done"
                tables[direction][index] = keys[direction][index] = 0
                log = ["zero", f"{direction} {index} cleared", f"forget {direction} {index}"]
                if direction == "inbound":
                    log.insert(0, "away")
                    del spis[owner[0]]
        else:
            made = [f"{direction} {index} set", "zero"]
            used = key if staged[direction]["form"]["key256"] else key & (1 << 128) - 1
            if not used:
                wanted, log = "BadFields", []
            elif direction == "inbound" and index in spis.values():
                wanted, log = "InUse", []
            elif direction == "inbound" and (staged["spi_key"] in spis or tb.world.full):
                wanted = "SpiExists" if staged["spi_key"] in spis else "SpiFull"
                log = ["key", *made, "insert", f"{direction} {index} cleared", f"forget {direction} {index}"]
            else:
                wanted = "Done"
                tables[direction][index] = number
                keys[direction][index] = used
                insertion = ["insert"] if direction == "inbound" else []
                log = ["key", *made, *insertion, f"event {direction} {index}"]
                if direction == "inbound":
                    spis[staged["spi_key"]] = index
        answer = await tb.command(name, direction, index, staged, key)
        seen.add((name, direction, answer))
        assert (answer, tb.world.log) == (wanted, log), (name, direction, index)
        assert tb.selectors == ([index] if (name, wanted) == ("Selector", "Done") else [])
        if (name, wanted) == ("Read", "Done"):
            assert tb.world.read_sa == index and tb.usage == tb.world.usage(direction, index)
        else:
            # What was counted until a command, if one was sent.
            sent = any(f"{direction} {index} " in one for one in tb.world.log)
            assert tb.usage == (tb.world.usage(direction, index) if sent else None)
        for one in DIRECTIONS:
            assert tb.world.directions[one].table == tables[one]
            assert tb.world.directions[one].keys == keys[one]
        assert tb.world.spis == spis
        for _ in range(random.choice((0, 0, 1, 5))):
            await tb.tick()
    wanted_kinds = {
        ("Install", "inbound", one) for one in ("Done", "InUse", "SpiExists", "SpiFull", "BadIndex", "BadFields")
    }
    wanted_kinds |= {("Remove", "inbound", one) for one in ("Done", "Absent", "BadIndex")}
    wanted_kinds |= {(one, "outbound", answer) for one in ("Install", "Remove", "Read", "Selector")
                     for answer in ("Done", "BadIndex")}  # fmt: skip
    assert seen >= wanted_kinds, wanted_kinds - seen


@cocotb.test()
async def what_cannot_be_is_refused(dut: Any) -> None:
    tb = TB(dut)
    await tb.begin()
    await tb.ready()
    cases: list[tuple[str, dict[str, int], int]] = [
        ("outbound", {"df": 3}, 256),
        ("outbound", {}, 0),
        ("outbound", {}, 255),
        ("outbound", {"hop_limit": 0, "transport": 0}, 256),
        ("outbound", {"source_port": 0, "udp": 1}, 256),
        ("outbound", {"destination_port": 0, "udp": 1}, 256),
        ("inbound", {}, 0),
        ("inbound", {}, 255),
        ("inbound", {"selector_count": PER_SA + 1, "selector_first": 0}, 256),
        ("inbound", {"selector_count": 255, "selector_first": 0}, 256),
        ("inbound", {"selector_count": 1, "selector_first": SELECTORS}, 256),
        ("inbound", {"selector_count": 1, "selector_first": 65535}, 256),
        ("inbound", {"selector_count": PER_SA, "selector_first": SELECTORS - PER_SA + 1}, 256),
    ]
    for direction, fields, spi in cases:
        staged = some_sa(direction, **fields)
        staged[direction]["id"]["spi"] = spi
        assert await tb.command("Install", direction, 0, staged, 1) == "BadFields", (direction, fields, spi)
        assert tb.world.log == []
    # What another mode does not have does not matter.
    for fields in ({"hop_limit": 0, "transport": 1, "udp": 0}, {"source_port": 0, "destination_port": 0, "udp": 0}):
        assert await tb.command("Install", "outbound", 0, some_sa("outbound", **fields), 1) == "Done"
    # As many as there may be, at the end of the pool.
    staged = some_sa("inbound", selector_count=PER_SA, selector_first=SELECTORS - PER_SA)
    assert await tb.command("Install", "inbound", 0, staged, 1) == "Done"
    staged = some_sa("inbound", selector_count=0, selector_first=SELECTORS)
    assert await tb.command("Install", "inbound", 1, {**staged, "spi_key": 99}, 1) == "Done"
