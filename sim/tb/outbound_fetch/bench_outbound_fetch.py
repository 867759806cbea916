"""Packets and commands through the outbound SAs, beside a model that counts as RFC 4303 §3.3 says."""

from __future__ import annotations

import os
import random
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.handle import HierarchyObject
from cocotb.triggers import ReadOnly, RisingEdge

from appliance.esp.outbound import OutboundSa
from appliance.esp.transform import AES_GCM_16, transform
from appliance.reasons import Reason
from sim.tb.structs import layout

SAS, LARGEST, HEADROOM = int(os.environ["SAS"]), int(os.environ["LARGEST"]), 5
HEADER, SA, JOB, EVENTS = (layout(f"{name}_t") for name in ("ip_header", "outbound_sa", "outbound_job", "sa_events"))
KIND = layout("job_kind_e")
# Lengths do not depend on the key.
LENGTHS = OutboundSa(1, transform(AES_GCM_16, 0, bytes(20), b""), esn=False)


@dataclass
class Model:
    """One SA: what was installed, and what it used up."""

    config: dict[str, Any] = field(default_factory=dict)
    sequence: int = 0
    packets: int = 0
    bytes: int = 0

    def take(self, header: dict[str, int], generation: int) -> tuple[Reason | None, dict[str, int], dict[str, int]]:
        """A packet: why it is dropped or None, what is said of the job, and the events that are set."""
        form = self.config.get("form", {})
        if not form.get("valid") or form["generation"] != generation:
            return Reason.NO_SA, {"sequence_number": 0}, {}
        transport, total = form["transport"], header["total_length"]
        if transport and header["fragment"]:
            return Reason.ESP_FRAGMENT, {"sequence_number": 0}, {}
        last = (1 << 64 if form["esn"] else 1 << 32) - 1
        if self.sequence == last:
            return Reason.SEQUENCE_EXHAUSTED, {"sequence_number": 0}, {}
        hard, soft = self.config["hard_limits"], self.config["soft_limits"]
        if any(hard[kind] and getattr(self, kind) >= hard[kind] for kind in ("packets", "bytes")):
            return Reason.LIFETIME_EXPIRED, {"sequence_number": 0}, {}
        self.sequence += 1
        payload = total - header["esp_at"] if transport else total
        padded = payload if transport else max(payload, form["tfc_length"])
        outer = header["esp_at"] if transport else 40 if form["v6"] else 20
        size = outer + 8 * form["udp"] + LENGTHS.sealed_length(padded)
        said = {"sequence_number": self.sequence, "payload": payload, "padded": padded, "outer": outer, "total": size,
                "kept": outer if transport else 0, "body": LENGTHS.sealed_length(padded) - 32}  # fmt: skip
        # A number is spent also on what is too big.
        events = {"headroom": int(last - self.sequence == HEADROOM)}
        if size > LARGEST:
            return Reason.TOO_BIG, said, events
        old = {"packets": self.packets, "bytes": self.bytes}
        self.packets += 1
        self.bytes += payload
        for name, limits in (("hard", hard), ("soft", soft)):
            for kind in ("packets", "bytes"):
                events[f"{name}_{kind}"] = int(bool(limits[kind]) and old[kind] < limits[kind] <= getattr(self, kind))
        return None, said, events


FLAGS = ("transport", "v6", "udp", "esn", "key256", "dscp_copy", "ecn_copy", "flow_copy")


