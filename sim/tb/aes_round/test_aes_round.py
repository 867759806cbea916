"""AES's round, with each way to build its S-box."""

from __future__ import annotations

import pytest

from sim.tb.simulation import simulate


@pytest.mark.parametrize("sbox", [0, 1], ids=["table", "tower"])
def test_aes_round(sbox: int) -> None:
    simulate("aes_round", "sim.tb.aes_round.bench_aes_round", parameters={"SboxImpl": f"1'd{sbox}"})
