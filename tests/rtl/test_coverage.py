"""What the coverage report is made of: data files as Verilator writes them, and what need not be covered."""

from __future__ import annotations

from pathlib import Path

import pytest

from sim.coverage.code import Exclusion, Point, exclusions, merged, read
from sim.coverage.traffic import SIZES, Sample, bins_of, outbound, size_class, write
from sim.tb.simulation import RTL

FIFO = RTL / "prim" / "fifo.sv"


def line(number: int, kind: str, what: str, count: int, source: Path = FIFO) -> str:
    """A line of a data file."""
    words = {"f": str(source), "l": str(number), "n": "3", "t": kind, "page": f"v_{kind}/fifo", "o": what, "h": "fifo"}
    return "C '" + "".join(f"\x01{key}\x02{value}" for key, value in words.items()) + f"' {count}"


def data(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(("# SystemC::Coverage-3", *lines)) + "\n")
    return path


def at(text: str) -> int:
    """The number of the line of fifo.sv that has a text."""
    return next(number for number, found in enumerate(FIFO.read_text().splitlines(), 1) if text in found)


def test_points_of_the_rtl_are_read_and_of_nothing_else(tmp_path: Path) -> None:
    other = line(1, "line", "block", 4, tmp_path / "bench.sv")
    path = data(tmp_path / "coverage.dat", line(13, "toggle", "clk_i:0->1", 7), other)
    assert list(read(path)) == [(Point("fifo", 13, 3, "toggle", "clk_i:0->1"), 7)]


def test_another_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a line of coverage data"):
        list(read(data(tmp_path / "coverage.dat", "C nothing")))


def test_runs_are_added_up(tmp_path: Path) -> None:
    first = data(tmp_path / "a.dat", line(13, "line", "block", 0), line(14, "branch", "if", 0))
    second = data(tmp_path / "b.dat", line(13, "line", "block", 2), line(14, "branch", "if", 0))
    (module,) = merged([first, second], []).modules
    assert (module.share("line"), module.share("branch"), module.share("toggle")) == (1.0, 0.0, 1.0)
    assert [point.line for point in module.missed] == [14]


def test_checks_of_callers_do_not_count(tmp_path: Path) -> None:
    inside = at("`ifndef SYNTHESIS") + 2
    (module,) = merged([data(tmp_path / "a.dat", line(inside, "branch", "else", 0))], []).modules
    assert not module.points and not module.missed


def test_an_exclusion_is_for_what_it_names_and_says_if_that_is_nothing(tmp_path: Path) -> None:
    path = data(tmp_path / "a.dat", line(13, "toggle", "data_i[5]:0->1", 0), line(13, "toggle", "clk_i:0->1", 3))
    useful = Exclusion("fifo", "a reason", "toggle", r"data_i\[\d\]:0->1")
    idle = Exclusion("fifo", "a reason", "toggle", "clk_i:0->1")
    coverage = merged([path], [useful, idle])
    assert coverage.modules[0].excluded == 1 and not coverage.modules[0].missed
    assert coverage.idle == [idle]


def test_an_exclusion_has_a_reason_and_a_bound(tmp_path: Path) -> None:
    path = tmp_path / "exclusions.toml"
    for entry in ('reason = ""\nwhat = "x"', 'reason = "all of it"'):
        path.write_text(f'[[exclusion]]\nmodule = "fifo"\n{entry}\n')
        with pytest.raises(ValueError, match="without its reason"):
            exclusions(path)
    assert all(entry.reason for entry in exclusions())


def test_bins_are_those_that_were_hit(tmp_path: Path) -> None:
    outbound(Sample("transport 4", udp=True, key=128, esn=False, size=60, padding=2))
    write(tmp_path / "traffic.yml")
    found = {point.name: point for point in bins_of([tmp_path / "traffic.yml"])}
    assert found["outbound.key"].hit == ("128",) and found["outbound.key"].missed == ("256",)
    assert found["outbound.form × size"].hit == ("('transport 4', 'to 64')",)
    assert found["inbound.replay"].share == 0


def test_sizes_have_classes() -> None:
    assert [size_class(size) for size in (20, 40, 41, 64, 9000, 9500)] == [SIZES[i] for i in (0, 0, 1, 1, 5, 5)]
