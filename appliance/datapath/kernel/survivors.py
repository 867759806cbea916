"""What an earlier daemon, which was killed, left in the kernel: it carries traffic until it is replaced."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace

from appliance.datapath.kernel.requester import Requester
from appliance.datapath.kernel.sad import generation_of
from appliance.datapath.kernel.spd import FIRST, LAST, Place, Spd, Tier, ours
from appliance.datapath.kernel.states import policy_offload
from appliance.datapath.kernel.xfrm import DefaultAction, Defaults, Policy, SaDirection, State

PASS = Defaults(DefaultAction.ACCEPT, DefaultAction.ACCEPT, DefaultAction.ACCEPT)
"""What becomes of packets that no policy is for, as the kernel has it at boot."""
BLOCK = Defaults(DefaultAction.BLOCK, DefaultAction.BLOCK, DefaultAction.BLOCK)


class Survivors:
    """SAs and policies of earlier starts. ``every_policy`` has those without SAs, too, which go at once.

    Those that let IKE pass a device stay as long as an SA does. ``blocked``: some let pass what no other policy is
    about, so that daemon had the kernel drop it.
    """

    def __init__(self, states: Sequence[State], policies: Sequence[Policy]) -> None:
        self.states = [state for state in states if generation_of(state.reqid) is not None]
        self.every_policy = [_as_asked(policy) for policy in policies if ours(policy)]
        self.blocked = any(policy.priority == LAST for policy in self.every_policy)
        with_sa = {state.reqid for state in self.states}
        self._policies: dict[int, list[Policy]] = {}
        self._at: dict[Place, list[int]] = {}
        for policy in self.every_policy:
            for template in policy.templates:
                if template.reqid in with_sa:
                    self._policies.setdefault(template.reqid, []).append(policy)
                    self._at.setdefault(Place.of(policy), []).append(template.reqid)
        self._bypass = [policy for policy in self.every_policy if policy.offload is not None and not policy.templates]

    @classmethod
    async def of(cls, requester: Requester) -> Survivors:
        """What there is now. Raises OSError."""
        return cls(await requester.states(), await requester.policies())

    def unused_generation(self) -> int:
        """A number for this start that none of them has."""
        taken = {generation_of(state.reqid) for state in self.states}
        taken |= {generation_of(t.reqid) for policy in self.every_policy for t in policy.templates}
        return secrets.choice([number for number in range(256) if number not in taken] or [0])

    @staticmethod
    def inbound_spis(states: Sequence[State]) -> list[int]:
        """Of those that may be inbound; older kernels do not say."""
        return [state.spi for state in states if state.direction is not SaDirection.OUT]

    def claim(self, spd: Spd) -> None:
        """Let their policies stay where no SA of this start takes their place."""
        for reqid, policies in self._policies.items():
            for number, policy in enumerate(policies):
                spd.claim(("survivor", reqid, number), [policy], (policy.priority - FIRST) // 3, Tier.SURVIVOR)
        spd.claim(_BYPASS, self._bypass, 0, Tier.EXEMPT)

    def at(self, place: Place) -> list[int]:
        """The reqids of those whose policy was at a place."""
        return [reqid for reqid in self._at.get(place, ()) if reqid in self._policies]

    def end(self, spd: Spd, reqid: int | None) -> list[State]:
        """Claim nothing any more for one reqid, or for all. Returns the SAs, for the kernel to delete."""
        for one in list(self._policies) if reqid is None else [reqid]:
            for number in range(len(self._policies.pop(one, ()))):
                spd.release(("survivor", one, number))
        ended = [state for state in self.states if reqid in (None, state.reqid)]
        self.states = [state for state in self.states if reqid not in (None, state.reqid)]
        if not self.states:
            spd.release(_BYPASS)
        return ended


_BYPASS = ("survivor", 0)


def _as_asked(policy: Policy) -> Policy:
    """The kernel shows other flags of offload than it takes."""
    return policy if policy.offload is None else replace(policy, offload=policy_offload(policy.offload.interface))
