"""Which policies are wanted in the kernel, and by whom.

The kernel keeps one policy for a direction, selector and interface, whatever its priority. Here several owners may
claim that place: an SA, the policy of the configuration that leads to it, an SA that an earlier daemon left. The best
claim is installed; when it goes, the next one takes its place in one step, so that nothing passes in between.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

from appliance.datapath.kernel import selectors
from appliance.datapath.kernel.xfrm import Mark, Policy, PolicyAction, PolicyDirection, PolicyFlag, Selector, Template

FIRST, LAST = 0x40000000, 0xBFFFFFFC
"""The kernel's priorities that are ours: others' policies are below, so they come first."""
FIRST_INDEX, LAST_INDEX = 0x10000000, 0x1FFFFFFF
"""Indexes that are ours, without the direction in the lowest bits."""

IN, OUT, FORWARD = PolicyDirection.IN, PolicyDirection.OUT, PolicyDirection.FWD


class Tier(IntEnum):
    """Of claims to one place with one priority, the lower tier wins."""

    EXEMPT = 0
    SA = 1
    SURVIVOR = 2
    BASE = 3


_NUMBERS = {Tier.EXEMPT: 0, Tier.SA: 1, Tier.SURVIVOR: 1, Tier.BASE: 2}


@dataclass(frozen=True, slots=True)
class Place:
    """What makes a policy the same one for the kernel."""

    direction: PolicyDirection
    selector: Selector
    if_id: int = 0
    mark: Mark | None = None

    @classmethod
    def of(cls, policy: Policy) -> Place:
        """Where a policy is."""
        return cls(policy.direction, policy.selector, policy.if_id, policy.mark)


@dataclass(frozen=True, slots=True)
class Claim:
    """A policy that somebody wants at its place. ``order``: of two that are otherwise equal the later wins."""

    owner: Hashable
    policy: Policy
    priority: int
    tier: Tier
    order: int = 0

    @property
    def rank(self) -> tuple[int, int, int]:
        """The lowest is installed."""
        return self.priority, self.tier, -self.order


class Spd:
    """All claims, and what the kernel has because of them.

    ``claim`` and ``release`` only note; ``changes`` tells what to do about it, and ``done`` that it was done. What was
    noted in between is in the next ``changes``.
    """

    def __init__(self) -> None:
        self._claims: dict[Place, dict[Hashable, Claim]] = {}
        self._owned: dict[Hashable, set[Place]] = {}
        self._installed: dict[Place, Policy] = {}
        self._adopted: dict[Place, Policy] = {}
        self._touched: dict[Place, None] = {}
        self._told: set[Place] = set()
        self._order = 0
        self._index = FIRST_INDEX

    def __len__(self) -> int:
        return len(self._installed)

    def claim(self, owner: Hashable, policies: Iterable[Policy], priority: int, tier: Tier) -> None:
        """Let these be what an owner wants, in place of what it wanted."""
        before = self._owned.pop(owner, set())
        self._order += 1
        places = set()
        for policy in policies:
            # The kernel is told the priority, which says nothing of who claims. A survivor keeps that of an SA: to
            # change it would be to ask a device for room for another policy.
            numbered = replace(policy, priority=min(FIRST + 3 * priority + _NUMBERS[tier], LAST))
            place = Place.of(policy)
            self._claims.setdefault(place, {})[owner] = Claim(owner, numbered, priority, tier, self._order)
            self._touch(place)
            places.add(place)
        if places:
            self._owned[owner] = places
        for place in before - places:
            self._drop(owner, place)

    def release(self, owner: Hashable) -> None:
        """An owner wants nothing any more. No error if it did not."""
        for place in self._owned.pop(owner, set()):
            self._drop(owner, place)

    def winner(self, place: Place) -> Claim | None:
        """Whose policy is to be there."""
        claims = self._claims.get(place)
        return min(claims.values(), key=lambda claim: claim.rank) if claims else None

    def owners(self, kind: type) -> list[Hashable]:
        """Owners of a type."""
        return [owner for owner in self._owned if isinstance(owner, kind)]

    def places(self, owner: Hashable) -> set[Place]:
        """Where an owner claims."""
        return set(self._owned.get(owner, ()))

    def changes(self) -> tuple[list[Policy], list[Policy]]:
        """What differs from the kernel: policies to install or replace, then those to remove."""
        put: list[Policy] = []
        gone: list[Policy] = []
        self._told = set(self._touched)
        for place in self._touched:
            claim, there = self.winner(place), self._installed.get(place)
            wanted = claim.policy if claim is not None else self._adopted.get(place)
            if wanted is None:
                if there is not None:
                    gone.append(there)
            elif there is None or not same(there, wanted):
                index = there.index if there is not None else self._next_index(place.direction)
                put.append(replace(wanted, index=index))
        return put, gone

    def done(self, put: Sequence[Policy], gone: Sequence[Policy]) -> None:
        """The kernel has these now, and those no more."""
        for policy in put:
            self._installed[Place.of(policy)] = policy
        for policy in gone:
            self._installed.pop(Place.of(policy), None)
        for place in self._told:
            self._touched.pop(place, None)

    def concerned(self, actual: Iterable[Policy]) -> list[Policy]:
        """Of the kernel's policies those that are ours, and those of others in our places."""
        return [
            policy for policy in actual if policy.index & 7 < 3 and (ours(policy) or Place.of(policy) in self._claims)
        ]

    def found(self, actual: Iterable[Policy]) -> list[str]:
        """The kernel has these, of ours: what is not as it should be, in words. ``changes`` then puts it right."""
        words = []
        there = {Place.of(policy): policy for policy in actual}
        for place, policy in self._installed.items():
            now = there.get(place)
            if now is None:
                words.append(f"the policy {describe(policy)} was removed")
            elif not same(now, policy):
                words.append(f"the policy {describe(policy)} was changed")
        added = (policy for place, policy in there.items() if place not in self._installed)
        words += [f"a policy {describe(policy)} was added" for policy in added]
        for place in {*self._installed, *there, *self._claims}:
            self._touch(place)
        self._installed = there
        return words

    def adopt(self, actual: Iterable[Policy]) -> None:
        """Take what the kernel has for what was installed, at the start. It stays where nobody claims, for now."""
        for policy in actual:
            self._installed[Place.of(policy)] = self._adopted[Place.of(policy)] = policy
            self._index = max(self._index, policy.index >> 3)

    def disown(self) -> None:
        """What was adopted is to go where nobody claims."""
        for place in self._adopted:
            self._touch(place)
        self._adopted.clear()

    def __iter__(self) -> Iterator[Policy]:
        return iter(self._installed.values())

    def _drop(self, owner: Hashable, place: Place) -> None:
        claims = self._claims.get(place, {})
        claims.pop(owner, None)
        if not claims:
            self._claims.pop(place, None)
        self._touch(place)

    def _touch(self, place: Place) -> None:
        self._touched[place] = None
        self._told.discard(place)

    def _next_index(self, direction: PolicyDirection) -> int:
        """An index of our choice: by it the kernel removes a policy without a search. It keeps the lowest 3 bits.

        It counts from 0 for those who do not choose: there an index of ours might be another's.
        """
        self._index = self._index + 1 if self._index < LAST_INDEX else FIRST_INDEX
        return self._index << 3 | direction


