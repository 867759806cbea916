"""Aligned columns, with notes between the rows, and colours where a terminal shows them."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from enum import Enum

from appliance.console.units import clean


class Colour(Enum):
    """What a cell's colour says. The value is the terminal's code."""

    PLAIN = ""
    GOOD = "32"
    BUSY = "33"
    BAD = "31"
    FAINT = "2"


@dataclass(frozen=True, slots=True)
class Cell:
    """Text of one or more lines. ``right``: aligned to the right, as numbers are."""

    text: str
    colour: Colour = Colour.PLAIN
    right: bool = False


@dataclass(frozen=True, slots=True)
class Note:
    """Lines below a row, over the whole width: a label, and text that is wrapped behind it."""

    label: str
    text: str
    colour: Colour = Colour.PLAIN
    indent: int = 4


Row = list[Cell]


@dataclass(frozen=True, slots=True)
class Page:
    """How the output looks: its width in columns, and whether it has colours."""

    width: int
    colours: bool

    def paint(self, text: str, colour: Colour) -> str:
        """Text in a colour, if there are any."""
        if not self.colours or colour is Colour.PLAIN or not text:
            return text
        return f"\x1b[{colour.value}m{text}\x1b[0m"

    def note(self, note: Note) -> list[str]:
        """A note's lines."""
        head = f"{' ' * note.indent}{note.label}  " if note.label else " " * note.indent
        lines = textwrap.wrap(
            clean(note.text),
            max(self.width, len(head) + 30),
            initial_indent=head,
            subsequent_indent=" " * len(head),
            break_long_words=False,
            break_on_hyphens=False,
        )
        return [self.paint(line, note.colour) for line in lines]

    def table(self, head: list[str], rows: list[Row | Note], *, indent: int = 0) -> list[str]:
        """A table's lines. A column whose cells are aligned to the right has its head there too."""
        cells = [row for row in rows if not isinstance(row, Note)]
        right = [any(row[i].right for row in cells) for i in range(len(head))]
        grid: list[Row] = [[Cell(title, Colour.FAINT, right[i]) for i, title in enumerate(head)], *cells]
        split = [[clean_lines(cell.text) for cell in row] for row in grid]
        widths = [max(len(line) for row in split for line in row[i]) for i in range(len(head))]
        lines: list[str] = []
        position = 0
        for row in [grid[0], *rows]:
            if isinstance(row, Note):
                lines += self.note(row)
                continue
            texts = split[position]
            position += 1
            for depth in range(max(len(t) for t in texts)):
                parts = [
                    self._pad(texts[i][depth] if depth < len(texts[i]) else "", widths[i], cell)
                    for i, cell in enumerate(row)
                ]
                lines.append((" " * indent + "  ".join(parts)).rstrip())
        return lines

    def _pad(self, text: str, width: int, cell: Cell) -> str:
        blank = " " * (width - len(text))
        painted = self.paint(text, cell.colour)
        return blank + painted if cell.right else painted + blank


def clean_lines(text: str) -> list[str]:
    """A cell's lines, each without control characters."""
    return [clean(line) for line in text.split("\n")]
