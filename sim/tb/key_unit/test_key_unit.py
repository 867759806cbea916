"""What is made of an AES key, for four powers of H, two and one, and with each way to build the S-boxes."""

from __future__ import annotations

import pytest

from sim.tb.simulation import simulate


@pytest.mark.parametrize(("interval", "sbox"), [(1, 0), (2, 1), (7, 1)])
def test_key_unit(interval: int, sbox: int) -> None:
    simulate(
        "key_unit",
        "sim.tb.key_unit.bench_key_unit",
        parameters={"Interval": interval, "SboxImpl": f"1'd{sbox}"},
        visible=[f"key_unit.{name}_q" for name in ("words", "block", "columns", "to_substitute", "substituted")],
        environment={"INTERVAL": str(interval)},
    )