class TB:
    """Drives packets, commands and requests one after another, and holds what comes out against the models."""

    def __init__(self, dut: HierarchyObject) -> None:
        self.dut = dut
        self.models = [Model() for _ in range(SAS)]
        self.jobs: deque[dict[str, Any]] = deque()
        self.drops: deque[tuple[Reason, int, int, int]] = deque()
        self.events: deque[tuple[int, int, dict[str, int]]] = deque()
        # What commands tell of what they replace; not of what was before the first.
        self.finds: deque[tuple[int, int, int] | None] = deque()
        self.known: set[int] = set()
        self.patience = 0.0
        self.seen: set[object] = set()

    async def start(self) -> None:
        dut = self.dut
        cocotb.start_soon(Clock(dut.clk_i, 10, "ns").start())
        dut.packet_valid_i.value = dut.command_valid_i.value = dut.read_valid_i.value = 0
        dut.job_ready_i.value = 1
        dut.headroom_i.value = HEADROOM
        dut.rst_ni.value = 0
        for _ in range(3):
            await RisingEdge(dut.clk_i)
        dut.rst_ni.value = 1
        cocotb.start_soon(self._watch())
        for sa in range(SAS):
            await self.command(sa, {})

    async def _watch(self) -> None:
        dut = self.dut
        while True:
            await ReadOnly()
            if dut.job_valid_o.value and dut.job_ready_i.value:
                job = {
                    "kind": int(dut.job_kind_o.value),
                    "sa": int(dut.job_sa_o.value),
                    "tag": int(dut.job_tag_o.value),
                }
                if job["kind"] == KIND["JobPacket"]:
                    job |= JOB.unpack(int(dut.job_o.value))
                self._check(self.jobs.popleft(), job)
            if dut.drop_valid_o.value:
                numbers = dut.drop_sa_o, dut.drop_spi_o, dut.drop_sequence_o
                seen = (Reason(int(dut.drop_reason_o.value)), *(int(one.value) for one in numbers))
                assert seen == self.drops.popleft()
            events = {name: one for name, one in EVENTS.unpack(int(dut.events_o.value)).items() if one}
            if dut.events_valid_o.value and events:
                of = int(dut.events_sa_o.value), int(dut.events_generation_o.value)
                assert (*of, events) == self.events.popleft()
            if dut.read_done_o.value and self.finds:
                found = self.finds.popleft()
                assert found is None or self.counters() == found
            await RisingEdge(dut.clk_i)
            dut.job_ready_i.value = random.random() >= self.patience

    def _check(self, expected: dict[str, Any], job: dict[str, Any]) -> None:
        assert {name: job[name] for name in expected} == expected

    async def _send(self, valid: Any, ready: Any) -> None:
        valid.value = 1
        await ReadOnly()
        while not ready.value:
            await RisingEdge(self.dut.clk_i)
            await ReadOnly()
        await RisingEdge(self.dut.clk_i)
        valid.value = 0

    async def packet(self, sa: int, generation: int, header: dict[str, int]) -> None:
        dut, model = self.dut, self.models[sa]
        tag = random.getrandbits(11)
        reason, said, events = model.take(header, generation)
        self.seen.add(reason)
        self.seen.update(name for name, value in events.items() if value)
        spi = model.config["id"]["spi"] if reason is not Reason.NO_SA else 0
        if reason is None:
            whole = {name: model.config[name] for name in ("form", "id", "source", "destination")}
            if model.config["form"]["transport"]:
                whole |= {name: header.get(name, 0) * header["v6"] for name in ("source", "destination")}
            self.jobs.append(
                {
                    "kind": KIND["JobPacket"],
                    "sa": sa,
                    "tag": tag,
                    "header": HEADER.unpack(HEADER.pack(header)),
                    **whole,
                    **said,
                }
            )
        else:
            self.jobs.append({"kind": KIND["JobSkip"], "sa": sa, "tag": tag})
            self.drops.append((reason, sa, spi, said["sequence_number"]))
        if any(events.values()):
            generation = model.config["form"]["generation"]
            self.events.append((sa, generation, {name: one for name, one in events.items() if one}))
        dut.packet_header_i.value, dut.packet_tag_i.value = HEADER.pack(header), tag
        dut.packet_sa_i.value, dut.packet_generation_i.value = sa, generation
        await self._send(dut.packet_valid_i, dut.packet_ready_o)
        dut.packet_header_i.value = random.getrandbits(HEADER.width)

    async def command(self, sa: int, config: dict[str, Any]) -> None:
        dut = self.dut
        packed = SA.pack(config)
        old = self.models[sa]
        self.finds.append((old.sequence, old.packets, old.bytes) if sa in self.known else None)
        self.known.add(sa)
        self.models[sa] = Model(SA.unpack(packed))
        dut.command_sa_i.value, dut.command_data_i.value = sa, packed
        self.jobs.append({"kind": KIND["JobCommand"], "sa": sa})
        await self._send(dut.command_valid_i, dut.command_ready_o)
        assert not self.finds, "nothing was told of what was replaced"

    def counters(self) -> tuple[int, int, int]:
        dut = self.dut
        return int(dut.read_sequence_o.value), int(dut.read_packets_o.value), int(dut.read_bytes_o.value)

    async def read(self, sa: int) -> tuple[int, int, int]:
        dut = self.dut
        dut.read_sa_i.value = sa
        await self._send(dut.read_valid_i, dut.read_ready_o)
        await ReadOnly()
        while not dut.read_done_o.value:
            await RisingEdge(dut.clk_i)
            await ReadOnly()
        values = self.counters()
        await RisingEdge(dut.clk_i)
        return values

    async def settle(self) -> None:
        for _ in range(400):
            if not (self.jobs or self.drops or self.events):
                return
            await RisingEdge(self.dut.clk_i)
        raise AssertionError(f"nothing came of {self.jobs}, {self.drops}, {self.events}")


