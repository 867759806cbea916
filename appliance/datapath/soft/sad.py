"""What the process knows of each SA, and the table of them (RFC 4301 §4.4.2)."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from appliance.datapath.soft.cipher import Cipher
from appliance.datapath.soft.packet import Flow
from appliance.datapath.soft.window import BatchWindow
from appliance.reasons import Reason
from appliance.sa.association import Direction, Mode, SaKey, SecurityAssociation
from appliance.sa.datapath import ExpiryKind, Usage
from appliance.sa.selector import TrafficSelector

NEVER = 1 << 64
_LOW = 0xFFFF_FFFF

Ranges = tuple[tuple[int, int, int, int, int, int], ...]
"""Selectors as (version, first address, last address, protocol, first port, last port)."""


def ranges(selectors: Iterable[TrafficSelector]) -> Ranges:
    """Selectors as numbers, quick to compare with."""
    return tuple((s.version, int(s.start), int(s.end), s.protocol, s.start_port, s.end_port) for s in selectors)


def inside(selectors: Ranges, version: int, address: int, protocol: int, port: int | None) -> bool:
    """``TrafficSelector.matches`` for any of them."""
    for kind, start, end, wanted, low, high in selectors:
        if kind == version and start <= address <= end and wanted in (0, protocol):
            if low == 0 and high == 65535:
                return True
            if (low == 65535 and high == 0) if port is None else low <= port <= high:
                return True
    return False


@dataclass(slots=True)
class Spending:
    """What an SA has used up, and where its next limit is. ``dead`` says why it passes nothing any more."""

    sa: SecurityAssociation
    installed: float
    bytes: int = 0
    packets: int = 0
    last_used: float = 0.0
    next_bytes: int = NEVER
    next_packets: int = NEVER
    dead: Reason | None = None
    reached: frozenset[tuple[ExpiryKind, bool]] = frozenset()

    def __post_init__(self) -> None:
        self.set_limits()

    def set_limits(self) -> None:
        """Find the nearest limits that were not reached yet."""
        soft, hard = self.sa.lifetime.soft, self.sa.lifetime.hard
        self.next_bytes = self._nearest(ExpiryKind.BYTES, soft.bytes, hard.bytes)
        self.next_packets = self._nearest(ExpiryKind.PACKETS, soft.packets, hard.packets)

    def _nearest(self, kind: ExpiryKind, soft: int | None, hard: int | None) -> int:
        limits = [
            limit for limit, is_hard in ((soft, False), (hard, True)) if limit and (kind, is_hard) not in self.reached
        ]
        return min(limits, default=NEVER)

    def crosses(self, packets: int, size: int) -> bool:
        """Whether a hard limit is among so many packets more, ``size`` bytes together: they go one by one then."""
        hard = self.sa.lifetime.hard
        return bool(
            (hard.packets and self.packets + packets > hard.packets) or (hard.bytes and self.bytes + size > hard.bytes)
        )

    def crossed(self) -> list[tuple[ExpiryKind, bool]]:
        """Limits of bytes and packets that were reached since the last call; at a hard one the SA is dead."""
        lifetime = self.sa.lifetime
        found = []
        for kind, used, soft, hard in (
            (ExpiryKind.BYTES, self.bytes, lifetime.soft.bytes, lifetime.hard.bytes),
            (ExpiryKind.PACKETS, self.packets, lifetime.soft.packets, lifetime.hard.packets),
        ):
            for limit, is_hard in ((soft, False), (hard, True)):
                if limit and used >= limit and (kind, is_hard) not in self.reached:
                    self.reached |= {(kind, is_hard)}
                    found.append((kind, is_hard))
                    if is_hard:
                        self.dead = Reason.LIFETIME_EXPIRED
        self.set_limits()
        return found


@dataclass(slots=True)
class OutboundState:
    """One outbound SA. ``sequence`` is of the packet sent last, ``inner_mtu`` the longest packet that fits the path.

    ``overhead`` is what stands before ESP in the outer packet.
    """

    sa: SecurityAssociation
    cipher: Cipher
    spent: Spending
    sock: socket.socket
    target: tuple[str, int]
    ancillary: list[tuple[int, int, bytes]]
    active: bool = False
    sequence: int = 0
    last: int = _LOW
    headroom: int = NEVER
    path_mtu: int = 1500
    overhead: int = 28
    inner_mtu: int = 1438
    local: Ranges = ()
    remote: Ranges = ()

    @property
    def tunnel(self) -> bool:
        """Whether whole packets go inside."""
        return self.sa.mode is Mode.TUNNEL

    def covers(self, flow: Flow) -> bool:
        """Whether a packet that leaves is inside the SA's selectors."""
        return inside(self.local, flow.version, flow.source, flow.protocol, flow.source_port) and inside(
            self.remote, flow.version, flow.destination, flow.protocol, flow.destination_port
        )

    def set_path_mtu(self, mtu: int) -> None:
        """Compute ``inner_mtu`` for a path MTU (RFC 4301 §8.2.1)."""
        self.path_mtu = mtu
        outer = 20 if self.sa.destination.version == 4 else 40
        self.overhead = outer + (8 if self.sa.encapsulation else 0)
        body = mtu - self.overhead - 8 - self.cipher.iv_length - self.cipher.icv_length
        largest = body - body % self.cipher.alignment - 2
        # In transport mode the packet's own header stays outside.
        self.inner_mtu = largest if self.tunnel else largest + outer

    def sealed_length(self, length: int) -> int:
        """Bytes of the ESP packet for a payload of ``length``."""
        body = length + 2
        body += -body % self.cipher.alignment
        return 8 + self.cipher.iv_length + body + self.cipher.icv_length

    def usage(self) -> Usage:
        """Counters."""
        spent = self.spent
        return Usage(bytes=spent.bytes, packets=spent.packets, sequence=self.sequence, last_used=spent.last_used)


