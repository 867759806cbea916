"""The engine whole, programmed as software does it: packets go out and come back, and all is counted and told."""

from __future__ import annotations

import os
import random
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address
from typing import Any

import cocotb
from cocotb.handle import ArrayObject, HierarchyArrayObject, HierarchyObject
from cocotb.triggers import FallingEdge, ReadOnly

from appliance.datapath.engine.registers import Answer, Direction, EventsHead, Operation
from appliance.esp.encapsulation import Transport, encapsulate
from appliance.esp.ip import with_traffic_class
from appliance.esp.tunnel import Tunnel
from appliance.reasons import Reason
from appliance.sa.selector import TrafficSelector
from sim.tb.model.aes import expand
from sim.tb.model.gcm import hash_key, powers_of
from sim.tb.model.inbound import Sa, everything
from sim.tb.model.outbound import Outbound, some_address, some_outbound, some_tunnel
from sim.tb.model.programmer import Programmer
from sim.tb.traffic import packets
from sim.tb.traffic.reset import reset
from sim.tb.traffic.stream import Packet, Sink, Source, in_bursts, never, sometimes

SAS, MOST, WINDOW = (int(os.environ[name]) for name in ("NSA", "MOST", "WINDOW"))
POWERS, SELECTORS, STALL = (int(os.environ[name]) for name in ("POWERS", "SELECTORS", "STALL"))
WIDTH = (SAS - 1).bit_length()
# SAs with selectors of their own; where there is no room for those of all, the others share one set for each kind.
OWN = SAS if SELECTORS >= SAS * MOST else SELECTORS // MOST - 3
QUIET = ("s_axis_plain_tvalid", "s_axis_esp_tvalid", "m_axis_esp_tready", "m_axis_plain_tready", "s_axil_awvalid",
         "s_axil_wvalid", "s_axil_arvalid", "s_axil_bready", "s_axil_rready")  # fmt: skip


class TB:
    """The four streams and the registers, and pairs of SAs: what one makes the other opens."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.connect()

    def connect(self) -> None:
        """New streams, and no SAs."""
        dut = self.dut
        self.plain_in, self.esp_in = Source(dut, "s_axis_plain"), Source(dut, "s_axis_esp")
        self.esp_out, self.plain_out = Sink(dut, "m_axis_esp"), Sink(dut, "m_axis_plain")
        self.streams = (self.plain_in, self.esp_in, self.esp_out, self.plain_out)
        self.outbound: dict[int, Outbound] = {}
        self.inbound: dict[int, Sa] = {}

    async def start(self, *, enable: bool = True) -> None:
        await reset(self.dut, *QUIET, started=False)
        self.software = Programmer(self.dut)
        await self.ready(enable=enable)

    async def ready(self, *, enable: bool = True) -> None:
        """What there is to do behind a reset."""
        self.tasks = [cocotb.start_soon(stream.run()) for stream in self.streams]
        await self.software.until_ready()
        if enable:
            await self.software.enable(headroom=100)

    async def again(self) -> None:
        """Reset in whatever is under way; whoever drives the streams is reset too."""
        for task in self.tasks:
            task.cancel()
        self.connect()
        await reset(self.dut, *QUIET, started=True)
        await self.ready()

    async def install(self, index: int, form: Tunnel | Transport, version: int = 4, **given: Any) -> None:
        """A pair of SAs with the same keys, for everything; ``version`` is of transport mode's packets."""
        software = self.software
        out = some_outbound(random.getrandbits(16), form, **given)
        assert await software.install_outbound(index, out) is Answer.DONE
        versions = (4, 6) if isinstance(form, Tunnel) else (version,)
        chosen = [(everything(one), remote) for remote in (False, True) for one in versions]
        shared = 0 if isinstance(form, Tunnel) else 1 if version == 4 else 2
        first = MOST * (index if index < OWN else OWN + shared)
        if isinstance(form, Tunnel):
            source, destination = form.source, form.destination
        else:
            source, destination = some_address(version), some_address(version)
        sa = Sa(index, isinstance(form, Transport), out.esn, out.key, out.salt, out.spi, form, source, destination,
                form.ports[1] if form.ports else 4500, chosen, WINDOW, selector_first=first)  # fmt: skip
        assert await software.install_inbound(sa) is Answer.DONE
        self.outbound[index], self.inbound[index] = out, sa

    def packet(self, index: int, size: int) -> bytes:
        """A packet that the pair carries, with so many bytes behind its IP header."""
        sa = self.inbound[index]
        if not sa.transport:
            return random.choice(
                (packets.ipv4(17, random.randbytes(size)), packets.ipv6((), 6, random.randbytes(size)))
            )
        source, destination = sa.source.packed, sa.destination.packed
        if sa.source.version == 6:
            made = bytearray(packets.ipv6((), 17, random.randbytes(size)))
            made[8:40] = source + destination
            return bytes(made)
        made = bytearray(packets.ipv4(17, random.randbytes(size)))
        made[12:20] = source + destination
        return packets.with_right_checksum(bytes(made))

    def send(self, packet: bytes, index: int) -> bytes:
        """A packet to protect; returns what is to leave."""
        model = self.outbound[index]
        self.plain_in.send(packet, model.generation << WIDTH | index)
        outcome, _ = model.take(packet, model.generation, 0)
        assert isinstance(outcome, bytes), outcome
        return outcome

    async def until(self, sink: Sink, count: int) -> list[Packet]:
        """So many packets of a sink."""
        for _ in range(200_000):
            if len(sink.packets) >= count:
                return [sink.packets.popleft() for _ in range(count)]
            await FallingEdge(self.dut.clk_i)
        raise AssertionError(f"{len(sink.packets)} packets of {count} came")

    async def all_in(self) -> None:
        """All that is sent has been taken."""
        for _ in range(200_000):
            if not (self.plain_in.queue or self.esp_in.queue):
                return
            await FallingEdge(self.dut.clk_i)
        raise AssertionError(f"{len(self.plain_in.queue)} and {len(self.esp_in.queue)} packets wait")

    async def rest(self, cycles: int = 400) -> None:
        for _ in range(cycles):
            await FallingEdge(self.dut.clk_i)


