"""Exchanges that cross each other, RFC 7296 §2.25: in every order, and with the loss of any message."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import pytest

from appliance.ike.events import ChildDown, ChildFailed, IkeDown, IkeUp
from appliance.ike.exchanges import create_child
from appliance.ike.exchanges.informational import Informational
from appliance.ike.payloads import NotifyPayload
from appliance.reasons import Reason
from appliance.sa.proposal import ProtocolId
from tests.ike.interleavings import every_schedule, outcome
from tests.ike.peers import Net, child, connection

Action = Callable[[Net], None]
TWO = connection(children=(child("net", 1), child("late", 2)))


def a_rekeys_child(net: Net) -> None:
    net.a.rekey_child()


def b_rekeys_child(net: Net) -> None:
    net.b.rekey_child()


def a_deletes_child(net: Net) -> None:
    net.a.delete_child(Reason.TERMINATED)


def b_deletes_child(net: Net) -> None:
    net.b.delete_child(Reason.TERMINATED)


def a_creates(net: Net) -> None:
    net.a.create_child(net.a_connection.children[1])


def a_rekeys_ike(net: Net) -> None:
    net.a.rekey_ike()


def b_rekeys_ike(net: Net) -> None:
    net.b.rekey_ike()


def a_deletes_ike(net: Net) -> None:
    net.a.delete_ike(Reason.TERMINATED)


def b_deletes_ike(net: Net) -> None:
    net.b.delete_ike(Reason.TERMINATED)


def colliding(*actions: Action) -> Callable[[], Net]:
    def start() -> Net:
        net = Net(TWO).establish(["net"])
        for action in actions:
            action(net)
        return net

    return start


def quiet(net: Net) -> None:
    """For collisions in which a child may be gone on one side first."""


def one_child(net: Net) -> None:
    net.assert_agreement()


def two_children(net: Net) -> None:
    net.assert_agreement(children=2)


def no_child(net: Net) -> None:
    net.assert_agreement(children=0)


def gone(net: Net) -> None:
    net.assert_gone()


def either_gone_or_agreed(net: Net) -> None:
    """A deletion that met a rekey: it hit the old IKE SA or all of them, but it hit the same on both sides."""
    if net.a.ike_views or net.b.ike_views:
        net.assert_agreement()
    else:
        net.assert_gone()


def child_agreed(net: Net) -> None:
    """A deletion that met a rekey: the child is gone on both sides, or its successor is there on both."""
    net.assert_agreement(children=len(net.a.installed))


CASES: dict[str, tuple[tuple[Action, Action], Callable[[Net], None], int]] = {
    # §2.25.1
    "child-rekey-and-child-rekey": ((a_rekeys_child, b_rekeys_child), one_child, 1),
    "child-rekey-and-child-delete": ((a_rekeys_child, b_deletes_child), child_agreed, 2),
    "child-delete-and-child-rekey": ((a_deletes_child, b_rekeys_child), child_agreed, 2),
    "child-delete-and-child-delete": ((a_deletes_child, b_deletes_child), no_child, 2),
    # §2.25.2
    "ike-rekey-and-ike-rekey": ((a_rekeys_ike, b_rekeys_ike), one_child, 1),
    "ike-rekey-and-ike-delete": ((a_rekeys_ike, b_deletes_ike), either_gone_or_agreed, 1),
    "ike-delete-and-ike-rekey": ((a_deletes_ike, b_rekeys_ike), either_gone_or_agreed, 1),
    "ike-delete-and-ike-delete": ((a_deletes_ike, b_deletes_ike), gone, 2),
    "ike-rekey-and-child-rekey": ((a_rekeys_ike, b_rekeys_child), one_child, 1),
    "child-rekey-and-ike-rekey": ((a_rekeys_child, b_rekeys_ike), one_child, 1),
    "child-create-and-ike-rekey": ((a_creates, b_rekeys_ike), two_children, 1),
    "ike-rekey-and-child-delete": ((a_rekeys_ike, b_deletes_child), no_child, 1),
    "child-delete-and-ike-rekey": ((a_deletes_child, b_rekeys_ike), no_child, 1),
    "child-create-and-ike-delete": ((a_creates, b_deletes_ike), gone, 2),
    "child-rekey-and-ike-delete": ((a_rekeys_child, b_deletes_ike), gone, 2),
    "child-delete-and-ike-delete": ((a_deletes_child, b_deletes_ike), gone, 2),
}
KEEPS_TRAFFIC = ("child-rekey-and-child-rekey", "ike-rekey-and-ike-rekey", "ike-rekey-and-child-rekey")


@pytest.mark.parametrize("case", CASES)
def test_both_sides_agree_whatever_the_order_rfc7296_2_25(case: str) -> None:
    actions, end, _ = CASES[case]
    check = Net.assert_traffic if case in KEEPS_TRAFFIC else quiet
    for schedule in every_schedule(colliding(*actions), check=check):
        outcome(schedule, end)


@pytest.mark.parametrize("case", CASES)
def test_both_sides_agree_with_any_message_lost_rfc7296_2_25(case: str) -> None:
    actions, end, losses = CASES[case]
    check = Net.assert_traffic if case in KEEPS_TRAFFIC else quiet
    for schedule in every_schedule(colliding(*actions), losses=losses, check=check):
        outcome(schedule, end)


@pytest.mark.parametrize("case", CASES)
def test_both_sides_agree_with_any_message_doubled_rfc7296_2_25(case: str) -> None:
    actions, end, _ = CASES[case]
    check = Net.assert_traffic if case in KEEPS_TRAFFIC else quiet
    for schedule in every_schedule(colliding(*actions), twice=1, at_most=200, check=check):
        outcome(schedule, end)


@pytest.mark.verify
@pytest.mark.parametrize("case", CASES)
def test_both_sides_agree_with_any_message_lost_and_any_doubled_rfc7296_2_25(case: str) -> None:
    actions, end, _ = CASES[case]
    check = Net.assert_traffic if case in KEEPS_TRAFFIC else quiet
    for schedule in every_schedule(colliding(*actions), losses=1, twice=1, at_most=10_000, check=check):
        outcome(schedule, end)


@pytest.mark.parametrize("case", CASES)
def test_both_sides_agree_with_a_window_of_four_too_rfc7296_2_25(case: str) -> None:
    """Each side's request is followed by another one at once, and they overtake each other."""
    actions, end, _ = CASES[case]

    def start() -> Net:
        net = Net(connection(window=4, children=TWO.children)).establish(["net"])
        for action in actions:
            action(net)
        for peer in net.peers:
            if peer.ike_views[0].state == "established":
                peer.engine._services.ike_sas[peer.ike_views[0].ike_id].enqueue(Informational(), net.now)
                peer.collect()
        return net

    for schedule in every_schedule(start, at_most=80, check=quiet):
        outcome(schedule, end)


