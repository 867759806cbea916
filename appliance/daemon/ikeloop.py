"""The engine's place in the event loop: datagrams and time go in by turns, events and datagrams come out in order.

The engine's outputs are one queue in which events precede the datagrams that may only be sent when they are done: the
peer must not hear of an inbound SA that is not installed. Installing awaits a datapath. So each peer address has a
lane: while something of it is being done, what follows on that lane waits; other peers, timers and the control socket
do not.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from appliance.daemon.log import Log
from appliance.ike.connection import Endpoint
from appliance.ike.events import ChildActivate, ChildDown, ChildUp, Datagram, EndpointsChanged, Event
from appliance.reasons import Refusal
from appliance.sa.selector import Address

if TYPE_CHECKING:
    from appliance.ike.engine import Engine

TURN_DATAGRAMS = 32
TURN_SECONDS = 0.02
"""A turn ends after that many datagrams or seconds, so that the control socket is heard between turns."""
INBOX = 2048
"""Datagrams of each kind that wait for their turn; what is more is lost, as on a full socket."""
PAUSE_AFTER_ERROR = 1.0

DatapathWork = ChildUp | ChildActivate | ChildDown | EndpointsChanged
_T = TypeVar("_T")


class IkeLoop:
    """Drives one engine. Messages of IKE SAs that are here come before all others: a flood of these delays no peer.

    ``send`` puts a datagram on the wire. ``note`` hears of each event at once. ``perform`` does what an event asks of
    the datapath; outputs behind it on its lane wait for it. ``reset`` is told of a connection that an error of the
    program hit.
    """

    def __init__(
        self,
        engine: Engine,
        log: Log,
        *,
        send: Callable[[Datagram], None],
        note: Callable[[Event], None],
        perform: Callable[[DatapathWork], Awaitable[None]],
        reset: Callable[[str], None],
    ) -> None:
        self.engine = engine
        self.counters = {"datagrams_in": 0, "datagrams_out": 0, "send_failed": 0, "inbox_full": 0, "turns": 0}
        self._log = log
        self._send = send
        self._note = note
        self._perform = perform
        self._reset = reset
        self._loop = asyncio.get_running_loop()
        self._inbox: deque[tuple[bytes, Endpoint, Endpoint]] = deque()
        self._strangers: deque[tuple[bytes, Endpoint, Endpoint]] = deque()
        self._turn_due = False
        self._draining = False
        self._timer: asyncio.TimerHandle | None = None
        self._lanes: dict[Address, deque[DatapathWork | Datagram]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def now(self) -> float:
        """The engine's clock."""
        return self._loop.time()

    def receive(self, data: bytes, local: Endpoint, remote: Endpoint) -> None:
        """Take an IKE message, without its non-ESP marker; it is handled in a turn soon."""
        if self._closed:
            return
        inbox = self._inbox if self.engine.knows(data) else self._strangers
        if len(inbox) >= INBOX:
            self.counters["inbox_full"] += 1
            return
        inbox.append((data, local, remote))
        if not self._turn_due:
            self._turn_due = True
            self._loop.call_soon(self._turn)

    def command(self, what: str, call: Callable[[], _T], connection: str = "") -> _T | None:
        """Run a command of the engine and what follows from it. None if it failed, which is logged."""
        try:
            return call()
        except Exception as error:
            self._log.internal("ike", what, error, connection=connection)
            return None
        finally:
            self._drain()

    async def idle(self) -> None:
        """Wait until all that came out is done and sent."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    def close(self) -> None:
        """Stop: no more timers, turns or work."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for task in self._tasks:
            task.cancel()
        self._inbox.clear()
        self._strangers.clear()
        self._lanes.clear()

    def _turn(self) -> None:
        self._turn_due = False
        if self._closed:
            return
        self.counters["turns"] += 1
        start = self._loop.time()
        for _ in range(TURN_DATAGRAMS):
            inbox = self._inbox or self._strangers
            if not inbox:
                break
            data, local, remote = inbox.popleft()
            self.counters["datagrams_in"] += 1
            now = self._loop.time()
            try:
                self.engine.receive_datagram(data, local, remote, now)
            except Exception as error:
                self._log.internal("ike", f"a datagram from {remote}", error)
            self._drain()
            if now - start > TURN_SECONDS:
                break
        if (self._inbox or self._strangers) and not self._turn_due:
            self._turn_due = True
            self._loop.call_soon(self._turn)

    def _drain(self) -> None:
        if self._draining or self._closed:
            return  # a handler of an event gave the engine a command: the outer drain takes what came of it
        self._draining = True
        try:
            while (output := self.engine.next_output()) is not None:
                if isinstance(output, Datagram):
                    lane = self._lanes.get(output.destination.address)
                    if lane is None:
                        self._transmit(output)
                    else:
                        lane.append(output)
                    continue
                try:
                    self._note(output)
                except Exception as error:
                    self._failed(output, error)
                if isinstance(output, DatapathWork):
                    self._enqueue(output)
        finally:
            self._draining = False
        self._arm(self._loop.time())

    def _enqueue(self, work: DatapathWork) -> None:
        key = (work.outbound.key if isinstance(work, ChildUp) else work.outbound).destination
        lane = self._lanes.get(key)
        if lane is not None:
            lane.append(work)
            return
        lane = self._lanes[key] = deque((work,))
        task = self._loop.create_task(self._run(key, lane))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, key: Address, lane: deque[DatapathWork | Datagram]) -> None:
        while lane:
            output = lane.popleft()
            if isinstance(output, Datagram):
                self._transmit(output)
                continue
            try:
                await self._perform(output)
            except Exception as error:
                self._failed(output, error)
        self._lanes.pop(key, None)

    def _failed(self, event: Event, error: Exception) -> None:
        connection = getattr(event, "connection", None) or ""
        self._log.internal("daemon", f"handling {type(event).__name__}", error, connection=connection)
        if connection:
            self._reset(connection)

    def _transmit(self, datagram: Datagram) -> None:
        try:
            self._send(datagram)
            self.counters["datagrams_out"] += 1
        except Refusal as refusal:
            self.counters["send_failed"] += 1
            self._log.refusal("debug", "ike", "send-failed", f"a message to {datagram.destination}", refusal)

    def _arm(self, earliest: float) -> None:
        due = self.engine.next_timer()
        if self._timer is not None:
            if due is not None and self._timer.when() == max(due, earliest) and not self._timer.cancelled():
                return
            self._timer.cancel()
            self._timer = None
        if due is not None and not self._closed:
            self._timer = self._loop.call_at(max(due, earliest), self._tick)

    def _tick(self) -> None:
        self._timer = None
        if self._closed:
            return
        now = self._loop.time()
        try:
            self.engine.handle_timer(now)
        except Exception as error:
            self._log.internal("ike", "a timer", error)
            self._drain()
            # The timer that failed may still be due: without a pause it would take the whole processor.
            self._arm(now + PAUSE_AFTER_ERROR)
            return
        self._drain()
