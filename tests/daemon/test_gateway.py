"""Two gateways with real engines: what comes up, stays up, goes down, and what is told about it."""

from __future__ import annotations

import asyncio

from appliance.console.protocol import State
from appliance.reasons import Reason
from tests.daemon.pair import SECOND_CHILD, configuration, pair
from tests.daemon.virtual_loop import run


def test_a_tunnel_comes_up_and_both_sides_have_the_same_keys() -> None:
    async def main() -> None:
        async with pair(configuration("a"), configuration("b", start="respond")) as (a, b, _):
            assert len(a.datapath.sas) == len(b.datapath.sas) == 2
            [row] = await a.gateway.show.connections()
            assert row.state is State.ESTABLISHED
            assert row.reason is None
            assert row.children[0].state is State.ESTABLISHED
            assert row.children[0].packets_out >= 1
            assert row.children[0].datapath == "memory"
            rows = await a.gateway.show.sas()
            assert {r.direction for r in rows} == {"in", "out"}
            assert all(r.active for r in rows)

    run(main())


def test_all_children_of_a_connection_come_up() -> None:
    async def main() -> None:
        texts = [
            configuration(side, start=start, children=SECOND_CHILD)
            for side, start in (("a", "initiate"), ("b", "respond"))
        ]
        async with pair(*texts) as (a, b, _):
            await a.until(lambda: a.site.children["lab"].installed and b.site.children["lab"].installed)
            assert a.datapath.transmit(reqid=2)
            assert b.datapath.transmit(reqid=2)

    run(main())


def test_both_sides_may_initiate_at_once() -> None:
    async def main() -> None:
        async with pair(configuration("a"), configuration("b"), up=False) as (a, b, _):
            await a.until(lambda: a.net.installed and b.net.installed)
            await asyncio.sleep(60)
            assert len([r for r in a.site.ikes.values() if r.usable]) == 1
            assert a.datapath.transmit()
            assert b.datapath.transmit()

    run(main())


def test_a_rekey_of_the_child_loses_no_packet_rfc7296_2_8() -> None:
    async def main() -> None:
        async with pair(configuration("a"), configuration("b", start="respond")) as (a, b, _):
            lost = 0

            async def traffic() -> None:
                nonlocal lost
                while True:
                    lost += not a.datapath.transmit()
                    lost += not b.datapath.transmit()
                    await asyncio.sleep(0.001)

            flow = asyncio.create_task(traffic())
            for side in (a, b, a):
                done = await side.gateway.operations.rekey("site", "net", lambda text: None)
                assert "rekeyed" in done.text
                await asyncio.sleep(8)
            for side in (b, a):
                assert "rekeyed" in (await side.gateway.operations.rekey("site", None, lambda text: None)).text
                await asyncio.sleep(1)
            flow.cancel()
            assert lost == 0
            assert len(a.datapath.sas) == len(b.datapath.sas) == 2

    run(main())


def test_what_the_operator_terminated_stays_down_until_initiate() -> None:
    async def main() -> None:
        async with pair(configuration("a"), configuration("b")) as (a, _b, _):
            done = await a.gateway.operations.terminate("site", None, lambda text: None)
            assert done.text == "site is terminated"
            assert not a.datapath.sas
            await asyncio.sleep(300)
            assert not a.site.ikes
            assert not a.datapath.sas
            [row] = await a.gateway.show.connections()
            assert row.state is State.DOWN
            assert row.reason is not None
            assert row.reason.reason == "TERMINATED"
            assert row.reason.detail == "terminated by operator"
            done = await a.gateway.operations.initiate("site", None, lambda text: None)
            assert done.text == "site is up"
            assert a.datapath.transmit()

    run(main())


def test_what_is_initiated_again_is_not_down_because_it_was_terminated() -> None:
    async def main() -> None:
        async with pair(configuration("a"), configuration("b")) as (a, _b, network):
            await a.gateway.operations.terminate("site", None, lambda text: None)
            network.cut = True
            trying = asyncio.create_task(a.gateway.operations.initiate("site", None, lambda text: None))
            await asyncio.sleep(3)
            [row] = await a.gateway.show.connections()
            assert row.state is State.CONNECTING and row.reason is None
            trying.cancel()

    run(main())


def test_a_terminated_child_stays_down_and_its_sister_up() -> None:
    async def main() -> None:
        texts = [
            configuration(side, start=start, children=SECOND_CHILD)
            for side, start in (("a", "initiate"), ("b", "respond"))
        ]
        async with pair(*texts) as (a, b, _):
            await a.until(lambda: a.site.children["lab"].installed)
            await a.gateway.operations.terminate("site", "lab", lambda text: None)
            await asyncio.sleep(120)
            assert not a.site.children["lab"].installed
            assert not b.site.children["lab"].installed
            assert a.net.installed
            [row] = await a.gateway.show.connections()
            assert [child.state for child in row.children] == [State.ESTABLISHED, State.DOWN]
            await a.gateway.operations.initiate("site", "lab", lambda text: None)
            assert a.datapath.transmit(reqid=2)

    run(main())


