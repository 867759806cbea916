"""Generate from hw/regs/esp_engine.rdl what is made of it: the register block, classes for Python, a C header, a page.

Run as ``python -m tools.registers [--check] [--html DIRECTORY]``. The page as HTML is only made where a folder is named
for it: it brings eight megabytes with it.

Classes for Python are made here and not by peakrdl-python: that writes 32,000 lines, most of them a library of its own,
for what are 700 lines here with the appliance's RegisterBus.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from peakrdl_cheader.exporter import CHeaderExporter
from peakrdl_html import HTMLExporter
from peakrdl_regblock import RegblockExporter
from peakrdl_regblock.cpuif.axi4lite import AXI4Lite_Cpuif_flattened
from peakrdl_regblock.udps import ALL_UDPS
from systemrdl.compiler import RDLCompiler
from systemrdl.node import AddressableNode, AddrmapNode, FieldNode, MemNode, RegfileNode, RegNode

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "hw" / "regs" / "esp_engine.rdl"
RTL = ROOT / "hw" / "rtl" / "regs"
MODULE = "esp_engine_regs"
HEADER = ROOT / "hw" / "regs" / "esp_engine.h"
PAGE = ROOT / "hw" / "regs" / "README.md"
CLASSES = ROOT / "appliance" / "datapath" / "engine" / "registers.py"
_NOTICE = "Generated from hw/regs/esp_engine.rdl by `make regs`. Do not edit."

Block = AddrmapNode | RegfileNode | MemNode


def compiled() -> AddrmapNode:
    """The register map. Raises RDLCompileError."""
    compiler = RDLCompiler()
    for udp in ALL_UDPS:
        compiler.register_udp(udp)
    compiler.compile_file(str(SOURCE), incl_search_paths=[str(SOURCE.parent)])
    return compiler.elaborate().top


def _blocks(node: Block) -> Iterator[Block]:
    """What has registers in it, the inner first."""
    for child in node.children():
        if isinstance(child, Block):
            yield from _blocks(child)
    yield node


def _registers(node: AddressableNode) -> Iterator[RegNode]:
    for child in node.children():
        if isinstance(child, RegNode):
            yield child
        elif isinstance(child, AddressableNode):
            yield from _registers(child)


def _number(register: RegNode) -> bool:
    """Whether a register is one number, or a part of a longer one: nothing else is in it."""
    fields = list(register.fields())
    return len(fields) == 1 and fields[0].low == 0


def _size(register: RegNode) -> int:
    """Bits of a number; an array of registers is one, but for that of registers which are longer than a word."""
    words = _count(register) if register.get_property("regwidth") == 32 else 1
    return 32 * (words - 1) + register.fields()[0].width


def _count(node: AddressableNode) -> int:
    return int(node.array_dimensions[0]) if node.array_dimensions else 1


def _hex(number: int) -> str:
    return f"0x{number:X}"


def _text(node: Any) -> str:
    return " ".join(str(node.get_property("desc") or "").split())


def _camel(*names: str) -> str:
    return "".join(word.capitalize() for name in names for word in name.removesuffix("_e").split("_"))


def _wrapped(text: str, indent: str, width: int = 116) -> list[str]:
    lines, line = [], indent
    for word in text.split():
        if len(line) + len(word) + 1 > width and line.strip():
            lines.append(line)
            line = indent
        line += word if line == indent else f" {word}"
    return [*lines, line] if line.strip() else lines


def _docstring(text: str, indent: str) -> list[str]:
    if len(indent) + len(text) + 6 <= 120:
        return [f'{indent}"""{text}"""']
    lines = _wrapped(text, indent, 117)
    lines[0] = f'{indent}"""{lines[0].removeprefix(indent)}'
    return [*lines, f'{indent}"""'] if len(lines[-1]) > 114 else [*lines[:-1], f'{lines[-1]}"""']


def _enumerations(top: AddrmapNode) -> dict[str, Any]:
    found = {}
    for register in _registers(top):
        for field in register.fields():
            if (encode := field.get_property("encode")) is not None:
                found[encode.type_name] = encode
    return found


def _begins(encode: Any) -> str:
    """The name of an enumeration's zero; empty if it has none, as the reasons: Python has these elsewhere."""
    return "".join(member.name for member in encode if member.value == 0)


def _access(register: RegNode) -> str:
    """How software may use a register."""
    readable, writable = register.has_sw_readable, register.has_sw_writable
    return "ReadWrite" if readable and writable else "Readable" if readable else "Writable"


def _reset(register: RegNode) -> int:
    word = 0
    for field in register.fields():
        value = field.get_property("reset")
        word |= (value if isinstance(value, int) else 0) << field.low
    return word