def test_two_children_rekeyed_by_both_sides_at_once_in_a_window_of_four_rfc7296_2_8_1() -> None:
    def start() -> Net:
        net = Net(connection(window=4, children=TWO.children)).establish()
        for peer in net.peers:
            for name in ("net", "late"):
                peer.rekey_child(name)
        return net

    for schedule in every_schedule(start, at_most=150):
        outcome(schedule, two_children)


def crossing(*actions: Action) -> Net:
    """Both requests arrive before either answer."""
    net = colliding(*actions)()
    for message in tuple(net.flight):
        net.deliver(message)
    return net


def test_a_request_to_rekey_a_child_that_is_being_deleted_is_temporary_failure_rfc7296_2_25_1() -> None:
    net = crossing(a_deletes_child, b_rekeys_child)
    assert net.find("CREATE_CHILD_SA", "!").has("N(TEMPORARY_FAILURE)")
    net.settle()
    no_child(net)


def test_a_deletion_of_a_child_that_is_being_rekeyed_is_answered_as_usual_rfc7296_2_25_1() -> None:
    net = crossing(a_rekeys_child, b_deletes_child)
    assert net.find("INFORMATIONAL", "!", sender=net.a).has("D")
    net.settle()
    net.run(60)
    child_agreed(net)


def test_deletions_of_one_child_that_cross_are_answered_without_spis_rfc7296_2_25_1() -> None:
    net = crossing(a_deletes_child, b_deletes_child)
    assert [m.names for m in net.flight] == [(), ()]
    net.settle()
    no_child(net)
    for peer in net.peers:
        assert len(peer.of(ChildDown)) == 1


def test_a_request_to_rekey_an_unknown_child_is_child_sa_not_found_rfc7296_2_25() -> None:
    net = Net().establish()
    lost_spi = net.b.child().inbound.spi
    sa = net.b.sa()
    sa.remove_child(next(iter(sa.children.values())), Reason.TERMINATED)  # as if B had lost its state
    net.b.collect()
    net.a.rekey_child()
    net.deliver(net.next())
    answer = net.next()
    assert answer.names == ("N(CHILD_SA_NOT_FOUND)",)
    notification = answer.payloads[0] if answer.payloads else None
    assert isinstance(notification, NotifyPayload)
    # The answer names the SPI of the request, which is the initiator's own.
    assert notification.protocol == ProtocolId.ESP
    assert int.from_bytes(notification.spi, "big") == net.a.child().inbound.spi
    assert lost_spi == net.a.child().outbound.spi
    net.settle()
    net.assert_agreement()
    assert net.sent("CREATE_CHILD_SA", "?")[-1].has("N(REKEY_SA)") is False
    assert net.a.last(ChildDown).reason is Reason.CHILD_SA_NOT_FOUND
    assert net.a.counted("CHILD_SA_NOT_FOUND") == net.b.counted("CHILD_SA_NOT_FOUND") == 1


def test_a_child_request_meets_temporary_failure_while_the_ike_sa_is_rekeyed_and_succeeds_later_rfc7296_2_25_2() -> (
    None
):
    net = crossing(a_creates, b_rekeys_ike)
    assert all(m.has("N(TEMPORARY_FAILURE)") for m in net.flight)
    net.settle()
    assert not net.a.of(ChildFailed)
    assert net.a.counted("PEER_BUSY") == net.b.counted("PEER_BUSY") == 1
    net.run(60)
    two_children(net)
    assert net.sent("N(TEMPORARY_FAILURE)")


