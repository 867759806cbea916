"""Two soft datapaths in two namespaces joined by a link, with SAs installed by hand."""

from __future__ import annotations

import ctypes
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TypeVar

from appliance.datapath.ingress import Datagram, Ingress, open_ingress
from appliance.datapath.soft.client import SoftDatapath
from appliance.datapath.soft.options import SoftOptions
from appliance.sa.algorithms import Encryption, Suite
from appliance.sa.association import (
    Direction,
    Handling,
    Lifetime,
    Mode,
    PolicyAction,
    SecurityAssociation,
    SecurityPolicy,
    UdpEncapsulation,
)
from appliance.sa.datapath import InstallRequest
from appliance.sa.keys import KeyMaterial
from appliance.sa.selector import TrafficSelector
from tests.lab.lab import Lab
from tests.lab.namespace import Namespace

T = TypeVar("T")
GCM = Suite(Encryption.AES_GCM_16, 256)
OUTER = {4: ("192.0.2.1", "192.0.2.2"), 6: ("2001:db8::1", "2001:db8::2")}
INNER = {4: ("10.1.0.1", "10.2.0.1"), 6: ("fd01::1", "fd02::1")}
NETS = {4: ("10.1.0.0/24", "10.2.0.0/24"), 6: ("fd01::/64", "fd02::/64")}


@contextmanager
def inside(namespace: Namespace) -> Iterator[None]:
    """This thread in the namespace: what it opens and starts stays there."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        assert libc.setns(namespace.fd, 0x40000000) == 0
        yield
    finally:
        assert libc.setns(before, 0x40000000) == 0
        os.close(before)


@dataclass
class Gateway:
    """One end. ``number`` is 0 or 1."""

    number: int
    namespace: Namespace
    datapath: SoftDatapath
    ingress: list[Ingress] = field(default_factory=list)
    ike: list[Datagram] = field(default_factory=list)


@dataclass
class Pair:
    """Both ends. SAs get the SPI that is asked for, and keys made from it."""

    lab: Lab
    gateways: tuple[Gateway, ...]

    def sa(
        self,
        sender: int,
        direction: Direction,
        spi: int,
        *,
        suite: Suite = GCM,
        mode: Mode = Mode.TUNNEL,
        outer: int = 4,
        udp: bool = True,
        local: tuple[str, ...] | None = None,
        remote: tuple[str, ...] | None = None,
        reqid: int = 1,
        lifetime: Lifetime | None = None,
        **more: object,
    ) -> SecurityAssociation:
        """One SA of the traffic from gateway ``sender``; ``local`` and ``remote`` are gateway 0's."""
        ends = [ip_address(text) for text in OUTER[outer]]
        local = local or tuple(nets[0] for nets in NETS.values())
        remote = remote or tuple(nets[1] for nets in NETS.values())
        if mode is Mode.TRANSPORT:
            local, remote = (OUTER[outer][0],), (OUTER[outer][1],)
        holder = sender if direction is Direction.OUT else 1 - sender
        selectors = [tuple(TrafficSelector.parse(text) for text in side) for side in (local, remote)]
        return SecurityAssociation(
            direction=direction,
            spi=spi,
            source=ends[sender],
            destination=ends[1 - sender],
            suite=suite,
            mode=mode,
            local_ts=selectors[holder],
            remote_ts=selectors[1 - holder],
            reqid=reqid,
            child="test/net",
            encapsulation=UdpEncapsulation(4500, 4500) if udp else None,
            lifetime=lifetime or Lifetime(),
            **more,  # type: ignore[arg-type]
        )

    async def connect(self, spis: tuple[int, int] = (0x1001, 0x1002), *, activate: bool = True, **how: object) -> None:
        """Install an SA each way: inbound first, then outbound, then activate."""
        for sender, spi in enumerate(spis):
            receiving = self.sa(sender, Direction.IN, spi, **how)  # type: ignore[arg-type]
            sending = self.sa(sender, Direction.OUT, spi, **how)  # type: ignore[arg-type]
            await self.gateways[1 - sender].datapath.install([InstallRequest(receiving, keys(spi, receiving.suite))])
            await self.gateways[sender].datapath.install([InstallRequest(sending, keys(spi, sending.suite))])
            if activate:
                await self.gateways[sender].datapath.activate_outbound(sending.key)

    async def connect_by(self, handling: Callable[[int], Handling], **how: object) -> None:
        """The same, with each gateway's own handling."""
        for sender, spi in enumerate((0x1001, 0x1002)):
            for holder, direction in ((1 - sender, Direction.IN), (sender, Direction.OUT)):
                sa = self.sa(sender, direction, spi, handling=handling(holder), **how)  # type: ignore[arg-type]
                request = InstallRequest(sa, keys(spi, sa.suite), activate=direction is Direction.OUT)
                await self.gateways[holder].datapath.install([request])

    def policy(
        self,
        gateway: int,
        *,
        name: str = "net",
        action: PolicyAction = PolicyAction.PROTECT,
        priority: int = 1000,
        local: tuple[str, ...] | None = None,
        remote: tuple[str, ...] | None = None,
        mode: Mode = Mode.TUNNEL,
        outer: int = 4,
        acquire: bool = False,
        reqid: int = 1,
    ) -> SecurityPolicy:
        """A policy of one gateway; ``local`` and ``remote`` are gateway 0's."""
        local = local or tuple(nets[0] for nets in NETS.values())
        remote = remote or tuple(nets[1] for nets in NETS.values())
        if mode is Mode.TRANSPORT:
            local, remote = (OUTER[outer][0],), (OUTER[outer][1],)
        selectors = [tuple(TrafficSelector.parse(text) for text in side) for side in (local, remote)]
        return SecurityPolicy(
            name=name,
            action=action,
            priority=priority,
            local_ts=selectors[gateway],
            remote_ts=selectors[1 - gateway],
            reqid=reqid,
            acquire=acquire,
            mode=mode,
        )

    async def protect(self, **how: object) -> None:
        """Install the same policy at both ends."""
        for gateway in self.gateways:
            await gateway.datapath.install_policies([self.policy(gateway.number, **how)])  # type: ignore[arg-type]

    def ping(self, version: int = 4, *, size: int = 56, count: int = 3, extra: tuple[str, ...] = ()) -> bool:
        """Whether gateway 0's inside reaches gateway 1's."""
        source, target = INNER[version]
        argv = ["ping", "-q", "-n", "-c", str(count), "-i", "0.05", "-W", "2", "-s", str(size), "-I", source, *extra]
        done = self.gateways[0].namespace.run([*argv, target], check=False)
        return done.returncode == 0 and f"{count} received" in done.stdout