@cocotb.test()
async def packets_go_out_and_come_back(dut: Any) -> None:
    """Every form of SA: what the one direction makes the other opens, and both count it."""
    tb = TB(dut)
    await tb.start()
    for index in range(SAS):
        form = some_tunnel() if index % 4 else Transport(ports=random.choice((None, (4500, 4500))))
        await tb.install(index, form, version=random.choice((4, 6)))
    sent, made = [], []
    for stream in tb.streams:
        stream.pause = random.choice((sometimes(0.2), in_bursts(50, 20)))
    for _ in range(150):
        index = random.randrange(SAS)
        packet = tb.packet(index, random.choice((0, 1, 8, 26, random.randrange(1500))))
        sent.append((index, packet))
        made.append(tb.send(packet, index))
    for (index, _), outer in zip(sent, made, strict=True):
        (leaving,) = await tb.until(tb.esp_out, 1)
        assert (leaving.data, leaving.user) == (outer, index)
        tb.esp_in.send(leaving.data)
    for index, packet in sent:
        (back,) = await tb.until(tb.plain_out, 1)
        assert (back.data, back.user) == (packet, index)
    for index in range(SAS):
        out = await tb.software.usage(index, Direction.OUTBOUND)
        came = await tb.software.usage(index, Direction.INBOUND)
        count = sum(one == index for one, _ in sent)
        assert out["packets"] == came["packets"] == out["sequence_number"] == came["sequence_number"] == count
        assert out["bytes"] == tb.outbound[index].sent_bytes
        assert came["replayed"] == came["integrity_failures"] == 0
    counters, size = tb.software.registers.counters, sum(len(packet) for _, packet in sent)
    ends = [f"{side}_packets_{end}" for side in ("outbound", "inbound") for end in ("in", "out")]
    for name, count in {**dict.fromkeys(ends, 150), "outbound_bytes_in": size, "inbound_bytes_out": size}.items():
        assert await tb.software.number(getattr(counters, name)) == count, name


