"""Children whose two sides share a network: nobody can tell by addresses which packets are for the tunnel."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.config.model import Child, Connection
from appliance.config.read import Report
from appliance.reasons import Reason
from appliance.sa.association import Mode
from appliance.sa.selector import Network


def check_sides(connections: Sequence[Connection], report: Report) -> None:
    """Warn of networks that stand on both sides of a child in tunnel mode.

    Routes lead what is for the remote side into the tunnel. Of a local network that is a part of a remote one they
    leave out what stays at home; of one that is the same they cannot: what came out of the tunnel would go in again.
    To a tunnel interface only its own routes lead.
    """
    for connection in connections:
        for child in connection.children:
            if child.mode is Mode.TUNNEL and child.interface is None and (shared := _shared(child)):
                networks = ", ".join(str(network) for network in shared)
                report.add(
                    ("connection", connection.name, "child", child.name),
                    Reason.CONFIG_SIDES,
                    f"{connection.name}/{child.name} has {networks} on both sides",
                    "packets that come out of the tunnel would go into it again, so nothing passes",
                    "say in local_ts which networks are here, and in remote_ts which are there; one of them may be a "
                    "part of the other, such as local_ts = 10.1.0.0/24 with remote_ts = 0.0.0.0/0",
                    warning=True,
                )


def _shared(child: Child) -> list[Network]:
    here = {network for selector in child.local_ts for network in selector.networks}
    there = {network for selector in child.remote_ts for network in selector.networks}
    return sorted(here & there, key=lambda network: (network.version, int(network.network_address)))
