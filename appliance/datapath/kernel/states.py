"""SAs as states of the kernel, and what it says of them in the words of the contract."""

from __future__ import annotations

import math
import struct
import time
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from appliance.datapath.kernel.algorithms import algorithms
from appliance.datapath.kernel.xfrm import (
    Encap,
    EncapType,
    ExtraFlag,
    Offload,
    OffloadFlag,
    OutputMark,
    Protocol,
    ReplayEsn,
    SaDirection,
    State,
    StateFlag,
    StateId,
    Template,
)
from appliance.datapath.kernel.xfrm import Lifetime as KernelLifetime
from appliance.datapath.kernel.xfrm import Mode as KernelMode
from appliance.reasons import Reason
from appliance.sa.association import (
    DfPolicy,
    Direction,
    DscpPolicy,
    Lifetime,
    Mode,
    SaKey,
    SecurityAssociation,
    SecurityProtocol,
)
from appliance.sa.datapath import DatapathRefusal, ExpiryKind, Usage
from appliance.sa.selector import Address

MODES = {Mode.TUNNEL: KernelMode.TUNNEL, Mode.TRANSPORT: KernelMode.TRANSPORT}
MAPPING_AGE = 1
"""Seconds between two of the kernel's events about one SA whose peer's NAT changed."""
SEQUENCE_HEADROOM = 0.9
_ANY: dict[int, Address] = {4: IPv4Address(0), 6: IPv6Address(0)}
_LAST_SEQUENCE = {False: 2**32 - 1, True: 2**64 - 1}


@dataclass(frozen=True, slots=True)
class Features:
    """What a kernel keeps of a state: attributes that older ones ignore. The defaults are those of Linux 6.10."""

    direction: bool = True
    mapping_age: bool = True


@dataclass(frozen=True, slots=True)
class Device:
    """A network device that takes part in ESP: ``packet`` does all of it, else the cryptography only."""

    name: str
    index: int
    packet: bool

    @property
    def how(self) -> str:
        """For ``Carried``."""
        return f"{'packet' if self.packet else 'crypto'} offload on {self.name}"

    def offload(self, direction: Direction) -> Offload:
        """The attribute of a state."""
        flags = OffloadFlag.PACKET if self.packet else OffloadFlag(0)
        return Offload(self.index, flags | (OffloadFlag.INBOUND if direction is Direction.IN else OffloadFlag(0)))


def policy_offload(device: int) -> Offload:
    """The attribute of a policy in a device, by its index: the kernel takes this flag alone."""
    return Offload(device, OffloadFlag.PACKET)


def objection(sa: SecurityAssociation) -> DatapathRefusal | None:
    """Why the kernel cannot do what an SA asks for; None if it can."""
    if sa.protocol is not SecurityProtocol.ESP:
        return DatapathRefusal(Reason.MODE_UNSUPPORTED, "AH")
    if sa.source.version != sa.destination.version:
        return DatapathRefusal(Reason.BAD_ADDRESS, f"{sa.source} and {sa.destination} are not of one family")
    if sa.mode is Mode.TRANSPORT and sa.tfc_padding:
        return DatapathRefusal(Reason.MODE_UNSUPPORTED, "TFC padding in transport mode (RFC 4303 §2.7)")
    if sa.mode is Mode.TUNNEL and sa.df is DfPolicy.SET and sa.direction is Direction.OUT:
        return DatapathRefusal(Reason.MODE_UNSUPPORTED, 'df = "set": the kernel copies DF or clears it')
    return None


