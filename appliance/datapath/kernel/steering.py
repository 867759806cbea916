"""Routing around the kernel's policies: a way for what they protect, none where they are gone, and the way home.

The kernel looks for a route before it looks at its policies. So protected networks have one, to an interface that drops
whatever is sent to it. What a policy protects never comes there: as it is transformed it gets the real route, to the
peer. What no policy takes ends there. Rules as in ``appliance.datapath.steering``.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from dataclasses import replace

from appliance.datapath import steering
from appliance.datapath.kernel.options import KernelOptions, home_mark
from appliance.datapath.routing import Routing
from appliance.datapath.rtnetlink import Link, Route, Rule
from appliance.reasons import Reason, Refusal
from appliance.sa.association import Mode, PolicyAction, SecurityPolicy
from appliance.sa.selector import Address

PROTOCOL = 0xE6
"""Not the soft datapath's, whose rules and routes stand beside."""
ALIAS = "Esplanade: drops what no IPsec policy takes"
MTU = 65535
"""Never the shortest on the path: with it the kernel would count what is inside for what is to be sent."""


class KernelSteering:
    """Keeps rules and routes as the policies want them, in the network namespace of the thread that makes it.

    It waits for the kernel. Calls of different threads are not to overlap.
    """

    def __init__(self, options: KernelOptions) -> None:
        self._options = options
        self._routing = Routing(options.table, PROTOCOL)
        self._device = 0

    def apply(self, policies: Sequence[SecurityPolicy], elsewhere: Sequence[SecurityPolicy] = ()) -> None:
        """Make rules and routes what these policies need: first add, then remove. Others are in other datapaths.

        The first call takes over what an earlier process left. Raises Refusal: NO_PRIVILEGE, INTERFACE_TAKEN.
        """
        device = self._ready_device()
        planned = plan(policies, elsewhere, self._options, device, self._routing.netlink.addresses())
        self._routing.apply([*planned, *homeward(policies, self._options, _versions())])

    def mend(self) -> int:
        """Add again what another program removed. Returns how many rules and routes that were. Raises Refusal."""
        return self._routing.mend()

    def remove(self) -> None:
        """Take away all rules and routes and the interface, an earlier process's too."""
        self._routing.remove()
        link = self._routing.netlink.link(self._options.device)
        if link is not None and _is_ours(link):
            self._routing.netlink.remove_link(link.index)
        self._device = 0

    def close(self) -> None:
        """Close the netlink socket. Rules and routes stay."""
        self._routing.close()

    def _ready_device(self) -> int:
        """The interface, made or set right if need be."""
        netlink, name = self._routing.netlink, self._options.device
        link = netlink.link(name)
        if link is None:
            netlink.add_dummy(name)
            link = netlink.link(name)
        if link is None or not _is_ours(link):
            raise Refusal(Reason.INTERFACE_TAKEN, name)
        if not link.up or link.mtu != MTU or link.alias != ALIAS:
            netlink.set_link(link.index, alias=ALIAS, mtu=MTU)
            # Routes went with the interface, or when it was set down.
            self._routing.forget()
        if link.index != self._device:
            self._routing.forget()
        self._device = link.index
        return link.index


def plan(
    policies: Sequence[SecurityPolicy],
    elsewhere: Sequence[SecurityPolicy],
    options: KernelOptions,
    device: int,
    addresses: Sequence[Address],
) -> Iterator[Rule | Route]:
    """The rules and routes for policies. ``device`` is the interface's index, ``addresses`` are the machine's own.

    None drops what is to be discarded: the kernel's policies do, and what comes before them elsewhere gets there.
    """
    return steering.plan(
        [_steered(policy) for policy in policies if policy.handling.interface is None],
        mark=options.mark,
        table=options.table,
        preference=options.preference,
        device=device,
        addresses=addresses,
        discards=False,
        elsewhere=elsewhere,
    )


def homeward(policies: Sequence[SecurityPolicy], options: KernelOptions, versions: Sequence[int]) -> Iterator[Rule]:
    """The rules for what the kernel decrypted, for tunnel interfaces too: all of it has the mark."""
    return steering.homeward(policies, versions, preference=options.home_preference, mark=home_mark(options.mark))


def _steered(policy: SecurityPolicy) -> SecurityPolicy:
    # In transport mode the kernel keeps the route that the packet had before, which has to be the real one.
    if policy.action is PolicyAction.PROTECT and policy.mode is Mode.TRANSPORT:
        return replace(policy, action=PolicyAction.BYPASS)
    return policy


def _is_ours(link: Link) -> bool:
    # One that is down without an alias is as far as a process of ours comes that is killed between two steps.
    return link.kind == "dummy" and (link.alias == ALIAS or (not link.alias and not link.up))


def _versions() -> tuple[int, ...]:
    """The versions of IP that this kernel has. SAs outlive their policies, so the way home is kept for all of them."""
    try:
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).close()
    except OSError:
        return (4,)
    return (4, 6)
