"""What lies between the gateways: IPv6, NAT on either side, small MTUs, and silence."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from appliance.console.protocol import Nat
from tests.interop.pair import NAME, Pair, Role
from tests.interop.test_authentication import VALID, authority, configure
from tests.lab import topology
from tests.lab.capture import Capture, Kind
from tests.lab.flow import Flow
from tests.lab.ping import answers
from tests.lab.vici import Value
from tests.pki import KeyKind, end_entity

BOTH = pytest.mark.parametrize("role", list(Role), ids=lambda role: role.value)


@BOTH
def test_ipv6_outside(pair_v6: Pair, role: Role) -> None:
    pair_v6.configure()
    pair_v6.up(role)
    seen = pair_v6.traffic()
    assert seen.theirs.remote_host == "2001:db8::1"
    assert seen.ours.remote_address == "2001:db8::2"
    pair_v6.down(role)


def test_behind_a_nat_rfc7296_2_23(pair_behind_nat: Pair) -> None:
    pair = pair_behind_nat
    pair.configure(any_peer=False)
    with Capture(pair.sites.middle, "side-b") as wire:
        pair.up(Role.INITIATOR)
        seen = pair.traffic()
    assert seen.theirs.nat_remote
    assert seen.theirs.remote_host == pair.sites.a.seen_v4
    assert seen.ours.nat in (Nat.LOCAL, Nat.BOTH)
    assert wire.count(Kind.ESP_IN_UDP) >= 16
    assert wire.count(Kind.ESP) == 0
    assert not wire.leaks(*topology.INSIDE)


def test_a_changed_mapping_is_followed_rfc7296_2_23(pair_behind_nat: Pair) -> None:
    pair = pair_behind_nat
    assert pair.sites.nat is not None
    pair.configure(ours={"dpd": {"interval": "1s", "timeout": "30s"}})
    pair.up(Role.INITIATOR)
    before = pair.traffic().theirs.remote_port
    pair.sites.nat.change_mapping()
    # In userspace strongSwan follows IKE and not ESP: our liveness check shows it the new mapping.
    assert answers(pair.our_host, topology.HOST_B, within=5) is not None
    after = pair.charon.established(NAME).remote_port
    assert after != before or not pair.charon.established(NAME).installed


def test_peer_behind_a_nat(pair_before_nat: Pair) -> None:
    pair = pair_before_nat
    pair.configure(any_peer=True, theirs={"remote_addrs": [pair.sites.b.v4]})
    pair.up(Role.RESPONDER)
    seen = pair.traffic()
    assert seen.ours.nat in (Nat.REMOTE, Nat.BOTH)
    assert seen.ours.remote_address == pair.sites.a.seen_v4
    assert pair.sites.nat is not None
    pair.sites.nat.change_mapping()
    assert answers(pair.their_host, topology.HOST_B, within=5) is not None
    # We send where the last authenticated packet came from.
    assert answers(pair.our_host, topology.HOST_A, within=5) is not None
    moved = pair.gateway.connection(NAME).remote_port
    assert moved is not None
    assert 20000 <= moved <= 29999


@BOTH
def test_large_certificates_are_fragmented_rfc7383(pair: Pair, tmp_path: Path, role: Role) -> None:
    names = [f"a-rather-long-name-number-{number}.of-this-gateway.example" for number in range(40)]
    ca = authority(KeyKind.RSA_3072)
    ours = end_entity(ca, KeyKind.RSA_3072, subject="gw-a", dns=["gw-a.example", *names], label="gw-a", **VALID)
    theirs = end_entity(ca, KeyKind.RSA_3072, subject="gw-b", dns=["gw-b.example", *names], label="gw-b", **VALID)
    configure(pair, tmp_path, ours, theirs, our_ca=ca, their_ca=ca)
    with Capture(pair.sites.middle, "side-a") as wire:
        pair.up(role)
    pair.traffic(1)
    ike = [frame for frame in wire.frames if frame.kind is Kind.IKE]
    # IKE_SA_INIT is two; each AUTH message is several fragments, none larger than what was agreed.
    assert len(ike) >= 6
    assert max(len(frame.data) - 14 for frame in ike) <= 1280
    pair.down(role)


def test_a_killed_peer_is_noticed_and_found_again(pair: Pair) -> None:
    pair.configure(ours={"start": "initiate", "dpd": {"interval": "1s", "timeout": "3s"}})
    pair.gateway.wait_established(NAME)
    pair.traffic(1)
    pair.charon.kill9()
    row = pair.gateway.wait("down with a reason", lambda: _down(pair), 15)
    assert row == "PEER_SILENT"
    pair.charon.restart()
    began = time.monotonic()
    # Its connections and keys have to be loaded again; ours is not touched.
    pair.charon.load_psk("correct horse battery staple")
    pair.charon.load_connection(NAME, _plain(pair))
    pair.gateway.wait_established(NAME, timeout=30)
    assert time.monotonic() - began < 30
    pair.traffic(1)
    pair.down(Role.INITIATOR)


def _down(pair: Pair) -> str | None:
    reason = pair.gateway.connection(NAME).reason
    return reason.reason if reason is not None else None


def _plain(pair: Pair) -> dict[str, Value]:
    return {
        "version": "2",
        "local_addrs": [pair.sites.b.v4],
        "remote_addrs": [pair.sites.a.v4],
        "proposals": ["aes256gcm16-prfsha384-ecp384"],
        "local": {"auth": "psk", "id": "gw-b.example"},
        "remote": {"auth": "psk", "id": "gw-a.example"},
        "children": {
            "net": {
                "local_ts": [topology.NET_B, topology.NET_B6],
                "remote_ts": [topology.NET_A, topology.NET_A6],
                "esp_proposals": ["aes256gcm16"],
            }
        },
    }


def test_initial_contact_after_a_crash_rfc7296_2_4(pair: Pair) -> None:
    pair.configure(ours={"start": "initiate"})
    pair.gateway.wait_established(NAME)
    old = pair.charon.established(NAME)
    pair.gateway.kill9()
    pair.gateway.restart()
    pair.gateway.wait_established(NAME)
    # strongSwan drops what the crashed gateway had (RFC 7296 §2.4), at once.
    new = pair.charon.established(NAME)
    assert len(pair.charon.sas()) == 1
    assert new.spi_i != old.spi_i
    with Flow(pair.sites.host_a, pair.sites.host_b, topology.HOST_B, rate=200) as flow:
        time.sleep(0.3)
        assert flow.stop().lost == 0
    # What is to be up would come up again while the next test configures both sides.
    pair.down(Role.INITIATOR)


def test_a_clean_stop_deletes_what_it_made_rfc7296_1_4_1(pair: Pair) -> None:
    pair.configure()
    pair.up(Role.INITIATOR)
    assert pair.gateway.stop() == 0
    assert not pair.charon.sas()
    pair.gateway.restart()


def test_strongswan_restarting_while_we_wait(pair: Pair) -> None:
    pair.configure()
    pair.up(Role.RESPONDER)
    pair.charon.stop()
    pair.gateway.wait("without SAs", lambda: not pair.gateway.sas(), 5)
    pair.charon.restart()
    pair.configure()
    pair.up(Role.RESPONDER)
    pair.traffic(1)
    pair.down(Role.RESPONDER)
