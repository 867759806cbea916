"""The daemon's side of the soft datapath: starts the process and speaks to it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from appliance.datapath.demultiplexer import Demultiplexer
from appliance.datapath.filters import Owner
from appliance.datapath.ingress import Datagram, Ingress, TooBig
from appliance.datapath.soft import wire
from appliance.datapath.soft.options import SoftOptions
from appliance.datapath.soft.steering import Steering
from appliance.process.module import module_command
from appliance.reasons import Reason, Refusal
from appliance.sa.association import Direction, SaKey, SecurityPolicy, UdpEncapsulation
from appliance.sa.datapath import (
    Acquire,
    Capabilities,
    Carried,
    Changed,
    DatapathEvent,
    DatapathRefusal,
    Dump,
    Expired,
    Failed,
    InboundState,
    InboundUsed,
    InstallRequest,
    MappingChanged,
    Missing,
    UnknownSpi,
    Usage,
)
from appliance.sa.keys import wipe
from appliance.sa.selector import Address

_EVENTS: dict[str, type[DatapathEvent]] = {
    kind.__name__: kind for kind in (Acquire, Expired, InboundUsed, MappingChanged, UnknownSpi, Failed)
}
_INJECTED_WAITING = 1 << 20
"""Bytes that may wait for the process before ESP packets from the IKE side are lost."""
_IN_DOUBT = {"install", "update_endpoints"}


START_PATIENCE = 6
"""So many times as long as for another answer is waited for the first one: an interpreter and numpy load before it, on
a machine whose traffic may be what everybody waits for."""


class SoftDatapath:
    """The userspace datapath, by the contract of ``appliance.sa.datapath``.

    ``start`` once, then ``add_ingress`` for each local address, before SAs of that address. ``demultiplexer`` gives it
    the packets of its SAs where the kernel has others. ``on_ike`` is called with IKE messages that receive offload had
    glued to ESP packets. ``timeout`` seconds without an answer, START_PATIENCE times as many after the start, are a
    refusal that leaves in doubt what happened. Use one event loop throughout.
    """

    def __init__(
        self,
        options: SoftOptions | None = None,
        *,
        on_ike: Callable[[Datagram], None] | None = None,
        timeout: float = 5.0,
        demultiplexer: Demultiplexer | None = None,
    ) -> None:
        self.options = options or SoftOptions()
        self._on_ike = on_ike
        self._timeout = timeout
        self._demultiplexer = demultiplexer
        self._claimed: set[int] = set()
        self._channel: wire.Channel | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._steering: Steering | None = None
        self._looking: asyncio.TimerHandle | None = None
        self._policies: dict[str, SecurityPolicy] = {}
        self._replies: dict[int, asyncio.Future[Any]] = {}
        self._next = 0
        self._events: asyncio.Queue[DatapathEvent | None] = asyncio.Queue()
        self._probed: Capabilities | None = None
        self._closing = False
        self._ended = asyncio.Event()

    @property
    def name(self) -> str:
        """The name in ``datapath.order``."""
        return "soft"

    @property
    def pid(self) -> int | None:
        """The process, while there is one."""
        return None if self._process is None else self._process.pid

    @property
    def tun(self) -> str:
        """The TUN device."""
        return self.options.tun

    async def start(self) -> None:
        """Start the process and take the TUN device, in the network namespace of the calling thread.

        Raises DatapathRefusal: NO_TUN, NO_PRIVILEGE, DATAPATH_GONE, DATAPATH_TIMEOUT.
        """
        ours = self._spawn()
        self._channel = wire.Channel(ours)
        asyncio.get_running_loop().add_reader(ours.fileno(), self._readable)
        try:
            if self.options.steer:
                self._steering = Steering(self.options)
            self._probed = wire.decode(Capabilities, await self._ask("start", wire.encode(self.options)))
            self._look_later()
        except DatapathRefusal:
            await self.close()
            raise

    async def add_ingress(self, ingress: Ingress) -> None:
        """Give the process the ESP sockets of a local address. The daemon keeps its own copies open, or closes them."""
        socks = [ingress.esp] if ingress.raw is None else [ingress.esp, ingress.raw]
        value = [ingress.address.packed, ingress.natt_port, ingress.ike_port]
        await self._ask("add_ingress", value, fds=[sock.fileno() for sock in socks])

    async def remove_ingress(self, ingress: Ingress) -> None:
        """Have the process close its copies of the ESP sockets of a local address."""
        await self._ask("remove_ingress", [ingress.address.packed, ingress.natt_port])

    def inject_esp(self, datagram: Datagram) -> None:
        """Hand over an ESP-in-UDP packet that came to the IKE side of the port."""
        # Anybody can send these: while the process does not read, they are lost as on a full socket.
        if self._channel is not None and self._channel.queued < _INJECTED_WAITING:
            with contextlib.suppress(OSError):
                self._push(["esp", 0, wire.encode(datagram)])

    def inject_too_big(self, error: TooBig) -> None:
        """Hand over an ICMP error about ESP in UDP that came to the IKE side of the port."""
        if self._channel is not None and self._channel.queued < _INJECTED_WAITING:
            with contextlib.suppress(OSError):
                self._push(["too_big", 0, wire.encode(error)])

    async def probe(self) -> Capabilities:
        """Tell what can be done here and now. Never raises. Before ``start``: whether it could start."""
        if self._probed is not None:
            return self._probed
        missing: tuple[Missing, ...] = ()
        if os.geteuid() != 0:
            missing += (Missing("TUN device", Reason.NO_PRIVILEGE, "not root"),)
        try:
            os.close(os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC))
        except OSError as error:
            missing += (Missing("TUN device", Reason.NO_TUN, f"/dev/net/tun: {error.strerror}"),)
        return Capabilities(name=self.name, usable=not missing, missing=missing)

    async def install(self, requests: Sequence[InstallRequest]) -> tuple[Carried, ...]:
        """Install SAs, all or none.

        Refusals: ALREADY_INSTALLED, BAD_KEY, ALGORITHM_UNSUPPORTED, MODE_UNSUPPORTED, TABLE_FULL.
        """
        taken: list[tuple[bytearray, bytearray]] = []
        secret = bytearray()
        try:
            for request in requests:
                taken.append(request.keys.take())
            # Joined at once: a buffer that grows leaves copies behind that nobody wipes.
            secret = bytearray().join(key for keys in taken for key in keys)
            items = [
                [wire.encode(request.sa), len(encryption), len(integrity), request.activate]
                for request, (encryption, integrity) in zip(requests, taken, strict=True)
            ]
            self._claim([request.sa.key for request in requests])
            await self._ask("install", items, secret=secret)
            return (Carried(),) * len(requests)
        finally:
            wipe(secret)
            for keys in taken:
                for key in keys:
                    wipe(key)
            for request in requests:
                request.keys.wipe()

    def _claim(self, keys: Sequence[SaKey]) -> None:
        """Have the packets of inbound SAs come here, where another datapath is given some."""
        if self._demultiplexer is not None:
            spis = {key.spi for key in keys if key.direction is Direction.IN}
            try:
                self._demultiplexer.claim(spis, Owner.SOFT)
            except Refusal as refusal:
                raise DatapathRefusal(refusal.reason, refusal.detail) from refusal
            self._claimed |= spis

    def _release(self, spis: Iterable[int]) -> None:
        if self._demultiplexer is not None:
            gone = self._claimed & set(spis)
            self._demultiplexer.release(gone)
            self._claimed -= gone

    async def activate_outbound(self, key: SaKey) -> None:
        """Switch the traffic of the SA's reqid and selectors to it. Refusal: NOT_INSTALLED."""
        await self._ask("activate_outbound", wire.encode(key))

    async def deactivate_outbound(self, key: SaKey) -> None:
        """Have nothing leave by an SA any more. No error if it is not there."""
        await self._ask("deactivate_outbound", wire.encode(key))

    async def remove(self, keys: Sequence[SaKey]) -> tuple[SaKey, ...]:
        """Remove SAs and wipe their keys. Returns those that were there."""
        there = self._keys(await self._ask("remove", [wire.encode(key) for key in keys]))
        self._release(key.spi for key in there if key.direction is Direction.IN)
        return there

    async def install_policies(self, policies: Sequence[SecurityPolicy]) -> None:
        """Add or replace policies: first in the process, then the routes that lead traffic to it.

        The first call also removes what an earlier process left, so give it all the policies there are.
        """
        await self._ask("install_policies", [wire.encode(policy) for policy in policies])
        self._policies |= {policy.name: policy for policy in policies}
        self._steer()

    async def remove_policies(self, names: Sequence[str]) -> tuple[str, ...]:
        """Remove policies by name. Returns those that were there."""
        for name in names:
            self._policies.pop(name, None)
        self._steer()
        return tuple(await self._ask("remove_policies", list(names)))

    async def note_elsewhere(self, policies: Sequence[SecurityPolicy]) -> None:
        """Nothing to do: the kernel's rules come before the rules that lead here, and leave what is to come here."""

    async def update_endpoints(
        self, key: SaKey, source: Address, destination: Address, encapsulation: UdpEncapsulation | None
    ) -> SaKey:
        """Change an SA's outer addresses and ports; keys, sequence and window stay. Returns its key now."""
        value = [wire.encode(item) for item in (key, source, destination, encapsulation)]
        return _key(await self._ask("update_endpoints", value))

    async def export_inbound(self, key: SaKey) -> InboundState:
        """Stop an inbound SA, read its window, remove it."""
        value, bitmap = await self._ask("export_inbound", wire.encode(key))
        self._release([key.spi])
        state: InboundState = wire.decode(InboundState, value)
        return replace(state, bitmap=int.from_bytes(bitmap))

    async def usage(self, keys: Sequence[SaKey]) -> dict[SaKey, Usage]:
        """Counters of SAs; those that are not installed are absent."""
        rows = await self._ask("usage", [wire.encode(key) for key in keys])
        return {_key(key): wire.decode(Usage, usage) for key, usage in rows}

    async def dump(self) -> Dump:
        """All that is really installed."""
        dump: Dump = wire.decode(Dump, await self._ask("dump", None))
        return dump

    async def counters(self) -> dict[str, int]:
        """Counters by name: rx and tx packets, bytes and batches; drops by their reason."""
        return {str(name): int(value) for name, value in (await self._ask("counters", None)).items()}

    async def events(self) -> AsyncIterator[DatapathEvent]:
        """Events in order, until the datapath is closed. One consumer."""
        while (event := await self._events.get()) is not None:
            yield event

    async def close(self) -> None:
        """Remove everything, wipe all keys, end. Idempotent."""
        if self._closing:
            await self._ended.wait()
            return
        self._closing = True
        if self._channel is not None:
            with contextlib.suppress(DatapathRefusal):
                await self._ask("close", None)
        self._disconnect("closed")
        await self._reap()
        if self._looking is not None:
            self._looking.cancel()
        if self._steering is not None:
            # After the SAs: the rules keep from default routes what those bring.
            self._steering.remove()
            self._steering.close()
            self._steering = None
        self._events.put_nowait(None)
        self._ended.set()

    def _spawn(self) -> socket.socket:
        """Start the process; our end of its control socket."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        argv, environment = process_command(theirs.fileno())
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                argv,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,  # a terminal's ^C is for the daemon, which then closes us in order
            )
        except OSError as error:
            ours.close()
            raise DatapathRefusal(Reason.DATAPATH_GONE, f"its process does not start: {error.strerror}") from error
        finally:
            theirs.close()
        return ours

    def _steer(self) -> None:
        if self._steering is not None:
            try:
                self._steering.apply(tuple(self._policies.values()))
            except Refusal as refusal:
                raise DatapathRefusal(refusal.reason, refusal.detail) from refusal

    def _look_later(self) -> None:
        if self._steering is not None:
            self._looking = asyncio.get_running_loop().call_later(self.options.audit, self._look)

    def _look(self) -> None:
        """Whether rules and routes are still there; nobody tells of those that another program removes."""
        assert self._steering is not None
        if self._channel is None:
            return
        try:
            missing = self._steering.mend()
        except Refusal as refusal:
            self._events.put_nowait(Changed(refusal.reason, refusal.detail))
        else:
            if missing:
                words = f"{missing} of our rules and routes were removed"
                self._events.put_nowait(Changed(Reason.CHANGED_FROM_OUTSIDE, words))
        self._look_later()

    async def _ask(
        self, operation: str, value: object, *, secret: bytearray | None = None, fds: list[int] | None = None
    ) -> Any:
        if self._channel is None:
            raise DatapathRefusal(Reason.DATAPATH_GONE, "it was not started or has ended")
        self._next += 1
        number = self._next
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[Any] = loop.create_future()
        self._replies[number] = reply
        seconds = self._timeout * (START_PATIENCE if operation == "start" else 1)
        timer = loop.call_later(seconds, self._late, reply, operation, seconds)
        in_doubt = operation in _IN_DOUBT
        try:
            self._push([operation, number, value], secret, fds)
            return await reply
        except OSError as error:
            raise DatapathRefusal(Reason.DATAPATH_GONE, str(error.strerror), in_doubt=in_doubt) from None
        finally:
            timer.cancel()
            self._replies.pop(number, None)

    def _late(self, reply: asyncio.Future[Any], operation: str, seconds: float) -> None:
        if not reply.done():
            what = f"no answer to {operation} in {seconds:g} s"
            reply.set_exception(DatapathRefusal(Reason.DATAPATH_TIMEOUT, what, in_doubt=operation in _IN_DOUBT))

    def _push(self, value: object, secret: bytearray | None = None, fds: list[int] | None = None) -> None:
        assert self._channel is not None
        self._channel.push(value, secret, fds)
        if self._channel.pending:
            asyncio.get_running_loop().add_writer(self._channel.sock.fileno(), self._writable)

    def _writable(self) -> None:
        if self._channel is None:
            return
        try:
            self._channel.flush()
        except OSError as error:
            self._lost(str(error.strerror))
            return
        if not self._channel.pending:
            asyncio.get_running_loop().remove_writer(self._channel.sock.fileno())

    def _readable(self) -> None:
        if self._channel is None:
            return
        try:
            frames = self._channel.pull()
        except wire.WireError as error:
            self._lost(f"it speaks nonsense: {error}")
            return
        if frames is None:
            self._lost("its process ended")
            return
        for value, _, _ in frames:
            self._heard(value)

    def _heard(self, value: Any) -> None:
        kind, number, body = value
        if kind == "event":
            name, fields = body
            self._events.put_nowait(wire.decode(_EVENTS[name], fields))
        elif kind == "ike":
            if self._on_ike is not None:
                self._on_ike(wire.decode(Datagram, body))
        elif (reply := self._replies.get(number)) is not None and not reply.done():
            if kind == "reply":
                reply.set_result(body)
            else:
                code, detail = body
                reply.set_exception(DatapathRefusal(Reason(code), detail))

    def _lost(self, why: str) -> None:
        """The process is gone by itself, its SAs and keys with it. Routes stay, so that traffic stays blocked."""
        self._disconnect(why)
        if not self._closing:
            self._events.put_nowait(Failed(Reason.DATAPATH_GONE, why))
            self._events.put_nowait(None)

    def _disconnect(self, why: str) -> None:
        self._release(tuple(self._claimed))
        if self._channel is not None:
            with contextlib.suppress(RuntimeError):
                loop = asyncio.get_running_loop()
                loop.remove_reader(self._channel.sock.fileno())
                loop.remove_writer(self._channel.sock.fileno())
            self._channel.close()
            self._channel = None
        for reply in self._replies.values():
            if not reply.done():
                reply.set_exception(DatapathRefusal(Reason.DATAPATH_GONE, why, in_doubt=True))

    async def _reap(self) -> None:
        """The process ends when its control socket does; one that does not is killed."""
        process = self._process
        if process is None:
            return
        try:
            await asyncio.to_thread(process.wait, 2.0)
        except subprocess.TimeoutExpired:
            process.kill()
            await asyncio.to_thread(process.wait)

    def _keys(self, values: Any) -> tuple[SaKey, ...]:
        return tuple(_key(value) for value in values)


def process_command(control: int) -> tuple[list[str], dict[str, str]]:
    """How the process is started with the control socket of this number: its arguments and environment."""
    argv, environment = module_command("appliance.datapath.soft", str(control))
    return argv, environment | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def _key(value: Any) -> SaKey:
    key: SaKey = wire.decode(SaKey, value)
    return key
