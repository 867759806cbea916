"""The same child made by both sides at the same time, outside of a rekey: one is enough.

RFC 7296 has no rule for it; ours is that of simultaneous rekeys (§2.8.1), so two of our kind agree on which one stays.
"""

from __future__ import annotations

from appliance.ike.child_sa import ChildSa, ChildState
from appliance.ike.exchanges.informational import delete_child
from appliance.ike.ike_sa import IkeSa
from appliance.reasons import Reason

SIMULTANEOUS = 60.0
"""Children that the two sides made within so many seconds are taken for made at the same time."""


def resolve(sa: IkeSa, child: ChildSa, now: float) -> None:
    """Of a new child and one that the other side made for the same traffic, delete the loser if it is ours."""
    for other in list(sa.children.values()):
        if (
            other is not child
            and other.initiated is not child.initiated
            and other.state is ChildState.ESTABLISHED
            and child.state is ChildState.ESTABLISHED
            and other.config.reqid == child.config.reqid
            and (other.inbound.local_ts, other.inbound.remote_ts) == (child.inbound.local_ts, child.inbound.remote_ts)
            and now - other.established_at < SIMULTANEOUS
        ):
            loser, winner = sorted((child, other), key=lambda one: min(one.nonces))
            sa.services.counters["child-duplicates"] += 1
            if loser.initiated:
                loser.successor = winner
                delete_child(sa, loser, Reason.REKEYED, "both sides made it at the same time", now)
