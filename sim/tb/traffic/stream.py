"""AXI4-Stream of 16 bytes: whole packets in and out, with pauses, and with the faults that a sender may make.

Everything happens behind falling edges (see reset.py): what is driven there is what the next rising edge sees, and a
``ready`` that comes from registers is already what it will be then.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cocotb.triggers import FallingEdge

BEAT = 16
Pause = Callable[[], bool]


def never() -> bool:
    """No pauses."""
    return False


def sometimes(probability: float) -> Pause:
    """A pause in so many of the cycles, of any length."""
    return lambda: random.random() < probability


def in_bursts(run: int, pause: int) -> Pause:
    """Runs of cycles without a pause, and pauses, each up to so many cycles long."""
    state = {"left": 0, "paused": False}

    def paused() -> bool:
        if not state["left"]:
            state["paused"] = not state["paused"]
            state["left"] = random.randint(1, pause if state["paused"] else run)
        state["left"] -= 1
        return bool(state["paused"])

    return paused


def beats(data: bytes) -> list[tuple[int, int, int]]:
    """A packet as tdata, tkeep and tlast; what tkeep excludes is random."""
    made = []
    for at in range(0, len(data), BEAT):
        piece = data[at : at + BEAT]
        filled = piece + random.randbytes(BEAT - len(piece))
        made.append((int.from_bytes(filled, "little"), (1 << len(piece)) - 1, int(at + BEAT >= len(data))))
    return made


@dataclass
class Packet:
    """A packet that came out, with its tuser and the cycles of its first and last beat."""

    data: bytes
    user: int
    begin: int = 0
    end: int = 0


@dataclass
class Source:
    """Drives ``s_axis_*`` of a module with what is sent; ``pause`` says in each cycle whether to hold back."""

    dut: Any
    prefix: str = "s_axis"
    pause: Pause = never
    queue: deque[tuple[int, int, int, int]] = field(default_factory=deque)
    cycle: int = 0

    def __post_init__(self) -> None:
        names = ("tdata", "tkeep", "tlast", "tvalid", "tready")
        self.data, self.keep, self.last, self.valid, self.ready = (
            getattr(self.dut, f"{self.prefix}_{name}") for name in names
        )
        self.user = getattr(self.dut, f"{self.prefix}_tuser", None)
        self.offered = False

    def send(self, data: bytes, user: int = 0) -> None:
        """Send a packet."""
        self.send_beats(beats(data), user)

    def send_beats(self, these: list[tuple[int, int, int]], user: int = 0) -> None:
        """Send beats as they are: (tdata, tkeep, tlast). What tuser is behind the first beat does not count."""
        for number, beat in enumerate(these):
            other = random.getrandbits(len(self.user)) if self.user is not None else 0
            self.queue.append((*beat, other if number else user))

    async def run(self) -> None:
        """The driver; to be started after reset and never ends."""
        await FallingEdge(self.dut.clk_i)
        while True:
            if not self.offered:
                self.offered = bool(self.queue) and not self.pause()
                self.valid.value = int(self.offered)
                if self.offered:
                    self.data.value, self.keep.value, self.last.value, user = self.queue[0]
                    if self.user is not None:
                        self.user.value = user
            taken = self.offered and bool(self.ready.value)
            await FallingEdge(self.dut.clk_i)
            self.cycle += 1
            if taken:
                self.queue.popleft()
                self.offered = False


@dataclass
class Sink:
    """Takes packets from ``m_axis_*``, and sees that a beat which waits stays as it is."""

    dut: Any
    prefix: str = "m_axis"
    pause: Pause = never
    packets: deque[Packet] = field(default_factory=deque)
    cycle: int = 0

    def __post_init__(self) -> None:
        names = ("tdata", "tkeep", "tlast", "tuser", "tvalid", "tready")
        self.data, self.keep, self.last, self.user, self.valid, self.ready = (
            getattr(self.dut, f"{self.prefix}_{name}") for name in names
        )

    async def run(self) -> None:
        """The driver; to be started after reset and never ends."""
        content, users, begin = bytearray(), set(), 0
        waiting: tuple[int, ...] | None = None
        await FallingEdge(self.dut.clk_i)
        while True:
            ready = not self.pause()
            self.ready.value = int(ready)
            if self.valid.value:
                beat = tuple(int(one.value) for one in (self.data, self.keep, self.last, self.user))
                assert waiting in (None, beat), "a beat changed while it waited"
                waiting = beat
                if ready:
                    waiting = None
                    data, keep, last, user = beat
                    count = keep.bit_length()
                    assert keep == (1 << count) - 1 and count and (last or count == BEAT), f"tkeep {keep:#06x}"
                    assert data >> 8 * count == 0, "bytes without tkeep"
                    if not content:
                        begin = self.cycle
                    content += data.to_bytes(BEAT, "little")[:count]
                    users.add(user)
                    if last:
                        assert len(users) == 1, "tuser changed within a packet"
                        self.packets.append(Packet(bytes(content), user, begin, self.cycle))
                        content.clear()
                        users.clear()
            else:
                assert waiting is None, "tvalid went away"
            await FallingEdge(self.dut.clk_i)
            self.cycle += 1
