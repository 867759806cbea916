"""The test plan names what is there, and hw/README.md has it as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hw.formal.__main__ import records
from hw.formal.proofs import Module, Outcome, Proof
from sim.testplan import README, PlanError, Testpoint, forget, load, proved, results, unknown, with_plan, without


def test_every_bench_and_proof_of_the_plan_is_there() -> None:
    assert unknown(load()) == []


def test_the_readme_has_the_plan() -> None:
    text = README.read_text()
    assert with_plan(text, load()) == text, "python -m sim.testplan"


def test_a_testpoint_is_shown_when_all_of_it_has_passed(tmp_path: Path) -> None:
    case = '<testcase classname="sim.tb.fifo.bench_fifo" name="{}">{}</testcase>'
    (tmp_path / "results.xml").write_text(
        "<testsuites><testsuite>"
        + case.format("good", "")
        + case.format("bad", "<failure/>")
        + "</testsuite></testsuites>"
    )
    passed = results(tmp_path)
    assert passed == {"fifo.good": True, "fifo.bad": False}
    forget(tmp_path)
    assert results(tmp_path) == {}
    points = [
        Testpoint("shown", "", "", ("fifo.good",)),
        Testpoint("failed", "", "", ("fifo.good", "fifo.bad")),
        Testpoint("part", "", "", ("fifo.good", "fifo.not_run")),
        Testpoint("proved", "", "", ("fifo.good",), ("fifo.count_is_right",)),
        Testpoint("netlist", "", "", netlists=("fifo.good",)),
    ]
    held = {"fifo.count_is_right": True}
    wrong = ["failed: failed: fifo.bad", "part: did not run: fifo.not_run"]
    assert without(points, passed, held, {"fifo.good": True}) == wrong
    # What did not run is told, and not taken from another kind of run; but where it was not asked for.
    missing = ["proved: did not run: proof fifo.count_is_right", "netlist: did not run: netlist fifo.good"]
    assert without(points, passed, {}, {}) == [*wrong, *missing]
    assert without(points, passed, None, None) == wrong
    assert without(points[-1:], passed, None, {"fifo.good": False}) == ["netlist: failed: netlist fifo.good"]


def test_a_property_holds_if_each_of_its_proofs_does(tmp_path: Path) -> None:
    path = tmp_path / "formal.json"
    assert proved(path) == {}
    module = Module("fifo", {"count": "", "word": ""}, frozenset(), (), ())
    runs = [("PASS", ()), ("FAIL", ("word",))]
    outcomes = [Outcome(Proof("fifo", "bounded", 4), status, 1.0, failed, tmp_path, ()) for status, failed in runs]
    written = [one for outcome in outcomes for one in records(module, outcome)]
    path.write_text(json.dumps({"properties": written[:2]}))
    assert proved(path) == {"fifo.count": True, "fifo.word": True}
    path.write_text(json.dumps({"properties": written}))
    assert proved(path) == {"fifo.count": False, "fifo.word": False}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[testpoint]]\nname = "a"\nrequirement = ""\nsource = ""\n', "neither benches nor proofs"),
        ('[[testpoint]]\nname = "a"\nsource = ""\nbenches = ["b.c"]\n', "requirement"),
        (2 * '[[testpoint]]\nname = "a"\nrequirement = ""\nsource = ""\nbenches = ["b.c"]\n', "twice"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(tmp_path: Path, text: str, said: str) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text(text)
    with pytest.raises(PlanError, match=said):
        load(plan)
