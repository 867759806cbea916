"""Every order in which the messages of a collision can arrive, with the loss of each of them.

A scenario starts with messages in flight. Each step delivers one of those in flight, or loses one while the budget
lasts; all such schedules are run, each from the start, so nothing is left to chance. A schedule that went wrong is
named in the failure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.ike.peers import Message, Net


@dataclass(slots=True)
class Schedule:
    """One run: the choices made, for the failure's text."""

    net: Net
    lost: int = 0
    steps: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return "\n  ".join(["schedule:", *self.steps])


def every_schedule(
    start: Callable[[], Net], *, losses: int = 0, check: Callable[[Net], None] = Net.assert_traffic
) -> Iterator[Schedule]:
    """All schedules until the wire is quiet; the caller lets time pass then and checks the end.

    ``check`` is called after each step. What it raises, and what the caller raises, names the schedule.
    """
    pending: list[list[int]] = [[]]
    while pending:
        prefix = pending.pop()
        schedule = Schedule(start())
        net = schedule.net
        depth = 0
        try:
            while net.flight:
                options = _options(net, losses - schedule.lost)
                choice = prefix[depth] if depth < len(prefix) else 0
                if depth >= len(prefix):
                    taken = [*prefix, *[0] * (depth - len(prefix))]
                    pending += [[*taken, other] for other in range(1, len(options))]
                loses, message = options[choice]
                schedule.steps.append(("LOST " if loses else "") + str(message))
                if loses:
                    net.drop(message)
                    schedule.lost += 1
                else:
                    net.deliver(message)
                depth += 1
                check(net)
            yield schedule
        except Exception as error:
            error.add_note(str(schedule))
            raise


def _options(net: Net, budget: int) -> list[tuple[bool, Message]]:
    deliver = [(False, message) for message in net.flight]
    return deliver + [(True, message) for message in net.flight] if budget > 0 else deliver


def outcome(schedule: Schedule, check: Callable[[Net], None], *, seconds: float = 150.0) -> None:
    """Let time pass without further faults, then check; a failure names the schedule."""
    try:
        schedule.net.run(seconds)
        check(schedule.net)
    except Exception as error:
        error.add_note(str(schedule))
        error.add_note("\n  ".join(["all messages:", *(f"{m.sent_at:.1f} {m}" for m in schedule.net.log)]))
        raise
