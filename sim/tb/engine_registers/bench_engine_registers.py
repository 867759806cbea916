"""Every register by its name over AXI4-Lite with pauses, and what is behind them beside a model of the engine."""

from __future__ import annotations

import os
import random
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import cocotb
from cocotb.task import bridge, resume
from cocotb.triggers import FallingEdge, ReadOnly
from cocotbext.axi import AxiLiteBus, AxiLiteMaster, AxiResp

from appliance.datapath.engine import registers as names
from appliance.datapath.engine.bus import Number, Readable, ReadableNumber, Register, Writable, WritableNumber
from appliance.reasons import Reason
from sim.tb.sa_control.world import DIRECTIONS, SA, World
from sim.tb.structs import layout
from sim.tb.traffic.reset import reset

PARAMETERS = {
    "NSA": 256, "NSELECTORS": 512, "MAXPERSA": 8, "EVENTDEPTH": 64, "DROPDEPTH": 32, "WINDOW": 1024, "INTERVAL": 7,
    "MAXPACKET": 9728, "MAXOUTER": 9728, "INPUTBYTES": 16384, "OUTPUTBYTES": 16384,
    "STALLCYCLES": 2**20, "TOWERSBOX": 0,
}  # fmt: skip
PARAMETERS = {name: int(os.environ.get(name, value)) for name, value in PARAMETERS.items()}
SAS, SELECTORS = PARAMETERS["NSA"], PARAMETERS["NSELECTORS"]
DROP, SELECTOR, SPI_KEY, USAGE = (layout(f"{one}_t") for one in ("drop", "selector", "spi_key", "sa_usage"))
EVENTS = [name for name, _ in layout("sa_events_t").fields]
PIPES = [f"{name}_pipe" for name in DIRECTIONS]
INTAKES = [f"{name}_intake" for name in DIRECTIONS]
PASSING = [f"{name}_{end}" for name in DIRECTIONS for end in ("in", "out")]
SPAN = 2048


class BusError(Exception):
    """The bus answered with an error."""


