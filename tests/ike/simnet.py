"""A network in virtual time that joins engines, with every fault a network has. One seed repeats everything.

Each ``Node`` is an engine and what a daemon does around it: a datapath as two tables, retries, missing children.
ESP packets are tokens that carry the SPI and the key they were sent under; where they arrive tells what got lost.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import ip_address
from random import Random

from appliance.ike.authentication import Method, PskCredential, RemotePolicy
from appliance.ike.connection import ChildConfig, ConnectionConfig, Endpoint, EngineConfig, RekeyPolicy
from appliance.ike.engine import Engine
from appliance.ike.events import (
    ChildActivate,
    ChildDown,
    ChildFailed,
    ChildUp,
    Datagram,
    EndpointsChanged,
    IkeDown,
    IkeUp,
    Notice,
    Output,
)
from appliance.ike.services import Services
from appliance.reasons import Reason
from appliance.sa.association import SecurityAssociation
from appliance.sa.identity import Identity
from appliance.sa.proposal import ProtocolId, parse_proposal
from appliance.sa.selector import Address, TrafficSelector
from appliance.sa.spi import SpiAllocator

WALL = datetime(2026, 1, 1, tzinfo=UTC)
SETTLE = 1.0
IKE = (parse_proposal("aes128gcm16-prfsha256-x25519", ProtocolId.IKE),)
ESP = (parse_proposal("aes128gcm16", ProtocolId.ESP),)
SECRET = PskCredential(b"one secret for the whole simulation")


@dataclass(frozen=True, slots=True)
class Faults:
    """What a link does to each datagram, as chances; ``delay`` in seconds, ``hold`` the most a reordered one waits."""

    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    truncate: float = 0.0
    flip: float = 0.0
    delay: tuple[float, float] = (0.02, 0.02)
    hold: float = 4.0


CLEAN = Faults()
ROUGH = Faults(loss=0.1, duplicate=0.05, reorder=0.1, truncate=0.02, flip=0.02, delay=(0.005, 0.2))


@dataclass(slots=True)
class Pair:
    """A child in a node's datapath. ``active``: packets leave by its outbound SA. ``leaving``: only inbound is left."""

    child_id: int
    connection: str
    child: str
    inbound: SecurityAssociation
    outbound: SecurityAssociation
    key_in: bytes
    key_out: bytes
    activate: bool
    active: bool = False
    leaving: bool = False


@dataclass(slots=True)
class Site:
    """What a node knows of one connection: IKE SAs that are up or on their way, and what it tries next."""

    name: str
    initiates: bool
    remote: Endpoint | None
    up: dict[int, bool] = field(default_factory=dict)
    superseded: set[int] = field(default_factory=set)
    attempts: int = 0
    check_at: float | None = None
    served: set[str] = field(default_factory=set)
    pending: dict[str, int] = field(default_factory=dict)

    @property
    def usable(self) -> list[int]:
        return [ike_id for ike_id, up in self.up.items() if up and ike_id not in self.superseded]


class Nat:
    """Translates the addresses behind it to one public address, by ports that ``remap`` forgets."""

    def __init__(self, public: str, inside: Iterable[str]) -> None:
        self.public = ip_address(public)
        self.inside = {ip_address(address) for address in inside}
        self.ports: dict[Endpoint, int] = {}
        self.owners: dict[int, Endpoint] = {}
        self.last = 20_000

    def remap(self) -> None:
        self.ports.clear()
        self.owners.clear()

    def outward(self, inner: Endpoint) -> Endpoint:
        if inner not in self.ports:
            self.last = 20_000 if self.last >= 60_000 else self.last + 1
            self.ports[inner] = self.last
            self.owners[self.last] = inner
        return Endpoint(self.public, self.ports[inner])

    def inward(self, outer: Endpoint) -> Endpoint | None:
        return self.owners.get(outer.port)


