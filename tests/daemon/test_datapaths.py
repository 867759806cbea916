"""Datapaths are started, watched and ended as a whole."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from appliance.daemon.datapaths import RESTART_FIRST, Datapaths
from appliance.daemon.log import Log
from appliance.daemon.main import Daemon
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


def test_one_that_cannot_be_closed_is_started_anew_all_the_same() -> None:
    made: list[MemoryDatapath] = []
    log = Log()

    async def make() -> Datapath:
        made.append(MemoryDatapath())
        return made[-1]

    async def body() -> None:
        datapaths = Datapaths(log, [("memory", make)], heard=lambda *_: None, lost=lambda *_: None, gained=lambda: None)
        await datapaths.start(())

        async def close() -> None:
            raise RuntimeError("as the test wants")

        made[0].close = close  # type: ignore[method-assign]
        made[0].die()
        await asyncio.sleep(RESTART_FIRST + 0.1)
        assert len(made) == 2 and datapaths.ready
        assert any("RuntimeError" in str(entry) for entry in log)
        await datapaths.close()

    run(body())


def test_a_kernel_datapath_whose_interfaces_cannot_be_looked_at_is_closed() -> None:
    made: list[Any] = []

    class Kernel:
        def __init__(self, *_: object, **__: object) -> None:
            self.closed = False
            made.append(self)

        async def close(self) -> None:
            self.closed = True

    async def keep_interfaces(desired: object) -> None:
        raise ValueError("not an interface")

    async def start_kernel() -> Kernel:
        return Kernel()

    daemon = SimpleNamespace(_desired=None, _keep_interfaces=keep_interfaces, _start_kernel=start_kernel)
    with pytest.raises(ValueError, match="not an interface"):
        asyncio.run(Daemon._make_kernel(cast(Any, daemon)))
    assert [one.closed for one in made] == [True]
