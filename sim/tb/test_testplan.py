"""The test plan names what is there, and hw/README.md has it as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from sim.testplan import README, PlanError, Testpoint, load, results, unknown, with_plan, without


def test_every_bench_and_proof_of_the_plan_is_there() -> None:
    assert unknown(load()) == []


def test_the_readme_has_the_plan() -> None:
    text = README.read_text()
    assert with_plan(text, load()) == text, "python -m sim.testplan"


def test_a_testpoint_is_shown_only_by_what_passed(tmp_path: Path) -> None:
    case = '<testcase classname="sim.tb.fifo.bench_fifo" name="{}">{}</testcase>'
    (tmp_path / "results.xml").write_text(
        "<testsuites><testsuite>"
        + case.format("good", "")
        + case.format("bad", "<failure/>")
        + "</testsuite></testsuites>"
    )
    passed = results(tmp_path)
    assert passed == {"fifo.good": True, "fifo.bad": False}
    points = [
        Testpoint("shown", "", "", ("fifo.good", "fifo.not_run")),
        Testpoint("failed", "", "", ("fifo.good", "fifo.bad")),
        Testpoint("not run", "", "", ("fifo.not_run",)),
        Testpoint("proved", "", "", (), ("fifo.count_is_right",)),
    ]
    proved = {"fifo.count_is_right": True}
    assert without(points, passed, proved) == ["failed: failed: fifo.bad", "not run: nothing that shows it has run"]


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
