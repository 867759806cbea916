"""The guard: nftables rules under which protected traffic never leaves in the clear, whether or not anything runs.

What leaves by an interface other than the TUN device without our mark, and what arrives by one, is held against the
policies in their order, unless the kernel's IPsec is about to encrypt it or has decrypted it. Rules are for the whole
selector: where nftables cannot say it as finely (ICMP types, fragments without ports), more is dropped, never less.

A guard is one table, ``esplanade_guard_N``. A new one stands before the old one goes: nftables' transactions are atomic
for rules but not for what is in sets, so a table that replaces another in one transaction lets packets through while
its sets are still empty (some microseconds a transaction: measured, and tested in ``test_soft_guard.py``).
"""

from __future__ import annotations

import functools
import json
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from appliance.datapath.ingress import IKE_PORT, NATT_PORT, OWN_MARK
from appliance.reasons import Reason, Refusal
from appliance.sa.association import PolicyAction, SecurityPolicy
from appliance.sa.selector import TrafficSelector

_TABLE = "esplanade_guard_"
_NEIGHBOURS = "nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert, nd-redirect"
_HOME = {4: "{ 224.0.0.0/4, 255.255.255.255 }", 6: "{ fe80::/10, ff00::/8 }"}
_WITH_PORTS = (6, 17, 132)
# Of a packet whose route leads through one of the kernel's SAs, and of one that came out of one.
_TO_ENCRYPT, _DECRYPTED = "rt ipsec exists accept", "meta ipsec exists accept"
_HIDING = "0, 43, 44, 51, 60, 135"  # IPv6 headers that say what comes next (RFC 8200 §4.1, RFC 6275 §6.1)
# ICMP errors by family: their types, and where in bits from the ICMP header the quoted source and destination stand.
_ERRORS = {
    4: ("icmp", "destination-unreachable, source-quench, redirect, time-exceeded, parameter-problem", 160, 192, 32),
    6: ("icmpv6", "destination-unreachable, packet-too-big, time-exceeded, parameter-problem", 128, 256, 128),
}

Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class GuardStatus:
    """Whether the guard stands, and what it dropped: packets leaving and arriving in the clear."""

    installed: bool
    dropped_out: int = 0
    dropped_in: int = 0


def install_guard(
    policies: Sequence[SecurityPolicy],
    *,
    tun: str = "esplanade0",
    mark: int = OWN_MARK,
    ports: Sequence[int] = (IKE_PORT, NATT_PORT),
    trusted_mark: int | None = None,
) -> None:
    """Put the guard up for these policies, then take an older one away. Counters start anew.

    ``ports`` are those of our own IKE. ``trusted_mark`` is as in ``guard_rules``. Policies of tunnel interfaces are
    none of its business: what takes such an interface is let pass, and routes say what does. Raises Refusal:
    NO_NFTABLES, NO_PRIVILEGE.
    """
    older, ipsec = _standing(), ipsec_aware()
    while True:
        number = max(older, default=0) + 1
        try:
            rules = guard_rules(
                policies, number, tun=tun, mark=mark, ports=ports, ipsec=ipsec, trusted_mark=trusted_mark
            )
            _nft(["-f", "-"], rules)
        except Refusal:
            # Whoever took that number meanwhile has put a guard up of its own, and ours comes after it.
            before, older = older, _standing()
            if older == before:
                raise
            continue
        older = _standing()
        if max(older, default=number) <= number:
            break
        # The number was free again, since two others came and went; ours has to be the last.
    _remove([one for one in older if one < number])


def remove_guard() -> None:
    """Take the guard away. Idempotent. Raises Refusal: NO_NFTABLES, NO_PRIVILEGE."""
    _remove(_standing())


def guard_status() -> GuardStatus:
    """Tell whether the guard stands. Raises Refusal: NO_NFTABLES, NO_PRIVILEGE."""
    dropped = {"leaving": 0, "arriving": 0}
    counters = [row for row in _listed("counters", "counter") if row["table"].startswith(_TABLE)]
    for row in counters:
        dropped[row["name"]] += int(row["packets"])
    return GuardStatus(bool(counters), dropped["leaving"], dropped["arriving"])


