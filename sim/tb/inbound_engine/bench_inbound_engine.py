"""inbound_engine beside the golden model: what leaves, what is dropped and why, what is counted and told, in order."""

from __future__ import annotations

import itertools
import os
import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import cocotb
from cocotb.triggers import FallingEdge
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrRouting
from scapy.layers.ipsec import ESP, SecurityAssociation
from scapy.packet import Packet, Raw

from appliance.esp.encapsulation import Transport, encapsulate, encapsulate_dummy
from appliance.esp.ip import with_traffic_class
from appliance.esp.trailer import append_trailer
from appliance.esp.transport import joined, split_to_protect
from appliance.esp.tunnel import Tunnel
from appliance.reasons import Reason
from appliance.sa.selector import TrafficSelector
from sim.coverage import traffic
from sim.tb.inbound_engine.sampling import sampled
from sim.tb.model.inbound import (
    KEY,
    Key,
    Outcome,
    Sa,
    agrees,
    copied,
    everything,
    judge,
    selector_packed,
)
from sim.tb.structs import layout
from sim.tb.traffic import packets
from sim.tb.traffic.header import expected
from sim.tb.traffic.reset import reset

INTERVAL, SAS, WINDOW, MOST = (int(os.environ[name]) for name in ("INTERVAL", "SAS", "WINDOW", "MOST"))
LARGEST = int(os.environ["LARGEST"])
DROP, EVENTS, USAGE, KIND = (layout(name) for name in ("drop_t", "sa_events_t", "sa_usage_t", "item_kind_e"))
INSERT, REMOVE = range(2)
DONE = 0
QUIET = ("s_axis_tvalid", "m_axis_tready", "command_valid_i", "start_i", "zero_i", "op_valid_i", "selector_write_i",
         "read_valid_i")  # fmt: skip


def some_sa(index: int, *, transport: bool, v6: bool, esn: bool, selectors: bool = False, key: int = 0) -> Sa:
    """An SA with random keys and addresses; its selectors are for everything unless some are wanted."""
    kind, width = (IPv6Address, 16) if v6 else (IPv4Address, 4)
    source, destination = (kind(random.randbytes(width)) for _ in range(2))
    form: Tunnel | Transport = Transport() if transport else Tunnel(source=source, destination=destination)
    chosen = [(everything(version), remote) for remote in (False, True) for version in (4, 6)]
    if transport or MOST < 4:
        chosen = [one for one in chosen if one[0].version == (6 if v6 else 4)]
    if selectors:
        chosen = [some_selector(random.choice((4, 6)), remote) for remote in (False, True, True, False)][:MOST]
    return Sa(
        index,
        transport,
        esn,
        random.randbytes(key or random.choice((16, 32))),
        random.randbytes(4),
        random.randrange(256, 1 << 32),
        form,
        source,
        destination,
        4500 if random.random() < 0.7 else 4501,
        chosen,
        WINDOW,
        selector_first=index * MOST,
        generation=random.getrandbits(16),
    )


def some_selector(version: int, remote: bool) -> tuple[TrafficSelector, bool]:
    """Half of all addresses, and sometimes a protocol and ports."""
    kind, bits = (IPv4Address, 32) if version == 4 else (IPv6Address, 128)
    half = 1 << bits - 1
    start, end = random.choice(((0, half), (half, 2 * half - 1), (0, 2 * half - 1)))
    ports = random.choice(((0, 65535), (0, 65535), (0, 30000), (65535, 0)))
    return TrafficSelector(kind(start), kind(end), random.choice((0, 0, 6, 17, 1, 58)), *ports), remote


def addressed(sa: Sa, packet: bytes) -> bytes:
    """The same packet, from the SA's one end to the other."""
    at, width = (24, 16) if packet[0] >> 4 == 6 else (16, 4)
    packet = packet[: at - width] + sa.source.packed + sa.destination.packed + packet[at + width :]
    return packets.with_right_checksum(packet)


def some_inner(sa: Sa) -> bytes:
    """A packet that the SA may carry, as far as its headers are concerned."""
    while True:
        packet = packets.whole(random.choice((20, 20, 200, 200, 900)))
        header = expected(packet)
        if header is None:
            continue
        if not sa.transport:
            return packet
        if header["fragment"] or header["v6"] != int(sa.destination.version == 6):
            continue
        packet = addressed(sa, packet)
        # A fragment header in front of the upper layer is not walked in the text: see inbound_inspect.
        if split_to_protect(packet).protocol != packets.FRAGMENT:
            return packet


def around(sa: Sa) -> tuple[bytes, bytes, int]:
    """A packet to be protected, what of it is, and its next header."""
    packet = some_inner(sa)
    if not sa.transport:
        return packet, packet, 4 if packet[0] >> 4 == 4 else 41
    parts = split_to_protect(packet)
    # A whole packet without anything in it, so that all of it is kept.
    return joined(parts, 253, b""), parts.payload, parts.protocol


# What is sent: each takes an SA and gives a packet. All take a new sequence number.


def next_sequence(sa: Sa) -> int:
    sa.sender.sequence += random.choice((1, 1, 1, 2, 3, 17))
    return sa.sender.sequence


def good(sa: Sa) -> bytes:
    return encapsulate(sa.sender, sa.ported(), some_inner(sa))


def tfc(sa: Sa) -> bytes:
    if sa.transport:
        return good(sa)
    return encapsulate(sa.sender, replace(sa.form, tfc_length=random.choice((100, 400, 801))), some_inner(sa))


