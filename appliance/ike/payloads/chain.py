"""The chain of payloads with their generic headers (RFC 7296 §3.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

from appliance.ike.constants import PayloadType
from appliance.ike.errors import MalformedMessage, UnsupportedCritical
from appliance.ike.payloads.sa import SaPayload
from appliance.ike.payloads.simple import (
    AuthPayload,
    CertPayload,
    CertReqPayload,
    CpPayload,
    DeletePayload,
    EapPayload,
    IdPayload,
    KePayload,
    NoncePayload,
    NotifyPayload,
    UnknownPayload,
    VendorIdPayload,
)
from appliance.ike.payloads.ts import TsPayload

MAX_PAYLOADS = 64
GENERIC_HEADER = 4
_CRITICAL = 0x80

Payload = (
    SaPayload
    | KePayload
    | IdPayload
    | CertPayload
    | CertReqPayload
    | AuthPayload
    | NoncePayload
    | NotifyPayload
    | DeletePayload
    | VendorIdPayload
    | TsPayload
    | CpPayload
    | EapPayload
    | UnknownPayload
)

T = TypeVar("T", bound=Payload)

_PARSERS: dict[int, Callable[..., Payload]] = {
    PayloadType.SA: SaPayload.parse,
    PayloadType.KE: KePayload.parse,
    PayloadType.IDI: partial(IdPayload.parse, initiator=True),
    PayloadType.IDR: partial(IdPayload.parse, initiator=False),
    PayloadType.CERT: CertPayload.parse,
    PayloadType.CERTREQ: CertReqPayload.parse,
    PayloadType.AUTH: AuthPayload.parse,
    PayloadType.NONCE: NoncePayload.parse,
    PayloadType.NOTIFY: NotifyPayload.parse,
    PayloadType.DELETE: DeletePayload.parse,
    PayloadType.VENDOR_ID: VendorIdPayload.parse,
    PayloadType.TSI: partial(TsPayload.parse, initiator=True),
    PayloadType.TSR: partial(TsPayload.parse, initiator=False),
    PayloadType.CP: CpPayload.parse,
    PayloadType.EAP: EapPayload.parse,
}


def generic_header(data: bytes, at: int) -> tuple[int, bool, int]:
    """(next payload, critical, length with this header) of the payload at ``at``, which is checked to lie inside."""
    left = len(data) - at
    if left < GENERIC_HEADER:
        raise MalformedMessage(f"payload header has {left} bytes of {GENERIC_HEADER} (RFC 7296 §3.2)")
    length = int.from_bytes(data[at + 2 : at + 4], "big")
    if not GENERIC_HEADER <= length <= left:
        raise MalformedMessage(f"payload says {length} bytes, {left} are left (RFC 7296 §3.2)")
    return data[at], bool(data[at + 1] & _CRITICAL), length


def parse_payloads(first_type: int, data: bytes) -> tuple[Payload, ...]:
    """Parse a chain that starts with type ``first_type`` and fills ``data``.

    The work is bounded by the length of ``data`` and by MAX_PAYLOADS. Raises UnsupportedCritical for an unknown payload
    that says it is critical, MalformedMessage for all else that breaks the format, and nothing else. The critical bit
    of known types is ignored, as §2.5 says.
    """
    payloads: list[Payload] = []
    payload_type, at = first_type, 0
    while payload_type != PayloadType.NONE:
        if len(payloads) == MAX_PAYLOADS:
            raise MalformedMessage(f"more than {MAX_PAYLOADS} payloads")
        if payload_type in (PayloadType.SK, PayloadType.SKF):
            raise MalformedMessage("an encrypted payload that is not the message's only one (RFC 7296 §3.14)")
        next_type, critical, length = generic_header(data, at)
        body = data[at + GENERIC_HEADER : at + length]
        parser = _PARSERS.get(payload_type)
        if parser is not None:
            payloads.append(parser(body, critical=critical))
        elif critical:
            raise UnsupportedCritical(payload_type)
        else:
            payloads.append(UnknownPayload(payload_type, body, critical))
        payload_type, at = next_type, at + length
    if at != len(data):
        raise MalformedMessage(f"{len(data) - at} bytes behind the last payload (RFC 7296 §3.2)")
    return tuple(payloads)


def encode_payloads(payloads: Iterable[Payload]) -> tuple[int, bytes]:
    """(type of the first payload, bytes of the chain). Raises ValueError for what the format cannot hold."""
    chain = tuple(payloads)
    types = [*(p.payload_type for p in chain), PayloadType.NONE]
    parts: list[bytes] = []
    for payload, next_type in zip(chain, types[1:], strict=True):
        body = payload.encode()
        length = GENERIC_HEADER + len(body)
        if length > 0xFFFF:
            raise ValueError(f"a payload of {length} bytes does not fit its length field")
        parts += [bytes([next_type, _CRITICAL if payload.critical else 0]), length.to_bytes(2, "big"), body]
    return types[0], b"".join(parts)


def first(payloads: Iterable[Payload], cls: type[T]) -> T | None:
    """The first payload of a class."""
    return next((p for p in payloads if isinstance(p, cls)), None)


def all_of(payloads: Iterable[Payload], cls: type[T]) -> tuple[T, ...]:
    """All payloads of a class, in their order."""
    return tuple(p for p in payloads if isinstance(p, cls))


def notify(payloads: Iterable[Payload], type_: int) -> NotifyPayload | None:
    """The first notification of a type."""
    return next((p for p in payloads if isinstance(p, NotifyPayload) and p.type == type_), None)
