"""A batch of SAs is there with its policies or not at all, and what anything left by is not used once more."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from appliance.datapath.kernel.batches import Batches
from appliance.datapath.kernel.core import Core
from appliance.datapath.kernel.enforcement import Enforcement
from appliance.datapath.kernel.options import KernelOptions
from appliance.datapath.kernel.requester import Requester
from appliance.datapath.kernel.xfrm import DeletedPolicy, MessageType, Policy, PolicyDirection, StateId
from appliance.reasons import Reason, Refusal
from appliance.sa.association import Direction
from appliance.sa.datapath import Changed, DatapathRefusal, InstallRequest
from tests.datapath.kernel.memory_kernel import MemoryKernel
from tests.datapath.pair import GCM, Pair, keys

PAIR = Pair(cast(Any, None), cast(Any, ()))


class Finder:
    def find(self, name: str | None, peer: object) -> tuple[str, int]:
        return "nsim0", 7

    def close(self) -> None: ...


def run(kernel: MemoryKernel, body: Callable[[Core, Enforcement, Batches], Awaitable[None]]) -> None:
    async def whole() -> None:
        core = Core(KernelOptions(), None)
        core.requester = Requester(kernel.socket())
        enforcement = Enforcement(core, lambda: None)
        batches = Batches(core, enforcement, lambda rows: None)
        batches._finder = cast(Any, Finder())
        enforcement.begin()
        enforcement.set_policy(PAIR.policy(0))
        await enforcement.apply()
        try:
            await body(core, enforcement, batches)
        finally:
            core.requester.close()

    asyncio.run(whole())


def pair_of_sas(local: tuple[str, ...] | None = None) -> list[InstallRequest]:
    into, out = PAIR.sa(1, Direction.IN, 0x1002, local=local), PAIR.sa(0, Direction.OUT, 0x1001, local=local)
    return [InstallRequest(into, keys(0x1002, GCM)), InstallRequest(out, keys(0x1001, GCM), activate=True)]


@pytest.mark.parametrize("lost", [None, errno.ESRCH], ids=["no answer", "the device dropped it"])
def test_keys_of_an_sa_that_carried_and_cannot_be_asked_what_are_not_used_once_more(lost: int | None) -> None:
    kernel = MemoryKernel()
    steps: list[str] = []

    def refuse(kind: MessageType, body: object) -> int | None:
        if isinstance(body, Policy) and body.offload is not None and body.direction is PolicyDirection.IN:
            steps.append("refused")  # the policy to send by is in the device
            return errno.EOPNOTSUPP
        if steps and isinstance(body, StateId) and "lost" not in steps:
            steps.append("lost")
            return lost
        return 0

    kernel.refuse = refuse

    async def body(core: Core, enforcement: Enforcement, batches: Batches) -> None:
        with pytest.raises(DatapathRefusal) as caught:
            await batches.install(pair_of_sas())
        assert caught.value.in_doubt and "lost" in steps
        assert len(kernel.installed) == 2, "an outbound SA was installed with the same keys again"
        assert not kernel.states and not any(policy.templates for policy in kernel.policies.values())

    run(kernel, body)


def test_keys_of_an_sa_whose_policy_may_still_be_there_are_not_used_once_more() -> None:
    kernel = MemoryKernel()

    def refuse(kind: MessageType, body: object) -> int | None:
        if isinstance(body, Policy) and body.offload is not None and body.direction is PolicyDirection.IN:
            return errno.EOPNOTSUPP
        return None if isinstance(body, DeletedPolicy) else 0

    kernel.refuse = refuse

    async def body(core: Core, enforcement: Enforcement, batches: Batches) -> None:
        with pytest.raises(DatapathRefusal) as caught:
            await batches.install(pair_of_sas(local=("10.1.0.0/25",)))
        assert caught.value.in_doubt and len(kernel.installed) == 2

    run(kernel, body)


def test_keys_that_nothing_left_by_are_used_without_the_device_that_refused_the_policies() -> None:
    kernel = MemoryKernel()
    kernel.refuse = lambda kind, body: errno.EOPNOTSUPP if isinstance(body, Policy) and body.offload else 0

    async def body(core: Core, enforcement: Enforcement, batches: Batches) -> None:
        carried = await batches.install(pair_of_sas())
        assert [one.how for one in carried] == ["crypto offload on nsim0"] * 2
        assert all(Reason.OFFLOAD_REFUSED in [why.reason for why in one.why_not] for one in carried)

    run(kernel, body)


class Full:
    """A demultiplexer that has no room, not even to be told of what is gone."""

    def claim(self, spis: object, owner: object) -> None:
        raise Refusal(Reason.TABLE_FULL, "no room")

    def release(self, spis: object) -> None:
        raise Refusal(Reason.TABLE_FULL, "no room")


def test_sas_that_cannot_be_told_from_others_leave_nothing_behind() -> None:
    kernel = MemoryKernel()

    async def body(core: Core, enforcement: Enforcement, batches: Batches) -> None:
        core._demultiplexer = cast(Any, Full())
        with pytest.raises(DatapathRefusal) as caught:
            await batches.install(pair_of_sas())
        assert caught.value.reason is Reason.TABLE_FULL and not caught.value.in_doubt
        assert not kernel.installed and not core.sad.rows and not core.reqids._taken
        told = core.events.get_nowait()
        assert isinstance(told, Changed) and told.reason is Reason.TABLE_FULL

    run(kernel, body)


def test_no_sa_gets_the_number_by_which_a_policy_asks_for_one() -> None:
    kernel = MemoryKernel()

    async def body(core: Core, enforcement: Enforcement, batches: Batches) -> None:
        enforcement.set_policy(replace(PAIR.policy(0, name="other", remote=("10.9.0.0/24",)), acquire=True))
        asks = enforcement._wanting["other"]
        # Every number was had once.
        core.reqids._next -= 1
        await batches.install(pair_of_sas())
        assert asks not in {row.reqid for row in core.sad.rows.values()}
        assert enforcement.ask_again("other") and enforcement._wanting["other"] not in {asks, 0}
        enforcement.unset_policy("other")
        assert len(core.reqids._taken) == 1

    run(kernel, body)
