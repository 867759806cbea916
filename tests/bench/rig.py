"""What is measured: pairs of gateways that take turns in the same namespaces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from tests.lab import config, topology
from tests.lab.config import PSK, Toml
from tests.lab.gateway import ESPLANADE, Gateway
from tests.lab.namespace import Namespace
from tests.lab.ping import answers
from tests.lab.process import cpu_seconds, memory
from tests.lab.strongswan import StrongSwan
from tests.lab.topology import SiteToSite
from tests.lab.vici import Value

IKE = "aes256gcm16-prfsha384-ecp384"


class Kind(Enum):
    """The competitors."""

    OURS = "esplanade"  # ESP in UDP, as the others do it
    OURS_NATIVE = "esplanade, native ESP"
    STOCK = "strongSwan"  # kernel-libipsec, plugins as the distribution loads them
    TUNED = "strongSwan, chosen plugins"  # the same without the kernel's crypto interface


class Side(Protocol):
    """One gateway of a pair."""

    def pids(self) -> dict[str, int]:
        """Its processes by name."""

    def stop(self) -> None:
        """Ends it."""


@dataclass(slots=True)
class Ours:
    """Esplanade."""

    gateway: Gateway

    def pids(self) -> dict[str, int]:
        """Daemon and datapath."""
        return self.gateway.pids

    def stop(self) -> None:
        """Ends it, and takes away what stays on purpose: guard, routes and device."""
        self.gateway.stop()
        namespace = self.gateway.namespace
        namespace.run([*ESPLANADE, "guard", "--config", str(self.gateway.config), "--remove"], check=False)
        for command in (
            ["ip", "link", "del", "dev", "esplanade0"],
            ["ip", "route", "flush", "table", "220"],
            ["ip", "-6", "route", "flush", "table", "220"],
        ):
            namespace.run(command, check=False)
        for family in ("-4", "-6"):
            while namespace.run(["ip", family, "rule", "del", "table", "220"], check=False).returncode == 0:
                pass


@dataclass(slots=True)
class Theirs:
    """strongSwan."""

    charon: StrongSwan

    def pids(self) -> dict[str, int]:
        """charon carries the ESP too."""
        assert self.charon.process is not None
        return {"charon": self.charon.process.pid}

    def stop(self) -> None:
        """Ends it."""
        self.charon.stop()


class Rig:
    """Starts pairs, one after the other, on one topology."""

    def __init__(self, sites: SiteToSite) -> None:
        self.sites = sites
        self._count = 0

    def _name(self, base: str) -> str:
        self._count += 1
        return f"{base}-{self._count}"

    def ours(self, side: str, text: str) -> Ours:
        """A running Esplanade."""
        namespace: Namespace = self.sites.gw_a if side == "a" else self.sites.gw_b
        return Ours(Gateway(namespace, text, name=self._name("esplanade")).start())

    def theirs(self, side: str, *, stock: bool) -> Theirs:
        """A running strongSwan without connections."""
        namespace: Namespace = self.sites.gw_a if side == "a" else self.sites.gw_b
        charon = StrongSwan(namespace, name=self._name("charon"), stock=stock, log_level=0).start()
        charon.load_psk(PSK)
        return Theirs(charon)

    def site_text(self, side: str, kind: Kind) -> str:
        """Our configuration of one side."""
        encapsulation = "auto" if kind is Kind.OURS_NATIVE else "always"
        return config.document(
            config.site(self.sites, side, encapsulation=encapsulation, child={"esp_proposals": ["aes256gcm16"]})
        )

    def site_connection(self, side: str) -> dict[str, Value]:
        """strongSwan's."""
        own, peer = (self.sites.a, self.sites.b) if side == "a" else (self.sites.b, self.sites.a)
        other = "b" if side == "a" else "a"
        networks = [[topology.NET_A, topology.NET_A6], [topology.NET_B, topology.NET_B6]]
        local, remote = networks if side == "a" else networks[::-1]
        return {
            "version": "2",
            "local_addrs": [own.v4],
            "remote_addrs": [peer.v4],
            "proposals": [IKE],
            "local": {"auth": "psk", "id": f"gw-{side}.example"},
            "remote": {"auth": "psk", "id": f"gw-{other}.example"},
            "children": {"net": {"local_ts": local, "remote_ts": remote, "esp_proposals": ["aes256gcm16"]}},
        }

    def pair(self, kind: Kind) -> tuple[Side, Side]:
        """Both gateways of one kind, with a tunnel that answers. Raises RuntimeError if it does not."""
        left: Side
        right: Side
        if kind in (Kind.OURS, Kind.OURS_NATIVE):
            right = self.ours("b", self.site_text("b", kind))
            left = self.ours("a", self.site_text("a", kind))
            left.gateway.initiate("site-b")
        else:
            right = self.theirs("b", stock=kind is Kind.STOCK)
            left = self.theirs("a", stock=kind is Kind.STOCK)
            right.charon.load_connection("site", self.site_connection("b"))
            left.charon.load_connection("site", self.site_connection("a"))
            left.charon.initiate(child="net")
        if answers(self.sites.host_a, topology.HOST_B, within=5) is None:
            raise RuntimeError(f"{kind.value}: the tunnel does not answer")
        return left, right


