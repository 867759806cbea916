"""What datapaths report reaches the engine, and what the engine says reaches the datapaths."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address

from appliance.console.protocol import Nat, State
from appliance.reasons import Reason
from appliance.sa.association import Direction
from appliance.sa.datapath import Expired, ExpiryKind, InboundUsed, MappingChanged, UnknownSpi
from tests.daemon.pair import PUBLIC, NatNetwork, Side, configuration, pair
from tests.daemon.virtual_loop import run

A, B = configuration("a"), configuration("b", start="respond")


def key_of(side: Side, direction: Direction):  # type: ignore[no-untyped-def]
    return next(key for key in side.datapath.sas if key.direction is direction)


def test_a_soft_limit_rekeys_and_loses_nothing_rfc4301_4_4_2_1() -> None:
    async def main() -> None:
        async with pair(A, B) as (a, b, _):
            for kind in (ExpiryKind.BYTES, ExpiryKind.PACKETS, ExpiryKind.SEQUENCE):
                before = a.net.rekeys
                for direction in Direction:
                    a.datapath.report(Expired(key_of(a, direction), kind, hard=False))
                await a.until(lambda before=before: a.net.rekeys > before)  # type: ignore[misc]
                await asyncio.sleep(10)
                assert a.net.rekeys == before + 1, "both directions report, one rekey follows"
                assert a.datapath.transmit()
                assert b.datapath.transmit()

    run(main())


def test_a_hard_limit_deletes_and_the_child_is_made_again() -> None:
    async def main() -> None:
        async with pair(A, B) as (a, b, _):
            old = key_of(a, Direction.OUT)
            a.datapath.report(Expired(old, ExpiryKind.BYTES, hard=True))
            await a.until(lambda: old not in a.datapath.sas)
            assert any(entry.reason == "LIFETIME_OVER" for entry in a.log)
            await a.until(lambda: a.net.installed and b.net.installed)
            await a.until(a.datapath.transmit, 5)
            assert len(a.site.ikes) == 1

    run(main())


def test_reports_about_sas_that_are_gone_do_nothing() -> None:
    async def main() -> None:
        async with pair(A, B) as (a, _, _):
            old = key_of(a, Direction.IN)
            await a.gateway.operations.rekey("site", "net", lambda text: None)
            await asyncio.sleep(10)
            assert old not in a.datapath.sas
            for event in (
                Expired(old, ExpiryKind.TIME, hard=True),
                InboundUsed(old),
                MappingChanged(old, ip_address("192.0.2.77"), 4500),
                UnknownSpi(0x1234, ip_address("192.0.2.77"), a.address),
            ):
                a.datapath.report(event)
            await asyncio.sleep(1)
            assert a.net.installed
            assert a.datapath.transmit()
            assert any(entry.event == "unknown-spi" for entry in a.log)
            assert "internal" not in a.events()

    run(main())


def test_a_peer_that_sends_on_lost_sas_is_told_by_a_new_ike_sa_rfc7296_2_4() -> None:
    async def main() -> None:
        async with pair(configuration("a", start="on-demand"), B, up=False) as (a, b, _):
            a.datapath.report(UnknownSpi(0x1234, ip_address("192.0.2.66"), a.address))
            await asyncio.sleep(5)
            assert not a.site.ikes, "anybody may send"
            a.datapath.report(UnknownSpi(0x1234, b.address, a.address))
            await a.until(lambda: a.net.installed and b.net.installed)

    run(main())


def test_a_replaced_inbound_sa_lingers_for_packets_on_their_way() -> None:
    async def main() -> None:
        async with pair(A, B) as (a, _, _):
            old_in, old_out = key_of(a, Direction.IN), key_of(a, Direction.OUT)
            await a.gateway.operations.rekey("site", "net", lambda text: None)
            await asyncio.sleep(0.5)
            assert old_out not in a.datapath.sas
            assert old_in in a.datapath.sas
            rows = await a.gateway.show.sas()
            assert len(rows) == 3
            await asyncio.sleep(10)
            assert old_in not in a.datapath.sas

    run(main())


def test_spis_are_given_back_when_the_last_packet_may_have_come() -> None:
    async def main() -> None:
        async with pair(A, B) as (a, _, _):
            for _ in range(5):
                await a.gateway.operations.rekey("site", "net", lambda text: None)
                await asyncio.sleep(1)
            await asyncio.sleep(20)
            rows = {row.name: row.value for row in await a.gateway.show.counters() if row.group == "daemon"}
            assert rows["spis"] == 1
            assert rows["children"] == 1

    run(main())


def test_what_the_peer_deleted_follows_close_action() -> None:
    async def main(action: str) -> State:
        text = configuration("b", start="respond", child=f'close_action = "{action}"')
        async with pair(configuration("a", start="on-demand"), text, up=False) as (a, b, _):
            assert not a.datapath.transmit()
            await a.until(lambda: a.net.installed and b.net.installed)
            await a.gateway.operations.terminate("site", "net", lambda text: None)
            await asyncio.sleep(5)
            [row] = await b.gateway.show.connections()
            return row.children[0].state

    assert run(main("none")) is State.WAITING
    assert run(main("on-demand")) is State.ON_DEMAND


def test_close_action_restart_brings_a_child_back_that_the_peer_deleted() -> None:
    async def main() -> None:
        text = configuration("b", start="respond", child='close_action = "restart"')
        async with pair(A, text) as (a, b, _):
            # The peer's datapath loses the child: it deletes it, for no reason that this side knows.
            child_id = max(a.net.installed)
            a.net.closed = True
            a.gateway.ike.command(
                "deleting", lambda: a.gateway.engine.delete_child(child_id, a.gateway.ike.now, Reason.LIFETIME_OVER)
            )
            await b.until(lambda: child_id not in a.net.installed)
            await b.until(lambda: b.net.installed and a.net.installed)
            assert b.datapath.transmit()

    run(main())


def test_fifty_connections_between_two_addresses_all_come_up() -> None:
    async def main() -> None:
        def text(side: str, start: str) -> str:
            here, there = ("1", "2") if side == "a" else ("2", "1")
            return configuration(side, start=start) + "".join(
                f"""
