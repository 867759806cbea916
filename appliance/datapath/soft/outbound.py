"""Packets from the TUN device: policy, SA, segmentation, encryption, sending (RFC 4301 §5.1)."""

from __future__ import annotations

import os
from collections import OrderedDict, deque
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from struct import Struct

from appliance.datapath.soft.bypass import Bypass
from appliance.datapath.soft.core import Core
from appliance.datapath.soft.packet import (
    ESP,
    EXTENSIONS,
    TCP,
    UDP,
    Flow,
    finish_checksum,
    flow_key,
    fragment_ipv4,
    parse,
    parse_quoted,
    quoted,
)
from appliance.datapath.soft.pmtu import PathMtu
from appliance.datapath.soft.reassembly import Reassembler
from appliance.datapath.soft.sad import OutboundState
from appliance.datapath.soft.seal import SPARE, Sealer, seal_one
from appliance.datapath.soft.segment import Super, build_rows, header_length
from appliance.datapath.soft.sender import Sender
from appliance.datapath.soft.spd import Ambiguous
from appliance.datapath.soft.tun import GSO_ECN, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CSUM, VNET, VNET_HEADER
from appliance.esp.drop import Drop
from appliance.esp.icmp import packet_too_big
from appliance.esp.mss import clamp_mss, mss_for
from appliance.esp.transport import split_to_protect
from appliance.reasons import Reason
from appliance.sa.association import DfPolicy, DscpPolicy, PolicyAction, SecurityPolicy
from appliance.sa.datapath import Acquire

_U16 = Struct("!H")
_FLOWS = 16384
_FRAGMENTS = 1024
_HELD = 8 << 20
"""Bytes that wait for SAs, all together."""
_LONGEST = 65535 - 8 - 40  # what UDP and IP headers leave to ESP
_SMALLEST_IPV6_MTU = 1280
_GSO_TYPES = {GSO_TCPV4: (4, TCP), GSO_TCPV6: (6, TCP)}


@dataclass(slots=True, eq=False)
class Verdict:
    """What happens to a flow's packets: an SA, bypass, or a reason to drop them. ``policy`` is set for acquires."""

    state: OutboundState | None = None
    reason: Reason | None = None
    bypass: bool = False
    policy: SecurityPolicy | None = None
    flow: Flow | None = None


@dataclass(slots=True)
class Waiting:
    """Packets that wait for an SA of a policy, each with its virtio header."""

    since: float
    asked: float
    packets: deque[bytes] = field(default_factory=deque)


