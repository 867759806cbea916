"""The sequence picture of the IKE room's README, drawn from what two real engines say to each other.

``python -m tests.ike.sequence`` writes ``appliance/ike/handshake.svg``; a test fails when the picture is stale. Shown
are each message's decrypted payloads and its size as a UDP payload, the states of the IKE SA and the engine's events.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape

from appliance.ike.events import ChildActivate, ChildDown, ChildUp, Event, IkeDown, IkeUp
from appliance.reasons import Reason
from tests.ike.peers import Message, Net, Peer, child, connection, esp_proposals, ike_proposals

PICTURE = Path(__file__).parents[2] / "appliance" / "ike" / "handshake.svg"

WIDTH = 1080
LEFT, RIGHT = 330, 750
LINE = 17
BLUE, GREEN, GREY, INK, PAPER = "#2456a6", "#19703f", "#6b7280", "#1f2937", "#ffffff"


@dataclass(slots=True)
class Step:
    """What happened at one moment: a message that arrived, or what somebody asked for; and what came of it there."""

    side: str
    message: Message | None = None
    wish: str = ""
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Part:
    """A section of the picture."""

    title: str
    steps: list[Step] = field(default_factory=list)


class Recorder:
    """Runs exchanges step by step and notes states and events."""

    def __init__(self) -> None:
        a = connection(
            ike_proposals=ike_proposals("aes256gcm16-prfsha384-ecp384"),
            children=(child(proposals=esp_proposals("aes256gcm16-esn")),),
        )
        self.net = Net(a)
        self.parts: list[Part] = []
        self._states: dict[str, dict[int, str]] = {"a": {}, "b": {}}
        self._seen = {"a": 0, "b": 0}

    def part(self, title: str, side: str, wish: str, action: Callable[[], object]) -> None:
        """Do something on one side and deliver everything that comes of it, one message at a time."""
        part = Part(title)
        self.parts.append(part)
        action()
        part.steps.append(Step(side, wish=wish, notes=self._notes(self._peer(side))))
        while self.net.flight:
            message = self.net.next()
            receiver = self.net.other(message.sender)
            self.net.deliver(message)
            part.steps.append(Step(receiver.name, message, notes=self._notes(receiver)))

    def _peer(self, side: str) -> Peer:
        return self.net.a if side == "a" else self.net.b

    def _notes(self, peer: Peer) -> list[str]:
        """What changed at a peer since it was last looked at: events first, for so the daemon sees them."""
        events = peer.events[self._seen[peer.name] :]
        self._seen[peer.name] = len(peer.events)
        notes = [text for event in events if (text := _event(event))]
        sas = peer.engine._services.ike_sas
        states = {number: sa.state.value for number, sa in sas.items()}
        before = self._states[peer.name]
        for number, state in states.items():
            if before.get(number) != state:
                notes.append(f"IKE SA {number} is {state}")
        self._states[peer.name] = states
        return notes


def _event(event: Event) -> str:
    match event:
        case IkeUp(replaces=None):
            return f"IkeUp: IKE SA {event.ike_id}"
        case IkeUp():
            return f"IkeUp: IKE SA {event.ike_id} replaces {event.replaces}"
        case IkeDown():
            return f"IkeDown: IKE SA {event.ike_id}, {event.reason.name}"
        case ChildUp():
            use = "both SAs, in use" if event.activate else "both SAs, outbound waits"
            return f"ChildUp: child {event.child_id}, {use}"
        case ChildActivate():
            return f"ChildActivate: send on child {event.child_id}"
        case ChildDown():
            linger = f", inbound stays {event.linger:.0f} s" if event.linger else ""
            return f"ChildDown: child {event.child_id}{linger}"
    return ""


def record() -> list[Part]:
    """The life of an IKE SA with one child, from the engines themselves."""
    recorder = Recorder()
    net = recorder.net
    recorder.part(
        "The initial exchanges make an IKE SA and its first child, RFC 7296 §1.2",
        "a",
        "initiate()",
        lambda: net.a.initiate(net.a_connection),
    )
    recorder.part(
        "The child is rekeyed: the new pair comes before the old one goes, §1.3.3, §2.8",
        "a",
        "rekey_child()",
        lambda: net.a.rekey_child(),
    )
    recorder.part(
        "The IKE SA is rekeyed: its successor inherits the child, §1.3.2, §2.18",
        "b",
        "rekey_ike()",
        lambda: net.b.rekey_ike(),
    )
    recorder.part(
        "A clean stop deletes the IKE SA and its child, §1.4.1",
        "a",
        "delete_ike()",
        lambda: net.a.delete_ike(Reason.TERMINATED),
    )
    return recorder.parts


def _title(message: Message) -> str:
    assert message.header is not None
    kind = "response" if message.header.response else "request"
    return f"{message.exchange} {kind}, ID {message.header.message_id}, {len(message.data)} bytes"


def _payload_lines(message: Message) -> list[str]:
    """The payloads, what is encrypted in braces as the RFC's diagrams have it, in lines that fit between the sides."""
    names = list(message.names)
    if message.exchange != "IKE_SA_INIT":
        names = ["SK {", *names, "}"]
    lines = [""]
    for name in names:
        joined = f"{lines[-1]} {name}".strip()
        if len(joined) > 56 and lines[-1]:
            lines.append(name)
        else:
            lines[-1] = joined
    return lines


