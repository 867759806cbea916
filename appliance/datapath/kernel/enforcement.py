"""The kernel's policies, kept as SAs, policies of the configuration and survivors want them.

All of it with ``Core.lock`` held: what is claimed is not yet in the kernel before ``apply``.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Iterable, Sequence

from appliance.datapath.kernel import claims
from appliance.datapath.kernel.core import Core, inbound_spis
from appliance.datapath.kernel.requester import refusal_of
from appliance.datapath.kernel.sad import Row
from appliance.datapath.kernel.spd import OUT, Place
from appliance.datapath.kernel.xfrm import NoAnswer, Policy, PolicyId, StateId, requests
from appliance.reasons import Reason
from appliance.sa.association import PolicyAction, SaKey, SecurityPolicy
from appliance.sa.datapath import Changed

REPLACED_SECONDS = 5.0
"""For what is under way by a survivor's SA whose successor is there."""


class Enforcement:
    """``policies`` are those of the configuration by name. ``ready``: since they were installed for the first time.

    ``doubtful`` is called where the kernel may have something else than is thought.
    """

    def __init__(self, core: Core, doubtful: Callable[[], None]) -> None:
        self._core = core
        self._spd = core.spd
        self._doubtful = doubtful
        self.policies: dict[str, SecurityPolicy] = {}
        self.ready = False
        self._begun = False
        self._elsewhere: dict[str, SecurityPolicy] = {}
        self._wanting: dict[str, int] = {}
        self._tunnels: tuple[int, ...] = ()

    # Policies of the configuration

    def begin(self) -> bool:
        """Policies are being installed; True the first time: then what was left goes, unless it is claimed."""
        first, self.ready = not self.ready, True
        if first:
            self._spd.disown()
        return first

    def set_policy(self, policy: SecurityPolicy) -> None:
        """Want a policy, in place of the one of its name."""
        self.policies[policy.name] = policy
        claims.release_elsewhere(self._spd, policy.name)
        if policy.acquire and policy.name not in self._wanting:
            self._wanting[policy.name] = self._core.reqids.fresh()
        claims.claim_policy(
            self._spd,
            policy,
            self._wanting.get(policy.name, 0),
            blocked=self._core.options.block,
            if_ids=self._tunnels,
        )
        self._follow(policy.reqid)

    def unset_policy(self, name: str) -> None:
        """Want it no more. No error if it is not there."""
        policy = self.policies.pop(name, None)
        if policy is not None:
            self._core.reqids.free(self._wanting.pop(name, 0))
            claims.release_policy(self._spd, name)
            self._leave_to_others(name)
            self._follow(policy.reqid)

    def ask_again(self, name: str) -> bool:
        """Have the kernel tell anew of a packet that wants an SA: by another number. Whether the policy is here."""
        if name not in self._wanting:
            return False
        before, self._wanting[name] = self._wanting[name], self._core.reqids.fresh()
        self._core.reqids.free(before)
        self.set_policy(self.policies[name])
        return True

    def wanting(self, policy: Policy) -> SecurityPolicy | None:
        """The policy of ours that wants an SA where the kernel met one of its own."""
        claim = self._spd.winner(Place.of(policy))
        name = claim.owner[1] if claim is not None and isinstance(claim.owner, tuple) else ""
        wanted = self.policies.get(name)
        return wanted if wanted is not None and wanted.acquire else None

    def discard_on(self, if_ids: Iterable[int]) -> None:
        """What is discarded is so on these tunnel interfaces, too."""
        self._tunnels = tuple(if_ids)
        for policy in self.policies.values():
            if policy.action is PolicyAction.DISCARD:
                self.set_policy(policy)

    def always(self) -> None:
        """Want what holds whatever the configuration."""
        claims.always(self._spd, self._core.options)

    def reach_interfaces(self, indices: Iterable[int]) -> None:
        """What is routed to tunnel interfaces gets there."""
        claims.claim_interfaces(self._spd, indices, blocked=self._core.options.block)

    # Policies of other datapaths

    @property
    def elsewhere(self) -> list[SecurityPolicy]:
        """Those that are in other datapaths only."""
        return [policy for name, policy in self._elsewhere.items() if name not in self.policies]

    def set_elsewhere(self, policies: Sequence[SecurityPolicy]) -> None:
        """Those that other datapaths have."""
        for name in self._elsewhere:
            claims.release_elsewhere(self._spd, name)
        self._elsewhere = {policy.name: policy for policy in policies}
        for name in self._elsewhere:
            self._leave_to_others(name)

    def _leave_to_others(self, name: str) -> None:
        """While a policy is here as well, it is on its way there or back, and ours."""
        policy = self._elsewhere.get(name)
        if policy is not None and name not in self.policies:
            claims.claim_elsewhere(self._spd, policy, blocked=self._core.options.block)

    # SAs

    def priority(self, reqid: int) -> int | None:
        """That of the policy which leads to SAs, or the last one that is known."""
        policy = self._policy(reqid)
        if policy is not None:
            return policy.priority
        return next((row.priority for row in self._core.sad.family(reqid) if row.priority is not None), None)

    def claim(self, row: Row) -> None:
        """Want what an SA carries as it is now."""
        claims.claim_ike(self._spd, row, self._core.options.ike_ports)
        claims.claim_row(self._spd, row, ours=self._policy(row.sa.reqid) is not None)

    def forget(self, row: Row) -> None:
        """An SA is ours no more, nor its number and packets."""
        self._core.sad.remove(row.key)
        self._core.reqids.give(row.traffic)
        self._core.release_spis(inbound_spis([row.key]))
        self.release_ike([row])

    def release_ike(self, leaving: Sequence[Row]) -> None:
        """A device lets IKE pass as long as another SA needs it to."""
        owners = {owner for row in leaving if (owner := claims.ike_owner(row)) is not None}
        if owners:
            staying = (row for row in self._core.sad.rows.values() if not row.gone and row not in leaving)
            for owner in owners.difference(map(claims.ike_owner, staying)):
                self._spd.release(owner)

    def idle_rivals(self, row: Row) -> list[Row]:
        """Have other SAs for the same traffic carry nothing. Returns those that did."""
        idled = [other for other in self._core.sad.rivals(row) if other.active]
        for other in idled:
            other.active = False
            self.claim(other)
        return idled

    def reactivate(self, idled: Iterable[Row]) -> None:
        """Those whose successor came to nothing go on."""
        for other in idled:
            other.active = not other.gone
            self.claim(other)

    def _follow(self, reqid: int) -> None:
        """SAs follow the policy that leads to them: its priority, and outbound whether it is here at all."""
        if not reqid:
            return
        policy = self._policy(reqid)
        for row in self._core.sad.family(reqid):
            if policy is not None:
                row.priority = policy.priority
            self.claim(row)

    def _policy(self, reqid: int) -> SecurityPolicy | None:
        return next((policy for policy in self.policies.values() if policy.reqid == reqid), None) if reqid else None

    # The kernel

    async def apply(self, *, look: bool = True) -> None:
        """Have the kernel's policies be as they are claimed: new and changed ones first. Raises DatapathRefusal.

        Before the first policies and SAs nothing is wanted. ``look`` at everything soon if something is refused.
        """
        self._begun = self._begun or self.ready or bool(self._core.sad.rows)
        if not self._begun:
            return
        put, gone = self._spd.changes()
        if not put and not gone:
            self._spd.done((), ())
            return
        asked = self._core.asked
        try:
            messages = [requests.update_policy(policy) for policy in put] + [delete(policy) for policy in gone]
            answers = await asked.batch(messages)
        except OSError as error:
            self._doubtful()
            raise refusal_of(error, "setting policies") from error
        except asyncio.CancelledError:
            self._doubtful()  # who asked waits no more, and the kernel does it all the same
            raise
        refused = None
        done: list[Policy] = []
        for policy, answer in zip(put, answers, strict=False):
            if answer.error is None:
                done.append(policy)
            elif refused is None:
                reason = Reason.OFFLOAD_REFUSED if policy.offload is not None else Reason.KERNEL_REFUSED
                refused = refusal_of(answer.error, "setting policies", reason)
        went: list[Policy] = []
        for policy, answer in zip(gone, answers[len(put) :], strict=True):
            why = answer.error
            if why is not None:
                # Somebody was faster, or the kernel had chosen another index.
                why = (await asked.batch([requests.delete_policy(PolicyId.of(policy))]))[0].error
            if why is None or (why.errno == errno.ENOENT and not isinstance(why, NoAnswer)):
                went.append(policy)
            elif refused is None:
                refused = refusal_of(why, "removing policies")
        self._spd.done(done, went)
        self._replaced(done)
        if refused is not None:
            if look:
                self._doubtful()
            raise refused

    # What survived an earlier daemon

    def claim_survivors(self) -> None:
        """Let it carry traffic until it is replaced, for some time at most."""
        core = self._core
        if core.survivors.states:
            core.survivors.claim(self._spd)
            core.tasks.later(core.options.survivors, self._end_survivors)

    def _replaced(self, put: Sequence[Policy]) -> None:
        """An SA of ours took a survivor's place: that one has a few seconds for what is under way."""
        survivors = self._core.survivors
        if not survivors.states:
            return
        for policy in put:
            claim = self._spd.winner(Place.of(policy))
            if policy.direction is OUT and claim is not None and isinstance(claim.owner, SaKey):
                for reqid in survivors.at(Place.of(policy)):
                    self._core.tasks.later(REPLACED_SECONDS, lambda reqid=reqid: self._end_survivors(reqid))  # type: ignore[misc]

    async def _end_survivors(self, reqid: int | None = None) -> None:
        core = self._core
        async with core.lock:
            ended = core.survivors.end(self._spd, reqid)
            await self.apply()
            if ended:
                core.release_spis(core.survivors.inbound_spis(ended))
                await core.asked.batch([requests.delete_state(StateId.of(state)) for state in ended])
        if ended and reqid is None:
            words = f"{len(ended)} SAs of an earlier daemon were not replaced in time, and are removed"
            core.tell(Changed(Reason.LEFT_BEHIND, words))


def delete(policy: Policy) -> bytearray:
    """The request that removes a policy of ours: by its index, without a search."""
    return requests.delete_policy(
        PolicyId(direction=policy.direction, index=policy.index, mark=policy.mark, if_id=policy.if_id)
    )
