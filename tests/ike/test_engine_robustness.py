"""Whatever arrives: the engine never raises, nothing unauthenticated changes an IKE SA, and work is bounded."""

from __future__ import annotations

from functools import cache

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.ike.connection import EngineConfig
from appliance.ike.constants import ExchangeType
from appliance.ike.message import Header, encode_message, seal_message
from appliance.ike.payloads import UnknownPayload
from tests.ike.peers import Message, Net, Peer, child, connection, endpoint

QUICK = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
SOMEBODY = endpoint("198.51.100.66", 4500)
TWO = connection(children=(child("one", 1), child("two", 2)))


@cache
def recorded() -> tuple[Net, tuple[Message, ...]]:
    """An IKE SA that is up, and every message of a rich life before."""
    net = Net(TWO)
    net.a.initiate(net.a_connection)
    net.settle()
    net.a.rekey_child("one")
    net.b.rekey_child("two")
    net.settle()
    net.b.rekey_ike()
    net.settle()
    net.a.rekey_child("two")
    net.settle()
    net.run(40)
    net.assert_agreement(children=2)
    return net, tuple(net.log)


def standing(peer: Peer) -> object:
    """All of an established IKE SA that a stranger must not change."""
    sa = peer.sa()
    return (
        peer.ike,
        tuple(peer.children),
        sa.requests.next_id,
        sa.responses.expected,
        tuple(sa.responses.cache),
        sa.deadline(),
        len(sa.reassemblers),
        dict(peer.installed),
        len(peer.spis),
    )


def strike(net: Net, data: bytes) -> None:
    """Both peers get a datagram from the peer's address and from elsewhere; nothing may come of it."""
    for peer in net.peers:
        before, view = standing(peer), peer.ike
        sent = len(net.log)
        for remote in (view.remote, SOMEBODY):
            peer.receive(data, view.local, remote)
        assert standing(peer) == before
        assert len(net.log) - sent <= 2, "at most one answer to each datagram"
        answers = net.log[sent:]
        assert all(len(m.data) <= 4 * len(data) + 400 for m in answers), "no amplifier"
        net.flight.clear()
        del net.log[sent:]
        del peer.events[:]


@QUICK
@given(st.binary(max_size=400))
def test_arbitrary_bytes_change_nothing(data: bytes) -> None:
    strike(recorded()[0], data)


@QUICK
@given(st.data())
def test_messages_of_the_ike_sa_with_bits_changed_change_nothing(data: st.DataObject) -> None:
    net, log = recorded()
    message = bytearray(data.draw(st.sampled_from(log)).data)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(message) - 1))
        message[at] = data.draw(st.integers(0, 255))
    strike(net, bytes(message))


@QUICK
@given(st.data())
def test_messages_cut_short_or_extended_change_nothing(data: st.DataObject) -> None:
    net, log = recorded()
    message = data.draw(st.sampled_from(log)).data
    cut = message[: data.draw(st.integers(0, len(message)))] + data.draw(st.binary(max_size=40))
    strike(net, cut)
    if len(cut) >= 28:  # with a length that says the truth
        strike(net, cut[:24] + len(cut).to_bytes(4, "big") + cut[28:])


@QUICK
@given(st.data())
def test_headers_of_every_kind_with_the_right_spis_change_nothing(data: st.DataObject) -> None:
    net, _ = recorded()
    sa = data.draw(st.sampled_from(net.peers)).sa()
    header = Header(
        sa.spi_i,
        data.draw(st.sampled_from([sa.spi_r, bytes(8)])),
        0,
        data.draw(st.one_of(st.sampled_from(list(ExchangeType)), st.integers(0, 255))),
        data.draw(st.one_of(st.integers(0, 5), st.integers(0, 0xFFFFFFFF))),
        data.draw(st.booleans()),
        data.draw(st.booleans()),
    )
    kind = data.draw(st.sampled_from([0, 33, 41, 42, 46, 53, 200]))
    payloads = [UnknownPayload(kind, data.draw(st.binary(max_size=80)))] if kind else []
    strike(net, encode_message(header, payloads))


def test_replays_of_all_that_was_ever_sent_change_nothing() -> None:
    net, log = recorded()
    for message in log:
        if message.exchange != "IKE_SA_INIT":
            strike(net, message.data)


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_an_authentic_peer_that_sends_nonsense_raises_nothing(data: st.DataObject) -> None:
    """Its IKE SA may end for it, but the engine goes on."""
    net = Net().establish()
    sa = net.a.sa()
    assert sa.sealer_out is not None
    for _ in range(data.draw(st.integers(1, 4))):
        header = Header(
            sa.spi_i,
            sa.spi_r,
            0,
            data.draw(st.sampled_from([35, 36, 37, 38])),
            sa.requests.next_id,
            sa.initiator,
            False,
        )
        kinds = st.tuples(st.integers(33, 54), st.binary(max_size=60))
        payloads = [UnknownPayload(kind, body) for kind, body in data.draw(st.lists(kinds, max_size=4)) if kind != 46]
        sa.requests.next_id += 1
        net.b.receive(seal_message(header, payloads, sa.sealer_out), sa.remote, sa.local)
        if not net.b.ike_views:
            break
    net.flight.clear()
    net.run(300)
    net.a.initiate(net.a_connection)
    net.settle()
    assert net.a.ike.connection == "site"


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_handshake_ends_well_among_noise(data: st.DataObject) -> None:
    """Every datagram is accompanied by broken copies of itself, before and behind it."""
    net = Net()
    net.a.initiate(net.a_connection)
    while net.flight:
        message = net.flight[0]
        receiver = net.other(message.sender)
        for _ in range(data.draw(st.integers(0, 3))):
            broken = bytearray(message.data)
            at = data.draw(st.integers(18, len(broken) - 1))  # another SPI makes another IKE SA
            broken[at] ^= data.draw(st.integers(1, 255))
            sealed = message.exchange != "IKE_SA_INIT"
            if sealed:
                receiver.receive(bytes(broken), message.destination, message.source)
        net.deliver(message)
    net.assert_agreement()


def test_noise_leaves_no_memory_behind() -> None:
    net = Net(config=EngineConfig(half_open_limit=10, cookie_threshold=5)).establish()
    view = net.b.ike
    for number in range(2000):
        header = Header(number.to_bytes(8, "big"), bytes(8), 0, 35 + number % 4, number, True, bool(number % 2))
        net.b.receive(encode_message(header, []), view.local, view.remote)
    services = net.b.engine._services
    assert len(services.ike_sas) == len(services.by_spi) == 1
    assert len(net.b.engine._timers) < 50
    assert net.b.counted("UNKNOWN_IKE_SPI") >= 1000
    assert len(net.log) <= 2
