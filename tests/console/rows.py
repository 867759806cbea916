"""Rows as a daemon would give them: a gateway with one tunnel up, one down, one that waits, one half up."""

from __future__ import annotations

from typing import Any

from appliance.console.protocol import (
    Cause,
    ChildRow,
    ConnectionRow,
    CounterRow,
    DatapathRow,
    LogRow,
    MissingRow,
    Nat,
    OffloadRow,
    PolicyRow,
    SaRow,
    State,
)
from appliance.reasons import Reason

NOW = 1_795_478_400.0

SILENT = Cause(
    reason="PEER_SILENT",
    words=Reason.PEER_SILENT.words,
    detail="203.0.113.9:500 did not answer 9 IKE_SA_INIT requests in 165 s",
    remedy=Reason.PEER_SILENT.remedy,
    since=NOW - 200,
)
NO_COMMON_TS = Cause(
    reason="TS_UNACCEPTABLE",
    words=Reason.TS_UNACCEPTABLE.words,
    detail="offered fd01::/64 <> fd09::/64",
    remedy=Reason.TS_UNACCEPTABLE.remedy,
    since=NOW - 8,
)

CONNECTIONS = [
    ConnectionRow(
        name="site-b",
        state=State.ESTABLISHED,
        local_address="192.0.2.1",
        local_port=4500,
        local_id="gw-a.example",
        remote_address="198.51.100.7",
        remote_port=4500,
        remote_id="gw-b.example",
        initiator=True,
        spi_initiator="0x1122334455667788",
        spi_responder="0x8877665544332211",
        suite="aes256gcm16-prfsha384-ecp384",
        established_at=NOW - 7500,
        rekey_in=6600,
        nat=Nat.REMOTE,
        children=[
            ChildRow(
                name="net",
                state=State.ESTABLISHED,
                spi_in="0xc1a2b3c4",
                spi_out="0x01234567",
                suite="AES_GCM_16-256/ESN",
                encapsulation="udp",
                local_ts=["10.1.0.0/24", "fd01::/64"],
                remote_ts=["10.2.0.0/24", "fd02::/64"],
                bytes_in=1_234_567_890,
                bytes_out=98_765,
                packets_in=1_100_000,
                packets_out=400,
                established_at=NOW - 2100,
                rekey_in=1440,
                expires_in=1500,
                datapath="soft",
            )
        ],
    ),
    ConnectionRow(
        name="site-c",
        state=State.RETRYING,
        reason=SILENT,
        local_address="192.0.2.1",
        local_id="gw-a.example",
        remote_address="203.0.113.9",
        remote_id="gw-c.example",
        retries=5,
        next_try_in=20,
        children=[
            ChildRow(name="lan", state=State.DOWN, reason=SILENT, local_ts=["10.1.0.0/24"], remote_ts=["10.3.0.0/16"])
        ],
    ),
    ConnectionRow(
        name="roadwarriors",
        state=State.WAITING,
        local_id="gw-a.example",
        remote_id="*.example",
        children=[ChildRow(name="all", state=State.WAITING, local_ts=["0.0.0.0/0"], remote_ts=["10.9.0.0/16"])],
    ),
    ConnectionRow(
        name="six",
        state=State.ESTABLISHED,
        local_address="2001:db8::1",
        local_port=500,
        local_id="gw-a.example",
        remote_address="2001:db8:1:2:3:4:5:6",
        remote_port=500,
        remote_id="six.example",
        established_at=NOW - 10,
        rekey_in=14000,
        children=[
            ChildRow(name="v6", state=State.DOWN, reason=NO_COMMON_TS, local_ts=["fd01::/64"], remote_ts=["fd09::/64"])
        ],
    ),
]


def sa(direction: str, **changes: Any) -> SaRow:
    inbound = direction == "in"
    fields: dict[str, Any] = {
        "connection": "site-b",
        "child": "net",
        "direction": direction,
        "spi": "0xc1a2b3c4" if inbound else "0x01234567",
        "source": "198.51.100.7" if inbound else "192.0.2.1",
        "destination": "192.0.2.1" if inbound else "198.51.100.7",
        "suite": "AES_GCM_16-256/ESN",
        "mode": "tunnel",
        "encapsulation": "4500 > 4500",
        "local_ts": ["10.1.0.0/24", "fd01::/64"],
        "remote_ts": ["10.2.0.0/24", "fd02::/64"],
        "datapath": "soft",
        "why_not": ["kernel: the datapath has no such algorithm: this kernel has no INET_ESP"],
        "age": 2100,
        "rekey_in": 1440,
        "bytes": 1_234_567_890 if inbound else 98_765,
        "packets": 1_100_000 if inbound else 400,
        "replay_window": 1024,
    }
    return SaRow(**{**fields, **changes})


SAS = [
    sa("in", replays=3, integrity_failures=1),
    sa("out"),
    sa("in", connection="six", child="v6", encapsulation="none", source="2001:db8:1::6", destination="2001:db8::1"),
    sa("out", spi="0x0badcafe", active=False, age=2, bytes=0, packets=0),
]

