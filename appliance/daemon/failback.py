"""Children that run in a worse datapath than they could: rekeyed back, once the better one has proven itself."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from appliance.daemon.candidates import Candidates
from appliance.daemon.failover import Failover
from appliance.daemon.ikeloop import IkeLoop
from appliance.daemon.installer import InstalledChild, Installer
from appliance.daemon.log import Log
from appliance.daemon.slot import LONGEST_WAIT, Slot
from appliance.reasons import Reason

TICK = 1.0
RETURNS_PER_TICK = 4
"""Rekeys that are started in one tick: a thousand children go back in some minutes, not all at once."""
ASKED = 60.0
"""Seconds until a child whose rekey did not come about is asked again."""


@dataclass(slots=True)
class Hold:
    """A child that stays where it is until ``until``; the next time is longer."""

    delay: float
    until: float


class Failback:
    """``return_after``: seconds for which a datapath has to run without failing; None leaves it to natural rekeys."""

    def __init__(
        self,
        log: Log,
        ike: IkeLoop,
        installer: Installer,
        candidates: Candidates,
        failover: Failover,
        return_after: float | None,
    ) -> None:
        self.return_after = return_after
        self.counters = {"children_returned": 0}
        self._log = log
        self._ike = ike
        self._installer = installer
        self._candidates = candidates
        self._failover = failover
        self._loop = asyncio.get_running_loop()
        self._holds: dict[int, Hold] = {}

    def installed(self, child: InstalledChild) -> None:
        """A datapath took a child. Better ones that run were asked and refused: the next try is later and later."""
        reqid = child.outbound.reqid
        if child.datapath is None or not self._candidates.better(child.outbound, child.datapath):
            self._holds.pop(reqid, None)
            return
        first = self.return_after or ASKED
        hold = self._holds.get(reqid)
        delay = first if hold is None else min(LONGEST_WAIT, hold.delay * 2)
        self._holds[reqid] = Hold(delay, self._loop.time() + delay)

    def returns_in(self, child: InstalledChild) -> float | None:
        """Seconds until a child is rekeyed to a better datapath, if that goes on to run. None: there is none."""
        due = self._due(child)
        return None if due is None else max(0.0, due[0] - self._loop.time())

    def steady_in(self, slot: Slot) -> float | None:
        """Seconds until children may return to a datapath that failed. None: it is down, or nothing holds it back."""
        if self.return_after is None or not slot.standing.failures:
            return None
        at = slot.standing.steady_at(self.return_after)
        left = None if at is None else at - self._loop.time()
        return left if left is not None and left > 0 else None

    async def run(self) -> None:
        """Look every second, for ever."""
        while True:
            await asyncio.sleep(TICK)
            try:
                self.look()
            except Exception as error:
                self._log.internal("daemon", "returning children", error)

    def look(self) -> None:
        """Start the rekeys that are due, a few at once."""
        if self.return_after is None:
            return
        now, started = self._loop.time(), 0
        for child in self._installer.children():
            due = self._due(child)
            if due is None or now < due[0] or not child.active:
                continue
            self._return(child, due[1])
            started += 1
            if started == RETURNS_PER_TICK:
                return

    def _due(self, child: InstalledChild) -> tuple[float, Slot] | None:
        """When a child goes back, and where to."""
        if (
            self.return_after is None
            or child.datapath is None
            or child.leaving
            or child.broken
            or self._failover.waits(child)
        ):
            return None
        reqid = child.outbound.reqid
        hold = self._holds.get(reqid)
        found: list[tuple[float, Slot]] = []
        for slot in self._candidates.better(child.outbound, child.datapath):
            steady = slot.standing.steady_at(self.return_after)
            if steady is not None and self._candidates.avoids(slot, reqid) is None:
                found.append((steady if hold is None else max(steady, hold.until), slot))
        return min(found, key=lambda due: due[0], default=None)

    def _return(self, child: InstalledChild, slot: Slot) -> None:
        reqid, now = child.outbound.reqid, self._loop.time()
        hold = self._holds.setdefault(reqid, Hold((self.return_after or ASKED) / 2, now))
        hold.until = now + max(ASKED, hold.delay)
        self.counters["children_returned"] += 1
        here = child.datapath.name if child.datapath is not None else "nowhere"
        self._log.add(
            "info", "daemon", "better-datapath", f"rekeyed, to run on {slot.name} again instead of {here}",
            connection=child.connection, child=child.child, reason=Reason.BETTER_DATAPATH,
        )  # fmt: skip
        engine = self._ike.engine
        self._ike.command("returning a child", lambda: engine.rekey_child(child.child_id, now), child.connection)
