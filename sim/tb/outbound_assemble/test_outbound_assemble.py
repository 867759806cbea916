"""ESP packets put together."""

from __future__ import annotations

import pytest

from sim.tb.simulation import simulate

# The module's own defaults, for `make test`; what outbound_engine has in engine-1 and engine-7 of hw/synth; and the
# smallest. Each with the fewest cycles between two blocks: the slower they come, the fewer wait for their turn.
FAST = "default"
MATRIX = {
    "default": (1, {"TextDepth": 64, "TextMargin": 32, "Packets": 16, "BeatsWidth": 12}),
    "engine-1": (1, {"TextDepth": 64, "TextMargin": 32, "Packets": 8, "BeatsWidth": 12}),
    "engine-7": (7, {"TextDepth": 16, "TextMargin": 8, "Packets": 8, "BeatsWidth": 11}),
    "smallest": (14, {"TextDepth": 4, "TextMargin": 1, "Packets": 2, "BeatsWidth": 7}),
}


@pytest.mark.parametrize(
    ("fastest", "parameters"),
    [pytest.param(*one, id=name, marks=() if name == FAST else pytest.mark.verify) for name, one in MATRIX.items()],
)
def test_outbound_assemble(fastest: int, parameters: dict[str, int]) -> None:
    simulate(
        "outbound_assemble",
        "sim.tb.outbound_assemble.bench_outbound_assemble",
        parameters=parameters,
        visible=["outbound_assemble.text_count"],
        environment={"FASTEST": str(fastest), **{name.upper(): str(value) for name, value in parameters.items()}},
    )
