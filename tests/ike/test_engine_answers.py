"""What a peer answers is heeded, and taken only as far as it was asked for."""

from __future__ import annotations

from collections.abc import ValuesView
from dataclasses import replace

import pytest

from appliance.ike.child_sa import ChildSa
from appliance.ike.constants import ExchangeType, NotifyType
from appliance.ike.events import ChildFailed
from appliance.ike.exchanges import child_negotiation
from appliance.ike.message import seal_fragments, seal_message
from appliance.ike.payloads import (
    DeletePayload,
    NoncePayload,
    NotifyPayload,
    SaPayload,
    TsPayload,
    first,
)
from appliance.sa.association import Mode
from appliance.sa.proposal import ProtocolId
from tests.ike.peers import (
    Nat,
    Net,
    child,
    connection,
    endpoint,
    mirror,
    say,
    selectors,
)


def test_forced_encapsulation_does_not_keep_a_gateway_from_following_a_nat() -> None:
    private, public = "10.0.0.2", "203.0.113.9"
    a = connection(local_addresses=(endpoint(private).address,))
    net = Net(a, mirror(a, remote_addresses=(), force_encapsulation=True), nat=Nat(private, public)).establish()
    before = net.b.ike.remote
    net.nats[0].reboot()
    net.a.rekey_child()
    net.settle()
    assert net.b.ike.remote != before
    net.assert_agreement()


def test_transport_answer_behind_nat_is_not_wider_than_offered() -> None:
    private, public = "10.0.0.2", "203.0.113.9"
    a = connection(
        local_addresses=(endpoint(private).address,),
        children=(
            child(
                mode=Mode.TRANSPORT,
                local_ts=selectors(private + "[udp/1701]"),
                remote_ts=selectors("192.0.2.2[udp/1701]"),
            ),
        ),
    )
    b = mirror(
        a, remote_addresses=(), children=(replace(mirror(a).children[0], remote_ts=selectors(public + "[udp/1701]")),)
    )
    net = Net(a, b, nat=Nat(private, public)).establish()
    assert str(net.a.child().outbound.local_ts[0]) == private + "[udp/1701]"
    # Now one more, whose answer says every protocol and port.
    config = replace(a.children[0], name="other", reqid=9)
    net.a.create_child(config)
    request = net.find("CREATE_CHILD_SA", sender=net.a)
    net.drop_all()
    b_sa = net.b.sa()
    offered = first(request.payloads, SaPayload)
    chosen = offered.proposals[0]
    answer = [
        NotifyPayload(NotifyType.USE_TRANSPORT_MODE),
        SaPayload((replace(chosen, spi=b"\x11\x22\x33\x44"),)),
        NoncePayload(bytes(32)),
        TsPayload(True, selectors(public)),
        TsPayload(False, selectors("192.0.2.2")),
    ]
    # towards A, through the NAT
    data = seal_message(
        b_sa.header(ExchangeType.CREATE_CHILD_SA, request.header.message_id, response=True), answer, b_sa.sealer_out
    )
    net.a.receive(data, net.a.ike.local, net.a.ike.remote)
    made = [v for v in net.a.children if v.child == "other"]
    assert not made, [str(ts) for v in made for ts in (*v.outbound.local_ts, *v.outbound.remote_ts)]


def test_a_retransmission_in_smaller_fragments_is_answered_rfc7383_2_6_1() -> None:
    net = Net().establish()
    a_sa = net.a.sa()
    header = a_sa.header(ExchangeType.INFORMATIONAL, a_sa.requests.next_id, response=False)
    payloads = [NotifyPayload(40000, bytes(900))]
    large = seal_fragments(header, payloads, a_sa.sealer_out, 1200)
    small = seal_fragments(header, payloads, a_sa.sealer_out, 500)
    for data in large:
        net.b.receive(data, a_sa.remote, a_sa.local)
    assert len(net.flight) == 1
    net.drop_all()  # the answer is lost
    for data in small:
        net.b.receive(data, a_sa.remote, a_sa.local)
    assert len(net.flight) == 1, net.b.engine.counters


