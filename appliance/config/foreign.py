"""Words of other programs' configurations, for hints."""

from __future__ import annotations

FOREIGN: dict[str, str] = {
    "local_addrs": "local = { address = … }",
    "remote_addrs": "remote = { address = … }",
    "proposals": "ike_proposals in a connection, esp_proposals in a child",
    "secret": "psk, in the connection",
    "certs": "cert, in local",
    "cacerts": "ca, in remote",
    "children": "[connection.NAME.child.NAME]",
    "start_action": "start",
    "auto": "start",
    "dpd_delay": "dpd = { interval = … }",
    "dpd_timeout": "dpd = { timeout = … }",
    "rekey_time": "lifetime = { time = … }",
    "life_time": "lifetime = { time = … }",
    "over_time": "lifetime = { margin = … }",
    "rand_time": "lifetime = { jitter = … }",
    "rekey_bytes": "lifetime = { bytes = … }",
    "life_bytes": "lifetime = { bytes = … }",
    "rekey_packets": "lifetime = { packets = … }",
    "life_packets": "lifetime = { packets = … }",
    "encap": 'encapsulation = "always"',
    "tfc_padding": "tfc",
    "copy_df": "df",
    "copy_dscp": "dscp",
    "leftsubnet": "local_ts",
    "rightsubnet": "remote_ts",
    "left": "local = { address = … }",
    "right": "remote = { address = … }",
    "keep_alive": "keepalive",
    "if_id_in": "[interface.NAME], and in the child interface = … (if_id is one number for both directions)",
    "if_id_out": "[interface.NAME], and in the child interface = … (if_id is one number for both directions)",
    "hw_offload": "offload",
}
"""Words of swanctl.conf and ipsec.conf, and what they are here."""
