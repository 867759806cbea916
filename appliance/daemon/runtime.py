"""What the daemon knows of each connection while it runs: the actual side of what the configuration wants."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from appliance.config.model import Start
from appliance.daemon.desired import WantedChild, WantedConnection
from appliance.reasons import Reason, Refusal
from appliance.sa.selector import Address


@dataclass(frozen=True, slots=True)
class Why:
    """Why something is down. ``since`` is Unix time."""

    reason: Reason
    detail: str
    since: float
    remedy: str | None = None

    def refusal(self) -> Refusal:
        """The same as an exception."""
        return Refusal(self.reason, self.detail, remedy=self.remedy)


@dataclass(slots=True, eq=False)
class Retry:
    """Tries of one thing: failures in a row, and when it is tried next (event loop's clock)."""

    attempts: int = 0
    due: float | None = None
    timer: asyncio.TimerHandle | None = None

    def cancel(self) -> None:
        """No next try."""
        if self.timer is not None:
            self.timer.cancel()
        self.timer = None
        self.due = None

    def reset(self) -> None:
        """It worked, or somebody wants it tried at once."""
        self.cancel()
        self.attempts = 0


@dataclass(slots=True, eq=False)
class IkeRecord:
    """An IKE SA of a connection, up or coming up. ``pending``: children asked for in it that have no answer yet."""

    ike_id: int
    initiator: bool
    up: bool = False
    closing: bool = False
    superseded: bool = False
    peer: str = ""
    suite: str = ""
    remote: Address | None = None
    pending: set[str] = field(default_factory=set)

    @property
    def usable(self) -> bool:
        """Whether children can be made in it."""
        return self.up and not self.closing and not self.superseded


@dataclass(slots=True, eq=False)
class ChildRuntime:
    """A child. ``negotiated`` has the ids of its SA pairs, ``installed`` those that a datapath carries.

    ``held``: the operator terminated it. ``closed``: the peer deleted it, and close_action says to leave it.
    ``demanded``: a packet or an operator wants it. ``failures`` and ``rekeys`` only grow, for those who wait.
    """

    wanted: WantedChild
    negotiated: set[int] = field(default_factory=set)
    installed: set[int] = field(default_factory=set)
    why: Why | None = None
    retry: Retry = field(default_factory=Retry)
    held: bool = False
    closed: bool = False
    demanded: bool = False
    failures: int = 0
    rekeys: int = 0

    @property
    def name(self) -> str:
        """Its name within its connection."""
        return self.wanted.name

    @property
    def wanted_up(self) -> bool:
        """Whether it should be up now."""
        if self.held:
            return False
        return self.demanded or (self.wanted.start is Start.INITIATE and not self.closed)


@dataclass(slots=True, eq=False)
class ConnectionRuntime:
    """A connection. ``held``: the operator terminated it. ``failures`` only grows, for those who wait."""

    wanted: WantedConnection
    children: dict[str, ChildRuntime]
    ikes: dict[int, IkeRecord] = field(default_factory=dict)
    why: Why | None = None
    retry: Retry = field(default_factory=Retry)
    held: bool = False
    demanded: bool = False
    failures: int = 0
    rekeys: int = 0
    watchers: set[Callable[[], None]] = field(default_factory=set)

    @property
    def name(self) -> str:
        """Its name."""
        return self.wanted.name

    @property
    def established(self) -> IkeRecord | None:
        """The newest IKE SA that is up and stays."""
        return max((r for r in self.ikes.values() if r.usable), key=lambda r: r.ike_id, default=None)

    @property
    def connecting(self) -> IkeRecord | None:
        """The newest attempt of ours."""
        return max((r for r in self.ikes.values() if not r.up and not r.closing), key=lambda r: r.ike_id, default=None)

    @property
    def wanted_up(self) -> bool:
        """Whether an IKE SA should be there now, by our doing."""
        if self.held:
            return False
        if self.demanded or any(child.wanted_up for child in self.children.values()):
            return True
        return self.wanted.start is Start.INITIATE and not self.children

    def missing(self) -> list[ChildRuntime]:
        """Children that should be up and are neither negotiated nor being negotiated, and not waiting for a retry."""
        pending = {name for record in self.ikes.values() if not record.closing for name in record.pending}
        return [
            child
            for child in self.children.values()
            if child.wanted_up and not child.negotiated and child.name not in pending and child.retry.due is None
        ]

    def changed(self) -> None:
        """Tell those who wait."""
        for watcher in tuple(self.watchers):
            watcher()


def runtime_of(wanted: WantedConnection) -> ConnectionRuntime:
    """A connection that has just been configured."""
    return ConnectionRuntime(wanted, {child.name: ChildRuntime(child) for child in wanted.children})
