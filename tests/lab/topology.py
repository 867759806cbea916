"""The networks that tests are run on: two sites, a gateway before each, and something between the gateways.

    host_a ──lan── gw_a ──wan── middle ──wan── gw_b ──lan── host_b

The gateways' default routes lead to each other, so that a packet which escapes protection does reach the other side,
and a capture on the way sees it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from tests.lab.lab import Lab
from tests.lab.link import Link
from tests.lab.namespace import Namespace
from tests.lab.nat import Nat

HOST_A, HOST_B = "10.1.0.10", "10.2.0.10"
HOST_A6, HOST_B6 = "fd01::10", "fd02::10"
NET_A, NET_B = "10.1.0.0/24", "10.2.0.0/24"
NET_A6, NET_B6 = "fd01::/64", "fd02::/64"
INSIDE = (NET_A, NET_B, NET_A6, NET_B6)


class Middle(Enum):
    """What stands between the gateways."""

    SWITCH = "switch"  # one subnet, as in the example configuration
    ROUTER = "router"
    NAT = "nat"  # gw_a is behind it


@dataclass(frozen=True, slots=True)
class Outside:
    """A gateway's outer addresses, and what the other side sees of it."""

    v4: str
    v6: str
    seen_v4: str
    seen_v6: str


class SiteToSite:
    """Two sites. ``wan_a`` and ``wan_b`` are the links to cut; ``nat`` is there with :attr:`Middle.NAT`."""

    def __init__(self, lab: Lab, middle: Middle = Middle.SWITCH, *, mtu: int = 1500, udp_timeout: int = 180) -> None:
        self.lab = lab
        self.kind = middle
        self.host_a = lab.namespace("host-a")
        self.gw_a = lab.namespace("gw-a", forwarding=True)
        self.middle = lab.namespace("middle", forwarding=middle is not Middle.SWITCH)
        self.gw_b = lab.namespace("gw-b", forwarding=True)
        self.host_b = lab.namespace("host-b")
        self.lan_a = lab.link(self.host_a, "lan", self.gw_a, "lan")
        self.wan_a = lab.link(self.gw_a, "wan", self.middle, "side-a")
        self.wan_b = lab.link(self.gw_b, "wan", self.middle, "side-b", mtu=mtu)
        self.lan_b = lab.link(self.host_b, "lan", self.gw_b, "lan")
        self.nat: Nat | None = None
        _inside(self.host_a, self.gw_a, 1)
        _inside(self.host_b, self.gw_b, 2)
        match middle:
            case Middle.SWITCH:
                self._switch()
            case Middle.ROUTER:
                self._router()
            case Middle.NAT:
                self._router(private=True)
                self.nat = Nat(self.middle, outside="side-b", udp_timeout=udp_timeout)

    def _switch(self) -> None:
        self.a = Outside("192.0.2.1", "2001:db8::1", "192.0.2.1", "2001:db8::1")
        self.b = Outside("192.0.2.2", "2001:db8::2", "192.0.2.2", "2001:db8::2")
        self.middle.ip(
            "link add name switch type bridge mcast_snooping 0",
            "link set dev side-a master switch",
            "link set dev side-b master switch",
            "link set dev switch up",
        )
        _outside(self.gw_a, self.a, self.b.v4, self.b.v6)
        _outside(self.gw_b, self.b, self.a.v4, self.a.v6)

    def _router(self, *, private: bool = False) -> None:
        near4, near6 = ("172.16.0", "fd99:") if private else ("192.0.2", "2001:db8:a:")
        seen = ("198.51.100.254", "2001:db8:b::254") if private else (f"{near4}.1", f"{near6}:1")
        self.a = Outside(f"{near4}.1", f"{near6}:1", *seen)
        self.b = Outside("198.51.100.1", "2001:db8:b::1", "198.51.100.1", "2001:db8:b::1")
        self.middle.ip(
            f"addr add {near4}.254/24 dev side-a",
            f"addr add {near6}:254/64 dev side-a nodad",
            "addr add 198.51.100.254/24 dev side-b",
            "addr add 2001:db8:b::254/64 dev side-b nodad",
        )
        if not private:
            # A leaked packet has a way to the other side here too.
            self.middle.ip(
                f"route add {NET_A} via {self.a.v4}",
                f"route add {NET_B} via {self.b.v4}",
                f"route add {NET_A6} via {self.a.v6}",
                f"route add {NET_B6} via {self.b.v6}",
            )
        _outside(self.gw_a, self.a, f"{near4}.254", f"{near6}:254")
        _outside(self.gw_b, self.b, "198.51.100.254", "2001:db8:b::254")

    def cut(self) -> None:
        """Packets between the gateways vanish."""
        self.wan_a.cut()

    def repair(self) -> None:
        """And pass again."""
        self.wan_a.repair()

    def links(self) -> tuple[Link, ...]:
        """From left to right."""
        return (self.lan_a, self.wan_a, self.wan_b, self.lan_b)


def _inside(host: Namespace, gateway: Namespace, site: int) -> None:
    host.ip(
        f"addr add 10.{site}.0.10/24 dev lan",
        f"addr add fd0{site}::10/64 dev lan nodad",
        f"route add default via 10.{site}.0.1",
        f"route add default via fd0{site}::1",
    )
    gateway.ip(f"addr add 10.{site}.0.1/24 dev lan", f"addr add fd0{site}::1/64 dev lan nodad")


def _outside(gateway: Namespace, own: Outside, next_v4: str, next_v6: str) -> None:
    gateway.ip(
        f"addr add {own.v4}/24 dev wan",
        f"addr add {own.v6}/64 dev wan nodad",
        f"route add default via {next_v4}",
        f"route add default via {next_v6}",
    )
