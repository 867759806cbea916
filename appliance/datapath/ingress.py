"""The one owner of UDP 500, UDP 4500 and raw ESP on a local address.

On the NAT traversal port two sockets share the port (SO_REUSEPORT) and a small filter in the kernel tells IKE from ESP
(RFC 3948 §2.2), so that each goes to the process that wants it without passing through the other. Receive offload may
glue messages of both kinds together behind one that decides; what lands on the wrong side is handed over. So are ICMP
errors about ESP: the kernel does not ask the filter about them, and gives each peer's to one socket or the other.
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

_SHORTEST_ESP = 12  # SPI, sequence number and at least one word behind them
_IP_PKTINFO = 8
_IP_RECVTOS = 13
_IP_MTU_DISCOVER = 10
_IP_RECVERR = 11
_IPV6_MTU_DISCOVER = 23
_IPV6_RECVERR = 25
_PMTUDISC_DONT = 0
_PMTUDISC_PROBE = 3
_PMTUDISC_OMIT = 5
_SO_ATTACH_REUSEPORT_CBPF = 51
_UDP_GRO = 104
_BUFFER = 4 << 20
_EXTENDED_ERROR = struct.Struct("=IBBBBII")  # struct sock_extended_err: number, origin, type, code, -, info, data
_FROM_LOCAL, _FROM_ICMP, _FROM_ICMPV6 = 1, 2, 3
_SO_RCVBUFFORCE = 33
_SO_SNDBUFFORCE = 32


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
    if len(payload) < _SHORTEST_ESP:
        return None, None
    return None, bytes(payload)


class Ingress:
    """The sockets of one local address; made by ``open_ingress``."""

    def __init__(
        self,
        address: Address,
        ike_port: int,
        natt_port: int,
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
        self._lock = lock
        self._loop: asyncio.AbstractEventLoop | None = None

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

        self._loop = loop
        for sock in (self.ike, self.natt):
            loop.add_reader(sock.fileno(), read, sock)

    def receive(self, sock: socket.socket, budget: int = 64) -> list[tuple[str, Datagram]]:
        """Read what waits on ``ike`` or ``natt``, at most ``budget`` datagrams: ("ike" or "esp", datagram) each.

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
            if sock is self.natt:
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

    def close(self) -> None:
        """Close the sockets and give the ports back. Idempotent."""
        for sock in (self.ike, self.natt, self.esp, self.raw, self._lock):
            if sock is not None:
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
        lock = _lock(address, natt_port)
        opened.append(lock)
        ike = _udp(address, ike_port, mark)
        opened.append(ike)
        # Sockets that share a port would let a second program in unseen: a plain one finds out first.
        _udp(address, natt_port, mark).close()
        natt = _udp(address, natt_port, mark, share=True)
        opened.append(natt)
        _attach_filter(natt)
        _queue_errors(natt)
        esp = _udp(address, natt_port, mark, share=True)
        opened.append(esp)
        prepare_for_esp(esp)
        esp.setsockopt(socket.IPPROTO_UDP, _UDP_GRO, 1)
        raw = _raw(address, mark) if native else None
    except BaseException:
        for sock in opened:
            sock.close()
        raise
    return Ingress(address, ike_port, natt_port, ike=ike, natt=natt, esp=esp, raw=raw, lock=lock)


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
            if (level, kind) not in ((socket.IPPROTO_IP, _IP_RECVERR), (socket.IPPROTO_IPV6, _IPV6_RECVERR)):
                continue
            number, origin, *_, info, _ = _EXTENDED_ERROR.unpack_from(value)
            if number == errno.EMSGSIZE and origin in (_FROM_LOCAL, _FROM_ICMP, _FROM_ICMPV6) and address:
                found.append(TooBig(ip_address(address[0].partition("%")[0]), int(info), bytes(data)))
    return found


def source_of(address: Address) -> list[tuple[int, int, bytes]]:
    """Ancillary data that sets the source address of a datagram from a socket bound to any address."""
    if address.version == 4:
        return [(socket.IPPROTO_IP, _IP_PKTINFO, struct.pack("=i4s4s", 0, address.packed, bytes(4)))]
    return [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, struct.pack("=16si", address.packed, 0))]