@cocotb.test()
async def drops_are_counted_by_their_reasons_and_told(dut: Any) -> None:
    tb = TB(dut)
    await tb.start()
    await tb.install(1, some_tunnel(4, ports=None, tfc_length=0))
    out = tb.outbound[1]
    wanted: Counter[tuple[str, Reason]] = Counter()

    def plain(packet: bytes, index: int, generation: int, reason: Reason) -> None:
        tb.plain_in.send(packet, generation << WIDTH | index)
        wanted["outbound", reason] += 1

    def esp(packet: bytes, reason: Reason) -> None:
        tb.esp_in.send(packet)
        wanted["inbound", reason] += 1

    for _ in range(5):
        plain(tb.packet(1, 40), 1, out.generation ^ 1, Reason.NO_SA)
        plain(tb.packet(1, 40), 0, 0, Reason.NO_SA)
        plain(tb.packet(1, 40)[:-3], 1, out.generation, Reason.MALFORMED_IP)
    first = tb.send(tb.packet(1, 40), 1)
    tb.esp_in.send(first)
    assert len(await tb.until(tb.plain_out, 1)) == 1
    for _ in range(7):
        esp(first, Reason.REPLAYED)
        outer = bytearray(encapsulate(out.golden, out.form, tb.packet(1, 30)))
        outer[-1] ^= 1
        esp(bytes(outer), Reason.INTEGRITY)
        outer[20] ^= 0x80  # the SPI
        esp(bytes(outer), Reason.UNKNOWN_SPI)
        esp(bytes(outer)[:-1], Reason.MALFORMED_IP)
    await tb.rest(1500)
    software, registers = tb.software, tb.software.registers
    for side in ("outbound", "inbound"):
        drops = getattr(registers.counters, f"drops_{side}")
        for reason in Reason:
            if reason.value < 32:
                assert await software.number(drops[reason.value]) == wanted[side, reason], (side, reason)
    told: Counter[tuple[str, Reason]] = Counter()
    while (head := await software.fields(registers.drops.head)).valid:
        told[head.direction.name.lower(), Reason(head.reason)] += 1
        if head.reason == Reason.REPLAYED.value:
            assert (await software.number(registers.drops.spi), head.index, head.has_sa) == (out.spi, 1, 1)
            assert await software.number(registers.drops.sequence_number) == 1
        registers.drops.pop.write(1)
        await software.flush()
    lost = await software.number(registers.drops.lost)
    assert told.total() + lost == wanted.total() and not told - wanted
    usage = await software.usage(1, Direction.INBOUND)
    assert (usage["replayed"], usage["integrity_failures"], usage["packets"]) == (7, 7, 1)


@cocotb.test()
async def an_event_raises_the_interrupt_until_it_is_read(dut: Any) -> None:
    tb = TB(dut)
    await tb.start()
    software, registers = tb.software, tb.software.registers
    await tb.install(3, some_tunnel(tfc_length=0), limits={"soft_packets": 4, "hard_packets": 6})
    seen: list[tuple[int, str]] = []

    async def read() -> None:
        while (head := await software.fields(registers.events.head)).valid:
            kinds = [field.name for field in EventsHead.LAYOUT if field.width == 1 and getattr(head, field.name)]
            seen.extend((head.index, kind) for kind in kinds if kind not in ("valid", "direction"))
            registers.events.pop.write(1)
            await software.flush()

    await read()
    assert seen == [(3, "key_ready"), (3, "key_ready")]
    assert not dut.irq_o.value
    await software.master.write_dword(registers.control.interrupt_enable.address, 1)
    for _ in range(3):
        tb.send(tb.packet(3, 10), 3)
    await tb.until(tb.esp_out, 3)
    await tb.rest(50)
    assert not dut.irq_o.value
    tb.send(tb.packet(3, 10), 3)
    await tb.until(tb.esp_out, 1)
    await tb.rest(50)
    assert dut.irq_o.value
    await read()
    assert seen[2:] == [(3, "soft_packets")]
    await tb.rest(5)
    assert not dut.irq_o.value
    for _ in range(2):
        tb.send(tb.packet(3, 10), 3)
    model = tb.outbound[3]
    tb.plain_in.send(tb.packet(3, 10), model.generation << WIDTH | 3)
    await tb.until(tb.esp_out, 2)
    await tb.rest(400)
    assert not tb.esp_out.packets
    await read()
    assert seen[3:] == [(3, "hard_packets")]
    assert await software.number(registers.counters.drops_outbound[Reason.LIFETIME_EXPIRED.value]) == 1


