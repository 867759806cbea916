"""The outbound direction whole, beside the golden model, and Scapy for a second opinion."""

from __future__ import annotations

import os
import random
from collections import Counter, deque
from dataclasses import dataclass
from itertools import product

import cocotb
from cocotb.handle import HierarchyObject
from cocotb.triggers import FallingEdge, ReadOnly
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.ipsec import ESP, SecurityAssociation

from appliance.esp.drop import Drop
from appliance.esp.encapsulation import Transport
from appliance.esp.ip import parse, with_traffic_class
from appliance.esp.tunnel import Df, Dscp, Tunnel
from appliance.esp.upper import upper_layer
from appliance.reasons import Reason
from sim.coverage import traffic
from sim.tb.model.outbound import Outbound, sample, some_outbound, some_tunnel
from sim.tb.outbound_engine.sampling import sample_headers
from sim.tb.structs import layout
from sim.tb.traffic import packets
from sim.tb.traffic.reset import reset
from sim.tb.traffic.stream import Sink, Source, beats, in_bursts, never, sometimes

SAS, INTERVAL = int(os.environ["NSA"]), int(os.environ["INTERVAL"])
LARGEST, HEADROOM = 9600, 1000
DROP, EVENTS, USAGE = layout("drop_t"), layout("sa_events_t"), layout("sa_usage_t")
INPUTS = ("s_axis_tvalid", "m_axis_tready", "command_valid_i", "read_valid_i", "key_start_i", "key_zero_i")


@dataclass
class Sent:
    """A packet on its way in, with what the sideband says of it."""

    data: bytes
    sa: int
    generation: int


