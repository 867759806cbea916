"""IKEv2 payloads as values, and the chain that carries them (RFC 7296 §3.2 to §3.16)."""

from __future__ import annotations

from appliance.ike.errors import MalformedMessage, UnsupportedCritical
from appliance.ike.payloads.chain import (
    GENERIC_HEADER,
    MAX_PAYLOADS,
    Payload,
    all_of,
    encode_payloads,
    first,
    generic_header,
    notify,
    parse_payloads,
)
from appliance.ike.payloads.sa import SaPayload, WireProposal, WireTransform
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

__all__ = [
    "GENERIC_HEADER",
    "MAX_PAYLOADS",
    "AuthPayload",
    "CertPayload",
    "CertReqPayload",
    "CpPayload",
    "DeletePayload",
    "EapPayload",
    "IdPayload",
    "KePayload",
    "MalformedMessage",
    "NoncePayload",
    "NotifyPayload",
    "Payload",
    "SaPayload",
    "TsPayload",
    "UnknownPayload",
    "UnsupportedCritical",
    "VendorIdPayload",
    "WireProposal",
    "WireTransform",
    "all_of",
    "encode_payloads",
    "first",
    "generic_header",
    "notify",
    "parse_payloads",
]
