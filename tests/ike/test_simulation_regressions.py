"""What the simulation once found, each with as few messages as it takes."""

from __future__ import annotations

import pytest

from appliance.ike.connection import RekeyPolicy, Unique
from appliance.ike.events import ChildDown, Datagram
from appliance.ike.states import IkeState
from appliance.reasons import Reason
from tests.ike.peers import Net, connection
from tests.ike.simnet import LONG, ROUGH, Network, Node, agree, connection_pair, long_lives, settle

A, B = "192.0.2.1", "192.0.2.2"


def two(seed: int = 1, *, child_lifetime: RekeyPolicy = LONG, lifetime: RekeyPolicy = LONG, **settings: object):  # type: ignore[no-untyped-def]
    """A connected pair on a perfect network."""
    network = Network(seed)
    of_a, of_b = connection_pair("site", A, B, child_lifetime=child_lifetime, lifetime=lifetime, **settings)  # type: ignore[arg-type]
    a, b = Node(network, "a", A, [of_a]), Node(network, "b", B, [of_b], initiates=False)
    a.start()
    b.start()
    assert network.run(10, lambda: bool(a.pairs and b.pairs))
    network.run(1)
    return network, a, b


def ike_of(node: Node) -> int:
    [ike_id] = node.sites["site"].usable
    return ike_id


def is_response(datagram: Datagram) -> bool:
    return bool(datagram.data[19] & 0x20)


def test_an_ike_sa_replaced_while_its_own_rekey_waits_has_nothing_due_rfc7296_2_8_1() -> None:
    """Both rekey at once, our answer is lost, and the peer uses its own successor: the old one must not stay due."""
    decided = 0
    for seed in range(8):
        network, a, b = two(seed, lifetime=RekeyPolicy(60.0, 1.0, 0.0), dpd_timeout=200.0)
        old = ike_of(a)
        old_spi = bytes.fromhex(a.engine.ike_sas()[0].spi_i)
        for node in (a, b):
            node.command(lambda engine, now, node=node: engine.rekey_ike(ike_of(node), now))
        # Both requests are on their way; nothing else that B says in the old IKE SA arrives.
        network.drop = lambda d, spi=old_spi: str(d.source.address) == B and d.data[:8] == spi  # type: ignore[misc]
        network.run(1)
        sa = a.engine._services.ike_sas[old]
        assert sa.peer_successor is not None
        [child_id] = b.pairs
        owner = b.engine._services.owners[child_id]
        if not owner.initiator:
            continue  # the nonces had it that A's successor stays
        b.command(lambda engine, now, child_id=child_id: engine.rekey_child(child_id, now))
        network.run(1)
        assert sa.state is IkeState.REKEYED
        assert sa.successor is sa.peer_successor
        decided += 1
        network.run(90)  # past the end of the old one's lifetime: a Node fails if something stays due
        network.drop = None
        for node in (a, b):
            node.configure(long_lives)
        network.run(400)
        agree(network)
    assert decided


def test_a_reload_before_ike_auth_counts_rfc7296_2_15() -> None:
    """What a half-open IKE SA may become is what is configured when its peer authenticates."""
    network = Network(1)
    of_a, of_b = connection_pair("site", A, B, lifetime=RekeyPolicy(600.0, 60.0, 0.0))
    a, b = Node(network, "a", A, [of_a]), Node(network, "b", B, [of_b], initiates=False)
    b.start()
    a.start()
    assert network.run(5, lambda: any(view.state == "half open" for view in b.engine.ike_sas()))
    b.configure(long_lives)
    network.run(5)
    [view] = b.engine.ike_sas()
    assert view.rekey_at > 1e6


def test_a_connection_removed_before_ike_auth_is_not_made_rfc7296_2_15() -> None:
    network = Network(1)
    of_a, of_b = connection_pair("site", A, B)
    a, b = Node(network, "a", A, [of_a]), Node(network, "b", B, [of_b], initiates=False)
    b.start()
    a.start()
    assert network.run(5, lambda: any(view.state == "half open" for view in b.engine.ike_sas()))
    b.engine.set_connections([])
    network.run(1)
    assert not b.engine.ike_sas()
    assert a.downs[Reason.PEER_REFUSED_AUTHENTICATION] == 1