@cocotb.test()
async def packets_wait_until_software_lets_them_in(dut: Any) -> None:
    tb = TB(dut)
    await tb.start(enable=False)
    await tb.install(0, some_tunnel(tfc_length=0))
    outer = tb.send(tb.packet(0, 100), 0)
    await tb.rest(300)
    assert not tb.esp_out.packets and tb.plain_in.queue
    await tb.software.enable()
    (leaving,) = await tb.until(tb.esp_out, 1)
    assert leaving.data == outer


@cocotb.test()
async def traffic_stops_between_two_packets(dut: Any) -> None:
    """Software stops it while packets come in as fast as they can: none is cut, and it goes on with the next one."""
    tb = TB(dut)
    await tb.start()
    await tb.install(0, some_tunnel(tfc_length=0))
    made = [tb.send(tb.packet(0, 300), 0) for _ in range(100)]
    leaving: list[Packet] = []
    control = tb.software.registers.control.control
    for _ in range(4):
        await tb.rest(random.randrange(10, 900))
        await tb.software.master.write_dword(control.address, 0)
        await tb.rest(4000)
        leaving += [tb.esp_out.packets.popleft() for _ in range(len(tb.esp_out.packets))]
        assert await tb.software.number(tb.software.registers.counters.outbound_packets_in) == len(leaving)
        await tb.software.master.write_dword(control.address, 1)
    leaving += await tb.until(tb.esp_out, len(made) - len(leaving))
    assert [one.data for one in leaving] == made


@cocotb.test()
async def an_sa_goes_under_traffic(dut: Any) -> None:
    """Packets of one are dropped from some packet on, those of the others pass all; the next ones fare as well."""
    tb = TB(dut)
    await tb.start()
    for index in range(3):
        await tb.install(index, some_tunnel(4, ports=None, tfc_length=0))
    expected: deque[tuple[int, bytes]] = deque()
    for number in range(240):
        index = number % 3
        expected.append((index, tb.send(tb.packet(index, 200), index)))
    await tb.rest(300)
    software = tb.software
    assert await software.command(Operation.REMOVE, 1, Direction.OUTBOUND) is Answer.DONE
    assert await software.command(Operation.REMOVE, 1, Direction.INBOUND) is Answer.DONE
    assert await software.command(Operation.REMOVE, 1, Direction.INBOUND) is Answer.ABSENT
    while tb.plain_in.queue:
        await tb.rest(1)
    await tb.rest(6000)
    gone = False
    passed: Counter[int] = Counter()
    for packet in tb.esp_out.packets:
        while expected[0][0] == 1 and expected[0][1] != packet.data:
            expected.popleft()
            gone = True
        index, outer = expected.popleft()
        assert packet.data == outer
        assert not (index == 1 and gone), "a packet of an SA that is gone"
        passed[index] += 1
    assert passed[0] == passed[2] == 80 and 0 < passed[1] < 80
    counters = software.registers.counters
    assert await software.number(counters.drops_outbound[Reason.NO_SA.value]) == 80 - passed[1]
    usage = await software.usage(1, Direction.OUTBOUND)
    assert not any(usage.values())
    await tb.install(1, some_tunnel(6, tfc_length=0))
    tb.esp_out.packets.clear()
    outer = tb.send(tb.packet(1, 64), 1)
    (leaving,) = await tb.until(tb.esp_out, 1)
    assert leaving.data == outer


