"""Homes of policies: each PROTECT policy is in one datapath, the one that carries its traffic; all others are in all.

A kernel's policy captures packets whatever routing says, so it may be there only while the kernel is to carry them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence, Set
from dataclasses import replace

from appliance.daemon.bounded import ANSWER_SECONDS, bounded
from appliance.daemon.log import Log
from appliance.daemon.slot import Slot, by_datapath
from appliance.reasons import Reason
from appliance.sa.association import USUAL_HANDLING, PolicyAction, SecurityPolicy
from appliance.sa.datapath import Capabilities, Datapath, DatapathRefusal
from appliance.sa.placement import Candidate, policy_objection

POLICY_SECONDS = 30.0
"""How long a datapath may take over a batch of policies: a thousand of them mean some thousand routes."""
FEW = 10
SETTLE_SOON = 1.0
SETTLE_AGAIN = 10.0
"""Seconds until what a datapath did not do is asked for again."""


class Homes:
    """The desired policies, and in which datapaths they are. Changes are made one after the other.

    ``carrier`` tells which datapath has the live SAs of a reqid. A home changes by make before break: the policy is
    installed in the new one, then removed in the old one, then that one's outbound SAs are idled.
    """

    def __init__(self, log: Log, slots: list[Slot], *, carrier: Callable[[int], Datapath | None]) -> None:
        self.policies: tuple[SecurityPolicy, ...] = ()
        self._log = log
        self._slots = slots
        self._carrier = carrier
        self._loop = asyncio.get_running_loop()
        self._changing = asyncio.Lock()
        self._by_reqid: dict[int, list[SecurityPolicy]] = {}
        self._told: dict[tuple[str, str], Reason] = {}
        self._again: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def home(self, name: str) -> str | None:
        """Where a PROTECT policy is: a name of the order."""
        return next((slot.name for slot in self._slots if name in slot.policies), None)

    def use(self, policies: Iterable[SecurityPolicy]) -> None:
        """Have these policies from now on; nothing is installed by that."""
        self.policies = tuple(policies)
        self._by_reqid = {}
        for policy in self.policies:
            if policy.action is PolicyAction.PROTECT:
                self._by_reqid.setdefault(policy.reqid, []).append(policy)

    async def change(self, policies: Iterable[SecurityPolicy]) -> None:
        """Make these the policies, in all datapaths, new ones before old ones go.

        Raises DatapathRefusal if one is not where it should be; those that were taken stay. One that no datapath took
        before either is no reason: else it could not even be taken away.
        """
        async with self._changing:
            known = {p.name: replace(p, priority=0) for p in self.policies if self.home(p.name) is None}
            self.use(policies)
            homeless = await self._settle()
            wanted = {p.name: replace(p, priority=0) for p in self.policies}
        for name, refusal in homeless.items():
            if known.get(name) != wanted[name]:
                raise refusal

    async def open(self, slot: Slot, datapath: Datapath, capabilities: Capabilities) -> None:
        """Give a datapath that has just started its policies and enter it. Its first call is made in any case.

        Policies without SAs whose place is here leave the datapath that they are in. Raises DatapathRefusal.
        """
        async with self._changing:
            candidates = [
                replace(s.candidate(), datapath=datapath, capabilities=capabilities) if s is slot else s.candidate()
                for s in self._slots
            ]
            mine = [p for p in self.policies if slot.name in self._places(p, candidates, frozenset())]
            slot.policies, slot.unsure, slot.elsewhere = {}, set(), ()
            await self._tell_elsewhere(slot, datapath, {policy.name for policy in mine})
            try:
                await bounded(datapath.install_policies(mine), "install_policies", seconds=POLICY_SECONDS)
            except DatapathRefusal as refusal:
                if _is_sick(refusal):
                    raise
                # One that it cannot say spoils the batch: the settling below finds another place for that one.
                mine = [p for p in mine if p.action is not PolicyAction.PROTECT]
                await bounded(datapath.install_policies(mine), "install_policies", seconds=POLICY_SECONDS)
            slot.policies = {policy.name: policy for policy in mine}
            slot.opened(datapath, capabilities, self._loop.time())
            await self._settle()

    async def settle(self) -> None:
        """Bring all policies to where they should be, as far as datapaths take them."""
        async with self._changing:
            await self._settle()

    def settle_soon(self, after: float = SETTLE_SOON) -> None:
        """Settle in a moment: something went, and what follows it may be about to come."""
        if self._closed:
            return
        due = self._loop.time() + after
        if self._again is not None:
            if self._again.when() <= due:
                return
            self._again.cancel()
        self._again = self._loop.call_at(due, self._settle_now)

    async def move(self, reqid: int, datapath: Datapath, retire: Callable[[], Awaitable[None]]) -> None:
        """Have the policies of a reqid in this datapath, whose SAs are active. ``retire`` idles those of the others.

        Raises DatapathRefusal if it does not take them; then they stay where they are.
        """
        async with self._changing:
            slot = by_datapath(self._slots, datapath)
            if slot is None:
                return  # it failed in the meantime, and so did what was to move there
            policies = self._by_reqid.get(reqid, [])
            missing = [policy for policy in policies if slot.policies.get(policy.name) != policy]
            if missing and (refusal := await self._install(slot, missing, ANSWER_SECONDS)) is not None:
                raise refusal
            names = {policy.name for policy in policies}
            others = [s for s in self._slots if s is not slot and names & (s.policies.keys() | s.unsure)]
            # In this order: an SA that is idled under its policy leaves packets nowhere to go.
            for other in others:
                await self._remove(other, sorted(names & (other.policies.keys() | other.unsure)))
            if others:
                await retire()
                await self._tell_all_elsewhere()

    def vacated(self) -> None:
        """A reqid has no live SAs any more: its policies may belong elsewhere."""
        if len(self._slots) > 1:
            self.settle_soon()

    def close(self) -> None:
        """Settle no more."""
        self._closed = True
        if self._again is not None:
            self._again.cancel()
        if self._task is not None:
            self._task.cancel()

    # Inside, with the lock

    async def _settle(self) -> dict[str, DatapathRefusal]:
        """Install what is missing, then remove what is too much. Returns those that have no place, and why."""
        refused: dict[str, set[str]] = {}
        homeless: dict[str, DatapathRefusal] = {}
        searching = True
        while searching:
            searching = False
            for slot in self._slots:
                for policy, refusal in await self._complete(slot, refused):
                    refused.setdefault(policy.name, set()).add(slot.name)
                    if policy.action is PolicyAction.PROTECT and self._elsewhere(policy, slot, refused):
                        searching = True
                        self._tell(policy, slot, refusal, "warning")
                    else:
                        homeless.setdefault(policy.name, refusal)
                        self._tell(policy, slot, refusal, "error")
        candidates = [slot.candidate() for slot in self._slots]
        places = {p.name: self._places(p, candidates, refused.get(p.name, frozenset())) for p in self.policies}
        for slot in self._slots:
            extra = []
            for name in slot.policies.keys() | slot.unsure:
                wanted = places.get(name, frozenset())
                there = any(name in s.policies for s in self._slots if s.name in wanted)
                # What no datapath takes as it is now stays as it was.
                if slot.name not in wanted and (there or not (wanted or name in refused)):
                    extra.append(name)
            if extra:
                await self._remove(slot, sorted(extra))
        await self._tell_all_elsewhere()
        if homeless:
            self.settle_soon(SETTLE_AGAIN)
        return homeless

    def _tell(self, policy: SecurityPolicy, slot: Slot, refusal: DatapathRefusal, level: str) -> None:
        """Once for each reason: it is asked for again and again."""
        if self._told.get((policy.name, slot.name)) is not refusal.reason:
            self._told[policy.name, slot.name] = refusal.reason
            text = f"{slot.name} does not take the policy {policy.name}"
            self._log.refusal(level, "datapath", "policy-refused", text, refusal)

    async def _complete(self, slot: Slot, refused: dict[str, set[str]]) -> list[tuple[SecurityPolicy, DatapathRefusal]]:
        """Install in a datapath what belongs there and is not. Returns what it does not take, and why."""
        candidates = [s.candidate() for s in self._slots]
        missing = [
            policy
            for policy in self.policies
            if slot.policies.get(policy.name) != policy
            and slot.name not in refused.get(policy.name, ())
            and slot.name in self._places(policy, candidates, refused.get(policy.name, frozenset()))
        ]
        if not missing or slot.datapath is None:
            return []
        refusal = await self._install(slot, missing, POLICY_SECONDS)
        if refusal is None:
            return []
        if len(missing) == 1 or _is_sick(refusal):
            return [(policy, refusal) for policy in missing]
        alone: list[tuple[SecurityPolicy, DatapathRefusal]] = []
        for policy in missing:
            if (refusal := await self._install(slot, [policy], ANSWER_SECONDS)) is not None:
                alone.append((policy, refusal))
        return alone

    def _places(
        self, policy: SecurityPolicy, candidates: Sequence[Candidate], refused: Iterable[str]
    ) -> frozenset[str] | set[str]:
        """The names of the datapaths in which a policy should be."""
        if policy.action is not PolicyAction.PROTECT:
            return {c.name for c in candidates if c.datapath is not None}
        carrier = self._carrier(policy.reqid)
        if carrier is not None:
            # While its SAs are there, a pin that was just changed does not count: they are rekeyed for that.
            lenient = policy
            if policy.handling != USUAL_HANDLING:
                lenient = replace(policy, handling=replace(USUAL_HANDLING, interface=policy.handling.interface))
            for candidate in candidates:
                if candidate.datapath is carrier and policy_objection(candidate, lenient) is None:
                    return {candidate.name}
        for candidate in candidates:
            if candidate.name not in refused and policy_objection(candidate, policy) is None:
                return {candidate.name}
        return frozenset()

    def _elsewhere(self, policy: SecurityPolicy, slot: Slot, refused: dict[str, set[str]]) -> bool:
        candidates = [s.candidate() for s in self._slots]
        return bool(set(self._places(policy, candidates, refused[policy.name])) - {slot.name})

    async def _install(self, slot: Slot, policies: Sequence[SecurityPolicy], seconds: float) -> DatapathRefusal | None:
        datapath, held, unsure = slot.datapath, slot.policies, slot.unsure
        if datapath is None:
            return DatapathRefusal(Reason.DATAPATH_GONE, slot.name)
        names = {policy.name for policy in policies}
        try:
            await bounded(datapath.install_policies(policies), "install_policies", in_doubt=True, seconds=seconds)
        except DatapathRefusal as refusal:
            if refusal.in_doubt or refusal.reason is Reason.DATAPATH_TIMEOUT:
                for name in names:
                    held.pop(name, None)
                unsure |= names
                self.settle_soon(SETTLE_AGAIN)
            return refusal
        held |= {policy.name: policy for policy in policies}
        unsure -= names
        for name in names:
            self._told.pop((name, slot.name), None)
        return None

    async def _remove(self, slot: Slot, names: Sequence[str]) -> None:
        datapath, held, unsure = slot.datapath, slot.policies, slot.unsure
        if datapath is None:
            return
        # Before it lacks them: what is left there may overlap, and is not to take their packets.
        await self._tell_elsewhere(slot, datapath, held.keys() - set(names))
        try:
            seconds = ANSWER_SECONDS if len(names) < FEW else POLICY_SECONDS
            await bounded(datapath.remove_policies(names), "remove_policies", seconds=seconds)
        except DatapathRefusal as refusal:
            if slot.datapath is datapath:
                text = f"{slot.name} may still have policies that moved or are wanted no more"
                self._log.refusal("error", "datapath", "policies", text, refusal)
                self.settle_soon(SETTLE_AGAIN)
            return
        for name in names:
            held.pop(name, None)
        unsure.difference_update(names)

    async def _tell_all_elsewhere(self) -> None:
        for slot in self._slots:
            if slot.datapath is not None:
                await self._tell_elsewhere(slot, slot.datapath, slot.policies.keys())

    async def _tell_elsewhere(self, slot: Slot, datapath: Datapath, own: Set[str]) -> None:
        """Tell a datapath which policies others have, if that is news."""
        elsewhere = tuple(
            policy
            for other in self._slots
            if other is not slot
            for policy in other.policies.values()
            if policy.action is PolicyAction.PROTECT and policy.name not in own
        )
        if elsewhere == slot.elsewhere:
            return
        try:
            await bounded(datapath.note_elsewhere(elsewhere), "note_elsewhere", seconds=POLICY_SECONDS)
        except DatapathRefusal as refusal:
            text = f"{slot.name} may take packets of policies that are in other datapaths"
            self._log.refusal("error", "datapath", "policies", text, refusal)
            self.settle_soon(SETTLE_AGAIN)
            return
        slot.elsewhere = elsewhere

    def _settle_now(self) -> None:
        self._again = None
        if self._task is not None and not self._task.done():
            self.settle_soon()
            return

        async def guarded() -> None:
            try:
                await self.settle()
            except Exception as error:
                self._log.internal("datapath", "settling policies", error)
                self.settle_soon(SETTLE_AGAIN)

        self._task = self._loop.create_task(guarded())


def _is_sick(refusal: DatapathRefusal) -> bool:
    return refusal.reason in (Reason.DATAPATH_GONE, Reason.DATAPATH_TIMEOUT)
