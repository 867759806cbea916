"""The intake of packets."""

from __future__ import annotations

import pytest

from sim.tb.simulation import BuildError, build, simulate

# The smallest ring that a packet of 1,000 bytes fits in, one that holds a few, and the default.
MATRIX = {
    "tight": {"Bytes": 1024, "LargestPacket": 1000, "Descriptors": 2, "UserWidth": 1},
    "whole ring": {"Bytes": 2048, "LargestPacket": 2048, "Descriptors": 5, "UserWidth": 7},
    "default": {"Bytes": 32768, "LargestPacket": 9600, "Descriptors": 16, "UserWidth": 7},
}


@pytest.mark.parametrize("parameters", MATRIX.values(), ids=MATRIX.keys())
def test_packet_intake(parameters: dict[str, int]) -> None:
    simulate(
        "packet_intake",
        "sim.tb.packet_intake.bench_packet_intake",
        parameters=parameters,
        visible=["packet_intake.taken_q", "packet_intake.slots_q"],
        environment={name.upper(): str(value) for name, value in parameters.items()},
    )


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"Bytes": 3000}, "power of two"),
        ({"Bytes": 8192, "LargestPacket": 9216}, "must hold a packet"),
        ({"Bytes": 131072, "LargestPacket": 65536}, "from 20 to 65535"),
        ({"Descriptors": 1}, "at least 2"),
        ({"UserWidth": 0}, "at least 1"),
    ],
)
def test_what_cannot_work_is_not_built(wrong: dict[str, int], word: str) -> None:
    with pytest.raises(BuildError, match=word):
        build("packet_intake", wrong)
