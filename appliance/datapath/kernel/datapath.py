"""The kernel datapath: SAs and policies in the Linux kernel, by the contract of ``appliance.sa.datapath``."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import replace

from appliance.datapath.demultiplexer import Demultiplexer
from appliance.datapath.filters import Owner
from appliance.datapath.kernel import claims, selectors, states
from appliance.datapath.kernel.capabilities import capabilities_of, features_of
from appliance.datapath.kernel.counters import read_counters
from appliance.datapath.kernel.finding import DeviceFinder
from appliance.datapath.kernel.hearing import Hearing
from appliance.datapath.kernel.installing import Attempt, install, levels, lower, remove
from appliance.datapath.kernel.link_events import LinkChange
from appliance.datapath.kernel.options import KernelOptions, home_mark
from appliance.datapath.kernel.probe.kernel import probe_kernel
from appliance.datapath.kernel.requester import Requester, refusal_of
from appliance.datapath.kernel.sad import Reqids, Row, Sad, generation_of, traffic
from appliance.datapath.kernel.spd import OUT, Place, Spd
from appliance.datapath.kernel.states import Device, Features
from appliance.datapath.kernel.steering import KernelSteering
from appliance.datapath.kernel.survivors import Survivors
from appliance.datapath.kernel.tunnels import Tunnels
from appliance.datapath.kernel.xfrm import (
    DefaultAction,
    Defaults,
    Policy,
    PolicyId,
    State,
    StateId,
    requests,
)
from appliance.reasons import Reason, Refusal
from appliance.sa.association import Direction, Offload, PolicyAction, SaKey, SecurityPolicy, UdpEncapsulation
from appliance.sa.datapath import (
    Capabilities,
    Carried,
    Changed,
    DatapathEvent,
    DatapathRefusal,
    Dump,
    Expired,
    ExpiryKind,
    Failed,
    InboundState,
    InboundUsed,
    InstalledSa,
    InstallRequest,
    Usage,
    Vanished,
    WhyNot,
)
from appliance.sa.interface import TunnelInterface
from appliance.sa.keys import wipe
from appliance.sa.selector import Address

MANY = 50
"""From so many SAs on all are listed, which is faster than asking for each."""
FIRST_LOOKS = 0.1, 30.0
"""Seconds between looks for the first packet on an SA: as long as it is old, within these."""


class KernelDatapath:
    """The kernel's own IPsec.

    ``start`` once. ``demultiplexer`` leaves the packets of inbound SAs to the kernel: with it open. Use one event loop
    throughout.
    """

    def __init__(
        self,
        options: KernelOptions | None = None,
        *,
        demultiplexer: Demultiplexer | None = None,
    ) -> None:
        self.options = options or KernelOptions()
        self.sad = Sad()
        self.spd = Spd()
        self._capabilities: Capabilities | None = None
        self._features = Features()
        self._finder: DeviceFinder | None = None
        self._demultiplexer = demultiplexer
        self._requester: Requester | None = None
        self._hearing: Hearing | None = None
        self._survivors: Survivors | None = None
        self._steering: KernelSteering | None = None
        self._tunnels: Tunnels | None = None
        self._tunnels_refused: tuple[Reason, str] | None = None
        self._reqids = Reqids(0)
        self._policies: dict[str, SecurityPolicy] = {}
        self._elsewhere: dict[str, SecurityPolicy] = {}
        self._wanting: dict[str, int] = {}
        self._ready = False
        self._defaults: Defaults | None = None
        self._lock = asyncio.Lock()
        self._events: asyncio.Queue[DatapathEvent | None] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timers: set[asyncio.TimerHandle] = set()
        self._audit_due: asyncio.TimerHandle | None = None
        self._closing = False
        self._counted: dict[str, int] = {}
        self._stat = -1

    @property
    def name(self) -> str:
        """The name in ``datapath.order``."""
        return "kernel"

    # Life

    async def start(self) -> None:
        """Find out what the kernel can do, open the sockets in the network namespace of the calling thread, take stock.

        Raises DatapathRefusal: NO_XFRM, NO_KERNEL_ESP, NO_PRIVILEGE, KERNEL_TOO_OLD, KERNEL_REFUSED.
        """
        self._loop = asyncio.get_running_loop()
        abilities = await asyncio.to_thread(probe_kernel)
        can = self._capabilities = capabilities_of(abilities, max_sas=self.options.max_sas)
        if not can.usable:
            raise DatapathRefusal(can.missing[0].reason, can.missing[0].detail)
        self._features = features_of(abilities)
        self._requester = Requester()
        try:
            if self._demultiplexer is not None:
                self._demultiplexer.open_kernel()
            self._finder = DeviceFinder(self.options.mark)
            with contextlib.suppress(OSError):
                self._stat = os.open("/proc/thread-self/net/xfrm_stat", os.O_RDONLY | os.O_CLOEXEC)
            if self.options.steer:
                self._steering = KernelSteering(self.options)
            self._tunnels = Tunnels(self._link_changed)
            self._hearing = Hearing(self, self._requester)
            self._survivors = await Survivors.of(self._requester)
            self._reqids = Reqids(self._survivors.unused_generation())
            self.spd.adopt(self._survivors.every_policy)
            if self.options.block:
                await self._block()
        except OSError as error:
            await self.close()
            raise refusal_of(error, "taking stock of what the kernel has") from error
        except Refusal as refusal:
            await self.close()
            raise DatapathRefusal(refusal.reason, refusal.detail) from refusal
        if self._survivors.states:
            self._claim_spis(self._survivors.inbound_spis(self._survivors.states))
            words = (
                f"{len(self._survivors.states)} SAs of an earlier daemon carry traffic until they are replaced,"
                f" for {self.options.survivors:g} s at most"
            )
            self._tell(Changed(Reason.LEFT_BEHIND, words))
        self._hearing.attach(self._loop)
        self._tunnels.attach(self._loop)
        self._every(self.options.audit, self.audit)

    async def _block(self) -> None:
        found = await self._asked.run(lambda socket: socket.do(requests.get_defaults()))
        if not isinstance(found, Defaults):
            raise DatapathRefusal(Reason.KERNEL_TOO_OLD, "default policies came with Linux 5.15")
        self._defaults = found

    def _alive(self) -> None:
        """Raise DatapathRefusal(DATAPATH_GONE) if it was not started or has ended."""
        self._asked  # noqa: B018 - the property raises

    @property
    def _asked(self) -> Requester:
        if self._requester is None or self._closing:
            raise DatapathRefusal(Reason.DATAPATH_GONE, "it was not started or has ended")
        return self._requester

    async def probe(self) -> Capabilities:
        """Tell what can be done here and now. Never raises."""
        if self._capabilities is not None:
            return self._capabilities
        return capabilities_of(await asyncio.to_thread(probe_kernel), max_sas=self.options.max_sas)

    async def close(self) -> None:
        """Remove everything of ours, wipe all keys, end. Idempotent."""
        if self._closing:
            return
        async with self._lock:
            requester, self._requester = self._requester, None
            self._closing = True
            if self._hearing is not None:
                self._hearing.close()
            for timer in self._timers:
                timer.cancel()
            for task in self._tasks:
                task.cancel()
            if requester is not None:
                await self._remove_everything(requester)
                requester.close()
            if self._finder is not None:
                self._finder.close()
            if self._demultiplexer is not None:
                self._demultiplexer.close_kernel()
            if self._steering is not None:
                self._steering.close()
            if self._tunnels is not None:
                self._tunnels.close()
            if self._stat >= 0:
                os.close(self._stat)
            self._events.put_nowait(None)

    async def _remove_everything(self, requester: Requester) -> None:
        gone = [requests.delete_state(states.id_of(row.key)) for row in self.sad.rows.values() if not row.gone]
        if self._survivors is not None:
            gone += [requests.delete_state(StateId.of(state)) for state in self._survivors.states]
        gone += [_delete(policy) for policy in self.spd]
        if self._defaults is not None and self._ready:
            gone.append(requests.set_defaults(self._defaults))
        with contextlib.suppress(OSError, DatapathRefusal):
            await requester.batch(gone)
        if (tunnels := self._tunnels) is not None:
            with contextlib.suppress(OSError, Refusal):
                await requester.run(lambda _: tunnels.remove())
        if (steering := self._steering) is not None:
            # After the SAs: the rules keep from default routes what those bring.
            with contextlib.suppress(OSError, Refusal):
                await requester.run(lambda _: steering.remove())

    # SAs

    async def install(self, requested: Sequence[InstallRequest]) -> tuple[Carried, ...]:
        """See ``_install``, which goes on if nobody waits any more: its thread reads the keys until it is done."""
        task = self._loop.create_task(self._install(requested))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(task)

    async def _install(self, requested: Sequence[InstallRequest]) -> tuple[Carried, ...]:
        """Install SAs, all or none, each with as much offload as its child wants and its device takes.

        Refusals: ALREADY_INSTALLED, BAD_KEY, MODE_UNSUPPORTED, SELECTORS_UNSUPPORTED, TABLE_FULL, NO_OFFLOAD_DEVICE,
        OFFLOAD_UNSUPPORTED, OFFLOAD_REFUSED, OFFLOAD_NOT_DONE, KERNEL_REFUSED.
        """
        taken: list[tuple[bytearray, bytearray]] = []
        rows: list[Row] = []
        try:
            for request in requested:
                taken.append(request.keys.take())
            async with self._lock:
                self._alive()
                ways = await self._prepare(requested, taken, rows)
                self._claim([row.key for row in rows])
                for row in rows:
                    self.sad.add(row)
                try:
                    left: list[list[Attempt]] | None = ways
                    while left:
                        left = await self._put(requested, rows, left)
                except (DatapathRefusal, OSError):
                    for row in rows:
                        self._forget(row)
                    raise
                self._watch_first_use(rows)
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
        self, requested: Sequence[InstallRequest], taken: Sequence[tuple[bytearray, bytearray]], rows: list[Row]
    ) -> list[list[Attempt]]:
        """The rows of a batch, and the ways to install each. Raises DatapathRefusal; then no number is kept."""
        ways: list[list[Attempt]] = []
        keys: set[SaKey] = set()
        try:
            for request, material in zip(requested, taken, strict=True):
                sa = request.sa
                if self.sad.get(sa.key) is not None or sa.key in keys:
                    raise DatapathRefusal(Reason.ALREADY_INSTALLED, str(sa.key))
                keys.add(sa.key)
                if len(self.sad) + len(rows) >= self.options.max_sas:
                    raise DatapathRefusal(Reason.TABLE_FULL, f"{self.options.max_sas} SAs")
                refusal = states.objection(sa)
                if refusal is not None:
                    raise refusal
                selectors.outbound(sa.local_ts, sa.remote_ts)
                devices, why_not = await self._devices(request)
                what = traffic(sa)
                try:
                    reqid = self._reqids.take(what)
                except OverflowError as error:
                    raise DatapathRefusal(Reason.TABLE_FULL, str(error)) from None
                try:
                    attempts = [Attempt(device, self._state(request, material, reqid, device)) for device in devices]
                except ValueError as error:
                    self._reqids.give(what)
                    raise DatapathRefusal(Reason.BAD_KEY, f"{sa.key}: {error}") from None
                policy = self._policy(sa.reqid)
                row = Row(sa, what, reqid, attempts[0].state, carried=Carried("", tuple(why_not)))
                row.priority = policy.priority if policy is not None else self._former_priority(sa.reqid)
                rows.append(row)
                ways.append(attempts)
        except BaseException:
            for row in rows:
                self._reqids.give(row.traffic)
            raise
        return ways

    def _state(
        self, request: InstallRequest, material: tuple[bytearray, bytearray], reqid: int, device: Device | None
    ) -> State:
        options = self.options
        return states.state_of(
            request.sa,
            material,
            reqid=reqid,
            mark=options.mark,
            home_mark=home_mark(options.mark),
            features=self._features,
            device=device,
        )

    async def _devices(self, request: InstallRequest) -> tuple[list[Device | None], list[WhyNot]]:
        """The devices to try, None for the kernel alone, best first."""
        handling = request.sa.handling
        wanted = levels(handling.offload)
        if wanted == (None,):
            return [None], []
        peer = request.sa.source if request.sa.direction is Direction.IN else request.sa.destination
        try:
            finder = self._finder
            assert finder is not None
            name, index = await self._asked.run(lambda _: finder.find(handling.offload_device, peer))
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
            await self._asked.run(lambda socket: install(socket, rows, ways))
            there = True
            for row, request in zip(rows, requested, strict=True):
                row.active = request.activate or row.sa.direction is Direction.IN
                if request.activate:
                    idled += self._idle_rivals(row)
                self._claims(row)
            await self._apply()
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
            self.spd.release(row.key)
        self._release_ike(rows)
        self._reactivate(idled)
        sending = [row for row in rows if row.active and row.sa.direction is Direction.OUT] if there else []
        clean = True
        try:
            # Policies first: then nothing more leaves.
            await self._apply()
            await self._read(sending)
        except (DatapathRefusal, OSError):
            clean = not sending
        if there:
            try:
                left = await self._asked.run(lambda socket: remove(socket, [row.state for row in rows]))
            except (DatapathRefusal, OSError):
                return False
            clean = clean and left is None
        return clean and not any(row.usage.packets for row in sending)

    def _claim(self, keys: Iterable[SaKey]) -> None:
        self._claim_spis([key.spi for key in keys if key.direction is Direction.IN])

    def _claim_spis(self, spis: Sequence[int]) -> None:
        if self._demultiplexer is not None:
            try:
                self._demultiplexer.claim(spis, Owner.KERNEL)
            except Refusal as refusal:
                raise DatapathRefusal(refusal.reason, refusal.detail) from refusal

    def _release(self, keys: Iterable[SaKey]) -> None:
        if self._demultiplexer is not None:
            self._demultiplexer.release([key.spi for key in keys if key.direction is Direction.IN])

    def _forget(self, row: Row) -> None:
        self.sad.remove(row.key)
        self._reqids.give(row.traffic)
        self._release([row.key])
        self._release_ike([row])

    def _release_ike(self, leaving: Sequence[Row]) -> None:
        """A device lets IKE pass as long as another SA needs it to."""
        owners = {owner for row in leaving if (owner := claims.ike_owner(row)) is not None}
        if owners:
            staying = (row for row in self.sad.rows.values() if not row.gone and row not in leaving)
            for owner in owners.difference(map(claims.ike_owner, staying)):
                self.spd.release(owner)

    async def activate_outbound(self, key: SaKey) -> None:
        """Have the kernel's policies name this SA from now on. Refusal: NOT_INSTALLED."""
        async with self._lock:
            row = self.sad.get(key)
            self._alive()
            if row is None or row.gone:
                raise DatapathRefusal(Reason.NOT_INSTALLED, str(key))
            before, row.active = row.active, True
            idled = self._idle_rivals(row)
            self._claims(row)
            try:
                await self._apply()
            except DatapathRefusal:
                row.active = before
                self._claims(row)
                self._reactivate(idled)
                with contextlib.suppress(DatapathRefusal):
                    await self._apply()
                raise

    async def deactivate_outbound(self, key: SaKey) -> None:
        """Have nothing leave by an SA any more. No error if it is not there."""
        async with self._lock:
            row = self.sad.get(key)
            if row is not None and row.active:
                row.active = False
                self._claims(row)
                await self._apply()

    def _idle_rivals(self, row: Row) -> list[Row]:
        idled = [other for other in self.sad.rivals(row) if other.active]
        for other in idled:
            other.active = False
            self._claims(other)
        return idled

    def _reactivate(self, idled: Iterable[Row]) -> None:
        """Those whose successor came to nothing go on."""
        for other in idled:
            other.active = not other.gone
            self._claims(other)

    def _claims(self, row: Row) -> None:
        claims.claim_ike(self.spd, row, self.options.ike_ports)
        claims.claim_row(self.spd, row, ours=self._policy(row.sa.reqid) is not None)

    async def remove(self, keys: Sequence[SaKey]) -> tuple[SaKey, ...]:
        """Remove SAs. Returns those that were there."""
        async with self._lock:
            asked = self._asked
            rows = [row for key in dict.fromkeys(keys) if (row := self.sad.get(key)) is not None]
            for row in rows:
                self.spd.release(row.key)
                self._forget(row)
            # Policies first: none of them is to name an SA that is gone.
            await self._apply()
            gone = [row for row in rows if not row.gone]
            try:
                answers = await asked.batch([requests.delete_state(states.id_of(row.key)) for row in gone])
            except OSError as error:
                raise refusal_of(error, "removing") from error
            for answer in answers:
                if answer.error is not None:
                    refusal = refusal_of(answer.error, "removing an SA")
                    if refusal.reason is not Reason.NOT_INSTALLED:
                        raise refusal
            return tuple(row.key for row in rows)

    async def update_endpoints(
        self, key: SaKey, source: Address, destination: Address, encapsulation: UdpEncapsulation | None
    ) -> SaKey:
        """Change the ports of an SA, and inbound its peer's address. Refusals: NOT_INSTALLED, MOVE_UNSUPPORTED.

        The kernel moves an SA to another address by making a new state with the same key, and that one's IVs begin at
        a random place: they might repeat.
        """
        async with self._lock:
            asked = self._asked
            row = self.sad.get(key)
            if row is None or row.gone:
                raise DatapathRefusal(Reason.NOT_INSTALLED, str(key))
            sa = row.sa
            moved = replace(sa, source=source, destination=destination, encapsulation=encapsulation)
            if (sa.encapsulation is None) is not (encapsulation is None):
                raise DatapathRefusal(Reason.MOVE_UNSUPPORTED, f"{key}: to or from ESP in UDP")
            if sa.destination != destination or (sa.direction is Direction.OUT and sa.source != source):
                raise DatapathRefusal(Reason.MOVE_UNSUPPORTED, f"{key}: from {sa.source} to {sa.destination}")
            if row.device is not None and row.device.packet and moved != sa:
                raise DatapathRefusal(Reason.MOVE_UNSUPPORTED, f"{key}: {row.device.name} makes its headers")
            if sa.encapsulation != encapsulation:
                # A state that is there keeps its keys: those that are sent have to be of the same length only. It keeps
                # its device, too; to name that would be to ask for another SA in it, with those keys.
                spare = bytearray(sa.suite.encryption_key_length), bytearray(sa.suite.integrity_key_length)
                new = states.state_of(
                    replace(moved, source=sa.source),
                    spare,
                    reqid=row.reqid,
                    mark=self.options.mark,
                    home_mark=home_mark(self.options.mark),
                    features=self._features,
                )
                try:
                    await asked.run(lambda socket: socket.do(requests.update_state(new)))
                except OSError as error:
                    raise refusal_of(error, f"moving {key}") from error
            self.sad.move(row, moved)
            return moved.key

    async def export_inbound(self, key: SaKey) -> InboundState:
        """Stop an inbound SA, read its window, remove it. Refusals: NOT_INSTALLED, MOVE_UNSUPPORTED.

        The kernel tells what it was as it deletes it, when no further packet finds it. It does not know the window of
        one in packet mode.
        """
        async with self._lock:
            asked = self._asked
            row = self.sad.get(key)
            if row is None or row.gone or row.sa.direction is not Direction.IN:
                raise DatapathRefusal(Reason.NOT_INSTALLED, str(key))
            if row.device is not None and row.device.packet:
                raise DatapathRefusal(Reason.MOVE_UNSUPPORTED, f"{key}: {row.device.name} has its window")
            assert self._hearing is not None
            try:
                state = await self._hearing.deleted(asked, states.id_of(key))
            except OSError as error:
                raise refusal_of(error, f"exporting {key}") from error
            self.spd.release(key)
            self._forget(row)
            await self._apply()
            highest, bitmap = states.window_of(state)
            return InboundState(sa=row.sa, highest=highest, bitmap=bitmap)

    # Policies

    async def install_policies(self, policies: Sequence[SecurityPolicy]) -> None:
        """Add or replace policies. The first call also removes what an earlier daemon's policies left behind.

        Refusals: SELECTORS_UNSUPPORTED, KERNEL_REFUSED, INTERFACE_TAKEN.
        """
        async with self._lock:
            self._alive()
            for policy in policies:
                selectors.outbound(policy.local_ts, policy.remote_ts)
            before = dict(self._policies)
            first, self._ready = not self._ready, True
            for policy in policies:
                self._set_policy(policy)
            if first:
                claims.always(self.spd, self.options)
                self._claim_survivors()
            try:
                await self._apply()
                await self._steer()
                if first and self.options.block:
                    every = Defaults(DefaultAction.BLOCK, DefaultAction.BLOCK, DefaultAction.BLOCK)
                    await self._asked.run(lambda socket: socket.do(requests.set_defaults(every)))
            except (DatapathRefusal, OSError) as error:
                for policy in policies:
                    self._unset_policy(policy.name)
                    if policy.name in before:
                        self._set_policy(before[policy.name])
                with contextlib.suppress(DatapathRefusal, OSError):
                    await self._apply()
                    await self._steer()
                if isinstance(error, OSError):
                    raise refusal_of(error, "installing policies") from error
                raise

    async def remove_policies(self, names: Sequence[str]) -> tuple[str, ...]:
        """Remove policies by name. Returns those that were there. Inbound SAs go on; outbound ones carry nothing."""
        async with self._lock:
            self._alive()
            there = tuple(name for name in dict.fromkeys(names) if name in self._policies)
            for name in there:
                self._unset_policy(name)
            # Until its own policies go the kernel carries on, whichever way packets are led by now.
            await self._steer()
            await self._apply()
            return there

    async def note_elsewhere(self, policies: Sequence[SecurityPolicy]) -> None:
        """See the contract. The kernel's own policies are asked where its routing has not led elsewhere before."""
        async with self._lock:
            self._alive()
            for name in self._elsewhere:
                claims.release_elsewhere(self.spd, name)
            self._elsewhere = {policy.name: policy for policy in policies}
            for name in self._elsewhere:
                self._leave_to_others(name)
            await self._apply()
            if self._ready:
                await self._steer()

    async def _steer(self) -> None:
        """Have rules and routes be what the policies need: after those, so that nothing passes where they go."""
        asked, steering, policies = self._asked, self._steering, tuple(self._policies.values())
        if steering is None:
            return
        elsewhere = [policy for name, policy in self._elsewhere.items() if name not in self._policies]
        try:
            await asked.run(lambda _: steering.apply(policies, elsewhere))
        except Refusal as refusal:
            raise DatapathRefusal(refusal.reason, refusal.detail) from refusal
        except OSError as error:
            raise refusal_of(error, "setting rules and routes") from error

    async def keep_interfaces(self, wanted: Sequence[TunnelInterface]) -> list[str]:
        """Have these tunnel interfaces and no others of ours, from now on. Returns what was done, in words.

        What is refused is told by Changed, and tried again when interfaces change, and every minute. They go when the
        datapath is closed. Raises DatapathRefusal where it cannot even look.
        """
        async with self._lock:
            self._alive()
            assert self._tunnels is not None
            self._tunnels.wanted = tuple(wanted)
            for policy in self._policies.values():
                if policy.action is PolicyAction.DISCARD:
                    self._set_policy(policy)
            done = await self._keep_interfaces()
            await self._apply()
            return done

    async def _keep_interfaces(self) -> list[str]:
        asked, tunnels = self._asked, self._tunnels
        assert tunnels is not None
        try:
            done, refusal = await asked.run(lambda _: tunnels.apply())
        except Refusal as refused:
            raise DatapathRefusal(refused.reason, refused.detail) from refused
        except OSError as error:
            raise refusal_of(error, "setting up tunnel interfaces") from error
        now = (refusal.reason, f"{refusal.detail}; {refusal.remedy}") if refusal is not None else None
        if now is not None and now != self._tunnels_refused:
            self._tell(Changed(*now))
        self._tunnels_refused = now
        claims.claim_interfaces(self.spd, tunnels.indices.values(), blocked=self.options.block)
        return done

    def _link_changed(self, change: LinkChange | None) -> None:
        """The kernel drops the SAs of a device that goes, or goes down, without a word."""
        assert self._tunnels is not None
        if change is None or self._tunnels.concerns(change):
            self._audit_soon()
        elif not change.up or change.gone:
            devices = {row.device.index for row in self.sad.rows.values() if row.device is not None}
            if change.index in devices or change.name == self.options.device:
                self._audit_soon()

    def _set_policy(self, policy: SecurityPolicy) -> None:
        self._policies[policy.name] = policy
        claims.release_elsewhere(self.spd, policy.name)
        if policy.acquire and policy.name not in self._wanting:
            self._wanting[policy.name] = self._reqids.fresh()
        claims.claim_policy(
            self.spd,
            policy,
            self._wanting.get(policy.name, 0),
            blocked=self.options.block,
            if_ids=[interface.if_id for interface in self._tunnels.wanted] if self._tunnels is not None else (),
        )
        self._follow(policy.reqid)

    def _unset_policy(self, name: str) -> None:
        policy = self._policies.pop(name, None)
        if policy is not None:
            self._wanting.pop(name, None)
            claims.release_policy(self.spd, name)
            self._leave_to_others(name)
            self._follow(policy.reqid)

    def _leave_to_others(self, name: str) -> None:
        """While a policy is here as well, it is on its way there or back, and ours."""
        policy = self._elsewhere.get(name)
        if policy is not None and name not in self._policies:
            claims.claim_elsewhere(self.spd, policy, blocked=self.options.block)

    def _follow(self, reqid: int) -> None:
        """SAs follow the policy that leads to them: its priority, and outbound whether it is here at all."""
        if not reqid:
            return
        policy = self._policy(reqid)
        for row in self.sad.family(reqid):
            if policy is not None:
                row.priority = policy.priority
            self._claims(row)

    def _policy(self, reqid: int) -> SecurityPolicy | None:
        return next((policy for policy in self._policies.values() if policy.reqid == reqid), None) if reqid else None

    def _former_priority(self, reqid: int) -> int | None:
        return next((row.priority for row in self.sad.family(reqid) if row.priority is not None), None)

    async def _apply(self, *, look: bool = True) -> None:
        """Have the kernel's policies be as they are claimed: new and changed ones first. Raises DatapathRefusal.

        ``look`` at everything soon if something is refused.
        """
        if not self._ready and not self.sad.rows:
            return
        put, gone = self.spd.changes()
        if not put and not gone:
            self.spd.done((), ())
            return
        asked = self._asked
        try:
            answers = await asked.batch([requests.update_policy(policy) for policy in put] + [_delete(p) for p in gone])
        except OSError as error:
            self._audit_soon()
            raise refusal_of(error, "setting policies") from error
        refused = None
        done: list[Policy] = []
        for policy, answer in zip(put, answers, strict=False):
            if answer.error is None:
                done.append(policy)
            elif refused is None:
                reason = Reason.OFFLOAD_REFUSED if policy.offload is not None else Reason.KERNEL_REFUSED
                refused = refusal_of(answer.error, "setting policies", reason)
        self.spd.done(done, gone)
        self._replaced(done)
        for policy, answer in zip(gone, answers[len(put) :], strict=True):
            if answer.error is not None:
                # Somebody was faster, or the kernel had chosen another index.
                await asked.batch([requests.delete_policy(PolicyId.of(policy))])
        if refused is not None:
            if look:
                self._audit_soon()
            raise refused

    # What survived an earlier daemon

    def _claim_survivors(self) -> None:
        assert self._survivors is not None
        if self._survivors.states:
            self._survivors.claim(self.spd)
            self._later(self.options.survivors, self._end_survivors)

    def _replaced(self, put: Sequence[Policy]) -> None:
        """An SA of ours took a survivor's place: that one has a few seconds for what is under way."""
        survivors = self._survivors
        if survivors is None or not survivors.states:
            return
        for policy in put:
            claim = self.spd.winner(Place.of(policy))
            if policy.direction is OUT and claim is not None and isinstance(claim.owner, SaKey):
                for reqid in survivors.at(Place.of(policy)):
                    self._later(5.0, lambda reqid=reqid: self._end_survivors(reqid))  # type: ignore[misc]

    async def _end_survivors(self, reqid: int | None = None) -> None:
        assert self._survivors is not None
        async with self._lock:
            ended = self._survivors.end(self.spd, reqid)
            await self._apply()
            if ended:
                if self._demultiplexer is not None:
                    self._demultiplexer.release(self._survivors.inbound_spis(ended))
                await self._asked.batch([requests.delete_state(StateId.of(state)) for state in ended])
        if ended and reqid is None:
            words = f"{len(ended)} SAs of an earlier daemon were not replaced in time, and are removed"
            self._tell(Changed(Reason.LEFT_BEHIND, words))

    # What is there

    async def usage(self, keys: Sequence[SaKey]) -> dict[SaKey, Usage]:
        """Counters of SAs; those that are not installed are absent."""
        rows = [row for key in keys if (row := self.sad.get(key)) is not None]
        await self._read([row for row in rows if not row.gone])
        return {row.key: row.usage for row in rows}

    async def _read(self, rows: Sequence[Row]) -> None:
        asked = self._asked
        try:
            if len(rows) > MANY:
                found: Iterable[object] = await asked.states()
            else:
                answers = await asked.batch([requests.get_state(states.id_of(row.key)) for row in rows])
                found = [reply for answer in answers for reply in answer.replies]
        except OSError as error:
            raise refusal_of(error, "reading SAs") from error
        by_id = {states.id_of(row.key): row for row in rows}
        for state in found:
            if isinstance(state, State):
                row = by_id.get(StateId(state.destination, state.spi, state.protocol))
                if row is not None:
                    row.usage = states.usage_of(state, row.sa.direction)

    async def dump(self) -> Dump:
        """All that is installed."""
        await self._read([row for row in self.sad.rows.values() if not row.gone])
        sas = tuple(
            InstalledSa(sa=row.sa, usage=row.usage, active=row.active and not row.gone, how=row.carried.how)
            for row in self.sad.rows.values()
        )
        return Dump(sas=sas, policies=tuple(self._policies.values()))

    async def counters(self) -> dict[str, int]:
        """The kernel's counters of what it dropped, by reason, and ours."""
        self._alive()
        counted = read_counters(self._stat) | self._counted
        counted["policies"] = len(self.spd)
        counted["survivors"] = len(self._survivors.states) if self._survivors is not None else 0
        return counted

    async def events(self) -> AsyncIterator[DatapathEvent]:
        """Events in order, until the datapath is closed. One consumer."""
        while (event := await self._events.get()) is not None:
            yield event

    def _tell(self, event: DatapathEvent) -> None:
        self._events.put_nowait(event)

    # What the kernel says

    def acquired(self, policy: Policy, event: Callable[[SecurityPolicy], DatapathEvent]) -> None:
        """A packet met a policy that has no SA. The next one is told of after a while: the kernel holds its peace."""
        claim = self.spd.winner(Place.of(policy))
        name = claim.owner[1] if claim is not None and isinstance(claim.owner, tuple) else ""
        wanted = self._policies.get(name)
        if wanted is None or not wanted.acquire:
            return
        self._tell(event(wanted))

        async def again() -> None:
            async with self._lock:
                if name in self._wanting:
                    self._wanting[name] = self._reqids.fresh()
                    self._set_policy(self._policies[name])
                    await self._apply()

        self._later(self.options.acquire_again, again)

    def expired(self, row: Row, state: State, *, hard: bool) -> None:
        """A limit was reached; after a hard one the kernel has the SA no more."""
        kind = states.reached(row.sa, state, hard=hard)
        row.usage = states.usage_of(state, row.sa.direction)
        if hard:
            self._lost(row)
            kind = ExpiryKind.TIME if kind is ExpiryKind.SEQUENCE else kind
        self._tell(Expired(row.key, kind, hard))

    def vanished(self, row: Row, detail: str) -> None:
        """The kernel has an SA no more, and nobody here removed it."""
        if not row.gone:
            self._lost(row)
            self._tell(Vanished(row.key, detail))

    def _lost(self, row: Row) -> None:
        row.gone = True
        self._claims(row)
        self._release_ike([row])
        self._start(self._put_right)

    async def _put_right(self) -> None:
        async with self._lock:
            await self._apply()

    def used(self, row: Row) -> None:
        """The first packet came on an inbound SA."""
        if not row.used:
            row.used = True
            self._tell(InboundUsed(row.key))

    def tell(self, event: DatapathEvent) -> None:
        """An event of the contract."""
        self._tell(event)

    def failed(self, error: OSError) -> None:
        """The kernel does not speak to us any more."""
        self._tell(Failed(Reason.DATAPATH_GONE, str(error)))
        self._tell_end()

    def _tell_end(self) -> None:
        self._events.put_nowait(None)

    def _watch_first_use(self, rows: Sequence[Row]) -> None:
        begun = time.monotonic()
        fresh = [row for row in rows if row.sa.direction is Direction.IN]

        async def look() -> None:
            waiting = [row for row in fresh if not row.used and not row.gone and self.sad.get(row.key) is row]
            if not waiting:
                return
            await self._read(waiting)
            for row in waiting:
                if row.usage.packets:
                    self.used(row)
            wait()

        def wait() -> None:
            self._later(min(max(FIRST_LOOKS[0], (time.monotonic() - begun) / 5), FIRST_LOOKS[1]), look)

        if fresh:
            wait()

    # Desired against actual

    def _audit_soon(self) -> None:
        """Look at everything soon: something may not be as it should be."""
        if self._audit_due is None and not self._closing:
            self._audit_due = self._later(0.05, self.audit)

    def changed_from_outside(self) -> None:
        """Another program touched SAs or policies, or what it did was lost: look at everything soon."""
        self._audit_soon()

    async def audit(self) -> None:
        """Hold what the kernel has against what it should have, and put it right: ``ip xfrm`` by hand, lost events."""
        self._audit_due = None
        async with self._lock:
            asked = self._asked
            there = await asked.states()
            policies = self.spd.concerned(await asked.policies())
            mine = {states.id_of(row.key): row for row in self.sad.rows.values() if not row.gone}
            strange = []
            for state in there:
                row = mine.pop(StateId(state.destination, state.spi, state.protocol), None)
                if row is not None:
                    row.usage = states.usage_of(state, row.sa.direction)
                elif generation_of(state.reqid) == self._reqids.generation and state.spi:
                    strange.append(state)
            for row in mine.values():
                self.vanished(row, "it was removed from outside, or with its network device")
            if strange:
                await asked.batch([requests.delete_state(StateId.of(state)) for state in strange])
            words = self.spd.found(policies) if self._ready else []
            await self._apply(look=False)
            words += await self._keep_interfaces()
            await self._apply(look=False)
        words += [f"an SA of SPI {state.spi:#010x} was added" for state in strange]
        if words:
            self._counted["changed_from_outside"] = self._counted.get("changed_from_outside", 0) + len(words)
            more = f", and {len(words) - 3} more" if len(words) > 3 else ""
            self._tell(Changed(Reason.CHANGED_FROM_OUTSIDE, "; ".join(words[:3]) + more))
        if self._ready:
            await self._steer()

    # Tasks

    def _start(self, work: Callable[[], Awaitable[None]]) -> None:
        async def guarded() -> None:
            try:
                await work()
            except DatapathRefusal as refusal:
                if not self._closing:
                    self._tell(Changed(refusal.reason, f"not put right: {refusal.detail}"))
            except OSError as error:
                if not self._closing:
                    self.failed(error)

        task = self._loop.create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _later(self, seconds: float, work: Callable[[], Awaitable[None]]) -> asyncio.TimerHandle:
        def run() -> None:
            self._timers.discard(timer)
            if not self._closing:
                self._start(work)

        timer = self._loop.call_later(seconds, run)
        self._timers.add(timer)
        return timer

    def _every(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        async def again() -> None:
            await work()
            self._every(seconds, work)

        self._later(seconds, again)


def _delete(policy: Policy) -> bytearray:
    return requests.delete_policy(
        PolicyId(direction=policy.direction, index=policy.index, mark=policy.mark, if_id=policy.if_id)
    )
