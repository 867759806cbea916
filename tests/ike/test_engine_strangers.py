"""What strangers cost: memory, work, other peers' places, lines in the log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from appliance.ike import services
from appliance.ike.connection import EngineConfig
from appliance.ike.events import Notice
from appliance.ike.exchanges import ike_sa_init
from appliance.ike.message import Header, encode_message
from appliance.ike.payloads import (
    KePayload,
    NoncePayload,
    SaPayload,
    WireProposal,
    WireTransform,
)
from appliance.sa.distinguished_name import parse_der
from appliance.sa.identity import Identity
from appliance.sa.proposal import DEFAULT_IKE_PROPOSALS, Proposal
from tests.ike.peers import (
    Net,
    connection,
    endpoint,
    mirror,
    psk,
    sa_of,
)


def test_failed_handshakes_of_one_address_keep_nobody_out() -> None:
    """One address, one handshake after the other, each with a wrong key: never more than one half-open."""
    a = connection()
    net = Net(a, mirror(a, remote_addresses=()), b_config=EngineConfig(max_ike_sas=50))
    bad = connection(**psk("gw-b.example", b"wrong"), local_addresses=(endpoint("198.51.100.7").address,))
    attacker = Net(bad)  # its peer a is the attacker's engine
    attacker.b = net.b
    for _ in range(60):
        attacker.a.initiate(bad)
        for _ in range(4):
            for m in list(attacker.flight):
                attacker.flight.remove(m)
                if m.sender is attacker.a:
                    net.b.receive(m.data, m.destination, m.source)
            for m in list(net.flight):
                net.flight.remove(m)
                attacker.a.receive(m.data, m.destination, m.source)
    assert net.b.ike_views == [] and net.b.counted("HALF_OPEN_LIMIT") == 0
    net.a.initiate(net.a_connection)
    net.settle()
    assert net.a.ike_views and net.a.ike_views[0].state == "established", net.b.engine.counters


def test_a_dead_handshake_holds_little_memory() -> None:
    a = connection(**psk("gw-b.example", b"wrong"))
    net = Net(a, mirror(connection()))
    net.a.initiate(a)
    net.settle()
    dead = sa_of(net.b, "dead")
    assert dead and not dead[0].init_request


def test_dead_handshakes_are_few_and_the_oldest_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "MAX_DEAD", 5)
    a = connection(**psk("gw-b.example", b"wrong"))
    net = Net(a, mirror(connection()))
    for _ in range(12):
        net.a.initiate(a)
        net.settle()
    dead = [sa.ike_id for sa in sa_of(net.b, "dead")]
    assert len(dead) == len(net.b.engine._services.dead) == len(net.b.engine._services.by_spi) == 5
    assert min(dead) > 12 - 5


def test_a_hopeless_offer_is_little_work_however_many_connections_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Net(connection(), mirror(connection(), remote_addresses=()))
    many = [replace(net.b_connection, name=f"c{n}", ike_proposals=DEFAULT_IKE_PROPOSALS) for n in range(1000)]
    net.b.engine.set_connections(many)
    offer = SaPayload((WireProposal(1, 1, b"", tuple(WireTransform(kind, 99) for kind in (1, 2, 4))),))
    header = Header(b"stranger", bytes(8), 0, 34, 0, True, False)
    data = encode_message(header, [offer, KePayload(19, bytes(64)), NoncePayload(bytes(32))])
    compared = []

    def choose(offer: SaPayload, proposals: Sequence[Proposal]) -> None:
        compared.append(proposals)

    monkeypatch.setattr(ike_sa_init, "choose_ike", choose)
    for _ in range(5):
        net.b.engine.receive_datagram(data, endpoint("192.0.2.2"), endpoint("198.51.100.7"), net.now)
    assert compared == [DEFAULT_IKE_PROPOSALS] * 5  # all connections have the same ones


def test_a_stranger_with_a_long_name_is_little_work() -> None:
    net = Net(connection(), mirror(connection(), remote_addresses=()))
    many = [
        replace(net.b_connection, name=f"c{n}", remote_id=Identity.parse(f"C=CH, O=Example, CN=gw{n}"))
        for n in range(1000)
    ]
    net.b.engine.set_connections(many)
    name = Identity.parse(", ".join(f"OU=x{n}" for n in range(60)))
    net.a.initiate(replace(net.a_connection, local_id=name))
    net.deliver(net.next())
    net.deliver(net.next())
    m = net.next()
    before = parse_der.cache_info()
    net.b.engine.receive_datagram(m.data, m.destination, m.source, net.now)
    after = parse_der.cache_info()
    assert after.hits - before.hits > 1000  # the connections were asked, and the stranger's name
    assert after.misses - before.misses < 1020  # was not read for each


def test_strangers_that_fail_ike_auth_fill_no_log() -> None:
    a = connection(**psk("gw-b.example", b"wrong"))
    net = Net(a, mirror(connection()))
    for _ in range(50):
        net.a.initiate(a)
        net.settle()
    assert len(net.b.of(Notice)) <= 5, len(net.b.of(Notice))


def test_a_copy_of_ike_sa_init_from_elsewhere_has_no_answer_sent_there() -> None:
    net = Net()
    net.a.initiate(net.a_connection)
    request = net.next()
    net.deliver(request)
    net.drop_all()
    net.b.receive(request.data, request.destination, endpoint("198.51.100.7"))
    assert not net.flight
    net.b.receive(request.data, request.destination, request.source)
    assert net.next().destination == request.source
