"""What registers.py is made of: registers with named fields behind a bus of 32-bit words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, TypeVar


class RegisterBus(Protocol):
    """Where the registers are: a mapped device, or a simulation of it."""

    def read(self, address: int, /) -> int:
        """The word at a byte address."""
        ...

    def write(self, address: int, value: int, /) -> None:
        """Write the word at a byte address."""
        ...


@dataclass(frozen=True)
class Field:
    """Where a field is in its register, and which enumeration its numbers are of."""

    name: str
    low: int
    width: int
    kind: type[int] = int


class Fields:
    """The fields of a register. A subclass is a frozen dataclass with one attribute for each of ``LAYOUT``."""

    LAYOUT: ClassVar[tuple[Field, ...]]

    def pack(self) -> int:
        """The register's number. Raises ValueError for one that does not fit its field."""
        word = 0
        for field in self.LAYOUT:
            value = int(getattr(self, field.name))
            if not 0 <= value < 1 << field.width:
                raise ValueError(f"{field.name}: {value:#x} in {field.width} bits")
            word |= value << field.low
        return word


F = TypeVar("F", bound=Fields)


def unpacked(fields: type[F], word: int) -> F:
    """A register's number as its fields. Raises ValueError for a number that is not of its enumeration."""
    values: dict[str, Any] = {
        field.name: field.kind(word >> field.low & (1 << field.width) - 1) for field in fields.LAYOUT
    }
    return fields(**values)


@dataclass(frozen=True)
class Register(Generic[F]):
    """A register: its address, and what its fields are. It can be read or written only where a subclass says so."""

    bus: RegisterBus
    address: int
    fields: type[F]
    reset: int = 0


class Readable(Register[F]):
    """A register that can be read."""

    def read(self) -> F:
        """Its fields."""
        return unpacked(self.fields, self.bus.read(self.address))


class Writable(Register[F]):
    """A register that can be written."""

    def write(self, value: F) -> None:
        """Write all of its fields."""
        self.bus.write(self.address, value.pack())


class ReadWrite(Readable[F], Writable[F]):
    """Both."""


@dataclass(frozen=True)
class Number:
    """A number in one register or in several, the lowest bits first and read first."""

    bus: RegisterBus
    address: int
    width: int = 32
    reset: int = 0

    @property
    def addresses(self) -> range:
        """Of its words."""
        return range(self.address, self.address + (self.width + 31) // 32 * 4, 4)


class ReadableNumber(Number):
    """A number that can be read."""

    def read(self) -> int:
        """It."""
        return sum(self.bus.read(address) << 32 * i for i, address in enumerate(self.addresses))


class WritableNumber(Number):
    """A number that can be written."""

    def write(self, value: int) -> None:
        """Write it, the lowest bits first. Raises ValueError if it has too many."""
        if not 0 <= value < 1 << self.width:
            raise ValueError(f"{value:#x} in {self.width} bits")
        for i, address in enumerate(self.addresses):
            self.bus.write(address, value >> 32 * i & 0xFFFF_FFFF)


class ReadWriteNumber(ReadableNumber, WritableNumber):
    """Both."""
