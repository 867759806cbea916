"""What ``esplanade show`` prints. Screens take rows of the control protocol and give lines; ``now`` is Unix time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from appliance.console import units
from appliance.console.protocol import (
    Cause,
    ChildRow,
    ConnectionRow,
    CounterRow,
    DatapathRow,
    LogRow,
    Nat,
    OffloadRow,
    PolicyRow,
    SaRow,
    State,
)
from appliance.console.table import Cell, Colour, Note, Page, Row

_COLOURS = {
    State.ESTABLISHED: Colour.GOOD,
    State.REKEYING: Colour.GOOD,
    State.CONNECTING: Colour.BUSY,
    State.CLOSING: Colour.BUSY,
    State.RETRYING: Colour.BAD,
    State.DOWN: Colour.BAD,
}
_NAT = {
    Nat.NONE: "none",
    Nat.LOCAL: "this side is behind one",
    Nat.REMOTE: "the peer is behind one",
    Nat.BOTH: "both sides are behind one",
}
_UP = (State.ESTABLISHED, State.REKEYING)


def connections(rows: Sequence[ConnectionRow], page: Page, now: float) -> list[str]:
    """One line a connection and one a child; below what is down, why and what to do."""
    if not rows:
        return ["no connections are configured"]
    table: list[Row | Note] = []
    for row in rows:
        since = row.established_at if row.state in _UP else row.reason.since if row.reason else None
        table.append(
            [
                Cell(row.name),
                Cell(row.state.value, _COLOURS.get(row.state, Colour.PLAIN)),
                Cell(_ago(since, now)),
                Cell(units.endpoint(row.remote_address, row.remote_port)),
                Cell("", right=True),
                Cell("", right=True),
                Cell(units.duration(row.rekey_in) if row.state in _UP else ""),
                Cell(""),
            ]
        )
        table += _why(row.reason, 2)
        table += _retry(row, 2)
        for child in row.children:
            table.append(_child_line(child, now))
            table += _why(_own_cause(child, row), 4)
    head = ["CONNECTION", "STATE", "FOR", "PEER / TRAFFIC", "IN", "OUT", "REKEY IN", "ON"]
    return [*page.table(head, table), "", _summary(rows)]


def _own_cause(child: ChildRow, row: ConnectionRow) -> Cause | None:
    """Why a child is down, unless that is only its connection's reason again."""
    again = row.reason is not None and child.reason is not None and child.reason.reason == row.reason.reason
    return None if again else child.reason


def _child_line(child: ChildRow, now: float) -> Row:
    up = child.state in _UP
    since = child.established_at if up else child.reason.since if child.reason else None
    return [
        Cell(f"  {child.name}"),
        Cell(child.state.value, _COLOURS.get(child.state, Colour.PLAIN)),
        Cell(_ago(since, now)),
        Cell("\n".join(child.remote_ts)),
        Cell(units.size(child.bytes_in) if up else "", right=True),
        Cell(units.size(child.bytes_out) if up else "", right=True),
        Cell(units.duration(child.rekey_in) if up else ""),
        Cell(child.datapath or ""),
    ]


def _ago(since: float | None, now: float) -> str:
    return "" if since is None else units.duration(max(0.0, now - since))


def _why(cause: Cause | None, indent: int) -> list[Row | Note]:
    if cause is None:
        return []
    text = f"{cause.words}: {cause.detail}" if cause.detail else cause.words
    notes: list[Row | Note] = [Note("why", f"{text} ({cause.reason})", Colour.BAD, indent)]
    if cause.remedy:
        notes.append(Note("do ", cause.remedy, Colour.PLAIN, indent))
    return notes


def _retry(row: ConnectionRow, indent: int) -> list[Row | Note]:
    if row.next_try_in is None and not row.retries:
        return []
    tries = f"{row.retries} {'try' if row.retries == 1 else 'tries'} so far"
    if row.next_try_in is not None:
        tries += f", the next in {units.duration(row.next_try_in)}"
    return [Note("try", tries, Colour.PLAIN, indent)]


