"""The bytes of a packet, counted."""

from __future__ import annotations

from sim.tb.simulation import simulate


def test_packet_meter() -> None:
    simulate("packet_meter", "sim.tb.packet_meter.bench_packet_meter")