POLICIES = [
    PolicyRow(
        name="dns",
        action="bypass",
        priority=1000,
        local_ts=["10.1.0.53[udp/53]"],
        remote_ts=["0.0.0.0/0"],
        state="passes",
    ),
    PolicyRow(
        name="site-b/net",
        action="protect",
        priority=2000,
        local_ts=["10.1.0.0/24", "fd01::/64"],
        remote_ts=["10.2.0.0/24", "fd02::/64"],
        state="encrypted",
        mode="tunnel",
        datapath="soft",
    ),
    PolicyRow(
        name="site-c/lan",
        action="protect",
        priority=2001,
        local_ts=["10.1.0.0/24"],
        remote_ts=["10.3.0.0/16"],
        state="dropped until the connection is up",
        mode="tunnel",
        datapath="soft",
    ),
]

DATAPATHS = [
    DatapathRow(
        name="kernel",
        usable=False,
        reason=Cause(
            reason="ALGORITHM_UNSUPPORTED",
            words=Reason.ALGORITHM_UNSUPPORTED.words,
            detail="this kernel has no INET_ESP",
            remedy="load the modules esp4 and esp6",
        ),
    ),
    DatapathRow(
        name="soft",
        usable=True,
        pid=4242,
        device="esplanade0",
        sas=4,
        suites=[
            "AES_GCM_16-128",
            "AES_GCM_16-256",
            "CHACHA20_POLY1305",
            "AES_CBC-128/HMAC_SHA2_256_128",
            "AES_CBC-256/HMAC_SHA2_512_256",
            "NULL/HMAC_SHA2_256_128",
        ],
        modes=["tunnel", "transport"],
        native=True,
        udp_encapsulation=True,
        replay_windows=(64, 4096),
        missing=[
            MissingRow(
                what="locked memory",
                reason="NO_PRIVILEGE",
                words=Reason.NO_PRIVILEGE.words,
                detail="RLIMIT_MEMLOCK is 64 KiB",
                remedy=Reason.NO_PRIVILEGE.remedy,
            )
        ],
    ),
]

OFFLOAD = [
    OffloadRow(subject="kernel", what="", text="Linux 6.1.0-49-amd64"),
    OffloadRow(
        subject="kernel",
        what="suites",
        able=True,
        text="null-sha256, aes128-sha256, aes256-sha512, aes128gcm16, aes192gcm16, aes256gcm16, chacha20poly1305",
    ),
    OffloadRow(subject="kernel", what="ESP over IPv4", able=True),
    OffloadRow(
        subject="kernel",
        what="ESP over IPv6",
        able=False,
        reason=Cause(
            reason="NO_KERNEL_ESP",
            words=Reason.NO_KERNEL_ESP.words,
            detail="Requested type not found (EPROTONOSUPPORT); the module esp6 is there and was not loaded",
            remedy=Reason.NO_KERNEL_ESP.remedy,
        ),
    ),
    OffloadRow(
        subject="kernel",
        what="direction of an SA",
        able=False,
        reason=Cause(
            reason="KERNEL_TOO_OLD",
            words=Reason.KERNEL_TOO_OLD.words,
            detail="it came with Linux 6.10, and this is 6.1.0-49-amd64",
            remedy=Reason.KERNEL_TOO_OLD.remedy,
        ),
    ),
    OffloadRow(subject="wan0", what="", text="mlx5_core, 0000:03:00.0"),
    OffloadRow(subject="wan0", what="crypto offload", able=True),
    OffloadRow(subject="wan0", what="packet offload", able=True),
    OffloadRow(subject="wan0", what="ipsec_crypto of pci/0000:03:00.0/2", able=True),
    OffloadRow(
        subject="wan0",
        what="ipsec_packet of pci/0000:03:00.0/2",
        able=False,
        reason=Cause(
            reason="OFFLOAD_UNSUPPORTED",
            words=Reason.OFFLOAD_UNSUPPORTED.words,
            detail="the port's function was not given it",
            remedy="devlink port function set pci/0000:03:00.0/2 ipsec_packet enable",
        ),
    ),
    OffloadRow(subject="lan0", what="", text="new_nic, 0000:04:00.0"),
    OffloadRow(subject="lan0", what="crypto offload", able=True),
    OffloadRow(subject="lan0", what="packet offload", text="the driver does not tell; an SA has to be tried"),
    OffloadRow(subject="devices", what="no hardware", text="2 bridge, 1 loopback"),
]

COUNTERS = [
    CounterRow(group="ike", name="handshakes", value=12, words="IKE SAs established"),
    CounterRow(group="datapath", name="REPLAYED", value=1234, words=Reason.REPLAYED.words),
    CounterRow(group="datapath", name="INTEGRITY", value=0, words=Reason.INTEGRITY.words),
]

LOG = [
    LogRow(
        time=NOW - 5.25,
        level="info",
        room="ike",
        event="ike_up",
        text="IKE SA established with gw-b.example",
        connection="site-b",
    ),
    LogRow(
        time=NOW,
        level="warning",
        room="ike",
        event="authentication",
        text="the AUTH payload of \x1b[2Jgw-c does not verify",
        connection="site-c",
        child="lan",
        reason="INTEGRITY",
    ),
]
