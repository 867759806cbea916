"""Questions about the tables of SAs and policies as a whole, and for a free SPI."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from . import layout
from .attributes import Codec, Writer, by_kind, read_parts
from .constants import Attribute, Protocol, SpdAttribute
from .state import State
from .values import AddressFilter, protocol_of
from .wire import U8, U32, Part, attributes


@dataclass(frozen=True, slots=True)
class SpiRequest:
    """ALLOCSPI: an SPI between ``low`` and ``high`` for the larval SA that ``state`` describes. Answered by a State."""

    state: State
    low: int
    high: int

    def head(self) -> bytes:
        """Struct xfrm_userspi_info."""
        return self.state.head() + _TWO.pack(self.low, self.high)

    def parts(self) -> list[Part]:
        """The state's attributes."""
        return self.state.parts()

    @classmethod
    def read(cls, data: memoryview, start: int, end: int, keys: bool) -> SpiRequest:
        """From struct xfrm_userspi_info and attributes."""
        low, high = _TWO.unpack_from(data, start + layout.USERSA_INFO.size)
        return cls(State.read(data, start, start + layout.USERSPI_INFO.size, end, keys), low, high)


@dataclass(frozen=True, slots=True)
class StateFilter:
    """What a dump of SAs lists (Linux 3.15). ANY: every protocol."""

    protocol: Protocol = Protocol.ANY
    addresses: AddressFilter | None = None

    def parts(self) -> list[Part]:
        """XFRMA_PROTO and XFRMA_ADDRESS_FILTER."""
        return _WRITE_STATE_FILTER(self)

    @classmethod
    def read(cls, data: memoryview, start: int, end: int) -> StateFilter:
        """From the attributes."""
        fields, _ = read_parts(data, start, end, _READ_STATE_FILTER)
        fields.pop("other", None)
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class SadInfo:
    """NEWSADINFO: how many SAs there are, and the buckets of their hash table and how many it may have."""

    count: int = 0
    buckets: int = 0
    max_buckets: int = 0

    @classmethod
    def read(cls, data: memoryview, start: int, end: int) -> SadInfo:
        """From the flags and attributes."""
        found = _read_info(data, start, end)
        (count,) = U32.unpack_from(found[1]) if 1 in found else (0,)
        buckets, most = layout.SADHINFO.codec.unpack_from(found[2]) if 2 in found else (0, 0)
        return cls(count, buckets, most)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpdInfo:
    """NEWSPDINFO: how many policies there are, of sockets too; and the hash table.

    ``ipv4_threshold`` and ``ipv6_threshold`` (local and remote prefix lengths, Linux 3.18): policies with prefixes at
    least as long are found by hash, others one by one. They can be set.
    """

    inbound: int = 0
    outbound: int = 0
    forward: int = 0
    socket_inbound: int = 0
    socket_outbound: int = 0
    socket_forward: int = 0
    buckets: int = 0
    max_buckets: int = 0
    ipv4_threshold: tuple[int, int] | None = None
    ipv6_threshold: tuple[int, int] | None = None

    def parts(self) -> list[Part]:
        """What can be set: the thresholds."""
        pairs = (
            (SpdAttribute.IPV4_HTHRESH, self.ipv4_threshold),
            (SpdAttribute.IPV6_HTHRESH, self.ipv6_threshold),
        )
        return [(kind, layout.SPDHTHRESH.codec.pack(*value), b"") for kind, value in pairs if value is not None]

    @classmethod
    def read(cls, data: memoryview, start: int, end: int) -> SpdInfo:
        """From the flags and attributes."""
        found = _read_info(data, start, end)
        fields: dict[str, Any] = {}
        if SpdAttribute.INFO in found:
            names = ("inbound", "outbound", "forward", "socket_inbound", "socket_outbound", "socket_forward")
            fields.update(zip(names, layout.SPDINFO.codec.unpack_from(found[SpdAttribute.INFO]), strict=True))
        if SpdAttribute.HINFO in found:
            hash_info = layout.SPDHINFO.codec.unpack_from(found[SpdAttribute.HINFO])
            fields["buckets"], fields["max_buckets"] = hash_info
        for kind, name in (
            (SpdAttribute.IPV4_HTHRESH, "ipv4_threshold"),
            (SpdAttribute.IPV6_HTHRESH, "ipv6_threshold"),
        ):
            if kind in found:
                fields[name] = layout.SPDHTHRESH.codec.unpack_from(found[kind])
        return cls(**fields)


def _read_info(data: memoryview, start: int, end: int) -> dict[int, memoryview]:
    U32.unpack_from(data, start)
    return dict(attributes(data, start + U32.size, end))


_TWO = struct.Struct("=II")
_STATE_FILTER: tuple[Codec, ...] = (
    Codec(Attribute.PROTO, "protocol", U8.pack, lambda data: protocol_of(U8.unpack_from(data)[0])),
    Codec(Attribute.ADDRESS_FILTER, "addresses", lambda value: value.pack(), AddressFilter.unpack),
)
_READ_STATE_FILTER = by_kind(_STATE_FILTER)
_WRITE_STATE_FILTER = Writer(_STATE_FILTER)
