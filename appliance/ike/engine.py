"""The engine: datagrams and time in, datagrams and events out. No sockets, no clock, no randomness of its own.

``receive_datagram`` never raises, whatever comes; its work is bounded, and nothing that was not authenticated changes
an established IKE SA.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from math import inf

from appliance.ike import receive, timers
from appliance.ike.connection import ChildConfig, ConnectionConfig, Endpoint, EngineConfig
from appliance.ike.constants import ExchangeType, NotifyType
from appliance.ike.cookie import CookieJar
from appliance.ike.errors import MalformedMessage
from appliance.ike.events import Datagram, Output
from appliance.ike.exchanges import ike_sa_init
from appliance.ike.exchanges.create_child import CreateChild
from appliance.ike.exchanges.informational import DeleteIke, delete_child
from appliance.ike.exchanges.rekey_child import carried
from appliance.ike.exchanges.rekey_ike import RekeyIke
from appliance.ike.ike_sa import IkeSa
from appliance.ike.message import HEADER_LENGTH, Header, InvalidMajorVersion, encode_message, parse_header
from appliance.ike.payloads import NotifyPayload, parse_payloads
from appliance.ike.services import Services
from appliance.ike.states import IkeState, Kind, accepts
from appliance.ike.views import ChildView, IkeView
from appliance.ike.window import digest
from appliance.reasons import Reason
from appliance.sa.selector import TrafficSelector

ERROR_INTERVAL = 0.1
"""Answers to messages of unknown IKE SAs are at least this many seconds apart (RFC 7296 §2.21.4)."""


class Engine:
    """All IKE SAs of one machine. Methods take ``now``, seconds of one clock that never goes back.

    After each call, take all of ``next_output`` and call ``handle_timer`` again at ``next_timer``.
    """

    def __init__(
        self,
        config: EngineConfig,
        *,
        random: Callable[[int], bytes],
        allocate_spi: Callable[[], int],
        release_spi: Callable[[int], None],
        wall_clock: Callable[[float], datetime],
    ) -> None:
        self._services = Services(config, random, allocate_spi, release_spi, wall_clock)
        self._init = ike_sa_init.InitResponder(self._services, CookieJar(random))
        self._timers: list[tuple[float, int]] = []
        self._scheduled: dict[int, float] = {}
        self._next_error = 0.0

    # Inputs

    def set_connections(self, connections: Iterable[ConnectionConfig]) -> None:
        """What is answered as responder from now on, and what IKE SAs that are up take their next values from."""
        self._services.set_connections(connections)
        by_name = self._services.connection_by_name
        for sa in self._services.ike_sas.values():
            if sa.connection is not None:
                sa.connection = by_name.get(sa.connection.name, sa.connection)

    def set_config(self, config: EngineConfig) -> None:
        """Other limits from now on. The ports are those of the sockets, which stay."""
        self._services.config = config

    def receive_datagram(self, data: bytes, local: Endpoint, remote: Endpoint, now: float) -> None:
        """Take one IKE message, without the non-ESP marker."""
        counters = self._services.counters
        counters["messages-in"] += 1
        try:
            header = parse_header(data)
        except InvalidMajorVersion as error:
            self._services.count(Reason.INVALID_MAJOR_VERSION)
            if not error.header.response and self._may_answer_error(now):
                self._answer_clear(error.header, NotifyType.INVALID_MAJOR_VERSION, local, remote)
            return
        except MalformedMessage:
            self._services.count(Reason.INVALID_SYNTAX)
            return
        if header.exchange == ExchangeType.IKE_SA_INIT:
            self._receive_init(header, data, local, remote, now)
        else:
            own = header.responder_spi if header.initiator else header.initiator_spi
            sa = self._services.by_spi.get(own)
            theirs = header.initiator_spi if header.initiator else header.responder_spi
            if sa is None or sa.initiator is header.initiator or theirs != (sa.spi_r if sa.initiator else sa.spi_i):
                self._unknown_spi(header, local, remote, now)
                return
            receive.protected(sa, header, data, local, remote, now)
        self._settle()

    def knows(self, data: bytes) -> bool:
        """Whether a message names an IKE SA that is here, not whether it is authentic. Anybody can send others."""
        by_spi = self._services.by_spi
        return data[8:16] in by_spi or data[:8] in by_spi

    def handle_timer(self, now: float) -> None:
        """Do what is due at ``now``, once for each IKE SA."""
        due: list[int] = []
        while self._timers and self._timers[0][0] <= now:
            time, ike_id = heapq.heappop(self._timers)
            if self._scheduled.get(ike_id) == time:  # else it was rescheduled since
                del self._scheduled[ike_id]
                due.append(ike_id)
        for ike_id in due:
            sa = self._services.ike_sas.get(ike_id)
            if sa is not None:
                timers.handle(sa, now)
                self._services.touched.add(ike_id)
            self._settle()
        self._init.flood.handle_timer(now)

    # Outputs

    def next_timer(self) -> float | None:
        """When ``handle_timer`` is to be called next."""
        while self._timers and self._scheduled.get(self._timers[0][1]) != self._timers[0][0]:
            heapq.heappop(self._timers)
        due = [] if self._init.flood.deadline is None else [self._init.flood.deadline]
        return min([*due, self._timers[0][0]] if self._timers else due, default=None)

    def next_output(self) -> Output | None:
        """The next datagram or event, in order."""
        outputs = self._services.outputs
        if not outputs:
            return None
        output = outputs.popleft()
        if isinstance(output, Datagram):
            self._services.counters["messages-out"] += 1
        return output

    @property
    def counters(self) -> dict[str, int]:
        """What was counted, by the names of reasons and of other things."""
        return dict(self._services.counters)

    def ike_sas(self) -> list[IkeView]:
        """All IKE SAs but dead ones."""
        return [sa.view() for sa in self._services.ike_sas.values() if sa.state is not IkeState.DEAD]

    def child_sas(self) -> list[ChildView]:
        """All Child SAs."""
        return [view for sa in self._services.ike_sas.values() for view in sa.child_views()]

    # Commands

    def initiate(
        self,
        connection: ConnectionConfig,
        children: Sequence[str],
        local: Endpoint,
        remote: Endpoint,
        now: float,
        *,
        packet: tuple[TrafficSelector, TrafficSelector] | None = None,
    ) -> int:
        """Start an IKE SA with these children. ``packet`` (our end, the peer's) is what asked for the first of them.

        Returns its number; IkeUp or IkeDown with it follow.
        """
        sa = IkeSa(self._services, initiator=True, local=local, remote=remote, now=now)
        sa.connection = connection
        sa.wanted_children = list(children)
        first = connection.child(children[0]) if children else None
        if packet is not None and first is not None:
            sa.first_selectors = _with_packet(first, packet)
        self._services.register(sa)
        ike_sa_init.start(sa, now)
        self._settle()
        return sa.ike_id

    def create_child(
        self,
        ike_id: int,
        child: ChildConfig,
        now: float,
        *,
        packet: tuple[TrafficSelector, TrafficSelector] | None = None,
    ) -> None:
        """Ask for a Child SA in an IKE SA that is up or on its way. ChildUp or ChildFailed follow, or IkeDown."""
        sa = self._services.ike_sas.get(ike_id)
        if sa is not None:
            selectors = _with_packet(child, packet) if packet is not None else None
            _current(sa).enqueue(CreateChild(child, selectors), now)
        self._settle()

    def rekey_ike(self, ike_id: int, now: float) -> None:
        """Replace an IKE SA. IkeUp with ``replaces`` follows."""
        sa = self._services.ike_sas.get(ike_id)
        if sa is not None and sa.is_up:
            sa.enqueue(RekeyIke(), now)
        self._settle()

    def rekey_child(self, child_id: int, now: float) -> None:
        """Replace a Child SA. ChildUp with ``replaces`` follows."""
        sa = self._services.owners.get(child_id)
        if sa is not None:
            child = sa.children[child_id]
            timers.rekey_child(sa, child, now)
        self._settle()

    def delete_ike(self, ike_id: int, now: float, reason: Reason) -> None:
        """Close an IKE SA in any state; IkeDown follows, after the peer's answer or without it."""
        sa = self._services.ike_sas.get(ike_id)
        if sa is not None:
            if sa.state in (IkeState.ESTABLISHED, IkeState.REKEYED):
                for exchange in sa.queue:
                    exchange.abandon(sa, now)
                sa.queue.clear()
                sa.enqueue(DeleteIke(reason, ""), now, first=True)
            elif sa.state is not IkeState.DELETING:
                sa.end(reason, "", now, retry=False)
        self._settle()

    def delete_child(self, child_id: int, now: float, reason: Reason) -> None:
        """Close a Child SA; ChildDown follows after the peer's answer. So ends what it was to replace."""
        self._close_child(child_id, reason, "", now)

    def child_carried(self, child_id: int, now: float) -> None:
        """A datapath carries a Child SA: one that it replaces is deleted now, if our rekey made it."""
        sa = self._services.owners.get(child_id)
        if sa is not None:
            carried(sa, sa.children[child_id], now)
        self._settle()

    def install_failed(self, child_id: int, reason: Reason, detail: str, now: float) -> None:
        """No datapath took a Child SA: close it at the peer too. So ends what it was to replace."""
        self._close_child(child_id, reason, detail, now)

    def _close_child(self, child_id: int, reason: Reason, detail: str, now: float) -> None:
        sa = self._services.owners.get(child_id)
        if sa is not None:
            child = sa.children[child_id]
            # Not every peer goes back to the old one: strongSwan sends by the new one from its deletion on, and by
            # none then.
            for old in [old for old in sa.children.values() if old.awaiting and old.successor is child]:
                delete_child(sa, old, reason, detail, now)
            delete_child(sa, child, reason, detail, now)
        self._settle()

    def note_inbound(self, child_id: int, now: float) -> None:
        """An authenticated ESP packet came on a child: the peer lives (RFC 7296 §2.4)."""
        sa = self._services.owners.get(child_id)
        if sa is not None:
            sa.alive(now)
        self._settle()

    def update_remote(self, child_id: int, remote: Endpoint, now: float) -> None:
        """Authenticated ESP came from another endpoint: the peer's NAT mapping changed (RFC 7296 §2.23)."""
        sa = self._services.owners.get(child_id)
        if sa is not None and sa.nat_remote and not sa.nat_local:
            sa.move_remote(remote, now)
        self._settle()

    # Inside

    def _receive_init(self, header: Header, data: bytes, local: Endpoint, remote: Endpoint, now: float) -> None:
        services = self._services
        if header.response:
            sa = services.by_spi.get(header.initiator_spi)
            if sa is None or not accepts(sa.state, header.exchange, Kind.RESPONSE) or header.message_id != 0:
                services.count(Reason.UNEXPECTED_MESSAGE)
                return
            try:
                payloads = parse_payloads(header.next_payload, data[HEADER_LENGTH:])
            except MalformedMessage:
                services.count(Reason.INVALID_SYNTAX)
                return
            ike_sa_init.handle_response(sa, header, data, payloads, now)
            return
        if not header.initiator or header.responder_spi != bytes(8) or header.message_id != 0:
            services.count(Reason.INVALID_SYNTAX)
            return
        answered = self._init.half_open.get(digest(data))
        if answered is not None:
            # From elsewhere it is a copy, and the longer answer would go to whoever was named as its sender.
            known = remote.address == answered.remote.address
            services.counters["retransmissions-answered" if known else "retransmissions-ignored"] += 1
            if known:
                answered.transmit([answered.init_response], local, remote)
            return
        try:
            payloads = parse_payloads(header.next_payload, data[HEADER_LENGTH:])
        except MalformedMessage as error:
            services.count(Reason.INVALID_SYNTAX)
            if self._may_answer_error(now):
                type_, contents = receive.error_notification(error)
                self._init.answer_error(header, [NotifyPayload(type_, contents)], local, remote)
            return
        self._init.handle_request(header, data, payloads, local, remote, now)

    def _unknown_spi(self, header: Header, local: Endpoint, remote: Endpoint, now: float) -> None:
        """Requests for an IKE SA that is not here are answered in the clear, seldom; responses never (§2.21.4)."""
        self._services.count(Reason.UNKNOWN_IKE_SPI)
        if not header.response and self._may_answer_error(now):
            self._answer_clear(header, NotifyType.INVALID_IKE_SPI, local, remote)

    def _may_answer_error(self, now: float) -> bool:
        if now < self._next_error:
            return False
        self._next_error = now + ERROR_INTERVAL
        return True

    def _answer_clear(self, header: Header, type_: NotifyType, local: Endpoint, remote: Endpoint) -> None:
        answer = Header(
            initiator_spi=header.initiator_spi,
            responder_spi=header.responder_spi,
            next_payload=0,
            exchange=header.exchange,
            message_id=header.message_id,
            initiator=not header.initiator,
            response=True,
            length=0,
        )
        self._services.emit(Datagram(encode_message(answer, [NotifyPayload(type_)]), local, remote))

    def _settle(self) -> None:
        """Bring the timers of all IKE SAs that were touched up to date."""
        services = self._services
        for ike_id in services.touched:
            sa = services.ike_sas.get(ike_id)
            deadline = sa.deadline() if sa is not None else None
            if sa is not None and sa.init_key and sa.state is not IkeState.HALF_OPEN:
                self._init.half_open.remove(sa.init_key)
                sa.init_key = b""
            if deadline is None:
                self._scheduled.pop(ike_id, None)
            elif deadline < self._scheduled.get(ike_id, inf):
                # A later one is found when the earlier has come: each message would leave an entry behind otherwise.
                self._scheduled[ike_id] = deadline
                heapq.heappush(self._timers, (deadline, ike_id))
        services.touched.clear()


def _current(sa: IkeSa) -> IkeSa:
    """The IKE SA that has taken over, if one has."""
    while sa.successor is not None:
        sa = sa.successor
    return sa


def _with_packet(
    child: ChildConfig, packet: tuple[TrafficSelector, TrafficSelector]
) -> tuple[tuple[TrafficSelector, ...], tuple[TrafficSelector, ...]]:
    """The configured selectors behind those of the packet that asked for the child (RFC 7296 §2.9)."""
    local, remote = packet
    return (local, *child.local_ts), (remote, *child.remote_ts)
