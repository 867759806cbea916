"""Protected traffic is protected or dropped: at boot, killed, rekeying, terminated. Proved by capture on the line."""

from __future__ import annotations

import os
import signal
import time

from appliance.console.protocol import State
from tests.lab import topology
from tests.lab.capture import Capture, Kind
from tests.lab.flow import MARKER, Flow
from tests.lab.gateway import ESPLANADE, Gateway, cli
from tests.lab.namespace import Namespace
from tests.lab.ping import answers, ping
from tests.lab.topology import SiteToSite
from tests.system.duo import A, B, Duo


def assert_sealed(wire: Capture) -> None:
    leaked = wire.leaks(*topology.INSIDE, marker=MARKER)
    assert not leaked, [(str(f.addresses), f.kind.value, f.data[:80].hex()) for f in leaked[:5]]


def both_flows(sites: SiteToSite) -> list[Flow]:
    return [
        Flow(sites.host_a, sites.host_b, topology.HOST_B, rate=300),
        Flow(sites.host_a, sites.host_b, topology.HOST_B6, rate=300),
    ]


def test_the_guard_holds_before_the_daemon_starts(sites: SiteToSite) -> None:
    gateway = Gateway(sites.gw_a, Duo(sites).text_a, name="early")
    done = cli(sites.gw_a, "guard", "--config", str(gateway.config))
    assert done.status == 0, done.err
    with Capture(sites.gw_a, "wan") as wire:
        # The gateway's own packets too, where they come from an address that is to be protected.
        for host, address, source in ((sites.host_a, topology.HOST_B, None), (sites.gw_a, topology.HOST_B6, "fd01::1")):
            assert ping(host, address, count=3, interval=0.02, timeout=0.2, source=source).received == 0
        # What nobody asked to protect passes: the gateways talk to each other.
        assert ping(sites.gw_a, sites.b.v4, count=2, interval=0.02).ok
        assert ping(sites.gw_a, sites.b.v6, count=2, interval=0.02).ok
    assert_sealed(wire)


def test_the_guard_takes_nothing_plain_from_outside(sites: SiteToSite) -> None:
    duo = Duo(sites)
    assert cli(sites.gw_a, "guard", "--config", str(duo.a.config)).status == 0
    with Capture(sites.host_a, "lan") as inside:
        ping(sites.host_b, topology.HOST_A, count=3, interval=0.02, timeout=0.2)
        ping(sites.host_b, topology.HOST_A6, count=3, interval=0.02, timeout=0.2)
    assert not inside.leaks(topology.NET_B, topology.NET_B6)


def test_the_guard_can_be_removed(sites: SiteToSite) -> None:
    duo = Duo(sites)
    assert cli(sites.gw_a, "guard", "--config", str(duo.a.config)).status == 0
    assert cli(sites.gw_a, "guard", "--config", str(duo.a.config)).status == 0
    assert cli(sites.gw_a, "guard", "--config", str(duo.a.config), "--remove").status == 0
    assert "esplanade" not in sites.gw_a.run(["nft", "list", "ruleset"]).stdout
    assert answers(sites.host_a, topology.HOST_B, within=2) is not None


def test_nothing_leaks_from_start_to_stop(sites: SiteToSite) -> None:
    duo = Duo(sites)
    assert cli(sites.gw_a, "guard", "--config", str(duo.a.config)).status == 0
    with Capture(sites.middle, "side-a") as wire:
        flows = both_flows(sites)
        time.sleep(0.2)
        duo.start().up()
        time.sleep(0.3)
        duo.a.rekey(A, "net")
        duo.a.rekey(A)
        time.sleep(0.3)
        duo.a.terminate(A)
        time.sleep(0.2)
        duo.a.initiate(A)
        time.sleep(0.2)
        duo.a.stop()
        time.sleep(0.3)
        received = [flow.stop().received for flow in flows]
    assert_sealed(wire)
    assert all(received), received


