"""Negotiated children in datapaths: installs, activates, moves and removes their SAs, and knows where each runs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from appliance.daemon.ikeloop import DatapathWork
from appliance.daemon.log import Log
from appliance.ike.events import ChildActivate, ChildDown, ChildUp, EndpointsChanged
from appliance.reasons import Reason
from appliance.sa.association import SaKey, SecurityAssociation
from appliance.sa.datapath import Carried, Datapath, DatapathRefusal, InstallRequest, Usage, WhyNot
from appliance.sa.placement import Candidate, place
from appliance.sa.spi import SpiAllocator

ANSWER_SECONDS = 6.0
"""How long a datapath may take to answer; its client gives up a little earlier, and knows better why."""
_T = TypeVar("_T")
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
    heard: int = 0
    usage_in: Usage = _NO_USAGE
    usage_out: Usage = _NO_USAGE


class Installer:
    """The table of installed children.

    ``candidates`` gives the datapaths in their order. ``installed`` is told of each pair that a datapath took;
    ``refused`` of one that none took, with the reason: the peer has to be told, too.
    """

    def __init__(
        self,
        spis: SpiAllocator,
        log: Log,
        *,
        candidates: Callable[[], Sequence[Candidate]],
        installed: Callable[[InstalledChild], None],
        refused: Callable[[ChildUp, DatapathRefusal], None],
    ) -> None:
        self._spis = spis
        self._log = log
        self._candidates = candidates
        self._installed = installed
        self._refused = refused
        self._loop = asyncio.get_running_loop()
        self._by_id: dict[int, InstalledChild] = {}
        self._by_key: dict[SaKey, InstalledChild] = {}
        self._by_reqid: dict[int, list[InstalledChild]] = {}
        self._held_spis: set[int] = set()
        self._to_release: set[int] = set()
        self._lingering: dict[int, asyncio.TimerHandle] = {}
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

    def release_spi(self, spi: int) -> None:
        """The engine is done with an SPI: it is free once no datapath has an SA of it."""
        if spi in self._held_spis:
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
        if child.active or child.datapath is None or child.leaving:
            return
        self._idle_others(child)
        child.active = True
        try:
            await bounded(child.datapath.activate_outbound(child.outbound.key), "activate_outbound")
        except DatapathRefusal as refusal:
            child.active = False
            self._log.refusal(
                "error", "daemon", "activate-refused", "the outbound SA is not active", refusal,
                connection=child.connection, child=child.child,
            )  # fmt: skip

    def _idle_others(self, child: InstalledChild) -> None:
        """The datapath idles earlier ones of the same traffic. One of them is asked for again when this one goes."""
        for other in self._by_reqid.get(child.outbound.reqid, ()):
            if other is not child and other.active and _same_traffic(other, child):
                other.active = False

    async def used(self, child: InstalledChild) -> None:
        """The peer sends on a child, so it can receive on it: activate it if it waited for that.

        One that was active before and is idle now stays so: a younger one has taken its traffic.
        """
        if not child.activate:
            await self.activate(child)

    def forget(self, datapath: Datapath) -> list[InstalledChild]:
        """A datapath is gone with all that it had. Returns the children that it carried."""
        lost = [child for child in self._by_id.values() if child.datapath is datapath]
        for child in lost:
            self._drop(child)
        return lost

    async def idle(self) -> None:
        """Wait until removals that were started are done."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    async def close(self) -> None:
        """Remove everything that is left, lingering SAs included."""
        await self.idle()
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
        candidates = self._candidates()
        try:
            placed = await bounded(place(candidates, requests), "install", in_doubt=True)
        except DatapathRefusal as refusal:
            self._drop(child)
            if refusal.in_doubt:
                await self._burn(candidates, child)
            self._refused(event, refusal)
            return
        child.datapath, child.why_not, child.carried = placed.datapath, placed.why_not, placed.carried
        child.installed_at = self._loop.time()
        if event.activate:
            self._idle_others(child)
            child.active = True
        elif child.activate:
            await self.activate(child)  # its peer used it while it was being installed
        self._installed(child)

    async def _burn(self, candidates: Sequence[Candidate], child: InstalledChild) -> None:
        """It is unknown whether the SAs are there, so nobody gets their keys again; what is there has to go."""
        for candidate in candidates:
            if candidate.datapath is not None:
                with contextlib.suppress(DatapathRefusal):
                    keys = [k for k in (child.outbound.key, child.inbound.key) if self._by_key.get(k) in (None, child)]
                    await bounded(candidate.datapath.remove(keys), "remove")

    async def _down(self, event: ChildDown) -> None:
        child = self._by_id.get(event.child_id)
        if child is None or child.leaving:
            return
        # Make before break: what takes over its traffic is activated before its outbound SA goes.
        if child.active and (heir := self._heir(child, event.replaced_by)) is not None:
            await self.activate(heir)
        child.leaving = True
        child.active = False
        if event.linger <= 0:
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
            if other is not child and other.datapath is not None and not other.leaving and _same_traffic(other, child)
        ]
        by_id = {other.child_id: other for other in others}
        return by_id.get(successor or 0) or max(others, key=lambda other: other.child_id, default=None)

    def _lingered(self, child: InstalledChild) -> None:
        self._lingering.pop(child.child_id, None)
        if self._by_id.get(child.child_id) is not child:
            return
        task = self._loop.create_task(self._remove_last(child))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _remove_last(self, child: InstalledChild) -> None:
        await self._remove(child, [child.inbound.key])
        self._drop(child)

    async def _remove(self, child: InstalledChild, keys: list[SaKey]) -> None:
        if child.datapath is None:
            return
        try:
            await bounded(child.datapath.remove(keys), "remove")
        except DatapathRefusal as refusal:
            self._log.refusal(
                "warning", "daemon", "remove-refused", "SAs may still be in the datapath", refusal,
                connection=child.connection, child=child.child,
            )  # fmt: skip

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
            self._log.refusal(
                "error", "daemon", "update-refused", f"the peer moved to {event.remote} and its SAs did not", refusal,
                connection=child.connection, child=child.child,
            )  # fmt: skip

    def _enter(self, child: InstalledChild) -> None:
        self._by_id[child.child_id] = child
        for key in (child.inbound.key, child.outbound.key):
            # Two peers behind one NAT may choose one SPI: the datapath refuses the second, the first keeps its key.
            holder = self._by_key.get(key)
            if holder is None or holder.leaving:
                self._by_key[key] = child
        self._by_reqid.setdefault(child.outbound.reqid, []).append(child)
        self._held_spis.add(child.inbound.spi)

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
        self._held_spis.discard(spi)
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


async def bounded(work: Awaitable[_T], what: str, *, in_doubt: bool = False, seconds: float = ANSWER_SECONDS) -> _T:
    """Await a datapath for so many seconds at most. Raises DatapathRefusal(DATAPATH_TIMEOUT)."""
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError:
        raise DatapathRefusal(
            Reason.DATAPATH_TIMEOUT, f"no answer to {what} in {seconds:g} s", in_doubt=in_doubt
        ) from None
