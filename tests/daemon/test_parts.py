"""The small parts: log, backoff, placement, addresses, translation, notifications, hardening."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tomllib
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from random import Random

import pytest

from appliance.config.load import load, loads
from appliance.daemon import backoff
from appliance.daemon.addresses import is_local, local_for, port_is_taken, routed_source
from appliance.daemon.log import BURST, RING, Log, stderr_writer
from appliance.daemon.main import Daemon
from appliance.daemon.notify import notify
from appliance.daemon.translate import Reqids, desired_of, policies_of
from appliance.reasons import Reason, Refusal
from appliance.sa.algorithms import Encryption, Suite
from appliance.sa.association import (
    USUAL_HANDLING,
    Direction,
    Handling,
    Mode,
    Offload,
    PolicyAction,
    SecurityAssociation,
)
from appliance.sa.datapath import DatapathRefusal, InstallRequest
from appliance.sa.interface import TunnelInterface
from appliance.sa.keys import KeyMaterial
from appliance.sa.placement import Candidate, place
from appliance.sa.selector import TrafficSelector
from tests.daemon.memory_datapath import SUITES, Fault, MemoryDatapath
from tests.daemon.pair import configuration

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "appliance/config/examples/gateway.toml"
LOOPBACK = ip_address("127.0.0.1")


ROUTED = """
interface = "ipsec0"
datapath = "kernel"
offload = "crypto"
offload_device = "eth0"
[interface.ipsec0]
address = ["10.9.0.1/30"]
routes = ["10.2.0.0/16"]
[datapath]
order = ["kernel", "soft"]
return_after = "5m"
"""


# The log


def test_a_flood_of_one_kind_costs_neither_lines_nor_memory() -> None:
    now = 0.0
    lines: list[str] = []
    log = Log(write=lines.append, clock=lambda: now)
    for _ in range(5000):
        log.add("warning", "ike", "flood", "again")
    assert len(lines) == BURST
    log.add("info", "ike", "other", "still heard")
    assert lines[-1].endswith("still heard")
    now = 20.0
    log.add("warning", "ike", "flood", "again")
    assert any(f"{5000 - BURST} more" in line for line in lines)


def test_the_ring_keeps_the_newest() -> None:
    log = Log(clock=lambda: 0.0)
    for number in range(RING + 500):
        log.add("info", "daemon", f"event-{number}", str(number))
    assert len(list(log)) == RING
    assert [entry.text for entry in log.newest(2)] == [str(RING + 498), str(RING + 499)]
    assert log.newest(0) == []


def test_control_characters_of_a_peer_reach_no_terminal() -> None:
    lines: list[str] = []
    Log(write=lines.append).add("info", "ike", "notice", "id \x1b[2J\nroot\x00")
    assert lines[0].isprintable()


def test_an_internal_error_tells_type_and_place_and_no_values() -> None:
    log = Log()
    try:
        raise ValueError("the secret value")
    except ValueError as error:
        log.internal("daemon", "doing it", error)
    [entry] = log.newest(1)
    assert "ValueError" in entry.text
    assert "test_parts.py" in entry.text
    assert "secret" not in entry.text


def test_a_reader_of_standard_error_that_stopped_stops_nobody() -> None:
    reading, writing = os.pipe()
    write = stderr_writer(writing)
    for _ in range(1000):
        write("x" * 1000)  # the pipe holds 64 KiB
    os.close(reading)
    write("nobody is there")
    os.close(writing)


# Backoff


def test_delays_double_to_a_minute_and_vary() -> None:
    random = Random(1).randbytes
    means = [sum(backoff.delay(attempt, random) for _ in range(200)) / 200 for attempt in range(1, 12)]
    assert means[0] == pytest.approx(1, rel=0.1)
    assert means[3] == pytest.approx(8, rel=0.1)
    assert means[-1] == pytest.approx(60, rel=0.1)
    assert len({backoff.delay(3, random) for _ in range(50)}) > 40


# Placement


def request(suite: Suite = SUITES[1]) -> InstallRequest:
    selector = TrafficSelector.parse("10.0.0.0/8")
    sa = SecurityAssociation(
        direction=Direction.OUT,
        spi=0x1000,
        source=LOOPBACK,
        destination=LOOPBACK,
        suite=suite,
        mode=Mode.TUNNEL,
        local_ts=(selector,),
        remote_ts=(selector,),
        reqid=1,
        child="a/b",
    )
    return InstallRequest(sa, KeyMaterial(bytes(range(36))))


def placed(*datapaths: MemoryDatapath, suite: Suite = SUITES[1]) -> tuple[str, list[str]]:
    async def main() -> tuple[str, list[str]]:
        candidates = [Candidate(d.name, d, await d.probe()) for d in datapaths]
        asked = request(suite)
        try:
            found = await place(candidates, [asked])
        finally:
            assert asked.keys.consumed
        return found.datapath.name, [str(why) for why in found.why_not]

    return asyncio.run(main())


def test_the_first_that_can_takes_it_and_the_others_say_why_not() -> None:
    few = MemoryDatapath("few", suites=SUITES[:1])
    full = MemoryDatapath("full")
    full.faults.append(Fault(Reason.TABLE_FULL))
    name, why = placed(few, full, MemoryDatapath("last"))
    assert name == "last"
    assert why[0].startswith("few: the datapath has no such algorithm")
    assert why[1].startswith("full: the datapath has no room")


def test_after_a_refusal_in_doubt_nobody_else_gets_the_keys() -> None:
    doubtful, other = MemoryDatapath("doubtful"), MemoryDatapath("other")
    doubtful.faults.append(Fault(Reason.DATAPATH_TIMEOUT, in_doubt=True))
    with pytest.raises(DatapathRefusal) as refused:
        placed(doubtful, other)
    assert refused.value.in_doubt
    assert not other.sas


def test_where_nobody_can_each_reason_is_named() -> None:
    chacha = Suite(Encryption.CHACHA20_POLY1305, 256)
    one, two = MemoryDatapath("one", suites=SUITES[:1]), MemoryDatapath("two", suites=SUITES[:1])
    with pytest.raises(DatapathRefusal) as refused:
        placed(one, two, suite=chacha)
    assert refused.value.reason is Reason.ALGORITHM_UNSUPPORTED
    assert "one" in refused.value.detail
    assert "two" in refused.value.detail
    assert not refused.value.in_doubt


# Addresses


def test_a_configured_address_must_be_here() -> None:
    assert is_local(LOOPBACK)
    assert local_for(LOOPBACK, (LOOPBACK,)) == LOOPBACK
    with pytest.raises(Refusal) as refused:
        local_for(ip_address("198.51.100.9"), (ip_address("198.51.100.1"),))
    assert refused.value.reason is Reason.BAD_ADDRESS
    assert "198.51.100.1" in refused.value.detail


def test_without_one_the_routes_decide() -> None:
    assert routed_source(ip_address("127.0.0.9"), None).is_loopback


def test_a_taken_port_is_seen() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        assert port_is_taken(LOOPBACK, port)
    assert not port_is_taken(LOOPBACK, port)


# Translation


def test_the_example_of_the_documentation_translates() -> None:
    config = loads(EXAMPLE.read_text())
    desired = desired_of(config, Reqids())
    assert desired.connections
    for connection in desired.connections.values():
        assert connection.children
        assert {child.config.reqid for child in connection.children}.isdisjoint({0})


def test_reqids_are_stable_over_reloads() -> None:
    reqids = Reqids()
    first = {p.name: p.reqid for p in policies_of(loads(configuration("a")), reqids)}
    more = configuration("a", children='[connection.site.child.aaa]\nremote_ts = ["10.9.0.0/24"]\n')
    second = {p.name: p.reqid for p in policies_of(loads(more), reqids)}
    assert second["site/net"] == first["site/net"]
    assert len(set(second.values())) == 2


def test_policies_are_ordered_by_priority_then_by_the_file() -> None:
    text = configuration("a") + "".join(
        f'[[policy]]\nname = "{name}"\naction = "{action}"\nlocal_ts = ["10.1.0.1"]\n'
        f'remote_ts = ["10.2.0.{n}"]\n{more}\n'
        for n, (name, action, more) in enumerate(
            (
                ("first", "bypass", ""),
                ("second", "discard", ""),
                ("last", "discard", "priority = 9000"),
                ("same", "bypass", "priority = 2000"),
            ),
            1,
        )
    )
    policies = policies_of(loads(text), Reqids())
    assert [policy.name for policy in policies] == ["first", "second", "site/net", "same", "last"], "children first"
    assert policies[0].action is PolicyAction.BYPASS
    assert len({policy.priority for policy in policies}) == 5


def test_a_default_of_block_that_does_not_hold_is_told_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kernel = '[datapath]\norder = ["kernel", "soft"]\n[datapath.kernel]\ndefault_policy = "block"\n'
    config, reqids, log = loads(configuration("a") + kernel), Reqids(), Log()
    monkeypatch.setattr("appliance.datapath.guard.ipsec_aware", lambda: False)

    async def main() -> None:
        daemon = Daemon(config, desired_of(config, reqids), reqids, tmp_path / "control.sock", log)
        for _ in range(2):
            with pytest.raises(Refusal):
                await daemon._make_kernel()

    asyncio.run(main())
    assert [(entry.level, entry.event) for entry in log] == [("error", "default-policy")]


def test_how_a_child_is_carried_reaches_its_sas_and_its_policy() -> None:
    desired = desired_of(loads(configuration("a") + ROUTED), Reqids())
    (child,) = desired.connections["site"].children
    (interface,) = desired.interfaces
    number = 947130767
    assert child.config.handling == Handling("kernel", Offload.CRYPTO, "eth0", "ipsec0", number)
    assert child.policy.handling == child.config.handling
    assert interface == TunnelInterface(
        name="ipsec0",
        if_id=number,
        addresses=(ip_interface("10.9.0.1/30"),),
        mtu=1400,
        routes=(ip_network("10.2.0.0/16"),),
    )
    assert desired.return_after == 300
    plain = desired_of(loads(configuration("a")), Reqids())
    assert plain.interfaces == () and plain.policies[0].handling == USUAL_HANDLING and plain.return_after == 60


@pytest.mark.parametrize(
    ("old", "new", "same_traffic", "same_packets"),
    [
        ('"crypto"', '"packet"', True, False),
        ("mtu = 1400", "mtu = 1300", True, True),
        ("if_id = 5", "if_id = 6", False, False),
    ],
)
def test_what_a_child_keeps_when_it_is_carried_otherwise(
    old: str, new: str, same_traffic: bool, same_packets: bool
) -> None:
    text = configuration("a") + ROUTED.replace("[datapath]", "mtu = 1400\nif_id = 5\n[datapath]")
    (before,), (after,) = (
        desired_of(loads(words), Reqids()).connections["site"].children for words in (text, text.replace(old, new))
    )
    assert (before.same_traffic(after), before.same_packets(after)) == (same_traffic, same_packets)


def test_a_bad_key_file_is_refused_with_the_file_and_the_connection(tmp_path: Path) -> None:
    secret = tmp_path / "psk"
    secret.write_text("a secret that is long enough")
    secret.chmod(0o600)
    file = tmp_path / "gateway.toml"
    file.write_text(configuration("a").replace('psk = "a long enough secret"', f'psk_file = "{secret}"'))
    config = load(file)
    assert desired_of(config, Reqids()).connections["site"].config.credential is not None
    secret.unlink()
    with pytest.raises(Refusal) as refused:
        desired_of(config, Reqids())
    assert str(secret) in refused.value.detail
    assert "site" in refused.value.detail


# The service manager, and the process itself


def test_the_version_is_that_of_the_package() -> None:
    from appliance import VERSION

    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == VERSION


def test_ready_is_told_to_the_service_manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        notify("READY=1")
        assert manager.recv(100) == b"READY=1"
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nowhere"))
    notify("READY=1")


def test_the_daemon_is_not_dumpable_and_imports_nothing_heavy() -> None:
    script = (
        "import sys, ctypes, resource\n"
        "from appliance.daemon import main\n"
        "import appliance.datapath.soft.client, appliance.datapath.ingress, appliance.datapath.guard\n"
        "from appliance.process.hardening import harden\n"
        "harden()\n"
        "libc = ctypes.CDLL(None)\n"
        "print(libc.prctl(3, 0, 0, 0, 0), resource.getrlimit(resource.RLIMIT_CORE))\n"
        "print(sorted({'numpy', 'pyroute2', 'scapy'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines() == ["0 (0, 0)", "[]"]


def test_a_bad_configuration_ends_with_its_line_and_no_traceback(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(configuration("a").replace("local_ts", "local_st"))
    done = subprocess.run(
        [sys.executable, "-c", f"from appliance.daemon.main import run; raise SystemExit(run({str(file)!r}, None))"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "local_ts" in done.stderr
    assert f"{file}:" in done.stderr
    assert "Traceback" not in done.stderr