def keys(spi: int, suite: Suite) -> KeyMaterial:
    """Keys that both ends derive alike."""
    return KeyMaterial(
        bytes((spi + at) & 0xFF for at in range(suite.encryption_key_length)),
        bytes((spi * 3 + at) & 0xFF for at in range(suite.integrity_key_length)),
    )


def two_hosts(lab: Lab, *, mtu: int = 1500) -> list[Namespace]:
    """Two namespaces joined by a link. Their inner addresses are on lo."""
    spaces = [lab.namespace("left"), lab.namespace("right")]
    lab.link(spaces[0], "wan", spaces[1], "wan", mtu=mtu)
    for number, space in enumerate(spaces):
        space.sysctl(ipv6__conf__all__accept_dad=0, ipv6__conf__default__accept_dad=0)
        for version, bits, whole in ((4, 24, 32), (6, 64, 128)):
            nodad = " nodad" if version == 6 else ""
            space.ip(
                f"addr add {OUTER[version][number]}/{bits} dev wan{nodad}",
                f"addr add {INNER[version][number]}/{whole} dev lo{nodad}",
            )
        space.ip(f"route add default via {OUTER[4][1 - number]}", f"route add default via {OUTER[6][1 - number]}")
    return spaces


@asynccontextmanager
async def gateway(
    number: int, space: Namespace, options: SoftOptions | None = None, *, patience: float = 5.0
) -> AsyncIterator[Gateway]:
    """A soft datapath in a namespace, with its sockets."""
    heard: list[Datagram] = []
    opened: list[Ingress] = []
    with inside(space):
        datapath = SoftDatapath(options, on_ike=heard.append, timeout=patience)
    try:
        with inside(space):
            await datapath.start()
            opened += [open_ingress(ip_address(OUTER[version][number])) for version in (4, 6)]
        for ingress in opened:
            await datapath.add_ingress(ingress)
        yield Gateway(number, space, datapath, opened, heard)
    finally:
        await datapath.close()
        for ingress in opened:
            ingress.close()


@asynccontextmanager
async def pair(
    options: SoftOptions | None = None, *, mtu: int = 1500, setup: Callable[[Lab, list[Namespace]], None] | None = None
) -> AsyncIterator[Pair]:
    """Two gateways that are hosts themselves."""
    with Lab() as lab:
        spaces = two_hosts(lab, mtu=mtu)
        if setup is not None:
            setup(lab, spaces)
        async with gateway(0, spaces[0], options) as left, gateway(1, spaces[1], options) as right:
            yield Pair(lab, (left, right))
