"""Generated from hw/regs/esp_engine.rdl by `make regs`. Do not edit."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

from appliance.datapath.engine.bus import (
    Field,
    Fields,
    Readable,
    ReadableNumber,
    ReadWrite,
    ReadWriteNumber,
    RegisterBus,
    WritableNumber,
)


class Direction(IntEnum):
    """What a field of direction can be."""

    # IP packets in, ESP packets out
    OUTBOUND = 0
    # ESP packets in, IP packets out
    INBOUND = 1


class Operation(IntEnum):
    """What a field of operation can be."""

    # The SA that is staged takes the place of what the index had, between two packets; the counters of that go to
    # `usage`. Inbound the index must be free, and its SPI is found when it is installed.
    INSTALL = 0
    # The SA is zeroised, keys too, and its counters go to `usage`. Inbound its SPI goes first.
    REMOVE = 1
    # The SA's counters go to `usage`, as they are between two packets.
    READ = 2
    # The selector that is staged goes to that place of the pool, which no installed SA uses. The direction means
    # nothing.
    SELECTOR = 3


class Answer(IntEnum):
    """What a field of answer can be."""

    # It is done.
    DONE = 0
    # There is no such SA or place in the pool. Nothing was changed.
    BAD_INDEX = 1
    # What is staged cannot be: no key (or zeros), an SPI below 256 (RFC 4303 section 2.1), DF 3, a hop limit of 0
    # in tunnel mode, UDP from or to port 0, or selectors that are more than an SA may have or not all in the
    # pool. Nothing was changed.
    BAD_FIELDS = 2
    # Inbound: the index has an SA. Nothing was changed.
    IN_USE = 3
    # Inbound: there is no SA to be removed.
    ABSENT = 4
    # Inbound: another SA has this SPI and destination. The index is free again.
    SPI_EXISTS = 5
    # Inbound: the table of SPIs has no place. The index is free again.
    SPI_FULL = 6


class Df(IntEnum):
    """What a field of df can be."""

    # As the inner packet's; an IPv6 packet counts as one with DF.
    COPY = 0
    SET = 1
    CLEAR = 2


@dataclass(frozen=True)
class IdentityVersion(Fields):
    """Version. Of the register map. Another major: software for the one before does not fit."""

    patch: int = 0
    minor: int = 0
    major: int = 0

    LAYOUT: ClassVar[tuple[Field, ...]] = (
        Field("patch", 0, 16),
        Field("minor", 16, 8),
        Field("major", 24, 8),
    )


@dataclass(frozen=True)
class IdentityInterval(Fields):
    """Interval. A block of the cipher every so many cycles."""

    cycles: int = 0
    # S-boxes are computed in a tower field, else read from tables.
    tower: int = 0

    LAYOUT: ClassVar[tuple[Field, ...]] = (
        Field("cycles", 0, 8),
        Field("tower", 8, 1),
    )


@dataclass(frozen=True)
class IdentitySelectors(Fields):
    """Selectors. Traffic selectors in the pool, and how many of them an SA may have."""

    count: int = 0
    per_sa: int = 0

    LAYOUT: ClassVar[tuple[Field, ...]] = (
        Field("count", 0, 16),
        Field("per_sa", 16, 8),
    )


@dataclass(frozen=True)
class IdentityPacket(Fields):
    """Packet. Bytes of the largest plain packet that is taken, and of the largest with ESP that is made or taken."""

    bytes: int = 0
    outer: int = 0

    LAYOUT: ClassVar[tuple[Field, ...]] = (
        Field("bytes", 0, 16),
        Field("outer", 16, 16),
    )


@dataclass(frozen=True)
class IdentityAlgorithms(Fields):
    """Algorithms."""

    # AES-GCM with a 16-byte ICV (RFC 4106), key of 128 bits.
    aes128_gcm: int = 0
    # The same with a key of 256 bits.
    aes256_gcm: int = 0

    LAYOUT: ClassVar[tuple[Field, ...]] = (
        Field("aes128_gcm", 0, 1),
        Field("aes256_gcm", 1, 1),
    )


@dataclass(frozen=True)
class IdentityFeatures(Fields):
    """Features."""

    # Tunnel mode.
    tunnel: int = 0
    # Transport mode.
    transport: int = 0
    # IPv4, inner and outer.
    ipv4: int = 0
    # IPv6, inner and outer.
    ipv6: int = 0
    # Extended sequence numbers (RFC 4303 section 2.2.1).
    esn: int = 0
    # ESP in UDP (RFC 3948).
    udp: int = 0
    # Padding for traffic-flow confidentiality (RFC 4303 section 2.7).
    tfc: int = 0

    LAYOUT: ClassVar[tuple[Field, ...]] = (
        Field("tunnel", 0, 1),
        Field("transport", 1, 1),
        Field("ipv4", 2, 1),
        Field("ipv6", 3, 1),
        Field("esn", 4, 1),
        Field("udp", 5, 1),
        Field("tfc", 6, 1),
    )


@dataclass(frozen=True)
class IdentityQueues(Fields):
    """Queues. How many events and drop records can wait."""

    events: int = 0
    drops: int = 0

    LAYOUT: ClassVar[tuple[Field, ...]] = (
        Field("events", 0, 16),
        Field("drops", 16, 16),
    )


@dataclass(frozen=True)
class ControlStatus(Fields):
    """Status."""

    # The sweep after reset is over. Commands and packets are taken only then.
    ready: int = 0
    # A command is under way, or the sweep.
    busy: int = 0
    # Packets are taken.
    traffic: int = 0

    LAYOUT: ClassVar[tuple[Field, ...]] = (
        Field("ready", 0, 1),
        Field("busy", 1, 1),
        Field("traffic", 2, 1),
    )


@dataclass(frozen=True)
class ControlInterruptEnable(Fields):
    """Interrupt enable. Which of `interrupt_status` raise the interrupt. It is a level."""

    events: int = 0
    sticky: int = 0
    drops: int = 0
    command: int = 0

    LAYOUT: ClassVar[tuple[Field, ...]] = (
        Field("events", 0, 1),
        Field("sticky", 1, 1),
        Field("drops", 2, 1),
        Field("command", 3, 1),
    )


@dataclass(frozen=True)
class ControlInterruptStatus(Fields):
    """Interrupt status."""

    # An event is in the queue.
    events: int = 0
    # There are events in `sticky`.
    sticky: int = 0
    # A drop record is in the queue.
    drops: int = 0
    # A command is done and its `done` was not cleared.
    command: int = 0

    LAYOUT: ClassVar[tuple[Field, ...]] = (
        Field("events", 0, 1),
        Field("sticky", 1, 1),
        Field("drops", 2, 1),
        Field("command", 3, 1),
    )


@dataclass(frozen=True)
class CommandCommand(Fields):
    """Command."""

    # The SA, or the place in the pool of selectors.
    index: int = 0
    direction: Direction = Direction.OUTBOUND
    operation: Operation = Operation.INSTALL
    # Written as one: it begins.
    go: int = 0

    LAYOUT: ClassVar[tuple[Field, ...]] = (
        Field("index", 0, 16),
        Field("direction", 16, 1, Direction),
        Field("operation", 17, 2, Operation),
        Field("go", 31, 1),
    )


@dataclass(frozen=True)
class CommandAnswer(Fields):
    """Answer."""

    # Of the last command, from `done` on.
    answer: Answer = Answer.DONE
    # It is over. Cleared by the next command, and by writing one.
    done: int = 0

    LAYOUT: ClassVar[tuple[Field, ...]] = (
        Field("answer", 0, 3, Answer),
        Field("done", 31, 1),
    )


@dataclass(frozen=True)
class SaForm(Fields):
    """Form."""

    # Outbound: packets for another generation of this SA are dropped.
    generation: int = 0
    # Transport mode, else tunnel mode.
    transport: int = 0
    # Extended sequence numbers.
    esn: int = 0
    # The key has 256 bits, else 128.
    key256: int = 0
    # IPv6: outbound the outer header, inbound `destination`.
    v6: int = 0

    LAYOUT: ClassVar[tuple[Field, ...]] = (
        Field("generation", 0, 16),
        Field("transport", 16, 1),
        Field("esn", 17, 1),
        Field("key256", 18, 1),
        Field("v6", 19, 1),
    )


@dataclass(frozen=True)
class SaOuter(Fields):
    """Outer header. Outbound, of tunnel mode but for `udp`."""

    # DSCP as the inner packet's, else `dscp`.
    dscp_copy: int = 0
    dscp: int = 0
    # RFC 6040's normal mode, else its compatibility mode.
    ecn_copy: int = 0
    df: Df = Df.COPY
    # The flow label as an inner IPv6 packet's, else `flow_label`.
    flow_copy: int = 0
    # ESP goes in UDP (RFC 3948).
    udp: int = 0
    hop_limit: int = 0

    LAYOUT: ClassVar[tuple[Field, ...]] = (
        Field("dscp_copy", 0, 1),
        Field("dscp", 1, 6),
        Field("ecn_copy", 7, 1),
        Field("df", 8, 2, Df),
        Field("flow_copy", 10, 1),
        Field("udp", 11, 1),
        Field("hop_limit", 12, 8),
    )


@dataclass(frozen=True)
class SaPorts(Fields):
    """UDP ports. Outbound as sent. Inbound ESP in UDP is taken on the destination's."""

    source: int = 0
    destination: int = 0

    LAYOUT: ClassVar[tuple[Field, ...]] = (
        Field("source", 0, 16),
        Field("destination", 16, 16),
    )


