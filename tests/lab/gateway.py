"""Our gateway in a namespace: the daemon as a user starts it, and its control socket."""

from __future__ import annotations

import itertools
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from appliance.console.protocol import (
    ROWS,
    Answer,
    ChildRow,
    ConnectionRow,
    ErrorRow,
    LogRow,
    ReloadResult,
    SaRow,
    State,
    What,
)
from tests.lab.namespace import Namespace
from tests.lab.process import Process, children, cpu_seconds, memory

T = TypeVar("T")
READY_SECONDS = 60.0 if "ESPLANADE_VM" in os.environ else 20.0
"""On an emulated CPU the first start compiles everything."""
_SCRIPT = Path(sys.executable).parent / "esplanade"
ESPLANADE = [str(_SCRIPT)] if _SCRIPT.exists() else [sys.executable, "-m", "appliance.console.main"]
"""How a user starts it; where the project is not installed, as its module."""


class GatewayError(Exception):
    """The gateway refused a request. ``error`` is its answer."""

    def __init__(self, error: ErrorRow) -> None:
        super().__init__(f"{error.reason}: {error.words}: {error.detail}")
        self.error = error


@dataclass(frozen=True, slots=True)
class CliResult:
    """What a command of the CLI did: exit status, standard output and error."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which ``--json`` makes JSON."""
        return json.loads(self.out)


