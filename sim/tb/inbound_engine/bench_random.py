"""inbound_engine under random traffic, beside the golden model."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge

from appliance.reasons import Reason
from sim.tb.inbound_engine.senders import (
    SAS,
    forged,
    good,
    no_esp,
    some_sa,
)
from sim.tb.inbound_engine.world import TB, every_kind, some_packet


@cocotb.test()
async def what_leaves_is_what_the_golden_model_opens(dut: Any) -> None:
    tb = TB(dut)
    await tb.reset()
    for wide in (True, False):
        sas = await every_kind(tb, selectors=not wide)
        for _ in range(900):
            tb.send(some_packet(tb, sas))
            if random.random() < 0.05:
                tb.moods()
            await tb.until(random.choice((0, 20, 100)))
        tb.pause = tb.patience = 0.0
        await tb.drain()
        await tb.check_usage()
        for sa in sas:
            await tb.remove(sa)
    wanted = {None, Reason.UNKNOWN_SPI, Reason.REPLAYED, Reason.INTEGRITY, Reason.MALFORMED_ESP, Reason.MALFORMED_IP,
              Reason.SELECTOR_MISMATCH, Reason.DUMMY, Reason.ECN_NOT_CAPABLE, Reason.ESP_FRAGMENT}  # fmt: skip
    dut._log.info("%s", {str(one): count for one, count in tb.seen.items()})
    for one in wanted:
        assert tb.seen[one] >= 10, f"{one} only {tb.seen[one]} times"
    assert tb.seen["compared"] >= 50


@cocotb.test()
async def commands_take_effect_between_two_packets(dut: Any) -> None:
    """Installed over and removed with packets of all generations on their way, and counters read meanwhile."""
    tb = TB(dut)
    await tb.reset()
    sas = await every_kind(tb)
    running = True

    async def packets_come() -> None:
        while running:
            for _ in range(random.randrange(30)):
                await FallingEdge(dut.clk_i)
            sa = random.choice(sas)
            tb.send(random.choice((good, good, good, forged, no_esp))(sa))
            if random.random() < 0.05:
                tb.moods()
            await tb.until(random.choice((0, 20, 100)))

    async def requests() -> None:
        while running:
            for _ in range(random.choice((0, 3, 100))):
                await FallingEdge(dut.clk_i)
            index = random.randrange(SAS)
            stable = tb.history.get(index)
            before = len(stable) if stable else 0
            got = await tb.read(index)
            if stable is not None and tb.history.get(index) is stable and tb.next is None:
                assert got in stable, f"{got} after {stable[max(0, before - 5) :]}"

    tasks = [cocotb.start_soon(packets_come()), cocotb.start_soon(requests())]
    for _ in range(30):
        number = random.randrange(len(sas))
        old = sas[number]
        new = some_sa(old.index, transport=old.transport, v6=old.lookup[0] == 1, esn=bool(random.getrandbits(1)))
        # The same table entry leads to the new generation.
        new.spi, new.destination, new.source = old.spi, old.destination, old.source
        new = replace(new, form=old.form)
        if random.random() < 0.4:
            await tb.stage(None)
            await tb.command(old.index)
        await tb.stage(new.key)
        if random.random() < 0.5:
            sas[number] = new  # its first packets may be there before it is
        await tb.command(new)
        sas[number] = new
        for _ in range(random.randrange(500)):
            await FallingEdge(dut.clk_i)
    running = False
    tb.pause = tb.patience = 0.0
    for task in tasks:
        await task
    await tb.drain()
    await tb.check_usage()
    wanted = (None, Reason.UNKNOWN_SPI, Reason.INTEGRITY, Reason.REPLAYED)
    assert all(tb.seen[one] for one in wanted[:3]), tb.seen


@cocotb.test()
async def reset_forgets_everything_under_way(dut: Any) -> None:
    tb = TB(dut)
    await tb.reset()
    for _ in range(12):
        sas = [some_sa(one, transport=bool(one & 1), v6=bool(random.getrandbits(1)), esn=False) for one in range(2)]
        for sa in sas:
            await tb.install(sa)
        tb.moods()
        for _ in range(12):
            tb.send(some_packet(tb, sas))
        for _ in range(random.randrange(400)):
            await FallingEdge(dut.clk_i)
        await tb.reset()
    sa = some_sa(1, transport=False, v6=True, esn=False)
    await tb.install(sa)
    tb.pause = tb.patience = 0.0
    for _ in range(20):
        tb.send(good(sa))
    await tb.drain()
    await tb.check_usage()
