"""The other ways to run: on demand, transport mode, UDP encapsulation, ESN off, other ciphers, NAT, many children."""

from __future__ import annotations

import time

import pytest

from appliance.console.protocol import Nat, State
from tests.lab import config, topology
from tests.lab.capture import Capture, Kind
from tests.lab.flow import Flow
from tests.lab.lab import Lab
from tests.lab.ping import answers, ping
from tests.lab.topology import Middle, SiteToSite
from tests.system.duo import A, B, Duo


def test_on_demand_starts_with_the_first_packet_rfc7296_2_9(sites: SiteToSite) -> None:
    duo = Duo(sites, a={"start": "on-demand"}).start()
    assert duo.a.connection(A).state is State.ON_DEMAND
    with Capture(sites.middle, "side-a") as wire:
        time.sleep(0.3)
        assert wire.count(Kind.IKE) == 0
        # The packet that started it waits for the SA and is answered too.
        assert ping(sites.host_a, topology.HOST_B, count=1, timeout=3).ok
    duo.up()
    assert not wire.leaks(*topology.INSIDE)
    duo.a.terminate(A)
    duo.a.wait("down", lambda: not duo.a.sas())


def test_transport_mode_between_two_hosts(sites: SiteToSite) -> None:
    ends = {
        "child_a": {"mode": "transport", "local_ts": [sites.a.v4], "remote_ts": [sites.b.v4]},
        "child_b": {"mode": "transport", "local_ts": [sites.b.v4], "remote_ts": [sites.a.v4]},
    }
    duo = Duo(sites, **ends).start().up()  # type: ignore[arg-type]
    assert duo.a.child(A).mode == "transport"
    with Capture(sites.middle, "side-a") as wire:
        assert ping(sites.gw_a, sites.b.v4, count=5, interval=0.02).ok
        assert ping(sites.gw_b, sites.a.v4, count=5, interval=0.02).ok
        with Flow(sites.gw_a, sites.gw_b, sites.b.v4, rate=200) as flow:
            time.sleep(0.3)
            duo.a.rekey(A, "net")
            time.sleep(0.3)
            assert flow.stop().lost == 0
    assert wire.count(Kind.ESP) >= 20
    assert wire.count(Kind.PLAIN) == 0


def test_transport_mode_ipv6(sites: SiteToSite) -> None:
    ends = {
        "child_a": {"mode": "transport", "local_ts": [sites.a.v6], "remote_ts": [sites.b.v6]},
        "child_b": {"mode": "transport", "local_ts": [sites.b.v6], "remote_ts": [sites.a.v6]},
    }
    duo = Duo(sites, v6=True, **ends).start().up()  # type: ignore[arg-type]
    with Capture(sites.middle, "side-a") as wire:
        assert ping(sites.gw_a, sites.b.v6, count=5, interval=0.02).ok
    assert wire.count(Kind.ESP) == 10
    assert duo.b.child(B).mode == "transport"


def test_udp_encapsulation_on_request(sites: SiteToSite) -> None:
    duo = Duo(sites, a={"encapsulation": "always"}).start().up()
    with Capture(sites.middle, "side-a") as wire:
        duo.assert_traffic()
    assert wire.count(Kind.ESP) == 0
    assert wire.count(Kind.ESP_IN_UDP) == 16
    assert duo.a.child(A).encapsulation == "udp"


@pytest.mark.parametrize(
    "esp",
    ["aes256gcm16-noesn", "aes128gcm16-esn", "chacha20poly1305-esn", "aes256-sha256-esn", "null-sha512-noesn"],
)
def test_esn_and_ciphers(shared: Duo, esp: str) -> None:
    duo = shared
    for gateway, text in ((duo.b, duo.text_b), (duo.a, duo.text_a)):
        gateway.reload(text.replace('["aes256gcm16-esn", "aes256gcm16-noesn"]', f'["{esp}"]'))
    duo.up()
    duo.assert_traffic(1)
    suite = duo.a.child(A).suite
    assert suite is not None
    assert suite.startswith(esp.removesuffix("-noesn"))
    assert suite.endswith("-esn") == esp.endswith("-esn")


