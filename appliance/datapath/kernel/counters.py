"""What the kernel counts of the packets it drops (/proc/net/xfrm_stat), by our reasons."""

from __future__ import annotations

import os

from appliance.reasons import Reason

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
