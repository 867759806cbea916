"""Two sites, each a host behind a gateway of the kernel's datapath, and a router between the gateways.

Neither the gateways nor the router have a default route, and the router knows no inner network.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from appliance.datapath.kernel.options import KernelOptions
from tests.datapath.kernel.gateways import kernel_gateway
from tests.datapath.pair import INNER, NETS, OUTER, Pair
from tests.lab.capture import Capture, Frame
from tests.lab.lab import Lab
from tests.lab.link import Link
from tests.lab.namespace import Namespace

HOST = {4: ("10.1.0.9", "10.2.0.9"), 6: ("fd01::9", "fd02::9")}
# Between gateway and router: the gateway's address, the router's.
_WAN = {4: (("198.51.100.2", "198.51.100.1"), ("203.0.113.2", "203.0.113.1")),
        6: (("2001:db8:a::2", "2001:db8:a::1"), ("2001:db8:b::2", "2001:db8:b::1"))}  # fmt: skip
_BITS = {4: 24, 6: 64}
_INSIDE = [network for networks in NETS.values() for network in networks]


@dataclass
class Sites:
    """``gateways`` and ``hosts`` by number; ``links`` are those from the gateways to the router."""

    lab: Lab
    gateways: tuple[Namespace, Namespace]
    hosts: tuple[Namespace, Namespace]
    router: Namespace
    links: tuple[Link, Link]

    def leaks(self, capture: Capture) -> list[Frame]:
        """What was seen in the clear of inner networks."""
        return capture.leaks(*_INSIDE)

    def outside(self, number: int) -> Capture:
        """What the router hears of a gateway."""
        return Capture(self.router, f"wan{number}")


def ping(space: Namespace, target: str, source: str = "", *, count: int = 3) -> bool:
    """Whether all echoes come back."""
    argv = ["ping", "-q", "-n", "-c", str(count), "-i", "0.02", "-W", "2", *(["-I", source] if source else ()), target]
    return f" {count} received" in space.run(argv, check=False).stdout


def silent(space: Namespace, target: str, source: str = "") -> bool:
    """Whether an echo does not come back."""
    argv = ["ping", "-q", "-n", "-c", "1", "-W", "1", *(["-I", source] if source else ()), target]
    return space.run(argv, check=False).returncode != 0


async def soon(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether a condition holds within ``seconds``: datapaths put right in their own time what others changed.

    They live in this loop, so the condition, which may take long, is looked at beside it.
    """
    deadline = time.monotonic() + seconds
    while not await asyncio.to_thread(condition):
        if time.monotonic() > deadline:
            return False
    return True


def two_sites(lab: Lab) -> Sites:
    """The namespaces, links, addresses and routes."""
    gateways = lab.namespace("left", forwarding=True), lab.namespace("right", forwarding=True)
    hosts = lab.namespace("lefthost"), lab.namespace("righthost")
    router = lab.namespace("router", forwarding=True)
    links = []
    for number, (gateway, host) in enumerate(zip(gateways, hosts, strict=True)):
        links.append(lab.link(gateway, "wan", router, f"wan{number}"))
        lab.link(gateway, "lan", host, "lan")
        for version, bits in _BITS.items():
            ours, theirs = _WAN[version][number]
            nodad = " nodad" if version == 6 else ""
            outer, inner = OUTER[version], INNER[version]
            whole = 32 if version == 4 else 128
            gateway.ip(
                f"addr add {ours}/{bits} dev wan{nodad}",
                f"addr add {outer[number]}/{whole} dev lo{nodad}",
                f"addr add {inner[number]}/{bits} dev lan{nodad}",
                f"route add {outer[1 - number]}/{whole} via {theirs} src {outer[number]}",
            )
            router.ip(
                f"addr add {theirs}/{bits} dev wan{number}{nodad}", f"route add {outer[number]}/{whole} via {ours}"
            )
            host.ip(
                f"addr add {HOST[version][number]}/{bits} dev lan{nodad}",
                f"route add default via {inner[number]}",
            )
    return Sites(lab, gateways, hosts, router, (links[0], links[1]))


@asynccontextmanager
async def kernel_sites(options: KernelOptions | None = None) -> AsyncIterator[tuple[Sites, Pair]]:
    """Both gateways with a kernel datapath."""
    with Lab() as lab:
        sites = two_sites(lab)
        async with (
            kernel_gateway(0, sites.gateways[0], options) as left,
            kernel_gateway(1, sites.gateways[1], options) as right,
        ):
            yield sites, Pair(lab, (left, right))
