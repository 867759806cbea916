"""Forwarding packets that a bypass policy exempts but routing brought here all the same.

Routes choose by prefix, policies by everything; where a bypass policy is finer than a route, its packets leave from
here with our mark, which keeps them off the TUN device the second time.
"""

from __future__ import annotations

import socket

from appliance.datapath.soft.core import Core
from appliance.datapath.soft.packet import finish_checksum
from appliance.datapath.soft.tun import NEEDS_CSUM, VNET_HEADER
from appliance.reasons import Reason

_IPV6_HDRINCL = 36


class Bypass:
    """Raw sockets that take whole packets."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._sockets: dict[int, socket.socket] = {}

    def send(self, header: memoryview, packet: memoryview) -> None:
        """Send a packet that came from the TUN device with this virtio header. Super-packets are not taken."""
        flags, gso_type, _, _, start, offset = VNET_HEADER.unpack(header)
        if gso_type:
            self._core.drop(Reason.TOO_BIG)
            return
        if flags & NEEDS_CSUM:
            finish_checksum(packet, start, offset)
        version = packet[0] >> 4
        try:
            if version == 4:
                self._socket(version).sendto(packet, (socket.inet_ntop(socket.AF_INET, packet[16:20]), 0))
            else:
                self._socket(version).sendto(packet, (socket.inet_ntop(socket.AF_INET6, packet[24:40]), 0))
            self._core.counters["bypassed_packets"] += 1
        except OSError:
            self._core.drop(Reason.SEND_FAILED)

    def close(self) -> None:
        """Close the sockets."""
        for sock in self._sockets.values():
            sock.close()

    def _socket(self, version: int) -> socket.socket:
        sock = self._sockets.get(version)
        if sock is None:
            family = socket.AF_INET if version == 4 else socket.AF_INET6
            sock = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, self._core.options.mark)
            if version == 6:
                sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_HDRINCL, 1)
            self._sockets[version] = sock
        return sock
