"""Text on its way from the cipher to the buffer."""

from __future__ import annotations

import pytest

from sim.tb.simulation import simulate

# The one for `make test`, the smallest that there can be, and what inbound_engine has.
FAST = "few"
MATRIX = {
    "few": {"Packets": 4},
    "smallest": {"Packets": 2},
    "inbound_engine": {"Packets": 8},
}


@pytest.mark.parametrize(
    "parameters",
    [pytest.param(one, id=name, marks=() if name == FAST else pytest.mark.verify) for name, one in MATRIX.items()],
)
def test_inbound_text(parameters: dict[str, int]) -> None:
    simulate(
        "inbound_text",
        "sim.tb.inbound_text.bench_inbound_text",
        parameters=parameters,
        environment={name.upper(): str(value) for name, value in parameters.items()},
    )
