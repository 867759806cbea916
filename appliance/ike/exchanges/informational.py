"""INFORMATIONAL: deletion, liveness, and errors that are told (RFC 7296 §1.4, §2.4, §2.21, §2.25)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from appliance.ike.child_sa import ChildSa, ChildState
from appliance.ike.constants import ExchangeType, NotifyType
from appliance.ike.ike_sa import INBOUND_LINGER, MAX_EARLY_DELETES, IkeSa
from appliance.ike.payloads import DeletePayload, NotifyPayload, Payload, all_of, notify
from appliance.ike.states import IkeState
from appliance.reasons import Reason
from appliance.sa.proposal import ProtocolId

COUNTED_TYPES = 64
"""Kinds of notifications with a counter of their own."""


@dataclass(slots=True)
class Informational:
    """A request whose response says nothing: an error that the peer is told, or, empty, a liveness check."""

    payloads: Sequence[Payload] = ()
    not_before: float = 0.0
    exchange_type: ExchangeType = ExchangeType.INFORMATIONAL
    exclusive: bool = False
    outlives_ike_sa: bool = False

    def request(self, sa: IkeSa, now: float) -> list[Payload] | None:
        """The payloads."""
        return list(self.payloads) if sa.is_up else None

    def response(self, sa: IkeSa, payloads: Sequence[Payload], now: float) -> None:
        """That it came is all that matters."""

    def abandon(self, sa: IkeSa, now: float) -> None:
        """Nothing is held."""


@dataclass(slots=True)
class DeleteIke:
    """Close the IKE SA, and with it all its children (§1.4.1)."""

    reason: Reason
    detail: str
    retry: bool = False
    not_before: float = 0.0
    exchange_type: ExchangeType = ExchangeType.INFORMATIONAL
    exclusive: bool = False

    @property
    def outlives_ike_sa(self) -> bool:
        """A person's wish, or the configuration's, is about the connection; and what is one too many stays so."""
        lasting = (Reason.TERMINATED, Reason.CONFIGURATION_CHANGED, Reason.DUPLICATE_IKE_SA, Reason.REPLACED)
        return self.reason in lasting

    def request(self, sa: IkeSa, now: float) -> list[Payload] | None:
        """The Delete payload; the children end here and now."""
        if sa.state in (IkeState.DELETING, IkeState.DEAD):
            return None
        sa.state, sa.deleted_for = IkeState.DELETING, (self.reason, self.detail)
        sa.rekey_at = sa.dpd_at = sa.keepalive_at = sa.expires_at = sa.delete_at = None
        for child in list(sa.children.values()):
            sa.remove_child(child, self.reason, self.detail)
        return [DeletePayload(ProtocolId.IKE)]

    def response(self, sa: IkeSa, payloads: Sequence[Payload], now: float) -> None:
        """Gone."""
        sa.end(self.reason, self.detail, now, retry=self.retry)

    def abandon(self, sa: IkeSa, now: float) -> None:
        """Nothing is held."""


@dataclass(slots=True)
class DeleteChild:
    """Close one Child SA: the peer is told our inbound SPI (§1.4.1)."""

    child: ChildSa
    reason: Reason
    detail: str = ""
    not_before: float = 0.0
    exchange_type: ExchangeType = ExchangeType.INFORMATIONAL
    exclusive: bool = False
    outlives_ike_sa: bool = True

    def request(self, sa: IkeSa, now: float) -> list[Payload] | None:
        """The Delete payload, unless the peer was first."""
        if self.child.child_id not in sa.children:
            return None
        self.child.state = ChildState.DELETING
        return [DeletePayload(ProtocolId.ESP, (self.child.spi_in.to_bytes(4, "big"),))]

    def response(self, sa: IkeSa, payloads: Sequence[Payload], now: float) -> None:
        """Both directions are gone; what is on its way here may still come for a while after a rekey."""
        linger = INBOUND_LINGER if self.child.successor is not None else 0.0
        sa.remove_child(self.child, self.reason, self.detail, linger=linger, replaced_by=self.child.successor)

    def abandon(self, sa: IkeSa, now: float) -> None:
        """Nothing is held."""


@dataclass(slots=True)
class DeleteUnannounced:
    """Close a Child SA that the peer made and we did not take: a refused answer, or a redundant rekey (§2.8.1)."""

    spi: int
    release: bool = True
    not_before: float = 0.0
    exchange_type: ExchangeType = ExchangeType.INFORMATIONAL
    exclusive: bool = False
    outlives_ike_sa: bool = True

    def request(self, sa: IkeSa, now: float) -> list[Payload] | None:
        """The Delete payload."""
        return [DeletePayload(ProtocolId.ESP, (self.spi.to_bytes(4, "big"),))]

    def response(self, sa: IkeSa, payloads: Sequence[Payload], now: float) -> None:
        """The SPI may be used again."""
        self.abandon(sa, now)

    def abandon(self, sa: IkeSa, now: float) -> None:
        """The SPI may be used again."""
        if self.release:
            sa.services.release_spi(self.spi)
            self.release = False


def delete_child(sa: IkeSa, child: ChildSa, reason: Reason, detail: str, now: float) -> None:
    """Ask the peer to delete a child, once."""
    if child.delete_queued:
        return
    child.delete_queued = True
    sa.enqueue(DeleteChild(child, reason, detail), now)


def own_deletion(sa: IkeSa) -> DeleteIke | None:
    """Our own request to delete the IKE SA, if it is under way."""
    exchanges = (request.exchange for request in sa.requests.outstanding.values())
    return next((exchange for exchange in exchanges if isinstance(exchange, DeleteIke)), None)


def delete_and_forget(sa: IkeSa, reason: Reason, detail: str, now: float, *, retry: bool = False) -> None:
    """Send one Delete for an IKE SA and do not wait for its answer."""
    delete = DeleteIke(reason, detail)
    payloads = delete.request(sa, now)
    if payloads is not None:
        sa.send_request(delete, payloads, now)
    sa.end(reason, detail, now, retry=retry)


@dataclass(slots=True)
class Outcome:
    """The answer to a request, and what to do after it was sent."""

    payloads: list[Payload] = field(default_factory=list)
    end: tuple[Reason, str] | None = None


def handle_request(sa: IkeSa, payloads: Sequence[Payload], now: float) -> Outcome:
    """Answer deletions and errors; an empty request wants an empty answer (§2.4)."""
    outcome = Outcome()
    ours: list[bytes] = []
    if any(delete.protocol == ProtocolId.ESP for delete in all_of(payloads, DeletePayload)):
        sa.claim_inheritance(now)
    by_spi = {child.spi_out: child for child in sa.children.values()}
    for delete in all_of(payloads, DeletePayload):
        if delete.protocol == ProtocolId.IKE:
            reason = Reason.DUPLICATE_IKE_SA if _has_another(sa) else Reason.DELETED_BY_PEER
            outcome.end = (reason, f"by {sa.remote}")
        elif delete.protocol == ProtocolId.ESP:
            ours += [spi for theirs in delete.spis if (spi := _delete_by_peer(sa, by_spi, theirs)) is not None]
    if notify(payloads, NotifyType.AUTHENTICATION_FAILED) is not None:
        outcome.end = (Reason.PEER_REFUSED_AUTHENTICATION, f"said by {sa.remote}, to our id {sa.local_id}")
    if outcome.end is not None:
        _before_end(sa, now)
    elif ours:
        outcome.payloads.append(DeletePayload(ProtocolId.ESP, tuple(ours)))
    for unknown in all_of(payloads, NotifyPayload):
        sa.services.counters[_counter(sa, unknown.type)] += 1
    return outcome


def _counter(sa: IkeSa, type_: int) -> str:
    """The counter of a notification. The peer chooses the types: only so many have one of their own."""
    name = f"notify-{type_}"
    counters = sa.services.counters
    if name in counters or sum(known.startswith("notify-") for known in counters) < COUNTED_TYPES:
        return name
    return "notify-other"


def _delete_by_peer(sa: IkeSa, by_spi: dict[int, ChildSa], spi: bytes) -> bytes | None:
    """Delete the child with this outbound SPI. Returns our own SPI for the answer; None: it is not told (§2.25.1)."""
    number = int.from_bytes(spi, "big")
    child = by_spi.pop(number, None)
    if child is None or child.child_id not in sa.children:
        if any(r.exchange.exchange_type is ExchangeType.CREATE_CHILD_SA for r in sa.requests.outstanding.values()):
            sa.early_deletes = [*sa.early_deletes, number][-MAX_EARLY_DELETES:]
        return None
    if child.state is ChildState.DELETING:
        return None  # our own request to delete it is under way: its answer ends it
    successor = child.successor or child.peer_successor
    if successor is not None and successor.child_id not in sa.children:
        successor = None
    # Of two for the same traffic, as after rekeys that collided, the peer keeps the other one (§2.8.1).
    other = successor or sa.twin(child)
    if other is not None and (other is successor or _stays(other)):
        detail = "" if other is successor else "it was one of two for the same traffic"
        sa.remove_child(child, Reason.REKEYED, detail, linger=INBOUND_LINGER, replaced_by=other)
    else:
        sa.remove_child(child, Reason.DELETED_BY_PEER, f"by {sa.remote}")
    return child.spi_in.to_bytes(4, "big")


def _stays(child: ChildSa) -> bool:
    """Whether nothing is about to end a child."""
    return child.state in (ChildState.ESTABLISHED, ChildState.REKEYING) and not child.delete_queued


def _has_another(sa: IkeSa) -> bool:
    """Whether the same peer has another IKE SA of the same connection, which was not made by a rekey of this one."""
    return sa.successor is None and any(
        other is not sa and other.connection_name == sa.connection_name and other is not sa.peer_successor
        for other in sa.services.established.of_peer(sa.remote_id)
    )


def _before_end(sa: IkeSa, now: float) -> None:
    """The peer closes an IKE SA that we are rekeying: its own successor, if it made one, takes over (§2.25.2)."""
    successor = sa.peer_successor
    if sa.successor is None and successor is not None and successor.is_up:
        successor.adopt(sa, now)