@cocotb.test()
async def an_inbound_sa_goes_under_its_traffic(dut: Any) -> None:
    """Each packet of it is released or dropped with the reason, none that comes when it is gone; others pass all."""
    tb = TB(dut)
    await tb.start()
    for index in range(3):
        await tb.install(index, some_tunnel(4, ports=None, tfc_length=0))
    software, counters = tb.software, tb.software.registers.counters
    drops = counters.drops_inbound
    dropped = 0
    for wait in (300, random.randrange(2000)):
        sent: dict[int, list[bytes]] = {0: [], 1: [], 2: []}
        passed: dict[int, list[bytes]] = {0: [], 1: [], 2: []}
        for number in range(240):
            index = number % 3
            packet = tb.packet(index, random.choice((20, 200, 200)))
            tb.esp_in.send(encapsulate(tb.inbound[index].sender, tb.inbound[index].form, unmarked(packet)))
            sent[index].append(unmarked(packet))
        await tb.rest(wait)
        assert await software.command(Operation.REMOVE, 1, Direction.INBOUND) is Answer.DONE
        # What the release buffer has leaves at once, since nobody makes pauses; from then on there is nothing of it.
        to_come = len(tb.esp_in.queue)
        assert to_come > 200
        await tb.rest(300)
        gone = len(tb.plain_out.packets)
        while tb.esp_in.queue:
            await tb.rest(1)
        await tb.rest(6000)
        for number, packet in enumerate(tb.plain_out.packets):
            passed[packet.user].append(packet.data)
            assert packet.user != 1 or number < gone, "a packet of an SA that is gone"
        tb.plain_out.packets.clear()
        assert passed[0] == sent[0] and passed[2] == sent[2]
        count = len(passed[1])
        assert count < 80 and passed[1] == sent[1][:count]
        dropped += 80 - count
        for reason in Reason:
            if reason.value < 32:
                told = await software.number(drops[reason.value])
                assert told == (dropped if reason is Reason.UNKNOWN_SPI else 0), reason
        assert not any((await software.usage(1, Direction.INBOUND)).values())
        assert (await software.usage(0, Direction.INBOUND))["packets"] == tb.inbound[0].sender.sequence
        assert await software.command(Operation.REMOVE, 1, Direction.OUTBOUND) is Answer.DONE
        await tb.install(1, some_tunnel(6, ports=None, tfc_length=0))
        packet = unmarked(tb.packet(1, 64))
        tb.esp_in.send(encapsulate(tb.inbound[1].sender, tb.inbound[1].form, packet))
        (leaving,) = await tb.until(tb.plain_out, 1)
        assert (leaving.data, leaving.user) == (packet, 1)
        await software.remove(1)
        await tb.install(1, some_tunnel(4, ports=None, tfc_length=0))


def unmarked(packet: bytes) -> bytes:
    """Without ECN, so that it leaves a tunnel as it came in."""
    return with_traffic_class(packet, 0)


@cocotb.test()
async def reset_within_packets_forgets_them(dut: Any) -> None:
    """In the middle of one on all four streams: nothing of it leaves, no SA is left, and with new ones packets pass."""
    tb = TB(dut)
    await tb.start()
    for _ in range(3):
        for index in range(2):
            await tb.install(index, some_tunnel(4, ports=None, tfc_length=0))
        tb.esp_out.pause, tb.plain_out.pause = sometimes(0.5), sometimes(0.8)
        for number in range(60):
            index = number % 2
            tb.send(tb.packet(index, 900), index)
            sa = tb.inbound[index]
            tb.esp_in.send(encapsulate(sa.sender, sa.form, tb.packet(index, 900)))
        await within_packets(dut)
        old, stale = tb.outbound[0], tb.inbound[0]
        await tb.again()
        for _ in range(3000):
            await FallingEdge(dut.clk_i)
            assert not dut.m_axis_esp_tvalid.value and not dut.m_axis_plain_tvalid.value
        software, registers = tb.software, tb.software.registers
        for index in range(SAS):
            assert await software.command(Operation.REMOVE, index, Direction.INBOUND) is Answer.ABSENT
            for direction in Direction:
                assert not any((await software.usage(index, direction)).values())
        packet = packets.ipv4(17, random.randbytes(100))
        tb.plain_in.send(packet, old.generation << WIDTH)
        tb.esp_in.send(encapsulate(stale.sender, stale.form, packet))
        await tb.rest(3000)
        assert not tb.esp_out.packets and not tb.plain_out.packets
        assert await software.number(registers.counters.drops_outbound[Reason.NO_SA.value]) == 1
        assert await software.number(registers.counters.drops_inbound[Reason.UNKNOWN_SPI.value]) == 1
        for index in range(2):
            await tb.install(index, some_tunnel(4, ports=None, tfc_length=0))
        for number in range(20):
            index = number % 2
            packet = unmarked(tb.packet(index, random.randrange(400)))
            outer, sa = tb.send(packet, index), tb.inbound[index]
            tb.esp_in.send(encapsulate(sa.sender, sa.form, packet))
            (leaving,), (opened,) = await tb.until(tb.esp_out, 1), await tb.until(tb.plain_out, 1)
            assert (leaving.data, opened.data) == (outer, packet)
        await tb.again()


