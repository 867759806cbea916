"""Datapaths fail, refuse and come back: children move between them by rekeys, and nothing is left behind."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace
from functools import partial
from itertools import pairwise, permutations
from random import Random
from typing import Any

import pytest

from appliance.daemon.slot import LONGEST_WAIT
from appliance.ike.events import Datagram
from appliance.reasons import Reason, Refusal
from appliance.sa.association import Direction
from appliance.sa.datapath import Changed, MappingChanged, UnknownSpi, Vanished
from tests.daemon.memory_datapath import Fault
from tests.daemon.pair import PUBLIC, SECOND_CHILD, NatNetwork, Network, Side, configuration, pair
from tests.daemon.settled import Flow, settle, traffic
from tests.daemon.virtual_loop import run

NAMES = ("kernel", "soft", "fpga")
PAIRS = list(permutations(NAMES, 2))
QUICK = 1.0
"""Seconds within which traffic passes again when one exchange is enough."""


def two(names: tuple[str, ...] = NAMES, **settings: Any) -> AbstractAsyncContextManager[tuple[Side, Side, Network]]:
    return pair(configuration("a"), configuration("b", start="respond"), names=names, **settings)


def rekey(side: Side) -> None:
    engine, ike = side.gateway.engine, side.gateway.ike
    for child in side.gateway.installer.children():
        if not child.leaving:
            ike.command("rekey", partial(engine.rekey_child, child.child_id, ike.now))


def where(side: Side) -> set[str]:
    return {c.datapath.name for c in side.gateway.installer.children() if c.datapath is not None and not c.leaving}


@pytest.mark.parametrize("pair_", PAIRS, ids="-".join)
@pytest.mark.parametrize("failing", ["a", "b", "both"])
def test_a_datapath_dies_and_its_children_are_rekeyed_into_the_next(pair_: tuple[str, str], failing: str) -> None:
    async def main() -> None:
        async with two(pair_) as (a, b, _):
            sides = [a, b] if failing == "both" else [{"a": a, "b": b}[failing]]
            before = {id(side): set(side.site.ikes) for side in (a, b)}
            for side in sides:
                side.down.add(pair_[0])
                side.running[pair_[0]].die()
            await asyncio.sleep(0.005)
            await traffic(a, b, QUICK)
            await settle(a, b)
            for side in (a, b):
                assert where(side) == {pair_[1] if side in sides else pair_[0]}
                assert set(side.site.ikes) == before[id(side)], "one exchange was enough"
                assert "child-replaced" in side.events() or side not in sides

    run(main())


@pytest.mark.parametrize("pair_", PAIRS, ids="-".join)
@pytest.mark.parametrize(
    "fault",
    [Fault(), Fault(Reason.DATAPATH_TIMEOUT), Fault(Reason.DATAPATH_GONE)],
    ids=["full", "timeout", "gone"],
)
def test_what_one_refuses_the_next_takes_if_it_is_proven_not_installed(pair_: tuple[str, str], fault: Fault) -> None:
    async def main() -> None:
        async with two(pair_) as (a, b, _):
            flow = Flow(a, b)
            a.running[pair_[0]].faults.append(fault)
            rekey(a)
            await asyncio.sleep(10)
            assert flow.stop() == 0
            await settle(a, b)
            assert where(a) == {pair_[1]} and where(b) == {pair_[0]}
            [child] = a.gateway.installer.children()
            assert [why.reason for why in child.why_not] == [fault.reason]

    run(main())


@pytest.mark.parametrize("pair_", PAIRS, ids="-".join)
def test_a_successor_that_none_takes_ends_with_the_old_pair_and_is_made_anew(pair_: tuple[str, str]) -> None:
    async def main() -> None:
        async with two(pair_) as (a, b, _):
            before = {child.child_id for child in a.gateway.installer.children()}
            for name in pair_:
                a.running[name].faults.append(Fault())
            with pytest.raises(Refusal, match="site/net was not rekeyed, and ends") as refusal:
                await a.gateway.operations.rekey("site", "net", lambda text: None)
            assert refusal.value.reason is Reason.TABLE_FULL
            await asyncio.sleep(10)
            await traffic(a, b, QUICK)
            await settle(a, b)
            assert not before & {child.child_id for child in a.gateway.installer.children()}

    run(main())


@pytest.mark.parametrize("pair_", PAIRS, ids="-".join)
@pytest.mark.parametrize(
    "fault",
    [
        Fault(Reason.DATAPATH_TIMEOUT, in_doubt=True),
        Fault(Reason.DATAPATH_TIMEOUT, in_doubt=True, done=True),
        Fault(stall=True),
    ],
    ids=["not-done", "done", "stalls"],
)
@pytest.mark.parametrize("rekeying", ["a", "b"])
def test_keys_in_doubt_are_burnt_and_new_ones_go_elsewhere(pair_: tuple[str, str], fault: Fault, rekeying: str) -> None:
    async def main() -> None:
        async with two(pair_) as (a, b, _):
            seen = len(a.seen_keys)
            a.running[pair_[0]].faults.append(fault)
            rekey(a if rekeying == "a" else b)
            await asyncio.sleep(7)
            await traffic(a, b, QUICK)
            await settle(a, b)
            assert where(a) == {pair_[1]}
            assert len(a.seen_keys) == seen + 2, "burnt ones and new ones, each once"
            assert a.gateway.datapaths.slots[0].silence is not None

    run(main())


@pytest.mark.parametrize("pair_", PAIRS, ids="-".join)
@pytest.mark.parametrize("what", ["policy", "activation"])
def test_a_new_home_that_does_not_take_the_traffic_is_kept_off(pair_: tuple[str, str], what: str) -> None:
    async def main() -> None:
        async with two(pair_, return_after=None) as (a, b, _):
            a.running[pair_[0]].faults.append(Fault())
            rekey(a)
            await asyncio.sleep(10)
            await settle(a, b)
            assert where(a) == {pair_[1]}
            better = a.running[pair_[0]]
            if what == "policy":
                better.policy_refusal = Reason.SELECTORS_UNSUPPORTED
                rekey(a)
            else:
                better.activation_refusal = Reason.NOT_INSTALLED
                rekey(b)
            await asyncio.sleep(0.1)
            await traffic(a, b, QUICK)
            await settle(a, b)
            assert where(a) == {pair_[1]}
            assert "activate-refused" in a.events()
            # Its next rekey finds it willing again.
            better.policy_refusal = better.activation_refusal = None
            await asyncio.sleep(60)
            rekey(a)
            await asyncio.sleep(10)
            await settle(a, b)
            assert where(a) == {pair_[0]}

    run(main())


@pytest.mark.parametrize("first", NAMES)
@pytest.mark.parametrize("directions", [(Direction.IN,), (Direction.OUT,), tuple(Direction)])
def test_an_sa_that_vanishes_is_replaced_once_where_it_was(first: str, directions: tuple[Direction, ...]) -> None:
    async def main() -> None:
        async with two((first, "other")) as (a, b, _):
            await asyncio.sleep(20)
            before = a.net.rekeys
            a.running[first].vanish(*directions)
            await asyncio.sleep(0.005)
            await traffic(a, b, QUICK)
            await settle(a, b)
            assert a.net.rekeys == before + 1
            assert where(a) == {first}
            assert any(entry.reason == "SA_VANISHED" and "as the test wants" in entry.text for entry in a.log)
            assert a.gateway.events.counters["sas_vanished"] == len(directions)

    run(main())


@pytest.mark.parametrize("names", [("kernel", "soft"), ("kernel",)])
def test_a_datapath_in_which_sas_vanish_at_once_is_kept_off(names: tuple[str, ...]) -> None:
    async def main() -> None:
        async with two(names) as (a, b, _):
            end = asyncio.get_running_loop().time() + 600
            while asyncio.get_running_loop().time() < end:
                a.running["kernel"].vanish(*Direction)
                await asyncio.sleep(0.01)
            assert a.gateway.events.counters["sas_vanished"] < 100
            await traffic(a, b, 700)
            await settle(a, b)

    run(main())


def test_an_sa_that_vanishes_while_it_is_leaving_is_no_loss() -> None:
    async def main() -> None:
        async with two() as (a, b, _):
            rekey(a)
            await asyncio.sleep(0.5)
            [old] = [child for child in a.gateway.installer.children() if child.leaving]
            before = a.net.rekeys
            a.running["kernel"].report(Vanished(old.inbound.key))
            await asyncio.sleep(10)
            assert a.net.rekeys == before
            await settle(a, b)

    run(main())


@pytest.mark.parametrize(
    "delay", [0.0005, 0.001, 0.0015, 0.005, 0.011, 0.0115, 0.012, 0.0205, 0.021, 0.022, 0.03, 0.05]
)
@pytest.mark.parametrize("rekeying", ["a", "b", "both"])
@pytest.mark.parametrize("dying", ["a", "b"])
def test_a_datapath_dies_at_any_moment_of_a_rekey(delay: float, rekeying: str, dying: str) -> None:
    async def main() -> None:
        async with two() as (a, b, _):
            for side in (a, b):
                if rekeying in ("both", "a" if side is a else "b"):
                    rekey(side)
            await asyncio.sleep(delay)
            side = a if dying == "a" else b
            side.running["kernel"].die()
            await asyncio.sleep(0.005)
            await traffic(a, b, 35)
            await settle(a, b)

    run(main())


@pytest.mark.parametrize("delay", [0.0, 0.005, 0.015, 0.025])
@pytest.mark.parametrize("rekeying", ["a", "b"])
def test_a_datapath_dies_while_the_ike_sa_is_rekeyed(delay: float, rekeying: str) -> None:
    async def main() -> None:
        async with two() as (a, b, _):
            side = a if rekeying == "a" else b
            record = side.site.established
            assert record is not None
            side.gateway.ike.command(
                "rekey", lambda: side.gateway.engine.rekey_ike(record.ike_id, side.gateway.ike.now)
            )
            await asyncio.sleep(delay)
            a.running["kernel"].die()
            await asyncio.sleep(0.005)
            await traffic(a, b, 35)
            await settle(a, b)

    run(main())


def test_a_peer_that_is_silent_while_a_datapath_dies_is_negotiated_with_anew() -> None:
    extra = 'dpd = { interval = "10s", timeout = "30s" }'

    async def main() -> None:
        texts = configuration("a", extra=extra), configuration("b", start="respond", extra=extra)
        async with pair(*texts, names=NAMES) as (a, b, network):
            network.cut = True
            a.running["kernel"].die()
            await asyncio.sleep(20)
            [row] = await a.gateway.show.connections()
            assert row.children[0].reason is not None and row.children[0].reason.reason == "DATAPATH_GONE"
            await asyncio.sleep(60)
            assert not a.gateway.engine.child_sas(), "no child without a datapath under it"
            network.cut = False
            await traffic(a, b, 90)
            await settle(a, b)

    run(main())


def test_a_peer_that_refuses_the_successor_has_the_child_deleted_and_made_anew() -> None:
    async def main() -> None:
        async with two() as (a, b, _):
            await b.reload(configuration("b", start="respond", proposals="aes128gcm16"))
            await asyncio.sleep(10)
            a.running["kernel"].die()
            await asyncio.sleep(5)
            assert not a.gateway.engine.child_sas()
            assert "child-not-replaced" in a.events()
            await b.reload(configuration("b", start="respond"))
            await traffic(a, b, 90)
            await settle(a, b)

    run(main())


def test_a_peer_that_loses_every_answer_ends_in_a_bounded_time() -> None:
    async def main() -> None:
        async with two() as (a, b, network):
            start = asyncio.get_running_loop().time()

            def drop(datagram: Datagram) -> bool:
                return datagram.source.address == b.address and asyncio.get_running_loop().time() < start + 25

            network.drop = drop
            a.running["kernel"].die()
            await traffic(a, b, 90)
            await settle(a, b)

    run(main())


def test_with_no_datapath_left_children_are_deleted_and_made_anew_when_one_comes() -> None:
    async def main() -> None:
        async with two(("kernel", "soft")) as (a, b, _):
            a.down |= {"kernel", "soft"}
            a.running["kernel"].die()
            await traffic(a, b, QUICK)
            a.running["soft"].die()
            await asyncio.sleep(10)
            assert not a.running and not a.gateway.installer.children() and not a.gateway.engine.child_sas()
            [row] = await a.gateway.show.connections()
            assert row.children[0].reason is not None
            a.down.discard("soft")
            await traffic(a, b, 45)
            await settle(a, b)
            assert where(a) == {"soft"}
            # And with all dead at once.
            a.down.add("soft")
            a.running["soft"].die()
            await asyncio.sleep(10)
            a.down.clear()
            await traffic(a, b, 45)
            await settle(a, b)

    run(main())


def test_it_goes_back_under_traffic_without_losing_a_packet() -> None:
    async def main() -> None:
        async with two() as (a, b, _):
            a.running["kernel"].die()
            await asyncio.sleep(0.005)
            await traffic(a, b, QUICK)
            flow = Flow(a, b)
            await asyncio.sleep(50)
            await settle(a, b)
            assert where(a) == {"soft"}
            [row] = [r for r in await a.gateway.show.sas() if r.direction == "out"]
            assert row.returns_in is not None and 5 < row.returns_in < 15
            await asyncio.sleep(30)
            await settle(a, b)
            assert where(a) == {"kernel"}
            assert flow.stop() == 0
            assert any(entry.reason == "BETTER_DATAPATH" for entry in a.log)
            assert a.gateway.failback.counters["children_returned"] == 1

    run(main())


def test_without_return_after_it_goes_back_with_its_next_rekey() -> None:
    async def main() -> None:
        async with two(return_after=None) as (a, b, _):
            a.running["kernel"].die()
            await asyncio.sleep(0.005)
            await traffic(a, b, QUICK)
            await asyncio.sleep(900)
            assert where(a) == {"soft"}
            rekey(a)
            await asyncio.sleep(10)
            await settle(a, b)
            assert where(a) == {"kernel"}

    run(main())


def test_return_after_counts_from_the_reload_that_sets_it() -> None:
    async def main() -> None:
        async with two(return_after=None) as (a, b, _):
            a.running["kernel"].die()
            await asyncio.sleep(0.005)
            await traffic(a, b, QUICK)
            await asyncio.sleep(300)
            assert where(a) == {"soft"}
            a.adjust = lambda desired: replace(desired, return_after=20.0)
            await a.reload(a.text)
            await asyncio.sleep(10)
            await settle(a, b)
            assert where(a) == {"kernel"}

    run(main())


def test_one_that_flaps_has_to_wait_longer_each_time() -> None:
    async def main() -> None:
        async with two() as (a, b, _):
            waits = []
            for _ in range(9):
                a.running["kernel"].die()
                died = asyncio.get_running_loop().time()
                await asyncio.sleep(0.005)
                await traffic(a, b, QUICK)
                await a.until(lambda: where(a) == {"kernel"}, 2 * LONGEST_WAIT)
                waits.append(asyncio.get_running_loop().time() - died)
                await asyncio.sleep(10)
                await settle(a, b)
            assert waits[0] < 70
            assert all(1.7 < later / sooner < 2.3 for sooner, later in pairwise(waits[:6])), waits
            assert waits[-1] < LONGEST_WAIT + 60
            # Good days are counted for it.
            await asyncio.sleep(24 * 3600)
            a.running["kernel"].die()
            await asyncio.sleep(70)
            assert where(a) == {"kernel"}

    run(main())


def test_it_dies_twice_before_the_children_went_back() -> None:
    async def main() -> None:
        async with two() as (a, b, _):
            for _ in range(4):
                a.running["kernel"].die()
                await asyncio.sleep(0.005)
                await traffic(a, b, QUICK)
                await asyncio.sleep(20)
                assert where(a) == {"soft"}, "not back yet"
            await settle(a, b)
            assert a.net.rekeys == 1

    run(main())


def test_a_child_that_is_refused_again_is_tried_later_and_later() -> None:
    async def main() -> None:
        async with two() as (a, b, _):
            tries: list[float] = []
            rekeys = a.net.rekeys
            a.running["kernel"].faults += [Fault() for _ in range(6)]
            rekey(a)
            while len(tries) < 6:
                await a.until(lambda: a.net.rekeys > rekeys, 2 * LONGEST_WAIT)  # noqa: B023
                rekeys = a.net.rekeys
                tries.append(asyncio.get_running_loop().time())
            gaps = [later - sooner for sooner, later in pairwise(tries)]
            assert 55 < gaps[0] < 70
            assert all(1.7 < later / sooner < 2.3 for sooner, later in pairwise(gaps)), gaps
            await a.until(lambda: where(a) == {"kernel"}, LONGEST_WAIT * 2)
            await asyncio.sleep(10)
            await settle(a, b)

    run(main())


def test_many_children_go_back_a_few_at_a_time() -> None:
    count = 40

    def many(side: str, start: str) -> str:
        here, there = ("1", "2") if side == "a" else ("2", "1")
        extra = "".join(
            f"""
