"""What the network devices say of themselves, as JSON on standard output: for a process of its own.

Drivers answer under locks that others may hold for seconds, and a process that waits for one can be left behind.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from appliance.datapath.kernel.probe import features, functions, links
from appliance.datapath.netlink import GENERIC, ROUTE, Netlink

_SECONDS = 10.0
"""Longer than who started this waits."""


def facts(name: str | None = None) -> dict[str, Any]:
    """Of all devices, or the one of this name; ``trouble`` has what could not be asked. Never raises OSError."""
    trouble: list[str] = []

    def ask(what: str, question: Callable[[], Any], otherwise: Any) -> Any:
        try:
            return question()
        except OSError as error:
            trouble.append(f"{what}: {error.strerror or error}")
            return otherwise

    with Netlink(ROUTE, _SECONDS) as route:
        found = [link for link in ask("interfaces", lambda: links.links(route), []) if name in (None, link.name)]
    with Netlink(GENERIC, _SECONDS) as generic:
        states = ask("ethtool", lambda: features.features(generic, generic.family("ethtool")), {})
        try:
            devlink = generic.family("devlink")
        except OSError:
            ports = []  # a kernel without has no device with such a switch
        else:
            ports = ask("devlink", lambda: functions.functions(generic, devlink), [])
    devices = []
    for link in found:
        # An interface that is no hardware has no driver to tell, and there may be thousands.
        driver, bus = ("", "") if link.why_no_offload() else features.driver(link.name)
        devices.append(
            {
                "name": link.name,
                "index": link.index,
                "kind": link.kind,
                "why": link.why_no_offload(),
                "driver": driver,
                "bus": bus,
                "features": states.get(link.index, {}),
                "functions": [port[1:] for port in ports if port[0] == link.index],
            }
        )
    return {"devices": devices, "trouble": trouble}


if __name__ == "__main__":
    json.dump(facts(*sys.argv[1:2]), sys.stdout)
