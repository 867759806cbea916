"""Hypothesis strategies for payloads and what they hold, and small sealers for messages."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from itertools import count

from hypothesis import strategies as st

from appliance.ike.message import Header
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
from appliance.ike.sealing import Sealer
from appliance.sa.algorithms import ENCRYPTION, INTEGRITY, Encryption, Integrity
from appliance.sa.selector import TrafficSelector

u8 = st.integers(0, 255)
u16 = st.integers(0, 0xFFFF)
blob = st.binary(max_size=80)
critical = st.booleans()

transforms = st.builds(WireTransform, type=u8, id=u16, key_bits=st.none() | u16)


@st.composite
def proposals(draw: st.DrawFn) -> tuple[WireProposal, ...]:
    sizes = {1: st.sampled_from([0, 8]), 2: st.just(4), 3: st.just(4)}
    found = []
    for number in range(1, draw(st.integers(1, 5)) + 1):
        protocol = draw(st.sampled_from([1, 2, 3, 3, 77]))
        size = draw(sizes.get(protocol, st.integers(0, 16)))
        spi = draw(st.binary(min_size=size, max_size=size))
        found.append(WireProposal(number, protocol, spi, tuple(draw(st.lists(transforms, max_size=6)))))
    return tuple(found)


@st.composite
def selectors(draw: st.DrawFn) -> TrafficSelector:
    family, bits = draw(st.sampled_from([(IPv4Address, 32), (IPv6Address, 128)]))
    addresses = sorted(draw(st.tuples(st.integers(0, 2**bits - 1), st.integers(0, 2**bits - 1))))
    ports = tuple(sorted(draw(st.tuples(u16, u16))))
    if draw(st.booleans()):
        ports = draw(st.sampled_from([(0, 65535), (65535, 0)]))
    return TrafficSelector(family(addresses[0]), family(addresses[1]), draw(u8), *ports)


@st.composite
def identities(draw: st.DrawFn) -> IdPayload:
    kind = draw(u8)
    size = {1: 4, 5: 16}.get(kind)
    data = draw(blob if size is None else st.binary(min_size=size, max_size=size))
    reserved = draw(st.binary(min_size=3, max_size=3))
    return IdPayload(draw(st.booleans()), kind, data, reserved, draw(critical))


@st.composite
def deletes(draw: st.DrawFn) -> DeletePayload:
    protocol = draw(st.sampled_from([1, 2, 3, 99]))
    size = {1: 0, 2: 4, 3: 4}.get(protocol, 7)
    spis = draw(st.lists(st.binary(min_size=size, max_size=size), max_size=5)) if size else []
    return DeletePayload(protocol, tuple(spis), draw(critical))


eap_messages = blob.map(lambda data: bytes([1, 7]) + (4 + len(data)).to_bytes(2, "big") + data)
known_payloads: st.SearchStrategy[Payload] = st.one_of(
    st.builds(SaPayload, proposals=proposals(), critical=critical),
    st.builds(KePayload, method=u16, data=blob, critical=critical),
    identities(),
    st.builds(CertPayload, encoding=u8, data=blob, critical=critical),
    st.builds(CertReqPayload, encoding=u8, authorities=blob, critical=critical),
    st.builds(AuthPayload, method=u8, data=blob, critical=critical),
    st.builds(NoncePayload, data=st.binary(min_size=16, max_size=256), critical=critical),
    st.builds(NotifyPayload, type=u16, data=blob, protocol=u8, spi=st.binary(max_size=16), critical=critical),
    deletes(),
    st.builds(VendorIdPayload, data=blob, critical=critical),
    st.builds(
        TsPayload,
        initiator=st.booleans(),
        selectors=st.lists(selectors(), min_size=1, max_size=6).map(tuple),
        critical=critical,
    ),
    st.builds(
        CpPayload,
        type=u8,
        attributes=st.lists(st.tuples(st.integers(0, 0x7FFF), blob), max_size=5).map(tuple),
        critical=critical,
    ),
    st.builds(EapPayload, data=eap_messages, critical=critical),
)
unknown_payloads = st.builds(
    UnknownPayload,
    payload_type=st.one_of(st.integers(1, 32), st.integers(49, 52), st.integers(54, 255)),
    data=blob,
)
chains = st.lists(known_payloads | unknown_payloads, max_size=8).map(tuple)

headers = st.builds(
    Header,
    initiator_spi=st.binary(min_size=8, max_size=8).filter(any),
    responder_spi=st.binary(min_size=8, max_size=8),
    next_payload=st.just(0),
    exchange=u8,
    message_id=st.integers(0, 2**32 - 1),
    initiator=st.booleans(),
    response=st.booleans(),
    minor=st.integers(0, 15),
    higher_version=st.booleans(),
)

CIPHERS = [
    (Encryption.AES_GCM_16, 128, Integrity.NONE),
    (Encryption.AES_GCM_16, 256, Integrity.NONE),
    (Encryption.CHACHA20_POLY1305, 256, Integrity.NONE),
    (Encryption.AES_CBC, 128, Integrity.HMAC_SHA2_256_128),
    (Encryption.AES_CBC, 256, Integrity.HMAC_SHA2_384_192),
    (Encryption.AES_CBC, 256, Integrity.HMAC_SHA2_512_256),
]
ciphers = st.sampled_from(CIPHERS)


def make_sealer(cipher: tuple[Encryption, int, Integrity], seed: int = 0) -> Sealer:
    """A sealer with made-up keys; the same for the same seed."""
    encryption, bits, integrity = cipher
    key = bytes((seed + at) & 0xFF for at in range(bits // 8 + ENCRYPTION[encryption].salt))
    auth = b"" if integrity is Integrity.NONE else bytes([seed & 0xFF]) * INTEGRITY[integrity].key
    numbers = count(1)

    def random(length: int) -> bytes:
        return (next(numbers) * 0x9E3779B97F4A7C15 % 2**128).to_bytes(length, "big")

    return Sealer(encryption, bits, integrity, key, auth, random)