class Outbound:
    """The way out. ``own_ports`` are UDP ports of our own IKE; ``own_addresses`` the addresses they are on."""

    def __init__(self, core: Core, sender: Sender, path_mtu: PathMtu, bypass: Bypass) -> None:
        self._core = core
        self._sender = sender
        self._path_mtu = path_mtu
        self._bypass = bypass
        self._sealer = Sealer()
        self._reassembler = Reassembler()
        self._buffer = bytearray(VNET + 65536 + SPARE)
        self._view = memoryview(self._buffer)
        self._scratch = self._sealer.scratch
        self._flows: dict[bytes, Verdict] = {}
        self._fragments: OrderedDict[tuple[int, int, int, int], tuple[int, Flow]] = OrderedDict()
        self._waiting: dict[str, Waiting] = {}
        self._held = 0
        self._icmp_tokens = 100.0
        self._icmp_time = 0.0
        self.own_addresses: set[int] = set()
        self.own_ports: set[int] = set()

    def forget_flows(self) -> None:
        """Policies or SAs changed: decide anew."""
        self._flows.clear()

    def read(self, budget: int) -> bool:
        """Take up to ``budget`` packets from the TUN device; True if there may be more."""
        core, fd, view = self._core, self._core.tun.fd, self._view
        buffers = [view[: VNET + 65536]]
        for _ in range(budget):
            try:
                length = os.readv(fd, buffers)
            except BlockingIOError:
                return False
            except OSError:
                core.drop(Reason.NO_TUN)
                return False
            if length > VNET:
                core.counters["tun_rx_packets"] += 1
                self.packet(VNET, length)
        return True

    def packet(self, start: int, end: int) -> None:
        """Handle the packet that stands in the buffer, its virtio header before it."""
        view = self._view
        data = view[start:end]
        verdict = self._flows.get(flow_key(data))
        if verdict is None:
            verdict = self._classify(data)
            if verdict is None:
                self._core.drop(Reason.MALFORMED_IP)
                return
        state = verdict.state
        if state is None:
            self._without_sa(verdict, start, end)
            return
        if state.spent.dead is not None:
            self._core.drop(state.spent.dead)
            return
        flags, gso_type, _, gso_size, checksum_start, checksum_offset = VNET_HEADER.unpack_from(view, start - VNET)
        if gso_type:
            if not self._segments(state, data, gso_type & ~GSO_ECN, gso_size, checksum_start):
                self._core.drop(Reason.MALFORMED_IP)
            return
        if flags & NEEDS_CSUM and not finish_checksum(data, checksum_start, checksum_offset):
            self._core.drop(Reason.MALFORMED_IP)
            return
        self._one(state, view[start : end + SPARE], end - start)

    def release(self, reqid: int) -> None:
        """An SA became active: send what waited for it."""
        for name in list(self._waiting):
            policy = self._core.spd.get(name)
            if policy is None or policy.reqid == reqid:
                waiting = self._waiting.pop(name)
                self._held -= sum(map(len, waiting.packets))
                if self._core.now - waiting.since <= self._core.options.acquire_hold:
                    self._again(waiting.packets)
                else:
                    self._core.drop(Reason.NO_SA, len(waiting.packets))
        self._sender.flush()

    def expire(self) -> None:
        """Drop what waited too long for an SA, or for the rest of its fragments."""
        late = self._reassembler.expire(self._core.now)
        if late:
            self._core.drop(Reason.ESP_FRAGMENT, late)
        hold = self._core.options.acquire_hold
        for name, waiting in list(self._waiting.items()):
            if waiting.packets and self._core.now - waiting.since > hold:
                self._core.drop(Reason.NO_SA, len(waiting.packets))
                self._held -= sum(map(len, waiting.packets))
                waiting.packets.clear()
            if self._core.now - waiting.asked > max(hold, self._core.options.acquire_interval):
                self._held -= sum(map(len, self._waiting.pop(name).packets))

    def _again(self, packets: deque[bytes]) -> None:
        for packet in packets:
            self._view[: len(packet)] = packet
            self.packet(VNET, len(packet))

    # Policy

    def _classify(self, data: memoryview) -> Verdict | None:
        flow = parse(data)
        if flow is None:
            return None
        if flow.fragment is not None:
            whole = self._with_ports(flow)
            if whole is None:
                return Verdict(reason=Reason.FRAGMENT)
            flow = whole
        verdict = self._decide(flow, data)
        # Fragments are decided one by one: their key has no ports. ICMP too, for the sake of what it quotes.
        key = flow_key(data)
        if key and verdict.policy is None:
            if len(self._flows) >= _FLOWS:
                self._flows.clear()
            self._flows[key] = verdict
        return verdict

    def _decide(self, flow: Flow, data: memoryview) -> Verdict:
        if self._is_own(flow):
            return Verdict(reason=Reason.OWN_TRAFFIC)
        if _of_link_scope(flow):
            return Verdict(reason=Reason.LINK_SCOPE)
        policy = self._core.spd.match(flow)
        if policy is None:
            # RFC 4301 §6: an ICMP error goes the way of the packet that it is about, seen from the other side.
            inner = quoted(data, flow)
            about = None if inner is None else parse_quoted(inner)
            if about is not None:
                policy = self._core.spd.match(_turned(about))
                flow = _turned(about) if policy is not None else flow
        if policy is None:
            return Verdict(reason=Reason.NO_POLICY)
        if policy is Ambiguous.FRAGMENT or not isinstance(policy, SecurityPolicy):
            return Verdict(reason=Reason.FRAGMENT)
        if policy.action is PolicyAction.DISCARD:
            return Verdict(reason=Reason.POLICY_DISCARD)
        if policy.action is PolicyAction.BYPASS:
            return Verdict(bypass=True)
        state = self._core.sad.choose(policy.reqid, flow)
        if state is not None:
            return Verdict(state=state)
        return Verdict(reason=Reason.NO_SA, policy=policy, flow=flow)

    def _is_own(self, flow: Flow) -> bool:
        """Whether a packet is our own IKE or ESP, which never enters a tunnel."""
        if flow.source not in self.own_addresses:
            return False
        return flow.protocol == ESP or (flow.protocol == UDP and flow.source_port in self.own_ports)

    def _with_ports(self, flow: Flow) -> Flow | None:
        """A fragment with the protocol and ports of its first one, if that came (RFC 4301 §7).

        None if it did not, and not even the protocol can be seen: extension headers are behind the fragment header.
        """
        assert flow.fragment is not None
        table, now = self._fragments, self._core.now
        if flow.offset == 0:
            table[flow.fragment] = (int(now), flow)
            table.move_to_end(flow.fragment)
            if len(table) > _FRAGMENTS:
                table.popitem(last=False)
            return flow
        known = table.get(flow.fragment)
        if known is None or now - known[0] > 30:
            return None if flow.version == 6 and flow.protocol in EXTENSIONS else flow
        first = known[1]
        return replace(
            flow, protocol=first.protocol, source_port=first.source_port, destination_port=first.destination_port
        )

    def _without_sa(self, verdict: Verdict, start: int, end: int) -> None:
        core = self._core
        if verdict.bypass:
            self._bypass.send(self._view[start - VNET : start], self._view[start:end])
            return
        policy, flow = verdict.policy, verdict.flow
        if policy is None or flow is None or not policy.acquire:
            core.drop(verdict.reason or Reason.NO_POLICY)
            return
        waiting = self._waiting.get(policy.name)
        if waiting is None:
            if len(self._waiting) >= 4096:
                core.drop(Reason.NO_MEMORY)
                return
            waiting = self._waiting[policy.name] = Waiting(core.now, 0.0)
        if core.now - waiting.asked >= core.options.acquire_interval:
            waiting.asked = core.now
            core.emit(
                Acquire(
                    policy.reqid,
                    policy.name,
                    ip_address(flow.source.to_bytes(4 if flow.version == 4 else 16)),
                    ip_address(flow.destination.to_bytes(4 if flow.version == 4 else 16)),
                    flow.protocol,
                    flow.source_port,
                    flow.destination_port,
                )
            )
        if len(waiting.packets) >= core.options.acquire_queue:
            self._held -= len(waiting.packets.popleft())
            core.drop(Reason.NO_SA)
        if self._held + end - start + VNET > _HELD:
            core.drop(Reason.NO_MEMORY)
            return
        if not waiting.packets:
            waiting.since = core.now
        waiting.packets.append(bytes(self._view[start - VNET : end]))
        self._held += end - start + VNET

    # Packets

    def _one(self, state: OutboundState, data: memoryview, length: int) -> None:
        """A whole packet with SPARE bytes behind it."""
        if data[0] >> 4 == 4:
            length = min(length, _U16.unpack_from(data, 2)[0])
            tos, df = data[1], bool(data[6] & 0x40)
            protocol, upper = data[9], (data[0] & 15) * 4
        else:
            length = min(length, 40 + _U16.unpack_from(data, 4)[0])
            tos, df = (_U16.unpack_from(data)[0] >> 4) & 0xFF, True
            protocol, upper = data[6], 40
        if protocol == TCP and length >= upper + 20 and data[upper + 13] & 2 and self._core.options.clamp_mss:
            data = self._clamped(state, data, length)
        if length > state.inner_mtu and not self._fits(state, data, length, df):
            return
        if not state.tunnel:
            self._transport(state, data, length, tos, df)
            return
        self._seal(state, data, length, 4 if data[0] >> 4 == 4 else 41, tos, df, length)

    def _seal(
        self, state: OutboundState, data: memoryview, length: int, next_header: int, tos: int, df: bool, charged: int
    ) -> None:
        if state.sequence >= state.last:
            self._core.drop(Reason.SEQUENCE_EXHAUSTED)
            return
        if state.spent.dead is not None:
            self._core.drop(state.spent.dead)
            return
        tfc = min(state.sa.tfc_padding, state.inner_mtu) if state.tunnel else 0
        size = state.sealed_length(max(length, tfc))
        tos, df = _outer(state, tos, df)
        if size + state.overhead > state.path_mtu:
            # Only where an inner packet must not be cut and cannot be smaller: IPv6 at its minimum MTU.
            df = df and length <= state.inner_mtu
        burst = self._sender.burst(state, size, tos, df)
        size = seal_one(state, data, length, next_header, burst, tfc_length=tfc)
        burst.added(size, tos, df)
        self._core.spend(state, 1, charged)

    def _transport(self, state: OutboundState, data: memoryview, length: int, tos: int, df: bool) -> None:
        try:
            whole = self._whole(data[:length])
            if whole is None:
                return
            parts = split_to_protect(whole)
        except Drop as drop:
            self._core.drop(drop.reason)
            return
        if len(parts.head) > (20 if data[0] >> 4 == 4 else 40):
            # The kernel makes the outer header; it has no options of ours to put in.
            self._core.drop(Reason.MALFORMED_IP)
            return
        if state.sealed_length(len(parts.payload)) > _LONGEST:
            self._core.drop(Reason.TOO_BIG)
            return
        payload = bytearray(parts.payload)
        payload += bytes(SPARE)
        if len(whole) > state.inner_mtu:
            # It was in fragments, so it may be in fragments again.
            df = False
        self._seal(state, memoryview(payload), len(parts.payload), parts.protocol, tos, df, len(whole))

    def _whole(self, packet: memoryview) -> memoryview | bytes | None:
        """A packet that is no fragment, or the one that its last fragment completes."""
        flow = parse(packet)
        if flow is None or flow.fragment is None:
            return packet
        return self._reassembler.add(bytes(packet), flow, self._core.now)

    def _clamped(self, state: OutboundState, data: memoryview, length: int) -> memoryview:
        try:
            mss = mss_for(data[0] >> 4, max(state.inner_mtu, 576))
            clamped = clamp_mss(bytes(data[:length]), mss)
        except Drop:
            return data
        data[:length] = clamped
        return data

    def _fits(self, state: OutboundState, data: memoryview, length: int, df: bool) -> bool:
        """A packet longer than the tunnel's MTU: cut it, or tell its sender. True if it may go on as it is."""
        mtu = state.inner_mtu
        if data[0] >> 4 == 6:
            mtu = max(mtu, _SMALLEST_IPV6_MTU)
            if length <= mtu:
                return True  # the outer packet is fragmented then
        elif not df and state.tunnel:
            for piece in fragment_ipv4(data[:length], mtu):
                size = len(piece)
                piece += bytes(SPARE)
                self._seal(state, memoryview(piece), size, 4, piece[1], False, size)
            return False
        self._core.drop(Reason.TOO_BIG)
        self._tell(bytes(data[:length]), mtu)
        return False

    def _tell(self, packet: bytes, mtu: int) -> None:
        """Send "too big" back, at most 100 a second (RFC 1812 §4.3.2.8, RFC 4443 §2.4 (f))."""
        core = self._core
        self._icmp_tokens = min(100.0, self._icmp_tokens + (core.now - self._icmp_time) * 100)
        self._icmp_time = core.now
        if self._icmp_tokens < 1:
            return
        # It claims to come from the packet's destination: our own address arriving on the TUN device would be dropped.
        destination = ip_address(packet[16:20] if packet[0] >> 4 == 4 else packet[24:40])
        message = packet_too_big(packet, mtu, destination)
        if message is not None:
            self._icmp_tokens -= 1
            core.counters["icmp_sent"] += 1
            core.write_tun(message)

    # Super-packets

    def _segments(self, state: OutboundState, data: memoryview, gso_type: int, gso_size: int, upper: int) -> bool:
        """Cut a super-packet and encrypt its packets, as many at a time as a burst takes. False if it is damaged."""
        version = data[0] >> 4
        if gso_type == GSO_UDP_L4:
            protocol = UDP
        else:
            expected, protocol = _GSO_TYPES.get(gso_type, (0, 0))
            if expected != version:
                return False
        least = 20 if version == 4 else 40
        if gso_size < 1 or upper < least or upper % 4:
            return False
        header = header_length(data, upper, protocol)
        if header is None:
            return False
        if header + gso_size > state.inner_mtu:
            if protocol == UDP:
                # Datagrams are not made smaller: each is a packet too big of its own.
                return self._too_big_datagrams(state, data, version, upper, header, gso_size)
            gso_size = state.inner_mtu - header
            if gso_size < 8:
                return False
        packet = Super(data, version, protocol, upper, header, gso_size)
        one_by_one = not state.tunnel or state.sa.tfc_padding > header
        if one_by_one or state.spent.crosses(packet.count, len(data) + packet.count * header):
            self._rows_singly(state, packet)
            return True
        tos = data[1] if version == 4 else (_U16.unpack_from(data)[0] >> 4) & 0xFF
        df = bool(data[6] & 0x40) if version == 4 else True
        tos, df = _outer(state, tos, df)
        next_header = 4 if version == 4 else 41
        count = packet.count
        full = packet.payload // gso_size
        length = state.sealed_length(header + gso_size)
        if state.sequence + count > state.last:
            self._core.drop(Reason.SEQUENCE_EXHAUSTED, count)
            return True
        first = 0
        while first < full:
            burst = self._sender.burst(state, length, tos, df)
            if burst.count and burst.size != length:
                self._sender.flush()
                burst = self._sender.burst(state, length, tos, df)
            burst.begin(length, tos, df)
            batch = min(full - first, burst.room(length))
            rows = build_rows(
                self._scratch,
                packet,
                first,
                batch,
                gso_size,
                alignment=state.cipher.alignment,
                next_header=next_header,
            )
            self._sealer.seal_rows(state, rows, burst)
            first += batch
        if full < count:
            rest = packet.payload - full * gso_size
            row = self._row(packet, full, rest)
            self._seal(state, row, header + rest, next_header, tos, df, 0)
            self._core.spend(state, full, len(data) + full * header)
        else:
            self._core.spend(state, full, len(data) + (full - 1) * header)
        return True

    def _row(self, packet: Super, number: int, size: int) -> memoryview:
        """One packet of a super-packet, with room behind it."""
        row = build_rows(self._scratch, packet, number, 1, size, alignment=4, next_header=0)
        return self._scratch[: row.shape[1] + SPARE].data

    def _rows_singly(self, state: OutboundState, packet: Super) -> None:
        for number in range(packet.count):
            size = min(packet.size, packet.payload - number * packet.size)
            self._one(state, self._row(packet, number, size), packet.header + size)

    def _too_big_datagrams(
        self, state: OutboundState, data: memoryview, version: int, upper: int, header: int, size: int
    ) -> bool:
        packet = Super(data, version, UDP, upper, header, size)
        self._rows_singly(state, packet)
        return True


