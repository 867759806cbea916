"""The contract that every datapath keeps. One suite of tests (tests/datapath/contract.py) holds all of them to it.

Asynchronous and batched; all values but the keys serialise, because a datapath may live in another process.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from appliance.reasons import Reason, Refusal
from appliance.sa.algorithms import Suite
from appliance.sa.association import Mode, SaKey, SecurityAssociation, SecurityPolicy, UdpEncapsulation
from appliance.sa.keys import KeyMaterial
from appliance.sa.selector import Address


class DatapathRefusal(Refusal):
    """A datapath did not do what was asked.

    ``in_doubt`` is True where it is unknown whether the SA was installed (timeout, lost answer): its keys are burnt
    and no other datapath may try. False means proven "not installed".
    """

    def __init__(self, reason: Reason, detail: str = "", *, in_doubt: bool = False) -> None:
        super().__init__(reason, detail)
        self.in_doubt = in_doubt


@dataclass(frozen=True, slots=True)
class Missing:
    """Something a datapath cannot do, and why. ``remedy``: what to do, where that is not the reason's."""

    what: str
    reason: Reason
    detail: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class WhyNot:
    """A datapath, or one of its ways of carrying an SA ("kernel, packet offload"), that did not take it, and why."""

    datapath: str
    reason: Reason
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.datapath}: {self.reason.words}" + (f": {self.detail}" if self.detail else "")