def ipsec_aware() -> bool:
    """Whether the guard can tell what the kernel's IPsec encrypts and decrypts. If not, it drops that.

    Raises Refusal: NO_PRIVILEGE.
    """
    try:
        _try_ipsec()
    except Refusal as refusal:
        if refusal.reason is Reason.NO_PRIVILEGE:
            raise
        return False
    return True


@functools.cache
def _try_ipsec() -> None:
    """Have the kernel take such rules, in a table that goes before anybody sees it: to check them (-c) is not enough.

    What it took once it takes again.
    """
    lines = [f"table inet {_TABLE}probe {{"]
    for hook, rule in (("postrouting", _TO_ENCRYPT), ("forward", _DECRYPTED), ("input", _DECRYPTED)):
        lines += [f"chain {hook} {{", f"type filter hook {hook} priority -150; policy accept;", rule, "}"]
    _nft(["-f", "-"], "\n".join([*lines, "}", f"delete table inet {_TABLE}probe", ""]))


def _standing() -> list[int]:
    """The numbers of the guards there are: more than one only while one takes another's place."""
    names = [row["name"].removeprefix(_TABLE) for row in _listed("tables", "table") if row["name"].startswith(_TABLE)]
    return [int(name) for name in names if name.isdecimal()]


def _remove(numbers: Sequence[int]) -> None:
    # "table" first, so that one that somebody else took away meanwhile is no error.
    lines = [f"{verb} inet {_TABLE}{number}" for number in numbers for verb in ("table", "delete table")]
    if lines:
        _nft(["-f", "-"], "\n".join([*lines, ""]))


def _listed(what: str, kind: str) -> list[dict[str, Any]]:
    rows = json.loads(_nft(["-j", "list", what], "") or '{"nftables": []}')["nftables"]
    return [row[kind] for row in rows if kind in row]


def guard_rules(
    policies: Sequence[SecurityPolicy],
    number: int,
    *,
    tun: str,
    mark: int,
    ports: Sequence[int],
    ipsec: bool = False,
    trusted_mark: int | None = None,
) -> str:
    """The guard of this number as nft(8) reads it, which fails if there is one already.

    ``ipsec``: with what ``ipsec_aware`` asks for. ``trusted_mark``: what comes out of the TUN device gets it, for the
    kernel's policies to know that it was decrypted.
    """
    table = f"{_TABLE}{number}"
    ordered = sorted((p for p in policies if p.handling.interface is None), key=lambda policy: policy.priority)
    tunnels = sorted({policy.handling.interface for policy in policies if policy.handling.interface is not None})
    inside = ", ".join(f'"{name}"' for name in (tun, "lo", *tunnels))
    build = _Build()
    for version in (4, 6):
        _home(build, ordered, version)
    for policy in ordered:
        build.policy(policy)
    build.close()
    own = ", ".join(str(port) for port in ports)
    # Real ones never came through a router (RFC 4861 §7.1); a host behind us may send what only looks like them.
    neighbours = f"icmpv6 type {{ {_NEIGHBOURS} }} ip6 hoplimit 255 accept"
    errors = [f"{name} type {{ {types} }} jump quoting{version}" for version, (name, types, *_) in _ERRORS.items()]
    return "\n".join(
        [
            f"create table inet {table}",
            f"table inet {table} {{",
            "counter leaving { }",
            "counter arriving { }",
            *build.sets,
            "chain outward {",
            *build.outward,
            "}",
            "chain inward {",
            *build.inward,
            "}",
            *(line for version in _ERRORS for line in (f"chain quoting{version} {{", *build.quoting[version], "}")),
            "chain leave {",
            "type filter hook postrouting priority -150; policy accept;",
            f"meta mark {mark:#x} accept\noifname {{ {inside} }} accept\n{neighbours}",
            *([_TO_ENCRYPT] if ipsec else []),
            *errors,
            "jump outward",
            "}",
            "chain pass {",
            "type filter hook forward priority -150; policy accept;",
            f"iifname {{ {inside} }} accept",
            *([_DECRYPTED] if ipsec else []),
            "jump inward",
            "}",
            *([] if trusted_mark is None else _trusting(tun, trusted_mark)),
            "chain arrive {",
            "type filter hook input priority -150; policy accept;",
            f"iifname {{ {inside} }} accept\n{neighbours}",
            *([_DECRYPTED] if ipsec else []),
            f"udp dport {{ {own} }} accept\nmeta l4proto esp accept",
            "jump inward",
            "}",
            "}",
            "",
        ]
    )