def test_a_silent_peer_is_tried_again_and_the_reason_is_shown() -> None:
    async def main() -> None:
        async with pair(configuration("a"), configuration("b", start="respond"), up=False) as (a, _b, network):
            network.cut = True
            await a.until(lambda: a.site.failures, 400)
            [row] = await a.gateway.show.connections()
            assert row.state is State.RETRYING
            assert row.reason is not None
            assert row.reason.reason == "PEER_SILENT"
            assert row.reason.remedy
            assert row.next_try_in is not None
            since = row.reason.since
            await a.until(lambda: a.site.failures >= 2, 400)
            [row] = await a.gateway.show.connections()
            assert row.reason is not None
            assert row.reason.since == since
            assert row.retries >= 2
            network.cut = False
            await a.until(lambda: a.net.installed, 200)

    run(main())


def test_initiate_fails_with_the_reason_that_the_peer_gave() -> None:
    async def main() -> None:
        a_text = configuration("a", start="on-demand", psk="another long enough secret")
        async with pair(a_text, configuration("b", start="respond"), up=False) as (a, b, _):
            told: list[str] = []
            try:
                await a.gateway.operations.initiate("site", None, told.append)
            except Exception as error:
                assert error.reason is Reason.PEER_REFUSED_AUTHENTICATION  # type: ignore[attr-defined]
            else:
                raise AssertionError("it came up with another key")
            assert told[0].startswith("connecting to")
            await asyncio.sleep(60)
            assert a.site.failures == 1, "on-demand is not tried again by itself"
            assert any(entry.reason == "AUTH_PSK_MISMATCH" for entry in b.log) or any(
                "AUTH" in entry.reason for entry in b.log
            )

    run(main())


def test_the_first_packet_starts_an_on_demand_connection_rfc7296_2_9() -> None:
    async def main() -> None:
        async with pair(configuration("a", start="on-demand"), configuration("b", start="respond"), up=False) as (
            a,
            _b,
            _,
        ):
            await asyncio.sleep(5)
            [row] = await a.gateway.show.connections()
            assert row.state is State.ON_DEMAND
            assert not a.datapath.transmit()
            await a.until(lambda: a.net.installed)
            assert a.datapath.transmit()
            [policy] = await a.gateway.show.policies()
            assert policy.state == "encrypted"

    run(main())


def test_a_failed_datapath_is_started_again_and_its_children_negotiated_anew() -> None:
    async def main() -> None:
        async with pair(configuration("a"), configuration("b", start="respond")) as (a, b, _):
            a.unstartable = 2
            a.datapath.die()
            await a.until(lambda: not a.net.installed)
            [datapath] = await a.gateway.show.datapath()
            assert not datapath.usable
            assert datapath.reason is not None
            await a.until(lambda: a.net.installed, 60)
            a.join()
            assert len(a.datapaths) == 2
            assert a.datapath.policies.keys() == {"site/net"}
            assert a.datapath.transmit()
            assert b.datapath.transmit()
            assert len(b.datapath.sas) == 2, "the peer heard that the old pair is gone"

    run(main())


def test_an_sa_that_no_datapath_takes_is_refused_to_the_peer_and_tried_again() -> None:
    async def main() -> None:
        from tests.daemon.memory_datapath import Fault

        async with pair(configuration("a"), configuration("b", start="respond"), up=False) as (a, b, _):
            a.datapath.faults.append(Fault(Reason.TABLE_FULL))
            await a.until(lambda: a.net.failures)
            [row] = await a.gateway.show.connections()
            assert row.children[0].reason is not None
            assert row.children[0].reason.reason == "TABLE_FULL"
            await a.until(lambda: a.net.installed)
            a.join()
            assert a.datapath.transmit()
            await a.until(lambda: len(b.datapath.sas) == 2)

    run(main())


def test_keys_of_an_install_in_doubt_are_burnt_and_what_may_be_there_is_removed() -> None:
    async def main() -> None:
        from tests.daemon.memory_datapath import Fault

        async with pair(configuration("a"), configuration("b", start="respond"), up=False) as (a, _b, _):
            a.datapath.faults.append(Fault(stall=True))
            await a.until(lambda: a.net.failures)
            assert a.net.why is not None
            assert a.net.why.reason is Reason.DATAPATH_TIMEOUT
            assert len(a.datapath.removed) == 2
            await a.until(lambda: a.net.installed)
            assert a.datapath.transmit()

    run(main())


