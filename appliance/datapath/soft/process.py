"""The process's one thread: the control socket first, then the TUN device and the sockets, a bounded batch of each."""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
import time
import traceback
from typing import Any

from appliance.datapath.soft import wire
from appliance.datapath.soft.control import Control
from appliance.datapath.soft.engine import Engine, Way
from appliance.datapath.soft.options import SoftOptions
from appliance.datapath.soft.tun import open_tun
from appliance.process.footprint import trim_memory
from appliance.process.hardening import harden
from appliance.reasons import Reason, Refusal
from appliance.sa.algorithms import every_suite
from appliance.sa.association import Mode
from appliance.sa.datapath import Capabilities, DatapathEvent, Missing

_EVENTS_WAITING = 4 << 20
"""Bytes of events that may wait for the daemon; beyond that they are dropped and counted."""


class Process:
    """The event loop."""

    def __init__(self, control: socket.socket) -> None:
        self._channel = wire.Channel(control)
        self._fd = control.fileno()
        self._missing = harden()
        self._engine: Engine | None = None
        self._control: Control | None = None
        self._poll = select.epoll()
        self._poll.register(self._fd, select.EPOLLIN)
        self._listening: dict[int, tuple[socket.socket, Way]] = {}
        self._running = True
        self._remove = False
        self._faults = 0

    def run(self) -> None:
        """Work until the control socket closes, or the daemon says so."""
        try:
            while self._running:
                engine = self._engine
                timeout = 1.0
                if engine is not None:
                    engine.core.now = time.monotonic()
                    timeout = max(engine.tick(), 0.0)
                events = self._poll.poll(timeout)
                if engine is not None:
                    engine.core.now = time.monotonic()
                self._turn(events)
        finally:
            if self._engine is not None:
                self._engine.close(remove=self._remove)
            self._channel.close()

    def _turn(self, events: list[tuple[int, int]]) -> None:
        for number, flags in events:
            if number == self._fd:
                self._hear(flags)
        engine = self._engine
        if engine is None or not self._running:
            return
        for number, flags in events:
            if number == self._fd:
                continue
            try:
                if number == engine.core.tun.fd:
                    engine.read_tun()
                elif (entry := self._listening.get(number)) is not None:
                    engine.read_socket(*entry, error=bool(flags & select.EPOLLERR))
            except Exception as error:
                # A packet found a fault of ours: it is dropped and told of, the others go on.
                self._fault(error)

    def _fault(self, error: Exception) -> None:
        assert self._engine is not None
        self._engine.core.drop(Reason.INTERNAL)
        self._faults += 1
        if self._faults <= 10:
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{place.filename.rpartition('/')[2]}:{place.lineno}"
            words = f"{Reason.INTERNAL.words}: {type(error).__name__} at {where}, a packet was dropped"
            print(f"esplanade soft datapath: {words}", file=sys.stderr)

    def _hear(self, flags: int) -> None:
        try:
            if flags & select.EPOLLOUT:
                self._channel.flush()
            frames = self._channel.pull() if flags & ~select.EPOLLOUT else []
            if frames is None:
                self._running = False
                return
            for value, secret, fds in frames:
                self._request(value, secret, fds)
            self._poll.modify(self._fd, select.EPOLLIN | (select.EPOLLOUT if self._channel.pending else 0))
        except OSError:
            self._running = False
        except wire.WireError as error:
            print(f"esplanade soft datapath: the daemon speaks nonsense: {error}", file=sys.stderr)
            self._running = False

    def _request(self, value: Any, secret: bytearray, fds: list[int]) -> None:
        operation, number, body = value
        try:
            result = self._answer(operation, body, secret, fds)
        except Refusal as refusal:
            self._channel.push(["refusal", number, [refusal.reason.value, refusal.detail]])
        except Exception as error:
            for fd in fds:
                os.close(fd)
            detail = f"{operation}: {type(error).__name__}"
            print(f"esplanade soft datapath: {Reason.INTERNAL.words}: {detail}: {error}", file=sys.stderr)
            self._channel.push(["refusal", number, [Reason.INTERNAL.value, detail]])
        else:
            if number:
                self._channel.push(["reply", number, result])

    def _answer(self, operation: str, body: Any, secret: bytearray, fds: list[int]) -> object:
        if operation == "start":
            return self._start(wire.decode(SoftOptions, body))
        if operation == "close":
            self._running = False
            self._remove = True
            if self._engine is not None:
                self._engine.close(remove=True)
                self._engine = None
            return None
        if self._control is None:
            raise Refusal(Reason.INTERNAL, "not started")
        result = self._control.requests[operation](body, secret, fds)
        if operation in ("add_ingress", "remove_ingress"):
            self._listen()
        return result

    def _start(self, options: SoftOptions) -> object:
        tun = open_tun(options.tun, options.tun_mtu)
        self._engine = Engine(options, tun, self._emit, self._emit_ike)
        self._control = Control(self._engine)
        self._poll.register(tun.fd, select.EPOLLIN)
        trim_memory()
        missing = [Missing("hardening", Reason.NO_PRIVILEGE, what) for what in self._missing]
        if not tun.tso:
            missing.append(Missing("segmentation offload", Reason.NO_TUN, "the kernel's TUN devices have none"))
        elif not tun.uso:
            missing.append(Missing("UDP segmentation offload", Reason.NO_TUN, "it came with Linux 6.2"))
        return wire.encode(
            Capabilities(
                name="soft",
                usable=True,
                suites=every_suite(),
                modes=(Mode.TUNNEL, Mode.TRANSPORT),
                native=True,
                udp_encapsulation=True,
                replay_windows=(64, 4096),
                max_sas=options.max_sas,
                missing=tuple(missing),
            )
        )

    def _listen(self) -> None:
        assert self._engine is not None
        wanted = self._engine.descriptors()
        for number in set(self._listening) - set(wanted):
            # Closing took it out of the poll; a number that came back is a new socket.
            self._listening.pop(number)
        for number, entry in wanted.items():
            known = self._listening.get(number)
            if known is None or known[0] is not entry[0]:
                self._poll.register(number, select.EPOLLIN | select.EPOLLERR)
            self._listening[number] = entry

    def _emit(self, event: DatapathEvent) -> None:
        self._say(["event", 0, [type(event).__name__, wire.encode(event)]])

    def _emit_ike(self, datagram: list[object]) -> None:
        self._say(["ike", 0, datagram])

    def _say(self, value: list[object]) -> None:
        if self._channel.queued > _EVENTS_WAITING:
            if self._engine is not None:
                self._engine.core.counters["events_dropped"] += 1
            return
        try:
            self._channel.push(value)
            if self._channel.pending:
                self._poll.modify(self._fd, select.EPOLLIN | select.EPOLLOUT)
        except OSError:
            self._running = False


def main() -> int:
    """Run on the control socket whose number is the only argument."""
    if len(sys.argv) != 2 or not sys.argv[1].isdecimal():
        print("esplanade soft datapath: the daemon starts this; it takes the number of a socket", file=sys.stderr)
        return 2
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        control = socket.socket(fileno=int(sys.argv[1]))
    except OSError as error:
        print(f"esplanade soft datapath: descriptor {sys.argv[1]}: {error.strerror}", file=sys.stderr)
        return 2
    gc.freeze()  # what was imported stays; looking through it again and again costs time
    try:
        Process(control).run()
    except Exception as error:
        print(f"esplanade soft datapath: {Reason.INTERNAL.words}: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0
