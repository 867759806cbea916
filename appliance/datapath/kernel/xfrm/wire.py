"""Messages and attributes as bytes: framing only, no meaning.

A message that may hold a key is written once, into one ``bytearray`` of its final size, straight from the caller's
bytes: wiping that bytearray and the caller's key leaves no other copy of ours.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from socket import AddressFamily
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

# Plain numbers: members of enumerations are slower to compare.
AF_UNSPEC, AF_INET, AF_INET6 = 0, int(AddressFamily.AF_INET), int(AddressFamily.AF_INET6)

HEADER = NLMSGHDR.size
_ATTRIBUTE = NLATTR.codec
_HEADER = NLMSGHDR.codec
_TYPE = 0x3FFF
"""An attribute's type without NLA_F_NESTED and NLA_F_NET_BYTEORDER."""

_PEERS = 1 << 14
"""As many as a gateway may have: in a list of more than a cache holds, each displaces the one that comes next."""

U8 = struct.Struct("=B")
U16 = struct.Struct("=H")
U32 = struct.Struct("=I")
U64 = struct.Struct("=Q")


Part = tuple[int, bytes, Key]
"""An attribute to be written: type, bytes, and then secret bytes, which are copied nowhere else on their way."""


class Frame(NamedTuple):
    """A message in a buffer: its header, and where its payload is."""

    kind: int
    flags: int
    sequence: int
    port: int
    start: int
    end: int


def message(kind: int, flags: int, head: bytes, parts: Sequence[Part] = ()) -> bytearray:
    """A whole message with sequence number and port 0."""
    if not parts:
        return bytearray(_HEADER.pack(HEADER + len(head), kind, flags, 0, 0) + head)
    pieces = [b"", head]
    secrets: list[tuple[int, Key]] = []
    at = HEADER + len(head)
    for number, first, secret in parts:
        if at % 4:
            pieces.append(bytes(-at % 4))
            at += -at % 4
        length = 4 + len(first) + len(secret)
        if length > 0xFFFF:
            raise ValueError(f"attribute {number} of {length} bytes")
        pieces.append(_ATTRIBUTE.pack(length, number))
        pieces.append(first)
        at += length
        if secret:
            pieces.append(bytes(len(secret)))
            secrets.append((at - len(secret), secret))
    if at % 4:
        pieces.append(bytes(-at % 4))
        at += -at % 4
    pieces[0] = _HEADER.pack(at, kind, flags, 0, 0)
    buffer = bytearray(b"".join(pieces))
    for place, secret in secrets:
        # A slice of a bytearray would be assigned by way of a copy.
        struct.pack_into(f"{len(secret)}s", buffer, place, secret)
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


@lru_cache(maxsize=_PEERS)
def read_address(raw: bytes, family: int) -> Address:
    """From the 16 bytes of an xfrm_address_t. Raises Malformed for a family that has none."""
    if family == AF_INET:
        return IPv4Address(int.from_bytes(raw[:4], "big"))
    if family == AF_INET6:
        return IPv6Address(int.from_bytes(raw, "big"))
    raise Malformed(f"address family {family}")


def read_optional_address(raw: bytes, family: int) -> Address | None:
    """The same; AF_UNSPEC has no address."""
    return None if family == AF_UNSPEC else read_address(raw, family)


def read_guessed_address(raw: bytes) -> Address | None:
    """Where no family is told: 4 bytes before zeros are IPv4, and nothing is None."""
    if not any(raw):
        return None
    return read_address(raw, AF_INET6 if any(raw[4:]) else AF_INET)


@lru_cache(maxsize=_PEERS)
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


def family_of(one: Address | Prefix | None, other: Address | Prefix | None) -> int:
    """AF_INET or AF_INET6, as the two are; AF_UNSPEC if both are None. Raises ValueError if they differ."""
    if one is None:
        if other is None:
            return AF_UNSPEC
        one = other
    elif other is not None and one.version != other.version:
        raise ValueError(f"addresses of two families: {one} and {other}")
    return AF_INET if one.version == 4 else AF_INET6