class Gateway:
    """One ``esplanade run``. Paths and logs lie in the lab's directory."""

    def __init__(self, namespace: Namespace, config: str, *, name: str = "esplanade") -> None:
        self.namespace = namespace
        self.name = name
        self.directory = namespace.directory / f"{namespace.name}-{name}"
        self.directory.mkdir()
        self.config = self.directory / "gateway.toml"
        self.control = self.directory / "control.sock"
        self.process: Process | None = None
        self._generation = itertools.count(1)
        self._ids = itertools.count(1)
        self._connection: tuple[socket.socket, bytearray] | None = None
        namespace.endings.append(self._forget)
        self.write(config)

    def write(self, config: str) -> None:
        """Replaces the configuration file, which holds a secret. :meth:`reload` makes it count."""
        self.config.touch(mode=0o600)
        self.config.write_text(config)

    def start(self, *, ready: bool = True) -> Gateway:
        """Starts the daemon; waits until its configuration is applied unless ``ready`` is False. Returns itself."""
        self._forget()
        argv = [*ESPLANADE, "run", "--config", str(self.config), "--control", str(self.control)]
        # The compiled files of one user's checkout must not turn up in it because of a test.
        env = {"PYTHONDONTWRITEBYTECODE": os.environ.get("PYTHONDONTWRITEBYTECODE", "")}
        self.process = self.namespace.spawn(argv, name=f"{self.name}-{next(self._generation)}", env=env)
        if ready:
            self.wait_ready()
        return self

    def wait_ready(self, timeout: float = READY_SECONDS) -> None:
        """Waits until the control socket says so. Raises RuntimeError with the daemon's last words if it ended."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                if self.call("version")["ready"]:
                    return
            except (OSError, EOFError):
                self._forget()
            assert self.process is not None
            if not self.process.running or time.monotonic() > deadline:
                raise RuntimeError(f"{self.namespace.name}: the gateway is not ready:\n{self.process.tail(40)}")
            time.sleep(0.02)  # the socket is not there yet, and nothing says when it is

    def _forget(self) -> None:
        if self._connection is not None:
            self._connection[0].close()
            self._connection = None

    def call(self, call: str, *, timeout: float = 30.0, **args: Any) -> Any:
        """One request on the control socket; its result. Raises GatewayError, or OSError where nobody listens."""
        if self._connection is None:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.connect(str(self.control))
            except OSError:
                sock.close()
                raise
            self._connection = (sock, bytearray())
        sock, buffer = self._connection
        number = next(self._ids)
        sock.settimeout(timeout)
        sock.sendall(json.dumps({"id": number, "call": call, "args": args}).encode() + b"\n")
        while True:
            line, found, rest = bytes(buffer).partition(b"\n")
            if not found:
                data = sock.recv(1 << 20)
                if not data:
                    self._forget()
                    raise EOFError("the gateway closed its control socket")
                buffer += data
                continue
            buffer[:] = rest
            answer = msgspec.json.decode(line, type=Answer)
            if answer.id != number or answer.ok is None:
                continue
            if not answer.ok:
                assert answer.error is not None
                raise GatewayError(answer.error)
            return msgspec.json.decode(answer.result)

    def show(self, what: What, **args: Any) -> list[Any]:
        """The rows of ``show``, typed."""
        return [msgspec.convert(row, ROWS[what]) for row in self.call("show", what=what.value, **args)]

    def connection(self, name: str) -> ConnectionRow:
        """One connection's row."""
        for row in self.show(What.CONNECTIONS):
            if row.name == name:
                assert isinstance(row, ConnectionRow)
                return row
        raise LookupError(name)

    def child(self, connection: str, name: str = "net") -> ChildRow:
        """One child's row."""
        return next(child for child in self.connection(connection).children if child.name == name)

    def sas(self) -> list[SaRow]:
        """All ESP SAs."""
        return self.show(What.SA)

    def log_rows(self, limit: int = 1000) -> list[LogRow]:
        """The newest events."""
        return self.show(What.LOG, limit=limit)

    def counters(self) -> dict[str, int]:
        """All counters by name."""
        counts: dict[str, int] = {}
        for row in self.show(What.COUNTERS):
            counts[row.name] = counts.get(row.name, 0) + row.value
        return counts

    def wait(self, what: str, poll: Callable[[], T | None], timeout: float = 15.0) -> T:
        """Asks ``poll`` until it gives something true. Raises TimeoutError with ``what`` and the log's end."""
        deadline = time.monotonic() + timeout
        while True:
            value = poll()
            if value:
                return value
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.namespace.name}: after {timeout:g} s not {what}:\n{self.tail()}")
            time.sleep(0.02)  # show is a question; nothing announces the answer's change

    def wait_established(self, name: str, *, child: str | None = "net", timeout: float = 15.0) -> ConnectionRow:
        """Waits until a connection and its child carry traffic."""

        def up() -> ConnectionRow | None:
            row = self.connection(name)
            ready = row.state is State.ESTABLISHED and (
                child is None or any(c.name == child and c.state is State.ESTABLISHED for c in row.children)
            )
            return row if ready else None

        return self.wait(f"established: {name}", up, timeout)

    def wait_log(self, pattern: Callable[[LogRow], bool], what: str, timeout: float = 15.0) -> LogRow:
        """Waits for an event."""
        return self.wait(what, lambda: next((row for row in self.log_rows() if pattern(row)), None), timeout)

    def initiate(self, connection: str, child: str | None = None, *, timeout: float = 30.0) -> None:
        """Brings a connection up. Raises GatewayError with the reason if that fails."""
        self.call("initiate", timeout=timeout, connection=connection, child=child)

    def terminate(self, connection: str, child: str | None = None) -> None:
        """Takes a connection, or a child of it, down."""
        self.call("terminate", connection=connection, child=child)

    def rekey(self, connection: str, child: str | None = None) -> None:
        """Rekeys an IKE SA, or a child SA."""
        self.call("rekey", connection=connection, child=child)

    def reload(self, config: str | None = None) -> ReloadResult:
        """Makes the configuration file count, after replacing it by ``config`` if given."""
        if config is not None:
            self.write(config)
        return msgspec.convert(self.call("reload"), ReloadResult)

    def cli(self, *args: str, timeout: float = 30.0) -> CliResult:
        """Runs the CLI against this gateway's socket, in its namespace."""
        done = self.namespace.run([*ESPLANADE, *args, "--control", str(self.control)], check=False, timeout=timeout)
        return CliResult(done.returncode, done.stdout, done.stderr)

    def tail(self, lines: int = 30) -> str:
        """The end of what the daemon wrote."""
        return self.process.tail(lines) if self.process is not None else ""

    @property
    def log(self) -> str:
        """All that the daemon wrote since its last start."""
        return self.process.text() if self.process is not None else ""

    @property
    def pids(self) -> dict[str, int]:
        """The daemon's process id and its datapath's."""
        assert self.process is not None
        found = {"daemon": self.process.pid}
        for pid in children(self.process.pid):
            found["datapath"] = pid
        return found

    def cpu_seconds(self) -> dict[str, float]:
        """CPU time of each process so far."""
        return {name: cpu_seconds(pid) for name, pid in self.pids.items()}

    def memory(self) -> dict[str, dict[str, int]]:
        """Bytes of each process: rss and pss."""
        return {name: memory(pid) for name, pid in self.pids.items()}

    def stop(self, timeout: float = 10.0) -> int:
        """An orderly end, as by the service manager. Returns the exit status."""
        self._forget()
        assert self.process is not None
        return self.process.stop(timeout)

    def kill9(self) -> None:
        """SIGKILL to the daemon only: its datapath has to notice by itself."""
        self._forget()
        assert self.process is not None
        self.process.kill9()

    def restart(self) -> Gateway:
        """Starts again after :meth:`stop` or :meth:`kill9`."""
        return self.start()


def cli(namespace: Namespace, *args: str, timeout: float = 30.0) -> CliResult:
    """Runs the CLI as it is, without a gateway."""
    done: subprocess.CompletedProcess[str] = namespace.run([*ESPLANADE, *args], check=False, timeout=timeout)
    return CliResult(done.returncode, done.stdout, done.stderr)
