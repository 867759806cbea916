"""IKE_SA_INIT answered with COOKIE, INVALID_KE_PAYLOAD or an error, RFC 7296 §2.6, §2.7, §1.3, §2.21.1."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import pytest

from appliance.ike.connection import EngineConfig
from appliance.ike.constants import ExchangeType, NotifyType
from appliance.ike.events import IkeDown, Notice
from appliance.ike.message import Header, encode_message
from appliance.ike.payloads import NotifyPayload
from appliance.reasons import Reason
from tests.ike.peers import Message, Net, connection, endpoint, ike_proposals, mirror

ALWAYS_COOKIE = EngineConfig(cookie_threshold=0)
TWO_GROUPS = ike_proposals("aes128gcm16-prfsha256-ecp256-ecp384")
OTHER_GROUP = ike_proposals("aes128gcm16-prfsha256-ecp384")


def answer_to(request: Message, *payloads: NotifyPayload) -> bytes:
    """What anybody on the path could send: an unauthenticated answer to an IKE_SA_INIT request."""
    assert request.header is not None
    header = Header(request.header.initiator_spi, bytes(8), 0, ExchangeType.IKE_SA_INIT, 0, False, True)
    return encode_message(header, payloads)


def forge(net: Net, request: Message, *payloads: NotifyPayload) -> None:
    net.a.receive(answer_to(request, *payloads), request.source, request.destination)


def test_cookie_is_echoed_first_rfc7296_2_6() -> None:
    net = Net(b_config=ALWAYS_COOKIE)
    net.a.initiate(net.a_connection)
    net.settle()
    net.assert_agreement()
    assert [m.names[0] for m in net.log[:4]] == ["SA", "N(COOKIE)", "N(COOKIE)", "SA"]
    assert net.log[2].names[1:] == net.log[0].names  # the rest is the same
    assert net.log[2].payloads is not None and net.log[0].payloads is not None
    assert net.log[2].payloads[1:] == net.log[0].payloads


def test_responder_keeps_nothing_for_a_cookie_rfc7296_2_6() -> None:
    net = Net(b_config=ALWAYS_COOKIE)
    net.a.initiate(net.a_connection)
    net.deliver(net.next())
    assert net.b.ike_views == []
    assert net.log[1].header is not None
    assert net.log[1].header.responder_spi == bytes(8)


def test_cookies_are_asked_from_the_threshold_on_rfc7296_2_6() -> None:
    net = Net(connection(remote_addresses=(endpoint("192.0.2.2").address,)), b_config=EngineConfig(cookie_threshold=3))
    for _ in range(5):
        net.a.initiate(net.a_connection)
    for request in tuple(net.flight):
        net.deliver(request)
    assert [m.has("N(COOKIE)") for m in net.log[5:]] == [False, False, False, True, True]
    assert net.b.counted("cookies-asked") == 2


def test_a_cookie_is_good_for_its_sender_only_rfc7296_2_6() -> None:
    net = Net(b_config=ALWAYS_COOKIE)
    net.a.initiate(net.a_connection)
    net.deliver(net.next())
    net.deliver(net.next())
    request = net.next()
    net.b.receive(request.data, request.destination, endpoint("198.51.100.7"))
    assert net.log[-1].names == ("N(COOKIE)",)
    assert net.b.ike_views == []


def test_another_key_exchange_after_the_cookie_keeps_the_cookie_rfc7296_2_6_1() -> None:
    a = connection(ike_proposals=TWO_GROUPS)
    net = Net(a, mirror(a, ike_proposals=OTHER_GROUP), b_config=ALWAYS_COOKIE)
    net.a.initiate(net.a_connection)
    net.settle()
    net.assert_agreement()
    assert [m.names[0] for m in net.log[:6]] == [
        "SA",
        "N(COOKIE)",
        "N(COOKIE)",
        "N(INVALID_KE_PAYLOAD)",
        "N(COOKIE)",
        "SA",
    ]
    assert len(net.sent("IKE_SA_INIT", sender=net.a)) == 3


def test_invalid_ke_payload_names_the_method_that_is_then_used_rfc7296_1_3() -> None:
    a = connection(ike_proposals=TWO_GROUPS)
    net = Net(a, mirror(a, ike_proposals=OTHER_GROUP))
    net.a.initiate(net.a_connection)
    net.settle()
    net.assert_agreement()
    assert net.log[1].names == ("N(INVALID_KE_PAYLOAD)",)
    assert "ecp384" in str(net.a.ike.suite)
    # The request keeps its SPI and its whole offer, so that nobody can talk the two sides into less (§2.7).
    first, second = net.sent("IKE_SA_INIT", "?")
    assert first.header is not None and second.header is not None
    assert first.header.initiator_spi == second.header.initiator_spi
    assert first.payloads is not None and second.payloads is not None
    assert first.payloads[0] == second.payloads[0]


def test_a_method_that_was_not_offered_is_not_used_rfc7296_2_7() -> None:
    net = Net()
    net.a.initiate(net.a_connection)
    request = net.next()
    forge(net, request, NotifyPayload(NotifyType.INVALID_KE_PAYLOAD, (14).to_bytes(2, "big")))
    assert net.flight == [request]
    net.settle()
    net.assert_agreement()


def test_cookies_without_end_are_not_answered_for_ever_rfc7296_2_6() -> None:
    net = Net()
    net.a.initiate(net.a_connection)
    for number in range(50):
        request = net.flight[-1]
        forge(net, request, NotifyPayload(NotifyType.COOKIE, bytes([number]) * 8))
    assert len(net.log) < 10
    net.drop_all()
    net.advance(10)
    assert net.a.last(IkeDown).reason is Reason.COOKIE_LOOP
    net.drop_all()
    net.assert_gone()


@pytest.mark.parametrize(
    "type_",
    [
        NotifyType.NO_PROPOSAL_CHOSEN,
        NotifyType.INVALID_SYNTAX,
        NotifyType.INVALID_KE_PAYLOAD,
        NotifyType.AUTHENTICATION_FAILED,
        NotifyType.INVALID_MAJOR_VERSION,
        NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD,
    ],
)
def test_a_forged_error_does_not_end_a_handshake_rfc7296_2_21_1(type_: NotifyType) -> None:
    net = Net()
    net.a.initiate(net.a_connection)
    forge(net, net.next(), NotifyPayload(type_))
    net.settle()
    net.assert_agreement()
    assert not net.a.of(IkeDown)


def test_no_proposal_chosen_tells_both_sides_what_was_offered_and_what_is_accepted_rfc7296_2_7() -> None:
    a = connection(ike_proposals=ike_proposals("aes256gcm16-prfsha384-ecp384"))
    net = Net(a, mirror(a, ike_proposals=ike_proposals("aes128-sha256-x25519")))
    net.a.initiate(net.a_connection)
    net.settle()
    assert not net.a.of(IkeDown), "anybody could have sent that answer: it waits for a better one"
    net.run(5)
    down = net.a.last(IkeDown)
    assert (down.reason, down.was_up, down.retry) == (Reason.NO_PROPOSAL_CHOSEN, False, True)
    assert "aes256gcm16-prfsha384-ecp384" in down.detail
    notice = net.b.last(Notice)
    assert notice.reason is Reason.NO_PROPOSAL_CHOSEN
    assert "aes256gcm16-prfsha384-ecp384" in notice.text
    assert "aes128-sha256-prfsha256-x25519" in notice.text
    assert net.a.counted("NO_PROPOSAL_CHOSEN") == net.b.counted("NO_PROPOSAL_CHOSEN") == 1
    net.assert_gone()


def test_an_address_without_connection_is_refused_and_logged() -> None:
    net = Net()
    net.b.engine.set_connections([])
    net.a.initiate(net.a_connection)
    net.run(5)
    assert net.b.last(Notice).reason is Reason.NO_CONNECTION
    assert net.b.counted("NO_CONNECTION") >= 1
    net.assert_gone()


def test_an_answer_with_what_was_not_offered_is_refused_rfc7296_2_7() -> None:
    net = Net()
    net.a.initiate(net.a_connection)
    net.deliver(net.next())
    answer = net.next()
    assert answer.header is not None and answer.payloads is not None
    offered = answer.payloads[0]
    transforms = tuple(replace(t, key_bits=256) if t.key_bits else t for t in offered.proposals[0].transforms)  # type: ignore[attr-defined]
    other = replace(offered, proposals=(replace(offered.proposals[0], transforms=transforms),))  # type: ignore[attr-defined,type-var]
    net.a.receive(
        encode_message(answer.header, [other, *answer.payloads[1:]]),  # type: ignore[list-item]
        answer.destination,
        answer.source,
    )
    assert not net.sent("IKE_AUTH")
    net.settle()  # the true answer is taken all the same
    net.assert_agreement()


def test_half_open_ike_sas_are_forgotten_after_their_time() -> None:
    net = Net()
    net.a.initiate(net.a_connection)
    net.deliver(net.next())
    net.drop_all()
    assert net.b.ike_views[0].state == "half open"
    net.a.engine.delete_ike(1, net.now, Reason.TERMINATED)
    net.advance(100)
    assert net.b.ike_views == []
    assert net.b.counted("half-open-expired") == 1


def test_a_flood_of_requests_keeps_tables_bounded_and_memory_flat() -> None:
    config = EngineConfig(cookie_threshold=32, half_open_limit=1000)
    net = Net(b_config=config)
    net.a.initiate(net.a_connection)
    request = net.next()
    flood = [number.to_bytes(8, "big") + request.data[8:] for number in range(1, 10_001)]

    def strike(part: list[bytes]) -> None:
        for data in part:
            net.b.engine.receive_datagram(data, request.destination, request.source, net.now)
            while net.b.engine.next_output() is not None:
                pass

    strike(flood[:1000])
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    strike(flood[1000:])
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert len(net.b.ike_views) == config.cookie_threshold
    assert grown < 50_000
    assert net.b.counted("cookies-asked") == 10_000 - config.cookie_threshold
    net.settle()  # and who can receive at its address gets its IKE SA
    assert net.a.ike


def test_half_open_ike_sas_are_limited_even_with_good_cookies() -> None:
    net = Net(b_config=EngineConfig(cookie_threshold=0, half_open_limit=5))
    for _ in range(8):
        net.a.initiate(net.a_connection)
    net.settle(lambda message: message.exchange == "IKE_AUTH" or (message.has("KE") and message.sender is net.b))
    assert len(net.b.ike_views) == 5
    assert net.b.counted("HALF_OPEN_LIMIT") == 3
