"""ESP packets put together."""

from __future__ import annotations

from sim.tb.simulation import simulate


def test_outbound_assemble() -> None:
    simulate("outbound_assemble", "sim.tb.outbound_assemble.bench_outbound_assemble")
