"""Headers in front of the ciphertext."""

from __future__ import annotations

from sim.tb.simulation import simulate


def test_outbound_header() -> None:
    simulate("outbound_header", "sim.tb.outbound_header.bench_outbound_header")
