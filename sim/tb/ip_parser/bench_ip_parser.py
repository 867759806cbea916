"""ip_parser beside the golden model, field by field."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable

import cocotb
from cocotb.triggers import FallingEdge

from sim.tb.traffic import packets
from sim.tb.traffic.header import HEADER, differences, expected
from sim.tb.traffic.reset import reset

LATENCY = 5  # cycles from a packet's last beat to its header


class TB:
    """Sends packets with gaps, and compares each answer and when it comes."""

    def __init__(self, dut: object) -> None:
        self.dut = dut
        self.cycle = 0
        self.due: list[tuple[int, bytes, bool]] = []
        self.seen: Counter[str] = Counter()
        self.started = False

    async def reset(self) -> None:
        """Two cycles of it."""
        await reset(self.dut, "valid_i", "upper_first_i", started=self.started)
        self.started = True

    async def tick(self) -> None:
        """To the next cycle; looks at what comes out in it."""
        await FallingEdge(self.dut.clk_i)
        self.cycle += 1
        if not self.dut.valid_o.value:
            assert not self.due or self.due[0][0] != self.cycle, "a header is late"
            return
        due, packet, upper = self.due.pop(0)
        assert due == self.cycle, f"a header in cycle {self.cycle}, due in {due}"
        header = self.dut.header_o.value.to_unsigned()
        wrong = upper_differences(packet, header) if upper else differences(packet, header)
        assert not wrong, f"{wrong} (RTL, golden) of {packet.hex()}"

    async def send(self, packet: bytes, gaps: float, *, upper: bool = False) -> None:
        """One packet; what is behind it in its last beat is anything. Of an upper one the IPv6 header is left out."""
        whole, packet = packet, packet[40:] if upper else packet
        beats = range(0, len(packet), 16)
        for at in beats:
            while random.random() < gaps:
                self.dut.valid_i.value = 0
                self.dut.last_i.value = random.getrandbits(1)
                await self.tick()
            beat = packet[at : at + 16]
            beat += random.randbytes(16 - len(beat))
            self.dut.valid_i.value = 1
            self.dut.upper_first_i.value = random.getrandbits(1) if at else upper
            self.dut.last_i.value = at == beats[-1]
            self.dut.data_i.value = int.from_bytes(beat, "little")
            if at == beats[-1]:
                self.due.append((self.cycle + LATENCY, whole, upper))
            await self.tick()
        self.dut.valid_i.value = 0

    async def run(self, sent: Iterable[bytes]) -> None:
        """Packets back to back and with gaps, until all were answered."""
        gaps = 0.0
        for packet in sent:
            if random.random() < 0.05:
                gaps = random.choice((0.0, 0.0, 0.3, 0.8))
            self.count(packet)
            await self.send(packet, gaps)
        for _ in range(LATENCY + 1):
            await self.tick()
        assert not self.due

    def count(self, packet: bytes) -> None:
        """What was tried, so that a bench which tries nothing is noticed."""
        want = expected(packet)
        if want is None:
            self.seen["malformed"] += 1
            return
        self.seen["good"] += 1
        for name in ("v6", "fragment", "later_fragment", "has_ports", "has_esp"):
            self.seen[name] += want[name]


def upper_differences(packet: bytes, value: int) -> dict[str, tuple[int, int]]:
    """The same for an answer that counts from the end of the IPv6 header, and knows no length."""
    got, want = HEADER.unpack(value), expected(packet)
    if want is None or got["malformed"]:
        return {} if (want is None) == bool(got["malformed"]) else {"malformed": (got["malformed"], int(want is None))}
    names = ["protocol", "upper_at", "later_fragment", "fragment", "headers"]
    room = len(packet) - want["upper_at"]
    if want["has_ports"]:
        names += ["has_ports", "source_port", "destination_port"]
    elif not want["later_fragment"] and room >= 4:
        names += ["has_ports"]
    got["upper_at"] += 40
    return {name: (got[name], want[name]) for name in names if got[name] != want[name]}


@cocotb.test()
async def random_packets_are_read_as_the_golden_model_reads_them(dut: object) -> None:
    tb = TB(dut)
    await tb.reset()
    await tb.run(packets.some(12000))
    for name, least in {"good": 6000, "malformed": 2000, "v6": 3000, "fragment": 800, "has_esp": 800}.items():
        assert tb.seen[name] >= least, f"{name} only {tb.seen[name]} times"


@cocotb.test()
async def every_sequence_of_extension_headers_is_walked(dut: object) -> None:
    """RFC 8200 §4.1 gives an order, and wants every order accepted but for hop-by-hop options."""
    tb = TB(dut)
    await tb.reset()
    await tb.run(packets.every_chain(4))


@cocotb.test()
async def headers_may_be_as_long_as_they_like_and_no_more_than_ten(dut: object) -> None:
    tb = TB(dut)
    await tb.reset()
    kinds = (packets.HOP_BY_HOP, packets.ROUTING, packets.DESTINATION)
    for units in (1, 2, 30, 254, 255):
        for kind in kinds:
            payload = packets.extension(kind, packets.ESP, units=units) + random.randbytes(20)
            packet = packets.ipv6((), kind, payload)
            await tb.run(packet[:end] for end in (len(packet), len(packet) - 1))
            for cut in (19, 20, 21, 28):  # the payload length ends before the header does
                short = bytearray(packet)
                short[4:6] = (len(packet) - 40 - cut).to_bytes(2, "big")
                await tb.run([bytes(short)])
    for count in (9, 10, 11, 12):
        for kind in packets.EXTENSIONS[1:]:
            await tb.run([packets.ipv6((kind,) * count, packets.TCP, random.randbytes(20))])


@cocotb.test()
async def every_byte_of_headers_is_looked_at(dut: object) -> None:
    tb = TB(dut)
    await tb.reset()
    esp = packets.udp(random.randbytes(40))
    chains = ((), (0, 60), (44, 60), (0, 60, 43, 44, 60))
    bases = [(packets.ipv6(kinds, 17, esp), 48 + 8 * len(kinds) + 16) for kinds in chains]
    bases += [(packets.ipv4(17, esp, options=words), 44 + 4 * words) for words in (0, 1, 2, 3, 10)]
    bases += [(packets.ipv4(50, random.randbytes(30)), 36), (packets.ipv6((), 50, random.randbytes(30)), 56)]
    for packet, headers in bases * 2:
        await tb.run(packets.every_byte_changed(packet, headers))


@cocotb.test()
async def every_truncation_is_noticed(dut: object) -> None:
    tb = TB(dut)
    await tb.reset()
    for packet in (packets.ipv4(17, packets.udp(bytes(30)), options=2), packets.ipv6((0, 44), 6, bytes(30))):
        await tb.run(packet[:length] for length in range(1, len(packet) + 1))


@cocotb.test()
async def a_packet_after_reset_begins_anew(dut: object) -> None:
    tb = TB(dut)
    await tb.reset()
    for _ in range(20):
        for _ in range(random.randrange(1, 4)):
            dut.valid_i.value, dut.last_i.value = 1, 0
            dut.data_i.value = random.getrandbits(128)
            await tb.tick()
        await tb.reset()
        await tb.run(packets.some(3))


@cocotb.test()
async def a_packet_may_begin_behind_its_ipv6_header(dut: object) -> None:
    tb = TB(dut)
    await tb.reset()
    chains = [
        one for one in packets.every_chain(4) if one[6] in (packets.DESTINATION, packets.ROUTING, packets.HOP_BY_HOP)
    ]
    for _ in range(3000):
        kinds = [random.choice((packets.DESTINATION, packets.ROUTING, packets.HOP_BY_HOP))]
        kinds += [random.choice(packets.EXTENSIONS[1:]) for _ in range(random.choice((0, 0, 1, 2, 3, 9, 10)))]
        protocol = random.choice(packets.UPPER)
        upper = packets.upper(protocol, 60)
        chains.append(
            packets.ipv6(kinds, protocol, upper, long=bool(random.getrandbits(1)), atomic=random.random() < 0.7)
        )
    malformed = 0
    for packet in chains:
        if random.random() < 0.2:
            await tb.send(packets.ipv4(6, random.randbytes(20)), 0.0)
        want = expected(packet)
        malformed += want is None
        await tb.send(packet, random.choice((0.0, 0.0, 0.5)), upper=True)
    for _ in range(LATENCY + 1):
        await tb.tick()
    assert not tb.due and malformed > 100