def _summary(rows: Sequence[ConnectionRow]) -> str:
    total = f"{len(rows)} connection{'s' if len(rows) != 1 else ''}"
    states = Counter(row.state for row in rows)
    parts = [f"{states[state]} {state.value}" for state in State if states[state]]
    children = [child for row in rows for child in row.children]
    up = sum(child.state in _UP for child in children)
    return f"{total}: {', '.join(parts)}; {up} of {len(children)} children established"


def connection_details(rows: Sequence[ConnectionRow], page: Page, now: float) -> list[str]:
    """Everything known of a few connections."""
    lines: list[str] = []
    for row in rows:
        if lines:
            lines.append("")
        lines.append(f"{units.clean(row.name)}  {page.paint(row.state.value, _COLOURS.get(row.state, Colour.PLAIN))}")
        notes = [*_why(row.reason, 2), *_retry(row, 2)]
        notes += _facts(
            {
                "local": f"{units.endpoint(row.local_address, row.local_port)}  {row.local_id}",
                "remote": f"{units.endpoint(row.remote_address, row.remote_port)}  {row.remote_id}",
                "ike": row.suite,
                "spis": f"{row.spi_initiator} (initiator), {row.spi_responder} (responder)"
                if row.spi_initiator
                else None,
                "role": None if row.initiator is None else "initiator" if row.initiator else "responder",
                "nat": _NAT[row.nat] if row.state in _UP else None,
                "up for": _ago(row.established_at, now),
                "rekey in": units.duration(row.rekey_in) if row.rekey_in is not None else None,
            },
            2,
        )
        for note in notes:
            assert isinstance(note, Note)
            lines += page.note(note)
        for child in row.children:
            lines += _child_details(child, row, page, now)
    return lines


def _child_details(child: ChildRow, row: ConnectionRow, page: Page, now: float) -> list[str]:
    state = page.paint(child.state.value, _COLOURS.get(child.state, Colour.PLAIN))
    lines = [f"  child {units.clean(child.name)}  {state}"]
    notes = _why(_own_cause(child, row), 4)
    up = child.spi_in is not None
    notes += _facts(
        {
            "local": ", ".join(child.local_ts),
            "remote": ", ".join(child.remote_ts),
            "through": child.interface,
            "esp": _transport(child),
            "spis": f"{child.spi_in} in, {child.spi_out} out" if up else None,
            "in": f"{units.size(child.bytes_in)}, {units.count(child.packets_in)} packets" if up else None,
            "out": f"{units.size(child.bytes_out)}, {units.count(child.packets_out)} packets" if up else None,
            "up for": _ago(child.established_at, now),
            "rekey in": units.duration(child.rekey_in) if child.rekey_in is not None else None,
            "ends in": units.duration(child.expires_in) if child.expires_in is not None else None,
            "on": _on(child.datapath, child.how),
        },
        4,
    )
    notes += [Note("not on  ", text, Colour.PLAIN, 4) for text in child.why_not]
    if child.returns_in is not None:
        notes.append(Note("back in ", _back(child.returns_in), Colour.PLAIN, 4))
    for note in notes:
        assert isinstance(note, Note)
        lines += page.note(note)
    return lines


def _on(datapath: str | None, how: str) -> str | None:
    return f"{datapath}, {how}" if datapath is not None and how else datapath


def _back(seconds: float) -> str:
    return f"{units.duration(seconds)}, to a better datapath if that goes on to run"


def _transport(child: ChildRow) -> str:
    parts = [child.suite, f"{child.mode} mode", {"udp": "in UDP", "none": "native ESP"}.get(child.encapsulation or "")]
    return ", ".join(part for part in parts if part)


def _facts(facts: dict[str, str | None], indent: int) -> list[Row | Note]:
    """Labelled lines, those without text left out."""
    width = max(len(label) for label in facts)
    return [Note(label.ljust(width), text, Colour.PLAIN, indent) for label, text in facts.items() if text]


