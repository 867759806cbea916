"""One IKE SA: what it knows, how it sends requests and answers them. What the messages mean is in ``exchanges``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf

from appliance.ike.child_sa import ChildSa, ChildState
from appliance.ike.connection import ConnectionConfig, Endpoint
from appliance.ike.constants import ExchangeType, HashAlgorithm, NotifyType
from appliance.ike.events import ChildActivate, ChildDown, Datagram, EndpointsChanged, IkeDown, IkeUp
from appliance.ike.exchanges.exchange import Exchange
from appliance.ike.fragment import Reassembler
from appliance.ike.ke import KeyExchange
from appliance.ike.keys import IkeKeys, IkeSuite
from appliance.ike.message import Header, encode_message, seal_fragments, seal_message
from appliance.ike.payloads import NotifyPayload, Payload, SaPayload
from appliance.ike.sealing import Sealer
from appliance.ike.services import Services
from appliance.ike.states import IkeState
from appliance.ike.views import ChildView, IkeView
from appliance.ike.window import MAX_MESSAGE_ID, Requests, Response, Responses
from appliance.reasons import Reason
from appliance.sa.association import UdpEncapsulation
from appliance.sa.identity import Identity
from appliance.sa.selector import TrafficSelector

ZOMBIE_SECONDS = 30.0
"""How long a dead IKE SA repeats its last response: the peer may not have got it and asks again."""
OLD_SA_SECONDS = 60.0
"""How long a replaced IKE SA waits for the peer to delete it before we do."""
INBOUND_LINGER = 5.0
"""How long a replaced inbound SA stays: the peer's last packets on it may come after its IKE message."""
MAX_EARLY_DELETES = 16
"""SPIs that the peer deleted before we knew them: its answer that makes them may have been lost, and comes again."""
IPV4_UDP_OVERHEAD, IPV6_UDP_OVERHEAD, MARKER = 28, 48, 4