def state_of(
    sa: SecurityAssociation,
    keys: tuple[bytearray, bytearray],
    *,
    reqid: int,
    mark: int,
    home_mark: int,
    features: Features,
    device: Device | None = None,
) -> State:
    """What NEWSA installs. Raises ValueError for keys of a wrong length."""
    aead, crypt, auth = algorithms(sa.suite, *keys)
    out = sa.direction is Direction.OUT
    flags = StateFlag(0)
    if sa.mode is Mode.TUNNEL:
        flags |= StateFlag.AF_UNSPEC
    if sa.suite.esn:
        flags |= StateFlag.ESN
    if not sa.copy_ecn:
        flags |= StateFlag.NOECN
    if out and sa.df is DfPolicy.CLEAR:
        flags |= StateFlag.NOPMTUDISC
    encapsulation = sa.encapsulation
    return State(
        source=sa.source,
        destination=sa.destination,
        spi=sa.spi,
        mode=MODES[sa.mode],
        reqid=reqid,
        aead=aead,
        crypt=crypt,
        auth=auth,
        flags=flags,
        extra_flags=ExtraFlag.DONT_ENCAP_DSCP if out and sa.dscp is DscpPolicy.CLEAR else ExtraFlag(0),
        replay_esn=_window(sa, features),
        lifetime=lifetime_of(sa),
        encap=None
        if encapsulation is None
        else Encap(EncapType.ESPINUDP, encapsulation.source_port, encapsulation.destination_port),
        offload=None if device is None else device.offload(sa.direction),
        if_id=sa.handling.if_id,
        tfc_padding=sa.tfc_padding if out else 0,
        # Out: our own packets, which no tunnel and no guard takes. In: what has to find a local network.
        output_mark=OutputMark(mark if out else home_mark, 0xFFFFFFFF),
        direction=(SaDirection.OUT if out else SaDirection.IN) if features.direction else None,
        mapping_max_age=MAPPING_AGE if features.mapping_age and not out and encapsulation is not None else 0,
    )


def id_of(key: SaKey) -> StateId:
    """What the kernel finds an SA by."""
    return StateId(key.destination, key.spi, Protocol(key.protocol.value))


def local_of(sa: SecurityAssociation) -> Address:
    """Our end of an SA."""
    return sa.source if sa.direction is Direction.OUT else sa.destination


def template(sa: SecurityAssociation, reqid: int) -> Template:
    """What a policy wants: outbound this very SA, inbound any of its ``reqid``, wherever a NAT puts the peer."""
    anywhere = _ANY[sa.source.version]
    if sa.direction is Direction.OUT:
        return Template(sa.source, sa.destination, Protocol.ESP, sa.spi, reqid, MODES[sa.mode])
    return Template(anywhere, anywhere, Protocol.ESP, 0, reqid, MODES[sa.mode])


def wanting(reqid: int, mode: Mode, version: int) -> Template:
    """What a policy without an SA wants, so that a packet makes an acquire event."""
    return Template(_ANY[version], _ANY[version], Protocol.ESP, 0, reqid, MODES[mode])


def lifetime_of(sa: SecurityAssociation) -> KernelLifetime:
    """The kernel counts whole seconds. The last sequence numbers are kept for a rekey by a soft limit of packets."""
    soft, hard = sa.lifetime.soft, sa.lifetime.hard
    soft_packets = soft.packets
    if sa.direction is Direction.OUT and not sa.suite.esn:
        headroom = headroom_of(sa)
        soft_packets = headroom if soft_packets is None else min(soft_packets, headroom)
    soft_seconds = None if soft.seconds is None else max(1, math.ceil(soft.seconds))
    hard_seconds = None if hard.seconds is None else max(1, math.ceil(hard.seconds))
    if soft_seconds is not None and hard_seconds is not None and hard_seconds <= soft_seconds:
        hard_seconds = soft_seconds + 1
    return KernelLifetime(
        soft_bytes=soft.bytes,
        hard_bytes=hard.bytes,
        soft_packets=soft_packets,
        hard_packets=hard.packets,
        soft_seconds=soft_seconds,
        hard_seconds=hard_seconds,
    )


def headroom_of(sa: SecurityAssociation) -> int:
    """The number of packets after which sequence numbers run out."""
    return int(SEQUENCE_HEADROOM * _LAST_SEQUENCE[sa.suite.esn])


