"""What the kernel tells without being asked; some of it can be asked for or done too."""

from __future__ import annotations

from dataclasses import dataclass

from . import layout
from .attributes import (
    COADDR,
    ENCAP,
    ETIMER_THRESH,
    IF_ID,
    LTIME_VAL,
    MARK,
    OFFLOAD_DEV,
    POLICY_TYPE,
    REPLAY_ESN_VAL,
    REPLAY_THRESH,
    REPLAY_VAL,
    SA_DIR,
    SA_PCPU,
    Codec,
    Other,
    Writer,
    by_kind,
    read_parts,
    u32,
    write_other,
)
from .constants import (
    NO_AE_FLAGS,
    AeFlag,
    Attribute,
    Mode,
    PolicyDirection,
    PolicyType,
    Protocol,
    SaDirection,
)
from .errors import Malformed
from .policy import POLICY_CODECS, Policy, PolicyId
from .state import State, StateId, output_mark_parts, read_output_mark
from .values import (
    EVERYTHING,
    SELECTOR_VALUES,
    Encap,
    KeyManagerAddress,
    Mark,
    Offload,
    OutputMark,
    Replay,
    ReplayEsn,
    Selector,
    Template,
    Usage,
    mode_of,
    protocol_of,
)
from .wire import U8, Address, Part, family_of, read_address


@dataclass(frozen=True, slots=True)
class DeletedState:
    """DELSA: an SA was deleted. ``state`` is what it was, if the kernel says so; in a request there is none."""

    id: StateId
    state: State | None = None


@dataclass(frozen=True, slots=True)
class DeletedPolicy:
    """DELPOLICY: a policy was deleted. ``policy`` is what it was, if the kernel says so; in a request there is none."""

    id: PolicyId
    policy: Policy | None = None


@dataclass(frozen=True, slots=True)
class FlushedStates:
    """FLUSHSA: all SAs of a protocol, IPSEC_ANY for every one, were asked to be deleted."""

    protocol: Protocol


@dataclass(frozen=True, slots=True)
class FlushedPolicies:
    """FLUSHPOLICY: all policies of a type were asked to be deleted."""

    policy_type: PolicyType = PolicyType.MAIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Acquire:
    """ACQUIRE: a packet met ``policy`` and there is no SA for one of its templates.

    The kernel holds a larval SA of number ``seq`` for it: an SA installed with the same ``seq``, or allocated an SPI
    with it, takes its place. ``selector`` is the packet's own. The structure does not tell the family of ``source``
    and ``destination``: it is that of the template with the same protocol, else the selector's.
    """

    source: Address
    destination: Address
    protocol: Protocol
    spi: int
    selector: Selector
    policy: Policy
    seq: int
    auth_mask: int = 0xFFFFFFFF
    crypt_mask: int = 0xFFFFFFFF
    comp_mask: int = 0xFFFFFFFF

    def head(self) -> bytes:
        """Struct xfrm_user_acquire."""
        return layout.USER_ACQUIRE.codec.pack(
            self.destination.packed,
            self.spi.to_bytes(4, "big"),
            self.protocol,
            self.source.packed,
            *self.selector.values(),
            *self.policy.values(),
            self.auth_mask,
            self.crypt_mask,
            self.comp_mask,
            self.seq,
        )

    def parts(self) -> list[Part]:
        """The policy's attributes."""
        return self.policy.parts()

    @classmethod
    def read(cls, data: memoryview, start: int, end: int) -> Acquire:
        """From struct xfrm_user_acquire and attributes."""
        values = layout.USER_ACQUIRE.codec.unpack_from(data, start)
        fields, _ = read_parts(data, start + layout.USER_ACQUIRE.size, end, POLICY_CODECS)
        daddr, spi, protocol, saddr = values[:4]
        raw_selector = values[4 : 4 + SELECTOR_VALUES]
        auth, crypt, comp, seq = values[-4:]
        templates: tuple[Template, ...] = fields.get("templates", ())
        family = raw_selector[6]
        for template in templates:
            if template.protocol == protocol and (this := family_of(template.source, template.destination)):
                family = this
                break
        return cls(
            source=read_address(saddr, family),
            destination=read_address(daddr, family),
            protocol=protocol_of(protocol),
            spi=int.from_bytes(spi, "big"),
            selector=Selector.of(raw_selector),
            policy=Policy.of(values[4 + SELECTOR_VALUES : -4], fields),
            seq=seq,
            auth_mask=auth,
            crypt_mask=crypt,
            comp_mask=comp,
        )


