"""Two engines, one clock and a wire in memory, where the test decides what becomes of each datagram.

Nothing is delivered by itself. ``net.flight`` holds the datagrams that were sent; ``net.deliver``, ``net.drop`` and
``net.settle`` decide about them. Every message is decrypted for assertions: ``str(message)`` is such as
``a>b CREATE_CHILD_SA 2? N(REKEY_SA) SA Ni TSi TSr``, ``?`` for a request and ``!`` for a response.

Each peer acts on its engine's events as a datapath would, so ``net.assert_agreement`` compares what would be installed.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import TypeVar

from appliance.ike.authentication import Method, PskCredential, RemotePolicy
from appliance.ike.connection import ChildConfig, ConnectionConfig, Endpoint, EngineConfig
from appliance.ike.constants import ExchangeType, NotifyType, PayloadType
from appliance.ike.constants import name as name_of
from appliance.ike.engine import Engine
from appliance.ike.errors import MalformedMessage
from appliance.ike.events import (
    ChildActivate,
    ChildDown,
    ChildFailed,
    ChildUp,
    Datagram,
    EndpointsChanged,
    Event,
    IkeDown,
    IkeUp,
    Notice,
)
from appliance.ike.fragment import Reassembler, fragment_number
from appliance.ike.ike_sa import IkeSa
from appliance.ike.message import HEADER_LENGTH, Header, open_message, parse_header, seal_message
from appliance.ike.payloads import NotifyPayload, Payload, parse_payloads
from appliance.ike.sealing import Sealer
from appliance.ike.views import ChildView, IkeView
from appliance.sa.identity import Identity
from appliance.sa.proposal import Proposal, ProtocolId, parse_proposal
from appliance.sa.selector import TrafficSelector
from appliance.sa.spi import SpiAllocator
from tests.pki import NOW, Issued, authority, end_entity

A_ADDRESS, B_ADDRESS = "192.0.2.1", "192.0.2.2"
SECRET = b"correct horse battery staple"
T = TypeVar("T")


def endpoint(address: str, port: int = 500) -> Endpoint:
    """An endpoint from text."""
    return Endpoint(ip_address(address), port)


def ike_proposals(*texts: str) -> tuple[Proposal, ...]:
    return tuple(parse_proposal(text, ProtocolId.IKE) for text in texts)


def esp_proposals(*texts: str) -> tuple[Proposal, ...]:
    return tuple(parse_proposal(text, ProtocolId.ESP) for text in texts)


def selectors(*texts: str) -> tuple[TrafficSelector, ...]:
    return tuple(TrafficSelector.parse(text) for text in texts)


IKE = ike_proposals("aes128gcm16-prfsha256-ecp256")
"""Not x25519: its private values are as long as nonces, which tests choose by ``Peer.nonces``."""
ESP = esp_proposals("aes128gcm16-noesn")


def child(name: str = "net", number: int = 1, **changes: object) -> ChildConfig:
    """A child as side A has it: 10.1.N.0/24 here to 10.2.N.0/24 there."""
    plain = ChildConfig(
        name=name,
        reqid=number,
        local_ts=selectors(f"10.1.{number}.0/24"),
        remote_ts=selectors(f"10.2.{number}.0/24"),
        proposals=ESP,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def psk(peer_id: str, secret: bytes = SECRET) -> dict[str, object]:
    """The part of a connection that authenticates by a pre-shared key."""
    credential = PskCredential(secret)
    policy = RemotePolicy(method=Method.PSK, identity=Identity.parse(peer_id), psk=credential)
    return {"credential": credential, "remote_policy": policy}


def certificates(mine: Issued, peer_id: str, anchor: Issued) -> dict[str, object]:
    """The part of a connection that authenticates by certificates."""
    policy = RemotePolicy(method=Method.PUBKEY, identity=Identity.parse(peer_id), anchors=(anchor.certificate,))
    return {"credential": mine.credential(), "remote_policy": policy}


def pki(*, big: bool = False, **options: object) -> tuple[Issued, Issued, Issued]:
    """A CA and a certificate for each side; with ``big`` through several intermediates, so that messages are large."""
    root = issuer = authority("Root")
    for level in range(4 if big else 0):
        issuer = authority(f"Intermediate {level}", issuer=issuer)
    a = end_entity(issuer, subject="gw-a", dns=["gw-a.example"], label="a", **options)  # type: ignore[arg-type]
    b = end_entity(issuer, subject="gw-b", dns=["gw-b.example"], label="b", **options)  # type: ignore[arg-type]
    return root, a, b


def connection(**changes: object) -> ConnectionConfig:
    """Side A's connection with side B, by PSK; liveness checks are off unless they are asked for."""
    a, b = ip_address(A_ADDRESS), ip_address(B_ADDRESS)
    plain: dict[str, object] = {
        "name": "site",
        "local_addresses": (a,),
        "remote_addresses": (b,),
        "local_id": Identity.parse("gw-a.example"),
        "remote_id": Identity.parse("gw-b.example"),
        "ike_proposals": IKE,
        "children": (child(),),
        "dpd_interval": None,
        **psk("gw-b.example"),
    }
    return ConnectionConfig(**{**plain, **changes})  # type: ignore[arg-type]