def sas(rows: Sequence[SaRow], page: Page, now: float) -> list[str]:
    """The SAs of each child, inbound and outbound, with where they run."""
    if not rows:
        return ["no SAs are installed; see why: esplanade show connections"]
    lines: list[str] = []
    groups: dict[tuple[str, str], list[SaRow]] = {}
    for row in rows:
        groups.setdefault((row.connection, row.child), []).append(row)
    for (connection, child), pair in groups.items():
        if lines:
            lines.append("")
        lines.append(units.clean(f"{connection}/{child}"))
        selectors = f"{', '.join(pair[0].local_ts)} <> {', '.join(pair[0].remote_ts)}"
        lines += page.note(Note("traffic", selectors, indent=2))
        for text in _unique(_sa_kind(row) for row in pair):
            lines += page.note(Note("esp    ", text, indent=2))
        for text in _unique(_sa_path(row) for row in pair):
            lines += page.note(Note("between", text, indent=2))
        for text in _unique(text for row in pair for text in row.why_not):
            lines += page.note(Note("not on ", text, indent=2))
        returns = [row.returns_in for row in pair if row.returns_in is not None]
        if returns:
            lines += page.note(Note("back in", _back(min(returns)), indent=2))
        table: list[Row | Note] = [_sa_line(row) for row in pair]
        head = ["DIR", "SPI", "AGE", "REKEY IN", "BYTES", "PACKETS", "REPLAYED", "BAD ICV"]
        lines += page.table(head, table, indent=2)
    return lines