async def within_packets(dut: Any) -> None:
    """Until a beat that is not the last one of its packet has passed on each of the four streams, and none since."""
    names = ("s_axis_plain", "s_axis_esp", "m_axis_esp", "m_axis_plain")
    inside = dict.fromkeys(names, False)
    for _ in range(100_000):
        await FallingEdge(dut.clk_i)
        await ReadOnly()
        for name in names:
            if getattr(dut, f"{name}_tvalid").value and getattr(dut, f"{name}_tready").value:
                inside[name] = not getattr(dut, f"{name}_tlast").value
        if all(inside.values()):
            await FallingEdge(dut.clk_i)
            return
    raise AssertionError(f"never within a packet on all streams: {inside}")


@cocotb.test()
async def a_stalled_output_holds_up_no_command(dut: Any) -> None:
    """Nobody takes anything: what has no room is dropped, SAs come and go, and then it goes on in order."""
    tb = TB(dut)
    await tb.start()
    for index in range(2):
        await tb.install(index, some_tunnel(4, ports=None, tfc_length=0))
    software, counters = tb.software, tb.software.registers.counters
    opener = tb.inbound[0]
    plain = [unmarked(tb.packet(0, 1300)) for _ in range(90)]
    sealed = [encapsulate(opener.sender, opener.form, packet) for packet in plain]
    tb.esp_out.pause = tb.plain_out.pause = lambda: True
    leaving = [tb.send(packet, 0) for packet in plain]
    for outer in sealed:
        tb.esp_in.send(outer)
    # As long as the output may go on, all waits.
    await tb.rest(STALL)
    drops = [getattr(counters, f"drops_{side}")[Reason.QUEUE_FULL.value] for side in ("outbound", "inbound")]
    assert [await software.number(one) for one in drops] == [0, 0]
    assert tb.plain_in.queue and tb.esp_in.queue, "all found room"
    # An SA is read, replaced, removed, and another one installed.
    for direction in Direction:
        assert await software.command(Operation.READ, 0, direction) is Answer.DONE
        assert await software.command(Operation.REMOVE, 1, direction) is Answer.DONE
    await tb.install(1, some_tunnel(6, ports=None, tfc_length=0))
    await tb.all_in()
    await tb.rest(2000)
    dropped = [await software.number(one) for one in drops]
    assert all(0 < one < len(plain) for one in dropped)
    tb.esp_out.pause = tb.plain_out.pause = never
    await tb.rest(12000)
    for sink, wanted, count in ((tb.esp_out, leaving, dropped[0]), (tb.plain_out, plain, dropped[1])):
        came = [packet.data for packet in sink.packets]
        sink.packets.clear()
        rest = iter(wanted)
        assert len(came) == len(wanted) - count and all(one in rest for one in came), "lost, or out of order"
        assert came[0] == wanted[0]
    assert [await software.number(one) for one in drops] == dropped, "dropped though it goes on"
    # Inbound the number of a dropped packet is not used up. Outbound it is, and the packet is counted.
    usage = await software.usage(0, Direction.INBOUND)
    assert (usage["packets"], usage["replayed"]) == (len(plain) - dropped[1], 0)
    usage = await software.usage(0, Direction.OUTBOUND)
    assert usage["sequence_number"] == usage["packets"] == len(plain)
    for index in range(2):
        packet = unmarked(tb.packet(index, 90))
        outer = tb.send(packet, index)
        assert (await tb.until(tb.esp_out, 1))[0].data == outer
        tb.esp_in.send(encapsulate(tb.inbound[index].sender, tb.inbound[index].form, packet))
        assert (await tb.until(tb.plain_out, 1))[0].data == packet


