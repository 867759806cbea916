"""The preflight probe on Debian's kernel, which has all that a kernel without offload hardware can have."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from appliance.console import screens
from appliance.console.protocol import OffloadRow
from appliance.console.table import Page
from appliance.daemon.offload import OffloadProbe
from appliance.datapath.kernel.probe.abilities import Ability
from appliance.datapath.kernel.probe.devices import probe_devices
from appliance.datapath.kernel.probe.kernel import probe_kernel
from appliance.datapath.kernel.xfrm import XfrmSocket
from appliance.reasons import Reason
from appliance.sa.algorithms import every_suite
from appliance.sa.association import Mode


def keep(name: str, text: str) -> None:
    if "ESPLANADE_VM" in os.environ:
        Path(os.environ["ESPLANADE_VM"], name).write_text(text)


@pytest.mark.essential
def test_every_suite_and_everything_else_is_there_and_nothing_is_left_behind() -> None:
    first = time.perf_counter()
    probe_kernel()  # loads modules
    again = time.perf_counter()
    found = probe_kernel()
    ended = time.perf_counter()
    keep("probe", f"first {again - first:.3f} s, again {ended - again:.3f} s\n{found}\n")
    assert found.suites == every_suite(), found.missing
    assert found.usable and found.native and found.udp_encapsulation, found.missing
    assert found.modes == (Mode.TUNNEL, Mode.TRANSPORT) and found.replay_windows == (1, 4096)
    assert found.able == frozenset(Ability), found.missing
    assert found.missing == ()
    with XfrmSocket() as xfrm:
        assert xfrm.states() == [] and xfrm.policies() == []


def test_show_offload_tells_it() -> None:
    async def look() -> list[OffloadRow]:
        probe = OffloadProbe()
        began = time.perf_counter()
        await probe.rows()
        assert time.perf_counter() - began < 5.0  # a slow machine, and yet it waits for nobody
        for _ in range(100):  # each of them waits a while
            rows = await probe.rows()
            if rows[0].text.startswith("Linux"):
                return rows
        raise AssertionError(rows)

    rows = asyncio.run(look())
    keep("offload", "\n".join(screens.offload(rows, Page(100, colours=False), time.time())) + "\n")
    assert all(row.able for row in rows if row.subject == "kernel" and row.what)


def test_devices_are_asked_in_a_process_of_their_own() -> None:
    started = time.perf_counter()
    found = asyncio.run(probe_devices(seconds=60.0))
    keep("devices", f"{time.perf_counter() - started:.3f} s\n{found}\n")
    assert found.missing == ()
    (loopback,) = [device for device in found.devices if device.name == "lo"]
    assert not loopback.crypto and loopback.missing[0].reason is Reason.NO_OFFLOAD_DEVICE