@dataclass(frozen=True)
class SaSelectors(Fields):
    """Selectors. Inbound: the first in the pool, and how many."""

    first: int = 0
    count: int = 0

    LAYOUT: ClassVar[tuple[Field, ...]] = (
        Field("first", 0, 16),
        Field("count", 16, 8),
    )


@dataclass(frozen=True)
class SelectorForm(Fields):
    """Form."""

    # 0: any.
    protocol: int = 0
    # For the peer's end, else for ours.
    remote: int = 0
    v6: int = 0

    LAYOUT: ClassVar[tuple[Field, ...]] = (
        Field("protocol", 0, 8),
        Field("remote", 8, 1),
        Field("v6", 9, 1),
    )


@dataclass(frozen=True)
class SelectorPorts(Fields):
    """Ports. 0 to 65535: any, and packets without ports. 65535 to 0: OPAQUE, packets without ports only."""

    first: int = 0
    last: int = 0

    LAYOUT: ClassVar[tuple[Field, ...]] = (
        Field("first", 0, 16),
        Field("last", 16, 16),
    )


@dataclass(frozen=True)
class EventsHead(Fields):
    """Event. The oldest in the queue; all of it is zero if there is none."""

    index: int = 0
    direction: Direction = Direction.OUTBOUND
    # The limit of a soft lifetime, in bytes.
    soft_bytes: int = 0
    # The same in packets.
    soft_packets: int = 0
    # The limit of a hard lifetime, in bytes.
    hard_bytes: int = 0
    # The same in packets.
    hard_packets: int = 0
    # Few sequence numbers are left.
    headroom: int = 0
    # The first packet whose ICV was wrong.
    integrity: int = 0
    # An installation is over.
    key_ready: int = 0
    valid: int = 0

    LAYOUT: ClassVar[tuple[Field, ...]] = (
        Field("index", 0, 16),
        Field("direction", 16, 1, Direction),
        Field("soft_bytes", 17, 1),
        Field("soft_packets", 18, 1),
        Field("hard_bytes", 19, 1),
        Field("hard_packets", 20, 1),
        Field("headroom", 21, 1),
        Field("integrity", 22, 1),
        Field("key_ready", 23, 1),
        Field("valid", 31, 1),
    )


