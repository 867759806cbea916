"""The schema: one tree of every key that a configuration may have. Reading, checking, hints and the reference use it.

Names are those of the file, which ``model`` keeps for its attributes.
"""

from __future__ import annotations

from appliance.config import values
from appliance.config.model import (
    SCHEMA_VERSION,
    Auth,
    CloseAction,
    DefaultPolicy,
    Encapsulation,
    LogLevel,
    Start,
    Unique,
)
from appliance.config.tree import Effect, Key, Named, Node, Rows, Table
from appliance.sa.association import DfPolicy, DscpPolicy, Mode, Offload, PolicyAction
from appliance.sa.proposal import ProtocolId

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
_MAX_COUNT = 2**63 - 1
CHILD_PRIORITY, POLICY_PRIORITY = 2000, 1000
DATAPATHS, COMING = ("soft", "kernel"), ("fpga",)


def _window(value: int) -> str | None:
    return None if value & (value - 1) == 0 else "is not a power of two"


def _group(value: int) -> str | None:
    return "is a table of the kernel's own" if value in (253, 254, 255) else None


_LOCAL = Table(
    help="this side",
    required=True,
    keys={
        "address": Key(
            type=values.ADDRESSES,
            default="%any",
            effect=Effect.REESTABLISH,
            help='outer address or addresses of this gateway; "%any" is any address of this machine',
        ),
        "id": Key(
            type=values.identity(pattern=False),
            default_words="psk: the address; pubkey: from the certificate",
            effect=Effect.REESTABLISH,
            help="the identity that is sent to the peer",
        ),
        "auth": Key(
            type=values.choice(Auth), required=True, effect=Effect.REESTABLISH, help="how this side proves its identity"
        ),
        "cert": Key(
            type=values.PATH,
            default_words="none; needed for pubkey",
            effect=Effect.LIVE,
            help="PEM file with this side's certificate, and intermediate ones behind it",
        ),
        "key": Key(
            type=values.PATH,
            default_words="none; needed for pubkey",
            effect=Effect.LIVE,
            help="PEM file with the certificate's private key; only its owner may read it (chmod 600)",
        ),
    },
)

_REMOTE = Table(
    help="the peer",
    required=True,
    keys={
        "address": Key(
            type=values.ADDRESSES,
            default="%any",
            effect=Effect.REESTABLISH,
            help='the peer\'s outer address or addresses; "%any" is any peer, and then only the peer can start',
        ),
        "id": Key(
            type=values.identity(pattern=True),
            default_words="psk: the address; pubkey: any identity that the ca certified",
            effect=Effect.REESTABLISH,
            help="the identity that the peer must have",
        ),
        "auth": Key(
            type=values.choice(Auth), required=True, effect=Effect.REESTABLISH, help="how the peer proves its identity"
        ),
        "ca": Key(
            type=values.PATHS,
            default_words="none; needed for pubkey",
            effect=Effect.REESTABLISH,
            help="PEM file or files with the certificate authorities that may certify the peer",
        ),
        "port": Key(type=values.integer(1, 65535), default=500, effect=Effect.LIVE, help="UDP port of the peer's IKE"),
    },
)

_DPD = Table(
    help="liveness checks (RFC 7296 §2.4)",
    keys={
        "interval": Key(
            type=values.duration(1, DAY, off=True),
            default="30s",
            effect=Effect.LIVE,
            help="after this long without anything from the peer it is asked whether it lives",
        ),
        "timeout": Key(
            type=values.duration(1, DAY),
            default="120s",
            effect=Effect.LIVE,
            help="after this long without an answer the peer is taken for dead",
        ),
    },
)


def _lifetime(default: str, more: dict[str, Node]) -> Table:
    return Table(
        help="when keys are replaced",
        keys={
            "time": Key(
                type=values.duration(1, 30 * DAY),
                default=default,
                effect=Effect.REKEY,
                help="age at which the SA ends",
            ),
            "margin": Key(
                type=values.duration(0, 30 * DAY),
                default_words="a tenth of time",
                effect=Effect.REKEY,
                help="the rekey starts this long before the end",
            ),
            "jitter": Key(
                type=values.duration(0, 30 * DAY),
                default_words="a twentieth of time",
                effect=Effect.REKEY,
                help="and up to this much earlier at random, so that two peers seldom start at once",
            ),
            **more,
        },
    )


_RETRANSMIT = Table(
    help="how requests are repeated (RFC 7296 §2.4)",
    keys={
        "timeout": Key(
            type=values.duration(0.1, 5 * MINUTE),
            default="2s",
            effect=Effect.LIVE,
            help="wait before the first repetition",
        ),
        "base": Key(
            type=values.number(1, 10), default=1.8, effect=Effect.LIVE, help="each wait is so many times the one before"
        ),
        "limit": Key(
            type=values.duration(0.1, HOUR), default="30s", effect=Effect.LIVE, help="but never longer than this"
        ),
        "tries": Key(
            type=values.integer(0, 100),
            default=8,
            effect=Effect.LIVE,
            help="repetitions before the peer is taken for silent",
        ),
    },
)

