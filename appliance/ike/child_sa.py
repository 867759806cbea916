"""A Child SA: the pair of SAs of one negotiation, and where it is in its life."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from appliance.ike.connection import ChildConfig
from appliance.sa.association import SaKey, SecurityAssociation
from appliance.sa.keys import KeyMaterial


class ChildState(Enum):
    """A Child SA's life. REKEYING: our request for a successor is under way. REKEYED: a successor is there."""

    ESTABLISHED = "established"
    REKEYING = "rekeying"
    REKEYED = "rekeyed"
    DELETING = "deleting"


@dataclass(slots=True, eq=False)
class ChildSa:
    """Two unidirectional SAs. ``nonces`` of the exchange that made them decide simultaneous rekeys (RFC 7296 §2.8.1).

    ``initiated`` tells whether this side started that exchange. ``peer_successor`` is the one that the peer made while
    our own rekey of this child was under way. ``delete_queued``: a request to delete it waits or is under way.
    ``awaiting``: it is deleted when a datapath carries its successor.
    ``pending_keys`` (inbound, outbound) are there until the pair is announced.
    """

    child_id: int
    config: ChildConfig
    inbound: SecurityAssociation
    outbound: SecurityAssociation
    initiated: bool
    nonces: tuple[bytes, bytes]
    established_at: float
    rekey_at: float
    expires_at: float
    state: ChildState = ChildState.ESTABLISHED
    successor: ChildSa | None = None
    peer_successor: ChildSa | None = None
    delete_queued: bool = False
    awaiting: bool = False
    activate: bool = True
    pending_keys: tuple[KeyMaterial, KeyMaterial] | None = field(default=None, repr=False)

    @property
    def spi_in(self) -> int:
        """The SPI that we chose, which the peer sends to."""
        return self.inbound.spi

    @property
    def spi_out(self) -> int:
        """The peer's SPI."""
        return self.outbound.spi

    @property
    def keys(self) -> tuple[SaKey, SaKey]:
        """The keys of inbound and outbound SA in a datapath."""
        return self.inbound.key, self.outbound.key