class TB:
    """Drives packets and commands; holds what comes out against the models of the SAs."""

    def __init__(self, dut: HierarchyObject) -> None:
        self.dut = dut
        self.source, self.sink = Source(dut), Sink(dut)
        self.models: list[Outbound | None] = [None] * SAS
        self.coming: deque[Sent] = deque()  # good packets, in front of outbound_fetch
        self.expected: deque[tuple[bytes, int]] = deque()
        self.dropped: deque[tuple[Reason, int]] = deque()
        self.intake_dropped: deque[Reason] = deque()
        self.events: deque[tuple[int, dict[str, int]]] = deque()
        self.lengths: list[tuple[int, int]] = []  # what left: bytes, cycle of its end
        self.commanding: tuple[int, Outbound | None] | None = None
        self.seen: set[object] = set()
        self.told: Counter[Reason] = Counter()  # drops
        self.planned: deque[traffic.Sample] = deque()  # what the next packets have to be, if that is planned

    async def start(self, *, started: bool = False) -> None:
        """Reset, and remove every SA, as is to be done then."""
        dut = self.dut
        dut.headroom_i.value = HEADROOM
        await reset(dut, *INPUTS, started=started)
        self.tasks = [cocotb.start_soon(driver()) for driver in (self.source.run, self.sink.run, self._watch)]
        for sa in range(SAS):
            await self.install(sa, None)

    def stop(self) -> None:
        """Stop driving and looking."""
        for task in self.tasks:
            task.cancel()

    async def _watch(self) -> None:
        dut = self.dut
        while True:
            # Whether a packet is taken depends on a command that may be given behind the same falling edge.
            await ReadOnly()
            if dut.taken_o.value:
                self._take(self.coming.popleft(), int(dut.taken_sa_o.value))
            if dut.command_valid_i.value and dut.command_ready_o.value:
                assert self.commanding is not None
                sa, model = self.commanding
                self.models[sa] = model
            if dut.drop_valid_o.value:
                drop = DROP.unpack(int(dut.drop_o.value))
                reason, sa = self.dropped.popleft()
                assert (drop["reason"], drop["direction"], int(dut.drop_sa_o.value)) == (reason.value, 0, sa)
                self.seen.add(reason)
                self.told[reason] += 1
            if dut.intake_drop_valid_o.value:
                reason = self.intake_dropped.popleft()
                assert DROP.unpack(int(dut.intake_drop_o.value))["reason"] == reason.value
                self.seen.add(reason)
                self.told[reason] += 1
            if dut.events_valid_o.value and dut.events_o.value:
                sa, events = self.events.popleft()
                got = EVENTS.unpack(int(dut.events_o.value))
                assert int(dut.events_sa_o.value) == sa
                assert {name: got[name] for name in events} == events
                self.seen.update(name for name, on in events.items() if on)
            while self.sink.packets:
                packet = self.sink.packets.popleft()
                wanted, sa = self.expected.popleft()
                assert packet.data == wanted, f"SA {sa}: {packet.data.hex()} is not {wanted.hex()}"
                assert packet.user == sa
                self.lengths.append((len(packet.data), packet.end))
            await FallingEdge(dut.clk_i)

    def _take(self, sent: Sent, sa: int) -> None:
        assert sent.sa == sa
        model = self.models[sa]
        if model is None:
            outcome: bytes | Reason = Reason.NO_SA
            events: dict[str, int] = {}
        else:
            outcome, events = model.take(sent.data, sent.generation, HEADROOM)
        if isinstance(outcome, Reason):
            traffic.outbound_drop(outcome, place(model, sent.data, sent.generation), self.pressure)
            self.dropped.append((outcome, sa))
        else:
            assert model is not None
            kind = sample(model, sent.data, self.pressure)
            assert not self.planned or kind == self.planned.popleft()
            traffic.outbound(kind)
            sample_headers(model, sent.data, kind.form)
            self.expected.append((outcome, sa))
        if any(events.values()):
            self.events.append((sa, events))

    async def install(self, sa: int, model: Outbound | None) -> None:
        """Stage keys and give the command; returns when it is done. None removes."""
        dut = self.dut
        start = dut.key_zero_i if model is None else dut.key_start_i
        if model:
            dut.key_i.value, dut.key256_i.value = model.key_number(), int(len(model.key) == 32)
        start.value = 1
        await FallingEdge(dut.clk_i)
        start.value = 0
        while not dut.key_done_o.value:
            await FallingEdge(dut.clk_i)
        await FallingEdge(dut.clk_i)
        dut.command_sa_i.value, dut.command_data_i.value = sa, model.packed() if model else 0
        self.commanding = sa, model
        dut.command_valid_i.value = 1
        while not dut.command_ready_o.value:
            await FallingEdge(dut.clk_i)
        await FallingEdge(dut.clk_i)
        dut.command_valid_i.value = 0
        self.commanding = None
        while not dut.command_done_o.value:
            await FallingEdge(dut.clk_i)
        await FallingEdge(dut.clk_i)

    async def read(self, sa: int) -> dict[str, int]:
        """The counters of an SA."""
        dut = self.dut
        dut.read_sa_i.value, dut.read_valid_i.value = sa, 1
        while not dut.read_ready_o.value:
            await FallingEdge(dut.clk_i)
        await FallingEdge(dut.clk_i)
        dut.read_valid_i.value = 0
        while not dut.read_done_o.value:
            await FallingEdge(dut.clk_i)
        usage: dict[str, int] = USAGE.unpack(int(dut.read_usage_o.value))
        return usage

    def send(self, data: bytes, sa: int, generation: int | None = None) -> None:
        """Send a packet, whole or damaged: what the intake drops is known from the packet alone."""
        if generation is None:
            model = self.models[sa]
            generation = model.generation if model else 0
        self.source.send(data, generation << (SAS - 1).bit_length() | sa)
        reason = refused(data)
        if reason is None:
            self.coming.append(Sent(data, sa, generation))
        else:
            traffic.outbound_drop(reason, traffic.family(data), self.pressure)
            self.intake_dropped.append(reason)

    def press(self, pressure: str) -> None:
        """Have pauses made by whom it says: see ``pressure``."""
        self.source.pause = sometimes(0.3) if pressure in ("source", "both") else never
        self.sink.pause = in_bursts(30, 30) if pressure == "both" else sometimes(0.3) if pressure == "sink" else never

    @property
    def pressure(self) -> str:
        """Who makes pauses now."""
        names = {(0, 0): "none", (1, 0): "source", (0, 1): "sink", (1, 1): "both"}
        return names[self.source.pause is not never, self.sink.pause is not never]

    async def settle(self) -> None:
        """Wait until all of it came out."""
        idle = 0
        while idle < 200:
            await FallingEdge(self.dut.clk_i)
            busy = self.source.queue or self.coming or self.expected or self.dropped or self.intake_dropped
            idle = 0 if busy and idle < 5000 else idle + 1
            self.patience = self.patience + 1 if busy else 0
            assert self.patience < 60000 * INTERVAL, (
                f"{len(self.coming)} and {len(self.expected)} packets do not come out"
            )
        traffic.write()

    patience = 0


