"""Retransmission, message IDs and windows, RFC 7296 §2.1 to §2.3."""

from __future__ import annotations

import pytest

from appliance.ike.connection import Retransmission
from appliance.ike.constants import ExchangeType
from appliance.ike.events import IkeDown
from appliance.ike.message import Header, seal_message
from appliance.reasons import Reason
from tests.ike.interleavings import every_schedule, outcome
from tests.ike.peers import Net, Peer, child, connection, mirror

FOUR = connection(window=4, children=tuple(child(f"c{n}", n) for n in range(1, 9)))


def speak(net: Net, sender: Peer, exchange: int, message_id: int, *, response: bool = False) -> bytes:
    """An authentic empty message with any ID, as a broken peer could send it."""
    sa = sender.sa()
    assert sa.sealer_out is not None
    header = Header(sa.spi_i, sa.spi_r, 0, exchange, message_id, sa.initiator, response)
    return seal_message(header, [], sa.sealer_out)


def hear(net: Net, sender: Peer, data: bytes) -> None:
    receiver, view = net.other(sender), sender.ike
    receiver.receive(data, view.remote, view.local)


def test_requests_are_repeated_with_backoff_until_the_peer_is_given_up_rfc7296_2_4() -> None:
    policy = Retransmission(timeout=2.0, base=2.0, maximum=10.0, give_up=60.0)
    net = Net(connection(retransmission=policy))
    net.a.initiate(net.a_connection)
    start = net.now
    net.drop_all()
    net.advance(100)
    times = [m.sent_at - start for m in net.log]
    assert times == [0, 2, 6, 14, 24, 34, 44, 54]
    down = net.a.last(IkeDown)
    assert (down.reason, down.retry) == (Reason.PEER_SILENT, True)
    assert "60 s" in down.detail and "8 times" in down.detail
    assert net.a.counted("PEER_SILENT") == 1
    net.drop_all()
    net.assert_gone()


def test_a_retransmission_is_the_same_to_the_last_bit_rfc7296_2_1() -> None:
    net = Net().establish()
    net.a.rekey_child()
    net.drop_all()
    net.advance(10)
    assert len(net.flight) >= 2
    assert {m.data for m in net.flight} == {net.log[0].data}


def test_a_repeated_request_has_the_same_answer_to_the_last_bit_rfc7296_2_1() -> None:
    net = Net().establish()
    net.a.rekey_child()
    request = net.next()
    for _ in range(3):
        net.deliver(request, keep=True)
    answers = net.sent("!", sender=net.b)
    assert len(answers) == 3
    assert len({m.data for m in answers}) == 1
    assert net.b.counted("retransmissions-answered") == 2
    net.settle()
    net.assert_agreement()


def test_a_repeated_ike_sa_init_has_the_same_answer_and_makes_no_second_ike_sa_rfc7296_2_1() -> None:
    net = Net()
    net.a.initiate(net.a_connection)
    request = net.next()
    for _ in range(3):
        net.deliver(request, keep=True)
    assert len({m.data for m in net.sent("!", sender=net.b)}) == 1
    assert len(net.b.ike_views) == 1
    net.settle()
    net.assert_agreement()


@pytest.mark.parametrize("number", range(4))
def test_the_handshake_survives_the_loss_of_any_message_rfc7296_2_1(number: int) -> None:
    net = Net()
    lost: list[object] = []
    net.a.initiate(net.a_connection)

    def lose(message: object) -> bool:
        if not lost and len(net.log) == number + 1:
            lost.append(message)
            return True
        return False

    net.run(10, lose)
    assert lost
    net.assert_agreement()


def test_the_handshake_survives_two_losses_and_two_duplicates_rfc7296_2_1() -> None:
    def start() -> Net:
        net = Net()
        net.a.initiate(net.a_connection)
        return net

    for schedule in every_schedule(start, losses=2, twice=2, at_most=300, check=lambda net: None):
        outcome(schedule, Net.assert_agreement, seconds=60)


def test_responses_are_never_repeated_by_themselves_rfc7296_2_1() -> None:
    net = Net().establish()
    net.a.rekey_child()
    net.deliver(net.next())
    net.drop_all()
    net.b.engine.handle_timer(net.now + 60)
    net.b.collect()
    assert net.flight == []


@pytest.mark.parametrize(("offset", "reason"), [(1, "OUTSIDE_WINDOW"), (2, "OUTSIDE_WINDOW"), (1000, "OUTSIDE_WINDOW")])
def test_requests_outside_the_window_are_not_answered_rfc7296_2_3(offset: int, reason: str) -> None:
    net = Net().establish()
    expected = net.a.sa().requests.next_id
    hear(net, net.a, speak(net, net.a, ExchangeType.INFORMATIONAL, expected + offset))
    assert net.flight == []
    assert net.b.counted(reason) == 1
    net.a.rekey_child()
    net.settle()
    net.assert_agreement()


