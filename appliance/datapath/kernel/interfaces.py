"""Tunnel interfaces in the kernel: made, kept as they are wanted, and taken away.

What is routed to a tunnel interface must not leave in the clear when the interface is down, gone, or not made yet. So
beside each route there stands an unreachable one to the same network, which counts when the first is not there. It
outlives the interface and the daemon, as the guard does.

No sysctl is needed: a reverse path filter, also a strict one, lets in what came through an SA.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable, Sequence
from ipaddress import ip_network
from typing import Protocol

from appliance.datapath.kernel import links
from appliance.datapath.kernel.links import Link, OnInterface
from appliance.datapath.kernel.xfrm import Malformed
from appliance.datapath.kernel.xfrm.wire import attributes
from appliance.datapath.netlink import CREATE, DELROUTE, EXCLUSIVE, GETADDR, GETLINK, GETROUTE, NEWROUTE
from appliance.datapath.rtnetlink import MAIN, PROTOCOL, UNICAST, UNREACHABLE, Request, Route, RtNetlink, Unsupported
from appliance.reasons import Reason, Refusal
from appliance.sa.interface import TunnelInterface
from appliance.sa.selector import Network

METRIC, HELD_METRIC = 1, 2
"""Of our routes, and of the unreachable ones behind them: no route to the same network with a usual metric is better
than either, and none comes between."""

_ROUTE = struct.Struct("=BBBBBBBBI")
_U32 = struct.Struct("=I")
_DST, _OIF, _PRIORITY, _TABLE = 1, 4, 6, 15
_GONE = errno.ESRCH, errno.ENOENT, errno.ENODEV


class Routing(Protocol):
    """What interfaces are kept with: the kernel's (RtNetlink), or a test's."""

    def do(self, requests: Sequence[Request]) -> None:
        """Do all of them, in order; at the first that is refused, those behind it are done all the same.

        Raises Refusal with the kernel's words about it: NO_PRIVILEGE, KERNEL_REFUSED, DATAPATH_TIMEOUT; Unsupported.
        """

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """The payloads of what there is. Raises Refusal as ``do``."""

    def close(self) -> None:
        """Give it back."""


class Interfaces:
    """Keeps tunnel interfaces as they are wanted, in the network namespace that it was made in."""

    def __init__(self, routing: Routing | None = None) -> None:
        self._routing = RtNetlink() if routing is None else routing

    def close(self) -> None:
        """Give up the socket; everything stays as it is."""
        self._routing.close()

    def apply(self, wanted: Sequence[TunnelInterface]) -> list[str]:
        """Make those that are missing, change those that are otherwise, remove those of ours that nobody wants.

        Whoever made or changed them meanwhile, and whether or not an earlier daemon left them. Returns what was done,
        in words; nothing is done where all is as it should be. Others' interfaces are never touched. One that is
        refused does not hold up the others.

        Raises Refusal, the first: INTERFACE_TAKEN, INTERFACE_UNSUPPORTED, NO_PRIVILEGE, KERNEL_REFUSED with the
        kernel's words, DATAPATH_TIMEOUT. Blocks: hundreds of interfaces are for a thread.
        """
        done: list[str] = []
        refused: list[Refusal] = []
        # First of all, before anything is taken away.
        held = _hold(wanted, self._routing)
        if held:
            done.append(f"{_networks(held)}: unreachable while the interface is not there")
        there = self._remove_others(_links(self._routing), wanted, done)
        good: list[TunnelInterface] = []
        for interface in wanted:
            try:
                self._make(interface, there, done)
            except Refusal as refusal:
                refused.append(refusal)
                link = there.get(interface.name)
                if link is None or not link.ours:
                    continue  # Else it is there and works, though it could not be made anew.
            good.append(interface)
        there, addresses = _links(self._routing), _addresses(self._routing)
        pairs = [(interface, there[interface.name]) for interface in good if interface.name in there]
        for interface, link in pairs:
            try:
                self._set(interface, link, done)
                self._address(interface, link, addresses.get(link.index, set()), done)
            except Refusal as refusal:
                refused.append(refusal)
        # Setting an interface down, and taking its last address away, have taken routes away.
        standing = _routes(self._routing)
        routes = set(_held(wanted))
        for interface, link in pairs:
            through = [_through(network, link) for network in _routed(interface)]
            routes.update(through)
            try:
                self._route(link, [route for route in through if route not in standing], done)
            except Refusal as refusal:
                refused.append(refusal)
        self._forget([route for route in standing if route not in routes], done)
        if refused:
            raise refused[0]
        return done

    def indices(self) -> dict[str, int]:
        """Our interfaces that are there, with the kernel's numbers of them. Raises Refusal as ``apply``."""
        return {link.name: link.index for link in _links(self._routing).values() if link.ours}

    def remove(self) -> list[str]:
        """Take our interfaces away. The unreachable routes stay. Returns what was done. Raises Refusal as ``apply``."""
        done: list[str] = []
        self._remove_others(_links(self._routing), (), done)
        return done

    def _remove_others(
        self, there: dict[str, Link], wanted: Sequence[TunnelInterface], done: list[str]
    ) -> dict[str, Link]:
        """Of ours, those that nobody wants, and those that cannot become what is wanted. Returns what is left."""
        by_name = {interface.name: interface for interface in wanted}
        left: dict[str, Link] = {}
        requests: list[Request] = []
        for link in there.values():
            interface = by_name.get(link.name)
            if not link.ours or (interface is not None and _fits(link, interface, there)):
                left[link.name] = link
                continue
            why = "which nothing wants" if interface is None else "to make it anew with another if_id or device"
            done.append(f"removed {link.name}, {why}")
            requests.append(links.remove_link(link))
        if requests:
            self._routing.do(requests)
        return left

    def _make(self, interface: TunnelInterface, there: dict[str, Link], done: list[str]) -> None:
        name = interface.name
        below = there.get(interface.device) if interface.device is not None else None
        if interface.device is not None and below is None:
            detail = f"{name}: there is no interface {interface.device} to be below it"
            raise Refusal(
                Reason.KERNEL_REFUSED, detail, remedy=f"take device out of [interface.{name}], or see ip link"
            )
        link = there.get(name)
        if link is not None:
            if not link.ours:
                detail = f"{name} is another program's" + (f", of kind {link.kind}" if link.kind else "")
                remedy = f"choose another name than {name}, or remove it: ip link delete {name}"
                raise Refusal(Reason.INTERFACE_TAKEN, detail, remedy=remedy)
            return
        for other in there.values():
            if other.kind == links.KIND and other.if_id == interface.if_id:
                detail = f"{name}: another program's interface {other.name} has if_id {other.if_id}"
                raise Refusal(Reason.KERNEL_REFUSED, detail, remedy=f"give [interface.{name}] another if_id")
        below_index = below.index if below is not None else 0
        try:
            self._routing.do(links.make_link(name, interface.mtu, interface.if_id, below_index))
        except Unsupported as refusal:
            remedy = "load xfrm_interface (CONFIG_XFRM_INTERFACE), or take interface out of the child"
            raise Refusal(Reason.INTERFACE_UNSUPPORTED, refusal.detail, remedy=remedy) from None
        done.append(f"made {name} (if_id {interface.if_id})")

    def _set(self, interface: TunnelInterface, link: Link, done: list[str]) -> None:
        if link.mtu == interface.mtu and link.up:
            return
        self._routing.do(links.set_link(link, interface.mtu))
        if link.mtu != interface.mtu:
            done.append(f"{link.name}: MTU {interface.mtu} instead of {link.mtu}")
        if not link.up:
            done.append(f"{link.name}: set up")

    def _address(self, interface: TunnelInterface, link: Link, there: set[OnInterface], done: list[str]) -> None:
        wrong = there - set(interface.addresses)
        if wrong:
            self._routing.do([links.remove_address(link, address) for address in wrong])
            done.append(f"{link.name}: removed {', '.join(sorted(map(str, wrong)))}")
            # With the first address of an IPv4 network the kernel removes the others.
            there = _addresses(self._routing).get(link.index, set())
        missing = [address for address in interface.addresses if address not in there]
        if missing:
            self._routing.do([links.add_address(link, address) for address in missing])
            done.append(f"{link.name}: added {', '.join(map(str, missing))}")

    def _route(self, link: Link, missing: Sequence[Route], done: list[str]) -> None:
        if missing:
            self._routing.do([_add(route) for route in missing])
            done.append(f"{link.name}: routed {_networks(route.destination for route in missing)}")

    def _forget(self, stale: Sequence[Route], done: list[str]) -> None:
        if stale:
            self._routing.do([_remove(route) for route in stale])
            done.append(f"{_networks(dict.fromkeys(route.destination for route in stale))}: no longer routed")


