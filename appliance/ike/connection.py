"""What the engine is told about each peer: the desired side of an IKE SA and of its Child SAs."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from appliance.ike.authentication import LocalCredential, RemotePolicy
from appliance.sa.association import USUAL_HANDLING, DfPolicy, DscpPolicy, Handling, Mode
from appliance.sa.identity import Identity
from appliance.sa.proposal import Proposal
from appliance.sa.selector import Address, TrafficSelector


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """An address and a UDP port."""

    address: Address
    port: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if self.address.version == 6 else f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class RekeyPolicy:
    """A lifetime in seconds. A rekey starts ``margin`` before its end, and up to ``jitter`` earlier at random, so that
    two peers with the same lifetime seldom start at once (RFC 7296 §2.8)."""

    seconds: float
    margin: float
    jitter: float


@dataclass(frozen=True, slots=True)
class Retransmission:
    """How a request is repeated (RFC 7296 §2.4): first after ``timeout`` seconds, then ``base`` times as long each time
    but at most ``maximum``, until ``give_up`` seconds after the first transmission."""

    timeout: float = 2.0
    base: float = 1.8
    maximum: float = 30.0
    give_up: float = 165.0


class Unique(Enum):
    """What happens when a peer that has an IKE SA of a connection makes another."""

    REPLACE = "replace"
    KEEP = "keep"
    NEVER = "never"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildConfig:
    """One Child SA that is wanted. ``bytes`` and ``packets`` are hard limits for the datapath."""

    name: str
    reqid: int
    local_ts: tuple[TrafficSelector, ...]
    remote_ts: tuple[TrafficSelector, ...]
    proposals: tuple[Proposal, ...]
    mode: Mode = Mode.TUNNEL
    lifetime: RekeyPolicy = RekeyPolicy(3600.0, 360.0, 180.0)
    bytes: int | None = None
    packets: int | None = None
    replay_window: int = 1024
    tfc_padding: int = 0
    dscp: DscpPolicy = DscpPolicy.COPY
    df: DfPolicy = DfPolicy.COPY
    handling: Handling = USUAL_HANDLING


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionConfig:
    """One peer. Empty address tuples mean any address.

    ``remote_id`` is a pattern. ``fragment_size`` is the largest IP datagram of a fragment in bytes (RFC 7383 §2.5.1).
    ``dpd_interval`` None turns liveness checks off; after ``dpd_timeout`` seconds without an answer to any request
    the peer is taken for dead.
    """

    name: str
    local_addresses: tuple[Address, ...]
    remote_addresses: tuple[Address, ...]
    local_id: Identity
    remote_id: Identity
    credential: LocalCredential = field(repr=False)
    remote_policy: RemotePolicy = field(repr=False)
    ike_proposals: tuple[Proposal, ...]
    children: tuple[ChildConfig, ...]
    lifetime: RekeyPolicy = RekeyPolicy(4 * 3600.0, 1440.0, 720.0)
    dpd_interval: float | None = 30.0
    dpd_timeout: float = 120.0
    retransmission: Retransmission = Retransmission()
    fragmentation: bool = True
    fragment_size: int = 1280
    force_encapsulation: bool = False
    keepalive_interval: float = 20.0
    unique: Unique = Unique.REPLACE
    window: int = 1

    def child(self, name: str) -> ChildConfig | None:
        """The child of that name."""
        return next((child for child in self.children if child.name == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """What holds for the whole engine.

    From ``cookie_threshold`` half-open IKE SAs on, initiators must return a cookie (RFC 7296 §2.6), and from
    ``half_open_per_address`` on those of that address; at so many that returned one, no more are taken from there, and
    at ``half_open_limit`` from nobody. A half-open one lives ``half_open_timeout`` seconds.
    """

    ike_port: int = 500
    nat_port: int = 4500
    cookie_threshold: int = 32
    half_open_limit: int = 1000
    half_open_per_address: int = 32
    half_open_timeout: float = 30.0
    max_ike_sas: int = 20_000