def some_config(**form: int) -> dict[str, Any]:
    def limit(most: int) -> int:
        return random.choice((0, 0, random.randint(1, most)))

    def limits() -> dict[str, int]:
        return {"packets": limit(12), "bytes": limit(9000)}

    return {
        "form": {
            **{name: random.getrandbits(1) for name in FLAGS},
            "valid": 1,
            "generation": random.choice((0, 1, 65535)),
            "dscp": random.getrandbits(6),
            "df": random.randrange(3),
            "flow_label": random.getrandbits(20),
            "hop_limit": random.getrandbits(8),
            "tfc_length": random.choice((0, 0, 200, 1500)),
            "source_port": random.getrandbits(16),
            "destination_port": random.getrandbits(16),
            **form,
        },
        "id": {"salt": random.getrandbits(32), "spi": random.getrandbits(32)},
        "hard_limits": limits(),
        "soft_limits": limits(),
        "source": random.getrandbits(128),
        "destination": random.getrandbits(128),
    }  # fmt: skip


def some_header() -> dict[str, int]:
    total = random.choice((random.randint(20, 300), random.randint(40, 65535), LARGEST - random.randint(0, 100), 1500))
    return {
        "total_length": total,
        "esp_at": random.choice((20, 24, 40, 48)) if total > 60 else 20,
        "fragment": int(random.random() < 0.1),
        "traffic_class": random.getrandbits(8),
        "v6": random.getrandbits(1),
        "source": random.getrandbits(128),
        "destination": random.getrandbits(128),
    }


@cocotb.test()
async def every_packet_gets_the_next_number_of_its_sa_or_a_reason(dut: HierarchyObject) -> None:
    tb = TB(dut)
    await tb.start()
    for turn in range(1500):
        tb.patience = random.choice((0.0, 0.0, 0.5, 0.95))
        sa = random.randrange(SAS)
        model = tb.models[sa]
        if turn < 2 * SAS or random.random() < 0.04:
            await tb.command(sa, {} if random.random() < 0.2 else some_config())
        elif random.random() < 0.05:
            assert await tb.read(sa) == (model.sequence, model.packets, model.bytes)
        else:
            generation = model.config["form"]["generation"] if random.random() < 0.95 else random.getrandbits(16)
            await tb.packet(sa, generation, some_header())
        for _ in range(random.choice((0, 0, 0, 1, 7))):
            await RisingEdge(dut.clk_i)
    await tb.settle()
    for sa, model in enumerate(tb.models):
        assert await tb.read(sa) == (model.sequence, model.packets, model.bytes)
    wanted = {None, Reason.NO_SA, Reason.ESP_FRAGMENT, Reason.LIFETIME_EXPIRED, Reason.TOO_BIG,
              "hard_packets", "hard_bytes", "soft_packets", "soft_bytes"}  # fmt: skip
    assert tb.seen >= wanted, wanted - tb.seen


