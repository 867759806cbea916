"""Rules, routes, links and addresses as rtnetlink(7) has them, many in one system call.

A thousand tunnels are thousands of routes. They are set in a few milliseconds, without waiting for each.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from appliance.datapath.netlink import (
    BATCH,
    CREATE,
    DELLINK,
    DELROUTE,
    DELRULE,
    EXCLUSIVE,
    GETADDR,
    GETLINK,
    GETROUTE,
    GETRULE,
    NEWLINK,
    NEWROUTE,
    NEWRULE,
    Netlink,
    Refused,
    attribute,
    attributes,
    text,
    u32,
)
from appliance.reasons import Reason, Refusal
from appliance.sa.selector import Address, Network

PROTOCOL = 0xE5
"""Who made a rule or route, for the kernel's and other programs' information. Some datapaths have another."""

_FIND_SOURCE = 0x10000
"""FIB_RULE_FIND_SADDR."""

_UNSUPPRESSED = b"\xff" * 4

MAIN = 254
TO_TABLE, GOTO, NOP, BLACKHOLE_RULE, UNREACHABLE_RULE = 1, 2, 3, 6, 7
UNICAST, UNREACHABLE, THROW = 1, 7, 9

_UP = 1
"""IFF_UP."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A policy routing rule (ip-rule(8)). ``target`` is a table, or for GOTO a preference.

    ``inward`` is the interface by which a packet came. ``suppress``: routes with a prefix of so many bits or fewer do
    not count, and the next rule is asked; -1: all count.
    """

    family: int
    preference: int
    action: int = TO_TABLE
    target: int = 0
    source: Network | None = None
    destination: Network | None = None
    mark: int = 0
    protocol: int = 0
    source_ports: tuple[int, int] | None = None
    destination_ports: tuple[int, int] | None = None
    inward: str = ""
    suppress: int = -1

    def message(self, maker: int = PROTOCOL) -> bytes:
        """fib_rule_hdr and attributes."""
        bits = [0 if net is None else net.prefixlen for net in (self.destination, self.source)]
        # IPv6 looks up the route before an unbound socket has a source: then the one it would get is to match.
        find = self.family == socket.AF_INET6 and self.source is not None and self.action == TO_TABLE
        flags = _FIND_SOURCE if find else 0
        data = struct.pack("=BBBBBBBBI", self.family, bits[0], bits[1], 0, 0, 0, 0, self.action, flags)
        data += attribute(6, struct.pack("=I", self.preference)) + attribute(21, bytes((maker,)))
        if self.destination is not None:
            data += attribute(1, self.destination.network_address.packed)
        if self.source is not None:
            data += attribute(2, self.source.network_address.packed)
        if self.action == GOTO:
            data += attribute(4, struct.pack("=I", self.target))
        elif self.action == TO_TABLE:
            data += attribute(15, struct.pack("=I", self.target))
        if self.inward:
            data += attribute(3, self.inward.encode() + b"\0")
        if self.suppress >= 0:
            data += attribute(14, struct.pack("=i", self.suppress))
        if self.mark:
            data += attribute(10, struct.pack("=I", self.mark)) + attribute(16, struct.pack("=I", 0xFFFFFFFF))
        if self.protocol:
            data += attribute(22, bytes((self.protocol,)))
        if self.source_ports:
            data += attribute(23, struct.pack("=HH", *self.source_ports))
        if self.destination_ports:
            data += attribute(24, struct.pack("=HH", *self.destination_ports))
        return data


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A route: UNICAST to a device, UNREACHABLE, or THROW (look on at the next rule)."""

    destination: Network
    table: int
    kind: int = UNICAST
    device: int = 0
    metric: int = 0
    source: Address | None = None

    def message(self, maker: int = PROTOCOL) -> bytes:
        """Struct rtmsg and attributes."""
        family = socket.AF_INET if self.destination.version == 4 else socket.AF_INET6
        scope = 253 if self.kind == UNICAST and family == socket.AF_INET else 0
        data = struct.pack("=BBBBBBBBI", family, self.destination.prefixlen, 0, 0, 0, maker, scope, self.kind, 0)
        data += attribute(1, self.destination.network_address.packed)
        data += attribute(15, struct.pack("=I", self.table))
        if self.metric:
            data += attribute(6, struct.pack("=I", self.metric))
        if self.kind == UNICAST:
            data += attribute(4, struct.pack("=I", self.device))
        if self.source is not None:
            data += attribute(7, self.source.packed)
        return data


@dataclass(frozen=True, slots=True)
class Link:
    """An interface. ``alias`` is what its maker wrote on it (IFLA_IFALIAS)."""

    index: int
    kind: str
    alias: str
    up: bool
    mtu: int


