"""The inbound direction as the golden model has it, packet by packet, and SAs with both ends: to send and to receive.

``judge`` puts together what appliance.esp gives one by one, since the engine counts between the steps; ``agrees`` holds
that against appliance.esp.encapsulation.decapsulate as a whole.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address

from appliance.esp.aead import aes_gcm_16
from appliance.esp.drop import Drop
from appliance.esp.encapsulation import Transport, decapsulate
from appliance.esp.inbound import InboundSa
from appliance.esp.ip import ESP, UDP, parse
from appliance.esp.outbound import OutboundSa
from appliance.esp.replay import ReplayWindow
from appliance.esp.trailer import strip_trailer
from appliance.esp.transport import joined, split_received
from appliance.esp.tunnel import Tunnel, inner_packet, leave, outer_packet
from appliance.esp.udp import build_udp
from appliance.reasons import Reason
from appliance.sa.selector import TrafficSelector
from sim.tb.structs import layout
from sim.tb.traffic.header import expected

SA, SELECTOR, KEY = layout("inbound_sa_t"), layout("selector_t"), layout("spi_key_t")
Key = tuple[int, int, int]  # v6, destination, SPI


@dataclass
class Sa:
    """An inbound SA, and the other end of it."""

    index: int
    transport: bool
    esn: bool
    key: bytes
    salt: bytes
    spi: int
    form: Tunnel | Transport
    source: IPv4Address | IPv6Address  # of the outer packet
    destination: IPv4Address | IPv6Address
    udp_port: int
    selectors: list[tuple[TrafficSelector, bool]]  # with whether it is for the remote end
    window_size: int
    hard: dict[str, int] = field(default_factory=dict)
    soft: dict[str, int] = field(default_factory=dict)
    selector_first: int = 0
    generation: int = 0

    def __post_init__(self) -> None:
        self.transform = aes_gcm_16(self.key + self.salt)
        self.sender = OutboundSa(self.spi, self.transform, esn=self.esn)
        self.window = ReplayWindow(self.window_size, esn=self.esn)
        self.packets = self.bytes = self.replayed = self.integrity = 0

    @property
    def lookup(self) -> Key:
        return int(self.destination.version == 6), int(self.destination), self.spi

    def packed(self) -> int:
        """As inbound_sa_t."""
        form = {
            "valid": 1,
            "generation": self.generation,
            "transport": int(self.transport),
            "esn": int(self.esn),
            "key256": int(len(self.key) == 32),
            "udp_port": self.udp_port,
            "selector_first": self.selector_first,
            "selector_count": len(self.selectors),
        }
        return SA.pack(
            form=form,
            id={"salt": int.from_bytes(self.salt, "little"), "spi": self.spi},
            hard_limits=self.hard,
            soft_limits=self.soft,
        )

    def usage(self) -> dict[str, int]:
        """As sa_usage_t."""
        return {
            "sequence_number": self.window.highest,
            "packets": self.packets,
            "bytes": self.bytes,
            "replayed": self.replayed,
            "integrity_failures": self.integrity,
        }

    def ported(self) -> Tunnel | Transport:
        """The form with or without UDP: a peer may change over at any time (RFC 7296 §2.23)."""
        ports = (random.choice((4500, 1024, 65535)), self.udp_port) if random.random() < 0.5 else None
        return replace(self.form, ports=ports)

    def seal(self, sequence: int, plaintext: bytes) -> bytes:
        """An ESP packet with any plaintext, trailer included."""
        header = self.spi.to_bytes(4, "big") + (sequence & 0xFFFFFFFF).to_bytes(4, "big")
        high = (sequence >> 32).to_bytes(4, "big") if self.esn else b""
        return self.transform.seal(header, high, random.randbytes(8), plaintext)

    def wrap(self, around: bytes, esp: bytes, form: Tunnel | Transport) -> bytes:
        """ESP in an IP packet: in a tunnel that is for the packet ``around``, or in that one's own header."""
        if isinstance(form, Tunnel):
            return outer_packet(form, parse(around), esp, identification=random.getrandbits(16))
        parts = split_received(around)
        if form.ports:
            return joined(parts, UDP, build_udp(form.ports, parts.source, parts.destination, esp))
        return joined(parts, ESP, esp)


def selector_packed(selector: TrafficSelector, remote: bool) -> int:
    """As selector_t."""
    return SELECTOR.pack(
        remote=int(remote),
        v6=int(selector.version == 6),
        protocol=selector.protocol,
        port_start=selector.start_port,
        port_end=selector.end_port,
        start=int(selector.start),
        last=int(selector.end),
    )


@dataclass
class Outcome:
    """What becomes of a packet: ``leaves`` with its SA, or a drop."""

    sent: bytes
    reason: Reason | None = None
    plaintext: bytes = b""
    leaves: bytes = b""
    sa: Sa | None = None
    spi: int = 0
    sequence: int = 0
    events: dict[str, int] = field(default_factory=dict)