def cpu(side: Side) -> dict[str, float]:
    """CPU seconds so far of each process."""
    return {name: cpu_seconds(pid) for name, pid in side.pids().items()}


def used(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """The difference, rounded to the clock's ticks."""
    return {name: round(after[name] - before[name], 2) for name in after}


def sizes(side: Side) -> dict[str, int]:
    """Memory in bytes of all its processes together: rss and pss."""
    total = {"rss": 0, "pss": 0}
    for pid in side.pids().values():
        for key, value in memory(pid).items():
            total[key] += value
    return total


def many_text(sites: SiteToSite, count: int) -> str:
    """Our configuration of gw-b for ``count`` peers, all at gw-a's address, told apart by their identities."""
    connections: dict[str, Mapping[str, Toml]] = {}
    for number in range(count):
        connections[f"t{number}"] = {
            "local": {"address": sites.b.v4, "id": "gw-b.example", "auth": "psk"},
            "remote": {"address": sites.a.v4, "id": f"t{number}.example", "auth": "psk"},
            "psk": PSK,
            "ike_proposals": [IKE],
            "start": "respond",
            "encapsulation": "always",
            "child": {
                "net": {"local_ts": [topology.NET_B], "remote_ts": [_network(number)], "esp_proposals": ["aes256gcm16"]}
            },
        }
    return config.document(connections)


def many_connection(sites: SiteToSite, side: str, number: int) -> dict[str, Value]:
    """strongSwan's connection number ``number`` of either side."""
    near, far = ([_network(number)], [topology.NET_B]) if side == "a" else ([topology.NET_B], [_network(number)])
    own, peer = (sites.a, sites.b) if side == "a" else (sites.b, sites.a)
    ids = (f"t{number}.example", "gw-b.example")
    return {
        "version": "2",
        "local_addrs": [own.v4],
        "remote_addrs": [peer.v4],
        "proposals": [IKE],
        "local": {"auth": "psk", "id": ids[0] if side == "a" else ids[1]},
        "remote": {"auth": "psk", "id": ids[1] if side == "a" else ids[0]},
        "children": {f"n{number}": {"local_ts": near, "remote_ts": far, "esp_proposals": ["aes256gcm16"]}},
    }


def _network(number: int) -> str:
    return f"10.{100 + number // 256}.{number % 256}.0/24"


def add_many_networks(sites: SiteToSite, count: int) -> None:
    """Gives gw-a an address in each of the networks: kernel-libipsec takes no policy without one."""
    sites.gw_a.ip(*(f"addr replace {_network(number).removesuffix('0/24')}1/32 dev lo" for number in range(count)))
