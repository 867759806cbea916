"""Rekeying, lifetimes and deletion, RFC 7296 §2.8, §1.3.2, §1.3.3, §1.4.1."""

from __future__ import annotations

from datetime import timedelta

import pytest

from appliance.ike.connection import RekeyPolicy
from appliance.ike.events import ChildActivate, ChildDown, ChildFailed, ChildUp, IkeDown, IkeUp
from appliance.reasons import Reason
from tests.ike.interleavings import every_schedule, outcome
from tests.ike.peers import (
    Net,
    certificates,
    child,
    connection,
    esp_proposals,
    ike_proposals,
    mirror,
    pki,
)
from tests.pki import NOW

GROUPS = ["modp2048", "modp3072", "modp4096", "ecp256", "ecp384", "ecp521", "x25519", "x448"]
SHORT = connection(
    lifetime=RekeyPolicy(1000.0, 100.0, 50.0), children=(child(lifetime=RekeyPolicy(100.0, 20.0, 10.0)),)
)


def start_child_rekey() -> Net:
    net = Net().establish()
    net.a.rekey_child()
    return net


def start_ike_rekey() -> Net:
    net = Net().establish()
    net.a.rekey_ike()
    return net


# Child SAs


def test_the_new_pair_is_there_before_the_old_goes_rfc7296_2_8() -> None:
    net = start_child_rekey()
    net.settle()
    net.assert_agreement()
    for peer in net.peers:
        kinds = [type(event) for event in peer.events if isinstance(event, ChildUp | ChildDown)]
        assert kinds == [ChildUp, ChildDown]
        up, down = peer.last(ChildUp), peer.last(ChildDown)
        assert up.replaces == down.child_id
        assert down.replaced_by == up.child_id
        assert down.reason is Reason.REKEYED
        assert down.linger > 0
    assert [m.names for m in net.log][1:] == [("SA", "Nonce", "TSi", "TSr"), ("D",), ("D",)]


@pytest.mark.parametrize("start", [start_child_rekey, start_ike_rekey])
def test_a_rekey_never_sends_what_the_peer_cannot_decrypt_whatever_is_lost_rfc7296_2_8(start: object) -> None:
    for schedule in every_schedule(start, losses=3):  # type: ignore[arg-type]
        outcome(schedule, Net.assert_agreement)


def test_the_old_pair_stays_until_a_datapath_carries_the_new_one_rfc7296_2_8() -> None:
    net = Net().establish()
    net.a.takes_children = False
    net.a.rekey_child()
    net.settle()
    assert [m.names for m in net.log][1:] == [("SA", "Nonce", "TSi", "TSr")]
    assert not net.a.of(ChildDown) and len(net.a.installed) == 2
    net.a.do(net.a.engine.child_carried, net.a.last(ChildUp).child_id)
    net.settle()
    assert net.a.last(ChildDown).reason is Reason.REKEYED
    net.assert_agreement()


@pytest.mark.parametrize("how", ["refused", "deleted"])
def test_a_successor_that_no_datapath_takes_ends_with_the_old_pair_rfc7296_2_8(how: str) -> None:
    net = Net().establish()
    [old] = net.a.installed
    net.a.takes_children = False
    net.a.rekey_child()
    net.settle()
    new = net.a.last(ChildUp).child_id
    assert {old, new} == set(net.a.installed)
    if how == "refused":
        net.a.do(net.a.engine.install_failed, new, Reason.TABLE_FULL, "full")
    else:
        net.a.engine.delete_child(new, net.now, Reason.TABLE_FULL)
        net.a.collect()
    net.settle()
    # The old one first: else the peer would be left without any by which to send.
    assert [(event.child_id, event.reason) for event in net.a.of(ChildDown)] == [
        (old, Reason.TABLE_FULL),
        (new, Reason.TABLE_FULL),
    ]
    assert not net.a.installed and not net.b.installed
    net.assert_agreement(children=0)


