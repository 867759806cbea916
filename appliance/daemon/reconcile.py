"""Desired against actual: keeps up what the configuration wants up, and remembers why what is down is down."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from appliance.config.model import CloseAction, Start
from appliance.daemon import backoff
from appliance.daemon.desired import Desired, WantedConnection
from appliance.daemon.ikeloop import IkeLoop
from appliance.daemon.installer import InstalledChild
from appliance.daemon.log import LEVELS, Log
from appliance.daemon.runtime import ChildRuntime, ConnectionRuntime, IkeRecord, Retry, Why, runtime_of
from appliance.ike.connection import ConnectionConfig, Endpoint
from appliance.ike.events import ChildDown, ChildFailed, ChildUp, Event, IkeDown, IkeUp, Notice
from appliance.reasons import Reason, Refusal
from appliance.sa.association import SecurityPolicy
from appliance.sa.datapath import Acquire
from appliance.sa.selector import Address, TrafficSelector

SETTLE = 0.5
"""Seconds after something went before it is looked at what is missing: its IKE SA may be about to go too."""
AFTER_LOSS = 1.0
"""Seconds after which a connection that was up is tried again."""
STAGGER = 0.002
"""Seconds between the starts of many connections at once, so that others are heard in between."""
BAD_ADDRESS_RETRY = 5.0
"""Seconds between looks for a local address or a route."""

_EXPECTED = (Reason.REKEYED, Reason.REPLACED, Reason.DUPLICATE_IKE_SA, Reason.TERMINATED, Reason.CONFIGURATION_CHANGED)


class Reconciler:
    """Owns the runtime of all connections.

    ``local_for`` finds our address towards a peer (raises Refusal); ``ready`` tells whether a datapath can take
    children, ``lack`` why none can take those of a policy. ``chance`` is a source of random bytes for jitter.
    """

    def __init__(
        self,
        log: Log,
        *,
        local_for: Callable[[Address, tuple[Address, ...]], Address],
        ready: Callable[[], bool],
        lack: Callable[[SecurityPolicy], Refusal | None] = lambda policy: None,
        chance: Callable[[int], bytes] = os.urandom,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.connections: dict[str, ConnectionRuntime] = {}
        self.counters = {"initiated": 0, "retries": 0, "acquires": 0, "resets": 0}
        self._log = log
        self._local_for = local_for
        self._ready = ready
        self._lack = lack
        self._chance = chance
        self.wall = wall
        self._loop = asyncio.get_running_loop()
        self._ike: IkeLoop | None = None
        self._desired: Desired | None = None
        self._stopping = False
        self._checks: dict[str, asyncio.TimerHandle] = {}

    def attach(self, ike: IkeLoop) -> None:
        """Give it the engine's loop, once, before anything else."""
        self._ike = ike

    @property
    def ike(self) -> IkeLoop:
        """The engine's loop."""
        assert self._ike is not None
        return self._ike

    # What is wanted

    def apply(self, desired: Desired) -> None:
        """Make the desired state this one. Connections that are wanted as before are not disturbed."""
        old, self._desired = self.connections, desired
        self.connections = {}
        rekeys: list[tuple[str, int]] = []
        for name, wanted in desired.connections.items():
            runtime = old.get(name)
            if runtime is not None and runtime.wanted.same_peer(wanted):
                del old[name]
                rekeys += [(name, child_id) for child_id in self._change(runtime, wanted)]
            else:
                runtime = runtime_of(wanted)
            self.connections[name] = runtime
        self.accept()
        for gone in old.values():
            self._remove(gone)
        for name, child_id in rekeys:
            self.ike.command("rekeying a child", partial(self._rekey_child, child_id), name)
        for number, (name, runtime) in enumerate(self.connections.items()):
            self.check(runtime, SETTLE if name in old else number * STAGGER)

    def accept(self) -> None:
        """Tell the engine which connections a peer may start.

        One that is to be up at all times and was terminated stays down, so its peer, which most likely has it the
        same way, may not start it either. One that starts when it is needed may be needed by the peer.
        """
        accepted = [
            _acceptable(runtime)
            for runtime in self.connections.values()
            if not (runtime.held and runtime.wanted.start is Start.INITIATE)
        ]
        self.ike.command("setting connections", lambda: self.ike.engine.set_connections(accepted))

    def stop(self) -> None:
        """Start nothing any more."""
        self._stopping = True
        for timer in self._checks.values():
            timer.cancel()
        self._checks.clear()
        for runtime in self.connections.values():
            runtime.retry.cancel()
            for child in runtime.children.values():
                child.retry.cancel()

    def kick(self) -> None:
        """Something that everything waited for is there (a datapath, an address): look at all connections at once."""
        for number, runtime in enumerate(self.connections.values()):
            runtime.retry.cancel()
            for child in runtime.children.values():
                child.retry.cancel()
            self.check(runtime, number * STAGGER)

    def _rekey_child(self, child_id: int) -> None:
        self.ike.engine.rekey_child(child_id, self.ike.now)

    def _change(self, runtime: ConnectionRuntime, wanted: WantedConnection) -> set[int]:
        """The same peer: its IKE SA stays, and so do the children that are wanted as before.

        Returns those to rekey now, since they are for the same traffic but with other algorithms or the like.
        """
        before, runtime.wanted = runtime.wanted, wanted
        runtime.held = False
        runtime.retry.reset()
        for child in runtime.children.values():
            child.held = False
        if before == wanted:
            return set()
        rekeys: set[int] = set()
        kept: dict[str, ChildRuntime] = {}
        for want in wanted.children:
            old = runtime.children.get(want.name)
            if old is not None and old.wanted.same_traffic(want):
                if not old.wanted.same_packets(want):
                    rekeys |= old.installed
                old.wanted = want
                kept[want.name] = old
            else:
                # A new one also where the name stays: the end of the old pair must not speak for the new one.
                kept[want.name] = ChildRuntime(want)
        gone = [child for name, child in runtime.children.items() if kept.get(name) is not child]
        runtime.children = kept
        for former in gone:
            former.retry.cancel()
            for child_id in sorted(former.negotiated):
                self._delete_child(child_id, Reason.CONFIGURATION_CHANGED, runtime.name)
        runtime.changed()
        return rekeys

    def _remove(self, runtime: ConnectionRuntime) -> None:
        runtime.retry.cancel()
        for child in runtime.children.values():
            child.retry.cancel()
        timer = self._checks.pop(runtime.name, None)
        if timer is not None:
            timer.cancel()
        self.delete_ikes(runtime, Reason.CONFIGURATION_CHANGED)
        runtime.changed()

    # What should happen

    def check(self, runtime: ConnectionRuntime, after: float = SETTLE) -> None:
        """Look at a connection soon."""
        if self._stopping:
            return
        due = self._loop.time() + after
        pending = self._checks.get(runtime.name)
        if pending is not None:
            if pending.when() <= due:
                return
            pending.cancel()
        self._checks[runtime.name] = self._loop.call_at(due, self._checked, runtime)

    def _checked(self, runtime: ConnectionRuntime) -> None:
        self._checks.pop(runtime.name, None)
        if self._stopping or self.connections.get(runtime.name) is not runtime:
            return
        try:
            self.ensure(runtime)
        except Exception as error:
            self._log.internal("daemon", "reconciling", error, connection=runtime.name)
            self._later(runtime, runtime.retry, backoff.LONGEST)
        runtime.changed()

    def ensure(self, runtime: ConnectionRuntime) -> None:
        """Start what should be up and is not."""
        if self._stopping or not runtime.wanted_up:
            return
        if not self._ready():
            if runtime.established is None:
                runtime.why = self._why(Reason.DATAPATH_GONE, "it is tried as soon as a datapath is there")
            return
        missing = runtime.missing()
        able = [child for child in missing if self._can_run(child)]
        record = runtime.established
        if record is not None:
            for child in able:
                record.pending.add(child.name)
                self._create_child(runtime, record, child, None)
            return
        if runtime.connecting is not None or runtime.retry.due is not None:
            return
        if missing and not able:
            runtime.why = missing[0].why
            runtime.demanded = False
            return
        self.initiate(runtime, [child.name for child in able])

    def _can_run(self, child: ChildRuntime) -> bool:
        """Whether a datapath could carry a child. If not, nothing is negotiated until one comes that can."""
        lack = self._lack(child.wanted.policy)
        if lack is None:
            return True
        child.why = self._why(lack.reason, lack.detail, lack.remedy, child.why)
        if child.demanded:
            child.failures += 1
            child.demanded = False
        return False

    def initiate(
        self,
        runtime: ConnectionRuntime,
        children: list[str],
        packet: tuple[TrafficSelector, TrafficSelector] | None = None,
    ) -> None:
        """Start an IKE SA, with these children in it; ``packet`` asked for the first of them."""
        runtime.retry.cancel()
        settings = runtime.wanted.config
        try:
            if not settings.remote_addresses:
                raise Refusal(
                    Reason.BAD_ADDRESS,
                    "the connection has no remote.address, so only its peer can start it",
                    remedy="give remote.address",
                )
            turn = runtime.retry.attempts % len(settings.remote_addresses)
            remote = settings.remote_addresses[turn]
            local = self._local_for(remote, settings.local_addresses)
        except Refusal as refusal:
            self._not_started(runtime, refusal)
            return
        port = self._desired.engine.ike_port if self._desired is not None else 500
        here, there = Endpoint(local, port), Endpoint(remote, runtime.wanted.remote_port)
        self.counters["initiated"] += 1
        if runtime.retry.attempts:
            self.counters["retries"] += 1
        ike = self.ike
        self._log.add("info", "daemon", "initiate", f"starting from {here} to {there}", connection=runtime.name)

        def start() -> IkeRecord:
            ike_id = ike.engine.initiate(settings, children, here, there, ike.now, packet=packet)
            record = IkeRecord(ike_id, True, peer=str(there), remote=remote, pending=set(children))
            runtime.ikes[ike_id] = record
            return record

        if ike.command("initiating", start, runtime.name) is None:
            self._not_started(runtime, Refusal(Reason.INTERNAL, "see the log"))

    def _not_started(self, runtime: ConnectionRuntime, refusal: Refusal) -> None:
        if runtime.why is None or runtime.why.reason is not refusal.reason:
            self._log.refusal("warning", "daemon", "not-started", "not started", refusal, connection=runtime.name)
        runtime.why = self._why(refusal.reason, refusal.detail, refusal.remedy, runtime.why)
        runtime.failures += 1
        self._undemand(runtime)
        if runtime.wanted_up:
            self._later(runtime, runtime.retry, BAD_ADDRESS_RETRY)

    def _create_child(
        self,
        runtime: ConnectionRuntime,
        record: IkeRecord,
        child: ChildRuntime,
        packet: tuple[TrafficSelector, TrafficSelector] | None,
    ) -> None:
        ike = self.ike
        config = child.wanted.config
        ike.command(
            "creating a child",
            lambda: ike.engine.create_child(record.ike_id, config, ike.now, packet=packet),
            runtime.name,
        )

    def acquire(self, event: Acquire) -> None:
        """A packet waits for a child (RFC 7296 §2.9: its addresses go into the selectors)."""
        self.counters["acquires"] += 1
        for runtime in self.connections.values():
            child = next((c for c in runtime.children.values() if c.wanted.config.reqid == event.reqid), None)
            if child is None:
                continue
            if runtime.held or child.held or child.negotiated or not self._ready():
                return
            pending = {name for record in runtime.ikes.values() if not record.closing for name in record.pending}
            if child.name in pending or child.retry.due is not None or runtime.retry.due is not None:
                return
            child.demanded, child.closed = True, False
            self._log.add(
                "info", "daemon", "acquire", f"a packet from {event.source} to {event.destination} starts it",
                connection=runtime.name, child=child.name,
            )  # fmt: skip
            record = runtime.established
            if record is not None:
                record.pending.add(child.name)
                self._create_child(runtime, record, child, _packet(event))
            elif runtime.connecting is None:
                others = [other.name for other in runtime.missing() if other is not child]
                self.initiate(runtime, [child.name, *others], _packet(event))
            runtime.changed()
            return

    def orphaned(self, source: Address) -> None:
        """A configured peer sends on SAs that are not here, as after a crash of this side: it has to hear of it.

        Its own liveness check would take minutes. A new IKE SA with INITIAL_CONTACT tells it at once (RFC 7296 §2.4).
        """
        for runtime in self.connections.values():
            if (
                source in runtime.wanted.config.remote_addresses
                and runtime.wanted.start is Start.ON_DEMAND
                and not (runtime.held or runtime.ikes or runtime.retry.due is not None)
            ):
                for child in runtime.children.values():
                    child.demanded = not child.held
                self.check(runtime, 0.0)

    def reset(self, name: str) -> None:
        """An error of the program hit this connection: start it over."""
        runtime = self.connections.get(name)
        if runtime is None:
            return
        self.counters["resets"] += 1
        runtime.why = self._why(Reason.INTERNAL, "see the log")
        self.delete_ikes(runtime, Reason.INTERNAL)
        self.check(runtime, AFTER_LOSS)

    def delete_ikes(self, runtime: ConnectionRuntime, reason: Reason) -> None:
        """Delete all IKE SAs of a connection, and tell the peer."""
        ike = self.ike
        for ike_id, record in list(runtime.ikes.items()):
            if not record.closing:
                record.closing = True
                ike.command("deleting", partial(self._delete_ike, ike_id, reason), runtime.name)

    def _delete_ike(self, ike_id: int, reason: Reason) -> None:
        self.ike.engine.delete_ike(ike_id, self.ike.now, reason)

    def _delete_child(self, child_id: int, reason: Reason, name: str) -> None:
        ike = self.ike
        ike.command("deleting a child", lambda: ike.engine.delete_child(child_id, ike.now, reason), name)

    # What happened

    def note(self, event: Event) -> None:
        """Hear of an event of the engine, when it comes out."""
        if isinstance(event, Notice):
            level = event.level if event.level in LEVELS else "warning"
            self._log.add(level, "ike", "notice", event.text, connection=event.connection or "", reason=event.reason)
            return
        runtime = self.connections.get(getattr(event, "connection", ""))
        if runtime is None:
            return  # of a connection that is configured no more, and on its way out
        if isinstance(event, IkeUp):
            self._ike_up(runtime, event)
        elif isinstance(event, IkeDown):
            self._ike_down(runtime, event)
        elif isinstance(event, ChildUp):
            self._child_up(runtime, event)
        elif isinstance(event, ChildDown):
            self._child_down(runtime, event)
        elif isinstance(event, ChildFailed):
            self._child_failed(runtime, event)
        runtime.changed()

    def installed(self, installed: InstalledChild) -> None:
        """A datapath carries a child now."""
        runtime = self.connections.get(installed.connection)
        child = runtime.children.get(installed.child) if runtime is not None else None
        if runtime is None or child is None or installed.child_id not in child.negotiated:
            return
        child.installed.add(installed.child_id)
        child.why = None
        child.retry.reset()
        child.demanded = False
        runtime.demanded = False
        runtime.changed()

    def broken(self, installed: InstalledChild, refusal: Refusal) -> None:
        """A child's SAs are of no use any more; it is about to be replaced or to end."""
        runtime = self.connections.get(installed.connection)
        child = runtime.children.get(installed.child) if runtime is not None else None
        if runtime is None or child is None or installed.child_id not in child.negotiated:
            return
        child.installed.discard(installed.child_id)
        if not child.installed:
            child.why = self._why(refusal.reason, refusal.detail, refusal.remedy, child.why)
        runtime.changed()

    def refused(self, connection: str, name: str, refusal: Refusal, wait: float = 0.0) -> None:
        """No datapath took a child: it ends with what it was to replace. No new try for ``wait`` seconds at least."""
        runtime = self.connections.get(connection)
        child = runtime.children.get(name) if runtime is not None else None
        if runtime is not None and child is not None:
            self._fail(runtime, child, refusal.reason, refusal.detail, refusal.remedy, wait, ends=True)
            runtime.changed()

    def _ike_up(self, runtime: ConnectionRuntime, event: IkeUp) -> None:
        record = runtime.ikes.get(event.ike_id)
        if record is None:
            record = runtime.ikes[event.ike_id] = IkeRecord(event.ike_id, event.initiator)
        record.up, record.peer, record.suite, record.remote = True, event.remote_id, event.suite, event.remote.address
        old = runtime.ikes.get(event.replaces) if event.replaces is not None else None
        if old is not None:
            old.superseded = True
            record.pending |= old.pending
            old.pending.clear()
            runtime.rekeys += 1
        runtime.why = None
        runtime.held = False
        runtime.retry.reset()
        what = "rekeyed" if old is not None else "established"
        text = f"IKE SA {what} with {event.remote_id} at {event.remote}, {event.suite}"
        self._log.add("info", "ike", f"ike-{what}", text, connection=runtime.name)
        if not runtime.children:
            runtime.demanded = False
        # The peer may be about to make the other children itself.
        self.check(runtime, SETTLE * 2)

    def _ike_down(self, runtime: ConnectionRuntime, event: IkeDown) -> None:
        record = runtime.ikes.pop(event.ike_id, None)
        expected = event.reason in _EXPECTED
        level = "info" if expected else "warning"
        what = "IKE SA is gone" if event.was_up else "IKE SA was not established"
        self._log.refusal(level, "ike", "ike-down", what, Refusal(event.reason, event.detail), connection=runtime.name)
        if record is None:
            return  # of a former configuration of this name
        for child in runtime.children.values():
            if child.name in record.pending and not child.negotiated:
                child.why = self._why(event.reason, event.detail, None, child.why)
        if not expected and not event.was_up:
            runtime.failures += 1
        if runtime.established is not None or runtime.connecting is not None:
            return
        if not runtime.held:
            runtime.why = self._why(event.reason, event.detail, None, None if event.was_up else runtime.why)
        if not event.was_up:
            self._undemand(runtime)
        if not runtime.wanted_up:
            return
        if event.was_up or expected:
            self._later(runtime, runtime.retry, AFTER_LOSS * (0.5 + self._chance(1)[0] / 255))
        else:
            runtime.retry.attempts += 1
            self._later(runtime, runtime.retry, backoff.delay(runtime.retry.attempts, self._chance))

    def _child_up(self, runtime: ConnectionRuntime, event: ChildUp) -> None:
        record = runtime.ikes.get(event.ike_id)
        if record is not None:
            record.pending.discard(event.child)
        child = runtime.children.get(event.child)
        if child is None:
            return
        child.negotiated.add(event.child_id)
        child.closed = False
        what = "established"
        if event.replaces is not None:
            child.rekeys += 1
            what = "rekeyed"
        local = " ".join(map(str, event.inbound.local_ts))
        remote = " ".join(map(str, event.inbound.remote_ts))
        text = (
            f"child {what}, {local} to {remote}, {event.inbound.suite},"
            f" SPI {event.inbound.spi:#010x} in, {event.outbound.spi:#010x} out"
        )
        self._log.add("info", "ike", f"child-{what}", text, connection=runtime.name, child=event.child)

    def _child_down(self, runtime: ConnectionRuntime, event: ChildDown) -> None:
        child = runtime.children.get(event.child)
        expected = event.reason in _EXPECTED or event.replaced_by is not None
        self._log.refusal(
            "debug" if event.replaced_by is not None else "info" if expected else "warning",
            "ike", "child-down", "child is gone", Refusal(event.reason, event.detail),
            connection=runtime.name, child=event.child,
        )  # fmt: skip
        if child is None:
            self.check(runtime)
            return
        if event.child_id not in child.negotiated:
            self.check(runtime)
            return
        child.negotiated.discard(event.child_id)
        child.installed.discard(event.child_id)
        if child.negotiated:
            return
        if not child.held and (child.why is None or event.reason not in (Reason.INTERNAL, child.why.reason)):
            child.why = self._why(event.reason, event.detail)
        if event.reason is Reason.DELETED_BY_PEER:
            self._loop.call_later(SETTLE / 2, self._closed_by_peer, runtime, child, event.ike_id)
        self.check(runtime)

    def _closed_by_peer(self, runtime: ConnectionRuntime, child: ChildRuntime, ike_id: int) -> None:
        record = runtime.ikes.get(ike_id)
        if record is None or not record.usable or child.negotiated:
            return  # the whole IKE SA went: that is another matter
        if child.wanted.close_action is CloseAction.RESTART:
            child.demanded = True
            self.check(runtime)
        else:
            child.closed = True
        runtime.changed()

    def _child_failed(self, runtime: ConnectionRuntime, event: ChildFailed) -> None:
        record = runtime.ikes.get(event.ike_id)
        if record is not None:
            record.pending.discard(event.child)
        self._log.refusal(
            "warning", "ike", "child-failed", "child was not established", Refusal(event.reason, event.detail),
            connection=runtime.name, child=event.child,
        )  # fmt: skip
        child = runtime.children.get(event.child)
        if child is not None:
            self._fail(runtime, child, event.reason, event.detail, None)

    def _fail(
        self,
        runtime: ConnectionRuntime,
        child: ChildRuntime,
        reason: Reason,
        detail: str,
        remedy: str | None,
        wait: float = 0.0,
        *,
        ends: bool = False,
    ) -> None:
        child.failures += 1
        child.demanded = False
        if child.negotiated and child.installed and not ends:
            return  # a rekey that failed: the old pair still works
        child.why = self._why(reason, detail, remedy, child.why)
        child.retry.attempts += 1
        if child.wanted_up or child.wanted.start is Start.ON_DEMAND:
            self._later(runtime, child.retry, max(wait, backoff.delay(child.retry.attempts, self._chance)))

    def _undemand(self, runtime: ConnectionRuntime) -> None:
        """A start that somebody asked for failed: they heard why, and ask again if they want."""
        runtime.demanded = False
        for child in runtime.children.values():
            child.demanded = False

    def _later(self, runtime: ConnectionRuntime, retry: Retry, after: float) -> None:
        retry.cancel()
        if self._stopping:
            return
        retry.due = self._loop.time() + after
        retry.timer = self._loop.call_at(retry.due, self._retry, runtime, retry)

    def _retry(self, runtime: ConnectionRuntime, retry: Retry) -> None:
        retry.cancel()
        self.check(runtime, 0.0)

    def _why(self, reason: Reason, detail: str, remedy: str | None = None, before: Why | None = None) -> Why:
        since = before.since if before is not None and before.reason is reason else self.wall()
        return Why(reason, detail, since, remedy)


def _acceptable(runtime: ConnectionRuntime) -> ConnectionConfig:
    config = runtime.wanted.config
    held = {child.name for child in runtime.children.values() if child.held}
    if not held:
        return config
    return replace(config, children=tuple(child for child in config.children if child.name not in held))


def _packet(event: Acquire) -> tuple[TrafficSelector, TrafficSelector]:
    def one(address: Address, port: int | None) -> TrafficSelector:
        return TrafficSelector.host(address, event.protocol, (0, 65535) if port is None else (port, port))

    return one(event.source, event.source_port), one(event.destination, event.destination_port)
