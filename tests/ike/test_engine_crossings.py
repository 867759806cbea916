"""Rekeys and deletions that cross, and late answers: nothing is lost, doubled or due for ever (RFC 7296 §2.25)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from appliance.ike import uniqueness
from appliance.ike.choose import to_wire
from appliance.ike.constants import ExchangeType, NotifyType
from appliance.ike.events import ChildActivate, ChildDown
from appliance.ike.ke import generate
from appliance.ike.message import seal_message
from appliance.ike.payloads import (
    DeletePayload,
    KePayload,
    NoncePayload,
    NotifyPayload,
    SaPayload,
    TsPayload,
    first,
)
from appliance.reasons import Reason
from appliance.sa.algorithms import KeyExchangeMethod
from appliance.sa.identity import Identity
from appliance.sa.proposal import ProtocolId
from tests.ike.peers import (
    IKE,
    Net,
    child,
    connection,
    endpoint,
    mirror,
    sa_of,
    say,
    selectors,
)


def test_timer_of_a_rekeyed_ike_sa_is_never_due_for_ever() -> None:
    """A's own rekey is refused after the peer's own one took over and went on."""
    net = Net().establish()
    net.a.rekey_ike()
    net.b.rekey_ike()
    asked_a = net.find("CREATE_CHILD_SA", sender=net.a)
    net.flight.remove(asked_a)
    net.deliver(net.find("CREATE_CHILD_SA", sender=net.b))  # A answers: the peer's successor is there
    net.deliver(net.find("CREATE_CHILD_SA", "!", sender=net.a))  # B has taken over
    net.drop_all()  # B's deletion of the old one is late
    # B rekeys the new one again: A learns that it stays, and then it is replaced itself
    net.b.rekey_ike()
    net.deliver(net.find("CREATE_CHILD_SA", sender=net.b))
    net.drop_all()
    # and only now A's own request is answered, as RFC 7296 2.25.2 has it
    net.deliver(asked_a)
    net.deliver(net.find("TEMPORARY_FAILURE", sender=net.b))
    net.drop_all()
    calls = 0
    end = net.now + 30
    while calls < 10_000:
        due = net.a.engine.next_timer()
        if due is None or due > end:
            break
        net.clock.now = max(net.now, due)
        net.a.engine.handle_timer(net.now)
        net.a.collect()
        calls += 1
    assert calls < 100, (calls, net.now - 1000)


def test_children_follow_a_successor_that_was_rekeyed_itself() -> None:
    net = Net().establish()
    net.a.rekey_ike()
    net.b.rekey_ike()
    asked_a = net.find("CREATE_CHILD_SA", sender=net.a)
    net.flight.remove(asked_a)
    net.deliver(net.find("CREATE_CHILD_SA", sender=net.b))
    net.deliver(net.find("CREATE_CHILD_SA", "!", sender=net.a))
    deletion = net.find("INFORMATIONAL", sender=net.b)  # B deletes the old one
    net.flight.remove(deletion)
    # A's own rekey waits for its answer; the successor that B made is rekeyed by A
    new = next(v for v in net.a.ike_views if not v.initiator)
    net.a.do(net.a.engine.rekey_ike, new.ike_id)
    net.settle()
    print(net.a.ike_views)
    net.deliver(asked_a)
    net.settle()
    net.deliver(deletion)
    net.settle()
    net.run(200)
    net.assert_agreement()


def test_rekey_goes_on_after_a_collision_whose_other_side_is_gone() -> None:
    """The peer's successor is gone, the own rekey was refused: the next rekey is still tried."""
    net = Net().establish()
    b_old = net.b.sa()
    net.a.rekey_ike()
    a_old = sa_of(net.a)[0]
    asked = net.find("CREATE_CHILD_SA", sender=net.a)
    net.drop_all()
    # the peer asks too, and deletes what it made at once
    ke = generate(KeyExchangeMethod.ECP_256, net.b._chance.randbytes)
    spi = b"peer-spi"
    payloads = [to_wire(IKE, spi), NoncePayload(bytes(range(32))), KePayload(ke.method, ke.public)]
    say(net.a, b_old, ExchangeType.CREATE_CHILD_SA, b_old.requests.next_id, payloads, response=False)
    new = a_old.peer_successor
    assert new is not None
    header = replace(new.header(ExchangeType.INFORMATIONAL, 0, response=False), initiator=True)
    data = seal_message(header, [DeletePayload(ProtocolId.IKE)], new.sealer_in)
    net.a.receive(data, new.local, new.remote)
    net.drop_all()
    say(
        net.a,
        b_old,
        ExchangeType.CREATE_CHILD_SA,
        asked.header.message_id,
        [NotifyPayload(NotifyType.TEMPORARY_FAILURE)],
        response=True,
    )
    net.advance(30)
    assert [m for m in net.log if m.sender is net.a and m.is_request and "CREATE_CHILD_SA" in str(m) and m is not asked]


def test_an_early_delete_is_for_children_of_that_time_only() -> None:
    two = connection(children=(child("net", 1), child("late", 2), child("third", 3)))
    net = Net(two)
    net.a.initiate(two, ["net"])
    net.settle()
    net.a.create_child(two.children[1])
    b_sa = net.b.sa()
    spi = b"\x11\x22\x33\x44"
    say(net.a, b_sa, ExchangeType.INFORMATIONAL, 0, [DeletePayload(ProtocolId.ESP, (spi,))], response=False)
    net.settle(lambda m: m.sender is net.a and "INFORMATIONAL" in str(m))
    b_sa.requests.next_id = 1
    net.run(10_0)
    net.a.create_child(two.children[2])
    request = net.find("CREATE_CHILD_SA", sender=net.a)
    net.drop_all()
    chosen = first(request.payloads, SaPayload).proposals[0]
    answer = [
        SaPayload((replace(chosen, spi=spi),)),
        NoncePayload(bytes(32)),
        TsPayload(True, two.children[2].local_ts),
        TsPayload(False, two.children[2].remote_ts),
    ]
    say(net.a, b_sa, ExchangeType.CREATE_CHILD_SA, request.header.message_id, answer, response=True)
    assert net.a.child("third")