_START = "initiate: at once, and again whenever it is down. on-demand: by the first packet. respond: by the peer"

_CHILD = Table(
    help="a pair of ESP SAs and the traffic that it protects",
    keys={
        "local_ts": Key(
            type=values.SELECTORS,
            default_words="the local address; with interface everything",
            effect=Effect.REESTABLISH,
            help="traffic selectors of this side: networks, addresses or ranges, with protocol and ports if wanted",
        ),
        "remote_ts": Key(
            type=values.SELECTORS,
            default_words="the remote address; with interface everything",
            effect=Effect.REESTABLISH,
            help="traffic selectors of the peer's side",
        ),
        "esp_proposals": Key(
            type=values.proposals(ProtocolId.ESP),
            default_words="AES-GCM, ChaCha20-Poly1305, then AES-CBC with HMAC-SHA2 (RFC 8221); ESN preferred",
            effect=Effect.REKEY,
            help="algorithms in order of preference; a group such as x25519 asks for perfect forward secrecy",
        ),
        "mode": Key(
            type=values.choice(Mode), default="tunnel", effect=Effect.REESTABLISH, help="transport is between two hosts"
        ),
        "lifetime": _lifetime(
            "1h",
            {
                "bytes": Key(
                    type=values.size(1000, _MAX_COUNT),
                    default_words="no limit",
                    effect=Effect.REKEY,
                    help="data after which the SA ends; the rekey starts at nine tenths of it",
                ),
                "packets": Key(
                    type=values.integer(10, _MAX_COUNT, "packets"),
                    default_words="no limit",
                    effect=Effect.REKEY,
                    help="packets after which the SA ends; the rekey starts at nine tenths of them",
                ),
            },
        ),
        "start": Key(
            type=values.choice(Start),
            default_words="as the connection's",
            effect=Effect.LIVE,
            help="who starts this child",
        ),
        "close_action": Key(
            type=values.choice(CloseAction),
            default_words="as start: restart, on-demand or none",
            effect=Effect.LIVE,
            help="what is done when the peer deletes the child",
        ),
        "priority": Key(
            type=values.integer(0, 9999),
            default=CHILD_PRIORITY,
            effect=Effect.LIVE,
            help="among overlapping selectors the lower number is looked at first; then the file's order counts",
        ),
        "replay_window": Key(
            type=values.integer(64, 4096, "packets", _window),
            default=1024,
            effect=Effect.REKEY,
            help="how far packets may be reordered; a power of two",
        ),
        "tfc": Key(
            type=values.integer(1, 65535, "bytes", off=True),
            default="off",
            effect=Effect.REKEY,
            help="inner packets are padded to this length, against traffic analysis (RFC 4303 §2.7); tunnel mode only",
        ),
        "dscp": Key(
            type=values.choice(DscpPolicy),
            default="copy",
            effect=Effect.REKEY,
            help="whether the outer header shows the inner one's DSCP (RFC 4301 §5.1.2)",
        ),
        "df": Key(
            type=values.choice(DfPolicy),
            default="copy",
            effect=Effect.REKEY,
            help="the outer IPv4 header's don't-fragment bit (RFC 4301 §8.1); the kernel's datapath has no set",
        ),
        "interface": Key(
            type=values.INTERFACE_NAME,
            default_words="none: the selectors choose the packets",
            effect=Effect.REESTABLISH,
            help="a tunnel interface, [interface.NAME]: what is routed there is protected. Needs tunnel mode and the "
            "kernel's datapath",
        ),
        "datapath": Key(
            type=values.one_of(DATAPATHS, COMING),
            default_words="the first of datapath.order that can take it",
            effect=Effect.REKEY,
            help="this datapath and no other; it has to be in datapath.order",
        ),
        "offload": Key(
            type=values.choice(Offload),
            default="auto",
            effect=Effect.REKEY,
            help="what a network device does of ESP. packet: all of it. crypto: the cipher. auto: as much as it takes",
        ),
        "offload_device": Key(
            type=values.INTERFACE_NAME,
            default_words="the one that leads to the peer",
            effect=Effect.REKEY,
            help="the network device that is to do it",
        ),
    },
)  # fmt: skip