@dataclass(frozen=True)
class EventsStatus(Fields):
    """Status."""

    # SAs that have events in `sticky`.
    sticky_count: int = 0
    # An event found the queue full. Cleared by writing one.
    overflow: int = 0

    LAYOUT: ClassVar[tuple[Field, ...]] = (
        Field("sticky_count", 0, 16),
        Field("overflow", 31, 1),
    )


@dataclass(frozen=True)
class EventsSelect(Fields):
    """Select. Whose events `sticky` has."""

    index: int = 0
    direction: Direction = Direction.OUTBOUND

    LAYOUT: ClassVar[tuple[Field, ...]] = (
        Field("index", 0, 16),
        Field("direction", 16, 1, Direction),
    )


@dataclass(frozen=True)
class EventsSticky(Fields):
    """Sticky. Events of the selected SA that found the queue full, of its latest generation that had any. Reading
    clears them."""

    soft_bytes: int = 0
    soft_packets: int = 0
    hard_bytes: int = 0
    hard_packets: int = 0
    headroom: int = 0
    integrity: int = 0
    key_ready: int = 0
    generation: int = 0

    LAYOUT: ClassVar[tuple[Field, ...]] = (
        Field("soft_bytes", 0, 1),
        Field("soft_packets", 1, 1),
        Field("hard_bytes", 2, 1),
        Field("hard_packets", 3, 1),
        Field("headroom", 4, 1),
        Field("integrity", 5, 1),
        Field("key_ready", 6, 1),
        Field("generation", 7, 16),
    )


