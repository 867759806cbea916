"""Generate reason.py, README.md and the RTL's reason_pkg.sv and reasons.rdl from reasons.toml.

Run as ``python -m appliance.reasons.generate [--check]``.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
HW = HERE.parents[1] / "hw"
RTL = HW / "rtl" / "esp" / "reason_pkg.sv"
RDL = HW / "regs" / "reasons.rdl"
KINDS = ("drop", "refusal", "failure")
FIELDS = {"code", "kind", "words", "remedy"}


def load() -> dict[str, dict[str, str | int]]:
    """Read and check the list. Raises ValueError that names the entry at fault."""
    entries: dict[str, dict[str, str | int]] = tomllib.loads((HERE / "reasons.toml").read_text())
    seen: dict[int, str] = {}
    for name, entry in entries.items():
        if set(entry) != FIELDS:
            raise ValueError(f"{name}: has {sorted(entry)}, should have {sorted(FIELDS)}")
        if entry["kind"] not in KINDS:
            raise ValueError(f"{name}: kind {entry['kind']!r} is not one of {KINDS}")
        code = int(entry["code"])
        if code in seen:
            raise ValueError(f"{name}: code {code} is {seen[code]}'s")
        if (entry["kind"] == "drop") != (code < 128):
            raise ValueError(f"{name}: codes 1 to 127 are drops, and drops only")
        seen[code] = name
    return dict(sorted(entries.items(), key=lambda item: int(item[1]["code"])))


def python(entries: dict[str, dict[str, str | int]]) -> str:
    """The enumeration as a module."""
    lines = [
        '"""Generated from reasons.toml by ``python -m appliance.reasons.generate``. Do not edit."""',
        "",
        "from __future__ import annotations",
        "",
        "from enum import Enum",
        "",
        "",
        "class Reason(Enum):",
        '    """Why a packet was dropped, a request refused, or something failed. The value is the code."""',
        "",
        *(f"    {name} = {entry['code']}" for name, entry in entries.items()),
        "",
        "    @property",
        "    def kind(self) -> str:",
        '        """One of drop, refusal, failure."""',
        "        return _TEXT[self.value][0]",
        "",
        "    @property",
        "    def words(self) -> str:",
        '        """What happened, for a person."""',
        "        return _TEXT[self.value][1]",
        "",
        "    @property",
        "    def remedy(self) -> str:",
        '        """What that person can do."""',
        "        return _TEXT[self.value][2]",
        "",
        "",
        "_TEXT: dict[int, tuple[str, str, str]] = {",
    ]
    for entry in entries.values():
        lines.append(f"    {entry['code']}: (")
        lines += [f"        {_quote(str(entry[field]))}," for field in ("kind", "words", "remedy")]
        lines.append("    ),")
    return "\n".join([*lines, "}", ""])


def _quote(text: str) -> str:
    if '"' in text and "'" not in text:
        return repr(text)  # as the formatter would have it
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def readme(entries: dict[str, dict[str, str | int]]) -> str:
    """The list as a page."""
    lines = [
        "# Reasons",
        "",
        "Every reason for a drop, a refusal or a failure, in one list: `reasons.toml`. Exceptions, logs, the console,",
        "counters and the hardware's drop codes use it. `reason.py`, this page, `hw/rtl/esp/reason_pkg.sv` and",
        "`hw/regs/reasons.rdl` are generated from it by `python -m appliance.reasons.generate`; a test fails when they",
        "are stale.",
        "",
        "| code | name | kind | what happened | what to do |",
        "|---|---|---|---|---|",
    ]
    for name, entry in entries.items():
        cells = (str(entry[field]).replace("|", "\\|") for field in ("code", "kind", "words", "remedy"))
        code, kind, words, remedy = cells
        lines.append(f"| {code} | `{name}` | {kind} | {words} | {remedy} |")
    return "\n".join([*lines, ""])


def systemverilog(entries: dict[str, dict[str, str | int]]) -> str:
    """The drops as an enumeration for the RTL. Zero is no reason, so that a register of zeros says nothing."""
    lines = [
        "// Why the engine drops a packet: the one list's codes 1 to 127.",
        "//",
        "// Generated from appliance/reasons/reasons.toml by `python -m appliance.reasons.generate`. Do not edit.",
        "",
        "package reason_pkg;",
        "",
        "  typedef enum logic [6:0] {",
    ]
    drops = {name: entry for name, entry in entries.items() if entry["kind"] == "drop"}
    for name, entry in drops.items():
        comma = "" if name == list(drops)[-1] else ","
        lines.append(f"    // {entry['words']}")
        lines.append(f"    Reason{name.title().replace('_', '')} = 7'd{entry['code']}{comma}")
    return "\n".join([*lines, "  } reason_e;", "", "endpackage", ""])


def systemrdl(entries: dict[str, dict[str, str | int]]) -> str:
    """The drops as an enumeration for the registers of the hardware."""
    lines = [
        "// Why the engine drops a packet: the one list's codes 1 to 127.",
        "//",
        "// Generated from appliance/reasons/reasons.toml by `python -m appliance.reasons.generate`. Do not edit.",
        "",
        "enum reason_e {",
    ]
    for name, entry in entries.items():
        if entry["kind"] == "drop":
            words = str(entry["words"]).replace('"', '\\"')
            lines.append(f'  {name} = 7\'d{entry["code"]} {{ desc = "{words}"; }};')
    return "\n".join([*lines, "};", ""])


def outputs() -> dict[Path, str]:
    """What each generated file should hold."""
    entries = load()
    return {
        HERE / "reason.py": python(entries),
        HERE / "README.md": readme(entries),
        RTL: systemverilog(entries),
        RDL: systemrdl(entries),
    }


def main() -> int:
    """Write the files, or with --check only tell whether they are as they should be."""
    check = "--check" in sys.argv[1:]
    stale = [path for path, text in outputs().items() if not path.exists() or path.read_text() != text]
    for path in stale:
        print(f"{path.name} is stale" if check else f"wrote {path.name}")
        if not check:
            path.write_text(outputs()[path])
    return 1 if check and stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
