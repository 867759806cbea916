"""IKE messages: the header (RFC 7296 §3.1) and the Encrypted payload around the others (§3.14, RFC 7383 §2.5)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from struct import Struct

from appliance.ike.constants import IKE_SPI_LENGTH, MAJOR_VERSION, MINOR_VERSION, Flag, PayloadType
from appliance.ike.errors import IntegrityFailure, MalformedMessage, UnsupportedCritical
from appliance.ike.payloads.chain import GENERIC_HEADER, Payload, encode_payloads, generic_header
from appliance.ike.sealing import Sealer

__all__ = [
    "HEADER_LENGTH",
    "Header",
    "IntegrityFailure",
    "InvalidMajorVersion",
    "MalformedMessage",
    "UnsupportedCritical",
    "encode_message",
    "open_message",
    "parse_header",
    "seal_fragments",
    "seal_message",
]

_HEADER = Struct(">8s8sBBBBII")
HEADER_LENGTH = _HEADER.size
FRAGMENT_FIELDS = 4
"""Fragment Number and Total Fragments of an SKF payload (RFC 7383 §2.5)."""

_NO_SPI = bytes(IKE_SPI_LENGTH)


@dataclass(frozen=True, slots=True)
class Header:
    """The IKE header. SPIs are 8 bytes; ``responder_spi`` is zeros in a first request.

    ``initiator`` and ``higher_version`` are the flags I and V, ``response`` is R. ``next_payload`` and ``length`` are
    filled by whatever encodes.
    """

    initiator_spi: bytes
    responder_spi: bytes
    next_payload: int
    exchange: int
    message_id: int
    initiator: bool
    response: bool
    major: int = MAJOR_VERSION
    minor: int = MINOR_VERSION
    higher_version: bool = False
    length: int = 0

    def encode(self) -> bytes:
        """28 bytes."""
        flags = Flag.INITIATOR * self.initiator | Flag.RESPONSE * self.response | Flag.VERSION * self.higher_version
        return _HEADER.pack(
            self.initiator_spi,
            self.responder_spi,
            self.next_payload,
            self.major << 4 | self.minor,
            self.exchange,
            flags,
            self.message_id,
            self.length,
        )


class InvalidMajorVersion(MalformedMessage):
    """A higher major version than ours: answered with INVALID_MAJOR_VERSION and our version (RFC 7296 §2.5)."""

    def __init__(self, header: Header) -> None:
        super().__init__(f"version {header.major}.{header.minor}, not {MAJOR_VERSION} (RFC 7296 §2.5)")
        self.header = header


def parse_header(data: bytes) -> Header:
    """The header of a whole datagram (without the non-ESP marker).

    Raises InvalidMajorVersion for versions above 2, MalformedMessage for a datagram that is shorter than a header or is
    not as long as its header says, for versions below 2, and for an initiator's SPI of zero. Any exchange and payload
    type passes; so do higher minor versions and reserved flags (§2.5, §3.1).
    """
    if len(data) < HEADER_LENGTH:
        raise MalformedMessage(f"message of {len(data)} bytes, a header has {HEADER_LENGTH} (RFC 7296 §3.1)")
    spi_i, spi_r, next_payload, version, exchange, flags, message_id, length = _HEADER.unpack_from(data)
    header = Header(
        spi_i,
        spi_r,
        next_payload,
        exchange,
        message_id,
        bool(flags & Flag.INITIATOR),
        bool(flags & Flag.RESPONSE),
        version >> 4,
        version & 15,
        bool(flags & Flag.VERSION),
        length,
    )
    if header.major > MAJOR_VERSION:  # before all else: the rest of the format is only known for our version
        raise InvalidMajorVersion(header)
    if header.major < MAJOR_VERSION:
        raise MalformedMessage(f"version {header.major}.{header.minor} is not IKEv2 (RFC 7296 §2.5)")
    if length != len(data):
        raise MalformedMessage(f"message of {len(data)} bytes says {length} (RFC 7296 §3.1)")
    if spi_i == _NO_SPI:
        raise MalformedMessage("the initiator's SPI is zero (RFC 7296 §3.1)")
    return header


def encode_message(header: Header, payloads: Iterable[Payload]) -> bytes:
    """A message in the clear. ``header.next_payload`` and ``header.length`` are filled in."""
    next_payload, body = encode_payloads(payloads)
    return replace(header, next_payload=next_payload, length=HEADER_LENGTH + len(body)).encode() + body


def seal_message(header: Header, payloads: Iterable[Payload], sealer: Sealer) -> bytes:
    """A message whose payloads are in one SK payload. Raises ValueError if they do not fit the length field."""
    return _seal(header, *encode_payloads(payloads), sealer)


def open_message(data: bytes, header: Header, sealer: Sealer) -> tuple[int, bytes]:
    """(type of the first payload, the chain's bytes) of a message with an SK payload, for ``parse_payloads``.

    ``header`` is ``parse_header(data)``. The SK payload must be the only one outside: payloads before it would not be
    encrypted, and §3.14 lets nothing follow it. Raises IntegrityFailure if the message was not made with these keys,
    MalformedMessage before that (unauthenticated: drop it) and behind it (authentic but broken).
    """
    if header.next_payload != PayloadType.SK:
        raise MalformedMessage(f"payload type {header.next_payload} outside the Encrypted payload (RFC 7296 §3.14)")
    next_payload, _, length = generic_header(data, HEADER_LENGTH)
    if HEADER_LENGTH + length != len(data):
        raise MalformedMessage("the Encrypted payload is not the last (RFC 7296 §3.14)")
    split = HEADER_LENGTH + GENERIC_HEADER
    return next_payload, sealer.open(data[:split], data[split:])


def seal_fragments(header: Header, payloads: Iterable[Payload], sealer: Sealer, max_datagram: int) -> list[bytes]:
    """The message as datagrams of at most ``max_datagram`` bytes (IKE message, without UDP header and marker).

    One SK message if that fits, else SKF messages (RFC 7383 §2.5), all but the last of the same size. Raises ValueError
    if ``max_datagram`` leaves no room for contents, or the message needs more than 65535 fragments.
    """
    first_type, plaintext = encode_payloads(payloads)
    if HEADER_LENGTH + GENERIC_HEADER + len(plaintext) + sealer.overhead(len(plaintext)) <= max_datagram:
        return [_seal(header, first_type, plaintext, sealer)]
    room = sealer.capacity(max_datagram - HEADER_LENGTH - GENERIC_HEADER - FRAGMENT_FIELDS)
    if room < 1:
        raise ValueError(f"datagrams of {max_datagram} bytes have no room for fragments")
    pieces = [plaintext[at : at + room] for at in range(0, len(plaintext), room)] or [b""]
    if len(pieces) > 0xFFFF:
        raise ValueError(f"a message of {len(pieces)} fragments does not fit the counter (RFC 7383 §2.5)")
    total = len(pieces).to_bytes(2, "big")
    return [
        # Only the first fragment tells the type of the first payload inside (RFC 7383 §2.5).
        _seal(header, first_type if number == 1 else PayloadType.NONE, piece, sealer, number.to_bytes(2, "big") + total)
        for number, piece in enumerate(pieces, 1)
    ]


def _seal(header: Header, first_type: int, plaintext: bytes, sealer: Sealer, fragment: bytes = b"") -> bytes:
    """One SK message, or with the fields of a fragment one SKF message."""
    length = GENERIC_HEADER + len(fragment) + len(plaintext) + sealer.overhead(len(plaintext))
    if length > 0xFFFF:
        raise ValueError(f"an Encrypted payload of {length} bytes does not fit its length field")
    outer = PayloadType.SKF if fragment else PayloadType.SK
    head = replace(header, next_payload=outer, length=HEADER_LENGTH + length).encode()
    aad = head + bytes([first_type, 0]) + length.to_bytes(2, "big") + fragment
    return aad + sealer.seal(aad, plaintext)
