"""The two gateways of the demo: ours, and ours or strongSwan on the other side."""

from __future__ import annotations

import time
from collections.abc import Callable

from appliance.console.protocol import ConnectionRow, State
from tests.lab import config, topology
from tests.lab.gateway import Gateway
from tests.lab.strongswan import StrongSwan
from tests.lab.topology import SiteToSite

# Patience for a demo of less than a minute; the default is two minutes.
DPD = {"interval": "1s", "timeout": "4s"}


def near(sites: SiteToSite) -> Gateway:
    """gw-a: the example configuration, but for a shorter patience with a silent peer."""
    text = config.EXAMPLE.replace(
        'dpd = { interval = "30s", timeout = "120s" }', 'dpd = { interval = "1s", timeout = "4s" }'
    )
    assert text != config.EXAMPLE
    return Gateway(sites.gw_a, text)


def far_esplanade(sites: SiteToSite) -> Gateway:
    """gw-b, mirrored, and waiting for the other to start."""
    return Gateway(sites.gw_b, config.document(config.site(sites, "b", start="respond", dpd=DPD)))


class FarStrongSwan:
    """gw-b as strongSwan."""

    def __init__(self, sites: SiteToSite) -> None:
        self.charon = StrongSwan(sites.gw_b)

    def start(self) -> None:
        """Starts it and loads the connection, in swanctl.conf's words."""
        self.charon.start()
        self.charon.load_psk(config.PSK)
        self.charon.load_connection(
            "site-a",
            {
                "version": "2",
                "local_addrs": ["192.0.2.2"],
                "remote_addrs": ["192.0.2.1"],
                "proposals": ["aes256gcm16-prfsha384-ecp384"],
                "local": {"auth": "psk", "id": "gw-b.example"},
                "remote": {"auth": "psk", "id": "gw-a.example"},
                "children": {
                    "net": {
                        "local_ts": [topology.NET_B, topology.NET_B6],
                        "remote_ts": [topology.NET_A, topology.NET_A6],
                        "esp_proposals": ["aes256gcm16"],
                    }
                },
            },
        )

    def view(self) -> str:
        """What strongSwan itself says of the tunnel."""
        sa = self.charon.established("site-a")
        child = sa.installed[-1]
        return (
            f"strongSwan {self.charon.version()} sees {sa.remote_id} at {sa.remote_host}: "
            f"IKE {sa.encryption}/{sa.prf}/{sa.key_exchange}, ESP {child.encryption}, "
            f"{child.packets_in} packets in, {child.packets_out} out"
        )


def wait_for_state(
    gateway: Gateway, wanted: Callable[[ConnectionRow], bool], timeout: float
) -> tuple[float, ConnectionRow]:
    """Seconds until the connection is as wanted, and its row."""
    began = time.monotonic()

    def poll() -> ConnectionRow | None:
        row = gateway.connection("site-b")
        return row if wanted(row) else None

    row = gateway.wait("in the state waited for", poll, timeout)
    return time.monotonic() - began, row


def is_up(row: ConnectionRow) -> bool:
    """Whether the connection and its child carry traffic."""
    return row.state is State.ESTABLISHED and any(child.state is State.ESTABLISHED for child in row.children)


def is_down(row: ConnectionRow) -> bool:
    """Whether it is known to be down, and why."""
    return row.state in (State.RETRYING, State.DOWN, State.CONNECTING) and row.reason is not None