class TB:
    """The master of the bus, the rest of the engine, and its packets."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.bus = AxiLiteBus.from_prefix(dut, "s_axil")
        self.engine = names.EspEngine(self)
        # What comes next at a port, each eight cycles after the one before.
        self.coming: dict[str, deque[dict[str, int]]] = {
            name: deque() for name in (*PIPES, *INTAKES, *PASSING, *(f"{one}_events" for one in DIRECTIONS))
        }
        self.since = dict.fromkeys(self.coming, 0)
        self.selectors: list[tuple[int, Any]] = []

    async def begin(self, *, ready: bool = True, pauses: bool = True) -> None:
        dut = self.dut
        self.world = World(dut, SAS)
        low = [f"s_axil_{one}" for one in ("awvalid", "wvalid", "arvalid", "bready", "rready")]
        low += [f"{name}_valid_i" for name in self.coming]
        await reset(dut, *low, *self.world.inputs(), started=False)
        self.master = AxiLiteMaster(self.bus, dut.clk_i)
        if pauses:
            write, read = self.master.write_if, self.master.read_if
            for channel in (write.aw_channel, write.w_channel, write.b_channel, read.ar_channel, read.r_channel):
                channel.set_pause_generator(iter(lambda: random.random() < 0.3, None))
        cocotb.start_soon(self._run())
        while ready and not (await self.load(self.engine.control.status.address))[0] & 1:
            pass

    async def until(self, holds: Callable[[], bool], cycles: int = 4000) -> None:
        for _ in range(cycles):
            if holds():
                return
            await FallingEdge(self.dut.clk_i)
        raise AssertionError("it does not come")

    async def _run(self) -> None:
        """The engine, cycle by cycle."""
        while True:
            self.world.drive()
            for name, waiting in self.coming.items():
                self.since[name] += 1
                comes = bool(waiting) and self.since[name] >= 8
                getattr(self.dut, f"{name}_valid_i").value = comes
                if comes:
                    self.since[name] = 0
                    for port, value in waiting.popleft().items():
                        getattr(self.dut, f"{name}{port}_i").value = value
            await ReadOnly()
            self.world.sample()
            if self.dut.selector_write_o.value:
                self.selectors.append((int(self.dut.selector_index_o.value), int(self.dut.selector_o.value)))
            await FallingEdge(self.dut.clk_i)

    async def settle(self) -> None:
        """All that comes has come, and was counted."""
        await self.until(lambda: not any(self.coming.values()))
        for _ in range(100):
            await FallingEdge(self.dut.clk_i)

    # The bus, with an await and as a RegisterBus.

    async def load(self, address: int) -> tuple[int, bool]:
        """A word, and whether the answer was no error."""
        answer = await self.master.read(address, 4)
        return int.from_bytes(answer.data, "little"), self._good(answer.resp)

    async def store(self, address: int, value: int, size: int = 4) -> bool:
        answer = await self.master.write(address, value.to_bytes(size, "little"))
        return self._good(answer.resp)

    @staticmethod
    def _good(answer: AxiResp) -> bool:
        assert answer in (AxiResp.OKAY, AxiResp.SLVERR)
        return answer == AxiResp.OKAY

    def read(self, address: int, /) -> int:
        value, good = resume(self.load)(address)
        if not good:
            raise BusError(hex(address))
        return value

    def write(self, address: int, value: int, /) -> None:
        if not resume(self.store)(address, value):
            raise BusError(hex(address))

    # Commands, from a thread that bridge() runs.

    def stage(self, config: dict[str, int]) -> None:
        sa = self.engine.sa
        sa.form.write(names.SaForm(**{one: config[one] for one in ("generation", "transport", "esn", "key256", "v6")}))
        sa.outer.write(names.SaOuter(
            **{one: config[one] for one in ("dscp_copy", "dscp", "ecn_copy", "flow_copy", "udp", "hop_limit")},
            df=names.Df(config["df"]),
        ))  # fmt: skip
        sa.spi.write(config["spi"])
        sa.salt.write(config["salt"])
        sa.flow_label.write(config["flow_label"])
        sa.tfc.write(config["tfc"])
        sa.ports.write(names.SaPorts(config["source_port"], config["destination_port"]))
        sa.selectors.write(names.SaSelectors(config["selector_first"], config["selector_count"]))
        sa.source.write(config["source"])
        sa.destination.write(config["destination"])
        for limits in ("hard", "soft"):
            for kind in ("packets", "bytes"):
                getattr(getattr(sa, f"{limits}_limits"), kind).write(config[f"{limits}_{kind}"])

    def go(self, operation: names.Operation, direction: int = 0, index: int = 0) -> None:
        self.engine.command.command.write(
            names.CommandCommand(index=index, direction=names.Direction(direction), operation=operation, go=1)
        )

    def answer(self) -> names.Answer:
        for _ in range(500):
            answer = self.engine.command.answer.read()
            if answer.done:
                return answer.answer
        raise AssertionError("no answer")

    def command(self, operation: names.Operation, direction: int = 0, index: int = 0) -> names.Answer:
        self.go(operation, direction, index)
        return self.answer()


def some_config() -> dict[str, int]:
    bits = {"generation": 16, "transport": 1, "esn": 1, "key256": 1, "v6": 1, "dscp_copy": 1, "dscp": 6, "ecn_copy": 1,
            "flow_copy": 1, "udp": 1, "hop_limit": 8, "spi": 32, "salt": 32, "flow_label": 20, "tfc": 16,
            "source_port": 16, "destination_port": 16, "source": 128, "destination": 128, "hard_packets": 64,
            "hard_bytes": 64, "soft_packets": 64, "soft_bytes": 64}  # fmt: skip
    made = {name: random.getrandbits(width) for name, width in bits.items()}
    count = random.randint(0, PARAMETERS["MAXPERSA"])
    # What cannot be is refused: bench_sa_control.
    made |= {name: made[name] or 1 for name in ("hop_limit", "source_port", "destination_port")}
    return {**made, "spi": made["spi"] | 256, "df": random.randrange(3), "selector_count": count,
            "selector_first": random.randint(0, SELECTORS - count)}  # fmt: skip


def as_address(written: int, v6: int) -> int:
    """What counts of the four words: the lowest one for IPv4, whatever an IPv6 address left in the others."""
    return written if v6 else written & 0xFFFF_FFFF


def as_sa(direction: str, config: dict[str, int]) -> int:
    """What the direction gets."""
    common = ("generation", "transport", "esn", "key256")
    more = ("v6", "udp", "dscp_copy", "dscp", "ecn_copy", "df", "flow_copy", "flow_label", "hop_limit", "source_port",
            "destination_port")  # fmt: skip
    form = {"valid": 1, **{name: config[name] for name in common}}
    whole: dict[str, Any] = {
        "id": {"salt": config["salt"], "spi": config["spi"]},
        **{
            f"{one}_limits": {kind: config[f"{one}_{kind}"] for kind in ("packets", "bytes")}
            for one in ("hard", "soft")
        },
    }
    if direction == "outbound":
        form |= {name: config[name] for name in more} | {"tfc_length": config["tfc"]}
        whole |= {name: as_address(config[name], config["v6"]) for name in ("source", "destination")}
    else:
        form |= {name: config[name] for name in ("selector_first", "selector_count")}
        form["udp_port"] = config["destination_port"]
    return SA[direction].pack(whole, form=form)


def as_spi_key(config: dict[str, int]) -> int:
    destination = as_address(config["destination"], config["v6"])
    return SPI_KEY.pack({"v6": config["v6"], "destination": destination, "spi": config["spi"]})


def every(block: Any) -> Iterator[Register[Any] | Number]:
    """All registers of a block."""
    for one in vars(block).values():
        for register in one if isinstance(one, tuple) else (one,):
            if isinstance(register, Register | Number):
                yield register
            elif hasattr(register, "__dict__") and type(register).__module__ == names.__name__:
                yield from every(register)


def words(register: Register[Any] | Number) -> Iterator[tuple[int, int]]:
    """Addresses of a register's words, and which bits of them there are."""
    if isinstance(register, Number):
        for i, address in enumerate(register.addresses):
            yield address, (1 << min(32, register.width - 32 * i)) - 1
    else:
        yield register.address, sum(((1 << one.width) - 1) << one.low for one in register.fields.LAYOUT)