@dataclass(slots=True)
class InboundState:
    """One inbound SA. ``peer`` is the outer address and port that authenticated packets come from."""

    sa: SecurityAssociation
    cipher: Cipher
    spent: Spending
    window: BatchWindow
    peer: tuple[str, int]
    local: Ranges = ()
    remote: Ranges = ()
    used: bool = False
    reported: tuple[str, int] | None = None
    replays: int = 0
    integrity_failures: int = 0
    allowed: dict[bytes, bool] = field(default_factory=dict)

    @property
    def tunnel(self) -> bool:
        """Whether whole packets are inside."""
        return self.sa.mode is Mode.TUNNEL

    def covers(self, flow: Flow) -> bool:
        """Whether a packet that arrived is inside the SA's selectors (RFC 4301 §5.2)."""
        return inside(self.local, flow.version, flow.destination, flow.protocol, flow.destination_port) and inside(
            self.remote, flow.version, flow.source, flow.protocol, flow.source_port
        )

    def usage(self) -> Usage:
        """Counters."""
        spent = self.spent
        return Usage(
            bytes=spent.bytes,
            packets=spent.packets,
            sequence=self.window.highest,
            replays=self.replays,
            integrity_failures=self.integrity_failures,
            last_used=spent.last_used,
        )


State = OutboundState | InboundState


class Sad:
    """All SAs: inbound ones by SPI, outbound ones by key and, the active ones, by reqid, newest first."""

    def __init__(self) -> None:
        self.inbound: dict[int, InboundState] = {}
        self.outbound: dict[SaKey, OutboundState] = {}
        self.active: dict[int, list[OutboundState]] = {}

    def __len__(self) -> int:
        return len(self.inbound) + len(self.outbound)

    def get(self, key: SaKey) -> State | None:
        """The SA with this key."""
        if key.direction is Direction.OUT:
            return self.outbound.get(key)
        state = self.inbound.get(key.spi)
        return state if state is not None and state.sa.key == key else None

    def add(self, state: State) -> None:
        """Add an SA; an outbound one idle."""
        if isinstance(state, OutboundState):
            self.outbound[state.sa.key] = state
        else:
            self.inbound[state.sa.spi] = state

    def activate(self, state: OutboundState) -> None:
        """Send by this SA from now on; those of its reqid with the same selectors are idle."""
        others = []
        for other in self.active.get(state.sa.reqid, []):
            if other is state or (other.local == state.local and other.remote == state.remote):
                other.active = False
            else:
                others.append(other)
        state.active = True
        self.active[state.sa.reqid] = [state, *others]

    def remove(self, key: SaKey) -> State | None:
        """Take an SA out and wipe its keys."""
        state = self.get(key)
        if state is None:
            return None
        if isinstance(state, OutboundState):
            del self.outbound[key]
            self.deactivate(state)
        else:
            del self.inbound[key.spi]
        state.cipher.wipe()
        return state

    def deactivate(self, state: OutboundState) -> None:
        """Send nothing by this SA any more."""
        left = [other for other in self.active.get(state.sa.reqid, []) if other is not state]
        if left:
            self.active[state.sa.reqid] = left
        else:
            self.active.pop(state.sa.reqid, None)
        state.active = False

    def choose(self, reqid: int, flow: Flow) -> OutboundState | None:
        """The SA that a packet of a policy leaves by: the one activated last whose selectors cover it."""
        for state in self.active.get(reqid, ()):
            if state.covers(flow):
                return state
        return None

    def clear(self) -> None:
        """Remove everything and wipe all keys."""
        states: list[State] = [*self.inbound.values(), *self.outbound.values()]
        for state in states:
            state.cipher.wipe()
        self.inbound.clear()
        self.outbound.clear()
        self.active.clear()


def peer_of(name: Any) -> tuple[str, int]:
    """The (address, port) of a socket's peer name, without an IPv6 scope."""
    return name[0].partition("%")[0], name[1]
