"""A batch of SAs: in the kernel with what they want of its policies, or nothing of both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from appliance.datapath.kernel import selectors, states
from appliance.datapath.kernel.core import Core, inbound_spis
from appliance.datapath.kernel.counters import read_usage
from appliance.datapath.kernel.enforcement import Enforcement
from appliance.datapath.kernel.finding import DeviceFinder
from appliance.datapath.kernel.installing import Attempt, install, levels, lower, remove
from appliance.datapath.kernel.options import home_mark
from appliance.datapath.kernel.requester import refusal_of
from appliance.datapath.kernel.sad import Row, traffic
from appliance.datapath.kernel.states import Device
from appliance.datapath.kernel.xfrm import State
from appliance.reasons import Reason
from appliance.sa.association import Direction, Offload, SaKey
from appliance.sa.datapath import Carried, DatapathRefusal, InstallRequest, WhyNot
from appliance.sa.keys import wipe

Material = tuple[bytearray, bytearray]


class Batches:
    """``open`` first. ``installed`` hears of the SAs that are there, with ``Core.lock`` held."""

    def __init__(self, core: Core, enforcement: Enforcement, installed: Callable[[Sequence[Row]], None]) -> None:
        self._core = core
        self._enforcement = enforcement
        self._installed = installed
        self._finder: DeviceFinder | None = None

    def open(self) -> None:
        """In the network namespace of the calling thread. Raises OSError."""
        self._finder = DeviceFinder(self._core.options.mark)

    def close(self) -> None:
        """Look for devices no more. Idempotent."""
        if self._finder is not None:
            self._finder.close()

    async def install(self, requested: Sequence[InstallRequest]) -> tuple[Carried, ...]:
        """See ``_install``, which goes on if nobody waits any more: its thread reads the keys until it is done."""
        task = asyncio.get_running_loop().create_task(self._install(requested))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(task)

    async def _install(self, requested: Sequence[InstallRequest]) -> tuple[Carried, ...]:
        """Install SAs, all or none, each with as much offload as its child wants and its device takes.

        Refusals: ALREADY_INSTALLED, BAD_KEY, MODE_UNSUPPORTED, SELECTORS_UNSUPPORTED, TABLE_FULL, NO_OFFLOAD_DEVICE,
        OFFLOAD_UNSUPPORTED, OFFLOAD_REFUSED, OFFLOAD_NOT_DONE, KERNEL_REFUSED.
        """
        core = self._core
        taken: list[Material] = []
        rows: list[Row] = []
        try:
            for request in requested:
                taken.append(request.keys.take())
            async with core.lock:
                core.alive()
                ways = await self._prepare(requested, taken, rows)
                for row in rows:
                    core.sad.add(row)
                try:
                    core.claim_spis(inbound_spis(row.key for row in rows))
                    left: list[list[Attempt]] | None = ways
                    while left:
                        left = await self._put(requested, rows, left)
                except (DatapathRefusal, OSError):
                    for row in rows:
                        self._enforcement.forget(row)
                    raise
                self._installed(rows)
                return tuple(row.carried for row in rows)
        except OSError as error:
            raise refusal_of(error, "installing") from error
        finally:
            for keys in taken:
                for key in keys:
                    wipe(key)
            for request in requested:
                request.keys.wipe()

    async def _prepare(
        self, requested: Sequence[InstallRequest], taken: Sequence[Material], rows: list[Row]
    ) -> list[list[Attempt]]:
        """The rows of a batch, and the ways to install each. Raises DatapathRefusal; then no number is kept."""
        core = self._core
        ways: list[list[Attempt]] = []
        keys: set[SaKey] = set()
        try:
            for request, material in zip(requested, taken, strict=True):
                sa = request.sa
                if core.sad.get(sa.key) is not None or sa.key in keys:
                    raise DatapathRefusal(Reason.ALREADY_INSTALLED, str(sa.key))
                keys.add(sa.key)
                if len(core.sad) + len(rows) >= core.options.max_sas:
                    raise DatapathRefusal(Reason.TABLE_FULL, f"{core.options.max_sas} SAs")
                refusal = states.objection(sa)
                if refusal is not None:
                    raise refusal
                selectors.outbound(sa.local_ts, sa.remote_ts)
                devices, why_not = await self._devices(request)
                what = traffic(sa)
                try:
                    reqid = core.reqids.take(what)
                except OverflowError as error:
                    raise DatapathRefusal(Reason.TABLE_FULL, str(error)) from None
                try:
                    attempts = [Attempt(device, self._state(request, material, reqid, device)) for device in devices]
                except ValueError as error:
                    core.reqids.give(what)
                    raise DatapathRefusal(Reason.BAD_KEY, f"{sa.key}: {error}") from None
                row = Row(sa, what, reqid, attempts[0].state, carried=Carried("", tuple(why_not)))
                row.priority = self._enforcement.priority(sa.reqid)
                rows.append(row)
                ways.append(attempts)
        except BaseException:
            for row in rows:
                core.reqids.give(row.traffic)
            raise
        return ways

    def _state(self, request: InstallRequest, material: Material, reqid: int, device: Device | None) -> State:
        core = self._core
        return states.state_of(
            request.sa,
            material,
            reqid=reqid,
            mark=core.options.mark,
            home_mark=home_mark(core.options.mark),
            features=core.features,
            device=device,
        )

    async def _devices(self, request: InstallRequest) -> tuple[list[Device | None], list[WhyNot]]:
        """The devices to try, None for the kernel alone, best first."""
        handling = request.sa.handling
        wanted = levels(handling.offload)
        if wanted == (None,):
            return [None], []
        if handling.offload is Offload.AUTO and handling.if_id and request.sa.direction is Direction.IN:
            # Linux refuses it from 6.16 on, since devices know no if_id; nothing older says so.
            words = "no device keeps the packets of tunnel interfaces apart"
            return [None], [WhyNot("kernel, offload", Reason.OFFLOAD_UNSUPPORTED, words)]
        peer = request.sa.source if request.sa.direction is Direction.IN else request.sa.destination
        try:
            finder = self._finder
            assert finder is not None
            name, index = await self._core.asked.run(lambda _: finder.find(handling.offload_device, peer))
        except DatapathRefusal as refusal:
            if handling.offload is not Offload.AUTO:
                raise
            return [None], [WhyNot("kernel, offload", refusal.reason, refusal.detail)]
        return [None if packet is None else Device(name, index, packet) for packet in wanted], []

    async def _put(
        self, requested: Sequence[InstallRequest], rows: Sequence[Row], ways: Sequence[Sequence[Attempt]]
    ) -> list[list[Attempt]] | None:
        """SAs, then policies, or nothing of both. Returns the ways that are left if a device refused the policies."""
        idled: list[Row] = []
        there = False
        try:
            await self._core.asked.run(lambda socket: install(socket, rows, ways))
            there = True
            for row, request in zip(rows, requested, strict=True):
                row.active = request.activate or row.sa.direction is Direction.IN
                if request.activate:
                    idled += self._enforcement.idle_rivals(row)
                self._enforcement.claim(row)
            await self._enforcement.apply()
        except (DatapathRefusal, OSError) as error:
            refusal = error if isinstance(error, DatapathRefusal) else refusal_of(error, "installing")
            # Where they are not there, one of their SPIs may be another's.
            if not await self._undo(rows, idled, there=there or refusal.in_doubt):
                raise DatapathRefusal(refusal.reason, refusal.detail, in_doubt=True) from error
            left = lower(rows, ways, refusal) if there else None
            if left is None:
                raise refusal from error
            return left
        return None

    async def _undo(self, rows: Sequence[Row], idled: Sequence[Row], *, there: bool) -> bool:
        """Take out a batch, and put back what it replaced. ``there``: its SAs may be there.

        Whether they are surely gone and nothing left by them, so that their keys may be used once more.
        """
        for row in rows:
            self._core.spd.release(row.key)
        self._enforcement.release_ike(rows)
        self._enforcement.reactivate(idled)
        sending = [row for row in rows if row.active and row.sa.direction is Direction.OUT] if there else []
        try:
            # Policies first: then nothing more leaves.
            await self._enforcement.apply()
            # An SA that is gone, or that the kernel does not tell of, may have carried anything.
            clean = len(await read_usage(self._core.asked, sending)) == len(sending)
        except (DatapathRefusal, OSError):
            clean = not sending
        if there:
            try:
                left = await self._core.asked.run(lambda socket: remove(socket, [row.state for row in rows]))
            except (DatapathRefusal, OSError):
                return False
            clean = clean and left is None
        return clean and not any(row.usage.packets for row in sending)