@dataclass(frozen=True)
class DropsHead(Fields):
    """Drop. The oldest in the queue; all of it is zero if there is none."""

    # Of the SA, if it has one.
    index: int = 0
    direction: Direction = Direction.OUTBOUND
    # The packet's SA is known.
    has_sa: int = 0
    reason: int = 0
    valid: int = 0

    LAYOUT: ClassVar[tuple[Field, ...]] = (
        Field("index", 0, 16),
        Field("direction", 16, 1, Direction),
        Field("has_sa", 17, 1),
        Field("reason", 18, 7),
        Field("valid", 31, 1),
    )


class Identity:
    """Identity. What this is and what it was built with."""

    def __init__(self, bus: RegisterBus, base: int = 0) -> None:
        # 0x45535045, "ESPE".
        self.magic = ReadableNumber(bus, base + 0x0)
        # Of the register map. Another major: software for the one before does not fit.
        self.version = Readable(bus, base + 0x4, IdentityVersion)
        # SAs of each direction.
        self.sas = ReadableNumber(bus, base + 0x8, 16)
        # Packets that may be behind the last one (RFC 4303 section 3.4.3).
        self.window = ReadableNumber(bus, base + 0xC, 16)
        # A block of the cipher every so many cycles.
        self.interval = Readable(bus, base + 0x10, IdentityInterval)
        # Traffic selectors in the pool, and how many of them an SA may have.
        self.selectors = Readable(bus, base + 0x14, IdentitySelectors)
        # Bytes of the largest plain packet that is taken, and of the largest with ESP that is made or taken.
        self.packet = Readable(bus, base + 0x18, IdentityPacket)
        # Of a direction, in bytes.
        self.input_buffer = ReadableNumber(bus, base + 0x1C)
        # Of a direction, in bytes.
        self.output_buffer = ReadableNumber(bus, base + 0x20)
        self.algorithms = Readable(bus, base + 0x24, IdentityAlgorithms)
        self.features = Readable(bus, base + 0x28, IdentityFeatures)
        # How many events and drop records can wait.
        self.queues = Readable(bus, base + 0x2C, IdentityQueues)
        # An output that nobody takes a beat of for so many cycles is stalled: packets that have no room behind it
        # are dropped until it goes on, so that they hold up no command.
        self.stall = ReadableNumber(bus, base + 0x30)


