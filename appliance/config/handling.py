"""How children are carried: what they ask of datapaths, devices and interfaces has to be there."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.config.model import Child, Connection, Interface
from appliance.config.read import Report
from appliance.reasons import Reason
from appliance.sa.association import Mode, Offload


def check_handling(
    connections: Sequence[Connection], interfaces: Sequence[Interface], order: Sequence[str] | None, report: Report
) -> None:
    """Check the children's interface, datapath and offload. ``order`` None: it has a mistake of its own."""
    names = {interface.name for interface in interfaces}
    for connection in connections:
        for child in connection.children:
            check = _Check(child, ("connection", connection.name, "child", child.name), order, report)
            check.interface(names)
            check.datapath()
            check.offload()


class _Check:
    """The checks of one child."""

    def __init__(self, child: Child, path: tuple[str, ...], order: Sequence[str] | None, report: Report) -> None:
        self._child, self._path, self._order, self._report = child, path, order, report

    def interface(self, known: set[str]) -> None:
        """A tunnel interface that is there, for tunnels, in the kernel."""
        name = self._child.interface
        if name is None:
            return
        if name not in known:
            are = f"there are {', '.join(sorted(known))}" if known else "there is none"
            self._add(
                "interface",
                f"there is no tunnel interface {name}",
                f"it has a table [interface.NAME] of its own, and {are}",
                f"add [interface.{name}], or name another",
            )
        if self._child.mode is Mode.TRANSPORT:
            self._add(
                "interface",
                "interface is given in transport mode",
                "what is routed into an interface is for others than the gateways, and needs a tunnel",
                'remove interface, or write mode = "tunnel"',
            )
        self._needs_kernel("interface", "tunnel interfaces are the kernel's")

    def datapath(self) -> None:
        """The pin is one of the order."""
        pinned = self._child.datapath
        if pinned is not None and self._order is not None and pinned not in self._order:
            words = ", ".join(f'"{name}"' for name in self._order)
            self._add(
                "datapath",
                f'datapath = "{pinned}" is not in datapath.order',
                f"the order has {words}, and nothing else is started",
                f'add "{pinned}" to [datapath] order, or remove datapath from the child',
            )

    def offload(self) -> None:
        """Devices are the kernel's to ask."""
        offload, device = self._child.offload, self._child.offload_device
        if offload in (Offload.PACKET, Offload.CRYPTO):
            self._needs_kernel("offload", "network devices get SAs from the kernel")
        elif device is not None and offload is Offload.NONE:
            self._add(
                "offload_device",
                'offload_device is given with offload = "none"',
                "no device does anything then",
                "remove one of the two",
            )
        elif device is not None:
            self._needs_kernel("offload_device", "network devices get SAs from the kernel")

    def _needs_kernel(self, key: str, cause: str) -> None:
        if self._child.datapath not in (None, "kernel"):
            self._add(
                key,
                f'{key} is given with datapath = "{self._child.datapath}"',
                cause,
                f'write datapath = "kernel", or remove {key}',
            )
        elif self._order is not None and "kernel" not in self._order and self._child.datapath is None:
            self._add(
                key,
                f'{key} is given, and "kernel" is not in datapath.order',
                cause,
                f'add "kernel" to [datapath] order, or remove {key}',
            )

    def _add(self, key: str, what: str, cause: str, remedy: str) -> None:
        self._report.add((*self._path, key), Reason.CONFIG_CONFLICT, what, cause, remedy, value=True)
