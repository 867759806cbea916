"""Two kernel datapaths in two namespaces joined by a link. Needs a kernel with ESP: tests in the virtual machine."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

from appliance.datapath.kernel.datapath import KernelDatapath
from appliance.datapath.kernel.options import KernelOptions
from tests.datapath.pair import OUTER, Gateway, Pair, inside, two_hosts
from tests.lab.lab import Lab
from tests.lab.namespace import Namespace

UDP_ENCAP, UDP_ENCAP_ESPINUDP = 100, 2


@contextmanager
def encapsulation(number: int, space: Namespace) -> Iterator[None]:
    """Sockets of UDP 4500 by which the kernel takes ESP, as an IKE daemon has them."""
    opened = []
    with inside(space):
        for family, version in ((socket.AF_INET, 4), (socket.AF_INET6, 6)):
            sock = socket.socket(family, socket.SOCK_DGRAM)
            sock.setsockopt(socket.IPPROTO_UDP, UDP_ENCAP, UDP_ENCAP_ESPINUDP)
            sock.bind((OUTER[version][number], 4500))
            opened.append(sock)
    try:
        yield
    finally:
        for sock in opened:
            sock.close()


@asynccontextmanager
async def kernel_gateway(
    number: int, space: Namespace, options: KernelOptions | None = None, **more: object
) -> AsyncIterator[Gateway]:
    """A kernel datapath in a namespace."""
    datapath = KernelDatapath(options, **more)  # type: ignore[arg-type]
    with encapsulation(number, space):
        try:
            with inside(space):
                await datapath.start()
            yield Gateway(number, space, datapath)  # type: ignore[arg-type]
        finally:
            await datapath.close()


@asynccontextmanager
async def kernel_pair(
    options: KernelOptions | None = None, *, setup: Callable[[Lab, list[Namespace]], None] | None = None
) -> AsyncIterator[Pair]:
    """Two gateways that are hosts themselves."""
    with Lab() as lab:
        spaces = two_hosts(lab)
        if setup is not None:
            setup(lab, spaces)
        async with kernel_gateway(0, spaces[0], options) as left, kernel_gateway(1, spaces[1], options) as right:
            yield Pair(lab, (left, right))


def left_behind(space: Namespace) -> str:
    """What ip-xfrm(8) still lists."""
    with suppress(OSError):
        return space.run(["ip", "xfrm", "state"]).stdout + space.run(["ip", "xfrm", "policy"]).stdout
    return ""