class Network:
    """Time, the links, and all nodes."""

    def __init__(self, seed: int, faults: Faults = CLEAN) -> None:
        self.seed = seed
        self.random = Random(f"network {seed}")
        self.faults = faults
        self.esp_faults = CLEAN
        self.now = 0.0
        self.nodes: dict[Address, Node] = {}
        self.nats: list[Nat] = []
        self.silent: set[Address] = set()
        self.counters: Counter[str] = Counter()
        self.probing = True
        self.on_loss: Callable[[str], None] | None = None
        self.drop: Callable[[Datagram], bool] | None = None
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self._ends: dict[str, list[Node]] = {}
        self._trace = hashlib.sha256()
        self.keep: list[tuple[object, ...]] | None = None

    # Time

    def at(self, time: float, call: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._events, (max(time, self.now), self._number, call))

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Let time pass. Returns whether ``until`` became true (looked at after each step)."""
        end = self.now + seconds
        while self._events and self._events[0][0] <= end:
            self.now, _, call = heapq.heappop(self._events)
            call()
            if until is not None and until():
                return True
        self.now = end
        return False

    def note(self, *what: object) -> None:
        """A line of the trace; two runs of one seed give the same."""
        line = (self.now, *what)
        self._trace.update(repr(line).encode())
        if self.keep is not None:
            self.keep.append(line)

    @property
    def trace(self) -> str:
        return self._trace.hexdigest()

    # Links

    def send(self, datagram: Datagram) -> None:
        source, destination = datagram.source, datagram.destination
        self.note("send", str(source), str(destination), len(datagram.data))
        self.counters["sent"] += 1
        if self.drop is not None and self.drop(datagram):
            self.counters["dropped"] += 1
            return
        translated = self._translate(source, destination)
        if translated is None:
            self.counters["unroutable"] += 1
            return
        there, here = translated
        if source.address in self.silent or here.address in self.silent:
            self.counters["silenced"] += 1
            return
        faults, random = self.faults, self.random
        if random.random() < faults.loss:
            self.counters["lost"] += 1
            return
        copies = 2 if random.random() < faults.duplicate else 1
        for _ in range(copies):
            data = datagram.data
            if random.random() < faults.truncate:
                self.counters["truncated"] += 1
                data = data[: random.randrange(len(data))]
            if data and random.random() < faults.flip:
                self.counters["flipped"] += 1
                bit = random.randrange(len(data) * 8)
                changed = bytearray(data)
                changed[bit // 8] ^= 1 << bit % 8
                data = bytes(changed)
            delay = random.uniform(*faults.delay)
            if random.random() < faults.reorder:
                self.counters["reordered"] += 1
                delay += random.uniform(0, faults.hold)
            self.at(self.now + delay, partial(self._arrive, data, here, there, datagram.keepalive))
        self.counters["duplicated"] += copies - 1

    def _translate(self, source: Endpoint, destination: Endpoint) -> tuple[Endpoint, Endpoint] | None:
        """(Source as the receiver sees it, destination as the receiver has it)."""
        for nat in self.nats:
            if source.address in nat.inside and destination.address not in nat.inside:
                source = nat.outward(source)
            elif destination.address == nat.public:
                inner = nat.inward(destination)
                if inner is None:
                    return None
                destination = inner
        return source, destination

    def _arrive(self, data: bytes, local: Endpoint, remote: Endpoint, keepalive: bool) -> None:
        node = self.nodes.get(local.address)
        if node is None or node.engine is None or keepalive or local.address in self.silent:
            return
        node.receive(data, local, remote)

    # Traffic

    def probe(self, node: Node, site: Site) -> None:
        """One packet of every child of a connection, each way."""
        if not self.probing:
            return
        node.emit_traffic(site)
        peer = self.peer_of(node, site)
        if peer is not None:
            peer.emit_traffic(peer.sites[site.name])

    def peer_of(self, node: Node, site: Site) -> Node | None:
        if site.name not in self._ends:
            self._ends[site.name] = [n for n in self.nodes.values() if site.name in n.connections]
        return next((n for n in self._ends[site.name] if n is not node), None)

    def esp(self, node: Node, pair: Pair) -> None:
        sa = pair.outbound
        ports = sa.encapsulation
        source = Endpoint(sa.source, ports.source_port if ports else 0)
        destination = Endpoint(sa.destination, ports.destination_port if ports else 0)
        self.counters["esp-sent"] += 1
        translated = self._translate(source, destination)
        if translated is None or node.address in self.silent or translated[1].address in self.silent:
            self.counters["esp-unroutable"] += 1
            return
        faults = self.esp_faults
        if faults.loss and self.random.random() < faults.loss:
            return
        low, high = faults.delay
        delay = low if low == high else self.random.uniform(low, high)
        seen, local = translated
        self.at(self.now + delay, partial(self._esp_arrives, sa.spi, pair.key_out, local, seen, ports is not None))

    def _esp_arrives(self, spi: int, key: bytes, local: Endpoint, seen: Endpoint, encapsulated: bool) -> None:
        node = self.nodes.get(local.address)
        if node is None or node.engine is None:
            return
        node.take_esp(spi, key, seen, encapsulated)

    def lose(self, what: str, detail: str) -> None:
        self.counters[what] += 1
        self.note(what, detail)
        if self.on_loss is not None:
            self.on_loss(f"{self.now:.3f} {what}: {detail}")


class Node:
    """One machine: an engine, and what a daemon does with its events."""

    def __init__(
        self,
        network: Network,
        name: str,
        address: str,
        connections: Iterable[ConnectionConfig],
        *,
        initiates: bool = True,
        config: EngineConfig | None = None,
    ) -> None:
        self.network = network
        self.name = name
        self.address = ip_address(address)
        self.connections = {connection.name: connection for connection in connections}
        self.initiates = initiates
        self.config = config or EngineConfig()
        self.random = Random(f"{name} {network.seed}")
        self.engine: Engine | None = None
        self.counters: Counter[str] = Counter()
        self.downs: Counter[Reason] = Counter()
        self.notices: Counter[str] = Counter()
        self.generation = 0
        network.nodes[self.address] = self

    # Life

    def start(self, *, stagger: float = 0.0) -> None:
        """A fresh engine that knows nothing; connections start within ``stagger`` seconds."""
        self.generation += 1
        self.spis = SpiAllocator(self.random.randbytes)
        self.held: set[int] = set()
        self.to_release: set[int] = set()
        self.pairs: dict[int, Pair] = {}
        self.inbound: dict[int, Pair] = {}
        self.sites: dict[str, Site] = {}
        self._armed: float | None = None
        for connection in self.connections.values():
            remote = connection.remote_addresses[0] if connection.remote_addresses else None
            self.sites[connection.name] = Site(
                connection.name,
                self.initiates and remote is not None,
                Endpoint(remote, 500) if remote is not None else None,
            )
        self.engine = Engine(
            self.config,
            random=self.random.randbytes,
            allocate_spi=self.spis.allocate,
            release_spi=self._release_spi,
            wall_clock=lambda now: WALL + timedelta(seconds=now),
        )
        self.engine.set_connections(self.connections.values())
        for site in self.sites.values():
            self._check(site, self.random.uniform(0, stagger))

    def crash(self, downtime: float) -> None:
        """Everything is gone at once; nobody is told."""
        self.network.note("crash", self.name)
        self.counters["crashes"] += 1
        self.engine = None
        self.pairs, self.inbound = {}, {}
        self.generation += 1
        generation = self.generation

        def back() -> None:
            if self.generation == generation:
                self.start()

        self.network.at(self.network.now + downtime, back)

    def configure(self, change: Callable[[ConnectionConfig], ConnectionConfig]) -> None:
        """Other settings from now on, as a reload gives them."""
        self.connections = {name: change(connection) for name, connection in self.connections.items()}
        if self.engine is not None:
            self.engine.set_connections(self.connections.values())
            self.drain()

    # The engine

    def receive(self, data: bytes, local: Endpoint, remote: Endpoint) -> None:
        assert self.engine is not None
        self.engine.receive_datagram(data, local, remote, self.network.now)
        self.drain()

    def drain(self) -> None:
        """Act on all outputs in their order, then see when to call again."""
        engine, now = self.engine, self.network.now
        assert engine is not None
        touched: dict[str, Site] = {}
        while (output := engine.next_output()) is not None:
            if isinstance(output, Datagram):
                self.network.send(output)
                continue
            name = self._act(output)
            if name is not None and name in self.sites:
                touched[name] = self.sites[name]
        due = engine.next_timer()
        if due is not None and (self._armed is None or due < self._armed):
            self._armed = due
            self.network.at(due, partial(self._wake, self.generation, due))
        for site in touched.values():
            self.network.probe(self, site)
        assert due is None or due > now - 60, "a timer is long overdue"

    def _wake(self, generation: int, time: float) -> None:
        if generation != self.generation or self.engine is None or self._armed != time:
            return
        self._armed = None
        for _ in range(4):
            due = self.engine.next_timer()
            if due is None or due > self.network.now:
                break
            self.engine.handle_timer(self.network.now)
        else:
            raise AssertionError(f"{self.name}: what was due stays due")
        self.drain()

    def command(self, call: Callable[[Engine, float], object]) -> None:
        """Run a command of the engine."""
        if self.engine is not None:
            call(self.engine, self.network.now)
            self.drain()

    # Events

    def _act(self, event: Output) -> str | None:
        if isinstance(event, Notice):
            self.notices[event.text.split(":")[0]] += 1
            return None
        assert not isinstance(event, Datagram)
        if isinstance(event, ChildActivate):
            self._activate(event.child_id)
            pair = self.pairs.get(event.child_id)
            return pair.connection if pair is not None else None
        if isinstance(event, EndpointsChanged):
            pair = self.pairs[event.child_id]
            pair.inbound = replace(
                pair.inbound, source=event.remote, destination=event.local, encapsulation=event.inbound_encapsulation
            )
            pair.outbound = replace(
                pair.outbound, source=event.local, destination=event.remote, encapsulation=event.outbound_encapsulation
            )
            return pair.connection
        self.network.note(self.name, type(event).__name__, event.connection)
        site = self.sites[event.connection]
        if isinstance(event, ChildUp):
            self._child_up(event, site)
        elif isinstance(event, ChildDown):
            self._child_down(event, site)
        elif isinstance(event, ChildFailed):
            self.counters["child-failed"] += 1
            site.pending.pop(event.child, None)
            self._check(site, SETTLE + self.random.uniform(0, 10))
        elif isinstance(event, IkeUp):
            site.up[event.ike_id] = True
            site.attempts = 0
            if event.replaces is not None:
                self.counters["ike-rekeys"] += 1
                for name in [name for name, ike_id in site.pending.items() if ike_id == event.replaces]:
                    site.pending[name] = event.ike_id
                site.superseded.add(event.replaces)
            else:
                self.counters["ike-ups"] += 1
            self._check(site, SETTLE + self.random.uniform(0, 1))
        elif isinstance(event, IkeDown):
            self._ike_down(event, site)
        return event.connection

    def _child_up(self, event: ChildUp, site: Site) -> None:
        assert event.child_id not in self.pairs
        assert event.inbound.spi not in self.inbound, "an SPI is used twice"
        key_in, key_out = (b"".join(map(bytes, keys.take())) for keys in (event.inbound_keys, event.outbound_keys))
        pair = Pair(
            event.child_id, event.connection, event.child, event.inbound, event.outbound, key_in, key_out,
            event.activate,
        )  # fmt: skip
        self.pairs[event.child_id] = pair
        self.inbound[event.inbound.spi] = pair
        self.held.add(event.inbound.spi)
        self.counters["child-rekeys" if event.replaces is not None else "child-ups"] += 1
        site.pending.pop(event.child, None)
        if event.activate:
            self._activate(event.child_id)
        # A datapath takes some at once and others in a while.
        delay = event.child_id % 3 * 0.02
        self.network.at(self.network.now + delay, partial(self._carried, self.generation, event.child_id))

    def _carried(self, generation: int, child_id: int) -> None:
        if generation == self.generation:
            self.command(lambda engine, now: engine.child_carried(child_id, now))

    def _child_down(self, event: ChildDown, site: Site) -> None:
        pair = self.pairs.get(event.child_id)
        assert pair is not None and not pair.leaving, "a child goes that never came, or twice"
        assert (event.inbound, event.outbound) == (pair.inbound.key, pair.outbound.key)
        self.downs[event.reason] += 1
        heirs = [p for p in self._family(pair) if p is not pair]
        if pair.active and heirs:
            heir = next((p for p in heirs if p.child_id == event.replaced_by), None)
            self._activate((heir or max(heirs, key=lambda p: p.child_id)).child_id)
        pair.active, pair.leaving = False, True
        generation = self.generation
        if event.linger > 0:
            self.network.at(self.network.now + event.linger, partial(self._gone, generation, pair))
        else:
            self._gone(generation, pair)
        if not heirs:
            self._check(site, SETTLE + self.random.uniform(0, 2))

    def _gone(self, generation: int, pair: Pair) -> None:
        if generation != self.generation:
            return
        del self.pairs[pair.child_id]
        del self.inbound[pair.inbound.spi]
        self.held.discard(pair.inbound.spi)
        if pair.inbound.spi in self.to_release:
            self.to_release.discard(pair.inbound.spi)
            self.spis.release(pair.inbound.spi)

    def _release_spi(self, spi: int) -> None:
        if spi in self.held:
            self.to_release.add(spi)
        else:
            self.spis.release(spi)

    def _family(self, pair: Pair) -> list[Pair]:
        return [
            p for p in self.pairs.values() if not p.leaving and (p.connection, p.child) == (pair.connection, pair.child)
        ]

    def _activate(self, child_id: int) -> None:
        pair = self.pairs.get(child_id)
        if pair is None or pair.leaving:
            return
        pair.activate = True
        if not pair.active:
            for other in self._family(pair):
                other.active = False
            pair.active = True
            self.sites[pair.connection].served.add(pair.child)

    def _ike_down(self, event: IkeDown, site: Site) -> None:
        self.downs[event.reason] += 1
        site.up.pop(event.ike_id, None)
        site.superseded.discard(event.ike_id)
        for name in [name for name, ike_id in site.pending.items() if ike_id == event.ike_id]:
            del site.pending[name]
        if site.up:
            self._check(site, SETTLE)
            return
        if not event.was_up:
            site.attempts += 1
        delay = 1.0 if event.was_up else min(60.0, 2.0 ** min(site.attempts, 10))
        self._check(site, delay * self.random.uniform(0.5, 1.5))

    # What is missing

    def _check(self, site: Site, after: float) -> None:
        due = self.network.now + after
        if not site.initiates or (site.check_at is not None and self.network.now < site.check_at <= due):
            return
        site.check_at = due
        self.network.at(due, partial(self._checked, self.generation, site, due))

    def _checked(self, generation: int, site: Site, due: float) -> None:
        if generation != self.generation or self.engine is None or site.check_at != due:
            return
        site.check_at = None
        if not site.initiates:
            return
        connection = self.connections[site.name]
        there = {pair.child for pair in self.pairs.values() if pair.connection == site.name and not pair.leaving}
        missing = [c for c in connection.children if c.name not in there and c.name not in site.pending]
        usable = site.usable
        if usable:
            for child in missing:
                self.counters["missing-children"] += 1
                site.pending[child.name] = usable[-1]
                self.engine.create_child(usable[-1], child, self.network.now)
            self.drain()
        elif not site.up and site.remote is not None:
            local = Endpoint(self.address, 500)
            names = [child.name for child in connection.children]
            ike_id = self.engine.initiate(connection, names, local, site.remote, self.network.now)
            site.up[ike_id] = False
            site.pending |= dict.fromkeys(names, ike_id)
            self.drain()

    # Traffic

    def emit_traffic(self, site: Site) -> None:
        """One packet of each child that ever worked."""
        if self.engine is None:
            return
        active = {p.child: p for p in self.pairs.values() if p.active and p.connection == site.name}
        for child in site.served:
            pair = active.get(child)
            if pair is None:
                self.network.lose("no-outbound", f"{self.name} {site.name}/{child}")
            else:
                self.network.esp(self, pair)

    def take_esp(self, spi: int, key: bytes, seen: Endpoint, encapsulated: bool) -> None:
        pair = self.inbound.get(spi)
        if pair is None:
            self.network.lose("esp-unknown-spi", f"{self.name} {spi:#x}")
            return
        assert pair.key_in == key, "two sides have different keys under one SPI"
        self.network.counters["esp-taken"] += 1
        if not pair.activate:
            self._activate(pair.child_id)
        moved = encapsulated and pair.inbound.encapsulation is not None
        known = Endpoint(pair.inbound.source, pair.inbound.encapsulation.source_port) if moved else seen  # type: ignore[union-attr]
        if seen != known and not pair.leaving:
            self.command(lambda engine, now: engine.update_remote(pair.child_id, seen, now))


# Connections


def selectors(*networks: str) -> tuple[TrafficSelector, ...]:
    return tuple(TrafficSelector.parse(network) for network in networks)


def connection_pair(
    name: str,
    a: str,
    b: str,
    *,
    number: int = 1,
    children: int = 1,
    child_lifetime: RekeyPolicy | None = None,
    lifetime: RekeyPolicy | None = None,
    proposals: str | None = None,
    behind_nat: bool = False,
    **settings: object,
) -> tuple[ConnectionConfig, ConnectionConfig]:
    """One connection as both of its ends have it. ``behind_nat``: B does not know A's address and only answers."""

    def side(here: str, there: str, one: int, other: int, known: bool) -> ConnectionConfig:
        return ConnectionConfig(
            name=name,
            local_addresses=(ip_address(here),),
            remote_addresses=(ip_address(there),) if known else (),
            local_id=Identity.parse(f"{name}-{one}.example"),
            remote_id=Identity.parse(f"{name}-{other}.example"),
            credential=SECRET,
            remote_policy=RemotePolicy(
                method=Method.PSK, identity=Identity.parse(f"{name}-{other}.example"), psk=SECRET
            ),
            ike_proposals=IKE,
            children=tuple(
                ChildConfig(
                    name=f"net{at}",
                    reqid=number * 8 + at,
                    local_ts=selectors(f"10.{one}{at}.0.0/16"),
                    remote_ts=selectors(f"10.{other}{at}.0.0/16"),
                    proposals=(parse_proposal(proposals, ProtocolId.ESP),) if proposals else ESP,
                    lifetime=child_lifetime or RekeyPolicy(3600.0, 360.0, 180.0),
                )
                for at in range(children)
            ),
            lifetime=lifetime or RekeyPolicy(4 * 3600.0, 1440.0, 720.0),
            **settings,  # type: ignore[arg-type]
        )

    return side(a, b, 1, 2, True), side(b, a, 2, 1, not behind_nat)


