"""Two gateways in one event loop: real engines, datapaths in memory, an IKE network with latency and faults."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from ipaddress import ip_address
from random import Random
from typing import Any

from appliance.config.load import loads
from appliance.daemon.desired import Desired
from appliance.daemon.gateway import Gateway
from appliance.daemon.log import Log
from appliance.daemon.reload import Change, plan
from appliance.daemon.runtime import ChildRuntime, ConnectionRuntime
from appliance.daemon.translate import Reqids, desired_of
from appliance.ike.connection import Endpoint
from appliance.ike.events import Datagram
from appliance.reasons import Reason, Refusal
from appliance.sa.datapath import Datapath
from appliance.sa.selector import Address
from tests.daemon.memory_datapath import MemoryDatapath, Sa

LATENCY = 0.01
WALL = 1_700_000_000.0
A, B, PUBLIC = ip_address("192.0.2.1"), ip_address("192.0.2.2"), ip_address("203.0.113.9")


def configuration(
    local: str = "a",
    *,
    start: str = "initiate",
    psk: str = "a long enough secret",
    extra: str = "",
    child: str = "",
    children: str = "",
    proposals: str = "aes256gcm16",
) -> str:
    """One side's configuration; the other side's is its mirror."""
    here, there = ("1", "2") if local == "a" else ("2", "1")
    return f"""