@cocotb.test()
async def numbers_end_and_do_not_begin_again(dut: HierarchyObject) -> None:
    """RFC 4303 §3.3.3. Billions of packets are not sent here: the memory is written to."""
    tb = TB(dut)
    await tb.start()
    none = {"hard_limits": {"packets": 0, "bytes": 0}, "soft_limits": {"packets": 0, "bytes": 0}}
    for esn in (0, 1):
        await tb.command(0, {**some_config(esn=esn, transport=0, tfc_length=0, generation=7), **none})
        await tb.settle()
        last = (1 << 64 if esn else 1 << 32) - 1
        dut.state_mem[0].value = last - HEADROOM - 3
        tb.models[0].sequence = last - HEADROOM - 3
        for _ in range(HEADROOM + 8):
            await tb.packet(0, 7, {"total_length": 60, "esp_at": 20})
        await tb.settle()
        assert (await tb.read(0))[0] == last
    assert tb.seen == {None, "headroom", Reason.SEQUENCE_EXHAUSTED}


@cocotb.test()
async def the_last_numbers_are_told_of_whatever_they_were_spent_on(dut: HierarchyObject) -> None:
    """The packet that reaches the headroom is too big: its number is spent, and the next one is behind the mark."""
    tb = TB(dut)
    await tb.start()
    none = {"hard_limits": {"packets": 0, "bytes": 0}, "soft_limits": {"packets": 0, "bytes": 0}}
    await tb.command(0, {**some_config(esn=0, transport=0, tfc_length=0, generation=7), **none})
    await tb.settle()
    dut.state_mem[0].value = tb.models[0].sequence = (1 << 32) - 1 - HEADROOM - 2
    for length in (60, LARGEST, 60):
        await tb.packet(0, 7, {"total_length": length, "esp_at": 20})
    await tb.settle()
    assert tb.seen == {None, "headroom", Reason.TOO_BIG}


@cocotb.test()
async def what_does_not_fit_16_bits_is_too_big(dut: HierarchyObject) -> None:
    tb = TB(dut)
    await tb.start()
    none = {"hard_limits": {}, "soft_limits": {}}
    for fill in (0, 1):
        await tb.command(0, {**some_config(transport=0, tfc_length=65533 * fill, generation=0), **none})
        for length in range(65440, 65536):
            await tb.packet(0, 0, {"total_length": length, "esp_at": 20})
    await tb.settle()


@cocotb.test()
async def a_request_has_its_turn_among_packets_without_a_gap(dut: HierarchyObject) -> None:
    """Those who flood an engine do not keep its owner from reading, nor from the command behind that."""
    tb = TB(dut)
    await tb.start()
    config = some_config(generation=0, transport=0, tfc_length=0)
    await tb.command(0, {**config, "hard_limits": {}, "soft_limits": {}})
    await tb.settle()

    async def flood() -> None:
        for _ in range(60):
            await tb.packet(0, 0, {"total_length": 46, "esp_at": 20})

    flooding = cocotb.start_soon(flood())
    for _ in range(5):
        for _ in range(random.randrange(30)):
            await RisingEdge(dut.clk_i)
        begun = cocotb.simtime.get_sim_time("ns")
        sequence, packets, _ = await tb.read(0)
        assert cocotb.simtime.get_sim_time("ns") - begun <= 3 * 9 * 10
        # The next packet was counted in the model when it was offered.
        assert sequence == packets and sequence in (tb.models[0].sequence, tb.models[0].sequence - 1)
    assert not flooding.done()
    await flooding
    await tb.settle()


@cocotb.test()
async def a_packet_takes_nine_cycles(dut: HierarchyObject) -> None:
    tb = TB(dut)
    await tb.start()
    config = some_config(generation=0, transport=0, tfc_length=0)
    await tb.command(0, {**config, "hard_limits": {}, "soft_limits": {}})
    await tb.settle()
    begun = cocotb.simtime.get_sim_time("ns")
    for _ in range(20):
        await tb.packet(0, 0, {"total_length": 46, "esp_at": 20})
    assert cocotb.simtime.get_sim_time("ns") - begun <= 20 * 9 * 10
    await tb.settle()
