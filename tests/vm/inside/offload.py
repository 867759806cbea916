"""A gateway whose kernel datapath offloads to a network device: what it asks for, and what the device has then."""

from __future__ import annotations

import asyncio
import functools
import inspect
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_network
from typing import Any, Concatenate, ParamSpec

import pytest

from appliance.datapath.kernel.datapath import KernelDatapath
from appliance.datapath.kernel.options import KernelOptions
from appliance.datapath.kernel.xfrm import Offload as XfrmOffload
from appliance.datapath.kernel.xfrm import (
    OffloadFlag,
    Policy,
    PolicyDirection,
    PolicyId,
    Selector,
    XfrmSocket,
)
from appliance.datapath.kernel.xfrm import requests as xfrm_requests
from appliance.reasons import Reason
from appliance.sa.algorithms import Encryption, Suite
from appliance.sa.association import Direction, Handling, Offload, SaKey
from appliance.sa.datapath import Carried, Changed, DatapathEvent, DatapathRefusal, InstallRequest, Usage
from tests.datapath import contract
from tests.datapath.kernel.gateways import kernel_gateway, left_behind
from tests.datapath.pair import INNER, OUTER, Pair, keys
from tests.lab.lab import Lab
from tests.lab.namespace import Namespace
from tests.vm.inside import netdevsim
from tests.vm.inside.netdevsim import SAS, Device, OffloadedSa, Variant

P = ParamSpec("P")
AES_128 = Suite(Encryption.AES_GCM_16, 128)
IN, OUT = Direction.IN, Direction.OUT
PLAIN, LIFTED = Variant.PLAIN, Variant.LIFTED
HERE, THERE = (IPv4Address(address) for address in OUTER[4])
BY_PACKET, BY_CRYPTO = "kernel, packet offload", "kernel, crypto offload"
"""Ways of carrying an SA, as ``WhyNot`` names them."""
Way = tuple[str, str, str]
"""Of a policy: its direction, from where, to where."""


@dataclass
class OffloadGateway:
    """Gateway 0 of a pair, on a device; its peer is not there."""

    pair: Pair
    device: Device

    @property
    def space(self) -> Namespace:
        return self.pair.gateways[0].namespace

    @property
    def datapath(self) -> KernelDatapath:
        found = self.pair.gateways[0].datapath
        assert isinstance(found, KernelDatapath)
        return found

    def request(
        self,
        spi: int,
        direction: Direction = OUT,
        offload: Offload = Offload.CRYPTO,
        *,
        device: str | None = "nsim0",
        activate: bool = False,
        **how: Any,
    ) -> InstallRequest:
        """One SA. ``device`` None: the one that leads to the peer. ``how`` is for ``Pair.sa``."""
        handling = Handling(offload=offload, offload_device=device)
        whole: dict[str, Any] = {"udp": False, "suite": AES_128, "handling": handling} | how
        sa = self.pair.sa(0 if direction is OUT else 1, direction, spi, **whole)
        return InstallRequest(sa, keys(spi, sa.suite), activate=activate)

    def child(
        self, spi: int, offload: Offload = Offload.CRYPTO, *, activate: bool = True
    ) -> tuple[InstallRequest, InstallRequest]:
        """A child's two SAs: the inbound one with this SPI, the outbound one with the next."""
        return self.request(spi, IN, offload), self.request(spi + 1, OUT, offload, activate=activate)

    async def protect(self) -> None:
        """Install the policy of the SAs that ``request`` makes."""
        await self.pair.protect()

    async def install(self, *requests: InstallRequest) -> tuple[Carried, ...]:
        return await self.datapath.install(requests)

    async def refused(self, *requests: InstallRequest) -> DatapathRefusal:
        """How the datapath refuses to install them."""
        return await refused(self.install(*requests))

    async def activate(self, outbound: InstallRequest) -> None:
        await self.datapath.activate_outbound(outbound.sa.key)

    async def remove(self, *requests: InstallRequest) -> tuple[SaKey, ...]:
        return await self.datapath.remove([request.sa.key for request in requests])

    async def usage(self, *requests: InstallRequest) -> list[Usage]:
        found = await self.datapath.usage([request.sa.key for request in requests])
        return [found[request.sa.key] for request in requests]

    async def how(self) -> dict[int, str]:
        """How each SA is carried, by SPI, as the dump says."""
        return {row.sa.spi: row.how for row in (await self.datapath.dump()).sas}

    async def audited(self) -> dict[str, int]:
        """The datapath's counters after an audit."""
        await self.datapath.audit()
        return await self.datapath.counters()

    async def heard(self, kind: type[DatapathEvent]) -> DatapathEvent:
        """The next event of a kind."""
        return await contract.heard(self.pair, 0, kind)

    async def told(self) -> str:
        """What the datapath told of since it was last asked, of what it put right or could not."""
        await asyncio.sleep(0.3)
        events = self.datapath._core.events
        found = [events.get_nowait() for _ in range(events.qsize())]
        return "; ".join(event.words for event in found if isinstance(event, Changed))

    def held(self) -> tuple[int, int]:
        """How many SAs and how many policies the device has."""
        shown = self.device.ipsec()
        return shown.count, shown.policy_count

    def shown(self) -> dict[int, OffloadedSa]:
        """The device's SAs by SPI."""
        return {sa.spi: sa for sa in self.device.ipsec().sas}

    def carried(self) -> dict[int, int]:
        """Packets by each SA, as the lifted variant counts them."""
        return {spi: int(sa.more["packets"]) for spi, sa in self.shown().items()}

    def ways(self) -> dict[Way, int]:
        """How many policies the device has from where to where."""
        return dict(ways(self.device))

    @contextmanager
    def crowded(self, room: int) -> Iterator[int]:
        """As many policies of another program's in the device as leave this much room. Gives their number."""
        index = self.space.call(socket.if_nametoindex, self.device.interface)
        shown = self.device.ipsec()
        taken = {policy.source for policy in shown.policies}
        free = [host for n in range(SAS) if (host := ip_network(f"198.51.100.{n}")) not in taken]
        foreign = [
            Policy(
                selector=Selector(host, host),
                direction=PolicyDirection.OUT,
                offload=XfrmOffload(index, OffloadFlag.PACKET),
            )
            for host in free[: SAS - shown.policy_count - room]
        ]
        with self.space.call(XfrmSocket) as xfrm:
            assert not any(answer.error for answer in xfrm.batch([xfrm_requests.new_policy(one) for one in foreign]))
            yield len(foreign)
            xfrm.batch([xfrm_requests.delete_policy(PolicyId.of(one)) for one in foreign])

    def send(self, count: int = 1, *, port: int = 9) -> None:
        """Packets from inside, out of this machine."""
        with self.space.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((INNER[4][0], port))
            for _ in range(count):
                sock.sendto(bytes(100), (INNER[4][1], port))


