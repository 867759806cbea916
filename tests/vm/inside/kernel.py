"""The kernel's own IPsec as one end of a pair, set up by ip(8)."""

from __future__ import annotations

import itertools
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from appliance.sa.algorithms import Encryption, Integrity, Suite
from appliance.sa.association import Direction, Mode, SecurityAssociation
from appliance.sa.datapath import InstallRequest
from tests.datapath.pair import NETS, OUTER, Pair, gateway, keys, two_hosts
from tests.lab.capture import Capture, Kind
from tests.lab.lab import Lab
from tests.lab.namespace import Namespace

UDP_ENCAP, UDP_ENCAP_ESPINUDP = 100, 2
IP_XFRM_POLICY, IPV6_XFRM_POLICY = 17, 35
# struct xfrm_userpolicy_info: a selector's family, lifetimes, use; priority, index, direction, action, flags, share.
_ALLOW = struct.Struct("=40xH14x64x32xIIBBBB4x")
_AEADS = {
    Encryption.AES_GCM_16: "rfc4106(gcm(aes))",
    Encryption.CHACHA20_POLY1305: "rfc7539esp(chacha20,poly1305)",
}
_CIPHERS = {Encryption.AES_CBC: "cbc(aes)", Encryption.NULL: "ecb(cipher_null)"}
_MACS = {
    Integrity.HMAC_SHA2_256_128: ("hmac(sha256)", 128),
    Integrity.HMAC_SHA2_384_192: ("hmac(sha384)", 192),
    Integrity.HMAC_SHA2_512_256: ("hmac(sha512)", 256),
}


def algorithms(spi: int, suite: Suite) -> list[str]:
    """A suite in ip-xfrm(8)'s words, with the keys of ``tests.datapath.pair.keys``."""
    encryption, integrity = (f"0x{bytes(part).hex()}" for part in keys(spi, suite).take())
    if suite.encryption in _AEADS:
        return ["aead", _AEADS[suite.encryption], encryption, "128"]
    mac, bits = _MACS[suite.integrity]
    return [
        "enc", _CIPHERS[suite.encryption], encryption if suite.encryption_key_length else "",
        "auth-trunc", mac, integrity, str(bits),
    ]  # fmt: skip


def add_state(namespace: Namespace, sa: SecurityAssociation, *, mark: int = 0) -> None:
    """Install an SA, with the mark that its packets are to bear."""
    argv = ["ip", "xfrm", "state", "add", "src", str(sa.source), "dst", str(sa.destination), "proto", "esp"]
    argv += ["spi", hex(sa.spi), "reqid", str(sa.reqid), *algorithms(sa.spi, sa.suite), "replay-window", "128"]
    argv += ["mode", "tunnel", "flag", "af-unspec"] if sa.mode is Mode.TUNNEL else ["mode", "transport"]
    if sa.suite.esn:
        argv += ["flag", "esn"]
    if sa.encapsulation is not None:
        argv += ["encap", "espinudp", "4500", "4500", "0.0.0.0"]
    if mark:
        argv += ["output-mark", hex(mark)]
    namespace.run(argv)


def add_policies(
    namespace: Namespace, nets: tuple[str, str], ends: tuple[str, str], *, mode: Mode = Mode.TUNNEL, reqid: int = 1
) -> None:
    """Protect what is between two networks, ours first, by SAs between two ends, ours first."""
    for direction in ("out", "in", "fwd"):
        (source, destination), outer = (nets, ends) if direction == "out" else (nets[::-1], ends[::-1])
        namespace.run(
            [
                "ip", "xfrm", "policy", "add", "dir", direction, "src", source, "dst", destination,
                "priority", "100", "tmpl", "src", outer[0], "dst", outer[1],
                "proto", "esp", "reqid", str(reqid), "mode", "tunnel" if mode is Mode.TUNNEL else "transport",
            ]
        )  # fmt: skip


def flush(namespace: Namespace) -> None:
    """No SA and no policy is left."""
    for what in ("policy", "state"):
        namespace.run(["ip", "xfrm", what, "flush"])


def errors(namespace: Namespace) -> dict[str, int]:
    """The kernel's own counts of what went wrong (/proc/net/xfrm_stat), those that are not 0."""
    text = namespace.run(["cat", "/proc/net/xfrm_stat"]).stdout
    counts = {name: int(count) for name, count in (line.split() for line in text.splitlines())}
    return {name: count for name, count in counts.items() if count}