LONG = RekeyPolicy(1e7, 1e6, 1e6)


def long_lives(connection: ConnectionConfig) -> ConnectionConfig:
    """Lifetimes that nobody sees the end of: after the next rekey it is quiet."""
    return replace(
        connection,
        lifetime=LONG,
        children=tuple(replace(child, lifetime=LONG) for child in connection.children),
    )


# What holds at the end


def settle(network: Network, seconds: float) -> None:
    """A perfect network and long lifetimes from now on, until all that was under way has ended."""
    network.faults = network.esp_faults = CLEAN
    network.silent.clear()
    for node in network.nodes.values():
        node.configure(long_lives)
    network.run(seconds)


def disagreements(network: Network) -> list[str]:
    """All in which two ends differ, or hold what they should not. Empty: all is well."""
    found: list[str] = []
    for node in network.nodes.values():
        found += [f"{node.name}: {text}" for text in _leftovers(node)]
        for site in node.sites.values():
            peer = network.peer_of(node, site)
            assert peer is not None
            if (node.name, site.name) < (peer.name, site.name):
                found += [f"{site.name}: {text}" for text in _differences(node, peer, site.name)]
    return found


def _differences(a: Node, b: Node, name: str) -> list[str]:
    assert a.engine is not None and b.engine is not None
    ikes = [[view for view in node.engine.ike_sas() if view.connection == name] for node in (a, b)]  # type: ignore[union-attr]
    if [len(views) for views in ikes] != [1, 1]:
        return [f"IKE SAs: {[[(v.ike_id, v.state, v.spi_i, v.initiator) for v in views] for views in ikes]}"]
    (mine,), (theirs,) = ikes
    found: list[str] = []
    if (mine.spi_i, mine.spi_r, mine.initiator) != (theirs.spi_i, theirs.spi_r, not theirs.initiator):
        found.append("the IKE SA of one is not that of the other")
    for view in (mine, theirs):
        if (view.state, view.outstanding, view.queued) != ("established", 0, 0):
            found.append(f"{view.state}, {view.outstanding} outstanding, {view.queued} queued")
    children = [[view for view in node.engine.child_sas() if view.connection == name] for node in (a, b)]  # type: ignore[union-attr]
    names = sorted(child.name for child in a.connections[name].children)
    for views in children:
        if sorted(view.child for view in views) != names or any(view.state != "established" for view in views):
            found.append(f"children: {[(v.child_id, v.child, v.state) for v in views]}")
    if found:
        return found
    for child in names:
        [one] = [view for view in children[0] if view.child == child]
        [two] = [view for view in children[1] if view.child == child]
        if (one.inbound.spi, one.outbound.spi) != (two.outbound.spi, two.inbound.spi):
            found.append(f"{child}: SPIs differ")
            continue
        if (one.inbound.local_ts, one.inbound.remote_ts) != (two.inbound.remote_ts, two.inbound.local_ts):
            found.append(f"{child}: selectors differ")
        if one.inbound.suite != two.inbound.suite:
            found.append(f"{child}: suites differ")
        ours, others = a.pairs.get(one.child_id), b.pairs.get(two.child_id)
        if ours is None or others is None:
            found.append(f"{child}: not in the datapath")
        elif (ours.key_in, ours.key_out) != (others.key_out, others.key_in):
            found.append(f"{child}: keys differ")
        elif not (ours.active and others.active):
            found.append(f"{child}: outbound is active: {ours.active}, {others.active}")
    return found


