"""Children whose SAs are of no use any more: replaced by a rekey, or deleted at the peer if none comes of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from appliance.daemon.candidates import Candidates
from appliance.daemon.ikeloop import IkeLoop
from appliance.daemon.installer import InstalledChild, Installer
from appliance.daemon.log import Log
from appliance.daemon.reconcile import Reconciler
from appliance.ike.events import ChildDown, ChildFailed, Event
from appliance.reasons import Reason, Refusal

ASK_AGAIN = 5.0
"""Seconds between requests: the peer may have been busy, or the IKE SA was being rekeyed."""
GIVE_UP = 30.0
"""Seconds after which a child without a successor is deleted, and negotiated anew if it is wanted. They count anew with
each other child of its IKE SA that was replaced: the peer may take one request at a time."""
STAGGER = 0.002
"""Seconds between the rekeys of many children, so that others are heard in between."""


@dataclass(slots=True, eq=False)
class Waiting:
    """A child that waits for its successor."""

    child: InstalledChild
    refusal: Refusal
    deadline: float
    timer: asyncio.TimerHandle | None = None


class Failover:
    """Replaces children. One exchange is enough for that, and the IKE SA stays."""

    def __init__(
        self, log: Log, ike: IkeLoop, installer: Installer, candidates: Candidates, reconciler: Reconciler
    ) -> None:
        self.counters = {"children_replaced": 0, "replacements_failed": 0}
        self._log = log
        self._ike = ike
        self._installer = installer
        self._candidates = candidates
        self._reconciler = reconciler
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[int, Waiting] = {}
        self._progress: dict[int, float] = {}
        self._next = 0.0

    def waits(self, child: InstalledChild) -> bool:
        """Whether a child is being replaced."""
        return child.child_id in self._waiting

    def replace(self, child: InstalledChild, refusal: Refusal) -> None:
        """Have new SAs in place of a child's, in whatever datapath takes them; delete it if none could."""
        if child.child_id in self._waiting or child.leaving:
            return
        child.broken = True
        self._reconciler.broken(child, refusal)
        if not self._candidates.can_take(child.outbound):
            self._delete(child, refusal.reason)
            return
        self.counters["children_replaced"] += 1
        self._log.refusal(
            "warning", "daemon", "child-replaced", "its SAs are of no use, it is rekeyed", refusal,
            connection=child.connection, child=child.child,
        )  # fmt: skip
        waiting = self._waiting[child.child_id] = Waiting(child, refusal, self._loop.time() + GIVE_UP)
        now = self._loop.time()
        self._next = max(self._next + STAGGER, now)
        if self._next == now:
            self._ask(waiting)
        else:
            waiting.timer = self._loop.call_at(self._next, self._asked, waiting)

    def note(self, event: Event) -> None:
        """Hear of the engine's events: whether a child is gone, or will have no successor."""
        if isinstance(event, ChildDown):
            waiting = self._waiting.pop(event.child_id, None)
            if waiting is not None:
                self._progress[waiting.child.ike_id] = self._loop.time()
                if waiting.timer is not None:
                    waiting.timer.cancel()
            if not self._waiting:
                self._progress.clear()
        elif isinstance(event, ChildFailed) and self._waiting:
            there = {view.child_id: view for view in self._ike.engine.child_sas()}
            for child_id, waiting in list(self._waiting.items()):
                view = there.get(child_id)
                name = waiting.child.child
                if view is not None and (view.ike_id, view.child, view.state) == (event.ike_id, name, "established"):
                    self._fail(waiting, f"{event.reason.words}: {event.detail}")

    def close(self) -> None:
        """Ask for nothing any more."""
        for waiting in self._waiting.values():
            if waiting.timer is not None:
                waiting.timer.cancel()
        self._waiting.clear()

    def _ask(self, waiting: Waiting) -> None:
        engine, now, child = self._ike.engine, self._ike.now, waiting.child
        waiting.timer = self._loop.call_later(ASK_AGAIN, self._asked, waiting)
        self._ike.command("replacing a child", lambda: engine.rekey_child(child.child_id, now), child.connection)

    def _asked(self, waiting: Waiting) -> None:
        child = waiting.child
        if self._waiting.get(child.child_id) is not waiting:
            return
        if self._installer.child(child.child_id) is not child:
            del self._waiting[child.child_id]
        elif self._loop.time() >= max(waiting.deadline, self._progress.get(child.ike_id, 0.0) + GIVE_UP):
            self._fail(waiting, f"no successor in {GIVE_UP:g} s")
        else:
            self._ask(waiting)

    def _fail(self, waiting: Waiting, why: str) -> None:
        child = waiting.child
        self._waiting.pop(child.child_id, None)
        if waiting.timer is not None:
            waiting.timer.cancel()
        self.counters["replacements_failed"] += 1
        self._log.add(
            "warning", "daemon", "child-not-replaced", f"it was not rekeyed and is deleted: {why}",
            connection=child.connection, child=child.child, reason=waiting.refusal.reason,
        )  # fmt: skip
        self._delete(child, waiting.refusal.reason)

    def _delete(self, child: InstalledChild, reason: Reason) -> None:
        engine, now = self._ike.engine, self._ike.now
        self._ike.command(
            "deleting a child", lambda: engine.delete_child(child.child_id, now, reason), child.connection
        )
