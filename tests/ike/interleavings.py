"""Every order in which the messages of a collision can arrive, with the loss and the duplication of each of them.

A scenario starts with messages in flight. Each step delivers one of those in flight, or loses one, or delivers one that
comes again later, while the budgets last; all such schedules are run, each from the start, so nothing is left to
chance. A schedule that went wrong is named in the failure.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.ike.peers import Message, Net

DELIVERED, LOST, TWICE = "", "LOST", "TWICE"


@dataclass(slots=True)
class Schedule:
    """One run: the choices made, for the failure's text."""

    net: Net
    lost: int = 0
    doubled: list[Message] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return "\n  ".join(["schedule:", *self.steps])


def every_schedule(
    start: Callable[[], Net],
    *,
    losses: int = 0,
    twice: int = 0,
    at_most: int | None = None,
    check: Callable[[Net], None] = Net.assert_traffic,
) -> Iterator[Schedule]:
    """All schedules until the wire is quiet; the caller lets time pass then and checks the end.

    With ``at_most``, so many of them from all over the place, the same each time. ``check`` is called after each step.
    What it raises names the schedule.
    """
    chance = random.Random(1)
    done = 0
    pending: list[list[int]] = [[]]
    while pending and done != at_most:
        prefix = pending.pop(-1 if at_most is None else chance.randrange(len(pending)))
        done += 1
        schedule = Schedule(start())
        net = schedule.net
        depth = 0
        try:
            while net.flight:
                options = _options(schedule, losses, twice)
                choice = prefix[depth] if depth < len(prefix) else 0
                if depth >= len(prefix):
                    taken = [*prefix, *[0] * (depth - len(prefix))]
                    pending += [[*taken, other] for other in range(1, len(options))]
                fate, message = options[choice]
                schedule.steps.append(f"{fate} {message}".strip())
                if fate == LOST:
                    net.drop(message)
                    schedule.lost += 1
                else:
                    if fate == TWICE:
                        schedule.doubled.append(message)
                    net.deliver(message, keep=fate == TWICE)
                depth += 1
                check(net)
            yield schedule
        except Exception as error:
            error.add_note(str(schedule))
            raise


def _options(schedule: Schedule, losses: int, twice: int) -> list[tuple[str, Message]]:
    flight = schedule.net.flight
    options = [(DELIVERED, message) for message in flight]
    if schedule.lost < losses:
        options += [(LOST, message) for message in flight]
    if len(schedule.doubled) < twice:
        options += [(TWICE, message) for message in flight if message not in schedule.doubled]
    return options


def outcome(schedule: Schedule, check: Callable[[Net], None], *, seconds: float = 150.0) -> None:
    """Let time pass without further faults, then check; a failure names the schedule."""
    try:
        schedule.net.run(seconds)
        check(schedule.net)
    except Exception as error:
        error.add_note(str(schedule))
        error.add_note("\n  ".join(["all messages:", *(f"{m.sent_at:.1f} {m}" for m in schedule.net.log)]))
        raise
