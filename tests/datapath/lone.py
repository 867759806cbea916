"""Parts of one datapath without a process, a TUN device or a network: what goes in by hand, and what would be sent."""

from __future__ import annotations

import socket
from dataclasses import dataclass, replace
from ipaddress import ip_address

from appliance.datapath.soft.bypass import Bypass
from appliance.datapath.soft.core import Core
from appliance.datapath.soft.engine import Engine
from appliance.datapath.soft.options import SoftOptions
from appliance.datapath.soft.outbound import Outbound
from appliance.datapath.soft.pmtu import PathMtu
from appliance.datapath.soft.sad import OutboundState, Spending, ranges
from appliance.datapath.soft.sender import Sender
from appliance.datapath.soft.tun import NEEDS_CSUM, VNET, VNET_HEADER
from appliance.esp.ip import Ipv6Header
from appliance.esp.outbound import OutboundSa
from appliance.esp.transform import transform
from appliance.sa.algorithms import Encryption, Suite
from appliance.sa.association import (
    Direction,
    Lifetime,
    PolicyAction,
    SecurityAssociation,
    SecurityPolicy,
    UdpEncapsulation,
)
from appliance.sa.selector import TrafficSelector
from tests.datapath.test_soft_batches import quiet, state
from tests.datapath.test_soft_hostile import nowhere

SUITE = Suite(Encryption.AES_GCM_16, 128)
KEY = bytes(range(20))
PEER = ("192.0.2.1", 4500)
EVERYTHING = ("0.0.0.0/0", "::/0")
PLAIN = bytes(VNET)
"""A virtio header that says nothing."""


def super_header(gso_type: int, header: int, size: int, checksum_offset: int = 16) -> bytes:
    """The virtio header of a TCP super-packet whose segments have ``size`` bytes of payload."""
    return VNET_HEADER.pack(NEEDS_CSUM, gso_type, header, size, 20, checksum_offset)


def selectors(*texts: str) -> tuple[TrafficSelector, ...]:
    return tuple(TrafficSelector.parse(text) for text in texts)


def policy(
    name: str,
    local: str | tuple[str, ...],
    remote: str | tuple[str, ...],
    *,
    action: PolicyAction = PolicyAction.PROTECT,
    priority: int = 10,
    reqid: int = 1,
    acquire: bool = False,
) -> SecurityPolicy:
    sides = [selectors(*([side] if isinstance(side, str) else side)) for side in (local, remote)]
    return SecurityPolicy(
        name=name, action=action, priority=priority, reqid=reqid, acquire=acquire, local_ts=sides[0],
        remote_ts=sides[1],
    )  # fmt: skip


def inbound_sa(
    spi: int = 0xABCD0123, *, lifetime: Lifetime | None = None, encapsulated: bool = False
) -> SecurityAssociation:
    return replace(
        state(SUITE).sa,
        spi=spi,
        direction=Direction.IN,
        local_ts=selectors(*EVERYTHING),
        remote_ts=selectors(*EVERYTHING),
        lifetime=lifetime or Lifetime(),
        encapsulation=UdpEncapsulation(4500, 4500) if encapsulated else None,
    )


def golden(spi: int = 0xABCD0123) -> OutboundSa:
    """The peer's end of ``inbound_sa``."""
    return OutboundSa(spi, transform(20, 0, KEY, b""), esn=False)


def ipv6(extensions: bytes, upper: bytes, first: int) -> bytes:
    """An IPv6 packet with these extension headers, of which ``first`` is the first one's number."""
    return (
        Ipv6Header(
            source=ip_address("fd01::1").packed,
            destination=ip_address("fd02::1").packed,
            protocol=first,
            total_length=40 + len(extensions) + len(upper),
        ).build()
        + extensions
        + upper
    )


@dataclass
class WayOut:
    """The way out with one active SA, ESP in UDP, for a policy that protects everything."""

    core: Core
    outbound: Outbound
    sender: Sender
    state: OutboundState
    sent: list[bytes]

    def give(self, packet: bytes, header: bytes = PLAIN) -> None:
        """One packet as the TUN device has it."""
        view = self.outbound._view
        view[:VNET], view[VNET : VNET + len(packet)] = header, packet
        self.outbound.packet(VNET, VNET + len(packet))

    def flush(self) -> list[bytes]:
        """All ESP packets that were sent so far."""
        self.sender.flush()
        return self.sent


def way_out(*, lifetime: Lifetime | None = None) -> WayOut:
    core = quiet()
    sent: list[bytes] = []
    sender = Sender(core, lambda state: None)

    def take(out: OutboundState, data: memoryview, ancillary: list[tuple[int, int, bytes]]) -> int:
        size = next((int.from_bytes(v, "little") for level, k, v in ancillary if (level, k) == (17, 103)), len(data))
        sent.extend(bytes(data[at : at + size]) for at in range(0, len(data), size))
        return 0

    sender._sendmsg = take  # type: ignore[method-assign]
    sender._set_df = lambda sock, df: None  # type: ignore[method-assign]
    out = state(SUITE)
    out.sa = replace(out.sa, encapsulation=UdpEncapsulation(4500, 4500), lifetime=lifetime or Lifetime())
    out.spent = Spending(out.sa, 0.0)
    out.local = out.remote = ranges(selectors(*EVERYTHING))
    out.set_path_mtu(1500)
    core.sad.add(out)
    core.sad.activate(out)
    core.spd.add(policy("net", EVERYTHING, EVERYTHING))
    return WayOut(core, Outbound(core, sender, PathMtu(core), Bypass(core)), sender, out, sent)


def engine() -> Engine:
    """All parts of a datapath, with a TUN device that takes everything."""
    return Engine(SoftOptions(), nowhere(), lambda event: None, lambda datagram: None)


class NoSocket:
    """What an engine takes for a socket as long as nothing is sent."""

    family = socket.AF_INET

    def __init__(self, number: int) -> None:
        self._number = number

    def fileno(self) -> int:
        return self._number

    def close(self) -> None:
        pass