def test_a_retry_after_temporary_failure_waits_rfc7296_2_25() -> None:
    net = crossing(a_creates, b_rekeys_ike)
    net.settle()
    net.forget()
    net.run(create_child.RETRY_DELAY - 0.1)
    assert not net.sent("CREATE_CHILD_SA", sender=net.a)


@pytest.mark.parametrize("lowest", ["a", "b"])
def test_of_two_ike_rekeys_the_one_with_the_lowest_nonce_loses_rfc7296_2_25_2(lowest: str) -> None:
    net = Net().establish()
    for peer in net.peers:
        peer.nonces.extend([0x01, 0x80] if peer.name == lowest else [0x81, 0x82])
        peer.rekey_ike()
    for message in tuple(net.flight):
        net.deliver(message)
    net.settle()
    winner = "b" if lowest == "a" else "a"
    assert getattr(net, winner).ike.initiator
    assert not getattr(net, lowest).ike.initiator
    net.run(120)
    net.assert_agreement()


def test_children_move_to_the_ike_sa_that_wins_rfc7296_2_25_2() -> None:
    net = crossing(a_rekeys_ike, b_rekeys_ike)
    before = {peer.name: set(peer.installed) for peer in net.peers}
    net.settle()
    for peer in net.peers:
        assert set(peer.installed) == before[peer.name]
        assert peer.ike.child_ids == tuple(peer.installed)
    net.a.rekey_child()
    net.settle()
    net.run(120)
    net.assert_agreement()


def test_the_ike_sa_replaced_is_never_reported_as_lost_rfc7296_2_25_2() -> None:
    for schedule in every_schedule(colliding(a_rekeys_ike, b_rekeys_ike), losses=1):
        schedule.net.run(150)
        for peer in schedule.net.peers:
            reasons = {event.reason for event in peer.of(IkeDown)}
            assert reasons <= {Reason.REKEYED, Reason.DUPLICATE_IKE_SA}, str(schedule)
            assert not any(event.retry for event in peer.of(IkeDown)), str(schedule)
            assert len(peer.of(IkeUp)) == len(peer.of(IkeDown)), str(schedule)


def test_a_deletion_of_the_ike_sa_under_rekey_wins_rfc7296_2_25_2() -> None:
    net = crossing(a_rekeys_ike, b_deletes_ike)
    net.settle()
    net.run(60)
    gone(net)


def test_a_deletion_of_an_ike_sa_that_is_being_deleted_is_answered_rfc7296_2_25_2() -> None:
    net = crossing(a_deletes_ike, b_deletes_ike)
    assert [str(m) for m in net.flight] == ["b> INFORMATIONAL 2!", "a> INFORMATIONAL 0!"]
    net.settle()
    gone(net)


def test_requests_on_a_replaced_ike_sa_are_temporary_failure_rfc7296_2_25_2() -> None:
    net = Net(TWO).establish(["net"])
    net.b.create_child(net.b_connection.children[1])
    request = net.next()
    net.a.rekey_ike()
    net.deliver(net.find("CREATE_CHILD_SA", sender=net.a))
    assert net.find("!", sender=net.b).has("N(TEMPORARY_FAILURE)")  # B's own request is under way
    net.deliver(request)
    assert net.find("!", sender=net.a).has("N(TEMPORARY_FAILURE)")
    net.run(120)
    two_children(net)


def test_no_schedule_of_three_exchanges_ends_in_disagreement_rfc7296_2_25() -> None:
    def start() -> Net:
        net = Net(TWO).establish(["net"])
        net.a.rekey_child()
        net.b.rekey_ike()
        net.a.create_child(net.a_connection.children[1])
        return net

    put_off = 0
    for schedule in every_schedule(start, check=quiet):
        outcome(schedule, two_children)
        put_off += bool(schedule.net.sent("N(TEMPORARY_FAILURE)"))
    assert put_off


ACTIONS = (
    a_rekeys_child,
    b_rekeys_child,
    a_deletes_child,
    b_deletes_child,
    a_creates,
    a_rekeys_ike,
    b_rekeys_ike,
    a_deletes_ike,
    b_deletes_ike,
)


@pytest.mark.parametrize("first", ACTIONS[:-2], ids=lambda action: action.__name__)
def test_any_three_requests_at_once_end_in_agreement_with_a_message_lost_rfc7296_2_25(first: Action) -> None:
    later = ACTIONS[ACTIONS.index(first) + 1 :]
    for others in combinations(later, 2):

        def start(others: tuple[Action, ...] = others) -> Net:
            net = Net(TWO).establish(["net"])
            for action in (first, *others):
                if all(peer.ike_views[0].state == "established" for peer in net.peers):
                    action(net)
            return net

        for schedule in every_schedule(start, losses=1, at_most=8, check=quiet):
            outcome(schedule, whatever_is_left_agrees, seconds=300)


def whatever_is_left_agrees(net: Net) -> None:
    if net.a.ike_views or net.b.ike_views:
        net.assert_agreement(children=len(net.a.installed))
    else:
        net.assert_gone()
