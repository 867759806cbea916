"""Packets through both directions at once, back to back, over SAs in rotation; what takes how many cycles.

Runs in the simulator. Every packet that leaves is held against the golden model's.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import deque
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge

from appliance.datapath.engine.registers import Answer
from appliance.esp.encapsulation import encapsulate
from appliance.esp.tunnel import Tunnel
from sim.tb.model.inbound import Sa, everything
from sim.tb.model.outbound import Outbound
from sim.tb.model.programmer import Programmer
from sim.tb.traffic import packets
from sim.tb.traffic.reset import reset
from sim.tb.traffic.stream import Sink, Source

SAS, WINDOW = int(os.environ["NSA"]), int(os.environ["WINDOW"])
SIZES = [int(size) for size in os.environ["SIZES"].split(",")]
COUNTS = [int(count) for count in os.environ["COUNTS"].split(",")]
ETHERNET = 18  # header and FCS of a frame, which are not in the engine's packets
BETWEEN = 20  # bytes of time between two frames: preamble, start and the least gap (IEEE 802.3)
QUIET = ("s_axis_plain_tvalid", "s_axis_esp_tvalid", "m_axis_esp_tready", "m_axis_plain_tready", "s_axil_awvalid",
         "s_axil_wvalid", "s_axil_arvalid", "s_axil_bready", "s_axil_rready")  # fmt: skip


@dataclass
class Pair:
    """An outbound and an inbound SA: independent ones, of the same form."""

    out: Outbound
    sa: Sa


def pair(index: int, generation: int, ports: tuple[int, int] | None) -> Pair:
    """Tunnel mode over IPv4 with AES-256 and ESN."""
    tunnel = Tunnel(source=IPv4Address("192.0.2.1"), destination=IPv4Address("192.0.2.2"), ports=ports)
    key, salt = random.randbytes(32), random.randbytes(4)
    spi = 0x1000_0000 | generation << 16 | index
    out = Outbound(form=tunnel, generation=generation, esn=True, key=key, salt=salt, spi=spi)
    sa = Sa(index, False, True, key, salt, spi, tunnel, tunnel.source, tunnel.destination, 4500,
            [(everything(4), False), (everything(4), True)], WINDOW, selector_first=0)  # fmt: skip
    return Pair(out, sa)


async def measured(dut: Any, pairs: list[Pair], size: int, count: int) -> dict[str, float]:
    """Cycles a packet and bits a cycle, each way."""
    source, sink = Source(dut, "s_axis_plain"), Sink(dut, "m_axis_esp")
    esp_source, plain_sink = Source(dut, "s_axis_esp"), Sink(dut, "m_axis_plain")
    width = (SAS - 1).bit_length()
    made: deque[bytes] = deque()
    sent: deque[bytes] = deque()
    for number in range(count):
        index = number % len(pairs)
        one = pairs[index]
        packet = packets.ipv4(17, random.randbytes(size - ETHERNET - 20))
        source.send(packet, one.out.generation << width | index)
        made.append(encapsulate(one.out.golden, one.out.form, packet))
        esp_source.send(encapsulate(one.sa.sender, one.sa.form, packet))
        sent.append(packet)
    outer = len(made[0])
    tasks = [cocotb.start_soon(stream.run()) for stream in (source, sink, esp_source, plain_sink)]
    ends: dict[str, list[int]] = {"outbound": [], "inbound": []}
    while made or sent:
        await FallingEdge(dut.clk_i)
        for side, out, wanted in (("outbound", sink, made), ("inbound", plain_sink, sent)):
            while out.packets:
                packet = out.packets.popleft()
                assert packet.data == wanted.popleft(), f"{side}: another packet than the golden model's"
                ends[side].append(packet.end)
    for task in tasks:
        task.cancel()
    result: dict[str, float] = {"outer_bytes": outer, "inner_bytes": size - ETHERNET}
    for side, times in ends.items():
        # The first ones fill the buffers, and the last ones have nothing behind them.
        steady = times[len(times) // 4 : -(len(times) // 8)]
        cycles = (steady[-1] - steady[0]) / (len(steady) - 1)
        result[f"{side}_cycles_a_packet"] = cycles
        result[f"{side}_bits_a_cycle"] = 8 * outer / cycles
        result[f"{side}_idle_cycles_a_packet"] = cycles - -(-outer // 16)
    # The clock with which plain frames come and go at the rate of a Gigabit port, though what they become is longer.
    slowest = max(result["outbound_cycles_a_packet"], result["inbound_cycles_a_packet"])
    result["gigabit_mhz"] = 1000 * slowest / (8 * (size + BETWEEN))
    return result


def write(result: dict[str, Any]) -> None:
    """Leave it for whoever started the simulation."""
    Path(os.environ["RESULT"]).write_text(json.dumps(result))


@cocotb.test()
async def bench_rtl(dut: Any) -> None:
    """All sizes, numbers of SAs and both encapsulations."""
    began = time.monotonic()
    await reset(dut, *QUIET, started=False)
    software = Programmer(dut)
    await software.until_ready()
    await software.enable()
    for number, remote in enumerate((False, True)):
        assert await software.selector(number, everything(4), remote=remote) is Answer.DONE
    results = []
    for generation, ports in enumerate((None, (4500, 4500)), 1):
        pairs = [pair(index, generation, ports) for index in range(max(COUNTS))]
        for index, one in enumerate(pairs):
            if generation > 1:
                await software.remove(index)
            assert await software.install_outbound(index, one.out) is Answer.DONE
            software.stage_inbound(one.sa)
            assert await software.install_staged_inbound(index) is Answer.DONE
        for sas in COUNTS:
            for size in SIZES:
                count = max(sas + sas // 3, 96) if size < 4000 else max(sas + 32, 48)
                result = await measured(dut, pairs[:sas], size, count)
                results.append({"frame": size, "sas": sas, "udp": ports is not None, "packets": count, **result})
                dut._log.info("%s", results[-1])
    usage = {"seconds": round(time.monotonic() - began, 1), "results": results}
    write(usage)
