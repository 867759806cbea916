"""What a request of ours is, while it waits for its turn and for its response."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from appliance.ike.constants import ExchangeType
from appliance.ike.payloads import Payload

if TYPE_CHECKING:
    from appliance.ike.ike_sa import IkeSa


class Exchange(Protocol):
    """One request: built when the window has room, told of its response, or that there will be none."""

    @property
    def exchange_type(self) -> ExchangeType:
        """The exchange's number in the header."""

    @property
    def not_before(self) -> float:
        """It waits in the queue until then."""

    @property
    def exclusive(self) -> bool:
        """Whether nothing else may be under way at the same time."""

    @property
    def outlives_ike_sa(self) -> bool:
        """Whether it is still wanted once a successor has taken over from the IKE SA that it waits in."""

    def request(self, sa: IkeSa, now: float) -> list[Payload] | None:
        """The payloads to send. None: it is no longer needed."""

    def response(self, sa: IkeSa, payloads: Sequence[Payload], now: float) -> None:
        """The authenticated response came."""

    def abandon(self, sa: IkeSa, now: float) -> None:
        """The IKE SA ended first: free what is held."""