def test_a_child_answered_after_the_delete_of_its_ike_sa_is_not_announced_rfc7296_1_4_1() -> None:
    network, a, b = two(children=2, window=2)
    a.sites["site"].initiates = False
    ups = a.counters["child-ups"] + a.counters["child-rekeys"]
    child_id = min(a.pairs)
    a.command(lambda engine, now: engine.rekey_child(child_id, now))
    a.command(lambda engine, now: engine.delete_ike(ike_of(a), now, Reason.TERMINATED))
    network.run(60)
    assert a.counters["child-ups"] + a.counters["child-rekeys"] == ups
    for node in (a, b):
        assert not node.pairs and not node.engine.child_sas() and len(node.spis) == 0


def test_the_rekey_of_a_child_that_we_have_not_heard_of_yet_is_put_off_rfc7296_2_25_1() -> None:
    """The answer that tells us of a child is late; a rekey of that child before it says nothing about its absence."""
    network, a, b = two()
    [child_id] = a.pairs
    network.drop = lambda datagram: str(datagram.source.address) == B and is_response(datagram)
    a.command(lambda engine, now: engine.rekey_child(child_id, now))
    network.run(1)
    successor = max(b.pairs)
    assert successor not in (min(b.pairs),)
    b.command(lambda engine, now: engine.rekey_child(successor, now))
    network.run(1)
    network.drop = None
    network.run(60)
    for node in (a, b):
        assert Reason.CHILD_SA_NOT_FOUND not in node.downs
        assert node.counters["child-ups"] == 1
        assert node.counters["child-rekeys"] == 2
    agree(network)


def test_a_reload_during_an_ike_rekey_reaches_the_successor_rfc7296_2_18() -> None:
    network, a, b = two(lifetime=RekeyPolicy(600.0, 60.0, 0.0))
    network.drop = lambda datagram: str(datagram.source.address) == B and is_response(datagram)
    a.command(lambda engine, now: engine.rekey_ike(ike_of(a), now))
    network.run(1)
    for node in (a, b):
        node.configure(long_lives)
    network.drop = None
    network.run(60)
    for node in (a, b):
        [view] = node.engine.ike_sas()
        sa = node.engine._services.ike_sas[view.ike_id]
        assert sa.settings == node.connections["site"]
    [view] = a.engine.ike_sas()
    assert view.rekey_at > 1e6


def test_a_child_is_asked_for_once_whatever_the_window_rfc7296_2_3() -> None:
    network, a, _b = two(children=2, window=4)
    [connection] = a.connections.values()
    gone = next(pair.child_id for pair in a.pairs.values() if pair.child == "net1")
    a.sites["site"].initiates = False
    a.command(lambda engine, now: engine.delete_child(gone, now, Reason.TERMINATED))
    network.run(20)
    for _ in range(3):
        a.command(lambda engine, now: engine.create_child(ike_of(a), connection.children[1], now))
    network.run(20)
    agree(network)


def test_random_commands_on_parallel_ike_sas_end_in_one_rfc7296_2_8() -> None:
    """A redundant IKE SA was rekeyed before its deletion was sent; its successor has to go all the same."""
    for seed in (2, 11):
        network = Network(seed, ROUGH)
        of_a, of_b = connection_pair("site", A, B, children=3, window=4, dpd_interval=20.0, dpd_timeout=100.0)
        nodes = [Node(network, name, address, [of]) for name, address, of in (("a", A, of_a), ("b", B, of_b))]
        for node in nodes:
            node.start()
        chance = network.random
        for _ in range(300):
            network.run(chance.choice((0.01, 0.05, 0.3, 3, 20)))
            node = chance.choice(nodes)
            ikes = node.sites["site"].usable
            if not ikes:
                continue
            ike_id, what = chance.choice(ikes), chance.random()
            if what < 0.8:
                node.command(lambda engine, now, ike_id=ike_id: engine.rekey_ike(ike_id, now))
            else:
                node.command(lambda engine, now, ike_id=ike_id: engine.delete_ike(ike_id, now, Reason.TERMINATED))
        settle(network, 2500)
        agree(network)


