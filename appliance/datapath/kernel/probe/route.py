"""The device that leads to a peer, for SAs that name none."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

from appliance.datapath.kernel.probe.links import Link, link
from appliance.datapath.netlink import GETROUTE, Netlink, attribute, attributes, u32
from appliance.reasons import Reason, Refusal
from appliance.sa.selector import Address

_DESTINATION, _OUT, _MARK = 1, 4, 16
_SECONDS = 2.0
_STACKED = 8
"""VLANs on VLANs that are followed."""


@dataclass(frozen=True, slots=True)
class Egress:
    """Where packets to a peer leave. ``through``: the VLAN interfaces above the device, the route's own first.

    Over a VLAN, Linux does outbound crypto offload in software; inbound, and packet offload, are the device's.
    """

    name: str
    index: int
    through: tuple[str, ...] = ()


def device_to(address: Address, mark: int = 0, route: Netlink | None = None) -> Egress:
    """The device that the route to ``address`` leads to, for packets with ``mark``. Does not wait for others.

    Raises Refusal (NO_OFFLOAD_DEVICE): there is no route, or it leads to what can take no SA.
    """
    try:
        if route is not None:
            return _egress(route, address, mark)
        with Netlink(timeout=_SECONDS) as own:
            return _egress(own, address, mark)
    except (OSError, StopIteration, struct.error) as error:
        words = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise Refusal(Reason.NO_OFFLOAD_DEVICE, f"no device leads to {address}: {words}") from error


def _egress(route: Netlink, address: Address, mark: int) -> Egress:
    found = _interface(route, address, mark)
    through: list[str] = []
    while found.kind == "vlan":
        if not found.lower or len(through) == _STACKED:
            raise Refusal(Reason.NO_OFFLOAD_DEVICE, f"{found.name} leads to {address}, and its device is not here")
        through.append(found.name)
        found = link(route, found.lower)
    why = found.why_no_offload()
    if why:
        over = f" over {', '.join(through)}" if through else ""
        raise Refusal(Reason.NO_OFFLOAD_DEVICE, f"where packets to {address} leave{over}: {why}")
    return Egress(found.name, found.index, tuple(through))


def _interface(route: Netlink, address: Address, mark: int) -> Link:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    body = struct.pack("=BBBBBBBBI", family, address.max_prefixlen, 0, 0, 0, 0, 0, 0, 0)
    body += attribute(_DESTINATION, address.packed)
    if mark:
        body += attribute(_MARK, struct.pack("=I", mark))
    for payload in route.ask(GETROUTE, body):
        return link(route, u32(attributes(payload[12:]).get(_OUT)))
    raise OSError("the kernel names none")