def _unique(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def _sa_kind(row: SaRow) -> str:
    encapsulation = "native ESP" if row.encapsulation == "none" else "in UDP"
    return f"{row.suite}, {row.mode} mode, {encapsulation}, on {_on(row.datapath, row.how)}"


def _sa_path(row: SaRow) -> str:
    """The outer addresses, this side's first."""
    source_port, _, destination_port = row.encapsulation.partition(" > ")
    ports = (int(source_port), int(destination_port)) if destination_port.isdigit() else (None, None)
    ends = [units.endpoint(row.source, ports[0]), units.endpoint(row.destination, ports[1])]
    return " <> ".join(ends if row.direction == "out" else ends[::-1])


def _sa_line(row: SaRow) -> Row:
    direction = row.direction if row.active else f"{row.direction} (idle)"
    return [
        Cell(direction, Colour.PLAIN if row.active else Colour.FAINT),
        Cell(row.spi),
        Cell(units.duration(row.age)),
        Cell(units.duration(row.rekey_in)),
        Cell(units.size(row.bytes), right=True),
        Cell(units.count(row.packets), right=True),
        Cell(units.count(row.replays), Colour.BUSY if row.replays else Colour.PLAIN, right=True),
        Cell(units.count(row.integrity_failures), Colour.BAD if row.integrity_failures else Colour.PLAIN, right=True),
    ]


def policies(rows: Sequence[PolicyRow], page: Page, now: float) -> list[str]:
    """The policies in the order in which they are looked at."""
    if not rows:
        return ["no policies are installed: nothing is protected, and nothing is let through on purpose"]
    colours = {"protect": Colour.GOOD, "bypass": Colour.BUSY, "discard": Colour.BAD}
    routed = any(row.interface for row in rows)
    table: list[Row | Note] = [
        [
            Cell(str(number), right=True),
            Cell(row.name),
            Cell(row.action, colours.get(row.action, Colour.PLAIN)),
            Cell("\n".join(row.local_ts)),
            Cell("\n".join(row.remote_ts)),
            *([Cell(row.interface or "")] if routed else []),
            Cell(row.state),
            Cell(row.datapath or ""),
        ]
        for number, row in enumerate(rows, 1)
    ]
    through = ["INTERFACE"] if routed else []
    return page.table(["#", "NAME", "ACTION", "LOCAL", "REMOTE", *through, "NOW", "ON"], table)


def datapaths(rows: Sequence[DatapathRow], page: Page, now: float) -> list[str]:
    """What each datapath can do here, and why not what it cannot."""
    lines: list[str] = []
    for row in rows:
        if lines:
            lines.append("")
        usable = page.paint("usable", Colour.GOOD) if row.usable else page.paint("not usable", Colour.BAD)
        lines.append(f"{units.clean(row.name)}  {usable}")
        notes = _why(row.reason, 2)
        kinds = (
            ("native ESP", row.native),
            ("ESP in UDP", row.udp_encapsulation),
            ("tunnel interfaces", row.interfaces),
            ("offload", row.offload),
        )
        more = [kind for kind, has in kinds if has]
        room = f"{units.count(row.sas)} installed" + (f" of {units.count(row.max_sas)}" if row.max_sas else "")
        low, high = row.replay_windows
        notes += _facts(
            {
                "process": str(row.pid) if row.pid else None,
                "device": row.device,
                "sas": room,
                "policies": units.count(row.policies) if row.policies else None,
                "kept off": row.avoided,
                "trusted": f"in {units.duration(row.returns_in)}, then children return to it"
                if row.returns_in is not None
                else None,
                "suites": ", ".join(row.suites),
                "modes": ", ".join([*row.modes, *more]),
                "replay window": f"{low} to {high} packets" if high else None,
            },
            2,
        )
        for missing in row.missing:
            detail = f": {missing.detail}" if missing.detail else ""
            notes.append(Note("missing      ", f"{missing.what}: {missing.words}{detail} ({missing.reason})", indent=2))
            if missing.remedy:
                notes.append(Note("           do", missing.remedy, indent=2))
        for note in notes:
            assert isinstance(note, Note)
            lines += page.note(note)
    return lines or ["no datapath is configured"]


def offload(rows: Sequence[OffloadRow], page: Page, now: float) -> list[str]:
    """What the kernel and each network device can do of IPsec; below what they cannot, why and what to do."""
    lines: list[str] = []
    groups: dict[str, list[OffloadRow]] = {}
    for row in rows:
        groups.setdefault(row.subject, []).append(row)
    for subject, found in groups.items():
        if lines:
            lines.append("")
        told = [row.text for row in found if _is_told(row) and not row.what]
        lines.append("  ".join(units.clean(text) for text in (subject, *told)))
        width = max(len(row.what) for row in found)
        for row in found:
            if _is_told(row) and not row.what:
                continue
            lines += _offload_lines(row, width, page)
    return lines or ["nothing was found out"]


def _is_told(row: OffloadRow) -> bool:
    return row.able is None and row.reason is None


def _offload_lines(row: OffloadRow, width: int, page: Page) -> list[str]:
    words, colour = {True: ("yes", Colour.GOOD), False: ("no", Colour.BAD), None: ("", Colour.PLAIN)}[row.able]
    text = ": ".join(part for part in (words, row.text) if part)
    notes: list[Row | Note] = [Note(row.what.ljust(width), text, colour if text == words else Colour.PLAIN, 2)]
    lines: list[str] = []
    for note in [*notes, *_why(row.reason, 4)]:
        assert isinstance(note, Note)
        lines += page.note(note)
    return lines


def counters(rows: Sequence[CounterRow], page: Page, now: float, *, zeros: bool = False) -> list[str]:
    """Counters by group; those that are zero only where ``zeros`` asks for them."""
    shown = [row for row in rows if row.value or zeros]
    table: list[Row | Note] = [
        [Cell(row.group), Cell(row.name), Cell(units.count(row.value), right=True), Cell(row.words)] for row in shown
    ]
    lines = page.table(["GROUP", "COUNTER", "VALUE", "MEANING"], table) if table else []
    hidden = len(rows) - len(shown)
    if hidden:
        zero = f"{hidden} counter{' is' if hidden == 1 else 's are'} zero"
        lines += ["", f"{zero}; --all shows them"] if lines else [zero]
    return lines or ["there are no counters"]


def log(rows: Sequence[LogRow], page: Page, now: float) -> list[str]:
    """Events, oldest first, in local time."""
    colours = {"warning": Colour.BUSY, "error": Colour.BAD, "debug": Colour.FAINT}
    lines = []
    for row in rows:
        who = "/".join(part for part in (row.connection, row.child) if part)
        level = page.paint(row.level.ljust(7), colours.get(row.level, Colour.PLAIN))
        text = f"{row.text} ({row.reason})" if row.reason else row.text
        rest = units.clean(f"{row.room:<8} {who or '-'}: {text}")
        lines.append(f"{units.clock(row.time)} {level} {rest}")
    return lines or ["the log is empty"]
