"""Traffic selectors as the kernel's: prefixes, one protocol, ports under a mask (struct xfrm_selector)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

from appliance.datapath.kernel.xfrm import MaskedPort, Selector
from appliance.reasons import Reason
from appliance.sa.datapath import DatapathRefusal
from appliance.sa.selector import TrafficSelector

MOST = 4096
"""Kernel selectors that one policy or SA may take: a range of addresses and two of ports multiply."""

ICMP = (1, 58)
WITH_PORTS = (6, 17, 33, 132, 136)

Port = int | MaskedPort | None


def outbound(local: Sequence[TrafficSelector], remote: Sequence[TrafficSelector]) -> list[Selector]:
    """Selectors for packets from ``local`` to ``remote``. Raises DatapathRefusal: SELECTORS_UNSUPPORTED."""
    found: dict[Selector, None] = {}
    for one, other in product(local, remote):
        if one.version == other.version:
            for selector in _pairs(one, other):
                found[selector] = None
                if len(found) > MOST:
                    raise _refusal(one, other, f"they are more than {MOST} of the kernel's")
    return list(found)


def inbound(selector: Selector) -> Selector:
    """The same for the way back. Types and codes of ICMP do not change sides."""
    ports = (selector.source_port, selector.destination_port)
    if selector.protocol not in ICMP:
        ports = ports[::-1]
    return Selector(selector.destination, selector.source, selector.protocol, *ports, selector.interface)


def _pairs(local: TrafficSelector, remote: TrafficSelector) -> Iterator[Selector]:
    protocol = local.protocol or remote.protocol
    if local.protocol and remote.protocol and local.protocol != remote.protocol:
        return
    for source, destination in product(local.networks, remote.networks):
        for one, other in _ports(local, remote, protocol):
            yield Selector(source, destination, protocol, one, other)


def _ports(local: TrafficSelector, remote: TrafficSelector, protocol: int) -> list[tuple[Port, Port]]:
    if local.any_port and remote.any_port:
        return [(None, None)]
    if local.is_opaque or remote.is_opaque:
        raise _refusal(local, remote, "the kernel has no OPAQUE ports")
    if protocol in ICMP:
        return _types(local, remote)
    if protocol not in WITH_PORTS:
        raise _refusal(local, remote, f"the kernel sees no ports in protocol {protocol or 'any'}")
    here, there = (list(_masked(side.start_port, side.end_port, 16)) for side in (local, remote))
    return list(product(here, there))


def _types(local: TrafficSelector, remote: TrafficSelector) -> list[tuple[Port, Port]]:
    """Type and code: what both sides' "ports" have in common (RFC 7296 §3.13.1)."""
    first = max(local.start_port, remote.start_port)
    last = min(local.end_port, remote.end_port)
    if first > last:
        return []
    if first >> 8 == last >> 8:
        return [(first >> 8, code) for code in _masked(first & 0xFF, last & 0xFF, 8)]
    if first & 0xFF or last & 0xFF != 0xFF:
        raise _refusal(local, remote, "the kernel has no ranges over several ICMP types with some of their codes")
    return [(kind, None) for kind in _masked(first >> 8, last >> 8, 8)]


def _masked(first: int, last: int, bits: int) -> Iterator[Port]:
    """A range as the fewest numbers under a mask, as networks are to a range of addresses."""
    if (first, last) == (0, (1 << bits) - 1):
        yield None
        return
    while first <= last:
        size = first & -first or 1 << bits
        while first + size - 1 > last:
            size >>= 1
        yield first if size == 1 else MaskedPort(first, 0x10000 - size)
        first += size


def _refusal(local: TrafficSelector, remote: TrafficSelector, why: str) -> DatapathRefusal:
    return DatapathRefusal(Reason.SELECTORS_UNSUPPORTED, f"{local} and {remote}: {why}")
