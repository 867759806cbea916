"""Rows for ``show``: what is wanted, what is there, and why it differs. Reads tables; never waits for a peer."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from appliance.config.model import Start
from appliance.console.protocol import (
    Cause,
    ChildRow,
    ConnectionRow,
    CounterRow,
    DatapathRow,
    LogRow,
    MissingRow,
    Nat,
    OffloadRow,
    PolicyRow,
    SaRow,
    State,
)
from appliance.daemon.datapath_events import DatapathEvents
from appliance.daemon.datapaths import Datapaths
from appliance.daemon.failback import Failback
from appliance.daemon.installer import InstalledChild, Installer
from appliance.daemon.log import Log
from appliance.daemon.offload import OffloadProbe
from appliance.daemon.reconcile import Reconciler
from appliance.daemon.runtime import ChildRuntime, ConnectionRuntime, Why
from appliance.daemon.slot import Slot
from appliance.daemon.translate import PRIORITY_STEP
from appliance.ike.views import ChildView, IkeView
from appliance.reasons import Reason, Refusal
from appliance.sa.association import (
    Direction,
    PolicyAction,
    SecurityAssociation,
    SecurityPolicy,
    UdpEncapsulation,
)
from appliance.sa.datapath import Carried, DatapathRefusal, Usage
from appliance.sa.selector import TrafficSelector

if TYPE_CHECKING:
    from appliance.ike.engine import Engine

FRESH_SECONDS = 0.4
"""How long a datapath may take for fresh counters; then those of the last look are shown."""

CLOCK_STEP = 0.5
"""Seconds by which the two clocks may drift apart before times of day are shown anew."""


class Show:
    """Everything that can be shown.

    ``lack`` tells why no datapath can carry what a policy protects; ``counters`` are the daemon's own, by name.
    """

    def __init__(
        self,
        engine: Engine,
        reconciler: Reconciler,
        installer: Installer,
        datapaths: Datapaths,
        events: DatapathEvents,
        failback: Failback,
        log: Log,
        *,
        lack: Callable[[SecurityPolicy], Refusal | None],
        counters: Callable[[], Mapping[str, int]],
    ) -> None:
        self._engine = engine
        self._reconciler = reconciler
        self._installer = installer
        self._datapaths = datapaths
        self._events = events
        self._failback = failback
        self._log = log
        self._lack = lack
        self._counters = counters
        self._loop = asyncio.get_running_loop()
        self._offload = OffloadProbe()
        self._looked_at = float("-inf")
        self._offset = reconciler.wall() - self._loop.time()

    async def connections(self) -> list[ConnectionRow]:
        """All that are configured, up or not, in the order of the configuration."""
        await self._refresh()
        ikes = {view.ike_id: view for view in self._engine.ike_sas()}
        children = {view.child_id: view for view in self._engine.child_sas()}
        return [self._connection(runtime, ikes, children) for runtime in self._reconciler.connections.values()]

    async def sas(self) -> list[SaRow]:
        """All that datapaths carry, those that linger included."""
        await self._refresh()
        views = {view.child_id: view for view in self._engine.child_sas()}
        rows: list[SaRow] = []
        for child in self._installer.children():
            if child.datapath is None:
                continue
            view = views.get(child.child_id)
            rows.append(self._sa(child, child.inbound, child.usage_in, view, active=True))
            if not child.leaving:
                rows.append(self._sa(child, child.outbound, child.usage_out, view, active=child.active))
        return rows

    async def policies(self) -> list[PolicyRow]:
        """The security policy database, first match first."""
        by_name = {
            child.wanted.policy.name: (runtime, child)
            for runtime in self._reconciler.connections.values()
            for child in runtime.children.values()
        }
        homes = self._datapaths.homes
        running = ", ".join(slot.name for slot in self._datapaths.slots if slot.datapath is not None) or None
        rows: list[PolicyRow] = []
        for policy in sorted(homes.policies, key=lambda p: p.priority):
            if policy.action is PolicyAction.PROTECT:
                owner = by_name.get(policy.name)
                home = homes.home(policy.name)
                state = "dropped" if owner is None else _protection(*owner, acquire=policy.acquire)
                if home is None and not state.startswith("dropped:"):
                    state = "dropped: no datapath can take it"
            else:
                home = running
                state = "passes" if policy.action is PolicyAction.BYPASS else "dropped"
            rows.append(
                PolicyRow(
                    name=policy.name,
                    action=policy.action.value,
                    priority=policy.priority // PRIORITY_STEP,
                    local_ts=_texts(policy.local_ts),
                    remote_ts=_texts(policy.remote_ts),
                    state=state,
                    mode=policy.mode.value if policy.action is PolicyAction.PROTECT else None,
                    datapath=home,
                    interface=policy.handling.interface,
                )
            )
        return rows

    async def datapath(self) -> list[DatapathRow]:
        """The datapaths of the order, and what each can do here."""
        rows: list[DatapathRow] = []
        for slot in self._datapaths.slots:
            carried = sum(
                (1 if child.leaving else 2)
                for child in self._installer.children()
                if slot.datapath is not None and child.datapath is slot.datapath
            )
            can = slot.capabilities
            pid, device = getattr(slot.datapath, "pid", None), getattr(slot.datapath, "tun", None)
            row = DatapathRow(
                name=slot.name,
                usable=can is not None and can.usable,
                reason=_cause(slot.why),
                pid=pid if isinstance(pid, int) else None,
                device=device if isinstance(device, str) else None,
                sas=carried,
                policies=len(slot.policies),
                avoided=self._avoided(slot),
                returns_in=self._failback.steady_in(slot),
            )
            if can is not None:
                import msgspec

                row = msgspec.structs.replace(
                    row,
                    suites=[str(suite) for suite in can.suites],
                    modes=[mode.value for mode in can.modes],
                    native=can.native,
                    udp_encapsulation=can.udp_encapsulation,
                    interfaces=can.interfaces,
                    offload=can.offload,
                    replay_windows=can.replay_windows,
                    max_sas=can.max_sas,
                    missing=[
                        MissingRow(
                            what=gap.what,
                            reason=gap.reason.name,
                            words=gap.reason.words,
                            detail=gap.detail,
                            remedy=gap.remedy or gap.reason.remedy,
                        )
                        for gap in can.missing
                    ],
                )
            rows.append(row)
        return rows

    async def offload(self) -> list[OffloadRow]:
        """What the kernel and the network devices can do of IPsec, whatever the datapaths are."""
        return await self._offload.rows()

    async def counters(self) -> list[CounterRow]:
        """Counters of the engine, of the datapaths and of the daemon."""
        rows = [_counter("ike", name, value) for name, value in sorted(self._engine.counters.items())]
        for slot in self._datapaths.slots:
            if slot.datapath is None:
                continue
            with contextlib.suppress(DatapathRefusal, TimeoutError):
                async with asyncio.timeout(FRESH_SECONDS):
                    found = await slot.datapath.counters()
                rows += [_counter("datapath", name, value) for name, value in sorted(found.items())]
        rows += [_counter("daemon", name.replace("_", "-"), value) for name, value in sorted(self._counters().items())]
        return rows

    async def log(self, limit: int) -> list[LogRow]:
        """The newest entries of the log, oldest first."""
        return [
            LogRow(
                time=entry.time,
                level=entry.level,
                room=entry.room,
                event=entry.event,
                text=entry.text,
                connection=entry.connection,
                child=entry.child,
                reason=entry.reason,
            )
            for entry in self._log.newest(limit)
        ]

    async def _refresh(self) -> None:
        """Fresh counters if the datapaths give them soon; several who ask at once share one look."""
        now = self._loop.time()
        if now - self._looked_at < 0.1:
            return
        self._looked_at = now
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FRESH_SECONDS):
                await self._events.look_at_usage()

    def _connection(
        self, runtime: ConnectionRuntime, ikes: dict[int, IkeView], children: dict[int, ChildView]
    ) -> ConnectionRow:
        config = runtime.wanted.config
        newest = max(runtime.ikes.values(), key=lambda record: record.ike_id, default=None)
        record = runtime.established or runtime.connecting or newest
        view = ikes.get(record.ike_id) if record is not None else None
        state = self._state(runtime, view)
        local = config.local_addresses[0] if config.local_addresses else None
        remote = config.remote_addresses[0] if config.remote_addresses else None
        up = state in (State.ESTABLISHED, State.REKEYING)
        return ConnectionRow(
            name=runtime.name,
            state=state,
            reason=None if up else _cause(runtime.why),
            local_address=_text(view.local.address if view is not None else local),
            local_port=view.local.port if view is not None else None,
            local_id=(view.local_id if view is not None else None) or str(config.local_id),
            remote_address=_text(view.remote.address if view is not None else remote),
            remote_port=view.remote.port if view is not None else None,
            remote_id=(view.remote_id if view is not None else None) or str(config.remote_id),
            initiator=view.initiator if view is not None else None,
            spi_initiator=view.spi_i if view is not None else None,
            spi_responder=view.spi_r if view is not None and view.established_at is not None else None,
            suite=view.suite if view is not None else None,
            established_at=self._unix(view.established_at) if view is not None else None,
            rekey_in=self._left(view.rekey_at) if view is not None else None,
            nat=_nat(view),
            retries=runtime.retry.attempts,
            next_try_in=self._left(runtime.retry.due),
            children=[self._child(runtime, child, children, record_up=up) for child in runtime.children.values()],
        )

    def _state(self, runtime: ConnectionRuntime, view: IkeView | None) -> State:
        if runtime.established is not None:
            replacing = view is not None and view.state == "rekeying"
            return State.REKEYING if replacing else State.ESTABLISHED
        if runtime.connecting is not None:
            return State.CONNECTING
        if any(record.closing for record in runtime.ikes.values()):
            return State.CLOSING
        if runtime.held:
            return State.DOWN
        if runtime.retry.due is not None:
            return State.RETRYING
        if runtime.wanted_up:
            return State.RETRYING if runtime.why is not None else State.CONNECTING
        starts = {child.start for child in runtime.wanted.children} or {runtime.wanted.start}
        if Start.ON_DEMAND in starts:
            return State.ON_DEMAND
        return State.WAITING if starts == {Start.RESPOND} else State.DOWN

    def _child(
        self, runtime: ConnectionRuntime, child: ChildRuntime, views: dict[int, ChildView], *, record_up: bool
    ) -> ChildRow:
        config = child.wanted.config
        installed = self._installer.child(max(child.installed)) if child.installed else None
        pending = any(child.name in record.pending for record in runtime.ikes.values() if not record.closing)
        if installed is None:
            if child.negotiated or pending:
                state = State.CONNECTING
            elif child.held or runtime.held:
                state = State.DOWN
            elif child.retry.due is not None or (child.wanted_up and runtime.retry.due is not None):
                state = State.RETRYING
            elif child.wanted_up:
                state = State.CONNECTING
            elif child.wanted.start is Start.ON_DEMAND or (
                child.closed and child.wanted.policy.acquire
            ):  # what its policy does with a packet
                state = State.ON_DEMAND
            else:
                state = State.WAITING if child.wanted.start is Start.RESPOND else State.DOWN
            why = child.why or (None if record_up else runtime.why)
            return ChildRow(
                name=child.name,
                state=state,
                reason=_cause(why) or self._lacking(child),
                mode=config.mode.value,
                interface=config.handling.interface,
                local_ts=_texts(config.local_ts),
                remote_ts=_texts(config.remote_ts),
            )
        view = views.get(installed.child_id)
        return ChildRow(
            name=child.name,
            state=State.REKEYING if view is not None and view.state == "rekeying" else State.ESTABLISHED,
            reason=None,
            spi_in=_spi(installed.inbound.spi),
            spi_out=_spi(installed.outbound.spi),
            suite=str(installed.inbound.suite),
            mode=installed.inbound.mode.value,
            interface=installed.inbound.handling.interface,
            encapsulation="none" if installed.inbound.encapsulation is None else "udp",
            local_ts=_texts(installed.inbound.local_ts),
            remote_ts=_texts(installed.inbound.remote_ts),
            bytes_in=installed.usage_in.bytes,
            bytes_out=installed.usage_out.bytes,
            packets_in=installed.usage_in.packets,
            packets_out=installed.usage_out.packets,
            established_at=self._unix(view.established_at) if view is not None else None,
            rekey_in=self._left(view.rekey_at) if view is not None else None,
            expires_in=self._left(view.expires_at) if view is not None else None,
            datapath=installed.datapath.name if installed.datapath is not None else None,
            how=_how(installed, Direction.OUT),
            why_not=_why_not(installed, *Direction),
            returns_in=self._failback.returns_in(installed),
        )

    def _sa(
        self, child: InstalledChild, sa: SecurityAssociation, usage: Usage, view: ChildView | None, *, active: bool
    ) -> SaRow:
        assert child.datapath is not None
        return SaRow(
            connection=child.connection,
            child=child.child,
            direction=sa.direction.value,
            spi=_spi(sa.spi),
            source=str(sa.source),
            destination=str(sa.destination),
            suite=str(sa.suite),
            mode=sa.mode.value,
            encapsulation=_encapsulation(sa.encapsulation),
            local_ts=_texts(sa.local_ts),
            remote_ts=_texts(sa.remote_ts),
            datapath=child.datapath.name,
            how=_how(child, sa.direction),
            why_not=_why_not(child, sa.direction),
            returns_in=None if child.leaving else self._failback.returns_in(child),
            active=active,
            age=max(0.0, self._loop.time() - child.installed_at),
            rekey_in=self._left(view.rekey_at) if view is not None else None,
            expires_in=self._left(view.expires_at) if view is not None else None,
            bytes=usage.bytes,
            packets=usage.packets,
            sequence=usage.sequence,
            replay_window=sa.replay_window,
            replays=usage.replays,
            integrity_failures=usage.integrity_failures,
            # Datapaths on this machine share its monotonic clock with the event loop.
            last_used_ago=max(0.0, time.monotonic() - usage.last_used) if usage.last_used else None,
        )

    def _lacking(self, child: ChildRuntime) -> Cause | None:
        """Why no datapath could carry a child, also before somebody wants it up."""
        lack = self._lack(child.wanted.policy)
        if lack is None:
            return None
        return Cause(reason=lack.reason.name, words=lack.reason.words, detail=lack.detail, remedy=lack.remedy)

    def _avoided(self, slot: Slot) -> str | None:
        if slot.silence is None or self._loop.time() >= slot.standing.avoid_until:
            return None
        left = slot.standing.avoid_until - self._loop.time()
        return f"for {left:.0f} s: {slot.silence.reason.words}: {slot.silence.detail}"

    def _left(self, at: float | None) -> float | None:
        return None if at is None else max(0.0, at - self._loop.time())

    def _unix(self, at: float | None) -> float | None:
        """The time of day of a moment of the event loop: the same each time, unless the day's clock is set."""
        if at is None:
            return None
        offset = self._reconciler.wall() - self._loop.time()
        if abs(offset - self._offset) > CLOCK_STEP:
            self._offset = offset
        return self._offset + at


