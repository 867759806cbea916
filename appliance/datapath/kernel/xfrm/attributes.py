"""Attributes that several messages have: which field of a value holds each, and how it is written and read."""

from __future__ import annotations

import struct
from collections.abc import Callable, Container, Iterable
from functools import lru_cache
from operator import attrgetter
from typing import Any, NamedTuple

from .constants import Attribute, SaDirection
from .values import (
    Encap,
    Mark,
    Offload,
    Replay,
    ReplayEsn,
    SecurityContext,
    Template,
    Usage,
    pack_policy_type,
    raw_address,
    unpack_policy_type,
    unpack_templates,
)
from .wire import U8, U16, U32, U64, Part, attributes, read_guessed_address

Other = tuple[tuple[int, bytes], ...]
"""Attributes without a field here: type and payload. They are sent again as they are."""


class Codec(NamedTuple):
    """An attribute. A field that is None is absent, and so is 0 unless ``zero``."""

    kind: Attribute
    field: str
    write: Callable[[Any], bytes]
    read: Callable[[memoryview], Any]
    zero: bool = False


def _read(codec: Any) -> Callable[[memoryview], Any]:
    return lambda data: codec.unpack_from(data)[0]


def pack_templates(templates: tuple[Template, ...]) -> bytes:
    """XFRMA_TMPL."""
    return b"".join([template.pack() for template in templates])


def _pack(value: Any) -> bytes:
    packed: bytes = value.pack()
    return packed


def u32(kind: Attribute, name: str, *, zero: bool = False) -> Codec:
    """An attribute that is a u32."""
    return Codec(kind, name, U32.pack, _read(U32), zero)


def u16(kind: Attribute, name: str, *, zero: bool = False) -> Codec:
    """An attribute that is a u16."""
    return Codec(kind, name, U16.pack, _read(U16), zero)


_ADDRESS = struct.Struct("16s")
_direction = lru_cache(maxsize=256)(SaDirection)

ENCAP = Codec(Attribute.ENCAP, "encap", _pack, Encap.unpack)
COADDR = Codec(
    Attribute.COADDR, "care_of", raw_address, lambda data: read_guessed_address(_ADDRESS.unpack_from(data)[0])
)
SEC_CTX = Codec(Attribute.SEC_CTX, "security_context", _pack, SecurityContext.unpack)
OFFLOAD_DEV = Codec(Attribute.OFFLOAD_DEV, "offload", _pack, Offload.unpack)
REPLAY_VAL = Codec(Attribute.REPLAY_VAL, "replay", _pack, Replay.unpack)
REPLAY_ESN_VAL = Codec(Attribute.REPLAY_ESN_VAL, "replay_esn", _pack, ReplayEsn.unpack)
LTIME_VAL = Codec(Attribute.LTIME_VAL, "usage", _pack, Usage.unpack)
MARK = Codec(Attribute.MARK, "mark", _pack, Mark.unpack)
IF_ID = u32(Attribute.IF_ID, "if_id")
SA_DIR = Codec(Attribute.SA_DIR, "direction", U8.pack, lambda data: _direction(U8.unpack_from(data)[0]), zero=True)
SA_PCPU = u32(Attribute.SA_PCPU, "cpu", zero=True)
TMPL = Codec(Attribute.TMPL, "templates", pack_templates, unpack_templates)
POLICY_TYPE = Codec(Attribute.POLICY_TYPE, "policy_type", pack_policy_type, unpack_policy_type)
REPLAY_THRESH = u32(Attribute.REPLAY_THRESH, "replay_threshold", zero=True)
ETIMER_THRESH = u32(Attribute.ETIMER_THRESH, "timer_threshold", zero=True)
LASTUSED = Codec(Attribute.LASTUSED, "last_used", U64.pack, _read(U64))


Reading = dict[int, tuple[str, Callable[[memoryview], Any]]]
"""The field that an attribute is, and what reads it."""


def by_kind(codecs: Iterable[Codec]) -> Reading:
    """A table for :func:`read_parts`."""
    return {int(codec.kind): (codec.field, codec.read) for codec in codecs}


class Writer:
    """Writes those attributes that a value has, in the order of ``codecs``."""

    def __init__(self, codecs: Iterable[Codec]) -> None:
        self._codecs = tuple(codecs)
        names = [codec.field for codec in self._codecs]
        self._fields = attrgetter(*names) if len(names) > 1 else lambda value: (getattr(value, names[0]),)

    def __call__(self, value: object) -> list[Part]:
        """The attributes of ``value``."""
        parts: list[Part] = []
        for field, codec in zip(self._fields(value), self._codecs):  # noqa: B905  it is as long, and this is quicker
            if field or (field is not None and codec.zero):
                parts.append((codec.kind, codec.write(field), b""))
        return parts


def write_other(other: Other) -> list[Part]:
    """Attributes that were not known when they were read."""
    return [(kind, payload, b"") for kind, payload in other]


def read_parts(
    data: memoryview, at: int, end: int, known: Reading, special: Container[int] = ()
) -> tuple[dict[str, Any], dict[int, memoryview]]:
    """Fields that are ``known`` (and ``other``, where there is such); and the payloads of ``special`` attributes.

    Of an attribute that is there twice the last one counts, as it does for the kernel.
    """
    fields: dict[str, Any] = {}
    kept: dict[int, memoryview] = {}
    other: list[tuple[int, bytes]] = []
    for kind, payload in attributes(data, at, end):
        if kind in known:
            field, read = known[kind]
            fields[field] = read(payload)
        elif kind in special:
            kept[kind] = payload
        elif kind != Attribute.PAD:
            other.append((kind, bytes(payload)))
    if other:
        fields["other"] = tuple(other)
    return fields, kept