def test_old_message_ids_are_not_answered_with_something_new_rfc7296_2_2() -> None:
    net = Net().establish()
    for _ in range(3):
        net.a.rekey_child()
        net.settle()
    net.forget()
    hear(net, net.a, speak(net, net.a, ExchangeType.INFORMATIONAL, 2))
    assert net.flight == []
    net.assert_agreement()


def test_a_different_request_with_an_answered_id_is_ignored_rfc7296_2_1() -> None:
    net = Net().establish()
    net.a.rekey_child()
    net.settle()
    net.forget()
    last = net.a.sa().requests.next_id - 1
    hear(net, net.a, speak(net, net.a, ExchangeType.INFORMATIONAL, last))
    assert net.flight == []
    assert net.b.counted("retransmissions-ignored") == 1


def test_responses_nobody_waits_for_are_ignored_rfc7296_2_2() -> None:
    net = Net().establish()
    for message_id in (0, 1, 2, 7):
        hear(net, net.b, speak(net, net.b, ExchangeType.INFORMATIONAL, message_id, response=True))
    assert net.a.counted("UNEXPECTED_MESSAGE") == 4
    net.assert_agreement()


def test_a_response_of_another_exchange_is_ignored_rfc7296_2_2() -> None:
    net = Net().establish()
    net.a.rekey_child()
    message_id = net.a.sa().requests.next_id - 1
    hear(net, net.b, speak(net, net.b, ExchangeType.INFORMATIONAL, message_id, response=True))
    assert net.a.ike.outstanding == 1
    net.settle()
    net.assert_agreement()


def test_message_ids_of_both_directions_count_apart_rfc7296_2_2() -> None:
    net = Net().establish()
    net.b.rekey_child()
    assert net.next().header is not None
    assert net.next().header.message_id == 0  # type: ignore[union-attr]
    net.settle()
    net.a.rekey_child()
    assert net.next().header.message_id == 2  # type: ignore[union-attr]


def test_message_ids_start_anew_in_a_rekeyed_ike_sa_rfc7296_2_2() -> None:
    net = Net().establish()
    net.a.rekey_ike()
    net.settle()
    net.a.rekey_child()
    assert net.next().header.message_id == 0  # type: ignore[union-attr]
    net.settle()
    net.b.rekey_child()
    assert net.next().header.message_id == 0  # type: ignore[union-attr]


@pytest.mark.parametrize("side", ["a", "b"])
def test_with_a_window_of_one_requests_wait_for_their_turn_rfc7296_2_3(side: str) -> None:
    net = Net(connection(children=FOUR.children)).establish([])
    peer = getattr(net, side)
    for config in (net.a_connection if side == "a" else net.b_connection).children:
        peer.create_child(config)
    while net.flight:
        assert peer.ike.outstanding <= 1
        net.deliver(net.next())
    net.assert_agreement(children=8)


@pytest.mark.parametrize("side", ["a", "b"])
def test_with_a_window_of_four_so_many_requests_are_under_way_in_any_order_rfc7296_2_3(side: str) -> None:
    net = Net(FOUR).establish([])
    peer = getattr(net, side)
    for config in (net.a_connection if side == "a" else net.b_connection).children:
        peer.create_child(config)
    assert len(net.flight) == 4
    most = 0
    while net.flight:
        most = max(most, peer.ike.outstanding)
        net.deliver(net.flight[-1])  # the newest first: everything arrives in the wrong order
    assert most == 4
    net.assert_agreement(children=8)


@pytest.mark.parametrize("side", ["a", "b"])
def test_the_oldest_unanswered_request_holds_the_window_rfc7296_2_3(side: str) -> None:
    net = Net(FOUR).establish([])
    peer = getattr(net, side)
    for config in (net.a_connection if side == "a" else net.b_connection).children:
        peer.create_child(config)
    first = net.next(peer)
    net.drop(first)
    net.settle()
    assert len(net.sent("?", sender=peer)) == 4, "the window ends four behind the one that is missing"
    net.run(10)
    net.assert_agreement(children=8)


def test_every_answer_in_the_window_can_be_had_again_rfc7296_2_3() -> None:
    net = Net(FOUR).establish([])
    for config in net.a_connection.children[:4]:
        net.a.create_child(config)
    requests = tuple(net.flight)
    for request in requests:
        net.deliver(request)
    net.drop_all()
    for request in reversed(requests):
        hear(net, net.a, request.data)
    assert len(net.flight) == 4
    net.settle()
    net.assert_agreement(children=4)


def test_only_as_many_requests_are_sent_as_the_peer_takes_rfc7296_2_3() -> None:
    net = Net(FOUR, mirror(FOUR, window=2)).establish([])
    for config in net.a_connection.children:
        net.a.create_child(config)
    assert len(net.flight) == 2
    net.settle()
    net.assert_agreement(children=8)


def test_deletion_goes_ahead_of_what_waits_rfc7296_2_3() -> None:
    net = Net(connection(children=FOUR.children)).establish([])
    for config in net.a_connection.children:
        net.a.create_child(config)
    net.a.delete_ike(Reason.TERMINATED)
    net.settle()
    net.assert_gone()