def test_behind_a_nat_with_keepalives_and_a_changed_mapping_rfc7296_2_23(nat_sites: SiteToSite) -> None:
    sites = nat_sites
    duo = Duo(sites, a={"keepalive": "1s"}, any_peer=True).start().up()
    assert duo.a.connection(A).nat is Nat.LOCAL
    assert duo.b.connection(B).nat is Nat.REMOTE
    duo.assert_traffic()
    # The NAT forgets after 4 s without traffic; keepalives keep the way in open (RFC 3948 §4).
    time.sleep(6)
    assert ping(sites.host_b, topology.HOST_A, count=1, timeout=1).ok
    assert sites.nat is not None
    port = duo.b.connection(B).remote_port
    sites.nat.change_mapping()
    assert answers(sites.host_a, topology.HOST_B, within=5) is not None
    assert answers(sites.host_b, topology.HOST_A, within=5) is not None
    duo.b.wait("at the new port", lambda: duo.b.connection(B).remote_port != port)
    duo.a.rekey(A, "net")
    duo.a.rekey(A)
    duo.assert_traffic(1)


def test_many_children_carry_their_own_traffic(lab: Lab) -> None:
    sites = SiteToSite(lab)
    count = 40
    duo = Duo(sites)
    # Each pair of single addresses has a child of its own; the hosts have all of them.
    for gateway, name, text, own, peer in (
        (duo.a, A, duo.text_a, "10.1.0", "10.2.0"),
        (duo.b, B, duo.text_b, "10.2.0", "10.1.0"),
    ):
        base = text.partition(f"[connection.{name}.child")[0]
        for number in range(100, 100 + count):
            child = {"local_ts": [f"{own}.{number}/32"], "remote_ts": [f"{peer}.{number}/32"]}
            base += config.table(f"connection.{name}.child.c{number}", child)
        gateway.write(base + config.table("datapath", {"order": config.ORDER}))
    for host, network in ((sites.host_a, "10.1.0"), (sites.host_b, "10.2.0")):
        host.ip(*(f"addr add {network}.{number}/24 dev lan" for number in range(100, 100 + count)))
    duo.start()
    duo.a.wait("all up", lambda: sum(c.state is State.ESTABLISHED for c in duo.a.connection(A).children) == count, 30)
    for number in range(100, 100 + count):
        result = ping(sites.host_a, f"10.2.0.{number}", source=f"10.1.0.{number}", count=1)
        assert result.ok, number
    # Crosswise there is no child, so nothing passes.
    assert ping(sites.host_a, "10.2.0.101", source="10.1.0.100", count=1, timeout=0.2).received == 0
    used = [sa for sa in duo.a.sas() if sa.direction == "out"]
    assert len(used) == count
    assert all(sa.packets == 1 for sa in used)


def test_ports_and_protocols_in_selectors(sites: SiteToSite) -> None:
    duo = Duo(
        sites,
        child_a={"local_ts": ["10.1.0.0/24"], "remote_ts": ["10.2.0.0/24[udp/7000-7010]"]},
        child_b={"local_ts": ["10.2.0.0/24[udp/7000-7010]"], "remote_ts": ["10.1.0.0/24"]},
    ).start()
    duo.up()
    with (
        Capture(sites.middle, "side-a") as wire,
        Flow(sites.host_a, sites.host_b, topology.HOST_B, rate=100, port=7005) as flow,
    ):
        time.sleep(0.2)
        assert flow.stop().lost == 0
    assert wire.count(Kind.ESP) > 10
    assert not wire.leaks(*topology.INSIDE)


@pytest.mark.parametrize("middle", [Middle.ROUTER])
def test_fragmented_packets_cross(lab: Lab, middle: Middle) -> None:
    sites = SiteToSite(lab, middle)
    duo = Duo(sites).start().up()
    # IPv6 is fragmented by its senders, so each of them first has to learn the path MTU (RFC 8201).
    ping(sites.host_b, topology.HOST_A6, size=1400, count=3, interval=0.05)
    for size in (1400, 3000, 20000):
        assert ping(sites.host_a, topology.HOST_B, size=size, count=2, interval=0.05).ok, size
        assert ping(sites.host_b, topology.HOST_A6, size=size, count=2, interval=0.05).ok, size
    assert duo.a.connection(A).state is State.ESTABLISHED