def hold_routes(wanted: Iterable[TunnelInterface], routing: Routing | None = None) -> None:
    """Make unreachable what leads to these interfaces, where nothing better is. Raises Refusal as ``Interfaces.apply``.

    Not needed before ``Interfaces.apply``, which does the same: for the time before there is a datapath.
    """
    own = RtNetlink() if routing is None else routing
    try:
        _hold(wanted, own)
    finally:
        if routing is None:
            own.close()


def remove_routes(routing: Routing | None = None) -> None:
    """Remove the unreachable routes: what they held may leave in the clear. Idempotent. Raises Refusal likewise."""
    own = RtNetlink() if routing is None else routing
    try:
        held = [route for route in _routes(own) if route.kind == UNREACHABLE]
        if held:
            own.do([_remove(route) for route in held])
    finally:
        if routing is None:
            own.close()


def _routed(interface: TunnelInterface) -> list[Network]:
    """What leads to an interface: its routes and its own networks, each once.

    Everything becomes its two halves, which are narrower than a default route of whatever metric.
    """
    own = [address.network for address in interface.addresses if address.network.num_addresses > 1]
    networks: list[Network] = []
    for network in (*interface.routes, *own):
        networks += network.subnets() if network.prefixlen == 0 else [network]
    return list(dict.fromkeys(networks))