def test_tfc_padding_is_off_if_the_peer_does_not_take_it_rfc7296_1_3_1() -> None:
    a = connection(children=(child(tfc_padding=1400),))
    net = Net(a)
    net.a.initiate(a, [])
    net.settle()
    net.a.create_child(a.children[0])
    request = net.find("CREATE_CHILD_SA", sender=net.a)
    net.drop_all()
    b_sa = net.b.sa()
    chosen = first(request.payloads, SaPayload).proposals[0]
    answer = [
        NotifyPayload(NotifyType.ESP_TFC_PADDING_NOT_SUPPORTED),
        SaPayload((replace(chosen, spi=b"\x11\x22\x33\x44"),)),
        NoncePayload(bytes(32)),
        TsPayload(True, a.children[0].local_ts),
        TsPayload(False, a.children[0].remote_ts),
    ]
    say(net.a, b_sa, ExchangeType.CREATE_CHILD_SA, request.header.message_id, answer, response=True)
    assert net.a.child().outbound.tfc_padding == 0


def test_rekey_with_single_pair_required_narrows() -> None:
    a = connection(children=(child(local_ts=selectors("10.1.1.0/24", "10.1.2.0/24")),))
    net = Net(a).establish()
    net.a.rekey_child()
    request = net.find("CREATE_CHILD_SA", sender=net.a)
    net.drop_all()
    say(
        net.a,
        net.b.sa(),
        ExchangeType.CREATE_CHILD_SA,
        request.header.message_id,
        [NotifyPayload(NotifyType.SINGLE_PAIR_REQUIRED)],
        response=True,
    )
    net.advance(9)
    retry = [m for m in net.sent("CREATE_CHILD_SA", sender=net.a) if m is not request]
    assert retry
    assert all(len(payload.selectors) == 1 for payload in retry[0].payloads if isinstance(payload, TsPayload))


@pytest.mark.parametrize("what", ["response", "request"])
def test_invalid_syntax_is_fatal_on_both_sides_rfc7296_2_21_3(what: str) -> None:
    net = Net().establish()
    a_sa, b_sa = net.a.sa(), net.b.sa()
    if what == "response":
        net.a.rekey_child()
        request = net.find("CREATE_CHILD_SA", sender=net.a)
        net.drop_all()
        say(
            net.a,
            b_sa,
            ExchangeType.CREATE_CHILD_SA,
            request.header.message_id,
            [NotifyPayload(NotifyType.INVALID_SYNTAX)],
            response=True,
        )
        assert [v for v in net.a.ike_views if v.state == "established"] == []
    else:
        say(net.b, a_sa, ExchangeType.CREATE_CHILD_SA, a_sa.requests.next_id, [NoncePayload(bytes(32))], response=False)
        assert "INVALID_SYNTAX" in str(net.next())
        assert [v for v in net.b.ike_views if v.state == "established"] == []


def test_a_delete_with_many_unknown_spis_is_little_work() -> None:
    net = Net().establish()
    a_sa = net.a.sa()
    # the peer makes as many children as it may
    sa = net.b.sa()
    proto = next(iter(sa.children.values()))
    for i in range(1023):
        c = replace(proto, child_id=10_000 + i)
        sa.children[c.child_id] = c
    spis = tuple((0x40000000 + i).to_bytes(4, "big") for i in range(16_000))
    data = seal_message(
        a_sa.header(ExchangeType.INFORMATIONAL, a_sa.requests.next_id, response=False),
        [DeletePayload(ProtocolId.ESP, spis)],
        a_sa.sealer_out,
    )
    looked = 0

    class Counted(dict[int, ChildSa]):
        def values(self) -> ValuesView[ChildSa]:
            nonlocal looked
            looked += 1
            return super().values()

    sa.children = Counted(sa.children)
    net.b.engine.receive_datagram(data, a_sa.remote, a_sa.local, net.now)
    assert 0 < looked < 10  # all children are looked through now and then, and not for each SPI


def test_children_at_the_limit_can_be_rekeyed(monkeypatch) -> None:
    monkeypatch.setattr(child_negotiation, "MAX_CHILDREN", 1)
    net = Net().establish()
    net.a.rekey_child()
    net.settle()
    assert not net.a.of(ChildFailed), net.a.of(ChildFailed)