class IkeSa:
    """An IKE SA in any state."""

    __slots__ = (
        "authenticated_until",
        "candidates",
        "certificate_requests",
        "children",
        "connection",
        "contested",
        "cookie",
        "created_at",
        "dead_at",
        "delete_at",
        "deleted_for",
        "dpd_at",
        "early_deletes",
        "established_at",
        "expires_at",
        "failure",
        "first_selectors",
        "forced_encapsulation",
        "fragmentation",
        "half_open_until",
        "hold_children_until",
        "ike_id",
        "init_key",
        "init_offer",
        "init_request",
        "init_response",
        "initiator",
        "ke",
        "keepalive_at",
        "keys",
        "last_inbound",
        "local",
        "local_id",
        "nat_local",
        "nat_remote",
        "nonce_i",
        "nonce_r",
        "peer_hashes",
        "peer_successor",
        "predecessor",
        "pumped_at",
        "queue",
        "reassemblers",
        "rekey_at",
        "remote",
        "remote_id",
        "requests",
        "responses",
        "retries",
        "sealer_in",
        "sealer_out",
        "services",
        "spi_i",
        "spi_r",
        "state",
        "successor",
        "suite",
        "wanted_children",
    )

    def __init__(self, services: Services, *, initiator: bool, local: Endpoint, remote: Endpoint, now: float) -> None:
        self.services = services
        self.ike_id = services.new_ike_id()
        self.initiator = initiator
        self.state = IkeState.INIT_SENT if initiator else IkeState.HALF_OPEN
        self.local, self.remote = local, remote
        self.connection: ConnectionConfig | None = None
        self.candidates: tuple[ConnectionConfig, ...] = ()
        self.spi_i = services.new_ike_spi() if initiator else bytes(8)
        self.spi_r = bytes(8) if initiator else services.new_ike_spi()
        self.suite: IkeSuite | None = None
        self.keys: IkeKeys | None = None
        self.sealer_out: Sealer | None = None
        self.sealer_in: Sealer | None = None
        self.ke: KeyExchange | None = None
        self.nonce_i = self.nonce_r = b""
        self.init_request = self.init_response = b""
        self.init_key = b""
        self.init_offer: SaPayload | None = None
        self.cookie = b""
        self.retries = 0
        self.contested = False
        self.peer_hashes: frozenset[HashAlgorithm] = frozenset()
        self.certificate_requests: tuple[Payload, ...] = ()
        self.fragmentation = False
        self.nat_local = self.nat_remote = self.forced_encapsulation = False
        self.local_id: Identity | None = None
        self.remote_id: Identity | None = None
        self.children: dict[int, ChildSa] = {}
        self.early_deletes: list[int] = []
        self.wanted_children: list[str] = []
        self.first_selectors: tuple[tuple[TrafficSelector, ...], tuple[TrafficSelector, ...]] | None = None
        self.requests = Requests()
        self.responses = Responses()
        self.reassemblers: dict[tuple[bool, int], Reassembler] = {}
        self.queue: list[Exchange] = []
        self.successor: IkeSa | None = None
        self.peer_successor: IkeSa | None = None
        self.predecessor: IkeSa | None = None
        self.pumped_at = now
        self.failure: tuple[Reason, str, float] | None = None
        self.created_at = now
        self.established_at: float | None = None
        self.last_inbound = now
        self.half_open_until: float | None = None
        self.hold_children_until = now
        self.rekey_at: float | None = None
        self.expires_at: float | None = None
        self.authenticated_until: float | None = None
        self.dpd_at: float | None = None
        self.keepalive_at: float | None = None
        self.dead_at: float | None = None
        self.delete_at: tuple[float, Reason] | None = None
        self.deleted_for: tuple[Reason, str] | None = None

    # What it is

    @property
    def own_spi(self) -> bytes:
        """The SPI that we chose and peers address us by."""
        return self.spi_i if self.initiator else self.spi_r

    @property
    def connection_name(self) -> str | None:
        """The connection, once it is known which."""
        return self.connection.name if self.connection is not None else None

    @property
    def settings(self) -> ConnectionConfig:
        """The connection's configuration; before a responder knows the peer, that of the first candidate."""
        return self.connection if self.connection is not None else self.candidates[0]

    @property
    def encapsulated(self) -> bool:
        """Whether ESP goes in UDP: there is a NAT, or encapsulation was forced (RFC 7296 §2.23)."""
        return self.nat_local or self.nat_remote or self.forced_encapsulation

    @property
    def encapsulation(self) -> tuple[UdpEncapsulation | None, UdpEncapsulation | None]:
        """UDP ports of inbound and outbound ESP."""
        if not self.encapsulated:
            return None, None
        return (
            UdpEncapsulation(self.remote.port, self.local.port),
            UdpEncapsulation(self.local.port, self.remote.port),
        )

    @property
    def expects_child(self) -> bool:
        """Whether the peer may have made a Child SA of which we have not heard yet."""
        outstanding = self.requests.outstanding.values()
        return any(request.exchange.exchange_type is ExchangeType.CREATE_CHILD_SA for request in outstanding)

    @property
    def is_up(self) -> bool:
        """Whether it is authenticated and carries its children."""
        return self.state is IkeState.ESTABLISHED

    def header(self, exchange: ExchangeType, message_id: int, *, response: bool) -> Header:
        """A header of ours; next payload and length are filled by the encoder."""
        return Header(
            initiator_spi=self.spi_i,
            responder_spi=self.spi_r,
            next_payload=0,
            exchange=exchange,
            message_id=message_id,
            initiator=self.initiator,
            response=response,
            length=0,
        )

    # Sending

    def transmit(
        self, datagrams: Sequence[bytes], local: Endpoint | None = None, remote: Endpoint | None = None
    ) -> None:
        """Send datagrams, to the peer's current endpoint unless another is given."""
        for data in datagrams:
            self.services.emit(Datagram(data, local or self.local, remote or self.remote))

    def seal(self, header: Header, payloads: Sequence[Payload]) -> list[bytes]:
        """Encrypt a message, in fragments where both sides can and it would not fit (RFC 7383)."""
        assert self.sealer_out is not None
        if not self.fragmentation or not self.settings.fragmentation:
            return [seal_message(header, payloads, self.sealer_out)]
        overhead = IPV4_UDP_OVERHEAD if self.remote.address.version == 4 else IPV6_UDP_OVERHEAD
        if self.local.port == self.services.config.nat_port:
            overhead += MARKER
        return seal_fragments(header, payloads, self.sealer_out, self.settings.fragment_size - overhead)

    def respond(
        self,
        exchange: ExchangeType,
        message_id: int,
        payloads: Sequence[Payload],
        request_digest: bytes,
        local: Endpoint,
        remote: Endpoint,
    ) -> None:
        """Answer a request, to where it came from (RFC 7296 §2.11), and keep the answer for its retransmissions."""
        datagrams = self.seal(self.header(exchange, message_id, response=True), payloads)
        self.responses.remember(message_id, Response(request_digest, datagrams))
        self.transmit(datagrams, local, remote)

    def enqueue(self, exchange: Exchange, now: float, *, first: bool = False) -> None:
        """Put a request into the queue and send what the window has room for."""
        if self.state is IkeState.DEAD:
            exchange.abandon(self, now)
            return
        if first:
            self.queue.insert(0, exchange)
        else:
            self.queue.append(exchange)
        self.pump(now)

    def pump(self, now: float) -> None:
        """Send queued requests that are due while the window has room. Delayed ones do not hold up others."""
        self.pumped_at = now
        self.services.touched.add(self.ike_id)
        if self.state in (IkeState.INIT_SENT, IkeState.HALF_OPEN, IkeState.AUTH_SENT, IkeState.DEAD):
            return
        while self.requests.room and self.requests.next_id < MAX_MESSAGE_ID:
            exchange = next((queued for queued in self.queue if queued.not_before <= now), None)
            if exchange is None:
                return
            under_way = [request.exchange for request in self.requests.outstanding.values()]
            if under_way and (exchange.exclusive or any(other.exclusive for other in under_way)):
                return
            self.queue.remove(exchange)
            payloads = exchange.request(self, now)
            if payloads is not None:
                self.send_request(exchange, payloads, now)

    def send_request(self, exchange: Exchange, payloads: Sequence[Payload], now: float) -> None:
        """Send a protected request and keep it until its response."""
        header = self.header(exchange.exchange_type, self.requests.next_id, response=False)
        datagrams = self.seal(header, payloads)
        self.requests.add(exchange, datagrams, self.settings.retransmission, now)
        self.transmit(datagrams)
        self.services.touched.add(self.ike_id)

    def send_initial(self, exchange: Exchange, payloads: Sequence[Payload], now: float) -> None:
        """Send IKE_SA_INIT, in the clear and with ID 0, also when it is asked for again (RFC 7296 §2.6, §2.7)."""
        self.init_request = encode_message(self.header(ExchangeType.IKE_SA_INIT, 0, response=False), payloads)
        self.requests = Requests(window=self.requests.window)
        self.requests.add(exchange, [self.init_request], self.settings.retransmission, now)
        self.transmit([self.init_request])
        self.services.touched.add(self.ike_id)

    # Life

    def establish(self, now: float, *, replaces: int | None = None) -> None:
        """It is authenticated: start its clocks and tell."""
        settings = self.settings
        self.state = IkeState.ESTABLISHED
        self.services.established.enter(self)
        self.established_at = self.last_inbound = now
        self.half_open_until = None
        self.init_request = self.init_response = b""
        self.init_offer = None
        self.certificate_requests = ()
        self.rekey_at = self.services.rekey_time(settings.lifetime, now)
        self.expires_at = now + settings.lifetime.seconds
        if self.authenticated_until is not None:  # the peer's certificate ends: it must authenticate anew then
            self.expires_at = min(self.expires_at, self.authenticated_until)
        self.schedule_liveness(now)
        self.schedule_keepalive(now)
        self.services.touched.add(self.ike_id)
        self.services.emit(
            IkeUp(
                self.ike_id,
                settings.name,
                self.initiator,
                self.local,
                self.remote,
                str(self.remote_id),
                str(self.suite),
                replaces,
            )
        )

    def schedule_liveness(self, now: float) -> None:
        """The next liveness check, counted from the last sign of life (RFC 7296 §2.4)."""
        interval = self.settings.dpd_interval
        self.dpd_at = None if interval is None else max(self.last_inbound, now) + interval

    def schedule_keepalive(self, now: float) -> None:
        """NAT keepalives are the business of who sits behind the NAT (RFC 3948 §4)."""
        self.keepalive_at = now + self.settings.keepalive_interval if self.nat_local else None

    def alive(self, now: float) -> None:
        """Something authenticated came from the peer."""
        self.last_inbound = now
        if self.is_up:
            self.schedule_liveness(now)
            self.services.touched.add(self.ike_id)

    def remove_child(
        self,
        child: ChildSa,
        reason: Reason,
        detail: str = "",
        *,
        linger: float = 0.0,
        replaced_by: ChildSa | None = None,
    ) -> None:
        """A child is gone on both sides, or will be: tell, and give traffic to a twin if there is one."""
        if self.children.pop(child.child_id, None) is None:
            return
        self.services.owners.pop(child.child_id, None)
        self.services.release_spi(child.spi_in)
        name = self.connection_name or ""
        inbound, outbound = child.keys
        self.services.emit(
            ChildDown(
                child.child_id,
                self.ike_id,
                name,
                child.config.name,
                inbound,
                outbound,
                reason,
                detail,
                linger,
                replaced_by.child_id if replaced_by is not None else None,
            )
        )
        for old in self.children.values():
            if old.successor is child:
                self._lost_successor(old, replaced_by or child.successor)
        twin = replaced_by or self.twin(child)
        if twin is not None:
            self.services.emit(ChildActivate(twin.child_id, twin.outbound.key))

    def _lost_successor(self, old: ChildSa, heir: ChildSa | None) -> None:
        """What replaced a child is gone before that one: the heir does, or the child is in use as before."""
        old.successor = heir
        if heir is None and old.state is ChildState.REKEYED and not old.delete_queued:
            old.state, old.awaiting = ChildState.ESTABLISHED, False
            if old.rekey_at == inf != old.expires_at:
                old.rekey_at = (self.last_inbound + old.expires_at) / 2

    def twin(self, child: ChildSa) -> ChildSa | None:
        """The newest other child for the same traffic with the same peer, in any IKE SA of the connection."""
        twins = [
            other
            for sa in self.services.established.of_connection(self.connection_name)
            for other in sa.children.values()
            if other.config.reqid == child.config.reqid
            and other is not child
            and sa.remote_id == self.remote_id
            and other.inbound.local_ts == child.inbound.local_ts
            and other.inbound.remote_ts == child.inbound.remote_ts
        ]
        return max(twins, key=lambda other: other.child_id, default=None)

    def end(self, reason: Reason, detail: str, now: float, *, retry: bool) -> None:
        """It is gone, with all its children; only its last responses stay for a while. No message is sent."""
        if self.state is IkeState.DEAD:
            return
        was_up = self.established_at is not None
        superseded = self.successor is not None
        self.state = IkeState.DEAD
        self.dead_at = now + ZOMBIE_SECONDS
        for child in list(self.children.values()):
            self.remove_child(child, reason, detail)
        for request in list(self.requests.outstanding.values()):
            request.exchange.abandon(self, now)
        for exchange in self.queue:
            exchange.abandon(self, now)
        self.requests.outstanding.clear()
        self.queue.clear()
        self.wipe()
        self.init_request = self.init_response = b""
        self.init_offer, self.certificate_requests = None, ()
        self.services.established.leave(self)
        self.services.bury(self)
        name = self.connection_name
        if name is not None and (was_up or (self.initiator and not superseded)):
            if superseded:
                reason, detail, retry = Reason.REKEYED, "", False
            self.services.emit(IkeDown(self.ike_id, name, reason, detail, was_up, retry))
        self.services.touched.add(self.ike_id)

    def wipe(self) -> None:
        """Destroy the keys."""
        if self.keys is not None:
            self.keys.wipe()
        for sealer in (self.sealer_in, self.sealer_out):
            if sealer is not None:
                sealer.wipe()
        self.keys = self.sealer_in = self.sealer_out = self.ke = None
        self.reassemblers.clear()

    def set_keys(self, keys: IkeKeys) -> None:
        """Take the keys of a finished key exchange; the original initiator sends with SK_ei (RFC 7296 §2.14)."""
        assert self.suite is not None
        self.keys = keys
        suite, random = self.suite, self.services.random

        def sealer(encryption: bytearray, integrity: bytearray) -> Sealer:
            return Sealer(suite.encryption, suite.key_bits, suite.integrity, encryption, integrity, random)

        of_initiator, of_responder = sealer(keys.sk_ei, keys.sk_ai), sealer(keys.sk_er, keys.sk_ar)
        self.sealer_out, self.sealer_in = (
            (of_initiator, of_responder) if self.initiator else (of_responder, of_initiator)
        )

    def adopt(self, old: IkeSa, now: float) -> None:
        """Take over everything of a rekeyed IKE SA: children, and waiting requests for them (RFC 7296 §2.18).

        Requests about the old IKE SA itself stay behind, unless a person wants it gone.
        """
        self.predecessor = None
        self.children.update(old.children)
        for child_id in old.children:
            self.services.owners[child_id] = self
        old.children = {}
        if self.deleted_for is not None:
            # Its own deletion is under way: what it takes over ends with it, as what it had did (§1.4.1).
            for child in list(self.children.values()):
                self.remove_child(child, *self.deleted_for)
        waiting = list(old.queue)
        old.queue.clear()
        for exchange in waiting:
            if exchange.outlives_ike_sa:
                self.queue.append(exchange)
            else:
                exchange.abandon(old, now)
        old.successor = self
        if old.delete_at is not None and old.delete_at[1] is Reason.DUPLICATE_IKE_SA:
            self.delete_at = old.delete_at  # one too many stays so
        old.await_deletion(now)
        self.pump(now)

    def await_deletion(self, now: float) -> None:
        """A successor is there: the peer deletes this one, and if it does not in time, we do (RFC 7296 §2.8)."""
        self.state = IkeState.REKEYED
        self.rekey_at = self.dpd_at = self.keepalive_at = self.expires_at = None
        self.delete_at = (now + OLD_SA_SECONDS, Reason.REKEYED)
        self.services.touched.add(self.ike_id)

    def claim_inheritance(self, now: float) -> None:
        """The peer uses the children of the IKE SA that this one replaces: it knows that this one stays (§2.8.1)."""
        old = self.predecessor
        self.predecessor = None
        if old is not None and old.successor is None and old.is_up:
            self.adopt(old, now)

    # Endpoints

    def move_remote(self, remote: Endpoint, now: float) -> None:
        """The peer's NAT mapping changed: answer there from now on, and move the children (RFC 7296 §2.23)."""
        if remote == self.remote:
            return
        self.services.notice("info", f"the peer's endpoint changed from {self.remote} to {remote}", self)
        self.remote = remote
        inbound_encapsulation, outbound_encapsulation = self.encapsulation
        for child in self.children.values():
            before = child.keys
            self.services.emit(
                EndpointsChanged(
                    child.child_id,
                    *before,
                    self.local.address,
                    remote.address,
                    inbound_encapsulation,
                    outbound_encapsulation,
                )
            )
            child.inbound = replace(child.inbound, source=remote.address, encapsulation=inbound_encapsulation)
            child.outbound = replace(child.outbound, destination=remote.address, encapsulation=outbound_encapsulation)

    # What is due

    def deadline(self) -> float | None:
        """When this IKE SA next has something to do by itself."""
        if self.state is IkeState.DEAD:
            return self.dead_at
        clocks = [self.half_open_until]
        if self.is_up:  # no other state acts on these
            clocks += [self.rekey_at, self.expires_at, self.dpd_at, self.keepalive_at]
        times = [time for time in clocks if time is not None]
        times += [request.next_at for request in self.requests.outstanding.values()]
        # What was due at the last pump and is still here waits for an answer, not for a time.
        times += [exchange.not_before for exchange in self.queue if exchange.not_before > self.pumped_at]
        if self.failure is not None:
            times.append(self.failure[2])
        if self.delete_at is not None:
            times.append(self.delete_at[0])
        if self.is_up:
            for child in self.children.values():
                times += [child.rekey_at, child.expires_at]
        return min(times, default=None)

    def view(self) -> IkeView:
        """What may be shown."""
        return IkeView(
            ike_id=self.ike_id,
            connection=self.connection_name,
            state=self.state.value,
            initiator=self.initiator,
            local=self.local,
            remote=self.remote,
            local_id=str(self.local_id) if self.local_id is not None else None,
            remote_id=str(self.remote_id) if self.remote_id is not None else None,
            suite=str(self.suite) if self.suite is not None else None,
            spi_i=self.spi_i.hex(),
            spi_r=self.spi_r.hex(),
            created_at=self.created_at,
            established_at=self.established_at,
            rekey_at=self.rekey_at,
            expires_at=self.expires_at,
            nat_local=self.nat_local,
            nat_remote=self.nat_remote,
            fragmentation=self.fragmentation,
            last_inbound=self.last_inbound,
            child_ids=tuple(self.children),
            outstanding=len(self.requests.outstanding),
            queued=len(self.queue),
        )

    def child_views(self) -> list[ChildView]:
        """Its children, as they may be shown."""
        return [
            ChildView(
                child_id=child.child_id,
                ike_id=self.ike_id,
                connection=self.connection_name or "",
                child=child.config.name,
                state=child.state.value,
                inbound=child.inbound,
                outbound=child.outbound,
                established_at=child.established_at,
                rekey_at=child.rekey_at,
                expires_at=child.expires_at,
            )
            for child in self.children.values()
        ]


def error(type_: NotifyType, data: bytes = b"") -> list[Payload]:
    """A response that is nothing but an error notification."""
    return [NotifyPayload(type_, data)]