schema = 1
[connection.site]
local  = {{ address = "192.0.2.{here}", id = "gw-{here}.example", auth = "psk" }}
remote = {{ address = "192.0.2.{there}", id = "gw-{there}.example", auth = "psk" }}
psk = "{psk}"
ike_proposals = ["aes256gcm16-prfsha256-x25519"]
start = "{start}"
{extra}
[connection.site.child.net]
local_ts  = ["10.{here}.0.0/24"]
remote_ts = ["10.{there}.0.0/24"]
esp_proposals = ["{proposals}"]
{child}
{children.replace("OURS", here).replace("THEIRS", there)}
"""


SECOND_CHILD = """
[connection.site.child.lab]
local_ts  = ["10.OURS.1.0/24"]
remote_ts = ["10.THEIRS.1.0/24"]
esp_proposals = ["aes256gcm16"]
"""


class Network:
    """Carries IKE datagrams between addresses. ``cut`` loses all; ``drop`` decides about each."""

    def __init__(self) -> None:
        self.sides: dict[Address, Side] = {}
        self.cut = False
        self.drop: Callable[[Datagram], bool] = lambda datagram: False
        self.sent: list[Datagram] = []

    def send(self, datagram: Datagram) -> None:
        self.sent.append(datagram)
        side = self.sides.get(datagram.destination.address)
        if side is None or self.cut or self.drop(datagram):
            return
        asyncio.get_running_loop().call_later(LATENCY, side.receive, datagram)


class NatNetwork(Network):
    """A is behind a NAT: the world sees it at PUBLIC, by ports that ``remap`` changes."""

    def __init__(self) -> None:
        super().__init__()
        self.ports: dict[int, int] = {}
        self.last = 20_000

    def remap(self) -> None:
        """The NAT forgets, as after a restart: what comes next from inside gets new ports."""
        self.ports.clear()

    def port(self, inside: int) -> int:
        """The outer port of an inner one."""
        if inside not in self.ports:
            self.last += 1
            self.ports[inside] = self.last
        return self.ports[inside]

    def send(self, datagram: Datagram) -> None:
        if datagram.source.address == A:
            datagram = replace(datagram, source=Endpoint(PUBLIC, self.port(datagram.source.port)))
        elif datagram.destination.address == PUBLIC:
            inside = next((i for i, o in self.ports.items() if o == datagram.destination.port), None)
            if inside is None:
                return
            datagram = replace(datagram, destination=Endpoint(A, inside))
        super().send(datagram)


class Side:
    """One gateway. ``datapath`` is the youngest one, ``datapaths`` all that were ever started, by ``names``.

    ``down`` names those that cannot be started. ``journal`` has what they were asked for, in order. ``adjust`` changes
    what the configuration wants.
    """

    def __init__(
        self,
        network: Network,
        address: Address,
        text: str,
        seed: int,
        *,
        names: tuple[str, ...] = ("memory",),
        interfaces: tuple[str, ...] = (),
        return_after: float | None = 60.0,
        adjust: Callable[[Desired], Desired] = lambda desired: desired,
    ) -> None:
        self.address = address
        self.network = network
        self.text = text
        self.reqids = Reqids()
        self.config = loads(text)
        self.log = Log(level="debug", clock=self.wall)
        self.datapaths: list[MemoryDatapath] = []
        self.unstartable = 0
        self.names = names
        self.interfaces = interfaces
        self.down: set[str] = set()
        self.seen_keys: set[bytes] = set()
        self.journal: list[str] = []
        self.adjust = lambda desired: replace(adjust(desired), return_after=return_after)
        self.addresses = {address}
        self.peer: Side | None = None
        random = Random(seed)
        self.gateway = Gateway(
            self.adjust(desired_of(self.config, self.reqids)),
            self.log,
            makers=[(name, partial(self._make, name)) for name in names],
            send=network.send,
            local_for=self._local_for,
            chance=random.randbytes,
            wall=self.wall,
        )
        network.sides[address] = self

    @staticmethod
    def wall() -> float:
        return WALL + asyncio.get_running_loop().time()

    async def _make(self, name: str) -> Datapath:
        if name in self.down:
            raise Refusal(Reason.NO_TUN, "as the test wants")
        if self.unstartable:
            self.unstartable -= 1
            raise Refusal(Reason.NO_TUN, "as the test wants")
        datapath = MemoryDatapath(
            name,
            interfaces=name in self.interfaces,
            seen_keys=self.seen_keys,
            journal=self.journal,
            wire=None if self.names == ("memory",) else self._wire,
        )
        self.datapaths.append(datapath)
        self.join()
        return datapath

    def join(self) -> None:
        """Connect the running datapaths of both sides."""
        if self.peer is not None and self.datapaths and self.peer.datapaths:
            self.datapath.peer, self.peer.datapath.peer = self.peer.datapath, self.datapath

    @property
    def running(self) -> dict[str, MemoryDatapath]:
        """The datapaths that run, by name and in their order."""
        return {
            slot.name: slot.datapath
            for slot in self.gateway.datapaths.slots
            if isinstance(slot.datapath, MemoryDatapath) and not slot.datapath.dead
        }

    def transmit(self, reqid: int = 1, size: int = 100) -> bool:
        """Send one packet as the network stack would: it goes by whatever datapath has its policy."""
        for datapath in self.running.values():
            if any(policy.reqid == reqid for policy in datapath.policies.values()):
                return datapath.transmit(reqid, size)
        return False

    def _wire(self, sent: Sa, size: int) -> bool:
        assert self.peer is not None
        return any(datapath.receive(sent, size) for datapath in self.peer.running.values())

    def _local_for(self, remote: Address, configured: tuple[Address, ...]) -> Address:
        for address in configured or tuple(self.addresses):
            if address in self.addresses:
                return address
        raise Refusal(Reason.BAD_ADDRESS, str(configured[0]))

    def receive(self, datagram: Datagram) -> None:
        if not datagram.keepalive:
            self.gateway.ike.receive(datagram.data, datagram.destination, datagram.source)

    @property
    def datapath(self) -> MemoryDatapath:
        return self.datapaths[-1]

    @property
    def site(self) -> ConnectionRuntime:
        return self.gateway.reconciler.connections["site"]

    @property
    def net(self) -> ChildRuntime:
        return self.site.children["net"]

    async def start(self) -> None:
        await self.gateway.start_datapaths()
        self.gateway.start()

    async def reload(self, text: str) -> Change:
        config = loads(text)
        change = plan(self.config, self.gateway.desired, config, self.adjust(desired_of(config, self.reqids)))
        await self.gateway.change(change.desired)
        self.config = config
        return change

    async def until(self, condition: Callable[[], object], seconds: float = 30.0) -> None:
        """Wait in virtual time."""
        end = asyncio.get_running_loop().time() + seconds
        while not condition():
            if asyncio.get_running_loop().time() >= end:
                raise AssertionError("did not happen:\n" + "\n".join(map(str, self.log)))
            await asyncio.sleep(0.02)

    def events(self) -> list[str]:
        return [entry.event for entry in self.log]


@asynccontextmanager
async def pair(
    a: str, b: str, *, up: bool = True, seed: int = 1, network: Network | None = None, **settings: Any
) -> AsyncIterator[tuple[Side, Side, Network]]:
    """Both sides, started; with ``up``, until the tunnel carries traffic. Stopped at the end."""
    network = network or Network()
    one, two = Side(network, A, a, seed, **settings), Side(network, B, b, seed + 1000, **settings)
    one.peer, two.peer = two, one
    await two.start()
    await one.start()
    try:
        if up:
            await one.until(lambda: one.net.installed and two.net.installed)
            # A responder may send before its answer has arrived; from then on nothing is lost.
            await one.until(lambda: one.transmit() and two.transmit(), 5)
        yield one, two, network
    finally:
        for side in (one, two):
            await side.gateway.stop()


def endpoint(address: Address, port: int = 500) -> Endpoint:
    return Endpoint(address, port)