def test_a_child_of_another_peer_is_no_twin() -> None:
    """Two peers of one connection, each with its own part of the selectors."""

    def side(name: str, address: str, net: str):
        return connection(
            local_addresses=(endpoint(address).address,),
            local_id=Identity.parse(f"{name}.example"),
            children=(child(local_ts=selectors(net)),),
        )

    one, two = side("gw-a", "192.0.2.1", "10.1.1.0/24"), side("gw-c", "192.0.2.3", "10.1.2.0/24")
    server = mirror(
        one,
        remote_addresses=(),
        remote_id=Identity.parse("*.example"),
        children=(replace(mirror(one).children[0], remote_ts=selectors("10.1.0.0/16")),),
    )
    server = replace(server, remote_policy=replace(server.remote_policy, identity=server.remote_id))
    net = Net(one, server)
    other = Net(two, server)
    other.b = net.b

    def settle() -> None:
        for _ in range(20):
            for m in [*net.flight, *other.flight]:
                (net.flight if m in net.flight else other.flight).remove(m)
                if m.sender is net.b:
                    to = net.a if m.destination.address == net.a.address else other.a
                    to.receive(m.data, m.destination, m.source)
                else:
                    net.b.receive(m.data, m.destination, m.source)

    net.a.initiate(one)
    settle()
    other.a.initiate(two)
    settle()
    assert len(net.b.children) == 2
    net.b.events.clear()
    net.a.delete_child(Reason.TERMINATED)
    settle()
    down = net.b.last(ChildDown)
    assert (down.reason, down.replaced_by, net.b.of(ChildActivate)) == (Reason.DELETED_BY_PEER, None, []), net.b.events


def test_a_child_not_found_is_made_anew_though_another_of_its_policy_is_there_rfc7296_2_25() -> None:
    a = connection(children=(child(local_ts=selectors("10.1.0.0/16"), remote_ts=selectors("10.2.0.0/16")),))
    one = child("one", 1, local_ts=selectors("10.2.1.0/24"), remote_ts=selectors("10.1.1.0/24"))
    two = child("two", 2, local_ts=selectors("10.2.2.0/24"), remote_ts=selectors("10.1.2.0/24"))
    net = Net(a, mirror(a, children=(one, two)))
    net.b.initiate(net.b_connection)
    net.settle()
    assert len(net.a.children) == 2
    first_child = net.a.children[0]
    net.forget()
    net.a.do(net.a.engine.rekey_child, first_child.child_id)
    request = net.find("CREATE_CHILD_SA", sender=net.a)
    net.drop_all()
    n = NotifyPayload(NotifyType.CHILD_SA_NOT_FOUND, protocol=3, spi=first_child.inbound.spi.to_bytes(4, "big"))
    say(net.a, net.b.sa(), ExchangeType.CREATE_CHILD_SA, request.header.message_id, [n], response=True)
    assert [m for m in net.flight if "CREATE_CHILD_SA" in str(m)], (net.a.events, net.a.children)


@pytest.mark.parametrize("lowest", ["old", "new"])
def test_a_peer_that_restarted_without_initial_contact_keeps_its_new_ike_sa(lowest: str, monkeypatch) -> None:
    net = Net(connection(dpd_interval=30.0))
    net.a.nonces.append(0 if lowest == "old" else 255)
    net.b.nonces.append(200)
    net.establish()
    net.advance(30)
    monkeypatch.setattr(uniqueness, "is_first_contact", lambda sa: False)
    net.drop_all()
    b = net.peer("b", seed=2)
    b.nonces.append(100)
    net.a.nonces.append(150)
    net.b.initiate(net.b_connection)
    net.run(15)
    assert net.b.ike_views and net.b.ike_views[0].state == "established", (net.a.ike_views, net.a.events)


def test_a_child_is_not_asked_for_while_a_successor_of_one_that_is_gone_is_rfc7296_2_25() -> None:
    net = Net().establish()
    b_sa, old = net.b.sa(), net.a.child()
    net.a.sa().requests.window = 4
    net.a.rekey_child()
    rekey = net.find("CREATE_CHILD_SA", sender=net.a)
    net.drop_all()
    deletion = DeletePayload(ProtocolId.ESP, (old.outbound.spi.to_bytes(4),))
    say(net.a, b_sa, ExchangeType.INFORMATIONAL, b_sa.requests.next_id, [deletion], response=False)
    net.drop_all()
    assert not net.a.children
    net.a.create_child(net.a_connection.children[0])
    assert not net.flight  # it may come by the rekey
    gone = NotifyPayload(NotifyType.CHILD_SA_NOT_FOUND, protocol=3, spi=old.inbound.spi.to_bytes(4))
    say(net.a, b_sa, ExchangeType.CREATE_CHILD_SA, rekey.header.message_id, [gone], response=True)
    assert "REKEY_SA" not in str(net.find("CREATE_CHILD_SA", sender=net.a))  # it did not, so it is asked for
