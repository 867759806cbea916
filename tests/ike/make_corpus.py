"""Writes the made part of tests/ike/corpus: ``python -m tests.ike.make_corpus``. Files named captured-* are left alone.

Valid messages are in the clear, also those that would be encrypted, so that their payloads are reached; sk-* and skf-*
are protected by the key of ``tests.fuzz.message_targets.sealers``. Broken ones say in their comment what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from textwrap import wrap

from appliance.ike.choose import to_wire
from appliance.ike.constants import (
    AuthMethod,
    CertEncoding,
    ConfigAttribute,
    ConfigType,
    ExchangeType,
    IdType,
    NotifyType,
    PayloadType,
)
from appliance.ike.message import Header, encode_message, seal_fragments, seal_message
from appliance.ike.nat import nat_hash
from appliance.ike.payloads import (
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
    Payload,
    SaPayload,
    TsPayload,
    UnknownPayload,
    VendorIdPayload,
    WireProposal,
    WireTransform,
)
from appliance.sa.proposal import DEFAULT_ESP_PROPOSALS, DEFAULT_IKE_PROPOSALS, ProtocolId, parse_proposal
from appliance.sa.selector import TrafficSelector
from tests.fuzz.corpus import CORPUS
from tests.fuzz.message_targets import sealers

INIT = Header(b"initspi!", bytes(8), 0, ExchangeType.IKE_SA_INIT, 0, initiator=True, response=False)
INIT_ANSWER = replace(INIT, responder_spi=b"respspi!", initiator=False, response=True)
AUTH = replace(INIT, responder_spi=b"respspi!", exchange=ExchangeType.IKE_AUTH, message_id=1)
CHILD = replace(AUTH, exchange=ExchangeType.CREATE_CHILD_SA, message_id=2)
INFO = replace(AUTH, exchange=ExchangeType.INFORMATIONAL, message_id=3)

NONCE = NoncePayload(bytes(range(32)))
KE = KePayload(31, bytes(range(32)))
SPI = b"\x00\x00\x12\x34"
TSI = TsPayload(True, (TrafficSelector.parse("10.1.0.0/24"), TrafficSelector.parse("fd01::/64")))
TSR = TsPayload(False, (TrafficSelector.parse("10.2.0.0/24[tcp/80]"), TrafficSelector.parse("fd02::/64")))
NATS = tuple(
    NotifyPayload(kind, nat_hash(b"initspi!", bytes(8), IPv4Address(address), 500))
    for kind, address in (
        (NotifyType.NAT_DETECTION_SOURCE_IP, "192.0.2.1"),
        (NotifyType.NAT_DETECTION_DESTINATION_IP, "192.0.2.2"),
    )
)


def _notify(kind: NotifyType, data: bytes = b"") -> NotifyPayload:
    return NotifyPayload(kind, data)


def valid() -> Iterator[tuple[str, str, bytes]]:
    """(name, comment, message)"""
    ike = to_wire(DEFAULT_IKE_PROPOSALS, b"")
    esp = to_wire(DEFAULT_ESP_PROPOSALS, SPI)
    ike_rekey = to_wire([parse_proposal("aes256gcm16-prfsha384-ecp384", ProtocolId.IKE)], b"new spi!")
    hashes = _notify(NotifyType.SIGNATURE_HASH_ALGORITHMS, bytes.fromhex("0002000300040005"))
    clear: dict[str, tuple[Header, tuple[Payload, ...]]] = {
        "init-request": (INIT, (ike, KE, NONCE, *NATS, _notify(NotifyType.IKEV2_FRAGMENTATION_SUPPORTED), hashes)),
        "init-request-with-cookie": (INIT, (_notify(NotifyType.COOKIE, bytes(33)), ike, KE, NONCE)),
        "init-response": (INIT_ANSWER, (ike_rekey, KE, NONCE, *NATS, CertReqPayload(4, bytes(40)))),
        "init-response-cookie": (INIT_ANSWER, (_notify(NotifyType.COOKIE, bytes(33)),)),
        "init-response-invalid-ke": (INIT_ANSWER, (_notify(NotifyType.INVALID_KE_PAYLOAD, b"\0\x14"),)),
        "init-response-no-proposal": (INIT_ANSWER, (_notify(NotifyType.NO_PROPOSAL_CHOSEN),)),
        "auth-psk": (
            AUTH,
            (
                IdPayload(True, IdType.FQDN, b"gw-a.example"),
                IdPayload(False, IdType.IPV4_ADDR, bytes([192, 0, 2, 2])),
                AuthPayload(AuthMethod.SHARED_KEY_MIC, bytes(48)),
                _notify(NotifyType.INITIAL_CONTACT),
                esp,
                TSI,
                TSR,
            ),
        ),
        "auth-certificates": (
            AUTH,
            (
                IdPayload(True, IdType.DER_ASN1_DN, bytes.fromhex("300f310d300b06035504030c0467772d61")),
                CertPayload(CertEncoding.X509_SIGNATURE, bytes(200)),
                CertPayload(CertEncoding.X509_SIGNATURE, bytes(100)),
                CertReqPayload(CertEncoding.X509_SIGNATURE, bytes(20)),
                AuthPayload(AuthMethod.DIGITAL_SIGNATURE, b"\x0f" + bytes(15) + bytes(64)),
            ),
        ),
        "auth-eap-and-configuration": (
            AUTH,
            (
                EapPayload(bytes.fromhex("0101000501")),
                CpPayload(
                    ConfigType.REQUEST,
                    ((ConfigAttribute.INTERNAL_IP4_ADDRESS, b""), (ConfigAttribute.INTERNAL_DNS_DOMAIN, b"example")),
                ),
                VendorIdPayload(b"a vendor"),
                UnknownPayload(200, b"skipped"),
            ),
        ),
        "child-rekey": (CHILD, (NotifyPayload(NotifyType.REKEY_SA, b"", 3, SPI), esp, NONCE, KE, TSI, TSR)),
        "child-transport": (CHILD, (_notify(NotifyType.USE_TRANSPORT_MODE), esp, NONCE, TSI, TSR)),
        "ike-rekey": (CHILD, (ike_rekey, NONCE, KE)),
        "delete-children": (INFO, (DeletePayload(3, (SPI, b"\0\0\x56\x78")),)),
        "delete-ike": (INFO, (DeletePayload(1),)),
        "liveness": (INFO, ()),
    }
    for name, (header, payloads) in clear.items():
        yield name, name.replace("-", " "), encode_message(header, payloads)
    seal, _ = sealers()
    yield "sk-liveness", "an empty INFORMATIONAL in an SK payload", seal_message(INFO, (), seal)
    large = (CertPayload(CertEncoding.X509_SIGNATURE, bytes(300)),)
    for at, piece in enumerate(seal_fragments(AUTH, large, seal, 200), 1):
        yield f"skf-{at}", f"fragment {at} of an IKE_AUTH", piece


def _chain(payload_type: int, body: str) -> bytes:
    data = bytes.fromhex(body)
    message = encode_message(INIT, [])[:16] + bytes([payload_type]) + encode_message(INIT, [])[17:24]
    return message + (32 + len(data)).to_bytes(4, "big") + b"\0\0" + (4 + len(data)).to_bytes(2, "big") + data


def broken() -> Iterator[tuple[str, str, bytes]]:
    """(name, what is wrong, message)"""
    good = encode_message(INIT, (to_wire(DEFAULT_IKE_PROPOSALS, b""), KE, NONCE))
    yield "empty", "no bytes at all", b""
    yield "short-header", "27 bytes, a header has 28", good[:27]
    yield (
        "length-too-long",
        "says one byte more than there is",
        good[:24] + (len(good) + 1).to_bytes(4, "big") + good[28:],
    )
    yield (
        "length-too-short",
        "says one byte less than there is",
        good[:24] + (len(good) - 1).to_bytes(4, "big") + good[28:],
    )
    yield "cut-in-half", "ends in the middle", good[: len(good) // 2]
    yield "cut-in-half-honest", "ends in the middle, and its length says so", _with_length(good[: len(good) // 2])
    yield "version-1", "IKEv1", good[:17] + b"\x10" + good[18:]
    yield "version-3", "a version to come", good[:17] + b"\x30" + good[18:]
    yield "spi-zero", "an initiator's SPI of zero", bytes(8) + good[8:]
    yield "critical", "an unknown payload that is critical", encode_message(INIT, [UnknownPayload(200, b"?", True)])
    yield (
        "payload-of-0-bytes",
        "a payload whose length is 0: it would loop",
        _with_length(good[:30] + b"\0\0" + good[32:]),
    )
    yield "payload-of-65535-bytes", "a payload beyond the message", good[:30] + b"\xff\xff" + good[32:]
    yield "no-last-payload", "the last payload names another", _named_next(good)
    yield "trailing-byte", "a byte behind the last payload", _with_length(good + b"\0")
    yield "65-payloads", "more payloads than are taken", encode_message(INIT, [VendorIdPayload(b"")] * 65)
    yield "nonce-15", "a nonce of 15 bytes", _chain(PayloadType.NONCE, "aa" * 15)
    yield "nonce-257", "a nonce of 257 bytes", _chain(PayloadType.NONCE, "aa" * 257)
    yield "proposals-1-3", "proposals numbered 1, 3", _chain(PayloadType.SA, "02000008010100000000000803010000")
    yield "transform-count", "more transforms promised", _chain(PayloadType.SA, "00000010010100020000000801000014")
    yield "transform-of-0-bytes", "a transform of 0 bytes", _chain(PayloadType.SA, "00000010010100010300000001000014")
    yield (
        "key-length-tlv",
        "a key length in the long format",
        _chain(PayloadType.SA, "00000016010100010000000e0100000c000e00020080"),
    )
    yield "ts-upside-down", "addresses upside down", _chain(PayloadType.TSI, "01000000070000100000ffff0a0000ff0a000000")
    yield (
        "ts-count",
        "255 selectors promised, one there",
        _chain(PayloadType.TSR, "ff000000070000100000ffff0a0000000a0000ff"),
    )
    yield "delete-65535", "65535 SPIs of no bytes", _chain(PayloadType.DELETE, "0700ffff")
    yield "notify-spi", "an SPI beyond the notification", _chain(PayloadType.NOTIFY, "03ff4009aabb")
    yield "cp-attribute", "an attribute beyond the payload", _chain(PayloadType.CP, "010000000001ffff")
    yield "eap-length", "an EAP message that says another length", _chain(PayloadType.EAP, "010100ff01")
    seal, _ = sealers()
    protected = seal_message(INFO, (), seal)
    yield "sk-forged", "an ICV that does not verify", protected[:-1] + bytes([protected[-1] ^ 1])
    yield "sk-short", "an SK payload without room for its ICV", _with_length(protected[:40], inner=True)
    yield (
        "sk-behind-vendor-id",
        "a payload in the clear before SK",
        encode_message(INFO, (VendorIdPayload(b"x"), UnknownPayload(PayloadType.SK, protected[32:]))),
    )
    yield "sk-then-vendor-id", "a payload behind SK", _with_length(protected + b"\0\0\0\4")
    fragment = seal_fragments(AUTH, (VendorIdPayload(bytes(300)),), seal, 200)[0]
    yield "skf-0-of-0", "fragment 0 of 0", fragment[:32] + bytes(4) + fragment[36:]
    yield "skf-3-of-2", "fragment 3 of 2", fragment[:32] + bytes.fromhex("00030002") + fragment[36:]
    yield "skf-1-of-65535", "more fragments than are taken", fragment[:32] + bytes.fromhex("0001ffff") + fragment[36:]
    yield "skf-short", "no fragment numbers", _with_length(fragment[:34], inner=True)
    many = SaPayload(tuple(WireProposal(n, 1, b"", (WireTransform(1, 20),)) for n in range(1, 66)))
    yield "65-proposals", "more proposals than are taken", encode_message(INIT, (many,))


def _with_length(data: bytes, *, inner: bool = False) -> bytes:
    data = data[:24] + len(data).to_bytes(4, "big") + data[28:]
    return data[:30] + (len(data) - 28).to_bytes(2, "big") + data[32:] if inner else data


def _named_next(data: bytes) -> bytes:
    last = len(data) - len(NONCE.data) - 4
    return data[:last] + bytes([PayloadType.NONCE]) + data[last + 1 :]


def main() -> None:
    """Write all files."""
    for kind, messages in (("valid", valid()), ("broken", broken())):
        folder = CORPUS / kind
        folder.mkdir(parents=True, exist_ok=True)
        for name, comment, message in messages:
            (folder / f"{name}.hex").write_text("\n".join([f"# {comment}", *wrap(message.hex(), 96), ""]))


if __name__ == "__main__":
    main()