def addresses(engine: names.EspEngine, *kinds: type) -> dict[int, int]:
    return {
        address: mask for register in every(engine) if isinstance(register, kinds) for address, mask in words(register)
    }


@cocotb.test()
async def an_address_answers_as_the_map_says(dut: Any) -> None:
    tb = TB(dut)
    await tb.begin()
    readable = addresses(tb.engine, Readable, ReadableNumber)
    writable = addresses(tb.engine, Writable, WritableNumber)
    # The last is status.ready.
    window, interval = PARAMETERS["WINDOW"], PARAMETERS["INTERVAL"]
    expected = {
        0x00: int.from_bytes(b"ESPE"), 0x04: 1 << 24, 0x08: SAS, 0x0C: window,
        0x10: PARAMETERS["TOWERSBOX"] << 8 | interval,
        0x14: PARAMETERS["MAXPERSA"] << 16 | SELECTORS, 0x18: PARAMETERS["MAXOUTER"] << 16 | PARAMETERS["MAXPACKET"],
        0x1C: PARAMETERS["INPUTBYTES"], 0x20: PARAMETERS["OUTPUTBYTES"], 0x24: 3, 0x28: 0x7F,
        0x30: PARAMETERS["STALLCYCLES"],
        0x2C: PARAMETERS["DROPDEPTH"] << 16 | PARAMETERS["EVENTDEPTH"], 0x44: 1,
    }  # fmt: skip
    order = list(range(0, SPAN, 4))
    for _ in range(2):
        random.shuffle(order)
        for address in order:
            value, good = await tb.load(address)
            assert good == (address in readable), hex(address)
            assert value == expected.get(address, 0), hex(address)
        for address in order:
            # What can be written gets zeros, which is what it has.
            assert await tb.store(address, 0 if address in writable else 0xFFFF_FFFF) == (address in writable)
    assert len(readable) > 200 and len(writable) > 40


