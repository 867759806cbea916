"""The inbound SAs and what is decided before a packet is opened."""

from __future__ import annotations

import pytest

from sim.tb.simulation import simulate

# The one for `make test`, the smallest that there can be, and what engine-7 and engine-1 of hw/synth have.
FAST = "few"
MATRIX = {
    "few": {"NSa": 4, "PlaceWidth": 6},
    "smallest": {"NSa": 2, "PlaceWidth": 1},
    "engine-7": {"NSa": 256, "PlaceWidth": 10},
    "engine-1": {"NSa": 1024, "PlaceWidth": 11},
}


@pytest.mark.parametrize(
    "parameters",
    [pytest.param(one, id=name, marks=() if name == FAST else pytest.mark.verify) for name, one in MATRIX.items()],
)
def test_inbound_fetch(parameters: dict[str, int]) -> None:
    simulate(
        "inbound_fetch",
        "sim.tb.inbound_fetch.bench_inbound_fetch",
        parameters=parameters,
        environment={name.upper(): str(value) for name, value in parameters.items()},
    )