def mirror(of: ConnectionConfig, **changes: object) -> ConnectionConfig:
    """The other side of a connection."""
    policy = of.remote_policy
    return replace(
        of,
        **{  # type: ignore[arg-type]
            "local_addresses": of.remote_addresses,
            "remote_addresses": of.local_addresses,
            "local_id": of.remote_id,
            "remote_id": of.local_id,
            "remote_policy": replace(policy, identity=of.local_id),
            "children": tuple(replace(c, local_ts=c.remote_ts, remote_ts=c.local_ts) for c in of.children),
            **changes,
        },
    )


class Clock:
    """Time in seconds, and what the calendar says then."""

    def __init__(self) -> None:
        self.now = 1000.0

    def calendar(self, now: float) -> datetime:
        return NOW + timedelta(seconds=now - 1000.0)


@dataclass(slots=True)
class Installed:
    """A pair of SAs as a datapath would have it."""

    up: ChildUp
    inbound_keys: tuple[bytes, bytes]
    outbound_keys: tuple[bytes, bytes]
    active: bool
    activated: int


@dataclass(slots=True, eq=False)
class Message:
    """One IKE message in flight, as its sender made it. ``payloads`` is None where it cannot be read."""

    sender: Peer
    data: bytes
    source: Endpoint
    destination: Endpoint
    keepalive: bool
    sent_at: float
    header: Header | None = None
    payloads: tuple[Payload, ...] | None = None
    fragment: tuple[int, int] | None = None

    @property
    def exchange(self) -> str:
        return "keepalive" if self.header is None else name_of(ExchangeType, self.header.exchange)

    @property
    def names(self) -> tuple[str, ...]:
        """The payloads as the RFC's diagrams have them."""
        return tuple(_payload_name(payload) for payload in self.payloads or ())

    def has(self, name: str) -> bool:
        return name in self.names

    @property
    def is_request(self) -> bool:
        return self.header is not None and not self.header.response

    def __str__(self) -> str:
        if self.header is None:
            return f"{self.sender.name}> keepalive"
        mark = "!" if self.header.response else "?"
        part = f" [{self.fragment[0]}/{self.fragment[1]}]" if self.fragment else ""
        return " ".join([f"{self.sender.name}> {self.exchange} {self.header.message_id}{mark}{part}", *self.names])

    __repr__ = __str__


def _payload_name(payload: Payload) -> str:
    if isinstance(payload, NotifyPayload):
        return f"N({name_of(NotifyType, payload.type)})"
    names = {
        PayloadType.IDI: "IDi",
        PayloadType.IDR: "IDr",
        PayloadType.TSI: "TSi",
        PayloadType.TSR: "TSr",
        PayloadType.NONCE: "Nonce",
        PayloadType.DELETE: "D",
        PayloadType.VENDOR_ID: "V",
    }
    try:
        return names.get(PayloadType(payload.payload_type)) or PayloadType(payload.payload_type).name
    except ValueError:
        return f"payload {payload.payload_type}"