def test_nothing_leaks_when_the_daemon_is_killed(sites: SiteToSite) -> None:
    duo = Duo(sites).start().up()
    with Capture(sites.middle, "side-a") as wire:
        flows = both_flows(sites)
        time.sleep(0.2)
        duo.a.kill9()
        time.sleep(0.7)
        duo.a.restart()
        duo.up()
        time.sleep(0.3)
        received = [flow.stop() for flow in flows]
    assert_sealed(wire)
    assert all(flow.received > 100 for flow in received), received
    # The crashed gateway's SAs are gone at the peer (INITIAL_CONTACT, RFC 7296 §2.4).
    assert len(duo.b.sas()) == 2
    duo.assert_traffic(1)


def test_nothing_leaks_when_the_datapath_is_killed(sites: SiteToSite) -> None:
    duo = Duo(sites).start().up()
    with Capture(sites.middle, "side-a") as wire:
        flows = both_flows(sites)
        time.sleep(0.2)
        os.kill(duo.a.pids["datapath"], signal.SIGKILL)
        assert answers(sites.host_a, topology.HOST_B, within=15) is not None
        for flow in flows:
            flow.stop()
    assert_sealed(wire)
    duo.up()
    duo.assert_traffic(1)


def test_nothing_leaks_when_killed_while_rekeying(sites: SiteToSite) -> None:
    duo = Duo(sites).start().up()
    with Capture(sites.middle, "side-a") as wire:
        flows = both_flows(sites)
        for delay in (0.0, 0.005, 0.02):
            # The request goes out, and the daemon dies somewhere in the exchange.
            client = sites.gw_a.spawn(_rekey_command(duo.a), name=f"rekey-{delay}")
            time.sleep(0.08 + delay)
            duo.a.kill9()
            client.stop()
            duo.a.restart()
            duo.up()
        for flow in flows:
            flow.stop()
    assert_sealed(wire)
    duo.assert_traffic(1)


def _rekey_command(gateway: Gateway) -> list[str]:
    return [*ESPLANADE, "rekey", f"{A}/net", "--control", str(gateway.control)]


def test_own_packets_never_enter_a_tunnel_for_everything(sites: SiteToSite) -> None:
    everything = ["0.0.0.0/0", "::/0"]
    duo = Duo(sites, child_a={"remote_ts": everything}, child_b={"local_ts": everything}).start().up()
    with Capture(sites.middle, "side-a") as wire:
        duo.assert_traffic()
        # Still: IKE, ESP and neighbour discovery are outside of it, or this would not work.
        duo.a.rekey(A, "net")
        duo.a.rekey(A)
        time.sleep(0.2)
        duo.assert_traffic(1)
        sites.gw_a.ip("neigh flush dev wan")
        duo.assert_traffic(1)
        # Host to its own gateway and back is not for the tunnel's other side.
        assert ping(sites.host_a, "10.1.0.1", count=2, interval=0.02).ok
        assert ping(sites.host_a, "fd01::1", count=2, interval=0.02).ok
        # A third place on the internet goes through the tunnel too, and comes to gw-b's lan.
        assert ping(sites.host_a, "10.2.0.1", count=2, interval=0.02).ok
    assert_sealed(wire)
    assert wire.count(Kind.ESP, Kind.ESP_IN_UDP) > 0
    with Capture(sites.middle, "side-a") as dead:
        duo.a.kill9()
        ping(sites.host_a, "203.0.113.77", count=3, interval=0.02, timeout=0.2)
    # Of gw-a's: where its datapath goes on without the daemon, gw-b sends on what it gets.
    assert not [frame for frame in dead.leaks(topology.NET_A, "203.0.113.0/24") if not frame.outgoing]


def test_what_came_out_of_a_tunnel_does_not_leave_by_a_default_route(sites: SiteToSite) -> None:
    duo = Duo(sites).start().up()
    duo.assert_traffic(1)
    sites.gw_a.ip(f"route del {topology.NET_A} dev lan", f"route del {topology.NET_A6} dev lan")
    with Capture(sites.middle, "side-a") as wire:
        # The sender hears it through the tunnel, from the gateway: no route to that network.
        for address, error in ((topology.HOST_A, (3, 0)), (topology.HOST_A6, (1, 0))):
            lost = ping(sites.host_b, address, count=3, interval=0.02, timeout=0.5)
            assert lost.received == 0
            assert set(lost.errors) == {error}, lost
        flows = [Flow(sites.host_b, sites.host_a, to, rate=200) for to in (topology.HOST_A, topology.HOST_A6)]
        time.sleep(0.3)
        assert [flow.stop().received for flow in flows] == [0, 0]
    assert_sealed(wire)
    assert wire.count(Kind.ESP, Kind.ESP_IN_UDP) > 0
    sites.gw_a.ip(f"route add {topology.NET_A} dev lan", f"route add {topology.NET_A6} dev lan")
    duo.assert_traffic(2)


