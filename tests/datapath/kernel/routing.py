"""A kernel's interfaces, addresses and routes in memory: as much of rtnetlink(7) as tunnel interfaces need."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_network

from appliance.datapath.kernel import links
from appliance.datapath.kernel.links import Link, OnInterface
from appliance.datapath.kernel.xfrm.wire import attributes
from appliance.datapath.netlink import (
    DELADDR,
    DELLINK,
    DELROUTE,
    GETADDR,
    GETLINK,
    NEWADDR,
    NEWLINK,
    NEWROUTE,
    SETLINK,
    Refused,
    attribute,
)
from appliance.datapath.rtnetlink import PROTOCOL, UNICAST, Request, Route, refusal_of

_IFINFO = struct.Struct("=BxHiII")
_IFADDR = struct.Struct("=BBBBI")
_RTMSG = struct.Struct("=BBBBBBBBI")


class MemoryRouting:
    """One network namespace. ``refuse`` maps the beginning of what is asked to the errno it is answered with."""

    def __init__(self) -> None:
        self.links: dict[int, Link] = {}
        self.addresses: set[tuple[int, OnInterface]] = set()
        self.routes: set[Route] = set()
        self.refuse: dict[str, int] = {}
        self.asked: list[str] = []
        self._last = 1

    def close(self) -> None:
        """Nothing is to be given back."""

    def add(self, name: str, **more: object) -> Link:
        """Somebody else makes an interface."""
        self._last += 1
        link = Link(index=self._last, name=name, up=True, **more)  # type: ignore[arg-type]
        self.links[link.index] = link
        return link

    def named(self, name: str) -> Link:
        """The interface of a name."""
        (link,) = (link for link in self.links.values() if link.name == name)
        return link

    def delete(self, index: int) -> None:
        """An interface goes, and with it addresses and routes."""
        del self.links[index]
        self.addresses = {pair for pair in self.addresses if pair[0] != index}
        self.routes = {route for route in self.routes if route.device != index}

    def do(self, requests: Sequence[Request]) -> None:
        """As the kernel's."""
        refused = None
        for request in requests:
            self.asked.append(request.what)
            code = next((code for start, code in self.refuse.items() if request.what.startswith(start)), 0)
            code = code or self._do(request.kind, memoryview(request.body))
            if code and code not in request.ignored:
                refused = refused or refusal_of(Refused(code, os.strerror(code)), request.what)
        if refused is not None:
            raise refused

    def _do(self, kind: int, body: memoryview) -> int:
        if kind == NEWLINK:
            link = links.read_link(body)
            if any(other.name == link.name for other in self.links.values()):
                return errno.EEXIST
            self.add(link.name)
            self.links[self._last] = replace(link, index=self._last)
        elif kind == SETLINK:
            wanted = links.read_link(body)
            named = [link.index for link in self.links.values() if link.name == wanted.name]
            if not wanted.index and not named:
                return errno.ENODEV
            index = wanted.index or named[0]
            link = self.links[index]
            mtu, alias = wanted.mtu or link.mtu, wanted.alias or link.alias
            self.links[index] = replace(link, mtu=mtu, alias=alias, up=link.up or wanted.up)
        elif kind == DELLINK:
            self.delete(links.read_link(body).index)
        elif kind == NEWADDR:
            self.addresses.add(links.read_address(body))
        elif kind == DELADDR:
            self.addresses.remove(links.read_address(body))
        elif kind == NEWROUTE:
            route = _read_route(body)
            if any((r.destination, r.metric) == (route.destination, route.metric) for r in self.routes):
                return errno.EEXIST
            self.routes.add(route)
        elif kind == DELROUTE:
            self.routes.remove(_read_route(body))
        return 0

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """As the kernel's."""
        if kind == GETLINK:
            return [_link(link) for link in self.links.values()]
        if kind == GETADDR:
            return [_address(index, address) for index, address in self.addresses]
        return [route.message() for route in self.routes if route.message()[0] == body[0]]


def _link(link: Link) -> bytes:
    data = attribute(2, struct.pack("=I", link.if_id)) + attribute(1, struct.pack("=I", link.below))
    info = attribute(1, link.kind.encode() + b"\0") + attribute(2, data)
    out = _IFINFO.pack(0, 0, link.index, int(link.up), 0) + attribute(3, link.name.encode() + b"\0")
    out += attribute(4, struct.pack("=I", link.mtu)) + (attribute(18, info) if link.kind else b"")
    return out + (attribute(20, link.alias.encode() + b"\0") if link.alias else b"")


def _address(index: int, address: OnInterface) -> bytes:
    family = 2 if address.version == 4 else 10
    return _IFADDR.pack(family, address.network.prefixlen, 0, 0, index) + attribute(1, address.ip.packed)


def _read_route(body: memoryview) -> Route:
    _, bits, _, _, _, protocol, _, kind, _ = _RTMSG.unpack_from(body)
    assert protocol == PROTOCOL, os.strerror(errno.EPERM)
    found = {number: bytes(value) for number, value in attributes(body, _RTMSG.size, len(body))}
    number = {name: struct.unpack("=I", found.get(name, bytes(4)))[0] for name in (4, 6, 15)}
    return Route(
        destination=ip_network((found[1], bits)),
        table=number[15],
        kind=kind,
        device=number[4] if kind == UNICAST else 0,
        metric=number[6],
    )
