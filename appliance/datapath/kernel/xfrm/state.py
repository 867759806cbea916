"""Security associations as the kernel has them: struct xfrm_usersa_info and the attributes around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from . import layout
from .attributes import (
    COADDR,
    ENCAP,
    ETIMER_THRESH,
    IF_ID,
    LASTUSED,
    MARK,
    OFFLOAD_DEV,
    REPLAY_ESN_VAL,
    REPLAY_THRESH,
    REPLAY_VAL,
    SA_DIR,
    SA_PCPU,
    SEC_CTX,
    Codec,
    Other,
    Writer,
    by_kind,
    read_parts,
    u16,
    u32,
    write_other,
)
from .constants import (
    NO_EXTRA_FLAGS,
    NO_STATE_FLAGS,
    Attribute,
    ExtraFlag,
    Mode,
    Protocol,
    SaDirection,
    StateFlag,
)
from .errors import Malformed
from .quick import quick
from .values import (
    EVERYTHING,
    NO_STATS,
    SELECTOR_VALUES,
    UNLIMITED,
    UNUSED,
    Aead,
    Auth,
    Crypt,
    Encap,
    Lifetime,
    Mark,
    Offload,
    OutputMark,
    Replay,
    ReplayEsn,
    SecurityContext,
    Selector,
    Stats,
    Usage,
    mode_of,
    protocol_of,
    raw_address,
)
from .wire import U32, Address, Part, family_of, read_address


@dataclass(frozen=True, slots=True, kw_only=True)
class Iptfs:
    """Aggregation and fragmentation of RFC 9347, with mode IPTFS (Linux 6.14). None: the kernel's default.

    Inbound: ``drop_time`` (microseconds to wait for a missing packet), ``reorder_window`` (packets). Outbound:
    ``dont_fragment``, ``init_delay`` (microseconds), ``max_queue`` and ``packet_size`` (bytes; 0: as the path allows).
    """

    drop_time: int | None = None
    reorder_window: int | None = None
    dont_fragment: bool = False
    init_delay: int | None = None
    max_queue: int | None = None
    packet_size: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """An SA: what NEWSA and UPDSA install and what a dump, an expiry and other events show.

    Only ``destination``, ``spi`` and ``protocol`` identify it (with ``mark`` and the family of the addresses).
    ``replay_window`` goes up to 32 with ``replay``; wider windows and ESN have ``replay_esn`` and leave it 0.
    ``usage``, ``stats``, ``last_used`` (seconds since 1970) and the thresholds of a dump are the kernel's; it ignores
    the first three on installing. ``timer_threshold`` is in tenths of a second, ``replay_threshold`` in packets,
    ``nat_keepalive`` and ``mapping_max_age`` in seconds, ``tfc_padding`` in bytes, ``cpu`` a CPU's number.
    Old kernels ignore attributes that came after them: read back what was installed.
    """

    source: Address
    destination: Address
    spi: int
    protocol: Protocol = Protocol.ESP
    mode: Mode = Mode.TUNNEL
    reqid: int = 0
    selector: Selector = EVERYTHING
    aead: Aead | None = None
    crypt: Crypt | None = None
    auth: Auth | None = None
    comp: Crypt | None = None
    flags: StateFlag = NO_STATE_FLAGS
    extra_flags: ExtraFlag = NO_EXTRA_FLAGS
    replay_window: int = 0
    replay: Replay | None = None
    replay_esn: ReplayEsn | None = None
    lifetime: Lifetime = UNLIMITED
    usage: Usage = UNUSED
    stats: Stats = NO_STATS
    seq: int = 0
    encap: Encap | None = None
    care_of: Address | None = None
    security_context: SecurityContext | None = None
    offload: Offload | None = None
    mark: Mark | None = None
    if_id: int = 0
    tfc_padding: int = 0
    output_mark: OutputMark | None = None
    direction: SaDirection | None = None
    replay_threshold: int | None = None
    timer_threshold: int | None = None
    last_used: int = 0
    mapping_max_age: int = 0
    nat_keepalive: int = 0
    cpu: int | None = None
    iptfs: Iptfs | None = None
    other: Other = ()

    def head(self) -> bytes:
        """Struct xfrm_usersa_info."""
        usage, stats = self.usage, self.stats
        return layout.USERSA_INFO.codec.pack(
            *self.selector.values(),
            self.destination.packed,
            self.spi.to_bytes(4, "big"),
            self.protocol,
            self.source.packed,
            *self.lifetime.values(),
            usage.bytes,
            usage.packets,
            usage.added,
            usage.used,
            stats.replay_window,
            stats.replay,
            stats.integrity_failed,
            self.seq,
            self.reqid,
            family_of(self.source, self.destination),
            self.mode,
            self.replay_window,
            self.flags,
        )

    def parts(self) -> list[Part]:
        """The attributes, in iproute2's order."""
        parts: list[Part] = []
        if self.aead is not None:
            parts.append((Attribute.ALG_AEAD, *self.aead.part()))
        if self.crypt is not None:
            parts.append((Attribute.ALG_CRYPT, *self.crypt.part()))
        if self.auth is not None:
            kind = Attribute.ALG_AUTH if self.auth.truncation_bits is None else Attribute.ALG_AUTH_TRUNC
            parts.append((kind, *self.auth.part()))
        if self.comp is not None:
            parts.append((Attribute.ALG_COMP, *self.comp.part()))
        parts += _WRITE_BEFORE_OUTPUT_MARK(self)
        if self.output_mark is not None:
            parts += output_mark_parts(self.output_mark)
        parts += _WRITE_AFTER_OUTPUT_MARK(self)
        if self.iptfs is not None:
            parts += _WRITE_IPTFS(self.iptfs)
        if self.other:
            parts += write_other(self.other)
        return parts

    @classmethod
    def read(cls, data: memoryview, info: int, at: int, end: int, keys: bool) -> State:
        """From the struct xfrm_usersa_info at ``info`` and the attributes in ``data[at:end]``."""
        fields, kept = read_parts(data, at, end, _READ, _SPECIAL)
        if kept:
            _read_special(fields, kept, keys)
        return _state(_read_info(data, info) | fields)

    @classmethod
    def read_deleted(cls, data: memoryview, at: int, end: int, keys: bool) -> State | None:
        """From the attributes of a DELSA event, of which XFRMA_SA is one. None if that is missing."""
        fields, kept = read_parts(data, at, end, _READ, _SPECIAL | {Attribute.SA})
        info = kept.pop(Attribute.SA, None)
        if info is None:
            return None
        _read_special(fields, kept, keys)
        return _state(_read_info(info, 0) | fields)


