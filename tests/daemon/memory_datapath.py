"""A datapath in memory that keeps the whole contract, and a wire between two of them.

It does not encrypt. It does everything else: an SA accepts what was sent under the same SPI and the same keys only,
outbound SAs carry nothing before they are active, policies decide, and everything is counted.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace

from appliance.reasons import Reason
from appliance.sa.algorithms import Encryption, Integrity, Suite
from appliance.sa.association import Direction, Mode, SaKey, SecurityAssociation, SecurityPolicy, UdpEncapsulation
from appliance.sa.datapath import (
    Acquire,
    Capabilities,
    Carried,
    DatapathEvent,
    DatapathRefusal,
    Dump,
    Failed,
    InboundState,
    InboundUsed,
    InstalledSa,
    InstallRequest,
    Usage,
    Vanished,
)
from appliance.sa.selector import Address

SUITES = tuple(
    Suite(encryption, bits, integrity, esn)
    for esn in (False, True)
    for encryption, bits, integrity in (
        (Encryption.AES_GCM_16, 128, Integrity.NONE),
        (Encryption.AES_GCM_16, 256, Integrity.NONE),
        (Encryption.CHACHA20_POLY1305, 256, Integrity.NONE),
        *(
            (Encryption.AES_CBC, bits, integrity)
            for bits in (128, 256)
            for integrity in Integrity
            if integrity is not Integrity.NONE
        ),
        (Encryption.NULL, 0, Integrity.HMAC_SHA2_256_128),
    )
)


@dataclass(slots=True)
class Sa:
    installed: InstalledSa
    key_digest: bytes
    used: bool = False


@dataclass(slots=True)
class Fault:
    """What the next install does: refuse, or (``stall``) never answer. ``done``: it refuses what it has done."""

    reason: Reason = Reason.TABLE_FULL
    in_doubt: bool = False
    stall: bool = False
    done: bool = False


class MemoryDatapath:
    """A datapath without packets of its own.

    ``left_to_others``: of policies removed, whether it knew by then that another has them. ``seen_keys`` is one set for
    all datapaths of a gateway: no outbound key may come twice in any of them. ``wire`` carries a packet to the peer, to
    whatever datapath it is for there; without it, it goes to ``peer``.
    """

    def __init__(
        self,
        name: str = "memory",
        *,
        suites: tuple[Suite, ...] = SUITES,
        interfaces: bool = False,
        seen_keys: set[bytes] | None = None,
        wire: Callable[[Sa, int], bool] | None = None,
        journal: list[str] | None = None,
    ) -> None:
        self._name = name
        self.interfaces = interfaces
        self.wire = wire
        self.journal = [] if journal is None else journal
        self.carried = Carried()
        self.policies_stall = False
        self.removal_refusal: Reason | None = None
        self.suites = suites
        self.sas: dict[SaKey, Sa] = {}
        self.policies: dict[str, SecurityPolicy] = {}
        self.faults: list[Fault] = []
        self.seen_keys = set() if seen_keys is None else seen_keys
        self.installs = 0
        self.removed: list[SaKey] = []
        self.closed = False
        self.dead = False
        self.policy_refusal: Reason | None = None
        self.refuses: set[str] = set()
        self.policy_batches = 0
        self.elsewhere: tuple[SecurityPolicy, ...] = ()
        self.left_to_others: dict[str, bool] = {}
        self.activation_refusal: Reason | None = None
        self.move_refusal: Reason | None = None
        self._events: asyncio.Queue[DatapathEvent | None] = asyncio.Queue()
        self.peer: MemoryDatapath | None = None

    @property
    def name(self) -> str:
        return self._name

    def _alive(self) -> None:
        if self.dead or self.closed:
            raise DatapathRefusal(Reason.DATAPATH_GONE, "its process ended")

    async def probe(self) -> Capabilities:
        return Capabilities(
            name=self._name,
            usable=not self.dead,
            suites=self.suites,
            modes=(Mode.TUNNEL, Mode.TRANSPORT),
            native=True,
            udp_encapsulation=True,
            interfaces=self.interfaces,
            replay_windows=(64, 4096),
        )

    async def install(self, requests: Sequence[InstallRequest]) -> tuple[Carried, ...]:
        digests = []
        for request in requests:
            encryption, integrity = request.keys.take()
            digests.append(hashlib.sha256(bytes(encryption) + b"|" + bytes(integrity)).digest())
        await asyncio.sleep(0.001)
        self._alive()
        if self.faults:
            fault = self.faults.pop(0)
            if fault.stall:
                self._put(requests, digests)
                await asyncio.Event().wait()
            if fault.done:
                self._put(requests, digests)
            else:
                self._burn(requests, digests, in_doubt=fault.in_doubt)
            raise DatapathRefusal(fault.reason, "as the test wants", in_doubt=fault.in_doubt)
        for request in requests:
            if request.sa.key in self.sas:
                raise DatapathRefusal(Reason.ALREADY_INSTALLED, str(request.sa.key))
        self._put(requests, digests)
        self.journal.append(f"{self._name}: install")
        return (self.carried,) * len(requests)

    def _burn(self, requests: Sequence[InstallRequest], digests: Sequence[bytes], *, in_doubt: bool) -> None:
        """What may have been installed counts as seen."""
        for request, digest in zip(requests, digests, strict=True):
            if in_doubt and request.sa.direction is Direction.OUT:
                self.seen_keys.add(digest)

    def _put(self, requests: Sequence[InstallRequest], digests: Sequence[bytes]) -> None:
        for request, digest in zip(requests, digests, strict=True):
            if request.sa.direction is Direction.OUT:
                assert digest not in self.seen_keys, "an outbound key was installed twice"
                self.seen_keys.add(digest)
            active = request.activate or request.sa.direction is Direction.IN
            self.sas[request.sa.key] = Sa(InstalledSa(sa=request.sa, usage=Usage(), active=active), digest)
            if request.activate:
                self._idle_others(request.sa)
        self.installs += 1

    def _idle_others(self, sa: SecurityAssociation) -> None:
        for other in self.sas.values():
            installed = other.installed.sa
            if installed.direction is Direction.OUT and installed.reqid == sa.reqid and installed.key != sa.key:
                other.installed = replace(other.installed, active=False)

    async def activate_outbound(self, key: SaKey) -> None:
        await asyncio.sleep(0)
        self._alive()
        if self.activation_refusal is not None:
            raise DatapathRefusal(self.activation_refusal, "as the test wants")
        if key not in self.sas:
            raise DatapathRefusal(Reason.NOT_INSTALLED, str(key))
        mine = self.sas[key]
        self.journal.append(f"{self._name}: activate")
        mine.installed = replace(mine.installed, active=True)
        self._idle_others(mine.installed.sa)

    async def deactivate_outbound(self, key: SaKey) -> None:
        await asyncio.sleep(0)
        self._alive()
        self.journal.append(f"{self._name}: deactivate")
        if key in self.sas:
            self.sas[key].installed = replace(self.sas[key].installed, active=False)

    async def remove(self, keys: Sequence[SaKey]) -> tuple[SaKey, ...]:
        await asyncio.sleep(0)
        self._alive()
        there = tuple(key for key in keys if self.sas.pop(key, None) is not None)
        self.removed += there
        return there

    async def install_policies(self, policies: Sequence[SecurityPolicy]) -> None:
        self._alive()
        self.policy_batches += 1
        await asyncio.sleep(0.001)
        self._alive()
        if self.policy_refusal is not None and policies:
            raise DatapathRefusal(self.policy_refusal, "as the test wants")
        refused = next((p.name for p in policies if p.name in self.refuses), None)
        if refused is not None:
            raise DatapathRefusal(Reason.SELECTORS_UNSUPPORTED, refused)
        if policies:
            self.journal.append(f"{self._name}: add {' '.join(policy.name for policy in policies)}")
        if self.policies_stall:
            self.policies |= {policy.name: policy for policy in policies}
            await asyncio.Event().wait()
        self.policies |= {policy.name: policy for policy in policies}

    async def remove_policies(self, names: Sequence[str]) -> tuple[str, ...]:
        self._alive()
        if self.removal_refusal is not None:
            raise DatapathRefusal(self.removal_refusal, "as the test wants")
        self.journal.append(f"{self._name}: take {' '.join(names)}")
        self.left_to_others.update({name: any(p.name == name for p in self.elsewhere) for name in names})
        return tuple(name for name in names if self.policies.pop(name, None) is not None)

    async def note_elsewhere(self, policies: Sequence[SecurityPolicy]) -> None:
        self._alive()
        self.elsewhere = tuple(policies)

    async def update_endpoints(
        self, key: SaKey, source: Address, destination: Address, encapsulation: UdpEncapsulation | None
    ) -> SaKey:
        self._alive()
        if key not in self.sas:
            raise DatapathRefusal(Reason.NOT_INSTALLED, str(key))
        if self.move_refusal is not None and key.direction is Direction.OUT:
            raise DatapathRefusal(self.move_refusal, "as the test wants")
        sa = self.sas.pop(key)
        moved = replace(sa.installed.sa, source=source, destination=destination, encapsulation=encapsulation)
        sa.installed = replace(sa.installed, sa=moved)
        self.sas[moved.key] = sa
        return moved.key

    async def export_inbound(self, key: SaKey) -> InboundState:
        self._alive()
        sa = self.sas.pop(key)
        return InboundState(sa=sa.installed.sa, highest=sa.installed.usage.sequence, bitmap=1)

    async def usage(self, keys: Sequence[SaKey]) -> dict[SaKey, Usage]:
        self._alive()
        return {key: self.sas[key].installed.usage for key in keys if key in self.sas}

    async def dump(self) -> Dump:
        self._alive()
        return Dump(sas=tuple(sa.installed for sa in self.sas.values()), policies=tuple(self.policies.values()))

    async def counters(self) -> dict[str, int]:
        self._alive()
        return {"NO_SA": 0, "installs": self.installs}

    async def events(self) -> AsyncIterator[DatapathEvent]:
        while (event := await self._events.get()) is not None:
            yield event

    async def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.sas.clear()
            self.policies.clear()
            self._events.put_nowait(None)

    # What a test does to it

    def report(self, event: DatapathEvent) -> None:
        self._events.put_nowait(event)

    def die(self) -> None:
        """As if its process were killed."""
        self.dead = True
        self.sas.clear()
        self.policies.clear()
        self._events.put_nowait(Failed(Reason.DATAPATH_GONE, "its process ended"))
        self._events.put_nowait(None)

    def vanish(self, *directions: Direction) -> None:
        """As if another program removed SAs."""
        for key in [key for key in self.sas if key.direction in directions]:
            del self.sas[key]
            self.report(Vanished(key, "as the test wants"))

    def outbound(self, reqid: int = 1) -> list[InstalledSa]:
        return [
            sa.installed
            for sa in self.sas.values()
            if sa.installed.sa.direction is Direction.OUT and sa.installed.sa.reqid == reqid
        ]

    def active(self, reqid: int = 1) -> Sa | None:
        return next(
            (
                sa
                for sa in self.sas.values()
                if sa.installed.sa.direction is Direction.OUT and sa.installed.sa.reqid == reqid and sa.installed.active
            ),
            None,
        )

    def transmit(self, reqid: int = 1, size: int = 100) -> bool:
        """Send one packet to the peer: whether it came through. Without an SA, a policy may ask for one."""
        sa = self.active(reqid)
        if sa is None:
            policy = next((p for p in self.policies.values() if p.reqid == reqid), None)
            if policy is not None and policy.acquire:
                source, destination = policy.local_ts[0].start, policy.remote_ts[0].start
                self.report(Acquire(reqid, policy.name, source, destination, 17, 1000, 2000))
            return False
        _spend(sa, size)
        if self.wire is not None:
            return self.wire(sa, size)
        assert self.peer is not None
        return self.peer.receive(sa, size)

    def receive(self, sent: Sa, size: int) -> bool:
        # By SPI alone: a NAT may have changed the destination on the way.
        spi = sent.installed.sa.spi
        key = next((key for key in self.sas if key.direction is Direction.IN and key.spi == spi), None)
        mine = self.sas.get(key) if key is not None else None
        if key is None or mine is None or mine.key_digest != sent.key_digest:
            return False
        _spend(mine, size)
        if not mine.used:
            mine.used = True
            self.report(InboundUsed(key))
        return True


def _spend(sa: Sa, size: int) -> None:
    usage = sa.installed.usage
    sa.installed = replace(
        sa.installed,
        usage=replace(
            usage, packets=usage.packets + 1, bytes=usage.bytes + size, sequence=usage.sequence + 1, last_used=1.0
        ),
    )
