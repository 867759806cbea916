"""Network interfaces and their addresses as rtnetlink(7) has them."""

from __future__ import annotations

import errno
import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_interface

from appliance.datapath.kernel.xfrm import Malformed
from appliance.datapath.kernel.xfrm.wire import attributes
from appliance.datapath.netlink import CREATE, DELADDR, DELLINK, EXCLUSIVE, NEWADDR, NEWLINK, SETLINK, attribute
from appliance.datapath.rtnetlink import Request

OnInterface = IPv4Interface | IPv6Interface

KIND = "xfrm"
ALIAS = "esplanade"
"""The mark of what is ours (ip link show dev NAME)."""

_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBI")
_U32 = struct.Struct("=I")
_IFNAME, _MTU, _LINKINFO, _IFALIAS, _AF_SPEC = 3, 4, 18, 20, 26
_INFO_KIND, _INFO_DATA = 1, 2
_XFRM_LINK, _XFRM_IF_ID = 1, 2
_INET6_ADDR_GEN_MODE, _GENERATE_NONE = 8, b"\1"
_IFF_UP = 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_NODAD, _NOPREFIXROUTE = 0x02, 0x200


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """An interface as it is. ``if_id`` and ``below``, the index of the one below it, are of tunnel interfaces."""

    index: int
    name: str
    up: bool
    mtu: int = 0
    kind: str = ""
    alias: str = ""
    if_id: int = 0
    below: int = 0

    @property
    def ours(self) -> bool:
        """Whether it is a tunnel interface that bears our mark."""
        return self.kind == KIND and self.alias == ALIAS


def read_link(payload: memoryview) -> Link:
    """From an ifinfomsg and its attributes. Raises Malformed."""
    if len(payload) < _LINK.size:
        raise Malformed(f"an interface of {len(payload)} bytes")
    _, _, index, flags, _ = _LINK.unpack_from(payload)
    found = dict(attributes(payload, _LINK.size, len(payload)))
    kind, if_id, below = "", 0, 0
    if _LINKINFO in found:
        info = dict(attributes(found[_LINKINFO], 0, len(found[_LINKINFO])))
        kind = _text(info.get(_INFO_KIND))
        if kind == KIND and _INFO_DATA in info:
            data = dict(attributes(info[_INFO_DATA], 0, len(info[_INFO_DATA])))
            if_id, below = _number(data.get(_XFRM_IF_ID)), _number(data.get(_XFRM_LINK))
    return Link(
        index=index,
        name=_text(found.get(_IFNAME)),
        up=bool(flags & _IFF_UP),
        mtu=_number(found.get(_MTU)),
        kind=kind,
        alias=_text(found.get(_IFALIAS)),
        if_id=if_id,
        below=below,
    )


def all_links() -> bytes:
    """What GETLINK is asked with."""
    return _LINK.pack(0, 0, 0, 0, 0)


def make_link(name: str, mtu: int, if_id: int, below: int) -> list[Request]:
    """Make a tunnel interface with our mark, in one go: nobody is to find it without. It is not up yet."""
    data = attribute(_XFRM_IF_ID, _U32.pack(if_id))
    if below:
        data += attribute(_XFRM_LINK, _U32.pack(below))
    info = attribute(_INFO_KIND, KIND.encode() + b"\0") + attribute(_INFO_DATA, data)
    named = _LINK.pack(0, 0, 0, 0, 0) + attribute(_IFNAME, name.encode() + b"\0")
    body = named + attribute(_MTU, _U32.pack(mtu)) + attribute(_LINKINFO, info)
    return [
        Request(NEWLINK, CREATE | EXCLUSIVE, body, f"making the interface {name}"),
        Request(SETLINK, 0, named + attribute(_IFALIAS, ALIAS.encode()), f"marking the interface {name}"),
    ]


def set_link(link: Link, mtu: int) -> list[Request]:
    """Give it this MTU, and set it up. It gets no link-local address but those that are wanted."""
    # Before it is up: with a link-local address come packets, which would ask for SAs.
    mode = attribute(_AF_SPEC, attribute(socket.AF_INET6, attribute(_INET6_ADDR_GEN_MODE, _GENERATE_NONE)))
    own = _LINK.pack(0, 0, link.index, 0, 0)
    up = _LINK.pack(0, 0, link.index, _IFF_UP, _IFF_UP)
    # It is no error that a kernel or an interface has no IPv6.
    return [
        Request(SETLINK, 0, own + attribute(_MTU, _U32.pack(mtu)), f"setting the MTU of {link.name} to {mtu}"),
        Request(SETLINK, 0, own + mode, f"taking generated addresses from {link.name}", (errno.EAFNOSUPPORT,)),
        Request(SETLINK, 0, up, f"setting {link.name} up"),
    ]


def remove_link(link: Link) -> Request:
    """Take it away, with its addresses and the routes to it."""
    body = _LINK.pack(0, 0, link.index, 0, 0)
    return Request(DELLINK, 0, body, f"removing the interface {link.name}", (errno.ENODEV,))


def read_address(payload: memoryview) -> tuple[int, OnInterface]:
    """Interface and address, from an ifaddrmsg and its attributes. Raises Malformed."""
    if len(payload) < _ADDRESS.size:
        raise Malformed(f"an address of {len(payload)} bytes")
    _, bits, _, _, index = _ADDRESS.unpack_from(payload)
    found = dict(attributes(payload, _ADDRESS.size, len(payload)))
    raw = found.get(_IFA_LOCAL, found.get(_IFA_ADDRESS))
    if raw is None or len(raw) not in (4, 16):
        raise Malformed("an address without one")
    return index, ip_interface((bytes(raw), bits))


def all_addresses() -> bytes:
    """What GETADDR is asked with."""
    return _ADDRESS.pack(0, 0, 0, 0, 0)


def add_address(link: Link, address: OnInterface) -> Request:
    """Give an interface an address, that is valid at once and brings no route of its own."""
    body = _address(link, address) + attribute(_IFA_FLAGS, _U32.pack(_NODAD | _NOPREFIXROUTE))
    what = f"adding {address} to {link.name}"
    return Request(NEWADDR, CREATE | EXCLUSIVE, body, what, (errno.EEXIST,))


def remove_address(link: Link, address: OnInterface) -> Request:
    """Take an address away."""
    body = _address(link, address)
    return Request(DELADDR, 0, body, f"removing {address} from {link.name}", (errno.EADDRNOTAVAIL, errno.ENODEV))


def _address(link: Link, address: OnInterface) -> bytes:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    head = _ADDRESS.pack(family, address.network.prefixlen, 0, 0, link.index)
    return head + attribute(_IFA_LOCAL, address.ip.packed) + attribute(_IFA_ADDRESS, address.ip.packed)


def _text(raw: memoryview | None) -> str:
    return "" if raw is None else bytes(raw).rstrip(b"\0").decode("utf-8", "replace")


def _number(raw: memoryview | None) -> int:
    return 0 if raw is None or len(raw) != _U32.size else int(_U32.unpack(raw)[0])
