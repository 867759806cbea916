"""The path MTU of each SA's outer path: what ICMP says, within bounds and for a time (RFC 4301 §8.2)."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass
from struct import Struct

from appliance.datapath.soft.core import Core
from appliance.datapath.soft.sad import OutboundState

_EXTENDED_ERROR = Struct("=IBBBBII")
_ICMP, _ICMP6 = 2, 3
_IP_RECVERR, _IPV6_RECVERR = 11, 25
_IP_MTU, _IPV6_MTU = 14, 24
_EMSGSIZE = 90
_LOCAL = 1


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
        """Read what ICMP errors the kernel has queued for a socket; it has matched them with what the socket sent."""
        for _ in range(16):
            try:
                data, ancillary, _, address = sock.recvmsg(576, 512, socket.MSG_ERRQUEUE)
            except OSError:
                return
            for level, kind, value in ancillary:
                if (level, kind) not in ((socket.IPPROTO_IP, _IP_RECVERR), (socket.IPPROTO_IPV6, _IPV6_RECVERR)):
                    continue
                number, origin, *_, info, _ = _EXTENDED_ERROR.unpack_from(value)
                if number == _EMSGSIZE and origin in (_ICMP, _ICMP6, _LOCAL) and info and address:
                    self._hear(str(address[0]), int(info), bytes(data))

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

    def _hear(self, address: str, mtu: int, quoted: bytes) -> None:
        """An ICMP message is believed if it names one of our destinations and, where it quotes it, one of our SPIs."""
        states = [state for state in self._core.sad.outbound.values() if state.target[0] == address]
        if not states:
            return
        if len(quoted) >= 4 and not any(state.sa.spi == int.from_bytes(quoted[:4]) for state in states):
            return
        self._core.counters["icmp_too_big_heard"] += 1
        self._learn(address, mtu)

    def _learn(self, address: str, mtu: int) -> None:
        options = self._core.options
        floor = options.mtu_floor_ipv6 if ":" in address else options.mtu_floor_ipv4
        mtu = max(mtu, floor)
        learnt = self._learnt.get(address)
        current = options.path_mtu if learnt is None else learnt.mtu
        if mtu >= current and learnt is None:
            return
        if len(self._learnt) >= 4096:
            self._learnt.pop(next(iter(self._learnt)))
        self._learnt[address] = _Learnt(min(mtu, current), self._core.now)
        self._apply(address, min(mtu, current))

    def _apply(self, address: str, mtu: int) -> None:
        for state in self._core.sad.outbound.values():
            if state.target[0] == address:
                state.set_path_mtu(mtu)
