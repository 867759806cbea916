"""Secrets in a configuration: values that are used and never shown."""

from __future__ import annotations

from hmac import compare_digest


class Secret:
    """A secret's bytes. Shown as ``Secret(…)`` by repr, str and every format; not copied into JSON or pickles."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        """The secret itself, for the code that authenticates with it."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"

    def __format__(self, specification: str) -> str:
        return "Secret(…)"

    def __eq__(self, other: object) -> bool:
        return compare_digest(self._value, other._value) if isinstance(other, Secret) else NotImplemented

    def __hash__(self) -> int:
        return hash(Secret)  # the same for all: a hash would tell something about the value

    def __reduce__(self) -> str:
        raise TypeError("secrets are not serialised")
