"""When a connection that failed is tried again."""

from __future__ import annotations

from collections.abc import Callable

FIRST = 1.0
LONGEST = 60.0


def delay(attempt: int, random: Callable[[int], bytes]) -> float:
    """Seconds until the next try after the ``attempt``-th failure in a row (1 is the first).

    Doubles from FIRST to LONGEST, and varies by a quarter either way so that a thousand peers of a gateway that
    came back do not call at once.
    """
    base = min(LONGEST, FIRST * 2.0 ** min(max(attempt, 1) - 1, 10))
    return base * (0.75 + 0.5 * int.from_bytes(random(2), "big") / 0xFFFF)
