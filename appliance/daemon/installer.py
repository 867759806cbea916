"""Negotiated children in datapaths: installs, activates, moves and removes their SAs, and knows where each runs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from appliance.daemon.bounded import bounded
from appliance.daemon.candidates import Candidates
from appliance.daemon.homes import Homes
from appliance.daemon.ikeloop import DatapathWork
from appliance.daemon.log import Log
from appliance.ike.events import ChildActivate, ChildDown, ChildUp, EndpointsChanged
from appliance.reasons import Reason
from appliance.sa.association import SaKey, SecurityAssociation
from appliance.sa.datapath import Carried, Datapath, DatapathRefusal, InstallRequest, Usage, WhyNot
from appliance.sa.placement import Unplaced, place
from appliance.sa.spi import SpiAllocator

REMOVE_AGAIN = 10.0
"""Seconds until a datapath that did not remove SAs is asked again."""
_NO_USAGE = Usage()


@dataclass(slots=True, eq=False)
class InstalledChild:
    """A pair of SAs in a datapath. ``heard``: inbound packets at the last look. Times are the event loop's."""

    child_id: int
    ike_id: int
    connection: str
    child: str
    inbound: SecurityAssociation
    outbound: SecurityAssociation
    activate: bool
    datapath: Datapath | None = None
    why_not: tuple[WhyNot, ...] = ()
    carried: tuple[Carried, ...] = ()
    """How the datapath carries the inbound and the outbound one."""
    active: bool = False
    installed_at: float = 0.0
    leaving: bool = False
    """The outbound SA is gone, the inbound one lingers for packets under way."""
    broken: bool = False
    """Its SAs are of no use any more, or gone with their datapath: it waits for its successor or its end."""
    doubtful: list[SaKey] = field(default_factory=list)
    """Keys that its SAs may have in the datapath, too: a move was not answered."""
    heard: int = 0
    usage_in: Usage = _NO_USAGE
    usage_out: Usage = _NO_USAGE


