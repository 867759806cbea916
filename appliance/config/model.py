"""What a configuration file says, checked and with every default filled in. Times in seconds, sizes in bytes.

``line`` is where the thing stands in the file, for messages; two configurations that differ in lines only are equal.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path

from appliance.config.problem import Problem
from appliance.config.secret import Secret
from appliance.sa.association import DfPolicy, DscpPolicy, Mode, Offload, PolicyAction
from appliance.sa.proposal import Proposal
from appliance.sa.selector import Address, Network, TrafficSelector

SCHEMA_VERSION = 1


class Auth(Enum):
    """How one side proves who it is."""

    PSK = "psk"
    PUBKEY = "pubkey"


class Start(Enum):
    """Who starts a connection or a child, and when."""

    INITIATE = "initiate"
    ON_DEMAND = "on-demand"
    RESPOND = "respond"


class Unique(Enum):
    """What happens when a peer that has an IKE SA of a connection makes another."""

    REPLACE = "replace"
    KEEP = "keep"
    NEVER = "never"


class Encapsulation(Enum):
    """When ESP goes in UDP (RFC 3948): where a NAT was detected, or always."""

    AUTO = "auto"
    ALWAYS = "always"


class CloseAction(Enum):
    """What is done when the peer deletes a child that nobody here terminated."""

    NONE = "none"
    RESTART = "restart"
    ON_DEMAND = "on-demand"


class DefaultPolicy(Enum):
    """What the kernel does with packets that no policy is for."""

    PASS = "pass"  # noqa: S105 - no password
    BLOCK = "block"


class LogLevel(Enum):
    """The least important events that are logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Local:
    """Our side. No ``addresses``: any of this machine. ``id`` None: from the certificate."""

    addresses: tuple[Address, ...]
    id: str | None
    auth: Auth
    cert: Path | None
    key: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """The peer. No ``addresses``: any peer, which then has to start. ``id`` is a pattern, "%any" for every identity.

    ``ca``: PEM files with the trust anchors; each may hold several.
    """

    addresses: tuple[Address, ...]
    id: str
    auth: Auth
    ca: tuple[Path, ...]
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Dpd:
    """Liveness checks (RFC 7296 §2.4), none with ``interval`` None. ``timeout`` without an answer means dead."""

    interval: float | None
    timeout: float


@dataclass(frozen=True, slots=True, kw_only=True)
class IkeLifetime:
    """A rekey starts ``margin`` before ``time`` is over, and up to ``jitter`` earlier at random."""

    time: float
    margin: float
    jitter: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildLifetime:
    """As an IKE SA's; ``bytes`` and ``packets`` are hard limits of each of the two SAs, None where there is none."""

    time: float
    margin: float
    jitter: float
    bytes: int | None
    packets: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Retransmit:
    """A request is repeated after ``timeout``, then ``base`` times as long but at most ``limit``, ``tries`` times."""

    timeout: float
    base: float
    limit: float
    tries: int

    @property
    def give_up(self) -> float:
        """Seconds from the first transmission until the peer is taken for silent."""
        return sum(min(self.timeout * self.base**n, self.limit) for n in range(self.tries + 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """One pair of ESP SAs that is wanted. Lower ``priority`` is looked at first; in the file's order where equal."""

    name: str
    local_ts: tuple[TrafficSelector, ...]
    remote_ts: tuple[TrafficSelector, ...]
    esp_proposals: tuple[Proposal, ...]
    mode: Mode
    lifetime: ChildLifetime
    start: Start
    close_action: CloseAction
    priority: int
    replay_window: int
    tfc: int | None
    """Bytes that inner packets are padded to; None: no padding."""
    dscp: DscpPolicy
    df: DfPolicy
    interface: str | None
    """The tunnel interface whose packets it protects; None: those that the selectors choose."""
    datapath: str | None
    """The one datapath that may carry it; None: the first that can."""
    offload: Offload
    offload_device: str | None
    """None: the one that leads to the peer."""
    line: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """One peer."""

    name: str
    local: Local
    remote: Remote
    psk: Secret | None
    """One of ``psk`` and ``psk_file`` is there if a side authenticates by PSK."""
    psk_file: Path | None
    ike_proposals: tuple[Proposal, ...]
    start: Start
    dpd: Dpd
    lifetime: IkeLifetime
    retransmit: Retransmit
    fragment_size: int | None
    """Largest IP datagram of an IKE fragment (RFC 7383 §2.5.1); None: no fragmentation."""
    encapsulation: Encapsulation
    keepalive: float
    unique: Unique
    children: tuple[Child, ...]
    line: int = field(default=0, compare=False)

    def child(self, name: str) -> Child | None:
        """The child of that name."""
        return next((child for child in self.children if child.name == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Traffic that passes in the clear (BYPASS) or never (DISCARD). Lower ``priority`` is looked at first."""

    name: str
    action: PolicyAction
    local_ts: tuple[TrafficSelector, ...]
    remote_ts: tuple[TrafficSelector, ...]
    priority: int
    line: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """A tunnel interface that is wanted. ``device`` is the one below it, if the kernel is to know of one."""

    name: str
    addresses: tuple[IPv4Interface | IPv6Interface, ...]
    routes: tuple[Network, ...]
    mtu: int
    if_id: int
    device: str | None
    line: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftDatapath:
    """The userspace datapath. ``mtu`` None: it chooses. ``pmtu_floor`` is for IPv4; IPv6's is 1280 (RFC 8200 §5)."""

    tun: str
    mtu: int | None
    mark: int
    table: int
    mss_clamp: bool
    pmtu_floor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelDatapath:
    """The kernel's datapath. SAs of a daemon that was killed carry traffic for ``survivors`` seconds at most."""

    default_policy: DefaultPolicy
    survivors: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DatapathSettings:
    """Which datapaths are asked for each SA, in which order, and their own settings.

    ``return_after``: seconds that a better datapath has to be up before children go back to it; None: they stay.
    """

    order: tuple[str, ...]
    return_after: float | None
    soft: SoftDatapath
    kernel: KernelDatapath


@dataclass(frozen=True, slots=True, kw_only=True)
class IkeSettings:
    """What holds for all of IKE on this machine."""

    port: int
    port_nat: int
    cookie_threshold: int
    half_open_limit: int
    half_open_per_address: int
    half_open_timeout: float
    max_ike_sas: int
    window: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """The log."""

    level: LogLevel


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlSettings:
    """The control socket. ``group`` None: root only."""

    path: Path
    group: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One configuration file, without mistakes."""

    path: Path = field(compare=False)
    connections: tuple[Connection, ...]
    interfaces: tuple[Interface, ...]
    policies: tuple[Policy, ...]
    datapath: DatapathSettings
    ike: IkeSettings
    log: LogSettings
    control: ControlSettings
    warnings: tuple[Problem, ...] = field(default=(), compare=False)

    def connection(self, name: str) -> Connection | None:
        """The connection of that name."""
        return next((connection for connection in self.connections if connection.name == name), None)

    def interface(self, name: str) -> Interface | None:
        """The tunnel interface of that name."""
        return next((interface for interface in self.interfaces if interface.name == name), None)
