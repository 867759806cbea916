"""IKE messages in fragments, RFC 7383."""

from __future__ import annotations

import pytest

from appliance.ike.message import HEADER_LENGTH
from tests.ike.interleavings import every_schedule, outcome
from tests.ike.peers import Message, Net, certificates, connection, endpoint, mirror, pki


def with_large_certificates(**changes: object) -> Net:
    """Both IKE_AUTH messages are of several fragments."""
    root, mine, theirs = pki(big=True)
    a = connection(**{**certificates(mine, "gw-b.example", root), "fragment_size": 576, **changes})
    return Net(a, mirror(a, **certificates(theirs, "gw-a.example", root)))


def asked(net: Net) -> list[Message]:
    """A has sent IKE_AUTH: its fragments are in flight."""
    net.a.initiate(net.a_connection)
    net.deliver(net.next())
    net.deliver(net.next())
    return list(net.flight)


def test_large_messages_go_in_fragments_both_ways_rfc7383_2_5() -> None:
    net = with_large_certificates()
    net.a.initiate(net.a_connection)
    net.settle()
    net.assert_agreement()
    for peer in net.peers:
        fragments = [m.fragment for m in net.sent("IKE_AUTH", sender=peer)]
        total = len(fragments)
        assert total > 2
        assert fragments == [(number, total) for number in range(1, total + 1)]


@pytest.mark.parametrize("size", [576, 700, 1280, 9000])
def test_no_datagram_is_larger_than_configured_rfc7383_2_5_1(size: int) -> None:
    net = with_large_certificates(fragment_size=size)
    net.a.initiate(net.a_connection)
    net.settle()
    net.assert_agreement()
    assert all(len(m.data) + 28 <= size for m in net.sent("IKE_AUTH"))


def test_no_datagram_is_larger_than_configured_over_ipv6_rfc7383_2_5_1() -> None:
    a6, b6 = endpoint("2001:db8::1").address, endpoint("2001:db8::2").address
    net = with_large_certificates(local_addresses=(a6,), remote_addresses=(b6,), fragment_size=1280)
    net.a.initiate(net.a_connection)
    net.settle()
    assert all(len(m.data) + 48 <= 1280 for m in net.sent("IKE_AUTH"))
    net.assert_agreement()


@pytest.mark.parametrize("side", ["a", "b"])
def test_nothing_is_fragmented_unless_both_sides_said_they_can_rfc7383_2_3(side: str) -> None:
    net = with_large_certificates()
    own = net.a_connection if side == "a" else net.b_connection
    changed = mirror(mirror(own), fragmentation=False)
    if side == "a":
        net.a_connection = changed
    else:
        net.b.engine.set_connections([changed])
    net.a.initiate(net.a_connection)
    net.settle()
    net.assert_agreement()
    assert not [m for m in net.log if m.fragment]


def test_fragments_may_arrive_in_any_order_and_twice_rfc7383_2_6() -> None:
    net = with_large_certificates()
    for fragment in reversed(asked(net)):
        net.deliver(fragment, keep=True)
    for fragment in reversed(net.flight.copy()):
        net.deliver(fragment)
    net.settle()
    net.assert_agreement()


@pytest.mark.parametrize("side", ["a", "b"])
def test_a_lost_fragment_has_the_whole_message_sent_again_rfc7383_2_6_1(side: str) -> None:
    count = len(asked(with_large_certificates()))
    for number in range(1, count + 1):
        net = with_large_certificates()
        lost: list[Message] = []

        def lose(message: Message, lost: list[Message] = lost, number: int = number) -> bool:
            fits = not lost and message.sender.name == side and message.fragment and message.fragment[0] == number
            if fits:
                lost.append(message)
            return bool(fits)

        net.a.initiate(net.a_connection)
        net.settle(lose)
        assert not lost or not net.a.installed
        net.run(5)
        net.assert_agreement()


def test_a_retransmission_is_answered_on_its_first_fragment_only_rfc7383_2_6_1() -> None:
    net = with_large_certificates()
    fragments = asked(net)
    for fragment in fragments:
        net.deliver(fragment)
    answer = len(net.sent("IKE_AUTH", sender=net.b))
    net.drop_all()
    for fragment in fragments:
        net.b.receive(fragment.data, fragment.destination, fragment.source)
    again = net.sent("IKE_AUTH", sender=net.b)[answer:]
    assert len(again) == answer
    assert {m.data for m in again} == {m.data for m in net.sent("IKE_AUTH", sender=net.b)[:answer]}
    assert net.b.counted("retransmissions-answered") == 1
    assert net.b.counted("retransmissions-ignored") == len(fragments) - 1
    net.settle()
    net.assert_agreement()


def test_a_broken_fragment_is_dropped_and_the_good_one_taken_rfc7383_2_6() -> None:
    net = with_large_certificates()
    first, *others = asked(net)
    forged = first.data[:-1] + bytes([first.data[-1] ^ 1])
    net.b.receive(forged, first.destination, first.source)
    assert net.b.counted("MESSAGE_UNVERIFIED") == 1
    for fragment in (*others, first):
        net.deliver(fragment)
    net.settle()
    net.assert_agreement()


def test_forged_fragment_numbers_reserve_no_memory_rfc7383_5() -> None:
    net = with_large_certificates()
    first = asked(net)[0]
    at = HEADER_LENGTH + 4
    for total in range(2, 2000):
        forged = first.data[:at] + (2).to_bytes(2, "big") + total.to_bytes(2, "big") + first.data[at + 4 :]
        net.b.receive(forged, first.destination, first.source)
    assert all(not sa.reassemblers for sa in net.b.engine._services.ike_sas.values())
    net.settle()
    net.assert_agreement()


def test_any_two_losses_among_fragments_are_overcome_rfc7383_2_6_1() -> None:
    def start() -> Net:
        net = with_large_certificates(fragment_size=1500)
        asked(net)
        return net

    assert len(start().flight) == 2
    for schedule in every_schedule(start, losses=2, check=lambda net: None):
        outcome(schedule, Net.assert_agreement)
