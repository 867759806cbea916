"""A process of the lab: its output in a file, its end certain."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

TAG = "ESPLANADE_LAB"


def tagged(env: Mapping[str, str]) -> dict[str, str]:
    """The environment for a child: ours, ``env``, and the mark by which ``make sweep`` knows a lab's process."""
    return {**os.environ, **env, TAG: str(os.getpid())}


class Process:
    """A started command. Its standard output and error go to ``log``."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        name: str,
        directory: Path,
        env: Mapping[str, str],
        stdin: int = subprocess.DEVNULL,
    ) -> None:
        self.name = name
        self.log = directory / f"{name}.log"
        with self.log.open("ab") as log:
            self.popen = subprocess.Popen(
                argv, stdin=stdin, stdout=log, stderr=subprocess.STDOUT, env=tagged(env), start_new_session=True
            )

    @property
    def pid(self) -> int:
        """The command's own process id: everything before it was exec'd away."""
        return self.popen.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.popen.poll() is None

    def text(self) -> str:
        """All that it wrote."""
        return self.log.read_text(errors="replace")

    def wait_for(self, pattern: str, timeout: float = 10.0) -> str:
        """Waits until a line of its output matches; returns the line. Raises TimeoutError with the log's tail."""
        wanted = re.compile(pattern)
        deadline = time.monotonic() + timeout
        while True:
            ended = not self.running
            for line in self.text().splitlines():
                if wanted.search(line):
                    return line
            if ended or time.monotonic() > deadline:
                state = "ended" if ended else f"ran for {timeout:g} s"
                raise TimeoutError(f"{self.name} {state} without {pattern!r}:\n{self.tail()}")
            time.sleep(0.01)  # a file says nothing when it grows

    def tail(self, lines: int = 20) -> str:
        """The end of its output, for error messages."""
        return "\n".join(self.text().splitlines()[-lines:])

    def wait(self, timeout: float = 10.0) -> int:
        """Its exit status, when it ends by itself."""
        return self.popen.wait(timeout)

    def kill9(self) -> None:
        """SIGKILL to the process alone, as the kernel's OOM killer does it, and its end awaited."""
        self.popen.kill()
        self.popen.wait()

    def stop(self, timeout: float = 5.0) -> int:
        """SIGTERM, then SIGKILL to its whole session if it does not end in time. Returns the exit status."""
        if self.running:
            self.popen.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(timeout)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        status = self.popen.wait()
        if self.popen.stdin is not None:
            self.popen.stdin.close()
        return status

    def cpu_seconds(self) -> float:
        """CPU time used so far by the process and its threads, user and system, in seconds."""
        return cpu_seconds(self.pid)


def cpu_seconds(pid: int) -> float:
    """CPU time of a process, user and system, in seconds (proc(5), fields 14 and 15 of stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def children(pid: int) -> list[int]:
    """The processes below ``pid``, all generations."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            for child in (task / "children").read_text().split():
                found += [int(child), *children(int(child))]
    return found


def memory(pid: int) -> dict[str, int]:
    """Memory of a process in bytes: ``rss`` and ``pss`` (shared pages divided among their users)."""
    sizes = {"rss": 0, "pss": 0}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        key = line.partition(":")[0].lower()
        if key in sizes:
            sizes[key] = int(line.split()[1]) * 1024
    return sizes
