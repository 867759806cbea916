"""From bytes to values: one message, or all of a datagram."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from . import layout
from .attributes import POLICY_TYPE, by_kind, read_parts
from .constants import MessageType
from .errors import Malformed
from .events import (
    Acquire,
    AeEvent,
    DeletedPolicy,
    DeletedState,
    Expire,
    FlushedPolicies,
    FlushedStates,
    Mapping,
    Migrate,
    MigrateState,
    PolicyExpire,
    Report,
)
from .policy import Defaults, Policy, PolicyId
from .state import State, StateId
from .tables import SadInfo, SpdInfo, SpiRequest, StateFilter
from .values import protocol_of
from .wire import HEADER, NLM_F_DUMP, Buffer, Frame, frames


@dataclass(frozen=True, slots=True)
class Unknown:
    """A message of a type that is not known here."""

    payload: bytes


Body = (
    State
    | Policy
    | DeletedState
    | DeletedPolicy
    | FlushedStates
    | FlushedPolicies
    | Acquire
    | Expire
    | PolicyExpire
    | Mapping
    | Report
    | Migrate
    | MigrateState
    | AeEvent
    | SadInfo
    | SpdInfo
    | Defaults
    | SpiRequest
    | StateId
    | PolicyId
    | StateFilter
    | Unknown
    | None
)
"""What a message says. None: it is a request that says nothing but its type."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message: ``kind`` tells NEWSA from UPDSA, which both have a State, and so on. ``sequence`` is 0 of events."""

    kind: MessageType
    body: Body
    flags: int = 0
    sequence: int = 0
    port: int = 0


def parse(data: Buffer, *, keys: bool = False) -> Message:
    """The one message in ``data``. Raises Malformed, and nothing else whatever ``data`` is.

    ``keys``: whether algorithms get their keys, each in a bytearray of its own for the caller to wipe.
    """
    found = list(parse_all(data, keys=keys))
    if len(found) != 1:
        raise Malformed(f"{len(found)} messages where one should be")
    return found[0]


def parse_all(data: Buffer, *, keys: bool = False) -> Iterator[Message]:
    """The messages in a datagram. Raises Malformed, and nothing else, at the first that is none."""
    view = memoryview(data)
    for frame in frames(view):
        yield parse_frame(view, frame, keys=keys)


def parse_frame(view: memoryview, frame: Frame, *, keys: bool = False) -> Message:
    """One message of a datagram whose header is read already. Raises Malformed."""
    body = parse_body(view, frame, keys=keys)
    return Message(_KINDS.get(frame.kind) or MessageType(frame.kind), body, frame.flags, frame.sequence, frame.port)


def parse_body(view: memoryview, frame: Frame, *, keys: bool = False) -> Body:
    """What such a message says. Raises Malformed."""
    kind, flags, _, port, start, end = frame
    try:
        if kind in _DUMPED and flags & NLM_F_DUMP == NLM_F_DUMP and port == 0 and flags & 1:
            return StateFilter.read(view, start, end) if kind == MessageType.GETSA else None
        read = _READERS.get(kind)
        if read is None:
            return Unknown(bytes(view[start:end]))
        size, function = read
        if end - start < size:
            raise Malformed(f"{MessageType(kind).name} of {end - start} bytes, not {size}")
        return function(view, start, end, keys)
    except struct.error as error:
        raise Malformed(f"{MessageType(kind).name}: {error}") from None


_DUMPED = frozenset({MessageType.GETSA, MessageType.GETPOLICY})
_KINDS: dict[int, MessageType] = {int(kind): kind for kind in MessageType}

_Reader = Callable[[memoryview, int, int, bool], Body]


def _state(data: memoryview, start: int, end: int, keys: bool) -> State:
    return State.read(data, start, start + layout.USERSA_INFO.size, end, keys)


def _policy(data: memoryview, start: int, end: int, keys: bool) -> Policy:
    return Policy.read(data, start, start + layout.USERPOLICY_INFO.size, end)


def _state_id(data: memoryview, start: int, end: int, keys: bool) -> StateId:
    return StateId.read(data, start, start + layout.USERSA_ID.size, end)


def _policy_id(data: memoryview, start: int, end: int, keys: bool) -> PolicyId:
    return PolicyId.read(data, start, start + layout.USERPOLICY_ID.size, end)


