"""By which SA a datapath's events find their child, whatever other peers do."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from appliance.daemon.candidates import Candidates
from appliance.daemon.homes import Homes
from appliance.daemon.installer import Installer
from appliance.daemon.log import Log
from appliance.daemon.slot import Slot
from appliance.ike.events import ChildUp
from appliance.sa.keys import KeyMaterial
from appliance.sa.spi import SpiAllocator
from tests.daemon.memory_datapath import MemoryDatapath
from tests.ike.peers import Net


def test_a_second_peer_at_one_address_with_the_spi_of_the_first_takes_nothing_from_it() -> None:
    net = Net()
    net.a.initiate(net.a_connection)
    net.settle()
    up = net.a.of(ChildUp)[0]

    async def run() -> None:
        datapath = MemoryDatapath()
        slot = Slot("memory", lambda: asyncio.sleep(0, datapath))
        slot.opened(datapath, await datapath.probe(), 0.0)
        refused = []
        installer = Installer(
            SpiAllocator(lambda n: bytes(n)),
            Log(),
            homes=Homes(Log(), [slot], carrier=lambda reqid: datapath),
            candidates=Candidates([slot], kin=lambda sa: None),
            installed=lambda child: None,
            refused=lambda child, why: refused.append(why),
            broken=lambda child, why: refused.append(why),
        )

        def keys(byte: int) -> KeyMaterial:
            return KeyMaterial(bytes([byte]) * 20, b"")

        victim = replace(up, inbound_keys=keys(1), outbound_keys=keys(2))
        other = replace(
            up,
            child_id=99,
            inbound=replace(up.inbound, spi=up.inbound.spi ^ 1),
            inbound_keys=keys(3),
            outbound_keys=keys(4),
        )
        await installer.perform(victim)
        await installer.perform(other)
        assert refused, "two SAs of one key"
        child = installer.by_key(up.outbound.key)
        assert child is not None and child.child_id == up.child_id

    asyncio.run(run())
