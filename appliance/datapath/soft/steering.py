"""Routing that leads protected traffic to the TUN device, and what comes out of it home."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing

from appliance.datapath import steering
from appliance.datapath.routing import Routing
from appliance.datapath.rtnetlink import PROTOCOL, Route, Rule
from appliance.datapath.soft.options import SoftOptions
from appliance.datapath.soft.tun import remove_tun
from appliance.sa.association import PolicyAction, SecurityPolicy
from appliance.sa.selector import Address


class Steering:
    """Keeps rules and routes as the policies want them, in the network namespace it was made in."""

    def __init__(self, options: SoftOptions) -> None:
        self._options = options
        self._routing = Routing(options.table, PROTOCOL)
        self._device = 0
        self._homeward: frozenset[int] = frozenset()

    def apply(self, policies: Sequence[SecurityPolicy]) -> None:
        """Make rules and routes what these policies need: first add, then remove. Raises Refusal: NO_PRIVILEGE."""
        netlink = self._routing.netlink
        if not self._device:
            self._device = netlink.index(self._options.tun)
        # Inbound SAs stay for a while after their policies, so what they bring is kept from default routes from now on.
        self._homeward |= steering.versions_of(p for p in policies if p.action is PolicyAction.PROTECT)
        planned = plan(policies, self._options, self._device, netlink.addresses())
        self._routing.apply([*planned, *homeward(policies, self._options, self._homeward)])

    def has_device(self) -> bool:
        """Whether there is a TUN device of the name. Raises Refusal."""
        link = self._routing.netlink.link(self._options.tun)
        return link is not None and link.kind == "tun"

    def mend(self) -> int:
        """Add again what another program removed. Returns how many rules and routes that were. Raises Refusal."""
        return self._routing.mend()

    def remove(self) -> None:
        """Take away all rules and routes, an earlier process's too."""
        self._routing.remove()

    def close(self) -> None:
        """Close the netlink socket."""
        self._routing.close()


def remove_leftovers(options: SoftOptions) -> None:
    """Take away what a killed daemon left, for one that does without the soft datapath: rules, routes, the TUN device.

    They would lead packets to where nobody reads them. In the thread's network namespace. Raises Refusal.
    """
    with closing(Steering(options)) as left:
        left.remove()
        there = left.has_device()
    if there:
        remove_tun(options.tun)


def plan(
    policies: Sequence[SecurityPolicy], options: SoftOptions, device: int, addresses: Sequence[Address]
) -> Iterator[Rule | Route]:
    """The rules and routes for policies. ``device`` is the TUN's index, ``addresses`` are the machine's own."""
    return steering.plan(
        policies,
        mark=options.mark,
        table=options.table,
        preference=options.preference,
        device=device,
        addresses=addresses,
        discards=options.discards,
    )


def homeward(policies: Sequence[SecurityPolicy], options: SoftOptions, versions: Iterable[int]) -> Iterator[Rule]:
    """The rules for what comes out of the TUN device, for these versions of IP."""
    return steering.homeward(policies, versions, preference=options.preference, inward=options.tun)