def _protection(runtime: ConnectionRuntime, child: ChildRuntime, *, acquire: bool) -> str:
    if child.installed:
        return "encrypted"
    if runtime.held or child.held:
        return "dropped: terminated by operator"
    return "starts the connection" if acquire else "dropped until the connection is up"


def _how(child: InstalledChild, direction: Direction) -> str:
    return _carried(child, direction).how


def _why_not(child: InstalledChild, *directions: Direction) -> list[str]:
    """The datapaths before its own, then better ways within it."""
    ways = [why for direction in directions for why in _carried(child, direction).why_not]
    return list(dict.fromkeys(str(why) for why in (*child.why_not, *ways)))


def _carried(child: InstalledChild, direction: Direction) -> Carried:
    """The installer asked for the inbound SA first."""
    number = 0 if direction is Direction.IN else 1
    return child.carried[number] if number < len(child.carried) else Carried()


def _cause(why: Why | None) -> Cause | None:
    if why is None:
        return None
    return Cause(
        reason=why.reason.name,
        words=why.reason.words,
        detail=why.detail,
        remedy=why.reason.remedy if why.remedy is None else why.remedy,
        since=why.since,
    )


def _counter(group: str, name: str, value: int) -> CounterRow:
    reason = Reason.__members__.get(name)
    return CounterRow(group=group, name=name, value=value, words=reason.words if reason is not None else "")


def _nat(view: IkeView | None) -> Nat:
    if view is None or not (view.nat_local or view.nat_remote):
        return Nat.NONE
    if view.nat_local and view.nat_remote:
        return Nat.BOTH
    return Nat.LOCAL if view.nat_local else Nat.REMOTE


def _encapsulation(encapsulation: UdpEncapsulation | None) -> str:
    return "none" if encapsulation is None else f"{encapsulation.source_port} > {encapsulation.destination_port}"


def _spi(spi: int) -> str:
    return f"{spi:#010x}"


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _texts(selectors: tuple[TrafficSelector, ...]) -> list[str]:
    return [str(selector) for selector in selectors]