def test_an_ike_sa_that_is_one_too_many_stays_so_when_the_peer_rekeys_it_rfc7296_2_8() -> None:
    """The time at which we delete it ourselves goes over to its successor."""
    network, a, b = two()
    a.sites["site"].initiates = False
    sa = b.engine._services.ike_sas[ike_of(b)]
    sa.delete_at = due = (network.now + 20.0, Reason.DUPLICATE_IKE_SA)
    b.command(lambda engine, now: engine._services.touched.add(sa.ike_id))
    a.command(lambda engine, now: engine.rekey_ike(ike_of(a), now))
    network.run(10)
    [view] = b.engine.ike_sas()
    assert view.ike_id != sa.ike_id
    successor = b.engine._services.ike_sas[view.ike_id]
    assert successor.delete_at == due
    # By then there is no other one, so it is none too many (RFC 7296 §2.4).
    network.run(20)
    assert (successor.delete_at, successor.state) == (None, IkeState.ESTABLISHED)
    agree(network)


@pytest.mark.parametrize("twins", [0, 1])
def test_a_child_that_the_peer_does_not_know_is_made_anew_only_if_it_has_no_twin_rfc7296_2_25_1(twins: int) -> None:
    """The twin is in another IKE SA of the connection, as both sides may have after they found each other twice."""
    net = Net(connection(unique=Unique.NEVER)).establish()
    if twins:
        net.a.initiate(net.a_connection)
        net.settle()
    first = min(view.child_id for view in net.a.children)
    # B loses the child without a word, as after an error of its own.
    spi = net.a.installed[first].up.outbound.spi
    lost = next(child_id for child_id, each in net.b.installed.items() if each.up.inbound.spi == spi)
    theirs = net.b.engine._services.owners[lost]
    theirs.remove_child(theirs.children[lost], Reason.INTERNAL, "")
    net.b.collect()
    net.a.do(net.a.engine.rekey_child, first)
    net.settle()
    assert net.a.counted("CHILD_SA_NOT_FOUND") == 1
    [left] = net.a.children
    assert left.child_id != first
    asked = [message.names[0] for message in net.log if message.exchange == "CREATE_CHILD_SA" and message.is_request]
    assert asked == ["N(REKEY_SA)"] + ["SA"] * (1 - twins)


def test_children_that_an_ike_sa_takes_over_while_it_is_deleted_end_with_it_rfc7296_1_4_1() -> None:
    """Both rekey at once, and the successor that stays is being deleted already when that is known."""
    net = Net().establish()
    for peer, nonces in ((net.a, [0x01, 0x80]), (net.b, [0x81, 0x82])):  # A's own successor loses
        peer.nonces.extend(nonces)
        peer.rekey_ike()
    for request in tuple(net.flight):
        net.deliver(request)
    answer = next(message for message in net.flight if message.sender is net.b)
    old = min(view.ike_id for view in net.a.ike_views)
    theirs = net.a.engine._services.ike_sas[old].peer_successor
    assert theirs is not None and not theirs.children
    net.a.engine.delete_ike(theirs.ike_id, net.now, Reason.TERMINATED)
    net.a.collect()
    assert theirs.state is IkeState.DELETING and net.a.children
    net.deliver(answer)
    assert net.a.engine._services.ike_sas[old].successor is theirs
    assert net.a.last(ChildDown).reason is Reason.TERMINATED
    assert not theirs.children and not net.a.children
    # Nothing is due again and again while the answer to the deletion does not come.
    net.drop_all()
    net.a.engine.handle_timer(net.now)
    due = net.a.engine.next_timer()
    assert due is not None and due > net.now
