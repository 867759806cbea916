"""Where policies and SAs are, when there are several datapaths, and what is told about it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from appliance.console.protocol import State
from appliance.daemon.desired import Desired
from appliance.daemon.homes import SETTLE_AGAIN
from appliance.daemon.slot import GOOD_SECONDS, LONGEST_WAIT, Standing
from appliance.reasons import Reason, Refusal
from appliance.sa.association import Direction, Handling
from appliance.sa.datapath import Carried, DatapathRefusal, InstallRequest, WhyNot
from appliance.sa.keys import KeyMaterial
from appliance.sa.placement import Candidate, place
from tests.daemon.memory_datapath import Fault, MemoryDatapath
from tests.daemon.pair import SECOND_CHILD, Side, configuration, pair
from tests.daemon.settled import settle, traffic
from tests.daemon.test_failover import rekey, two, where
from tests.daemon.virtual_loop import run

BYPASS = """
[[policy]]
name = "dns"
action = "bypass"
local_ts = ["10.1.0.53[udp/53]"]
remote_ts = ["0.0.0.0/0"]
priority = 5
"""
ORDER = ("kernel", "soft")


def places(side: Side, policy: str) -> list[str]:
    return [name for name, datapath in side.running.items() if policy in datapath.policies]


def handled(handling: Handling) -> Callable[[Desired], Desired]:
    """All children handled so."""

    def adjust(desired: Desired) -> Desired:
        connections = {
            name: replace(
                wanted,
                config=replace(
                    wanted.config, children=tuple(replace(c, handling=handling) for c in wanted.config.children)
                ),
                children=tuple(
                    replace(
                        child,
                        config=replace(child.config, handling=handling),
                        policy=replace(child.policy, handling=handling),
                    )
                    for child in wanted.children
                ),
            )
            for name, wanted in desired.connections.items()
        }
        policies = tuple(replace(p, handling=handling) if p.reqid else p for p in desired.policies)
        return replace(desired, connections=connections, policies=policies)

    return adjust


def test_a_protect_policy_is_in_the_first_datapath_and_the_others_in_all() -> None:
    async def main() -> None:
        texts = configuration("a") + BYPASS, configuration("b", start="respond")
        async with pair(*texts, names=ORDER) as (a, b, _):
            assert places(a, "site/net") == ["kernel"]
            assert places(a, "dns") == ["kernel", "soft"]
            assert a.running["soft"].policy_batches >= 1, "its first call clears what an earlier one left"
            rows = {row.name: row.datapath for row in await a.gateway.show.policies()}
            assert rows == {"site/net": "kernel", "dns": "kernel, soft"}
            await settle(a, b)

    run(main())


def test_a_datapath_without_policies_of_its_own_is_asked_for_none_all_the_same() -> None:
    async def main() -> None:
        async with two(ORDER) as (a, _, _):
            assert not a.running["soft"].policies
            assert a.running["soft"].policy_batches == 1

    run(main())


def test_policies_without_sas_follow_what_runs_at_once() -> None:
    async def main() -> None:
        texts = configuration("a", start="on-demand"), configuration("b", start="respond")
        async with pair(*texts, names=ORDER, up=False) as (a, b, _):
            assert places(a, "site/net") == ["kernel"]
            a.running["kernel"].die()
            await asyncio.sleep(0.01)
            assert places(a, "site/net") == ["soft"]
            await asyncio.sleep(1)
            assert places(a, "site/net") == ["kernel"]
            a.down.add("kernel")
            a.running["kernel"].die()
            await asyncio.sleep(0.01)
            assert not a.transmit(), "it acquires there"
            await traffic(a, b, 5)
            # With SAs it stays.
            a.down.clear()
            await asyncio.sleep(40)
            assert "kernel" in a.running
            assert places(a, "site/net") == ["soft"]
            # And without them it goes.
            await a.gateway.operations.terminate("site", None, lambda text: None)
            await asyncio.sleep(5)
            assert places(a, "site/net") == ["kernel"]

    run(main())


def test_a_home_changes_by_make_before_break() -> None:
    async def main() -> None:
        async with two(ORDER) as (a, b, _):
            a.running["kernel"].faults.append(Fault())
            a.journal.clear()
            rekey(a)
            await asyncio.sleep(10)
            assert places(a, "site/net") == ["soft"]
            assert a.journal[:4] == [
                "soft: install",
                "soft: add site/net",
                "kernel: take site/net",
                "kernel: deactivate",
            ]
            # What is left in the kernel may overlap it, and is not to take its packets from then on.
            assert a.running["kernel"].left_to_others == {"site/net": True}
            assert [policy.name for policy in a.running["kernel"].elsewhere] == ["site/net"]
            a.journal.clear()
            rekey(b)
            await asyncio.sleep(10)
            assert places(a, "site/net") == ["kernel"]
            assert a.journal[:5] == [
                "kernel: install",
                "kernel: activate",
                "kernel: add site/net",
                "soft: take site/net",
                "soft: deactivate",
            ]
            assert a.running["kernel"].elsewhere == ()
            assert [policy.name for policy in a.running["soft"].elsewhere] == ["site/net"]
            await settle(a, b)

    run(main())


@pytest.mark.parametrize("what", ["refuses", "stalls"])
def test_a_policy_that_did_not_move_is_brought_where_it_belongs_later(what: str) -> None:
    async def main() -> None:
        async with two(ORDER) as (a, b, _):
            kernel = a.running["kernel"]
            kernel.faults.append(Fault())
            if what == "refuses":
                kernel.removal_refusal = Reason.DATAPATH_TIMEOUT
            else:
                a.running["soft"].policies_stall = True
            rekey(a)
            await asyncio.sleep(9)
            assert places(a, "site/net") == (["kernel", "soft"] if what == "refuses" else ["kernel"])
            kernel.removal_refusal = None
            a.running["soft"].policies_stall = False
            await asyncio.sleep(SETTLE_AGAIN + 5)
            await settle(a, b)
            await traffic(a, b, 1)

    run(main())


def test_a_policy_that_one_datapath_cannot_say_goes_to_the_next() -> None:
    async def main() -> None:
        texts = configuration("a", start="on-demand"), configuration("b", start="respond")
        async with pair(*texts, names=ORDER, up=False) as (a, _b, _):
            a.running["kernel"].refuses.add("site/lab")
            await a.reload(configuration("a", start="on-demand", children=SECOND_CHILD) + BYPASS)
            assert places(a, "site/net") == ["kernel"]
            assert places(a, "site/lab") == ["soft"]
            a.running["soft"].refuses.add("site/lab")
            with pytest.raises(Refusal):
                await a.reload(
                    configuration("a", start="on-demand", children=SECOND_CHILD.replace("OURS.1.0", "OURS.2.0"))
                )
            assert places(a, "dns") == ["kernel", "soft"], "nothing has changed"
            [lab] = [d.policies["site/lab"] for d in a.running.values() if "site/lab" in d.policies]
            assert str(lab.local_ts[0]) == "10.1.1.0/24"

    run(main())


def test_a_policy_that_no_datapath_takes_keeps_no_reload_from_taking_it_away() -> None:
    async def main() -> None:
        texts = configuration("a", start="on-demand"), configuration("b", start="respond")
        async with pair(*texts, names=ORDER, up=False) as (a, _b, _):
            a.running["kernel"].refuses.add("site/lab")
            await a.reload(configuration("a", start="on-demand", children=SECOND_CHILD))
            assert places(a, "site/lab") == ["soft"]
            a.down.add("soft")
            a.running["soft"].die()
            await asyncio.sleep(5)
            assert places(a, "site/lab") == []
            # What was refused before is no reason to refuse something else.
            await a.reload(configuration("a", start="on-demand", children=SECOND_CHILD) + BYPASS)
            assert places(a, "dns") == ["kernel"]
            await a.reload(configuration("a", start="on-demand"))
            assert places(a, "site/net") == ["kernel"] and places(a, "dns") == []
            with pytest.raises(Refusal):
                await a.reload(configuration("a", start="on-demand", children=SECOND_CHILD))

    run(main())


def test_a_reload_adds_changes_and_takes_policies_where_their_homes_are() -> None:
    async def main() -> None:
        text = configuration("b", start="respond", children=SECOND_CHILD)
        async with pair(configuration("a", children=SECOND_CHILD), text, names=ORDER) as (a, b, _):
            await traffic(a, b, 5, (1, 2))
            a.running["kernel"].die()
            await asyncio.sleep(0.01)
            await traffic(a, b, 5, (1, 2))
            await asyncio.sleep(5)
            assert places(a, "site/lab") == places(a, "site/net") == ["soft"]
            a.journal.clear()
            await a.reload(configuration("a") + BYPASS)
            await asyncio.sleep(10)
            assert places(a, "dns") == ["kernel", "soft"]
            assert places(a, "site/net") == ["soft"]
            assert places(a, "site/lab") == []
            assert a.journal[:2] == ["kernel: add dns", "soft: add dns"]
            await a.reload(configuration("a", children=SECOND_CHILD))
            await traffic(a, b, 20, (1, 2))
            await settle(a, b)
            assert places(a, "dns") == []
            assert (places(a, "site/net"), places(a, "site/lab")) == (["soft"], ["kernel"])

    run(main())


def test_what_names_an_interface_goes_only_where_there_are_interfaces() -> None:
    async def main() -> None:
        adjust = handled(Handling(interface="ipsec1", if_id=1))
        async with two(("soft", "kernel"), interfaces=("kernel",), adjust=adjust) as (a, b, _):
            assert places(a, "site/net") == ["kernel"]
            [child] = a.gateway.installer.children()
            assert [why.reason for why in child.why_not] == [Reason.INTERFACE_UNSUPPORTED]
            a.down.add("kernel")
            a.running["kernel"].die()
            await asyncio.sleep(30)
            assert places(a, "site/net") == [], "it is nowhere, and the guard drops it"
            assert not a.gateway.engine.child_sas()
            rows = await a.gateway.show.policies()
            assert [(row.datapath, row.state) for row in rows] == [(None, "dropped: no datapath can take it")]
            a.down.clear()
            await traffic(a, b, 60)
            await settle(a, b)

    run(main())


def test_a_child_that_waits_says_why_no_datapath_could_carry_it() -> None:
    async def main() -> None:
        adjust = handled(Handling(datapath="kernel"))
        text = configuration("b", start="respond")
        async with pair(configuration("a", start="respond"), text, names=ORDER, adjust=adjust, up=False) as (a, _, _):
            await asyncio.sleep(1)
            [row] = await a.gateway.show.connections()
            assert (row.children[0].state, row.children[0].reason) == (State.WAITING, None)
            a.down.add("kernel")
            a.running["kernel"].die()
            await asyncio.sleep(5)
            [row] = await a.gateway.show.connections()
            cause = row.children[0].reason
            assert row.children[0].state is State.WAITING and cause is not None
            assert (cause.reason, cause.detail) == ("NO_TUN", "kernel: as the test wants")
            [policy] = await a.gateway.show.policies()
            assert (policy.priority, policy.state) == (2000, "dropped: no datapath can take it")

    run(main())


def test_a_child_that_is_pinned_says_why_its_datapath_is_down() -> None:
    async def main() -> None:
        adjust = handled(Handling(datapath="soft"))
        async with two(ORDER, adjust=adjust, up=False) as (a, b, network):
            await traffic(a, b, 5)
            assert where(a) == {"soft"}
            assert places(a, "site/net") == ["soft"]
            [row] = await a.gateway.show.connections()
            assert row.children[0].why_not == ["kernel: the child is pinned to another datapath: to soft"]
            a.down.add("soft")
            a.running["soft"].die()
            await asyncio.sleep(70)
            [row] = await a.gateway.show.connections()
            cause = row.children[0].reason
            assert cause is not None and cause.reason == "NO_TUN"
            assert cause.detail == "soft: as the test wants"
            assert cause.remedy == Reason.NO_TUN.remedy
            sent = len(network.sent)
            with pytest.raises(Refusal) as caught:
                await a.gateway.operations.initiate("site", "net", lambda text: None)
            assert caught.value.reason is Reason.NO_TUN
            assert len(network.sent) == sent, "nothing is negotiated that nobody can carry"
            a.down.clear()
            await traffic(a, b, 60)
            await settle(a, b)

    run(main())


def test_a_pin_that_a_reload_changes_moves_the_child() -> None:
    async def main() -> None:
        async with two(ORDER) as (a, b, _):
            a.adjust = handled(Handling(datapath="soft"))
            await a.reload(configuration("a", child="replay_window = 256"))
            await traffic(a, b, 1)
            await asyncio.sleep(10)
            await settle(a, b)
            assert where(a) == {"soft"}

    run(main())


def test_show_tells_where_how_and_why_not_elsewhere() -> None:
    async def main() -> None:
        async with two(ORDER) as (a, _b, _):
            a.running["soft"].carried = Carried(
                "crypto offload on eth0", (WhyNot("soft, packet offload", Reason.OFFLOAD_UNSUPPORTED, "eth0"),)
            )
            a.running["kernel"].faults.append(Fault())
            rekey(a)
            await asyncio.sleep(10)
            rows = await a.gateway.show.sas()
            assert {row.direction for row in rows} == {d.value for d in Direction}
            for row in rows:
                assert (row.datapath, row.how) == ("soft", "crypto offload on eth0")
                assert row.why_not == [
                    "kernel: the datapath has no room for another SA: as the test wants",
                    "soft, packet offload: the network device has no such IPsec offload: eth0",
                ]
                assert row.returns_in is not None and 40 < row.returns_in < 60
            [connection] = await a.gateway.show.connections()
            [child] = connection.children
            assert (child.state, child.how) == (State.ESTABLISHED, "crypto offload on eth0")
            assert len(child.why_not) == 2 and child.returns_in is not None
            kernel, soft = await a.gateway.show.datapath()
            assert (kernel.sas, kernel.policies, soft.sas, soft.policies) == (0, 0, 2, 1)
            assert kernel.returns_in is None
            a.running["kernel"].die()
            await asyncio.sleep(10)
            kernel, soft = await a.gateway.show.datapath()
            assert kernel.returns_in is not None and 45 < kernel.returns_in < 55

    run(main())


def test_a_datapath_that_did_not_answer_is_shown_as_kept_off() -> None:
    async def main() -> None:
        async with two(ORDER) as (a, b, _):
            a.running["kernel"].faults.append(Fault(stall=True))
            rekey(a)
            await asyncio.sleep(7)
            kernel, _ = await a.gateway.show.datapath()
            assert kernel.avoided is not None and "did not answer in time" in kernel.avoided
            rekey(a)
            await asyncio.sleep(1)
            assert where(a) == {"soft"}
            await asyncio.sleep(15)
            kernel, _ = await a.gateway.show.datapath()
            assert kernel.avoided is None
            await settle(a, b)

    run(main())


def test_one_that_is_kept_off_is_asked_if_there_is_no_other() -> None:
    async def main() -> None:
        async with two(("kernel",)) as (a, b, _):
            a.running["kernel"].faults.append(Fault(Reason.DATAPATH_TIMEOUT, in_doubt=True))
            rekey(a)
            await traffic(a, b, 10)
            await asyncio.sleep(10)
            await traffic(a, b, 10)
            await settle(a, b)

    run(main())


def test_a_refusal_names_what_a_child_is_pinned_to_and_not_what_it_is_not() -> None:
    async def main() -> None:
        async with two(("soft",)) as (a, _, _):
            [child] = a.gateway.installer.children()
            sa = replace(child.outbound, handling=Handling(datapath="kernel"))
            here = MemoryDatapath("soft")
            soft = Candidate("soft", here, await here.probe())
            kernel = Candidate("kernel", None, None, Reason.NO_XFRM, "no netlink")
            for order in ([soft, kernel], [kernel, soft]):
                with pytest.raises(DatapathRefusal) as caught:
                    await place(order, [InstallRequest(sa, KeyMaterial(b"k"))])
                assert (caught.value.reason, caught.value.detail) == (Reason.NO_XFRM, "kernel: no netlink")
            with pytest.raises(DatapathRefusal) as caught:
                await place([soft], [InstallRequest(sa, KeyMaterial(b"k"))])
            assert caught.value.reason is Reason.PINNED

    run(main())


def test_the_standing_of_a_datapath() -> None:
    standing = Standing()
    assert standing.steady_at(60) is None
    standing.started(0)
    assert standing.steady_at(60) == 60
    waits = []
    now = 0.0
    for _ in range(9):
        now += 10
        standing.failed(now)
        assert standing.steady_at(60) is None
        standing.started(now)
        waits.append((standing.steady_at(60) or 0) - now)
    assert waits == [60, 120, 240, 480, 960, 1920, LONGEST_WAIT, LONGEST_WAIT, LONGEST_WAIT]
    now += 7 * GOOD_SECONDS
    standing.failed(now)
    standing.started(now)
    assert (standing.steady_at(60) or 0) - now == 240, "seven good hours take seven doublings back"
