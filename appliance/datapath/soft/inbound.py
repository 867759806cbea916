"""ESP packets from the sockets: replay, decryption, selectors, delivery (RFC 4303 §3.4, RFC 4301 §5.2)."""

from __future__ import annotations

import socket
from collections import OrderedDict
from ipaddress import ip_address
from itertools import groupby, pairwise
from struct import Struct, unpack

from cryptography.exceptions import InvalidTag

from appliance.datapath.soft.cipher import AeadCipher
from appliance.datapath.soft.coalesce import Coalescer
from appliance.datapath.soft.core import Core
from appliance.datapath.soft.mmsg import Receiving, unpack_control
from appliance.datapath.soft.packet import (
    TCP,
    UDP,
    Flow,
    flow_key,
    parse,
    parse_quoted,
    quoted,
    refresh_ipv4_checksum,
    refresh_upper_checksum,
)
from appliance.datapath.soft.sad import InboundState, peer_of
from appliance.datapath.soft.segment import Bytes
from appliance.datapath.soft.unseal import MOST, ROOM, Opener
from appliance.esp import ecn
from appliance.esp.drop import Drop
from appliance.esp.ip import with_traffic_class
from appliance.esp.mss import clamp_mss, mss_for
from appliance.esp.trailer import strip_trailer
from appliance.reasons import Reason
from appliance.sa.datapath import InboundUsed, MappingChanged, UnknownSpi

_U16 = Struct("!H")
_HEADER = Struct("!II")
_LOW = 0xFFFF_FFFF
_BATCH = 4
"""Packets that are worth looking at together."""
_SHORTEST = 36  # SPI, sequence number, IV, an empty packet's trailer and the ICV of an AEAD
_SLOTS = 64
_STRIDE = 65536 + 192
"""Where packets from raw sockets land: any IP packet has room, and not all begin in the same lines of the cache."""
_UDP_GRO_CMSG = (17, 104)
_INT = Struct("=i")
_PADDING = tuple(bytes(range(1, n + 1)) for n in range(256))
_STREAMS = 4
"""Flows that one batch is looked through for: traffic of many flows goes packet by packet, which costs less then."""


