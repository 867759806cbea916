"""Datapaths are started, watched and ended as a whole."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from appliance.daemon.datapaths import RESTART_FIRST, Datapaths
from appliance.daemon.log import Log
from appliance.daemon.main import Daemon
from appliance.daemon.slot import SETTLED_SECONDS
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


def test_one_that_dies_again_and_again_is_started_less_and_less_often() -> None:
    made: list[MemoryDatapath] = []

    async def make() -> Datapath:
        made.append(MemoryDatapath())
        asyncio.get_running_loop().call_later(lives, made[-1].die)
        return made[-1]

    async def starts_in_an_hour() -> int:
        datapaths = Datapaths(
            Log(), [("memory", make)], heard=lambda *_: None, lost=lambda *_: None, gained=lambda: None
        )
        await datapaths.start(())
        await asyncio.sleep(3600)
        await datapaths.close()
        return len(made)

    lives = 0.05
    assert run(starts_in_an_hour()) in range(3600 // 31, 3600 // 30 + 10)
    made.clear()
    lives = SETTLED_SECONDS + 1  # these are no row of failed starts
    assert run(starts_in_an_hour()) in range(58, 61)


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