def test_a_successor_that_the_peer_deletes_before_it_is_carried_leaves_the_old_pair() -> None:
    net = Net().establish()
    [old] = net.a.installed
    net.a.takes_children = False
    net.a.rekey_child()
    net.settle()
    net.b.engine.delete_child(net.b.last(ChildUp).child_id, net.now, Reason.TERMINATED)
    net.b.collect()
    net.settle()
    assert list(net.a.installed) == [old]
    net.a.do(net.a.engine.child_carried, net.a.last(ChildUp).child_id)
    net.settle()
    assert list(net.a.installed) == [old] and net.a.child("net").state == "established"
    net.assert_agreement()


def test_the_responder_sends_on_the_new_pair_only_once_the_initiator_has_it_rfc7296_2_8() -> None:
    net = start_child_rekey()
    net.deliver(net.next())
    new = net.b.last(ChildUp)
    assert not new.activate
    assert not net.b.of(ChildActivate)
    net.deliver(net.next())
    assert net.a.last(ChildUp).activate
    net.deliver(net.next())  # the deletion of the old pair tells that the answer arrived
    assert net.b.last(ChildActivate).child_id == new.child_id


def test_keys_and_spis_are_new_after_a_rekey_rfc7296_2_17() -> None:
    net = Net().establish()
    before = next(iter(net.a.installed.values()))
    net.a.rekey_child()
    net.settle()
    after = next(iter(net.a.installed.values()))
    assert {before.inbound_keys, before.outbound_keys}.isdisjoint({after.inbound_keys, after.outbound_keys})
    assert before.up.inbound.spi != after.up.inbound.spi
    assert before.up.inbound.reqid == after.up.inbound.reqid


@pytest.mark.parametrize("group", GROUPS)
def test_a_rekey_with_each_group_has_forward_secrecy_rfc7296_1_3_3(group: str) -> None:
    net = Net(connection(children=(child(proposals=esp_proposals(f"aes256gcm16-{group}-noesn")),))).establish()
    net.b.rekey_child()
    net.settle()
    assert all(m.has("KE") for m in net.sent("CREATE_CHILD_SA"))
    net.assert_agreement()


@pytest.mark.parametrize("group", GROUPS)
def test_an_ike_sa_is_rekeyed_with_each_group_rfc7296_1_3_2(group: str) -> None:
    net = Net(connection(ike_proposals=ike_proposals(f"aes256gcm16-prfsha384-{group}"))).establish()
    net.a.rekey_ike()
    net.settle()
    net.a.rekey_child()
    net.settle()
    net.assert_agreement()


def test_a_child_rekey_asked_for_another_group_uses_it_rfc7296_1_3() -> None:
    a = connection(children=(child(proposals=esp_proposals("aes128gcm16-ecp256-ecp384-noesn")),))
    b = mirror(connection(children=(child(proposals=esp_proposals("aes128gcm16-ecp384-noesn")),)))
    net = Net(a, b).establish()
    net.a.rekey_child()
    net.settle()
    assert net.sent("N(INVALID_KE_PAYLOAD)")
    net.assert_agreement()


def test_an_ike_rekey_asked_for_another_group_uses_it_rfc7296_1_3() -> None:
    net = Net(connection(ike_proposals=ike_proposals("aes128gcm16-prfsha256-ecp256-ecp384"))).establish()
    changed = mirror(net.a_connection, ike_proposals=ike_proposals("aes128gcm16-prfsha256-ecp384"))
    net.b.engine.set_connections([changed])
    net.a.rekey_ike()
    net.settle()
    assert net.sent("N(INVALID_KE_PAYLOAD)")
    assert net.b.counted("INVALID_KE_PAYLOAD") == 1
    assert "ecp384" in str(net.a.ike.suite)
    net.assert_agreement()


def test_a_refused_child_rekey_is_told_and_the_old_child_stays_rfc7296_2_8() -> None:
    net = Net().establish()
    other = child(proposals=esp_proposals("aes256gcm16-noesn"))
    net.b.engine.set_connections([mirror(connection(children=(other,)))])
    net.a.rekey_child()
    net.settle()
    failed = net.a.last(ChildFailed)
    assert failed.reason is Reason.NO_PROPOSAL_CHOSEN
    assert "aes128gcm16" in failed.detail
    net.assert_agreement()