@cocotb.test()
async def what_is_written_is_read(dut: Any) -> None:
    """Many accesses under way at once, reads and writes, with single bytes among them."""
    tb = TB(dut)
    await tb.begin()
    engine = tb.engine
    blocks = (engine.sa, engine.selector)
    readable = [one for block in blocks for one in every(block) if isinstance(one, Readable | ReadableNumber)]
    masks = {address: mask for one in readable for address, mask in words(one)}
    for one in (engine.control.headroom, engine.control.interrupt_enable, engine.events.select):
        masks |= dict(words(one))
    model = dict.fromkeys(masks, 0)
    for _ in range(60):
        writes, reads = [], {}
        chosen = random.sample(list(masks), 24)
        for address, beside in zip(chosen[:12], chosen[12:], strict=True):
            reads[beside] = cocotb.start_soon(tb.load(beside))
            size = random.choice((1, 1, 2, 4))
            at = random.randrange(0, 5 - size)
            value = random.getrandbits(8 * size)
            some = ((1 << 8 * size) - 1) << 8 * at
            model[address] = (model[address] & ~some | value << 8 * at) & masks[address]
            writes.append(cocotb.start_soon(tb.store(address + at, value, size)))
        for write in writes:
            assert await write
        for address in random.sample(chosen[:12], 6):
            reads[address] = cocotb.start_soon(tb.load(address))
        for address, read in reads.items():
            assert await read == (model[address], True), hex(address)
    assert int(dut.headroom_o.value) == model[engine.control.headroom.address]


@cocotb.test()
async def commands_bring_what_is_staged(dut: Any) -> None:
    tb = TB(dut)
    await tb.begin()
    await bridge(commands)(tb)


def commands(tb: TB) -> None:
    engine, world = tb.engine, tb.world
    for _ in range(12):
        direction = random.randrange(2)
        name = DIRECTIONS[direction]
        side = world.directions[name]
        config, index, key = some_config(), random.randrange(SAS), random.getrandbits(256)
        used = direction and index in world.spis.values()
        before = list(side.table), list(side.keys)
        tb.stage(config)
        engine.key.word.write(key)
        answer = tb.command(names.Operation.INSTALL, direction, index)
        if used:
            assert answer is names.Answer.IN_USE and (side.table, side.keys) == before
            assert tb.command(names.Operation.REMOVE, direction, index) is names.Answer.DONE
            assert side.table[index] == side.keys[index] == 0
        else:
            assert answer is names.Answer.DONE
            assert side.table[index] == as_sa(name, config)
            # What was counted before, and what a command without effect did not count.
            for kind, value in USAGE.unpack(World.usage(name, index)).items():
                assert getattr(engine.usage, kind).read() == value
            assert side.keys[index] == key & (1 << (256 if config["key256"] else 128)) - 1
            if direction:
                assert world.spis[as_spi_key(config)] == index
            head = engine.events.head.read()
            assert head == names.EventsHead(index, names.Direction(direction), key_ready=1, valid=1)
            assert engine.events.generation.read() == config["generation"]
            engine.events.pop.write(1)
        # It is as it was staged, but for key and salt.
        assert engine.sa.destination.read() == config["destination"]
        assert tb.command(names.Operation.READ, direction, index) is names.Answer.DONE
        usage = USAGE.unpack(World.usage(name, index))
        for kind, value in usage.items():
            assert getattr(engine.usage, kind).read() == value
        # Selectors.
        place = random.choice((0, SELECTORS - 1, SELECTORS))
        protocol, remote, v6 = random.getrandbits(8), random.getrandbits(1), random.getrandbits(1)
        ports, ends = [random.getrandbits(16) for _ in range(2)], [random.getrandbits(128) for _ in range(2)]
        engine.selector.form.write(names.SelectorForm(protocol, remote, v6))
        engine.selector.ports.write(names.SelectorPorts(*ports))
        engine.selector.first.write(ends[0])
        engine.selector.last.write(ends[1])
        tb.selectors.clear()
        answer = tb.command(names.Operation.SELECTOR, 0, place)
        packed = SELECTOR.pack({"remote": remote, "v6": v6, "protocol": protocol, "port_start": ports[0],
                                "port_end": ports[1], "start": as_address(ends[0], v6),
                                "last": as_address(ends[1], v6)})  # fmt: skip
        if place < SELECTORS:
            assert answer is names.Answer.DONE and tb.selectors == [(place, packed)]
        else:
            assert answer is names.Answer.BAD_INDEX and tb.selectors == []