def destination_of(ancillary: list[tuple[int, int, bytes]]) -> Address | None:
    """The local address a datagram came to, from its ancillary data."""
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
            return ip_address(data[8:12])
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            return ip_address(data[:16])
    return None


def prepare_for_esp(sock: socket.socket) -> None:
    """Set what a socket that carries ESP needs: big buffers, ECN of what comes, DF on what goes, ICMP errors queued."""
    for option, fallback in ((_SO_RCVBUFFORCE, socket.SO_RCVBUF), (_SO_SNDBUFFORCE, socket.SO_SNDBUF)):
        try:
            sock.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
        except OSError:  # no CAP_NET_ADMIN over the initial namespace: up to the system's limit then
            sock.setsockopt(socket.SOL_SOCKET, fallback, _BUFFER)
    _queue_errors(sock)
    if sock.family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_IP, _IP_RECVTOS, 1)
        sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_PROBE)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE)


def _queue_errors(sock: socket.socket) -> None:
    """Have the kernel keep ICMP errors for ``read_errors``. No DF is set by this.

    With PMTUDISC_DONT an IPv4 socket would not hear of packets that are too big; an IPv6 one hears with that only.
    """
    if sock.family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
        sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_OMIT)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)


def _family(address: Address) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def _lock(address: Address, port: int) -> socket.socket:
    """A name in the network namespace's list of abstract sockets: gone with its holder, however that ends."""
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        lock.bind(f"\0esplanade/ingress/{address}/{port}")
    except OSError as error:
        lock.close()
        raise Refusal(Reason.PORT_IN_USE, f"another Esplanade has UDP {port} of {address}") from error
    return lock


def _udp(address: Address, port: int, mark: int, *, share: bool = False) -> socket.socket:
    sock = socket.socket(_family(address), socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        if share:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        _common(sock, mark)
        if address.version == 4:
            sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
            sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_DONT)
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_DONT)
        sock.bind((str(address), port))
    except OSError as error:
        sock.close()
        raise _refusal(error, f"UDP {port} of {address}") from error
    return sock


def _raw(address: Address, mark: int) -> socket.socket:
    try:
        sock = socket.socket(_family(address), socket.SOCK_RAW, socket.IPPROTO_ESP)
    except OSError as error:
        raise _refusal(error, f"raw ESP of {address}") from error
    try:
        sock.setblocking(False)
        _common(sock, mark)
        if address.version == 4:
            sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        prepare_for_esp(sock)
        sock.bind((str(address), 0))
    except OSError as error:
        sock.close()
        raise _refusal(error, f"raw ESP of {address}") from error
    return sock


def _common(sock: socket.socket, mark: int) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
    # A raw IPv6 socket never takes IPv4 packets, and the kernel refuses the option.
    if sock.family == socket.AF_INET6 and sock.type != socket.SOCK_RAW:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)


def _refusal(error: OSError, what: str) -> Refusal:
    if error.errno == errno.EADDRINUSE:
        return Refusal(Reason.PORT_IN_USE, what)
    if error.errno == errno.EADDRNOTAVAIL:
        return Refusal(Reason.BAD_ADDRESS, what)
    if error.errno in (errno.EPERM, errno.EACCES):
        return Refusal(Reason.NO_PRIVILEGE, f"{what}: {error.strerror}")
    return Refusal(Reason.BAD_ADDRESS, f"{what}: {error.strerror}")


def _attach_filter(sock: socket.socket) -> None:
    """Choose the socket of the group by the payload: number 0 (the first bound) for IKE, 1 for ESP."""
    program = (
        (0x80, 0, 0, 0),  # A = length of the payload
        (0x35, 0, 2, _SHORTEST_ESP),  # if A < 12, IKE's side drops it
        (0x20, 0, 0, 0),  # A = first four bytes
        (0x15, 0, 1, 0),  # zero: the non-ESP marker
        (0x06, 0, 0, 0),  # IKE
        (0x06, 0, 0, 1),  # ESP
    )
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    # struct sock_fprog points to the instructions: the buffer has to outlive the call, and does.
    import ctypes

    buffer = ctypes.create_string_buffer(code, len(code))
    sock.setsockopt(
        socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, struct.pack("@HP", len(program), ctypes.addressof(buffer))
    )