def _trusting(tun: str, mark: int) -> list[str]:
    """XFRM policies see the interface that a packet leaves by and not the one it came by: a mark tells them."""
    return [
        "chain trust {",
        "type filter hook prerouting priority -150; policy accept;",
        f'iifname "{tun}" meta mark set {mark:#x}',
        "}",
    ]


@dataclass(slots=True)
class _Build:
    """Sets and rules so far. Policies in a row with one action and no ports share sets."""

    sets: list[str] = field(default_factory=list)
    outward: list[str] = field(default_factory=list)
    inward: list[str] = field(default_factory=list)
    quoting: dict[int, list[str]] = field(default_factory=lambda: {version: [] for version in _ERRORS})
    _pending: dict[int, list[tuple[Range, Range]]] = field(default_factory=dict)
    _action: PolicyAction | None = None
    _quotes: set[str] = field(default_factory=set)

    def policy(self, policy: SecurityPolicy) -> None:
        """Add one policy behind the others."""
        for local in policy.local_ts:
            for remote in policy.remote_ts:
                if local.version != remote.version:
                    continue
                if _plain(local) and _plain(remote):
                    self.pair(policy.action, local.version, _range(local), _range(remote))
                else:
                    self.close()
                    self._fine(policy.action, local, remote)

    def pair(self, action: PolicyAction, version: int, local: Range, remote: Range) -> None:
        """Add a pair of address ranges."""
        if action is not self._action:
            self.close()
            self._action = action
        self._pending.setdefault(version, []).append((local, remote))
        self.quoted(action, version, local, remote)

    def quoted(self, action: PolicyAction, version: int, local: Range, remote: Range) -> None:
        """Errors about what came through the tunnel quote it, whatever address of ours they are from (RFC 4301 §6)."""
        _, _, source, destination, bits = _ERRORS[version]
        quotes = f"@th,{source},{bits} {_number(remote)} @th,{destination},{bits} {_number(local)}"
        # What a bypass policy lets be quoted still has addresses of its own, which are looked at next.
        line = f"{quotes} {'return' if action is PolicyAction.BYPASS else _verdict(action, 'leaving')}"
        if line not in self._quotes:
            self._quotes.add(line)
            self.quoting[version].append(line)

    def close(self) -> None:
        """Make sets of what is pending. A set's elements do not overlap, so there may be several."""
        for version, pairs in self._pending.items():
            for layer in _layers(pairs):
                name = f"pairs{len(self.sets)}"
                kind, family = ("ipv4_addr", "ip") if version == 4 else ("ipv6_addr", "ip6")
                elements = ", ".join(f"{_text(a, version)} . {_text(b, version)}" for a, b in layer)
                self.sets.append(f"set {name} {{ type {kind} . {kind}; flags interval; elements = {{ {elements} }} }}")
                assert self._action is not None
                self.outward.append(f"{family} saddr . {family} daddr @{name} {_verdict(self._action, 'leaving')}")
                self.inward.append(f"{family} daddr . {family} saddr @{name} {_verdict(self._action, 'arriving')}")
        self._pending = {}
        self._action = None

    def _fine(self, action: PolicyAction, local: TrafficSelector, remote: TrafficSelector) -> None:
        protocol = local.protocol or remote.protocol
        exact = all(side.any_port or (protocol in _WITH_PORTS and not side.is_opaque) for side in (local, remote))
        if action is PolicyAction.BYPASS and not exact:
            return  # cannot be said as finely: rather no exemption than too wide a one
        if action is not PolicyAction.BYPASS:
            self.quoted(action, local.version, _range(local), _range(remote))
        family = "ip" if local.version == 4 else "ip6"
        here, there = (_text(_range(side), local.version) for side in (local, remote))
        of_protocol = f"meta l4proto {protocol}" if protocol else ""
        ported = exact and not (local.any_port and remote.any_port)
        for lines, from_, to, source, destination, counter in (
            (self.outward, here, there, local, remote, "leaving"),
            (self.inward, there, here, remote, local, "arriving"),
        ):
            match = f"{family} saddr {from_} {family} daddr {to} {of_protocol}"
            ports = ""
            if ported:
                ports = "".join(
                    f" th {name} {side.start_port}-{side.end_port}"
                    for name, side in (("sport", source), ("dport", destination))
                    if not side.any_port
                )
            lines.append(f"{match}{ports} {_verdict(action, counter)}")
            if local.version == 6 and protocol and action is not PolicyAction.BYPASS:
                # Nor does it show its protocol where extension headers are behind the fragment header.
                hidden = f"ip6 saddr {from_} ip6 daddr {to} frag nexthdr {{ {_HIDING} }} frag frag-off != 0"
                lines.append(f"{hidden} {_verdict(action, counter)}")
            if ported and action is not PolicyAction.BYPASS:
                # A later fragment shows no ports: closed rather than open.
                later = "ip frag-off & 0x1fff != 0" if local.version == 4 else "frag frag-off != 0"
                lines.append(f"{match} {later} {_verdict(action, counter)}")


