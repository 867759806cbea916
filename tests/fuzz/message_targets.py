"""What the codec must do with any bytes: parse them or raise MalformedMessage, nothing else, and mean what it parsed.

The first byte chooses the target, so one corpus and one coverage serve all. Used by the atheris harness and, with
mutated corpus files, by the ordinary tests.
"""

from __future__ import annotations

from itertools import count

from appliance.ike.choose import (
    check_esp_choice,
    check_ike_choice,
    choose_esp,
    choose_ike,
    describe_offer,
    inconsistency,
    to_wire,
)
from appliance.ike.constants import PayloadType
from appliance.ike.fragment import Reassembler, fragment_number
from appliance.ike.message import (
    HEADER_LENGTH,
    Header,
    MalformedMessage,
    encode_message,
    open_message,
    parse_header,
    seal_fragments,
)
from appliance.ike.payloads import Payload, SaPayload, TsPayload, UnknownPayload, encode_payloads, parse_payloads
from appliance.ike.sealing import Sealer
from appliance.sa.algorithms import Encryption, Integrity
from appliance.sa.proposal import DEFAULT_ESP_PROPOSALS, DEFAULT_IKE_PROPOSALS

_SPI = b"\0\0\1\1"
_IKE_OFFER = to_wire(DEFAULT_IKE_PROPOSALS, b"")
_ESP_OFFER = to_wire(DEFAULT_ESP_PROPOSALS, _SPI)
_HEADER = Header(b"initspi!", b"respspi!", 0, 35, 1, initiator=True, response=False)


def sealers() -> tuple[Sealer, Sealer]:
    """Two with one key, an AEAD: one that seals and one that opens."""
    key = bytes(range(36))
    one, two = (Sealer(Encryption.AES_GCM_16, 256, Integrity.NONE, key, b"", bytes) for _ in range(2))
    return one, two


def cbc_sealer() -> Sealer:
    """One with CBC and HMAC; IVs need not be unpredictable here."""
    return Sealer(Encryption.AES_CBC, 128, Integrity.HMAC_SHA2_256_128, bytes(16), bytes(32), bytes)


def one_input(data: bytes) -> None:
    """Run the target that the first byte chooses on the rest. Raises AssertionError, or what should never be raised."""
    if data:
        TARGETS[data[0] % len(TARGETS)](data[1:])


def datagram(data: bytes) -> None:
    """A datagram as it comes from anybody."""
    try:
        header = parse_header(data)
        assert header.length == len(data)
        if header.next_payload == PayloadType.SK:
            for sealer in (sealers()[1], cbc_sealer()):
                _expect_malformed(data, header, sealer)
        elif header.next_payload == PayloadType.SKF:
            number, total = fragment_number(data, header)
            assert 1 <= number <= total
            Reassembler().add(data, header, sealers()[1])
        else:
            _same_again(parse_payloads(header.next_payload, data[HEADER_LENGTH:]))
    except MalformedMessage as error:
        assert error.detail


def _expect_malformed(data: bytes, header: Header, sealer: Sealer) -> None:
    try:
        open_message(data, header, sealer)
    except MalformedMessage as error:
        assert error.detail


def chain(data: bytes) -> None:
    """A chain of payloads as an authentic but careless peer might send it: its first type, then the payloads."""
    if not data:
        return
    try:
        _same_again(parse_payloads(data[0], data[1:]))
    except MalformedMessage as error:
        assert error.detail


def _same_again(payloads: tuple[Payload, ...]) -> None:
    """What was parsed must encode, and parse to the same, wherever the values keep all that the wire had."""
    for payload in payloads:
        if isinstance(payload, SaPayload):
            negotiate(payload)
            if any(t.unknown_attributes for p in payload.proposals for t in p.transforms):
                return
        if isinstance(payload, TsPayload) and payload.unknown:
            return
        if isinstance(payload, UnknownPayload):
            assert not payload.critical
    assert parse_payloads(*encode_payloads(payloads)) == payloads


def negotiate(sa: SaPayload) -> None:
    """An offer, or an answer to ours; what a responder chooses from an offer, its initiator must accept."""
    assert describe_offer(sa)
    ike, esp = choose_ike(sa, DEFAULT_IKE_PROPOSALS), choose_esp(sa, DEFAULT_ESP_PROPOSALS)
    if ike is not None:
        again = check_ike_choice(sa, ike.to_wire(b"\1" * len(ike.spi)))
        assert again is not None
        assert again.suite == ike.suite
    if esp is not None:
        child = check_esp_choice(sa, esp.to_wire(_SPI))
        assert child is not None
        assert (child.suite, child.ke) == (esp.suite, esp.ke)
    for offer in (_IKE_OFFER, _ESP_OFFER):
        if check_ike_choice(offer, sa) is None and check_esp_choice(offer, sa) is None:
            assert inconsistency(offer, sa)


def proposals(data: bytes) -> None:
    """The contents of an SA payload."""
    try:
        negotiate(SaPayload.parse(data))
    except MalformedMessage as error:
        assert error.detail


def fragments(data: bytes) -> None:
    """Authentic fragments in an order, with repeats and changes of size, as ``data`` says; and what they make."""
    seal, open_ = sealers()
    payloads = (UnknownPayload(200, data), UnknownPayload(201, bytes(900)))
    sets = [seal_fragments(_HEADER, payloads, seal, size) for size in (200, 300, 2000 + len(data))]
    reassembler = Reassembler(max_fragments=64, max_bytes=8192)
    for step, byte in zip(count(), data, strict=False):
        pieces = sets[byte >> 6 if byte >> 6 < 3 else 0]
        piece = pieces[(byte & 63) % len(pieces)]
        if byte == 0xFF:
            piece = piece[:-1] + bytes([piece[-1] ^ (step & 7)])
        try:
            header = parse_header(piece)
            if header.next_payload == PayloadType.SKF:
                whole = reassembler.add(piece, header, open_)
            else:
                whole = open_message(piece, header, open_)
        except MalformedMessage:
            continue
        assert reassembler.held <= 8192
        if whole is not None:
            assert parse_payloads(*whole) == payloads


def sealed(data: bytes) -> None:
    """Authentic contents that are anything: opening gives them back, parsing them raises nothing unexpected."""
    if not data:
        return
    seal, open_ = sealers()
    head = encode_message(_HEADER, [])
    for one, two in ((seal, open_), (cbc_sealer(), cbc_sealer())):
        length = 4 + len(data) - 1 + one.overhead(len(data) - 1)
        aad = head[:16] + bytes([PayloadType.SK]) + head[17:24] + (HEADER_LENGTH + length).to_bytes(4, "big")
        aad += bytes([data[0], 0]) + length.to_bytes(2, "big")
        message = aad + one.seal(aad, data[1:])
        first_type, contents = open_message(message, parse_header(message), two)
        assert (first_type, contents) == (data[0], data[1:])
    chain(data)


TARGETS = (datagram, chain, proposals, fragments, sealed)
