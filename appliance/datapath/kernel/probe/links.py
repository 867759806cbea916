"""Network interfaces: what kind each is, and whether that kind can take SAs."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from appliance.datapath.netlink import GETLINK, Netlink, attribute, attributes, text, u32

_LOOPBACK = 772
"""ARPHRD_LOOPBACK."""
_IFNAME, _LINK, _LINKINFO, _EXT_MASK, _LINK_NETNSID = 3, 5, 18, 29, 37
_KIND, _DATA, _BOND_MODE = 1, 2, 1
_SKIP_STATS = 1 << 3
_UP = 1
"""IFF_UP."""
_ACTIVE_BACKUP = 1

_NAMES = {"tun": "a TUN device", "veth": "one end of a pair", "xfrm": "an IPsec interface", "vti": "an IPsec interface"}


@dataclass(frozen=True, slots=True)
class Link:
    """An interface. ``kind`` is "" for hardware; ``lower`` the index of the device that a VLAN is on, 0 for none here.

    ``bond_mode`` is None for what is no bond. ``up``: it was set up, with or without a carrier.
    """

    name: str
    index: int
    kind: str = ""
    lower: int = 0
    bond_mode: int | None = None
    up: bool = True

    def why_no_offload(self) -> str:
        """Why it can take no SA, whatever the hardware below; "" where that depends on its driver."""
        if self.kind in ("", "netdevsim"):
            return ""
        if self.kind == "bond":
            if self.bond_mode == _ACTIVE_BACKUP:
                return ""
            return f"{self.name} is a bond, and only those in mode active-backup take SAs"
        if self.kind == "loopback":
            return f"{self.name} is the loopback"
        words = _NAMES.get(self.kind)
        return f"{self.name} is {words}, and no hardware" if words else f"{self.name} is of kind {self.kind}"


def links(route: Netlink) -> list[Link]:
    """All of them. Raises OSError."""
    body = _REQUEST + attribute(_EXT_MASK, struct.pack("=I", _SKIP_STATS))
    return [_link(payload) for payload in route.dump(GETLINK, body)]


def link(route: Netlink, index: int) -> Link:
    """One of them. Raises OSError."""
    answer = route.ask(GETLINK, struct.pack("=BBHiII", 0, 0, 0, index, 0, 0))
    return next(_link(payload) for payload in answer)


_REQUEST = struct.pack("=BBHiII", 0, 0, 0, 0, 0, 0)
_MESSAGE = struct.Struct("=BBHiII")


def _link(payload: bytes) -> Link:
    """From struct ifinfomsg and attributes."""
    _, _, hardware, index, flags, _ = _MESSAGE.unpack_from(payload)
    found = attributes(payload[_MESSAGE.size :])
    info = attributes(found.get(_LINKINFO, b""))
    kind = "loopback" if hardware == _LOOPBACK else text(info.get(_KIND))
    lower = u32(found.get(_LINK)) if kind == "vlan" and _LINK_NETNSID not in found else 0
    mode = attributes(info.get(_DATA, b"")).get(_BOND_MODE) if kind == "bond" else None
    return Link(text(found.get(_IFNAME)), index, kind, lower, mode[0] if mode else None, bool(flags & _UP))