@dataclass(frozen=True, slots=True)
class Expire:
    """EXPIRE: an SA reached a soft limit, or a ``hard`` one and is gone. The kernel does not say which limit."""

    state: State
    hard: bool

    def head(self) -> bytes:
        """Struct xfrm_user_expire."""
        return self.state.head() + U8.pack(self.hard) + bytes(layout.USER_EXPIRE.size - layout.USERSA_INFO.size - 1)

    def parts(self) -> list[Part]:
        """The state's attributes."""
        return self.state.parts()

    @classmethod
    def read(cls, data: memoryview, start: int, end: int, keys: bool) -> Expire:
        """From struct xfrm_user_expire and attributes."""
        body = start + layout.USER_EXPIRE.size
        (hard,) = U8.unpack_from(data, start + layout.USERSA_INFO.size)
        return cls(State.read(data, start, body, end, keys), bool(hard))


@dataclass(frozen=True, slots=True)
class PolicyExpire:
    """POLEXPIRE: a policy reached a soft limit, or a ``hard`` one and is gone."""

    policy: Policy
    hard: bool

    def head(self) -> bytes:
        """Struct xfrm_user_polexpire."""
        padding = bytes(layout.USER_POLEXPIRE.size - layout.USERPOLICY_INFO.size - 1)
        return self.policy.head() + U8.pack(self.hard) + padding

    def parts(self) -> list[Part]:
        """The policy's attributes."""
        return self.policy.parts()

    @classmethod
    def read(cls, data: memoryview, start: int, end: int) -> PolicyExpire:
        """From struct xfrm_user_polexpire and attributes."""
        body = start + layout.USER_POLEXPIRE.size
        (hard,) = U8.unpack_from(data, start + layout.USERPOLICY_INFO.size)
        return cls(Policy.read(data, start, body, end), bool(hard))


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping:
    """MAPPING: packets of a UDP-encapsulated SA came from elsewhere: the peer's NAT chose another address or port.

    The kernel goes on sending to the old one until the SA is replaced.
    """

    id: StateId
    reqid: int
    old_source: Address
    new_source: Address
    old_port: int
    new_port: int
    other: Other = ()

    def head(self) -> bytes:
        """Struct xfrm_user_mapping."""
        return (
            self.id.head()
            + layout.USER_MAPPING.codec.pack(
                b"",
                b"",
                0,
                0,
                self.reqid,
                self.old_source.packed,
                self.new_source.packed,
                self.old_port.to_bytes(2, "big"),
                self.new_port.to_bytes(2, "big"),
            )[layout.USERSA_ID.size :]
        )

    def parts(self) -> list[Part]:
        """Attributes without a field."""
        return write_other(self.other)

    @classmethod
    def read(cls, data: memoryview, start: int, end: int) -> Mapping:
        """From struct xfrm_user_mapping and attributes."""
        values = layout.USER_MAPPING.codec.unpack_from(data, start)
        daddr, spi, family, protocol, reqid, old, new, old_port, new_port = values
        fields, _ = read_parts(data, start + layout.USER_MAPPING.size, end, {})
        return cls(
            id=StateId(read_address(daddr, family), int.from_bytes(spi, "big"), protocol_of(protocol)),
            reqid=reqid,
            old_source=read_address(old, family),
            new_source=read_address(new, family),
            old_port=int.from_bytes(old_port, "big"),
            new_port=int.from_bytes(new_port, "big"),
            **fields,
        )