def inside(packet: bytes, selectors: list[tuple[TrafficSelector, bool]]) -> bool:
    """Whether the packet is inside one selector for each end (RFC 4301 §5.2)."""
    flow = expected(packet)
    assert flow is not None
    kind = IPv6Address if flow["v6"] else IPv4Address
    ports = (flow["destination_port"], flow["source_port"]) if flow["has_ports"] else (None, None)
    ends = kind(flow["destination"]), kind(flow["source"])
    return all(
        any(
            one.matches(ends[remote], flow["protocol"], ports[remote])
            for one, which in selectors
            if which is bool(remote) and one.version == ends[remote].version
        )
        for remote in (0, 1)
    )


def reaches(old: int, new: int, limit: int) -> bool:
    return bool(limit) and old < limit <= new


def judge(packet: bytes, table: dict[Key, int], installed: dict[int, Sa]) -> Outcome:
    """One packet that came whole and whose headers hold."""
    header = expected(packet)
    assert header is not None
    outcome = Outcome(packet)
    if not header["has_esp"]:
        outcome.reason = Reason.ESP_FRAGMENT if header["fragment"] else Reason.MALFORMED_ESP
        return outcome
    outcome.spi, outcome.sequence = header["spi"], header["sequence_low"]
    sa = installed.get(table.get((header["v6"], header["destination"], header["spi"]), -1))
    if sa is None or sa.spi != header["spi"]:
        outcome.reason = Reason.UNKNOWN_SPI
        return outcome
    if header["protocol"] == UDP and header["destination_port"] != sa.udp_port:
        outcome.reason = Reason.UNKNOWN_SPI
        return outcome
    outcome.sa = sa
    try:
        _open(packet[: header["total_length"]], header, sa, outcome)
    except Drop as drop:
        outcome.reason = drop.reason
    if outcome.reason is Reason.REPLAYED:
        sa.replayed += 1
    elif outcome.reason is Reason.INTEGRITY:
        sa.integrity += 1
        outcome.events["integrity"] = int(sa.integrity == 1)
    return outcome


def _open(packet: bytes, header: dict[str, int], sa: Sa, outcome: Outcome) -> None:
    esp = packet[header["esp_begin"] : header["esp_end"]]
    outcome.sequence = sequence = sa.window.infer(header["sequence_low"])
    sa.window.check(sequence)
    outcome.plaintext = plaintext = sa.transform.open(esp, (sequence >> 32).to_bytes(4, "big") if sa.esn else b"")
    sa.window.update(sequence)
    used = {"packets": sa.packets, "bytes": sa.bytes}
    if any(sa.hard.get(kind) and used[kind] >= sa.hard[kind] for kind in used):
        raise Drop(Reason.LIFETIME_EXPIRED)
    sa.packets += 1
    sa.bytes += len(plaintext)
    now = {"packets": sa.packets, "bytes": sa.bytes}
    for name, limits in (("hard", sa.hard), ("soft", sa.soft)):
        for kind in used:
            outcome.events[f"{name}_{kind}"] = int(reaches(used[kind], now[kind], limits.get(kind, 0)))
    outcome.leaves = content(packet, header["traffic_class"], plaintext, sa.transport, sa.selectors)


def content(
    packet: bytes, traffic_class: int, plaintext: bytes, transport: bool, selectors: list[tuple[TrafficSelector, bool]]
) -> bytes:
    """What leaves of an authentic packet with this plaintext. Raises Drop."""
    next_header, payload = strip_trailer(plaintext)
    if transport:
        leaves = joined(split_received(packet), next_header, payload)
        if expected(leaves) is None:
            raise Drop(Reason.MALFORMED_IP)
    else:
        inner_header, inner = inner_packet(next_header, payload)
        if expected(inner) is None:
            raise Drop(Reason.MALFORMED_IP)
        leaves, _ = leave(inner_header, inner, traffic_class)
    if not inside(leaves, selectors):
        raise Drop(Reason.SELECTOR_MISMATCH)
    return leaves


def agrees(packet: bytes, before: ReplayWindow, outcome: Outcome) -> bool:
    """Whether decapsulate with the window as it was ``before`` gives what ``judge`` gave, as far as it goes."""
    sa = outcome.sa
    assert sa is not None
    try:
        leaves = decapsulate(InboundSa(sa.spi, sa.transform, before), sa.form, packet)
    except Drop as drop:
        # What is behind the extension headers of an inner packet decapsulate does not look at.
        return outcome.reason is drop.reason or (
            drop.reason is Reason.ECN_NOT_CAPABLE and outcome.reason is Reason.MALFORMED_IP
        )
    late = (Reason.SELECTOR_MISMATCH, Reason.MALFORMED_IP, Reason.LIFETIME_EXPIRED)
    return outcome.leaves == leaves if outcome.reason is None else outcome.reason in late


def copied(window: ReplayWindow) -> ReplayWindow:
    """The same window once more."""
    highest, bitmap = window.export()
    return ReplayWindow.restore(window.size, esn=window.esn, highest=highest, bitmap=bitmap)


def everything(version: int) -> TrafficSelector:
    """A selector for all of a family."""
    kind, bits = (IPv4Address, 32) if version == 4 else (IPv6Address, 128)
    return TrafficSelector(kind(0), kind((1 << bits) - 1))
