"""What an earlier daemon left in the kernel, and how it ends."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, ip_network

from appliance.datapath.kernel.spd import FIRST, FIRST_INDEX, OUT, Place, Spd
from appliance.datapath.kernel.survivors import Survivors
from appliance.datapath.kernel.xfrm import Offload, OffloadFlag, Policy, Selector, State, Template

HERE, THERE = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")


def child(number: int) -> tuple[list[State], Policy]:
    """The SAs of one, and the policy that leads to them."""
    reqid = 0xE5420000 + number
    states = [
        State(source=source, destination=destination, spi=0x1000 + 2 * number + at, reqid=reqid)
        for at, (source, destination) in enumerate(((HERE, THERE), (THERE, HERE)))
    ]
    net = ip_network(f"10.{number >> 8}.{number & 255}.0/24")
    policy = Policy(
        selector=Selector(net, net),
        direction=OUT,
        priority=FIRST + 3001,
        index=(FIRST_INDEX + number) << 3 | OUT,
        templates=(Template(HERE, THERE, reqid=reqid),),
    )
    return states, policy


def test_each_ends_by_itself_and_then_all_the_others() -> None:
    children = [child(number) for number in range(1, 6)]
    survivors = Survivors([state for states, _ in children for state in states], [policy for _, policy in children])
    spd = Spd()
    spd.adopt(survivors.every_policy)
    spd.disown()
    survivors.claim(spd)
    assert spd.changes() == ([], [])
    (states, policy), place = children[1], Place.of(children[1][1])
    assert survivors.at(place) == [states[0].reqid]
    assert survivors.end(spd, states[0].reqid) == states
    assert spd.changes()[1] == [policy]
    assert survivors.at(place) == survivors.end(spd, states[0].reqid) == []
    assert len(survivors.states) == 8 == len(survivors.end(spd, None))
    assert survivors.states == [] and len(spd.changes()[1]) == 5


def test_policies_that_a_device_has_are_asked_for_anew_as_they_were_asked_for() -> None:
    states, policy = child(1)
    shown = replace(policy, offload=Offload(7, OffloadFlag.PACKET | OffloadFlag.INBOUND))
    survivors = Survivors(states, [shown])
    spd = Spd()
    spd.adopt(survivors.every_policy)
    spd.disown()
    survivors.claim(spd)
    spd.found([])  # another program removed it
    (again,) = spd.changes()[0]
    assert again.offload == Offload(7, OffloadFlag.PACKET)
