"""The Traffic Selector payloads (RFC 7296 §3.13)."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Self

from appliance.ike.constants import PayloadType, TsType
from appliance.ike.errors import MalformedMessage
from appliance.sa.selector import TrafficSelector

MAX_SELECTORS = 255
_LENGTHS: dict[int, int] = {TsType.IPV4_ADDR_RANGE: 16, TsType.IPV6_ADDR_RANGE: 40}


@dataclass(frozen=True, slots=True)
class TsPayload:
    """TSi or TSr. Selectors of types that are not known here are skipped; ``unknown`` counts them (§3.13.1)."""

    initiator: bool
    selectors: tuple[TrafficSelector, ...]
    unknown: int = 0
    critical: bool = False

    @property
    def payload_type(self) -> int:
        """Its number in the chain."""
        return PayloadType.TSI if self.initiator else PayloadType.TSR

    def encode(self) -> bytes:
        """The bytes behind the generic header. Raises ValueError for more than 255 selectors."""
        if len(self.selectors) > MAX_SELECTORS:
            raise ValueError(f"a TS payload holds at most {MAX_SELECTORS} selectors")
        return bytes([len(self.selectors), 0, 0, 0]) + b"".join(map(_encode_selector, self.selectors))

    @classmethod
    def parse(cls, body: bytes, initiator: bool, critical: bool = False) -> Self:
        """Inverse of ``encode``."""
        if len(body) < 4:
            raise MalformedMessage(f"TS payload has {len(body)} bytes of 4 (RFC 7296 §3.13)")
        count = body[0]
        if count == 0:
            raise MalformedMessage("TS payload without selectors (RFC 7296 §3.13)")
        selectors: list[TrafficSelector] = []
        at = 4
        for _ in range(count):
            left = len(body) - at
            if left < 4:
                raise MalformedMessage(f"traffic selector has {left} bytes of 4 (RFC 7296 §3.13.1)")
            length = int.from_bytes(body[at + 2 : at + 4], "big")
            if not 4 <= length <= left:
                raise MalformedMessage(f"traffic selector says {length} bytes, {left} are left (RFC 7296 §3.13.1)")
            if body[at] in _LENGTHS:
                selectors.append(_parse_selector(body[at : at + length]))
            at += length
        if at != len(body):
            raise MalformedMessage(f"{len(body) - at} bytes behind the last traffic selector (RFC 7296 §3.13)")
        return cls(initiator, tuple(selectors), count - len(selectors), critical)


def _parse_selector(data: bytes) -> TrafficSelector:
    kind = TsType(data[0])
    if len(data) != _LENGTHS[kind]:
        raise MalformedMessage(f"{kind.name} has {len(data)} bytes, not {_LENGTHS[kind]} (RFC 7296 §3.13.1)")
    family = IPv4Address if kind is TsType.IPV4_ADDR_RANGE else IPv6Address
    middle = 8 + (len(data) - 8) // 2
    try:
        return TrafficSelector(
            family(data[8:middle]),
            family(data[middle:]),
            data[1],
            int.from_bytes(data[4:6], "big"),
            int.from_bytes(data[6:8], "big"),
        )
    except ValueError as error:  # a range that ends before it starts
        raise MalformedMessage(f"traffic selector: {error} (RFC 7296 §3.13.1)") from None


def _encode_selector(selector: TrafficSelector) -> bytes:
    kind = TsType.IPV4_ADDR_RANGE if selector.version == 4 else TsType.IPV6_ADDR_RANGE
    return b"".join(
        (
            bytes([kind, selector.protocol]),
            _LENGTHS[kind].to_bytes(2, "big"),
            selector.start_port.to_bytes(2, "big"),
            selector.end_port.to_bytes(2, "big"),
            selector.start.packed,
            selector.end.packed,
        )
    )
