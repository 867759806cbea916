"""Which SA a packet is for, with commands in between."""

from __future__ import annotations

import pytest

from sim.tb.simulation import simulate

# The one for `make test`, the smallest that there can be, and what engine-7 and engine-1 of hw/synth have.
FAST = "few"
MATRIX = {
    "few": {"NSa": 8, "PlaceWidth": 6},
    "smallest": {"NSa": 2, "PlaceWidth": 1},
    "engine-7": {"NSa": 256, "PlaceWidth": 10},
    "engine-1": {"NSa": 1024, "PlaceWidth": 11},
}


@pytest.mark.parametrize(
    "parameters",
    [pytest.param(one, id=name, marks=() if name == FAST else pytest.mark.verify) for name, one in MATRIX.items()],
)
def test_inbound_lookup(parameters: dict[str, int]) -> None:
    simulate(
        "inbound_lookup",
        "sim.tb.inbound_lookup.bench_inbound_lookup",
        parameters=parameters,
        environment={name.upper(): str(value) for name, value in parameters.items()},
    )