async def refused(what: Awaitable[object], *, in_doubt: bool = False) -> DatapathRefusal:
    """How the datapath refuses what it is asked for."""
    with pytest.raises(DatapathRefusal) as caught:
        await what
    assert caught.value.in_doubt is in_doubt
    return caught.value


def tried(carried: Carried) -> list[tuple[str, Reason]]:
    """The ways that did not take an SA, and why."""
    return [(why.datapath, why.reason) for why in carried.why_not]


def ways(device: Device) -> Counter[Way]:
    """How many policies a device has from where to where."""
    policies = device.ipsec().policies
    return Counter((policy.more["dir"], str(policy.source), str(policy.destination)) for policy in policies)


def attach(space: Namespace, device: Device) -> None:
    """Give a device the gateway's outer addresses and a neighbour, the peer; lo has the inner ones."""
    name = device.interface
    space.ip(
        f"address add {OUTER[4][0]}/24 dev {name}",
        f"address add {OUTER[6][0]}/64 dev {name} nodad",
        f"neighbour replace {OUTER[4][1]} dev {name} lladdr 02:00:00:00:00:02 nud permanent",
        f"address replace {INNER[4][0]}/32 dev lo",
        f"address replace {INNER[6][0]}/128 dev lo",
    )


@asynccontextmanager
async def on_netdevsim(options: KernelOptions | None = None) -> AsyncIterator[OffloadGateway]:
    """A gateway on a device of the module that is loaded; once closed it has left nothing in it, nor in the kernel."""
    with Lab() as lab:
        space = lab.namespace("gateway")
        with netdevsim.device(namespace=space.path) as one:
            attach(space, one)
            async with kernel_gateway(0, space, options) as gateway:
                yield OffloadGateway(Pair(lab, (gateway,)), one)
            assert left_behind(space) == ""
            if (found := one.found()) is not None:
                assert (found.count, found.policy_count) == (0, 0)


Body = Callable[Concatenate[OffloadGateway, P], Coroutine[Any, Any, None]]
Making = Callable[[], AbstractAsyncContextManager[OffloadGateway]]


def using(making: Making) -> Callable[[Body[P]], Callable[P, None]]:
    """A test that is a coroutine, its first argument such a gateway; the others are pytest's."""

    def test_of(body: Body[P]) -> Callable[P, None]:
        @functools.wraps(body)
        def test(*args: P.args, **kwargs: P.kwargs) -> None:
            async def whole() -> None:
                async with making() as gateway:
                    await body(gateway, *args, **kwargs)

            contract.run(whole())

        signature = inspect.signature(body)
        test.__signature__ = signature.replace(parameters=[*signature.parameters.values()][1:])  # type: ignore[attr-defined]
        return test

    return test_of


def variants(*which: Variant) -> pytest.MarkDecorator:
    """A test of each of these variants of netdevsim, which its argument ``netdevsim`` names."""
    return pytest.mark.parametrize("netdevsim", which, indirect=True, ids=str)


def on(*which: Variant) -> Callable[[Body[P]], Callable[P, None]]:
    """A test using a gateway on each of these variants of netdevsim."""

    def test_of(body: Body[P]) -> Callable[P, None]:
        test = using(on_netdevsim)(body)
        return variants(*which)(pytest.mark.usefixtures("netdevsim")(test))

    return test_of
