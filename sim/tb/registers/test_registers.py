"""The register map, and what is generated from it."""

from __future__ import annotations

import re
import shutil
import subprocess
from enum import IntEnum
from pathlib import Path

import pytest

from appliance.datapath.engine import registers
from appliance.datapath.engine.bus import unpacked
from appliance.reasons import Reason
from sim.tb.structs import layout
from tools.registers import HEADER, outputs


def test_generated_files_are_those_of_the_map() -> None:
    stale = [path.name for path, text in outputs().items() if path.read_text() != text]
    assert stale == [], "run make regs"


class Memory:
    """Words that stay as they are written, and what was done."""

    def __init__(self) -> None:
        self.words: dict[int, int] = {}
        self.done: list[tuple[str, int]] = []

    def read(self, address: int) -> int:
        self.done.append(("read", address))
        return self.words.get(address, 0)

    def write(self, address: int, value: int) -> None:
        self.done.append(("write", address))
        self.words[address] = value


def test_fields_are_named_and_must_fit() -> None:
    memory = Memory()
    engine = registers.EspEngine(memory, 0x1000)
    command = registers.CommandCommand(index=7, direction=registers.Direction.INBOUND, go=1)
    engine.command.command.write(command)
    assert memory.words == {0x1060: 1 << 31 | 1 << 16 | 7}
    assert engine.command.command.read() == command
    assert unpacked(registers.CommandCommand, command.pack()).direction is registers.Direction.INBOUND
    with pytest.raises(ValueError, match="index"):
        engine.command.command.write(registers.CommandCommand(index=1 << 16))


def test_a_long_number_is_several_words_the_lowest_first() -> None:
    memory = Memory()
    engine = registers.EspEngine(memory)
    number = int.from_bytes(bytes(range(1, 17)))
    engine.sa.source.write(number)
    assert memory.done == [("write", 0x120 + 4 * i) for i in range(4)]
    assert memory.words[0x120] == number & 0xFFFF_FFFF
    assert engine.sa.source.read() == number
    assert engine.counters.drops_inbound[3].read() == 0
    assert memory.done[-2:] == [("read", 0x518), ("read", 0x51C)]
    with pytest.raises(ValueError, match="128 bits"):
        engine.sa.source.write(1 << 128)


def _shouted(name: str, prefix: str) -> str:
    """AnswerBadIndex as BAD_INDEX."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name.removeprefix(prefix)).upper()


@pytest.mark.parametrize(
    ("type_name", "prefix", "kind"),
    [
        ("command_e", "Command", registers.Operation),
        ("answer_e", "Answer", registers.Answer),
        ("direction_e", "", registers.Direction),
        ("df_e", "Df", registers.Df),
    ],
)
def test_numbers_are_the_rtls(type_name: str, prefix: str, kind: type[IntEnum]) -> None:
    names = {_shouted(name, prefix): number for name, number in layout(type_name).names}
    assert names == {one.name: one.value for one in kind}


def test_the_c_header_is_c_and_c_plus_plus(tmp_path: Path) -> None:
    """Its own assertions hold: every register is where the map has it."""
    if shutil.which("g++") is None or shutil.which("gcc") is None:
        pytest.skip("no C compiler: apt-get install g++")
    source = tmp_path / "registers.c"
    source.write_text(
        f'#include <stddef.h>\n#include "{HEADER}"\n'
        'static_assert(offsetof(esp_engine_t, counters.inbound_bytes_out) == 0x638, "the last register");\n'
        f'static_assert(ESP_ENGINE__REASON__{Reason.LINK_SCOPE.name} == {Reason.LINK_SCOPE.value}, "a reason");\n'
        'static_assert(offsetof(esp_engine_t, sa.soft_limits) == 0x150, "in the middle");\n'
    )
    for compiler in (["gcc", "-std=c11"], ["g++", "-std=c++17", "-x", "c++"]):
        subprocess.run([*compiler, "-Wall", "-Wextra", "-Werror", "-fsyntax-only", str(source)], check=True)
