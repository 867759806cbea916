"""The proofs of hw/formal that take seconds, and that a mistake is found; all proofs are `make formal`."""

from __future__ import annotations

import pytest

from hw.formal.proofs import Proof, load, run

MODULES = {module.name: module for module in load()}

# Its tools come with `make formal`, `make verify` and `make test-rtl`.
pytestmark = pytest.mark.verify


@pytest.mark.parametrize(
    "proof",
    [
        pytest.param(proof, id=proof.name)
        for name in ("fifo", "skid_buffer", "replay_window", "inbound_replay")
        for proof in MODULES[name].proofs
        if proof.quick
    ],
)
def test_a_property_holds(proof: Proof) -> None:
    outcome = run(proof, suffix="-test")
    assert outcome.status == "PASS", f"{outcome.failed}, see {outcome.folder / 'log'}"
    assert {name for name in outcome.properties if not name.startswith("$")} == set(MODULES[proof.module].properties)


def test_a_mistake_is_found() -> None:
    mutation = next(mutation for mutation in MODULES["fifo"].mutations if mutation.catches == "word_comes_out")
    outcome = run(mutation.proof, mutation, "-test")
    assert outcome.status == "FAIL"
    assert outcome.failed == ("word_comes_out",)