class Installer:
    """The table of installed children.

    ``installed`` is told of each pair that a datapath carries. ``refused`` is told of one that none took, ``broken`` of
    one that no datapath carries any more or can be made to carry: the engine has it, so the peer has to hear of it.
    """

    def __init__(
        self,
        spis: SpiAllocator,
        log: Log,
        *,
        homes: Homes,
        candidates: Candidates,
        installed: Callable[[InstalledChild], None],
        refused: Callable[[InstalledChild, DatapathRefusal], None],
        broken: Callable[[InstalledChild, DatapathRefusal], None],
    ) -> None:
        self._spis = spis
        self._log = log
        self._homes = homes
        self._candidates = candidates
        self._installed = installed
        self._refused = refused
        self._broken = broken
        self._loop = asyncio.get_running_loop()
        self._by_id: dict[int, InstalledChild] = {}
        self._by_key: dict[SaKey, InstalledChild] = {}
        self._by_reqid: dict[int, list[InstalledChild]] = {}
        self._by_spi: dict[int, InstalledChild] = {}
        self._to_release: set[int] = set()
        self._lingering: dict[int, asyncio.TimerHandle] = {}
        self._strays: dict[Datapath, set[SaKey]] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._by_id)

    def children(self) -> list[InstalledChild]:
        """All of them, those that linger included."""
        return list(self._by_id.values())

    def child(self, child_id: int) -> InstalledChild | None:
        """The one of that id."""
        return self._by_id.get(child_id)

    def by_key(self, key: SaKey) -> InstalledChild | None:
        """The one that an SA belongs to."""
        return self._by_key.get(key)

    def by_spi(self, spi: int) -> InstalledChild | None:
        """The one with an inbound SPI, which is unique over all datapaths."""
        return self._by_spi.get(spi)

    def carrier(self, reqid: int) -> Datapath | None:
        """The datapath that has the live SAs of a reqid: those in use, else the youngest."""
        live = [child for child in self._live(reqid) if child.active or not child.broken]
        return max(live, key=lambda child: (child.active, child.child_id)).datapath if live else None

    def kin(self, sa: SecurityAssociation) -> Datapath | None:
        """The datapath that has live SAs of an SA's reqid for other traffic, as of other peers of one child."""
        for child in self._live(sa.reqid):
            other = child.outbound
            if not child.broken and (other.local_ts, other.remote_ts) != (sa.local_ts, sa.remote_ts):
                return child.datapath
        return None

    def _live(self, reqid: int) -> list[InstalledChild]:
        family = self._by_reqid.get(reqid, ())
        return [child for child in family if child.datapath is not None and not child.leaving]

    def release_spi(self, spi: int) -> None:
        """The engine is done with an SPI: it is free once no datapath has an SA of it."""
        if spi in self._by_spi:
            self._to_release.add(spi)
        else:
            self._spis.release(spi)

    async def perform(self, event: DatapathWork) -> None:
        """Do what an event asks of a datapath. Refusals are reported, not raised."""
        if isinstance(event, ChildUp):
            await self._up(event)
        elif isinstance(event, ChildActivate):
            child = self._by_id.get(event.child_id)
            if child is not None:
                await self.activate(child)
        elif isinstance(event, ChildDown):
            await self._down(event)
        else:
            await self._move(event)

    async def activate(self, child: InstalledChild) -> None:
        """Have packets leave by a child's outbound SA from now on."""
        child.activate = True
        if not (child.active or child.datapath is None or child.leaving or child.broken):
            await self._lead(child)

    async def _lead(self, child: InstalledChild, *, activated: bool = False) -> bool:
        """Make before break: its outbound SA is active, then its policy is in its datapath, then others are idle."""
        datapath, outbound = child.datapath, child.outbound
        assert datapath is not None
        child.active = True
        try:
            if not activated:
                await bounded(datapath.activate_outbound(outbound.key), "activate_outbound")
            await self._homes.move(outbound.reqid, datapath, partial(self._retire, child))
        except DatapathRefusal as refusal:
            child.active = False
            if child.datapath is datapath and not child.leaving:
                self._log.refusal(
                    "error", "daemon", "activate-refused", f"its traffic does not go by {datapath.name}", refusal,
                    connection=child.connection, child=child.child,
                )  # fmt: skip
                self._candidates.keep_off(outbound.reqid, datapath, refusal)
                self.fail(child, refusal)
            return False
        if child.datapath is datapath:
            self._idle_others(child)
        return child.datapath is datapath

    def _idle_others(self, child: InstalledChild) -> None:
        """The datapath idles earlier ones of the same traffic. One of them is asked for again when this one goes."""
        for other in self._by_reqid.get(child.outbound.reqid, ()):
            if other is not child and other.active and _same_traffic(other, child):
                other.active = False

    async def _retire(self, child: InstalledChild) -> None:
        """What a child's reqid has in other datapaths carries nothing any more: the policy is about to leave them."""
        for other in self._live(child.outbound.reqid):
            if other.datapath is child.datapath or other.datapath is None:
                continue
            other.active = False
            try:
                await bounded(other.datapath.deactivate_outbound(other.outbound.key), "deactivate_outbound")
            except DatapathRefusal as refusal:
                self._log.refusal(
                    "warning", "daemon", "deactivate-refused", "its old outbound SA may still be active", refusal,
                    connection=other.connection, child=other.child,
                )  # fmt: skip

    def fail(self, child: InstalledChild, refusal: DatapathRefusal) -> None:
        """A pair is of no use any more."""
        if not child.broken:
            child.broken = True
            self._broken(child, refusal)

    async def used(self, child: InstalledChild) -> None:
        """The peer sends on a child, so it can receive on it: activate it if it waited for that.

        One that was active before and is idle now stays so: a younger one has taken its traffic.
        """
        if not child.activate:
            await self.activate(child)

    def forget(self, datapath: Datapath) -> list[InstalledChild]:
        """A datapath is gone with all that it had. Returns the children that it carried and that the engine has."""
        lost = [child for child in self._by_id.values() if child.datapath is datapath]
        self._strays.pop(datapath, None)
        for child in lost:
            child.datapath, child.active = None, False
            if child.leaving:
                self._drop(child)
        return [child for child in lost if not child.leaving]

    async def idle(self) -> None:
        """Wait until removals that were started are done."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    async def close(self) -> None:
        """Remove everything that is left, lingering SAs included."""
        await self.idle()
        if self._sweep is not None:
            self._sweep.cancel()
        by_datapath: dict[Datapath, list[SaKey]] = {}
        for child in self.children():
            if child.datapath is not None:
                keys = by_datapath.setdefault(child.datapath, [])
                keys += [child.inbound.key] if child.leaving else [child.outbound.key, child.inbound.key]
            self._drop(child)
        for datapath, keys in by_datapath.items():
            with contextlib.suppress(DatapathRefusal):
                await bounded(datapath.remove(keys), "remove")

    async def _up(self, event: ChildUp) -> None:
        child = InstalledChild(
            event.child_id, event.ike_id, event.connection, event.child, event.inbound, event.outbound, event.activate
        )
        requests = [
            InstallRequest(event.inbound, event.inbound_keys),
            InstallRequest(event.outbound, event.outbound_keys, activate=event.activate),
        ]
        # Entered before the answer: the first packets may be reported before it.
        self._enter(child)
        try:
            placed = await place(self._candidates.of(child.outbound), requests, _install)
        except Unplaced as refusal:
            child.broken = True
            self._candidates.asked(refusal.why_not, None, in_doubt=refusal.in_doubt)
            if refusal.in_doubt:
                await self._burn(refusal.why_not[-1].datapath, child)
            self._refused(child, refusal)
            return
        self._candidates.asked(placed.why_not, placed.datapath)
        child.why_not, child.carried = placed.why_not, placed.carried
        if self._by_id.get(child.child_id) is not child:  # it ended while it was being installed
            await self._remove_from(placed.datapath, [child.outbound.key, child.inbound.key], child)
            return
        if not self._candidates.runs(placed.datapath):
            self.fail(child, DatapathRefusal(Reason.DATAPATH_GONE, placed.datapath.name))
            return
        child.datapath, child.installed_at = placed.datapath, self._loop.time()
        if child.activate and not await self._lead(child, activated=event.activate):
            return
        self._installed(child)

    async def _burn(self, name: str, child: InstalledChild) -> None:
        """It is unknown whether the SAs are there, so nobody gets their keys again; what is there has to go."""
        datapath = self._candidates.running(name)
        if datapath is not None:
            keys = [k for k in (child.outbound.key, child.inbound.key) if self._by_key.get(k) in (None, child)]
            await self._remove_from(datapath, keys, child)

    async def _down(self, event: ChildDown) -> None:
        child = self._by_id.get(event.child_id)
        if child is None or child.leaving:
            return
        # Make before break: what takes over its traffic is activated before its outbound SA goes.
        if child.active and (heir := self._heir(child, event.replaced_by)) is not None:
            await self.activate(heir)
        child.leaving = True
        child.active = False
        if not self._live(child.outbound.reqid):
            self._homes.vacated()
        if event.linger <= 0 or child.datapath is None:
            keys = [child.outbound.key, child.inbound.key]
            self._drop(child)
            await self._remove(child, keys)
            return
        # The peer's last packets may still be on their way: only the inbound SA stays for them.
        if self._by_key.get(child.outbound.key) is child:
            del self._by_key[child.outbound.key]
        self._lingering[child.child_id] = self._loop.call_later(event.linger, self._lingered, child)
        await self._remove(child, [child.outbound.key])

    def _heir(self, child: InstalledChild, successor: int | None) -> InstalledChild | None:
        """Who takes over a child's traffic: its successor, or the youngest other one for the same traffic."""
        others = [
            other
            for other in self._by_reqid.get(child.outbound.reqid, ())
            if other is not child
            and other.datapath is not None
            and not (other.leaving or other.broken)
            and _same_traffic(other, child)
        ]
        by_id = {other.child_id: other for other in others}
        return by_id.get(successor or 0) or max(others, key=lambda other: other.child_id, default=None)

    def _lingered(self, child: InstalledChild) -> None:
        self._lingering.pop(child.child_id, None)
        if self._by_id.get(child.child_id) is not child:
            return
        self._start(self._remove_last(child))

    async def _remove_last(self, child: InstalledChild) -> None:
        await self._remove(child, [child.inbound.key])
        self._drop(child)

    async def _remove(self, child: InstalledChild, keys: list[SaKey]) -> None:
        if child.datapath is not None:
            await self._remove_from(child.datapath, [*keys, *child.doubtful], child)

    async def _remove_from(self, datapath: Datapath, keys: list[SaKey], child: InstalledChild) -> None:
        try:
            await bounded(datapath.remove(keys), "remove")
        except DatapathRefusal as refusal:
            if not self._candidates.runs(datapath):
                return
            self._strays.setdefault(datapath, set()).update(keys)
            self._sweep_later()
            self._log.refusal(
                "warning", "daemon", "remove-refused", "SAs may still be in the datapath", refusal,
                connection=child.connection, child=child.child,
            )  # fmt: skip

    def _sweep_later(self) -> None:
        if self._sweep is None:
            self._sweep = self._loop.call_later(REMOVE_AGAIN, self._start_sweep)

    def _start_sweep(self) -> None:
        self._sweep = None
        self._start(self._remove_strays())

    async def _remove_strays(self) -> None:
        """Ask again for what datapaths did not remove."""
        for datapath, strays in list(self._strays.items()):
            keys = [key for key in strays if key not in self._by_key]
            try:
                await bounded(datapath.remove(keys), "remove")
            except DatapathRefusal:
                if self._candidates.runs(datapath):
                    self._sweep_later()
                    continue
            self._strays.pop(datapath, None)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _move(self, event: EndpointsChanged) -> None:
        child = self._by_id.get(event.child_id)
        if child is None or child.datapath is None:
            return
        old_in, old_out = child.inbound.key, child.outbound.key
        inbound = replace(
            child.inbound, source=event.remote, destination=event.local, encapsulation=event.inbound_encapsulation
        )
        outbound = replace(
            child.outbound, source=event.local, destination=event.remote, encapsulation=event.outbound_encapsulation
        )
        try:
            await bounded(
                child.datapath.update_endpoints(old_in, inbound.source, inbound.destination, inbound.encapsulation),
                "update_endpoints",
            )
            self._rekey(child, old_in, inbound.key)
            child.inbound = inbound
            if not child.leaving:
                await bounded(
                    child.datapath.update_endpoints(
                        old_out, outbound.source, outbound.destination, outbound.encapsulation
                    ),
                    "update_endpoints",
                )
                self._rekey(child, old_out, outbound.key)
                child.outbound = outbound
        except DatapathRefusal as refusal:
            meant = refusal.reason is Reason.MOVE_UNSUPPORTED
            self._log.refusal(
                "info" if meant else "error", "daemon", "update-refused",
                f"the peer moved to {event.remote} and its SAs did not", refusal,
                connection=child.connection, child=child.child,
            )  # fmt: skip
            if refusal.reason is Reason.DATAPATH_TIMEOUT:
                child.doubtful += [inbound.key, outbound.key]
            if not child.leaving:
                self.fail(child, refusal)  # new SAs have the new addresses

    def _enter(self, child: InstalledChild) -> None:
        self._by_id[child.child_id] = child
        for key in (child.inbound.key, child.outbound.key):
            # Two peers behind one NAT may choose one SPI: the datapath refuses the second, the first keeps its key.
            holder = self._by_key.get(key)
            if holder is None or holder.leaving:
                self._by_key[key] = child
        self._by_reqid.setdefault(child.outbound.reqid, []).append(child)
        self._by_spi[child.inbound.spi] = child

    def _drop(self, child: InstalledChild) -> None:
        if self._by_id.get(child.child_id) is not child:
            return
        del self._by_id[child.child_id]
        for key in (child.inbound.key, child.outbound.key):
            if self._by_key.get(key) is child:
                del self._by_key[key]
        family = self._by_reqid.get(child.outbound.reqid, [])
        if child in family:
            family.remove(child)
        if not family:
            self._by_reqid.pop(child.outbound.reqid, None)
        timer = self._lingering.pop(child.child_id, None)
        if timer is not None:
            timer.cancel()
        spi = child.inbound.spi
        if self._by_spi.get(spi) is child:
            del self._by_spi[spi]
        if spi in self._to_release:
            self._to_release.discard(spi)
            self._spis.release(spi)

    def _rekey(self, child: InstalledChild, old: SaKey, new: SaKey) -> None:
        if self._by_key.get(old) is child:
            del self._by_key[old]
        self._by_key[new] = child


def _same_traffic(one: InstalledChild, other: InstalledChild) -> bool:
    mine, theirs = one.outbound, other.outbound
    return (mine.local_ts, mine.remote_ts) == (theirs.local_ts, theirs.remote_ts)


async def _install(datapath: Datapath, requests: Sequence[InstallRequest]) -> tuple[Carried, ...]:
    return await bounded(datapath.install(requests), "install", in_doubt=True)
