"""What the policies of the configuration and the SAs want of the kernel's policies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_network

from appliance.datapath.kernel import selectors, states
from appliance.datapath.kernel.options import KernelOptions, home_mark, trusted_mark
from appliance.datapath.kernel.sad import Row
from appliance.datapath.kernel.spd import FIRST, FORWARD, IN, LAST, OUT, Spd, Tier, allow, block, both_ways, protect
from appliance.datapath.kernel.xfrm import Mark, Policy, PolicyDirection, Selector
from appliance.sa.association import Direction, Mode, PolicyAction, SecurityPolicy
from appliance.sa.selector import Address, TrafficSelector

UNKNOWN_PRIORITY = (LAST - FIRST) // 3 - 1
"""Of inbound SAs whose policy is not here: after all that are, and before what is last of all."""
_EVERYTHING = {4: ip_network("0.0.0.0/0"), 6: ip_network("::/0")}
# Neighbours and groups on the link are never behind a tunnel (RFC 4301 §4.4.1, RFC 4861).
_ON_THE_LINK = {
    4: tuple(map(ip_network, ("224.0.0.0/4", "255.255.255.255/32"))),
    6: tuple(map(ip_network, ("fe80::/10", "ff00::/8"))),
}
_NEIGHBOUR_DISCOVERY = range(133, 138)
LAST_OF_ALL = 1 << 30
"""The priority of what lets pass the packets that no other policy is about, where the kernel's default is to drop."""


def always(spd: Spd, options: KernelOptions) -> None:
    """Claim what holds whatever the configuration: neighbours are found, and another datapath's work is trusted."""
    every = _EVERYTHING[6]
    found = [Selector(every, every, 58, kind) for kind in _NEIGHBOUR_DISCOVERY]
    spd.claim("neighbours", allow([(way, one) for way in (OUT, IN) for one in found]), 0, Tier.EXEMPT)
    mark = Mark(trusted_mark(options.mark))
    every_way = both_ways([Selector(network, network) for network in _EVERYTHING.values()])
    spd.claim("trusted", allow([way for way in every_way if way[0] is not OUT], mark), 0, Tier.EXEMPT)
    if options.block:
        # What comes out of a tunnel goes on to the network behind us.
        onward = [way for way in every_way if way[0] is OUT]
        for name, bears in (("home", Mark(home_mark(options.mark))), ("onward", mark)):
            spd.claim(name, allow(onward, bears), LAST_OF_ALL, Tier.EXEMPT)


def claim_interfaces(spd: Spd, indices: Iterable[int], *, blocked: bool) -> None:
    """Claim that what is routed to a tunnel interface gets there, whatever policies without an interface say.

    The kernel asks those first, and the interface's own when the packet is there. It does not know the interface of an
    IPv6 packet that a program here sends. ``blocked``: the kernel's default is to drop.
    """
    found = [Selector(every, every, interface=index) for index in indices for every in _EVERYTHING.values()]
    spd.claim("interfaces", allow([(OUT, one) for one in found]), 0, Tier.EXEMPT)
    # What is forwarded there may still be something that should have come by another tunnel.
    onward = allow([(FORWARD, one) for one in found]) if blocked else []
    spd.claim("to interfaces", onward, LAST_OF_ALL, Tier.EXEMPT)


def claim_policy(
    spd: Spd, policy: SecurityPolicy, reqid: int, *, blocked: bool = False, if_ids: Iterable[int] = ()
) -> None:
    """Claim for a policy as long as no SA does.

    ``reqid`` is the kernel's, for an acquire. ``blocked``: the kernel's default is to drop. What is discarded is so on
    the tunnel interfaces ``if_ids``, too: their policies are apart.
    """
    found = selectors.outbound(policy.local_ts, policy.remote_ts)
    transport = policy.action is PolicyAction.PROTECT and policy.mode is Mode.TRANSPORT
    ways = both_ways(found, forward=not transport)
    if_id = policy.handling.if_id
    if policy.action is PolicyAction.BYPASS:
        wanted = allow(ways)
    elif policy.action is PolicyAction.PROTECT and policy.acquire:
        wanted = block([way for way in ways if way[0] is not OUT], if_id)
        for one in found:
            version = 4 if one.source is not None and one.source.version == 4 else 6
            wanted += protect([(OUT, one)], states.wanting(reqid, policy.mode, version), if_id)
    else:
        wanted = block(ways, if_id)
        if policy.action is PolicyAction.DISCARD:
            wanted += [one for each in if_ids for one in block(ways, each)]
    spd.claim(base_owner(policy.name), wanted, policy.priority, Tier.BASE)
    if policy.action is PolicyAction.PROTECT and not if_id:
        spd.claim(("home", policy.name), allow(_at_home(policy)), policy.priority, Tier.EXEMPT)
    if blocked and policy.action is not PolicyAction.DISCARD and not transport and not if_id:
        # The network behind us may send what the policy then takes, and hear what it lets pass.
        through = [(FORWARD, one) for one in found]
        if policy.action is PolicyAction.BYPASS:
            through += [(OUT, selectors.inbound(one)) for one in found]
        spd.claim(("forward", policy.name), allow(through), LAST_OF_ALL, Tier.EXEMPT)


