"""What the kernel says by itself, and what is looked at, while something else is being asked."""

from __future__ import annotations

import asyncio
import errno
import itertools
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any, cast

import pytest

from appliance.datapath.kernel.core import Core
from appliance.datapath.kernel.enforcement import Enforcement
from appliance.datapath.kernel.options import KernelOptions
from appliance.datapath.kernel.requester import Requester
from appliance.datapath.kernel.sad import Row, traffic
from appliance.datapath.kernel.spd import OUT
from appliance.datapath.kernel.upkeep import Upkeep
from appliance.datapath.kernel.xfrm import Aead, MessageType, Policy, Selector, State, requests
from appliance.reasons import Reason
from appliance.sa.association import Direction
from appliance.sa.datapath import Acquire, Changed, DatapathRefusal
from tests.datapath.kernel.memory_kernel import MemoryKernel
from tests.datapath.pair import Pair

PAIR = Pair(cast(Any, None), cast(Any, ()))
HOST = ip_address("192.0.2.1")


class Nothing:
    """Surroundings without rules and interfaces."""

    async def keep_interfaces(self) -> list[str]:
        return []

    async def steer(self, *, look: bool = False) -> list[str]:
        return []


def run(
    kernel: MemoryKernel,
    body: Callable[[Core, Enforcement, Upkeep], Awaitable[None]],
    options: KernelOptions | None = None,
    surroundings: Any = None,
) -> None:
    async def whole() -> None:
        core = Core(options or KernelOptions(), None)
        core.requester = Requester(kernel.socket())
        enforcement = Enforcement(core, lambda: upkeep.look_soon())
        upkeep = Upkeep(core, enforcement, surroundings or cast(Any, Nothing()))
        enforcement.begin()
        try:
            await body(core, enforcement, upkeep)
        finally:
            core.tasks.cancel()
            core.requester.close()

    asyncio.run(whole())


def row_of(core: Core, spi: int, direction: Direction = Direction.OUT, **how: Any) -> Row:
    """An active SA that the kernel took."""
    sa = PAIR.sa(0 if direction is Direction.OUT else 1, direction, spi, **how)
    what = traffic(sa)
    row = Row(sa, what, core.reqids.take(what), cast(Any, None), active=True, priority=1000)
    core.sad.add(row)
    return row


def test_an_sa_that_goes_while_policies_are_being_set_takes_its_own_along() -> None:
    kernel = MemoryKernel()

    async def body(core: Core, enforcement: Enforcement, upkeep: Upkeep) -> None:
        loop = asyncio.get_running_loop()
        async with core.lock:
            enforcement.set_policy(PAIR.policy(0))
            row = row_of(core, 0x1001)
            enforcement.claim(row)
            await enforcement.apply()
        assert any(policy.templates for policy in kernel.policies.values() if policy.direction is OUT)

        def goes() -> None:
            """The kernel's event comes while it is asked for something else."""
            kernel.before = lambda: None
            heard = threading.Event()
            loop.call_soon_threadsafe(lambda: (upkeep.vanished(row, "gone"), heard.set()))
            assert heard.wait(5)

        kernel.before = goes
        async with core.lock:
            enforcement.set_policy(PAIR.policy(0, name="other", priority=5, remote=("10.9.0.0/24",), reqid=2))
            await enforcement.apply()
        await asyncio.sleep(0)
        await asyncio.wait(set(core.tasks._running))
        assert row.gone
        assert not any(policy.templates for policy in kernel.policies.values()), "a policy names an SA that is gone"

    run(kernel, body)


def test_what_the_kernel_does_after_nobody_waits_for_it_is_put_right() -> None:
    kernel = MemoryKernel()

    async def body(core: Core, enforcement: Enforcement, upkeep: Upkeep) -> None:
        loop = asyncio.get_running_loop()
        async with core.lock:
            enforcement.set_policy(PAIR.policy(0))
            await enforcement.apply()

        async def setting() -> None:
            async with core.lock:
                enforcement.set_policy(PAIR.policy(0, name="other", priority=5, remote=("10.9.0.0/24",), reqid=2))
                await enforcement.apply()

        def given_up() -> None:
            kernel.before = lambda: None
            cancelled = threading.Event()
            loop.call_soon_threadsafe(lambda: (task.cancel(), loop.call_soon(cancelled.set)))
            assert cancelled.wait(5)

        kernel.before = given_up
        task = loop.create_task(setting())
        await asyncio.wait([task])
        assert task.cancelled()
        # It is wanted no more, before anything was known of it.
        enforcement.unset_policy("other")
        await asyncio.sleep(0.2)
        assert {str(policy.selector.destination) for policy in kernel.policies.values() if policy.direction is OUT} == {
            "10.2.0.0/24",
            "fd02::/64",
        }

    run(kernel, body)


