"""Which connections an IKE_SA_INIT may be for: they follow the configuration, and nobody fills the memory with them."""

from __future__ import annotations

import random
from datetime import UTC, datetime

from appliance.ike.connection import ConnectionConfig, EngineConfig
from appliance.ike.services import MAX_ADDRESS_PAIRS, Services
from tests.ike.peers import connection, endpoint

LOCAL, REMOTE = endpoint("192.0.2.1"), endpoint("192.0.2.2")


def services(*connections: ConnectionConfig) -> Services:
    made = Services(EngineConfig(), random.randbytes, lambda: 0, lambda spi: None, lambda now: datetime.now(UTC))
    made.set_connections(connections)
    return made


def test_candidates_are_those_of_the_addresses_named_ones_first() -> None:
    anybody = connection(name="anybody", local_addresses=(), remote_addresses=())
    named = connection(name="named", local_addresses=(LOCAL.address,), remote_addresses=(REMOTE.address,))
    made = services(anybody, named)
    for _ in range(2):
        assert made.candidates(LOCAL, REMOTE) == (named, anybody)
        assert made.candidates(LOCAL, endpoint("192.0.2.3")) == (anybody,)


def test_candidates_follow_the_configuration() -> None:
    before = connection(name="before", local_addresses=(), remote_addresses=())
    after = connection(name="after", local_addresses=(), remote_addresses=())
    made = services(before)
    assert made.candidates(LOCAL, REMOTE) == (before,)
    made.set_connections([after])
    assert made.candidates(LOCAL, REMOTE) == (after,)
    assert made.connection_by_name == {"after": after}


def test_addresses_that_anybody_makes_up_are_not_remembered_for_ever() -> None:
    made = services(connection(name="anybody", local_addresses=(), remote_addresses=()))
    for number in range(3 * MAX_ADDRESS_PAIRS):
        assert len(made.candidates(LOCAL, endpoint(f"10.{number >> 8}.{number & 255}.1"))) == 1
    assert len(made._candidates) <= MAX_ADDRESS_PAIRS