def _deleted_state(data: memoryview, start: int, end: int, keys: bool) -> DeletedState:
    at = start + layout.USERSA_ID.size
    return DeletedState(StateId.read(data, start, at, end), State.read_deleted(data, at, end, keys))


def _deleted_policy(data: memoryview, start: int, end: int, keys: bool) -> DeletedPolicy:
    at = start + layout.USERPOLICY_ID.size
    return DeletedPolicy(PolicyId.read(data, start, at, end), Policy.read_deleted(data, at, end))


def _flushed_states(data: memoryview, start: int, end: int, keys: bool) -> FlushedStates:
    return FlushedStates(protocol_of(data[start]))


def _flushed_policies(data: memoryview, start: int, end: int, keys: bool) -> FlushedPolicies:
    fields, _ = read_parts(data, start, end, _POLICY_TYPE)
    fields.pop("other", None)
    return FlushedPolicies(**fields)


def _nothing(data: memoryview, start: int, end: int, keys: bool) -> None:
    return None


def _defaults(data: memoryview, start: int, end: int, keys: bool) -> Defaults:
    return Defaults.unpack(data, start)


_POLICY_TYPE = by_kind((POLICY_TYPE,))

_READERS: dict[int, tuple[int, _Reader]] = {
    MessageType.NEWSA: (layout.USERSA_INFO.size, _state),
    MessageType.UPDSA: (layout.USERSA_INFO.size, _state),
    MessageType.DELSA: (layout.USERSA_ID.size, _deleted_state),
    MessageType.GETSA: (layout.USERSA_ID.size, _state_id),
    MessageType.FLUSHSA: (layout.USERSA_FLUSH.size, _flushed_states),
    MessageType.ALLOCSPI: (layout.USERSPI_INFO.size, SpiRequest.read),
    MessageType.NEWPOLICY: (layout.USERPOLICY_INFO.size, _policy),
    MessageType.UPDPOLICY: (layout.USERPOLICY_INFO.size, _policy),
    MessageType.DELPOLICY: (layout.USERPOLICY_ID.size, _deleted_policy),
    MessageType.GETPOLICY: (layout.USERPOLICY_ID.size, _policy_id),
    MessageType.FLUSHPOLICY: (0, _flushed_policies),
    MessageType.ACQUIRE: (layout.USER_ACQUIRE.size, lambda data, start, end, _: Acquire.read(data, start, end)),
    MessageType.EXPIRE: (layout.USER_EXPIRE.size, Expire.read),
    MessageType.POLEXPIRE: (
        layout.USER_POLEXPIRE.size,
        lambda data, start, end, _: PolicyExpire.read(data, start, end),
    ),
    MessageType.MAPPING: (layout.USER_MAPPING.size, lambda data, start, end, _: Mapping.read(data, start, end)),
    MessageType.REPORT: (layout.USER_REPORT.size, lambda data, start, end, _: Report.read(data, start, end)),
    MessageType.MIGRATE: (layout.USERPOLICY_ID.size, lambda data, start, end, _: Migrate.read(data, start, end)),
    MessageType.MIGRATE_STATE: (
        layout.USER_MIGRATE_STATE.size,
        lambda data, start, end, _: MigrateState.read(data, start, end),
    ),
    MessageType.NEWAE: (layout.AEVENT_ID.size, lambda data, start, end, _: AeEvent.read(data, start, end)),
    MessageType.GETAE: (layout.AEVENT_ID.size, lambda data, start, end, _: AeEvent.read(data, start, end)),
    MessageType.NEWSADINFO: (4, lambda data, start, end, _: SadInfo.read(data, start, end)),
    MessageType.NEWSPDINFO: (4, lambda data, start, end, _: SpdInfo.read(data, start, end)),
    MessageType.GETSADINFO: (4, _nothing),
    MessageType.GETSPDINFO: (4, _nothing),
    MessageType.SETDEFAULT: (layout.USERPOLICY_DEFAULT.size, _defaults),
    MessageType.GETDEFAULT: (layout.USERPOLICY_DEFAULT.size, _defaults),
}

__all__ = ["HEADER", "Body", "Message", "Unknown", "parse", "parse_all", "parse_body", "parse_frame"]
