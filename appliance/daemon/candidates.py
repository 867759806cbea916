"""The datapaths that placement asks for one child: the configured order, less those that it has to keep off for now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from appliance.daemon.slot import AVOID_FIRST, LONGEST_WAIT, Slot, by_datapath
from appliance.reasons import Reason, Refusal
from appliance.sa.association import SecurityAssociation, SecurityPolicy
from appliance.sa.datapath import Datapath, WhyNot
from appliance.sa.placement import Candidate, objection, policy_objection


@dataclass(slots=True)
class Avoided:
    """A datapath that is kept off one child until a time of the event loop, and why. The next time is longer."""

    why: WhyNot
    delay: float
    until: float


class Candidates:
    """``kin`` gives the datapath of live SAs of the same reqid for other traffic, if there are any."""

    def __init__(self, slots: list[Slot], *, kin: Callable[[SecurityAssociation], Datapath | None]) -> None:
        self._slots = slots
        self._kin = kin
        self._loop = asyncio.get_running_loop()
        self._avoided: dict[tuple[int, str], Avoided] = {}

    def of(self, sa: SecurityAssociation) -> list[Candidate]:
        """All of them in their order. What is avoided is asked all the same if nothing else can take the SA."""
        careful = self._careful(sa)
        return careful if _able(careful, sa) else self._with_kin(sa)

    def can_take(self, sa: SecurityAssociation, *, careful: bool = False) -> bool:
        """Whether one could take an SA by what it says about itself; ``careful``: one that is not avoided."""
        return _able(self._careful(sa) if careful else self._with_kin(sa), sa)

    def lack(self, policy: SecurityPolicy) -> Refusal | None:
        """Why no datapath can carry what a policy protects, whatever is negotiated; None if one can."""
        found: list[tuple[Slot, WhyNot]] = []
        for slot in self._slots:
            why = policy_objection(slot.candidate(), policy)
            if why is None:
                return None
            found.append((slot, why))
        # What it is pinned to matters, not that the others are not it.
        telling = [(slot, why) for slot, why in found if why.reason is not Reason.PINNED] or found
        if not telling:
            return Refusal(Reason.DATAPATH_GONE, "no datapath is configured")
        slot, why = telling[0]
        remedy = slot.why.remedy if slot.why is not None and slot.why.reason is why.reason else None
        if len(telling) == 1:
            return Refusal(why.reason, f"{why.datapath}: {why.detail}".rstrip(": "), remedy=remedy)
        return Refusal(why.reason, "; ".join(str(why) for _, why in telling), remedy=remedy)

    def better(self, sa: SecurityAssociation, datapath: Datapath) -> list[Slot]:
        """Running datapaths before this one in the order that could take the SA. None while it has kin here."""
        found: list[Slot] = []
        if self._slots and self._slots[0].datapath is datapath:
            return found
        for slot, candidate in zip(self._slots, self._with_kin(sa), strict=True):
            if slot.datapath is datapath:
                return found
            if objection(candidate, sa) is None:
                found.append(slot)
        return []

    def running(self, name: str) -> Datapath | None:
        """The datapath of that name, if it runs."""
        return next((slot.datapath for slot in self._slots if slot.name == name), None)

    def runs(self, datapath: Datapath) -> bool:
        """Whether a datapath has not failed since."""
        return by_datapath(self._slots, datapath) is not None

    def keep_off(self, reqid: int, datapath: Datapath, refusal: Refusal) -> None:
        """A datapath had a child's SAs and could not be made to carry its traffic."""
        now, key = self._loop.time(), (reqid, datapath.name)
        before = self._avoided.get(key)
        again = before is not None and now < before.until + before.delay
        delay = min(LONGEST_WAIT, before.delay * 2) if before is not None and again else AVOID_FIRST
        self._avoided[key] = Avoided(WhyNot(datapath.name, refusal.reason, refusal.detail), delay, now + delay)

    def kept_off_for(self, reqid: int) -> float:
        """Seconds for which a datapath is kept off a child again, as it failed it before; 0 if none is."""
        now = self._loop.time()
        again = [a.until - now for (r, _), a in self._avoided.items() if r == reqid and a.delay > AVOID_FIRST]
        return max(0.0, *again) if again else 0.0

    def asked(self, why_not: Sequence[WhyNot], taken: Datapath | None, *, in_doubt: bool = False) -> None:
        """What datapaths answered: nothing new goes for a while to one that did not, or left in doubt what it did."""
        now = self._loop.time()
        for number, why in enumerate(why_not, 1):
            slot = next((s for s in self._slots if s.name == why.datapath and s.datapath is not None), None)
            silent = why.reason is Reason.DATAPATH_TIMEOUT or (in_doubt and number == len(why_not))
            if slot is not None and silent and now >= slot.standing.avoid_until:
                slot.standing.silent(now)
                slot.silence = why
        slot = by_datapath(self._slots, taken)
        if slot is not None:
            slot.standing.answered()
            slot.silence = None

    def avoids(self, slot: Slot, reqid: int) -> WhyNot | None:
        """Why a running datapath is not asked for a child at present."""
        now = self._loop.time()
        if slot.silence is not None and now < slot.standing.avoid_until:
            return slot.silence
        avoided = self._avoided.get((reqid, slot.name))
        return avoided.why if avoided is not None and now < avoided.until else None

    def _careful(self, sa: SecurityAssociation) -> list[Candidate]:
        found = self._with_kin(sa)
        for number, slot in enumerate(self._slots):
            if found[number].datapath is not None and (why := self.avoids(slot, sa.reqid)) is not None:
                found[number] = Candidate(slot.name, None, None, why.reason, why.detail)
        return found

    def _with_kin(self, sa: SecurityAssociation) -> list[Candidate]:
        """A policy is in one datapath: all SAs that it leads to have to be there."""
        kin = self._kin(sa)
        if kin is None:
            return [slot.candidate() for slot in self._slots]
        return [
            slot.candidate()
            if slot.datapath in (None, kin)
            else Candidate(slot.name, None, None, Reason.POLICY_ELSEWHERE, f"in {kin.name}")
            for slot in self._slots
        ]


def _able(candidates: Sequence[Candidate], sa: SecurityAssociation) -> bool:
    return any(objection(candidate, sa) is None for candidate in candidates)