# IKE SAs


def test_children_move_to_the_new_ike_sa_without_a_word_rfc7296_2_18() -> None:
    net = Net().establish()
    children = {peer.name: set(peer.installed) for peer in net.peers}
    old = net.a.ike.ike_id
    net.a.rekey_ike()
    net.settle()
    net.assert_agreement()
    assert {peer.name: set(peer.installed) for peer in net.peers} == children
    assert not net.a.of(ChildUp) and not net.a.of(ChildDown)
    assert net.a.last(IkeUp).replaces == old
    assert (net.a.last(IkeDown).ike_id, net.a.last(IkeDown).reason) == (old, Reason.REKEYED)
    assert [m.names for m in net.log] == [("SA", "Nonce", "KE"), ("SA", "Nonce", "KE"), ("D",), ()]


@pytest.mark.parametrize("side", ["a", "b"])
def test_the_side_that_rekeyed_is_the_initiator_of_the_new_ike_sa_rfc7296_2_2(side: str) -> None:
    net = Net().establish()
    getattr(net, side).rekey_ike()
    net.settle()
    assert getattr(net, side).ike.initiator
    for _ in range(3):
        net.a.rekey_child()
        net.settle()
        net.b.rekey_ike()
        net.settle()
    net.assert_agreement()


def test_requests_in_the_queue_follow_to_the_new_ike_sa_rfc7296_2_18() -> None:
    net = Net(connection(children=(child("net", 1), child("late", 2)))).establish(["net"])
    net.a.rekey_ike()
    net.a.create_child(net.a_connection.children[1])
    assert len(net.flight) == 1, "the rekey of the IKE SA goes alone (§2.25.2)"
    net.settle()
    net.assert_agreement(children=2)


def test_if_the_peer_never_deletes_the_old_ike_sa_it_goes_all_the_same_rfc7296_2_8() -> None:
    net = Net().establish()
    net.a.rekey_ike()
    net.run(150, lambda message: message.has("D") and message.sender is net.a)
    net.run(60)
    net.assert_agreement()


# Lifetimes


def test_a_child_is_rekeyed_before_its_margin_ends_rfc7296_2_8() -> None:
    for seed in range(10):
        net = Net(SHORT, seed=seed).establish()
        net.run(69.9)
        assert not net.sent("N(REKEY_SA)"), "margin and jitter are 30 s of 100"
        net.run(10.2)
        assert net.sent("N(REKEY_SA)")
        net.assert_agreement()


def test_peers_with_the_same_lifetime_seldom_start_at_once_rfc7296_2_8() -> None:
    times = set()
    for seed in range(10):
        net = Net(SHORT, seed=seed).establish()
        net.run(81)
        times.add(net.sent("N(REKEY_SA)")[0].sent_at)
    assert len(times) == 10


def test_children_and_ike_sas_live_on_for_ever_by_their_timers_rfc7296_2_8() -> None:
    net = Net(SHORT).establish()
    for _ in range(50):
        net.run(100)
        net.assert_traffic()
        net.forget()
    net.run(30)
    assert net.a.ike.created_at > 4000
    assert len(net.a.engine._services.ike_sas) < 5


def test_a_child_that_cannot_be_rekeyed_ends_with_its_lifetime_rfc7296_2_8() -> None:
    net = Net(SHORT).establish()
    other = child(proposals=esp_proposals("aes256gcm16-noesn"))
    net.b.engine.set_connections([mirror(connection(children=(other,)))])
    net.run(105)
    assert {event.reason for event in net.a.of(ChildFailed)} == {Reason.NO_PROPOSAL_CHOSEN}
    assert Reason.LIFETIME_OVER in {net.a.last(ChildDown).reason, net.b.last(ChildDown).reason}
    assert net.a.installed == net.b.installed == {}


