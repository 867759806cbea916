"""Traffic selectors, RFC 7296 §2.9; what else a Child SA may be refused for; transport mode, §1.3.1."""

from __future__ import annotations

import pytest

from appliance.ike.constants import NotifyType
from appliance.ike.events import ChildDown, ChildFailed, ChildUp, Notice
from appliance.ike.exchanges import child_negotiation
from appliance.ike.message import seal_message
from appliance.ike.payloads import NotifyPayload, TsPayload
from appliance.reasons import Reason
from appliance.sa.association import Mode
from tests.ike.peers import (
    A_ADDRESS,
    B_ADDRESS,
    Message,
    Net,
    child,
    connection,
    esp_proposals,
    mirror,
    selectors,
)

HOSTS = child(mode=Mode.TRANSPORT, local_ts=selectors(A_ADDRESS), remote_ts=selectors(B_ADDRESS))


def pair(mine: object, theirs: object) -> Net:
    """Side A with one child, and side B with another; both are written from A's point of view."""
    return Net(connection(children=(mine,)), mirror(connection(children=(theirs,))))


def shown(net: Net) -> tuple[list[str], list[str]]:
    view = net.a.child()
    return [str(ts) for ts in view.inbound.local_ts], [str(ts) for ts in view.inbound.remote_ts]


def answer_instead(net: Net, request: Message, notification: NotifyPayload) -> None:
    """B answers a CREATE_CHILD_SA request with an error that our own engine does not send."""
    assert request.header is not None
    sa = net.b.sa()
    assert sa.sealer_out is not None
    header = sa.header(request.header.exchange, request.header.message_id, response=True)  # type: ignore[arg-type]
    net.drop(request)
    sa.responses.expected += 1  # as if B had answered by itself
    net.a.receive(seal_message(header, [notification], sa.sealer_out), request.source, request.destination)


def test_the_responder_narrows_to_what_both_want_rfc7296_2_9() -> None:
    net = pair(child(remote_ts=selectors("10.0.0.0/8")), child(remote_ts=selectors("10.2.0.0/16", "10.3.1.0/24")))
    net.establish()
    net.assert_agreement()
    assert shown(net) == (["10.1.1.0/24"], ["10.2.0.0/16", "10.3.1.0/24"])


def test_an_initiator_that_wants_less_gets_less_rfc7296_2_9() -> None:
    net = pair(child(local_ts=selectors("10.1.1.7[tcp/443]")), child()).establish()
    net.assert_agreement()
    assert shown(net) == (["10.1.1.7[tcp/443]"], ["10.2.1.0/24"])


def test_disjoint_selectors_are_ts_unacceptable_and_both_sides_tell_rfc7296_2_9() -> None:
    net = pair(child(), child(remote_ts=selectors("10.9.0.0/24")))
    net.a.initiate(net.a_connection)
    net.settle()
    assert net.a.ike and net.b.ike, "the IKE SA stays (§2.21.2)"
    assert net.log[-1].has("N(TS_UNACCEPTABLE)") and net.log[-1].has("AUTH")
    failed, notice = net.a.last(ChildFailed), net.b.last(Notice)
    assert failed.reason is notice.reason is Reason.TS_UNACCEPTABLE
    assert "10.1.1.0/24" in failed.detail and "10.2.1.0/24" in failed.detail
    assert "10.9.0.0/24" in notice.text and "10.2.1.0/24" in notice.text
    assert net.a.counted("TS_UNACCEPTABLE") == net.b.counted("TS_UNACCEPTABLE") == 1
    net.assert_agreement(children=0)


def test_the_packet_that_asked_comes_first_rfc7296_2_9() -> None:
    net = Net()
    packet = selectors("10.1.1.5[udp/1000]")[0], selectors("10.2.1.6[udp/53]")[0]
    net.a.initiate(net.a_connection, packet=packet)
    net.settle()
    offer = [p for p in net.sent("IKE_AUTH", "?")[0].payloads or () if isinstance(p, TsPayload)]
    assert [p.selectors[0] for p in offer] == list(packet)
    assert [p.selectors[1:] for p in offer] == [selectors("10.1.1.0/24"), selectors("10.2.1.0/24")]
    net.assert_agreement()
    assert shown(net) == (["10.1.1.0/24"], ["10.2.1.0/24"])


def test_the_packet_comes_first_in_create_child_sa_too_rfc7296_2_9() -> None:
    net = Net().establish([])
    packet = selectors("10.1.1.5[udp/1000]")[0], selectors("10.2.1.6[udp/53]")[0]
    net.a.engine.create_child(net.a.ike.ike_id, net.a_connection.children[0], net.now, packet=packet)
    net.a.collect()
    net.settle()
    offer = next(p for p in net.log[0].payloads or () if isinstance(p, TsPayload))
    assert offer.selectors[0] == packet[0]
    net.assert_agreement()


def test_a_rekey_offers_the_configured_selectors_rfc7296_2_9_2() -> None:
    net = pair(child(remote_ts=selectors("10.0.0.0/8")), child(remote_ts=selectors("10.2.0.0/16"))).establish()
    net.a.rekey_child()
    net.settle()
    assert shown(net) == (["10.1.1.0/24"], ["10.2.0.0/16"])
    net.assert_agreement()


