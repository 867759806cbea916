"""Authentication that fails, errors that are told, and what both sides say about it, RFC 7296 §2.21, §2.15."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from appliance.ike.connection import ConnectionConfig
from appliance.ike.events import ChildUp, IkeDown, Notice
from appliance.reasons import Reason
from appliance.sa.identity import Identity
from tests.ike.peers import SECRET, Net, certificates, connection, mirror, pki, psk
from tests.pki import NOW, authority, end_entity


def refused(a: ConnectionConfig, b: ConnectionConfig) -> Net:
    """A handshake that comes to nothing, with nothing left of it."""
    net = Net(a, b)
    net.a.initiate(a)
    net.settle()
    net.assert_gone()
    assert not net.a.of(ChildUp)
    for peer in net.peers:
        said = [peer.engine.counters, *peer.events]
        assert SECRET.decode() not in repr(said)
        assert "somebody else's secret" not in repr(said)
    return net


def wrong_secret(of: ConnectionConfig) -> ConnectionConfig:
    other = psk(str(of.remote_id), b"somebody else's secret")
    return replace(of, **other)  # type: ignore[arg-type]


def by_certificate(**of_peer: object) -> tuple[ConnectionConfig, ConnectionConfig]:
    """A with a certificate that may be wrong, and B that should refuse it."""
    root, good, theirs = pki()
    mine = end_entity(root, subject="gw-a", dns=["gw-a.example"], label="a", **of_peer) if of_peer else good  # type: ignore[arg-type]
    a = connection(**certificates(mine, "gw-b.example", root))
    return a, mirror(a, **certificates(theirs, "gw-a.example", root))


def test_a_responder_tells_only_that_authentication_failed_rfc7296_2_21_2() -> None:
    a = connection()
    net = refused(wrong_secret(a), mirror(a))
    assert net.log[-1].names == ("N(AUTHENTICATION_FAILED)",)
    assert net.b.last(Notice).reason is Reason.AUTH_PSK_MISMATCH
    assert "gw-a.example" in str(net.b.last(Notice)) or "192.0.2.1" in str(net.b.last(Notice))
    down = net.a.last(IkeDown)
    assert (down.reason, down.was_up, down.retry) == (Reason.PEER_REFUSED_AUTHENTICATION, False, True)
    assert net.b.counted("AUTH_PSK_MISMATCH") == net.a.counted("PEER_REFUSED_AUTHENTICATION") == 1


def test_an_initiator_that_refuses_says_so_in_an_exchange_of_its_own_rfc7296_2_21_2() -> None:
    root, mine, _ = pki()
    impostor = end_entity(authority("Evil"), subject="gw-b", dns=["gw-b.example"], label="evil b")
    a = connection(**certificates(mine, "gw-b.example", root))
    b = mirror(a, **certificates(impostor, "gw-a.example", root))
    net = refused(a, b)
    told = net.sent("INFORMATIONAL", "?", sender=net.a)
    assert [m.names for m in told] == [("N(AUTHENTICATION_FAILED)",)]
    assert net.a.last(IkeDown).reason is Reason.CERT_UNKNOWN_ISSUER
    assert net.b.last(IkeDown).reason is Reason.PEER_REFUSED_AUTHENTICATION
    assert net.a.counted("CERT_UNKNOWN_ISSUER") == 1


def test_an_unexpected_identity_is_told_with_what_was_expected_rfc7296_2_15() -> None:
    a = connection(local_id=Identity.parse("intruder.example"))
    net = refused(a, mirror(connection()))
    text = net.b.last(Notice).text
    assert net.b.last(Notice).reason is Reason.NO_CONNECTION
    assert "intruder.example" in text and "gw-a.example" in text
    assert net.b.counted("NO_CONNECTION") == 1


def test_an_initiator_does_not_take_another_responder_rfc7296_2_15() -> None:
    a = connection()
    b = mirror(a, local_id=Identity.parse("gw-c.example"))
    net = refused(a, b)
    assert net.b.last(Notice).reason is Reason.NO_CONNECTION, "IDr named another one"
    pattern = connection(remote_id=Identity.parse("*.example"), remote_policy=psk("gw-b.example")["remote_policy"])
    net = refused(pattern, b)
    assert net.a.last(IkeDown).reason is Reason.AUTH_IDENTITY_MISMATCH
    assert net.a.counted("AUTH_IDENTITY_MISMATCH") == 1


@pytest.mark.parametrize(
    ("of_peer", "reason"),
    [
        ({"not_after": NOW - timedelta(days=1)}, Reason.CERT_EXPIRED),
        ({"not_before": NOW + timedelta(days=1)}, Reason.CERT_NOT_YET_VALID),
        ({"issuer": authority("Stranger")}, Reason.CERT_UNKNOWN_ISSUER),
        ({"dns": ["gw-x.example"]}, Reason.CERT_IDENTITY_MISSING),
    ],
    ids=["expired", "not-yet-valid", "unknown-issuer", "other-name"],
)
def test_a_wrong_certificate_is_told_with_its_cause_rfc7296_2_21_2(of_peer: dict[str, object], reason: Reason) -> None:
    root, _, theirs = pki()
    issuer = of_peer.pop("issuer", root)
    options: dict[str, object] = {"dns": ["gw-a.example"], **of_peer}
    mine = end_entity(issuer, subject="gw-a", label="a", **options)  # type: ignore[arg-type]
    a = connection(**certificates(mine, "gw-b.example", root))
    net = refused(a, mirror(a, **certificates(theirs, "gw-a.example", root)))
    assert net.b.last(Notice).reason is reason
    assert net.b.counted(reason.name) == 1
    assert net.a.last(IkeDown).reason is Reason.PEER_REFUSED_AUTHENTICATION
    if issuer is not root:
        of_peer["issuer"] = issuer


def test_a_psk_where_a_certificate_is_wanted_is_refused_rfc7296_2_15() -> None:
    root, _, theirs = pki()
    net = refused(connection(), mirror(connection(), **certificates(theirs, "gw-a.example", root)))
    assert net.b.last(Notice).reason is Reason.AUTH_METHOD_MISMATCH


def test_what_certificates_can_do_wrong_harms_no_other_ike_sa() -> None:
    good, other = by_certificate()
    net = Net(good, other).establish()
    stranger = connection(local_id=Identity.parse("intruder.example"))
    net.a.initiate(stranger)
    net.settle()
    net.assert_agreement()


def test_a_refused_handshake_can_be_repeated_and_leaves_no_state() -> None:
    a = connection()
    net = Net(wrong_secret(a), mirror(a))
    for _ in range(50):
        net.a.initiate(net.a_connection)
        net.settle()
    net.advance(120)
    for peer in net.peers:
        services = peer.engine._services
        assert services.ike_sas == services.by_spi == {}
        assert len(peer.spis) == 0


def test_the_refusal_is_repeated_if_it_was_lost_rfc7296_2_1() -> None:
    a = connection()
    net = Net(wrong_secret(a), mirror(a))
    net.a.initiate(net.a_connection)
    for _ in range(3):
        net.deliver(net.next())
    net.drop_all()
    net.run(10)
    assert net.a.last(IkeDown).reason is Reason.PEER_REFUSED_AUTHENTICATION


def test_no_event_and_no_object_shows_a_secret() -> None:
    net = Net()
    net.a.initiate(net.a_connection)
    net.settle()
    net.a.rekey_child()
    net.settle()
    shown = repr([net.a.events, net.a.ike_views, net.a.children, net.a.engine.counters, net.a_connection])
    secrets = [SECRET.decode(), SECRET.hex()]
    for sa in net.a.engine._services.ike_sas.values():
        assert sa.keys is not None
        for key in (sa.keys.sk_d, sa.keys.sk_ei, sa.keys.sk_er, sa.keys.sk_pi, sa.keys.sk_pr):
            secrets += [bytes(key).hex(), repr(bytes(key))[2:-1]]
        shown += repr([sa.keys, sa.sealer_in, sa.sealer_out, sa.suite])
    for pair in net.a.installed.values():
        for key in (*pair.inbound_keys, *pair.outbound_keys):
            if key:
                secrets += [key.hex(), repr(key)[2:-1]]
    assert len(secrets) > 10
    for secret in secrets:
        assert secret not in shown


def test_keys_are_wiped_when_an_ike_sa_ends() -> None:
    net = Net().establish()
    sa = net.a.sa()
    keys = sa.keys
    assert keys is not None
    buffers = [keys.sk_d, keys.sk_ei, keys.sk_er, keys.sk_pi, keys.sk_pr]
    assert all(any(buffer) for buffer in buffers)
    net.a.delete_ike(Reason.TERMINATED)
    net.settle()
    assert not any(any(buffer) for buffer in buffers)
    assert sa.sealer_in is None and sa.sealer_out is None
