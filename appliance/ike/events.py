"""What the engine says: datagrams to send, and events for whoever installs SAs and tells people.

Order matters: events that precede a datagram in the queue are to be acted on before that datagram is sent. So a
responder's inbound SA is installed when its peer hears of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from appliance.ike.connection import Endpoint
from appliance.reasons import Reason
from appliance.sa.association import SaKey, SecurityAssociation, UdpEncapsulation
from appliance.sa.keys import KeyMaterial
from appliance.sa.selector import Address


@dataclass(frozen=True, slots=True)
class Datagram:
    """One UDP datagram. ``data`` is an IKE message without the non-ESP marker, which belongs before it where
    ``source.port`` is the NAT traversal port (RFC 3948 §2.2); or, with ``keepalive``, the one byte of RFC 3948 §2.3."""

    data: bytes
    source: Endpoint
    destination: Endpoint
    keepalive: bool = False


@dataclass(frozen=True, slots=True)
class IkeUp:
    """An IKE SA is established: authenticated, or the successor of a rekeyed one (``replaces``)."""

    ike_id: int
    connection: str
    initiator: bool
    local: Endpoint
    remote: Endpoint
    remote_id: str
    suite: str
    replaces: int | None = None


@dataclass(frozen=True, slots=True)
class IkeDown:
    """An IKE SA is gone, or could not be made. Its children were announced gone before, each with its own event.

    ``retry`` tells whether trying again may help by itself: False when the operator or the configuration ended it, or
    it was replaced. ``was_up`` is False for one that never was established.
    """

    ike_id: int
    connection: str
    reason: Reason
    detail: str
    was_up: bool
    retry: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildUp:
    """A pair of SAs was negotiated: install both, inbound first, and tell the engine by child_carried, install_failed.

    ``activate`` tells to activate the outbound one at once; where it is False the peer may not be able to decrypt yet:
    activate on ChildActivate, or when the datapath reports the inbound one used. ``replaces`` is the rekeyed child.
    """

    child_id: int
    ike_id: int
    connection: str
    child: str
    inbound: SecurityAssociation
    outbound: SecurityAssociation
    inbound_keys: KeyMaterial = field(repr=False)
    outbound_keys: KeyMaterial = field(repr=False)
    activate: bool
    replaces: int | None = None


@dataclass(frozen=True, slots=True)
class ChildActivate:
    """The peer can decrypt now: activate the outbound SA, if it is not yet."""

    child_id: int
    outbound: SaKey


@dataclass(frozen=True, slots=True)
class ChildDown:
    """A pair of SAs is gone: remove the outbound SA now.

    ``linger`` is for how many seconds the inbound one should stay: packets that the peer sent before may still be on
    their way. ``replaced_by`` is the successor after a rekey.
    """

    child_id: int
    ike_id: int
    connection: str
    child: str
    inbound: SaKey
    outbound: SaKey
    reason: Reason
    detail: str
    linger: float = 0.0
    replaced_by: int | None = None


@dataclass(frozen=True, slots=True)
class ChildFailed:
    """A child could not be negotiated; its IKE SA is up."""

    ike_id: int
    connection: str
    child: str
    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class EndpointsChanged:
    """A child's outer addresses or ports changed (RFC 7296 §2.23): tell the datapath."""

    child_id: int
    inbound: SaKey
    outbound: SaKey
    local: Address
    remote: Address
    inbound_encapsulation: UdpEncapsulation | None
    outbound_encapsulation: UdpEncapsulation | None


@dataclass(frozen=True, slots=True)
class Notice:
    """Something worth a line in the log. ``level`` is a name of ``logging``; ``reason`` where something was refused."""

    level: str
    text: str
    connection: str | None = None
    ike_id: int | None = None
    reason: Reason | None = None


Event = IkeUp | IkeDown | ChildUp | ChildActivate | ChildDown | ChildFailed | EndpointsChanged | Notice
Output = Datagram | Event
