"""One IKE SA for each peer: INITIAL_CONTACT, replacement, and two sides that start at the same time (RFC 7296 §2.4)."""

from __future__ import annotations

from appliance.ike.connection import Unique
from appliance.ike.exchanges.informational import DeleteIke, delete_and_forget
from appliance.ike.ike_sa import IkeSa
from appliance.ike.states import IkeState
from appliance.reasons import Reason
from appliance.sa.identity import Identity

SIMULTANEOUS = 60.0
"""IKE SAs made by both sides within so many seconds are taken for made at the same time."""
GRACE = 10.0
"""How long the side that made the redundant one has to delete it before we do."""


def others(sa: IkeSa, remote_id: Identity | None) -> list[IkeSa]:
    """Other established IKE SAs of the same connection with the same peer."""
    name = sa.connection_name
    return [
        other
        for other in sa.services.ike_sas.values()
        if other is not sa
        and other.state is IkeState.ESTABLISHED
        and other.connection_name == name
        and (remote_id is None or other.remote_id == remote_id or remote_id.is_pattern)
    ]


def initial_contact(sa: IkeSa, now: float) -> None:
    """The peer says that it has no other IKE SA with us: ours are left over from before it restarted.

    They are deleted with one message and no waiting: if the peer did make one in the meantime, it hears of it.
    """
    for other in others(sa, sa.remote_id):
        delete_and_forget(other, Reason.REPLACED, "the peer restarted (INITIAL_CONTACT)", now)


def enforce(sa: IkeSa, now: float) -> None:
    """Keep one IKE SA with this peer, the newest; of two that both sides made at once, the same one on both sides.

    Which one is decided as simultaneous rekeys are (§2.8.1): the lowest of the four nonces loses.
    """
    if sa.settings.unique is not Unique.REPLACE:
        return
    for other in others(sa, sa.remote_id):
        assert other.established_at is not None
        if other.initiator != sa.initiator and now - other.established_at < SIMULTANEOUS:
            loser = min(sa, other, key=lambda one: min(one.nonce_i, one.nonce_r))
            if loser.initiator:
                loser.enqueue(DeleteIke(Reason.DUPLICATE_IKE_SA, ""), now, first=True)
            else:
                loser.delete_at = (now + GRACE, Reason.DUPLICATE_IKE_SA)
        else:
            other.enqueue(DeleteIke(Reason.REPLACED, ""), now, first=True)