@cocotb.test()
async def a_key_is_for_one_installation(dut: Any) -> None:
    tb = TB(dut)
    await tb.begin()
    await bridge(keys)(tb)


def keys(tb: TB) -> None:
    engine, side = tb.engine, tb.world.directions["outbound"]
    tb.stage({**some_config(), "key256": 1})
    for index, refused in ((0, False), (1, False), (SAS, True)):
        engine.key.word.write((1 << 256) - 1)
        answer = tb.command(names.Operation.INSTALL, 0, index)
        assert answer is (names.Answer.BAD_INDEX if refused else names.Answer.DONE)
        # Nobody wrote another one, and the one before is gone.
        assert tb.command(names.Operation.INSTALL, 0, 1) is names.Answer.BAD_FIELDS
        assert refused or side.keys[index] == (1 << 256) - 1
    # Nor is the salt for another one.
    config = {**some_config(), "key256": 0}
    tb.stage(config)
    for salt in (config["salt"], 0):
        engine.key.word.write(1)
        assert tb.command(names.Operation.INSTALL, 0, 0) is names.Answer.DONE
        assert side.table[0] == as_sa("outbound", {**config, "salt": salt})
    for address in (*engine.key.word.addresses, *engine.sa.salt.addresses):
        value, good = resume(tb.load)(address)
        assert (value, good) == (0, False)


@cocotb.test()
async def nothing_changes_under_a_command(dut: Any) -> None:
    tb = TB(dut)
    await tb.begin()
    await bridge(under_a_command)(tb)


def under_a_command(tb: TB) -> None:
    engine, world = tb.engine, tb.world
    first, second = some_config(), some_config()
    tb.stage({**first, "key256": 1})
    engine.key.word.write(1)
    world.stalled = True
    tb.go(names.Operation.INSTALL, 0, 1)
    assert engine.control.status.read() == names.ControlStatus(ready=1, busy=1)
    tb.stage(second)
    engine.key.word.write(2)
    tb.go(names.Operation.REMOVE, 0, 1)
    assert engine.command.answer.read().done == 0
    world.stalled = False
    assert tb.answer() is names.Answer.DONE
    assert world.directions["outbound"].table[1] == as_sa("outbound", {**first, "key256": 1})
    assert world.directions["outbound"].keys[1] == 1
    assert engine.sa.destination.read() == first["destination"]
    assert engine.command.command.read().operation is names.Operation.INSTALL
    # The answer stays until it is cleared, and the interrupt with it.
    engine.control.interrupt_enable.write(names.ControlInterruptEnable(command=1))
    assert engine.control.interrupt_status.read().command == 1
    assert tb.dut.irq_o.value == 1
    engine.command.answer.write(names.CommandAnswer(done=1))
    assert engine.command.answer.read().done == 0
    assert tb.dut.irq_o.value == 0


@cocotb.test()
async def packets_wait_for_the_sweep_and_for_software(dut: Any) -> None:
    tb = TB(dut)
    await tb.begin(ready=False)
    await bridge(before_the_sweep)(tb)