[connection.c{n}]
local = {{ address = "192.0.2.{here}", id = "gw-{here}-{n}.example", auth = "psk" }}
remote = {{ address = "192.0.2.{there}", id = "gw-{there}-{n}.example", auth = "psk" }}
psk = "a secret of its own, number {n}"
ike_proposals = ["aes256gcm16-prfsha256-x25519"]
start = "{start}"
[connection.c{n}.child.net]
local_ts = ["10.{here}.{n}.0/24"]
remote_ts = ["10.{there}.{n}.0/24"]
"""
                for n in range(1, 50)
            )

        async with pair(text("a", "initiate"), text("b", "respond")) as (a, b, _):
            connections = a.gateway.reconciler.connections.values()
            await a.until(lambda: all(c.children["net"].installed for c in connections))
            for reqid in range(1, 51):
                assert a.datapath.transmit(reqid)
                assert b.datapath.transmit(reqid)
            # One of them goes; the others do not notice.
            await a.gateway.operations.terminate("c7", None, lambda text: None)
            rows = await a.gateway.show.connections()
            assert [row.name for row in rows if row.state is not State.ESTABLISHED] == ["c7"]

    run(main())


def test_a_nat_mapping_that_changed_moves_the_sas_rfc7296_2_23() -> None:
    async def main() -> None:
        network = NatNetwork()
        text = B.replace('address = "192.0.2.1"', f'address = "{PUBLIC}"')
        async with pair(A, text, network=network) as (a, b, _):
            [row] = await b.gateway.show.connections()
            assert row.nat is Nat.REMOTE
            assert row.remote_port == network.ports[4500]
            assert (await a.gateway.show.connections())[0].nat is Nat.LOCAL
            assert row.children[0].encapsulation == "udp"
            network.remap()
            moved = network.port(4500)
            b.datapath.report(MappingChanged(key_of(b, Direction.IN), PUBLIC, moved))
            await asyncio.sleep(1)
            [sa] = b.datapath.outbound()
            assert sa.sa.encapsulation is not None
            assert sa.sa.encapsulation.destination_port == moved
            assert (await b.gateway.show.connections())[0].remote_port == moved
            assert b.datapath.transmit()
            # What is keyed by the old addresses is found by the new ones.
            before = b.net.rekeys
            b.datapath.report(Expired(key_of(b, Direction.OUT), ExpiryKind.BYTES, hard=False))
            await b.until(lambda: b.net.rekeys > before)
            await asyncio.sleep(10)
            assert len(b.datapath.sas) == 2
            assert a.datapath.transmit()
            assert b.datapath.transmit()

    run(main())


def test_keepalives_hold_the_mapping_open_rfc3948_4() -> None:
    async def main() -> None:
        network = NatNetwork()
        extra = 'dpd = { interval = "off", timeout = "120s" }\nkeepalive = "20s"'
        text = B.replace('address = "192.0.2.1"', f'address = "{PUBLIC}"')
        async with pair(configuration("a", extra=extra), text, network=network):
            await asyncio.sleep(5)
            before = len([d for d in network.sent if d.keepalive])
            await asyncio.sleep(200)
            assert 9 <= len([d for d in network.sent if d.keepalive]) - before <= 11

    run(main())