def long_padding(sa: Sa) -> bytes:
    """Any pad length that the trailer comes out with, right or with one byte of it wrong."""
    outer, payload, protocol = around(sa)
    pad = (-(len(payload) + 2) % 4) + 4 * random.randrange(64)
    pad -= 4 if pad > 255 else 0
    padding = bytearray(range(1, pad + 1))
    if pad and random.random() < 0.5:
        padding[random.choice((0, pad - 1, random.randrange(pad)))] ^= 1 << random.randrange(8)
    plaintext = payload + bytes(padding) + bytes((pad, protocol))
    return sa.wrap(outer, sa.seal(next_sequence(sa), plaintext), sa.ported())


def lying_trailer(sa: Sa) -> bytes:
    """A pad length about as long as all there is, and in front of it whatever."""
    outer, _, protocol = around(sa)
    size = 4 * random.choice((1, 2, 3, 4, 5, 8, 20, 63, 64))
    runs = bytes(range(1, 256))
    said = min(255, max(0, size - 2 + random.choice((-1, 0, 1, 2, -20, random.randrange(256)))))
    run = runs[:said][-(size - 2) :] if said else b""
    body = random.randbytes(size - 2 - len(run)) + run
    plaintext = body + bytes((said, random.choice((protocol, protocol, 59, 4, 41, 6, 0, 60, 43))))
    return sa.wrap(outer, sa.seal(next_sequence(sa), plaintext), sa.ported())


def dummy(sa: Sa) -> bytes:
    if isinstance(sa.form, Tunnel) and random.random() < 0.5:
        return encapsulate_dummy(sa.sender, sa.form, random.randrange(200))
    outer, payload, _ = around(sa)
    plaintext = bytearray(append_trailer(payload, 59, 4))
    plaintext[-3] ^= random.choice((0, 0x40))
    return sa.wrap(outer, sa.seal(next_sequence(sa), bytes(plaintext)), sa.ported())


def other_content(sa: Sa) -> bytes:
    """Damaged inner packets, of the wrong family, and next headers that do not fit."""
    outer, payload, protocol = around(sa)
    kind = random.randrange(4)
    if kind == 0:
        payload = packets.damaged(payload) if payload else b""
    elif kind == 1:
        payload = packets.whole(100)
    elif kind == 2:
        protocol = random.choice((4, 41, 6, 17, 0, 43, 60, 50, 255))
    else:
        payload = payload[: random.randrange(len(payload) + 1)]
    plaintext = append_trailer(payload, protocol, 4, random.choice((0, 0, 90)))
    return sa.wrap(outer, sa.seal(next_sequence(sa), plaintext), sa.ported())


def wrong_length(sa: Sa) -> bytes:
    """ESP that is no multiple of four, or too short for a trailer."""
    outer, payload, protocol = around(sa)
    esp = sa.seal(next_sequence(sa), append_trailer(payload, protocol, 4))
    cut = random.choice((len(esp) - 1, len(esp) - 2, len(esp) - 3, 32, 31, 28, 16, 17, 12, 8, 4, 3))
    return sa.wrap(outer, esp[:cut], sa.ported())


def shorter(sa: Sa) -> bytes:
    """A packet that was cut at a word by somebody who knew where lengths are."""
    outer, payload, protocol = around(sa)
    esp = sa.seal(next_sequence(sa), append_trailer(payload, protocol, 4))
    return sa.wrap(outer, esp[: -4 * random.choice((1, 1, 2, 4))], sa.ported())


def forged(sa: Sa) -> bytes:
    """One bit of IV, ciphertext or ICV is another."""
    packet = bytearray(good(sa))
    begin = expected(bytes(packet))["esp_begin"]
    packet[random.randrange(begin + 8, len(packet))] ^= 1 << random.randrange(8)
    return bytes(packet)


def congested(sa: Sa) -> bytes:
    """All that can be on the way in and out (RFC 6040 §4.2)."""
    inner = with_traffic_class(some_inner(sa), random.choice((0x00, 0x40, random.randrange(256))))
    return with_traffic_class(encapsulate(sa.sender, sa.form, inner), random.choice((0x03, random.randrange(256))))


def other_port(sa: Sa) -> bytes:
    form = replace(sa.form, ports=(4500, random.choice((sa.udp_port ^ 1, 500, 65535))))
    return encapsulate(sa.sender, form, some_inner(sa))


def other_spi(sa: Sa) -> bytes:
    packet = bytearray(good(sa))
    begin = expected(bytes(packet))["esp_begin"]
    packet[begin + random.randrange(4)] ^= 1 << random.randrange(8)
    return bytes(packet)


def other_destination(sa: Sa) -> bytes:
    packet = bytearray(good(sa))
    packet[(24 if packet[0] >> 4 == 6 else 16) + random.randrange(4)] ^= 1 << random.randrange(8)
    return packets.with_right_checksum(bytes(packet))


def no_esp(_: Sa) -> bytes:
    return packets.whole(120)


def damaged(sa: Sa) -> bytes:
    return packets.damaged(good(sa))


def fragment(sa: Sa) -> bytes:
    packet = bytearray(good(sa))
    if packet[0] >> 4 == 4:
        packet[6] |= 0x20
        return packets.with_right_checksum(bytes(packet))
    extension = packets.extension(packets.FRAGMENT, packet[6], more=True)
    packet[4:6] = (int.from_bytes(packet[4:6], "big") + 8).to_bytes(2, "big")
    packet[6] = packets.FRAGMENT
    return bytes(packet[:40]) + extension + bytes(packet[40:])


ALL: tuple[tuple[Callable[[Sa], bytes], int], ...] = (
    (good, 16), (tfc, 4), (long_padding, 5), (lying_trailer, 5), (dummy, 3), (other_content, 5), (wrong_length, 3),
    (shorter, 2), (forged, 5), (congested, 5), (other_port, 2), (other_spi, 2), (other_destination, 2), (no_esp, 2),
    (damaged, 3), (fragment, 2),
)  # fmt: skip