[connection.site.child.c{n}]
local_ts  = ["10.{here}.{n}.0/24"]
remote_ts = ["10.{there}.{n}.0/24"]
esp_proposals = ["aes256gcm16"]
"""
            for n in range(1, count)
        )
        return configuration(side, start=start, children=extra)

    async def main() -> None:
        reqids = tuple(range(1, count + 1))
        async with pair(many("a", "initiate"), many("b", "respond"), names=("kernel", "soft")) as (a, b, network):
            await traffic(a, b, 30, reqids)
            a.running["kernel"].die()
            await asyncio.sleep(0.005)
            await traffic(a, b, 20, reqids)
            await settle(a, b)
            busiest, last = 0, len(network.sent)
            back = lambda: sum(c.datapath is a.running.get("kernel") for c in a.gateway.installer.children())  # noqa: E731
            before = back()
            for _ in range(80):
                await asyncio.sleep(1)
                busiest, before, last = max(busiest, back() - before), back(), len(network.sent)
            assert last
            await settle(a, b)
            assert where(a) == {"kernel"}
            assert busiest <= 8

    run(main())


def test_a_policy_of_several_peers_moves_as_a_whole() -> None:
    """Two children of one reqid, as of two peers of one child: their policy cannot be in two places."""

    async def main() -> None:
        wide = configuration("b", start="respond").replace('["10.1.0.0/24"]', '["10.1.0.0/16"]')
        text = configuration("a", children=SECOND_CHILD.replace('"10.THEIRS.1.0/24"', '"10.THEIRS.0.0/24"'))
        async with pair(text, wide, names=("kernel", "soft")) as (a, b, _):
            await a.until(lambda: len(b.gateway.installer.children()) == 2)
            b.running["kernel"].faults.append(Fault())
            rekey(a)
            await asyncio.sleep(30)
            assert where(b) == {"kernel"}
            b.running["kernel"].die()
            await asyncio.sleep(20)
            assert where(b) == {"soft"}
            await asyncio.sleep(200)
            assert where(b) == {"soft"}, "there is no way back without a loss"
            await settle(a, b)

    run(main())


def test_an_address_that_a_datapath_cannot_change_is_changed_by_a_rekey_rfc7296_2_23() -> None:
    async def main() -> None:
        network = NatNetwork()
        text = configuration("b", start="respond").replace('address = "192.0.2.1"', f'address = "{PUBLIC}"')
        async with pair(configuration("a"), text, network=network, names=NAMES) as (a, b, _):
            b.running["kernel"].move_refusal = Reason.MOVE_UNSUPPORTED
            network.remap()
            moved = network.port(4500)
            [child] = b.gateway.installer.children()
            old = child.outbound
            b.running["kernel"].report(MappingChanged(child.inbound.key, PUBLIC, moved))
            await asyncio.sleep(0.005)
            assert child.inbound.encapsulation is not None and child.inbound.encapsulation.source_port == moved
            assert child.outbound == old and old.key in b.running["kernel"].sas
            await traffic(a, b, QUICK)
            await settle(a, b)
            [new] = b.gateway.installer.children()
            assert new.outbound.encapsulation is not None
            assert new.outbound.encapsulation.destination_port == moved
            assert b.net.rekeys == 1

    run(main())


def test_what_another_datapath_has_is_no_unknown_spi() -> None:
    async def main() -> None:
        async with two() as (a, b, _):
            [child] = a.gateway.installer.children()
            event = UnknownSpi(child.inbound.spi, b.address, a.address)
            a.running["soft"].report(event)
            await asyncio.sleep(1)
            assert a.gateway.events.counters["unknown_spi"] == 0
            a.running["kernel"].report(event)
            await asyncio.sleep(1)
            assert a.gateway.events.counters["unknown_spi"] == 1

    run(main())


def test_what_was_put_right_is_told_and_counted() -> None:
    async def main() -> None:
        async with two() as (a, _b, _):
            a.running["kernel"].report(Changed(Reason.CHANGED_FROM_OUTSIDE, "the policy site/net was removed"))
            await asyncio.sleep(1)
            [entry] = [entry for entry in a.log if entry.event == "changed"]
            assert (entry.level, entry.reason) == ("warning", "CHANGED_FROM_OUTSIDE")
            assert entry.text == "kernel: the policy site/net was removed"
            assert a.gateway.events.counters["changes_from_outside"] == 1

    run(main())


@pytest.mark.parametrize("seed", range(16))
def test_hours_of_faults_of_datapaths_end_in_order(seed: int) -> None:
    async def main() -> None:
        random = Random(seed)
        names = NAMES if seed % 2 else NAMES[:2]
        child = 'lifetime = { time = "7m" }'
        extra = 'lifetime = { time = "20m" }\ndpd = { interval = "10s", timeout = "60s" }\n'
        texts = [
            configuration(side, start=start, extra=extra, child=child, children=SECOND_CHILD)
            for side, start in (("a", "initiate"), ("b", "initiate" if seed % 3 else "respond"))
        ]
        async with pair(*texts, names=names, seed=seed) as (a, b, network):
            network.drop = lambda datagram: random.random() < 0.1
            for _ in range(40):
                await asyncio.sleep(random.choice((0.001, 0.01, 0.03, 1.0, random.uniform(1, 200))))
                side = random.choice((a, b))
                running = list(side.running.values())
                datapath = random.choice(running) if running else None
                match random.randrange(13):
                    case 0 | 1 if datapath is not None:
                        datapath.die()
                    case 2:
                        side.down ^= {random.choice(names)}
                    case 3 if datapath is not None:
                        in_doubt = random.random() < 0.5
                        datapath.faults.append(
                            Fault(
                                random.choice((Reason.TABLE_FULL, Reason.DATAPATH_TIMEOUT)),
                                in_doubt=in_doubt,
                                stall=random.random() < 0.2,
                                done=in_doubt and random.random() < 0.5,
                            )
                        )
                        rekey(side)
                    case 4 if datapath is not None:
                        datapath.policy_refusal = random.choice((None, Reason.SELECTORS_UNSUPPORTED))
                    case 5 if datapath is not None:
                        datapath.vanish(*random.choice((tuple(Direction), (Direction.IN,), (Direction.OUT,))))
                    case 6 if datapath is not None:
                        datapath.activation_refusal = random.choice((None, Reason.DATAPATH_TIMEOUT))
                    case 7:
                        rekey(side)
                    case 8:
                        for one in (a, b):
                            if (record := one.site.established) is not None:
                                one.gateway.ike.command(
                                    "rekey",
                                    lambda one=one, record=record: one.gateway.engine.rekey_ike(  # type: ignore[misc]
                                        record.ike_id, one.gateway.ike.now
                                    ),
                                )
                    case 9:
                        network.cut = True
                        await asyncio.sleep(random.uniform(0.1, 100))
                        network.cut = False
                    case 11 if datapath is not None:
                        datapath.policies_stall = random.random() < 0.5
                    case 12 if datapath is not None:
                        datapath.removal_refusal = random.choice((None, Reason.DATAPATH_TIMEOUT))
                    case 10:
                        with suppress(Refusal):
                            await side.reload(side.text)
            network.drop = lambda datagram: False
            for side in (a, b):
                side.down.clear()
                for datapath in side.running.values():
                    datapath.faults.clear()
                    datapath.policy_refusal = datapath.activation_refusal = datapath.removal_refusal = None
                    datapath.policies_stall = False
            await traffic(a, b, 300, (1, 2))
            await settle(a, b, 600)
            await traffic(a, b, 1, (1, 2))

    run(main())
