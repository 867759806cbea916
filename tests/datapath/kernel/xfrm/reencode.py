"""Writes again what was read, by either layer."""

from __future__ import annotations

from typing import Any

from appliance.datapath.kernel.xfrm import (
    AeEvent,
    DeletedPolicy,
    DeletedState,
    FlushedPolicies,
    FlushedStates,
    Message,
    MessageType,
    SpdInfo,
    StateFilter,
    Unknown,
    requests,
)
from appliance.datapath.kernel.xfrm.constants import Attribute
from appliance.datapath.kernel.xfrm.wire import NLM_F_DUMP, U32, message


def reencode(old: Any) -> Any:
    """A new nlmsg with what ``old`` had decoded."""
    new = type(old)()
    for name, value in old.items():
        if name == "attrs":
            new["attrs"] = [[slot[0], slot[1]] for slot in value]
        elif name == "header":
            new["header"] = {key: value[key] for key in ("type", "flags", "sequence_number", "pid")}
        else:
            new[name] = value
    new.encode()
    return new


def reencode_values(found: Message) -> bytearray:
    """The bytes of a message from its values; with sequence number and port 0."""
    body: Any = found.body
    kind, flags = found.kind, found.flags
    match body:
        case FlushedStates():
            return message(kind, flags, bytes([body.protocol]))
        case FlushedPolicies():
            return requests.flush_policies(body.policy_type)
        case DeletedState():
            parts = body.id.parts()
            if body.state is not None:
                parts = [(Attribute.SA, body.state.head(), b""), *body.state.parts()]
            return message(kind, flags, body.id.head(), parts)
        case DeletedPolicy():
            parts = body.id.parts()
            if body.policy is not None:
                parts = [(Attribute.POLICY, body.policy.head(), b""), *body.policy.parts()]
            return message(kind, flags, body.id.head(), parts)
        case StateFilter():
            return message(kind, flags, b"", body.parts())
        case SpdInfo():
            return message(kind, flags, U32.pack(0xFFFFFFFF), body.parts())
        case Unknown():
            return message(kind, flags, body.payload)
        case None:
            dump = flags & NLM_F_DUMP == NLM_F_DUMP and kind == MessageType.GETPOLICY
            return message(kind, flags, b"" if dump else U32.pack(0xFFFFFFFF))
        case AeEvent():
            return message(kind, flags, body.head(), body.parts())
    parts = body.parts() if hasattr(body, "parts") else []
    return message(kind, flags, body.head(), parts)
