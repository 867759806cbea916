"""A gateway without its sockets and files: engine, datapaths and what reconciles them, wired together.

``main`` gives it real sockets and datapaths; tests give it others.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime

from appliance.daemon.candidates import Candidates
from appliance.daemon.datapath_events import DatapathEvents
from appliance.daemon.datapaths import Datapaths
from appliance.daemon.desired import Desired
from appliance.daemon.failback import Failback
from appliance.daemon.failover import Failover
from appliance.daemon.ikeloop import IkeLoop
from appliance.daemon.installer import InstalledChild, Installer
from appliance.daemon.log import Log
from appliance.daemon.operations import Operations
from appliance.daemon.reconcile import Reconciler
from appliance.daemon.show import Show
from appliance.ike.engine import Engine
from appliance.ike.events import Datagram, Event
from appliance.reasons import Reason
from appliance.sa.association import SecurityPolicy
from appliance.sa.datapath import Datapath, DatapathRefusal
from appliance.sa.selector import Address
from appliance.sa.spi import SpiAllocator

STOP_SECONDS = 2.0
"""How long a stop waits for the peers to confirm the deletion of what is up."""


class Gateway:
    """One gateway.

    ``makers`` start the datapaths of the order, by name. ``send`` puts an IKE datagram on the wire. ``local_for`` finds
    our address towards a peer. ``chance`` is a source of random bytes; the daemon has the system's only.
    """

    def __init__(
        self,
        desired: Desired,
        log: Log,
        *,
        makers: Iterable[tuple[str, Callable[[], Awaitable[Datapath]]]],
        send: Callable[[Datagram], None],
        local_for: Callable[[Address, tuple[Address, ...]], Address],
        chance: Callable[[int], bytes] = os.urandom,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.desired = desired
        self.log = log
        self._loop = asyncio.get_running_loop()
        spis = SpiAllocator(chance)
        self.datapaths = Datapaths(
            log,
            makers,
            heard=lambda event, datapath: self.events.heard(event, datapath),
            lost=lambda datapath, reason, detail: self.events.lost(datapath, reason, detail),
            gained=lambda: self.reconciler.kick(),
            carrier=lambda reqid: self.installer.carrier(reqid),
            wall=wall,
        )
        self.candidates = Candidates(self.datapaths.slots, kin=lambda sa: self.installer.kin(sa))
        self.reconciler = Reconciler(
            log,
            local_for=local_for,
            ready=lambda: self.datapaths.ready,
            lack=self.candidates.lack,
            chance=chance,
            wall=wall,
        )
        self.installer = Installer(
            spis,
            log,
            homes=self.datapaths.homes,
            candidates=self.candidates,
            installed=self._installed,
            refused=self._refused,
            broken=self._broken,
        )
        loop = self._loop
        self.engine = Engine(
            desired.engine,
            random=chance,
            allocate_spi=spis.allocate,
            release_spi=self.installer.release_spi,
            wall_clock=lambda now: datetime.fromtimestamp(wall() - (loop.time() - now), UTC),
        )
        self.ike = IkeLoop(
            self.engine,
            log,
            send=send,
            note=self._note,
            perform=self.installer.perform,
            reset=self.reconciler.reset,
        )
        self.reconciler.attach(self.ike)
        self.failover = Failover(log, self.ike, self.installer, self.candidates, self.reconciler)
        self.failback = Failback(log, self.ike, self.installer, self.candidates, self.failover, desired.return_after)
        self.events = DatapathEvents(log, self.ike, self.installer, self.candidates, self.failover, self.reconciler)
        self.operations = Operations(self.reconciler)
        self.show = Show(
            self.engine,
            self.reconciler,
            self.installer,
            self.datapaths,
            self.events,
            self.failback,
            log,
            lack=self.candidates.lack,
            counters=lambda: (
                self.ike.counters
                | self.reconciler.counters
                | self.events.counters
                | self.failover.counters
                | self.failback.counters
                | {"children": len(self.installer), "spis": len(spis), "log_suppressed": log.suppressed}
            ),
        )
        self._usage: asyncio.Task[None] | None = None
        self._returns: asyncio.Task[None] | None = None

    async def start_datapaths(self) -> None:
        """Start the datapaths with the policies: from now on protected traffic is protected or dropped."""
        await self.datapaths.start(self.desired.policies)

    def start(self) -> None:
        """Start IKE: accept peers, and initiate what is to be up."""
        self.reconciler.apply(self.desired)
        self._usage = self._loop.create_task(self.events.watch_usage(usage_period(self.desired)))
        self._returns = self._loop.create_task(self.failback.run())

    async def change(self, desired: Desired) -> None:
        """Make another desired state this one; what is the same in both is not disturbed.

        Raises DatapathRefusal where a datapath does not take the policies; then the former ones are put back and
        nothing has changed.
        """
        before = self.desired
        added_only = _union(before, desired)
        try:
            # While children change, both the former and the new policies protect.
            await self.datapaths.change_policies(added_only)
        except DatapathRefusal:
            await self._put_back(before)
            raise
        self.desired = desired
        self.failback.return_after = desired.return_after
        self.engine.set_config(desired.engine)
        self.log.level = desired.log_level
        self.reconciler.apply(desired)
        await self.ike.idle()
        try:
            await self.datapaths.change_policies(desired.policies)
        except DatapathRefusal as refusal:
            self.log.refusal(
                "error", "datapath", "policies", "policies that are wanted no more are still there", refusal
            )
        if self._usage is not None:
            self._usage.cancel()
            self._usage = self._loop.create_task(self.events.watch_usage(usage_period(desired)))

    async def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Delete everything at the peers, remove it here, and close the datapaths."""
        self.reconciler.stop()
        self.datapaths.homes.close()
        for task in (self._usage, self._returns):
            if task is not None:
                task.cancel()
        runtimes = list(self.reconciler.connections.values())
        gone = asyncio.Event()

        def look() -> None:
            if not any(runtime.ikes for runtime in runtimes):
                gone.set()

        for runtime in runtimes:
            runtime.watchers.add(look)
            self.reconciler.delete_ikes(runtime, Reason.TERMINATED)
        look()
        try:
            async with asyncio.timeout(seconds):
                await gone.wait()
                await self.ike.idle()
        except TimeoutError:
            left = sum(len(runtime.ikes) for runtime in runtimes)
            text = f"{left} peers did not confirm the deletion in {seconds:g} s"
            self.log.add("warning", "daemon", "stop-unconfirmed", text)
        await self.abandon()

    async def abandon(self) -> None:
        """Remove everything here and close the datapaths, without a word to the peers."""
        self.reconciler.stop()
        self.ike.close()
        self.events.close()
        self.failover.close()
        for task in (self._usage, self._returns):
            if task is not None:
                task.cancel()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self.installer.close()
        except TimeoutError:
            self.log.add(
                "warning", "datapath", "remove-refused", "SAs were not removed in time; they go with the datapath"
            )
        await self.datapaths.close()

    async def _put_back(self, before: Desired) -> None:
        try:
            await self.datapaths.change_policies(before.policies)
        except DatapathRefusal as refusal:
            self.log.refusal("error", "datapath", "policies", "the former policies were not put back", refusal)

    def _note(self, event: Event) -> None:
        self.reconciler.note(event)
        self.failover.note(event)

    def _installed(self, child: InstalledChild) -> None:
        self.failback.installed(child)
        self.reconciler.installed(child)
        self.ike.command(
            "noting what is carried", lambda: self.engine.child_carried(child.child_id, self.ike.now), child.connection
        )

    def _broken(self, child: InstalledChild, refusal: DatapathRefusal) -> None:
        if self.candidates.can_take(child.outbound, careful=True):
            self.failover.replace(child, refusal)
        else:
            self.reconciler.broken(child, refusal)
            self._close_child(child, refusal)

    def _refused(self, child: InstalledChild, refusal: DatapathRefusal) -> None:
        self.log.refusal(
            "error", "daemon", "install-refused", "no datapath took the child's SAs", refusal,
            connection=child.connection, child=child.child,
        )  # fmt: skip
        if refusal.in_doubt and self.candidates.can_take(child.outbound, careful=True):
            self.failover.replace(child, refusal)  # its keys are burnt, but others may go elsewhere
        else:
            self._close_child(child, refusal)

    def _close_child(self, child: InstalledChild, refusal: DatapathRefusal) -> None:
        """No datapath carries what was negotiated: the peer has to hear of it, and the next try is later."""
        wait = self.candidates.kept_off_for(child.outbound.reqid)
        self.reconciler.refused(child.connection, child.child, refusal, wait)
        self.ike.command(
            "refusing a child",
            lambda: self.engine.install_failed(child.child_id, refusal.reason, refusal.detail, self.ike.now),
            child.connection,
        )


def usage_period(desired: Desired) -> float:
    """Seconds between looks at the counters: often enough that traffic keeps liveness checks quiet."""
    intervals = [c.config.dpd_interval for c in desired.connections.values() if c.config.dpd_interval is not None]
    return min(10.0, max(1.0, min(intervals, default=30.0) / 3))


def _union(before: Desired, after: Desired) -> tuple[SecurityPolicy, ...]:
    policies = {policy.name: policy for policy in before.policies}
    policies |= {policy.name: policy for policy in after.policies}
    return tuple(sorted(policies.values(), key=lambda policy: policy.priority))