def release_policy(spd: Spd, name: str) -> None:
    """Claim nothing for a policy any more."""
    spd.release(base_owner(name))
    spd.release(("home", name))
    spd.release(("forward", name))


def claim_elsewhere(spd: Spd, policy: SecurityPolicy, *, blocked: bool) -> None:
    """Claim that what another datapath's policy takes gets to it: the kernel asks its own policies on the way there.

    By addresses, since the kernel knows the interface of IPv6 packets too late where a program here sends them.
    """
    found = selectors.outbound(policy.local_ts, policy.remote_ts)
    spd.claim(("elsewhere", policy.name), allow([(OUT, one) for one in found]), policy.priority, Tier.EXEMPT)
    if blocked:
        onward = allow([(FORWARD, one) for one in found])
        spd.claim(("to elsewhere", policy.name), onward, LAST_OF_ALL, Tier.EXEMPT)


def release_elsewhere(spd: Spd, name: str) -> None:
    """Claim it no more."""
    spd.release(("elsewhere", name))
    spd.release(("to elsewhere", name))


def base_owner(name: str) -> tuple[str, str]:
    """Who claims for a policy of the configuration."""
    return "policy", name


def claim_row(spd: Spd, row: Row, *, ours: bool) -> None:
    """Claim for an SA what it carries: inbound as long as it is there; outbound if it is active and the policy here."""
    sa = row.sa
    wanted: list[Policy] = []
    out = sa.direction is Direction.OUT
    if not row.gone and (not out or (row.active and ours)):
        found = selectors.outbound(sa.local_ts, sa.remote_ts)
        ways = both_ways(found, forward=sa.mode is Mode.TUNNEL)
        mine = [way for way in ways if (way[0] is OUT) is out]
        wanted = protect(mine, states.template(sa, row.reqid), sa.handling.if_id)
        if row.device is not None and row.device.packet:
            # What is forwarded was checked as it came in. A FWD policy in a device would let in what came by another.
            offload = states.policy_offload(row.device.index)
            wanted = [replace(one, offload=None if one.direction is FORWARD else offload) for one in wanted]
    if wanted:
        spd.claim(row.key, wanted, UNKNOWN_PRIORITY if row.priority is None else row.priority, Tier.SA)
    else:
        spd.release(row.key)


def claim_ike(spd: Spd, row: Row, ports: Sequence[int]) -> None:
    """A device that has the policies of an SA lets our own IKE pass: it does not look at sockets' policies.

    That of an address where SAs end, and no other: the kernel too takes these before all others.
    """
    owner = ike_owner(row)
    if owner is None or row.gone:
        return
    local, offload = owner.local, states.policy_offload(owner.device)
    here, every = ip_network(local), _EVERYTHING[local.version]
    ways = []
    for port in ports:
        ways += [(OUT, Selector(here, every, 17, port)), (IN, Selector(every, here, 17, None, port))]
    spd.claim(owner, [replace(policy, offload=offload) for policy in allow(ways)], 0, Tier.EXEMPT)


@dataclass(frozen=True, slots=True)
class IkeOwner:
    """Who claims for IKE: all SAs in packet mode that end here in a device, by its index."""

    device: int
    local: Address


def ike_owner(row: Row) -> IkeOwner | None:
    """The one of an SA, if its device has its policies."""
    if row.device is None or not row.device.packet:
        return None
    return IkeOwner(row.device.index, states.local_of(row.sa))


def _at_home(policy: SecurityPolicy) -> list[tuple[PolicyDirection, Selector]]:
    """What stays at home where the remote side covers the local one, as 0.0.0.0/0 does."""
    found: list[Selector] = []
    for local in policy.local_ts:
        if not any(_covers(remote, local) for remote in policy.remote_ts):
            continue
        for network in local.networks:
            found += [Selector(network, other) for other in local.networks]
            found += [Selector(network, group) for group in _ON_THE_LINK[local.version]]
    return both_ways(found)


def _covers(remote: TrafficSelector, local: TrafficSelector) -> bool:
    if remote.version != local.version:
        return False
    mine, theirs = (int(local.start), int(local.end)), (int(remote.start), int(remote.end))
    return mine != theirs and theirs[0] <= mine[0] and mine[1] <= theirs[1]