class Peer:
    """An engine, and what a daemon around it would keep. ``nonces`` are the first bytes of its next nonces."""

    def __init__(self, net: Net, name: str, seed: int, config: EngineConfig, address: str) -> None:
        self.net, self.name = net, name
        self.address = ip_address(address)
        self._chance = random.Random(f"{name} {seed}")
        self.nonces: deque[int] = deque()
        self.spis = SpiAllocator(self._chance.randbytes)
        self.events: list[Event] = []
        self.installed: dict[int, Installed] = {}
        self.lingering: dict[int, float] = {}  # inbound SPIs that are replaced, and until when they are there
        self._activations = 0
        self.takes_children = True
        self.engine = Engine(
            config,
            random=self._random,
            allocate_spi=self.spis.allocate,
            release_spi=self.spis.release,
            wall_clock=net.clock.calendar,
        )

    def _random(self, length: int) -> bytes:
        data = self._chance.randbytes(length)
        if length == 32 and self.nonces:
            return bytes([self.nonces.popleft()]) + data[1:]
        return data

    # What it is told to do

    def initiate(
        self, of: ConnectionConfig, children: Sequence[str] | None = None, *, to: str | None = None, **options: object
    ) -> int:
        remote = endpoint(to) if to is not None else Endpoint(of.remote_addresses[0], 500)
        names = [c.name for c in of.children] if children is None else children
        number = self.engine.initiate(
            of,
            names,
            Endpoint(self.address, 500),
            remote,
            self.net.now,
            **options,  # type: ignore[arg-type]
        )
        self.collect()
        return number

    def do(self, action: Callable[..., object], *arguments: object) -> None:
        """Call a method of the engine that takes ``now`` last."""
        action(*arguments, self.net.now)
        self.collect()

    def rekey_child(self, name: str = "net") -> None:
        self.do(self.engine.rekey_child, self.child(name).child_id)

    def rekey_ike(self) -> None:
        self.do(self.engine.rekey_ike, self.ike.ike_id)

    def delete_child(self, reason: object, name: str = "net") -> None:
        self.engine.delete_child(self.child(name).child_id, self.net.now, reason)  # type: ignore[arg-type]
        self.collect()

    def delete_ike(self, reason: object) -> None:
        self.engine.delete_ike(self.ike.ike_id, self.net.now, reason)  # type: ignore[arg-type]
        self.collect()

    def create_child(self, config: ChildConfig) -> None:
        self.engine.create_child(self.ike.ike_id, config, self.net.now)
        self.collect()

    def receive(self, data: bytes, local: Endpoint, remote: Endpoint) -> None:
        self.engine.receive_datagram(data, local, remote, self.net.now)
        self.collect()

    # What it has

    @property
    def ike_views(self) -> list[IkeView]:
        return self.engine.ike_sas()

    @property
    def ike(self) -> IkeView:
        """The one IKE SA that is established."""
        found = [view for view in self.ike_views if view.state == "established"]
        assert len(found) == 1, found
        return found[0]

    def sa(self) -> IkeSa:
        """The inside of the one established IKE SA, for tests that speak on its behalf."""
        return self.engine._services.ike_sas[self.ike.ike_id]

    @property
    def children(self) -> list[ChildView]:
        return self.engine.child_sas()

    def child(self, name: str = "net") -> ChildView:
        """The one child of that name that is not on its way out."""
        found = [view for view in self.children if view.child == name and view.state in ("established", "rekeying")]
        assert len(found) == 1, found
        return found[0]

    def of(self, kind: type[T]) -> list[T]:
        """The events of one kind, oldest first."""
        return [event for event in self.events if isinstance(event, kind)]

    def last(self, kind: type[T]) -> T:
        return self.of(kind)[-1]

    def counted(self, name: str) -> int:
        return self.engine.counters.get(name, 0)

    def sending(self, reqid: int = 1) -> Installed | None:
        """The pair of SAs by which packets of a policy leave: the one activated last."""
        active = [i for i in self.installed.values() if i.active and i.up.outbound.reqid == reqid]
        return max(active, key=lambda each: each.activated, default=None)

    # What comes out

    def collect(self) -> None:
        """Take all outputs: datagrams to the wire, events as a daemon acts on them."""
        self.net.learn_keys(self)
        while (output := self.engine.next_output()) is not None:
            if isinstance(output, Datagram):
                self.net.send(self, output)
            else:
                self.events.append(output)
                self._act(output)

    def _act(self, event: Event) -> None:
        assert SECRET.decode() not in repr(event)
        match event:
            case ChildUp():
                keys = [tuple(map(bytes, each.take())) for each in (event.inbound_keys, event.outbound_keys)]
                pair = Installed(event, keys[0], keys[1], False, 0)  # type: ignore[arg-type]
                self.installed[event.child_id] = pair
                if event.activate:
                    self._activate(event.child_id)
                if self.takes_children:
                    self.engine.child_carried(event.child_id, self.net.now)
            case ChildActivate():
                if event.child_id in self.installed and not self.installed[event.child_id].active:
                    self._activate(event.child_id)
            case ChildDown():
                gone = self.installed.pop(event.child_id)  # a KeyError: it went twice, or never came
                if event.linger:
                    self.lingering[gone.up.inbound.spi] = self.net.now + event.linger
            case EndpointsChanged():
                pair = self.installed[event.child_id]
                inbound = replace(pair.up.inbound, source=event.remote, encapsulation=event.inbound_encapsulation)
                outbound = replace(
                    pair.up.outbound, destination=event.remote, encapsulation=event.outbound_encapsulation
                )
                pair.up = replace(pair.up, inbound=inbound, outbound=outbound)
            case IkeUp() | IkeDown() | ChildFailed() | Notice():
                pass

    def _activate(self, child_id: int) -> None:
        self._activations += 1
        self.installed[child_id].active = True
        self.installed[child_id].activated = self._activations


