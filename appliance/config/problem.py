"""What is wrong with a configuration: where, what, why, and what would be right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.reasons import Reason, Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One mistake, or with ``warning`` something that is applied but looks like one.

    ``line`` and ``column`` count from 1; 0 means the whole file. ``where`` is the key's path, such as
    ``connection.site-b.child.net.mode``. ``what`` is wrong, ``cause`` says why, ``remedy`` what would be right.
    """

    file: Path
    line: int
    column: int = 0
    where: str
    reason: Reason
    what: str
    cause: str
    remedy: str
    warning: bool = False

    @property
    def place(self) -> str:
        """``file:line:column``, as editors understand it."""
        place = str(self.file)
        if self.line:
            place += f":{self.line}"
            if self.column:
                place += f":{self.column}"
        return place

    def __str__(self) -> str:
        level = "warning" if self.warning else "error"
        where = f"{self.where}: " if self.where else ""
        return f"{self.place}: {level}: {where}{self.what}\n  cause: {self.cause}\n  remedy: {self.remedy}"


class ConfigError(Refusal):
    """The configuration was not taken. ``problems`` has all mistakes of the file by line, warnings included."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        errors = [p for p in problems if not p.warning]
        first = errors[0]
        if len(errors) == 1:
            super().__init__(first.reason, f"{first.place}: {first.what}", remedy=first.remedy)
        else:
            detail = f"{len(errors)} of them, the first at {first.place}: {first.what}"
            super().__init__(Reason.CONFIG_INVALID, detail)
        self.problems = tuple(problems)
