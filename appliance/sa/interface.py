"""Tunnel interfaces: routes lead to them what a child protects (ip-link(8), type xfrm)."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface

from appliance.sa.selector import Network


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelInterface:
    """One that is wanted. ``if_id`` joins it with policies and SAs; ``device`` is the interface below, if one is to be.

    What is in ``routes`` and in the networks of ``addresses`` goes there and nowhere else.
    """

    name: str
    if_id: int
    addresses: tuple[IPv4Interface | IPv6Interface, ...] = ()
    mtu: int = 1400
    routes: tuple[Network, ...] = ()
    device: str | None = None