class TB:
    """Sends packets, takes what leaves, and holds all that is told against the model, in order.

    A packet has its turn in the model when it comes out of inbound_lookup, where commands come in between.
    """

    def __init__(self, dut: object) -> None:
        self.dut = dut
        self.lookup = dut.u_engine.u_lookup
        self.started = self.up = False
        self.cycle = 0
        self.pause = self.patience = 0.0
        self.seen: Counter[object] = Counter()
        self.clear()

    def clear(self) -> None:
        self.input: deque[tuple[int, int, bool]] = deque()  # data, keep, last
        self.valid = False
        self.coming: deque[bytes] = deque()  # not yet looked up
        self.bad: deque[Reason] = deque()  # dropped by intake
        self.changed: dict[bytes, str] = {}  # which part of a packet is not as its sender made it
        self.planned: deque[traffic.Sample] = deque()  # what the next that leave have to be, if that is planned
        self.leaving: deque[Outcome] = deque()
        self.drops: deque[Outcome] = deque()
        self.events: deque[Outcome] = deque()
        self.settled: deque[bytes] = deque(maxlen=40)  # packets whose number is in the window
        self.got = bytearray()
        self.left: deque[bytes] = deque(maxlen=1000)
        self.left_at: list[int] = []  # when packets' last beats did
        self.history: dict[int, list[dict[str, int]]] = {}  # of what was counted, since an SA was installed
        self.table: dict[Key, int] = {}
        self.installed: dict[int, Sa] = {}
        self.next: Sa | int | None = None  # what a command under way brings
        self.changing: Key | None = None

    async def reset(self) -> None:
        """Reset, and every SA removed, as whoever drives the engine has to."""
        dut = self.dut
        self.up = False
        await reset(dut, *QUIET, started=self.started)
        self.clear()
        self.up = True
        if not self.started:
            cocotb.start_soon(self.run())
        self.started = True
        await FallingEdge(dut.clk_i)
        while dut.busy_o.value:
            await FallingEdge(dut.clk_i)
        await self.stage(None)
        for index in range(SAS):
            await self.command(index)

    # What comes and goes in every cycle

    async def run(self) -> None:
        while True:
            await FallingEdge(self.dut.clk_i)
            self.cycle += 1
            if self.up:
                self.looked_up()
                self.told()
                self.take()
                self.stream()

    def stream(self) -> None:
        dut = self.dut
        if not self.valid and self.input and random.random() >= self.pause:
            self.valid = True
            dut.s_axis_tdata.value, dut.s_axis_tkeep.value, dut.s_axis_tlast.value = self.input[0]
        dut.s_axis_tvalid.value = self.valid
        if self.valid and dut.s_axis_tready.value:
            self.input.popleft()
            self.valid = False

    def looked_up(self) -> None:
        if not (self.lookup.item_valid_o.value and self.lookup.item_room_i.value):
            return
        kind = int(self.lookup.item_kind_o.value)
        if kind == KIND["ItemCommand"]:
            if isinstance(self.next, Sa):
                self.installed[self.next.index] = self.next
                self.history[self.next.index] = [self.next.usage()]
            elif self.next is not None:
                self.installed.pop(self.next, None)
                self.history.pop(self.next, None)
            return
        packet = self.coming.popleft()
        header = expected(packet)
        assert header is not None
        key = header["v6"], header["destination"], header.get("spi", 0)
        table = self.table
        if key == self.changing and kind == KIND["ItemSkip"]:
            table = {one: index for one, index in table.items() if one != key}
        sa = self.installed.get(self.table.get(key, -1))
        before = copied(sa.window) if sa is not None and random.random() < 0.1 else None
        edge = sa.window.highest if sa is not None else 0
        outcome = judge(packet, table, self.installed)
        kind = sampled(outcome, edge, self.pressure, self.changed.get(packet))
        assert kind is None or not self.planned or kind == replace(self.planned.popleft(), replay=kind.replay)
        if before is not None and outcome.sa is not None and outcome.reason is not Reason.LIFETIME_EXPIRED:
            self.seen["compared"] += 1
            assert agrees(packet[: header["total_length"]], before, outcome), packet.hex()
        if outcome.sa is not None:
            self.history[outcome.sa.index].append(outcome.sa.usage())
        if outcome.reason is None:
            self.leaving.append(outcome)
        else:
            self.drops.append(outcome)
        if any(outcome.events.values()):
            self.events.append(outcome)
        self.seen[outcome.reason] += 1
        self.seen.update(name for name, value in outcome.events.items() if value)

    def told(self) -> None:
        dut = self.dut
        if dut.intake_drop_valid_o.value:
            drop = DROP.unpack(int(dut.intake_drop_o.value))
            assert drop == {
                "direction": 1,
                "has_sa": 0,
                "reason": self.bad.popleft().value,
                "spi": 0,
                "sequence_number": 0,
            }
        if dut.drop_valid_o.value:
            assert self.drops, f"{DROP.unpack(int(dut.drop_o.value))} is not expected"
            outcome = self.drops.popleft()
            assert outcome.reason is not None
            drop = DROP.unpack(int(dut.drop_o.value))
            assert Reason(drop["reason"]) is outcome.reason, f"{outcome.sent.hex()}, in it {outcome.plaintext.hex()}"
            assert drop == {
                "direction": 1,
                "has_sa": int(outcome.sa is not None),
                "reason": outcome.reason.value,
                "spi": outcome.spi,
                "sequence_number": outcome.sequence,
            }, outcome
            assert int(dut.drop_sa_o.value) == (outcome.sa.index if outcome.sa else 0)
            if outcome.reason not in (Reason.INTEGRITY, Reason.REPLAYED, Reason.MALFORMED_ESP) and outcome.sa:
                self.settled.append(outcome.sent)
        if dut.events_valid_o.value:
            outcome = self.events.popleft()
            assert outcome.sa is not None and int(dut.events_sa_o.value) == outcome.sa.index
            events = {name: one for name, one in EVENTS.unpack(int(dut.events_o.value)).items() if one}
            assert events == {name: one for name, one in outcome.events.items() if one}, outcome

    def take(self) -> None:
        dut = self.dut
        ready = random.random() >= self.patience
        dut.m_axis_tready.value = ready
        if not (ready and dut.m_axis_tvalid.value):
            return
        assert self.leaving, "something leaves that should not"
        keep, last = int(dut.m_axis_tkeep.value), bool(dut.m_axis_tlast.value)
        count = keep.bit_count()
        assert keep == (1 << count) - 1 and count and (last or count == 16), f"tkeep {keep:04x}"
        self.got += int(dut.m_axis_tdata.value).to_bytes(16, "little")[:count]
        if last:
            self.left_at.append(self.cycle)
            self.left.append(bytes(self.got))
            outcome = self.leaving.popleft()
            assert self.got.hex() == outcome.leaves.hex(), outcome.sent.hex()
            assert outcome.sa is not None and int(dut.m_axis_tuser.value) == outcome.sa.index
            self.settled.append(outcome.sent)
            self.got.clear()

    # What a test does

    @property
    def pressure(self) -> str:
        """Who makes pauses now."""
        names = {(0, 0): "none", (1, 0): "source", (0, 1): "sink", (1, 1): "both"}
        return names[self.pause > 0, self.patience > 0]

    def send(self, packet: bytes, changed: str | None = None) -> None:
        if changed:
            self.changed[packet] = changed
        padded = packet + random.randbytes(-len(packet) % 16)
        for at in range(0, len(packet), 16):
            count = min(16, len(packet) - at)
            data = int.from_bytes(padded[at : at + 16], "little")
            self.input.append((data, (1 << count) - 1, at + 16 >= len(packet)))
        if len(packet) > LARGEST:
            self.bad.append(Reason.TOO_BIG)
        elif expected(packet) is None:
            self.bad.append(Reason.MALFORMED_IP)
        else:
            self.coming.append(packet)
            return
        traffic.inbound_drop(self.bad[-1])

    async def until(self, few: int) -> None:
        """Until no more than so many beats are still to be sent."""
        limit = self.cycle + 80_000
        while len(self.input) > few:
            await FallingEdge(self.dut.clk_i)
            assert self.cycle < limit, "stuck"

    async def drain(self) -> None:
        limit = self.cycle + 80_000
        while self.input or self.coming or self.bad or self.leaving or self.drops or self.events:
            await FallingEdge(self.dut.clk_i)
            assert self.cycle < limit, f"stuck: {len(self.leaving)} should leave, {len(self.drops)} be dropped"
        for _ in range(60):
            await FallingEdge(self.dut.clk_i)
        traffic.write()

    async def stage(self, key: bytes | None) -> None:
        dut = self.dut
        dut.start_i.value, dut.zero_i.value = key is not None, key is None
        dut.key_i.value = int.from_bytes(key or b"", "little")
        dut.key256_i.value = len(key or b"") == 32
        await FallingEdge(dut.clk_i)
        dut.start_i.value = dut.zero_i.value = 0
        dut.key256_i.value = random.getrandbits(1)
        while not dut.done_o.value:
            await FallingEdge(dut.clk_i)
            dut.key_i.value = random.getrandbits(256)

    async def command(self, what: Sa | int) -> None:
        """Install an SA, or remove the one of a number; until it is done."""
        dut = self.dut
        self.next = what
        dut.command_sa_i.value = what.index if isinstance(what, Sa) else what
        dut.command_data_i.value = what.packed() if isinstance(what, Sa) else 0
        dut.command_valid_i.value = 1
        while not dut.command_ready_o.value:
            await FallingEdge(dut.clk_i)
        await FallingEdge(dut.clk_i)
        dut.command_valid_i.value = 0
        while not dut.command_done_o.value:
            await FallingEdge(dut.clk_i)
        self.next = None

    async def change(self, op: int, sa: Sa) -> None:
        dut = self.dut
        self.changing = sa.lookup
        if op == INSERT:
            self.table[sa.lookup] = sa.index
        dut.op_i.value, dut.op_key_i.value, dut.op_sa_i.value = op, key_packed(sa.lookup), sa.index
        dut.op_valid_i.value = 1
        while not dut.op_ready_o.value:
            await FallingEdge(dut.clk_i)
        await FallingEdge(dut.clk_i)
        dut.op_valid_i.value = 0
        while not dut.answer_valid_o.value:
            await FallingEdge(dut.clk_i)
        assert int(dut.answer_o.value) == DONE
        # A lookup that began before it may still be on its way.
        for _ in range(60):
            await FallingEdge(dut.clk_i)
        if op == REMOVE:
            del self.table[sa.lookup]
        self.changing = None

    async def install(self, sa: Sa) -> None:
        dut = self.dut
        for number, (selector, remote) in enumerate(sa.selectors):
            dut.selector_write_i.value = 1
            dut.selector_index_i.value = sa.selector_first + number
            dut.selector_i.value = selector_packed(selector, remote)
            await FallingEdge(dut.clk_i)
        dut.selector_write_i.value = 0
        await self.stage(sa.key)
        await self.command(sa)
        await self.stage(None)
        await self.change(INSERT, sa)

    async def remove(self, sa: Sa, *, entry: bool = True) -> None:
        if entry:
            await self.change(REMOVE, sa)
        await self.stage(None)
        await self.command(sa.index)

    async def read(self, index: int) -> dict[str, int]:
        dut = self.dut
        dut.read_sa_i.value = index
        dut.read_valid_i.value = 1
        while not dut.read_ready_o.value:
            await FallingEdge(dut.clk_i)
        await FallingEdge(dut.clk_i)
        dut.read_valid_i.value = 0
        while not dut.read_done_o.value:
            await FallingEdge(dut.clk_i)
        return USAGE.unpack(int(dut.read_usage_o.value))

    async def check_usage(self) -> None:
        for index in range(SAS):
            sa = self.installed.get(index)
            wanted = sa.usage() if sa else dict.fromkeys(USAGE.unpack(0), 0)
            assert await self.read(index) == wanted, f"SA {index}"

    def moods(self) -> None:
        self.pause = random.choice((0.0, 0.0, 0.3, 0.9))
        self.patience = random.choice((0.0, 0.0, 0.3, 0.8))


