"""The daemon's life: start in the order that fails closed, serve, reload, stop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance import VERSION
from appliance.config.model import Config, DefaultPolicy
from appliance.config.problem import ConfigError
from appliance.console.protocol import (
    PROTOCOL_VERSION,
    Arguments,
    Call,
    NameArgs,
    ReloadResult,
    ShowArgs,
    VersionResult,
    What,
)
from appliance.daemon import guard
from appliance.daemon.addresses import local_for
from appliance.daemon.control import ControlLock, ControlServer
from appliance.daemon.desired import Desired
from appliance.daemon.gateway import Gateway
from appliance.daemon.log import Log, stderr_writer
from appliance.daemon.notify import notify
from appliance.daemon.reader import Reading
from appliance.daemon.reload import plan, problem_rows
from appliance.daemon.translate import Reqids, desired_of
from appliance.daemon.transport import Transport
from appliance.process.footprint import trim_memory
from appliance.process.hardening import harden
from appliance.process.module import module_command
from appliance.reasons import Reason, Refusal
from appliance.sa.association import SecurityPolicy
from appliance.sa.datapath import Datapath
from appliance.sa.selector import Address

if TYPE_CHECKING:
    from appliance.datapath.demultiplexer import Demultiplexer
    from appliance.datapath.kernel.datapath import KernelDatapath
    from appliance.datapath.kernel.options import KernelOptions
    from appliance.datapath.soft.client import SoftDatapath
    from appliance.datapath.soft.options import SoftOptions

OK, FAILED, BAD_CONFIGURATION = 0, 1, 2


def run(config_path: Path | str, control_path: Path | str | None = None) -> int:
    """Be the daemon until a signal ends it. Returns the exit status: 0, 1 (failed) or 2 (bad configuration)."""
    weak = harden()
    reqids = Reqids()
    try:
        config = Reading(Path(config_path)).result()
        desired = desired_of(config, reqids, warn=lambda text: print(f"warning: {text}", file=sys.stderr))
    except ConfigError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        _tell_of_guard()
        return BAD_CONFIGURATION
    except Refusal as refusal:
        _complain(refusal)
        _tell_of_guard()
        return BAD_CONFIGURATION
    for problem in config.warnings:
        print(problem, file=sys.stderr)
    log = Log(level=desired.log_level, write=_timed(stderr_writer()))
    for text in weak:
        log.add("warning", "daemon", "hardening", text, reason=Reason.NO_PRIVILEGE)
    daemon = Daemon(config, desired, reqids, Path(control_path) if control_path else config.control.path, log)
    try:
        return asyncio.run(daemon.run())
    except Refusal as refusal:
        _complain(refusal)
        if refusal.reason is not Reason.DAEMON_RUNS:  # that one carries what is protected
            _tell_of_guard()
        return FAILED
    except KeyboardInterrupt:
        return FAILED
    except Exception as error:
        log.internal("daemon", "the daemon ends", error)
        _tell_of_guard()
        return FAILED


class Daemon:
    """One daemon: a gateway with real sockets, real datapaths, a guard and a control socket."""

    def __init__(self, config: Config, desired: Desired, reqids: Reqids, control: Path, log: Log) -> None:
        self._config = config
        self._desired = desired
        self._reqids = reqids
        self._control_path = control
        self._log = log
        self._started_at = time.time()
        self._ready = False
        self._stopping = False
        self._stop = asyncio.Event()
        self._reloading = asyncio.Lock()
        self._soft: SoftDatapath | None = None
        self._kernel: KernelDatapath | None = None
        self._passes_told = False
        self._demultiplexer: Demultiplexer | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        addresses = dict.fromkeys(address for c in config.connections for address in c.local.addresses)
        self._transport = Transport(config.ike.port, config.ike.port_nat, config.datapath.soft.mark, tuple(addresses))
        self._gateway: Gateway | None = None

    @property
    def gateway(self) -> Gateway:
        """The gateway, from the start of ``run`` on."""
        assert self._gateway is not None
        return self._gateway

    async def run(self) -> int:
        """Start, serve until told to stop, stop. Raises Refusal if the start fails; then nothing of it is left."""
        asyncio.get_running_loop().set_exception_handler(self._unhandled)
        lock = ControlLock(self._control_path)
        control = ControlServer(self._control_path, self._handle, self._log, problems=problem_rows)
        try:
            await self._start(control)
            await self._stop.wait()
            await self._shut_down(control)
        finally:
            await control.close()
            self._transport.close()
            lock.close()
        return OK

    async def _start(self, control: ControlServer) -> None:
        loop = asyncio.get_running_loop()
        from appliance.datapath.demultiplexer import Demultiplexer

        # The ports first: who does not get them is the second daemon here, and must not touch the first one's guard.
        no_family = self._transport.open()
        order = self._config.datapath.order
        self._demultiplexer = Demultiplexer(self._transport.ingresses)
        if "soft" not in order:
            self._demultiplexer.readers(soft=False)
        # Then, before anything can carry traffic: what is protected does not leave in the clear.
        guard.apply_policies(self._config, self._desired.policies)
        await self._remove_leftovers(order)
        for refusal in no_family:
            self._log.refusal("warning", "daemon", "no-family", "an address family is not served", refusal)
        mark = self._config.datapath.soft.mark

        def find_local(remote: Address, configured: tuple[Address, ...]) -> Address:
            return local_for(remote, configured, mark)

        gateway = self._gateway = Gateway(
            self._desired,
            self._log,
            makers=[(name, self._maker(name)) for name in order],
            send=self._transport.send,
            local_for=find_local,
        )
        try:
            self._transport.receive = gateway.ike.receive
            self._transport.stray_esp = self._stray_esp
            self._transport.stray_too_big = self._stray_too_big
            await gateway.start_datapaths()
            if not gateway.datapaths.ready:
                raise gateway.datapaths.refusal()
            await control.start(self._config.control.group)
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._told_to_stop)
            loop.add_signal_handler(signal.SIGHUP, self._told_to_reload)
            gateway.start()
            self._transport.attach()
        except BaseException:
            await gateway.abandon()
            raise
        trim_memory()
        self._ready = True
        notify("READY=1")
        text = f"ready: {len(self._desired.connections)} connections, control socket {self._control_path}"
        self._log.add("info", "daemon", "ready", text)

    async def _shut_down(self, control: ControlServer) -> None:
        self._stopping = True
        notify("STOPPING=1")
        self._log.add("info", "daemon", "stopping", "deleting what is up at the peers")
        for task in tuple(self._tasks):
            task.cancel()
        await self.gateway.stop()
        await control.close()
        self._log.add(
            "info", "daemon", "stopped",
            "stopped; the guard stays, so protected traffic is dropped until the daemon runs again"
            " (esplanade guard --remove takes it away)",
        )  # fmt: skip

    def _unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What nobody caught: a line in the log, and the daemon runs on."""
        error = context.get("exception")
        if isinstance(error, BaseException):
            self._log.internal("daemon", "a task", error)
        else:
            self._log.add("error", "daemon", "internal", str(context.get("message", "")), reason=Reason.INTERNAL)

    def _told_to_stop(self) -> None:
        if self._stop.is_set():
            # Told twice: at once. The datapath's process ends with our socket to it, and wipes its keys.
            with contextlib.suppress(OSError):
                self._control_path.unlink()
            os._exit(FAILED)
        self._stop.set()

    def _told_to_reload(self) -> None:
        async def reload() -> None:
            try:
                await self.reload()
            except Refusal as refusal:
                self._log.refusal("error", "config", "reload-refused", "nothing was changed", refusal)
            except Exception as error:
                self._log.internal("config", "reloading", error)

        task = asyncio.get_running_loop().create_task(reload())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Control

    async def _handle(self, call: Call, arguments: Arguments, progress: Callable[[str], None]) -> Any:
        if call is Call.VERSION:
            return self._version()
        if isinstance(arguments, ShowArgs):
            return await self._show(arguments)
        if self._stopping or not self._ready:
            raise Refusal(Reason.STOPPING if self._stopping else Reason.NOT_UP, "the daemon itself")
        if call is Call.RELOAD:
            return await self.reload()
        assert isinstance(arguments, NameArgs)
        operations = self.gateway.operations
        operation = {
            Call.INITIATE: operations.initiate,
            Call.TERMINATE: operations.terminate,
            Call.REKEY: operations.rekey,
        }[call]
        return await operation(arguments.connection, arguments.child, progress)

    async def _show(self, arguments: ShowArgs) -> Any:
        show = self.gateway.show
        if arguments.what is What.LOG:
            return await show.log(arguments.limit)
        rows = {
            What.CONNECTIONS: show.connections,
            What.SA: show.sas,
            What.POLICIES: show.policies,
            What.DATAPATH: show.datapath,
            What.OFFLOAD: show.offload,
            What.COUNTERS: show.counters,
        }[arguments.what]
        return await rows()

    def _version(self) -> VersionResult:
        return VersionResult(
            program="esplanade",
            version=VERSION,
            protocol=PROTOCOL_VERSION,
            pid=os.getpid(),
            started_at=self._started_at,
            ready=self._ready,
            config=str(self._config.path),
        )

    async def reload(self) -> ReloadResult:
        """Read the configuration again and apply what differs. Raises Refusal; then nothing has changed."""
        async with self._reloading:
            config, desired = await asyncio.to_thread(self._read, Reading(self._config.path))
            change = plan(self._config, self._desired, config, desired)
            if not change.nothing:
                before, after = self._desired.policies, desired.policies
                union = {policy.name: policy for policy in (*before, *after)}
                await self._guard(config, tuple(sorted(union.values(), key=lambda policy: policy.priority)))
                try:
                    await self.gateway.change(desired)
                except Refusal:
                    await self._guard(self._config, before)
                    raise
                await self._guard(config, after)
            else:
                # Also frees what the operator terminated: a reload asks for what the file says.
                self.gateway.reconciler.apply(desired)
            self._config, self._desired = config, desired
            await self._keep_interfaces(desired)
            trim_memory()
            result = change.result
            text = "nothing differs" if change.nothing else _summary(result)
            self._log.add("info", "config", "reloaded", f"{config.path}: {text}")
            return result

    def _read(self, reading: Reading) -> tuple[Config, Desired]:
        config = reading.result()
        warnings: list[str] = []
        desired = desired_of(config, self._reqids, warn=warnings.append)
        for text in warnings:
            self._log.add("warning", "config", "credential", text)
        return config, desired

    async def _guard(self, config: Config, policies: tuple[SecurityPolicy, ...]) -> None:
        await asyncio.to_thread(guard.apply_policies, config, policies)

    # Datapaths

    def _maker(self, name: str) -> Callable[[], Any]:
        makers = {"soft": self._make_soft, "kernel": self._make_kernel}
        if name not in makers:
            raise Refusal(Reason.CONFIG_VALUE, f"datapath.order: there is no datapath {name!r} yet")
        return makers[name]

    async def _remove_leftovers(self, order: Sequence[str]) -> None:
        """What a killed daemon left of datapaths that are in the order no more takes packets from those that are."""
        try:
            if "kernel" not in order:
                done = await _remove_from_kernel()
                if done:
                    self._log.add("warning", "datapath", "leftovers", f"left by a daemon that had the kernel: {done}")
            if "soft" not in order:
                from appliance.datapath.soft import steering

                await asyncio.to_thread(steering.remove_leftovers, self._soft_options())
        except Refusal as refusal:
            words = "what an earlier daemon left of a datapath that is not in datapath.order may be in the way"
            self._log.refusal("error", "datapath", "leftovers", words, refusal)

    async def _make_kernel(self) -> Datapath:
        try:
            kernel = await self._start_kernel()
        except Refusal:
            if self._config.datapath.kernel.default_policy is DefaultPolicy.BLOCK and not self._passes_told:
                self._passes_told = True
                text = 'default_policy = "block" does not hold before the kernel\'s datapath runs: other packets pass'
                self._log.add("error", "datapath", "default-policy", text)
            raise
        self._kernel, self._passes_told = kernel, False
        try:
            await self._keep_interfaces(self._desired)
        except BaseException:
            await kernel.close()
            raise
        return kernel

    async def _start_kernel(self) -> KernelDatapath:
        from appliance.datapath.guard import ipsec_aware
        from appliance.datapath.kernel.datapath import KernelDatapath

        if not await asyncio.to_thread(ipsec_aware):
            words = "nftables here cannot tell what the kernel's IPsec protects: the guard would drop it"
            raise Refusal(Reason.NO_NFTABLES, words, remedy="load nft_xfrm and nft_meta, or use a kernel with them")
        kernel = KernelDatapath(self._kernel_options(), demultiplexer=self._demultiplexer)
        await kernel.start()
        return kernel

    def _kernel_options(self) -> KernelOptions:
        from appliance.datapath.kernel.options import KernelOptions

        settings = self._config.datapath.kernel
        return KernelOptions(
            mark=self._config.datapath.soft.mark,
            ike_ports=(self._config.ike.port, self._config.ike.port_nat),
            survivors=settings.survivors,
            block=settings.default_policy is DefaultPolicy.BLOCK,
        )

    async def _keep_interfaces(self, desired: Desired) -> None:
        """Have the tunnel interfaces be as desired. What is refused now is tried again by the datapath."""
        if self._kernel is None:
            return
        try:
            done = await self._kernel.keep_interfaces(desired.interfaces)
        except Refusal as refusal:
            self._log.refusal("error", "datapath", "interfaces", "tunnel interfaces are not as they should be", refusal)
            return
        for words in done:
            self._log.add("info", "datapath", "interface", words)

    async def _make_soft(self) -> Datapath:
        from appliance.datapath.soft.client import SoftDatapath

        soft = SoftDatapath(self._soft_options(), on_ike=self._transport.received, demultiplexer=self._demultiplexer)
        await soft.start()
        try:
            for ingress in self._transport.ingresses:
                await soft.add_ingress(ingress)
        except Refusal:
            await soft.close()
            raise
        self._soft = soft
        return soft

    def _soft_options(self) -> SoftOptions:
        from appliance.datapath.soft.options import SoftOptions

        settings = self._config.datapath.soft
        options: dict[str, Any] = {
            "tun": settings.tun,
            "mark": settings.mark,
            "table": settings.table,
            "clamp_mss": settings.mss_clamp,
            "mtu_floor_ipv4": settings.pmtu_floor,
            "discards": "kernel" not in self._config.datapath.order,
        }
        if settings.mtu is not None:
            options["tun_mtu"] = settings.mtu
        return SoftOptions(**options)

    def _stray_esp(self, datagram: Any) -> None:
        if self._soft is not None:
            self._soft.inject_esp(datagram)

    def _stray_too_big(self, error: Any) -> None:
        if self._soft is not None:
            self._soft.inject_too_big(error)


