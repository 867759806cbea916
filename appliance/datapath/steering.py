"""The rules and routes that lead protected traffic to a device of ours, and refuse it where that is gone.

Rules by preference, from ``preference`` (p) on:

    p       own mark: go to p+40, past all of this
    p+1…37  bypass policies: go to p+40; discard policies: blackhole; in their order
    p+38    from a protected local network [protocol, ports]: table t
    p+39    IPv4 without a source yet: table t+1, whose routes choose a source inside the policy
    p+40    nothing: where "go to" ends

Table t: each remote network to the device, and unreachable behind that; throw for what stays at home.

What comes out of a tunnel was protected, and a default route is no way to the network that it is for: it may be the way
that it came by. So it goes where a route names that network, or nowhere. Only a local side that is wider than any
private network is one that a default route leads to: 0.0.0.0/0 of a gateway to the Internet. Rules for it, known by
the device that it comes from or by its mark, with a ``preference`` of their own:

    p+41    table main, without default routes
    p+42    to a local side that is a site: unreachable; the router's error takes the way of the policy
    p+43    to a local side as wide as the Internet: go to p+45
    p+44    blackhole: no policy is about it, so an error would leave in the clear with a part of the packet in it
    p+45    nothing: where p+43 ends
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_network

from appliance.datapath.rtnetlink import (
    BLACKHOLE_RULE,
    GOTO,
    MAIN,
    NOP,
    THROW,
    UNREACHABLE,
    UNREACHABLE_RULE,
    Route,
    Rule,
)
from appliance.sa.association import PolicyAction, SecurityPolicy
from appliance.sa.selector import Address, Network, TrafficSelector

EXCEPTIONS, PROTECTED, UNBOUND, LANDING = 1, 38, 39, 40
HOMEWARD, TO_SITE, TO_INTERNET, NOWHERE, END = 41, 42, 43, 44, 45
_METRIC, _FALLBACK_METRIC = 100, 20000
_UNBOUND = ip_network("0.0.0.0/32")
_WIDEST_SITE = {4: 8, 6: 7}
"""Bits of the widest private networks: 10.0.0.0/8 (RFC 1918 §3), fc00::/7 (RFC 4193 §3.1). What is wider is no site."""
# Neighbours and groups on the link are never behind a tunnel (RFC 4301 §4.4.1, RFC 4861).
_AT_HOME: tuple[Network, ...] = (
    IPv4Network("224.0.0.0/4"),
    IPv4Network("255.255.255.255/32"),
    IPv6Network("fe80::/10"),
    IPv6Network("ff00::/8"),
)


def plan(
    policies: Sequence[SecurityPolicy],
    *,
    mark: int,
    table: int,
    preference: int,
    device: int,
    addresses: Sequence[Address],
    discards: bool = True,
    elsewhere: Sequence[SecurityPolicy] = (),
) -> Iterator[Rule | Route]:
    """The rules and routes for policies. ``device`` is an interface's index, ``addresses`` are the machine's own.

    ``discards``: with rules that drop. ``elsewhere`` are policies whose packets are to go past all this.
    """
    base = preference
    protects = [policy for policy in policies if policy.action is PolicyAction.PROTECT]
    past = [
        replace(other, action=PolicyAction.BYPASS)
        for other in elsewhere
        if any(other.priority < policy.priority and _overlap(other, policy) for policy in protects)
    ]
    ordered = sorted([*policies, *past], key=lambda policy: policy.priority)
    protects.sort(key=lambda policy: policy.priority)
    for version in versions_of(ordered):
        family = _family(version)
        # Added first, so that "go to" finds where it goes.
        yield Rule(family=family, preference=base + LANDING, action=NOP)
        yield Rule(family=family, preference=base, action=GOTO, target=base + LANDING, mark=mark)
    index = EXCEPTIONS
    for policy in ordered:
        if policy.action is PolicyAction.PROTECT or (policy.action is PolicyAction.DISCARD and not discards):
            continue
        if any(earlier.priority < policy.priority and _overlap(earlier, policy) for earlier in protects):
            continue  # some of its packets are to be protected: the datapath has to sort them out
        for local, remote in _pairs(policy):
            bypass = policy.action is PolicyAction.BYPASS
            action, target = (GOTO, base + LANDING) if bypass else (BLACKHOLE_RULE, 0)
            yield from _rules(local, remote, base + min(index, PROTECTED - 1), action, target, to=True)
        index += 1
    protected: set[Network] = set()
    stay: set[Network] = set()
    chosen: dict[Network, Address] = {}
    for policy in protects:
        for local, remote in _pairs(policy):
            yield from _rules(local, remote, base + PROTECTED, 1, table, to=False)
            protected.update(remote.networks)
            for home in local.networks:
                if any(_inside(home, network) for network in remote.networks):
                    stay.add(home)
            for address in addresses:
                if address.version == 4 and local.matches(address, local.protocol, None if local.is_opaque else 0):
                    for network in remote.networks:
                        chosen.setdefault(network, address)
                    break
    for network in protected:
        yield Route(destination=network, table=table, device=device, metric=_METRIC)
        yield Route(destination=network, table=table, kind=UNREACHABLE, metric=_FALLBACK_METRIC)
        stay.update(home for home in _AT_HOME if _inside(home, network))
    for home in stay - protected:
        yield Route(destination=home, table=table, kind=THROW, metric=_METRIC)
    if chosen:
        yield Rule(family=socket.AF_INET, preference=base + UNBOUND, target=table + 1, source=_UNBOUND)
        for network, address in chosen.items():
            yield Route(destination=network, table=table + 1, device=device, metric=_METRIC, source=address)
        for home in stay - protected:
            if home.version == 4:
                yield Route(destination=home, table=table + 1, kind=THROW, metric=_METRIC)


def homeward(
    policies: Sequence[SecurityPolicy], versions: Iterable[int], *, preference: int, inward: str = "", mark: int = 0
) -> Iterator[Rule]:
    """The rules for what comes from the device ``inward`` or bears ``mark``, for these versions of IP."""
    base = preference
    sides = [local for policy in policies if policy.action is PolicyAction.PROTECT for local in policy.local_ts]
    for version in versions:
        rule = partial(Rule, family=_family(version), inward=inward, mark=mark)
        yield rule(preference=base + HOMEWARD, target=MAIN, suppress=_WIDEST_SITE[version] - 1)
        yield rule(preference=base + NOWHERE, action=BLACKHOLE_RULE)
        ours = [side for side in sides if side.version == version]
        for network in {network for side in ours if not _is_wide(side) for network in side.networks}:
            yield rule(preference=base + TO_SITE, action=UNREACHABLE_RULE, destination=network)
        wide = {network for side in ours if _is_wide(side) for network in side.networks}
        if wide:
            yield Rule(family=_family(version), preference=base + END, action=NOP)
        for network in wide:
            to = network if network.prefixlen else None
            yield rule(preference=base + TO_INTERNET, action=GOTO, target=base + END, destination=to)


def _is_wide(side: TrafficSelector) -> bool:
    """Whether it is wider than any private network, so that default routes are ways to it."""
    bits = 32 if side.version == 4 else 128
    return int(side.end) - int(side.start) >= 1 << (bits - _WIDEST_SITE[side.version])


def versions_of(policies: Iterable[SecurityPolicy]) -> frozenset[int]:
    """The versions of IP that policies are about."""
    return frozenset(selector.version for policy in policies for selector in policy.remote_ts)


def _rules(
    local: TrafficSelector, remote: TrafficSelector, preference: int, action: int, target: int, *, to: bool
) -> Iterator[Rule]:
    protocol = local.protocol or remote.protocol
    for source in local.networks:
        for destination in remote.networks if to else (None,):
            yield Rule(
                family=_family(local.version),
                preference=preference,
                action=action,
                target=target,
                source=source if source.prefixlen else None,
                destination=destination if destination is not None and destination.prefixlen else None,
                protocol=protocol,
                source_ports=_ports(local),
                destination_ports=_ports(remote),
            )


def _ports(selector: TrafficSelector) -> tuple[int, int] | None:
    # Rules cannot say "from port 0", and know ports of TCP, UDP and SCTP only.
    if selector.any_port or selector.is_opaque or selector.protocol not in (6, 17, 132):
        return None
    return (max(selector.start_port, 1), selector.end_port) if selector.end_port else None


def _pairs(policy: SecurityPolicy) -> Iterator[tuple[TrafficSelector, TrafficSelector]]:
    for local in policy.local_ts:
        for remote in policy.remote_ts:
            if local.version == remote.version:
                yield local, remote


def _overlap(first: SecurityPolicy, second: SecurityPolicy) -> bool:
    return any(a.intersection(b) for a in first.local_ts for b in second.local_ts) and any(
        a.intersection(b) for a in first.remote_ts for b in second.remote_ts
    )


def _inside(inner: Network, outer: Network) -> bool:
    """Whether ``inner`` is a part of ``outer``, and not all of it."""
    if inner.version != outer.version or inner.prefixlen <= outer.prefixlen:
        return False
    return inner.network_address in outer


def _family(version: int) -> int:
    return socket.AF_INET if version == 4 else socket.AF_INET6