def _wrongly_established(services: Services) -> list[str]:
    """Where the table of established IKE SAs differs from what the table of all of them says."""
    up = [sa for sa in services.ike_sas.values() if sa.is_up]
    table, found = services.established, []
    for sa in up:
        of_peer = {other.ike_id for other in up if other.remote_id == sa.remote_id}
        if {other.ike_id for other in table.of_peer(sa.remote_id)} != of_peer:
            found.append(f"the IKE SAs with {sa.remote_id} are {of_peer}, and not those that are looked up")
        of_connection = {other.ike_id for other in up if other.connection_name == sa.connection_name}
        if {other.ike_id for other in table.of_connection(sa.connection_name)} != of_connection:
            found.append(f"the IKE SAs of {sa.connection_name} are {of_connection}, and not those that are looked up")
    entries = sum(map(len, table._of_peer.values())), sum(map(len, table._of_connection.values()))
    if entries != (len(up), len(up)):
        found.append(f"{entries} entries of established IKE SAs and not {len(up)}")
    return found


def _leftovers(node: Node) -> list[str]:
    """What an engine or its datapath holds beyond one IKE SA of each connection and its children."""
    assert node.engine is not None
    services, found = node.engine._services, []
    ups, children = len(node.connections), sum(len(c.children) for c in node.connections.values())
    sizes = {
        "IKE SAs": (len(services.ike_sas), ups),
        "IKE SPIs": (len(services.by_spi), ups),
        "scheduled": (len(node.engine._scheduled), ups),
        "half-open requests": (len(node.engine._init.half_open), 0),
        "outputs": (len(services.outputs), 0),
        "touched": (len(services.touched), 0),
        "SPIs": (len(node.spis), children),
        "SPIs to release": (len(node.to_release), 0),
        "pairs in the datapath": (len(node.pairs), children),
        "inbound SAs": (len(node.inbound), children),
    }
    found += [f"{count} {what} and not {wanted}" for what, (count, wanted) in sizes.items() if count != wanted]
    found += _wrongly_established(services)
    for sa in services.ike_sas.values():
        held = {
            "reassemblers": len(sa.reassemblers),
            "first fragments": len(sa.first_fragments) if hasattr(sa, "first_fragments") else 0,
            "queued": len(sa.queue),
            "outstanding": len(sa.requests.outstanding),
            "answers beyond the window": max(0, len(sa.responses.cache) - 2 * sa.responses.window),
            "successor": int(sa.successor is not None),
        }
        found += [f"{count} {what} in IKE SA {sa.ike_id}" for what, count in held.items() if count]
    if len(node.engine._timers) > 200 * max(1, ups):
        found.append(f"{len(node.engine._timers)} timers")
    return found


def agree(network: Network) -> None:
    """Fail with all that differs, unless that is only a liveness check that is under way."""
    for _ in range(5):
        found = disagreements(network)
        if not found:
            return
        network.run(0.7)
    raise AssertionError("\n".join(found[:20]))
