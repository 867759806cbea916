"""Notifications that a peer makes up cost no memory."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any, cast

from appliance.ike.exchanges.informational import COUNTED_TYPES, _counter
from appliance.ike.ike_sa import IkeSa


def test_a_peer_cannot_make_counters_without_end() -> None:
    counters: Counter[str] = Counter()
    sa = cast(IkeSa, cast(Any, SimpleNamespace(services=SimpleNamespace(counters=counters))))
    for _ in range(2):
        for type_ in range(40_000, 42_000):
            counters[_counter(sa, type_)] += 1
    assert len(counters) <= COUNTED_TYPES + 1
    assert counters["notify-40000"] == 2 and counters.total() == 4000