def before_the_sweep(tb: TB) -> None:
    engine = tb.engine
    tb.world.stalled = True
    assert engine.control.status.read() == names.ControlStatus(busy=1)
    engine.control.control.write(1)
    # A command is not taken yet; what is staged is.
    engine.sa.spi.write(77)
    tb.go(names.Operation.INSTALL)
    assert tb.dut.traffic_enable_o.value == 0
    assert engine.control.status.read() == names.ControlStatus(busy=1)
    tb.world.stalled = False
    for _ in range(1000):
        if engine.control.status.read() == names.ControlStatus(ready=1, traffic=1):
            break
    assert tb.dut.traffic_enable_o.value == 1
    assert engine.command.answer.read().done == 0
    assert engine.sa.spi.read() == 77
    assert all(one.table == one.keys == [0] * SAS for one in tb.world.directions.values())
    engine.control.control.write(0)
    assert engine.control.status.read().traffic == 0


@cocotb.test()
async def events_are_read_one_by_one_and_the_rest_by_sa(dut: Any) -> None:
    tb = TB(dut)
    await tb.begin()
    await bridge(events)(tb)


def events(tb: TB) -> None:
    engine, depth = tb.engine, PARAMETERS["EVENTDEPTH"]
    engine.control.interrupt_enable.write(names.ControlInterruptEnable(events=1, sticky=1))
    for _ in range(6):
        left: dict[tuple[int, int], dict[str, int]] = {}
        generations = [random.getrandbits(16) for _ in range(SAS)]
        direction = random.randrange(2)
        given = []
        for _ in range(random.choice((1, depth, depth + 6))):
            sa = random.randrange(SAS)
            bits = {name: random.getrandbits(1) for name in EVENTS}
            bits[random.choice(EVENTS)] = 1
            given.append((sa, bits))
            packed = layout("sa_events_t").pack(bits)
            tb.coming[f"{DIRECTIONS[direction]}_events"].append({"_sa": sa, "_generation": generations[sa], "": packed})
        resume(tb.settle)()
        for sa, bits in given[depth:]:
            kept = left.setdefault((direction, sa), dict.fromkeys(EVENTS, 0))
            kept |= {name: 1 for name, bit in bits.items() if bit}
        assert tb.dut.irq_o.value == 1
        status = engine.control.interrupt_status.read()
        assert (status.events, status.sticky) == (1, int(bool(left)))
        assert engine.events.status.read() == names.EventsStatus(len(left), int(bool(left)))
        for sa, bits in given[:depth]:
            head = engine.events.head.read()
            assert head == names.EventsHead(sa, names.Direction(direction), **bits, valid=1)
            assert engine.events.generation.read() == generations[sa]
            engine.events.pop.write(1)
        assert engine.events.head.read() == names.EventsHead() and engine.events.generation.read() == 0
        engine.events.pop.write(1)
        assert tb.dut.irq_o.value == bool(left)
        for sa in random.sample(range(SAS + 2), SAS + 2):
            engine.events.select.write(names.EventsSelect(sa, names.Direction(direction)))
            bits = left.get((direction, sa), {})
            generation = generations[sa] if bits else 0
            assert engine.events.sticky.read() == names.EventsSticky(**bits, generation=generation)
            assert engine.events.sticky.read() == names.EventsSticky()
        assert engine.events.status.read().overflow == int(bool(left))
        engine.events.status.write(names.EventsStatus(overflow=1))
        assert engine.events.status.read() == names.EventsStatus()
        assert tb.dut.irq_o.value == 0


@cocotb.test()
async def a_removed_sa_leaves_no_events(dut: Any) -> None:
    tb = TB(dut)
    await tb.begin()
    await bridge(forgotten)(tb)


def forgotten(tb: TB) -> None:
    engine = tb.engine
    for _ in range(PARAMETERS["EVENTDEPTH"] + 3):
        tb.coming["outbound_events"].append({"_sa": 1, "_generation": 7, "": 1})
    resume(tb.settle)()
    assert engine.events.status.read().sticky_count == 1
    assert tb.command(names.Operation.REMOVE, 0, 1) is names.Answer.DONE
    assert engine.events.status.read().sticky_count == 0


@cocotb.test()
async def drops_have_records_and_counters(dut: Any) -> None:
    tb = TB(dut)
    await tb.begin()
    await bridge(drops)(tb)


