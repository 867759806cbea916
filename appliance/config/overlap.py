"""Which children and policies are for the same packets. The first one in order gets them; often nobody meant that."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from appliance.config.model import Connection, Policy
from appliance.config.read import KeyPath, Report
from appliance.reasons import Reason
from appliance.sa.selector import TrafficSelector

_MANY = 50
"""Overlaps that are named one by one."""


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

    def same(self, other: Claim) -> bool:
        """Whether both are for the same packets exactly."""
        return set(self.local_ts) == set(other.local_ts) and set(self.remote_ts) == set(other.remote_ts)


def check_overlaps(connections: Sequence[Connection], policies: Sequence[Policy], report: Report) -> None:
    """Report identical claims as errors, and children that share packets without an order of their own as warnings."""
    claims = [*_claims(connections, policies)]
    warnings = 0
    for first, second, ours, theirs in sorted(_overlaps(claims), key=lambda o: (claims[o[0]].line, claims[o[1]].line)):
        a, b = claims[first], claims[second]
        if a.same(b):
            _report_same(a, b, report)
        elif a.child and b.child and a.priority == b.priority:
            warnings += 1
            if warnings <= _MANY:
                _report_overlap(a, b, ours, theirs, report)
    if warnings > _MANY:
        report.add(
            ("connection",),
            Reason.CONFIG_OVERLAP,
            f"{warnings - _MANY} further pairs of children overlap",
            "only the first ones are named",
            "give children that are to come first a lower priority",
            warning=True,
        )


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

    A sweep over the remote addresses: only claims whose remote ranges overlap are compared.
    """
    entries = sorted(
        (ts.version, int(ts.start), int(ts.end), index, position)
        for index, claim in enumerate(claims)
        for position, ts in enumerate(claim.remote_ts)
    )
    seen: set[tuple[int, int]] = set()
    active: list[tuple[int, int, int, TrafficSelector]] = []  # by end
    family = 0
    for version, start, end, index, position in entries:
        selector = claims[index].remote_ts[position]
        if version != family:
            family, active = version, []
        while active and active[0][0] < start:
            heapq.heappop(active)
        for _, other, _, theirs in active:
            pair = (min(index, other), max(index, other))
            if other == index or pair in seen:
                continue
            remote = selector.intersection(theirs)
            local = _common(claims[index].local_ts, claims[other].local_ts, remote) if remote else None
            if remote and local:
                seen.add(pair)
                yield *pair, local, remote
        heapq.heappush(active, (end, index, position, selector))


def _common(
    ours: Sequence[TrafficSelector], theirs: Sequence[TrafficSelector], remote: TrafficSelector
) -> TrafficSelector | None:
    """The first local selector that both have in common and that a packet to ``remote`` can have."""
    for a in ours:
        for b in theirs:
            local = a.intersection(b)
            if local and local.version == remote.version and _one_protocol(local, remote):
                return local
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
