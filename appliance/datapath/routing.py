"""Rules and routes, kept as they are wanted: first add, then remove, and clear what an earlier process left."""

from __future__ import annotations

from collections.abc import Iterable

from appliance.datapath.rtnetlink import NOP, Route, RtNetlink, Rule


class Routing:
    """The rules and routes of one maker, in the network namespace it was made in.

    ``maker`` is the number that they bear (FRA_PROTOCOL, RTA_PROTOCOL): those that bear another are not touched.
    ``table`` and the one after it are where its routes are.
    """

    def __init__(self, table: int, maker: int) -> None:
        self.netlink = RtNetlink(maker)
        self._table = table
        self._there: frozenset[Rule | Route] | None = None

    def apply(self, items: Iterable[Rule | Route]) -> None:
        """Have these and no others. Raises Refusal: NO_PRIVILEGE."""
        wanted = frozenset(items)
        there, self._there = self._there, None
        if there is None:
            # What an earlier process left keeps protecting until its successor stands.
            old = self.netlink.left(self._table)
            new = {self.netlink.identity(item) for item in wanted}
            known = {self.netlink.key(kind, body) for kind, body in old}
            self.netlink.add([item for item in _ordered(wanted) if self.netlink.identity(item) not in known])
            self.netlink.remove_raw([(kind, body) for kind, body in old if self.netlink.key(kind, body) not in new])
        else:
            self.netlink.add(_ordered(wanted - there))
            self.netlink.remove(list(reversed(_ordered(there - wanted))))
        self._settle([item for item in _ordered(wanted) if isinstance(item, Rule)])
        self._there = wanted

    def _settle(self, wanted: list[Rule]) -> None:
        # Told to remove "from all", the kernel removes the first rule of that preference and table, whatever it is
        # from. What went by mistake comes back behind the others, so each round leaves one less in the way.
        rules = {self.netlink.identity(rule): rule for rule in wanted}
        for _ in range(len(rules) + 2):
            missing = dict(rules)
            extra = []
            for kind, body in self.netlink.rules():
                if missing.pop(self.netlink.key(kind, body), None) is None:
                    extra.append((kind, body))
            if not missing and not extra:
                return
            self.netlink.add(list(missing.values()))
            self.netlink.remove_raw(extra)

    def mend(self) -> int:
        """Add again what another program removed since ``apply``. Returns how many rules and routes that were.

        systemd-networkd, for one, removes those that it does not know when it starts. Raises Refusal.
        """
        if not self._there:
            return 0
        there = {self.netlink.key(kind, body) for kind, body in self.netlink.left(self._table)}
        missing = [item for item in _ordered(self._there) if self.netlink.identity(item) not in there]
        self.netlink.add(missing)
        return len(missing)

    def forget(self) -> None:
        """Have the next ``apply`` look at what is there, as the first one does: some of it may have gone."""
        self._there = None

    def remove(self) -> None:
        """Take away all rules and routes, an earlier process's too."""
        if self._there:
            self.netlink.remove(list(reversed(_ordered(self._there))))
        elif self._there is None:
            self.netlink.remove_raw(self.netlink.left(self._table))
        self._there = frozenset()

    def close(self) -> None:
        """Close the netlink socket."""
        self.netlink.close()


def _ordered(items: frozenset[Rule | Route]) -> list[Rule | Route]:
    """Where "go to" lands first, then routes, then the other rules: nothing points to what is not there yet."""

    def key(item: Rule | Route) -> tuple[int, int, int]:
        if isinstance(item, Route):
            return 1, -item.metric, 0
        return (0, 0, 0) if item.action == NOP else (2, item.preference, item.source.prefixlen if item.source else 0)

    return sorted(items, key=key)
