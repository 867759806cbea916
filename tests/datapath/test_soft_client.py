"""The daemon's side of the datapath, with a process that does not do what it should."""

from __future__ import annotations

import asyncio
import socket

import pytest

from appliance.datapath.soft import wire
from appliance.datapath.soft.client import START_PATIENCE, SoftDatapath
from appliance.datapath.soft.options import SoftOptions
from appliance.reasons import Reason
from appliance.sa.datapath import DatapathRefusal
from tests.daemon.virtual_loop import run


def test_a_process_that_does_not_answer_leaves_in_doubt_what_it_may_have_done() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)

    async def body() -> None:
        datapath = SoftDatapath(timeout=5.0)
        datapath._channel = wire.Channel(ours)
        loop = asyncio.get_running_loop()
        for asked, doubt in ((datapath.install([]), True), (datapath.usage([]), False)):
            began = loop.time()
            with pytest.raises(DatapathRefusal) as refusal:
                await asked
            assert loop.time() - began == 5.0
            assert refusal.value.reason is Reason.DATAPATH_TIMEOUT
            assert refusal.value.in_doubt is doubt
        assert datapath._replies == {}

    with ours, theirs:
        run(body())


def test_a_process_gets_longer_to_start_than_to_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        datapath = SoftDatapath(SoftOptions(steer=False), timeout=5.0)
        monkeypatch.setattr(datapath, "_spawn", lambda: ours)
        loop = asyncio.get_running_loop()
        began = loop.time()
        with theirs, pytest.raises(DatapathRefusal, match="no answer to start in 30 s"):
            await datapath.start()
        # Then it is told to close, and is given the time of an answer for that.
        assert loop.time() - began == 5.0 * START_PATIENCE + 5.0

    run(body())
