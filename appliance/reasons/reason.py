"""Generated from reasons.toml by ``python -m appliance.reasons.generate``. Do not edit."""

from __future__ import annotations

from enum import Enum


class Reason(Enum):
    """Why a packet was dropped, a request refused, or something failed. The value is the code."""

    NO_POLICY = 1
    POLICY_DISCARD = 2
    NO_SA = 3
    UNKNOWN_SPI = 4
    REPLAYED = 5
    INTEGRITY = 6
    MALFORMED_ESP = 7
    SELECTOR_MISMATCH = 8
    MALFORMED_IP = 9
    TOO_BIG = 10
    SEQUENCE_EXHAUSTED = 11
    LIFETIME_EXPIRED = 12
    TTL_EXPIRED = 13
    OWN_TRAFFIC = 14
    DUMMY = 15
    QUEUE_FULL = 16
    FRAGMENT = 17
    NO_MEMORY = 18
    SEND_FAILED = 19
    ALGORITHM_UNSUPPORTED = 128
    MODE_UNSUPPORTED = 129
    ALREADY_INSTALLED = 130
    NOT_INSTALLED = 131
    BAD_KEY = 132
    TABLE_FULL = 133
    DATAPATH_GONE = 134
    DATAPATH_TIMEOUT = 135
    NO_TUN = 136
    NO_PRIVILEGE = 137
    PORT_IN_USE = 138
    NO_NFTABLES = 139
    BAD_ADDRESS = 140
    INTERNAL = 141

    @property
    def kind(self) -> str:
        """One of drop, refusal, failure."""
        return _TEXT[self.value][0]

    @property
    def words(self) -> str:
        """What happened, for a person."""
        return _TEXT[self.value][1]

    @property
    def remedy(self) -> str:
        """What that person can do."""
        return _TEXT[self.value][2]


_TEXT: dict[int, tuple[str, str, str]] = {
    1: (
        "drop",
        "no policy matches the packet",
        "add a child or a bypass policy whose selectors cover it, or leave it dropped",
    ),
    2: (
        "drop",
        "a discard policy matches the packet",
        "none is needed if that was meant; else change the policy's order or selectors",
    ),
    3: (
        "drop",
        "a policy protects the packet and no SA is up for it",
        "see why the child is down: esplanade show connections",
    ),
    4: (
        "drop",
        "an ESP packet names an SPI that is not installed",
        "the peer has an SA that this side lost; it goes when the peer notices, or rekey from there",
    ),
    5: (
        "drop",
        "the sequence number was seen before or is left of the replay window",
        "a wider replay_window if the network reorders much; else somebody replays packets",
    ),
    6: (
        "drop",
        "the ICV does not verify",
        "forged or damaged packets, or keys that differ; rekey the child",
    ),
    7: (
        "drop",
        "the ESP packet is too short or its padding or next header is wrong",
        "look at the peer's implementation",
    ),
    8: (
        "drop",
        "the decrypted packet is outside the SA's traffic selectors",
        "make both sides' selectors the same",
    ),
    9: (
        "drop",
        "the IP packet's header is damaged",
        "look at the sender",
    ),
    10: (
        "drop",
        "the packet does not fit the path MTU and may not be fragmented; its sender was told",
        "let ICMP through to the sender, or clamp its MSS",
    ),
    11: (
        "drop",
        "the SA's sequence numbers are used up",
        "rekey the child; use ESN",
    ),
    12: (
        "drop",
        "the SA's hard lifetime is over",
        "see why the rekey did not succeed: esplanade show log",
    ),
    13: (
        "drop",
        "the packet's TTL or hop limit ran out; its sender was told",
        "look for a routing loop",
    ),
    14: (
        "drop",
        "one of our own IKE or ESP packets came back for encryption",
        "look for a route that leads the peer's address into the tunnel",
    ),
    15: (
        "drop",
        "a dummy packet for traffic-flow confidentiality (next header 59)",
        "none is needed",
    ),
    16: (
        "drop",
        "more packets came than could be sent",
        "the machine is at its limit; a faster datapath takes more",
    ),
    17: (
        "drop",
        "a fragment cannot be matched with its ports",
        "let the first fragment come first, or use selectors without ports",
    ),
    18: (
        "drop",
        "a bounded table is full",
        "see which: esplanade show counters",
    ),
    19: (
        "drop",
        "the kernel did not take the packet",
        "see the log for its error; look at routes and interfaces",
    ),
    128: (
        "refusal",
        "the datapath has no such algorithm",
        "choose other esp_proposals, or put a datapath that has it into datapath.order",
    ),
    129: (
        "refusal",
        "the datapath cannot do this mode or encapsulation",
        "see what it can: esplanade show datapath",
    ),
    130: (
        "refusal",
        "an SA with this SPI and destination is installed",
        "this is a fault of the control plane; report it with: esplanade show log",
    ),
    131: (
        "refusal",
        "there is no such SA or policy",
        "see what there is: esplanade show sa",
    ),
    132: (
        "refusal",
        "the key material does not fit the algorithm",
        "this is a fault of the control plane; report it with: esplanade show log",
    ),
    133: (
        "refusal",
        "the datapath has no room for another SA",
        "put a datapath with room behind it into datapath.order",
    ),
    134: (
        "failure",
        "the datapath's process or device is gone",
        "it is started again and its children are negotiated anew; see esplanade show log",
    ),
    135: (
        "failure",
        "the datapath did not answer in time",
        "see esplanade show log",
    ),
    136: (
        "refusal",
        "no TUN device can be made",
        "load the module (modprobe tun), see that /dev/net/tun is there, and run as root",
    ),
    137: (
        "refusal",
        "a privilege is missing",
        "run as root, or with CAP_NET_ADMIN and CAP_NET_RAW",
    ),
    138: (
        "refusal",
        "another program has the UDP port",
        "stop the other IKE daemon (ss -ulpn shows which)",
    ),
    139: (
        "refusal",
        "nftables cannot be used",
        "install the package nftables and load nf_tables",
    ),
    140: (
        "refusal",
        "the local address is not on this machine",
        "add the address to an interface, or change local.address",
    ),
    141: (
        "failure",
        "an error of the program itself",
        "report it with: esplanade show log",
    ),
}
