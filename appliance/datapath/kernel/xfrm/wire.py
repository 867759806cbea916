"""Messages and attributes as bytes: framing only, no meaning.

A message that may hold a key is written once, into one ``bytearray`` of its final size, straight from the caller's
bytes: wiping that bytearray and the caller's key leaves no other copy of ours.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from socket import AF_INET, AF_INET6, AF_UNSPEC
from typing import NamedTuple

from .errors import Malformed
from .layout import NLATTR, NLMSGHDR

Buffer = bytes | bytearray | memoryview
Key = bytes | bytearray
Address = IPv4Address | IPv6Address
Prefix = IPv4Network | IPv6Network | IPv4Interface | IPv6Interface
"""A network; or an interface where bits right of the prefix are set, which the kernel keeps and compares."""

NLM_F_REQUEST = 0x01
NLM_F_MULTI = 0x02
NLM_F_ACK = 0x04
NLM_F_DUMP_INTR = 0x10
NLM_F_REPLACE = 0x100
NLM_F_DUMP = 0x300
NLM_F_CAPPED = 0x100
NLM_F_ACK_TLVS = 0x200

NLMSG_NOOP, NLMSG_ERROR, NLMSG_DONE, NLMSG_OVERRUN = 1, 2, 3, 4

HEADER = NLMSGHDR.size
_ATTRIBUTE = NLATTR.codec
_HEADER = NLMSGHDR.codec
_TYPE = 0x3FFF
"""An attribute's type without NLA_F_NESTED and NLA_F_NET_BYTEORDER."""

U8 = struct.Struct("=B")
U16 = struct.Struct("=H")
U32 = struct.Struct("=I")
U64 = struct.Struct("=Q")


class Part(NamedTuple):
    """An attribute to be written: ``head`` and then ``secret``, which is copied nowhere else on its way."""

    kind: int
    head: bytes
    secret: Key = b""


class Frame(NamedTuple):
    """A message in a buffer: its header, and where its payload is."""

    kind: int
    flags: int
    sequence: int
    port: int
    start: int
    end: int


def message(kind: int, flags: int, head: bytes, parts: Iterable[Part] = ()) -> bytearray:
    """A whole message with sequence number and port 0."""
    parts = tuple(parts)
    size = HEADER + len(head)
    for part in parts:
        size += -size % 4 + 4 + len(part.head) + len(part.secret)
    if parts:
        size += -size % 4
    buffer = bytearray(size)
    _HEADER.pack_into(buffer, 0, size, kind, flags, 0, 0)
    at = HEADER + len(head)
    buffer[HEADER:at] = head
    for number, first, secret in parts:
        at += -at % 4
        length = 4 + len(first) + len(secret)
        if length > 0xFFFF:
            raise ValueError(f"attribute {number} of {length} bytes")
        _ATTRIBUTE.pack_into(buffer, at, length, number)
        buffer[at + 4 : at + 4 + len(first)] = first
        if secret:
            # A slice of a bytearray would be assigned by way of a copy.
            struct.pack_into(f"{len(secret)}s", buffer, at + 4 + len(first), secret)
        at += length
    return buffer


def wipe(buffer: bytearray) -> None:
    """Overwrite what may hold a key."""
    buffer[:] = bytes(len(buffer))


def frames(data: Buffer) -> Iterator[Frame]:
    """The messages of a datagram. Raises Malformed at one that does not fit in it."""
    at, total = 0, len(data)
    while at + HEADER <= total:
        length, kind, flags, sequence, port = _HEADER.unpack_from(data, at)
        if length < HEADER or at + length > total:
            raise Malformed(f"a message of {length} bytes in {total - at}")
        yield Frame(kind, flags, sequence, port, at + HEADER, at + length)
        at += length + -length % 4
    if at < total:
        raise Malformed(f"{total - at} bytes are no message")


def attributes(data: memoryview, at: int, end: int) -> Iterator[tuple[int, memoryview]]:
    """The attributes in ``data[at:end]``: type without flags, payload. Raises Malformed.

    Up to three bytes at the end are padding, as they are for the kernel.
    """
    at += -at % 4
    while at + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < 4 or at + length > end:
            raise Malformed(f"attribute {kind & _TYPE} of {length} bytes in {end - at}")
        yield kind & _TYPE, data[at + 4 : at + length]
        at += length + -length % 4


@lru_cache(maxsize=8192)
def read_address(raw: bytes, family: int) -> Address:
    """From the 16 bytes of an xfrm_address_t. Raises Malformed for a family that has none."""
    if family == AF_INET:
        return IPv4Address(raw[:4])
    if family == AF_INET6:
        return IPv6Address(raw)
    raise Malformed(f"address family {family}")


def read_optional_address(raw: bytes, family: int) -> Address | None:
    """The same; AF_UNSPEC has no address."""
    return None if family == AF_UNSPEC else read_address(raw, family)


def read_guessed_address(raw: bytes) -> Address | None:
    """Where no family is told: 4 bytes before zeros are IPv4, and nothing is None."""
    if not any(raw):
        return None
    return read_address(raw, AF_INET6 if any(raw[4:]) else AF_INET)


@lru_cache(maxsize=8192)
def read_prefix(raw: bytes, family: int, bits: int) -> Prefix:
    """From an xfrm_address_t and a prefix length. Raises Malformed."""
    if family == AF_INET:
        if bits > 32:
            raise Malformed(f"an IPv4 prefix of {bits} bits")
        four = int.from_bytes(raw[:4], "big")
        if four & (0xFFFFFFFF >> bits):
            return IPv4Interface((four, bits))
        return IPv4Network((four, bits))
    if family == AF_INET6:
        if bits > 128:
            raise Malformed(f"an IPv6 prefix of {bits} bits")
        sixteen = int.from_bytes(raw, "big")
        if sixteen & ((1 << 128 - bits) - 1):
            return IPv6Interface((sixteen, bits))
        return IPv6Network((sixteen, bits))
    raise Malformed(f"address family {family}")


def write_prefix(prefix: Prefix | None) -> tuple[bytes, int]:
    """Address and prefix length."""
    if prefix is None:
        return b"", 0
    if isinstance(prefix, IPv4Network | IPv6Network):
        return prefix.network_address.packed, prefix.prefixlen
    return prefix.packed, prefix.network.prefixlen


def family_of(*values: Address | Prefix | None) -> int:
    """AF_INET or AF_INET6, as the values are; AF_UNSPEC if all are None. Raises ValueError if they differ."""
    family: int = AF_UNSPEC
    for value in values:
        if value is None:
            continue
        this = AF_INET if value.version == 4 else AF_INET6
        if family not in (AF_UNSPEC, this):
            raise ValueError(f"addresses of two families: {', '.join(str(one) for one in values)}")
        family = this
    return family
