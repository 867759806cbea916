"""A kernel datapath starts and ends as a whole, whatever the kernel says or does not say."""

from __future__ import annotations

import asyncio
import errno
from dataclasses import replace
from typing import Any, cast

import pytest

from appliance.datapath.kernel import datapath as room
from appliance.datapath.kernel import selectors
from appliance.datapath.kernel.datapath import KernelDatapath
from appliance.datapath.kernel.options import KernelOptions
from appliance.datapath.kernel.probe.abilities import Ability, KernelAbilities
from appliance.datapath.kernel.requester import Requester
from appliance.datapath.kernel.survivors import Survivors
from appliance.datapath.kernel.xfrm import DefaultAction, Defaults, Policy
from appliance.reasons import Reason
from appliance.sa.datapath import DatapathRefusal
from tests.datapath.kernel.gateways import kill
from tests.datapath.kernel.memory_kernel import MemoryKernel
from tests.datapath.pair import GCM, Pair

PAIR = Pair(cast(Any, None), cast(Any, ()))
ABLE = frozenset(Ability)


class Deaf:
    """Hears nothing of the kernel."""

    def __init__(self) -> None:
        self.closed = False

    def attach(self, loop: object) -> None: ...

    def close(self) -> None:
        self.closed = True


class Machine:
    """What a kernel datapath finds: a kernel in memory, and nothing of routing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kernel = MemoryKernel()
        self.hearing = Deaf()
        monkeypatch.setattr(room, "probe_kernel", lambda: KernelAbilities(release="6.12", able=ABLE, suites=(GCM,)))
        monkeypatch.setattr(room, "Requester", lambda: Requester(self.kernel.socket()))
        monkeypatch.setattr(room, "Hearing", lambda *_: self.hearing)

    def datapath(self, **options: Any) -> KernelDatapath:
        made = KernelDatapath(KernelOptions(steer=False, **options))
        made._surroundings = cast(Any, Still())
        made._upkeep._surroundings = made._surroundings
        return made


class Still:
    """Surroundings that are as they should be."""

    def __init__(self) -> None:
        self.tunnels = self
        self.closed = False

    def open(self, changed: object) -> None: ...

    def attach(self, loop: object) -> None: ...

    async def keep_interfaces(self) -> list[str]:
        return []

    async def steer(self, *, look: bool = False) -> list[str]:
        return []

    async def remove(self, requester: object) -> None: ...

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_one_whose_close_is_not_waited_for_puts_nothing_right_any_more(machine: Machine) -> None:
    """Its successor is about to start: each would remove what the other adds."""

    async def body() -> None:
        datapath = machine.datapath(audit=0.01)
        await datapath.start()
        await datapath.install_policies([PAIR.policy(0)])
        core = datapath._core
        async with core.lock:  # something that the kernel does not come to an end with
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await datapath.close()
        assert machine.hearing.closed and core.tasks.ended and cast(Any, datapath._surroundings).closed
        machine.kernel.policies.clear()
        await asyncio.sleep(0.05)
        assert not machine.kernel.policies
        with pytest.raises(DatapathRefusal) as caught:
            await datapath.install_policies([PAIR.policy(0)])
        assert caught.value.reason is Reason.DATAPATH_GONE
        assert [event async for event in datapath.events()] == []

    asyncio.run(body())


@pytest.mark.parametrize("error", [ValueError("not a message"), asyncio.CancelledError()], ids=["malformed", "stopped"])
def test_a_start_that_fails_leaves_no_socket_and_no_thread(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def of(requester: Requester) -> Any:
        raise error

    monkeypatch.setattr(Survivors, "of", of)

    async def body() -> None:
        datapath = machine.datapath()
        with pytest.raises(type(error)):
            await datapath.start()
        assert machine.hearing.closed and datapath._core.requester is None and datapath._stat == -1

    asyncio.run(body())


BLOCK, ACCEPT = (Defaults(action, action, action) for action in (DefaultAction.BLOCK, DefaultAction.ACCEPT))


def test_packets_without_a_policy_are_blocked_also_where_the_first_policies_were_refused(machine: Machine) -> None:
    async def body() -> None:
        datapath = machine.datapath(block=True)
        await datapath.start()
        machine.kernel.refuse = lambda kind, body: errno.ENOMEM if isinstance(body, Policy) and body.templates else 0
        with pytest.raises(DatapathRefusal):
            await datapath.install_policies([replace(PAIR.policy(0), acquire=True)])
        await datapath.install_policies([])  # as the daemon does then: without those that are protected
        assert machine.kernel.defaults == BLOCK
        await datapath.close()
        assert machine.kernel.defaults == ACCEPT

    asyncio.run(body())


@pytest.mark.parametrize("block", [True, False])
def test_what_a_killed_one_blocked_is_not_taken_for_how_it_was(machine: Machine, block: bool) -> None:
    async def body() -> None:
        killed, again = machine.datapath(block=True), machine.datapath(block=block)
        await killed.start()
        await killed.install_policies([PAIR.policy(0)])
        kill(killed)
        killed._batches.close()
        assert machine.kernel.defaults == BLOCK
        await again.start()
        assert machine.kernel.defaults == BLOCK
        await again.install_policies([PAIR.policy(0)])
        assert machine.kernel.defaults == (BLOCK if block else ACCEPT)
        await again.close()
        assert machine.kernel.defaults == ACCEPT and not machine.kernel.policies

    asyncio.run(body())


def test_what_somebody_else_blocked_stays_so(machine: Machine) -> None:
    async def body() -> None:
        machine.kernel.defaults = BLOCK
        for block in (True, False):
            datapath = machine.datapath(block=block)
            await datapath.start()
            await datapath.install_policies([PAIR.policy(0)])
            assert machine.kernel.defaults == BLOCK
            await datapath.close()
            assert machine.kernel.defaults == BLOCK

    asyncio.run(body())


def test_packets_are_led_here_only_while_the_kernels_own_policies_are_there_for_them(machine: Machine) -> None:
    """A policy that comes is in the kernel before its rules; one that goes is there until they are gone."""
    led: list[tuple[bool, bool]] = []

    class Leading(Still):
        async def steer(self, *, look: bool = False) -> list[str]:
            net = any(policy.selector == selector for policy in machine.kernel.policies.values())
            led.append((PAIR.policy(0).name in datapath._enforcement.policies, net))
            return []

    async def body() -> None:
        await datapath.start()
        await datapath.install_policies([PAIR.policy(0)])
        await datapath.remove_policies([PAIR.policy(0).name])
        assert led == [(True, True), (False, True)]
        assert not any(policy.selector == selector for policy in machine.kernel.policies.values())
        await datapath.close()

    one = PAIR.policy(0)
    (selector, *_) = selectors.outbound(one.local_ts, one.remote_ts)
    datapath = machine.datapath()
    datapath._surroundings = datapath._upkeep._surroundings = cast(Any, Leading())
    asyncio.run(body())