class Control:
    """Control."""

    def __init__(self, bus: RegisterBus, base: int = 0) -> None:
        self.control = ReadWriteNumber(bus, base + 0x0, 1)
        self.status = Readable(bus, base + 0x4, ControlStatus)
        # Outbound: so many sequence numbers before the last one, an SA's `headroom` event comes: once, when it
        # has exactly so many left.
        self.headroom = ReadWriteNumber(bus, base + 0x8)
        # Which of `interrupt_status` raise the interrupt. It is a level.
        self.interrupt_enable = ReadWrite(bus, base + 0xC, ControlInterruptEnable)
        self.interrupt_status = Readable(bus, base + 0x10, ControlInterruptStatus)


class Command:
    """Commands. One at a time. While one is under way, writes to `command`, `sa`, `selector` and `key` do nothing;
    before the engine is ready, those to `command`."""

    def __init__(self, bus: RegisterBus, base: int = 0) -> None:
        self.command = ReadWrite(bus, base + 0x0, CommandCommand)
        self.answer = ReadWrite(bus, base + 0x4, CommandAnswer)


class Key:
    """Key. Staged for the next installation and cleared by it, whatever its answer. Never readable. A key is for one
    SA: sequence numbers, which are the IVs, begin at 1 with each installation, so installing an outbound key twice
    breaks it."""

    def __init__(self, bus: RegisterBus, base: int = 0) -> None:
        # A word of the key, its first byte lowest. A key of 128 bits has the first four.
        self.word = WritableNumber(bus, base + 0x0, 256)


class Limits:
    """Limits. 0: no limit."""

    def __init__(self, bus: RegisterBus, base: int = 0) -> None:
        self.packets = ReadWriteNumber(bus, base + 0x0, 64)
        self.bytes = ReadWriteNumber(bus, base + 0x8, 64)


class Sa:
    """SA. Staged for the next installation. Numbers: an address's first byte is the highest; an IPv4 address is the
    lowest word, and what is in the others does not count. So it is with a selector's."""

    def __init__(self, bus: RegisterBus, base: int = 0) -> None:
        self.form = ReadWrite(bus, base + 0x0, SaForm)
        self.spi = ReadWriteNumber(bus, base + 0x4)
        # The last four bytes of the keying material (RFC 4106 section 8.1), first byte lowest. Staged for the
        # next installation and cleared by it, as a key is. Never readable.
        self.salt = WritableNumber(bus, base + 0x8)
        # Outbound, of tunnel mode but for `udp`.
        self.outer = ReadWrite(bus, base + 0xC, SaOuter)
        # Outbound.
        self.flow_label = ReadWriteNumber(bus, base + 0x10, 20)
        # Outbound, tunnel mode: inner packets are padded to so many bytes.
        self.tfc = ReadWriteNumber(bus, base + 0x14, 16)
        # Outbound as sent. Inbound ESP in UDP is taken on the destination's.
        self.ports = ReadWrite(bus, base + 0x18, SaPorts)
        # Inbound: the first in the pool, and how many.
        self.selectors = ReadWrite(bus, base + 0x1C, SaSelectors)
        self.source = ReadWriteNumber(bus, base + 0x20, 128)
        self.destination = ReadWriteNumber(bus, base + 0x30, 128)
        self.hard_limits = Limits(bus, base + 0x40)
        self.soft_limits = Limits(bus, base + 0x50)


class Selector:
    """Selector. A traffic selector (RFC 7296 section 3.13.1), staged to be put into the pool."""

    def __init__(self, bus: RegisterBus, base: int = 0) -> None:
        self.form = ReadWrite(bus, base + 0x0, SelectorForm)
        # 0 to 65535: any, and packets without ports. 65535 to 0: OPAQUE, packets without ports only.
        self.ports = ReadWrite(bus, base + 0x4, SelectorPorts)
        self.first = ReadWriteNumber(bus, base + 0x10, 128)
        self.last = ReadWriteNumber(bus, base + 0x20, 128)


