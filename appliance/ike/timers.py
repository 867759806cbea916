"""What an IKE SA does by itself when its time comes: repeat, rekey, check, expire (RFC 7296 §2.4, §2.8)."""

from __future__ import annotations

from appliance.ike import uniqueness
from appliance.ike.child_sa import ChildSa, ChildState
from appliance.ike.constants import ExchangeType, name
from appliance.ike.events import Datagram
from appliance.ike.exchanges.informational import DeleteIke, Informational, delete_child
from appliance.ike.exchanges.rekey_child import RekeyChild
from appliance.ike.exchanges.rekey_ike import RekeyIke
from appliance.ike.ike_sa import IkeSa
from appliance.ike.states import IkeState
from appliance.ike.window import Request, retransmission_due
from appliance.reasons import Reason

DELETE_GIVE_UP = 20.0
"""How long we wait for the answer to the deletion of an IKE SA."""
REKEY_RETRY = 0.25
"""A rekey that did not succeed is tried again after this share of what is left of the lifetime."""
SHORTEST_RETRY = 5.0
HOLD_MARGIN = 5.0
"""A child's rekey makes way for the IKE SA's only if so much of its lifetime is left afterwards."""


def handle(sa: IkeSa, now: float) -> None:
    """Do all that is due."""
    if sa.state is IkeState.DEAD:
        if sa.dead_at is not None and now >= sa.dead_at:
            sa.services.forget(sa)
        return
    if sa.half_open_until is not None and now >= sa.half_open_until:
        sa.services.counters["half-open-expired"] += 1
        sa.end(Reason.PEER_SILENT, "it never sent IKE_AUTH", now, retry=False)
        return
    if sa.failure is not None and now >= sa.failure[2]:
        sa.end(sa.failure[0], sa.failure[1], now, retry=True)
        return
    if not _retransmit(sa, now):
        return
    if sa.delete_at is not None and now >= sa.delete_at[0]:
        reason = sa.delete_at[1]
        redundant = uniqueness.is_redundant(sa, now) if reason is Reason.DUPLICATE_IKE_SA else True
        sa.delete_at = (now + uniqueness.GRACE, reason) if redundant is None else None
        if redundant:
            sa.enqueue(DeleteIke(reason, ""), now, first=True)
    if sa.state is IkeState.ESTABLISHED:
        _established(sa, now)
    sa.pump(now)


def _retransmit(sa: IkeSa, now: float) -> bool:
    """Repeat the requests whose answers are late. Returns whether the IKE SA still lives."""
    policy = sa.settings.retransmission
    for request in list(sa.requests.outstanding.values()):
        due = retransmission_due(request, policy, _give_up(sa, request), now)
        if due is None:
            what = name(ExchangeType, request.exchange.exchange_type)
            waited = now - request.first_sent
            detail = f"{sa.remote} did not answer {what} within {waited:.0f} s, sent {request.sent} times"
            if isinstance(request.exchange, DeleteIke):
                sa.end(request.exchange.reason, request.exchange.detail, now, retry=request.exchange.retry)
            else:
                sa.services.count(Reason.PEER_SILENT)
                sa.end(Reason.PEER_SILENT, detail, now, retry=True)
            return False
        if due:
            sa.services.counters["retransmissions"] += 1
            sa.transmit(request.datagrams)
    return True


def _give_up(sa: IkeSa, request: Request) -> float:
    if isinstance(request.exchange, DeleteIke):
        return DELETE_GIVE_UP
    if sa.established_at is not None and sa.settings.dpd_interval is not None:
        return sa.settings.dpd_timeout
    return sa.settings.retransmission.give_up


def _established(sa: IkeSa, now: float) -> None:
    if sa.expires_at is not None and now >= sa.expires_at:
        sa.services.count(Reason.LIFETIME_OVER)
        sa.enqueue(DeleteIke(Reason.LIFETIME_OVER, "the IKE SA", retry=True), now, first=True)
        sa.expires_at = now + DELETE_GIVE_UP
        return
    if sa.rekey_at is not None and now >= sa.rekey_at:
        sa.rekey_at = now + _retry(sa.expires_at, now)
        if not any(isinstance(exchange, RekeyIke) for exchange in _pending(sa)):
            sa.enqueue(RekeyIke(), now)
    if sa.keepalive_at is not None and now >= sa.keepalive_at:
        sa.services.emit(Datagram(b"\xff", sa.local, sa.remote, keepalive=True))
        sa.schedule_keepalive(now)
    if sa.dpd_at is not None and now >= sa.dpd_at:
        if not sa.requests.outstanding:  # any request checks liveness (§2.4)
            sa.enqueue(Informational(), now)
        sa.schedule_liveness(now)
    for child in list(sa.children.values()):
        _child(sa, child, now)


def _child(sa: IkeSa, child: ChildSa, now: float) -> None:
    if now >= child.expires_at:
        child.expires_at = now + DELETE_GIVE_UP
        reason = Reason.REKEYED if child.state is ChildState.REKEYED else Reason.LIFETIME_OVER
        delete_child(sa, child, reason, "", now)
    elif now >= child.rekey_at:
        if now < sa.hold_children_until < child.expires_at - HOLD_MARGIN:
            child.rekey_at = sa.hold_children_until  # the IKE SA's own rekey first
            return
        child.rekey_at = now + _retry(child.expires_at, now)
        rekey_child(sa, child, now)


def rekey_child(sa: IkeSa, child: ChildSa, now: float) -> None:
    """Ask for a child's successor, once at a time."""
    pending = any(isinstance(exchange, RekeyChild) and exchange.child is child for exchange in _pending(sa))
    if child.state is ChildState.ESTABLISHED and not pending:
        sa.enqueue(RekeyChild(child), now)


def _pending(sa: IkeSa) -> list[object]:
    return [*sa.queue, *(request.exchange for request in sa.requests.outstanding.values())]


def _retry(end: float | None, now: float) -> float:
    return max(((end or now) - now) * REKEY_RETRY, SHORTEST_RETRY)
