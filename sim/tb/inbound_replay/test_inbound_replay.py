"""The replay windows with their two users."""

from __future__ import annotations

import pytest

from sim.tb.simulation import simulate

# The one for `make test`, the smallest that there can be, what engine-7 and engine-1 of hw/synth have, and the widest.
FAST = "few"
MATRIX = {
    "few": {"NSa": 4, "Window": 64},
    "smallest": {"NSa": 1, "Window": 64},
    "engine-7": {"NSa": 256, "Window": 1024},
    "engine-1": {"NSa": 1024, "Window": 1024},
    "widest": {"NSa": 1024, "Window": 4096},
}


@pytest.mark.parametrize(
    "parameters",
    [pytest.param(one, id=name, marks=() if name == FAST else pytest.mark.verify) for name, one in MATRIX.items()],
)
def test_inbound_replay(parameters: dict[str, int]) -> None:
    simulate(
        "inbound_replay",
        "sim.tb.inbound_replay.bench_inbound_replay",
        parameters=parameters,
        environment={name.upper(): str(value) for name, value in parameters.items()},
    )
