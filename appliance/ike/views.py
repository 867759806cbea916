"""What the engine shows of its SAs: values, without keys."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.ike.connection import Endpoint
from appliance.sa.association import SecurityAssociation


@dataclass(frozen=True, slots=True, kw_only=True)
class IkeView:
    """One IKE SA. Times are of the engine's clock, in seconds; None where there is none (yet)."""

    ike_id: int
    connection: str | None
    state: str
    initiator: bool
    local: Endpoint
    remote: Endpoint
    local_id: str | None
    remote_id: str | None
    suite: str | None
    spi_i: str
    spi_r: str
    created_at: float
    established_at: float | None
    rekey_at: float | None
    expires_at: float | None
    nat_local: bool
    nat_remote: bool
    fragmentation: bool
    last_inbound: float
    child_ids: tuple[int, ...]
    outstanding: int
    queued: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildView:
    """One Child SA: a pair of SAs."""

    child_id: int
    ike_id: int
    connection: str
    child: str
    state: str
    inbound: SecurityAssociation
    outbound: SecurityAssociation
    established_at: float
    rekey_at: float
    expires_at: float
