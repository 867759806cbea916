"""What a datapath does by itself: at once, after a while, again and again. What goes wrong is told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from appliance.sa.datapath import DatapathRefusal

Work = Callable[[], Awaitable[None]]


class Tasks:
    """``refused`` and ``failed`` hear of what work raises, until all is cancelled."""

    def __init__(self, refused: Callable[[DatapathRefusal], None], failed: Callable[[OSError], None]) -> None:
        self._refused = refused
        self._failed = failed
        self._running: set[asyncio.Task[None]] = set()
        self._timers: set[asyncio.TimerHandle] = set()
        self.ended = False

    def start(self, work: Work) -> None:
        """Do something beside what is being done."""

        async def guarded() -> None:
            try:
                await work()
            except DatapathRefusal as refusal:
                if not self.ended:
                    self._refused(refusal)
            except OSError as error:
                if not self.ended:
                    self._failed(error)

        task = asyncio.get_running_loop().create_task(guarded())
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def later(self, seconds: float, work: Work) -> asyncio.TimerHandle:
        """Do it in so many seconds."""

        def run() -> None:
            self._timers.discard(timer)
            if not self.ended:
                self.start(work)

        timer = asyncio.get_running_loop().call_later(seconds, run)
        self._timers.add(timer)
        return timer

    def every(self, seconds: float, work: Work) -> None:
        """Do it again and again, so many seconds after it was done or refused."""

        async def again() -> None:
            try:
                await work()
            finally:
                if not self.ended:
                    self.every(seconds, work)

        self.later(seconds, again)

    def cancel(self) -> None:
        """Leave off all of it for good."""
        self.ended = True
        for timer in self._timers:
            timer.cancel()
        for task in self._running:
            task.cancel()
