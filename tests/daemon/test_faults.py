"""Loss, restarts of datapaths and operators at work, all at once and repeatable: at the end both sides agree."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address
from random import Random

import pytest

from appliance.console.protocol import State
from appliance.daemon.ikeloop import INBOX
from appliance.ike.connection import Endpoint
from appliance.sa.association import Direction
from tests.daemon.memory_datapath import Fault
from tests.daemon.pair import SECOND_CHILD, Side, configuration, endpoint, pair
from tests.daemon.virtual_loop import run

EXTRA = 'lifetime = { time = "20m" }\ndpd = { interval = "10s", timeout = "60s" }\n'
CHILD = 'lifetime = { time = "7m" }'


def agree(a: Side, b: Side) -> bool:
    """Both have the same SAs, and nothing else."""

    def spis(side: Side, direction: Direction) -> set[int]:
        return {key.spi for key in side.datapath.sas if key.direction is direction}

    return (
        spis(a, Direction.IN) == spis(b, Direction.OUT)
        and spis(b, Direction.IN) == spis(a, Direction.OUT)
        and len([r for r in a.site.ikes.values() if r.usable]) == 1
        and len([r for r in b.site.ikes.values() if r.usable]) == 1
        and all(child.installed for side in (a, b) for child in side.site.children.values())
    )


@pytest.mark.parametrize("seed", range(12))
def test_an_hour_of_faults_ends_in_agreement(seed: int) -> None:
    async def main() -> None:
        random = Random(seed)
        texts = [
            configuration(side, start=start, extra=EXTRA, child=CHILD, children=SECOND_CHILD)
            for side, start in (("a", "initiate"), ("b", "initiate" if seed % 2 else "respond"))
        ]
        async with pair(*texts, seed=seed) as (a, b, network):
            network.drop = lambda datagram: random.random() < 0.15
            for _ in range(12):
                await asyncio.sleep(random.uniform(1, 600))
                side = random.choice((a, b))
                match random.randrange(5):
                    case 0:
                        network.cut = True
                        await asyncio.sleep(random.uniform(1, 200))
                        network.cut = False
                    case 1:
                        side.unstartable = random.randrange(3)
                        side.datapath.die()
                        await asyncio.sleep(30)
                        a.join()
                    case 2:
                        side.datapath.faults.append(Fault(in_doubt=random.random() < 0.5))
                        child_id = max(side.net.installed, default=0)
                        side.gateway.ike.command(
                            "rekey",
                            lambda side=side, child_id=child_id: side.gateway.engine.rekey_child(  # type: ignore[misc]
                                child_id, side.gateway.ike.now
                            ),
                        )
                    case 3:
                        for one in (a, b):
                            record = one.site.established
                            if record is not None:
                                one.gateway.ike.command(
                                    "rekey",
                                    lambda one=one, record=record: one.gateway.engine.rekey_ike(  # type: ignore[misc]
                                        record.ike_id, one.gateway.ike.now
                                    ),
                                )
                    case 4:
                        await side.reload(side.text)
            network.drop = lambda datagram: False
            network.cut = False
            await a.until(lambda: agree(a, b), 600)
            a.join()
            assert all(side.datapath.transmit(reqid) for side in (a, b) for reqid in (1, 2))
            for side in (a, b):
                assert "internal" not in side.events(), [str(e) for e in side.log if e.event == "internal"]

    run(main())


def test_messages_of_unknown_ike_sas_take_no_room_from_peers_rfc7296_2_21_4() -> None:
    async def main() -> None:
        async with pair(configuration("a"), configuration("b", start="respond")) as (_a, b, network):
            random = Random(8)
            loop = b.gateway.ike
            auth = next(d.data for d in network.sent if d.data[8:16] != bytes(8) and loop.engine.knows(d.data))
            stranger = Endpoint(ip_address("198.51.100.9"), 500)
            for _ in range(INBOX + 10):  # responder's SPIs that are not zero, and nobody's
                loop.receive(random.randbytes(16) + auth[16:], endpoint(b.address), stranger)
            assert loop.counters["inbox_full"] == 10
            loop.receive(auth, endpoint(b.address), endpoint(ip_address("192.0.2.1")))
            assert loop.counters["inbox_full"] == 10, "there is room for a peer"
            await asyncio.sleep(5)
            [row] = await b.gateway.show.connections()
            assert row.children[0].state is State.ESTABLISHED

    run(main())


def test_a_flood_of_first_messages_delays_no_peer_rfc7296_2_6() -> None:
    async def main() -> None:
        async with pair(configuration("a"), configuration("b", start="respond")) as (_a, b, network):
            random = Random(7)
            start = next(d.data for d in network.sent if d.data[8:16] == bytes(8))
            rekey = asyncio.create_task(b.gateway.operations.rekey("site", "net", lambda text: None))
            for number in range(20_000):
                stranger = Endpoint(ip_address(0xC6336400 + number % 256), 500)
                b.gateway.ike.receive(random.randbytes(8) + start[8:], endpoint(b.address), stranger)
                if number % 200 == 0:
                    await asyncio.sleep(0.001)
            assert "rekeyed" in (await rekey).text
            assert b.gateway.ike.counters["datagrams_in"] > 10_000
            [row] = await b.gateway.show.connections()
            assert row.children[0].state is State.ESTABLISHED
            await asyncio.sleep(60)
            assert len(b.gateway.engine.ike_sas()) < 40, "half-open ones went"

    run(main())


def test_a_flood_is_in_the_log_once_when_it_starts_and_once_when_it_is_over() -> None:
    anybody = configuration("b", start="respond").replace('address = "192.0.2.1", ', "")
    limits = "[ike]\ncookie_threshold = 10\nhalf_open_per_address = 5\n"

    async def main() -> None:
        async with pair(configuration("a"), anybody + limits) as (_a, b, network):
            random = Random(9)
            start = next(d.data for d in network.sent if d.data[8:16] == bytes(8))

            def told() -> list[str]:
                return [entry.text for entry in b.log if "flood of IKE_SA_INIT" in entry.text]

            for number in range(2000):
                stranger = Endpoint(ip_address(0xC6336400 + number % 256), 500)
                b.gateway.ike.receive(random.randbytes(8) + start[8:], endpoint(b.address), stranger)
                await asyncio.sleep(0.01)
            [began] = told()
            assert "ike.cookie_threshold = 10" in began
            change = await b.reload(anybody + limits.replace("= 5", "= 6"))
            assert change.result.changed == ["ike.half_open_per_address"]
            await asyncio.sleep(50)
            assert told() == [began]
            await asyncio.sleep(60)
            [_, over] = told()
            counters = {row.name: row.value for row in await b.gateway.show.counters()}
            assert f"is over after 20 s: {counters['cookies-asked']} cookies were asked for" in over
            [row] = await b.gateway.show.connections()
            assert row.children[0].state is State.ESTABLISHED

    run(main())
