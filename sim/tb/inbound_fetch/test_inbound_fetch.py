"""The inbound SAs and what is decided before a packet is opened."""

from __future__ import annotations

from sim.tb.simulation import simulate


def test_inbound_fetch() -> None:
    simulate("inbound_fetch", "sim.tb.inbound_fetch.bench_inbound_fetch", parameters={"NSa": 4, "PlaceWidth": 6})