def _outer(state: OutboundState, tos: int, df: bool) -> tuple[int, bool]:
    """Traffic class and DF of the outer header (RFC 4301 §5.1.2, §8.1; RFC 6040 §4.1)."""
    sa = state.sa
    dscp = tos & 0xFC if sa.dscp is DscpPolicy.COPY else 0
    ecn = tos & 3 if sa.copy_ecn else 0
    if sa.df is not DfPolicy.COPY:
        df = sa.df is DfPolicy.SET
    return dscp | ecn, df


def _of_link_scope(flow: Flow) -> bool:
    """Whether a packet is never forwarded: what hosts say on their own link, such as the TUN device's MLD reports.

    Unspecified source, link-local source or destination, multicast of link scope (RFC 4291 §2.5.2, §2.5.6, §2.7;
    RFC 3927 §2.7, RFC 5771 §4).
    """
    if flow.source == 0:
        return True
    if flow.version == 4:
        return flow.destination >> 8 == 0xE00000 or 0xA9FE in (flow.source >> 16, flow.destination >> 16)
    return flow.destination >> 112 & 0xFF0F == 0xFF02 or 0x3FA in (flow.source >> 118, flow.destination >> 118)


def _turned(flow: Flow) -> Flow:
    return replace(
        flow,
        source=flow.destination,
        destination=flow.source,
        source_port=flow.destination_port,
        destination_port=flow.source_port,
    )
