"""A reload applies the difference, disturbs nothing else, and changes nothing where it cannot be applied."""

from __future__ import annotations

import asyncio

import pytest

from appliance.config.load import loads
from appliance.console.protocol import State
from appliance.daemon.reload import Change, plan
from appliance.daemon.translate import Reqids, desired_of
from appliance.reasons import Reason, Refusal
from appliance.sa.association import SaKey
from tests.daemon.memory_datapath import MemoryDatapath
from tests.daemon.pair import SECOND_CHILD, configuration, pair
from tests.daemon.virtual_loop import run

THIRD = """
[connection.third]
local = { address = "192.0.2.1", id = "gw-1.example", auth = "psk" }
remote = { address = "192.0.2.3", id = "gw-3.example", auth = "psk" }
psk = "a third secret of some length"
start = "respond"
[connection.third.child.net]
local_ts = ["10.1.0.0/24"]
remote_ts = ["10.3.0.0/24"]
"""
A, B = configuration("a"), configuration("b", start="respond")


def keys(datapath: MemoryDatapath) -> set[SaKey]:
    return set(datapath.sas)


def test_the_same_file_changes_nothing() -> None:
    async def main() -> None:
        async with pair(A, B) as (a, _, _):
            before = keys(a.datapath)
            change = await a.reload(A)
            assert change.nothing
            assert change.result.unchanged == 1
            await asyncio.sleep(30)
            assert keys(a.datapath) == before

    run(main())


def test_another_connection_comes_and_goes_and_the_first_keeps_its_sas() -> None:
    async def main() -> None:
        async with pair(A, B) as (a, _, _):
            before = keys(a.datapath)
            change = await a.reload(A + THIRD)
            assert change.result.added == ["third"]
            assert change.result.unchanged == 1
            assert set(a.datapath.policies) == {"site/net", "third/net"}
            assert {row.name for row in await a.gateway.show.connections()} == {"site", "third"}
            change = await a.reload(A)
            assert change.result.removed == ["third"]
            assert set(a.datapath.policies) == {"site/net"}
            assert keys(a.datapath) == before

    run(main())


def test_a_removed_connection_is_deleted_at_the_peer_and_shown_no_more() -> None:
    async def main() -> None:
        async with pair(A, B) as (a, b, _):
            await a.reload('schema = 1\n[datapath]\norder = ["soft"]\n')
            await asyncio.sleep(1)
            assert not a.datapath.sas
            assert not a.datapath.policies
            assert not b.site.ikes
            assert await a.gateway.show.connections() == []
            assert a.gateway.engine.ike_sas() == []

    run(main())


def test_a_child_comes_and_goes_beside_its_sister() -> None:
    async def main() -> None:
        more = [configuration(s, start=st, children=SECOND_CHILD) for s, st in (("a", "initiate"), ("b", "respond"))]
        async with pair(A, B) as (a, b, _):
            before, ike = keys(a.datapath), set(a.site.ikes)
            await b.reload(more[1])
            change = await a.reload(more[0])
            assert change.result.added == ["site/lab"]
            await a.until(lambda: a.site.children["lab"].installed)
            assert keys(a.datapath) > before
            await a.reload(A)
            await asyncio.sleep(10)
            assert keys(a.datapath) == before
            assert set(a.site.ikes) == ike
            assert len(b.datapath.sas) == 2

    run(main())


def test_a_child_with_other_selectors_is_negotiated_anew_in_the_same_ike_sa() -> None:
    async def main() -> None:
        async with pair(A, B) as (a, b, _):
            before, ike = keys(a.datapath), set(a.site.ikes)
            await b.reload(B.replace("10.1.0.0/24", "10.1.0.0/25"))
            change = await a.reload(A.replace("10.1.0.0/24", "10.1.0.0/25"))
            assert change.result.changed == ["site/net"]
            await a.until(lambda: a.net.installed and b.net.installed)
            await asyncio.sleep(10)
            assert not keys(a.datapath) & before
            assert set(a.site.ikes) == ike
            assert a.datapath.transmit()
            assert len(b.datapath.sas) == 2

    run(main())


def test_a_lifetime_counts_from_the_next_rekey_and_disturbs_nothing() -> None:
    async def main() -> None:
        async with pair(A, B) as (a, _, _):
            before = keys(a.datapath)
            change = await a.reload(configuration("a", child='lifetime = { time = "10m" }'))
            assert change.result.changed == ["site/net"]
            assert keys(a.datapath) == before
            await asyncio.sleep(3600)
            assert a.net.rekeys
            rekeys = a.net.rekeys
            await asyncio.sleep(1800)
            assert a.net.rekeys >= rekeys + 2

    run(main())


