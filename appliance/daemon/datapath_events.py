"""What datapaths report, turned into commands for the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from appliance.daemon.bounded import bounded
from appliance.daemon.candidates import Candidates
from appliance.daemon.failover import Failover
from appliance.daemon.ikeloop import IkeLoop
from appliance.daemon.installer import InstalledChild, Installer
from appliance.daemon.log import Log
from appliance.daemon.reconcile import Reconciler
from appliance.ike.connection import Endpoint
from appliance.reasons import Reason, Refusal
from appliance.sa.datapath import (
    Acquire,
    Changed,
    Datapath,
    DatapathEvent,
    DatapathRefusal,
    Expired,
    ExpiryKind,
    InboundUsed,
    MappingChanged,
    UnknownSpi,
    Usage,
    Vanished,
)

VANISHED_AT_ONCE = 10.0
"""What vanishes so soon would do so again: its datapath is kept off the child for a while."""


class DatapathEvents:
    """Hears one event after the other. Nothing here waits; what has to wait becomes a task."""

    def __init__(
        self,
        log: Log,
        ike: IkeLoop,
        installer: Installer,
        candidates: Candidates,
        failover: Failover,
        reconciler: Reconciler,
    ) -> None:
        self.counters = {
            "expired": 0,
            "mapping_changed": 0,
            "unknown_spi": 0,
            "datapath_failures": 0,
            "sas_vanished": 0,
            "changes_from_outside": 0,
        }
        self._log = log
        self._ike = ike
        self._installer = installer
        self._candidates = candidates
        self._failover = failover
        self._reconciler = reconciler
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    def heard(self, event: DatapathEvent, datapath: Datapath) -> None:
        """Act on an event of a datapath."""
        if isinstance(event, Acquire):
            self._reconciler.acquire(event)
        elif isinstance(event, Changed):
            self.counters["changes_from_outside"] += 1
            self._log.add(
                "warning", "datapath", "changed", f"{datapath.name}: {event.words}", reason=event.reason
            )  # fmt: skip
        elif isinstance(event, UnknownSpi):
            holder = self._installer.by_spi(event.spi)
            if holder is not None and holder.datapath is not datapath:
                return  # what one datapath does not know, another one has, or had until just now
            self.counters["unknown_spi"] += 1
            self._log.add(
                "info", "datapath", "unknown-spi",
                f"ESP with SPI {event.spi:#010x} from {event.source} to {event.destination} is of no SA here",
                reason=Reason.UNKNOWN_SPI,
            )  # fmt: skip
            self._reconciler.orphaned(event.source)
        elif isinstance(event, InboundUsed | MappingChanged | Expired | Vanished):
            child = self._installer.by_key(event.key)
            if child is None or child.datapath not in (None, datapath):
                return  # it went while the event was on its way
            if isinstance(event, InboundUsed):
                # The peer sends on the pair, so it can receive on it, too (RFC 7296 §2.8).
                self._start(self._installer.used(child), child)
                self.inbound(child)
            elif isinstance(event, MappingChanged):
                self._mapping_changed(child, event)
            elif isinstance(event, Vanished):
                self._vanished(child, event)
            else:
                self._expired(child, event)

    def lost(self, datapath: Datapath, reason: Reason, detail: str) -> None:
        """A datapath failed: its children are replaced, or deleted at their peers if no other could take them."""
        self.counters["datapath_failures"] += 1
        refusal = Refusal(reason if reason is not Reason.DATAPATH_TIMEOUT else Reason.DATAPATH_GONE, detail)
        for child in self._installer.forget(datapath):
            self._failover.replace(child, refusal)

    def inbound(self, child: InstalledChild) -> None:
        """Authenticated packets came on a child: a sign of life (RFC 7296 §2.4)."""
        engine, now = self._ike.engine, self._ike.now
        self._ike.command("noting inbound traffic", lambda: engine.note_inbound(child.child_id, now), child.connection)

    async def look_at_usage(self, *, outbound: bool = True) -> None:
        """Read the counters of all children once, and note those that heard something."""
        by_datapath: dict[Datapath, list[InstalledChild]] = {}
        for child in self._installer.children():
            if child.datapath is not None:
                by_datapath.setdefault(child.datapath, []).append(child)
        for datapath, children in by_datapath.items():
            keys = [child.inbound.key for child in children]
            if outbound:
                keys += [child.outbound.key for child in children if not child.leaving]
            try:
                usage = await bounded(datapath.usage(keys), "usage")
            except DatapathRefusal as refusal:
                self._log.refusal("warning", "datapath", "usage-refused", f"counters of {datapath.name}", refusal)
                continue
            for child in children:
                self._take(child, usage.get(child.inbound.key), usage.get(child.outbound.key))

    async def watch_usage(self, period: float) -> None:
        """Look at the counters every ``period`` seconds, for ever."""
        while True:
            await asyncio.sleep(period)
            try:
                await self.look_at_usage(outbound=False)
            except Exception as error:
                self._log.internal("datapath", "reading counters", error)

    def close(self) -> None:
        """Stop what is under way."""
        for task in self._tasks:
            task.cancel()

    def _take(self, child: InstalledChild, inbound: Usage | None, outbound: Usage | None) -> None:
        if outbound is not None:
            child.usage_out = outbound
        if inbound is not None:
            child.usage_in = inbound
            if inbound.packets > child.heard and not child.leaving:
                child.heard = inbound.packets
                self.inbound(child)

    def _mapping_changed(self, child: InstalledChild, event: MappingChanged) -> None:
        self.counters["mapping_changed"] += 1
        engine, now = self._ike.engine, self._ike.now
        remote = Endpoint(event.source, event.port)
        self._ike.command("moving a peer", lambda: engine.update_remote(child.child_id, remote, now), child.connection)

    def _vanished(self, child: InstalledChild, event: Vanished) -> None:
        """One of a pair is gone, so the other is useless. Both may be reported: one replacement is enough."""
        self.counters["sas_vanished"] += 1
        if child.leaving or child.broken:
            return
        detail = f"{event.key}: {event.detail}" if event.detail else str(event.key)
        refusal = DatapathRefusal(Reason.SA_VANISHED, detail)
        if child.datapath is not None and self._loop.time() - child.installed_at < VANISHED_AT_ONCE:
            self._candidates.keep_off(child.outbound.reqid, child.datapath, refusal)
        self._installer.fail(child, refusal)

    def _expired(self, child: InstalledChild, event: Expired) -> None:
        self.counters["expired"] += 1
        if child.leaving:
            return
        level, limit = ("warning", "hard") if event.hard else ("info", "soft")
        self._log.add(
            level, "datapath", "expired", f"the {limit} limit of {event.kind.value} was reached by {event.key}",
            connection=child.connection, child=child.child,
        )  # fmt: skip
        if event.hard and event.kind is not ExpiryKind.SEQUENCE:
            self._delete(child, Reason.LIFETIME_OVER)
            return
        engine, now = self._ike.engine, self._ike.now
        self._ike.command("rekeying a child", lambda: engine.rekey_child(child.child_id, now), child.connection)

    def _delete(self, child: InstalledChild, reason: Reason) -> None:
        engine, now = self._ike.engine, self._ike.now
        self._ike.command(
            "deleting a child", lambda: engine.delete_child(child.child_id, now, reason), child.connection
        )

    def _start(self, work: Coroutine[Any, Any, None], child: InstalledChild) -> None:
        async def guarded() -> None:
            try:
                await work
            except Exception as error:
                self._log.internal("datapath", "activating", error, connection=child.connection)
                self._reconciler.reset(child.connection)

        task = self._loop.create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
