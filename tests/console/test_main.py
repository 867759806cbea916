"""The command line from its arguments to its exit status, against a real control socket."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from appliance.console.main import main
from appliance.console.protocol import (
    Arguments,
    Call,
    Done,
    ErrorRow,
    LogRow,
    NameArgs,
    NoArgs,
    ProblemRow,
    ReloadResult,
    ShowArgs,
    VersionResult,
    What,
    error_of,
)
from appliance.reasons import Reason, Refusal
from tests.console import rows
from tests.console.daemon import CLOSE, SILENCE, FakeDaemon, Script

ROWS: dict[What, list[Any]] = {
    What.CONNECTIONS: rows.CONNECTIONS,
    What.SA: rows.SAS,
    What.POLICIES: rows.POLICIES,
    What.DATAPATH: rows.DATAPATHS,
    What.OFFLOAD: rows.OFFLOAD,
    What.COUNTERS: rows.COUNTERS,
    What.LOG: rows.LOG,
}
EXAMPLE = Path(__file__).parents[2] / "appliance/config/examples/gateway.toml"


def good(call: Call, args: Arguments) -> Iterable[object]:
    match args:
        case ShowArgs():
            yield ROWS[args.what]
        case NameArgs():
            if args.connection != "site-b":
                raise Refusal(Reason.UNKNOWN_NAME, repr(args.connection))
            yield "asked 192.0.2.2 for an IKE SA"
            yield Done(name=args.connection, text=f"{args.connection} is up", details=["net: spi 0x1"])
        case NoArgs() if call is Call.RELOAD:
            yield ReloadResult(added=["site-d"], changed=["site-b/net"], unchanged=2, restart_needed=["ike.port"])
        case NoArgs():
            yield VersionResult(
                program="esplanade", version="1", protocol=1, pid=7, started_at=0.0, ready=True, config="/etc/gw.toml"
            )


def says(*items: object) -> Script:
    def script(call: Call, args: Arguments) -> Iterable[object]:
        return items

    return script


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control.sock"


@pytest.mark.parametrize("what", [what.value for what in What])
def test_show_prints_tables_and_the_same_rows_as_json(
    path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    with FakeDaemon(path, good):
        assert main(["show", what, "--control", str(path)]) == 0
        human = capsys.readouterr()
        assert human.out.strip() and not human.err and "\x1b" not in human.out
        assert main(["show", what, "--json", "--control", str(path)]) == 0
        found = json.loads(capsys.readouterr().out)
    assert len(found) == len(ROWS[What(what)]) and isinstance(found[0], dict)


def test_show_of_one_connection_has_its_details_only(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with FakeDaemon(path, good):
        assert main(["show", "connections", "site-b", "--control", str(path)]) == 0
        out = capsys.readouterr().out
        assert "0x1122334455667788" in out and "site-c" not in out
        assert main(["show", "sa", "six", "--json", "--control", str(path)]) == 0
        assert {row["connection"] for row in json.loads(capsys.readouterr().out)} == {"six"}
        assert main(["show", "connections", "nobody", "--control", str(path)]) == 1
        assert "no such connection" in capsys.readouterr().err


def test_show_log_asks_for_as_many_as_wanted(path: Path) -> None:
    with FakeDaemon(path, good) as daemon:
        assert main(["show", "log", "--limit", "7", "--control", str(path)]) == 0
    assert daemon.requests[0].args == {"what": "log", "limit": 7}


def test_show_log_of_a_connection_has_its_newest_entries_whatever_the_others_did(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = [
        LogRow(time=float(n), level="info", room="ike", event="e", text=f"event {n}", connection=name)
        for n, name in enumerate(["site-b", "site-b", "site-b", "site-c", "site-c"])
    ]

    def newest(call: Call, args: Arguments) -> Iterable[object]:
        assert isinstance(args, ShowArgs)
        return [entries[-args.limit :]]

    with FakeDaemon(path, newest):
        assert main(["show", "log", "site-b", "--limit", "2", "--control", str(path)]) == 0
        out = capsys.readouterr().out
        assert "event 1" in out and "event 2" in out and out.count("event") == 2
        assert main(["show", "log", "site-d", "--control", str(path)]) == 0
        assert "the log has nothing of site-d" in capsys.readouterr().out


def test_show_alone_says_what_there_is_to_show(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["show"])
    assert ended.value.code == 2 and "connections, sa, policies" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["initiate", "terminate", "rekey"])
def test_verbs_name_a_connection_or_a_child_and_show_progress(
    path: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    with FakeDaemon(path, good) as daemon:
        assert main([verb, "site-b", "--control", str(path)]) == 0
        shown = capsys.readouterr()
        assert shown.out == "site-b is up\n  net: spi 0x1\n" and shown.err == "asked 192.0.2.2 for an IKE SA\n"
        assert main([verb, "site-b/net", "--json", "--control", str(path)]) == 0
        assert json.loads(capsys.readouterr().out)["name"] == "site-b"
    assert [r.args for r in daemon.requests] == [
        {"connection": "site-b", "child": None},
        {"connection": "site-b", "child": "net"},
    ]


def test_what_the_daemon_refuses_is_status_1_with_reason_and_remedy(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeDaemon(path, good):
        assert main(["initiate", "site-x", "--control", str(path)]) == 1
        shown = capsys.readouterr()
        assert not shown.out and "'site-x'" in shown.err and f"remedy: {Reason.UNKNOWN_NAME.remedy}" in shown.err
        assert main(["initiate", "site-x", "--json", "--control", str(path)]) == 1
        error = json.loads(capsys.readouterr().out)
    assert error["ok"] is False and error["error"]["reason"] == "UNKNOWN_NAME" and error["error"]["remedy"]


def test_a_reason_of_a_newer_daemon_is_shown_in_its_words(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = ErrorRow(reason="OF_TOMORROW", words="the flux is low", detail="1.20 GW", remedy="wait")
    with FakeDaemon(path, says(error)):
        assert main(["rekey", "site-b", "--control", str(path)]) == 1
        assert "the flux is low: 1.20 GW" in capsys.readouterr().err
        assert main(["rekey", "site-b", "--json", "--control", str(path)]) == 1
        assert json.loads(capsys.readouterr().out)["error"]["reason"] == "OF_TOMORROW"


def test_reload_tells_what_changed(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with FakeDaemon(path, good):
        assert main(["reload", "--control", str(path)]) == 0
    out = capsys.readouterr().out
    assert "added    site-d" in out and "changed  site-b/net" in out and "ike.port: takes effect when" in out
    assert "reloaded: 2 changes, 2 connections undisturbed" in out


def test_reload_of_a_wrong_file_shows_every_mistake(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    problem = ProblemRow(
        level="error", file="gw.toml", line=3, column=1, where="connection.a", reason="CONFIG_UNIT",
        what="30 has no unit", cause="a bare number", remedy='write "30s"',
    )  # fmt: skip
    with FakeDaemon(path, says(error_of(Refusal(Reason.CONFIG_INVALID, "gw.toml"), [problem]))):
        assert main(["reload", "--control", str(path)]) == 1
    err = capsys.readouterr().err
    assert "gw.toml:3:1: error: connection.a: 30 has no unit" in err and "nothing is applied" in err


def test_version_tells_who_answers(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with FakeDaemon(path, good):
        assert main(["version", "--control", str(path)]) == 0
    assert "process 7, ready, with /etc/gw.toml" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("esplanade ")


@pytest.mark.parametrize(
    "argv",
    [
        ["show"],
        ["show", "nothing"],
        ["initiate"],
        ["initiate", "a/b/c"],
        ["initiate", "/b"],
        ["frobnicate"],
        ["run"],
        ["check"],
        ["guard"],
        ["show", "sa", "--timeout", "soon"],
        ["show", "sa", "--timeout", "0"],
        ["show", "log", "--limit", "-1"],
    ],
)
def test_a_wrong_command_line_is_status_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2 and "usage: esplanade" in capsys.readouterr().err


def test_no_command_is_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2 and "COMMAND" in capsys.readouterr().err


def nothing(path: Path) -> None:
    """No file at all."""


def dead(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def plain_file(path: Path) -> None:
    path.write_text("")


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (nothing, Reason.CONTROL_NO_SOCKET),
        (dead, Reason.CONTROL_DEAD),
        (plain_file, Reason.CONTROL_NO_SOCKET),
    ],
)
def test_no_daemon_is_status_3_and_says_which_kind(
    path: Path, capsys: pytest.CaptureFixture[str], prepare: Callable[[Path], None], reason: Reason
) -> None:
    prepare(path)
    assert main(["show", "sa", "--control", str(path)]) == 3
    err = capsys.readouterr().err
    assert reason.words in err and reason.remedy in err and str(path) in err
    assert main(["show", "sa", "--json", "--control", str(path)]) == 3
    assert json.loads(capsys.readouterr().out)["error"]["reason"] == reason.name


def test_what_the_machine_can_do_needs_no_daemon(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dead(path)
    assert main(["show", "offload", "--json", "--control", str(path)]) == 0
    said = capsys.readouterr()
    rows = json.loads(said.out)
    assert rows[0] == rows[0] | {"subject": "kernel", "text": f"Linux {os.uname().release}"} and len(rows) > 1
    assert said.err == "no daemon runs here: this is the machine as this command sees it\n"


@pytest.mark.parametrize("what", ["counters", "datapath", "offload"])
def test_names_where_there_are_none_are_a_wrong_command_line(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["show", what, "site-b"])
    assert f"show {what} takes no names" in capsys.readouterr().err


def test_a_socket_path_that_is_too_long_is_status_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "sa", "--control", str(tmp_path / ("x" * 200))]) == 3
    assert Reason.CONTROL_NO_SOCKET.words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("items", "reason"),
    [
        ([CLOSE], Reason.CONTROL_CLOSED),
        (["working", CLOSE], Reason.CONTROL_CLOSED),
        ([b'{"id": 1, "ok": true, "res', CLOSE], Reason.CONTROL_CLOSED),
        ([b"HTTP/1.1 400 Bad Request\r\n"], Reason.CONTROL_BAD_ANSWER),
        ([b'{"id": 1, "ok": false}\n'], Reason.CONTROL_BAD_ANSWER),
        ([b'{"id": 1, "ok": true, "result": {"name": 5}}\n'], Reason.CONTROL_BAD_ANSWER),
        ([b"\xff\xfe\n"], Reason.CONTROL_BAD_ANSWER),
        ([SILENCE], Reason.CONTROL_TIMEOUT),
    ],
)
def test_an_answer_that_does_not_come_is_status_3(
    path: Path, capsys: pytest.CaptureFixture[str], items: list[object], reason: Reason
) -> None:
    with FakeDaemon(path, says(*items)):
        assert main(["show", "sa", "--timeout", "0.3", "--control", str(path)]) == 3
    assert reason.words in capsys.readouterr().err


def test_progress_does_not_outlast_the_timeout_and_a_daemon_at_work_is_not_called_silent(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeDaemon(path, says("one", "two", SILENCE)):
        started = time.monotonic()
        assert main(["initiate", "site-b", "--timeout", "0.3", "--control", str(path)]) == 3
        assert time.monotonic() - started < 5
    told = capsys.readouterr().err
    assert "still at work after 0.3 s" in told and "start it again" not in told


def test_answers_of_many_megabytes_arrive_whole(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with FakeDaemon(path, says([rows.sa("in")] * 5000)):
        assert main(["show", "sa", "--json", "--control", str(path)]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 5000


def test_keys_of_a_newer_daemon_are_ignored(path: Path) -> None:
    line = b'{"id": 1, "ok": true, "new": 1, "result": [{"group": "ike", "name": "n", "value": 1, "new": 2}]}\n'
    with FakeDaemon(path, says(line)):
        assert main(["show", "counters", "--control", str(path)]) == 0


def test_what_comes_from_the_daemon_cannot_drive_the_terminal(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = Done(name="x", text="up\x1b[2J", details=["a\x07b"])
    with FakeDaemon(path, says("work\x1bing", done)):
        assert main(["initiate", "x", "--control", str(path)]) == 0
    shown = capsys.readouterr()
    assert "\x1b" not in shown.out + shown.err and "\x07" not in shown.out


def test_check_of_a_good_file_is_status_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "gw.toml"
    config.touch(mode=0o600)
    config.write_text(EXAMPLE.read_text())
    assert main(["check", "--config", str(config)]) == 0
    assert capsys.readouterr().out == f"{config} is good: 1 connection, 1 child, 0 policies\n"
    assert main(["check", "--config", str(config), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is True and found["connections"] == 1 and found["problems"] == []


def test_check_shows_warnings_and_is_status_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "gw.toml"
    config.write_text(EXAMPLE.read_text())
    config.chmod(0o644)
    assert main(["check", "--config", str(config)]) == 0
    out = capsys.readouterr().out
    assert "warning" in out and "1 warning" in out and "horse" not in out


def test_check_of_a_wrong_file_is_status_1_and_shows_every_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "gw.toml"
    config.write_text(EXAMPLE.read_text().replace('"30s"', "30").replace("mode =", "mod ="))
    assert main(["check", "--config", str(config)]) == 1
    err = capsys.readouterr().err
    assert f"{config}:9:20: error" in err and f"{config}:15:1: error" in err and "2 mistakes" in err
    assert err.count("cause: ") == err.count("remedy: ") == 2
    assert main(["check", "--config", str(config), "--json"]) == 1
    problems = json.loads(capsys.readouterr().out)["error"]["problems"]
    assert [(p["line"], p["reason"]) for p in problems] == [(9, "CONFIG_UNIT"), (15, "CONFIG_UNKNOWN_KEY")]
    assert main(["check", "--config", str(tmp_path / "none.toml")]) == 1


def test_guard_is_put_up_for_a_configuration_and_taken_away_without_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "gw.toml"
    config.write_text(EXAMPLE.read_text())
    done: list[str] = []
    monkeypatch.setattr("appliance.daemon.guard.apply", lambda config: done.append(config.connections[0].name))
    monkeypatch.setattr("appliance.daemon.guard.remove", lambda: done.append("removed"))
    assert main(["guard", "--config", str(config)]) == 0
    assert "is dropped until" in capsys.readouterr().out
    assert main(["guard", "--remove", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"ok": True, "guard": "removed"}
    assert done == ["site-b", "removed"]

    def refuse(config: object) -> None:
        raise Refusal(Reason.NO_NFTABLES)

    monkeypatch.setattr("appliance.daemon.guard.apply", refuse)
    assert main(["guard", "--config", str(config)]) == 1
    assert Reason.NO_NFTABLES.remedy in capsys.readouterr().err
    assert main(["guard", "--config", str(tmp_path / "none")]) == 1


def test_run_has_the_daemons_exit_status(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[tuple[Path, Path | None]] = []

    def daemon(config: Path, control: Path | None) -> int:
        asked.append((config, control))
        return len(asked)

    left_out: list[bool] = []
    monkeypatch.setattr("appliance.daemon.start.leave_out_openssl", lambda: left_out.append(True))
    monkeypatch.setattr("appliance.daemon.main.run", daemon)
    assert main(["run", "--config", "gw.toml"]) == 1
    assert main(["run", "--config", "gw.toml", "--control", "/x"]) == 2
    assert asked == [(Path("gw.toml"), None), (Path("gw.toml"), Path("/x"))]
    assert left_out == [True, True]
    monkeypatch.setitem(sys.modules, "appliance.daemon.main", None)
    assert main(["run", "--config", "gw.toml"]) == 1
    assert Reason.NOT_INSTALLED_PART.words in capsys.readouterr().err


def run(*argv: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "appliance.console.main", *argv],
        capture_output=True, text=True, check=False, timeout=60, **options,
    )  # fmt: skip


def test_the_process_has_the_exit_status(path: Path, tmp_path: Path) -> None:
    with FakeDaemon(path, good):
        assert run("show", "connections", "--control", str(path)).returncode == 0
        assert run("initiate", "nobody", "--control", str(path)).returncode == 1
    assert run("show", "--bogus").returncode == 2
    assert run("show", "sa", "--control", str(tmp_path / "none")).returncode == 3


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_a_socket_of_somebody_else_is_status_3_and_says_so(path: Path) -> None:
    with FakeDaemon(path, good):
        path.chmod(0o600)
        for folder in (path.parent, *path.parent.parents):
            if folder.owner() == "root" and str(folder) != "/" and "pytest" in folder.name:
                folder.chmod(0o755)
        code = (
            "import os, sys\n"
            "from appliance.console.main import main, parser\n"
            "parser().parse_args(['show', 'sa'])\n"  # what it imports late is out of reach afterwards
            "try:\n    os.setgid(65534), os.setuid(65534)\n"
            "except OSError:\n    sys.exit(77)\n"
            "sys.exit(main(sys.argv[1:]))"
        )
        argv = [sys.executable, "-c", code, "show", "sa", "--control", str(path)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode == 77:
        pytest.skip("this user namespace has no other user to become")
    assert done.returncode == 3 and Reason.CONTROL_DENIED.words in done.stderr, done.stderr


def test_output_that_nobody_reads_is_no_traceback(path: Path) -> None:
    with FakeDaemon(path, says([rows.sa("in")] * 5000)):
        command = f"{sys.executable} -m appliance.console.main show sa --control {path} | head -1"
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.count("\n") == 1 and done.stderr == ""


@pytest.mark.parametrize("redirection", [">&-", "2>&-", ">/dev/full"])
def test_output_that_cannot_be_written_is_no_traceback(path: Path, redirection: str) -> None:
    with FakeDaemon(path, good):
        command = f"{sys.executable} -m appliance.console.main show sa --control {path} {redirection}"
        # Buffered, as it is for users: what is left in the buffer must not fail again at exit.
        env = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False, timeout=60, env=env)
    assert done.returncode == (1 if "full" in redirection else 0), done.stderr
    assert "Traceback" not in done.stderr and ("No space left" in done.stderr) == ("full" in redirection)


def test_show_imports_little_so_that_it_starts_at_once() -> None:
    code = (
        "import sys, appliance.console.main, appliance.console.screens\n"
        "heavy = {'asyncio', 'cryptography', 'numpy', 'pyroute2', 'appliance.sa', 'appliance.config'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
