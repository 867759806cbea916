"""The parser of IP headers."""

from __future__ import annotations

from sim.tb.simulation import simulate


def test_ip_parser() -> None:
    simulate("ip_parser", "sim.tb.ip_parser.bench_ip_parser")
