"""What the coverage report is made of: data files as Verilator writes them, and what need not be covered."""

from __future__ import annotations

import random
from itertools import product
from pathlib import Path

import pytest

from sim.coverage import report
from sim.coverage.code import Exclusion, Point, exclusions, merged, read
from sim.coverage.traffic import FORMS, PRESSURE, SIZES, Bins, Sample, bins_of, every_cross, outbound, size_class, write
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
    assert [size_class(size) for size in (20, 40, 41, 64, 9000, 9500)] == [SIZES[i] for i in (0, 0, 1, 1, 5, 6)]


def test_planned_packets_hit_every_cross_with_any_seed() -> None:
    both = (False, True)
    for seed in range(20):
        random.seed(seed)
        cells = list(every_cross())
        assert {(cell.form, cell.udp, cell.key, cell.esn) for cell in cells} == set(
            product(FORMS, both, (128, 256), both)
        )
        assert {(cell.form, size_class(cell.size)) for cell in cells} == set(product(FORMS, SIZES))
        assert {(cell.form, cell.padding) for cell in cells} == set(product(FORMS, range(4)))
        assert {(size_class(cell.size), cell.pressure) for cell in cells} == set(product(SIZES, PRESSURE))
        assert {cell.tfc for cell in cells} == set(both)
        assert all(cell.tfc or -(cell.size + 2) % 4 == cell.padding for cell in cells)


HIT = Bins("a point", ("a bin",), ())


def ran(build: Path, *, without: str = "", count: int = 1) -> None:
    """As if benches had run every module but one, each with one line."""
    for path in RTL.rglob("*.sv"):
        if path.stem != without:
            run = build / f"{path.stem}-coverage" / "run"
            run.mkdir(parents=True)
            data(run / "coverage.dat", line(1, "line", "block", count, path))
            (run / "traffic.yml").write_text("{}\n")


def reported(monkeypatch: pytest.MonkeyPatch, build: Path, bins: Bins = HIT, *entries: Exclusion) -> int:
    monkeypatch.setattr(report, "OUTPUT", build / "report")
    monkeypatch.setattr(report, "exclusions", lambda: list(entries))
    monkeypatch.setattr(report, "bins_of", lambda _: [bins])
    # Of toggles and branches there are none here.
    monkeypatch.setattr(report, "KINDS", ("line",))
    return report.main(["--build", str(build)])


def test_a_report_is_good_where_all_was_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran(tmp_path)
    assert reported(monkeypatch, tmp_path) == 0


def test_what_was_missed_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bin, a module, a goal, and an exclusion of what is not there."""
    assert reported(monkeypatch, tmp_path) == 2
    ran(tmp_path / "all")
    assert reported(monkeypatch, tmp_path / "all", Bins("a point", ("a bin",), ("another",))) == 1
    assert reported(monkeypatch, tmp_path / "all", HIT, Exclusion("no_module", "a reason", text="x")) == 1
    ran(tmp_path / "one", without="packet_meter")
    capsys.readouterr()
    assert reported(monkeypatch, tmp_path / "one") == 1
    assert "packet_meter: no run of it" in capsys.readouterr().err
    ran(tmp_path / "none", count=0)
    assert reported(monkeypatch, tmp_path / "none") == 1


def test_what_earlier_runs_left_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran(tmp_path)
    assert report.main(["--build", str(tmp_path), "--forget"]) == 0
    assert reported(monkeypatch, tmp_path) == 2
