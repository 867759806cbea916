"""The tunnel interfaces that the configuration wants, kept so whatever happens to them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from appliance.datapath.kernel.interfaces import Interfaces
from appliance.datapath.kernel.link_events import LinkChange, LinkEvents
from appliance.reasons import Refusal
from appliance.sa.interface import TunnelInterface


class Tunnels:
    """``wanted`` are to be there; ``indices`` are the kernel's numbers of those that are, by name.

    In the network namespace of the thread that makes it. ``changed`` hears of each interface of the machine that came,
    went or changed, and None where some may have been missed. Raises Refusal: KERNEL_REFUSED.
    """

    def __init__(self, changed: Callable[[LinkChange | None], None]) -> None:
        self.wanted: tuple[TunnelInterface, ...] = ()
        self.indices: dict[str, int] = {}
        self._changed = changed
        self._interfaces = Interfaces()
        self._events = LinkEvents()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._nothing = False

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start to listen."""
        self._loop = loop
        loop.add_reader(self._events.fileno(), self._readable)

    def apply(self) -> tuple[list[str], Refusal | None]:
        """Have them as they are wanted. Returns what was done, and why not the rest. For a thread: it waits.

        Raises Refusal, OSError where it cannot even look.
        """
        if self._nothing and not self.wanted:
            return [], None  # an earlier daemon's were looked for, and there is nothing to keep
        refused = None
        done: list[str] = []
        try:
            done = self._interfaces.apply(self.wanted)
        except Refusal as refusal:
            refused = refusal
        self.indices = self._interfaces.indices()
        self._nothing = not self.wanted and refused is None
        return done, refused

    def remove(self) -> None:
        """Take them away; what was routed there is refused from then on. For a thread. Raises Refusal, OSError."""
        self._interfaces.remove()
        self.indices = {}

    def concerns(self, change: LinkChange) -> bool:
        """Whether it is one of ours, or has the name of one."""
        names = {interface.name for interface in self.wanted} | {interface.device for interface in self.wanted}
        return change.index in self.indices.values() or change.name in names

    def close(self) -> None:
        """Stop listening; the interfaces stay. Idempotent."""
        if self._loop is not None:
            with contextlib.suppress(OSError, ValueError):
                self._loop.remove_reader(self._events.fileno())
            self._loop = None
        self._events.close()
        self._interfaces.close()

    def _readable(self) -> None:
        changes: Sequence[object]
        try:
            changes = self._events.receive()
        except OSError:
            self._changed(None)
            return
        for change in changes:
            self._changed(change if isinstance(change, LinkChange) else None)