_state = quick(State)


@dataclass(frozen=True, slots=True)
class StateId:
    """What DELSA and GETSA need to find an SA. ``source`` is needed without an SPI only (Mobile IPv6)."""

    destination: Address
    spi: int
    protocol: Protocol = Protocol.ESP
    source: Address | None = None
    mark: Mark | None = None

    @classmethod
    def of(cls, state: State) -> StateId:
        """The one of ``state``."""
        return cls(state.destination, state.spi, state.protocol, state.source, state.mark)

    def head(self) -> bytes:
        """Struct xfrm_usersa_id."""
        family = family_of(self.destination, self.source)
        return layout.USERSA_ID.codec.pack(self.destination.packed, self.spi.to_bytes(4, "big"), family, self.protocol)

    def parts(self) -> list[Part]:
        """XFRMA_SRCADDR and XFRMA_MARK."""
        parts: list[Part] = [] if self.source is None else [(Attribute.SRCADDR, raw_address(self.source), b"")]
        return parts + _WRITE_MARK(self)

    @classmethod
    def read(cls, data: memoryview, start: int, at: int, end: int) -> StateId:
        """From struct xfrm_usersa_id and attributes."""
        daddr, spi, family, protocol = layout.USERSA_ID.codec.unpack_from(data, start)
        fields, kept = read_parts(data, at, end, _READ_MARK, (Attribute.SRCADDR,))
        source = kept.get(Attribute.SRCADDR)
        if source is not None and len(source) < 16:
            raise Malformed(f"an address of {len(source)} bytes")
        return cls(
            read_address(daddr, family),
            int.from_bytes(spi, "big"),
            protocol_of(protocol),
            None if source is None else read_address(bytes(source[:16]), family),
            fields.get("mark"),
        )