async def _remove_from_kernel() -> str:
    """What was removed of a daemon that had the kernel's datapath, "" for nothing. Raises Refusal."""
    argv, environment = module_command("appliance.datapath.kernel.leftovers")
    pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*argv, stdin=null, stdout=pipe, stderr=pipe, env=environment)
    told, trouble = await process.communicate()
    if process.returncode != 0:
        last = trouble.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise Refusal(Reason.INTERNAL, f"looking for what an earlier daemon left in the kernel: {last}")
    said = json.loads(told)
    if "reason" in said:
        raise Refusal(Reason[said["reason"]], said["detail"])
    done: str = said["done"]
    return done


def _summary(result: ReloadResult) -> str:
    parts = [
        f"{what} {', '.join(names)}"
        for what, names in (("added", result.added), ("removed", result.removed), ("changed", result.changed))
        if names
    ]
    if result.policies_changed:
        parts.append("policies changed")
    return "; ".join([*parts, f"{result.unchanged} connections unchanged"])


def _timed(write: Callable[[str], None]) -> Callable[[str], None]:
    """Lines with the time of day, unless the journal adds it."""
    if "JOURNAL_STREAM" in os.environ:
        return write
    return lambda line: write(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {line}")


def _complain(refusal: Refusal) -> None:
    print(f"error: {refusal} [{refusal.reason.name}]\n  remedy: {refusal.remedy}", file=sys.stderr)


def _tell_of_guard() -> None:
    """What a failed start means for the traffic: this time's guard stays, and so does an earlier one."""
    if guard.stands():
        print(
            "the guard is up and stays: what the configuration protects is dropped while no daemon carries it\n"
            "  to lift it, so that it may leave in the clear: esplanade guard --remove",
            file=sys.stderr,
        )
