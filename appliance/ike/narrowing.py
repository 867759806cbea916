"""Narrowing of traffic selectors (RFC 7296 §2.9)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from appliance.sa.selector import Address, TrafficSelector

MAX_SELECTORS = 64
"""More than this many in one narrowed list are cut off: narrowing may return any subset (RFC 7296 §2.9)."""


def narrow(configured: Sequence[TrafficSelector], offered: Sequence[TrafficSelector]) -> tuple[TrafficSelector, ...]:
    """What is in both lists, in the offer's order, without members that others contain. Empty: nothing in common."""
    found: dict[TrafficSelector, None] = {}
    for offer in offered:
        for mine in configured:
            common = mine.intersection(offer)
            if common is not None:
                found[common] = None
        if len(found) >= MAX_SELECTORS:
            break  # before comparing them all with each other: a peer can offer 255
    candidates = list(found)[:MAX_SELECTORS]
    return tuple(ts for ts in candidates if not any(other != ts and other.contains(ts) for other in candidates))


def is_subset(narrowed: Iterable[TrafficSelector], offered: Sequence[TrafficSelector]) -> bool:
    """Whether an answer stays inside what was offered; an initiator checks that (RFC 7296 §2.9)."""
    return all(any(offer.contains(ts) for offer in offered) for ts in narrowed)


def same_families(local: Sequence[TrafficSelector], remote: Sequence[TrafficSelector]) -> bool:
    """Whether at least one address family is on both sides: else the pair of lists matches no packet."""
    return bool({ts.version for ts in local} & {ts.version for ts in remote})


def with_address(selectors: Iterable[TrafficSelector], address: Address) -> tuple[TrafficSelector, ...]:
    """The selectors for one address, protocols and ports kept: transport mode through NAT (RFC 7296 §2.23.1)."""
    replaced = [
        TrafficSelector(address, address, ts.protocol, ts.start_port, ts.end_port)
        for ts in selectors
        if ts.version == address.version
    ]
    return tuple(dict.fromkeys(replaced))