def test_show_answers_within_a_second_while_a_datapath_hangs() -> None:
    async def main() -> None:
        async with pair(configuration("a"), configuration("b", start="respond")) as (a, _b, _):
            hang = asyncio.Event()

            async def usage(keys: object) -> dict[object, object]:
                await hang.wait()
                return {}

            a.datapath.usage = usage  # type: ignore[assignment,method-assign]
            loop = asyncio.get_running_loop()
            await asyncio.sleep(1)
            start = loop.time()
            [row] = await a.gateway.show.connections()
            assert loop.time() - start < 1
            assert row.state is State.ESTABLISHED
            hang.set()

    run(main())


def test_traffic_keeps_liveness_checks_quiet_rfc7296_2_4() -> None:
    async def main() -> None:
        extra = 'dpd = { interval = "10s", timeout = "60s" }'
        async with pair(configuration("a", extra=extra), configuration("b", start="respond", extra=extra)) as (
            a,
            b,
            network,
        ):
            before = len(network.sent)
            for _ in range(100):
                assert a.datapath.transmit()
                assert b.datapath.transmit()
                await asyncio.sleep(1)
            assert len(network.sent) - before <= 2
            before = len(network.sent)
            await asyncio.sleep(60)
            assert len(network.sent) > before, "a quiet peer is asked"

    run(main())


def test_a_dead_peer_is_noticed_and_the_tunnel_comes_back() -> None:
    async def main() -> None:
        extra = 'dpd = { interval = "10s", timeout = "30s" }'
        async with pair(configuration("a", extra=extra), configuration("b", start="respond")) as (a, b, network):
            network.cut = True
            await a.until(lambda: a.site.established is None, 120)
            assert not a.datapath.sas
            await asyncio.sleep(5)
            network.cut = False
            await a.until(lambda: a.net.installed, 120)
            assert a.datapath.transmit()
            assert b.datapath.transmit()

    run(main())


def test_a_stop_deletes_at_the_peer_and_leaves_nothing() -> None:
    async def main() -> None:
        async with pair(configuration("a"), configuration("b", start="respond")) as (a, b, _):
            await a.gateway.stop()
            assert a.datapath.closed
            assert not b.site.ikes
            assert not b.datapath.sas
            [row] = await b.gateway.show.connections()
            assert row.state is State.WAITING
            assert row.reason is not None
            assert row.reason.reason == "DELETED_BY_PEER"

    run(main())


def test_a_stop_does_not_wait_long_for_a_silent_peer() -> None:
    async def main() -> None:
        async with pair(configuration("a"), configuration("b", start="respond")) as (a, _b, network):
            network.cut = True
            start = asyncio.get_running_loop().time()
            await a.gateway.stop()
            assert asyncio.get_running_loop().time() - start < 3
            assert a.datapath.closed
            assert "stop-unconfirmed" in a.events()

    run(main())


def test_an_error_of_the_program_resets_one_connection_and_the_daemon_runs_on() -> None:
    async def main() -> None:
        async with pair(configuration("a"), configuration("b", start="respond"), up=False) as (a, _b, _):
            perform = a.gateway.installer.perform
            calls = 0

            async def broken(event: object) -> None:
                nonlocal calls
                calls += 1
                if calls == 1:
                    raise ZeroDivisionError
                await perform(event)  # type: ignore[arg-type]

            a.gateway.ike._perform = broken  # type: ignore[assignment]
            await a.until(lambda: a.net.installed, 60)
            assert "internal" in a.events()
            assert a.gateway.reconciler.counters["resets"] == 1
            assert a.datapath.transmit()

    run(main())


def test_a_missing_local_address_is_told_and_waited_for() -> None:
    async def main() -> None:
        async with pair(configuration("a"), configuration("b", start="respond"), up=False) as (a, _b, _):
            a.addresses.clear()
            a.gateway.reconciler.delete_ikes(a.site, Reason.INTERNAL)
            await a.until(lambda: a.site.why is not None and a.site.why.reason is Reason.BAD_ADDRESS)
            [row] = await a.gateway.show.connections()
            assert row.state is State.RETRYING
            a.addresses.add(a.address)
            await a.until(lambda: a.net.installed, 20)

    run(main())


def test_lifetimes_rekey_by_themselves_for_a_day() -> None:
    async def main() -> None:
        async with pair(configuration("a"), configuration("b", start="respond")) as (a, b, _):
            for _ in range(24):
                await asyncio.sleep(3600)
                assert a.datapath.transmit()
                assert b.datapath.transmit()
            assert a.net.rekeys >= 20
            assert a.site.rekeys >= 4
            await asyncio.sleep(10)
            assert len(a.datapath.sas) in (2, 4)
            assert len(a.gateway.reconciler.connections["site"].ikes) == 1

    run(main())
