"""Both sides rekey the same Child SA at once, RFC 7296 §2.8.1: in every order, and with the loss of any message."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from appliance.ike.connection import Unique
from appliance.ike.events import ChildDown, ChildUp
from appliance.reasons import Reason
from tests.ike.interleavings import every_schedule, outcome
from tests.ike.peers import Net, child, connection, esp_proposals

# The first bytes of: A's nonce for its request, B's for its request, A's for its answer, B's for its answer. The order
# in which they are drawn is not the same in each schedule, so each side's are given apart.
A_LOWEST_IN_ITS_OWN = ([0x01, 0x80], [0x81, 0x82])
B_LOWEST_IN_ITS_OWN = ([0x81, 0x82], [0x01, 0x80])
A_LOWEST_IN_ITS_ANSWER = ([0x80, 0x01], [0x81, 0x82])
B_LOWEST_IN_ITS_ANSWER = ([0x81, 0x82], [0x80, 0x01])
NONCES = {
    "a-lowest-in-its-request": A_LOWEST_IN_ITS_OWN,
    "b-lowest-in-its-request": B_LOWEST_IN_ITS_OWN,
    "a-lowest-in-its-answer": A_LOWEST_IN_ITS_ANSWER,
    "b-lowest-in-its-answer": B_LOWEST_IN_ITS_ANSWER,
}


def both_rekey(nonces: tuple[list[int], list[int]]) -> Callable[[], Net]:
    def start() -> Net:
        net = Net().establish()
        for peer, own in zip(net.peers, nonces, strict=True):
            peer.nonces.extend(own)
            peer.rekey_child()
        return net

    return start


def crossing(nonces: tuple[list[int], list[int]]) -> Net:
    """Both requests arrive before either answer."""
    net = both_rekey(nonces)()
    one, two = net.flight
    net.deliver(one)
    net.deliver(two)
    return net


@pytest.mark.parametrize("nonces", NONCES.values(), ids=NONCES)
def test_both_sides_agree_whatever_the_order_rfc7296_2_8_1(nonces: tuple[list[int], list[int]]) -> None:
    for schedule in every_schedule(both_rekey(nonces)):
        outcome(schedule, Net.assert_agreement)


@pytest.mark.parametrize("nonces", NONCES.values(), ids=NONCES)
def test_both_sides_agree_with_any_message_lost_rfc7296_2_8_1(nonces: tuple[list[int], list[int]]) -> None:
    for schedule in every_schedule(both_rekey(nonces), losses=2):
        outcome(schedule, Net.assert_agreement)


@pytest.mark.parametrize("nonces", NONCES.values(), ids=NONCES)
def test_nobody_is_told_of_a_deletion_by_the_peer_rfc7296_2_8_1(nonces: tuple[list[int], list[int]]) -> None:
    """What a collision leaves over was rekeyed, whoever deletes it: no line in the log that makes anybody look."""

    def told(net: Net) -> None:
        for peer in net.peers:
            assert {down.reason for down in peer.of(ChildDown)} == {Reason.REKEYED}

    for schedule in every_schedule(both_rekey(nonces), losses=1):
        outcome(schedule, told)


def test_of_two_for_the_same_traffic_the_peer_may_delete_one_rfc7296_2_8_1() -> None:
    net = Net(connection(unique=Unique.NEVER)).establish()
    net.a.initiate(net.a_connection)
    net.settle()
    first, second = sorted(view.child_id for view in net.a.children)
    for child_id, reason in ((first, Reason.REKEYED), (second, Reason.DELETED_BY_PEER)):
        net.a.engine.delete_child(child_id, net.now, Reason.TERMINATED)
        net.a.collect()
        net.settle()
        assert net.b.last(ChildDown).reason is reason
    assert [bool(down.replaced_by) for down in net.b.of(ChildDown)] == [True, False]


@pytest.mark.parametrize(
    ("nonces", "winner"),
    [
        # The exchange with the lowest of the four nonces loses; a side's answer belongs to the other side's exchange.
        (A_LOWEST_IN_ITS_OWN, "b"),
        (B_LOWEST_IN_ITS_OWN, "a"),
        (A_LOWEST_IN_ITS_ANSWER, "a"),
        (B_LOWEST_IN_ITS_ANSWER, "b"),
    ],
)
def test_the_sa_with_the_lowest_of_the_four_nonces_loses_rfc7296_2_8_1(
    nonces: tuple[list[int], list[int]], winner: str
) -> None:
    net = crossing(nonces)
    net.settle()
    net.assert_agreement()
    request = net.sent("N(REKEY_SA)", sender=getattr(net, winner))[0]
    offered = next(p for p in request.payloads or () if p.payload_type == 33).proposals[0].spi  # type: ignore[attr-defined]
    assert getattr(net, winner).child().inbound.spi == int.from_bytes(offered, "big")


@pytest.mark.parametrize("nonces", NONCES.values(), ids=NONCES)
def test_one_deletes_the_old_child_and_the_other_the_redundant_one_rfc7296_2_8_1(
    nonces: tuple[list[int], list[int]],
) -> None:
    net = crossing(nonces)
    net.settle()
    assert len(net.sent("INFORMATIONAL", "?", " D")) == 2
    assert {m.sender.name for m in net.sent("INFORMATIONAL", "?", " D")} == {"a", "b"}
    assert net.a.counted("child-rekey-collisions") == net.b.counted("child-rekey-collisions") == 1


@pytest.mark.parametrize("nonces", NONCES.values(), ids=NONCES)
def test_the_datapath_hears_of_each_child_once_and_of_its_end_once_rfc7296_2_8_1(
    nonces: tuple[list[int], list[int]],
) -> None:
    for schedule in every_schedule(both_rekey(nonces)):
        for peer in schedule.net.peers:
            ups = [event.child_id for event in peer.of(ChildUp)]
            downs = [event.child_id for event in peer.of(ChildDown)]
            assert len(set(ups)) == len(ups)
            assert len(set(downs)) == len(downs)
            old = next(event for event in peer.of(ChildDown) if event.child_id == 1)
            assert old.linger > 0, "packets that are under way on the replaced SA are lost"


def test_the_later_request_finds_the_child_rekeyed_and_is_put_off_rfc7296_2_25_1() -> None:
    net = Net().establish()
    net.a.rekey_child()
    net.b.rekey_child()
    theirs = net.find("REKEY_SA", sender=net.b)
    # A's whole exchange ends before B's request, which was sent before, arrives.
    net.settle(lambda message: message is theirs)
    net.run(60)
    net.assert_agreement()


@pytest.mark.parametrize("group", ["ecp256", "x25519", "modp2048"])
def test_simultaneous_rekeys_with_a_key_exchange_agree_too_rfc7296_1_3_3(group: str) -> None:
    net = Net(connection(children=(child(proposals=esp_proposals(f"aes128gcm16-{group}-noesn")),))).establish()
    net.a.rekey_child()
    net.b.rekey_child()
    for message in tuple(net.flight):
        net.deliver(message)
    net.settle()
    net.assert_agreement()
