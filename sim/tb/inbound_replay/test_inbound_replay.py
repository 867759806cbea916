"""The replay windows with their two users."""

from __future__ import annotations

from sim.tb.simulation import simulate


def test_inbound_replay() -> None:
    simulate("inbound_replay", "sim.tb.inbound_replay.bench_inbound_replay", parameters={"NSa": 4, "Window": 64})