_CONNECTION = Table(
    help="one peer",
    keys={
        "local": _LOCAL,
        "remote": _REMOTE,
        "psk": Key(
            type=values.SECRET,
            secret=True,
            default_words="none; psk needs it or psk_file",
            effect=Effect.REESTABLISH,
            help="the pre-shared key",
        ),
        "psk_file": Key(
            type=values.PATH,
            default_words="none",
            effect=Effect.REESTABLISH,
            help="a file with the pre-shared key, which only its owner may read (chmod 600)",
        ),
        "ike_proposals": Key(
            type=values.proposals(ProtocolId.IKE),
            default_words="AES-GCM, ChaCha20-Poly1305, then AES-CBC with HMAC-SHA2 (RFC 8247)",
            effect=Effect.REKEY,
            help="algorithms in order of preference",
        ),
        "start": Key(
            type=values.choice(Start),
            default_words="on-demand; respond where remote.address is %any",
            effect=Effect.LIVE,
            help=_START,
        ),
        "dpd": _DPD,
        "lifetime": _lifetime("4h", {}),
        "retransmit": _RETRANSMIT,
        "fragmentation": Key(
            type=values.BOOLEAN,
            default=True,
            effect=Effect.REESTABLISH,
            help="whether IKE fragments its messages (RFC 7383)",
        ),
        "fragment_size": Key(
            type=values.integer(576, 65535, "bytes"),
            default=1280,
            effect=Effect.LIVE,
            help="largest IP packet of a fragment, headers included",
        ),
        "encapsulation": Key(
            type=values.choice(Encapsulation),
            default="auto",
            effect=Effect.REESTABLISH,
            help="auto: ESP goes in UDP where a NAT is found. always: also where none is, for firewalls that drop ESP",
        ),
        "keepalive": Key(
            type=values.duration(1, HOUR),
            default="20s",
            effect=Effect.LIVE,
            help="behind a NAT its mapping is kept by a packet this often (RFC 3948 §4)",
        ),
        "unique": Key(
            type=values.choice(Unique),
            default="replace",
            effect=Effect.LIVE,
            help="when the same peer comes again: replace the old IKE SA, keep it and refuse the new, or never compare",
        ),
        "child": Named(table=_CHILD),
    },
)

_POLICY = Table(
    help="traffic that is not protected: it passes in the clear, or never passes",
    keys={
        "name": Key(
            type=values.text("a name of letters, digits, '.', '_' and '-'"),
            required=True,
            effect=Effect.LIVE,
            help="what it is called in show and in the log",
        ),
        "action": Key(
            type=values.choice(PolicyAction, {"protect": "children protect traffic: [connection.NAME.child.NAME]"}),
            required=True,
            effect=Effect.LIVE,
            help="bypass: pass in the clear. discard: drop",
        ),
        "local_ts": Key(
            type=values.SELECTORS, required=True, effect=Effect.LIVE, help="selectors of this side's end of the traffic"
        ),
        "remote_ts": Key(type=values.SELECTORS, required=True, effect=Effect.LIVE, help="selectors of the other end"),
        "priority": Key(
            type=values.integer(0, 9999),
            default=POLICY_PRIORITY,
            effect=Effect.LIVE,
            help=f"lower numbers are looked at first; children have {CHILD_PRIORITY} unless they say otherwise",
        ),
    },
)

_DATAPATH = Table(
    help="what carries ESP",
    keys={
        "order": Key(
            type=values.names(DATAPATHS, coming=COMING),
            default=["soft"],
            effect=Effect.RESTART,
            help="each SA goes to the first of these that can take it",
        ),
        "return_after": Key(
            type=values.duration(1, DAY, off=True),
            default="60s",
            effect=Effect.LIVE,
            help="children go back to a datapath before theirs in the order when it has been up for so long; off: at "
            "their next rekey",
        ),
        "kernel": Table(
            help="the kernel's datapath (XFRM), with or without offload to a network device",
            keys={
                "default_policy": Key(
                    type=values.choice(DefaultPolicy),
                    default="pass",
                    effect=Effect.RESTART,
                    help="what becomes of packets that no policy is for, of the whole machine. block drops them while "
                    "the kernel's datapath runs (Linux 5.15)",
                ),
                "survivors": Key(
                    type=values.duration(0, HOUR),
                    default="180s",
                    effect=Effect.RESTART,
                    help="SAs of a daemon that was killed carry traffic until they are replaced, for so long at most",
                ),
            },
        ),
        "soft": Table(
            help="the userspace datapath",
            keys={
                "tun": Key(
                    type=values.INTERFACE_NAME,
                    default="esplanade0",
                    effect=Effect.RESTART,
                    help="name of its TUN device",
                ),
                "mtu": Key(
                    type=values.integer(576, 65535, "bytes"),
                    default_words="what fits into 1500 bytes outside",
                    effect=Effect.RESTART,
                    help="MTU of the TUN device",
                ),
                "mark": Key(
                    type=values.integer(1, 2**32 - 1),
                    default=0xE5B1,
                    effect=Effect.RESTART,
                    help="firewall mark of the gateway's own IKE and ESP packets, which never enter a tunnel",
                ),
                "table": Key(
                    type=values.integer(1, 2**32 - 1, check=_group),
                    default=220,
                    effect=Effect.RESTART,
                    help="routing table that leads protected traffic to the TUN device",
                ),
                "mss_clamp": Key(
                    type=values.BOOLEAN,
                    default=True,
                    effect=Effect.RESTART,
                    help="whether TCP's MSS is lowered to what fits the tunnel",
                ),
                "pmtu_floor": Key(
                    type=values.integer(68, 1500, "bytes"),
                    default=576,
                    effect=Effect.RESTART,
                    help="ICMP cannot push the path MTU below this (IPv4; IPv6 has 1280)",
                ),
            },
        ),
    },
)

