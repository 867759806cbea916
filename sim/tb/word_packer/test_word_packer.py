"""The joining of words into beats."""

from __future__ import annotations

from sim.tb.simulation import simulate


def test_word_packer() -> None:
    simulate("word_packer", "sim.tb.word_packer.bench_word_packer")
