"""NAT between the peers, RFC 7296 §2.23 and §2.23.1."""

from __future__ import annotations

import pytest

from appliance.ike.connection import ConnectionConfig
from appliance.ike.events import EndpointsChanged
from appliance.sa.association import Mode, UdpEncapsulation
from tests.ike.peers import Nat, Net, child, connection, endpoint, mirror, selectors

PRIVATE, PUBLIC = "10.0.0.2", "203.0.113.9"
BEHIND = connection(local_addresses=(endpoint(PRIVATE).address,))


def behind_nat(a: ConnectionConfig = BEHIND, **changes: object) -> Net:
    """A is behind a NAT; B sees the NAT's address, and takes A from anywhere."""
    net = Net(a, mirror(a, remote_addresses=(), **changes), nat=Nat(PRIVATE, PUBLIC))  # type: ignore[arg-type]
    return net.establish()


def test_without_nat_nothing_moves_and_esp_is_native_rfc7296_2_23() -> None:
    net = Net().establish()
    for peer in net.peers:
        assert (peer.ike.nat_local, peer.ike.nat_remote) == (False, False)
        assert peer.ike.local.port == peer.ike.remote.port == 500
        assert peer.child().inbound.encapsulation is None


def test_both_sides_find_the_nat_before_the_initiator_rfc7296_2_23() -> None:
    net = behind_nat()
    assert (net.a.ike.nat_local, net.a.ike.nat_remote) == (True, False)
    assert (net.b.ike.nat_local, net.b.ike.nat_remote) == (False, True)
    net.assert_agreement()


def test_both_sides_find_the_nat_before_the_responder_rfc7296_2_23() -> None:
    nat = Nat(PRIVATE, PUBLIC)
    nat.ports[endpoint(PRIVATE, 500)] = 500
    nat.ports[endpoint(PRIVATE, 4500)] = 4500  # forwarded
    a = connection(remote_addresses=(endpoint(PUBLIC).address,))
    net = Net(a, mirror(a, local_addresses=(endpoint(PRIVATE).address,)), b_nat=nat).establish()
    assert (net.a.ike.nat_local, net.a.ike.nat_remote) == (False, True)
    assert (net.b.ike.nat_local, net.b.ike.nat_remote) == (True, False)
    net.assert_agreement()


def test_the_initiator_floats_to_port_4500_with_ike_auth_rfc7296_2_23() -> None:
    net = behind_nat()
    assert net.a.ike.local == endpoint(PRIVATE, 4500)
    assert net.a.ike.remote == endpoint("192.0.2.2", 4500)
    assert net.b.ike.local.port == 4500
    assert net.b.ike.remote == endpoint(PUBLIC, 20001), "the mapping of the second port"


def test_esp_is_in_udp_on_the_ports_of_ike_rfc7296_2_23() -> None:
    net = behind_nat()
    assert net.a.child().outbound.encapsulation == UdpEncapsulation(4500, 4500)
    assert net.b.child().outbound.encapsulation == UdpEncapsulation(4500, 20001)
    assert net.b.child().inbound.encapsulation == UdpEncapsulation(20001, 4500)
    assert str(net.b.child().outbound.destination) == PUBLIC


def test_encapsulation_can_be_forced_rfc7296_2_23() -> None:
    net = Net(connection(force_encapsulation=True), mirror(connection())).establish()
    for peer in net.peers:
        assert peer.child().inbound.encapsulation == UdpEncapsulation(4500, 4500)
    net.assert_agreement()


def test_only_who_is_behind_the_nat_sends_keepalives_rfc3948_4() -> None:
    net = behind_nat()
    net.advance(61)
    assert [(m.sender.name, m.data, m.keepalive) for m in net.log] == [("a", b"\xff", True)] * 3
    assert {m.source for m in net.log} == {net.a.ike.local}


def test_keepalives_go_on_after_a_rekey_of_the_ike_sa_rfc3948_4() -> None:
    net = behind_nat()
    net.a.rekey_ike()
    net.settle()
    net.forget()
    net.run(100)
    assert [m.sender.name for m in net.log if m.keepalive] == ["a"] * 5


def test_a_new_mapping_moves_ike_and_children_with_the_next_authentic_message_rfc7296_2_23() -> None:
    net = behind_nat()
    net.nats[0].reboot()
    net.a.rekey_child()
    net.deliver(net.next())
    moved = net.b.of(EndpointsChanged)
    assert moved and all(event.outbound_encapsulation == UdpEncapsulation(4500, 20002) for event in moved)
    assert net.b.ike.remote == endpoint(PUBLIC, 20002)
    net.settle()
    assert net.b.child().outbound.encapsulation == UdpEncapsulation(4500, 20002)
    net.assert_agreement()


