"""Packets read out of the frame buffer, as slots for the cipher."""

from __future__ import annotations

from sim.tb.simulation import simulate


def test_outbound_stream() -> None:
    simulate("outbound_stream", "sim.tb.outbound_stream.bench_outbound_stream", parameters={"PlaceWidth": 11})
