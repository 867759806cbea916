"""One IKE SA for each peer: INITIAL_CONTACT, replacement, and two sides that start at the same time (RFC 7296 §2.4)."""

from __future__ import annotations

from appliance.ike.connection import Unique
from appliance.ike.exchanges.informational import DeleteIke, Informational, delete_and_forget
from appliance.ike.ike_sa import IkeSa
from appliance.ike.states import IkeState
from appliance.reasons import Reason

SIMULTANEOUS = 60.0
"""IKE SAs made by both sides within so many seconds are taken for made at the same time."""
GRACE = 10.0
"""How long the side that made the redundant one has to delete it before we do."""


def others(sa: IkeSa, *, any_connection: bool = False) -> list[IkeSa]:
    """Other established IKE SAs between the same identities; of the same connection, unless of any is asked for."""
    return [
        other
        for other in sa.services.established.of_peer(sa.remote_id)
        if other is not sa
        and (any_connection or other.connection_name == sa.connection_name)
        and other.local_id == sa.local_id
    ]


def is_first_contact(sa: IkeSa) -> bool:
    """Whether an initiator may say INITIAL_CONTACT: no other IKE SA between these identities, in any connection.

    One that has just said so itself counts: the peer would delete it for this one.
    """
    expected = sa.settings.remote_id
    return not any(
        other is not sa
        and other.local_id == sa.local_id
        and (
            (other.state is IkeState.ESTABLISHED and other.remote_id is not None and other.remote_id.matches(expected))
            or (other.state is IkeState.AUTH_SENT and other.settings.remote_id == expected)
        )
        for other in sa.services.ike_sas.values()
    )


def initial_contact(sa: IkeSa, now: float) -> None:
    """The peer says that it has no other IKE SA with us: ours are left over from before it restarted.

    They are deleted with one message and no waiting. Spared is one that we initiated and that came up after the peer's
    IKE_SA_INIT was here: the peer may have said this before it knew of that one (see ``enforce``). Had ours come up
    before we answered IKE_SA_INIT, the peer would have known it.
    """
    for other in others(sa, any_connection=True):
        assert other.established_at is not None
        if other.initiator and other.established_at >= sa.created_at:
            sa.contested = True
            continue
        delete_and_forget(other, Reason.REPLACED, "the peer restarted (INITIAL_CONTACT)", now)


def enforce(sa: IkeSa, now: float) -> None:
    """Keep one IKE SA with this peer, the newest; of two that both sides made at once, the same one on both sides.

    Which one is decided as simultaneous rekeys are (§2.8.1): the lowest of the four nonces loses. Its initiator deletes
    it; if it does not, we do, unless it said INITIAL_CONTACT: then the other one may be dead, which liveness tells.
    """
    if sa.settings.unique is not Unique.REPLACE:
        return
    for other in others(sa):
        if other.initiator != sa.initiator and _at_once(other, now):
            loser = min(sa, other, key=lambda one: min(one.nonce_i, one.nonce_r))
            if loser.initiator:
                loser.enqueue(DeleteIke(Reason.DUPLICATE_IKE_SA, ""), now, first=True)
            elif not loser.contested:
                loser.delete_at = (now + GRACE, Reason.DUPLICATE_IKE_SA)
                _ask(sa if loser is other else other, now)
        else:
            other.enqueue(DeleteIke(Reason.REPLACED, ""), now, first=True)


def is_redundant(sa: IkeSa, now: float) -> bool | None:
    """Whether the peer has another one that lives: it was heard of since this one came up. None: nobody knows yet.

    A peer that restarted without saying so has made this one in place of the other, which is dead then (§2.4).
    """
    assert sa.established_at is not None
    left = others(sa)
    if any(other.last_inbound > sa.established_at for other in left):
        return True
    for other in left:
        _ask(other, now)
    return None if left else False


def _ask(sa: IkeSa, now: float) -> None:
    """Check liveness now, unless an answer is awaited anyway."""
    if not sa.requests.outstanding and not sa.queue:
        sa.enqueue(Informational(), now)


def _at_once(other: IkeSa, now: float) -> bool:
    """Whether it was made so recently that the peer's may have been made at the same time."""
    return other.established_at is not None and now - other.established_at < SIMULTANEOUS