def test_authentic_esp_from_elsewhere_moves_ike_and_children_rfc7296_2_23() -> None:
    net = behind_nat()
    net.b.do(net.b.engine.update_remote, net.b.child().child_id, endpoint("203.0.113.77", 33333))
    assert net.b.ike.remote == endpoint("203.0.113.77", 33333)
    assert str(net.b.child().outbound.destination) == "203.0.113.77"
    event = net.b.last(EndpointsChanged)
    assert (str(event.remote), event.outbound_encapsulation) == ("203.0.113.77", UdpEncapsulation(4500, 33333))


def test_unauthenticated_datagrams_move_nothing_rfc7296_2_23() -> None:
    net = behind_nat()
    net.a.rekey_child()
    request = net.next()
    forged = request.data[:-1] + bytes([request.data[-1] ^ 1])
    before = net.b.ike.remote
    net.b.receive(forged, net.b.ike.local, endpoint("198.51.100.66", 4500))
    assert net.b.ike.remote == before
    assert not net.b.of(EndpointsChanged)
    assert net.b.counted("MESSAGE_UNVERIFIED") == 1
    net.settle()
    net.assert_agreement()


def test_a_replay_from_elsewhere_moves_nothing_rfc7296_2_23() -> None:
    net = behind_nat()
    net.a.rekey_child()
    request = net.next()
    net.settle()
    before = net.b.ike.remote
    for old in [m for m in net.log if m.sender is net.a] + [request]:
        net.b.receive(old.data, net.b.ike.local, endpoint("198.51.100.66", 4500))
    assert net.b.ike.remote == before
    assert not net.b.of(EndpointsChanged)
    net.drop_all()


def test_who_is_behind_the_nat_does_not_follow_the_peer_rfc7296_2_23() -> None:
    net = behind_nat()
    net.b.rekey_child()
    request = net.next()
    net.drop(request)
    net.a.receive(request.data, net.a.ike.local, endpoint("198.51.100.66", 4500))
    assert net.a.ike.remote == endpoint("192.0.2.2", 4500)
    # The answer goes to where the request came from (§2.11); the IKE SA does not.
    assert net.next().destination == endpoint("198.51.100.66", 4500)


def test_without_nat_nobody_follows_rfc7296_2_23() -> None:
    net = Net().establish()
    net.a.rekey_child()
    request = net.next()
    net.drop(request)
    net.b.receive(request.data, net.b.ike.local, endpoint("198.51.100.66", 500))
    assert net.b.ike.remote == endpoint("192.0.2.1")
    assert not net.b.of(EndpointsChanged)


def test_the_new_ike_sa_of_a_rekey_keeps_ports_and_nat_rfc7296_2_18() -> None:
    net = behind_nat()
    net.b.rekey_ike()
    net.settle()
    assert net.b.ike.remote == endpoint(PUBLIC, 20001)
    assert (net.a.ike.nat_local, net.b.ike.nat_remote) == (True, True)
    net.a.rekey_child()
    net.settle()
    assert net.b.child().outbound.encapsulation == UdpEncapsulation(4500, 20001)
    net.assert_agreement()


@pytest.mark.parametrize("rekeys", [0, 1])
def test_transport_mode_through_nat_has_each_sides_own_addresses_rfc7296_2_23_1(rekeys: int) -> None:
    hosts = child(mode=Mode.TRANSPORT, local_ts=selectors(f"{PRIVATE}[tcp]"), remote_ts=selectors("192.0.2.2[tcp]"))
    a = connection(local_addresses=(endpoint(PRIVATE).address,), children=(hosts,))
    seen = child(mode=Mode.TRANSPORT, local_ts=selectors("192.0.2.2[tcp]"), remote_ts=selectors(f"{PUBLIC}[tcp]"))
    net = behind_nat(a, children=(seen,))
    for _ in range(rekeys):
        net.b.rekey_child()
        net.settle()
    mine, theirs = net.a.child().inbound, net.b.child().inbound
    assert [str(ts) for ts in (*mine.local_ts, *mine.remote_ts)] == [f"{PRIVATE}[tcp]", "192.0.2.2[tcp]"]
    assert [str(ts) for ts in (*theirs.local_ts, *theirs.remote_ts)] == ["192.0.2.2[tcp]", f"{PUBLIC}[tcp]"]
    assert mine.mode is theirs.mode is Mode.TRANSPORT
    assert mine.encapsulation is not None
