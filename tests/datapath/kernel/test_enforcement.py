"""The kernel's policies before the configuration's are there: what SAs want comes and goes, what was left stays."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, cast

import pytest

from appliance.daemon.translate import PRIORITY_STEP
from appliance.datapath.kernel import claims, selectors
from appliance.datapath.kernel.core import Core
from appliance.datapath.kernel.enforcement import Enforcement
from appliance.datapath.kernel.options import KernelOptions
from appliance.datapath.kernel.requester import Requester
from appliance.datapath.kernel.sad import Row, traffic
from appliance.datapath.kernel.spd import LAST, Place, Spd
from appliance.datapath.kernel.states import Device
from appliance.datapath.kernel.survivors import Survivors
from appliance.datapath.kernel.xfrm import DeletedPolicy, Policy, XfrmSocket
from appliance.datapath.kernel.xfrm.parse import parse_frame
from appliance.datapath.kernel.xfrm.wire import Frame
from appliance.sa.association import Direction, PolicyAction
from tests.datapath.kernel.xfrm.scripted import ScriptedKernel, ack
from tests.datapath.pair import Pair

PAIR = Pair(cast(Any, None), cast(Any, ()))


class Policies:
    """A kernel that has policies and nothing else."""

    def __init__(self, there: Iterable[Policy] = ()) -> None:
        self.there = {Place.of(policy): policy for policy in there}

    def script(self, data: bytes, received: list[Frame]) -> Iterable[bytes]:
        for frame in received:
            body = parse_frame(memoryview(data), frame).body
            if isinstance(body, Policy):
                self.there[Place.of(body)] = body
                yield ack(frame.sequence)
            else:
                assert isinstance(body, DeletedPolicy)
                gone = [place for place, policy in self.there.items() if policy.index == body.id.index]
                for place in gone:
                    del self.there[place]
                yield ack(frame.sequence, 0 if gone else errno.ENOENT)


def left() -> list[Policy]:
    """What an earlier daemon had in the kernel, and where an SA's policy comes to be another's."""
    spd = Spd()
    for name, nets in (("elsewhere", ("10.8.0.0/24", "10.9.0.0/24")), ("net", ("10.1.0.0/24", "10.2.0.0/24"))):
        policy = PAIR.policy(0, name=name, action=PolicyAction.DISCARD, local=nets[:1], remote=nets[1:])
        claims.claim_policy(spd, policy, 0)
    return spd.changes()[0]


def run(policies: Policies, body: Callable[[Core, Enforcement], Awaitable[None]]) -> None:
    async def whole() -> None:
        core = Core(KernelOptions(), None)
        core.requester = Requester(XfrmSocket(ScriptedKernel(policies.script), timeout=0.1))
        core.spd.adopt(policies.there.values())
        try:
            await body(core, Enforcement(core, lambda: None))
        finally:
            core.requester.close()

    asyncio.run(whole())


def installed(core: Core, spi: int, device: Device | None = None) -> Row:
    """An inbound SA that the kernel took."""
    sa = PAIR.sa(1, Direction.IN, spi)
    what = traffic(sa)
    row = Row(sa, what, core.reqids.take(what), cast(Any, None), device=device, active=True)
    core.sad.add(row)
    return row


async def removed(core: Core, enforcement: Enforcement, row: Row) -> None:
    core.spd.release(row.key)
    enforcement.forget(row)
    await enforcement.apply()


def test_the_policies_of_the_last_sa_go_with_it_though_none_were_ever_installed() -> None:
    policies = Policies()

    async def body(core: Core, enforcement: Enforcement) -> None:
        first, second = installed(core, 0x1001, Device("nsim0", 7, True)), installed(core, 0x1003)
        for row in (first, second):
            enforcement.claim(row)
        await enforcement.apply()
        assert policies.there
        await removed(core, enforcement, first)
        assert policies.there and not any(policy.offload for policy in policies.there.values())
        await removed(core, enforcement, second)
        assert not policies.there

    run(policies, body)


def test_a_device_lets_ike_pass_no_more_when_its_last_sa_goes() -> None:
    policies = Policies()

    async def body(core: Core, enforcement: Enforcement) -> None:
        row = installed(core, 0x1001, Device("nsim0", 7, True))
        enforcement.claim(row)
        await enforcement.apply()
        assert any(policy.offload and not policy.templates for policy in policies.there.values())
        await removed(core, enforcement, row)
        assert not policies.there

    run(policies, body)


@pytest.mark.parametrize("block", [False, True])
def test_the_policies_of_an_earlier_daemon_tell_whether_it_had_the_kernel_drop_the_rest(block: bool) -> None:
    policies = Policies()

    async def body(core: Core, enforcement: Enforcement) -> None:
        core.options = KernelOptions(block=block)
        enforcement.begin()
        enforcement.always()
        enforcement.set_policy(PAIR.policy(0))
        enforcement.set_policy(PAIR.policy(0, name="dns", action=PolicyAction.BYPASS, priority=0, reqid=0))
        await enforcement.apply()
        assert Survivors((), list(policies.there.values())).blocked is block

    run(policies, body)


def test_what_an_earlier_daemon_left_stays_until_policies_are_installed() -> None:
    before = left()
    policies = Policies(before)

    async def body(core: Core, enforcement: Enforcement) -> None:
        row = installed(core, 0x1001)
        enforcement.claim(row)
        await enforcement.apply()
        # An SA takes its place among them, and where it was is as before when it goes.
        assert len(policies.there) > len(before) and any(policy.templates for policy in policies.there.values())
        await removed(core, enforcement, row)
        assert set(policies.there.values()) == set(before)
        assert enforcement.begin() and not enforcement.begin()
        await enforcement.apply()
        assert not policies.there

    run(policies, body)


def test_nothing_is_asked_for_before_there_is_an_sa_or_a_policy() -> None:
    before = left()
    policies = Policies(before)

    async def body(core: Core, enforcement: Enforcement) -> None:
        enforcement.set_elsewhere([PAIR.policy(0)])
        await enforcement.apply()
        assert set(policies.there.values()) == set(before)

    run(policies, body)


def test_inbound_sas_without_a_policy_come_after_all_policies_of_a_configuration() -> None:
    policies = Policies()
    lowest = PAIR.policy(
        0, action=PolicyAction.DISCARD, priority=10_000 * PRIORITY_STEP - 1, remote=("10.7.0.0/24",), reqid=0
    )

    those = selectors.outbound(lowest.local_ts, lowest.remote_ts)

    async def body(core: Core, enforcement: Enforcement) -> None:
        enforcement.claim(installed(core, 0x1001))
        enforcement.begin()
        enforcement.set_policy(lowest)
        await enforcement.apply()
        sas = {policy.priority for policy in policies.there.values() if policy.templates}
        (mine,) = {policy.priority for policy in policies.there.values() if policy.selector in those}
        assert mine < min(sas) and max(sas) < LAST

    run(policies, body)
