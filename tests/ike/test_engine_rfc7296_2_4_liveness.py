"""Liveness, crashes and one IKE SA for each peer, RFC 7296 §2.4; §2.5 for other versions and unknown payloads."""

from __future__ import annotations

from dataclasses import replace

import pytest

from appliance.ike.connection import Unique
from appliance.ike.constants import ExchangeType
from appliance.ike.events import ChildDown, IkeDown, IkeUp
from appliance.ike.message import Header, encode_message, seal_message
from appliance.ike.payloads import NotifyPayload, Payload, UnknownPayload
from appliance.reasons import Reason
from tests.ike.interleavings import every_schedule, outcome
from tests.ike.peers import Net, Peer, connection, mirror

CHECKED = connection(dpd_interval=30.0, dpd_timeout=120.0)


def say(net: Net, sender: Peer, exchange: int, payloads: list[Payload], **changes: object) -> None:
    """An authentic request with any payloads, as a peer with extensions that we do not have could send it."""
    sa = sender.sa()
    assert sa.sealer_out is not None
    header = Header(sa.spi_i, sa.spi_r, 0, exchange, sa.requests.next_id, sa.initiator, False)
    data = seal_message(replace(header, **changes), payloads, sa.sealer_out)  # type: ignore[arg-type]
    view = sender.ike
    net.other(sender).receive(data, view.remote, view.local)


# Liveness


def test_silence_is_probed_with_an_empty_request_rfc7296_2_4() -> None:
    net = Net(CHECKED).establish()
    net.advance(29)
    assert net.flight == []
    net.advance(2)
    assert {str(m).split()[1] for m in net.flight} == {"INFORMATIONAL"}
    assert all(m.names == () and m.is_request for m in net.flight)
    net.settle()
    net.assert_agreement()


def test_esp_is_a_sign_of_life_too_rfc7296_2_4() -> None:
    net = Net(CHECKED).establish()
    for _ in range(10):
        net.advance(20)
        for peer in net.peers:
            peer.do(peer.engine.note_inbound, peer.child().child_id)
    assert net.log == []


def test_a_silent_peer_is_given_up_after_its_time_and_tried_again_rfc7296_2_4() -> None:
    net = Net(CHECKED).establish()
    net.advance(30 + 119)
    assert net.a.ike
    net.advance(2)
    down = net.a.last(IkeDown)
    assert (down.reason, down.was_up, down.retry) == (Reason.PEER_SILENT, True, True)
    assert "INFORMATIONAL" in down.detail
    assert net.a.last(ChildDown).reason is Reason.PEER_SILENT
    assert net.a.counted("PEER_SILENT") == 1
    net.drop_all()
    net.assert_gone()


def test_without_checks_nothing_is_sent() -> None:
    net = Net().establish()
    net.advance(1000)
    assert net.log == []


def test_unauthenticated_messages_are_no_sign_of_life_rfc7296_2_4() -> None:
    net = Net(CHECKED).establish()
    view, sa = net.a.ike, net.b.sa()
    header = Header(sa.spi_i, sa.spi_r, 0, ExchangeType.INFORMATIONAL, 0, sa.initiator, False)
    for _ in range(40):
        net.advance(4)
        net.drop_all()
        net.a.receive(encode_message(header, []), view.local, view.remote)
    assert net.a.of(IkeDown)


# Crashes


def test_initial_contact_replaces_what_a_crash_left_rfc7296_2_4() -> None:
    net = Net().establish()
    net.advance(1)
    net.peer("a", seed=2)
    net.a.initiate(net.a_connection)
    net.settle()
    assert net.sent("IKE_AUTH", "N(INITIAL_CONTACT)", sender=net.a)
    net.assert_agreement()
    down = net.b.last(IkeDown)
    assert (down.reason, down.retry) == (Reason.REPLACED, False)


def test_initial_contact_also_replaces_what_was_made_just_before_the_crash_rfc7296_2_4() -> None:
    for seed in range(4):  # whichever nonce is the lowest
        net = Net(seed=seed)
        net.b.initiate(net.b_connection)
        net.settle()
        net.advance(1)
        net.peer("a", seed=seed + 100)
        net.a.initiate(net.a_connection)
        net.settle()
        net.assert_agreement()


def test_only_the_first_ike_sa_says_initial_contact_rfc7296_2_4() -> None:
    net = Net(connection(unique=Unique.NEVER)).establish()
    net.a.initiate(net.a_connection)
    net.settle()
    assert not net.sent("N(INITIAL_CONTACT)")


def test_a_restarted_peer_that_is_asked_gets_its_new_ike_sa_through() -> None:
    net = Net(CHECKED).establish()
    net.peer("b", seed=2)
    net.a.rekey_child()
    net.deliver(net.next())
    # B no longer knows the SPI and says so in the clear: anybody could, so A only believes silence (§2.21.4).
    assert net.next().names == ("N(INVALID_IKE_SPI)",)
    net.settle()
    assert net.a.ike
    net.run(121)
    assert net.a.last(IkeDown).reason is Reason.PEER_SILENT
    net.a.initiate(net.a_connection)
    net.settle()
    net.assert_agreement()


def test_errors_about_unknown_spis_are_few_rfc7296_2_21_4() -> None:
    net = Net(CHECKED).establish()
    net.peer("b", seed=2)
    net.a.rekey_child()
    request = net.next()
    for _ in range(1000):
        net.deliver(request, keep=True)
    assert len(net.sent(sender=net.b)) == 1
    assert net.b.counted("UNKNOWN_IKE_SPI") == 1000


# One IKE SA


