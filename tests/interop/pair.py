"""Our gateway on one side, strongSwan on the other; connections come and go on both while both keep running."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from appliance.console.protocol import ConnectionRow
from tests.lab import config, topology
from tests.lab.config import PSK, Toml
from tests.lab.gateway import Gateway
from tests.lab.ping import ping
from tests.lab.strongswan import ChildSaView, IkeSaView, StrongSwan
from tests.lab.topology import SiteToSite
from tests.lab.vici import Value, ViciError

IKE = "aes256gcm16-prfsha384-ecp384"
ESP = "aes256gcm16"
NAME = "peer"

QUICK = {"timeout": "500ms", "base": 1, "tries": 4}


class Role(Enum):
    """Who we are in the exchange that brings the tunnel up."""

    INITIATOR = "initiator"
    RESPONDER = "responder"


@dataclass(frozen=True, slots=True)
class Seen:
    """Both views of a tunnel that has carried traffic."""

    ours: ConnectionRow
    theirs: IkeSaView
    child: ChildSaView


class Pair:
    """gw-a is ours, gw-b strongSwan; both started, nothing configured.

    ``order`` is that of our datapaths; ``kernel_peer``: strongSwan has the kernel's IPsec. ``sections`` of our
    configuration count from the next ``configure`` on.
    """

    def __init__(
        self,
        sites: SiteToSite,
        *,
        v6: bool = False,
        swapped: bool = False,
        order: Sequence[str] = ("soft",),
        kernel_peer: bool = False,
    ) -> None:
        self.sites = sites
        self.sections: dict[str, Mapping[str, Toml]] = {"datapath": {"order": list(order)}}
        self.v6 = v6
        self.our_side, self.their_side = ("b", "a") if swapped else ("a", "b")
        ours, theirs = (sites.gw_b, sites.gw_a) if swapped else (sites.gw_a, sites.gw_b)
        self.our_host, self.their_host = (sites.host_b, sites.host_a) if swapped else (sites.host_a, sites.host_b)
        self.charon = StrongSwan(
            theirs, settings=["retransmit_timeout = 1", "retransmit_tries = 3"], kernel=kernel_peer
        ).start()
        self.gateway = Gateway(ours, config.document({}, **self.sections)).start()

    def configure(
        self,
        *,
        ike: str = IKE,
        esp: str = ESP,
        psk: str | None = PSK,
        ours: Mapping[str, Toml] | None = None,
        our_child: Mapping[str, Toml] | None = None,
        theirs: Mapping[str, Value] | None = None,
        their_child: Mapping[str, Value] | None = None,
        their_local: Mapping[str, Value] | None = None,
        their_remote: Mapping[str, Value] | None = None,
        their_psk: str | None = None,
        any_peer: bool = False,
    ) -> None:
        """Gives both sides one connection, ``peer``, with one child, ``net``; what was there before goes."""
        self.charon.clear()
        if psk is not None:
            self.charon.load_psk(their_psk or psk)
        sites = self.sites
        own, peer = (sites.b, sites.a) if self.their_side == "b" else (sites.a, sites.b)
        networks = [[topology.NET_A, topology.NET_A6], [topology.NET_B, topology.NET_B6]]
        local, remote = (networks[1], networks[0]) if self.their_side == "b" else (networks[0], networks[1])
        child: dict[str, Value] = {"local_ts": local, "remote_ts": remote, "esp_proposals": [esp]}
        conn: dict[str, Value] = {
            "version": "2",
            "local_addrs": [own.v6 if self.v6 else own.v4],
            # What they see of us, which is not our own address behind a NAT.
            "remote_addrs": [peer.seen_v6 if self.v6 else peer.seen_v4] if not any_peer else ["%any"],
            "proposals": [ike],
            "local": {"auth": "psk", "id": f"gw-{self.their_side}.example"} | dict(their_local or {}),
            "remote": {"auth": "psk", "id": f"gw-{self.our_side}.example"} | dict(their_remote or {}),
            "children": {"net": child | dict(their_child or {})},
        }
        self.charon.load_connection(NAME, conn | dict(theirs or {}))
        settings: dict[str, Toml] = {"ike_proposals": [ike], "psk": psk or "", "retransmit": QUICK}
        connection = config.site(
            sites,
            self.our_side,
            name=NAME,
            v6=self.v6,
            any_peer=any_peer,
            child={"esp_proposals": [esp]} | dict(our_child or {}),
            **(settings | dict(ours or {})),
        )
        self.gateway.reload(config.document(connection, **self.sections))

    def up(self, role: Role) -> ConnectionRow:
        """Brings the tunnel up from one side; our view of it."""
        if role is Role.INITIATOR:
            self.gateway.initiate(NAME)
        else:
            try:
                self.charon.initiate(child="net", ike=NAME)
            except ViciError as error:
                error.add_note(f"{self.charon.log[-3000:]}\n{self.gateway.tail()}")
                raise
        return self.gateway.wait_established(NAME)

    def traffic(self, count: int = 2) -> Seen:
        """Pings in both directions and families, and reads both sides' views; the counts of strongSwan must agree."""
        before = self.charon.established(NAME).installed[-1]
        here = (topology.HOST_A, topology.HOST_A6)
        there = (topology.HOST_B, topology.HOST_B6)
        if self.our_side == "b":
            here, there = there, here
        for host, addresses in ((self.our_host, there), (self.their_host, here)):
            for address in addresses:
                result = ping(host, address, count=count, interval=0.01)
                assert result.ok, f"{host.name} to {address}: {result}\n{self.gateway.tail()}"
        theirs = self.charon.established(NAME)
        child = theirs.installed[-1]
        if child.uniqueid == before.uniqueid:
            assert child.packets_in - before.packets_in == 4 * count
            assert child.packets_out - before.packets_out == 4 * count
            assert child.bytes_in > before.bytes_in
        return Seen(self.gateway.connection(NAME), theirs, child)

    def down(self, role: Role) -> None:
        """Takes the tunnel down from one side; the other must follow."""
        if role is Role.INITIATOR:
            self.gateway.terminate(NAME)
            self.gateway.wait("gone at strongSwan", lambda: not self.charon.sas(), 5)
        else:
            self.charon.terminate(ike=NAME)
        self.gateway.wait("without SAs", lambda: not self.gateway.sas(), 5)
