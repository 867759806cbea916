"""What a memory inside of a module holds, in its RTL and in its netlist."""

from __future__ import annotations

import os
import re
from typing import Any

# Of the ports of ECP5's block RAM, whose lines are of four parts of nine bits.
_WIDTHS = (9, 18, 36)


def word(dut: Any, path: str, address: int, width: int) -> int:
    """A word of the memory that has this name in the RTL. In a netlist it has to be in block RAM. Raises KeyError."""
    if "NETLIST" in os.environ:
        return _block_ram(dut, path, address, width)
    *folders, memory = re.findall(r"\w+", path)
    for name in folders:
        dut = dut[int(name)] if name.isdigit() else dut[name]
    return int(dut[memory][address].value)


def _block_ram(dut: Any, path: str, address: int, width: int) -> int:
    """Yosys has cut the memory into columns, a block for each, and a block's name is the memory's with two numbers."""
    # By the names of all that there is: cocotb takes one with brackets for an array, and finds it there or not.
    named = {child._name.strip("\\ "): child for child in dut if child._name.startswith(f"\\{path}.")}
    blocks = [named[name] for i in range(len(named)) if (name := f"{path}.0.{i}") in named]
    # The narrowest columns that the blocks are enough for: they are as deep as can be.
    column = next((bits for bits in _WIDTHS if -(-width // bits) == len(blocks)), None)
    if column is None or len(blocks) != len(named):
        raise KeyError(f"{path} is not columns of block RAM but {sorted(named)}")
    at = column * address
    parts = [int(block.mem[at // 36].value) >> at % 36 & (1 << column) - 1 for block in blocks]
    return sum(part << column * i for i, part in enumerate(parts)) & (1 << width) - 1
