"""Floods of IKE_SA_INIT (RFC 7296 §2.6): who floods shuts out nobody else, and the log says so in few lines."""

from __future__ import annotations

from dataclasses import replace

from appliance.ike.connection import EngineConfig, Unique
from appliance.ike.constants import NotifyType
from appliance.ike.events import Datagram, Notice
from appliance.ike.flood import QUIET
from appliance.ike.message import HEADER_LENGTH, encode_message, parse_header
from appliance.ike.payloads import NotifyPayload, notify, parse_payloads
from appliance.reasons import Reason
from tests.ike.peers import Message, Nat, Net, connection, endpoint, mirror

LIMITS = EngineConfig(cookie_threshold=4, half_open_limit=20, half_open_per_address=5)
ANYBODY = mirror(connection(), remote_addresses=())
ATTACKER = "198.51.100.7"


class Attacker:
    """Sends IKE_SA_INIT requests like one of A's, each of an IKE SA of its own, and reads the answers."""

    def __init__(self, net: Net) -> None:
        self.net = net
        net.a.initiate(net.a_connection)
        self.model: Message = net.next()
        net.drop_all()
        net.a.engine.delete_ike(1, net.now, Reason.TERMINATED)
        net.a.collect()
        net.forget()
        self.number = 0

    def send(self, source: str, *, cookie: bytes = b"", again: bool = False) -> list[NotifyPayload | None]:
        """One request from an address; the COOKIE of each answer to it, None for an answer without."""
        self.number += not again
        assert self.model.header is not None and self.model.payloads is not None
        spi = self.number.to_bytes(8, "big")
        with_cookie = [NotifyPayload(NotifyType.COOKIE, cookie)] if cookie else []
        data = encode_message(replace(self.model.header, initiator_spi=spi), [*with_cookie, *self.model.payloads])
        engine, found = self.net.b.engine, []
        engine.receive_datagram(data, self.model.destination, endpoint(source), self.net.now)
        while (output := engine.next_output()) is not None:
            if isinstance(output, Datagram):
                header = parse_header(output.data)
                found.append(
                    notify(parse_payloads(header.next_payload, output.data[HEADER_LENGTH:]), NotifyType.COOKIE)
                )
            else:
                self.net.b.events.append(output)
        return found

    def with_cookie(self, source: str) -> bool:
        """One request, repeated with the cookie if one is asked for; whether it made an IKE SA in the end."""
        answers = self.send(source)
        if answers and answers[0] is not None:
            answers = self.send(source, cookie=answers[0].data, again=True)
        return answers == [None]


def flooded(config: EngineConfig = LIMITS) -> tuple[Net, Attacker]:
    net = Net(connection(), ANYBODY, b_config=config)
    return net, Attacker(net)


def told(net: Net) -> list[Notice]:
    return net.b.of(Notice)


# One source


def test_one_address_with_good_cookies_keeps_no_other_out_rfc7296_2_6() -> None:
    net, attacker = flooded()
    made = [attacker.with_cookie(ATTACKER) for _ in range(40)]
    # Four before cookies, when anybody could have sent them, and five that are its own.
    assert made == [True] * 9 + [False] * 31
    assert net.b.counted("HALF_OPEN_PER_ADDRESS") == 31
    assert net.b.counted("HALF_OPEN_LIMIT") == 0
    net.a.initiate(net.a_connection)
    net.settle()
    assert net.a.ike and net.b.ike


def test_an_ipv6_source_is_a_64_rfc4291_2_5_1() -> None:
    _, attacker = flooded()
    made = [attacker.with_cookie(f"2001:db8:1:2::{n:x}") for n in range(1, 30)]
    assert made == [True] * 9 + [False] * 20
    assert attacker.with_cookie("2001:db8:1:3::1")
    assert not attacker.with_cookie("2001:db8:1:2:ffff::1")


def test_requests_in_a_peers_name_do_not_lock_it_out_rfc7296_2_6() -> None:
    """Without a cookie anybody can send them: they make the peer prove its address, and no more."""
    net, attacker = flooded(replace(LIMITS, cookie_threshold=100))
    source = str(net.a_connection.local_addresses[0])
    answers = [attacker.send(source) for _ in range(40)]
    assert [answer == [None] for answer in answers] == [True] * 5 + [False] * 35
    assert net.b.counted("HALF_OPEN_PER_ADDRESS") == 0
    net.a.initiate(net.a_connection)
    net.settle()
    assert net.a.ike and net.b.ike
    assert net.sent("N(COOKIE)", sender=net.a)


def test_a_limit_of_one_source_holds_where_cookies_are_never_due_for_all() -> None:
    _, attacker = flooded(replace(LIMITS, cookie_threshold=1_000_000))
    made = [attacker.with_cookie(ATTACKER) for _ in range(40)]
    assert made.count(True) == 10
    assert attacker.with_cookie("198.51.100.8")


