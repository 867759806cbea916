"""Half-open IKE SAs: whose IKE_SA_INIT we answered and whose IKE_AUTH is due, and how many there are of one source.

A source is an IPv4 address, or the /64 of an IPv6 one: whoever has one address of it has all. A half-open IKE SA is
proven if its request had a good cookie: then the source is where it says it is. Others may be forged, so they count
against nobody but the machine as a whole, or anybody could lock out a peer by its address (RFC 7296 §2.6).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from ipaddress import IPv6Network
from typing import TYPE_CHECKING

from appliance.sa.selector import Address

if TYPE_CHECKING:
    from appliance.ike.ike_sa import IkeSa

_PREFIX = 8
"""Bytes of an IPv6 address that name its link (RFC 4291 §2.5.1)."""


@dataclass(slots=True)
class HalfOpen:
    """The table of them, by the digests of the requests that made them."""

    _ike_sas: dict[bytes, IkeSa] = field(default_factory=dict)
    _sources: dict[bytes, tuple[bytes, bool]] = field(default_factory=dict)
    _all: Counter[bytes] = field(default_factory=Counter)
    _proven: Counter[bytes] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self._ike_sas)

    def get(self, request: bytes) -> IkeSa | None:
        """The one that a request with this digest made."""
        return self._ike_sas.get(request)

    def add(self, request: bytes, sa: IkeSa, *, proven: bool) -> None:
        """Enter one; its source is where it is now."""
        source = _key(sa.remote.address)
        self._ike_sas[request] = sa
        self._sources[request] = source, proven
        self._all[source] += 1
        self._proven[source] += proven

    def remove(self, request: bytes) -> None:
        """It is half open no more. Idempotent."""
        if self._ike_sas.pop(request, None) is None:
            return
        source, proven = self._sources.pop(request)
        self._proven[source] -= proven
        self._all[source] -= 1
        if not self._all[source]:
            del self._all[source], self._proven[source]

    def of_source(self, address: Address) -> int:
        """How many are of the source of this address, as they say."""
        return self._all.get(_key(address), 0)

    def proven(self, address: Address) -> int:
        """How many really are."""
        return self._proven.get(_key(address), 0)

    @property
    def sources(self) -> int:
        """How many sources there are."""
        return len(self._all)


def source(address: Address) -> str:
    """The source of an address, for people."""
    return str(address) if address.version == 4 else str(IPv6Network((int(address) >> 64 << 64, 64)))


def _key(address: Address) -> bytes:
    return address.packed if address.version == 4 else address.packed[:_PREFIX]
