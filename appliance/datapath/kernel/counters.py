"""What the kernel counts: the packets it drops (/proc/net/xfrm_stat), by our reasons, and what SAs carried."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from appliance.datapath.kernel import states
from appliance.datapath.kernel.requester import Requester, refusal_of
from appliance.datapath.kernel.sad import Row
from appliance.datapath.kernel.xfrm import State, StateId, requests
from appliance.reasons import Reason

MANY = 50
"""From so many SAs on all are listed, which is faster than asking for each."""

REASONS = {
    "XfrmInNoStates": Reason.UNKNOWN_SPI,
    "XfrmInStateProtoError": Reason.INTEGRITY,
    "XfrmInStateSeqError": Reason.REPLAYED,
    "XfrmInStateExpired": Reason.LIFETIME_EXPIRED,
    "XfrmOutStateExpired": Reason.LIFETIME_EXPIRED,
    "XfrmInHdrError": Reason.MALFORMED_ESP,
    "XfrmInStateMismatch": Reason.SELECTOR_MISMATCH,
    "XfrmInTmplMismatch": Reason.SELECTOR_MISMATCH,
    "XfrmInNoPols": Reason.NO_POLICY,
    "XfrmInPolBlock": Reason.POLICY_DISCARD,
    "XfrmFwdHdrError": Reason.MALFORMED_IP,
    "XfrmOutPolBlock": Reason.POLICY_DISCARD,
    "XfrmOutNoStates": Reason.NO_SA,
    "XfrmAcquireError": Reason.NO_SA,
    "XfrmOutStateSeqError": Reason.SEQUENCE_EXHAUSTED,
    "XfrmInBufferError": Reason.NO_MEMORY,
}
"""The kernel's own names for what is the same as a reason of ours; the others keep theirs."""


def read_counters(descriptor: int) -> dict[str, int]:
    """Counters by reason, and those without one by the kernel's name; nothing where the kernel keeps none.

    They are of the whole network namespace. ``descriptor`` is /proc/net/xfrm_stat, open.
    """
    if descriptor < 0:
        return {}
    counted: dict[str, int] = {}
    for line in os.pread(descriptor, 65536, 0).decode("ascii", "replace").splitlines():
        name, _, value = line.partition(" ")
        if value.strip().isdecimal():
            reason = REASONS.get(name)
            key = name if reason is None else reason.name
            counted[key] = counted.get(key, 0) + int(value)
    return counted


async def read_usage(asked: Requester, rows: Sequence[Row]) -> list[Row]:
    """Have the rows tell the kernel's counters of their SAs. Returns those that do: the kernel may not answer for all.

    Raises DatapathRefusal.
    """
    try:
        if len(rows) > MANY:
            found: Iterable[object] = await asked.states()
        else:
            answers = await asked.batch([requests.get_state(states.id_of(row.key)) for row in rows])
            found = [reply for answer in answers for reply in answer.replies]
    except OSError as error:
        raise refusal_of(error, "reading SAs") from error
    by_id = {states.id_of(row.key): row for row in rows}
    told: list[Row] = []
    for state in found:
        if isinstance(state, State):
            row = by_id.get(StateId(state.destination, state.spi, state.protocol))
            if row is not None:
                row.usage = states.usage_of(state, row.sa.direction)
                told.append(row)
    return told
