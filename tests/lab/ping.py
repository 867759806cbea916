"""ICMP echo from a namespace: who answers, and what the network says where nobody does."""

from __future__ import annotations

import ipaddress
import itertools
import os
import socket
import struct
import time
from dataclasses import dataclass

from tests.lab.namespace import Namespace

_identifiers = itertools.count(os.getpid())


@dataclass(frozen=True, slots=True)
class PingResult:
    """``rtts`` in seconds, one for each answer, in order of arrival. ``errors`` are (type, code) of ICMP errors."""

    sent: int
    rtts: tuple[float, ...]
    errors: tuple[tuple[int, int], ...]

    @property
    def received(self) -> int:
        """How many were answered."""
        return len(self.rtts)

    @property
    def ok(self) -> bool:
        """Whether all were answered."""
        return self.sent == self.received


def _checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data)) if len(data) % 2 == 0 else _checksum_sum(data + b"\0")
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _checksum_sum(data: bytes) -> int:
    return sum(struct.unpack(f"!{len(data) // 2}H", data))


def ping(
    namespace: Namespace,
    address: str,
    *,
    source: str | None = None,
    count: int = 1,
    interval: float = 0.05,
    timeout: float = 1.0,
    size: int = 56,
    dont_fragment: bool = False,
    until_answered: bool = False,
) -> PingResult:
    """Sends ``count`` echo requests with ``size`` bytes of data, waits ``timeout`` seconds after the last.

    Returns as soon as all were answered, or the first with ``until_answered``.
    """
    version = ipaddress.ip_address(address).version
    unreachable: tuple[int, ...]
    if version == 4:
        family, protocol, request, reply, unreachable = socket.AF_INET, socket.IPPROTO_ICMP, 8, 0, (3, 11)
    else:
        family, protocol, request, reply, unreachable = socket.AF_INET6, socket.IPPROTO_ICMPV6, 128, 129, (1, 2, 3)
    ip_mtu_discover, ipv6_mtu_discover, ipv6_dontfrag = 10, 23, 62
    identifier = next(_identifiers) & 0xFFFF
    payload = bytes(i & 0xFF for i in range(size))
    sent_at: dict[int, float] = {}
    rtts: list[float] = []
    errors: list[tuple[int, int]] = []
    with namespace.socket(family, socket.SOCK_RAW, protocol) as sock:
        if version == 4:
            sock.setsockopt(socket.IPPROTO_IP, ip_mtu_discover, 2 if dont_fragment else 0)
        elif dont_fragment:
            sock.setsockopt(socket.IPPROTO_IPV6, ipv6_mtu_discover, 2)
            sock.setsockopt(socket.IPPROTO_IPV6, ipv6_dontfrag, 1)
        if source is not None:
            sock.bind((source, 0))
        start = time.monotonic()
        sequence = 0
        while True:
            now = time.monotonic()
            if sequence < count and now >= start + sequence * interval:
                head = struct.pack("!BBHHH", request, 0, 0, identifier, sequence)
                if version == 4:  # the kernel fills the checksum of ICMPv6 only
                    head = struct.pack("!BBHHH", request, 0, _checksum(head + payload), identifier, sequence)
                sent_at[sequence] = now
                sequence += 1
                try:
                    sock.sendto(head + payload, (address, 0))
                except OSError as error:
                    errors.append((-1, error.errno or 0))
            over = start + (count - 1) * interval + timeout
            if now >= over or (rtts and until_answered) or (len(rtts) == count):
                return PingResult(sequence, tuple(rtts), tuple(errors))
            wake = start + sequence * interval if sequence < count else over
            sock.settimeout(max(wake - time.monotonic(), 0.001))
            try:
                packet = sock.recv(65535)
            except TimeoutError:
                continue
            except OSError as error:
                errors.append((-1, error.errno or 0))
                continue
            message = packet[(packet[0] & 0x0F) * 4 :] if version == 4 else packet
            kind, code, _, got_identifier, got_sequence = struct.unpack_from("!BBHHH", message)
            if kind == reply and got_identifier == identifier and got_sequence in sent_at:
                rtts.append(time.monotonic() - sent_at.pop(got_sequence))
            elif kind in unreachable and struct.pack("!H", identifier) in message[8:]:
                errors.append((kind, code))


def answers(namespace: Namespace, address: str, *, within: float = 10.0, source: str | None = None) -> float | None:
    """Pings ten times a second until the first answer; seconds until it came, or None if none came in time."""
    start = time.monotonic()
    result = ping(
        namespace,
        address,
        source=source,
        count=int(within * 10),
        interval=0.1,
        timeout=1.0,
        until_answered=True,
    )
    return time.monotonic() - start if result.received else None
