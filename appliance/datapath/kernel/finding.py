"""Finds the network device that may take an SA: the one of a name, or the one that leads to the peer."""

from __future__ import annotations

from appliance.datapath.kernel.probe.links import links
from appliance.datapath.kernel.probe.route import device_to
from appliance.datapath.netlink import Netlink
from appliance.reasons import Reason, Refusal
from appliance.sa.datapath import DatapathRefusal
from appliance.sa.selector import Address


class DeviceFinder:
    """In the network namespace of the calling thread. ``mark`` is that of our own packets. Raises OSError."""

    def __init__(self, mark: int) -> None:
        self._route = Netlink(timeout=2.0)
        self._mark = mark

    def find(self, name: str | None, peer: Address) -> tuple[str, int]:
        """(name, index). Raises DatapathRefusal: NO_OFFLOAD_DEVICE, with what is in the way."""
        try:
            if name is None:
                found = device_to(peer, self._mark, self._route)
                return found.name, found.index
            link = next((link for link in links(self._route) if link.name == name), None)
        except OSError as error:
            raise DatapathRefusal(Reason.NO_OFFLOAD_DEVICE, f"{name or peer}: {error}") from error
        except Refusal as refusal:
            raise DatapathRefusal(refusal.reason, refusal.detail) from refusal
        if link is None:
            raise DatapathRefusal(Reason.NO_OFFLOAD_DEVICE, f"there is no interface {name}")
        why = link.why_no_offload()
        if why:
            raise DatapathRefusal(Reason.NO_OFFLOAD_DEVICE, why)
        if not link.up:
            # Its driver may take SAs all the same, which the kernel drops when it is set down the next time.
            raise DatapathRefusal(Reason.NO_OFFLOAD_DEVICE, f"{name} is down")
        return link.name, link.index

    def close(self) -> None:
        """Close its socket."""
        self._route.close()
