"""Network interfaces that come, go and change, as rtnetlink(7) tells by itself."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass
from typing import Self

from appliance.datapath.kernel.links import read_link
from appliance.datapath.kernel.xfrm import Malformed, Overrun
from appliance.datapath.kernel.xfrm.wire import NLMSG_OVERRUN, frames
from appliance.datapath.netlink import DELLINK, NEWLINK

_GROUP_LINK = 1


@dataclass(frozen=True, slots=True)
class LinkChange:
    """An interface as it is now, or with ``gone`` as it was. ``up``: it was set up, with or without a carrier."""

    index: int
    name: str
    up: bool
    gone: bool


class LinkEvents:
    """Changes of interfaces, for an event loop: when :meth:`fileno` is readable, call :meth:`receive`. Never blocks."""

    def __init__(self, sock: socket.socket | None = None) -> None:
        if sock is None:
            sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
            sock.bind((0, _GROUP_LINK))
        sock.setblocking(False)
        self._sock = sock

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """The descriptor, readable when something changed."""
        return self._sock.fileno()

    def close(self) -> None:
        """Close it."""
        self._sock.close()

    def receive(self, limit: int = 64) -> list[LinkChange | Overrun]:
        """What has come, at most ``limit`` datagrams of it; an empty list for nothing.

        After an Overrun something is missing: look at all interfaces again. Raises OSError for a dead socket.
        """
        changes: list[LinkChange | Overrun] = []
        for _ in range(limit):
            try:
                data, sender = self._sock.recvfrom(1 << 16)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                changes.append(Overrun())
                continue
            if sender[0] == 0:
                changes += _changes(memoryview(data))
        return changes


def _changes(data: memoryview) -> list[LinkChange | Overrun]:
    changes: list[LinkChange | Overrun] = []
    try:
        for frame in frames(data):
            if frame.kind == NLMSG_OVERRUN:
                changes.append(Overrun())
            # Of the family AF_BRIDGE are a bridge's ports: one that leaves is not gone.
            elif frame.kind in (NEWLINK, DELLINK) and data[frame.start] == socket.AF_UNSPEC:
                link = read_link(data[frame.start : frame.end])
                changes.append(LinkChange(link.index, link.name, link.up, frame.kind == DELLINK))
    except Malformed:
        changes.append(Overrun())
    return changes
