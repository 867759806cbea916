"""Text on its way from the cipher to the buffer."""

from __future__ import annotations

from sim.tb.simulation import simulate


def test_inbound_text() -> None:
    simulate("inbound_text", "sim.tb.inbound_text.bench_inbound_text", parameters={"Packets": 4})
