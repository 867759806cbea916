"""The initial exchanges, RFC 7296 §1.2."""

from __future__ import annotations

import pytest

from appliance.ike.events import ChildUp, IkeUp
from tests.ike.peers import (
    Net,
    certificates,
    child,
    connection,
    endpoint,
    esp_proposals,
    ike_proposals,
    mirror,
    pki,
    psk,
    selectors,
)


def test_two_exchanges_make_an_ike_sa_and_a_child_rfc7296_1_2() -> None:
    net = Net()
    net.a.initiate(net.a_connection)
    net.settle()
    net.assert_agreement()
    assert [f"{m.sender.name} {m.exchange} {m.header.message_id}" for m in net.log if m.header] == [
        "a IKE_SA_INIT 0",
        "b IKE_SA_INIT 0",
        "a IKE_AUTH 1",
        "b IKE_AUTH 1",
    ]


def test_payloads_are_those_of_the_rfcs_diagrams_in_order_rfc7296_1_2() -> None:
    net = Net()
    net.a.initiate(net.a_connection)
    net.settle()
    without_notify = [[n for n in m.names if not n.startswith("N(")] for m in net.log]
    assert without_notify == [
        ["SA", "KE", "Nonce"],
        ["SA", "KE", "Nonce"],
        ["IDi", "IDr", "AUTH", "SA", "TSi", "TSr"],
        ["IDr", "AUTH", "SA", "TSi", "TSr"],
    ]


def test_certificates_and_their_requests_travel_with_the_identities_rfc7296_1_2() -> None:
    root, mine, theirs = pki()
    a = connection(**certificates(mine, "gw-b.example", root))
    net = Net(a, mirror(a, **certificates(theirs, "gw-a.example", root)))
    net.a.initiate(net.a_connection)
    net.settle()
    net.assert_agreement()
    assert "CERTREQ" in net.log[1].names
    assert [n for n in net.log[2].names if not n.startswith("N(")][:5] == ["IDi", "CERT", "CERTREQ", "IDr", "AUTH"]
    assert [n for n in net.log[3].names if not n.startswith("N(")][:3] == ["IDr", "CERT", "AUTH"]


def test_the_two_sides_may_authenticate_differently_rfc7296_2_15() -> None:
    root, mine, _ = pki()
    a = connection()
    a = connection(credential=certificates(mine, "x.example", root)["credential"])
    anchored = certificates(mine, "gw-a.example", root)["remote_policy"]
    net = Net(a, mirror(connection(), remote_policy=anchored))
    net.establish()
    net.assert_agreement()


def test_the_responder_installs_its_inbound_sa_before_its_answer_leaves() -> None:
    net = Net()
    net.a.initiate(net.a_connection)
    for _ in range(3):
        net.deliver(net.next())
    # The answer to IKE_AUTH is in flight: its child is there already, so the initiator's first packets are not lost.
    assert len(net.b.installed) == 1
    assert net.a.installed == {}


def test_further_children_follow_in_create_child_sa_rfc7296_1_3() -> None:
    net = Net(connection(children=(child("one", 1), child("two", 2), child("three", 3))))
    net.establish()
    net.assert_agreement(children=3)
    assert {view.child for view in net.b.children} == {"one", "two", "three"}


def test_an_ike_sa_may_have_no_child_rfc6023() -> None:
    net = Net()
    net.a.initiate(net.a_connection, [])
    net.settle()
    net.assert_agreement(children=0)


@pytest.mark.parametrize(
    "proposal",
    [
        "aes128gcm16-prfsha256-ecp256",
        "aes256gcm16-prfsha384-ecp384",
        "chacha20poly1305-prfsha512-x25519",
        "aes128-sha256-x448",
        "aes256-sha384-ecp521",
        "aes256-sha512-modp2048",
    ],
)
def test_every_kind_of_ike_suite_makes_an_ike_sa(proposal: str) -> None:
    net = Net(connection(ike_proposals=ike_proposals(proposal)))
    net.establish()
    net.assert_agreement()
    assert net.a.ike.suite == net.b.ike.suite


@pytest.mark.parametrize("words", ["aes256gcm16-esn", "aes256gcm16-noesn", "aes256-sha384-esn", "chacha20poly1305-esn"])
def test_esn_is_as_negotiated_rfc7296_3_3_2(words: str) -> None:
    net = Net(connection(children=(child(proposals=esp_proposals(words)),)))
    net.establish()
    net.assert_agreement()
    assert net.a.child().inbound.suite.esn is (not words.endswith("noesn"))


def test_esn_is_used_if_either_is_offered_and_one_is_wanted() -> None:
    a = connection(children=(child(proposals=esp_proposals("aes128gcm16-esn-noesn")),))
    b = mirror(a, children=mirror(connection(children=(child(proposals=esp_proposals("aes128gcm16-noesn")),))).children)
    net = Net(a, b).establish()
    assert not net.a.child().outbound.suite.esn
    assert not net.b.child().outbound.suite.esn


def test_ipv6_carries_the_same_handshake() -> None:
    a6, b6 = endpoint("2001:db8::1").address, endpoint("2001:db8::2").address
    net = Net(connection(local_addresses=(a6,), remote_addresses=(b6,)))
    net.establish()
    net.assert_agreement()
    assert not net.a.ike.nat_local and not net.a.ike.nat_remote


def test_events_name_the_connection_its_peer_and_its_child() -> None:
    net = Net()
    number = net.a.initiate(net.a_connection)
    net.settle()
    up, child_up = net.a.last(IkeUp), net.a.last(ChildUp)
    assert (up.ike_id, up.connection, up.initiator, up.replaces) == (number, "site", True, None)
    assert "gw-b.example" in up.remote_id
    assert (child_up.ike_id, child_up.child, child_up.inbound.child) == (number, "net", "site/net")


def test_of_connections_for_any_address_the_one_with_the_peers_identity_is_taken_rfc7296_2_15() -> None:
    net = Net()
    right = mirror(net.a_connection, name="right", remote_addresses=())
    other = mirror(
        connection(),
        name="wrong",
        remote_addresses=(),
        remote_id=right.local_id,
        **psk("somebody.example"),
    )
    net.b.engine.set_connections([other, right])
    net.a.initiate(net.a_connection)
    net.settle()
    assert net.b.ike.connection == "right"


def test_traffic_selectors_of_both_families_are_one_child() -> None:
    both = child(local_ts=selectors("10.1.0.0/24", "fd01::/64"), remote_ts=selectors("10.2.0.0/24", "fd02::/64"))
    net = Net(connection(children=(both,))).establish()
    net.assert_agreement()
    assert len(net.b.child().inbound.local_ts) == 2
