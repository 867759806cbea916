"""The daemon as a process: real sockets and signals, in a network namespace of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.console.client import call
from appliance.console.protocol import Arguments, Call, NameArgs, NoArgs, ShowArgs, State, What
from appliance.reasons import Refusal
from tests.daemon.pair import configuration

ROOT = Path(__file__).parents[2]
UNSHARE = [
    "unshare",
    "--net",
    "--",
    "sh",
    "-c",
    'ip link set lo up && ip addr add 192.0.2.1/24 dev lo && exec "$@"',
    "sh",
]


def possible() -> bool:
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return False
    return subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(not possible(), reason="no network namespace can be made here")


class Running:
    """One daemon. Its standard error is in a file."""

    def __init__(self, directory: Path, text: str) -> None:
        self.config = directory / "gateway.toml"
        self.control = directory / "control.sock"
        self.errors = directory / "stderr"
        self.config.touch(mode=0o600)
        self.config.write_text(text)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        arguments = [sys.executable, "-m", "tests.daemon.memory_daemon", str(self.config), str(self.control)]
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen([*UNSHARE, *arguments], stderr=errors, cwd=ROOT)
        end = time.monotonic() + 20
        while "ready:" not in self.said:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < end, self.said
            time.sleep(0.02)

    @property
    def said(self) -> str:
        return self.errors.read_text()

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, seconds: float = 10) -> int:
        assert self.process is not None
        return self.process.wait(seconds)

    def until_said(self, words: str) -> None:
        end = time.monotonic() + 10
        while words not in self.said:
            assert time.monotonic() < end, self.said
            time.sleep(0.02)

    def ask(self, call_: Call, arguments: Arguments) -> Any:
        return call(self.control, call_, arguments, Any, timeout=5, progress=lambda text: None)

    def show(self, what: What) -> Any:
        return self.ask(Call.SHOW, ShowArgs(what=what))


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    daemon = Running(tmp_path, configuration("a"))
    try:
        yield daemon
    finally:
        if daemon.process is not None and daemon.process.poll() is None:
            daemon.process.kill()
            daemon.process.wait()


def test_sigterm_stops_in_order_and_leaves_the_guard(running: Running) -> None:
    running.start()
    assert running.said.index("guard: 1 policies") < running.said.index("ready:")
    [row] = running.show(What.CONNECTIONS)
    assert row["state"] in (State.CONNECTING, State.RETRYING)
    running.signal(signal.SIGTERM)
    assert running.wait() == 0
    assert "the guard stays" in running.said
    assert "Traceback" not in running.said
    assert not running.control.exists()


def test_a_second_sigterm_stops_at_once(running: Running) -> None:
    running.start()
    assert running.process is not None
    os.kill(running.process.pid, signal.SIGSTOP)
    running.signal(signal.SIGTERM)
    os.kill(running.process.pid, signal.SIGCONT)
    running.signal(signal.SIGTERM)
    # Stopped in order, told to hurry, or done so far that nobody handles signals any more.
    assert running.wait() in (0, 1, -signal.SIGTERM)


def test_sighup_reloads_and_a_bad_file_changes_nothing(running: Running) -> None:
    running.start()
    running.config.write_text(configuration("a").replace("local_ts", "local_st"))
    running.signal(signal.SIGHUP)
    running.until_said("nothing was changed")
    assert [row["name"] for row in running.show(What.CONNECTIONS)] == ["site"]
    running.config.write_text(configuration("a").replace("connection.site", "connection.other"))
    running.signal(signal.SIGHUP)
    running.until_said("added other")
    assert [row["name"] for row in running.show(What.CONNECTIONS)] == ["other"]


def test_a_bad_file_is_told_with_its_lines_to_who_asked(running: Running) -> None:
    running.start()
    running.config.write_text(configuration("a").replace("aes256gcm16", "aes265gcm16"))
    with pytest.raises(Refusal) as refused:
        running.ask(Call.RELOAD, NoArgs())
    problems = refused.value.error.problems  # type: ignore[attr-defined]
    assert problems
    assert all(problem.line and problem.remedy for problem in problems)


def test_a_killed_daemons_socket_is_replaced_by_the_next(running: Running) -> None:
    running.start()
    assert running.process is not None
    running.process.kill()
    running.process.wait()
    assert running.control.exists()
    running.start()
    assert running.show(What.LOG)


def test_unknown_names_are_answered_with_the_known_ones(running: Running) -> None:
    running.start()
    with pytest.raises(Refusal) as refused:
        running.ask(Call.INITIATE, NameArgs(connection="nowhere"))
    assert "site" in refused.value.detail


def test_no_secret_is_on_standard_error_or_in_any_answer(running: Running) -> None:
    running.start()
    text = running.said + "".join(str(running.show(what)) for what in What)
    assert "a long enough secret" not in text
