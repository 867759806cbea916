"""The SAs of the kernel datapath: what was asked for, and what is known of it in the kernel."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from appliance.datapath.kernel.states import Device
from appliance.datapath.kernel.xfrm import State
from appliance.sa.association import Direction, SaKey, SecurityAssociation
from appliance.sa.datapath import Carried, Usage

GENERATIONS = 0xE5000000
"""Numbers of SAs and policies that are ours: 0xE5, a byte that each start chooses, and sixteen bits that count."""


@dataclass(slots=True, eq=False)
class Row:
    """One SA. ``traffic`` is what its ``reqid`` is for.

    ``gone``: the kernel has it no more, at the end of its lifetime or by nobody's order. ``priority`` is that of the
    policy which leads to it, as far as it is known.
    """

    sa: SecurityAssociation
    traffic: Hashable
    reqid: int
    state: State
    device: Device | None = None
    carried: Carried = field(default_factory=Carried)
    active: bool = False
    gone: bool = False
    used: bool = False
    priority: int | None = None
    usage: Usage = field(default_factory=Usage)

    @property
    def key(self) -> SaKey:
        """What identifies it."""
        return self.sa.key


class Sad:
    """All SAs by key, with those of a child together."""

    def __init__(self) -> None:
        self.rows: dict[SaKey, Row] = {}
        self._by_reqid: dict[int, list[Row]] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def get(self, key: SaKey) -> Row | None:
        """The SA of a key."""
        return self.rows.get(key)

    def add(self, row: Row) -> None:
        """Enter an SA."""
        self.rows[row.key] = row
        self._by_reqid.setdefault(row.sa.reqid, []).append(row)

    def remove(self, key: SaKey) -> Row | None:
        """Take an SA out."""
        row = self.rows.pop(key, None)
        if row is not None:
            family = self._by_reqid[row.sa.reqid]
            family.remove(row)
            if not family:
                del self._by_reqid[row.sa.reqid]
        return row

    def move(self, row: Row, sa: SecurityAssociation) -> None:
        """An SA has other endpoints, and with them another key."""
        del self.rows[row.key]
        row.sa = sa
        self.rows[row.key] = row

    def family(self, reqid: int) -> list[Row]:
        """Those that a policy leads to."""
        return list(self._by_reqid.get(reqid, ()))

    def rivals(self, row: Row) -> list[Row]:
        """Other outbound SAs for the same traffic."""
        return [
            other
            for other in self.family(row.sa.reqid)
            if other is not row
            and other.sa.direction is Direction.OUT
            and (other.sa.local_ts, other.sa.remote_ts) == (row.sa.local_ts, row.sa.remote_ts)
        ]


class Reqids:
    """The kernel's reqids: one for each traffic of each peer, shared by an SA and its successors.

    The peers of one child may be many (``remote.address = "%any"``), and none may send what is another's: the kernel
    compares the reqid of an SA with that of the policy that its packet meets. ``generation``: of this start.
    """

    def __init__(self, generation: int) -> None:
        self.generation = generation & 0xFF
        self._numbers: dict[Hashable, list[int]] = {}
        self._next = 0
        self._taken: set[int] = set()

    def take(self, what: Hashable) -> int:
        """The number for something, the same one until all who took it gave it back. Raises OverflowError."""
        entry = self._numbers.get(what)
        if entry is None:
            entry = self._numbers[what] = [self.fresh(), 0]
        entry[1] += 1
        return entry[0]

    def give(self, what: Hashable) -> None:
        """Give it back."""
        entry = self._numbers[what]
        entry[1] -= 1
        if not entry[1]:
            del self._numbers[what]
            self.free(entry[0])

    def fresh(self) -> int:
        """A number that nobody has, until it is freed: for an acquire. Raises OverflowError."""
        for _ in range(0xFFFF):
            self._next = self._next % 0xFFFF + 1
            number = GENERATIONS | self.generation << 16 | self._next
            if number not in self._taken:
                self._taken.add(number)
                return number
        raise OverflowError("65,535 children")

    def free(self, number: int) -> None:
        """A fresh one is needed no more."""
        self._taken.discard(number)


def generation_of(reqid: int) -> int | None:
    """Which start of Esplanade's a reqid is of; None for one of others."""
    return reqid >> 16 & 0xFF if reqid & 0xFF000000 == GENERATIONS else None


def traffic(sa: SecurityAssociation) -> Hashable:
    """What SAs share a reqid of the kernel's: a child's traffic with one peer, whichever the direction."""
    peer = sa.source if sa.direction is Direction.IN else sa.destination
    return sa.reqid, sa.local_ts, sa.remote_ts, peer
