"""Explicit congestion notification through a tunnel (RFC 6040), normal mode unless told otherwise."""

from __future__ import annotations

from appliance.esp.drop import Drop
from appliance.reasons import Reason

NOT_ECT = 0b00
ECT_1 = 0b01
ECT_0 = 0b10
CE = 0b11
ECN = 0b11  # the two bits, in a traffic class

# RFC 6040 §4.2, figure 4: (arriving inner, arriving outer) gives the outgoing one; absent is the one that is dropped.
_LEAVING: dict[tuple[int, int], int] = {
    (NOT_ECT, NOT_ECT): NOT_ECT,
    (NOT_ECT, ECT_0): NOT_ECT,
    (NOT_ECT, ECT_1): NOT_ECT,
    (ECT_0, NOT_ECT): ECT_0,
    (ECT_0, ECT_0): ECT_0,
    (ECT_0, ECT_1): ECT_1,
    (ECT_0, CE): CE,
    (ECT_1, NOT_ECT): ECT_1,
    (ECT_1, ECT_0): ECT_1,
    (ECT_1, ECT_1): ECT_1,
    (ECT_1, CE): CE,
    (CE, NOT_ECT): CE,
    (CE, ECT_0): CE,
    (CE, ECT_1): CE,
    (CE, CE): CE,
}

# The combinations that figure 4 marks "(!!!)" or "(!)": nothing uses them now, and they are certainly or possibly
# dangerous, so they are to be logged. (NOT_ECT, CE) is a drop, and counted as that.
_ALARMS = frozenset({(NOT_ECT, ECT_0), (NOT_ECT, ECT_1), (ECT_1, ECT_0), (CE, ECT_1)})


def entering(inner: int, *, copy: bool) -> int:
    """The outer ECN of a packet that enters: the inner one in normal mode, Not-ECT in compatibility mode (§4.1)."""
    return inner & ECN if copy else NOT_ECT


def leaving(inner: int, outer: int) -> tuple[int, bool]:
    """The ECN of a packet that leaves, and whether the combination is one to be logged.

    Takes traffic classes or bare ECN fields. Raises Drop(ECN_NOT_CAPABLE) for CE on the outer header of a packet that
    is not ECN-capable: the congestion is signalled by its loss (RFC 6040 §4.2).
    """
    combination = inner & ECN, outer & ECN
    outgoing = _LEAVING.get(combination)
    if outgoing is None:
        raise Drop(Reason.ECN_NOT_CAPABLE)
    return outgoing, combination in _ALARMS
