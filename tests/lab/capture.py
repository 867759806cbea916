"""What crosses an interface: an AF_PACKET socket, a thread, a pcap file, and questions about it."""

from __future__ import annotations

import ipaddress
import math
import socket
import struct
import threading
import time
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import TracebackType

from tests.lab.namespace import Namespace

ETH_P_ALL = 0x0003
SOL_PACKET, PACKET_STATISTICS = 263, 6
SO_RCVBUFFORCE = 33
SO_TIMESTAMPNS = 35
TIMESPEC = struct.Struct("@ll")
ETHERTYPE_IPV4, ETHERTYPE_ARP, ETHERTYPE_IPV6 = 0x0800, 0x0806, 0x86DD
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Kind(Enum):
    """What a frame carries, as far as someone without keys can tell."""

    ESP = "ESP"
    ESP_IN_UDP = "ESP in UDP"
    IKE = "IKE"
    KEEPALIVE = "NAT keepalive"
    NEIGHBOUR = "ARP or neighbour discovery"
    PLAIN = "plain"


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: when the kernel had it (seconds since the epoch), whether this end sent it, its bytes from the
    Ethernet header."""

    time: float
    outgoing: bool
    data: bytes

    def _ip(self) -> tuple[bytes, bytes, int, int] | None:
        """Source, destination, protocol and offset of the payload."""
        data = self.data
        if len(data) < 34:
            return None
        ethertype = int.from_bytes(data[12:14], "big")
        if ethertype == ETHERTYPE_IPV4:
            return data[26:30], data[30:34], data[23], 14 + (data[14] & 0x0F) * 4
        if ethertype == ETHERTYPE_IPV6 and len(data) >= 54:
            return data[22:38], data[38:54], data[20], 54
        return None

    @property
    def addresses(self) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, ...]:
        """Source and destination of the outermost IP header; empty if there is none."""
        header = self._ip()
        if header is None:
            return ()
        return ipaddress.ip_address(header[0]), ipaddress.ip_address(header[1])

    @property
    def kind(self) -> Kind:
        """What it carries."""
        if int.from_bytes(self.data[12:14], "big") == ETHERTYPE_ARP:
            return Kind.NEIGHBOUR
        header = self._ip()
        if header is None:
            return Kind.PLAIN
        _, _, protocol, offset = header
        if protocol == socket.IPPROTO_ESP:
            return Kind.ESP
        if protocol == socket.IPPROTO_ICMPV6 and self.data[offset : offset + 1] in b"\x85\x86\x87\x88\x89":
            return Kind.NEIGHBOUR
        # Multicast listener reports come behind a hop-by-hop header (RFC 3810 §5).
        if protocol == 0 and self.data[38:39] == b"\xff":
            return Kind.NEIGHBOUR
        if protocol == socket.IPPROTO_UDP and len(self.data) >= offset + 8:
            ports = struct.unpack_from("!HH", self.data, offset)
            payload = self.data[offset + 8 :]
            if 500 in ports:
                return Kind.IKE
            if 4500 in ports:
                if payload[:1] == b"\xff" and len(payload) == 1:
                    return Kind.KEEPALIVE
                return Kind.IKE if payload[:4] == bytes(4) else Kind.ESP_IN_UDP
        return Kind.PLAIN


class Capture:
    """A running capture; a context manager. Ask it after :meth:`stop`.

    ``snap`` bounds the bytes kept of each frame. ``sent`` is for frames that this end sent only: the kernel
    shows a packet that it has decrypted once more, as if it had come like that. The kernel's count of frames it could
    not keep is in ``missed``; a test that proves an absence has to see 0 there, and :meth:`leaks` insists on it.
    """

    def __init__(self, namespace: Namespace, interface: str, *, snap: int = 65535, sent: bool = False) -> None:
        self.name = f"{namespace.name}-{interface}"
        self.path: Path = namespace.directory / f"{self.name}-{time.monotonic_ns()}.pcap"
        self.frames: list[Frame] = []
        self.missed = 0
        self._snap = snap
        self._sent = sent
        self._until = math.inf
        self._socket = namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20) if _may_force() else None
        self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._socket.bind((interface, ETH_P_ALL))
        self._socket.settimeout(0.05)
        self._thread = threading.Thread(target=self._collect, name=f"capture-{self.name}", daemon=True)
        self._thread.start()

    def _collect(self) -> None:
        while True:
            try:
                data, notes, _, address = self._socket.recvmsg(self._snap, socket.CMSG_SPACE(TIMESPEC.size))
            except TimeoutError:
                # Nothing is waiting, so what was on the wire before stop() is in.
                if self._until < math.inf:
                    return
                continue
            seconds, nanoseconds = TIMESPEC.unpack(notes[0][2])
            captured = seconds + nanoseconds * 1e-9
            # The line may never be quiet; what comes after stop() is not asked for.
            if captured > self._until:
                return
            outgoing = address[2] == socket.PACKET_OUTGOING
            if outgoing or not self._sent:
                self.frames.append(Frame(captured, outgoing, data))

    def __enter__(self) -> Capture:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> Capture:
        """Ends the capture and writes the pcap file. Returns itself."""
        if self._until == math.inf:
            self._until = time.time()
            self._thread.join()
            statistics = self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)
            self.missed = struct.unpack("=II", statistics)[1]
            self._socket.close()
            self._write()
        return self

    def _write(self) -> None:
        with self.path.open("wb") as file:
            file.write(struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
            for frame in self.frames:
                seconds = int(frame.time)
                micros = int((frame.time - seconds) * 1e6)
                file.write(struct.pack("=IIII", seconds, micros, len(frame.data), len(frame.data)) + frame.data)

    def count(self, *kinds: Kind) -> int:
        """How many frames are of these kinds."""
        return sum(frame.kind in kinds for frame in self.frames)

    def kinds(self) -> dict[str, int]:
        """Frames by kind, for messages."""
        counts: dict[str, int] = {}
        for frame in self.frames:
            counts[frame.kind.value] = counts.get(frame.kind.value, 0) + 1
        return counts

    def leaks(self, *networks: str, marker: bytes = b"") -> list[Frame]:
        """The frames with an address of a protected network in their outermost header, or with ``marker`` in them.

        Raises RuntimeError if the kernel dropped frames of this capture: then nothing is proved.
        """
        self.stop()
        if self.missed:
            raise RuntimeError(f"{self.name}: {self.missed} frames were not captured, so nothing is proved")
        protected = [ipaddress.ip_network(network) for network in networks]

        def leaked(frame: Frame) -> bool:
            if marker and marker in frame.data:
                return True
            if frame.kind is Kind.NEIGHBOUR:
                return False
            return any(a.version == n.version and a in n for a in frame.addresses for n in protected)

        return [frame for frame in self.frames if leaked(frame)]


def _may_force() -> bool:
    """SO_RCVBUFFORCE asks for CAP_NET_ADMIN in the first user namespace."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 20)
    except OSError:
        return False
    return True
