"""The bars of ``make bench-rtl`` on results that are made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sim.bench import __main__ as command
from sim.bench import bars


def result(frame: int, sas: int = 1, *, udp: bool = False, **figures: float) -> dict[str, Any]:
    """As bench_rtl has them, without a miss if no figure is given."""
    beats = -(-(frame + 38) // 16)
    good = {"cycles_a_packet": max(9.0, beats), "idle_cycles_a_packet": max(9.0, beats) - beats, "bits_a_cycle": 1.0}
    all_of_it = {f"{side}_{name}": value for side in bars.SIDES for name, value in good.items()}
    return {"frame": frame, "sas": sas, "udp": udp, "gigabit_mhz": 1.0, **all_of_it, **figures}


GOOD = [result(frame, sas, udp=udp) for udp in (False, True) for sas in (1, 16) for frame in (64, 128, 512, 9000)]


def test_what_is_fast_enough_misses_nothing() -> None:
    at_the_bar = [
        result(64, outbound_cycles_a_packet=10.0),
        result(512, inbound_idle_cycles_a_packet=1.0),
        result(64, 16, outbound_cycles_a_packet=10.0),
    ]
    assert bars.missed(GOOD) == bars.missed(at_the_bar) == []


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (result(64, outbound_cycles_a_packet=10.1), "outbound, 64 bytes, 1 SAs: 10.10 cycles a packet, not 10 at most"),
        (result(64, inbound_cycles_a_packet=11), "inbound, 64 bytes, 1 SAs: 11.00 cycles a packet, not 10 at most"),
        (
            result(512, 16, outbound_idle_cycles_a_packet=1.02),
            "outbound, 512 bytes, 16 SAs: 1.02 idle cycles a packet, not 1 at most",
        ),
        (
            result(9000, udp=True, inbound_idle_cycles_a_packet=2),
            "inbound, 9000 bytes, 1 SAs, in UDP: 2.00 idle cycles a packet, not 1 at most",
        ),
        (
            result(128, 16, inbound_cycles_a_packet=11.2),
            "inbound, 128 bytes, 16 SAs: 11.20 cycles a packet, not at most 1% more than the 11.00 with one SA",
        ),
    ],
)
def test_a_miss_is_named_with_its_figure(wrong: dict[str, Any], words: str) -> None:
    others = [
        one for one in GOOD if (one["frame"], one["sas"], one["udp"]) != (wrong["frame"], wrong["sas"], wrong["udp"])
    ]
    assert bars.missed([*others, wrong]) == [words]


def test_shorter_frames_may_idle() -> None:
    assert bars.missed([result(128, outbound_idle_cycles_a_packet=5)]) == []


@pytest.mark.parametrize(("interval", "status"), [(1, 1), (7, 0)])
def test_the_command_fails_with_a_bar_that_was_missed(
    interval: int, status: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At other intervals there are none."""

    def simulated(*_: object, environment: dict[str, str], **__: object) -> None:
        measured = {"seconds": 1, "results": [result(64, outbound_cycles_a_packet=12)]}
        Path(environment["RESULT"]).write_text(json.dumps(measured))

    monkeypatch.setattr(command, "simulate", simulated)
    monkeypatch.setattr(command, "OUTPUT", tmp_path / "rtl.json")
    monkeypatch.chdir(tmp_path)
    assert command.main(["--interval", str(interval)]) == status
    told = capsys.readouterr().err
    assert ("outbound, 64 bytes, 1 SAs: 12.00 cycles a packet, not 10 at most" in told) is bool(status)
    assert (tmp_path / "rtl.json").exists()
