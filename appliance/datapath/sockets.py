"""The sockets of an ingress, each with the options that its work needs."""

from __future__ import annotations

import errno
import socket

from appliance.reasons import Reason, Refusal
from appliance.sa.selector import Address

IP_PKTINFO = 8
_IP_RECVTOS = 13
_IP_MTU_DISCOVER = 10
IP_RECVERR = 11
_IP_XFRM_POLICY = 17
_IPV6_MTU_DISCOVER = 23
IPV6_RECVERR = 25
_IPV6_XFRM_POLICY = 35
_PMTUDISC_DONT = 0
_PMTUDISC_PROBE = 3
_PMTUDISC_OMIT = 5
_UDP_ENCAP, _UDP_ENCAP_ESPINUDP = 100, 2
_UDP_GRO = 104
_NETLINK_XFRM = 6
_BUFFER = 4 << 20
_SO_RCVBUFFORCE = 33
_SO_SNDBUFFORCE = 32


def prepare_for_esp(sock: socket.socket) -> None:
    """Set what a socket that carries ESP needs: big buffers, ECN of what comes, DF on what goes, ICMP errors queued."""
    for option, fallback in ((_SO_RCVBUFFORCE, socket.SO_RCVBUF), (_SO_SNDBUFFORCE, socket.SO_SNDBUF)):
        try:
            sock.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
        except OSError:  # no CAP_NET_ADMIN over the initial namespace: up to the system's limit then
            sock.setsockopt(socket.SOL_SOCKET, fallback, _BUFFER)
    queue_errors(sock)
    if sock.family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_IP, _IP_RECVTOS, 1)
        sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_PROBE)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE)


def queue_errors(sock: socket.socket) -> None:
    """Have the kernel keep ICMP errors for ``ingress.read_errors``. No DF is set by this.

    With PMTUDISC_DONT an IPv4 socket would not hear of packets that are too big; an IPv6 one hears with that only.
    """
    if sock.family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_OMIT)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)


def glue(sock: socket.socket, on: bool) -> None:
    """Have datagrams of one size that follow each other come in one, or not: receive offload."""
    sock.setsockopt(socket.IPPROTO_UDP, _UDP_GRO, on)


def decapsulate(sock: socket.socket) -> None:
    """Have the kernel take ESP in UDP out of what comes, for its own SAs (RFC 3948). Raises Refusal(NO_XFRM)."""
    try:
        sock.setsockopt(socket.IPPROTO_UDP, _UDP_ENCAP, _UDP_ENCAP_ESPINUDP)
    except OSError as error:
        raise Refusal(Reason.NO_XFRM, f"no ESP in UDP on IPv{_version(sock)} sockets: {error.strerror}") from error


def bypass_xfrm(sock: socket.socket) -> None:
    """Give a socket policies of its own, under which the kernel's, whatever they select, do not count for it.

    Raises Refusal: NO_XFRM, NO_PRIVILEGE.
    """
    from appliance.datapath.kernel.xfrm.constants import PolicyDirection
    from appliance.datapath.kernel.xfrm.policy import Policy
    from appliance.datapath.kernel.xfrm.values import Selector

    version = _version(sock)
    option = (socket.IPPROTO_IP, _IP_XFRM_POLICY) if version == 4 else (socket.IPPROTO_IPV6, _IPV6_XFRM_POLICY)
    try:
        # What reads a socket's policy is a module, which this loads.
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_XFRM).close()
        for direction in (PolicyDirection.IN, PolicyDirection.OUT):
            allow = Policy(selector=Selector(family=sock.family), direction=direction)
            sock.setsockopt(*option, allow.head())
    except OSError as error:
        reason = Reason.NO_PRIVILEGE if error.errno in (errno.EPERM, errno.EACCES) else Reason.NO_XFRM
        raise Refusal(reason, f"a policy of an IPv{version} socket: {error.strerror}") from error


def _version(sock: socket.socket) -> int:
    return 4 if sock.family == socket.AF_INET else 6


def _family(address: Address) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def lock(address: Address, port: int) -> socket.socket:
    """A name in the network namespace's list of abstract sockets: gone with its holder, however that ends."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        sock.bind(f"\0esplanade/ingress/{address}/{port}")
    except OSError as error:
        sock.close()
        raise Refusal(Reason.PORT_IN_USE, f"another Esplanade has UDP {port} of {address}") from error
    return sock


def udp(address: Address, port: int, mark: int, *, share: bool = False) -> socket.socket:
    """One that is bound to a UDP port, or shares it. Raises Refusal: PORT_IN_USE, BAD_ADDRESS, NO_PRIVILEGE."""
    sock = socket.socket(_family(address), socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        if share:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        _common(sock, mark)
        if address.version == 4:
            sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
            sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_DONT)
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_DONT)
        sock.bind((str(address), port))
    except OSError as error:
        sock.close()
        raise _refusal(error, f"UDP {port} of {address}") from error
    return sock


def raw(address: Address, mark: int) -> socket.socket:
    """One for native ESP. Raises Refusal: BAD_ADDRESS, NO_PRIVILEGE."""
    try:
        sock = socket.socket(_family(address), socket.SOCK_RAW, socket.IPPROTO_ESP)
    except OSError as error:
        raise _refusal(error, f"raw ESP of {address}") from error
    try:
        sock.setblocking(False)
        _common(sock, mark)
        if address.version == 4:
            sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        prepare_for_esp(sock)
        sock.bind((str(address), 0))
    except OSError as error:
        sock.close()
        raise _refusal(error, f"raw ESP of {address}") from error
    return sock


def _common(sock: socket.socket, mark: int) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
    # A raw IPv6 socket never takes IPv4 packets, and the kernel refuses the option.
    if sock.family == socket.AF_INET6 and sock.type != socket.SOCK_RAW:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)


def _refusal(error: OSError, what: str) -> Refusal:
    if error.errno == errno.EADDRINUSE:
        return Refusal(Reason.PORT_IN_USE, what)
    if error.errno == errno.EADDRNOTAVAIL:
        return Refusal(Reason.BAD_ADDRESS, what)
    if error.errno in (errno.EPERM, errno.EACCES):
        return Refusal(Reason.NO_PRIVILEGE, f"{what}: {error.strerror}")
    return Refusal(Reason.BAD_ADDRESS, f"{what}: {error.strerror}")
