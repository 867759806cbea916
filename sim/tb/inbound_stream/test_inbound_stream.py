"""Received packets as slots of the cipher."""

from __future__ import annotations

from sim.tb.simulation import simulate


def test_inbound_stream() -> None:
    simulate(
        "inbound_stream",
        "sim.tb.inbound_stream.bench_inbound_stream",
        parameters={"SaWidth": 3, "PlaceWidth": 7, "RoomWidth": 8},
    )
