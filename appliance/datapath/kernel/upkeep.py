"""The kernel held against what it should have, and what follows from what it says by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from appliance.datapath.kernel import states
from appliance.datapath.kernel.core import Core
from appliance.datapath.kernel.counters import read_usage
from appliance.datapath.kernel.enforcement import Enforcement
from appliance.datapath.kernel.link_events import LinkChange
from appliance.datapath.kernel.requester import refusal_of
from appliance.datapath.kernel.sad import Row, generation_of
from appliance.datapath.kernel.surroundings import Surroundings
from appliance.datapath.kernel.xfrm import Policy, State, StateId, requests
from appliance.reasons import Reason
from appliance.sa.association import Direction, SecurityPolicy
from appliance.sa.datapath import Changed, DatapathEvent, DatapathRefusal, Expired, ExpiryKind, InboundUsed, Vanished

_T = TypeVar("_T")

FIRST_LOOKS = 0.1, 30.0
"""Seconds between looks for the first packet on an SA: as long as it is old, within these."""
SOON = 0.05
"""Seconds: what several events are about is looked at once."""
REST = 4.0
"""So many times as long as a look took, events lead to no other: another program may change much, and often."""


class Upkeep:
    """What Hearing tells of (a Listener), and ``audit``."""

    def __init__(self, core: Core, enforcement: Enforcement, surroundings: Surroundings) -> None:
        self._core = core
        self._enforcement = enforcement
        self._surroundings = surroundings
        self._due: asyncio.TimerHandle | None = None
        self._rested_at = 0.0
        self._looking = 0
        self._again = False
        self._told: set[str] = set()

    # What the kernel says

    def acquired(self, policy: Policy, event: Callable[[SecurityPolicy], DatapathEvent]) -> None:
        """A packet met a policy that has no SA. The next one is told of after a while: the kernel holds its peace."""
        core, wanted = self._core, self._enforcement.wanting(policy)
        # It tells once of each family and, in transport mode, of each host: to ask anew for each would be answered by
        # all of them.
        if wanted is None or wanted.name in self._told:
            return
        self._told.add(wanted.name)
        core.tell(event(wanted))

        async def again() -> None:
            self._told.discard(wanted.name)
            async with core.lock:
                if self._enforcement.ask_again(wanted.name):
                    await self._enforcement.apply()

        core.tasks.later(core.options.acquire_again, again)

    def expired(self, row: Row, state: State, *, hard: bool) -> None:
        """A limit was reached; after a hard one the kernel has the SA no more."""
        kind = states.reached(row.sa, state, hard=hard)
        row.usage = states.usage_of(state, row.sa.direction)
        if hard:
            self._lost(row)
            kind = ExpiryKind.TIME if kind is ExpiryKind.SEQUENCE else kind
        self._core.tell(Expired(row.key, kind, hard))

    def vanished(self, row: Row, detail: str) -> None:
        """The kernel has an SA no more, and nobody here removed it."""
        if not row.gone:
            self._lost(row)
            self._core.tell(Vanished(row.key, detail))

    def changed_from_outside(self) -> None:
        """Another program touched SAs or policies, or what it did was lost: look at everything soon."""
        self.look_soon()

    def tell(self, event: DatapathEvent) -> None:
        """An event of the contract."""
        self._core.tell(event)

    def failed(self, error: OSError) -> None:
        """The kernel does not speak to us any more."""
        self._core.failed(error)

    def link_changed(self, change: LinkChange | None) -> None:
        """The kernel drops the SAs of a device that goes, or goes down, without a word."""
        if change is None or self._surroundings.tunnels.concerns(change):
            self.look_soon()
        elif not change.up or change.gone:
            devices = {row.device.index for row in self._core.sad.rows.values() if row.device is not None}
            if change.index in devices or change.name == self._core.options.device:
                self.look_soon()

    def _lost(self, row: Row) -> None:
        row.gone = True
        self._enforcement.claim(row)
        self._enforcement.release_ike([row])
        self._core.tasks.start(self._put_right)

    async def _put_right(self) -> None:
        async with self._core.lock:
            await self._enforcement.apply()

    # What it does not say

    def watch_first_use(self, rows: Sequence[Row]) -> None:
        """Tell of the first packet on each inbound SA of these."""
        begun = time.monotonic()
        fresh = [row for row in rows if row.sa.direction is Direction.IN]

        async def look() -> None:
            waiting = [row for row in fresh if not row.used and not row.gone and self._core.sad.get(row.key) is row]
            if not waiting:
                return
            await read_usage(self._core.asked, waiting)
            for row in waiting:
                if row.usage.packets and not row.used:
                    row.used = True
                    self._core.tell(InboundUsed(row.key))
            wait()

        def wait() -> None:
            seconds = min(max(FIRST_LOOKS[0], (time.monotonic() - begun) / 5), FIRST_LOOKS[1])
            self._core.tasks.later(seconds, look)

        if fresh:
            wait()

    def look_soon(self) -> None:
        """Look at everything soon: something may not be as it should be."""
        if self._looking:
            self._again = True  # it may have looked there already
        elif self._due is None and not self._core.tasks.ended:
            self._due = self._core.tasks.later(max(SOON, self._rested_at - time.monotonic()), self.audit)

    async def audit(self) -> None:
        """Hold what the kernel has against what it should have, and put it right: ``ip xfrm`` by hand, lost events.

        What is refused keeps nothing else from being put right. Raises DatapathRefusal, the first.
        """
        self._due = None
        self._looking += 1
        try:
            await self._audit()
        finally:
            self._looking -= 1
            if self._again and not self._looking:
                self._again = False
                self.look_soon()

    async def _audit(self) -> None:
        core, enforcement = self._core, self._enforcement
        refused: list[DatapathRefusal] = []
        async with core.lock:
            begun, self._rested_at = time.monotonic(), 0.0
            asked = core.asked
            try:
                there = await asked.states()
                policies = core.spd.concerned(await asked.policies())
            except OSError as error:
                raise refusal_of(error, "looking at what there is") from error
            rows = {states.id_of(row.key): row for row in core.sad.rows.values()}
            missing = {one: row for one, row in rows.items() if not row.gone}
            strange = []
            for state in there:
                one = StateId(state.destination, state.spi, state.protocol)
                row = missing.pop(one, None)
                if row is not None:
                    row.usage = states.usage_of(state, row.sa.direction)
                elif generation_of(state.reqid) == core.reqids.generation and state.spi:
                    strange.append(state)
            for row in missing.values():
                self.vanished(row, "it was removed from outside, or with its network device")
            if strange:
                await asked.batch([requests.delete_state(StateId.of(state)) for state in strange])
            words = core.spd.found(policies) if enforcement.ready else []
            await _try(enforcement.apply(look=False), refused)
            words += await _try(self._surroundings.keep_interfaces(), refused) or []
            await _try(enforcement.apply(look=False), refused)
            if enforcement.ready:
                words += await _try(self._surroundings.steer(look=True), refused) or []
            ended = time.monotonic()
            self._rested_at = ended + REST * (ended - begun)
        words += [f"an SA of SPI {state.spi:#010x} was added" for state in strange if _added(state, rows)]
        if words:
            core.counted["changed_from_outside"] = core.counted.get("changed_from_outside", 0) + len(words)
            more = f", and {len(words) - 3} more" if len(words) > 3 else ""
            core.tell(Changed(Reason.CHANGED_FROM_OUTSIDE, "; ".join(words[:3]) + more))
        if refused:
            raise refused[0]


async def _try(work: Awaitable[_T], refused: list[DatapathRefusal]) -> _T | None:
    try:
        return await work
    except DatapathRefusal as refusal:
        refused.append(refusal)
        return None


def _added(state: State, rows: Mapping[StateId, Row]) -> bool:
    """Whether somebody added it. One of ours may just have ended, and the kernel keeps one without keys for a packet
    that met a policy when its SA was gone."""
    keyless = state.aead is None and state.crypt is None and state.auth is None
    return not keyless and StateId(state.destination, state.spi, state.protocol) not in rows
