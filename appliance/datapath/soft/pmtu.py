"""The path MTU of each SA's outer path: what ICMP says, within bounds and for a time (RFC 4301 §8.2)."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass

from appliance.datapath.ingress import TooBig, read_errors
from appliance.datapath.soft.core import Core
from appliance.datapath.soft.sad import OutboundState

_IP_MTU, _IPV6_MTU = 14, 24
_MOST = 4096
"""Destinations of which something is known."""


@dataclass(slots=True)
class _Learnt:
    mtu: int
    at: float


class PathMtu:
    """What was learnt of paths, by destination address."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._learnt: dict[str, _Learnt] = {}

    def of(self, state: OutboundState) -> int:
        """The path MTU to use for an SA."""
        learnt = self._learnt.get(state.target[0])
        return self._core.options.path_mtu if learnt is None else learnt.mtu

    def errors(self, sock: socket.socket) -> None:
        """Read what ICMP errors the kernel has queued for a socket."""
        for error in read_errors(sock):
            self.hear(error)

    def refused(self, state: OutboundState) -> None:
        """The kernel found a packet bigger than its device takes: ask what that is."""
        with contextlib.suppress(OSError), socket.socket(state.sock.family, socket.SOCK_DGRAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, self._core.options.mark)
            if not state.sa.source.is_unspecified:
                probe.bind((str(state.sa.source), 0))
            probe.connect((state.target[0], state.target[1] or 9))
            if state.sock.family == socket.AF_INET:
                mtu = probe.getsockopt(socket.IPPROTO_IP, _IP_MTU)
            else:
                mtu = probe.getsockopt(socket.IPPROTO_IPV6, _IPV6_MTU)
            self._learn(state.target[0], mtu)

    def age(self) -> None:
        """Forget what is old: the path may have grown (RFC 1191 §6.3)."""
        for address, learnt in list(self._learnt.items()):
            if self._core.now - learnt.at > self._core.options.mtu_age:
                del self._learnt[address]
                self._apply(address, self._core.options.path_mtu)

    def hear(self, error: TooBig) -> None:
        """An ICMP message is believed if it names one of our destinations and, where it quotes it, one of our SPIs.

        One without an MTU is from a router older than RFC 1191, and means the least that we go down to (its §5).
        """
        address, quoted = str(error.address), error.quoted
        states = [state for state in self._core.sad.outbound.values() if state.target[0] == address]
        if not states:
            return
        if len(quoted) >= 4 and not any(state.sa.spi == int.from_bytes(quoted[:4]) for state in states):
            return
        self._core.counters["icmp_too_big_heard"] += 1
        self._learn(address, error.mtu)

    def _learn(self, address: str, mtu: int) -> None:
        options = self._core.options
        floor = options.mtu_floor_ipv6 if ":" in address else options.mtu_floor_ipv4
        mtu = max(mtu, floor)
        learnt = self._learnt.get(address)
        current = options.path_mtu if learnt is None else learnt.mtu
        if mtu >= current and learnt is None:
            return
        if learnt is None and len(self._learnt) >= _MOST:
            oldest = next(iter(self._learnt))
            del self._learnt[oldest]
            self._apply(oldest, options.path_mtu)
        self._learnt[address] = _Learnt(min(mtu, current), self._core.now)
        self._apply(address, min(mtu, current))

    def _apply(self, address: str, mtu: int) -> None:
        for state in self._core.sad.outbound.values():
            if state.target[0] == address:
                state.set_path_mtu(mtu)
