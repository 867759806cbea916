"""What is said of an opened packet."""

from __future__ import annotations

from sim.tb.simulation import simulate


def test_inbound_inspect() -> None:
    parameters = {"NSelectors": 32, "MaxPerSa": 4}
    simulate("inbound_inspect", "sim.tb.inbound_inspect.bench_inbound_inspect", parameters=parameters)
