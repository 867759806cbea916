"""The one owner of UDP 500, UDP 4500 and raw ESP on a local address.

On the NAT traversal port two sockets share the port (SO_REUSEPORT) and a small filter in the kernel tells IKE from ESP
(RFC 3948 §2.2), so that each goes to the process that wants it without passing through the other. Receive offload may
glue messages of both kinds together behind one that decides; what lands on the wrong side is handed over. So are ICMP
errors about ESP: the kernel does not ask the filter about them, and gives each peer's to one socket or the other.

A third socket, opened on request, is for ESP in UDP that the kernel is to decrypt; ``Demultiplexer`` chooses by SPI.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING

from appliance.datapath import cbpf, filters, sockets
from appliance.datapath.cbpf import Program
from appliance.datapath.filters import ALL_SOFT, SHORTEST_ESP
from appliance.datapath.sockets import IP_PKTINFO, IP_RECVERR, IPV6_RECVERR
from appliance.reasons import Reason, Refusal
from appliance.sa.selector import Address

if TYPE_CHECKING:
    import asyncio

IKE_PORT = 500
NATT_PORT = 4500
OWN_MARK = 0xE5B1
"""Default firewall mark of all that Esplanade itself sends, so that it never enters its own tunnels."""

NON_ESP_MARKER = bytes(4)
"""Four zero bytes before an IKE message on the NAT traversal port (RFC 3948 §2.2)."""

_EXTENDED_ERROR = struct.Struct("=IBBBBII")  # struct sock_extended_err: number, origin, type, code, -, info, data
_FROM_LOCAL, _FROM_ICMP, _FROM_ICMPV6 = 1, 2, 3


@dataclass(frozen=True, slots=True)
class Datagram:
    """One UDP payload, IKE without its non-ESP marker or ESP in UDP, with the addresses and ports it came by."""

    data: bytes = field(repr=False)
    source: Address
    source_port: int
    destination: Address
    destination_port: int


@dataclass(frozen=True, slots=True)
class TooBig:
    """An ICMP error: packets to this address are too big for a link of ``mtu`` bytes, 0 if its router does not say.

    ``quoted`` is as much as there is of the payload that it is about.
    """

    address: Address
    mtu: int
    quoted: bytes = field(repr=False)


def demultiplex(payload: bytes | memoryview) -> tuple[bytes | None, bytes | None]:
    """Tell what a payload on the NAT traversal port is: (IKE message, None), (None, ESP packet) or (None, None).

    NAT keepalives (RFC 3948 §2.3) and what is too short for either are neither.
    """
    if len(payload) < 4:
        return None, None
    if bytes(payload[:4]) == NON_ESP_MARKER:
        return bytes(payload[4:]), None
    if len(payload) < SHORTEST_ESP:
        return None, None
    return None, bytes(payload)


class Ingress:
    """The sockets of one local address; made by ``open_ingress``."""

    def __init__(
        self,
        address: Address,
        ike_port: int,
        natt_port: int,
        mark: int,
        *,
        ike: socket.socket,
        natt: socket.socket,
        esp: socket.socket,
        raw: socket.socket | None,
        lock: socket.socket,
    ) -> None:
        self.address = address
        self.ike_port = ike_port
        self.natt_port = natt_port
        self.ike = ike
        self.natt = natt
        self.esp = esp
        self.raw = raw
        self.esp_kernel: socket.socket | None = None
        self._mark = mark
        self._lock = lock
        self._bypassing = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._read: Callable[[socket.socket], object] = self.receive

    def attach(
        self,
        loop: asyncio.AbstractEventLoop,
        on_ike: Callable[[Datagram], None],
        on_esp: Callable[[Datagram], None],
        on_too_big: Callable[[TooBig], None],
    ) -> None:
        """Call ``on_ike`` for each IKE message, and the others for what came to the IKE side by chance.

        That is ESP packets, and ICMP errors about ESP packets.
        """

        def read(sock: socket.socket) -> None:
            if sock is self.natt:
                for error in read_errors(sock):
                    if error.quoted[:4] != NON_ESP_MARKER:
                        on_too_big(error)
            for kind, datagram in self.receive(sock):
                (on_ike if kind == "ike" else on_esp)(datagram)

        self._loop, self._read = loop, read
        for sock in (self.ike, self.natt, self.esp_kernel):
            if sock is not None:
                loop.add_reader(sock.fileno(), read, sock)

    def receive(self, sock: socket.socket, budget: int = 64) -> list[tuple[str, Datagram]]:
        """Read what waits on a socket, at most ``budget`` datagrams: ("ike" or "esp", datagram) each.

        What is neither is dropped here; errors of the socket (ICMP) are not the reader's.
        """
        port = self.ike_port if sock is self.ike else self.natt_port
        found: list[tuple[str, Datagram]] = []
        for _ in range(budget):
            try:
                data, ancillary, _, peer = sock.recvmsg(65535, 256)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                continue
            to = destination_of(ancillary) or self.address
            source, source_port = ip_address(peer[0].partition("%")[0]), int(peer[1])
            ike: bytes | None = data
            esp: bytes | None = None
            if sock is not self.ike:
                ike, esp = demultiplex(data)
            if ike:
                found.append(("ike", Datagram(ike, source, source_port, to, port)))
            elif esp:
                found.append(("esp", Datagram(esp, source, source_port, to, port)))
        return found

    def send(
        self, data: bytes, destination: Address, destination_port: int, *, source: Address | None = None, natt: bool
    ) -> None:
        """Send an IKE message, from the NAT traversal port behind a non-ESP marker or from the IKE port.

        ``source`` matters where the sockets are bound to any address. A full buffer loses the datagram, as a network
        might. Raises Refusal(SEND_FAILED) with the kernel's words.
        """
        self._send(
            self.natt if natt else self.ike,
            NON_ESP_MARKER + data if natt else data,
            destination,
            destination_port,
            source,
        )

    def send_keepalive(self, destination: Address, destination_port: int, *, source: Address | None = None) -> None:
        """Send a NAT keepalive (RFC 3948 §2.3) from the NAT traversal port."""
        self._send(self.natt, b"\xff", destination, destination_port, source)

    def _send(
        self, sock: socket.socket, payload: bytes, destination: Address, port: int, source: Address | None
    ) -> None:
        ancillary = source_of(source) if source is not None and self.address.is_unspecified else []
        for attempt in range(3):
            try:
                sock.sendmsg([payload], ancillary, 0, (str(destination), port))
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                # An ICMP error that was queued for the socket, whoever it is about, is told once to whoever comes next.
                if attempt == 2:
                    words = f"IKE to {destination} port {port}: {error.strerror}"
                    raise Refusal(Reason.SEND_FAILED, words) from error
            else:
                return

    def open_kernel(self) -> None:
        """Add the socket by which the kernel takes in ESP in UDP of its own SAs. Nothing is sent there yet. Idempotent.

        Receive offload would glue datagrams of several SAs together behind one that decides where they go, so there is
        none while this socket is open: open it before traffic comes, else what waits glued in ``esp`` is lost. Raises
        Refusal: NO_XFRM, NO_PRIVILEGE.
        """
        if self.esp_kernel is not None:
            return
        sock = sockets.udp(self.address, self.natt_port, self._mark, share=True)
        try:
            sockets.decapsulate(sock)
            if self._bypassing:
                sockets.bypass_xfrm(sock)
        except Refusal:
            sock.close()
            raise
        sockets.glue(self.esp, False)
        self.esp_kernel = sock
        if self._loop is not None:  # what the kernel finds to be no ESP stays there
            self._loop.add_reader(sock.fileno(), self._read, sock)

    def close_kernel(self) -> None:
        """Take that socket away; the program that chooses sockets must not choose it any more. Idempotent."""
        if self.esp_kernel is not None:
            self._close(self.esp_kernel)
            self.esp_kernel = None
            sockets.glue(self.esp, True)

    def bypass_xfrm(self) -> None:
        """Have the kernel's IPsec policies, such as of 0.0.0.0/0, leave our own sockets alone. Idempotent.

        Raises Refusal: NO_XFRM, NO_PRIVILEGE.
        """
        for sock in (self.ike, self.natt, self.esp, self.raw, self.esp_kernel):
            if sock is not None:
                sockets.bypass_xfrm(sock)
        self._bypassing = True

    def choose(self, program: Program) -> None:
        """Have another program choose the socket for what comes to the NAT traversal port. Raises OSError."""
        cbpf.choose_socket(self.natt, program)

    def screen(self, program: Program | None) -> None:
        """Have a program choose what native ESP comes to ``raw``; None: all. Raises OSError."""
        if self.raw is not None:
            cbpf.screen(self.raw, program)

    def empty_esp(self) -> None:
        """Drop what waits for the soft datapath."""
        for sock in (self.esp, self.raw):
            with contextlib.suppress(OSError):
                while sock is not None:
                    sock.recv(1)

    def close(self) -> None:
        """Close the sockets and give the ports back. Idempotent."""
        for sock in (self.ike, self.natt, self.esp, self.raw, self.esp_kernel, self._lock):
            if sock is not None:
                self._close(sock)

    def _close(self, sock: socket.socket) -> None:
        if self._loop is not None and sock.fileno() >= 0:
            with contextlib.suppress(RuntimeError):
                self._loop.remove_reader(sock.fileno())
        sock.close()


def open_ingress(
    address: Address,
    *,
    ike_port: int = IKE_PORT,
    natt_port: int = NATT_PORT,
    mark: int = OWN_MARK,
    native: bool = True,
) -> Ingress:
    """Take the ports of a local address, or of all addresses of a family if it is unspecified.

    ``native`` also opens the raw socket for ESP without UDP. Raises Refusal: PORT_IN_USE, BAD_ADDRESS, NO_PRIVILEGE.
    """
    opened: list[socket.socket] = []
    try:
        lock = sockets.lock(address, natt_port)
        opened.append(lock)
        ike = sockets.udp(address, ike_port, mark)
        opened.append(ike)
        # Sockets that share a port would let a second program in unseen: a plain one finds out first.
        sockets.udp(address, natt_port, mark).close()
        natt = sockets.udp(address, natt_port, mark, share=True)
        opened.append(natt)
        cbpf.choose_socket(natt, filters.encapsulated(ALL_SOFT))
        sockets.queue_errors(natt)
        esp = sockets.udp(address, natt_port, mark, share=True)
        opened.append(esp)
        sockets.prepare_for_esp(esp)
        sockets.glue(esp, True)
        raw = sockets.raw(address, mark) if native else None
    except BaseException:
        for sock in opened:
            sock.close()
        raise
    return Ingress(address, ike_port, natt_port, mark, ike=ike, natt=natt, esp=esp, raw=raw, lock=lock)


def read_errors(sock: socket.socket, budget: int = 16) -> list[TooBig]:
    """Read what errors the kernel has queued for a socket: those that say what is too big.

    The kernel has matched them with the socket's own address and port only.
    """
    found = []
    for _ in range(budget):
        try:
            data, ancillary, _, address = sock.recvmsg(576, 512, socket.MSG_ERRQUEUE)
        except OSError:
            break
        for level, kind, value in ancillary:
            if (level, kind) not in ((socket.IPPROTO_IP, IP_RECVERR), (socket.IPPROTO_IPV6, IPV6_RECVERR)):
                continue
            number, origin, *_, info, _ = _EXTENDED_ERROR.unpack_from(value)
            if number == errno.EMSGSIZE and origin in (_FROM_LOCAL, _FROM_ICMP, _FROM_ICMPV6) and address:
                found.append(TooBig(ip_address(address[0].partition("%")[0]), int(info), bytes(data)))
    return found


def source_of(address: Address) -> list[tuple[int, int, bytes]]:
    """Ancillary data that sets the source address of a datagram from a socket bound to any address."""
    if address.version == 4:
        return [(socket.IPPROTO_IP, IP_PKTINFO, struct.pack("=i4s4s", 0, address.packed, bytes(4)))]
    return [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, struct.pack("=16si", address.packed, 0))]


def destination_of(ancillary: list[tuple[int, int, bytes]]) -> Address | None:
    """The local address a datagram came to, from its ancillary data."""
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IP and kind == IP_PKTINFO:
            return ip_address(data[8:12])
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            return ip_address(data[:16])
    return None
