"""A network namespace that lives as long as a file descriptor of ours, so nothing survives a process that died.

The descriptor is the only handle: no name under /run/netns, hence no mount, so the same way serves root and the root
of a user namespace. Commands enter by ``nsenter``, functions by a thread that calls setns(2).
"""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ParamSpec, TypeVar

from tests.lab.process import Process, tagged

P = ParamSpec("P")
R = TypeVar("R")

CLONE_NEWNET = 0x40000000
SBIN = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
_libc = ctypes.CDLL(None, use_errno=True)


class LabError(Exception):
    """The lab could not do what was asked; the text says which command and what it answered."""


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise LabError(f"{what}: {os.strerror(number)}")


def _in_thread(function: Callable[[], R]) -> R:
    """Runs ``function`` in a thread of its own: what it does to its namespaces dies with it."""
    outcome: list[R] = []
    failure: list[BaseException] = []

    def body() -> None:
        try:
            outcome.append(function())
        except BaseException as error:  # passed on to the caller whatever it is
            failure.append(error)

    thread = threading.Thread(target=body, name="lab-netns")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


def _new_namespace() -> int:
    _checked(_libc.unshare(CLONE_NEWNET), "unshare(CLONE_NEWNET)")
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


@functools.cache
def why_not() -> str | None:
    """Why no lab can be built here, or None if one can. Tests skip with these words."""
    path = SBIN
    for command in ("ip", "iperf3", "nft", "nsenter", "ping", "setpriv", "unshare"):
        if shutil.which(command, path=path) is None:
            return f"the command {command} is missing (tools/setup.sh system lab)"
    try:
        os.close(_in_thread(_new_namespace))
    except LabError as error:
        return f"network namespaces cannot be made here ({error}); run as root or through tools/with-net.sh"
    return None


class Namespace:
    """One network namespace. ``name`` is for messages and log files only."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.directory = directory
        self.fd = _in_thread(_new_namespace)
        self.processes: list[Process] = []
        self.endings: list[Callable[[], None]] = []
        self.run(["ip", "link", "set", "dev", "lo", "up"])

    @property
    def path(self) -> str:
        """What ``ip ... netns`` and ``nsenter --net=`` take."""
        return f"/proc/{os.getpid()}/fd/{self.fd}"

    def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Runs a function inside, in a thread of its own. Sockets it makes stay in this namespace."""

        def inside() -> R:
            _checked(_libc.setns(self.fd, CLONE_NEWNET), f"setns({self.name})")
            return function(*args, **kwargs)

        return _in_thread(inside)

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket of this namespace, for use by any thread."""
        return self.call(socket.socket, family, kind, protocol)

    def _entered(self, argv: Sequence[str], *, private_run: bool) -> list[str]:
        # Dies with us: asked for first, then checked that we were still there to ask.
        command = ["setpriv", "--pdeathsig", "KILL", "--", "sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"']
        command += [str(os.getpid()), "nsenter", f"--net={self.path}", "--"]
        if private_run:
            # Daemons that insist on a path under /run get one of their own.
            command += ["unshare", "--mount", "--", "sh", "-c", 'mount -t tmpfs tmpfs /run && exec "$@"', "sh"]
        return [*command, *argv]

    def run(
        self, argv: Sequence[str], *, stdin: str | None = None, check: bool = True, timeout: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command inside to its end. Raises :class:`LabError` with its output if it fails and ``check``."""
        done = subprocess.run(
            ["nsenter", f"--net={self.path}", "--", *argv],
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env=tagged({"PATH": SBIN}),
        )
        if check and done.returncode != 0:
            raise LabError(f"{self.name}: {' '.join(argv)}: {done.stderr.strip() or done.stdout.strip()}")
        return done

    def spawn(
        self,
        argv: Sequence[str],
        *,
        name: str,
        env: Mapping[str, str] | None = None,
        private_run: bool = False,
        stdin: int = subprocess.DEVNULL,
    ) -> Process:
        """Starts a command inside. It ends with the lab, and dies with the thread that started it (PDEATHSIG)."""
        process = Process(
            self._entered(argv, private_run=private_run),
            name=f"{self.name}-{name}",
            directory=self.directory,
            env={"PATH": SBIN, **(env or {})},
            stdin=stdin,
        )
        self.processes.append(process)
        return process

    def ip(self, *lines: str) -> None:
        """Runs ``ip`` commands, one a line, in one go: ``ns.ip("addr add 192.0.2.1/24 dev wan")``."""
        self.run(["ip", "-batch", "-"], stdin="\n".join(lines) + "\n")

    def nft(self, script: str) -> None:
        """Loads an nftables script, all or nothing."""
        self.run(["nft", "-f", "-"], stdin=script)

    def sysctl(self, **values: int | str) -> None:
        """Sets ``net`` sysctls; ``__`` stands for the dot: ``sysctl(ipv4__ip_forward=1)``."""

        def write() -> None:
            for key, value in values.items():
                Path("/proc/sys/net", *key.split("__")).write_text(f"{value}\n")

        self.call(write)

    def close(self) -> None:
        """Runs the endings, ends the processes, then lets the namespace go."""
        for ending in reversed(self.endings):
            ending()
        self.endings.clear()
        for process in reversed(self.processes):
            process.stop()
        self.processes.clear()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
