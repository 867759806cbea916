"""The main job: the example configuration negotiates, carries traffic, rekeys under load, survives a cut."""

from __future__ import annotations

import time

import pytest

from appliance.console.protocol import State, What
from tests.lab import config, iperf, topology
from tests.lab.capture import Capture, Kind
from tests.lab.flow import MARKER, Flow
from tests.lab.gateway import Gateway
from tests.lab.lab import Lab
from tests.lab.ping import answers, ping
from tests.lab.topology import Middle, SiteToSite
from tests.system.duo import A, B, Duo, spis


def test_the_example_works_as_it_stands(sites: SiteToSite) -> None:
    left = Gateway(sites.gw_a, config.EXAMPLE)
    right = Gateway(sites.gw_b, config.document(config.site(sites, "b")))
    with Capture(sites.middle, "side-a") as wire:
        right.start()
        left.start()
        row = left.wait_established("site-b")
        assert ping(sites.host_a, topology.HOST_B, count=5, interval=0.02).ok
        assert ping(sites.host_b, topology.HOST_A6, count=5, interval=0.02).ok
    child = row.children[0]
    assert (row.local_id, row.remote_id) == ("gw-a.example", "gw-b.example")
    assert row.suite is not None
    assert "ecp384" in row.suite
    assert child.suite is not None
    assert child.suite.startswith("aes256gcm16")
    # No NAT between them, so ESP has no UDP around it (RFC 7296 §2.23).
    assert child.encapsulation == "none"
    assert wire.count(Kind.ESP) >= 20
    assert not wire.leaks(*topology.INSIDE)
    for gateway in (left, right):
        assert config.PSK not in gateway.log
        for what in What:
            assert config.PSK not in str(gateway.show(what))
        assert gateway.stop() == 0


def test_child_and_ike_rekeys_under_load_lose_nothing_rfc7296_2_8(sites: SiteToSite) -> None:
    duo = Duo(sites).start().up()
    flows = [
        Flow(sites.host_a, sites.host_b, topology.HOST_B, rate=1000),
        Flow(sites.host_b, sites.host_a, topology.HOST_A, rate=1000),
        Flow(sites.host_a, sites.host_b, topology.HOST_B6, rate=300, size=1200),
    ]
    seen = set()
    for round_ in range(4):
        before = spis(duo.a)
        seen |= before
        gateway, name = ((duo.a, A), (duo.b, B))[round_ % 2]
        gateway.rekey(name, "net")
        # Make before break: for a moment there are four SAs; then two new ones (RFC 7296 §2.8).
        duo.a.wait("rekeyed", lambda before=before: len(spis(duo.a) - before) == 2 == len(spis(duo.a)))
        duo.b.wait("rekeyed", lambda: spis(duo.b) == spis(duo.a))
    ike = duo.a.connection(A).spi_initiator
    duo.a.rekey(A)
    duo.b.wait("the new IKE SA", lambda: duo.b.connection(B).spi_initiator != ike)
    time.sleep(0.2)
    for flow in flows:
        result = flow.stop()
        assert (result.lost, result.duplicates) == (0, 0), (result, duo.a.tail(), duo.b.tail())
    assert len(seen) == 8


def test_tcp_keeps_going_through_rekeys_by_packets(sites: SiteToSite) -> None:
    lifetime = {"time": "1h", "packets": 20_000}
    duo = Duo(sites, child_a={"lifetime": lifetime}, child_b={"lifetime": lifetime}).start().up()
    before = spis(duo.a)
    moved = iperf.tcp(sites.host_a, sites.host_b, topology.HOST_B, seconds=2)
    assert moved.bits_per_second > 1e6
    # Replaced inbound SAs linger for packets that are late.
    duo.a.wait("the first SAs gone", lambda: not spis(duo.a) & before)
    assert duo.a.child(A).state is State.ESTABLISHED


def test_cut_and_repaired(sites: SiteToSite) -> None:
    duo = Duo(sites, a={"dpd": {"interval": "1s", "timeout": "2s"}}).start().up()
    duo.assert_traffic(1)
    sites.cut()
    row = duo.a.wait(
        "down with a reason",
        lambda: next((c for c in [duo.a.connection(A)] if c.state is not State.ESTABLISHED and c.reason), None),
        15,
    )
    assert row.reason is not None
    assert row.reason.reason == "PEER_SILENT"
    # A tunnel that is down still shows, and tells when it will be tried again.
    shown = duo.a.cli("show", "connections")
    assert shown.status == 0
    assert A in shown.out
    assert "gw-b.example" in duo.a.cli("show", "connections", "--json").out
    sites.repair()
    assert answers(sites.host_a, topology.HOST_B, within=20) is not None
    duo.up()
    duo.assert_traffic(1)


@pytest.mark.parametrize("middle", [Middle.ROUTER])
def test_ipv6_outside_with_a_small_mtu_on_the_way(lab: Lab, middle: Middle) -> None:
    sites = SiteToSite(lab, middle, mtu=1300)
    duo = Duo(sites, v6=True).start().up()
    duo.assert_traffic()
    # Large packets find their way: fragmented, or after the sender was told the size (RFC 4301 §8).
    assert answers(sites.host_a, topology.HOST_B, within=3) is not None
    results = [ping(sites.host_a, topology.HOST_B, size=1400, count=1, timeout=0.5) for _ in range(5)]
    assert results[-1].ok, results
    moved = iperf.tcp(sites.host_a, sites.host_b, topology.HOST_B, seconds=1.5)
    assert moved.bits_per_second > 1e6


@pytest.mark.parametrize("middle", [Middle.ROUTER, Middle.NAT])
def test_the_path_mtu_is_learnt_and_told_rfc4301_8_2(lab: Lab, middle: Middle) -> None:
    sites = SiteToSite(lab, middle, mtu=1300)
    duo = Duo(sites, any_peer=middle is Middle.NAT).start().up()
    told = False
    for _ in range(10):
        result = ping(sites.host_a, topology.HOST_B, size=1372, count=1, timeout=0.5, dont_fragment=True)
        # Type 3, code 4 from the gateway, or EMSGSIZE once the sender's kernel believes it.
        told = told or any(error in ((3, 4), (-1, 90)) for error in result.errors)
    assert told
    assert ping(sites.host_a, topology.HOST_B, size=1100, count=2, dont_fragment=True).ok
    moved = iperf.tcp(sites.host_a, sites.host_b, topology.HOST_B, seconds=1.5)
    assert moved.bits_per_second > 1e6
    assert duo.a.connection(A).state is State.ESTABLISHED


def test_a_stopped_gateway_deletes_its_sas_rfc7296_1_4_1(sites: SiteToSite) -> None:
    duo = Duo(sites).start().up()
    with Capture(sites.middle, "side-a") as wire:
        assert duo.a.stop() == 0
        duo.b.wait("without SAs", lambda: not duo.b.sas(), 5)
    assert wire.count(Kind.IKE) >= 2
    reason = duo.b.connection(B).reason
    assert reason is not None
    assert reason.reason in ("DELETED_BY_PEER",)
    assert not wire.leaks(*topology.INSIDE, marker=MARKER)
