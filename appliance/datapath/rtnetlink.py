"""Rules, routes, links and addresses over one netlink socket, many messages in one system call.

A thousand tunnels are thousands of routes. This speaks just enough of rtnetlink(7) to set them in a few milliseconds,
without waiting for each, and stays in the network namespace it was made in.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from dataclasses import dataclass
from ipaddress import ip_address

from appliance.reasons import Reason, Refusal
from appliance.sa.selector import Address, Network

PROTOCOL = 0xE5
"""Who made a rule or route, for the kernel's and other programs' information. Some datapaths have another."""

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_NEWLINK, _DELLINK, _GETLINK = 16, 17, 18
_NEWADDR, _GETADDR = 20, 22
_NEWROUTE, _DELROUTE, _GETROUTE = 24, 25, 26
_NEWRULE, _DELRULE, _GETRULE = 32, 33, 34
_REQUEST, _ACK, _DUMP, _EXCL, _CREATE = 1, 4, 0x300, 0x200, 0x400
_ERROR, _DONE = 2, 3
_BATCH = 64

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
        data += _attribute(6, struct.pack("=I", self.preference)) + _attribute(21, bytes((maker,)))
        if self.destination is not None:
            data += _attribute(1, self.destination.network_address.packed)
        if self.source is not None:
            data += _attribute(2, self.source.network_address.packed)
        if self.action == GOTO:
            data += _attribute(4, struct.pack("=I", self.target))
        elif self.action == TO_TABLE:
            data += _attribute(15, struct.pack("=I", self.target))
        if self.inward:
            data += _attribute(3, self.inward.encode() + b"\0")
        if self.suppress >= 0:
            data += _attribute(14, struct.pack("=i", self.suppress))
        if self.mark:
            data += _attribute(10, struct.pack("=I", self.mark)) + _attribute(16, struct.pack("=I", 0xFFFFFFFF))
        if self.protocol:
            data += _attribute(22, bytes((self.protocol,)))
        if self.source_ports:
            data += _attribute(23, struct.pack("=HH", *self.source_ports))
        if self.destination_ports:
            data += _attribute(24, struct.pack("=HH", *self.destination_ports))
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
        data += _attribute(1, self.destination.network_address.packed)
        data += _attribute(15, struct.pack("=I", self.table))
        if self.metric:
            data += _attribute(6, struct.pack("=I", self.metric))
        if self.kind == UNICAST:
            data += _attribute(4, struct.pack("=I", self.device))
        if self.source is not None:
            data += _attribute(7, self.source.packed)
        return data


@dataclass(frozen=True, slots=True)
class Link:
    """An interface. ``alias`` is what its maker wrote on it (IFLA_IFALIAS)."""

    index: int
    kind: str
    alias: str
    up: bool
    mtu: int


class RtNetlink:
    """The socket. Raises Refusal(NO_PRIVILEGE or INTERNAL) with the kernel's words.

    ``maker`` is the number by which rules and routes tell who made them (FRA_PROTOCOL, RTA_PROTOCOL).
    """

    def __init__(self, maker: int = PROTOCOL) -> None:
        self._maker = maker
        self._sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._sock.bind((0, 0))
        self._sock.settimeout(5.0)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._number = 0

    def close(self) -> None:
        """Close it."""
        self._sock.close()

    def add(self, items: list[Rule | Route]) -> None:
        """Add rules, which must not be there yet, and routes, which may be."""
        # Asked for exclusiveness, the kernel takes a wide rule for one that is there where a narrower one of its
        # preference is: "from all" beside "from 10.1.0.0/24".
        messages = [
            (_NEWRULE, _CREATE, item.message(self._maker))
            if isinstance(item, Rule)
            else (_NEWROUTE, _CREATE | _EXCL, item.message(self._maker))
            for item in items
        ]
        self._exchange(messages, (errno.EEXIST,))

    def remove(self, items: list[Rule | Route]) -> None:
        """Remove rules and routes; those that are not there do not matter."""
        messages = [(_DELRULE if isinstance(item, Rule) else _DELROUTE, 0, item.message(self._maker)) for item in items]
        self._exchange(messages, (errno.ENOENT, errno.ESRCH, errno.ENODEV))

    def left(self, table: int) -> list[tuple[int, bytes]]:
        """Rules and routes that bear the maker's number: (type of message that removes it, message)."""
        found = self.rules()
        for family in (socket.AF_INET, socket.AF_INET6):
            for body in self._dump(_GETROUTE, _NEWROUTE, struct.pack("=BBBBBBBBI", family, *(0,) * 8)):
                number = struct.unpack("=I", _attributes(body[12:]).get(15, bytes(4)))[0]
                if body[5] == self._maker and number in (table, table + 1):
                    found.append((_DELROUTE, body))
        return found

    def rules(self) -> list[tuple[int, bytes]]:
        """The rules of :meth:`left`."""
        found = []
        for family in (socket.AF_INET, socket.AF_INET6):
            for body in self._dump(_GETRULE, _NEWRULE, struct.pack("=BBBBBBBBI", family, *(0,) * 8)):
                if _attributes(body[12:]).get(21) == bytes((self._maker,)):
                    found.append((_DELRULE, body))
        return found

    def addresses(self) -> list[Address]:
        """The machine's own addresses."""
        found: list[Address] = []
        for body in self._dump(_GETADDR, _NEWADDR, struct.pack("=BBBBI", 0, 0, 0, 0, 0)):
            attributes = _attributes(body[8:])
            value = attributes.get(2) or attributes.get(1)  # IFA_ADDRESS may be the other end's, IFA_LOCAL is ours
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
        for part in self._dump(_GETLINK, _NEWLINK, _link()):
            attributes = _attributes(part[16:])
            if attributes.get(3, b"").rstrip(b"\0") == name.encode():
                index, flags = struct.unpack_from("=iI", part, 4)
                kind = _attributes(attributes.get(18, b"")).get(1, b"").rstrip(b"\0").decode()
                alias = attributes.get(20, b"").rstrip(b"\0").decode(errors="replace")
                return Link(index, kind, alias, bool(flags & _UP), struct.unpack("=I", attributes[4])[0])
        return None

    def add_dummy(self, name: str) -> None:
        """Make an interface that drops what is sent to it. It is down. One that is there is left as it is."""
        kind = _attribute(18, _attribute(1, b"dummy"))
        message = (_NEWLINK, _CREATE | _EXCL, _link() + _attribute(3, name.encode() + b"\0") + kind)
        self._exchange([message], (errno.EEXIST,))

    def set_link(self, index: int, *, alias: str, mtu: int) -> None:
        """Write on an interface who made it, give it its MTU, and set it up, without IPv6 addresses of its own."""
        without = _attribute(26, _attribute(10, _attribute(8, b"\1")))  # IN6_ADDR_GEN_MODE_NONE
        self._exchange([(_NEWLINK, 0, _link(index) + without)], (errno.EAFNOSUPPORT, errno.EOPNOTSUPP))
        body = _link(index, up=True) + _attribute(20, alias.encode()) + _attribute(4, struct.pack("=I", mtu))
        self._exchange([(_NEWLINK, 0, body)], ())

    def remove_link(self, index: int) -> None:
        """Remove an interface; one that is not there does not matter."""
        self._exchange([(_DELLINK, 0, _link(index))], (errno.ENODEV,))

    def identity(self, item: Rule | Route) -> tuple[object, ...]:
        """What makes a rule or route the same as one that ``left`` found."""
        return self.key(_DELRULE if isinstance(item, Rule) else _DELROUTE, item.message(self._maker))

    def key(self, kind: int, body: bytes) -> tuple[object, ...]:
        """``identity`` of a message."""
        attributes = _attributes(body[12:])
        bits = struct.unpack("=BBBBBBBBI", body[:12])
        if kind == _DELRULE:
            table = attributes.get(15) if bits[7] == TO_TABLE else None
            # The kernel writes that nothing is suppressed as -1.
            suppress = attributes.get(14, _UNSUPPRESSED)
            wanted = (1, 2, 3, 4, 6, 10, 22, 23, 24)
            return (kind, *bits[:3], bits[7], table, suppress, *(attributes.get(number) for number in wanted))
        device = attributes.get(4) if bits[7] == UNICAST else None
        # The kernel does not write the destination of a default route.
        destination = attributes.get(1) if bits[1] else None
        return (kind, *bits[:2], bits[7], device, destination, *(attributes.get(number) for number in (6, 7, 15)))

    def remove_raw(self, messages: list[tuple[int, bytes]]) -> None:
        """Remove what ``left`` found."""
        self._exchange([(kind, 0, body) for kind, body in messages], (errno.ENOENT, errno.ESRCH))

    def _exchange(self, messages: list[tuple[int, int, bytes]], ignored: tuple[int, ...]) -> None:
        for at in range(0, len(messages), _BATCH):
            batch = messages[at : at + _BATCH]
            data = b""
            for kind, flags, body in batch:
                self._number += 1
                data += _HEADER.pack(16 + len(body), kind, _REQUEST | _ACK | flags, self._number, 0) + body
            self._sock.send(data)
            waiting = len(batch)
            while waiting:
                for kind, body in _messages(self._sock.recv(1 << 18)):
                    if kind != _ERROR:
                        continue
                    waiting -= 1
                    code = -struct.unpack_from("=i", body)[0]
                    if code and code not in ignored:
                        reason = Reason.NO_PRIVILEGE if code in (errno.EPERM, errno.EACCES) else Reason.INTERNAL
                        raise Refusal(reason, f"the kernel refuses a link, route or rule: {os.strerror(code)}")

    def _dump(self, ask: int, answer: int, body: bytes) -> list[bytes]:
        self._number += 1
        self._sock.send(_HEADER.pack(16 + len(body), ask, _REQUEST | _DUMP, self._number, 0) + body)
        found: list[bytes] = []
        while True:
            for kind, part in _messages(self._sock.recv(1 << 18)):
                if kind in (_DONE, _ERROR):
                    return found
                if kind == answer:
                    found.append(part)


def _link(index: int = 0, *, up: bool = False) -> bytes:
    """Struct ifinfomsg."""
    return struct.pack("=BBHiII", 0, 0, 0, index, _UP if up else 0, _UP if up else 0)


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(4 + len(value), kind) + value + bytes(-len(value) % 4)


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    at = 0
    while at + 4 <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[at + 4 : at + length]
        at += length + -length % 4
    return found


def _messages(data: bytes) -> list[tuple[int, bytes]]:
    found = []
    at = 0
    while at + 16 <= len(data):
        length, kind, _, _, _ = _HEADER.unpack_from(data, at)
        if length < 16:
            break
        found.append((kind, data[at + 16 : at + length]))
        at += length + -length % 4
    return found
