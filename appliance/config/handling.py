"""How children are carried: what they ask of datapaths, devices and interfaces has to be there."""

from __future__ import annotations

from collections.abc import Sequence, Set

from appliance.config.model import Child, Connection
from appliance.config.read import Report
from appliance.reasons import Reason
from appliance.sa.association import DfPolicy, Mode, Offload


def check_handling(
    connections: Sequence[Connection], interfaces: Set[str], tun: str, order: Sequence[str] | None, report: Report
) -> None:
    """Check what children ask for. ``tun``: the TUN device's name. ``order`` None: it has a mistake of its own."""
    for connection in connections:
        for child in connection.children:
            check = _Check(child, ("connection", connection.name, "child", child.name), order, report)
            check.interface(interfaces)
            check.datapath()
            check.offload({*interfaces, tun})
            check.abilities()


class _Check:
    """The checks of one child."""

    def __init__(self, child: Child, path: tuple[str, ...], order: Sequence[str] | None, report: Report) -> None:
        self._child, self._path, self._order, self._report = child, path, order, report

    def interface(self, known: Set[str]) -> None:
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

    def offload(self, ours: Set[str]) -> None:
        """Devices are the kernel's to ask; those of ours are none."""
        offload, device = self._child.offload, self._child.offload_device
        if device in ours and offload is not Offload.NONE:
            self._add(
                "offload_device",
                f"{device} is an interface that Esplanade makes",
                "there is no hardware behind it that could encrypt",
                "name the network device that leads to the peer, or remove offload_device",
            )
        if self._asks_device:
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

    def abilities(self) -> None:
        """What no kernel does, where nothing else may take the child."""
        child = self._child
        offload = f'offload = "{child.offload.value}"'
        if self._asks_device and child.tfc is not None:
            self._add(
                "tfc",
                f"tfc is given with {offload}",
                "no kernel lets a device have an SA with padding",
                "remove tfc, or let offload be auto or none",
            )
        if self._asks_device and child.interface is not None:
            self._add(
                "offload",
                f"{offload} is given with an interface",
                "Linux 6.16 and newer refuse it: a device decrypts before it is known which tunnel interface it is for",
                "let offload be auto or none, or have selectors instead of an interface",
                warning=True,
            )
        if child.df is DfPolicy.SET and child.mode is Mode.TUNNEL and self._only_kernel:
            self._add(
                "df",
                'df = "set" is given, and nothing but the kernel\'s datapath may take the child',
                "the kernel copies DF or clears it",
                'write df = "copy" or "clear", or let soft take the child',
            )

    @property
    def _asks_device(self) -> bool:
        return self._child.offload in (Offload.PACKET, Offload.CRYPTO)

    @property
    def _only_kernel(self) -> bool:
        pinned = self._child.datapath
        if pinned is None and self._order is not None and "soft" not in self._order:
            pinned = "kernel"
        return pinned == "kernel" or (pinned is None and (self._child.interface is not None or self._asks_device))

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

    def _add(self, key: str, what: str, cause: str, remedy: str, *, warning: bool = False) -> None:
        path = (*self._path, key)
        self._report.add(path, Reason.CONFIG_CONFLICT, what, cause, remedy, warning=warning, value=True)
