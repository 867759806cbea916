"""Our own address towards a peer."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Sequence
from ipaddress import ip_address

from appliance.reasons import Reason, Refusal
from appliance.sa.selector import Address


def _family(address: Address) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def is_local(address: Address) -> bool:
    """Whether an address is on this machine, in this network namespace, and ready for use."""
    with socket.socket(_family(address), socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError:
            return False
    return True


def routed_source(remote: Address, mark: int | None) -> Address:
    """The address that the kernel's routes choose towards a peer. Nothing is sent.

    ``mark`` is that of our own packets, so that the answer is not a route into one of our tunnels. Raises
    Refusal(BAD_ADDRESS) where there is no route.
    """
    with socket.socket(_family(remote), socket.SOCK_DGRAM) as probe:
        if mark is not None:
            with contextlib.suppress(PermissionError):
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        try:
            probe.connect((str(remote), 500))
        except OSError as error:
            raise Refusal(
                Reason.BAD_ADDRESS,
                f"no route to the peer {remote}: {error.strerror}",
                remedy="add a route to the peer; it is tried again by itself",
            ) from error
        return ip_address(probe.getsockname()[0].partition("%")[0])


def local_for(remote: Address, configured: Sequence[Address], mark: int | None = None) -> Address:
    """The local address for a peer: the first configured one of its family that is here, or what the routes say.

    Raises Refusal(BAD_ADDRESS): none of them is on this machine, or there is no route.
    """
    candidates = [address for address in configured if address.version == remote.version]
    if configured and not candidates:
        raise Refusal(
            Reason.BAD_ADDRESS,
            f"the peer is {remote} and no local address is of its family",
            remedy="give local.address and remote.address of the same family",
        )
    if not candidates:
        return routed_source(remote, mark)
    for address in candidates:
        if is_local(address):
            return address
    raise Refusal(Reason.BAD_ADDRESS, ", ".join(str(address) for address in candidates))


def port_is_taken(address: Address, port: int) -> bool:
    """Whether a program has a UDP port of one address."""
    with socket.socket(_family(address), socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(address), port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False