def test_many_peers_behind_one_nat_all_get_in() -> None:
    """Who goes on with IKE_AUTH is half open for a moment only."""
    config = replace(LIMITS, cookie_threshold=2, half_open_per_address=2)
    nat = Nat("192.0.2.1", ATTACKER)
    a = connection(unique=Unique.NEVER)
    net = Net(a, mirror(a, remote_addresses=()), b_config=config, nat=nat)
    for _ in range(12):
        net.a.initiate(a)
    # All at once: the first go into the table, and the others ask again when their time comes.
    for _ in range(3):
        for message in [m for m in net.flight if m.exchange == "IKE_SA_INIT"]:
            net.deliver(message)
    assert net.b.counted("HALF_OPEN_PER_ADDRESS") > 0
    net.run(60)
    assert len([v for v in net.b.ike_views if v.state == "established"]) == 12
    assert len(net.b.engine._init.half_open) == net.b.engine._init.half_open.sources == 0


def test_half_open_ike_sas_of_one_source_end_with_their_time() -> None:
    net, attacker = flooded()
    assert not all(attacker.with_cookie(ATTACKER) for _ in range(40))
    net.advance(LIMITS.half_open_timeout + 1)
    assert net.b.engine._init.half_open.sources == 0
    assert attacker.with_cookie(ATTACKER)


def test_who_was_answered_is_answered_again_at_the_limit_rfc7296_2_1() -> None:
    _, attacker = flooded()
    assert attacker.send(ATTACKER) == [None]
    for _ in range(20):
        attacker.with_cookie(ATTACKER)
    attacker.number = 1
    assert attacker.send(ATTACKER, again=True) == [None]


def test_the_number_of_all_ike_sas_has_its_own_reason() -> None:
    net, attacker = flooded(EngineConfig(max_ike_sas=3))
    assert [attacker.with_cookie(f"198.51.100.{n}") for n in range(5)] == [True] * 3 + [False] * 2
    assert net.b.counted("IKE_SA_LIMIT") == 2
    assert not told(net)


# The log


def test_a_flood_is_told_once_when_it_starts_and_once_when_it_is_over() -> None:
    net, attacker = flooded(EngineConfig(cookie_threshold=32))
    for n in range(500):
        attacker.send(f"203.0.113.{n % 250}")
        net.advance(0.01)
    [began] = told(net)
    assert began.level == "warning"
    for words in ("32 half-open IKE SAs", "flood of IKE_SA_INIT", "cookie", "ike.cookie_threshold = 32"):
        assert words in began.text
    net.advance(QUIET - 1)
    assert told(net) == [began]
    # Nothing comes any more: its own timer tells.
    net.advance(2)
    [_, over] = told(net)
    assert "over after 5 s" in over.text
    assert f"{net.b.counted('cookies-asked')} cookies" in over.text
    net.advance(1000)
    assert len(told(net)) == 2
    assert net.b.engine.next_timer() is None


def test_waves_of_a_flood_are_one_flood() -> None:
    net, attacker = flooded()
    for _ in range(30):
        for n in range(50):
            attacker.send(f"203.0.113.{n}")
        net.advance(QUIET / 2)
    assert len(told(net)) == 1
    net.advance(2 * QUIET)
    assert len(told(net)) == 2
    # The next one is told again, with counts of its own.
    for n in range(50):
        attacker.send(f"203.0.113.{n}")
    net.advance(2 * QUIET)
    assert len(told(net)) == 4
    assert "46 cookies" in told(net)[-1].text


def test_each_limit_that_a_flood_meets_is_told_once_with_its_key() -> None:
    net, attacker = flooded()
    for _ in range(40):
        attacker.with_cookie(ATTACKER)
    began, one = told(net)
    assert "ike.cookie_threshold = 4" in began.text and began.reason is None
    assert one.reason is Reason.HALF_OPEN_PER_ADDRESS
    for words in (f"5 half-open IKE SAs of {ATTACKER}", "ike.half_open_per_address = 5", "others still get in"):
        assert words in one.text
    for n in range(100):
        attacker.with_cookie(f"203.0.113.{n}")
    full = told(net)[-1]
    assert full.reason is Reason.HALF_OPEN_LIMIT
    # The attacker and the eleven that came first.
    assert "20 half-open IKE SAs of 12 sources" in full.text
    assert "ike.half_open_limit = 20" in full.text
    assert len(told(net)) == 3
    net.advance(2 * QUIET)
    over = told(net)[-1].text
    for reason in (Reason.HALF_OPEN_PER_ADDRESS, Reason.HALF_OPEN_LIMIT):
        assert f"{net.b.counted(reason.name)} requests refused as {reason.name}" in over
    assert len(told(net)) == 4


def test_a_flood_is_not_over_while_the_next_initiator_would_be_asked_for_a_cookie() -> None:
    net, attacker = flooded(replace(LIMITS, half_open_timeout=5 * QUIET))
    for n in range(10):
        attacker.send(f"203.0.113.{n}")
    net.advance(4 * QUIET)
    assert len(told(net)) == 1
    net.advance(3 * QUIET)
    assert len(told(net)) == 2


def test_cookies_that_are_asked_of_everybody_are_no_flood() -> None:
    net, attacker = flooded(EngineConfig(cookie_threshold=0))
    assert all(attacker.with_cookie(ATTACKER) for _ in range(20))
    assert not told(net)