@dataclass(slots=True)
class Nat:
    """Before one address: all its packets leave from ``outside``, with ports mapped in order; answers come back."""

    inside: str
    outside: str
    next_port: int = 20000
    ports: dict[Endpoint, int] = field(default_factory=dict)

    def outward(self, source: Endpoint) -> Endpoint:
        if source not in self.ports:
            self.ports[source] = self.next_port
            self.next_port += 1
        return Endpoint(ip_address(self.outside), self.ports[source])

    def inward(self, destination: Endpoint) -> Endpoint | None:
        return next((inner for inner, port in self.ports.items() if port == destination.port), None)

    def reboot(self) -> None:
        """Forget all mappings; the next ones have other ports."""
        self.ports.clear()


class Net:
    """Two peers, A and B, and the wire between them. ``log`` has every message ever sent."""

    def __init__(
        self,
        a: ConnectionConfig | None = None,
        b: ConnectionConfig | None = None,
        *,
        seed: int = 1,
        config: EngineConfig | None = None,
        b_config: EngineConfig | None = None,
        nat: Nat | None = None,
        b_nat: Nat | None = None,
    ) -> None:
        self.clock = Clock()
        self.a_connection = a or connection()
        self.b_connection = b or mirror(self.a_connection)
        self.flight: list[Message] = []
        self.log: list[Message] = []
        self.nats = [each for each in (nat, b_nat) if each is not None]
        self._keys: dict[tuple[bytes, bytes], tuple[Sealer, Sealer]] = {}
        self._reassemblers: dict[tuple[str, bytes, bool, int], Reassembler] = {}
        self._config = config or EngineConfig()
        self.a = self.peer("a", seed, config)
        self.b = self.peer("b", seed, b_config or config)

    def peer(self, name: str, seed: int = 1, config: EngineConfig | None = None) -> Peer:
        """A fresh engine for a side: at first, and after it crashed."""
        own = self.a_connection if name == "a" else self.b_connection
        address = str(own.local_addresses[0]) if own.local_addresses else (A_ADDRESS if name == "a" else B_ADDRESS)
        peer = Peer(self, name, seed, config or self._config, address)
        peer.engine.set_connections([own])
        setattr(self, name, peer)
        return peer

    @property
    def now(self) -> float:
        return self.clock.now

    @property
    def peers(self) -> tuple[Peer, Peer]:
        return self.a, self.b

    def other(self, peer: Peer) -> Peer:
        return self.b if peer.name == "a" else self.a

    # The wire

    def send(self, sender: Peer, datagram: Datagram) -> None:
        message = Message(
            sender, datagram.data, datagram.source, datagram.destination, datagram.keepalive, self.clock.now
        )
        if not datagram.keepalive:
            self._read(message)
        self.flight.append(message)
        self.log.append(message)

    def deliver(self, message: Message, *, keep: bool = False) -> None:
        """Hand a message to whom it is addressed; with ``keep`` it stays in flight and may come again."""
        if message in self.flight and not keep:
            self.flight.remove(message)
        source, destination = message.source, message.destination
        for nat in self.nats:
            if str(source.address) == nat.inside:
                source = nat.outward(source)
            if str(destination.address) == nat.outside:
                inner = nat.inward(destination)
                if inner is None:
                    return
                destination = inner
        receiver = next((p for p in self.peers if p.address == destination.address), None)
        if receiver is not None and not message.keepalive:
            receiver.receive(message.data, destination, source)

    def drop(self, message: Message) -> None:
        self.flight.remove(message)

    def drop_all(self) -> None:
        self.flight.clear()

    def next(self, sender: Peer | None = None) -> Message:
        """The oldest message in flight, of one sender if it is given."""
        return next(m for m in self.flight if sender is None or m.sender is sender)

    def find(self, *words: str, sender: Peer | None = None) -> Message:
        """The oldest message in flight whose text has all these words."""
        fitting = (m for m in self.flight if sender is None or m.sender is sender)
        return next(m for m in fitting if all(word in str(m) for word in words))

    def settle(self, lose: Callable[[Message], bool] = lambda message: False) -> list[Message]:
        """Deliver all there is and what comes of it, but what is to be lost. Returns what was delivered."""
        delivered = []
        while self.flight:
            message = self.flight[0]
            if lose(message):
                self.drop(message)
                continue
            delivered.append(message)
            self.deliver(message)
            assert len(delivered) < 10_000, "the peers never come to rest"
        return delivered

    def advance(self, seconds: float) -> None:
        """Let time pass without the wire: timers run, what they send stays in flight."""
        end = self.clock.now + seconds
        while True:
            due = [time for p in self.peers if (time := p.engine.next_timer()) is not None and time <= end]
            if not due:
                break
            self.clock.now = max(self.clock.now, min(due))
            for peer in self.peers:
                peer.engine.handle_timer(self.clock.now)
                peer.collect()
        self.clock.now = end

    def run(self, seconds: float, lose: Callable[[Message], bool] = lambda message: False) -> None:
        """Let time pass, with everything delivered at once but what is to be lost."""
        end = self.clock.now + seconds
        self.settle(lose)
        while True:
            due = [time for p in self.peers if (time := p.engine.next_timer()) is not None and time <= end]
            if not due:
                break
            self.clock.now = max(self.clock.now, min(due))
            for peer in self.peers:
                peer.engine.handle_timer(self.clock.now)
                peer.collect()
            self.settle(lose)
        self.clock.now = end

    def establish(self, children: Sequence[str] | None = None) -> Net:
        """A makes an IKE SA with B and all its children, or those named. Forgets the log and the events."""
        self.a.initiate(self.a_connection, children)
        self.settle()
        assert self.a.ike and self.b.ike
        return self.forget()

    def forget(self) -> Net:
        """Clear log and events: what follows is what the test is about."""
        self.log.clear()
        for peer in self.peers:
            peer.events.clear()
        return self

    # Reading messages

    def learn_keys(self, peer: Peer) -> None:
        services = peer.engine._services
        up = {sa.ike_id for sa in services.ike_sas.values() if sa.is_up}
        for by_peer_or_name in (services.established._of_peer, services.established._of_connection):
            assert up == {sa.ike_id for table in by_peer_or_name.values() for sa in table.values() if sa.is_up}
        for sa in peer.engine._services.ike_sas.values():
            spis = sa.spi_i, sa.spi_r
            if sa.keys is None or sa.suite is None or spis in self._keys:
                continue
            suite, keys = sa.suite, sa.keys
            pairs = (keys.sk_ei, keys.sk_ai), (keys.sk_er, keys.sk_ar)
            initiator, responder = (
                Sealer(suite.encryption, suite.key_bits, suite.integrity, bytes(e), bytes(i), random.randbytes)
                for e, i in pairs
            )
            self._keys[spis] = initiator, responder

    def sealer(self, header: Header) -> Sealer | None:
        """What the sender of a message with this header sealed it with."""
        pair = self._keys.get((header.initiator_spi, header.responder_spi))
        return None if pair is None else pair[0] if header.initiator else pair[1]

    def _read(self, message: Message) -> None:
        header = message.header = parse_header(message.data)
        try:
            if header.next_payload not in (PayloadType.SK, PayloadType.SKF):
                message.payloads = tuple(parse_payloads(header.next_payload, message.data[HEADER_LENGTH:]))
                return
            sealer = self.sealer(header)
            assert sealer is not None, "a message of an IKE SA that nobody has"
            if header.next_payload == PayloadType.SK:
                message.payloads = tuple(parse_payloads(*open_message(message.data, header, sealer)))
                return
            message.fragment = fragment_number(message.data, header)
            key = (message.sender.name, header.initiator_spi, header.response, header.message_id)
            whole = self._reassemblers.setdefault(key, Reassembler()).add(message.data, header, sealer)
            if whole is not None:
                message.payloads = tuple(parse_payloads(*whole))
        except MalformedMessage:
            message.payloads = None

    def sent(self, *words: str, sender: Peer | None = None) -> list[Message]:
        """What was ever sent whose text has all these words."""
        fitting = (m for m in self.log if sender is None or m.sender is sender)
        return [m for m in fitting if all(word in str(m) for word in words)]

    # What must hold

    def assert_agreement(self, *, ikes: int = 1, children: int = 1) -> None:
        """Both sides have the same IKE SAs and Child SAs, with the same keys, and neither keeps anything else."""
        established = [{(v.spi_i, v.spi_r) for v in p.ike_views if v.state == "established"} for p in self.peers]
        assert established[0] == established[1], established
        assert len(established[0]) == ikes, established
        for peer in self.peers:
            states = [view.state for view in peer.ike_views]
            assert states == ["established"] * ikes, (peer.name, states)
            assert all(view.outstanding == view.queued == 0 for view in peer.ike_views), peer.name
            assert {view.child_id for view in peer.children} == set(peer.installed), peer.name
            assert all(view.state == "established" for view in peer.children), (peer.name, peer.children)
            assert len(peer.installed) == children, (peer.name, peer.children)
            assert peer.spis._used == {i.up.inbound.spi for i in peer.installed.values()}, f"{peer.name} leaks SPIs"
            for installed in peer.installed.values():
                sending = peer.sending(installed.up.outbound.reqid)
                assert sending is not None, f"{peer.name} sends nothing for {installed.up.child}"
                assert any(sending.up.outbound.spi == i.up.inbound.spi for i in self.other(peer).installed.values())
        theirs = {i.up.inbound.spi: i for i in self.b.installed.values()}
        for mine in self.a.installed.values():
            twin = theirs[mine.up.outbound.spi]
            assert twin.up.outbound.spi == mine.up.inbound.spi
            assert twin.outbound_keys == mine.inbound_keys
            assert twin.inbound_keys == mine.outbound_keys
            assert twin.up.inbound.suite == mine.up.inbound.suite
            assert (twin.up.inbound.local_ts, twin.up.inbound.remote_ts) == (
                mine.up.inbound.remote_ts,
                mine.up.inbound.local_ts,
            )

    def assert_traffic(self) -> None:
        """Whatever a side sends on, the other can decrypt."""
        for peer in self.peers:
            other = self.other(peer)
            inbound = {i.up.inbound.spi for i in other.installed.values()}
            inbound |= {spi for spi, until in other.lingering.items() if self.now < until}
            for installed in peer.installed.values():
                sending = peer.sending(installed.up.outbound.reqid)
                assert sending is None or sending.up.outbound.spi in inbound

    def assert_gone(self) -> None:
        """Nothing is left on either side, dead IKE SAs' last answers excepted."""
        for peer in self.peers:
            assert peer.ike_views == [], peer.name
            assert peer.installed == {}, peer.name
            assert len(peer.spis) == 0, f"{peer.name} leaks SPIs"


def every_order(messages: Sequence[T]) -> Iterator[tuple[T, ...]]:
    """All orders of two messages."""
    one, two = messages
    yield one, two
    yield two, one


def say(to: Peer, sa: IkeSa, exchange: ExchangeType, mid: int, payloads: Sequence[Payload], *, response: bool) -> None:
    """Deliver an authentic message of the peer's ``sa`` that its engine did not make."""
    data = seal_message(sa.header(exchange, mid, response=response), payloads, sa.sealer_out)
    to.receive(data, sa.remote, sa.local)


def sa_of(peer: Peer, state: str = "established") -> list[IkeSa]:
    """A peer's IKE SAs in a state."""
    return [sa for sa in peer.engine._services.ike_sas.values() if sa.state.value == state]