def test_a_policy_of_both_families_is_asked_for_once_at_a_time() -> None:
    kernel = MemoryKernel()
    told: set[tuple[int, int]] = set()

    async def body(core: Core, enforcement: Enforcement, upkeep: Upkeep) -> None:
        async with core.lock:
            enforcement.set_policy(replace(PAIR.policy(0), acquire=True))
            await enforcement.apply()
        loop = asyncio.get_running_loop()
        end = loop.time() + 0.5
        while loop.time() < end:
            # Packets of both families: the kernel tells of each once for each number that it is asked with.
            for policy in list(kernel.policies.values()):
                source = policy.selector.source
                if policy.templates and source is not None and (policy.templates[0].reqid, source.version) not in told:
                    told.add((policy.templates[0].reqid, source.version))
                    upkeep.acquired(policy, lambda wanted: Acquire(1, wanted.name, HOST, HOST, 6, 1, 2))
            await asyncio.sleep(0)
        numbers = {number for number, _ in told}
        assert 3 <= len(numbers) <= 11, f"asked with {len(numbers)} numbers"
        assert core.events.qsize() == len(numbers)

    run(kernel, body, KernelOptions(acquire_again=0.05))


@pytest.mark.parametrize("list_", [MessageType.GETSA, MessageType.GETPOLICY], ids=["SAs", "policies"])
def test_a_kernel_that_is_too_busy_to_list_what_it_has_is_no_failure(list_: MessageType) -> None:
    kernel = MemoryKernel()

    async def body(core: Core, enforcement: Enforcement, upkeep: Upkeep) -> None:
        async with core.lock:
            enforcement.set_policy(PAIR.policy(0))
            await enforcement.apply()
        kernel.refuse = lambda kind, body: None if kind is list_ else 0
        core.tasks.start(upkeep.audit)
        told = await core.events.get()
        assert isinstance(told, Changed) and told.reason is Reason.DATAPATH_TIMEOUT
        assert core.events.empty()

    run(kernel, body)


def test_a_policy_that_the_kernel_refuses_keeps_nothing_else_from_being_put_right() -> None:
    kernel = MemoryKernel()
    done: list[str] = []

    class Noting(Nothing):
        async def keep_interfaces(self) -> list[str]:
            done.append("interfaces")
            return []

        async def steer(self, *, look: bool = False) -> list[str]:
            done.append("rules")
            return []

    async def body(core: Core, enforcement: Enforcement, upkeep: Upkeep) -> None:
        async with core.lock:
            enforcement.set_policy(PAIR.policy(0))
            await enforcement.apply()
        kernel.policies.clear()
        kernel.refuse = lambda kind, body: errno.ENOMEM if isinstance(body, Policy) else 0
        for _ in range(2):
            with pytest.raises(DatapathRefusal):
                await upkeep.audit()
        assert done == ["interfaces", "rules"] * 2
        told = await core.events.get()
        assert isinstance(told, Changed) and "was removed" in told.words

    run(kernel, body, surroundings=Noting())


def test_who_changes_much_and_often_does_not_have_everything_looked_at_all_the_time() -> None:
    kernel = MemoryKernel()
    looks: list[float] = []

    class Slow(Nothing):
        async def keep_interfaces(self) -> list[str]:
            looks.append(asyncio.get_running_loop().time())
            await asyncio.sleep(0.1)
            return []

    async def body(core: Core, enforcement: Enforcement, upkeep: Upkeep) -> None:
        until = asyncio.get_running_loop().time() + 1.2
        while asyncio.get_running_loop().time() < until:
            upkeep.changed_from_outside()
            await asyncio.sleep(0.01)
        assert len(looks) >= 2
        assert all(later - earlier >= 0.45 for earlier, later in itertools.pairwise(looks))

    run(kernel, body, surroundings=Slow())


def test_what_the_kernel_keeps_for_a_packet_that_came_too_late_was_added_by_nobody() -> None:
    kernel = MemoryKernel()

    async def body(core: Core, enforcement: Enforcement, upkeep: Upkeep) -> None:
        row = row_of(core, 0x1001)
        larval = State(source=HOST, destination=row.sa.destination, spi=row.sa.spi, reqid=row.reqid)
        upkeep.vanished(row, "its device went")
        await core.events.get()
        kernel.add(larval)
        kernel.add(replace(larval, spi=0x1003))
        await upkeep.audit()
        assert core.events.empty() and not kernel.states
        kernel.add(replace(larval, spi=0x1005, aead=Aead("rfc4106(gcm(aes))", b"k" * 20)))
        await upkeep.audit()
        told = await core.events.get()
        assert isinstance(told, Changed) and "0x00001005 was added" in told.words

    run(kernel, body)


def test_requests_that_nobody_waits_for_any_more_are_sent_as_they_are() -> None:
    """A long batch goes in several datagrams: one that is cut would be answered by nothing, for seconds each."""
    kernel = MemoryKernel()

    async def body(core: Core, enforcement: Enforcement, upkeep: Upkeep) -> None:
        loop = asyncio.get_running_loop()
        nets = [ip_network(f"10.{n >> 8}.{n & 255}.0/24") for n in range(400)]
        policies = [Policy(selector=Selector(net, net), direction=OUT) for net in nets]
        task = loop.create_task(core.asked.batch([requests.update_policy(policy) for policy in policies]))

        def given_up() -> None:
            kernel.before = lambda: None
            cancelled = threading.Event()
            loop.call_soon_threadsafe(lambda: (task.cancel(), loop.call_later(0.01, cancelled.set)))
            assert cancelled.wait(5)

        kernel.before = given_up
        await asyncio.wait([task])
        assert task.cancelled()
        await core.asked.run(lambda socket: None)
        assert len(kernel.policies) == 400

    run(kernel, body)
