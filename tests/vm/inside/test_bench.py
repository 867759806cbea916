"""What `make bench-kernel` compares: both sides install the same, and steps that do nothing are found out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.datapath.kernel.xfrm import XfrmSocket, requests
from tests.bench.xfrm_kernel import WAYS, Iproute2, Ours, Side, StepError, Table, Values, measure, turn
from tests.datapath.pair import inside
from tests.lab.lab import Lab

pytestmark = pytest.mark.essential
COUNT = 20


@pytest.fixture(autouse=True)
def namespace() -> Iterator[None]:
    with Lab() as lab, inside(lab.namespace("bench")):
        yield


def test_both_install_the_same(tmp_path: Path) -> None:
    values = Values.make(COUNT)
    ours, iproute2 = Ours(values), Iproute2(values, tmp_path)
    shown: dict[str, set[str]] = {}
    try:
        for side in (ours, iproute2):
            for table in Table:
                side.install(table)
                assert iproute2.listed(table)[1] == side.listed(table)[1] == COUNT
                shown.setdefault(table, set()).add((tmp_path / "output").read_text())
                side.remove(table, WAYS[table][0])
    finally:
        ours.close()
    assert {table: len(texts) for table, texts in shown.items()} == {"SAs": 1, "policies": 1}


def test_rounds_have_a_figure_for_each_step() -> None:
    found = measure(COUNT, 2)
    assert found["no_states"] is None and len(found["rounds_s"]) == 2
    for one in found["rounds_s"]:
        assert one["ours"].keys() == one["iproute2"].keys()
        assert len(one["ours"]) == 7 and min(*one["ours"].values(), *one["iproute2"].values()) > 0


def test_a_step_that_did_nothing_has_no_figure(tmp_path: Path) -> None:
    class Idle(Iproute2):
        def install(self, table: Table) -> float:
            return 0.1

    side: Side = Idle(Values.make(COUNT), tmp_path)
    with XfrmSocket() as socket, pytest.raises(StepError, match="SAs installed: 0, not 20"):
        turn(side, list(Table), COUNT, socket)


def test_nothing_is_measured_beside_what_is_there() -> None:
    with XfrmSocket() as socket:
        socket.do(requests.new_state(Values.make(1).states[0]))
        with pytest.raises(StepError, match="there are SAs in this network namespace"):
            measure(COUNT, 1)
