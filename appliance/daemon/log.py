"""The log: what happened, in a ring for ``show log`` and as lines for whoever collects standard error."""

from __future__ import annotations

import os
import select
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from appliance.reasons import Reason, Refusal

RING = 2000
"""Entries that are kept."""
BURST = 20
"""Entries of one kind about one connection that are taken within WINDOW; what is more is counted."""
WINDOW = 10.0
_KINDS = 4096
LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True)
class Entry:
    """One event. ``time`` is Unix time; ``event`` a short word that programs can match on."""

    time: float
    level: str
    room: str
    event: str
    text: str
    connection: str = ""
    child: str = ""
    reason: str = ""

    def __str__(self) -> str:
        about = self.connection + (f"/{self.child}" if self.child else "")
        reason = f" [{self.reason}]" if self.reason else ""
        return f"{self.level} {self.room}: {about + ': ' if about else ''}{self.text}{reason}"


class Log:
    """Takes events. A flood of one kind costs neither memory nor lines: the surplus is counted and told later.

    ``write`` takes a line; it must not block. ``clock`` is Unix time.
    """

    def __init__(
        self, *, level: str = "info", write: Callable[[str], None] | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self.level = level
        self._write = write
        self._clock = clock
        self._ring: deque[Entry] = deque(maxlen=RING)
        self._kinds: dict[tuple[str, str, str], list[float]] = {}
        self.suppressed = 0

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._ring)

    def newest(self, limit: int) -> list[Entry]:
        """At most ``limit`` newest entries, oldest first."""
        skip = max(0, len(self._ring) - max(0, limit))
        return [entry for number, entry in enumerate(self._ring) if number >= skip]

    def add(
        self,
        level: str,
        room: str,
        event: str,
        text: str,
        *,
        connection: str = "",
        child: str = "",
        reason: Reason | None = None,
    ) -> None:
        """Log one event. ``text`` may come from peers: control characters do not reach the terminal."""
        if LEVELS.index(level) < LEVELS.index(self.level):
            return
        now = self._clock()
        if not self._admit(now, event, connection, reason.name if reason else ""):
            self.suppressed += 1
            return
        self._append(Entry(now, level, room, event, _printable(text), connection, child, reason.name if reason else ""))

    def refusal(
        self, level: str, room: str, event: str, what: str, refusal: Refusal, *, connection: str = "", child: str = ""
    ) -> None:
        """Log that something was refused or failed: what, why, and what to do."""
        text = f"{what}: {refusal}"
        if refusal.remedy:
            text += f" ({refusal.remedy})"
        self.add(level, room, event, text, connection=connection, child=child, reason=refusal.reason)

    def internal(self, room: str, what: str, error: BaseException, *, connection: str = "", child: str = "") -> None:
        """Log an error of the program itself: its type and place, never its values, which could be secrets."""
        where = error.__traceback__
        while where is not None and where.tb_next is not None:
            where = where.tb_next
        place = ""
        if where is not None:
            code = where.tb_frame.f_code
            place = f" at {code.co_filename.rpartition('appliance/')[2]}:{where.tb_lineno}"
        text = f"{what}: {type(error).__name__}{place} ({Reason.INTERNAL.remedy})"
        self.add("error", room, "internal", text, connection=connection, child=child, reason=Reason.INTERNAL)

    def _admit(self, now: float, event: str, connection: str, reason: str) -> bool:
        kind = (event, connection, reason)
        window = self._kinds.get(kind)  # [start, taken, left out]
        if window is None or now - window[0] >= WINDOW:
            if window is not None and window[2]:
                text = f"{int(window[2])} more events {event!r} were left out"
                self._append(Entry(now, "warning", "daemon", "suppressed", text, connection))
            if window is None and len(self._kinds) >= _KINDS:
                self._kinds.clear()  # bounded: names of connections are, but an attacker may choose the rest
            self._kinds[kind] = [now, 1, 0]
            return True
        if window[1] < BURST:
            window[1] += 1
            return True
        window[2] += 1
        return False

    def _append(self, entry: Entry) -> None:
        self._ring.append(entry)
        if self._write is not None:
            self._write(str(entry))


def stderr_writer(descriptor: int = 2) -> Callable[[str], None]:
    """A writer of lines that loses them rather than waits: a reader that stopped must not stop the gateway."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)

    def write(line: str) -> None:
        try:
            # A pipe that polls writable takes PIPE_BUF (4096) bytes without blocking.
            if poll.poll(0):
                os.write(descriptor, line.encode("utf-8", "replace")[:4000] + b"\n")
        except OSError:
            return

    return write


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
