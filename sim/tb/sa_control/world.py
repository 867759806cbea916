"""What stands around sa_control: a model of key_unit, both directions and the table of SPIs."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from sim.tb.structs import layout

DIRECTIONS = ("outbound", "inbound")
OP, SPI_ANSWER = layout("spi_op_e"), layout("spi_answer_e")
SA = {"outbound": layout("outbound_sa_t"), "inbound": layout("inbound_sa_t")}
USAGE = layout("sa_usage_t")


def delay() -> int:
    return random.choice((0, 0, 1, 3, random.randint(0, 30)))


@dataclass
class Direction:
    """What a direction has: SAs and keys. Its commands take their time."""

    table: list[int]
    keys: list[int]
    # What is under way: the SA, its data, cycles that are left.
    sa: int | None = None
    data: int = 0
    left: int = 0
    # Cycles until counters are there.
    reading: int | None = None
    # Until a command tells those of what it replaces.
    finds: int | None = None


class World:
    """All that sa_control drives, cycle by cycle: ``drive`` behind a falling edge, ``sample`` before the rising one."""

    def __init__(self, dut: Any, sas: int) -> None:
        self.dut = dut
        # Before the sweep everything is anything.
        self.directions: dict[str, Direction] = {}
        for name in DIRECTIONS:
            some = [random.getrandbits(SA[name].width) | 1 for _ in range(sas)]
            self.directions[name] = Direction(some, [random.getrandbits(256) | 1 for _ in range(sas)])
        # key_unit: what is in its staging memories and what will be, cycles that it is busy, and whether it says so.
        self.staged = random.getrandbits(256) | 1
        self.next_key = 0
        self.key_bits = 0
        self.busy = 0
        self.done = False
        self.spis: dict[int, int] = {}
        self.full = False
        # Commands do not end as long as this holds.
        self.stalled = False
        self.op: tuple[int, int, int] | None = None
        self.op_left = 0
        # The SA whose counters were read.
        self.read_sa = 0
        self.log: list[str] = []

    def inputs(self) -> list[str]:
        """Those that have to be low in reset."""
        ports = [f"{name}_{one}" for name in DIRECTIONS
                 for one in ("command_ready", "command_done", "read_ready", "read_done")]  # fmt: skip
        return [f"{port}_i" for port in (*ports, "key_busy", "key_done", "spi_op_ready", "spi_answer_valid")]

    def port(self, name: str) -> Any:
        return getattr(self.dut, name)

    def drive(self) -> None:
        self.port("key_busy_i").value, self.port("key_done_i").value = self.busy > 0, self.done
        for name, one in self.directions.items():
            self.port(f"{name}_command_ready_i").value = one.sa is None and random.random() < 0.5
            self.port(f"{name}_command_done_i").value = (
                one.sa is not None and one.finds is None and one.left == 0 and not self.stalled
            )
            self.port(f"{name}_read_ready_i").value = one.reading is None and random.random() < 0.5
            self.port(f"{name}_read_done_i").value = one.reading == 0 or one.finds == 0
            known = one.sa if one.finds == 0 else self.read_sa if one.reading == 0 else None
            usage = random.getrandbits(USAGE.width) if known is None else self.usage(name, known)
            self.port(f"{name}_read_usage_i").value = usage
        self.port("spi_op_ready_i").value = self.op is None and random.random() < 0.5
        answers = self.op is not None and self.op_left == 0
        self.port("spi_answer_valid_i").value = answers
        answer = self._spi_answer(*self.op) if answers and self.op else random.getrandbits(2)
        self.port("spi_answer_i").value = answer

    @staticmethod
    def usage(name: str, sa: int) -> int:
        """Some counters, always the same of an SA."""
        return random.Random(f"{name} {sa}").getrandbits(USAGE.width)

    def _spi_answer(self, op: int, key: int, sa: int) -> int:
        if op == OP["SpiInsert"]:
            if key in self.spis:
                return SPI_ANSWER["SpiExists"]
            if self.full:
                return SPI_ANSWER["SpiFull"]
            self.spis[key] = sa
        elif self.spis.pop(key, None) is None:
            return SPI_ANSWER["SpiAbsent"]
        return SPI_ANSWER["SpiDone"]

    def sample(self) -> None:
        self._key_unit()
        for name, one in self.directions.items():
            self._command(name, one)
            if one.reading is not None:
                one.reading = one.reading - 1 if one.reading else None
            elif self.port(f"{name}_read_valid_o").value and self.port(f"{name}_read_ready_i").value:
                one.reading = delay()
                self.read_sa = int(self.port(f"{name}_read_sa_o").value)
        if self.op is not None:
            if self.op_left:
                self.op_left -= 1
            else:
                self.log.append("insert" if self.op[0] == OP["SpiInsert"] else "away")
                self.op = None
        elif self.port("spi_op_valid_o").value and self.port("spi_op_ready_i").value:
            self.op = tuple(int(self.port(f"spi_op{one}_o").value) for one in ("", "_key", "_sa"))  # type: ignore[assignment]
            self.op_left = delay()

    def _key_unit(self) -> None:
        start, zero = bool(self.port("key_start_o").value), bool(self.port("key_zero_o").value)
        self.done = self.busy == 1
        if start or zero:
            assert not (start and zero) and not self.busy
            assert all(one.sa is None for one in self.directions.values()), "keys change under a command"
        if self.key_bits:
            # It is read in the cycle behind its start.
            self.next_key = int(self.port("key_o").value) & (1 << self.key_bits) - 1
            self.key_bits = 0
        if self.busy:
            self.busy -= 1
            if not self.busy:
                self.staged = self.next_key
        if start or zero:
            self.next_key = 0
            if start:
                self.key_bits = 256 if self.port("key256_o").value else 128
            self.busy = 1 + delay()
            self.log.append("key" if start else "zero")

    def _command(self, name: str, one: Direction) -> None:
        if one.sa is not None:
            if one.finds is not None:
                one.finds = one.finds - 1 if one.finds else None
            elif one.left:
                one.left -= 1
            elif self.port(f"{name}_command_done_i").value:
                one.table[one.sa], one.keys[one.sa] = one.data, self.staged
                self.log.append(f"{name} {one.sa} {'set' if one.data else 'cleared'}")
                one.sa = None
        elif self.port(f"{name}_command_valid_o").value and self.port(f"{name}_command_ready_i").value:
            assert not self.busy, "keys are not there"
            one.sa = int(self.port(f"{name}_command_sa_o").value)
            one.data = int(self.port(f"{name}_command_data_o").value)
            one.left, one.finds = 1 + delay(), delay()
