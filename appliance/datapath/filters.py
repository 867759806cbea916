"""What the sockets of an ingress let in: IKE from ESP (RFC 3948 §2.2), and ESP by whose its SPI is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from appliance.datapath import cbpf
from appliance.datapath.cbpf import Instruction

SHORTEST_ESP = 12
"""SPI, sequence number and at least one word behind them."""
TO_IKE = 0
_NOTHING, _EVERYTHING = 0, 0xFFFF_FFFF


class Owner(Enum):
    """Which datapath is given an inbound SA's packets."""

    SOFT = "soft"
    KERNEL = "kernel"

    @property
    def other(self) -> Owner:
        """The other one."""
        return Owner.KERNEL if self is Owner.SOFT else Owner.SOFT


_SOCKET = {Owner.SOFT: 1, Owner.KERNEL: 2}
"""Sockets that share the NAT traversal port, by the order in which they are bound: IKE's is the first, TO_IKE."""
_TELL_IKE: tuple[Instruction, ...] = (
    (cbpf.LENGTH, 0, 0, 0),
    (cbpf.IF_AT_LEAST, 0, 2, SHORTEST_ESP),  # what is too short for ESP, IKE's side drops
    (cbpf.WORD, 0, 0, 0),
    (cbpf.IF_EQUAL, 0, 1, 0),  # the non-ESP marker
    (cbpf.RETURN, 0, 0, TO_IKE),
)
# A raw IPv4 socket sees the IP header, which tells its length; an IPv6 one sees what comes behind.
_LOAD_SPI: dict[int, tuple[Instruction, ...]] = {
    4: ((cbpf.HEADER_LENGTH, 0, 0, 0), (cbpf.WORD_AT_X, 0, 0, 0)),
    6: ((cbpf.WORD, 0, 0, 0),),
}
DROP_ALL: tuple[Instruction, ...] = ((cbpf.RETURN, 0, 0, _NOTHING),)


@dataclass(frozen=True, slots=True)
class Split:
    """Who has which SPI: ``rest`` has all, known or not, but those that are ``listed``."""

    listed: frozenset[int] = frozenset()
    rest: Owner = Owner.SOFT

    def owner(self, spi: int) -> Owner:
        """Who has this one."""
        return self.rest.other if spi in self.listed else self.rest


ALL_SOFT = Split()
ALL_KERNEL = Split(rest=Owner.KERNEL)


def encapsulated(split: Split, bucket: int = 8) -> list[Instruction]:
    """Choose the socket for a UDP payload on the NAT traversal port. ``bucket`` as of ``cbpf.among``."""
    rest = split.rest
    body = cbpf.among(sorted(split.listed), _SOCKET[rest.other], _SOCKET[rest], bucket=bucket)
    return [*_TELL_IKE, *body]


def native(split: Split, version: int, bucket: int = 8) -> list[Instruction]:
    """Let a raw socket of an IP version have the soft datapath's ESP packets only."""
    listed, rest = (_EVERYTHING if who is Owner.SOFT else _NOTHING for who in (split.rest.other, split.rest))
    return [*_LOAD_SPI[version], *cbpf.among(sorted(split.listed), listed, rest, bucket=bucket)]
