"""The gate that packets leave by."""

from __future__ import annotations

import pytest

from sim.tb.simulation import BuildError, build, simulate

# Two beats and two packets are the least; a ring that is always full; the default.
MATRIX = {
    "least": {"Bytes": 32, "Descriptors": 2, "UserWidth": 1, "StallCycles": 2},
    "small": {"Bytes": 256, "Descriptors": 5, "UserWidth": 9, "StallCycles": 64},
    "default": {"Bytes": 32768, "Descriptors": 32, "UserWidth": 9, "StallCycles": 256},
}


@pytest.mark.parametrize("parameters", MATRIX.values(), ids=MATRIX.keys())
def test_packet_buffer(parameters: dict[str, int]) -> None:
    simulate(
        "packet_buffer",
        "sim.tb.packet_buffer.bench_packet_buffer",
        parameters=parameters,
        environment={name.upper(): str(value) for name, value in parameters.items()},
    )


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"Bytes": 48}, "power of two"),
        ({"Bytes": 16}, "32 at least"),
        ({"Descriptors": 1}, "at least 2"),
        ({"StallCycles": 3}, "power of two"),
    ],
)
def test_what_cannot_work_is_not_built(wrong: dict[str, int], word: str) -> None:
    with pytest.raises(BuildError, match=word):
        build("packet_buffer", wrong)