def same(one: Policy, other: Policy) -> bool:
    """Whether two policies at one place do the same."""
    return (
        one.action == other.action
        and one.priority == other.priority
        and one.templates == other.templates
        and _offloaded(one) == _offloaded(other)
    )


def _offloaded(policy: Policy) -> int:
    """By which interface, 0 for none. The flags that the kernel shows are not those that it takes."""
    return 0 if policy.offload is None else policy.offload.interface


def ours(policy: Policy) -> bool:
    """Whether a policy of the kernel's is one that Esplanade made, by its priority. Sockets have others."""
    return FIRST <= policy.priority <= LAST and policy.index & 7 < 3


def describe(policy: Policy) -> str:
    """In words, as ip-xfrm(8) has them."""
    selector = policy.selector
    return f"{policy.direction.name.lower()} {selector.source} to {selector.destination}"


def both_ways(found: Sequence[Selector], *, forward: bool = True) -> list[tuple[PolicyDirection, Selector]]:
    """Outbound selectors with those of the way back, for what arrives and for what is forwarded."""
    back = [selectors.inbound(selector) for selector in found]
    directions = (IN, FORWARD) if forward else (IN,)
    return [(OUT, selector) for selector in found] + [(way, selector) for way in directions for selector in back]


def allow(ways: Iterable[tuple[PolicyDirection, Selector]], mark: Mark | None = None) -> list[Policy]:
    """Policies that let packets pass as they are."""
    return [Policy(selector=selector, direction=way, mark=mark) for way, selector in ways]


def block(ways: Iterable[tuple[PolicyDirection, Selector]], if_id: int = 0) -> list[Policy]:
    """Policies that drop."""
    return [Policy(selector=selector, direction=way, action=PolicyAction.BLOCK, if_id=if_id) for way, selector in ways]


def protect(ways: Iterable[tuple[PolicyDirection, Selector]], template: Template, if_id: int = 0) -> list[Policy]:
    """Policies that want an SA."""
    return [
        Policy(
            selector=selector,
            direction=way,
            templates=(template,),
            if_id=if_id,
            flags=PolicyFlag.ICMP if way is OUT else PolicyFlag(0),
        )
        for way, selector in ways
    ]