def key_packed(key: Key) -> int:
    return KEY.pack(v6=key[0], destination=key[1], spi=key[2])


async def every_kind(tb: TB, *, selectors: bool = False) -> list[Sa]:
    """An SA of each kind as far as there are numbers, both families and modes, with ESN and without."""
    kinds = [(transport, v6, esn) for transport in (False, True) for v6 in (False, True) for esn in (False, True)]
    # Both modes in turn, so that two SAs have both.
    pairs = zip(random.sample(kinds[:4], 4), random.sample(kinds[4:], 4), strict=True)
    numbers = random.sample(range(SAS), min(SAS, 8))
    sas = []
    for index, (transport, v6, esn) in zip(numbers, itertools.chain.from_iterable(pairs), strict=False):
        sa = some_sa(index, transport=transport, v6=v6, esn=esn, selectors=selectors)
        await tb.install(sa)
        sas.append(sa)
    return sas


def some_packet(tb: TB, sas: list[Sa]) -> bytes:
    if tb.settled and random.random() < 0.1:
        return random.choice(tb.settled)
    maker = random.choices([one for one, _ in ALL], [weight for _, weight in ALL])[0]
    return maker(random.choice(sas))


@cocotb.test()
async def what_leaves_is_what_the_golden_model_opens(dut: object) -> None:
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