@dataclass(frozen=True, slots=True)
class Request:
    """A message with its flags. ``what`` it does, for refusals; an errno in ``ignored`` is as good as done."""

    kind: int
    flags: int
    body: bytes
    what: str
    ignored: tuple[int, ...] = ()


class Unsupported(Refusal):
    """The kernel does not know what it is asked for (EOPNOTSUPP)."""


def refusal_of(error: OSError, what: str) -> Refusal:
    """NO_PRIVILEGE, KERNEL_REFUSED with the kernel's own words; Unsupported. DATAPATH_TIMEOUT without an answer."""
    if not isinstance(error, Refused):
        silent = "the kernel does not answer" if isinstance(error, TimeoutError) else error.strerror
        return Refusal(Reason.DATAPATH_TIMEOUT, f"{what}: {silent}")
    words = f"{what}: {error.strerror}"
    if error.errno == errno.EPERM:  # EACCES is an interface's that has IPv6 turned off
        return Refusal(Reason.NO_PRIVILEGE, words)
    kind = Unsupported if error.errno == errno.EOPNOTSUPP else Refusal
    return kind(Reason.KERNEL_REFUSED, words)


class RtNetlink:
    """In the network namespace that it was made in. Raises Refusal as ``refusal_of``.

    ``maker`` is the number by which rules and routes tell who made them (FRA_PROTOCOL, RTA_PROTOCOL).
    """

    def __init__(self, maker: int = PROTOCOL) -> None:
        self._maker = maker
        self._netlink = Netlink()

    def close(self) -> None:
        """Close its socket."""
        self._netlink.close()

    def do(self, requests: Sequence[Request], *, go_on: bool = True) -> None:
        """Do all of them, in order, and raise what the first refusal is. ``go_on``: those far behind it are done, too.

        Those in the same system call are so in any case.
        """
        refused: Refusal | None = None
        for at in range(0, len(requests), BATCH):
            if refused is not None and not go_on:
                break
            some = requests[at : at + BATCH]
            try:
                answers = self._netlink.batch([(request.kind, request.flags, request.body) for request in some])
            except OSError as error:
                raise refusal_of(error, some[0].what) from None
            for request, answer in zip(some, answers, strict=True):
                if answer is not None and answer.errno not in request.ignored:
                    refused = refused or refusal_of(answer, request.what)
        if refused is not None:
            raise refused

    def dump(self, kind: int, body: bytes, ignored: tuple[int, ...] = ()) -> list[bytes]:
        """The payloads of what there is. An errno in ``ignored``: there is nothing."""
        try:
            return self._netlink.dump(kind, body)
        except OSError as error:
            if isinstance(error, Refused) and error.errno in ignored:
                return []
            raise refusal_of(error, "listing what there is") from None

    def add(self, items: Sequence[Rule | Route]) -> None:
        """Add rules, which must not be there yet, and routes, which may be."""
        # Asked for exclusiveness, the kernel takes a wide rule for one that is there where a narrower one of its
        # preference is: "from all" beside "from 10.1.0.0/24".
        requests = [
            Request(NEWRULE, CREATE, item.message(self._maker), f"adding {_name(item)}", (errno.EEXIST,))
            if isinstance(item, Rule)
            else Request(
                NEWROUTE, CREATE | EXCLUSIVE, item.message(self._maker), f"adding {_name(item)}", (errno.EEXIST,)
            )
            for item in items
        ]
        self.do(requests, go_on=False)

    def remove(self, items: Sequence[Rule | Route]) -> None:
        """Remove rules and routes; those that are not there do not matter."""
        gone = errno.ENOENT, errno.ESRCH, errno.ENODEV
        requests = [
            Request(_remover(item), 0, item.message(self._maker), f"removing {_name(item)}", gone) for item in items
        ]
        self.do(requests, go_on=False)

    def left(self, table: int) -> list[tuple[int, bytes]]:
        """Rules and routes that bear the maker's number: (type of message that removes it, message)."""
        found = self.rules()
        for family in (socket.AF_INET, socket.AF_INET6):
            for body in self.dump(GETROUTE, _about(family, self._maker), _UNKNOWN_FAMILY):
                number = u32(attributes(body[12:]).get(15))
                if body[5] == self._maker and number in (table, table + 1):
                    found.append((DELROUTE, body))
        return found

    def rules(self) -> list[tuple[int, bytes]]:
        """The rules of :meth:`left`."""
        found = []
        for family in (socket.AF_INET, socket.AF_INET6):
            for body in self.dump(GETRULE, _about(family), _UNKNOWN_FAMILY):
                if attributes(body[12:]).get(21) == bytes((self._maker,)):
                    found.append((DELRULE, body))
        return found

    def addresses(self) -> list[Address]:
        """The machine's own addresses."""
        found: list[Address] = []
        for body in self.dump(GETADDR, struct.pack("=BBBBI", 0, 0, 0, 0, 0)):
            those = attributes(body[8:])
            value = those.get(2) or those.get(1)  # IFA_ADDRESS may be the other end's, IFA_LOCAL is ours
            if value:
                found.append(ip_address(value))
        return found

    def index(self, name: str) -> int:
        """The number of an interface. Raises Refusal(NO_TUN)."""
        link = self.link(name)
        if link is None:
            raise Refusal(Reason.NO_TUN, f"there is no interface {name}")
        return link.index

    def link(self, name: str) -> Link | None:
        """An interface by its name."""
        for part in self.dump(GETLINK, _link()):
            those = attributes(part[16:])
            if text(those.get(3)) == name:
                index, flags = struct.unpack_from("=iI", part, 4)
                kind = text(attributes(those.get(18, b"")).get(1))
                return Link(index, kind, text(those.get(20)), bool(flags & _UP), u32(those.get(4)))
        return None

    def add_dummy(self, name: str) -> None:
        """Make an interface that drops what is sent to it. It is down. One that is there is left as it is."""
        body = _link() + attribute(3, name.encode() + b"\0") + attribute(18, attribute(1, b"dummy"))
        self.do([Request(NEWLINK, CREATE | EXCLUSIVE, body, f"making the interface {name}", (errno.EEXIST,))])

    def set_link(self, index: int, *, alias: str, mtu: int) -> None:
        """Write on an interface who made it, give it its MTU, and set it up, without IPv6 addresses of its own."""
        without = attribute(26, attribute(10, attribute(8, b"\1")))  # IN6_ADDR_GEN_MODE_NONE
        no_ipv6 = errno.EAFNOSUPPORT, errno.EOPNOTSUPP
        what = "setting up an interface"
        self.do([Request(NEWLINK, 0, _link(index) + without, what, no_ipv6)])
        body = _link(index, up=True) + attribute(20, alias.encode()) + attribute(4, struct.pack("=I", mtu))
        self.do([Request(NEWLINK, 0, body, what)])

    def remove_link(self, index: int) -> None:
        """Remove an interface; one that is not there does not matter."""
        self.do([Request(DELLINK, 0, _link(index), "removing an interface", (errno.ENODEV,))])

    def identity(self, item: Rule | Route) -> tuple[object, ...]:
        """What makes a rule or route the same as one that ``left`` found."""
        return self.key(_remover(item), item.message(self._maker))

    def key(self, kind: int, body: bytes) -> tuple[object, ...]:
        """``identity`` of a message."""
        those = attributes(body[12:])
        bits = struct.unpack("=BBBBBBBBI", body[:12])
        if kind == DELRULE:
            table = those.get(15) if bits[7] == TO_TABLE else None
            # The kernel writes that nothing is suppressed as -1.
            suppress = those.get(14, _UNSUPPRESSED)
            wanted = (1, 2, 3, 4, 6, 10, 22, 23, 24)
            return (kind, *bits[:3], bits[7], table, suppress, *(those.get(number) for number in wanted))
        device = those.get(4) if bits[7] == UNICAST else None
        # The kernel does not write the destination of a default route.
        destination = those.get(1) if bits[1] else None
        return (kind, *bits[:2], bits[7], device, destination, *(those.get(number) for number in (6, 7, 15)))

    def remove_raw(self, messages: Sequence[tuple[int, bytes]]) -> None:
        """Remove what ``left`` found."""
        gone = errno.ENOENT, errno.ESRCH
        what = {DELRULE: "removing a rule", DELROUTE: "removing a route"}
        self.do([Request(kind, 0, body, what[kind], gone) for kind, body in messages], go_on=False)


_UNKNOWN_FAMILY = errno.EAFNOSUPPORT, errno.EOPNOTSUPP
"""A kernel without IPv6, or without rules, has none of either."""


def _about(family: int, maker: int = 0) -> bytes:
    """Struct fib_rule_hdr, or rtmsg, to list those of a family. Older kernels list routes of other makers, too."""
    return struct.pack("=BBBBBBBBI", family, 0, 0, 0, 0, maker, 0, 0, 0)


def _link(index: int = 0, *, up: bool = False) -> bytes:
    """Struct ifinfomsg."""
    return struct.pack("=BBHiII", 0, 0, 0, index, _UP if up else 0, _UP if up else 0)


def _remover(item: Rule | Route) -> int:
    return DELRULE if isinstance(item, Rule) else DELROUTE


def _name(item: Rule | Route) -> str:
    return f"the rule {item.preference}" if isinstance(item, Rule) else f"the route to {item.destination}"
