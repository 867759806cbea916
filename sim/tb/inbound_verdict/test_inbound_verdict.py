"""The last word on every packet."""

from __future__ import annotations

from sim.tb.simulation import simulate


def test_inbound_verdict() -> None:
    parameters = {"NSa": 4, "Items": 4, "RoomWidth": 9}
    simulate("inbound_verdict", "sim.tb.inbound_verdict.bench_inbound_verdict", parameters=parameters)
