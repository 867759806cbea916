"""The ordered policies, looked up by remote prefix so that a thousand cost no more than a few (RFC 4301 §4.4.1)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from appliance.datapath.soft.packet import Flow
from appliance.datapath.soft.sad import Ranges, inside, ranges
from appliance.sa.association import SecurityPolicy


class Ambiguous(Enum):
    """A later fragment whose ports, unseen, decide between policies."""

    FRAGMENT = 1


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One remote network of one policy. ``order`` is what is looked at first."""

    order: tuple[int, int]
    policy: SecurityPolicy
    local: Ranges
    remote: Ranges


class Spd:
    """The policies. Of those with the same priority the one that came first is looked at first."""

    def __init__(self) -> None:
        self._policies: dict[str, tuple[int, SecurityPolicy]] = {}
        self._count = 0
        # (version, prefix length) gives prefix gives entries.
        self._index: dict[tuple[int, int], dict[int, list[Entry]]] = {}

    @property
    def policies(self) -> tuple[SecurityPolicy, ...]:
        """All of them, in order."""
        rows = sorted(self._policies.values(), key=lambda row: (row[1].priority, row[0]))
        return tuple(policy for _, policy in rows)

    def get(self, name: str) -> SecurityPolicy | None:
        """A policy by name."""
        row = self._policies.get(name)
        return None if row is None else row[1]

    def add(self, policy: SecurityPolicy) -> None:
        """Add a policy, or replace the one of its name in its place."""
        old = self._policies.get(policy.name)
        if old is not None:
            self.remove(policy.name)
        self._count += 1
        number = self._count if old is None else old[0]
        self._policies[policy.name] = (number, policy)
        order = (policy.priority, number)
        local = ranges(policy.local_ts)
        for selector in policy.remote_ts:
            entry = Entry(order, policy, local, ranges((selector,)))
            for network in selector.networks:
                bucket = self._index.setdefault((network.version, network.prefixlen), {})
                bucket.setdefault(int(network.network_address), []).append(entry)

    def remove(self, name: str) -> bool:
        """Remove a policy by name; tells whether it was there."""
        row = self._policies.pop(name, None)
        if row is None:
            return False
        policy = row[1]
        for selector in policy.remote_ts:
            for network in selector.networks:
                kind, prefix = (network.version, network.prefixlen), int(network.network_address)
                bucket = self._index[kind]
                left = [entry for entry in bucket[prefix] if entry.policy is not policy]
                if left:
                    bucket[prefix] = left
                else:
                    del bucket[prefix]
                    if not bucket:
                        del self._index[kind]
        return True

    def match(self, flow: Flow) -> SecurityPolicy | Ambiguous | None:
        """The first policy that a packet leaving matches.

        Ambiguous for a later fragment with unseen ports where a policy that looks at ports comes before it.
        """
        best: Entry | None = None
        doubt: tuple[int, int] | None = None
        bits = 32 if flow.version == 4 else 128
        for (version, length), bucket in self._index.items():
            if version != flow.version:
                continue
            shift = bits - length
            for entry in bucket.get(flow.destination >> shift << shift, ()):
                if best is not None and entry.order >= best.order:
                    continue
                if inside(entry.local, version, flow.source, flow.protocol, flow.source_port) and inside(
                    entry.remote, version, flow.destination, flow.protocol, flow.destination_port
                ):
                    best = entry
                elif flow.fragment is not None and flow.source_port is None and _but_for_ports(entry, flow):
                    doubt = entry.order if doubt is None else min(doubt, entry.order)
        if doubt is not None and (best is None or doubt < best.order):
            return Ambiguous.FRAGMENT
        return None if best is None else best.policy


def _but_for_ports(entry: Entry, flow: Flow) -> bool:
    def near(selectors: Ranges, address: int) -> bool:
        return any(
            version == flow.version and start <= address <= end and protocol in (0, flow.protocol)
            for version, start, end, protocol, _, _ in selectors
        )

    return near(entry.local, flow.source) and near(entry.remote, flow.destination)