def reached(sa: SecurityAssociation, state: State, *, hard: bool) -> ExpiryKind:
    """Which limit an expiry is about; the kernel does not say."""
    lifetime: Lifetime = sa.lifetime
    limits, used = lifetime.hard if hard else lifetime.soft, state.usage
    if limits.packets is not None and used.packets >= limits.packets:
        return ExpiryKind.PACKETS
    if limits.bytes is not None and used.bytes >= limits.bytes:
        return ExpiryKind.BYTES
    if not hard and sa.direction is Direction.OUT and not sa.suite.esn and used.packets >= headroom_of(sa):
        return ExpiryKind.SEQUENCE
    return ExpiryKind.TIME


def usage_of(state: State, direction: Direction) -> Usage:
    """Counters of the contract from the kernel's."""
    sequence = 0
    if state.replay_esn is not None:
        sequence = state.replay_esn.out_sequence if direction is Direction.OUT else state.replay_esn.sequence
    elif state.replay is not None:
        sequence = state.replay.out_sequence if direction is Direction.OUT else state.replay.sequence
    used = state.last_used or state.usage.used
    return Usage(
        bytes=state.usage.bytes,
        packets=state.usage.packets,
        sequence=sequence,
        replays=state.stats.replay + state.stats.replay_window,
        integrity_failures=state.stats.integrity_failed,
        last_used=max(0.001, time.monotonic() - max(0.0, time.time() - used)) if used else 0.0,
    )


def window_of(state: State) -> tuple[int, int]:
    """Right edge and bitmap of an inbound SA's window, lowest bit newest. The kernel keeps a ring of words."""
    replay = state.replay_esn
    if replay is None:
        if state.replay is None:
            return 0, 0
        return state.replay.sequence, state.replay.bitmap
    words = struct.unpack(f"={len(replay.bitmap) // 4}I", replay.bitmap)
    ring = sum(word << 32 * number for number, word in enumerate(words))
    window, bitmap = replay.window, 0
    for back in range(min(window, replay.sequence)):
        # Number n is bit (n - 1) modulo the window (xfrm_replay_advance_bmp, xfrm_replay_advance_esn).
        bitmap |= (ring >> ((replay.sequence - 1 - back) % window) & 1) << back
    return replay.sequence, bitmap


def unlike(asked: State, there: State) -> str:
    """What the kernel did not keep of what was asked, in words; "" if nothing."""
    for name, words in _KEPT:
        one, other = getattr(asked, name), getattr(there, name)
        if one != other:
            return f"{words} {one}, the kernel has {other}"
    mine, its = asked.replay_esn, there.replay_esn
    if mine is not None and (its is None or its.window != mine.window):
        return f"a replay window of {mine.window}"
    return ""


def _window(sa: SecurityAssociation, features: Features) -> ReplayEsn | None:
    if sa.direction is Direction.IN:
        return ReplayEsn(sa.replay_window)
    if sa.suite.esn:
        # Nothing arrives on it. Kernels that do not know directions want a window all the same.
        return ReplayEsn(0 if features.direction else 32)
    return None


_KEPT = (
    ("mode", "mode"),
    ("reqid", "reqid"),
    ("flags", "flags"),
    ("extra_flags", "flags"),
    ("encap", "ESP in UDP"),
    ("if_id", "if_id"),
    ("output_mark", "the mark"),
    ("direction", "direction"),
    ("tfc_padding", "TFC padding"),
    ("lifetime", "the lifetime"),
)


def key_of_id(state: StateId, direction: Direction) -> SaKey:
    """The contract's key of a state."""
    protocol = SecurityProtocol.AH if state.protocol is Protocol.AH else SecurityProtocol.ESP
    return SaKey(direction, state.spi, state.destination, protocol)


def anywhere(version: int) -> Address:
    """No address in particular."""
    return _ANY[version]
