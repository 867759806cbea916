"""Our gateway on the kernel datapath against strongSwan on the kernel's.

What `tests/interop` has for the soft datapath is held to here as well; the rest is what only the kernel has.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest

from appliance.console.protocol import State
from tests.interop.pair import NAME, Pair, Role
from tests.interop.test_ciphers import ESP_SUITES, matches
from tests.interop.test_outside import (  # noqa: F401 - held to with the fixtures below
    test_a_changed_mapping_is_followed_rfc7296_2_23,
    test_a_clean_stop_deletes_what_it_made_rfc7296_1_4_1,
    test_a_killed_peer_is_noticed_and_found_again,
    test_behind_a_nat_rfc7296_2_23,
    test_initial_contact_after_a_crash_rfc7296_2_4,
    test_ipv6_outside,
    test_peer_behind_a_nat,
    test_strongswan_restarting_while_we_wait,
)
from tests.interop.test_rekey import (  # noqa: F401
    settled,
    test_child_and_ike_rekeys_that_cross_end_in_agreement_rfc7296_2_25,
    test_child_rekey_loses_nothing_rfc7296_2_8,
    test_ike_rekey_keeps_the_children_rfc7296_2_18,
    test_lifetimes_make_rekeys_by_themselves,
)
from tests.lab import topology
from tests.lab.capture import Capture, Kind
from tests.lab.flow import Flow
from tests.lab.lab import Lab
from tests.lab.ping import answers, ping
from tests.lab.topology import HOST_A, HOST_B, Middle, SiteToSite

BOTH = pytest.mark.parametrize("role", list(Role), ids=lambda role: role.value)
ESN = pytest.mark.parametrize("esn", ["esn", "noesn"])


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with Lab() as lab:
        yield Pair(SiteToSite(lab), order=["kernel"], kernel_peer=True)


@pytest.fixture(scope="module")
def pair_v6() -> Iterator[Pair]:
    with Lab() as lab:
        yield Pair(SiteToSite(lab), v6=True, order=["kernel"], kernel_peer=True)


@pytest.fixture(scope="module")
def pair_behind_nat() -> Iterator[Pair]:
    with Lab() as lab:
        yield Pair(SiteToSite(lab, Middle.NAT), order=["kernel"], kernel_peer=True)


@pytest.fixture(scope="module")
def pair_before_nat() -> Iterator[Pair]:
    with Lab() as lab:
        yield Pair(SiteToSite(lab, Middle.NAT), swapped=True, order=["kernel"], kernel_peer=True)


def in_kernel(pair: Pair) -> str:
    """Our states, as ip-xfrm(8) lists them."""
    return pair.gateway.namespace.run(["ip", "-d", "xfrm", "state"]).stdout


def no_trace(pair: Pair) -> bool:
    space = pair.gateway.namespace
    return not in_kernel(pair) and "tmpl" not in space.run(["ip", "xfrm", "policy"]).stdout


@BOTH
@ESN
@pytest.mark.parametrize(
    "esp", [pytest.param(esp, marks=[pytest.mark.essential] * (esp == "aes256gcm16")) for esp in ESP_SUITES]
)
def test_esp_suite_carries_traffic_both_ways_rfc8221_rfc4303_2_2_1(pair: Pair, esp: str, esn: str, role: Role) -> None:
    pair.configure(esp=f"{esp}-{esn}")
    pair.up(role)
    with Capture(pair.sites.middle, "side-a") as wire:
        seen = pair.traffic()
    encryption, integrity = ESP_SUITES[esp]
    assert matches(seen.child.encryption, encryption)
    assert seen.child.integrity == integrity
    assert not seen.child.encapsulated
    assert wire.count(Kind.ESP) == 16 and not wire.leaks(*topology.INSIDE)
    assert {row.datapath for row in pair.gateway.sas()} == {"kernel"}
    assert len(re.findall(r"flag .*\besn\b", in_kernel(pair))) == (2 if esn == "esn" else 0)
    pair.down(role)
    pair.gateway.wait("nothing in the kernel", lambda: no_trace(pair))


@BOTH
@ESN
@pytest.mark.parametrize("v6", [False, True], ids=["v4", "v6"])
@pytest.mark.parametrize("esp", ["aes256gcm16", "aes256-sha256", "chacha20poly1305"])
def test_transport_mode_rfc4303_3_1_1(pair: Pair, pair_v6: Pair, v6: bool, esp: str, esn: str, role: Role) -> None:
    pair = pair_v6 if v6 else pair
    ends = [pair.sites.a.v6, pair.sites.b.v6] if v6 else [pair.sites.a.v4, pair.sites.b.v4]
    pair.configure(
        esp=f"{esp}-{esn}",
        our_child={"mode": "transport", "local_ts": ends[:1], "remote_ts": ends[1:]},
        their_child={"mode": "transport", "local_ts": ["dynamic"], "remote_ts": ["dynamic"]},
    )
    pair.up(role)
    assert pair.gateway.child(NAME).mode == "transport"
    assert "mode transport" in in_kernel(pair) and "mode tunnel" not in in_kernel(pair)
    with Capture(pair.sites.middle, "side-a") as wire:
        assert ping(pair.sites.gw_a, ends[1], count=3, interval=0.02).ok
        assert ping(pair.sites.gw_b, ends[0], count=3, interval=0.02).ok
    assert wire.count(Kind.ESP) == 12 and wire.count(Kind.PLAIN) == 0
    pair.down(role)


@BOTH
@pytest.mark.parametrize("esp", ["aes256gcm16-esn", "aes128-sha256-noesn", "chacha20poly1305-esn"])
def test_over_ipv6_natively_and_in_udp_rfc3948(pair_v6: Pair, esp: str, role: Role) -> None:
    pair = pair_v6
    for encapsulation in ("auto", "always"):
        pair.configure(
            esp=esp,
            ours={"encapsulation": encapsulation},
            theirs={"encap": "yes" if encapsulation == "always" else "no"},
        )
        pair.up(role)
        with Capture(pair.sites.middle, "side-a") as wire:
            seen = pair.traffic()
        assert seen.child.encapsulated is (encapsulation == "always")
        assert wire.count(Kind.ESP_IN_UDP if seen.child.encapsulated else Kind.ESP) == 16
        pair.down(role)


@pytest.mark.parametrize("esp", ["aes256gcm16-esn", "aes256-sha512-noesn"])
def test_rekeys_behind_a_nat_lose_nothing_rfc7296_2_8(pair_behind_nat: Pair, esp: str) -> None:
    pair = pair_behind_nat
    pair.configure(esp=esp)
    pair.up(Role.INITIATOR)
    there = Flow(pair.sites.host_a, pair.sites.host_b, HOST_B, rate=100)
    back = Flow(pair.sites.host_b, pair.sites.host_a, HOST_A, rate=100)
    for who in range(4):
        before = {sa.spi.removeprefix("0x").lower() for sa in pair.gateway.sas()}
        if who % 2:
            pair.charon.rekey(child="net")
        else:
            pair.gateway.rekey(NAME, "net")
        pair.gateway.wait("rekeyed", lambda before=before: settled(pair, before), 20)  # type: ignore[misc]
    time.sleep(0.3)
    assert (there.stop().lost, back.stop().lost) == (0, 0)
    pair.down(Role.INITIATOR)


def test_on_demand_the_first_packet_brings_it_up_rfc4301_4_4_1(pair: Pair) -> None:
    pair.configure(ours={"start": "on-demand"})
    assert pair.gateway.connection(NAME).state is State.ON_DEMAND
    with Capture(pair.sites.middle, "side-a") as wire:
        time.sleep(0.5)
        assert wire.count(Kind.IKE) == 0
        assert answers(pair.sites.host_a, HOST_B, within=10) is not None
        pair.gateway.wait_established(NAME)
        pair.traffic(1)
        # What was up goes, and the next packet brings it up again.
        pair.charon.terminate(ike=NAME)
        pair.gateway.wait("on demand", lambda: pair.gateway.connection(NAME).state is State.ON_DEMAND)
        assert answers(pair.sites.host_a, topology.HOST_B6, within=10) is not None
    assert not wire.leaks(*topology.INSIDE)
    pair.gateway.wait_established(NAME)
    pair.down(Role.INITIATOR)


def test_the_kernel_counts_and_a_limit_of_packets_makes_a_rekey(pair: Pair) -> None:
    pair.configure(our_child={"lifetime": {"packets": 2000, "time": "1h"}})
    pair.up(Role.INITIATOR)
    before = {sa.spi.removeprefix("0x").lower() for sa in pair.gateway.sas()}
    with Flow(pair.sites.host_a, pair.sites.host_b, HOST_B, rate=200) as flow:
        pair.gateway.wait("rekeyed by the kernel's count", lambda: settled(pair, before), 30)
        time.sleep(0.2)
        assert flow.stop().lost == 0
    pair.down(Role.INITIATOR)


def test_a_reload_does_not_disturb_what_stays_and_brings_what_is_new(pair: Pair) -> None:
    pair.configure()
    pair.up(Role.INITIATOR)
    first = pair.gateway.child(NAME).spi_in
    text = pair.gateway.config.read_text()
    with Flow(pair.sites.host_a, pair.sites.host_b, HOST_B, rate=100) as flow:
        more = (
            '\n[[policy]]\nname = "lan"\naction = "bypass"\nlocal_ts = ["10.1.0.0/24"]\nremote_ts = ["10.7.0.0/24"]\n'
        )
        assert pair.gateway.reload(text + more).policies_changed
        assert "10.7.0.0/24" in pair.gateway.namespace.run(["ip", "xfrm", "policy"]).stdout
        pair.gateway.reload(text)
        time.sleep(0.3)
        assert flow.stop().lost == 0
    assert "10.7.0.0/24" not in pair.gateway.namespace.run(["ip", "xfrm", "policy"]).stdout
    assert pair.gateway.child(NAME).spi_in == first
    pair.down(Role.INITIATOR)


def test_killed_and_started_again_under_traffic_nothing_is_clear_and_little_is_lost(pair: Pair) -> None:
    pair.configure(ours={"start": "initiate"})
    pair.gateway.wait_established(NAME)
    # Of strongSwan's own packets some are in the clear while INITIAL_CONTACT takes its policies away.
    with Capture(pair.sites.gw_a, "wan", sent=True) as wire:
        there = Flow(pair.sites.host_a, pair.sites.host_b, HOST_B, rate=100)
        back = Flow(pair.sites.host_b, pair.sites.host_a, HOST_A, rate=100)
        time.sleep(0.3)
        pair.gateway.kill9()
        # The kernel goes on while nobody is there.
        time.sleep(1.0)
        esp = wire.count(Kind.ESP)
        time.sleep(0.5)
        assert wire.count(Kind.ESP) > esp + 20
        pair.gateway.restart()
        pair.gateway.wait_established(NAME)
        pair.gateway.wait("one child", lambda: len(pair.gateway.sas()) == 2)
        time.sleep(0.5)
        results = there.stop(), back.stop()
        # An earlier daemon's SAs go a few seconds after they are replaced.
        pair.gateway.wait("survivors gone", lambda: in_kernel(pair).count("src ") == 2, 20)
        assert not wire.leaks(*topology.INSIDE)
    # From INITIAL_CONTACT on strongSwan has the old SAs no more, until the new ones stand a moment later.
    assert all(result.lost <= result.sent // 5 for result in results), results
    pair.traffic(1)
    pair.down(Role.INITIATOR)


def test_killed_for_good_its_sas_protect_and_the_guard_stands(pair: Pair) -> None:
    pair.configure(ours={"start": "initiate"})
    pair.gateway.wait_established(NAME)
    pair.gateway.kill9()
    space = pair.gateway.namespace
    with Capture(pair.sites.middle, "side-a") as wire:
        assert ping(pair.sites.host_a, HOST_B, count=3, interval=0.02).ok
        space.ip("xfrm state flush", "xfrm policy flush")
        assert not ping(pair.sites.host_a, HOST_B, count=3, interval=0.02).ok
        assert not ping(pair.sites.host_a, topology.HOST_B6, count=3, interval=0.02).ok
    assert wire.count(Kind.ESP) == 6 and not wire.leaks(*topology.INSIDE)
    pair.gateway.restart()
    pair.gateway.wait_established(NAME)
    pair.traffic(1)
    pair.down(Role.INITIATOR)


@pytest.fixture
def route_based() -> Iterator[Pair]:
    """Both sides with a tunnel interface for everything; routes choose what goes there."""
    with Lab() as lab:
        pair = Pair(SiteToSite(lab), order=["kernel"], kernel_peer=True)
        pair.sections["interface__ipsec0"] = {
            "address": ["10.9.0.1/30", "fd09::1/64"],
            "routes": [topology.NET_B, topology.NET_B6],
        }
        pair.sites.gw_b.ip(
            "link add ipsec7 type xfrm if_id 7",
            "link set dev ipsec7 up mtu 1400",
            "addr add 10.9.0.2/30 dev ipsec7",
            "addr add fd09::2/64 dev ipsec7 nodad",
            f"route add {topology.NET_A} dev ipsec7",
            f"route add {topology.NET_A6} dev ipsec7",
        )
        everything = {"local_ts": ["0.0.0.0/0", "::/0"], "remote_ts": ["0.0.0.0/0", "::/0"]}
        pair.configure(
            our_child={**everything, "interface": "ipsec0"},
            their_child={**everything, "if_id_in": "7", "if_id_out": "7"},
        )
        yield pair


@BOTH
def test_route_based_tunnels_carry_what_is_routed_there(route_based: Pair, role: Role) -> None:
    pair = route_based
    space = pair.gateway.namespace
    shown = space.run(["ip", "-d", "addr", "show", "dev", "ipsec0"]).stdout
    assert "xfrm if_id" in shown and "10.9.0.1/30" in shown and "fd09::1/64" in shown
    with Capture(pair.sites.middle, "side-a") as wire:
        # What is routed there goes nowhere else before it is up.
        assert not ping(pair.sites.host_a, HOST_B, count=1).ok
        pair.up(role)
        pair.traffic()
        assert ping(space, "10.9.0.2", count=2).ok and ping(space, "fd09::2", count=2).ok
        # What is routed elsewhere does not go there, though the selectors are of everything.
        assert ping(space, pair.sites.b.v4, count=2).ok
        with Flow(pair.sites.host_a, pair.sites.host_b, HOST_B, rate=100) as flow:
            before = {sa.spi.removeprefix("0x").lower() for sa in pair.gateway.sas()}
            pair.gateway.rekey(NAME, "net")
            pair.gateway.wait("rekeyed", lambda: settled(pair, before), 20)
            assert flow.stop().lost == 0
        space.ip("link del dev ipsec0")
        assert answers(pair.sites.host_a, HOST_B, within=10) is not None
        pair.down(role)
        assert not ping(pair.sites.host_a, HOST_B, count=1).ok
        assert pair.gateway.stop() == 0
        assert "ipsec0" not in space.run(["ip", "link"]).stdout
        assert not ping(pair.sites.host_a, topology.HOST_B6, count=1).ok
    assert not [frame for frame in wire.leaks(*topology.INSIDE) if not frame.outgoing]


def test_a_reload_makes_changes_and_takes_away_tunnel_interfaces(route_based: Pair) -> None:
    pair = route_based
    space = pair.gateway.namespace
    text = pair.gateway.config.read_text()
    pair.up(Role.INITIATOR)
    pair.traffic(1)
    spi = pair.gateway.child(NAME).spi_in
    pair.gateway.reload(text.replace("10.9.0.1/30", "10.9.0.1/24") + '\n[interface.more]\nroutes = ["10.77.0.0/16"]\n')
    assert "10.9.0.1/24" in space.run(["ip", "addr", "show", "dev", "ipsec0"]).stdout
    assert "10.77.0.0/16 dev more" in space.run(["ip", "route"]).stdout
    assert pair.gateway.child(NAME).spi_in == spi
    pair.traffic(1)
    pair.gateway.reload(text)
    assert "more" not in space.run(["ip", "link"]).stdout and "10.77" not in space.run(["ip", "route"]).stdout
    # One of somebody else's is told, and everything else is as it should be.
    space.ip("link add taken type dummy")
    pair.gateway.reload(text + '\n[interface.taken]\nroutes = ["10.78.0.0/16"]\n')
    pair.gateway.wait_log(lambda row: "ip link delete taken" in row.text, "told of it")
    assert "unreachable 10.78.0.0/16" in space.run(["ip", "route"]).stdout
    pair.traffic(1)
    pair.down(Role.INITIATOR)