def plain_sent(capture: Capture) -> int:
    """How many frames left in the clear. What comes in is seen twice where the kernel decrypts, and plain then."""
    return sum(frame.outgoing and frame.kind is Kind.PLAIN for frame in capture.frames)


@asynccontextmanager
async def beside_kernel() -> AsyncIterator[tuple[Pair, KernelPeer]]:
    """Gateway 0 is ours, with its soft datapath; where gateway 1 would be is the kernel."""
    with Lab() as lab:
        spaces = two_hosts(lab)
        async with gateway(0, spaces[0], patience=20.0) as left:
            pair = Pair(lab, (left,))
            peer = KernelPeer(pair, spaces[1])
            peer.take_encapsulated()
            try:
                yield pair, peer
            finally:
                peer.close()


class KernelPeer:
    """The kernel's IPsec in a namespace. It protects what gateway 1 of ``Pair`` would."""

    def __init__(self, pair: Pair, namespace: Namespace) -> None:
        self.pair = pair
        self.namespace = namespace
        self._sockets: list[socket.socket] = []

    def take_encapsulated(self) -> None:
        """Have ESP in UDP looked into, as an IKE daemon's socket does (RFC 3948)."""
        self.namespace.run(["ip", "xfrm", "policy", "flush"])  # loads what reads sockets' policies
        for family, address in ((socket.AF_INET, OUTER[4][1]), (socket.AF_INET6, OUTER[6][1])):
            sock = self.namespace.socket(family, socket.SOCK_DGRAM)
            sock.setsockopt(socket.IPPROTO_UDP, UDP_ENCAP, UDP_ENCAP_ESPINUDP)
            # Without a policy of its own the socket's packets would have to be protected themselves (transport mode).
            option = (socket.IPPROTO_IP, IP_XFRM_POLICY) if family == socket.AF_INET else (41, IPV6_XFRM_POLICY)
            for direction in (0, 1):
                sock.setsockopt(*option, _ALLOW.pack(family, 0, 0, direction, 0, 0, 0))
            sock.bind((address, 4500))
            self._sockets.append(sock)

    def close(self) -> None:
        """Give the sockets back; the namespace takes the rest with it."""
        for sock in self._sockets:
            sock.close()

    def policies(self, mode: Mode, outer: int) -> None:
        """What is protected, in place of what was."""
        ends = OUTER[outer]
        self.namespace.run(["ip", "xfrm", "policy", "flush"])
        nets = NETS.values() if mode is Mode.TUNNEL else [ends]
        if mode is Mode.TRANSPORT and outer == 6:
            # The kernel would protect neighbour discovery too, and nobody could be found.
            for direction, kind in itertools.product(("out", "in"), ("135", "136")):
                argv = ["ip", "xfrm", "policy", "add", "dir", direction, "src", "::/0", "dst", "::/0"]
                self.namespace.run([*argv, "proto", "ipv6-icmp", "type", kind, "priority", "1"])
        for net in nets:
            add_policies(self.namespace, (net[1], net[0]), (ends[1], ends[0]), mode=mode)

    def states(self, requests: list[SecurityAssociation]) -> None:
        """Both directions' SAs, in place of those that were."""
        self.namespace.run(["ip", "xfrm", "state", "flush"])
        for sa in requests:
            add_state(self.namespace, sa)

    async def connect(self, spis: tuple[int, int], *, mode: Mode, outer: int, **how: object) -> None:
        """The same SAs at both ends: sender 0's with the first SPI."""
        self.policies(mode, outer)
        ours, theirs = [], []
        for sender, spi in enumerate(spis):
            direction = Direction.OUT if sender == 0 else Direction.IN
            sa = self.pair.sa(sender, direction, spi, mode=mode, outer=outer, **how)  # type: ignore[arg-type]
            ours.append(InstallRequest(sa, keys(spi, sa.suite), activate=direction is Direction.OUT))
            theirs.append(sa)
        self.states(theirs)
        await self.pair.gateways[0].datapath.install(sorted(ours, key=lambda r: r.sa.direction is Direction.OUT))

    def errors(self) -> dict[str, int]:
        """What went wrong."""
        return errors(self.namespace)