def place(model: Outbound | None, packet: bytes, generation: int) -> str:
    """Where the coverage of traffic has a packet that is dropped behind the intake."""
    if model is None or model.generation != generation:
        return traffic.family(packet)
    if isinstance(model.form, Tunnel):
        return traffic.mode(model.form.source.version, transport=False)
    return traffic.mode(6 if packet[0] >> 4 == 6 else 4, transport=True)


def refused(data: bytes) -> Reason | None:
    """Why the intake drops a packet, if it does."""
    if len(data) > LARGEST:
        return Reason.TOO_BIG
    try:
        header = parse(data)
        upper_layer(data)
    except Drop as drop:
        return drop.reason
    return Reason.MALFORMED_IP if header.total_length > len(data) else None


def opened_by_scapy(model: Outbound, outer: bytes) -> bytes:
    """What another implementation finds in an ESP packet: the inner packet, or in transport mode the packet."""
    version = IP if outer[0] >> 4 == 4 else IPv6
    association = SecurityAssociation(
        ESP, model.spi, crypt_algo="AES-GCM", crypt_key=model.key + model.salt, esn_en=model.esn,
        esn=model.golden.sequence >> 32,
        tunnel_header=version() if isinstance(model.form, Tunnel) else None,
        nat_t_header=UDP(dport=model.form.ports[1]) if model.form.ports else None,
    )  # fmt: skip
    return bytes(association.decrypt(version(outer)))


@cocotb.test()
async def random_traffic_over_changing_sas(dut: HierarchyObject) -> None:
    """Packets of every kind, good and damaged, over SAs that come, are replaced and go among them."""
    tb = TB(dut)
    await tb.start()
    generation = 0
    for round_ in range(int(os.environ.get("ROUNDS", "36"))):
        tb.source.pause = random.choice((never, sometimes(0.3), in_bursts(40, 60)))
        tb.sink.pause = random.choice((never, never, sometimes(0.3), in_bursts(30, 90)))
        for _ in range(4):
            for packet in packets.some(12, random.choice((60, 200, 1500))):
                tb.send(packet, random.randrange(SAS), None if random.random() < 0.97 else 0xFFFF)
            generation += 1
            sa = random.randrange(SAS)
            limits = {}
            for kind in ("hard", "soft"):
                for unit, most in (("packets", 12), ("bytes", 1500)):
                    if random.random() < 0.2:
                        limits[f"{kind}_{unit}"] = random.randint(1, most)
            await tb.install(sa, some_outbound(generation, limits=limits) if random.random() < 0.85 else None)
            model = tb.models[sa]
            if model and random.random() < 0.3:
                # The last numbers, and the step from 32 bits to 33: by the memory's back door.
                last = (1 << 64 if model.esn else 1 << 32) - 1
                at = random.choice(((1 << 32) - 3, last - HEADROOM - 2, last - 1))
                if at < last:
                    tb_set_sequence(dut, sa, at)
                    model.golden.sequence = at
        if round_ % 3 == 2:
            await tb.settle()
            await counters_are_the_models(tb)
    await tb.settle()
    await counters_are_the_models(tb)
    reasons = {Reason.NO_SA, Reason.MALFORMED_IP, Reason.ESP_FRAGMENT, Reason.LIFETIME_EXPIRED}
    events = {"headroom", "soft_packets", "hard_packets", "soft_bytes", "hard_bytes"}
    wanted = {*reasons, Reason.SEQUENCE_EXHAUSTED, *events}
    assert wanted <= tb.seen, wanted - tb.seen


