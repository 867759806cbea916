"""The datapaths of the configured order: started, given the policies, watched, and started again when they fail."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable

from appliance.daemon.homes import Homes
from appliance.daemon.log import Log
from appliance.daemon.runtime import Why
from appliance.daemon.slot import Slot
from appliance.reasons import Reason, Refusal
from appliance.sa.association import SecurityPolicy
from appliance.sa.datapath import Datapath, DatapathEvent, DatapathRefusal, Failed
from appliance.sa.placement import Candidate

RESTART_FIRST = 0.5
RESTART_LONGEST = 30.0


class Datapaths:
    """All slots, in order.

    ``heard`` takes the events of running datapaths, ``lost`` is told of one that failed, ``gained`` of one that runs
    and has its policies. ``carrier`` tells which datapath has the live SAs of a reqid.
    """

    def __init__(
        self,
        log: Log,
        makers: Iterable[tuple[str, Callable[[], Awaitable[Datapath]]]],
        *,
        heard: Callable[[DatapathEvent, Datapath], None],
        lost: Callable[[Datapath, Reason, str], None],
        gained: Callable[[], None],
        carrier: Callable[[int], Datapath | None] = lambda reqid: None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.slots = [Slot(name, make) for name, make in makers]
        self.homes = Homes(log, self.slots, carrier=carrier)
        self._log = log
        self._heard = heard
        self._lost = lost
        self._gained = gained
        self._wall = wall
        self._loop = asyncio.get_running_loop()
        self._closing = False

    @property
    def ready(self) -> bool:
        """Whether one of them can take SAs."""
        return any(slot.capabilities is not None and slot.capabilities.usable for slot in self.slots)

    def candidates(self) -> list[Candidate]:
        """All of them as placement asks them."""
        return [slot.candidate() for slot in self.slots]

    def refusal(self) -> Refusal:
        """Why none is ready."""
        whys = [(slot.name, slot.why) for slot in self.slots if slot.why is not None]
        if not whys:
            return Refusal(Reason.DATAPATH_GONE, "no datapath is configured")
        detail = "; ".join(f"{name}: {why.reason.words}: {why.detail}" for name, why in whys)
        name, why = whys[0]
        return Refusal(why.reason, f"{name}: {why.detail}" if len(whys) == 1 else detail, remedy=why.remedy)

    async def start(self, policies: tuple[SecurityPolicy, ...]) -> None:
        """Start each once, with these policies, and watch them from now on. Those that fail are tried again."""
        self.homes.use(policies)
        for slot in self.slots:
            await self._start(slot)
            slot.task = asyncio.get_running_loop().create_task(self._watch(slot))

    async def change_policies(self, policies: tuple[SecurityPolicy, ...]) -> None:
        """Make these the policies. Raises DatapathRefusal; datapaths that took them keep them."""
        await self.homes.change(policies)

    async def close(self) -> None:
        """Stop watching and close all."""
        self._closing = True
        self.homes.close()
        for slot in self.slots:
            if slot.task is not None:
                slot.task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await slot.task
            if slot.datapath is not None:
                await self._close(slot.datapath)
                slot.datapath = slot.capabilities = None

    async def _close(self, datapath: Datapath) -> None:
        try:
            async with asyncio.timeout(5.0):
                await datapath.close()
        except (Refusal, TimeoutError, OSError) as error:
            self._log.add("warning", "datapath", "close-failed", f"{datapath.name} did not close in order: {error}")
        except Exception as error:
            self._log.internal("datapath", f"closing {datapath.name}", error)

    async def _start(self, slot: Slot) -> bool:
        datapath: Datapath | None = None
        try:
            datapath = await slot.make()
            capabilities = await datapath.probe()
            if not capabilities.usable:
                missing = next(iter(capabilities.missing), None)
                reason = missing.reason if missing is not None else Reason.DATAPATH_GONE
                raise DatapathRefusal(reason, missing.detail if missing is not None else "not usable")
            await self.homes.open(slot, datapath, capabilities)
        except Refusal as refusal:
            await self._not_started(slot, datapath, refusal)
            return False
        except Exception as error:
            self._log.internal("datapath", f"starting {slot.name}", error)
            await self._not_started(slot, datapath, Refusal(Reason.INTERNAL, "see the log"))
            return False
        except asyncio.CancelledError:
            # It is stopped before it is entered, and nobody else would take its policies away.
            if datapath is not None:
                await self._close(datapath)
            raise
        self._log.add("info", "datapath", "datapath-up", f"{slot.name} is up, {len(capabilities.suites)} suites")
        for gap in capabilities.missing:
            words = f"{slot.name} has no {gap.what}: {gap.reason.words}" + (f": {gap.detail}" if gap.detail else "")
            self._log.add("info", "datapath", "datapath-lacks", words, reason=gap.reason)
        return True

    async def _not_started(self, slot: Slot, datapath: Datapath | None, refusal: Refusal) -> None:
        if datapath is not None:
            await self._close(datapath)
        why = slot.why
        if why is None or why.reason is not refusal.reason:
            self._log.refusal("error", "datapath", "datapath-not-started", f"{slot.name} did not start", refusal)
            why = Why(refusal.reason, refusal.detail, self._wall(), refusal.remedy)
        slot.emptied(why)

    async def _watch(self, slot: Slot) -> None:
        while not self._closing:
            if slot.datapath is None:
                slot.tries += 1
                await asyncio.sleep(min(RESTART_LONGEST, RESTART_FIRST * 2.0 ** min(slot.tries - 1, 10)))
                if not await self._start(slot):
                    continue
                self._call(self._gained)
            datapath = slot.datapath
            assert datapath is not None
            failed = await self._listen(datapath)
            if self._closing:
                return
            slot.failed(Why(failed.reason, failed.detail, self._wall()), self._loop.time())
            self._log.refusal(
                "error", "datapath", "datapath-failed", f"{slot.name} failed", Refusal(failed.reason, failed.detail)
            )
            self._call(lambda lost=datapath, f=failed: self._lost(lost, f.reason, f.detail))  # type: ignore[misc]
            # Its policies go where they are wanted now; it may take a while to end.
            self.homes.settle_soon(0.0)
            await self._close(datapath)

    async def _listen(self, datapath: Datapath) -> Failed:
        """Pass events on until the datapath fails or ends."""
        try:
            async for event in datapath.events():
                if isinstance(event, Failed):
                    return event
                self._call(lambda event=event: self._heard(event, datapath))  # type: ignore[misc]
        except Refusal as refusal:
            return Failed(refusal.reason, refusal.detail)
        except Exception as error:
            self._log.internal("datapath", f"events of {datapath.name}", error)
        return Failed(Reason.DATAPATH_GONE, "it ended")

    def _call(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            self._log.internal("datapath", "handling an event", error)
