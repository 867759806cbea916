"""One place of ``datapath.order``: the datapath that runs there, what it has, and how far it is trusted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from appliance.daemon.runtime import Why
from appliance.sa.association import SecurityPolicy
from appliance.sa.datapath import Capabilities, Datapath, WhyNot
from appliance.sa.placement import Candidate

LONGEST_WAIT = 3600.0
GOOD_SECONDS = 3600.0
"""So long without a failure takes one doubling back."""
SETTLED_SECONDS = 60.0
"""One that ran for so long is started again at once; one that failed sooner waits as if it had not started."""
AVOID_FIRST, AVOID_LONGEST = 10.0, 600.0
"""Seconds for which nothing new goes to a datapath that did not answer."""


@dataclass(slots=True)
class Standing:
    """How steady a datapath has been. Times are the event loop's.

    ``failures`` counts those in a row, less one for each good hour; ``silences`` those to answer.
    """

    up_since: float | None = None
    failures: int = 0
    silences: int = 0
    avoid_until: float = 0.0

    def started(self, now: float) -> None:
        """It runs."""
        self.up_since = now
        self.avoid_until = 0.0

    def failed(self, now: float) -> None:
        """It ran, and failed."""
        self._forgive(now)
        if now >= self.avoid_until:  # else its silence was this failure
            self.failures += 1
        self.up_since = None

    def silent(self, now: float) -> None:
        """It did not answer in time, so it counts as having failed, though it runs."""
        self._forgive(now)
        self.failures += 1
        self.silences += 1
        self.up_since = now
        self.avoid_until = now + min(AVOID_LONGEST, AVOID_FIRST * 2.0 ** (self.silences - 1))

    def answered(self) -> None:
        """It took SAs again."""
        self.silences = 0
        self.avoid_until = 0.0

    def steady_at(self, return_after: float) -> float | None:
        """When children may return to it: each failure but the first doubles the time. None while it is down."""
        if self.up_since is None:
            return None
        return self.up_since + min(LONGEST_WAIT, return_after * 2.0 ** min(20, max(0, self.failures - 1)))

    def _forgive(self, now: float) -> None:
        if self.up_since is not None:
            self.failures = max(0, self.failures - int((now - self.up_since) / GOOD_SECONDS))


@dataclass(slots=True, eq=False)
class Slot:
    """One place of the order. ``datapath`` is None while there is none, and ``why`` tells why.

    ``policies`` are those installed in the datapath; ``unsure`` names some of which that is unknown. ``elsewhere`` is
    what it knows of other datapaths' policies. ``tries`` to start it were in vain, or as good
    as that. ``silence`` is why it is avoided.
    """

    name: str
    make: Callable[[], Awaitable[Datapath]]
    datapath: Datapath | None = None
    capabilities: Capabilities | None = None
    why: Why | None = None
    tries: int = 0
    task: asyncio.Task[None] | None = None
    policies: dict[str, SecurityPolicy] = field(default_factory=dict)
    unsure: set[str] = field(default_factory=set)
    elsewhere: tuple[SecurityPolicy, ...] = ()
    standing: Standing = field(default_factory=Standing)
    silence: WhyNot | None = None

    def candidate(self) -> Candidate:
        """As placement asks it."""
        if self.why is None:
            return Candidate(self.name, self.datapath, self.capabilities)
        return Candidate(self.name, self.datapath, self.capabilities, self.why.reason, self.why.detail)

    def opened(self, datapath: Datapath, capabilities: Capabilities, now: float) -> None:
        """A datapath runs here and has its policies."""
        self.datapath, self.capabilities, self.why = datapath, capabilities, None
        self.standing.started(now)

    def failed(self, why: Why, now: float) -> None:
        """It ran, and runs no more."""
        if self.standing.up_since is not None and now - self.standing.up_since >= SETTLED_SECONDS:
            self.tries = 0
        self.standing.failed(now)
        self.emptied(why)

    def emptied(self, why: Why) -> None:
        """There is none any more, nor what it had."""
        self.datapath = self.capabilities = None
        self.policies, self.unsure, self.elsewhere = {}, set(), ()
        self.why = why


def by_datapath(slots: list[Slot], datapath: Datapath | None) -> Slot | None:
    """The slot that a running datapath has; None if it runs no more."""
    if datapath is None:
        return None
    return next((slot for slot in slots if slot.datapath is datapath), None)