def test_other_algorithms_come_by_a_rekey_as_soon_as_both_sides_have_them() -> None:
    async def main() -> None:
        async with pair(A, B) as (a, b, _):
            ike = set(a.site.ikes)
            await b.reload(configuration("b", start="respond", proposals="chacha20poly1305"))
            await asyncio.sleep(5)
            assert a.datapath.transmit()
            assert b.datapath.transmit()
            await a.reload(configuration("a", proposals="chacha20poly1305"))
            await a.until(lambda: "chacha20poly1305" in str(a.datapath.outbound()[-1].sa.suite))
            await asyncio.sleep(10)
            assert a.datapath.transmit()
            assert b.datapath.transmit()
            assert set(a.site.ikes) == ike
            [row] = await a.gateway.show.connections()
            assert row.children[0].suite == "chacha20poly1305"
            assert len(a.datapath.sas) == 2

    run(main())


def test_another_psk_is_used_at_once() -> None:
    async def main() -> None:
        other = "another secret of some length"
        async with pair(A, B) as (a, b, _):
            change = await b.reload(configuration("b", start="respond", psk=other))
            assert change.result.changed == ["site"]
            await a.until(lambda: a.site.why is not None and a.site.why.reason is Reason.PEER_REFUSED_AUTHENTICATION)
            [row] = await a.gateway.show.connections()
            assert row.state in (State.RETRYING, State.CONNECTING)
            await a.reload(configuration("a", psk=other))
            await a.until(lambda: a.net.installed)
            assert a.datapath.transmit()

    run(main())


def test_policies_that_a_datapath_refuses_change_nothing() -> None:
    async def main() -> None:
        async with pair(A, B) as (a, _, _):
            before = keys(a.datapath)
            a.datapath.policy_refusal = Reason.TABLE_FULL
            with pytest.raises(Refusal) as refused:
                await a.reload(A + THIRD)
            assert refused.value.reason is Reason.TABLE_FULL
            a.datapath.policy_refusal = None
            assert [row.name for row in await a.gateway.show.connections()] == ["site"]
            assert set(a.datapath.policies) == {"site/net"}
            assert keys(a.datapath) == before
            await a.reload(A + THIRD)
            assert set(a.datapath.policies) == {"site/net", "third/net"}

    run(main())


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ("[ike]\nport = 1500", "ike.port"),
        ('[datapath.soft]\ntun = "other0"', "datapath.soft.tun"),
    ],
)
def test_what_needs_a_restart_is_named_and_refused(section: str, key: str) -> None:
    old = loads(A)
    new = loads(f"{A}\n{section}\n")
    reqids = Reqids()
    with pytest.raises(Refusal) as refused:
        plan(old, desired_of(old, reqids), new, desired_of(new, reqids))
    assert refused.value.reason is Reason.RESTART_NEEDED
    assert key in refused.value.detail


def test_tunnel_interfaces_come_go_and_change_without_a_restart() -> None:
    order = '[datapath]\norder = ["kernel", "soft"]\n'
    plain = A + order
    routed = A.replace("[connection.site.child.net]", '[connection.site.child.net]\ninterface = "ipsec0"')
    routed += order + '[interface.ipsec0]\naddress = ["10.9.0.1/30"]\n'
    reqids = Reqids()

    def change(old: str, new: str) -> Change:
        before, after = loads(old), loads(new)
        return plan(before, desired_of(before, reqids), after, desired_of(after, reqids))

    result = change(plain, routed).result
    assert (result.added, result.changed) == (["interface.ipsec0"], ["site/net"])
    result = change(routed, plain).result
    assert (result.removed, result.changed) == (["interface.ipsec0"], ["site/net"])
    wider = change(routed, routed.replace("10.9.0.1/30", "10.9.0.1/29"))
    assert not wider.nothing and wider.result.changed == ["interface.ipsec0.address"] and wider.result.unchanged == 1
    assert wider.desired.interfaces != change(routed, routed).desired.interfaces


def test_a_reload_frees_what_the_operator_terminated() -> None:
    async def main() -> None:
        async with pair(A, B) as (a, _, _):
            await a.gateway.operations.terminate("site", None, lambda text: None)
            await asyncio.sleep(30)
            assert not a.net.installed
            await a.reload(A)
            await a.until(lambda: a.net.installed)

    run(main())


def test_secrets_are_in_no_message() -> None:
    async def main() -> None:
        psk = "a long enough secret"
        async with pair(A, B) as (a, b, _):
            await b.reload(configuration("b", start="respond", psk="another secret of some length"))
            await asyncio.sleep(30)
            text = "".join(str(entry) for side in (a, b) for entry in side.log)
            text += repr(a.gateway.desired) + repr(a.config) + repr(await a.gateway.show.connections())
            assert psk not in text
            assert "another secret" not in text

    run(main())