@cocotb.test()
async def what_is_taken_away_leaves_its_counters(dut: Any) -> None:
    """What an SA carried until it was replaced or removed is told with the command; events name whom they are of."""
    tb = TB(dut)
    await tb.start()
    software, registers = tb.software, tb.software.registers
    usage = registers.usage
    await tb.install(2, some_tunnel(4, ports=None, tfc_length=0), limits={"soft_packets": 5})
    first = tb.outbound[2]
    for _ in range(7):
        tb.esp_in.send(tb.send(unmarked(tb.packet(2, 50)), 2))
    await tb.until(tb.plain_out, 7)
    second = some_outbound(first.generation ^ 1, some_tunnel(4, ports=None, tfc_length=0))
    assert await software.install_outbound(2, second) is Answer.DONE
    assert await software.number(usage.packets) == await software.number(usage.sequence_number) == 7
    assert await software.number(usage.bytes) == first.sent_bytes
    assert await software.command(Operation.REMOVE, 2, Direction.INBOUND) is Answer.DONE
    assert await software.number(usage.packets) == await software.number(usage.sequence_number) == 7
    seen = []
    while (head := await software.fields(registers.events.head)).valid:
        kind = "key_ready" if head.key_ready else "soft_packets" if head.soft_packets else "other"
        seen.append((kind, head.direction, await software.number(registers.events.generation)))
        registers.events.pop.write(1)
        await software.flush()
    outbound = [(kind, generation) for kind, direction, generation in seen if direction is Direction.OUTBOUND]
    assert outbound == [("key_ready", first.generation), ("soft_packets", first.generation),
                        ("key_ready", second.generation)]  # fmt: skip


@cocotb.test()
async def what_cannot_be_is_answered(dut: Any) -> None:
    tb = TB(dut)
    await tb.start()
    software = tb.software
    await tb.install(0, some_tunnel(4))
    sa = tb.inbound[0]
    assert await software.install_inbound(sa) is Answer.IN_USE
    sa.index, sa.selector_first = 1, MOST
    assert await software.install_inbound(sa) is Answer.SPI_EXISTS
    assert await software.command(Operation.REMOVE, SAS, Direction.OUTBOUND) is Answer.BAD_INDEX
    selector = TrafficSelector(IPv4Address(0), IPv4Address(1), 0, 0, 65535)
    assert await software.selector(SELECTORS, selector, remote=False) is Answer.BAD_INDEX
    sa.spi = 0
    assert await software.install_inbound(sa) is Answer.BAD_FIELDS
    identity = software.registers.identity
    assert await software.number(identity.sas) == SAS
    assert await software.number(identity.window) == WINDOW


def secrets(models: Iterable[Outbound]) -> set[int]:
    """What only an SA's keys can give, as words of 128 bits: round keys, powers of H, the word with the salt."""
    made = set()
    for model in models:
        made.update(int.from_bytes(key, "little") for key in expand(model.key))
        made.update(int.from_bytes(power, "little") for power in powers_of(hash_key(model.key), POWERS))
        made.add(model.packed() >> 128 & (1 << 128) - 1)
    return made


def found(dut: Any) -> set[int]:
    """The words of 128 bits in every memory and every register that a memory is read into."""
    words = set()
    for handle in everything_below(dut):
        if handle._name not in ("mem", "config_mem", "read_data_q", "words_q", "block_q"):
            continue
        for value in handle.value if isinstance(handle, ArrayObject) else [handle.value]:
            number = int(value)
            while number:
                words.add(number & (1 << 128) - 1)
                number >>= 128
    return words


def everything_below(handle: Any) -> Iterator[Any]:
    """All that is visible of a hierarchy."""
    for child in handle:
        if isinstance(child, (HierarchyObject, HierarchyArrayObject)):
            yield from everything_below(child)
        else:
            yield child


@cocotb.test()
async def no_key_is_left_in_any_memory(dut: Any) -> None:
    """Round keys, powers of H, salts: found before the SAs go, and nowhere then."""
    tb = TB(dut)
    await tb.start()
    for index in range(SAS):
        await tb.install(index, some_tunnel(random.choice((4, 6)), tfc_length=0))
        tb.send(tb.packet(index, 30), index)
    await tb.until(tb.esp_out, SAS)
    secret = secrets(tb.outbound.values())
    assert secret <= found(dut)
    for index in range(SAS):
        for direction in Direction:
            assert await tb.software.command(Operation.REMOVE, index, direction) is Answer.DONE
    await tb.rest(5)
    assert not secret & found(dut)
