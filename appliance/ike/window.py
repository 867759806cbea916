"""Message IDs, request windows, retransmission and cached responses (RFC 7296 §2.1 to §2.3)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from appliance.ike.connection import Retransmission

if TYPE_CHECKING:
    from appliance.ike.exchanges.exchange import Exchange

MAX_MESSAGE_ID = 0xFFFFFFFF
"""The IKE SA must be closed or rekeyed before IDs wrap (RFC 7296 §2.2)."""


@dataclass(slots=True)
class Request:
    """A request of ours that waits for its response: the datagrams, always sent again bit for bit (§2.1)."""

    message_id: int
    exchange: Exchange
    datagrams: list[bytes]
    first_sent: float
    next_at: float
    interval: float
    sent: int = 1


@dataclass(slots=True)
class Requests:
    """Our side's requests: the next message ID and those without response, at most the peer's window of them."""

    next_id: int = 0
    window: int = 1
    outstanding: dict[int, Request] = field(default_factory=dict)

    @property
    def room(self) -> bool:
        """Whether another request may be sent now."""
        return self.next_id - min(self.outstanding, default=self.next_id) < self.window

    def add(self, exchange: Exchange, datagrams: list[bytes], policy: Retransmission, now: float) -> Request:
        """Take the next message ID for a request that is sent now."""
        request = Request(self.next_id, exchange, datagrams, now, now + policy.timeout, policy.timeout)
        self.outstanding[self.next_id] = request
        self.next_id += 1
        return request


def retransmission_due(request: Request, policy: Retransmission, give_up: float, now: float) -> bool | None:
    """Whether a request is to be sent again now. None: the peer had its time and is taken for dead.

    Advances the request's schedule: intervals grow by ``base`` up to ``maximum`` (§2.4 asks for backoff).
    """
    if now < request.next_at:
        return False
    if now >= request.first_sent + give_up:
        return None
    request.interval = min(request.interval * policy.base, policy.maximum)
    request.next_at = min(now + request.interval, request.first_sent + give_up)
    request.sent += 1
    return True


def digest(datagram: bytes) -> bytes:
    """What a retransmission is recognised by: it is bitwise identical (§2.1)."""
    return hashlib.sha256(datagram).digest()


@dataclass(slots=True)
class Response:
    """A response that was sent, and by what its request is recognised should it come again."""

    request_digest: bytes
    datagrams: list[bytes]


@dataclass(slots=True)
class Responses:
    """The peer's requests: which IDs are next, and the responses to the last window of them (§2.3)."""

    window: int = 1
    expected: int = 0
    cache: dict[int, Response] = field(default_factory=dict)

    def acceptable(self, message_id: int) -> bool:
        """Whether a request of this ID is new and inside the window."""
        return self.expected <= message_id < self.expected + self.window and message_id not in self.cache

    def remember(self, message_id: int, response: Response) -> None:
        """Keep a response; forget those that the window has passed."""
        self.cache[message_id] = response
        while self.expected in self.cache:
            self.expected += 1
        for old in [mid for mid in self.cache if mid < self.expected - self.window]:
            del self.cache[old]
