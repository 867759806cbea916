"""The TUN device: persistent, with segmentation and checksum offload (virtio headers)."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import struct
from pathlib import Path

from appliance.reasons import Reason, Refusal

VNET = 10
"""Bytes of virtio_net_hdr before each packet: flags, gso_type, hdr_len, gso_size, csum_start, csum_offset."""
VNET_HEADER = struct.Struct("=BBHHHH")
NO_OFFLOAD = bytes(VNET)
NEEDS_CSUM = 1
GSO_NONE, GSO_TCPV4, GSO_UDP, GSO_TCPV6, GSO_UDP_L4, GSO_ECN = 0, 1, 3, 4, 5, 0x80

_TUNSETIFF = 0x400454CA
_TUNSETPERSIST = 0x400454CB
_TUNSETOFFLOAD = 0x400454D0
_IFF_TUN, _IFF_NO_PI, _IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
_F_CSUM, _F_TSO4, _F_TSO6, _F_TSO_ECN, _F_USO4, _F_USO6 = 1, 2, 4, 8, 0x20, 0x40
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _SIOCSIFMTU, _SIOCSIFTXQLEN = 0x8913, 0x8914, 0x8922, 0x8943
_IFF_UP = 1
_QUEUE = 1000


class Tun:
    """One TUN device. ``uso`` tells whether the kernel takes and gives UDP super-packets."""

    def __init__(self, fd: int, name: str, *, tso: bool, uso: bool) -> None:
        self.fd = fd
        self.name = name
        self.tso = tso
        self.uso = uso

    def close(self, *, remove: bool) -> None:
        """Let go of the device; ``remove`` makes it disappear, else it stays, carrying nothing."""
        if remove:
            with contextlib.suppress(OSError):
                fcntl.ioctl(self.fd, _TUNSETPERSIST, 0)
        os.close(self.fd)


def open_tun(name: str, mtu: int) -> Tun:
    """Make the device or take a left one, up and with its MTU. Raises Refusal: NO_TUN, NO_PRIVILEGE."""
    if not 0 < len(name.encode()) < 16:
        raise Refusal(Reason.NO_TUN, f"{name!r} is no interface name (1 to 15 bytes)")
    try:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Refusal(Reason.NO_TUN, f"/dev/net/tun: {error.strerror}") from error
    try:
        _attach(fd, name)
        fcntl.ioctl(fd, _TUNSETPERSIST, 1)
        tso, uso = _offload(fd)
        _configure(name, mtu)
    except OSError as error:
        os.close(fd)
        if error.errno in (errno.EPERM, errno.EACCES):
            raise Refusal(Reason.NO_PRIVILEGE, f"TUN device {name}: {error.strerror}") from error
        words = "another program uses it" if error.errno == errno.EBUSY else error.strerror
        raise Refusal(Reason.NO_TUN, f"{name}: {words}") from error
    return Tun(fd, name, tso=tso, uso=uso)


def remove_tun(name: str) -> None:
    """Make a device disappear that a killed process left. One that is in use stays, and so does one that is no TUN."""
    with contextlib.suppress(OSError):
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            _attach(fd, name)
            fcntl.ioctl(fd, _TUNSETPERSIST, 0)
        finally:
            os.close(fd)


def _attach(fd: int, name: str) -> None:
    fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR))


def _offload(fd: int) -> tuple[bool, bool]:
    """Ask for as much offload as the kernel has: UDP segmentation came with Linux 6.2."""
    tcp = _F_CSUM | _F_TSO4 | _F_TSO6
    for features in (tcp | _F_USO4 | _F_USO6, tcp):
        with contextlib.suppress(OSError):
            fcntl.ioctl(fd, _TUNSETOFFLOAD, features)
            return True, features != tcp
    return False, False


def _configure(name: str, mtu: int) -> None:
    # The device's own IPv6 chatter (router solicitations, MLD) has no business in a tunnel, and no peer is a router
    # that may redirect us.
    for path, value in (
        (f"/proc/sys/net/ipv4/conf/{name}/accept_redirects", "0"),
        (f"/proc/sys/net/ipv6/conf/{name}/accept_redirects", "0"),
        (f"/proc/sys/net/ipv6/conf/{name}/addr_gen_mode", "1"),
        (f"/proc/sys/net/ipv6/conf/{name}/accept_ra", "0"),
        # What comes out is what its policy lets a peer send, so there is nothing to be told by the way back. Without an
        # address here even a loose filter wants that way to be this one, and it is not after a policy has moved.
        (f"/proc/sys/net/ipv4/conf/{name}/rp_filter", "0"),
    ):
        with contextlib.suppress(OSError):
            Path(path).write_text(value)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCSIFMTU, struct.pack("16si20x", name.encode(), mtu))
        # The kernel wants the machine's own root for this one; in a user namespace the default queue has to do.
        with contextlib.suppress(PermissionError):
            fcntl.ioctl(control, _SIOCSIFTXQLEN, struct.pack("16si20x", name.encode(), _QUEUE))
        flags = struct.unpack_from(
            "16sH", fcntl.ioctl(control, _SIOCGIFFLAGS, struct.pack("16sH22x", name.encode(), 0))
        )[1]
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH22x", name.encode(), flags | _IFF_UP))
