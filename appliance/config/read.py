"""From text to values: TOML by ``tomllib``, then every key by the schema. All mistakes are collected."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from appliance.config import locate
from appliance.config.foreign import FOREIGN
from appliance.config.problem import ConfigError, Problem
from appliance.config.schema import ROOT
from appliance.config.tree import Key, Named, Node, Rows, Table
from appliance.config.values import NAME, Fault, shown
from appliance.reasons import Reason

KeyPath = locate.Path


class Report:
    """Collects problems of one file, each with its place."""

    def __init__(self, file: Path, locator: locate.Locator) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self._locator = locator

    def add(
        self,
        path: KeyPath,
        reason: Reason,
        what: str,
        cause: str,
        remedy: str,
        *,
        warning: bool = False,
        value: bool = False,
    ) -> None:
        """Note a problem of the key at ``path``, or with ``value`` of its value."""
        position = self._locator.value(path) if value else self._locator.key(path)
        self.problems.append(
            Problem(
                file=self.file,
                line=position.line if position else 0,
                column=position.column if position else 0,
                where=dotted(path),
                reason=reason,
                what=what,
                cause=cause,
                remedy=remedy,
                warning=warning,
            )
        )

    def line(self, path: KeyPath) -> int:
        """The line of a key, 0 if it is nowhere."""
        position = self._locator.key(path)
        return position.line if position else 0

    @property
    def failed(self) -> bool:
        """Whether there is an error among the problems."""
        return any(not p.warning for p in self.problems)

    def sorted(self) -> tuple[Problem, ...]:
        """The problems by line, errors of the whole file first."""
        return tuple(sorted(self.problems, key=lambda p: (p.line, p.column)))


@dataclass(slots=True)
class Section:
    """One table's values: parsed, defaults filled in. ``broken``: keys whose values are not to be relied on."""

    path: KeyPath
    values: dict[str, Any] = field(default_factory=dict)
    present: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)

    def good(self, *names: str) -> bool:
        """Whether none of the keys had a fault."""
        return not self.broken.intersection(names)

    def table(self, name: str) -> Section:
        """A table within."""
        section = self.values[name]
        assert isinstance(section, Section)
        return section

    def tables(self, name: str) -> dict[str, Section]:
        """The tables of ``[name.NAME]`` by name, or of ``[[name]]`` by index."""
        sections: dict[str, Section] = self.values[name]
        return sections

    def at(self, *names: str | int) -> KeyPath:
        """The path of a key within."""
        return (*self.path, *names)


def dotted(path: KeyPath) -> str:
    """A path as TOML writes keys; indices in brackets."""
    out = ""
    for part in path:
        if isinstance(part, int):
            out += f"[{part + 1}]"
        else:
            name = part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else shown(part)
            out += f".{name}" if out else name
    return out


