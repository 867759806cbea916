"""Where each key and value of a TOML document stands. ``tomllib`` reads values but does not tell their places.

The scanner walks text that ``tomllib`` has accepted, so it only has to know where things end: it decodes keys, and
skips values. Paths are keys, and indices for array elements and arrays of tables: ``("policy", 0, "name")``.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from contextlib import suppress
from dataclasses import dataclass

Path = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_QUOTED = re.compile(r'"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'')
# A multi-line string may end in up to five quotes: two of them are its own (TOML 1.0, "Multi-line basic strings").
_LONG_STRING = re.compile(r'"""(?:[^\\]|\\.)*?"""(?:"{0,2})|\'\'\'.*?\'\'\'(?:\'{0,2})', re.DOTALL)
_SCALAR = re.compile(r"[^,\]}\n#]+")


@dataclass(frozen=True, slots=True)
class Position:
    """Line and column, both from 1."""

    line: int
    column: int


class Locator:
    """The places of everything in one document."""

    def __init__(self, text: str) -> None:
        """``text`` must be valid TOML. Raises RecursionError for values nested too deeply."""
        text = text.replace("\r\n", "\n")
        self._lines = [0, *(match.end() for match in re.finditer("\n", text))]
        scanner = _Scanner(text)
        # Where it gets lost, what comes behind has no place; that is no reason to refuse a file.
        with suppress(_LostError, IndexError, tomllib.TOMLDecodeError):
            scanner.document()
        self._keys, self._values = scanner.keys, scanner.values

    def key(self, path: Path) -> Position | None:
        """Where a key, table header or array element is first named; of the nearest thing around it if it is absent."""
        return self._place(self._nearest(path, self._keys))

    def value(self, path: Path) -> Position | None:
        """Where a value starts; the key's place for tables, and of the nearest thing around it if it is absent."""
        offset = self._values.get(path)
        return self._place(self._nearest(path, self._keys) if offset is None else offset)

    def _nearest(self, path: Path, places: dict[Path, int]) -> int | None:
        for length in range(len(path), 0, -1):
            offset = places.get(path[:length])
            if offset is not None:
                return offset
        return None

    def _place(self, offset: int | None) -> Position | None:
        if offset is None:
            return None
        line = bisect_right(self._lines, offset)
        return Position(line, offset - self._lines[line - 1] + 1)


class _LostError(Exception):
    """The text is not what the scanner takes for TOML."""


class _Scanner:
    """One pass over the text; fills offsets of keys and values by path."""

    def __init__(self, text: str) -> None:
        self.keys: dict[Path, int] = {}
        self.values: dict[Path, int] = {}
        self._text = text
        self._at = 0
        self._tables: dict[Path, int] = {}  # arrays of tables, and how many there are so far

    def document(self) -> None:
        table: Path = ()
        self._skip(_BLANK)
        while self._at < len(self._text):
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)
            self._skip(_BLANK)

    def _header(self) -> Path:
        """``[a.b]`` or ``[[a.b]]``: the path of the table that follows."""
        array = self._text.startswith("[[", self._at)
        self._at += 2 if array else 1
        names = self._dotted()
        self._at += 2 if array else 1  # the closing brackets
        path: Path = ()
        for depth, (name, offset) in enumerate(names, 1):
            path = (*path, name)
            self.keys.setdefault(path, offset)
            if array and depth == len(names):
                self._tables[path] = self._tables.get(path, 0) + 1
            if path in self._tables:  # the last table of the array is meant
                path = (*path, self._tables[path] - 1)
                self.keys.setdefault(path, offset)
        return path

    def _pair(self, table: Path) -> None:
        """``a.b = value``."""
        path = table
        for name, offset in self._dotted():
            path = (*path, name)
            self.keys.setdefault(path, offset)
        self._skip(_BLANK)
        self._at += 1  # the "="
        self._skip(_BLANK)
        self._value(path)

    def _dotted(self) -> list[tuple[str, int]]:
        """Names joined by dots, with their offsets."""
        names = []
        while True:
            self._skip(_BLANK)
            offset = self._at
            if self._text[offset] in "\"'":
                quoted = self._skip(_QUOTED)
                names.append((str(tomllib.loads(f"key = {quoted}")["key"]), offset))
            else:
                names.append((self._skip(_BARE_KEY), offset))
            self._skip(_BLANK)
            if self._text[self._at] != ".":
                return names
            self._at += 1

    def _value(self, path: Path) -> None:
        self.values[path] = self._at
        first = self._text[self._at]
        if self._text.startswith(('"""', "'''"), self._at):
            self._skip(_LONG_STRING)
        elif first in "\"'":
            self._skip(_QUOTED)
        elif first == "[":
            self._array(path)
        elif first == "{":
            self._inline_table(path)
        else:
            self._skip(_SCALAR)

    def _array(self, path: Path) -> None:
        self._at += 1
        self._skip(_BLANK)
        index = 0
        while self._text[self._at] != "]":
            self.keys[*path, index] = self._at
            self._value((*path, index))
            index += 1
            self._comma()
        self._at += 1

    def _inline_table(self, path: Path) -> None:
        self._at += 1
        self._skip(_BLANK)
        while self._text[self._at] != "}":
            self._pair(path)
            self._comma()
        self._at += 1

    def _comma(self) -> None:
        self._skip(_BLANK)
        if self._text[self._at] == ",":
            self._at += 1
            self._skip(_BLANK)

    def _skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            raise _LostError
        self._at = match.end()
        return match.group()
