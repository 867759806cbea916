"""The Security Association payload: proposals of transforms with attributes (RFC 7296 §3.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from appliance.ike.constants import PayloadType
from appliance.ike.errors import MalformedMessage
from appliance.sa.proposal import ProtocolId

MAX_PROPOSALS = 64
MAX_TRANSFORMS = 255

_PROPOSAL_HEADER = 8
_TRANSFORM_HEADER = 8
_MORE_PROPOSALS = 2
_MORE_TRANSFORMS = 3
_FIXED_FORMAT = 0x8000  # attribute format bit: type and value, no length (§3.3.5)
_KEY_LENGTH = 14
_SPI_SIZES: dict[int, tuple[int, ...]] = {ProtocolId.IKE: (0, 8), ProtocolId.AH: (4,), ProtocolId.ESP: (4,)}


@dataclass(frozen=True, slots=True)
class WireTransform:
    """One transform substructure, §3.3.2. A transform with attributes unknown here is never chosen (§3.3.6)."""

    type: int
    id: int
    key_bits: int | None = None
    unknown_attributes: bool = False


@dataclass(frozen=True, slots=True)
class WireProposal:
    """One proposal substructure, §3.3.1."""

    number: int
    protocol: int
    spi: bytes
    transforms: tuple[WireTransform, ...]


@dataclass(frozen=True, slots=True)
class SaPayload:
    """Security Association, §3.3."""

    proposals: tuple[WireProposal, ...]
    critical: bool = False

    @property
    def payload_type(self) -> int:
        """Its number in the chain."""
        return PayloadType.SA

    def encode(self) -> bytes:
        """The bytes behind the generic header. Unknown attributes are not kept, so they are not encoded."""
        last = len(self.proposals) - 1
        return b"".join(_encode_proposal(p, at == last) for at, p in enumerate(self.proposals))

    @classmethod
    def parse(cls, body: bytes, critical: bool = False) -> Self:
        """Inverse of ``encode``.

        Several proposals must be numbered 1, 2, 3 …; a single one may have any number from 1, since an answer carries
        the number of the proposal that it accepts.
        """
        proposals: list[WireProposal] = []
        at, more = 0, True
        while more:
            if len(proposals) == MAX_PROPOSALS:
                raise MalformedMessage(f"more than {MAX_PROPOSALS} proposals")
            length, more = _substructure(body, at, _PROPOSAL_HEADER, _MORE_PROPOSALS, "proposal", "§3.3.1")
            proposals.append(_parse_proposal(body[at : at + length]))
            at += length
        if at != len(body):
            raise MalformedMessage(f"{len(body) - at} bytes behind the last proposal (RFC 7296 §3.3.1)")
        numbers = [p.number for p in proposals]
        if numbers != list(range(1, len(numbers) + 1)) and (len(numbers) > 1 or numbers[0] == 0):
            raise MalformedMessage("proposals are not numbered 1, 2, 3 … (RFC 7296 §3.3.1)")
        return cls(tuple(proposals), critical)


def _substructure(body: bytes, at: int, header: int, more_mark: int, what: str, section: str) -> tuple[int, bool]:
    """Length of the substructure at ``at``, checked to lie inside, and whether another follows."""
    left = len(body) - at
    if left < header:
        raise MalformedMessage(f"{what} has {left} bytes of {header} (RFC 7296 {section})")
    mark, length = body[at], int.from_bytes(body[at + 2 : at + 4], "big")
    if mark not in (0, more_mark):
        raise MalformedMessage(f"{what} starts with {mark}, not 0 or {more_mark} (RFC 7296 {section})")
    if not header <= length <= left:
        raise MalformedMessage(f"{what} says {length} bytes, {left} are left (RFC 7296 {section})")
    return length, mark == more_mark


def _parse_proposal(data: bytes) -> WireProposal:
    number, protocol, spi_size, count = data[4:8]
    if len(data) < _PROPOSAL_HEADER + spi_size:
        raise MalformedMessage(f"proposal {number} has no room for its SPI of {spi_size} bytes (RFC 7296 §3.3.1)")
    if spi_size not in _SPI_SIZES.get(protocol, (spi_size,)):
        raise MalformedMessage(f"{ProtocolId(protocol).name} proposal has an SPI of {spi_size} bytes (RFC 7296 §3.3.1)")
    at = _PROPOSAL_HEADER + spi_size
    spi = data[_PROPOSAL_HEADER:at]
    transforms: list[WireTransform] = []
    more = count > 0
    while more:
        if len(transforms) == count:
            raise MalformedMessage(f"proposal {number} has more than its {count} transforms (RFC 7296 §3.3.1)")
        length, more = _substructure(data, at, _TRANSFORM_HEADER, _MORE_TRANSFORMS, "transform", "§3.3.2")
        transforms.append(_parse_transform(data[at : at + length]))
        at += length
    if len(transforms) != count:
        raise MalformedMessage(f"proposal {number} has {len(transforms)} transforms, not {count} (RFC 7296 §3.3.1)")
    if at != len(data):
        raise MalformedMessage(f"{len(data) - at} bytes behind the last transform (RFC 7296 §3.3.2)")
    return WireProposal(number, protocol, spi, tuple(transforms))


def _parse_transform(data: bytes) -> WireTransform:
    key_bits: int | None = None
    unknown = False
    at = _TRANSFORM_HEADER
    while at < len(data):
        if len(data) - at < 4:
            raise MalformedMessage(f"transform ends with {len(data) - at} bytes of an attribute (RFC 7296 §3.3.5)")
        kind = int.from_bytes(data[at : at + 2], "big")
        value = int.from_bytes(data[at + 2 : at + 4], "big")
        at += 4
        if kind == _FIXED_FORMAT | _KEY_LENGTH:
            unknown |= key_bits is not None  # two key lengths: not to be chosen by guessing which
            key_bits = value
        elif kind == _KEY_LENGTH:
            raise MalformedMessage("the key length attribute is in the variable format (RFC 7296 §3.3.5)")
        else:
            unknown = True
            if not kind & _FIXED_FORMAT:
                if value > len(data) - at:
                    raise MalformedMessage(f"attribute of {value} bytes, {len(data) - at} left (RFC 7296 §3.3.5)")
                at += value
    return WireTransform(data[4], int.from_bytes(data[6:8], "big"), key_bits, unknown)


def _encode_proposal(proposal: WireProposal, last: bool) -> bytes:
    final = len(proposal.transforms) - 1
    transforms = b"".join(_encode_transform(t, at == final) for at, t in enumerate(proposal.transforms))
    length = _PROPOSAL_HEADER + len(proposal.spi) + len(transforms)
    return b"".join(
        (
            bytes([0 if last else _MORE_PROPOSALS, 0]),
            length.to_bytes(2, "big"),
            bytes([proposal.number, proposal.protocol, len(proposal.spi), len(proposal.transforms)]),
            proposal.spi,
            transforms,
        )
    )


def _encode_transform(transform: WireTransform, last: bool) -> bytes:
    attribute = b""
    if transform.key_bits is not None:
        attribute = (_FIXED_FORMAT | _KEY_LENGTH).to_bytes(2, "big") + transform.key_bits.to_bytes(2, "big")
    return b"".join(
        (
            bytes([0 if last else _MORE_TRANSFORMS, 0]),
            (_TRANSFORM_HEADER + len(attribute)).to_bytes(2, "big"),
            bytes([transform.type, 0]),
            transform.id.to_bytes(2, "big"),
            attribute,
        )
    )
