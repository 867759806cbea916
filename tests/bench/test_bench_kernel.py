"""The summary and the table of `make bench-kernel`."""

from __future__ import annotations

from tests.bench.bench_kernel import summary, table


def test_medians_are_compared() -> None:
    rounds = [
        {"ours": {"SAs installed": ours}, "iproute2": {"SAs installed": theirs}}
        for ours, theirs in ((1.0, 9.0), (2.0, 3.0), (6.0, 1.0))
    ]
    steps = summary(rounds)
    assert steps["SAs installed"] == {
        "ours": {"least": 1.0, "median": 2.0, "most": 6.0},
        "iproute2": {"least": 1.0, "median": 3.0, "most": 9.0},
        "times_as_fast": 1.5,
    }
    found = {
        "kernel": "6.12", "python": "3.13", "iproute2": "6.15", "cpus": 2, "accelerator": "tcg", "count": 10,
        "rounds_s": rounds,
    }  # fmt: skip
    assert "tcg" in table(found, steps) and "1.50 times as fast" in table(found, steps)