def test_an_ike_sa_that_cannot_be_rekeyed_ends_with_its_lifetime_and_may_be_made_again_rfc7296_2_8() -> None:
    net = Net(SHORT).establish()
    refusing = mirror(SHORT, ike_proposals=ike_proposals("aes256gcm16-prfsha384-ecp384"))
    net.b.engine.set_connections([refusing])
    net.a.engine.set_connections([net.a_connection])
    net.run(1100, lambda message: message.sender is net.b and message.has("KE"))
    downs = [*net.a.of(IkeDown), *net.b.of(IkeDown)]
    assert Reason.LIFETIME_OVER in {event.reason for event in downs}
    assert all(event.retry for event in downs)


def test_the_peers_certificate_bounds_the_ike_sa_rfc7296_2_8() -> None:
    root, mine, theirs = pki(not_after=NOW + timedelta(seconds=500))
    a = connection(**certificates(mine, "gw-b.example", root))
    net = Net(a, mirror(a, **certificates(theirs, "gw-a.example", root))).establish()
    assert net.a.ike.expires_at == pytest.approx(net.now + 500, abs=1)
    net.a.rekey_ike()
    net.settle()
    assert net.a.ike.expires_at == pytest.approx(net.now + 500, abs=1), "a rekey authenticates nobody"
    net.run(510)
    assert Reason.LIFETIME_OVER in {e.reason for p in net.peers for e in p.of(IkeDown)}
    assert not net.a.installed and not net.b.installed


# Deletion


def test_a_deleted_child_is_gone_on_both_sides_after_one_exchange_rfc7296_1_4_1() -> None:
    net = Net().establish()
    net.a.delete_child(Reason.TERMINATED)
    net.settle()
    net.assert_agreement(children=0)
    assert [m.names for m in net.log] == [("D",), ("D",)]
    assert net.a.last(ChildDown).reason is Reason.TERMINATED
    assert net.b.last(ChildDown).reason is Reason.DELETED_BY_PEER


def test_a_deleted_ike_sa_takes_its_children_along_rfc7296_1_4_1() -> None:
    net = Net().establish()
    net.a.delete_ike(Reason.TERMINATED)
    net.settle()
    net.assert_gone()
    assert (net.a.last(IkeDown).reason, net.a.last(IkeDown).retry) == (Reason.TERMINATED, False)
    assert (net.b.last(IkeDown).reason, net.b.last(IkeDown).retry) == (Reason.DELETED_BY_PEER, True)
    for peer in net.peers:
        assert peer.of(ChildDown) and isinstance(peer.events[-1], IkeDown)


def test_a_deletion_without_answer_gives_up_soon_rfc7296_1_4_1() -> None:
    net = Net().establish()
    net.a.delete_ike(Reason.TERMINATED)
    net.drop_all()
    net.advance(19)
    assert not net.a.of(IkeDown)
    net.advance(2)
    assert net.a.last(IkeDown).reason is Reason.TERMINATED
    assert net.a.installed == {}


def test_deletions_of_the_ike_sa_that_cross_keep_each_sides_own_reason_rfc7296_2_25_2() -> None:
    net = Net().establish()
    for peer in net.peers:
        peer.delete_ike(Reason.TERMINATED)
    net.settle()
    for peer in net.peers:
        down = peer.last(IkeDown)
        assert (down.reason, down.retry) == (Reason.TERMINATED, False), "what a person ended is not made again"


def test_a_lost_answer_to_a_deletion_is_repeated_by_the_dead_ike_sa_rfc7296_2_1() -> None:
    net = Net().establish()
    net.a.delete_ike(Reason.TERMINATED)
    net.deliver(net.next())
    net.drop(net.next())
    assert net.b.ike_views == []
    net.run(5)
    assert net.a.of(IkeDown)
    net.run(60)
    assert net.b.engine._services.ike_sas == {}


def test_a_child_that_no_datapath_takes_is_closed_at_the_peer_too() -> None:
    net = Net().establish()
    net.a.engine.install_failed(net.a.child().child_id, Reason.TERMINATED, "no room", net.now)
    net.a.collect()
    net.settle()
    net.assert_agreement(children=0)
    assert net.a.last(ChildDown).detail == "no room"