def read(file: Path, data: bytes) -> tuple[Section, Report]:
    """Parse a file's bytes by the schema. Raises ConfigError where it is not TOML; other mistakes are in the report."""
    text = _decode(file, data)
    try:
        raw = tomllib.loads(text)
        report = Report(file, locate.Locator(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([_syntax_problem(file, text, str(error))]) from None
    except RecursionError:
        raise ConfigError([_syntax_problem(file, text, "brackets are nested too deeply")]) from None
    except ValueError as error:  # numbers of thousands of digits
        raise ConfigError([_syntax_problem(file, text, str(error))]) from None
    return _read_table(ROOT, raw, (), report), report


def _decode(file: Path, data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.count(b"\n") + 1
        problem = Problem(
            file=file,
            line=line,
            column=error.start - (before.rfind(b"\n") + 1) + 1,
            where="",
            reason=Reason.CONFIG_SYNTAX,
            what=f"byte {data[error.start]:#04x} is not UTF-8",
            cause="TOML files are in UTF-8 (TOML 1.0)",
            remedy="save the file as UTF-8",
        )
        raise ConfigError([problem]) from None


def _syntax_problem(file: Path, text: str, message: str) -> Problem:
    place = re.search(r" \(at line (\d+), column (\d+)\)$", message)
    if place:
        line, column = int(place[1]), int(place[2])
    else:
        lines = text.removesuffix("\n").split("\n")
        line, column = len(lines), len(lines[-1]) + 1
    what = re.sub(r" \(at .*\)$", "", message)
    cause, remedy = _syntax_hint(text, what, line, column, at_end=place is None and "at end" in message)
    return Problem(
        file=file,
        line=line,
        column=column,
        where="",
        reason=Reason.CONFIG_SYNTAX,
        what=what,
        cause=cause,
        remedy=remedy,
    )


def _syntax_hint(text: str, what: str, line: int, column: int, *, at_end: bool) -> tuple[str, str]:
    """Cause and remedy of what ``tomllib`` says."""
    lines = text.split("\n")
    here = lines[line - 1] if 0 < line <= len(lines) else ""
    if text.startswith("\ufeff"):
        return "the file starts with a byte order mark", "save it as UTF-8 without a byte order mark"
    if "twice" in what or "overwrite" in what or "Cannot mutate" in what or "already" in what:
        return "the same key or table is there twice", "put both into one place, or remove one of them"
    last = not "\n".join(lines[line:]).strip()
    if at_end or (last and column > len(here)):
        return (
            "the file ends in the middle of something: it may be cut short, or a quote or bracket is not closed",
            "close the quote or bracket, or restore the rest of the file",
        )
    if column > len(here):
        return "the line ends too early: a quote or bracket is not closed", "close it on the same line"
    rest = here[column - 1 :].strip() if _may_be_shown(here) else ""
    if "Invalid value" in what and re.match(r"[A-Za-z]", here[column - 1 :].strip()):
        word = rest.split("#")[0].split(",")[0].strip(" ]}")
        return "text stands in quotes in TOML", f'write "{word}" in quotes' if word else "write it in quotes"
    if re.match(r"[0-9]", here[:column].split("=")[-1].strip()):
        return (
            "a number with something behind it stands in quotes in TOML",
            'write such values as "30s" or "100GB", in quotes',
        )
    cause = f"TOML does not allow this here: {shown(rest)}" if rest else "TOML does not allow what stands there"
    return cause, "compare the line with the example in appliance/config/README.md"


def _may_be_shown(line: str) -> bool:
    """Whether a line that is not TOML can be quoted: only where it gives a known key that is no secret."""
    key = re.match(r"\s*(?:[A-Za-z0-9_-]+\.)*([a-z_]+)\s*=", line)
    return key is not None and key[1] in _SHOWN_KEYS and not re.search(r"psk|secret|pass", line, re.IGNORECASE)


def _harmless(node: Table) -> set[str]:
    """The names of all keys that are no secrets."""
    names = {name for name, child in node.keys.items() if isinstance(child, Key) and not child.secret}
    for child in node.keys.values():
        if not isinstance(child, Key):
            names |= _harmless(child if isinstance(child, Table) else child.table)
    return names


_SHOWN_KEYS = frozenset(_harmless(ROOT))


def _read_table(table: Table, raw: dict[str, Any], path: KeyPath, report: Report) -> Section:
    section = Section(path)
    for name in raw:
        if name not in table.keys:
            _unknown_key(table, path, name, report)
    for name, node in table.keys.items():
        here = (*path, name)
        if name in raw:
            section.present.add(name)
        try:
            section.values[name] = _read_node(node, raw.get(name), here, report, present=name in raw)
        except Fault as fault:
            section.broken.add(name)
            section.values[name] = _read_node(node, None, here, report, present=False, quiet=True)
            at = here if fault.index is None else (*here, fault.index)
            report.add(at, fault.reason, fault.what, fault.cause, fault.remedy, value=True)
        if name not in raw and isinstance(node, Key) and node.required and name != "schema":
            section.broken.add(name)
            report.add(
                here,
                Reason.CONFIG_MISSING_KEY,
                f"{name} is missing",
                f"it is needed: {node.help}",
                _example(name, node),
            )
    return section


def _read_node(node: Node, raw: Any, path: KeyPath, report: Report, *, present: bool, quiet: bool = False) -> Any:
    """The value of one key of a table, or its default. Raises Fault."""
    match node:
        case Key():
            if present:
                return node.type.parse(raw)
            return None if node.default is None else node.type.parse(node.default)
        case Table():
            if not present and node.required and not quiet:
                report.add(
                    path,
                    Reason.CONFIG_MISSING_KEY,
                    f"{path[-1]} is missing",
                    f"it is needed: {node.help}",
                    f'add {path[-1]} = {{ address = "…", id = "…", auth = "psk" }}',
                )
                present = quiet = True
                raw = None
            section = _read_table(node, _as_table(raw), path, _Silent(report) if quiet else report)
            if quiet:
                section.broken.update(node.keys)
            return section
        case Named():
            sections = {}
            for name, value in _as_table(raw, f"write [{dotted(path)}.NAME] and keys below it").items():
                if not NAME.fullmatch(name):
                    report.add(
                        (*path, name),
                        Reason.CONFIG_NAME,
                        f"{shown(name)} is not a name",
                        "names are of letters, digits, '.', '_' and '-', at most 64 of them",
                        "choose another name",
                    )
                try:
                    sections[name] = _read_table(node.table, _as_table(value), (*path, name), report)
                except Fault as fault:
                    report.add(
                        (*path, name),
                        fault.reason,
                        fault.what,
                        fault.cause,
                        f"write [{dotted(path)}.NAME] and keys below it",
                    )
            return sections
        case Rows():
            if raw is None:
                return {}
            if not isinstance(raw, list) or not all(isinstance(row, dict) for row in raw):
                name = dotted(path)
                raise Fault(
                    Reason.CONFIG_TYPE,
                    f"{name} is not an array of tables",
                    "there may be several",
                    f"write [[{name}]] above each one's keys",
                )
            return {str(i): _read_table(node.table, row, (*path, i), report) for i, row in enumerate(raw)}


class _Silent(Report):
    """Swallows problems, for filling a table with defaults after it was found at fault."""

    def __init__(self, report: Report) -> None:
        self.file = report.file
        self.problems = []
        self._locator = report._locator


def _as_table(raw: Any, remedy: str = "write { key = value, … }, or a [table] of its own") -> dict[str, Any]:
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        kind = "a list" if isinstance(raw, list) else "a single value"
        raise Fault(
            Reason.CONFIG_TYPE,
            f"this is {kind}, and a table is due",
            "it has keys of its own",
            remedy,
        )
    return raw


def _example(name: str, key: Key) -> str:
    return f"add {name}, {key.type.words}"


def _unknown_key(table: Table, path: KeyPath, name: str, report: Report) -> None:
    here = (*path, name)
    within = f"[{dotted(path)}]" if path else "the file's top"
    near = get_close_matches(name.lower().replace("-", "_"), table.keys, n=1, cutoff=0.6)
    elsewhere = _homes(ROOT, name, ())
    if name in FOREIGN:
        remedy = f"here it is {FOREIGN[name]}"
    elif elsewhere:
        remedy = f"move it to {' or '.join(elsewhere[:2])}, where it belongs"
    elif near:
        remedy = f"did you mean {near[0]!r}?"
    else:
        remedy = f"remove it; known are {', '.join(table.keys)}"
    report.add(
        here, Reason.CONFIG_UNKNOWN_KEY, f"there is no key {shown(name)[1:-1]!r}", f"{within} does not have it", remedy
    )


def _homes(node: Table, name: str, path: tuple[str, ...]) -> list[str]:
    """The tables that have a key of this name, as headers."""
    found = []
    if name in node.keys and path:
        found.append(f"[{'.'.join(path)}]")
    for key, child in node.keys.items():
        match child:
            case Table():
                found += _homes(child, name, (*path, key))
            case Named():
                found += _homes(child.table, name, (*path, key, "NAME"))
            case Rows():
                found += _homes(child.table, name, (*path, key))
            case Key():
                pass
    return found
