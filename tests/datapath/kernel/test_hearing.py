"""The kernel's events in the words of the contract."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, ip_network
from typing import Any, cast

import pytest

from appliance.datapath.kernel import hearing as room
from appliance.datapath.kernel.hearing import Hearing
from appliance.datapath.kernel.sad import GENERATIONS, Row, Sad, traffic
from appliance.datapath.kernel.xfrm import Acquire as KernelAcquire
from appliance.datapath.kernel.xfrm import (
    MessageType,
    Policy,
    PolicyDirection,
    Protocol,
    Selector,
    State,
    XfrmEvents,
    requests,
)
from appliance.datapath.kernel.xfrm.wire import message
from appliance.sa import datapath as contract
from appliance.sa.association import Direction, SecurityAssociation, SecurityPolicy
from tests.datapath.kernel.xfrm.scripted import ScriptedKernel
from tests.datapath.pair import Pair

PAIR = Pair(cast(Any, None), cast(Any, ()))
HERE, THERE = (ip_network(address) for address in ("10.1.0.1/32", "10.2.0.1/32"))


OUT = PolicyDirection.OUT


def state_of(sa: SecurityAssociation, reqid: int) -> State:
    return State(source=sa.source, destination=sa.destination, spi=sa.spi, reqid=reqid)


class Asking:
    port = 1


class Listener:
    def __init__(self) -> None:
        self.told: list[contract.DatapathEvent] = []
        self.changes = 0

    def acquired(self, policy: Policy, event: Callable[[SecurityPolicy], contract.DatapathEvent]) -> None:
        self.told.append(event(PAIR.policy(0)))

    def changed_from_outside(self) -> None:
        self.changes += 1


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> ScriptedKernel:
    kernel = ScriptedKernel()
    monkeypatch.setattr(room, "XfrmEvents", lambda groups: XfrmEvents(groups, transport=kernel))
    return kernel


def test_sas_of_another_ike_daemon_are_no_reason_to_look_at_everything(kernel: ScriptedKernel) -> None:
    sad, listener = Sad(), Listener()
    hearing = Hearing(sad, cast(Any, Asking()), cast(Any, listener))
    own = PAIR.sa(1, Direction.IN, 0x1001)
    sad.add(Row(own, traffic(own), GENERATIONS | 1, state_of(own, 1)))
    for spi, reqid, changes in ((0x2001, 1, 0), (0x2001, GENERATIONS | 1, 1), (0x1001, 1, 2)):
        kernel.queue.append(bytes(requests.new_state(replace(state_of(own, reqid), spi=spi))))
        hearing._readable()
        assert listener.changes == changes


@pytest.mark.parametrize(
    ("protocol", "ports", "told"),
    [
        (6, (1000, 80), (1000, 80)),
        (1, (8, 0), (0x0800, 0x0800)),
        (58, (128, 0), (0x8000, 0x8000)),
        (1, (3, 4), (0x0304, 0x0304)),
        (89, (0, 0), (None, None)),
        (47, (0, 7), (None, None)),
    ],
)
def test_a_packets_ports_are_told_as_traffic_selectors_have_them_rfc7296_3_13_1(
    kernel: ScriptedKernel, protocol: int, ports: tuple[int, int], told: tuple[int | None, int | None]
) -> None:
    listener = Listener()
    hearing = Hearing(Sad(), cast(Any, Asking()), cast(Any, listener))
    packet = Selector(HERE, THERE, protocol, *ports)
    policy = Policy(selector=Selector(ip_network("10.1.0.0/24"), ip_network("10.2.0.0/24")), direction=OUT)
    event = KernelAcquire(
        source=IPv4Address("192.0.2.1"),
        destination=IPv4Address("192.0.2.2"),
        protocol=Protocol.ESP,
        spi=0,
        selector=packet,
        policy=policy,
        seq=1,
    )
    kernel.queue.append(bytes(message(MessageType.ACQUIRE, 0, event.head(), event.parts())))
    hearing._readable()
    (acquire,) = listener.told
    assert isinstance(acquire, contract.Acquire)
    assert (acquire.source_port, acquire.destination_port) == told
