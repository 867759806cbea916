"""The one abstraction: a security association of one direction, and the policy that leads to it (RFC 4301 §4.4)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from appliance.sa.algorithms import Suite
from appliance.sa.selector import Address, TrafficSelector


class Direction(Enum):
    """Which way an SA protects."""

    IN = "in"
    OUT = "out"


class Mode(Enum):
    """RFC 4301 §4.1."""

    TUNNEL = "tunnel"
    TRANSPORT = "transport"


class SecurityProtocol(Enum):
    """What protects the packets; the value is the IP protocol number."""

    ESP = 50
    AH = 51


class DscpPolicy(Enum):
    """What an outbound tunnel does with the DSCP (RFC 4301 §5.1.2, RFC 2983)."""

    COPY = "copy"
    CLEAR = "clear"


class DfPolicy(Enum):
    """What an outbound IPv4 tunnel header's DF bit is (RFC 4301 §8.1)."""

    COPY = "copy"
    SET = "set"
    CLEAR = "clear"


class Offload(Enum):
    """How much of ESP a network device is to do. AUTO: as much as one takes. PACKET includes headers and policies."""

    AUTO = "auto"
    PACKET = "packet"
    CRYPTO = "crypto"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Handling:
    """How this machine carries a child's SAs; the peer knows nothing of it.

    ``datapath`` pins them to one of ``datapath.order``. ``offload_device`` None: the one that leads to the peer.
    ``interface`` is a tunnel interface that routes lead to, with its ``if_id``; without one, policies choose packets.
    """

    datapath: str | None = None
    offload: Offload = Offload.AUTO
    offload_device: str | None = None
    interface: str | None = None
    if_id: int = 0


USUAL_HANDLING = Handling()


@dataclass(frozen=True, slots=True)
class UdpEncapsulation:
    """UDP ports of RFC 3948 encapsulation, as this packet direction has them."""

    source_port: int
    destination_port: int


@dataclass(frozen=True, slots=True)
class Limits:
    """A lifetime's bounds. None: no bound. ``seconds`` since the SA was installed."""

    seconds: float | None = None
    bytes: int | None = None
    packets: int | None = None


@dataclass(frozen=True, slots=True)
class Lifetime:
    """Soft limits ask for a rekey; at a hard limit the SA stops (RFC 4301 §4.4.2.1)."""

    soft: Limits = Limits()
    hard: Limits = Limits()


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityAssociation:
    """One unidirectional SA without its keys. Everything here may be shown to anybody.

    ``source`` and ``destination`` are the outer addresses as packets of this direction carry them. ``local_ts`` and
    ``remote_ts`` are ours and the peer's, whichever the direction. ``reqid`` names the policy that leads here; the
    SAs of a child and of its rekeyed successors share it. ``child`` is "connection/child" from the configuration.
    """

    direction: Direction
    spi: int
    source: Address
    destination: Address
    suite: Suite
    mode: Mode
    local_ts: tuple[TrafficSelector, ...]
    remote_ts: tuple[TrafficSelector, ...]
    reqid: int
    child: str
    protocol: SecurityProtocol = SecurityProtocol.ESP
    encapsulation: UdpEncapsulation | None = None
    replay_window: int = 1024
    lifetime: Lifetime = Lifetime()
    tfc_padding: int = 0
    dscp: DscpPolicy = DscpPolicy.COPY
    df: DfPolicy = DfPolicy.COPY
    copy_ecn: bool = True
    handling: Handling = USUAL_HANDLING

    @property
    def key(self) -> SaKey:
        """What identifies the SA on this machine."""
        return SaKey(self.direction, self.spi, self.destination, self.protocol)


@dataclass(frozen=True, slots=True)
class SaKey:
    """Direction, SPI, destination and protocol: unique on one machine (RFC 4301 §4.1)."""

    direction: Direction
    spi: int
    destination: Address
    protocol: SecurityProtocol = SecurityProtocol.ESP

    def __str__(self) -> str:
        return f"{self.protocol.name.lower()} {self.direction.value} {self.spi:#010x} to {self.destination}"


class PolicyAction(Enum):
    """RFC 4301 §4.4.1."""

    PROTECT = "protect"
    BYPASS = "bypass"
    DISCARD = "discard"


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityPolicy:
    """One ordered entry of the SPD, for both directions.

    Lower ``priority`` is looked at first. A packet matches if one of ``local_ts`` and one of ``remote_ts`` of the same
    family match its local and its remote end. PROTECT policies name the SAs by ``reqid``; with ``acquire``, a packet
    that finds no SA raises an acquire event, else it is dropped. With an interface in ``handling`` only packets that
    come to or from that interface are looked at.
    """

    name: str
    action: PolicyAction
    priority: int
    local_ts: tuple[TrafficSelector, ...]
    remote_ts: tuple[TrafficSelector, ...]
    reqid: int = 0
    acquire: bool = False
    mode: Mode = Mode.TUNNEL
    handling: Handling = USUAL_HANDLING
