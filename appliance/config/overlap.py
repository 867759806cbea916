"""Which children and policies are for the same packets. The first one in order gets them; often nobody meant that."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from appliance.config.model import Connection, Policy
from appliance.config.read import KeyPath, Report
from appliance.reasons import Reason
from appliance.sa.selector import TrafficSelector

_NAMED = 50
"""Overlaps that are named one by one."""
_SOUGHT = 1000
"""Overlaps after which no more are sought: thousands of claims may have millions."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What one child or policy says is its own."""

    label: str
    path: KeyPath
    line: int
    child: bool
    priority: int
    local_ts: tuple[TrafficSelector, ...]
    remote_ts: tuple[TrafficSelector, ...]
    interface: str | None = None
    """Only packets of this tunnel interface are looked at; None: only those of no tunnel interface."""

    @property
    def packets(self) -> tuple[str | None, frozenset[TrafficSelector], frozenset[TrafficSelector]]:
        """What makes two claims the same."""
        return self.interface, frozenset(self.local_ts), frozenset(self.remote_ts)


def check_overlaps(connections: Sequence[Connection], policies: Sequence[Policy], report: Report) -> None:
    """Report identical claims as errors, and children that share packets without an order of their own as warnings."""
    different: dict[object, Claim] = {}
    for claim in _claims(connections, policies):
        first = different.setdefault(claim.packets, claim)
        if first is not claim and claim.local_ts and claim.remote_ts:
            _report_same(first, claim, report)
    overlaps = sorted(islice(_suspicious(different.values()), _SOUGHT), key=lambda o: (o[1].line, o[0].line))
    for first, second, local, remote in overlaps[:_NAMED]:
        _report_overlap(first, second, local, remote, report)
    if len(overlaps) > _NAMED:
        more = "at least " if len(overlaps) == _SOUGHT else ""
        report.add(
            ("connection",),
            Reason.CONFIG_OVERLAP,
            f"{more}{len(overlaps) - _NAMED} further pairs of children overlap",
            f"only {_NAMED} are named",
            "give children that are to come first a lower priority",
            warning=True,
        )


def _suspicious(claims: Iterable[Claim]) -> Iterator[tuple[Claim, Claim, TrafficSelector, TrafficSelector]]:
    """Overlaps that nobody seems to have meant.

    Policies are there to overlap with children, and a priority that differs was chosen by somebody. A tunnel
    interface's packets are its own.
    """
    groups: dict[str | None, list[Claim]] = {}
    for claim in claims:
        groups.setdefault(claim.interface, []).append(claim)
    for group in groups.values():
        for one, two, local, remote in _overlaps(group):
            a, b = group[one], group[two]
            if a.child and b.child and a.priority == b.priority:
                yield a, b, local, remote


def _claims(connections: Sequence[Connection], policies: Sequence[Policy]) -> Iterator[Claim]:
    for connection in connections:
        for child in connection.children:
            yield Claim(
                label=f"{connection.name}/{child.name}",
                path=("connection", connection.name, "child", child.name),
                line=child.line,
                child=True,
                priority=child.priority,
                local_ts=child.local_ts,
                remote_ts=child.remote_ts,
                interface=child.interface,
            )
    for index, policy in enumerate(policies):
        yield Claim(
            label=f"policy {policy.name}",
            path=("policy", index),
            line=policy.line,
            child=False,
            priority=policy.priority,
            local_ts=policy.local_ts,
            remote_ts=policy.remote_ts,
        )


def _overlaps(claims: Sequence[Claim]) -> Iterator[tuple[int, int, TrafficSelector, TrafficSelector]]:
    """Pairs of claims with packets in common, each once: their indices, and the local and remote selectors shared.

    A sweep over the addresses of the side where they differ more: only claims whose ranges there overlap are compared.
    """
    locals_, remotes = [c.local_ts for c in claims], [c.remote_ts for c in claims]
    swept, other_side, over_remote = remotes, locals_, True
    if len({ts for side in locals_ for ts in side}) > len({ts for side in remotes for ts in side}):
        swept, other_side, over_remote = locals_, remotes, False
    entries = sorted(
        (ts.version, int(ts.start), int(ts.end), index, position)
        for index, side in enumerate(swept)
        for position, ts in enumerate(side)
    )
    seen: set[tuple[int, int]] = set()
    active: list[tuple[int, int, int]] = []  # a heap by end
    family = 0
    for version, start, end, index, position in entries:
        if version != family:
            family, active = version, []
        while active and active[0][0] < start:
            heapq.heappop(active)
        for _, other, other_position in active:
            pair = (min(index, other), max(index, other))
            if other == index or pair in seen:
                continue
            one = swept[index][position].intersection(swept[other][other_position])
            two = _common(other_side[index], other_side[other], one) if one else None
            if one and two:
                seen.add(pair)
                yield (*pair, two, one) if over_remote else (*pair, one, two)
        heapq.heappush(active, (end, index, position))


def _common(
    ours: Sequence[TrafficSelector], theirs: Sequence[TrafficSelector], far: TrafficSelector
) -> TrafficSelector | None:
    """The first selector that both have in common and that a packet with its other end in ``far`` can have."""
    for a in ours:
        for b in theirs:
            near = a.intersection(b)
            if near and near.version == far.version and _one_protocol(near, far):
                return near
    return None


def _one_protocol(local: TrafficSelector, remote: TrafficSelector) -> bool:
    return not (local.protocol and remote.protocol and local.protocol != remote.protocol)


def _report_same(a: Claim, b: Claim, report: Report) -> None:
    report.add(
        b.path,
        Reason.CONFIG_OVERLAP,
        f"{b.label} has the same selectors as {a.label} in line {a.line}",
        "every packet would go to one of them and none to the other",
        "change the selectors of one, or remove it",
    )


def _report_overlap(a: Claim, b: Claim, local: TrafficSelector, remote: TrafficSelector, report: Report) -> None:
    report.add(
        b.path,
        Reason.CONFIG_OVERLAP,
        f"{b.label} and {a.label} (line {a.line}) are both for packets between {local} and {remote}",
        f"they have the same priority, so {a.label} gets those packets, because it stands first",
        "give the one that should get them a lower priority, or make the selectors differ",
        warning=True,
    )