def _home(build: _Build, policies: Sequence[SecurityPolicy], version: int) -> None:
    """Exempt what stays at home where a policy's remote side covers its own local one, as 0.0.0.0/0 does."""
    wide = False
    for policy in policies:
        if policy.action is not PolicyAction.PROTECT:
            continue
        for local in policy.local_ts:
            for remote in policy.remote_ts:
                if local.version != version or not _covers(remote, local):
                    continue
                build.pair(PolicyAction.BYPASS, version, _range(local), _range(local))
                wide = True
    if wide:
        build.close()
        family = "ip" if version == 4 else "ip6"
        build.outward.append(f"{family} daddr {_HOME[version]} accept")
        build.inward.append(f"{family} daddr {_HOME[version]} accept")


def _covers(remote: TrafficSelector, local: TrafficSelector) -> bool:
    if remote.version != local.version:
        return False
    a, b = _range(remote), _range(local)
    return a != b and a[0] <= b[0] and b[1] <= a[1]


def _plain(selector: TrafficSelector) -> bool:
    return selector.protocol == 0 and selector.any_port


def _range(selector: TrafficSelector) -> Range:
    return int(selector.start), int(selector.end)


def _layers(pairs: Sequence[tuple[Range, Range]]) -> Iterator[list[tuple[Range, Range]]]:
    """Split pairs of ranges into as few lists as is easy, in each of which no two overlap."""
    layers: list[list[tuple[Range, Range]]] = []
    for pair in dict.fromkeys(pairs):
        for layer in layers:
            if not any(_meet(pair[1], other[1]) and _meet(pair[0], other[0]) for other in layer):
                layer.append(pair)
                break
        else:
            layers.append([pair])
    yield from layers


def _meet(first: Range, second: Range) -> bool:
    return first[0] <= second[1] and second[0] <= first[1]


def _text(range_: Range, version: int) -> str:
    first, last = (_address(number, version) for number in range_)
    return first if first == last else f"{first}-{last}"


def _number(range_: Range) -> str:
    return f"{range_[0]:#x}" if range_[0] == range_[1] else f"{range_[0]:#x}-{range_[1]:#x}"


def _address(number: int, version: int) -> str:
    return str(IPv4Address(number) if version == 4 else IPv6Address(number))


def _verdict(action: PolicyAction, counter: str) -> str:
    return "accept" if action is PolicyAction.BYPASS else f"counter name {counter} drop"


def _nft(arguments: list[str], script: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - no shell, and the script is made of numbers and our own names
            ["nft", *arguments],  # noqa: S607 - where nft is differs between distributions
            input=script,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except FileNotFoundError:
        raise Refusal(Reason.NO_NFTABLES, "there is no command nft") from None
    except subprocess.TimeoutExpired:
        raise Refusal(Reason.NO_NFTABLES, "nft does not end") from None
    if done.returncode:
        words = done.stderr.strip().splitlines()
        first = words[0] if words else f"nft ended with {done.returncode}"
        denied = "not permitted" in done.stderr or "must be root" in done.stderr
        raise Refusal(Reason.NO_PRIVILEGE if denied else Reason.NO_NFTABLES, first)
    return done.stdout
