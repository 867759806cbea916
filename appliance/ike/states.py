"""The states of an IKE SA, and which messages each of them takes. What is absent here is an error."""

from __future__ import annotations

from enum import Enum

from appliance.ike.constants import ExchangeType


class IkeState(Enum):
    """An IKE SA's life.

    INIT_SENT, AUTH_SENT: we initiate. HALF_OPEN: we answered IKE_SA_INIT and wait for IKE_AUTH. REKEYED: a successor
    has taken over the children; it waits for its deletion. DELETING: our request to delete it is under way.
    DEAD: gone for everybody; it only repeats its last responses for a while.
    """

    INIT_SENT = "init sent"
    HALF_OPEN = "half open"
    AUTH_SENT = "auth sent"
    ESTABLISHED = "established"
    REKEYED = "rekeyed"
    DELETING = "deleting"
    DEAD = "dead"


class Kind(Enum):
    """Whether a message asks or answers."""

    REQUEST = "request"
    RESPONSE = "response"


_PROTECTED = (ExchangeType.CREATE_CHILD_SA, ExchangeType.INFORMATIONAL)
_UP = (IkeState.ESTABLISHED, IkeState.REKEYED, IkeState.DELETING)

ACCEPTED: frozenset[tuple[IkeState, ExchangeType, Kind]] = frozenset(
    {
        (IkeState.INIT_SENT, ExchangeType.IKE_SA_INIT, Kind.RESPONSE),
        (IkeState.HALF_OPEN, ExchangeType.IKE_AUTH, Kind.REQUEST),
        (IkeState.AUTH_SENT, ExchangeType.IKE_AUTH, Kind.RESPONSE),
        *((state, exchange, kind) for state in _UP for exchange in _PROTECTED for kind in Kind),
    }
)


def accepts(state: IkeState, exchange: int, kind: Kind) -> bool:
    """Whether a message fits the state."""
    return (state, exchange, kind) in ACCEPTED