def some_address(version: int) -> IPv4Address | IPv6Address:
    return IPv4Address(random.randbytes(4)) if version == 4 else IPv6Address(random.randbytes(16))


def plain(version: int, size: int) -> bytes:
    """A packet of so many bytes without options and extension headers."""
    if version == 4:
        return packets.ipv4(253, random.randbytes(size - 20))
    return packets.ipv6((), 253, random.randbytes(size - 40))


@cocotb.test()
async def every_kind_of_packet_is_opened(dut: object) -> None:
    """The crosses of sim.coverage.traffic: every form with every size, padding, algorithm and back-pressure."""
    tb = TB(dut)
    await tb.reset()
    sas: dict[tuple[object, ...], Sa] = {}
    for cell in traffic.every_cross(LARGEST - 100):
        kind = cell.transport, cell.outer, cell.key, cell.esn
        if tb.pressure != cell.pressure or (kind not in sas and len(sas) == min(SAS, 4)):
            await tb.drain()
            tb.pause = 0.3 if cell.pressure in ("source", "both") else 0.0
            tb.patience = 0.3 if cell.pressure in ("sink", "both") else 0.0
        if kind not in sas:
            if len(sas) == min(SAS, 4):
                for old in sas.values():
                    await tb.remove(old)
                sas.clear()
            sas[kind] = some_sa(len(sas), transport=cell.transport, v6=cell.outer == 6, esn=cell.esn, key=cell.key // 8)
            await tb.install(sas[kind])
        sa = sas[kind]
        form = replace(sa.form, ports=(4500, sa.udp_port) if cell.udp else None)
        if cell.tfc:
            assert isinstance(form, Tunnel)
            longer = cell.size + 1 - (cell.size + 3 + cell.padding) % 4 + 4 * random.randint(1, 50)
            form = replace(form, tfc_length=longer)
        inner = plain(cell.inner, cell.size)
        tb.planned.append(cell)
        tb.send(encapsulate(sa.sender, form, addressed(sa, inner) if cell.transport else inner))
    await tb.drain()
    assert not tb.planned
    missed = traffic.missed(*(f"inbound.{name}" for name in ("form", "udp", "key", "esn", "size", "padding", "tfc")))
    assert not missed, missed


@cocotb.test()
async def padding_of_every_length_is_cut(dut: object) -> None:
    """0 to 255 bytes (RFC 4303 §2.4), which are the sender's to choose."""
    tb = TB(dut)
    await tb.reset()
    sas = [some_sa(one, transport=bool(one), v6=bool(random.getrandbits(1)), esn=False) for one in range(2)]
    for sa in sas:
        await tb.install(sa)
    for pad in range(256):
        sa = random.choice(sas)
        version = sa.destination.version
        inner = plain(version, 80 + -(pad + 2) % 4)
        payload, protocol = inner, 4 if version == 4 else 41
        if sa.transport:
            parts = split_to_protect(addressed(sa, inner))
            inner, payload, protocol = joined(parts, 253, b""), parts.payload, parts.protocol
        plaintext = payload + bytes(range(1, pad + 1)) + bytes((pad, protocol))
        tb.send(sa.wrap(inner, sa.seal(next_sequence(sa), plaintext), sa.ported()))
    await tb.drain()
    assert tb.seen[None] == 256
    missed = traffic.missed("inbound.pad length")
    assert not missed, missed


@cocotb.test()
async def there_is_a_reason_for_every_drop(dut: object) -> None:
    """One packet after another that is dropped, each for another reason; and good ones among them."""
    tb = TB(dut)
    await tb.reset()
    sa = some_sa(0, transport=False, v6=False, esn=False)
    sa.selectors = [(everything(4), False), (everything(4), True)]
    await tb.install(sa)
    inner = plain(4, 100)

    def made(plaintext: bytes) -> bytes:
        return sa.wrap(inner, sa.seal(next_sequence(sa), plaintext), sa.form)

    def sealed(inner: bytes) -> bytes:
        return encapsulate(sa.sender, sa.form, inner)

    first, last = sealed(inner), sealed(inner)
    unmarked = with_traffic_class(inner, 0)
    wrong: list[tuple[Reason, bytes]] = [
        (Reason.REPLAYED, first),
        (Reason.UNKNOWN_SPI, encapsulate(sa.sender, replace(sa.form, ports=(4500, sa.udp_port ^ 1)), inner)),
        (Reason.INTEGRITY, bytes((*last[:-1], last[-1] ^ 1))),
        (Reason.MALFORMED_ESP, made(append_trailer(inner, 6, 4))),
        (Reason.MALFORMED_ESP, packets.ipv4(50, random.randbytes(15))),
        (Reason.MALFORMED_IP, made(append_trailer(inner[:-1], 4, 4))),
        (Reason.MALFORMED_IP, first[:-1]),
        (Reason.SELECTOR_MISMATCH, sealed(plain(6, 100))),
        (Reason.DUMMY, encapsulate_dummy(sa.sender, sa.form, 20)),
        (Reason.ECN_NOT_CAPABLE, with_traffic_class(sealed(unmarked), 3)),
        (Reason.ESP_FRAGMENT, fragment(sa)),
        (Reason.TOO_BIG, plain(4, LARGEST + 1)),
    ]
    tb.send(first)
    for _, packet in wrong:
        tb.send(packet)
        tb.send(sealed(inner))
    await tb.drain()
    assert tb.seen[None] == len(wrong) + 1
    sa = some_sa(1, transport=False, v6=True, esn=False)
    sa.hard = {"packets": 1, "bytes": 0}
    await tb.install(sa)
    for _ in range(2):
        tb.send(encapsulate(sa.sender, sa.form, inner))
    await tb.drain()
    missed = traffic.missed("inbound.drop")
    assert not missed, missed


@cocotb.test()
async def every_part_of_a_packet_is_authenticated(dut: object) -> None:
    """The SPI too: changed to that of another SA (RFC 4106 §5)."""
    tb = TB(dut)
    await tb.reset()
    for esn in (False, True):
        sa, other = (some_sa(one, transport=False, v6=False, esn=esn) for one in range(2))
        other.destination, other.spi = sa.destination, sa.spi ^ 1 << random.randrange(8)
        other.form = replace(other.form, destination=sa.destination)
        other.udp_port, other.key, other.salt = sa.udp_port, sa.key, sa.salt  # so that nothing but the SPI is another
        other = replace(other)
        for one in (sa, other):
            await tb.install(one)
        for udp in (False, True):
            form = replace(sa.form, ports=(1024, sa.udp_port) if udp else None)
            packet = encapsulate(sa.sender, form, plain(4, 100))
            at = expected(packet)["esp_begin"]
            begins = dict(zip(traffic.ICV_PLACES, (at, at + 4, at + 8, at + 16, len(packet) - 16), strict=True))
            for place, begin in begins.items():
                edited = bytearray(packet)
                if place == "SPI":
                    edited[at : at + 4] = other.spi.to_bytes(4, "big")
                else:
                    edited[begin + random.randrange(3)] ^= 1 << random.randrange(8)  # no number gets less by it
                tb.send(bytes(edited), place)
            tb.send(packet)
        await tb.drain()
        for one in (sa, other):
            await tb.remove(one)
    assert (tb.seen[Reason.INTEGRITY], tb.seen[None]) == (20, 4)
    missed = traffic.missed("inbound.damaged")
    assert not missed, missed


def made_by_scapy(sa: Sa, inner: Packet, sequence: int, *, udp: bool) -> bytes:
    """What another implementation makes of a packet."""
    kind = IPv6 if sa.destination.version == 6 else IP
    association = SecurityAssociation(
        ESP, sa.spi, crypt_algo="AES-GCM", crypt_key=sa.key + sa.salt, esn_en=sa.esn,
        tunnel_header=None if sa.transport else kind(src=str(sa.source), dst=str(sa.destination)),
        nat_t_header=UDP(sport=4500, dport=sa.udp_port) if udp else None,
    )  # fmt: skip
    association.seq_num = sequence & 0xFFFFFFFF  # given to encrypt, 0 would be taken for none
    return bytes(association.encrypt(inner, esn=sequence >> 32))


def some_by_scapy(sa: Sa, version: int) -> Packet:
    """A packet of Scapy's, as it is read from its own bytes; in transport mode between the SA's ends."""
    ends = (sa.source, sa.destination) if sa.transport else (some_address(version), some_address(version))
    head = (IP if version == 4 else IPv6)(src=str(ends[0]), dst=str(ends[1]))
    if version == 6 and random.random() < 0.4:
        head /= random.choice((IPv6ExtHdrDestOpt, IPv6ExtHdrRouting))()
    upper = random.choice((TCP(), UDP(), ICMP() if version == 4 else TCP(flags="R")))
    packet = head / upper / Raw(random.randbytes(random.randrange(1, 400)))
    return type(head.firstlayer())(bytes(packet))


@cocotb.test()
async def a_fragment_header_behind_esp_is_passed_by_its_protocol(dut: object) -> None:
    """In transport mode over IPv6: what follows it has no ports, and it has to be whole."""
    tb = TB(dut)
    await tb.reset()
    sa = some_sa(0, transport=True, v6=True, esn=False)
    kind = everything(6)
    only = TrafficSelector(kind.start, kind.end, packets.UDP, 0, 65535)
    sa.selectors = [(only, False), (only, True)]
    await tb.install(sa)
    outer = joined(split_to_protect(addressed(sa, plain(6, 40))), 253, b"")
    counts = Counter[Reason | None]()
    for _ in range(60):
        protocol = random.choice((packets.UDP, packets.TCP))
        header = packets.extension(packets.FRAGMENT, protocol, offset=random.choice((0, 9)), more=random.random() < 0.5)
        text = header + random.randbytes(random.randrange(60))
        if random.random() < 0.3:
            text = text[: random.randrange(8)]
        tb.send(sa.wrap(outer, sa.seal(next_sequence(sa), append_trailer(text, packets.FRAGMENT, 4)), sa.form))
        mismatch = None if protocol == packets.UDP else Reason.SELECTOR_MISMATCH
        counts[Reason.MALFORMED_IP if len(text) < 8 else mismatch] += 1
    await tb.drain()
    assert {one: tb.seen[one] for one in counts} == counts and len(counts) == 3


@cocotb.test()
async def what_scapy_makes_is_opened(dut: object) -> None:
    """Both modes and families, in UDP, with ESN on both sides of 2^32."""
    tb = TB(dut)
    await tb.reset()
    numbers = [1, 2, 1 << 31, (1 << 32) - 5, *range((1 << 32) - 2, (1 << 32) + 3)]
    wanted: list[bytes] = []
    for turn, (transport, v6, esn, key) in enumerate(
        itertools.product((False, True), (False, True), (False, True), (16, 32))
    ):
        sa = some_sa(turn % SAS, transport=transport, v6=v6, esn=esn, key=key)
        await tb.install(sa)
        for sequence in numbers:
            if sequence >> 32 and not esn:
                continue
            version = (6 if v6 else 4) if transport else random.choice((4, 6))
            inner = some_by_scapy(sa, version)
            wanted.append(bytes(inner))
            # Behind an extension header that stays in front, Scapy leaves the number of ESP in it where UDP follows.
            udp = random.getrandbits(1) == 1 and not (transport and inner.haslayer(IPv6) and inner.nh in (43, 60))
            tb.send(made_by_scapy(sa, inner, sequence, udp=udp))
            if sequence == 1 << 31:
                # The upper half is inferred from where the window is when the packet comes.
                await tb.drain()
        await tb.drain()
        await tb.remove(sa)
    assert list(tb.left) == wanted
    assert len(wanted) == 8 * 9 + 8 * 6


@cocotb.test()
async def a_wrong_byte_anywhere_is_noticed(dut: object) -> None:
    """Each byte of a packet in turn; what is not authenticated does no harm, and the packet itself is good then."""
    tb = TB(dut)
    await tb.reset()
    for transport, v6, esn in ((False, False, True), (True, True, False), (False, True, False), (True, False, True)):
        sa = some_sa(random.randrange(SAS), transport=transport, v6=v6, esn=esn)
        await tb.install(sa)
        inner = packets.ipv4(6, random.randbytes(37)) if not v6 else packets.ipv6((), 6, random.randbytes(37))
        if transport:
            inner = addressed(sa, inner)
        form = replace(sa.form, ports=(1024, sa.udp_port)) if random.getrandbits(1) else sa.form
        packet = encapsulate(sa.sender, form, inner)
        begin = expected(packet)["esp_begin"]
        for at in range(begin, len(packet)):
            edited = bytearray(packet)
            edited[at] ^= 1 << random.randrange(8)
            tb.send(bytes(edited))
        await tb.drain()
        assert tb.seen[None] == 0 and sa.integrity >= len(packet) - begin - 8
        assert sa.window.highest == 0 and sa.packets == 0
        await tb.check_usage()
        tb.send(packet)
        await tb.drain()
        assert tb.seen[None] == 1
        tb.seen.clear()
        await tb.remove(sa)


@cocotb.test()
async def a_packet_cut_anywhere_does_no_harm(dut: object) -> None:
    tb = TB(dut)
    await tb.reset()
    sa = some_sa(0, transport=False, v6=False, esn=False)
    await tb.install(sa)
    packet = encapsulate(sa.sender, replace(sa.form, ports=(1, sa.udp_port)), packets.ipv6((), 17, bytes(30)))
    for end in range(1, len(packet)):
        tb.send(packet[:end])
        # The same with headers that say so.
        cut = bytearray(packet[:end])
        if end >= 28:
            cut[2:4], cut[24:26] = end.to_bytes(2, "big"), (end - 20).to_bytes(2, "big")
            tb.send(packets.with_right_checksum(bytes(cut)))
    tb.send(packet)
    await tb.drain()
    await tb.check_usage()
    assert tb.seen[None] == 1


@cocotb.test()
async def numbers_are_taken_once(dut: object) -> None:
    """RFC 4303 §3.4.3 and appendix A: copies, the left edge, far jumps, and over 2^32 with ESN."""
    tb = TB(dut)
    await tb.reset()
    for esn in (False, True):
        sa = some_sa(SAS - 1, transport=False, v6=bool(random.getrandbits(1)), esn=esn)
        await tb.install(sa)
        plaintext = append_trailer(packets.ipv4(6, random.randbytes(20)), 4, 4)
        outer = packets.ipv4(1, b"")
        while outer[1] & 3 == 3:  # congestion, for which all of them could be dropped
            outer = packets.ipv4(1, b"")

        def numbered(sequence: int, sa: Sa = sa, plaintext: bytes = plaintext, outer: bytes = outer) -> bytes:
            return sa.wrap(outer, sa.seal(sequence, plaintext), sa.ported())

        top = 0
        for jump in (1, 5, WINDOW - 1, 1, WINDOW, 3, WINDOW + 1, 40 * WINDOW, 1, 1 << 31, (1 << 31) - 45 * WINDOW,
                     30 * WINDOW, *[WINDOW // 2] * 40, 2, 1 << 31):  # fmt: skip
            top += jump
            if not esn and top >> 32:
                break
            tb.send(numbered(top))
            tb.send(numbered(top))  # at once, before the first one is known to be good
            await tb.drain()
            if esn and top < WINDOW - 1:
                tb.send(numbered((1 << 32) - 1 - random.randrange(WINDOW - 1 - top)))  # its upper half would be -1
            for back in (0, 1, WINDOW // 3, WINDOW - 2, WINDOW - 1, WINDOW, WINDOW + 1, random.randrange(WINDOW)):
                if top - back >= 0:
                    tb.send(numbered(top - back))
                    tb.send(numbered(top - back))
            await tb.drain()
            await tb.check_usage()
        assert sa.window.highest >> 32 == int(esn) or not esn
        await tb.remove(sa)
    assert tb.seen[None] > 300 and tb.seen[Reason.REPLAYED] > 400, tb.seen
    missed = traffic.missed("inbound.replay")
    assert not missed, missed


@cocotb.test()
async def lifetimes_end(dut: object) -> None:
    """Soft limits are told of, hard ones too, and nothing more is carried then (RFC 4301 §4.4.2.1)."""
    tb = TB(dut)
    await tb.reset()
    none = {"packets": 0, "bytes": 0}
    limits = [{"packets": 12, "bytes": 0}, {"packets": 0, "bytes": 1}, {"packets": 20, "bytes": 2000}, none]
    for turn, (hard, soft) in enumerate(itertools.product(limits, limits[::-1])):
        sa = some_sa(turn % SAS, transport=bool(turn & 1), v6=bool(turn & 2), esn=False)
        sa.hard, sa.soft = dict(hard), dict(soft)
        await tb.install(sa)
        for _ in range(45):
            tb.send(random.choice((good, good, good, dummy, forged, other_content))(sa))
        await tb.drain()
        await tb.check_usage()
        await tb.remove(sa)
    wanted = ("hard_packets", "hard_bytes", "soft_packets", "soft_bytes", "integrity", Reason.LIFETIME_EXPIRED)
    assert all(tb.seen[one] for one in wanted), tb.seen


@cocotb.test()
async def commands_take_effect_between_two_packets(dut: object) -> None:
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
async def who_does_not_take_stops_the_stream_and_loses_nothing(dut: object) -> None:
    tb = TB(dut)
    await tb.reset()
    sas = await every_kind(tb)
    tb.patience = 1.0
    for number in range(60):
        tb.send(good(random.choice(sas)) if number % 5 else forged(random.choice(sas)))
    tb.send(encapsulate(sas[0].sender, sas[0].form, some_inner(sas[0])))
    for _ in range(6000):
        await FallingEdge(dut.clk_i)
    assert tb.input and not dut.s_axis_tready.value
    assert len(tb.leaving) > 3, "nothing waits"
    tb.patience = 0.0
    await tb.drain()
    await tb.check_usage()


@cocotb.test()
async def the_longest_packet_passes(dut: object) -> None:
    tb = TB(dut)
    await tb.reset()
    sa = some_sa(0, transport=False, v6=False, esn=True)
    await tb.install(sa)
    for size in (LARGEST - 54, LARGEST - 55, LARGEST - 50, LARGEST - 54):
        tb.send(encapsulate(sa.sender, sa.form, packets.ipv4(17, bytes(size - 20))))
    await tb.drain()
    assert (tb.seen[None], tb.seen[Reason.REPLAYED]) == (3, 0)


@cocotb.test()
async def reset_forgets_everything_under_way(dut: object) -> None:
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


@cocotb.test()
async def packets_follow_each_other_without_a_pause(dut: object) -> None:
    """Frames of 64, 128, 512 and 1,518 bytes, of SAs in rotation, each with as many selectors as there may be."""
    tb = TB(dut)
    await tb.reset()
    for transport in (False, True):
        sas = [some_sa(index, transport=transport, v6=False, esn=False) for index in range(min(SAS, 4))]
        for sa in sas:
            # What is inside the last two only has been compared with all.
            sa.selectors = [(everything(6), False)] * (MOST - 2) + [(everything(4), False), (everything(4), True)]
            await tb.install(sa)
        for frame in (64, 128, 512, 1518):
            inner = packets.ipv4(17, random.randbytes(frame - 38))
            turns = [sas[number % len(sas)] for number in range(40)]
            sent = [encapsulate(sa.sender, sa.form, addressed(sa, inner)) for sa in turns]
            for packet in sent:
                tb.send(packet)
            tb.left_at.clear()
            await tb.drain()
            # The last ones have nothing behind them.
            steady = tb.left_at[9:-8]
            cycles = (steady[-1] - steady[0]) / (len(steady) - 1)
            beats = -(-len(sent[0]) // 16)
            body = len(sent[0]) - 52
            # First, text and Last, and one more cycle; in front of that transport mode's header.
            slots = INTERVAL * (-(-body // 16) + 2)
            most = max(beats, slots + 1 + (4 if transport else 0), 9)
            mode = "transport" if transport else "tunnel"
            dut._log.info("%s, %d: %.2f cycles a packet of %d beats", mode, frame, cycles, beats)
            assert cycles <= most + (INTERVAL - 1), f"{cycles} cycles a packet, not {most}"
        for sa in sas:
            await tb.remove(sa)