@cocotb.test()
async def every_kind_of_packet_is_protected(dut: HierarchyObject) -> None:
    """The crosses of sim.coverage.traffic: every form with every size, padding, algorithm and back-pressure."""
    tb = TB(dut)
    await tb.start()
    numbers: dict[tuple[object, ...], int] = {}
    for cell in traffic.every_cross():
        pressed = tb.pressure != cell.pressure
        if pressed or len(numbers) == SAS:
            await tb.settle()
            tb.press(cell.pressure)
        if len(numbers) == SAS:
            numbers.clear()
        kind = cell.transport, cell.outer, cell.udp, cell.key, cell.esn, cell.tfc
        if kind not in numbers:
            ports = (4500, 4500) if cell.udp else None
            form: Tunnel | Transport = Transport(ports=ports)
            if not cell.transport:
                longer = cell.size + 1 - (cell.size + 3 + cell.padding) % 4 + 4 * random.randint(1, 50)
                form = some_tunnel(cell.outer, ports=ports, tfc_length=longer if cell.tfc else 0)
            number = numbers[kind] = len(numbers)
            await tb.install(number, some_outbound(number, form, key=random.randbytes(cell.key // 8), esn=cell.esn))
        tb.send(plain(cell.inner, cell.size - (20 if cell.inner == 4 else 40)), numbers[kind])
        tb.planned.append(cell)
    await tb.settle()
    missed = traffic.missed(*(f"outbound.{name}" for name in ("form", "udp", "key", "esn", "size", "padding", "tfc")))
    assert not missed, missed


@cocotb.test()
async def there_is_a_reason_for_every_drop(dut: HierarchyObject) -> None:
    """One packet after another that is dropped, each for another reason, in every mode and under every back-pressure; a
    good one behind each."""
    tb = TB(dut)
    await tb.start()
    passing = 0
    for version, pressure in zip((6, 4, 6, 4, 6), ("none", *traffic.PRESSURE), strict=True):
        tb.press(pressure)
        packet, longest = plain(version, 60), plain(version, LARGEST - (20 if version == 4 else 40))
        transport, tunnel = Transport(ports=None), some_tunnel(version, ports=None, tfc_length=0)
        await tb.install(0, some_outbound(1, transport))
        await tb.install(1, some_outbound(1, tunnel))
        await tb.install(2, None)
        # The longest that is taken; and shorter ones that TFC padding, or a body of 64 KiB, make too long.
        for sa, tfc_length in enumerate((0, LARGEST + 100, 65535), 3):
            longer = some_tunnel(version, ports=(4500, 4500), tfc_length=tfc_length)
            await tb.install(sa, some_outbound(1, longer))
        wrong: list[tuple[Reason | None, bytes, int, int]] = [
            (Reason.NO_SA, packet, 0, 2),
            (Reason.NO_SA, packet, 1, 2),
            (Reason.NO_SA, packet, 2, 0),
            (Reason.MALFORMED_IP, packet[:-1], 1, 1),
            (Reason.MALFORMED_IP, bytes((packet[0] ^ 0xF0, *packet[1:])), 1, 1),
            (Reason.TOO_BIG, longest + bytes(1), 1, 1),
            (Reason.ESP_FRAGMENT, fragment(packet), 0, 1),
            (Reason.TOO_BIG, plain(4, 0), 4, 1),
            (Reason.TOO_BIG, plain(4, 0), 5, 1),
        ]
        if pressure == "none":
            wrong += [(Reason.TOO_BIG, longest, 4, 1), (None, longest, 3, 1)]
        for number, (form, esn) in enumerate(product((transport, tunnel), (False, True)), 6):
            await tb.install(number, some_outbound(1, form, esn=esn))
            taken = tb.models[number]
            assert taken
            last = (1 << (64 if esn else 32)) - 1
            tb_set_sequence(dut, number, last - 1)
            taken.golden.sequence = last - 1
            wrong += [(None, packet, number, 1), (Reason.SEQUENCE_EXHAUSTED, packet, number, 1)]
        for number, (form, unit) in enumerate(product((transport, tunnel), ("packets", "bytes")), 10):
            await tb.install(number, some_outbound(1, form, limits={f"hard_{unit}": 1}))
            wrong += [(None, packet, number, 1), (Reason.LIFETIME_EXPIRED, packet, number, 1)]
        told: Counter[Reason] = Counter()
        if pressure == "none":
            # Without tlast: all that comes up to the next one is one packet.
            endless = [(*beat[:2], 0) for beat in beats(longest)]
            tb.source.send_beats([*endless, *beats(packet)], 1 << (SAS - 1).bit_length() | 1)
            tb.intake_dropped.append(Reason.TOO_BIG)
            told[Reason.TOO_BIG] += 1
        for reason, sent, number, generation in wrong:
            tb.send(sent, number, generation)
            tb.send(packet, 1, 1)
            passing += 1 + (reason is None)
            if reason:
                told[reason] += 1
        tb.told.clear()
        await tb.settle()
        assert tb.told == told
        assert len(tb.lengths) == passing
    missed = traffic.missed("outbound.drop")
    assert not missed, missed


def fragment(packet: bytes) -> bytes:
    """The first one of a larger packet."""
    if packet[0] >> 4 == 4:
        return packets.with_right_checksum(packet[:6] + b"\x20" + packet[7:])
    length = int.from_bytes(packet[4:6], "big") + 8
    head = packet[:4] + length.to_bytes(2, "big") + bytes((packets.FRAGMENT,)) + packet[7:40]
    return head + packets.extension(packets.FRAGMENT, packet[6], more=True) + packet[40:]


@cocotb.test()
async def an_outer_header_is_made_as_the_sa_says(dut: HierarchyObject) -> None:
    """ECN, DSCP, DF and flow label: all that an SA can have of each, with all that may be inside."""
    tb = TB(dut)
    await tb.start()
    for number, (version, turn) in enumerate(product((4, 6), range(6))):
        form = some_tunnel(
            version,
            ports=None,
            copy_ecn=turn % 2 == 0,
            dscp=(Dscp.COPY, Dscp.CLEAR, random.randrange(1, 64))[turn % 3],
            df=list(Df)[turn // 2],
            flow_label=(None, 0, random.randrange(1, 1 << 20))[turn % 3],
        )
        await tb.install(number, some_outbound(1, form))
        for inner, marked, unfragmented in product((4, 6), range(4), (False, True)):
            packet = with_traffic_class(plain(inner, 30), random.randrange(64) << 2 | marked)
            if inner == 4:
                flags = packet[6] & 0xBF | 0x40 * unfragmented
                packet = packets.with_right_checksum(packet[:6] + bytes((flags,)) + packet[7:])
            tb.send(packet, number)
    await tb.settle()
    assert len(tb.lengths) == 12 * 16
    missed = traffic.missed(*(f"outbound.{name}" for name in ("ecn", "dscp", "df", "flow")))
    assert not missed, missed


@cocotb.test()
async def options_and_extension_headers_are_protected(dut: HierarchyObject) -> None:
    """IPv4 options, and every extension header of IPv6, in every mode: some of them stay in front of ESP."""
    tb = TB(dut)
    await tb.start()
    await tb.install(0, some_outbound(1, Transport(ports=None)))
    await tb.install(1, some_outbound(1, Transport(ports=(4500, 4500))))
    for number, (version, ports) in enumerate(product((4, 6), (None, (4500, 4500))), 2):
        await tb.install(number, some_outbound(1, some_tunnel(version, ports=ports)))
    kinds = [(), *((kind,) for kind in packets.EXTENSIONS), packets.EXTENSIONS, (60, 43, 60), (60, 60)]
    for number in range(6):
        for options in (0, 1, 5, 10):
            tb.send(packets.ipv4(253, random.randbytes(20), options=options), number)
        for chain in kinds:
            tb.send(packets.ipv6(chain, 253, random.randbytes(20)), number)
    await tb.settle()
    assert len(tb.lengths) == 6 * (4 + len(kinds))
    missed = traffic.missed("outbound.options", "outbound.extensions")
    assert not missed, missed


def tb_set_sequence(dut: HierarchyObject, sa: int, number: int) -> None:
    """Write the number that was spent last into outbound_fetch's memory."""
    dut.u_engine.u_fetch.state_mem[2 * sa].value = number


async def counters_are_the_models(tb: TB) -> None:
    for sa, model in enumerate(tb.models):
        usage = await tb.read(sa)
        assert usage["packets"] == (model.sent_packets if model else 0)
        assert usage["bytes"] == (model.sent_bytes if model else 0)
        assert usage["sequence_number"] == (model.golden.sequence if model else 0)


@cocotb.test()
async def scapy_opens_what_is_made(dut: HierarchyObject) -> None:
    """Every form, native and in UDP, with ESN on both sides of 2^32, and with TFC padding."""
    tb = TB(dut)
    await tb.start()
    opened = 0
    forms = [*product((False,), (4, 6), (4, 6), (0, 400)), *product((True,), (4, 6), (0,), (0,))]
    for (transport, version, outer_version, tfc_length), ports, esn in product(
        forms, (None, (4500, 4500)), (False, True)
    ):
        if transport:
            form: Tunnel | Transport = Transport(ports=ports)  # on the ports where Scapy looks for ESP
        else:
            form = some_tunnel(outer_version, ports=ports, tfc_length=tfc_length)
        sa = random.randrange(SAS)
        model = some_outbound(opened, form, esn=esn)
        await tb.install(sa, model)
        for number in range(4 if esn else 2):
            if number == 1 and esn:
                tb_set_sequence(dut, sa, (1 << 32) - 2)
                model.golden.sequence = (1 << 32) - 2
            packet = plain(version, random.randint(0, 300))
            tb.send(packet, sa)
            while not tb.expected or tb.coming:
                await FallingEdge(dut.clk_i)
            outer, _ = tb.expected[0]
            inside = opened_by_scapy(model, outer)
            assert inside[: len(packet)] == packet
            padding = 0 if transport else max(0, tfc_length - len(packet))
            assert inside[len(packet) :] == bytes(padding)
            opened += 1
            while tb.expected:
                await FallingEdge(dut.clk_i)
    await tb.settle()
    assert opened == len(tb.lengths) == 10 * 2 * (2 + 4)


def plain(version: int, size: int) -> bytes:
    """A packet without options and extension headers, with a protocol that Scapy takes for bytes."""
    if version == 4:
        return packets.ipv4(253, random.randbytes(size))
    return packets.ipv6((), 253, random.randbytes(size))


@cocotb.test()
async def damaged_streams_are_dropped_and_the_next_packet_passes(dut: HierarchyObject) -> None:
    """Holes in tkeep, a beat that is not full, a missing tlast, too long, too short."""
    tb = TB(dut)
    await tb.start()
    await tb.install(1, some_outbound(7, some_tunnel(tfc_length=0)))
    width = (SAS - 1).bit_length()
    user = 7 << width | 1
    for kind in range(40):
        data = plain(4, random.randint(30, 400))
        these = beats(data)
        if kind % 4 == 0:
            # Without its first byte, or empty: neither is ever right.
            at = random.randrange(len(these))
            beat, keep, last = these[at]
            these[at], reason = (beat, random.choice((0, keep & ~1)), last), Reason.MALFORMED_IP
        elif kind % 4 == 1:
            these, reason = [(*beat[:2], 0) for beat in these] * 60, Reason.TOO_BIG
            these += beats(plain(4, LARGEST))
        elif kind % 4 == 2:
            these, reason = these[:-2], Reason.MALFORMED_IP
            these[-1] = (*these[-1][:2], 1)
        else:
            these, reason = beats(plain(6, LARGEST)), Reason.TOO_BIG
        tb.source.send_beats(these, user)
        tb.intake_dropped.append(reason)
        tb.send(plain(random.choice((4, 6)), random.randint(0, 100)), 1)
    await tb.settle()
    assert len(tb.lengths) == 40


@cocotb.test()
async def a_long_packet_behind_many_short_ones(dut: HierarchyObject) -> None:
    """UDP over IPv6, where a packet's checksum takes cycles of its own: what comes from the cipher does not pile up."""
    tb = TB(dut)
    await tb.start()
    await tb.install(1, some_outbound(1, some_tunnel(6, ports=(4500, 4500), tfc_length=0)))
    for blocks in (5, 14, 22):
        for size in (*[16 * blocks - 42] * 50, 1400):
            tb.send(plain(6, size), 1)
        await tb.settle()


@cocotb.test()
async def reset_in_the_middle_stops_every_sa(dut: HierarchyObject) -> None:
    """Nothing is encrypted after reset until a key is installed; packets that were inside are gone."""
    tb = TB(dut)
    await tb.start()
    await tb.install(2, some_outbound(5, some_tunnel()))
    for _ in range(20):
        tb.send(plain(4, 200), 2)
    while len(tb.lengths) < 3:
        await FallingEdge(dut.clk_i)
    tb.stop()
    after = TB(dut)
    await after.start(started=True)
    after.send(plain(4, 200), 2, 5)
    await after.settle()
    assert Reason.NO_SA in after.seen and not after.lengths
    await after.install(2, some_outbound(5, some_tunnel()))
    after.send(plain(4, 200), 2)
    await after.settle()
    assert len(after.lengths) == 1


@cocotb.test()
async def removal_leaves_zeros(dut: HierarchyObject) -> None:
    """Read back from every memory: configuration, state, round keys, powers of H."""
    tb = TB(dut)
    await tb.start()
    for sa in range(SAS):
        await tb.install(sa, some_outbound(sa + 1))
        tb.send(plain(4, 50), sa)
    await tb.settle()
    fetch = dut.u_engine.u_fetch
    assert all(int(fetch.config_mem[8 * sa].value) for sa in range(SAS))
    for sa in range(SAS):
        await tb.install(sa, None)
        for word in range(6):
            assert int(fetch.config_mem[8 * sa + word].value) == 0
        assert int(fetch.state_mem[2 * sa].value) == int(fetch.state_mem[2 * sa + 1].value) == 0


def cycles_each(tb: TB, count: int) -> float:
    """Cycles from end to end of the packets that left last."""
    ends = [end for _, end in tb.lengths[-count:]]
    return (ends[-1] - ends[0]) / (count - 1)


@cocotb.test()
async def a_beat_a_cycle(dut: HierarchyObject) -> None:
    """Back to back over all SAs: what leaves idles at most a cycle a packet; the shortest take 10 cycles."""
    tb = TB(dut)
    await tb.start()
    for sa in range(SAS):
        await tb.install(sa, some_outbound(1, some_tunnel(4, ports=random.choice((None, (4500, 4500))), tfc_length=0)))
    for size in (64, 128, 256, 512, 1518, 9000):
        inner = size - 18  # of an Ethernet frame
        count = 40
        for number in range(count):
            tb.send(plain(4, inner - 20), number % SAS)
        await tb.settle()
        leaving = tb.lengths[-count:]
        each = cycles_each(tb, count - 8)
        most = max(-(-length // 16) for length, _ in leaving)
        dut._log.info("%d bytes: %.2f cycles a packet, %d beats", size, each, most)
        if INTERVAL == 1:
            assert each <= max(10, most + 1), (size, each)