@dataclass(frozen=True, slots=True)
class Carried:
    """How a datapath carries an SA, read back from it.

    ``how`` is "" where there is but one way, else such as "crypto offload on eth0". ``why_not`` has the ways that it
    tried before.
    """

    how: str = ""
    why_not: tuple[WhyNot, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a datapath can do. ``missing`` says why not for all that it cannot."""

    name: str
    usable: bool
    suites: tuple[Suite, ...] = ()
    modes: tuple[Mode, ...] = ()
    native: bool = False
    udp_encapsulation: bool = False
    interfaces: bool = False
    offload: bool = False
    replay_windows: tuple[int, int] = (0, 0)
    max_sas: int | None = None
    max_batch: int | None = None
    missing: tuple[Missing, ...] = ()


@dataclass(frozen=True, slots=True)
class InstallRequest:
    """One SA with its keys, which ``install`` consumes whatever happens.

    ``activate`` has an outbound SA carry traffic as soon as all of the batch are installed, as ``activate_outbound``
    would: for those whose peer is ready.
    """

    sa: SecurityAssociation
    keys: KeyMaterial = field(repr=False)
    activate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Counters of one SA. Times are seconds of the datapath's monotonic clock; 0 is "never"."""

    bytes: int = 0
    packets: int = 0
    sequence: int = 0
    replays: int = 0
    integrity_failures: int = 0
    last_used: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledSa:
    """What is really there: an SA as the datapath has it, and its usage. ``active`` is of outbound SAs."""

    sa: SecurityAssociation
    usage: Usage
    active: bool = True
    how: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dump:
    """Everything that is installed."""

    sas: tuple[InstalledSa, ...]
    policies: tuple[SecurityPolicy, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundState:
    """A stopped, drained inbound SA, for moving it: the window's right edge (64 bits) and bitmap, lowest bit newest."""

    sa: SecurityAssociation
    highest: int
    bitmap: int


class ExpiryKind(Enum):
    """Which limit of a lifetime was reached."""

    TIME = "time"
    BYTES = "bytes"
    PACKETS = "packets"
    SEQUENCE = "sequence"


@dataclass(frozen=True, slots=True)
class Acquire:
    """A packet matched a PROTECT policy and there is no SA for it (RFC 4301 §4.4.1, RFC 7296 §2.9)."""

    reqid: int
    policy: str
    source: Address
    destination: Address
    protocol: int
    source_port: int | None
    destination_port: int | None


@dataclass(frozen=True, slots=True)
class Expired:
    """A lifetime's limit was reached; after a hard one the SA passes nothing. SEQUENCE is headroom running out."""

    key: SaKey
    kind: ExpiryKind
    hard: bool


@dataclass(frozen=True, slots=True)
class InboundUsed:
    """The first authenticated packet on an inbound SA: the peer sends on it, so it can surely receive on its pair."""

    key: SaKey


@dataclass(frozen=True, slots=True)
class MappingChanged:
    """An authenticated packet came from another outer address or port than the SA's (RFC 7296 §2.23)."""

    key: SaKey
    source: Address
    port: int


@dataclass(frozen=True, slots=True)
class UnknownSpi:
    """ESP packets for no SA of ours (rate limited): the peer has one that we lost."""

    spi: int
    source: Address
    destination: Address


@dataclass(frozen=True, slots=True)
class Vanished:
    """An SA is gone, by nobody's order: its network device went, or another program removed it. Its pair is useless."""

    key: SaKey
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """The datapath itself failed; all its SAs are gone or in doubt."""

    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Changed:
    """Something was not as this datapath had left it, or is worth a line in the log, and was put right. ``words`` say
    what."""

    reason: Reason
    words: str


DatapathEvent = Acquire | Expired | InboundUsed | MappingChanged | UnknownSpi | Vanished | Changed | Failed


class Datapath(Protocol):
    """What the daemon asks of a datapath. Every batch is done whole or not at all; a refusal raises DatapathRefusal."""

    @property
    def name(self) -> str:
        """The name in ``datapath.order``."""

    async def probe(self) -> Capabilities:
        """Tell what can be done here and now. Never raises."""

    async def install(self, requests: Sequence[InstallRequest]) -> tuple[Carried, ...]:
        """Install SAs, inbound before outbound, and tell how each is carried.

        Outbound ones carry nothing until activated, here or later. Keys are consumed whatever happens, and wiped by the
        datapath when the SA goes.
        """

    async def activate_outbound(self, key: SaKey) -> None:
        """From now on packets of the SA's reqid leave by this SA; earlier ones with the same selectors are idle."""

    async def deactivate_outbound(self, key: SaKey) -> None:
        """From now on nothing leaves by the SA: another datapath has its traffic. No error if it is not there."""

    async def remove(self, keys: Sequence[SaKey]) -> tuple[SaKey, ...]:
        """Remove SAs and wipe their keys. Returns those that were there."""

    async def install_policies(self, policies: Sequence[SecurityPolicy]) -> None:
        """Add policies; one with the name of an installed one replaces it."""

    async def remove_policies(self, names: Sequence[str]) -> tuple[str, ...]:
        """Remove policies by name. Returns those that were there."""

    async def note_elsewhere(self, policies: Sequence[SecurityPolicy]) -> None:
        """These PROTECT policies are in other datapaths, in place of those told before.

        Where one comes before an overlapping policy of this datapath, its packets are left to the other.
        """

    async def update_endpoints(
        self, key: SaKey, source: Address, destination: Address, encapsulation: UdpEncapsulation | None
    ) -> SaKey:
        """Change an SA's outer addresses and ports (NAT, MOBIKE); all else stays. Returns the SA's key from now on.

        A datapath that cannot without risking an IV refuses with MOVE_UNSUPPORTED; the SA is then replaced by a rekey.
        """

    async def export_inbound(self, key: SaKey) -> InboundState:
        """Fence an inbound SA: stop it, drain what is queued, read its window, remove it."""

    async def usage(self, keys: Sequence[SaKey]) -> dict[SaKey, Usage]:
        """Counters of SAs; those that are not installed are absent."""

    async def dump(self) -> Dump:
        """All that is really installed."""

    async def counters(self) -> dict[str, int]:
        """Counters of the datapath by name; drops are named by their reason."""

    def events(self) -> AsyncIterator[DatapathEvent]:
        """Events in order, until the datapath is closed. One consumer."""

    async def close(self) -> None:
        """Remove everything, wipe all keys, end. Idempotent."""
