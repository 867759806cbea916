"""The lab itself: namespaces, the links between them, and the end of both."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType

from tests.lab.link import Link
from tests.lab.namespace import LabError, Namespace, why_not

PREFIX = "esplanade-lab-"


class Lab:
    """A context in which namespaces and links live; leaving it ends every process and removes every file.

    An exception, SIGTERM and SIGINT leave it too; even SIGKILL of this process leaves no namespace, because they are
    held by its descriptors, and no process, because those die with their parent. Only the directory then remains,
    for ``make sweep``. ``keep`` leaves logs and captures where they are.
    """

    def __init__(self, *, keep: bool = False) -> None:
        reason = why_not()
        if reason is not None:
            raise LabError(reason)
        self.keep = keep
        self.directory = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
        self.namespaces: dict[str, Namespace] = {}
        self._endings: list[Callable[[], None]] = []
        self._old_handler: object = None

    def __enter__(self) -> Lab:
        # Python's own answer to SIGTERM is to vanish; a lab would leave its directory behind.
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            try:
                signal.signal(signal.SIGTERM, _terminated)
                self._old_handler = signal.SIG_DFL
            except ValueError:  # not the main thread
                pass
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if self._old_handler is not None:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            self._old_handler = None

    def at_end(self, ending: Callable[[], None]) -> None:
        """Calls ``ending`` when the lab closes, last come first, before the processes are ended."""
        self._endings.append(ending)

    def namespace(self, name: str, *, forwarding: bool = False) -> Namespace:
        """Makes a namespace. With ``forwarding`` it routes IPv4 and IPv6."""
        made = Namespace(name, self.directory)
        self.namespaces[name] = made
        # Addresses are usable at once: nobody else is here to have the same ones.
        settings: dict[str, int | str] = {"ipv6__conf__default__accept_dad": 0, "ipv6__conf__all__accept_dad": 0}
        settings |= {"ipv6__conf__default__router_solicitations": 0}
        if forwarding:
            settings |= {"ipv4__ip_forward": 1, "ipv6__conf__all__forwarding": 1}
        made.sysctl(**settings)
        return made

    def link(self, left: Namespace, left_name: str, right: Namespace, right_name: str, *, mtu: int = 1500) -> Link:
        """Joins two namespaces by a veth pair; the interfaces are named in full on either side, and up."""
        return Link(left, left_name, right, right_name, mtu=mtu)

    def close(self) -> None:
        """Ends everything. Also after a failure half way; safe to call twice."""
        failures: list[BaseException] = []
        for ending in [*reversed(self._endings), *(ns.close for ns in reversed(self.namespaces.values()))]:
            try:
                ending()
            except Exception as error:
                failures.append(error)
        self._endings.clear()
        self.namespaces.clear()
        self.discard()
        if failures:
            raise failures[0]

    def discard(self) -> None:
        """Removes logs, captures and configurations unless they are to be kept."""
        if not self.keep:
            shutil.rmtree(self.directory, ignore_errors=True)


def _terminated(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
