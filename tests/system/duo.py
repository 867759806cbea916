"""Two gateways of ours, configured for each other."""

from __future__ import annotations

from collections.abc import Mapping

from tests.lab import config, topology
from tests.lab.config import Toml
from tests.lab.gateway import Gateway
from tests.lab.ping import ping
from tests.lab.topology import SiteToSite

QUICK = {"timeout": "300ms", "base": 1, "tries": 5}
A, B = "site-b", "site-a"  # what each gateway calls its connection: by the other side
IDLE = 'schema = 1\n\n[datapath]\norder = ["soft"]\n'


class Duo:
    """gw-a starts what there is to start, gw-b answers, unless told otherwise."""

    def __init__(
        self,
        sites: SiteToSite,
        *,
        a: Mapping[str, Toml] | None = None,
        b: Mapping[str, Toml] | None = None,
        child_a: Mapping[str, Toml] | None = None,
        child_b: Mapping[str, Toml] | None = None,
        v6: bool = False,
        any_peer: bool = False,
        **sections: Mapping[str, Toml],
    ) -> None:
        self.sites = sites
        common: dict[str, Toml] = {"retransmit": QUICK}
        self.text_a = config.document(
            config.site(sites, "a", v6=v6, child=child_a, **({"start": "initiate"} | common | dict(a or {}))),
            **sections,
        )
        self.text_b = config.document(
            config.site(sites, "b", v6=v6, child=child_b, any_peer=any_peer, **(common | dict(b or {}))), **sections
        )
        self.a = Gateway(sites.gw_a, self.text_a)
        self.b = Gateway(sites.gw_b, self.text_b)

    def start(self) -> Duo:
        """Starts both. Returns itself."""
        self.b.start()
        self.a.start()
        return self

    def up(self) -> Duo:
        """Waits until both see the tunnel. Returns itself."""
        self.a.wait_established(A)
        self.b.wait_established(B)
        return self

    def assert_traffic(self, count: int = 2, *, v6: bool = True) -> None:
        """Pings both ways, both families, all answered."""
        sites = self.sites
        for host, addresses in (
            (sites.host_a, (topology.HOST_B, topology.HOST_B6)),
            (sites.host_b, (topology.HOST_A, topology.HOST_A6)),
        ):
            for address in addresses if v6 else addresses[:1]:
                result = ping(host, address, count=count, interval=0.01)
                assert result.ok, f"{host.name} to {address}: {result}\n{self.a.tail()}\n{self.b.tail()}"


def spis(gateway: Gateway) -> set[str]:
    """The SPIs of all its ESP SAs, both directions."""
    return {sa.spi for sa in gateway.sas()}
