"""The kernel datapath: SAs and policies in the Linux kernel, by the contract of ``appliance.sa.datapath``."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from appliance.datapath.demultiplexer import Demultiplexer
from appliance.datapath.kernel import selectors, states
from appliance.datapath.kernel.batches import Batches
from appliance.datapath.kernel.capabilities import capabilities_of, features_of
from appliance.datapath.kernel.core import Core
from appliance.datapath.kernel.counters import read_counters, read_usage
from appliance.datapath.kernel.enforcement import Enforcement, delete
from appliance.datapath.kernel.hearing import Hearing
from appliance.datapath.kernel.options import KernelOptions, home_mark
from appliance.datapath.kernel.probe.kernel import probe_kernel
from appliance.datapath.kernel.requester import Requester, refusal_of
from appliance.datapath.kernel.sad import Reqids
from appliance.datapath.kernel.surroundings import Surroundings
from appliance.datapath.kernel.survivors import BLOCK, PASS, Survivors
from appliance.datapath.kernel.upkeep import Upkeep
from appliance.datapath.kernel.xfrm import Defaults, StateId, requests
from appliance.reasons import Reason, Refusal
from appliance.sa.association import Direction, SaKey, SecurityPolicy, UdpEncapsulation
from appliance.sa.datapath import (
    Capabilities,
    Carried,
    Changed,
    DatapathEvent,
    DatapathRefusal,
    Dump,
    InboundState,
    InstalledSa,
    InstallRequest,
    Usage,
)
from appliance.sa.interface import TunnelInterface
from appliance.sa.selector import Address


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
        self._core = Core(self.options, demultiplexer)
        self._enforcement = Enforcement(self._core, lambda: self._upkeep.look_soon())
        self._surroundings = Surroundings(self._core, self._enforcement)
        self._upkeep = Upkeep(self._core, self._enforcement, self._surroundings)
        self._batches = Batches(self._core, self._enforcement, self._upkeep.watch_first_use)
        self._capabilities: Capabilities | None = None
        self._hearing: Hearing | None = None
        self._defaults: Defaults | None = None
        self._defaults_set = False
        self._closing = False
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
        core, loop = self._core, asyncio.get_running_loop()
        abilities = await asyncio.to_thread(probe_kernel)
        can = self._capabilities = capabilities_of(abilities, max_sas=self.options.max_sas)
        if not can.usable:
            raise DatapathRefusal(can.missing[0].reason, can.missing[0].detail)
        core.features = features_of(abilities)
        core.requester = Requester()
        try:
            core.open_demultiplexer()
            self._batches.open()
            with contextlib.suppress(OSError):
                self._stat = os.open("/proc/thread-self/net/xfrm_stat", os.O_RDONLY | os.O_CLOEXEC)
            self._surroundings.open(self._upkeep.link_changed)
            self._hearing = Hearing(core.sad, core.requester, self._upkeep)
            core.survivors = await Survivors.of(core.requester)
            core.reqids = Reqids(core.survivors.unused_generation())
            core.spd.adopt(core.survivors.every_policy)
            if self.options.block or core.survivors.blocked:
                await self._note_defaults()
            if core.survivors.states:
                core.claim_spis(core.survivors.inbound_spis(core.survivors.states))
                words = (
                    f"{len(core.survivors.states)} SAs of an earlier daemon carry traffic until they are replaced,"
                    f" for {self.options.survivors:g} s at most"
                )
                core.tell(Changed(Reason.LEFT_BEHIND, words))
        except OSError as error:
            await self.close()
            raise refusal_of(error, "taking stock of what the kernel has") from error
        except Refusal as refusal:
            await self.close()
            raise DatapathRefusal(refusal.reason, refusal.detail) from refusal
        except BaseException:
            await self.close()
            raise
        self._hearing.attach(loop)
        self._surroundings.tunnels.attach(loop)
        core.tasks.every(self.options.audit, self.audit)

    async def _note_defaults(self) -> None:
        """What becomes of packets that no policy is for without us: not what a killed daemon of ours made of it."""
        found = await self._core.asked.run(lambda socket: socket.do(requests.get_defaults()))
        if not isinstance(found, Defaults):
            raise DatapathRefusal(Reason.KERNEL_TOO_OLD, "default policies came with Linux 5.15")
        self._defaults = PASS if self._core.survivors.blocked and found == BLOCK else found

    async def _set_defaults(self) -> None:
        """Once there are policies. What is not answered is asked again with the next ones. Raises OSError."""
        if self._defaults is not None and not self._defaults_set:
            wanted = BLOCK if self.options.block else self._defaults
            await self._core.asked.run(lambda socket: socket.do(requests.set_defaults(wanted)))
            self._defaults_set = True

    async def probe(self) -> Capabilities:
        """Tell what can be done here and now. Never raises."""
        if self._capabilities is not None:
            return self._capabilities
        return capabilities_of(await asyncio.to_thread(probe_kernel), max_sas=self.options.max_sas)

    async def close(self) -> None:
        """Remove everything of ours, wipe all keys, end. Idempotent.

        If nobody waits for that any more (it may be the kernel that does not answer), it has ended all the same, and
        what it did not come to is left for its successor.
        """
        if self._closing:
            return
        self._closing = True
        core = self._core
        # Before it waits for anything: two of them would each put right what the other does.
        if self._hearing is not None:
            self._hearing.close()
        core.tasks.cancel()
        try:
            async with core.lock:
                if core.requester is not None:
                    await self._remove_everything(core.requester)
        finally:
            requester, core.requester = core.requester, None
            with contextlib.ExitStack() as last:
                last.callback(core.tell_end)
                last.callback(self._close_stat)
                last.callback(self._surroundings.close)
                last.callback(core.close_demultiplexer)
                last.callback(self._batches.close)
                if requester is not None:
                    last.callback(requester.close)

    def _close_stat(self) -> None:
        if self._stat >= 0:
            os.close(self._stat)
            self._stat = -1

    async def _remove_everything(self, requester: Requester) -> None:
        core = self._core
        gone = [requests.delete_state(states.id_of(row.key)) for row in core.sad.rows.values() if not row.gone]
        gone += [requests.delete_state(StateId.of(state)) for state in core.survivors.states]
        gone += [delete(policy) for policy in core.spd]
        if self._defaults is not None:
            gone.append(requests.set_defaults(self._defaults))
        with contextlib.suppress(OSError, DatapathRefusal):
            await requester.batch(gone)
        await self._surroundings.remove(requester)

    # SAs

    async def install(self, requested: Sequence[InstallRequest]) -> tuple[Carried, ...]:
        """Install SAs, all or none; see ``Batches.install``."""
        return await self._batches.install(requested)

    async def activate_outbound(self, key: SaKey) -> None:
        """Have the kernel's policies name this SA from now on. Refusal: NOT_INSTALLED."""
        async with self._core.lock:
            row = self._core.sad.get(key)
            self._core.alive()
            if row is None or row.gone:
                raise DatapathRefusal(Reason.NOT_INSTALLED, str(key))
            before, row.active = row.active, True
            idled = self._enforcement.idle_rivals(row)
            self._enforcement.claim(row)
            try:
                await self._enforcement.apply()
            except DatapathRefusal:
                row.active = before
                self._enforcement.claim(row)
                self._enforcement.reactivate(idled)
                with contextlib.suppress(DatapathRefusal):
                    await self._enforcement.apply()
                raise

    async def deactivate_outbound(self, key: SaKey) -> None:
        """Have nothing leave by an SA any more. No error if it is not there."""
        async with self._core.lock:
            row = self._core.sad.get(key)
            if row is not None and row.active:
                row.active = False
                self._enforcement.claim(row)
                await self._enforcement.apply()

    async def remove(self, keys: Sequence[SaKey]) -> tuple[SaKey, ...]:
        """Remove SAs. Returns those that were there."""
        async with self._core.lock:
            asked = self._core.asked
            rows = [row for key in dict.fromkeys(keys) if (row := self._core.sad.get(key)) is not None]
            for row in rows:
                self._core.spd.release(row.key)
                self._enforcement.forget(row)
            # Policies first: none of them is to name an SA that is gone.
            await self._enforcement.apply()
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
        async with self._core.lock:
            asked = self._core.asked
            row = self._core.sad.get(key)
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
                    features=self._core.features,
                )
                try:
                    await asked.run(lambda socket: socket.do(requests.update_state(new)))
                except OSError as error:
                    raise refusal_of(error, f"moving {key}") from error
            self._core.sad.move(row, moved)
            return moved.key

    async def export_inbound(self, key: SaKey) -> InboundState:
        """Stop an inbound SA, read its window, remove it. Refusals: NOT_INSTALLED, MOVE_UNSUPPORTED.

        The kernel tells what it was as it deletes it, when no further packet finds it. It does not know the window of
        one in packet mode.
        """
        async with self._core.lock:
            asked = self._core.asked
            row = self._core.sad.get(key)
            if row is None or row.gone or row.sa.direction is not Direction.IN:
                raise DatapathRefusal(Reason.NOT_INSTALLED, str(key))
            if row.device is not None and row.device.packet:
                raise DatapathRefusal(Reason.MOVE_UNSUPPORTED, f"{key}: {row.device.name} has its window")
            assert self._hearing is not None
            try:
                state = await self._hearing.deleted(asked, states.id_of(key))
            except OSError as error:
                raise refusal_of(error, f"exporting {key}") from error
            self._core.spd.release(key)
            self._enforcement.forget(row)
            await self._enforcement.apply()
            highest, bitmap = states.window_of(state)
            return InboundState(sa=row.sa, highest=highest, bitmap=bitmap)

    # Policies

    async def install_policies(self, policies: Sequence[SecurityPolicy]) -> None:
        """Add or replace policies. The first call also removes what an earlier daemon's policies left behind.

        Refusals: SELECTORS_UNSUPPORTED, KERNEL_REFUSED, INTERFACE_TAKEN.
        """
        async with self._core.lock:
            self._core.alive()
            for policy in policies:
                selectors.outbound(policy.local_ts, policy.remote_ts)
            before = dict(self._enforcement.policies)
            first = self._enforcement.begin()
            for policy in policies:
                self._enforcement.set_policy(policy)
            if first:
                self._enforcement.always()
                self._enforcement.claim_survivors()
            try:
                await self._enforcement.apply()
                await self._surroundings.steer()
                await self._set_defaults()
            except (DatapathRefusal, OSError) as error:
                for policy in policies:
                    self._enforcement.unset_policy(policy.name)
                    if policy.name in before:
                        self._enforcement.set_policy(before[policy.name])
                with contextlib.suppress(DatapathRefusal, OSError):
                    await self._enforcement.apply()
                    await self._surroundings.steer()
                if isinstance(error, OSError):
                    raise refusal_of(error, "installing policies") from error
                raise

    async def remove_policies(self, names: Sequence[str]) -> tuple[str, ...]:
        """Remove policies by name. Returns those that were there. Inbound SAs go on; outbound ones carry nothing."""
        async with self._core.lock:
            self._core.alive()
            there = tuple(name for name in dict.fromkeys(names) if name in self._enforcement.policies)
            for name in there:
                self._enforcement.unset_policy(name)
            # Until its own policies go the kernel carries on, whichever way packets are led by now.
            await self._surroundings.steer()
            await self._enforcement.apply()
            return there

    async def note_elsewhere(self, policies: Sequence[SecurityPolicy]) -> None:
        """See the contract. The kernel's own policies are asked where its routing has not led elsewhere before."""
        async with self._core.lock:
            self._core.alive()
            self._enforcement.set_elsewhere(policies)
            await self._enforcement.apply()
            if self._enforcement.ready:
                await self._surroundings.steer()

    async def keep_interfaces(self, wanted: Sequence[TunnelInterface]) -> list[str]:
        """Have these tunnel interfaces and no others of ours, from now on. Returns what was done, in words.

        What is refused is told by Changed, and tried again when interfaces change, and every minute. They go when the
        datapath is closed. Raises DatapathRefusal where it cannot even look.
        """
        async with self._core.lock:
            self._core.alive()
            self._surroundings.want(wanted)
            done = await self._surroundings.keep_interfaces()
            await self._enforcement.apply()
            return done

    # What is there

    async def usage(self, keys: Sequence[SaKey]) -> dict[SaKey, Usage]:
        """Counters of SAs; those that are not installed are absent."""
        rows = [row for key in keys if (row := self._core.sad.get(key)) is not None]
        await read_usage(self._core.asked, [row for row in rows if not row.gone])
        return {row.key: row.usage for row in rows}

    async def dump(self) -> Dump:
        """All that is installed."""
        await read_usage(self._core.asked, [row for row in self._core.sad.rows.values() if not row.gone])
        sas = tuple(
            InstalledSa(sa=row.sa, usage=row.usage, active=row.active and not row.gone, how=row.carried.how)
            for row in self._core.sad.rows.values()
        )
        return Dump(sas=sas, policies=tuple(self._enforcement.policies.values()))

    async def counters(self) -> dict[str, int]:
        """The kernel's counters of what it dropped, by reason, and ours."""
        self._core.alive()
        counted = read_counters(self._stat) | self._core.counted
        counted["policies"] = len(self._core.spd)
        counted["survivors"] = len(self._core.survivors.states)
        return counted

    async def events(self) -> AsyncIterator[DatapathEvent]:
        """Events in order, until the datapath is closed. One consumer."""
        while (event := await self._core.events.get()) is not None:
            yield event

    async def audit(self) -> None:
        """Hold what the kernel has against what it should have, and put it right: ``ip xfrm`` by hand, lost events."""
        await self._upkeep.audit()
