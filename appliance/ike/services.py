"""What the parts of the engine share: chance, SPIs, the table of IKE SAs, the output queue and the counters."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from appliance.ike.connection import ConnectionConfig, Endpoint, EngineConfig, RekeyPolicy
from appliance.ike.established import Established
from appliance.ike.events import Notice, Output
from appliance.reasons import Reason
from appliance.sa.selector import Address

if TYPE_CHECKING:
    from appliance.ike.ike_sa import IkeSa

MAX_QUEUED_NOTICES = 1000
"""Notices beyond this many unread outputs are dropped and counted: nobody floods the log's memory."""

MAX_DEAD = 1024
"""Dead IKE SAs that are kept to repeat their last responses; anybody can make more, the oldest goes then."""

MAX_ADDRESS_PAIRS = 1024
"""Pairs of addresses whose connections are remembered; anybody can make up more."""

STRANGER_INTERVAL = 1.0
"""Seconds between two notices about strangers."""


@dataclass(slots=True)
class Services:
    """One of these for each engine. No module state anywhere."""

    config: EngineConfig
    random: Callable[[int], bytes]
    allocate_spi: Callable[[], int]
    release_spi: Callable[[int], None]
    wall_clock: Callable[[float], datetime]
    outputs: deque[Output] = field(default_factory=deque)
    counters: Counter[str] = field(default_factory=Counter)
    connections: tuple[ConnectionConfig, ...] = ()
    connection_by_name: dict[str, ConnectionConfig] = field(default_factory=dict)
    _candidates: dict[tuple[Address, Address], tuple[ConnectionConfig, ...]] = field(default_factory=dict)
    ike_sas: dict[int, IkeSa] = field(default_factory=dict)
    by_spi: dict[bytes, IkeSa] = field(default_factory=dict)
    established: Established = field(default_factory=Established)
    dead: dict[int, IkeSa] = field(default_factory=dict)
    owners: dict[int, IkeSa] = field(default_factory=dict)
    """Which IKE SA a Child SA is in, by the child's number."""
    touched: set[int] = field(default_factory=set)
    next_stranger_notices: dict[Reason, float] = field(default_factory=dict)
    last_ike_id: int = 0
    last_child_id: int = 0

    def emit(self, output: Output) -> None:
        """Queue an output, in order."""
        self.outputs.append(output)

    def notice(self, level: str, text: str, sa: IkeSa | None = None, reason: Reason | None = None) -> None:
        """Queue a line for the log."""
        if len(self.outputs) >= MAX_QUEUED_NOTICES:
            self.counters["notices-dropped"] += 1
            return
        connection = sa.connection_name if sa is not None else None
        self.emit(Notice(level, text, connection, sa.ike_id if sa is not None else None, reason))

    def notice_stranger(
        self, text: str | Callable[[], str], reason: Reason, now: float, sa: IkeSa | None = None
    ) -> None:
        """Queue a line about somebody who did not authenticate: seldom for each reason, since anybody can cause them.

        A text that is work to make is made when it is wanted.
        """
        if now < self.next_stranger_notices.get(reason, 0.0):
            self.counters["notices-suppressed"] += 1
            return
        self.next_stranger_notices[reason] = now + STRANGER_INTERVAL
        self.notice("warning", text if isinstance(text, str) else text(), sa, reason)

    def count(self, reason: Reason) -> None:
        """Count a refusal or a drop by its reason."""
        self.counters[reason.name] += 1

    def new_ike_id(self) -> int:
        """The next number for an IKE SA."""
        self.last_ike_id += 1
        return self.last_ike_id

    def new_child_id(self) -> int:
        """The next number for a Child SA."""
        self.last_child_id += 1
        return self.last_child_id

    def new_ike_spi(self) -> bytes:
        """8 bytes, never zero, not in use (RFC 7296 §3.1)."""
        while True:
            spi = self.random(8)
            if spi != bytes(8) and spi not in self.by_spi:
                return spi

    def uniform(self, limit: float) -> float:
        """A number from 0 to ``limit`` by chance."""
        return int.from_bytes(self.random(4), "big") / 0xFFFFFFFF * limit

    def rekey_time(self, policy: RekeyPolicy, now: float) -> float:
        """When to rekey something that is made now: never in its first tenth, whatever margin and jitter say."""
        return now + max(policy.seconds - policy.margin - self.uniform(policy.jitter), policy.seconds / 10)

    def register(self, sa: IkeSa) -> None:
        """Enter an IKE SA into the tables."""
        self.ike_sas[sa.ike_id] = sa
        self.by_spi[sa.own_spi] = sa
        self.touched.add(sa.ike_id)

    def bury(self, sa: IkeSa) -> None:
        """Note that an IKE SA is dead. The oldest of too many is forgotten."""
        if sa.ike_id in self.ike_sas:
            self.dead[sa.ike_id] = sa
        if len(self.dead) > MAX_DEAD:
            oldest = next(iter(self.dead.values()))
            self.touched.add(oldest.ike_id)
            self.forget(oldest)

    def forget(self, sa: IkeSa) -> None:
        """Take an IKE SA out of the tables."""
        self.ike_sas.pop(sa.ike_id, None)
        self.dead.pop(sa.ike_id, None)
        if self.by_spi.get(sa.own_spi) is sa:
            del self.by_spi[sa.own_spi]

    def set_connections(self, connections: Iterable[ConnectionConfig]) -> None:
        """What a peer may start, by its addresses and by name."""
        self.connections = tuple(connections)
        self.connection_by_name = {connection.name: connection for connection in self.connections}
        self._candidates.clear()

    def candidates(self, local: Endpoint, remote: Endpoint) -> tuple[ConnectionConfig, ...]:
        """Connections for a pair of addresses, those with named addresses before those for any."""
        key = local.address, remote.address
        known = self._candidates.get(key)
        if known is None:
            if len(self._candidates) >= MAX_ADDRESS_PAIRS:
                self._candidates.clear()
            known = self._candidates[key] = self._look_up(local, remote)
        return known

    def _look_up(self, local: Endpoint, remote: Endpoint) -> tuple[ConnectionConfig, ...]:
        found = [
            connection
            for connection in self.connections
            if (not connection.local_addresses or local.address in connection.local_addresses)
            and (not connection.remote_addresses or remote.address in connection.remote_addresses)
        ]
        found.sort(key=lambda c: (not c.remote_addresses, not c.local_addresses))
        return tuple(found)