class Usage:
    """Usage. The counters of an SA as the last READ found them; or as they were in the end, of an SA that the last
    INSTALL or REMOVE took away."""

    def __init__(self, bus: RegisterBus, base: int = 0) -> None:
        self.sequence_number = ReadableNumber(bus, base + 0x0, 64)
        self.packets = ReadableNumber(bus, base + 0x8, 64)
        self.bytes = ReadableNumber(bus, base + 0x10, 64)
        self.replayed = ReadableNumber(bus, base + 0x18, 64)
        self.integrity_failures = ReadableNumber(bus, base + 0x20, 64)


class Events:
    """Events. What happened to SAs that their owner is to know of. What finds the queue full stays in `sticky`, so no
    event is lost. Those of an SA before its removal may be in the queue when that is done; `sticky` has none."""

    def __init__(self, bus: RegisterBus, base: int = 0) -> None:
        # The oldest in the queue; all of it is zero if there is none.
        self.head = Readable(bus, base + 0x0, EventsHead)
        # Of the SA that it happened to.
        self.generation = ReadableNumber(bus, base + 0x4, 16)
        self.pop = WritableNumber(bus, base + 0x8, 1)
        self.status = ReadWrite(bus, base + 0xC, EventsStatus)
        # Whose events `sticky` has.
        self.select = ReadWrite(bus, base + 0x10, EventsSelect)
        # Events of the selected SA that found the queue full, of its latest generation that had any. Reading
        # clears them.
        self.sticky = Readable(bus, base + 0x14, EventsSticky)


class Drops:
    """Drops. Packets that were dropped. Some have no record: `lost` counts these, `counters` all."""

    def __init__(self, bus: RegisterBus, base: int = 0) -> None:
        # The oldest in the queue; all of it is zero if there is none.
        self.head = Readable(bus, base + 0x0, DropsHead)
        # Zero if it is not known.
        self.spi = ReadableNumber(bus, base + 0x4)
        self.sequence_number = ReadableNumber(bus, base + 0x8, 64)
        self.pop = WritableNumber(bus, base + 0x10, 1)
        # Records that were not kept, modulo 2^32.
        self.lost = ReadableNumber(bus, base + 0x14)


class Counters:
    """Counters. From reset on. Reading the low word of one keeps its high word, which is what the next read of a high
    word gives."""

    def __init__(self, bus: RegisterBus, base: int = 0) -> None:
        # Packets that were dropped outbound, by the code of the reason.
        self.drops_outbound = tuple(ReadableNumber(bus, base + 0x0 + 8 * i, 64) for i in range(32))
        # Inbound.
        self.drops_inbound = tuple(ReadableNumber(bus, base + 0x100 + 8 * i, 64) for i in range(32))
        self.outbound_packets_in = ReadableNumber(bus, base + 0x200, 64)
        self.outbound_bytes_in = ReadableNumber(bus, base + 0x208, 64)
        self.outbound_packets_out = ReadableNumber(bus, base + 0x210, 64)
        self.outbound_bytes_out = ReadableNumber(bus, base + 0x218, 64)
        self.inbound_packets_in = ReadableNumber(bus, base + 0x220, 64)
        self.inbound_bytes_in = ReadableNumber(bus, base + 0x228, 64)
        self.inbound_packets_out = ReadableNumber(bus, base + 0x230, 64)
        self.inbound_bytes_out = ReadableNumber(bus, base + 0x238, 64)


class EspEngine:
    """ESP engine. An engine for ESP (RFC 4303) with AES-GCM (RFC 4106), both directions."""

    def __init__(self, bus: RegisterBus, base: int = 0) -> None:
        self.identity = Identity(bus, base + 0x0)
        self.control = Control(bus, base + 0x40)
        self.command = Command(bus, base + 0x60)
        self.key = Key(bus, base + 0x80)
        self.sa = Sa(bus, base + 0x100)
        self.selector = Selector(bus, base + 0x180)
        self.usage = Usage(bus, base + 0x1C0)
        self.events = Events(bus, base + 0x200)
        self.drops = Drops(bus, base + 0x240)
        self.counters = Counters(bus, base + 0x400)
