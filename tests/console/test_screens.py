"""What the screens look like: against golden files. ``python -m tests.console.test_screens`` writes them anew."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from appliance.console import screens, units
from appliance.console.protocol import ConnectionRow, State
from appliance.console.table import Cell, Colour, Note, Page
from tests.console import rows

GOLDEN = Path(__file__).parent / "golden"
PAGE = Page(width=100, colours=False)

SCREENS: dict[str, Callable[[Page], list[str]]] = {
    "connections": lambda page: screens.connections(rows.CONNECTIONS, page, rows.NOW),
    "connection_details": lambda page: screens.connection_details(rows.CONNECTIONS, page, rows.NOW),
    "sa": lambda page: screens.sas(rows.SAS, page, rows.NOW),
    "policies": lambda page: screens.policies(rows.POLICIES, page, rows.NOW),
    "datapath": lambda page: screens.datapaths(rows.DATAPATHS, page, rows.NOW),
    "offload": lambda page: screens.offload(rows.OFFLOAD, page, rows.NOW),
    "counters": lambda page: screens.counters(rows.COUNTERS, page, rows.NOW),
    "counters_all": lambda page: screens.counters(rows.COUNTERS, page, rows.NOW, zeros=True),
    "log": lambda page: screens.log(rows.LOG, page, rows.NOW),
}


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


@pytest.mark.parametrize("name", SCREENS)
def test_the_screen_is_as_it_was_looked_at(name: str) -> None:
    assert "\n".join(SCREENS[name](PAGE)) + "\n" == (GOLDEN / f"{name}.txt").read_text()


def test_a_policy_of_a_tunnel_interface_names_it() -> None:
    dns, net, lan = rows.POLICIES
    net = msgspec.structs.replace(net, interface="ipsec0")
    head, *lines = screens.policies([dns, net, lan], PAGE, rows.NOW)
    at = head.index("INTERFACE")
    assert [line[at : at + 9].strip() for line in lines if line[:1].strip()] == ["", "ipsec0", ""]


@pytest.mark.parametrize("name", SCREENS)
def test_no_line_ends_in_blanks_or_is_wider_than_a_wide_terminal(name: str) -> None:
    for line in SCREENS[name](PAGE):
        assert line == line.rstrip() and len(line) <= 120


@pytest.mark.parametrize("name", SCREENS)
def test_colours_change_no_letter_and_close_again(name: str) -> None:
    plain, painted = SCREENS[name](PAGE), SCREENS[name](Page(width=100, colours=True))
    for a, b in zip(plain, painted, strict=True):
        for colour in Colour:
            b = b.replace(f"\x1b[{colour.value}m", "")
        assert a == b.replace("\x1b[0m", "").rstrip()


@pytest.mark.parametrize("width", [40, 80, 200])
def test_reasons_are_wrapped_behind_their_label(width: int) -> None:
    lines = Page(width=width, colours=False).note(Note("why", "word " * 60))
    assert all(len(line) <= max(width, 39) for line in lines)
    assert lines[0].startswith("    why  word") and all(line.startswith(" " * 9 + "word") for line in lines[1:])


def test_what_is_down_shows_why_and_what_to_do() -> None:
    text = "\n".join(screens.connections(rows.CONNECTIONS, PAGE, rows.NOW))
    assert rows.SILENT.words in text and "PEER_SILENT" in text and text.count("UDP 500 and 4500") == 1


def test_a_terminal_is_never_sent_what_a_peer_wrote() -> None:
    evil = "gw\x1b]0;owned\x07\n\r\u202e"
    row = msgspec.structs.replace(rows.CONNECTIONS[0], name=evil, remote_id=evil, state=State.DOWN, reason=rows.SILENT)
    assert isinstance(row, ConnectionRow)
    for lines in (
        screens.connections([row], PAGE, rows.NOW),
        screens.connection_details([row], PAGE, rows.NOW),
        PAGE.table(["X"], [[Cell("a\x1bb")]]),
    ):
        assert all(line.isprintable() for line in lines)


def test_empty_screens_say_so() -> None:
    for screen in (
        screens.connections,
        screens.sas,
        screens.policies,
        screens.datapaths,
        screens.offload,
        screens.counters,
        screens.log,
    ):
        (line,) = screen([], PAGE, rows.NOW)  # type: ignore[operator]
        assert line


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_949, "999.9 kB"), (999_960, "1.0 MB"), (10**18, "1.0 EB")],
)
def test_sizes_have_units_of_a_thousand(count: int, text: str) -> None:
    assert units.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (-1, "now"),
        (0.4, "0s"),
        (59.6, "1m"),
        (250, "4m 10s"),
        (7500, "2h 5m"),
        (86400, "1d"),
        (273600, "3d 4h"),
    ],
)
def test_durations_have_their_two_largest_units(seconds: float | None, text: str) -> None:
    assert units.duration(seconds) == text


if __name__ == "__main__":
    os.environ["TZ"] = "UTC"
    time.tzset()
    GOLDEN.mkdir(exist_ok=True)
    for name, screen in SCREENS.items():
        (GOLDEN / f"{name}.txt").write_text("\n".join(screen(PAGE)) + "\n")
