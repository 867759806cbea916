"""What all parts of the process share: counters, events, the clock of this turn, the tables."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from appliance.datapath.soft.options import SoftOptions
from appliance.datapath.soft.sad import NEVER, OutboundState, Sad, State
from appliance.datapath.soft.spd import Spd
from appliance.datapath.soft.tun import NO_OFFLOAD, Tun
from appliance.reasons import Reason
from appliance.sa.datapath import DatapathEvent, Expired, ExpiryKind

Buffer = bytes | bytearray | memoryview


@dataclass(slots=True)
class Core:
    """One datapath's state. ``now`` is the time of this turn, seconds of the monotonic clock."""

    options: SoftOptions
    tun: Tun
    emit: Callable[[DatapathEvent], None]
    emit_ike: Callable[[list[object]], None]
    sad: Sad = field(default_factory=Sad)
    spd: Spd = field(default_factory=Spd)
    counters: Counter[str] = field(default_factory=Counter)
    now: float = field(default_factory=time.monotonic)

    def drop(self, reason: Reason, count: int = 1) -> None:
        """Count packets that go no further."""
        self.counters[reason.name] += count

    def write_tun(self, packet: Buffer, header: bytes = NO_OFFLOAD) -> None:
        """Give a packet to the kernel."""
        try:
            os.writev(self.tun.fd, (header, packet))
        except BlockingIOError:
            self.drop(Reason.QUEUE_FULL)
        except OSError:
            self.drop(Reason.SEND_FAILED)

    def spend(self, state: State, packets: int, size: int) -> None:
        """Charge an SA, and tell of limits that it reached (RFC 4301 §4.4.2.1)."""
        spent = state.spent
        spent.packets += packets
        spent.bytes += size
        spent.last_used = self.now
        if spent.bytes >= spent.next_bytes or spent.packets >= spent.next_packets:
            for kind, hard in spent.crossed():
                self.emit(Expired(spent.sa.key, kind, hard))
        if isinstance(state, OutboundState) and state.sequence >= state.headroom:
            state.headroom = NEVER
            self.emit(Expired(spent.sa.key, ExpiryKind.SEQUENCE, False))