def python(top: AddrmapNode) -> str:
    """The classes: an enumeration, the fields of each register that has several, the blocks."""
    body: list[str] = []
    for name, encode in _enumerations(top).items():
        if not _begins(encode):
            continue
        body += ["", "", f"class {_camel(name)}(IntEnum):"]
        body += [*_docstring(f"What a field of {name.removesuffix('_e')} can be.", "    "), ""]
        for member in encode:
            body += [f"    # {line.strip()}" for line in _wrapped(member.rdl_desc or "", "    ", 112)]
            body += [f"    {member.name} = {member.value}"]
    for block in _blocks(top):
        for register in block.registers():
            if not _number(register):
                body += _python_fields(block, register)
    made: dict[str, list[str]] = {}
    for block in _blocks(top):
        made.setdefault(_block_class(block), _python_block(block))
    body += [line for lines in made.values() for line in lines]
    used = "\n".join(body)
    names = ("Field", "Fields", "Readable", "ReadableNumber", "ReadWrite", "ReadWriteNumber", "RegisterBus", "Writable",
             "WritableNumber")  # fmt: skip
    imports = [name for name in names if re.search(rf"\b{name}\b", used)]
    return "\n".join(
        [
            f'"""{_NOTICE}"""',
            "",
            "from __future__ import annotations",
            "",
            "from dataclasses import dataclass",
            "from enum import IntEnum",
            "from typing import ClassVar",
            "",
            "from appliance.datapath.engine.bus import (",
            *(f"    {name}," for name in imports),
            ")",
            *body,
            "",
        ]
    )


def _fields_class(block: Block, register: RegNode) -> str:
    return _camel(*([] if isinstance(block, AddrmapNode) else [block.inst_name]), register.inst_name)


def _python_fields(block: Block, register: RegNode) -> list[str]:
    name = _fields_class(block, register)
    title = register.get_property("name")
    about = " ".join([f"{title if title != register.inst_name else name}.", _text(register)]).strip()
    lines = ["", "", "@dataclass(frozen=True)", f"class {name}(Fields):", *_docstring(about, "    "), ""]
    layout = []
    for field in register.fields():
        encode = field.get_property("encode")
        kind = _camel(encode.type_name) if encode is not None and _begins(encode) else "int"
        lines += [f"    # {line.strip()}" for line in _wrapped(_text(field), "    ", 112)]
        lines.append(f"    {field.inst_name}: {kind} = {'0' if kind == 'int' else f'{kind}.{_begins(encode)}'}")
        last = "" if kind == "int" else f", {kind}"
        layout.append(f'        Field("{field.inst_name}", {field.low}, {field.width}{last}),')
    return [*lines, "", "    LAYOUT: ClassVar[tuple[Field, ...]] = (", *layout, "    )"]


def _python_block(block: Block) -> list[str]:
    name = _block_class(block)
    title = block.get_property("name")
    about = " ".join([f"{title if title != block.inst_name else name}.", _text(block)]).strip()
    lines = ["", "", f"class {name}:", *_docstring(about, "    "), ""]
    lines.append("    def __init__(self, bus: RegisterBus, base: int = 0) -> None:")
    for child in block.children():
        if isinstance(child, RegNode):
            lines += [f"        # {line.strip()}" for line in _wrapped(_text(child), "        ", 112)]
            lines += _python_register(block, child)
        elif isinstance(child, Block):
            lines.append(
                f"        self.{child.inst_name} = {_block_class(child)}(bus, base + {_hex(child.raw_address_offset)})"
            )
    return lines


def _block_class(block: Block) -> str:
    if isinstance(block, AddrmapNode):
        return "EspEngine"
    if block.type_name and block.type_name.endswith("_t"):
        return _camel(block.type_name.removesuffix("_t"))
    return _camel(block.inst_name)


def _python_register(block: Block, register: RegNode) -> list[str]:
    access, at = _access(register), f"base + {_hex(register.raw_address_offset)}"
    name = register.inst_name
    if not _number(register):
        reset = f", {_hex(_reset(register))}" if _reset(register) else ""
        return [f"        self.{name} = {access}(bus, {at}, {_fields_class(block, register)}{reset})"]
    size = _size(register)
    if register.is_array and register.get_property("regwidth") > 32:
        stride, count = register.array_stride, _count(register)
        return [
            f"        self.{name} = tuple({access}Number(bus, {at} + {stride} * i, {size}) for i in range({count}))"
        ]
    return [f"        self.{name} = {access}Number(bus, {at}{f', {size}' if size != 32 else ''})"]