class Canvas:
    """SVG elements and how far down they reach."""

    def __init__(self) -> None:
        self.elements: list[str] = []
        self.y = 0

    def text(self, x: float, y: float, text: str, *, size: int = 13, fill: str = INK, **style: str) -> None:
        attributes = "".join(f' {key.replace("_", "-")}="{value}"' for key, value in style.items())
        self.elements.append(
            f'<text x="{x}" y="{y}" font-size="{size}" fill="{fill}"{attributes}>{escape(text)}</text>'
        )

    def line(self, x1: float, y1: float, x2: float, y2: float, stroke: str, width: float = 1.5) -> None:
        self.elements.append(
            f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{stroke}" stroke-width="{width}"/>'
        )

    def arrow(self, x1: float, x2: float, y: float, stroke: str) -> None:
        sign = 1 if x2 > x1 else -1
        self.line(x1 + 4 * sign, y, x2 - 10 * sign, y, stroke, 2)
        tip, back = x2 - 3 * sign, x2 - 13 * sign
        self.elements.append(f'<path d="M{tip} {y} L{back} {y - 5} L{back} {y + 5} Z" fill="{stroke}"/>')


def draw(parts: list[Part]) -> str:
    """The picture as SVG."""
    canvas = Canvas()
    canvas.text(
        WIDTH / 2, 34, "An IKE SA's life, as the engine has it", size=19, text_anchor="middle", font_weight="600"
    )
    for x, name in ((LEFT, "gateway A"), (RIGHT, "gateway B")):
        canvas.text(x, 66, name, size=14, text_anchor="middle", font_weight="600")
    canvas.y = 84
    for part in parts:
        top = canvas.y
        canvas.elements.append(f'<rect x="20" y="{top}" width="{WIDTH - 40}" height="26" rx="4" fill="#eef2f7"/>')
        canvas.text(34, top + 18, part.title, font_weight="600")
        canvas.y += 40
        start = canvas.y - 14
        for step in part.steps:
            _step(canvas, step)
        for x in (LEFT, RIGHT):
            canvas.elements.insert(
                0, f'<rect x="{x - 2}" y="{start}" width="4" height="{canvas.y - start}" fill="#d3d9e2"/>'
            )
        canvas.y += 14
    height = canvas.y + 6
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
            ' font-family="Helvetica, Arial, sans-serif" role="img">',
            "<title>Sequence of IKE messages between two engines</title>",
            f'<rect width="{WIDTH}" height="{height}" fill="{PAPER}"/>',
            *canvas.elements,
            "</svg>",
            "",
        ]
    )


def _step(canvas: Canvas, step: Step) -> None:
    """A message with its arrow, or a wish; what came of it stands beside the line of who it happened to."""
    top = canvas.y
    own, sign, anchor = (LEFT, -1, "end") if step.side == "a" else (RIGHT, 1, "start")
    beside = own + 14 * sign
    at = top + 10
    used = 0
    if step.message is not None:
        source = RIGHT if step.side == "a" else LEFT
        colour = BLUE if step.message.is_request else GREEN
        middle = (LEFT + RIGHT) / 2
        canvas.text(middle, top + 8, _title(step.message), fill=colour, text_anchor="middle", font_weight="600")
        at = top + 18
        canvas.arrow(source, own, at, colour)
        lines = _payload_lines(step.message)
        for number, line in enumerate(lines):
            canvas.text(middle, at + 18 + number * 15, line, size=12, text_anchor="middle")
        used = 18 + 20 + len(lines) * 15
    else:
        canvas.text(beside, at, step.wish, text_anchor=anchor, font_family="monospace", font_weight="600")
        at += LINE
        used = LINE + 8
    for number, note in enumerate(step.notes):
        is_state = note.startswith("IKE SA")
        canvas.text(beside, at + 4 + number * LINE, note, size=12, fill=GREY if is_state else INK, text_anchor=anchor)
    canvas.y = top + max(used, at - top + len(step.notes) * LINE) + 12


def main() -> None:
    PICTURE.write_text(draw(record()), encoding="utf-8")


if __name__ == "__main__":
    main()