@dataclass(frozen=True, slots=True)
class Report:
    """REPORT: a packet of Mobile IPv6 that no state takes."""

    protocol: int
    selector: Selector
    care_of: Address | None = None
    other: Other = ()

    def head(self) -> bytes:
        """Struct xfrm_user_report."""
        return layout.USER_REPORT.codec.pack(self.protocol, *self.selector.values())

    def parts(self) -> list[Part]:
        """XFRMA_COADDR."""
        return _WRITE_COADDR(self) + write_other(self.other)

    @classmethod
    def read(cls, data: memoryview, start: int, end: int) -> Report:
        """From struct xfrm_user_report and attributes."""
        protocol, *selector = layout.USER_REPORT.codec.unpack_from(data, start)
        fields, _ = read_parts(data, start + layout.USER_REPORT.size, end, by_kind((COADDR,)))
        return cls(protocol, Selector.of(tuple(selector)), **fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrateStep:
    """struct xfrm_user_migrate: the SAs between two addresses (and the templates that name them) move to two others."""

    old_source: Address
    old_destination: Address
    new_source: Address
    new_destination: Address
    protocol: Protocol = Protocol.ESP
    mode: Mode = Mode.TUNNEL
    reqid: int = 0

    def pack(self) -> bytes:
        """Struct xfrm_user_migrate."""
        return layout.USER_MIGRATE.codec.pack(
            self.old_destination.packed,
            self.old_source.packed,
            self.new_destination.packed,
            self.new_source.packed,
            self.protocol,
            self.mode,
            0,
            self.reqid,
            family_of(self.old_source, self.old_destination),
            family_of(self.new_source, self.new_destination),
        )

    @classmethod
    def unpack(cls, data: memoryview, at: int) -> MigrateStep:
        """From struct xfrm_user_migrate."""
        values = layout.USER_MIGRATE.codec.unpack_from(data, at)
        old_daddr, old_saddr, new_daddr, new_saddr, protocol, mode, _, reqid, old_family, new_family = values
        return cls(
            old_source=read_address(old_saddr, old_family),
            old_destination=read_address(old_daddr, old_family),
            new_source=read_address(new_saddr, new_family),
            new_destination=read_address(new_daddr, new_family),
            protocol=protocol_of(protocol),
            mode=mode_of(mode),
            reqid=reqid,
        )


def _unpack_steps(data: memoryview) -> tuple[MigrateStep, ...]:
    size = layout.USER_MIGRATE.size
    if len(data) % size:
        raise Malformed(f"migrations in {len(data)} bytes")
    return tuple(MigrateStep.unpack(data, at) for at in range(0, len(data), size))


@dataclass(frozen=True, slots=True, kw_only=True)
class Migrate:
    """MIGRATE: a policy and its SAs move (MOBIKE); request and event."""

    selector: Selector
    direction: PolicyDirection
    steps: tuple[MigrateStep, ...] = ()
    key_manager: KeyManagerAddress | None = None
    policy_type: PolicyType = PolicyType.MAIN
    encap: Encap | None = None
    if_id: int = 0
    offload: Offload | None = None
    index: int = 0
    other: Other = ()

    def head(self) -> bytes:
        """Struct xfrm_userpolicy_id."""
        return layout.USERPOLICY_ID.codec.pack(*self.selector.values(), self.index, self.direction)

    def parts(self) -> list[Part]:
        """The attributes."""
        return _WRITE_MIGRATE(self) + write_other(self.other)

    @classmethod
    def read(cls, data: memoryview, start: int, end: int) -> Migrate:
        """From struct xfrm_userpolicy_id and attributes."""
        values = layout.USERPOLICY_ID.codec.unpack_from(data, start)
        fields, _ = read_parts(data, start + layout.USERPOLICY_ID.size, end, _READ_MIGRATE)
        index, direction = values[SELECTOR_VALUES:]
        selector = Selector.of(values[:SELECTOR_VALUES])
        return cls(selector=selector, direction=PolicyDirection(direction), index=index, **fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrateState:
    """MIGRATE_STATE (Linux 7.2): one SA moves, with its sequence numbers and window; request and event.

    ``id.mark`` is the SA's own, for finding it. The addresses, ``selector`` (with UPDATE_H2H_SEL the kernel makes it)
    and ``reqid`` are always set; the rest stays as it was where None. ``direction`` is in events only.
    """

    id: StateId
    source: Address
    destination: Address
    reqid: int
    selector: Selector = EVERYTHING
    flags: int = 0
    mark: Mark | None = None
    encap: Encap | None = None
    offload: Offload | None = None
    output_mark: OutputMark | None = None
    nat_keepalive: int | None = None
    mapping_max_age: int | None = None
    direction: SaDirection | None = None
    other: Other = ()

    def head(self) -> bytes:
        """Struct xfrm_user_migrate_state."""
        mark = self.id.mark or Mark(0, 0)
        rest = layout.USER_MIGRATE_STATE.codec.pack(
            b"",
            b"",
            0,
            0,
            self.destination.packed,
            self.source.packed,
            mark.value,
            mark.mask,
            *self.selector.values(),
            self.reqid,
            self.flags,
            family_of(self.source, self.destination),
            0,
        )
        return self.id.head() + rest[layout.USERSA_ID.size :]

    def parts(self) -> list[Part]:
        """The attributes."""
        mark = [] if self.output_mark is None else output_mark_parts(self.output_mark)
        return _WRITE_MIGRATE_STATE(self) + mark + write_other(self.other)

    @classmethod
    def read(cls, data: memoryview, start: int, end: int) -> MigrateState:
        """From struct xfrm_user_migrate_state and attributes."""
        values = layout.USER_MIGRATE_STATE.codec.unpack_from(data, start)
        daddr, spi, family, protocol, new_daddr, new_saddr, value, mask = values[:8]
        reqid, flags, new_family, _ = values[8 + SELECTOR_VALUES :]
        fields, kept = read_parts(data, start + layout.USER_MIGRATE_STATE.size, end, _READ_MIGRATE_STATE, _SET_MARKS)
        mark = Mark(value, mask) if value or mask else None
        return cls(
            id=StateId(read_address(daddr, family), int.from_bytes(spi, "big"), protocol_of(protocol), None, mark),
            source=read_address(new_saddr, new_family),
            destination=read_address(new_daddr, new_family),
            reqid=reqid,
            selector=Selector.of(values[8 : 8 + SELECTOR_VALUES]),
            flags=flags,
            output_mark=read_output_mark(kept),
            **fields,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AeEvent:
    """NEWAE: an SA's replay window and counters, as an answer to GETAE, as an event, and to set them.

    ``flags`` of an event say why it came (CR, CE, CU); of a GETAE whether thresholds are wanted too. As an event of a
    wide window the kernel sends the bitmap that it has, whole. ``timer_threshold`` is in tenths of a second,
    ``replay_threshold`` in packets. Setting them needs ``usage`` or a replay state, and an SA that has left its larval
    state.
    """

    id: StateId
    source: Address
    reqid: int = 0
    flags: AeFlag = NO_AE_FLAGS
    replay: Replay | None = None
    replay_esn: ReplayEsn | None = None
    usage: Usage | None = None
    replay_threshold: int | None = None
    timer_threshold: int | None = None
    if_id: int = 0
    cpu: int | None = None
    direction: SaDirection | None = None
    other: Other = ()

    def head(self) -> bytes:
        """Struct xfrm_aevent_id."""
        rest = layout.AEVENT_ID.codec.pack(b"", b"", 0, 0, self.source.packed, self.flags, self.reqid)
        return self.id.head() + rest[layout.USERSA_ID.size :]

    def parts(self) -> list[Part]:
        """The attributes, in the kernel's order."""
        return _WRITE_AE(self) + _WRITE_MARK(self.id) + _WRITE_AE_END(self) + write_other(self.other)

    @classmethod
    def read(cls, data: memoryview, start: int, end: int) -> AeEvent:
        """From struct xfrm_aevent_id and attributes."""
        daddr, spi, family, protocol, saddr, flags, reqid = layout.AEVENT_ID.codec.unpack_from(data, start)
        fields, _ = read_parts(data, start + layout.AEVENT_ID.size, end, _READ_AE)
        mark = fields.pop("mark", None)
        return cls(
            id=StateId(read_address(daddr, family), int.from_bytes(spi, "big"), protocol_of(protocol), None, mark),
            source=read_address(saddr, family),
            reqid=reqid,
            flags=AeFlag(flags),
            **fields,
        )


_SET_MARKS = frozenset({Attribute.SET_MARK, Attribute.SET_MARK_MASK})
_MIGRATE: tuple[Codec, ...] = (
    POLICY_TYPE,
    Codec(Attribute.MIGRATE, "steps", lambda steps: b"".join([step.pack() for step in steps]), _unpack_steps),
    Codec(Attribute.KMADDRESS, "key_manager", lambda value: value.pack(), KeyManagerAddress.unpack),
    ENCAP,
    IF_ID,
    OFFLOAD_DEV,
)
_READ_MIGRATE = by_kind(_MIGRATE)
_MIGRATE_STATE: tuple[Codec, ...] = (
    MARK,
    ENCAP,
    OFFLOAD_DEV,
    u32(Attribute.NAT_KEEPALIVE_INTERVAL, "nat_keepalive", zero=True),
    u32(Attribute.MTIMER_THRESH, "mapping_max_age", zero=True),
    SA_DIR,
)
_READ_MIGRATE_STATE = by_kind(_MIGRATE_STATE)
_AE: tuple[Codec, ...] = (REPLAY_ESN_VAL, REPLAY_VAL, LTIME_VAL, REPLAY_THRESH, ETIMER_THRESH)
_AE_END: tuple[Codec, ...] = (IF_ID, SA_PCPU, SA_DIR)
_READ_AE = by_kind((*_AE, MARK, *_AE_END))
_WRITE_AE = Writer(_AE)
_WRITE_AE_END = Writer(_AE_END)
_WRITE_COADDR = Writer((COADDR,))
_WRITE_MARK = Writer((MARK,))
_WRITE_MIGRATE = Writer(_MIGRATE)
_WRITE_MIGRATE_STATE = Writer(_MIGRATE_STATE)