def markdown(top: AddrmapNode) -> str:
    """The map as a page."""
    lines = [
        "# Registers of the ESP engine",
        "",
        *_wrapped(
            f"{_text(top)} Generated from `esp_engine.rdl` by `make regs`, as are the register block (`hw/rtl/regs`), "
            "classes for Python (`appliance/datapath/engine/registers.py`) and the C header beside this page; a test "
            "fails when they are stale. `make regs-html` makes HTML of it.",
            "",
        ),
        "",
        *_wrapped(
            "AXI4-Lite, words of 32 bits, addresses in bytes. An address where nothing is, a write of what can only be "
            "read and a read of what can only be written are answered with SLVERR and do nothing.",
            "",
        ),
    ]
    for name, encode in _enumerations(top).items():
        lines += ["", f"## `{name.removesuffix('_e')}`", "", "| value | name | |", "|---|---|---|"]
        lines += [f"| {one.value} | `{one.name}` | {one.rdl_desc or ''} |" for one in encode]
    for block in top.children():
        if isinstance(block, Block):
            lines += _markdown_block(block)
    return "\n".join([*lines, ""])


def _markdown_block(block: Block) -> list[str]:
    lines = ["", f"## {block.absolute_address:#05x} `{block.inst_name}`: {block.get_property('name')}"]
    if _text(block):
        lines += ["", *_wrapped(_text(block), "")]
    lines += ["", "| address | register | bits | field | access | reset | |", "|---|---|---|---|---|---|---|"]
    for register in _registers(block):
        register_name = register.get_path(array_suffix="[]", empty_array_suffix="[]").split(".", 2)[2]
        count = _count(register)
        if count > 1:
            register_name = register_name.replace("[]", f"[{count}]")
        address = f"{register.raw_absolute_address:#05x}"
        about = _text(register)
        if not _number(register):
            lines.append(f"| {address} | `{register_name}` | | | | | {about} |")
            address, register_name, about = "", "", ""
        for field in register.fields():
            bits = f"{field.high}:{field.low}" if field.width > 1 else str(field.low)
            reset = field.get_property("reset")
            words = " ".join(word for word in (about, _text(field)) if word)
            label = f"`{register_name}`" if register_name else ""
            lines.append(
                f"| {address} | {label} | {bits} | {'' if about or label else f'`{field.inst_name}`'} "
                f"| {_field_access(field)} | {'' if reset is None else reset} | {words} |"
            )
    return lines


def _field_access(field: FieldNode) -> str:
    encode, onwrite = field.get_property("encode"), field.get_property("onwrite")
    notes = [field.get_property("sw").name, *(["pulse"] if field.get_property("singlepulse") else [])]
    if onwrite is not None:
        notes.append(onwrite.name)
    if encode is not None:
        notes.append(f"`{encode.type_name.removesuffix('_e')}`")
    return ", ".join(notes)


def c_numbers(top: AddrmapNode) -> str:
    """The enumerations for C, which the exporter of the header leaves out."""
    lines = []
    for name, encode in _enumerations(top).items():
        lines += ["", f"// enum - esp_engine::{name.removesuffix('_e')}"]
        lines += [f"#define ESP_ENGINE__{name.removesuffix('_e').upper()}__{one.name} {one.value}" for one in encode]
    return "\n".join([*lines, ""])


class RegisteredAxi4Lite(AXI4Lite_Cpuif_flattened):  # type: ignore[misc]
    """PeakRDL's AXI4-Lite, with a register between what chooses a request and what decodes it: one path is long.

    A request comes out of that register only when it need not wait there: `shortened` takes waiting out of the decoder.
    """

    # Of a request, as the bus makes it and as the decoder has it.
    _REQUEST = ("req_is_wr", "addr", "wr_data", "wr_biten")

    def get_implementation(self) -> str:
        """PeakRDL's text for the bus, its requests under another name, and the register."""
        bus = re.sub(
            r"\bcpuif_(req(_is_wr|_stall_wr|_stall_rd)?|addr|wr_data|wr_biten)\b",
            r"bus_\1",
            super().get_implementation(),
        )
        loads = "\n".join(f"        cpuif_{name} <= bus_{name};" for name in self._REQUEST)
        return f"""// A request is taken when none is on its way to the decoder and nothing there can make it wait.
logic bus_req;
logic bus_req_is_wr;
logic [{self.addr_width - 1}:0] bus_addr;
logic [{self.data_width - 1}:0] bus_wr_data;
logic [{self.data_width - 1}:0] bus_wr_biten;
logic bus_req_stall_wr;
logic bus_req_stall_rd;
logic bus_taken;

assign bus_req_stall_wr = cpuif_req | external_pending | (cpuif_req_stall_sr != '0);
assign bus_req_stall_rd = bus_req_stall_wr;
assign bus_taken = bus_req & !bus_req_stall_wr;

always_ff @(posedge clk) begin
    if(~rst_n) begin
        cpuif_req <= '0;
    end else begin
        cpuif_req <= bus_taken;
    end
    if(bus_taken) begin
{loads}
    end
end

`ifndef SYNTHESIS
    // Nothing holds before the first reset.
    logic reset_seen;
    initial reset_seen = '0;
    always_ff @(posedge clk) begin
        if(~rst_n) reset_seen <= '1;
        if(rst_n && reset_seen) assert(!cpuif_req || !(cpuif_req_is_wr ? cpuif_req_stall_wr : cpuif_req_stall_rd))
            else $error("A request has to wait in the decoder");
        if(rst_n && reset_seen) assert(!(cpuif_rd_ack && cpuif_wr_ack))
            else $error("Two requests are answered at once");
    end
`endif

{bus}"""