def test_an_answer_outside_of_the_offer_is_not_taken_rfc7296_2_9() -> None:
    net = pair(child(), child()).establish([])
    net.a.create_child(net.a_connection.children[0])
    net.deliver(net.next())
    answer = net.next()
    assert answer.header is not None and answer.payloads is not None
    wide = [TsPayload(p.initiator, selectors("0.0.0.0/0")) if isinstance(p, TsPayload) else p for p in answer.payloads]
    sa = net.b.sa()
    assert sa.sealer_out is not None
    net.drop(answer)
    net.a.receive(seal_message(answer.header, wide, sa.sealer_out), answer.destination, answer.source)
    assert net.a.last(ChildFailed).reason is Reason.TS_UNACCEPTABLE
    net.settle()
    net.assert_agreement(children=0)  # what B had made is deleted there


def test_single_pair_required_is_tried_again_with_one_pair_rfc7296_2_9() -> None:
    many = child(local_ts=selectors("10.1.1.0/24", "10.1.2.0/24"), remote_ts=selectors("10.2.1.0/24", "10.2.2.0/24"))
    net = pair(many, many).establish([])
    net.a.create_child(many)
    answer_instead(net, net.next(), NotifyPayload(NotifyType.SINGLE_PAIR_REQUIRED))
    second = [p.selectors for p in net.next().payloads or () if isinstance(p, TsPayload)]
    assert second == [selectors("10.1.1.0/24"), selectors("10.2.1.0/24")]
    net.settle()
    net.assert_agreement()
    assert net.a.last(ChildFailed).reason is Reason.SINGLE_PAIR_REQUIRED


def test_no_additional_sas_is_told_and_harms_no_other_child_rfc7296_1_3() -> None:
    net = Net(connection(children=(child("net", 1), child("late", 2)))).establish(["net"])
    net.a.create_child(net.a_connection.children[1])
    answer_instead(net, net.next(), NotifyPayload(NotifyType.NO_ADDITIONAL_SAS))
    assert net.a.last(ChildFailed).reason is Reason.NO_ADDITIONAL_SAS
    assert net.a.counted("NO_ADDITIONAL_SAS") == 1
    net.assert_agreement()


def test_no_more_children_than_the_limit_are_made_rfc7296_1_3(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(child_negotiation, "MAX_CHILDREN", 2)
    net = Net(connection(children=tuple(child(f"c{n}", n) for n in range(1, 5))))
    net.a.initiate(net.a_connection)
    net.settle()
    assert len(net.sent("N(NO_ADDITIONAL_SAS)")) == 2
    assert [event.reason for event in net.a.of(ChildFailed)] == [Reason.NO_ADDITIONAL_SAS] * 2
    assert net.b.counted("NO_ADDITIONAL_SAS") == 2
    net.assert_agreement(children=2)


def test_children_without_common_proposal_tell_what_was_offered_and_accepted_rfc7296_2_7() -> None:
    net = pair(child(proposals=esp_proposals("aes256gcm16-esn")), child(proposals=esp_proposals("aes128-sha256-noesn")))
    net.a.initiate(net.a_connection)
    net.settle()
    failed, notice = net.a.last(ChildFailed), net.b.last(Notice)
    assert failed.reason is notice.reason is Reason.NO_PROPOSAL_CHOSEN
    assert "aes256gcm16-esn" in failed.detail
    assert "aes256gcm16-esn" in notice.text and "aes128-sha256-noesn" in notice.text
    net.assert_agreement(children=0)


def test_transport_mode_is_asked_for_and_agreed_rfc7296_1_3_1() -> None:
    net = pair(HOSTS, HOSTS)
    net.a.initiate(net.a_connection)
    net.settle()
    assert all(m.has("N(USE_TRANSPORT_MODE)") for m in net.sent("IKE_AUTH"))
    net.assert_agreement()
    assert net.a.child().inbound.mode is net.b.child().outbound.mode is Mode.TRANSPORT


def test_transport_mode_stays_over_a_rekey_rfc7296_1_3_1() -> None:
    net = pair(HOSTS, HOSTS).establish()
    net.b.rekey_child()
    net.settle()
    assert all(m.has("N(USE_TRANSPORT_MODE)") for m in net.sent("CREATE_CHILD_SA"))
    net.assert_agreement()


def test_transport_mode_where_a_tunnel_is_configured_is_refused_with_the_cause_rfc7296_1_3_1() -> None:
    net = pair(HOSTS, child(local_ts=HOSTS.local_ts, remote_ts=HOSTS.remote_ts))
    net.a.initiate(net.a_connection)
    net.settle()
    assert "transport" in net.b.last(Notice).text and "tunnel" in net.b.last(Notice).text
    assert net.a.of(ChildFailed)
    net.assert_agreement(children=0)


def test_a_tunnel_in_answer_to_transport_mode_is_deleted_rfc7296_1_3_1() -> None:
    net = pair(HOSTS, HOSTS).establish([])
    net.a.create_child(net.a_connection.children[0])
    net.deliver(net.next())
    answer = net.next()
    assert answer.header is not None and answer.payloads is not None
    declined = [p for p in answer.payloads if not isinstance(p, NotifyPayload)]
    sa = net.b.sa()
    assert sa.sealer_out is not None
    net.drop(answer)
    net.a.receive(seal_message(answer.header, declined, sa.sealer_out), answer.destination, answer.source)
    assert "transport" in net.a.last(ChildFailed).detail
    assert not net.a.of(ChildUp)
    net.settle()
    assert net.b.of(ChildDown)
    net.assert_agreement(children=0)