def test_nothing_leaks_to_the_default_route_when_the_local_link_goes_and_the_daemon_stops(sites: SiteToSite) -> None:
    duo = Duo(sites).start().up()
    duo.assert_traffic(1)
    with Capture(sites.middle, "side-a") as wire:
        flows = [Flow(sites.host_b, sites.host_a, to, rate=500) for to in (topology.HOST_A, topology.HOST_A6)]
        time.sleep(0.2)
        sites.gw_a.ip("link set lan down")
        time.sleep(0.2)
        duo.a.stop()
        time.sleep(0.2)
        assert all(flow.stop().received for flow in flows)
    assert_sealed(wire)


def test_the_gateway_to_the_internet_sends_on_by_its_default_route(sites: SiteToSite) -> None:
    everything = ["0.0.0.0/0", "::/0"]
    duo = Duo(sites, child_a={"remote_ts": everything}, child_b={"local_ts": everything})
    # The way to everything is behind gw-b's local network; the other gateway is on the link.
    sites.gw_b.ip(f"route replace default via {topology.HOST_B}", f"route replace default via {topology.HOST_B6}")
    sites.host_b.ip("addr add 203.0.113.77/32 dev lo", "addr add 2001:db8:77::77/128 dev lo nodad")
    duo.start().up()
    with Capture(sites.middle, "side-a") as wire:
        for address in ("203.0.113.77", "2001:db8:77::77"):
            assert ping(sites.host_a, address, count=2, interval=0.02).ok
    assert_sealed(wire)


def test_plain_packets_where_protected_ones_are_due_are_dropped(sites: SiteToSite) -> None:
    duo = Duo(sites).start().up()
    # An attacker on the line knows the addresses inside and a way to the gateway.
    attacker: Namespace = sites.middle
    attacker.ip("addr add 192.0.2.66/24 dev switch", f"route add {topology.NET_A} via 192.0.2.1")
    attacker.ip("addr add 10.2.0.66/32 dev lo")
    with Capture(sites.host_a, "lan") as inside:
        assert ping(attacker, topology.HOST_A, source="10.2.0.66", count=5, interval=0.02, timeout=0.3).received == 0
    assert not inside.leaks("10.2.0.66/32")
    duo.assert_traffic(1)


def test_bypass_and_discard_policies_are_ordered(sites: SiteToSite) -> None:
    duo = Duo(sites)
    policies = """
[[policy]]
name = "management"
action = "bypass"
local_ts = ["10.1.0.10/32"]
remote_ts = ["10.2.0.10/32[udp/7]"]

[[policy]]
name = "never"
action = "discard"
local_ts = ["10.1.0.0/24"]
remote_ts = ["10.2.0.99/32"]
"""
    duo.a.write(duo.text_a + policies)
    duo.start().up()
    duo.assert_traffic(1)
    with Capture(sites.middle, "side-a") as wire:
        assert ping(sites.host_a, "10.2.0.99", count=2, interval=0.02, timeout=0.2).received == 0
    assert wire.count(Kind.ESP, Kind.ESP_IN_UDP) == 0
    assert not wire.leaks(*topology.INSIDE)
    with Capture(sites.middle, "side-a") as wire, Flow(sites.host_a, sites.host_b, topology.HOST_B, rate=50, port=7):
        time.sleep(0.3)
    # Bypassed packets leave in the clear, as asked (gw-b, which protects them, does not let them in).
    assert wire.leaks(marker=MARKER)
    assert duo.a.connection(A).state is State.ESTABLISHED
    assert duo.b.connection(B).state is State.ESTABLISHED