def _held(wanted: Iterable[TunnelInterface]) -> dict[Route, None]:
    """The unreachable routes, in order."""
    return {
        Route(destination=network, table=MAIN, kind=UNREACHABLE, metric=HELD_METRIC): None
        for interface in wanted
        for network in _routed(interface)
    }


def _hold(wanted: Iterable[TunnelInterface], routing: Routing) -> list[Network]:
    standing = _routes(routing)
    missing = [route for route in _held(wanted) if route not in standing]
    if missing:
        routing.do([_add(route) for route in missing])
    return [route.destination for route in missing]


def _fits(link: Link, interface: TunnelInterface, there: dict[str, Link]) -> bool:
    """Whether a link is the interface but for what can be changed in place."""
    below = there.get(interface.device) if interface.device is not None else None
    unknown = interface.device is not None and below is None
    return link.if_id == interface.if_id and (unknown or link.below == (below.index if below is not None else 0))


def _through(network: Network, link: Link) -> Route:
    return Route(destination=network, table=MAIN, kind=UNICAST, device=link.index, metric=METRIC)


def _add(route: Route) -> Request:
    what = f"{'holding' if route.kind == UNREACHABLE else 'routing'} {route.destination} (metric {route.metric})"
    return Request(NEWROUTE, CREATE | EXCLUSIVE, route.message(), what)


def _remove(route: Route) -> Request:
    return Request(DELROUTE, 0, route.message(), f"removing the route to {route.destination}", _GONE)


def _networks(networks: Iterable[Network]) -> str:
    return ", ".join(map(str, networks))


def _links(routing: Routing) -> dict[str, Link]:
    found = (links.read_link(memoryview(payload)) for payload in routing.dump(GETLINK, links.all_links()))
    return {link.name: link for link in found}


def _addresses(routing: Routing) -> dict[int, set[OnInterface]]:
    found: dict[int, set[OnInterface]] = {}
    for payload in routing.dump(GETADDR, links.all_addresses()):
        index, address = links.read_address(memoryview(payload))
        found.setdefault(index, set()).add(address)
    return found


def _routes(routing: Routing) -> set[Route]:
    """Those of ours in the main table."""
    found: set[Route] = set()
    for family in (socket.AF_INET, socket.AF_INET6):
        for payload in routing.dump(GETROUTE, _ROUTE.pack(family, 0, 0, 0, 0, PROTOCOL, 0, 0, 0)):
            route = _read_route(memoryview(payload))
            if route is not None:
                found.add(route)
    return found


def _read_route(payload: memoryview) -> Route | None:
    if len(payload) < _ROUTE.size:
        raise Malformed(f"a route of {len(payload)} bytes")
    family, bits, _, _, table, protocol, _, kind, _ = _ROUTE.unpack_from(payload)
    found = {number: bytes(value) for number, value in attributes(payload, _ROUTE.size, len(payload))}
    if _TABLE in found:
        table = _U32.unpack(found[_TABLE])[0]
    if protocol != PROTOCOL or table != MAIN or kind not in (UNICAST, UNREACHABLE):
        return None
    raw = found.get(_DST, bytes(4 if family == socket.AF_INET else 16))
    return Route(
        destination=ip_network((raw, bits)),
        table=MAIN,
        kind=kind,
        device=_U32.unpack(found[_OIF])[0] if kind == UNICAST and _OIF in found else 0,
        metric=_U32.unpack(found[_PRIORITY])[0] if _PRIORITY in found else 0,
    )