_INTERFACE = Table(
    help="a tunnel interface (XFRM interface): what is routed there is protected, and never leaves in the clear, also "
    "while it is down or gone",
    keys={
        "address": Key(
            type=values.INTERFACE_ADDRESSES,
            default_words="none",
            effect=Effect.LIVE,
            help="its addresses; the rest of their networks is routed there, too",
        ),
        "routes": Key(
            type=values.NETWORKS,
            default_words="none",
            effect=Effect.LIVE,
            help="networks that are routed there, ahead of other routes to them",
        ),
        "mtu": Key(
            type=values.integer(576, 65535, "bytes"),
            default=1400,
            effect=Effect.LIVE,
            help="its MTU; at least 1280 with IPv6 (RFC 8200 §5)",
        ),
        "if_id": Key(
            type=values.integer(1, 2**32 - 1),
            default_words="made from the name",
            effect=Effect.REESTABLISH,
            help="the number that joins interface, policies and SAs in the kernel; no two interfaces share one",
        ),
        "device": Key(
            type=values.INTERFACE_NAME,
            default_words="none",
            effect=Effect.LIVE,
            help="the interface below, which the kernel notes and seldom needs; the tunnel interface is made anew",
        ),
    },
)

_IKE = Table(
    help="IKE on this machine",
    keys={
        "port": Key(type=values.integer(1, 65535), default=500, effect=Effect.RESTART, help="UDP port of IKE"),
        "port_nat": Key(
            type=values.integer(1, 65535),
            default=4500,
            effect=Effect.RESTART,
            help="UDP port of IKE and ESP through NAT (RFC 3948)",
        ),
        "cookie_threshold": Key(
            type=values.integer(0, 1_000_000, "half-open IKE SAs"),
            default=32,
            effect=Effect.LIVE,
            help="from so many on, initiators must return a cookie (RFC 7296 §2.6)",
        ),
        "half_open_limit": Key(
            type=values.integer(1, 1_000_000, "half-open IKE SAs"),
            default=1000,
            effect=Effect.LIVE,
            help="at so many no more are taken",
        ),
        "half_open_per_address": Key(
            type=values.integer(1, 1_000_000, "half-open IKE SAs"),
            default=32,
            effect=Effect.LIVE,
            help="from so many of one address (IPv6: of one /64) on, it must return a cookie; at so many that did, no "
            "more are taken from there. Peers behind one NAT share it",
        ),
        "half_open_timeout": Key(
            type=values.duration(1, 10 * MINUTE),
            default="30s",
            effect=Effect.LIVE,
            help="a half-open IKE SA lives this long",
        ),
        "max_ike_sas": Key(
            type=values.integer(1, 1_000_000, "IKE SAs"),
            default=20_000,
            effect=Effect.LIVE,
            help="at so many no more are taken",
        ),
        "window": Key(
            type=values.integer(1, 64, "requests"),
            default=1,
            effect=Effect.LIVE,
            help="requests that the peer may have under way at a time (RFC 7296 §2.3)",
        ),
    },
)

ROOT = Table(
    help="the file",
    keys={
        "schema": Key(
            type=values.integer(1, 2**31),
            required=True,
            effect=Effect.LIVE,
            help=f"version of the format; this is {SCHEMA_VERSION}",
        ),
        "connection": Named(table=_CONNECTION),
        "interface": Named(table=_INTERFACE),
        "policy": Rows(table=_POLICY),
        "datapath": _DATAPATH,
        "ike": _IKE,
        "log": Table(
            help="the log",
            keys={
                "level": Key(
                    type=values.choice(LogLevel),
                    default="info",
                    effect=Effect.LIVE,
                    help="the least important events that are logged",
                )
            },
        ),
        "control": Table(
            help="the control socket",
            keys={
                "path": Key(
                    type=values.PATH,
                    default="/run/esplanade/control.sock",
                    effect=Effect.RESTART,
                    help="where it is; esplanade run --control overrides it",
                ),
                "group": Key(
                    type=values.text("a group's name"),
                    default_words="root only",
                    effect=Effect.RESTART,
                    help="members of this group may use it too",
                ),
            },
        ),
    },
)
