"""Proposals: which algorithms one side offers or accepts (RFC 7296 §3.3)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from appliance.sa.algorithms import TransformType


class ProtocolId(IntEnum):
    """Security protocol identifiers, RFC 7296 §3.3.1."""

    NONE = 0
    IKE = 1
    AH = 2
    ESP = 3


@dataclass(frozen=True, slots=True)
class Transform:
    """One algorithm of a proposal; ``key_bits`` is the key length attribute, None where there is none (RFC 7296 §3.3.5)."""

    type: TransformType
    id: int
    key_bits: int | None = None


@dataclass(frozen=True, slots=True)
class Proposal:
    """Alternatives for each transform type, in order of preference. One of each type is chosen."""

    protocol: ProtocolId
    transforms: tuple[Transform, ...]

    def of_type(self, type_: TransformType) -> tuple[Transform, ...]:
        """The alternatives of one type, preferred first."""
        return tuple(t for t in self.transforms if t.type is type_)
