"""A NAT middlebox: masquerades what leaves by one interface, and can forget whom it knew."""

from __future__ import annotations

from tests.lab.namespace import Namespace


class Nat:
    """Source NAT, IPv4 and IPv6, in a forwarding namespace, for UDP and all else that conntrack knows."""

    def __init__(self, namespace: Namespace, *, outside: str, udp_timeout: int = 180) -> None:
        self.namespace = namespace
        self.outside = outside
        self._load("masquerade")
        self.set_udp_timeout(udp_timeout)

    def _load(self, verdict: str) -> None:
        self.namespace.nft(
            "table inet lab_nat\ndelete table inet lab_nat\n"
            "table inet lab_nat {\n"
            "  chain postrouting { type nat hook postrouting priority srcnat;\n"
            f'    oifname "{self.outside}" {verdict}\n'
            "  }\n"
            "  chain forward { type filter hook forward priority filter; policy accept;\n"
            # As an ordinary home router: from outside, only answers come in.
            f'    iifname "{self.outside}" ct state new,invalid counter drop\n'
            "  }\n}\n"
        )

    def set_udp_timeout(self, seconds: int) -> None:
        """How long a UDP mapping lives without traffic, one-way and two-way alike."""
        self.namespace.sysctl(
            netfilter__nf_conntrack_udp_timeout=seconds, netfilter__nf_conntrack_udp_timeout_stream=seconds
        )

    def change_mapping(self, low: int = 20000, high: int = 29999) -> None:
        """Every flow gets a new outer port from now on, as if the router had been restarted."""
        self._load(f"meta l4proto udp masquerade to :{low}-{high} random")
        self.flush()

    def flush(self) -> None:
        """Forgets all mappings."""
        # No conntrack(8) needed: deleting the rules does not forget, but a detached namespace-wide table flush does.
        self.namespace.call(flush_conntrack)


def flush_conntrack() -> None:
    """Empties the connection tracking table of the calling thread's namespace (nfnetlink, IPCTNL_MSG_CT_DELETE)."""
    import socket
    import struct

    nfnl_subsys_ctnetlink, ipctnl_msg_ct_delete = 1, 2
    nlm_f_request, nlm_f_ack = 0x1, 0x4
    message = struct.pack(
        "=IHHII", 20, (nfnl_subsys_ctnetlink << 8) | ipctnl_msg_ct_delete, nlm_f_request | nlm_f_ack, 1, 0
    ) + struct.pack("=BBH", socket.AF_UNSPEC, 0, 0)
    netlink_netfilter = 12
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, netlink_netfilter) as netlink:
        netlink.send(message)
        answer = netlink.recv(4096)
    error = struct.unpack_from("=i", answer, 16)[0]
    if error != 0:
        raise OSError(-error, "cannot flush the connection tracking table")
