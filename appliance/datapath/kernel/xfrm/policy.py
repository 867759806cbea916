"""Policies as the kernel has them: struct xfrm_userpolicy_info and the attributes around it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from . import layout
from .attributes import (
    IF_ID,
    MARK,
    OFFLOAD_DEV,
    POLICY_TYPE,
    SA_DIR,
    SA_PCPU,
    SEC_CTX,
    TMPL,
    Codec,
    Other,
    Writer,
    by_kind,
    read_parts,
    write_other,
)
from .constants import (
    NO_POLICY_FLAGS,
    Attribute,
    DefaultAction,
    PolicyAction,
    PolicyDirection,
    PolicyFlag,
    PolicyType,
    SaDirection,
    Share,
)
from .quick import quick
from .values import (
    EVERYTHING,
    SELECTOR_VALUES,
    UNLIMITED,
    UNUSED,
    Lifetime,
    Mark,
    Offload,
    SecurityContext,
    Selector,
    Template,
    Usage,
    share_of,
)
from .wire import Buffer, Part

_direction_of = lru_cache(maxsize=256)(PolicyDirection)
_action_of = lru_cache(maxsize=256)(PolicyAction)
_flags_of = lru_cache(maxsize=256)(PolicyFlag)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A policy: what NEWPOLICY and UPDPOLICY install and what a dump and events show.

    The lower ``priority`` counts before the higher. ``index`` is the kernel's number for it, 0 to have one chosen; its
    lowest three bits are the direction. At most six templates.
    """

    selector: Selector
    direction: PolicyDirection
    action: PolicyAction = PolicyAction.ALLOW
    priority: int = 0
    templates: tuple[Template, ...] = ()
    index: int = 0
    flags: PolicyFlag = NO_POLICY_FLAGS
    share: Share = Share.ANY
    lifetime: Lifetime = UNLIMITED
    usage: Usage = UNUSED
    policy_type: PolicyType = PolicyType.MAIN
    mark: Mark | None = None
    security_context: SecurityContext | None = None
    if_id: int = 0
    offload: Offload | None = None
    sa_direction: SaDirection | None = None
    cpu: int | None = None
    other: Other = ()

    def head(self) -> bytes:
        """Struct xfrm_userpolicy_info."""
        return layout.USERPOLICY_INFO.codec.pack(*self.values())

    def values(self) -> tuple[Any, ...]:
        """Its scalars."""
        usage = self.usage
        return (
            *self.selector.values(),
            *self.lifetime.values(),
            usage.bytes,
            usage.packets,
            usage.added,
            usage.used,
            self.priority,
            self.index,
            self.direction,
            self.action,
            self.flags,
            self.share,
        )

    def parts(self) -> list[Part]:
        """The attributes, in iproute2's order."""
        parts = _WRITE_CODECS(self)
        return parts + write_other(self.other) if self.other else parts

    @classmethod
    def of(cls, values: tuple[Any, ...], fields: dict[str, Any]) -> Policy:
        """From the scalars of the structure and the fields of the attributes."""
        used_bytes, used_packets, added, used, priority, index, direction, action, flags, share = values[
            SELECTOR_VALUES + 8 :
        ]
        return _policy(
            {
                "selector": Selector.of(values[:SELECTOR_VALUES]),
                "direction": _direction_of(direction),
                "action": _action_of(action),
                "priority": priority,
                "index": index,
                "flags": _flags_of(flags),
                "share": share_of(share),
                "lifetime": Lifetime.of(values[SELECTOR_VALUES : SELECTOR_VALUES + 8]),
                "usage": Usage(used_bytes, used_packets, added, used),
            }
            | fields
        )

    @classmethod
    def read(cls, data: memoryview, info: int, at: int, end: int) -> Policy:
        """From the struct xfrm_userpolicy_info at ``info`` and the attributes in ``data[at:end]``."""
        fields, _ = read_parts(data, at, end, POLICY_CODECS)
        return cls.of(layout.USERPOLICY_INFO.codec.unpack_from(data, info), fields)

    @classmethod
    def read_deleted(cls, data: memoryview, at: int, end: int) -> Policy | None:
        """From the attributes of a DELPOLICY event, of which XFRMA_POLICY is one. None if that is missing."""
        fields, kept = read_parts(data, at, end, POLICY_CODECS, (Attribute.POLICY,))
        info = kept.get(Attribute.POLICY)
        return None if info is None else cls.of(layout.USERPOLICY_INFO.codec.unpack_from(info), fields)


