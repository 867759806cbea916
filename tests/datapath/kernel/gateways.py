"""Two kernel datapaths in two namespaces joined by a link. Needs a kernel with ESP: tests in the virtual machine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address

from appliance.datapath.demultiplexer import Demultiplexer
from appliance.datapath.ingress import Ingress, open_ingress
from appliance.datapath.kernel.datapath import KernelDatapath
from appliance.datapath.kernel.options import KernelOptions
from tests.datapath.pair import OUTER, Gateway, Pair, inside, two_hosts
from tests.lab.lab import Lab
from tests.lab.namespace import Namespace


@asynccontextmanager
async def kernel_gateway(number: int, space: Namespace, options: KernelOptions | None = None) -> AsyncIterator[Gateway]:
    """A kernel datapath in a namespace, with the sockets that an IKE daemon has."""
    opened: list[Ingress] = []
    with inside(space):
        opened += [open_ingress(ip_address(OUTER[version][number])) for version in (4, 6)]
        datapath = KernelDatapath(options, demultiplexer=kernel_only(opened))
    try:
        with inside(space):
            await datapath.start()
        yield Gateway(number, space, datapath, opened)  # type: ignore[arg-type]
    finally:
        await datapath.close()
        for ingress in opened:
            ingress.close()


def kernel_only(opened: list[Ingress]) -> Demultiplexer:
    """All of ESP goes to the kernel."""
    demultiplexer = Demultiplexer(opened)
    demultiplexer.readers(soft=False)
    return demultiplexer


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


def kill(datapath: KernelDatapath) -> None:
    """As if its process were killed: it closes its sockets, and removes nothing."""
    core = datapath._core
    assert core.requester is not None and datapath._hearing is not None
    datapath._hearing.close()
    core.tasks.cancel()
    core.requester.close()
    core.requester = None


def left_behind(space: Namespace) -> str:
    """What ip-xfrm(8) still lists."""
    with suppress(OSError):
        return space.run(["ip", "xfrm", "state"]).stdout + space.run(["ip", "xfrm", "policy"]).stdout
    return ""
