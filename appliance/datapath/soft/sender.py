"""Sending ESP packets in bursts: one system call for many of the same size (UDP_SEGMENT)."""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Callable
from errno import EINVAL, EIO, EMSGSIZE

import numpy as np

from appliance.datapath.soft.core import Core
from appliance.datapath.soft.mmsg import Ancillary, Sending, address_of
from appliance.datapath.soft.sad import OutboundState
from appliance.datapath.soft.segment import Bytes
from appliance.reasons import Reason

MOST_SEGMENTS = 64  # UDP_MAX_SEGMENTS of Linux before 6.9; later ones take 128
MOST_BYTES = 65000  # under 65535 with the outer headers of either version
_SOL_UDP, _UDP_SEGMENT = 17, 103
_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER = 10, 23
_PMTUDISC_DONT, _PMTUDISC_PROBE, _PMTUDISC_OMIT = 0, 3, 5
_U16 = struct.Struct("=H")
_INT = struct.Struct("=i")
_POOL = 16


class Burst:
    """ESP packets of one SA that leave together, back to back: all of the first one's size, the last maybe less."""

    __slots__ = ("_views", "address", "array", "buffer", "count", "df", "ended", "size", "state", "tos", "used", "view")

    def __init__(self) -> None:
        self.buffer = bytearray(MOST_BYTES + 65536)
        self.view = memoryview(self.buffer)
        self.address = address_of(self.buffer)
        self.array: Bytes = np.frombuffer(self.buffer, np.uint8)
        self._views: dict[int, tuple[list[memoryview], list[memoryview]]] = {}
        self.state: OutboundState | None = None
        self.reset()

    def reset(self) -> None:
        """Empty it."""
        self.used = self.count = self.size = self.tos = 0
        self.ended = False
        self.df = True

    def takes(self, length: int, tos: int, df: bool) -> bool:
        """Whether a packet of ``length`` may follow those that are there."""
        if self.count == 0:
            return True
        return (
            not self.ended
            and length <= self.size
            and self.count < MOST_SEGMENTS
            and self.used + length <= MOST_BYTES
            and tos == self.tos
            and df == self.df
        )

    def added(self, length: int, tos: int, df: bool) -> None:
        """Note a packet that was written at ``used``."""
        if self.count == 0:
            self.size, self.tos, self.df = length, tos, df
        elif length < self.size:
            self.ended = True
        self.used += length
        self.count += 1

    def begin(self, size: int, tos: int, df: bool) -> None:
        """Note what packets will be like that are written by the row."""
        if self.count == 0:
            self.size, self.tos, self.df = size, tos, df

    def room(self, size: int) -> int:
        """How many more packets of ``size`` it takes, if that is its size."""
        return min(MOST_SEGMENTS, MOST_BYTES // size) - self.count

    def slots(self, size: int) -> tuple[list[memoryview], list[memoryview]]:
        """Where packets of ``size`` go: for each its SPI and sequence number (8 bytes), and what follows the IV."""
        found = self._views.get(size)
        if found is None:
            if len(self._views) >= 8:
                self._views.clear()
            starts = range(0, size * min(MOST_SEGMENTS, MOST_BYTES // size), size)
            view = self.view
            found = [view[at : at + 8] for at in starts], [view[at + 16 : at + size] for at in starts]
            self._views[size] = found
        return found


class Sender:
    """The open bursts, one an SA. ``on_too_big`` hears of an SA whose packets the kernel finds too big for the path."""

    def __init__(self, core: Core, on_too_big: Callable[[OutboundState], None]) -> None:
        self._core = core
        self._on_too_big = on_too_big
        self._open: dict[int, Burst] = {}
        self._free: list[Burst] = []
        self._df: dict[int, bool] = {}
        self._messages = Sending(MOST_SEGMENTS)

    def burst(self, state: OutboundState, length: int, tos: int, df: bool) -> Burst:
        """The SA's open burst with room for a packet of ``length``."""
        burst = self._open.get(id(state))
        if burst is None:
            if self._free:
                burst = self._free.pop()
            elif len(self._open) >= _POOL:
                oldest = next(iter(self._open))
                burst = self._open.pop(oldest)
                self._send(burst)
            else:
                burst = Burst()
            burst.state = state
            self._open[id(state)] = burst
        elif not burst.takes(length, tos, df):
            self._send(burst)
        return burst

    def flush(self) -> None:
        """Send all that is open."""
        for burst in self._open.values():
            self._send(burst)
            burst.state = None
            self._free.append(burst)
        self._open.clear()

    def forget(self, sock: socket.socket) -> None:
        """A socket is about to be closed."""
        self.flush()
        self._df.pop(sock.fileno(), None)

    def _send(self, burst: Burst) -> None:
        if not burst.count:
            return
        state = burst.state
        assert state is not None
        core = self._core
        sock = state.sock
        self._set_df(sock, burst.df)
        ancillary = list(state.ancillary)
        if burst.tos:
            if sock.family == socket.AF_INET:
                ancillary.append((socket.IPPROTO_IP, socket.IP_TOS, _INT.pack(burst.tos)))
            else:
                ancillary.append((socket.IPPROTO_IPV6, socket.IPV6_TCLASS, _INT.pack(burst.tos)))
        counters = core.counters
        counters["tx_batches"] += 1
        counters["tx_packets"] += burst.count
        counters["tx_bytes"] += burst.used
        if state.sa.encapsulation is not None:
            if burst.count > 1:
                segment = (_SOL_UDP, _UDP_SEGMENT, _U16.pack(burst.size))
                error = self._sendmsg(state, burst.view[: burst.used], [*ancillary, segment])
            else:
                error = self._sendmsg(state, burst.view[: burst.used], ancillary)
                if error == EMSGSIZE:
                    self._too_big(state, 1)
                    error = 0
            if error in (EINVAL, EMSGSIZE, EIO) and burst.count > 1:
                # Larger than the device's MTU, or a device without checksum offload: one by one then.
                self._singly(state, burst, ancillary)
            elif error:
                core.drop(Reason.SEND_FAILED, burst.count)
        elif burst.count == 1:
            self._singly(state, burst, ancillary)
        else:
            self._native(state, burst, ancillary)
        burst.reset()

    def _native(self, state: OutboundState, burst: Burst, ancillary: Ancillary) -> None:
        """Send a burst's packets as they are, with one system call if all goes well."""
        self._messages.prepare(burst.address, burst.used, burst.size, state.target[0], ancillary)
        at = failures = 0
        while at < burst.count:
            try:
                at += self._messages.send(state.sock, at)
                failures = 0
            except BlockingIOError:
                failures += 1
                if failures == 3 or not _writable(state.sock):
                    self._core.drop(Reason.QUEUE_FULL, burst.count - at)
                    return
            except OSError as error:
                failures += 1
                if failures < 3 and error.errno not in (EINVAL, EIO, EMSGSIZE):
                    continue  # an ICMP error that was queued for the socket, see _sendmsg
                if error.errno == EMSGSIZE:
                    self._too_big(state, 1)
                else:
                    self._core.drop(Reason.SEND_FAILED)
                at, failures = at + 1, 0

    def _singly(self, state: OutboundState, burst: Burst, ancillary: Ancillary) -> None:
        for at in range(0, burst.used, burst.size):
            error = self._sendmsg(state, burst.view[at : min(at + burst.size, burst.used)], ancillary)
            if error == EMSGSIZE:
                self._too_big(state, 1)
            elif error:
                self._core.drop(Reason.SEND_FAILED)

    def _too_big(self, state: OutboundState, count: int) -> None:
        self._core.drop(Reason.TOO_BIG, count)
        self._on_too_big(state)

    def _sendmsg(self, state: OutboundState, data: memoryview, ancillary: Ancillary) -> int:
        """Send one message; 0 or the error. A full buffer is waited for a moment: that slows senders down, not us."""
        for attempt in range(3):
            try:
                state.sock.sendmsg([data], ancillary, 0, state.target)
            except BlockingIOError:
                if attempt == 2 or not _writable(state.sock):
                    self._core.drop(Reason.QUEUE_FULL)
                    return 0
            except OSError as error:
                # An ICMP error that was queued for the socket is reported once, by whatever is called next.
                if attempt == 2 or error.errno in (EINVAL, EIO, EMSGSIZE):
                    return error.errno or EIO
            else:
                return 0
        return 0

    def _set_df(self, sock: socket.socket, df: bool) -> None:
        """Have the kernel set DF, or let it fragment. PROBE sets DF whatever the kernel believes of the path.

        Without DF, IPv4's OMIT: with DONT the socket would not hear of packets that are too big, of whatever SA. IPv6's
        OMIT is deaf where its DONT is not.
        """
        number = sock.fileno()
        if self._df.get(number, True) == df:
            return
        self._df[number] = df
        if sock.family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_PROBE if df else _PMTUDISC_OMIT)
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE if df else _PMTUDISC_DONT)


def _writable(sock: socket.socket) -> bool:
    """Wait a moment for room in a socket's buffer."""
    poll = select.poll()
    poll.register(sock, select.POLLOUT)
    return bool(poll.poll(2))