def drops(tb: TB) -> None:
    engine, depth = tb.engine, PARAMETERS["DROPDEPTH"]
    counts, passed, lost = [[0] * 32, [0] * 32], {name: [0, 0] for name in PASSING}, 0
    engine.control.interrupt_enable.write(names.ControlInterruptEnable(drops=1))
    reasons = [reason.value for reason in Reason if reason.kind == "drop"]
    for _ in range(5):
        direction = random.randrange(2)
        given = []
        for _ in range(random.choice((1, depth, depth + 3))):
            fields = {"has_sa": random.getrandbits(1), "reason": random.choice(reasons), "spi": random.getrandbits(32),
                      "sequence_number": random.getrandbits(64)}  # fmt: skip
            sa = random.randrange(SAS)
            given.append((fields, sa))
            tb.coming[PIPES[direction]].append({"_drop": DROP.pack(fields), "_sa": sa})
            counts[direction][fields["reason"]] += 1
        for name in PASSING:
            for _ in range(random.randrange(4)):
                length = random.getrandbits(16)
                passed[name][0] += 1
                passed[name][1] += length
                tb.coming[name].append({"_bytes": length})
        resume(tb.settle)()
        assert tb.dut.irq_o.value == 1 and engine.control.interrupt_status.read().drops == 1
        for fields, sa in given[:depth]:
            assert engine.drops.head.read() == names.DropsHead(
                sa if fields["has_sa"] else 0, names.Direction(direction), fields["has_sa"], fields["reason"], 1
            )
            assert engine.drops.spi.read() == fields["spi"]
            assert engine.drops.sequence_number.read() == fields["sequence_number"]
            engine.drops.pop.write(1)
        assert engine.drops.head.read() == names.DropsHead()
        assert engine.drops.spi.read() == engine.drops.sequence_number.read() == 0
        assert tb.dut.irq_o.value == 0
        lost += max(0, len(given) - depth)
        assert engine.drops.lost.read() == lost
    # Of an intake the reason is known, and outbound the SA.
    for direction in range(2):
        for reason in (Reason.TOO_BIG, Reason.MALFORMED_IP):
            sa = random.randrange(1, SAS)
            tb.coming[INTAKES[direction]].append({"_reason": reason.value} | ({} if direction else {"_sa": sa}))
            counts[direction][reason.value] += 1
            resume(tb.settle)()
            assert engine.drops.head.read() == names.DropsHead(
                0 if direction else sa, names.Direction(direction), 1 - direction, reason.value, 1
            )
            assert engine.drops.spi.read() == engine.drops.sequence_number.read() == 0
            engine.drops.pop.write(1)
    counters = engine.counters
    for index in range(32):
        assert counters.drops_outbound[index].read() == counts[0][index]
        assert counters.drops_inbound[index].read() == counts[1][index]
    for name, (packets, length) in passed.items():
        direction, end = name.split("_")
        assert getattr(counters, f"{direction}_packets_{end}").read() == packets
        assert getattr(counters, f"{direction}_bytes_{end}").read() == length


@cocotb.test()
async def both_halves_of_a_counter_are_of_one_moment(dut: Any) -> None:
    tb = TB(dut)
    await tb.begin()
    reason = Reason.TOO_BIG.value
    address = tb.engine.counters.drops_inbound[reason].address
    begun = (5 << 32) - 4
    for _ in range(2):
        dut.u_drops.u_counters.mem[32 + reason].value = begun
        for _ in range(4):
            await FallingEdge(dut.clk_i)
    seen = []
    for _ in range(12):
        tb.coming["inbound_intake"].append({"_reason": reason})
    for _ in range(14):
        low, _ = await tb.load(address)
        for _ in range(random.randrange(20)):
            await FallingEdge(dut.clk_i)
        high, _ = await tb.load(address + 4)
        seen.append(high << 32 | low)
    await tb.settle()
    assert seen == sorted(seen) and begun <= seen[0] and seen[-1] <= begun + 12, [hex(one) for one in seen]
    assert (await tb.load(address))[0] == 8
