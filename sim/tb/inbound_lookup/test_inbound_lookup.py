"""Which SA a packet is for, with commands in between."""

from __future__ import annotations

from sim.tb.simulation import simulate


def test_inbound_lookup() -> None:
    simulate("inbound_lookup", "sim.tb.inbound_lookup.bench_inbound_lookup", parameters={"NSa": 8, "PlaceWidth": 6})
