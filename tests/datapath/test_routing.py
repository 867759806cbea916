"""Rules and routes of two makers stand beside each other, and each finds its own again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from ipaddress import ip_network

import pytest

from appliance.datapath.routing import Routing
from appliance.datapath.rtnetlink import NOP, UNREACHABLE, Route, Rule
from appliance.reasons import Refusal
from tests.datapath.pair import inside
from tests.lab.lab import Lab
from tests.lab.namespace import Namespace, why_not

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
ONE, OTHER = 0xE5, 0xE6


@pytest.fixture
def space() -> Iterator[Namespace]:
    with Lab() as lab:
        yield lab.namespace("gw")


def items(table: int, preference: int) -> list[Rule | Route]:
    return [
        Rule(family=2, preference=preference, target=table, source=ip_network("10.1.0.0/24")),
        Route(destination=ip_network("10.2.0.0/24"), table=table, kind=UNREACHABLE, metric=7),
    ]


@contextmanager
def made(space: Namespace, table: int, maker: int) -> Iterator[Routing]:
    with inside(space):
        routing = Routing(table, maker)
    with closing(routing):
        yield routing


def there(space: Namespace) -> set[str]:
    """The tables that have a rule and a route."""
    rules = space.run(["ip", "rule"]).stdout
    return {
        table
        for table in ("220", "222")
        if f"lookup {table}" in rules and space.run(["ip", "route", "show", "table", table], check=False).stdout
    }


def test_what_another_maker_made_is_left_alone(space: Namespace) -> None:
    with made(space, 220, ONE) as one:
        one.apply(items(220, 220))
        with made(space, 222, OTHER) as other:
            other.apply(items(222, 170))
            assert there(space) == {"220", "222"}
            one.apply(items(220, 221))
            assert there(space) == {"220", "222"}
        with made(space, 222, OTHER) as other:
            other.remove()
        assert there(space) == {"220"}
        one.remove()
        assert not there(space)


def test_after_a_refusal_the_next_change_clears_what_was_half_done(space: Namespace) -> None:
    with made(space, 220, ONE) as routing:
        routing.apply(items(220, 220))
        nowhere = Route(destination=ip_network("10.3.0.0/24"), table=220, device=4711)
        landing = Rule(family=2, preference=230, action=NOP)
        with pytest.raises(Refusal):
            routing.apply([landing, nowhere])
        assert "230:" in space.run(["ip", "rule"]).stdout
        routing.apply(items(220, 220))
        assert "230:" not in space.run(["ip", "rule"]).stdout
        assert there(space) == {"220"}


def test_what_was_taken_away_comes_back_when_it_is_looked_for(space: Namespace) -> None:
    with made(space, 220, ONE) as routing:
        routing.apply(items(220, 220))
        space.ip("route flush table 220", "rule del pref 220")
        routing.forget()
        routing.apply(items(220, 220))
        assert there(space) == {"220"}


def test_another_programs_removals_are_mended_and_counted(space: Namespace) -> None:
    with made(space, 220, ONE) as routing:
        assert routing.mend() == 0
        routing.apply(items(220, 220))
        before = space.run(["ip", "rule"]).stdout, space.run(["ip", "route", "show", "table", "220"]).stdout
        assert routing.mend() == 0
        for command, missing in ((["route flush table 220"], 1), (["rule del pref 220"], 1)):
            space.ip(*command)
            assert routing.mend() == missing
            assert (
                space.run(["ip", "rule"]).stdout,
                space.run(["ip", "route", "show", "table", "220"]).stdout,
            ) == before
        assert routing.mend() == 0