_policy = quick(Policy)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyId:
    """What DELPOLICY and GETPOLICY need: the ``index``, or if that is 0 the ``selector`` exactly as installed.

    ``mark``, ``if_id`` and ``policy_type`` belong to it in both cases. By selector the kernel may search thousands one
    by one; by index it does not.
    """

    direction: PolicyDirection
    selector: Selector = EVERYTHING
    index: int = 0
    policy_type: PolicyType = PolicyType.MAIN
    mark: Mark | None = None
    security_context: SecurityContext | None = None
    if_id: int = 0
    other: Other = ()

    @classmethod
    def of(cls, policy: Policy) -> PolicyId:
        """The one of ``policy``, by selector."""
        return cls(
            direction=policy.direction,
            selector=policy.selector,
            policy_type=policy.policy_type,
            mark=policy.mark,
            security_context=policy.security_context,
            if_id=policy.if_id,
        )

    def head(self) -> bytes:
        """Struct xfrm_userpolicy_id."""
        return layout.USERPOLICY_ID.codec.pack(*self.selector.values(), self.index, self.direction)

    def parts(self) -> list[Part]:
        """The attributes, in iproute2's order."""
        parts = _WRITE_ID_CODECS(self)
        return parts + write_other(self.other) if self.other else parts

    @classmethod
    def read(cls, data: memoryview, start: int, at: int, end: int) -> PolicyId:
        """From struct xfrm_userpolicy_id and attributes."""
        fields, _ = read_parts(data, at, end, _READ_ID, _OF_A_DELETED_POLICY)
        return cls.of_values(layout.USERPOLICY_ID.codec.unpack_from(data, start), fields)

    @classmethod
    def of_values(cls, values: tuple[Any, ...], fields: dict[str, Any]) -> PolicyId:
        """From the scalars of the structure and the fields of the attributes."""
        index, direction = values[SELECTOR_VALUES:]
        selector = Selector.of(values[:SELECTOR_VALUES])
        return cls(selector=selector, index=index, direction=_direction_of(direction), **fields)


@dataclass(frozen=True, slots=True)
class Defaults:
    """struct xfrm_userpolicy_default: what becomes of packets that no policy matches (Linux 5.15).

    UNSPEC, in a request, leaves a direction as it is.
    """

    inbound: DefaultAction = DefaultAction.UNSPEC
    forward: DefaultAction = DefaultAction.UNSPEC
    outbound: DefaultAction = DefaultAction.UNSPEC

    def head(self) -> bytes:
        """Struct xfrm_userpolicy_default."""
        return layout.USERPOLICY_DEFAULT.codec.pack(self.inbound, self.forward, self.outbound)

    @classmethod
    def unpack(cls, data: Buffer, at: int) -> Defaults:
        """From struct xfrm_userpolicy_default."""
        inbound, forward, outbound = layout.USERPOLICY_DEFAULT.codec.unpack_from(data, at)
        return cls(DefaultAction(inbound), DefaultAction(forward), DefaultAction(outbound))


_CODECS: tuple[Codec, ...] = (
    POLICY_TYPE,
    TMPL,
    MARK,
    SEC_CTX,
    IF_ID,
    OFFLOAD_DEV,
    SA_DIR._replace(field="sa_direction"),
    SA_PCPU,
)
_ID_CODECS: tuple[Codec, ...] = (POLICY_TYPE, MARK, SEC_CTX, IF_ID)
POLICY_CODECS = by_kind(_CODECS)
_READ_ID = by_kind(_ID_CODECS)
_OF_A_DELETED_POLICY = frozenset({Attribute.POLICY, *POLICY_CODECS} - _READ_ID.keys())
_WRITE_CODECS = Writer(_CODECS)
_WRITE_ID_CODECS = Writer(_ID_CODECS)
