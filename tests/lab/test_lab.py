"""The lab does what it says; everything else is proved on it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import flow, namespace, topology
from tests.lab.capture import Capture, Kind
from tests.lab.lab import Lab
from tests.lab.ping import answers, ping
from tests.lab.topology import Middle, SiteToSite

pytestmark = pytest.mark.skipif(namespace.why_not() is not None, reason=str(namespace.why_not()))


@pytest.fixture(params=list(Middle), ids=lambda middle: middle.value)
def sites(request: pytest.FixtureRequest) -> Iterator[SiteToSite]:
    with Lab() as lab:
        yield SiteToSite(lab, request.param)


def test_gateways_reach_each_other(sites: SiteToSite) -> None:
    assert ping(sites.gw_a, sites.b.v4, count=3, interval=0.01).ok
    assert ping(sites.gw_a, sites.b.v6, count=3, interval=0.01).ok


def test_without_protection_plaintext_crosses_and_is_seen() -> None:
    with Lab() as lab:
        sites = SiteToSite(lab)
        with (
            Capture(sites.middle, "side-a") as capture,
            flow.Flow(sites.host_a, sites.host_b, topology.HOST_B, rate=200) as sent,
        ):
            time.sleep(0.3)
            result = sent.stop()
        assert result.lost == 0
        assert result.received > 20
        leaked = capture.leaks(*topology.INSIDE)
        assert len(leaked) >= result.sent
        assert all(frame.kind is Kind.PLAIN for frame in leaked)
        assert len(capture.leaks(marker=flow.MARKER)) == result.sent
        assert capture.path.stat().st_size > 24


def test_a_capture_ends_although_the_line_is_never_quiet() -> None:
    with Lab() as lab:
        sites = SiteToSite(lab)
        with flow.Flow(sites.host_a, sites.host_b, topology.HOST_B, rate=300) as sent:
            with Capture(sites.middle, "side-a") as capture:
                time.sleep(0.2)
            ended = time.time()
            assert sent.stop().sent > len(capture.frames)
        assert len(capture.frames) > 40
        assert all(ended - 1 < frame.time < ended for frame in capture.frames)


def test_a_cut_link_passes_nothing_and_a_repaired_one_everything() -> None:
    with Lab() as lab:
        sites = SiteToSite(lab)
        sites.cut()
        assert ping(sites.gw_a, sites.b.v4, count=2, interval=0.01, timeout=0.2).received == 0
        sites.repair()
        assert ping(sites.gw_a, sites.b.v4, count=5, interval=0.01).ok
        sites.wan_a.lose(500)
        lossy = ping(sites.gw_a, sites.b.v4, count=100, interval=0.001, timeout=0.3)
        assert 0 < lossy.received < 70


def test_the_nat_hides_the_inside_and_can_change_its_mind() -> None:
    with Lab() as lab:
        sites = SiteToSite(lab, Middle.NAT)
        assert sites.nat is not None
        with Capture(sites.gw_b, "wan") as capture, flow.Flow(sites.gw_a, sites.gw_b, sites.b.v4, rate=100):
            time.sleep(0.2)
            sites.nat.change_mapping()
            time.sleep(0.2)
        ports = {frame.data[34:36] for frame in capture.frames if frame.data[23:24] == b"\x11"}
        assert len(ports) == 2
        assert {str(frame.addresses[0]) for frame in capture.frames if frame.data[23:24] == b"\x11"} == {
            "198.51.100.254"
        }
        assert answers(sites.gw_b, "172.16.0.1", within=0.3) is None


def test_nothing_remains_after_sigterm(tmp_path: Path) -> None:
    script = tmp_path / "holder.py"
    script.write_text(
        "import subprocess, sys, time\n"
        f"sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
        "from tests.lab.lab import Lab\n"
        "with Lab() as lab:\n"
        "    ns = lab.namespace('alone')\n"
        "    child = ns.spawn(['sleep', '1000'], name='sleep')\n"
        "    print(lab.directory, child.pid, flush=True)\n"
        "    time.sleep(1000)\n"
    )
    for number, directory_remains in ((signal.SIGTERM, False), (signal.SIGKILL, True)):
        with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as holder:
            assert holder.stdout is not None
            directory, child = holder.stdout.readline().split()
            holder.send_signal(number)
            holder.wait(10)
        deadline = time.monotonic() + 5
        while Path(f"/proc/{child}/stat").exists() and Path(f"/proc/{child}/cmdline").read_bytes():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert Path(directory).exists() is directory_remains
        if directory_remains:
            sweep = subprocess.run(
                [sys.executable, "-m", "tools.sweep"], cwd=Path(__file__).parents[2], capture_output=True, text=True
            )
            assert sweep.returncode == 0, sweep.stderr
            assert not Path(directory).exists()
