"""A flood of IKE_SA_INIT, told in the log: once when it starts, once for each limit that it meets, and when it is over.

Counters have every cookie and every refusal. The log has few lines, however many datagrams come and however often they
come in waves.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from appliance.ike.connection import Endpoint
from appliance.ike.half_open import HalfOpen, source
from appliance.ike.services import Services
from appliance.reasons import Reason

QUIET = 60.0
"""Seconds without a cookie asked for or a request refused after which a flood is over: waves are one flood."""


@dataclass(slots=True)
class Flood:
    """What is to be told of the one that is under way, if any. ``deadline`` is when ``handle_timer`` is due."""

    services: Services
    half_open: HalfOpen
    deadline: float | None = None
    _began: float = 0.0
    _last: float = 0.0
    _cookies: int = 0
    _refused: Counter[Reason] = field(default_factory=Counter)

    def cookie(self, remote: Endpoint, now: float) -> None:
        """A cookie was asked for because there are many half-open IKE SAs, here or of one source."""
        self._cookies += 1
        if self._goes_on(now):
            return
        config, count = self.services.config, len(self.half_open)
        if count >= config.cookie_threshold:
            many, key = f"{count} half-open IKE SAs", f"ike.cookie_threshold = {config.cookie_threshold}"
        else:
            many = f"{self.half_open.of_source(remote.address)} half-open IKE SAs of {source(remote.address)}"
            key = f"ike.half_open_per_address = {config.half_open_per_address}"
        self._tell(
            f"{many}: a flood of IKE_SA_INIT, or many peers at once. Initiators have to return a cookie now, so who can"
            f" receive at its address still gets in (RFC 7296 §2.6). This starts at {key}"
        )

    def refused(self, reason: Reason, remote: Endpoint, now: float) -> None:
        """A request was dropped for a limit: HALF_OPEN_LIMIT or HALF_OPEN_PER_ADDRESS."""
        self._goes_on(now)
        self._refused[reason] += 1
        if self._refused[reason] > 1:
            return
        config = self.services.config
        until = f"until some of them are done or {config.half_open_timeout:g} s old"
        if reason is Reason.HALF_OPEN_LIMIT:
            text = f"{len(self.half_open)} half-open IKE SAs of {self.half_open.sources} sources, and no more are taken"
            text += f" from anybody {until}. The limit is ike.half_open_limit = {config.half_open_limit}"
        else:
            count = self.half_open.proven(remote.address)
            text = f"{count} half-open IKE SAs of {source(remote.address)}, and no more are taken from there {until};"
            text += " others still get in. It attacks, or is a NAT with many peers behind it. The limit is"
            text += f" ike.half_open_per_address = {config.half_open_per_address}"
        self._tell(text, reason)

    def handle_timer(self, now: float) -> None:
        """See whether it is over."""
        if self.deadline is None or now < self.deadline:
            return
        threshold = self.services.config.cookie_threshold
        if now < self._last + QUIET:
            self.deadline = self._last + QUIET
        elif threshold and len(self.half_open) >= threshold:
            self.deadline = now + QUIET  # the next initiator would be asked for a cookie
        else:
            parts = [f"{self._cookies} cookies were asked for"]
            parts += [f"{count} requests refused as {reason.name}" for reason, count in self._refused.items()]
            lasted = self._last - self._began
            # As a warning too: whoever reads warnings only has read that it began.
            self._tell(f"the flood of IKE_SA_INIT is over after {lasted:.0f} s: {', '.join(parts)}")
            self.deadline = None
            self._cookies = 0
            self._refused.clear()

    def _goes_on(self, now: float) -> bool:
        """Note a sign of it; whether it was under way before."""
        self._last = now
        if self.deadline is not None:
            return True
        self._began = now
        self.deadline = now + QUIET
        return False

    def _tell(self, text: str, reason: Reason | None = None) -> None:
        self.services.notice("warning", text, reason=reason)