def test_a_second_ike_sa_replaces_the_first() -> None:
    net = Net().establish()
    net.a.initiate(net.a_connection)
    net.settle()
    net.run(60)
    net.assert_agreement()


def test_with_unique_keep_the_second_is_refused_and_the_first_stays() -> None:
    a = connection(unique=Unique.NEVER)
    net = Net(a, mirror(a, unique=Unique.KEEP)).establish()
    first = net.b.ike.ike_id
    net.a.initiate(net.a_connection)
    net.settle()
    assert net.b.ike.ike_id == first
    assert net.a.last(IkeDown).reason is Reason.PEER_REFUSED_AUTHENTICATION
    assert net.b.counted("DUPLICATE_IKE_SA") == 1
    net.assert_agreement()


def both_initiate(seed: int = 1) -> Net:
    net = Net(seed=seed)
    net.a.initiate(net.a_connection)
    net.b.initiate(net.b_connection)
    return net


def a_moment_passes(net: Net) -> None:
    """So that what happened before and what after can be told apart."""
    net.advance(0.01)


@pytest.mark.parametrize("seed", range(4))
def test_of_two_ike_sas_made_at_once_the_same_one_stays_on_both_sides(seed: int) -> None:
    """In every order; what is sent on each way is what the other can decrypt at the end."""
    for schedule in every_schedule(lambda: both_initiate(seed), check=a_moment_passes):
        outcome(schedule, Net.assert_agreement)


def test_of_two_ike_sas_made_at_once_one_stays_with_any_message_lost() -> None:
    for schedule in every_schedule(both_initiate, losses=1, check=a_moment_passes):
        outcome(schedule, Net.assert_agreement, seconds=400)


def test_the_redundant_ike_sa_is_not_made_again() -> None:
    net = both_initiate()
    net.run(120)
    for peer in net.peers:
        assert len(peer.of(IkeUp)) == 2
        assert len(peer.of(IkeDown)) == 1
        assert peer.ike, "so whoever is told of the other's end has one still"


# Versions and payloads of others, §2.5


def test_an_unknown_critical_payload_is_refused_by_its_number_rfc7296_2_5() -> None:
    net = Net().establish()
    say(net, net.a, ExchangeType.INFORMATIONAL, [UnknownPayload(200, b"?", critical=True)])
    answer = net.next()
    assert answer.names == ("N(UNSUPPORTED_CRITICAL_PAYLOAD)",)
    assert answer.payloads is not None
    notification = answer.payloads[0]
    assert isinstance(notification, NotifyPayload)
    assert notification.data == bytes([200])
    assert net.b.counted("UNSUPPORTED_CRITICAL_PAYLOAD") == 1
    assert net.b.ike, "the IKE SA stays"


def test_unknown_payloads_that_are_not_critical_are_skipped_rfc7296_2_5() -> None:
    net = Net().establish()
    say(net, net.a, ExchangeType.INFORMATIONAL, [UnknownPayload(200, b"?"), UnknownPayload(255, b"")])
    assert net.next().names == ()


def test_unknown_status_notifications_are_ignored_rfc7296_3_10_1() -> None:
    net = Net().establish()
    say(net, net.a, ExchangeType.INFORMATIONAL, [NotifyPayload(50_000, b"?")])
    assert net.next().names == ()
    assert net.b.counted("notify-50000") == 1


def test_a_request_that_breaks_the_rules_ends_the_ike_sa_rfc7296_2_21_3() -> None:
    net = Net().establish()
    say(net, net.a, ExchangeType.INFORMATIONAL, [UnknownPayload(42, b"\0")])  # a Delete payload cut short
    assert net.next().names == ("N(INVALID_SYNTAX)",)
    assert net.b.last(IkeDown).reason is Reason.INVALID_SYNTAX


def test_a_higher_major_version_is_answered_with_ours_rfc7296_2_5() -> None:
    net = Net()
    net.a.initiate(net.a_connection)
    request = net.next()
    three = request.data[:17] + b"\x30" + request.data[18:]
    net.b.receive(three, request.destination, request.source)
    answer = net.flight[-1]
    assert answer.names == ("N(INVALID_MAJOR_VERSION)",)
    assert answer.header is not None and answer.header.major == 2
    assert net.b.counted("INVALID_MAJOR_VERSION") == 1


def test_a_higher_minor_version_is_taken_rfc7296_2_5() -> None:
    net = Net()
    net.a.initiate(net.a_connection)
    request = net.next()
    net.b.receive(request.data[:17] + b"\x21" + request.data[18:], request.destination, request.source)
    assert net.flight[-1].has("KE")


def test_reserved_flags_and_fields_are_ignored_rfc7296_2_5() -> None:
    net = Net()
    net.a.initiate(net.a_connection)
    request = net.next()
    net.b.receive(
        request.data[:19] + bytes([request.data[19] | 0xC7]) + request.data[20:], request.destination, request.source
    )
    assert net.flight[-1].has("KE")


def test_ikev1_is_not_answered_rfc7296_2_5() -> None:
    net = Net()
    net.a.initiate(net.a_connection)
    request = net.next()
    net.b.receive(request.data[:17] + b"\x10" + request.data[18:], request.destination, request.source)
    assert net.flight == [request]
    assert net.b.counted("INVALID_SYNTAX") == 1


def test_an_exchange_that_does_not_fit_the_state_is_counted() -> None:
    net = Net().establish()
    say(net, net.a, ExchangeType.IKE_AUTH, [])
    say(net, net.a, 99, [])
    assert net.b.counted("UNEXPECTED_MESSAGE") == 2
    assert net.flight == []
    net.assert_agreement()
