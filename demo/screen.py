"""What the demo prints: one line a step, when it is done, with the time it took."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

PICTURE = r"""
   network A                                                             network B
   10.1.0.0/24, fd01::/64                                      10.2.0.0/24, fd02::/64

   ┌────────┐      ┌────────┐        ╔═════════════╗        ┌────────┐      ┌────────┐
   │ host-a ├──────┤  gw-a  ├════════╣ IKEv2 + ESP ╠════════┤  gw-b  ├──────┤ host-b │
   └────────┘      └────────┘        ╚═════════════╝        └────────┘      └────────┘
   10.1.0.10       192.0.2.1                ▲               192.0.2.2       10.2.0.10
   fd01::10        {left:<16}  captured here           {right:<16}fd02::10
"""


class StepFailedError(Exception):
    """A step did not do what it should; the text says what happened instead."""


class Screen:
    """The running list of steps."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._marks = ("✓", "✗") if (sys.stdout.encoding or "").lower().startswith("utf") else ("ok", "FAILED")

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._start

    def text(self, text: str = "") -> None:
        """Plain lines."""
        print(text, flush=True)

    def picture(self, left: str, right: str) -> None:
        """The network."""
        self.text(PICTURE.format(left=left, right=right))

    def note(self, text: str) -> None:
        """What belongs to the step above."""
        for line in text.splitlines():
            self.text(f"            {line}")

    @contextmanager
    def step(self, what: str) -> Iterator[list[str]]:
        """One step. What is appended to the list it gives is printed behind ``what``."""
        said: list[str] = []
        began = time.monotonic()
        try:
            yield said
        except BaseException:
            self.text(f"{self.elapsed:6.1f} s  {self._marks[1]} {what}")
            raise
        took = time.monotonic() - began
        result = f": {', '.join(said)}" if said else ""
        self.text(f"{self.elapsed:6.1f} s  {self._marks[0]} {what}{result}  ({took:.2f} s)")