_BEFORE_OUTPUT_MARK: tuple[Codec, ...] = (
    ENCAP,
    COADDR,
    SEC_CTX,
    OFFLOAD_DEV,
    REPLAY_VAL,
    REPLAY_ESN_VAL,
    Codec(Attribute.SA_EXTRA_FLAGS, "extra_flags", U32.pack, lambda data: ExtraFlag(U32.unpack_from(data)[0])),
    MARK,
    IF_ID,
    u32(Attribute.TFCPAD, "tfc_padding"),
)
_AFTER_OUTPUT_MARK: tuple[Codec, ...] = (
    SA_DIR,
    REPLAY_THRESH,
    ETIMER_THRESH,
    LASTUSED,
    u32(Attribute.MTIMER_THRESH, "mapping_max_age"),
    u32(Attribute.NAT_KEEPALIVE_INTERVAL, "nat_keepalive"),
    SA_PCPU,
)
_IPTFS: tuple[Codec, ...] = (
    u32(Attribute.IPTFS_DROP_TIME, "drop_time", zero=True),
    u16(Attribute.IPTFS_REORDER_WINDOW, "reorder_window", zero=True),
    Codec(Attribute.IPTFS_DONT_FRAG, "dont_fragment", lambda _: b"", lambda _: True),
    u32(Attribute.IPTFS_INIT_DELAY, "init_delay", zero=True),
    u32(Attribute.IPTFS_MAX_QSIZE, "max_queue", zero=True),
    u32(Attribute.IPTFS_PKT_SIZE, "packet_size", zero=True),
)
_READ = by_kind((*_BEFORE_OUTPUT_MARK, *_AFTER_OUTPUT_MARK))
_READ_IPTFS = by_kind(_IPTFS)
_READ_MARK = by_kind((MARK,))
_WRITE_AFTER_OUTPUT_MARK = Writer(_AFTER_OUTPUT_MARK)
_WRITE_BEFORE_OUTPUT_MARK = Writer(_BEFORE_OUTPUT_MARK)
_WRITE_IPTFS = Writer(_IPTFS)
_WRITE_MARK = Writer((MARK,))
_SPECIAL = frozenset(
    {
        Attribute.ALG_AEAD,
        Attribute.ALG_CRYPT,
        Attribute.ALG_AUTH,
        Attribute.ALG_AUTH_TRUNC,
        Attribute.ALG_COMP,
        Attribute.SET_MARK,
        Attribute.SET_MARK_MASK,
        *_READ_IPTFS,
    }
)

_LIFETIME = slice(SELECTOR_VALUES + 4, SELECTOR_VALUES + 12)


def output_mark_parts(mark: OutputMark) -> list[Part]:
    """XFRMA_SET_MARK and, if there is a mask, XFRMA_SET_MARK_MASK."""
    parts: list[Part] = [(Attribute.SET_MARK, U32.pack(mark.value), b"")]
    if mark.mask is not None:
        parts.append((Attribute.SET_MARK_MASK, U32.pack(mark.mask), b""))
    return parts


def read_output_mark(kept: dict[int, memoryview]) -> OutputMark | None:
    """The reverse. A mask without a mark is nothing, as it is for the kernel."""
    value, mask = kept.get(Attribute.SET_MARK), kept.get(Attribute.SET_MARK_MASK)
    if value is None:
        return None
    return OutputMark(U32.unpack_from(value)[0], None if mask is None else U32.unpack_from(mask)[0])


def _read_special(fields: dict[str, Any], kept: dict[int, memoryview], keys: bool) -> None:
    """Attributes that hold keys, and those that are one value together."""
    iptfs: dict[str, Any] = {}
    for kind, payload in kept.items():
        if kind == Attribute.ALG_AEAD:
            fields["aead"] = Aead.unpack(payload, keys)
        elif kind == Attribute.ALG_CRYPT:
            fields["crypt"] = Crypt.unpack(payload, keys)
        elif kind == Attribute.ALG_AUTH_TRUNC:
            fields["auth"] = Auth.unpack(payload, keys)
        elif kind == Attribute.ALG_AUTH:
            # The kernel shows an integrity algorithm in both forms; the longer one knows more.
            if Attribute.ALG_AUTH_TRUNC not in kept:
                fields["auth"] = Auth.unpack_plain(payload, keys)
        elif kind == Attribute.ALG_COMP:
            fields["comp"] = Crypt.unpack(payload, keys)
        elif kind == Attribute.SET_MARK:
            fields["output_mark"] = read_output_mark(kept)
        elif kind in _READ_IPTFS:
            field, read = _READ_IPTFS[kind]
            iptfs[field] = read(payload)
    if iptfs:
        fields["iptfs"] = Iptfs(**iptfs)


_STATE_FLAGS = [StateFlag(value) for value in range(256)]


def _read_info(data: memoryview, at: int) -> dict[str, Any]:
    values = layout.USERSA_INFO.codec.unpack_from(data, at)
    (daddr, spi, protocol, saddr) = values[SELECTOR_VALUES : SELECTOR_VALUES + 4]
    (
        used_bytes,
        used_packets,
        added,
        used,
        late,
        replayed,
        forged,
        seq,
        reqid,
        family,
        mode,
        replay_window,
        flags,
    ) = values[SELECTOR_VALUES + 12 :]
    return {
        "source": read_address(saddr, family),
        "destination": read_address(daddr, family),
        "spi": int.from_bytes(spi, "big"),
        "protocol": protocol_of(protocol),
        "mode": mode_of(mode),
        "reqid": reqid,
        "selector": Selector.of(values[:SELECTOR_VALUES], family),
        "flags": _STATE_FLAGS[flags],
        "replay_window": replay_window,
        "lifetime": Lifetime.of(values[_LIFETIME]),
        "usage": Usage(used_bytes, used_packets, added, used),
        "stats": Stats(late, replayed, forged) if late or replayed or forged else NO_STATS,
        "seq": seq,
    }