class Inbound:
    """The way in."""

    def __init__(self, core: Core, coalescer: Coalescer) -> None:
        self._core = core
        self._coalescer = coalescer
        self._buffer = bytearray(_STRIDE * _SLOTS)
        self._view = memoryview(self._buffer)
        self._datagram = self._view[:65536]
        self._opener = Opener(self._buffer)
        self._raw = Receiving(self._buffer, _STRIDE, _SLOTS)
        self._fragments: OrderedDict[tuple[int, tuple[int, int, int, int]], None] = OrderedDict()
        self._unknown: dict[int, float] = {}
        self._unknown_until = 0.0
        self._local: bytes | bytearray = b""

    def read_udp(self, sock: socket.socket, address: bytes, port: int, budget: int) -> bool:
        """Take up to ``budget`` super-datagrams from an ESP-in-UDP socket; True if there may be more."""
        core = self._core
        for _ in range(budget):
            try:
                length, ancillary, _, peer = sock.recvmsg_into([self._datagram], 256)
            except BlockingIOError:
                return False
            except OSError:
                continue
            size, tos, local = length, 0, address
            for level, kind, data in ancillary:
                if (level, kind) == _UDP_GRO_CMSG:
                    size = _INT.unpack_from(data)[0]
                elif level == socket.IPPROTO_IP:
                    if kind == socket.IP_TOS:
                        tos = data[0]
                    elif kind == 8:  # IP_PKTINFO
                        local = data[8:12]
                elif level == socket.IPPROTO_IPV6:
                    if kind == socket.IPV6_TCLASS:
                        tos = _INT.unpack_from(data)[0]
                    elif kind == socket.IPV6_PKTINFO:
                        local = data[:16]
            core.counters["rx_batches"] += 1
            self.datagrams(length, max(size, 1), peer_of(peer), tos, local, port)
        return True

    def read_raw(self, sock: socket.socket, budget: int) -> bool:
        """Take up to ``budget`` batches of native ESP packets from a raw socket; True if there may be more."""
        ipv6 = sock.family == socket.AF_INET6
        for _ in range(budget):
            try:
                lengths = self._raw.receive(sock, names=ipv6)
            except BlockingIOError:
                return False
            except OSError:
                continue
            self._core.counters["rx_batches"] += 1
            first = 0
            for length, same in groupby(lengths):
                count = len(list(same))
                self._native(first, count, length, ipv6=ipv6)
                first += count
            if len(lengths) < _SLOTS:
                return False
        return True

    def _native(self, first: int, count: int, length: int, *, ipv6: bool) -> None:
        """Packets of one length that came to a raw socket: those of one sender go on together."""
        done = 0
        while done < count:
            at = first + done
            seen = self._outer(at, ipv6=ipv6)
            run = 1
            while done + run < count and self._outer(at + run, ipv6=ipv6) == seen:
                run += 1
            source, self._local, tos, start = seen
            place = at * _STRIDE + start
            places = range(place, place + run * _STRIDE, _STRIDE)
            self._packets(places, length - start, (str(ip_address(source)), 0), tos)
            done += run

    def _outer(self, slot: int, *, ipv6: bool) -> tuple[bytes, bytes, int, int]:
        """What the outer header says: source, destination, traffic class, and where ESP begins."""
        if not ipv6:
            at = slot * _STRIDE
            head = self._view[at : at + 20]
            return bytes(head[12:16]), bytes(head[16:20]), head[1], (head[0] & 15) * 4
        tos, local = 0, b""
        for level, kind, data in unpack_control(self._raw.control(slot)):
            if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_TCLASS:
                tos = _INT.unpack_from(data)[0]
            elif level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
                local = data[:16]
        return self._raw.name(slot), local, tos, 0

    def inject(self, data: bytes, peer: tuple[str, int], local: bytes) -> None:
        """A packet that came another way to a local address."""
        self._local = local
        self._buffer[: len(data)] = data
        self.esp(0, len(data), peer, 0)

    def datagrams(self, length: int, size: int, peer: tuple[str, int], tos: int, local: bytes, port: int) -> None:
        """What stands in the buffer: datagrams of ``size`` bytes, the last maybe shorter, that the kernel glued."""
        self._local = local
        full = length // size
        done = 0
        if full >= _BATCH:
            done = self._batches(range(0, full * size, size), size, peer, tos)
        for start in range(done * size, length, size):
            end = min(start + size, length)
            if self._buffer[start : start + 4] == b"\0\0\0\0":
                self._ike(bytes(self._view[start + 4 : end]), peer, local, port)
            elif end - start > 1 or self._buffer[start] != 0xFF:  # a NAT keepalive says nothing (RFC 3948 §2.3)
                self.esp(start, end, peer, tos)

    def _packets(self, places: range, size: int, peer: tuple[str, int], tos: int) -> None:
        """ESP packets of ``size`` bytes at ``places`` of the buffer."""
        done = self._batches(places, size, peer, tos) if len(places) >= _BATCH else 0
        for start in places[done:]:
            self.esp(start, start + size, peer, tos)

    def _batches(self, places: range, size: int, peer: tuple[str, int], tos: int) -> int:
        """Handle packets of one SA and size many at a time; how many, which is none if they are of several SAs."""
        if size % 4 or not _SHORTEST <= size <= ROOM // _BATCH:
            return 0
        spis = self._opener.rows(places, 4).tobytes()
        spi = spis[:4]
        if spis != spi * len(places):
            return 0
        state = self._core.sad.inbound.get(int.from_bytes(spi))
        if state is None or not isinstance(state.cipher, AeadCipher):
            return 0
        most = min(MOST, ROOM // size)
        for at in range(0, len(places), most):
            self._batch(state, places[at : at + most], size, peer, tos)
        return len(places)

    def _ike(self, message: bytes, peer: tuple[str, int], local: bytes, port: int) -> None:
        if message:
            self._core.emit_ike([message, ip_address(peer[0]).packed, peer[1], local, port])

    # One packet

    def esp(self, start: int, end: int, peer: tuple[str, int], tos: int) -> None:
        """One ESP packet in the buffer."""
        core = self._core
        core.counters["rx_packets"] += 1
        core.counters["rx_bytes"] += end - start
        if end - start < 8:
            core.drop(Reason.MALFORMED_ESP)
            return
        spi, low = _HEADER.unpack_from(self._buffer, start)
        state = core.sad.inbound.get(spi)
        if state is None:
            self._unknown_spi(spi, peer)
            return
        if state.spent.dead is not None:
            core.drop(state.spent.dead)
            return
        sequence = state.window.infer(low)
        if sequence <= 0 or not state.window.fresh(sequence):
            state.replays += 1
            core.drop(Reason.REPLAYED)
            return
        try:
            plain = self._open(state, self._view[start:end], sequence)
        except Drop as drop:
            if drop.reason is Reason.INTEGRITY:
                state.integrity_failures += 1
            core.drop(drop.reason)
            return
        newest = sequence > state.window.highest
        state.window.update(sequence)
        self._authenticated(state, peer, newest)
        core.spend(state, 1, len(plain))
        self._deliver(state, plain, peer, tos)

    def _open(self, state: InboundState, packet: memoryview, sequence: int) -> bytes:
        cipher = state.cipher
        esn = state.sa.suite.esn
        if not isinstance(cipher, AeadCipher):
            return cipher.transform.open(packet, (sequence >> 32).to_bytes(4) if esn else b"")
        length = len(packet)
        if length < 36 or length % 4:
            raise Drop(Reason.MALFORMED_ESP)
        plain = bytearray(length - 32)
        head = bytes(packet[:8])
        aad = head[:4] + sequence.to_bytes(8) if esn else head
        try:
            cipher.decrypt_into(cipher.salt + bytes(packet[8:16]), packet[16:], aad, memoryview(plain))
        except InvalidTag:
            raise Drop(Reason.INTEGRITY) from None
        return bytes(plain)

    def _authenticated(self, state: InboundState, peer: tuple[str, int], newest: bool) -> None:
        """What an authenticated packet tells: the peer uses the SA, and where it is now (RFC 7296 §2.23)."""
        if not state.used:
            state.used = True
            self._core.emit(InboundUsed(state.sa.key))
        if newest and peer != state.peer and state.sa.encapsulation is not None and peer[1]:
            # An SA has addresses of one family: where its peer is cannot be where the other one is.
            if state.reported != peer and _family(peer) == state.sa.destination.version:
                state.reported = peer
                self._core.emit(MappingChanged(state.sa.key, ip_address(peer[0]), peer[1]))
        elif state.reported is not None and newest:
            state.reported = None

    def _unknown_spi(self, spi: int, peer: tuple[str, int]) -> None:
        core = self._core
        core.drop(Reason.UNKNOWN_SPI)
        if len(self._unknown) >= 256:
            if core.now < self._unknown_until:  # looked through already: a flood costs no more than the look
                return
            self._unknown = {known: at for known, at in self._unknown.items() if core.now - at < 10}
            self._unknown_until = core.now + 1
            if len(self._unknown) >= 256:
                return
        if core.now - self._unknown.get(spi, -10.0) >= 10:
            self._unknown[spi] = core.now
            source = ip_address(peer[0])
            destination = ip_address(bytes(self._local)) if self._local else source
            core.emit(UnknownSpi(spi, source, destination))

    def _deliver(self, state: InboundState, plaintext: bytes, peer: tuple[str, int], tos: int) -> None:
        """A decrypted packet with its trailer: check what it is, and give it to the kernel."""
        core = self._core
        try:
            next_header, payload = strip_trailer(plaintext)
            if state.tunnel:
                packet = self._inner(next_header, payload, tos)
            elif state.sa.encapsulation is not None and _family(peer) != state.sa.destination.version:
                raise Drop(Reason.SELECTOR_MISMATCH)
            else:
                packet = _rebuilt(state, next_header, payload, peer, tos)
        except Drop as drop:
            core.drop(drop.reason)
            return
        key = flow_key(packet) if state.tunnel else b""
        if key and state.allowed.get(key):
            header, protocol, whole = (20, packet[9], True) if packet[0] >> 4 == 4 else (40, packet[6], True)
        else:
            flow = parse(packet)
            if flow is None:
                core.drop(Reason.MALFORMED_IP)
                return
            if not state.tunnel and state.sa.encapsulation is not None:
                # RFC 3948 §3.1.2: a NAT changed addresses that the checksum covers; the ICV vouches for the rest.
                fixed = bytearray(packet)
                refresh_upper_checksum(fixed, flow)
                packet = bytes(fixed)
            if not self._allowed(state, packet, flow):
                core.drop(Reason.SELECTOR_MISMATCH)
                return
            header, protocol, whole = flow.header, flow.protocol, flow.fragment is None
        if protocol == TCP and len(packet) >= header + 20:
            if core.options.clamp_mss and packet[header + 13] & 2:
                try:
                    packet = bytes(clamp_mss(packet, mss_for(packet[0] >> 4, self._way_back(state))))
                except Drop as drop:
                    core.drop(drop.reason)
                    return
            if whole and header in (20, 40) and self._coalescer.packet(packet, header, TCP):
                return
        self._coalescer.single(packet)

    def _way_back(self, state: InboundState) -> int:
        """The longest packet that answers to what came by an SA may be."""
        active = self._core.sad.active.get(state.sa.reqid, ())
        return min([self._core.options.tun_mtu, *(max(out.inner_mtu, 576) for out in active)])

    def _inner(self, next_header: int, payload: bytes, tos: int) -> bytes:
        """The inner packet of tunnel mode without TFC padding, its ECN as RFC 6040 §4.2 says."""
        if next_header not in (4, 41):
            raise Drop(Reason.MALFORMED_ESP)
        if len(payload) < (20 if next_header == 4 else 40) or payload[0] >> 4 != (4 if next_header == 4 else 6):
            raise Drop(Reason.MALFORMED_IP)
        if next_header == 4:
            length, inner = _U16.unpack_from(payload, 2)[0], payload[1]
        else:
            length, inner = 40 + _U16.unpack_from(payload, 4)[0], (_U16.unpack_from(payload)[0] >> 4) & 0xFF
        if not 20 <= length <= len(payload):
            raise Drop(Reason.MALFORMED_IP)
        packet = payload[:length]
        if tos & 3:
            leaving, alarm = ecn.leaving(inner, tos)
            if alarm:
                self._core.counters["ecn_alarms"] += 1
            if leaving != inner & 3:
                packet = with_traffic_class(packet, inner & 0xFC | leaving)
        return packet

    def _allowed(self, state: InboundState, packet: bytes, flow: Flow) -> bool:
        if flow.fragment is not None:
            return self._fragment_allowed(state, flow)
        if state.covers(flow):
            return True
        # RFC 4301 §6.2: an ICMP error passes if the packet that it is about went out by the same pair.
        inner = quoted(packet, flow)
        about = None if inner is None else parse_quoted(inner)
        if about is None or about.source != flow.destination:
            return False
        turned = Flow(
            about.version,
            about.destination,
            about.source,
            about.protocol,
            about.destination_port,
            about.source_port,
            about.header,
        )
        return state.covers(turned)

    def _fragment_allowed(self, state: InboundState, flow: Flow) -> bool:
        """Later fragments have no ports to look at: they share the first one's fate (RFC 4301 §7).

        They have to come by the same SA: else any peer could continue another one's packets.
        """
        assert flow.fragment is not None
        known = state.sa.spi, flow.fragment
        if state.covers(flow):
            if flow.offset == 0:
                self._fragments[known] = None
                if len(self._fragments) > 1024:
                    self._fragments.popitem(last=False)
            return True
        return flow.offset > 0 and known in self._fragments

    # Many packets

    def _batch(self, state: InboundState, places: range, size: int, peer: tuple[str, int], tos: int) -> None:
        """Packets of one SA and size. Whatever is not as it always is goes packet by packet."""
        core = self._core
        count = len(places)
        window = state.window
        lows = unpack(f"!{count}I", self._opener.rows(places, 8)[:, 4:].tobytes())
        high = window.infer(lows[0])
        if (
            state.spent.dead is not None
            or state.spent.crosses(count, count * size)
            or high <= window.highest
            or any(later <= earlier for earlier, later in pairwise(lows))
        ):
            self._singly(places, size, peer, tos)
            return
        high &= ~_LOW
        try:
            plain = self._opener.open_rows(state, places, size, high)
        except InvalidTag:
            self._singly(places, size, peer, tos)
            return
        core.counters["rx_packets"] += count
        core.counters["rx_bytes"] += count * size
        window.update_rising([high | low for low in lows])
        self._authenticated(state, peer, True)
        core.spend(state, count, plain.size)
        self._deliver_rows(state, plain, peer, tos)

    def _singly(self, places: range, size: int, peer: tuple[str, int], tos: int) -> None:
        for at in places:
            self.esp(at, at + size, peer, tos)

    def _deliver_rows(self, state: InboundState, rows: Bytes, peer: tuple[str, int], tos: int) -> None:
        """Decrypted packets of one size: streams that the coalescer takes, the rest packet by packet."""
        at, count = 0, rows.shape[0]
        looks = _STREAMS if state.tunnel else 0
        while at < count:
            taken = self._stream(state, rows[at:], tos) if looks else 0
            looks -= 1 if looks else 0
            if not taken:
                self._deliver(state, rows[at].tobytes(), peer, tos)
            at += taken or 1

    def _stream(self, state: InboundState, rows: Bytes, tos: int) -> int:
        """Deliver the first row and those after it of its flow with its padding; 0 if it is none of a stream."""
        first = rows[0].tobytes()
        pad, next_header = first[-2], first[-1]
        length = len(first) - 2 - pad
        if next_header == 4:
            if length < 28 or first[0] != 0x45 or _U16.unpack_from(first, 2)[0] != length:
                return 0
            upper, protocol, traffic_class = 20, first[9], first[1]
        elif next_header == 41:
            if length < 48 or first[0] >> 4 != 6 or _U16.unpack_from(first, 4)[0] != length - 40:
                return 0
            upper, protocol = 40, first[6]
            traffic_class = (first[0] << 4 | first[1] >> 4) & 0xFF
        else:
            return 0
        if protocol == UDP and not self._core.tun.uso:
            return 0
        key = flow_key(first)
        if not key or first[length : length + pad] != _PADDING[pad] or (tos & 3 and tos & 3 != traffic_class & 3):
            return 0
        allowed = state.allowed.get(key)
        if allowed is None:
            flow = parse(first[:length])
            allowed = flow is not None and state.covers(flow)
            if len(state.allowed) >= 256:
                state.allowed.clear()
            state.allowed[key] = allowed
        if not allowed:
            return 0
        return self._coalescer.rows(rows, first, length, upper, protocol)


def _family(peer: tuple[str, int]) -> int:
    return 6 if ":" in peer[0] else 4


def _rebuilt(state: InboundState, next_header: int, payload: bytes, peer: tuple[str, int], tos: int) -> bytes:
    """The IP packet of transport mode: the kernel kept the header that it came with."""
    sa = state.sa
    source = ip_address(peer[0]) if sa.encapsulation is not None else sa.source
    local = sa.destination
    if local.version == 4:
        length = 20 + len(payload)
        packet = bytearray(Struct("!BBHHHBBH").pack(0x45, tos, length, 0, 0x4000, 64, next_header, 0))
        packet += source.packed + local.packed
        refresh_ipv4_checksum(packet)
    else:
        packet = bytearray(Struct("!IHBB").pack(6 << 28 | tos << 20, len(payload), next_header, 64))
        packet += source.packed + local.packed
    return bytes(packet) + payload
