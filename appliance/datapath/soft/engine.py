"""The datapath's parts put together, its timers, and one turn of its work."""

from __future__ import annotations

import heapq
import socket
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address

from appliance.datapath.soft.bypass import Bypass
from appliance.datapath.soft.coalesce import Coalescer
from appliance.datapath.soft.core import Core
from appliance.datapath.soft.inbound import Inbound
from appliance.datapath.soft.options import SoftOptions
from appliance.datapath.soft.outbound import Outbound
from appliance.datapath.soft.pmtu import PathMtu
from appliance.datapath.soft.sad import State
from appliance.datapath.soft.sender import Sender
from appliance.datapath.soft.tun import Tun
from appliance.reasons import Reason
from appliance.sa.datapath import DatapathEvent, Expired, ExpiryKind
from appliance.sa.selector import Address

BUDGET = 16
"""Reads of one descriptor in one turn: a turn ends within milliseconds, so that the daemon is always heard."""


@dataclass(slots=True)
class Way:
    """The ESP sockets of one local address."""

    address: bytes
    natt_port: int
    ike_port: int
    esp: socket.socket
    raw: socket.socket | None


class Engine:
    """Everything but the control socket."""

    def __init__(
        self,
        options: SoftOptions,
        tun: Tun,
        emit: Callable[[DatapathEvent], None],
        emit_ike: Callable[[list[object]], None],
    ) -> None:
        self.core = Core(options, tun, emit, emit_ike)
        self.path_mtu = PathMtu(self.core)
        self.sender = Sender(self.core, self.path_mtu.refused)
        self.bypass = Bypass(self.core)
        self.outbound = Outbound(self.core, self.sender, self.path_mtu, self.bypass)
        self._coalescer = Coalescer(self.core)
        self.inbound = Inbound(self.core, self._coalescer)
        self.ways: dict[tuple[bytes, int], Way] = {}
        self._deadlines: list[tuple[float, int, bool, State]] = []
        self._count = 0
        self._housekeeping = 0.0

    def add_ingress(
        self, address: bytes, natt_port: int, ike_port: int, esp: socket.socket, raw: socket.socket | None
    ) -> None:
        """Take the ESP sockets of a local address."""
        self.remove_ingress(address, natt_port)
        self.ways[address, natt_port] = Way(address, natt_port, ike_port, esp, raw)
        self._own()

    def remove_ingress(self, address: bytes, natt_port: int) -> None:
        """Close the ESP sockets of a local address; SAs that send by them are dead."""
        way = self.ways.pop((address, natt_port), None)
        if way is None:
            return
        for sock in (way.esp, way.raw):
            if sock is not None:
                self.sender.forget(sock)
                for state in self.core.sad.outbound.values():
                    if state.sock is sock and state.spent.dead is None:
                        state.spent.dead = Reason.SEND_FAILED
                sock.close()
        self._own()

    def _own(self) -> None:
        self.outbound.own_addresses = {int.from_bytes(way.address) for way in self.ways.values()} - {0}
        self.outbound.own_ports = {port for way in self.ways.values() for port in (way.natt_port, way.ike_port)}
        self.outbound.forget_flows()

    def socket_for(self, source: Address, port: int | None) -> tuple[socket.socket, bool] | None:
        """The socket that sends from an address, by a UDP port or native (None); whether it is bound to any address."""
        for way in self.ways.values():
            bound = ip_address(way.address)
            if bound != source and not (bound.is_unspecified and bound.version == source.version):
                continue
            if port is None and way.raw is not None:
                return way.raw, bound.is_unspecified
            if port == way.natt_port:
                return way.esp, bound.is_unspecified
        return None

    def descriptors(self) -> dict[int, tuple[socket.socket, Way]]:
        """The sockets to listen on."""
        found = {}
        for way in self.ways.values():
            for sock in (way.esp, way.raw):
                if sock is not None:
                    found[sock.fileno()] = sock, way
        return found

    def read_tun(self) -> None:
        """Take a batch from the TUN device."""
        try:
            self.outbound.read(BUDGET)
        finally:
            self.sender.flush()

    def read_socket(self, sock: socket.socket, way: Way, *, error: bool) -> None:
        """Take a batch from a socket."""
        if error:
            self.path_mtu.errors(sock)
        try:
            if sock is way.raw:
                self.inbound.read_raw(sock, BUDGET)
            else:
                self.inbound.read_udp(sock, way.address, way.natt_port, BUDGET)
        finally:
            self._coalescer.flush()

    def inject(self, data: bytes, peer: tuple[str, int], local: bytes) -> None:
        """An ESP packet that came to the IKE socket."""
        self.inbound.inject(data, peer, local)
        self._coalescer.flush()

    def watch(self, state: State) -> None:
        """Have an SA's time limits looked after."""
        lifetime = state.sa.lifetime
        if len(self._deadlines) > 64 + 4 * len(self.core.sad):
            # Those of SAs that went stay until they are due: a peer that rekeys all the time would fill the memory.
            self._deadlines = [row for row in self._deadlines if self.core.sad.get(row[3].sa.key) is row[3]]
            heapq.heapify(self._deadlines)
        for seconds, hard in ((lifetime.soft.seconds, False), (lifetime.hard.seconds, True)):
            if seconds is not None:
                self._count += 1
                heapq.heappush(self._deadlines, (state.spent.installed + seconds, self._count, hard, state))

    def tick(self) -> float:
        """Do what is due; returns the seconds until something else is, at most half a second."""
        core = self.core
        while self._deadlines and self._deadlines[0][0] <= core.now:
            _, _, hard, state = heapq.heappop(self._deadlines)
            if core.sad.get(state.sa.key) is not state:
                continue
            if hard:
                state.spent.dead = Reason.LIFETIME_EXPIRED
            core.emit(Expired(state.sa.key, ExpiryKind.TIME, hard))
        if core.now - self._housekeeping >= 0.5:
            self._housekeeping = core.now
            self.outbound.expire()
            self.path_mtu.age()
        return min(0.5, self._deadlines[0][0] - core.now) if self._deadlines else 0.5

    def close(self, *, remove: bool) -> None:
        """Wipe all keys and close everything; ``remove`` takes the TUN device away too."""
        self.core.sad.clear()
        for way in self.ways.values():
            way.esp.close()
            if way.raw is not None:
                way.raw.close()
        self.ways.clear()
        self.bypass.close()
        self.core.tun.close(remove=remove)