# In the text that PeakRDL makes, each of which is there once.
_REPLACED = (
    (r"assign cpuif_req_masked = cpuif_req\s*& !\(!cpuif_req_is_wr[^;]*;", "assign cpuif_req_masked = cpuif_req;"),
    # The address stays until the next request.
    (
        r"(?s)    logic \[10:0\] pending_rd_addr;\n.*?assign rd_mux_addr = [^;]*;",
        "    assign rd_mux_addr = decoded_addr;",
    ),
    (
        r"    assign cpuif_wr_ack = ([^;]*);\n(.*\n)    assign cpuif_wr_err = decoded_err;",
        r"""\2    always_ff @(posedge clk) begin
        if(~rst_n) begin
            cpuif_wr_ack <= '0;
        end else begin
            cpuif_wr_ack <= \1;
        end
        cpuif_wr_err <= decoded_err;
    end""",
    ),
)


def shortened(block: str) -> str:
    """A register block with shorter paths, which `RegisteredAxi4Lite` allows for. Raises ValueError.

    The decoder makes no request wait, since none comes then; for the same reason nothing else is answered in the cycle
    behind a write, and the answer to that is in registers.
    """
    made = block
    for words, instead in _REPLACED:
        made, found = re.subn(words, instead, made)
        if found != 1:
            raise ValueError(f"the register block is not as it was: {words} is there {found} times")
    # These are declared behind the text for the bus.
    declared = "    logic external_pending;\n", "    logic [1:0] cpuif_req_stall_sr;\n"
    if any(made.count(line) != 1 for line in declared):
        raise ValueError("the register block is not as it was")
    for line in declared:
        made = made.replace(line, "")
    return made.replace("    logic cpuif_req_stall_rd;\n", "    logic cpuif_req_stall_rd;\n" + "".join(declared), 1)


def outputs() -> dict[Path, str]:
    """What each generated file should hold."""
    top = compiled()
    with tempfile.TemporaryDirectory() as folder:
        RegblockExporter().export(
            top,
            folder,
            cpuif_cls=RegisteredAxi4Lite,
            module_name=MODULE,
            package_name=f"{MODULE}_pkg",
            default_reset_activelow=True,
            # The map is large: two registers between it and the answer.
            retime_read_fanin=True,
            retime_read_response=True,
            err_if_bad_addr=True,
            err_if_bad_rw=True,
        )
        CHeaderExporter().export(top, str(Path(folder) / HEADER.name))
        made = {path.name: path.read_text() for path in Path(folder).iterdir()}
    made[f"{MODULE}.sv"] = shortened(made[f"{MODULE}.sv"])
    # Behind the includes, before the first register.
    begin, registers, rest = made[HEADER.name].partition("\n// reg - ")
    if not registers:
        raise ValueError("the C header is not as it was")
    return {
        **{RTL / name: made[name] for name in (f"{MODULE}.sv", f"{MODULE}_pkg.sv")},
        HEADER: begin + c_numbers(top) + registers + rest,
        PAGE: markdown(top),
        CLASSES: python(top),
    }


def main() -> int:
    """Write the files, or with --check only tell whether they are as they should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; tell what is stale")
    parser.add_argument("--html", type=Path, metavar="DIRECTORY", help="write only the documentation as HTML, there")
    arguments = parser.parse_args()
    if arguments.html:
        HTMLExporter().export(compiled(), str(arguments.html), home_url="")
        return 0
    stale = {path: text for path, text in outputs().items() if not path.exists() or path.read_text() != text}
    for path, text in stale.items():
        print(f"{path.name} is stale" if arguments.check else f"wrote {path.name}")
        if not arguments.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return 1 if arguments.check and stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
