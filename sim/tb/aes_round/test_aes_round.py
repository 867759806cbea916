"""AES's round, with each way to build its S-box, in one cycle and in two."""

from __future__ import annotations

import pytest

from sim.tb.simulation import simulate


@pytest.mark.parametrize(("sbox", "cycles"), [(0, 1), (1, 2)], ids=["table-1", "tower-2"])
def test_aes_round(sbox: int, cycles: int) -> None:
    simulate(
        "aes_round",
        "sim.tb.aes_round.bench_aes_round",
        parameters={"SboxImpl": f"1'd{sbox}", "Cycles": cycles},
        environment={"CYCLES": str(cycles)},
    )
