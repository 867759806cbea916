"""What the schema is made of: keys, tables, and tables that the user names or repeats."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from appliance.config.values import ValueType


class Effect(Enum):
    """When a changed value takes effect on what is running."""

    LIVE = "at once"
    REKEY = "at the next rekey"
    REESTABLISH = "at once: it is negotiated anew"
    RESTART = "when the daemon is started again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key. ``default`` is what TOML would have, None where it is absent or computed; ``default_words`` tells which.

    Secrets are never shown in messages or in the reference.
    """

    type: ValueType
    help: str
    effect: Effect
    default: Any = None
    default_words: str = ""
    required: bool = False
    secret: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table with known keys."""

    keys: dict[str, Key | Table | Named | Rows]
    help: str
    required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A table of tables that the user names: ``[connection.NAME]``."""

    table: Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """An array of tables: ``[[policy]]``."""

    table: Table


Node = Key | Table | Named | Rows
