"""Routing that leads protected traffic to the TUN device."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.datapath.soft.options import SoftOptions
from appliance.sa.association import SecurityPolicy


class Steering:
    """Keeps rules and routes as the policies want them."""

    def __init__(self, options: SoftOptions) -> None:
        self._options = options

    def apply(self, policies: Sequence[SecurityPolicy]) -> None:
        """Make rules and routes what these policies need."""

    def remove(self) -> None:
        """Take away all rules and routes."""

    def close(self) -> None:
        """Close the netlink socket."""
