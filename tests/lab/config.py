"""Configuration files for gateways in the lab, and the example of the documentation as it stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from tests.lab import topology
from tests.lab.topology import SiteToSite

ORDER = ["soft"]
"""The datapaths of gateways where a test says nothing of them."""
PSK = "correct horse battery staple"
Toml: TypeAlias = "str | int | bool | list[str] | Mapping[str, Toml]"

# As the issue that asked for this product has it; a user's first file. It must work to the letter.
EXAMPLE = """\
schema = 1

[connection.site-b]
local  = { address = "192.0.2.1", id = "gw-a.example", auth = "psk" }
remote = { address = "192.0.2.2", id = "gw-b.example", auth = "psk" }
psk = "correct horse battery staple"          # or psk_file; never shown again
ike_proposals = ["aes256gcm16-prfsha384-ecp384", "aes256gcm16-prfsha384-x25519"]
start = "initiate"                            # initiate | on-demand | respond
dpd = { interval = "30s", timeout = "120s" }

[connection.site-b.child.net]
local_ts  = ["10.1.0.0/24", "fd01::/64"]
remote_ts = ["10.2.0.0/24", "fd02::/64"]
esp_proposals = ["aes256gcm16-esn", "aes256gcm16-noesn"]
mode = "tunnel"                               # tunnel | transport
lifetime = { time = "1h", bytes = "100GB", packets = 1_000_000_000 }

[datapath]
order = ["soft"]
"""


def _value(value: Toml) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case str():
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        case list():
            return "[" + ", ".join(_value(item) for item in value) + "]"
        case _:
            return "{ " + ", ".join(f"{key} = {_value(item)}" for key, item in value.items()) + " }"


def table(header: str, values: Mapping[str, Toml]) -> str:
    """A TOML table; mappings in it become inline tables."""
    lines = [f"[{header}]", *(f"{key} = {_value(value)}" for key, value in values.items())]
    return "\n".join(lines) + "\n\n"


def document(connections: Mapping[str, Mapping[str, Toml]], **sections: Mapping[str, Toml]) -> str:
    """A whole file. A connection's ``child`` maps names to children; ``sections`` are the other top tables.

    A section's name may have a dot as two underscores: ``datapath__soft={...}``.
    """
    text = "schema = 1\n\n"
    for name, connection in connections.items():
        children = connection.get("child", {})
        assert isinstance(children, Mapping)
        text += table(f"connection.{name}", {key: value for key, value in connection.items() if key != "child"})
        for child_name, child in children.items():
            assert isinstance(child, Mapping)
            text += table(f"connection.{name}.child.{child_name}", child)
    for name, values in ({"datapath": {"order": ORDER}} | sections).items():
        text += table(name.replace("__", "."), values)
    return text


def site(
    sites: SiteToSite,
    side: str,
    *,
    start: str = "respond",
    v6: bool = False,
    name: str | None = None,
    child: Mapping[str, Toml] | None = None,
    any_peer: bool = False,
    **settings: Toml,
) -> dict[str, Mapping[str, Toml]]:
    """The connection of gateway ``a`` or ``b`` to the other one, PSK, with one child ``net`` for both sites' networks.

    ``settings`` replace or add keys of the connection, ``child`` those of the child; ``any_peer`` leaves the peer's
    address open, as for one behind a NAT.
    """
    own, peer = (sites.a, sites.b) if side == "a" else (sites.b, sites.a)
    networks = [[topology.NET_A, topology.NET_A6], [topology.NET_B, topology.NET_B6]]
    if side == "b":
        networks.reverse()
    remote: dict[str, Toml] = {"id": f"gw-{'b' if side == 'a' else 'a'}.example", "auth": "psk"}
    if not any_peer:
        remote["address"] = peer.v6 if v6 else peer.v4
    connection: dict[str, Toml] = {
        "local": {"address": own.v6 if v6 else own.v4, "id": f"gw-{side}.example", "auth": "psk"},
        "remote": remote,
        "psk": PSK,
        "ike_proposals": ["aes256gcm16-prfsha384-ecp384"],
        "start": start,
    }
    wanted: dict[str, Toml] = {
        "local_ts": list(networks[0]),
        "remote_ts": list(networks[1]),
        "esp_proposals": ["aes256gcm16-esn", "aes256gcm16-noesn"],
    }
    # An empty setting takes a key away, such as the PSK where certificates are used.
    connection |= settings
    wanted |= dict(child or {})
    connection["child"] = {"net": {key: value for key, value in wanted.items() if value != ""}}
    return {
        name or f"site-{'b' if side == 'a' else 'a'}": {key: value for key, value in connection.items() if value != ""}
    }
