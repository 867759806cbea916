"""Datapaths are started, watched and ended as a whole."""

from __future__ import annotations

import asyncio

from appliance.daemon.datapaths import RESTART_FIRST, Datapaths
from appliance.daemon.log import Log
from appliance.sa.datapath import Datapath
from tests.daemon.memory_datapath import MemoryDatapath
from tests.daemon.virtual_loop import run


def test_one_that_is_starting_when_the_daemon_stops_is_closed_too() -> None:
    made: list[MemoryDatapath] = []

    async def make() -> Datapath:
        made.append(MemoryDatapath())
        made[-1].policies_stall = len(made) == 2  # it is being given its policies
        return made[-1]

    async def body() -> None:
        datapaths = Datapaths(
            Log(), [("memory", make)], heard=lambda *_: None, lost=lambda *_: None, gained=lambda: None
        )
        await datapaths.start(())
        made[0].die()
        await asyncio.sleep(RESTART_FIRST + 0.1)
        await datapaths.close()
        assert [datapath.closed for datapath in made] == [True, True]

    run(body())
