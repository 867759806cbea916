"""The payloads that hold a few fixed fields and one blob (RFC 7296 §3.4 to §3.12, §3.15, §3.16).

``parse`` takes a payload's bytes behind the generic header and raises MalformedMessage only; ``encode`` is its inverse.
Every length is checked before the bytes are touched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from appliance.ike.constants import CertEncoding, IdType, PayloadType
from appliance.ike.errors import MalformedMessage
from appliance.sa.proposal import ProtocolId

MIN_NONCE = 16
MAX_NONCE = 256
_RESERVED = b"\0\0\0"
_ADDRESS_LENGTHS: dict[int, int] = {IdType.IPV4_ADDR: 4, IdType.IPV6_ADDR: 16}
_AUTHORITY = 20  # a SHA-1 of a trust anchor's public key (RFC 7296 §3.7)


@dataclass(frozen=True, slots=True)
class KePayload:
    """Key Exchange, §3.4. Whether ``data`` fits the method is ``ke``'s to say."""

    method: int
    data: bytes
    critical: bool = False

    @property
    def payload_type(self) -> int:
        """Its number in the chain."""
        return PayloadType.KE

    def encode(self) -> bytes:
        """The bytes behind the generic header."""
        return self.method.to_bytes(2, "big") + b"\0\0" + self.data

    @classmethod
    def parse(cls, body: bytes, critical: bool = False) -> Self:
        """Inverse of ``encode``."""
        _at_least(body, 4, "KE", "§3.4")
        return cls(int.from_bytes(body[:2], "big"), body[4:], critical)


@dataclass(frozen=True, slots=True)
class IdPayload:
    """Identification of the initiator (IDi) or the responder (IDr), §3.5.

    ``reserved`` keeps what the peer sent there: AUTH covers it (§2.15), so it must not be read as zero.
    """

    initiator: bool
    id_type: int
    data: bytes
    reserved: bytes = _RESERVED
    critical: bool = False

    @property
    def payload_type(self) -> int:
        """Its number in the chain."""
        return PayloadType.IDI if self.initiator else PayloadType.IDR

    @property
    def body(self) -> bytes:
        """RestOfInitIDPayload or RestOfRespIDPayload: what AUTH covers (§2.15)."""
        return bytes([self.id_type]) + self.reserved + self.data

    def encode(self) -> bytes:
        """The bytes behind the generic header."""
        return self.body

    @classmethod
    def parse(cls, body: bytes, initiator: bool, critical: bool = False) -> Self:
        """Inverse of ``encode``. Addresses must have their family's length."""
        _at_least(body, 4, "ID", "§3.5")
        length = len(body) - 4
        if length != _ADDRESS_LENGTHS.get(body[0], length):
            raise MalformedMessage(f"ID {IdType(body[0]).name} of {length} bytes (RFC 7296 §3.5)")
        return cls(initiator, body[0], body[4:], body[1:4], critical)


@dataclass(frozen=True, slots=True)
class CertPayload:
    """Certificate, §3.6."""

    encoding: int
    data: bytes
    critical: bool = False

    @property
    def payload_type(self) -> int:
        """Its number in the chain."""
        return PayloadType.CERT

    def encode(self) -> bytes:
        """The bytes behind the generic header."""
        return bytes([self.encoding]) + self.data

    @classmethod
    def parse(cls, body: bytes, critical: bool = False) -> Self:
        """Inverse of ``encode``."""
        _at_least(body, 1, "CERT", "§3.6")
        return cls(body[0], body[1:], critical)


@dataclass(frozen=True, slots=True)
class CertReqPayload:
    """Certificate Request, §3.7. ``authorities``: for X509_SIGNATURE, SHA-1 hashes of trusted public keys in a row."""

    encoding: int
    authorities: bytes
    critical: bool = False

    @property
    def payload_type(self) -> int:
        """Its number in the chain."""
        return PayloadType.CERTREQ

    @property
    def key_hashes(self) -> tuple[bytes, ...]:
        """The hashes, 20 bytes each; none if the encoding has no hashes or the row has a part of one.

        A request is advice, so a bad one costs the advice and not the message.
        """
        if self.encoding != CertEncoding.X509_SIGNATURE or len(self.authorities) % _AUTHORITY:
            return ()
        return tuple(self.authorities[at : at + _AUTHORITY] for at in range(0, len(self.authorities), _AUTHORITY))

    def encode(self) -> bytes:
        """The bytes behind the generic header."""
        return bytes([self.encoding]) + self.authorities

    @classmethod
    def parse(cls, body: bytes, critical: bool = False) -> Self:
        """Inverse of ``encode``."""
        _at_least(body, 1, "CERTREQ", "§3.7")
        return cls(body[0], body[1:], critical)


@dataclass(frozen=True, slots=True)
class AuthPayload:
    """Authentication, §3.8."""

    method: int
    data: bytes
    critical: bool = False

    @property
    def payload_type(self) -> int:
        """Its number in the chain."""
        return PayloadType.AUTH

    def encode(self) -> bytes:
        """The bytes behind the generic header."""
        return bytes([self.method]) + _RESERVED + self.data

    @classmethod
    def parse(cls, body: bytes, critical: bool = False) -> Self:
        """Inverse of ``encode``."""
        _at_least(body, 4, "AUTH", "§3.8")
        return cls(body[0], body[4:], critical)


@dataclass(frozen=True, slots=True)
class NoncePayload:
    """Nonce, §3.9: 16 to 256 bytes."""

    data: bytes
    critical: bool = False

    @property
    def payload_type(self) -> int:
        """Its number in the chain."""
        return PayloadType.NONCE

    def encode(self) -> bytes:
        """The bytes behind the generic header."""
        return self.data

    @classmethod
    def parse(cls, body: bytes, critical: bool = False) -> Self:
        """Inverse of ``encode``."""
        if not MIN_NONCE <= len(body) <= MAX_NONCE:
            raise MalformedMessage(f"nonce has {len(body)} bytes, not {MIN_NONCE} to {MAX_NONCE} (RFC 7296 §3.9)")
        return cls(body, critical)


@dataclass(frozen=True, slots=True)
class NotifyPayload:
    """Notify, §3.10. What ``data`` must look like depends on ``type`` and is left to who understands the type."""

    type: int
    data: bytes = b""
    protocol: int = 0
    spi: bytes = b""
    critical: bool = False

    @property
    def payload_type(self) -> int:
        """Its number in the chain."""
        return PayloadType.NOTIFY

    def encode(self) -> bytes:
        """The bytes behind the generic header."""
        return bytes([self.protocol, len(self.spi)]) + self.type.to_bytes(2, "big") + self.spi + self.data

    @classmethod
    def parse(cls, body: bytes, critical: bool = False) -> Self:
        """Inverse of ``encode``."""
        _at_least(body, 4, "N", "§3.10")
        end = 4 + body[1]
        if end > len(body):
            raise MalformedMessage(f"notify has {len(body) - 4} bytes for an SPI of {body[1]} (RFC 7296 §3.10)")
        return cls(int.from_bytes(body[2:4], "big"), body[end:], body[0], body[4:end], critical)


@dataclass(frozen=True, slots=True)
class DeletePayload:
    """Delete, §3.11: the SPIs that its sender would have received on; none for the IKE SA itself."""

    protocol: int
    spis: tuple[bytes, ...] = ()
    critical: bool = False

    @property
    def payload_type(self) -> int:
        """Its number in the chain."""
        return PayloadType.DELETE

    def encode(self) -> bytes:
        """The bytes behind the generic header. Raises ValueError for SPIs of different lengths."""
        size = len(self.spis[0]) if self.spis else (4 if self.protocol in (ProtocolId.AH, ProtocolId.ESP) else 0)
        if any(len(spi) != size for spi in self.spis):
            raise ValueError("the SPIs of a Delete payload have one length")
        return bytes([self.protocol, size]) + len(self.spis).to_bytes(2, "big") + b"".join(self.spis)

    @classmethod
    def parse(cls, body: bytes, critical: bool = False) -> Self:
        """Inverse of ``encode``."""
        _at_least(body, 4, "D", "§3.11")
        protocol, size, count = body[0], body[1], int.from_bytes(body[2:4], "big")
        if protocol == ProtocolId.IKE and (size or count):
            raise MalformedMessage("a delete of the IKE SA has no SPIs (RFC 7296 §3.11)")
        if protocol in (ProtocolId.AH, ProtocolId.ESP) and size != 4:
            raise MalformedMessage(f"a delete of ESP or AH has SPIs of {size} bytes, not 4 (RFC 7296 §3.11)")
        if size * count != len(body) - 4 or (count and not size):
            raise MalformedMessage(f"delete has {len(body) - 4} bytes for {count} SPIs of {size} (RFC 7296 §3.11)")
        return cls(protocol, tuple(body[at : at + size] for at in range(4, len(body), size or 1)), critical)


@dataclass(frozen=True, slots=True)
class VendorIdPayload:
    """Vendor ID, §3.12."""

    data: bytes
    critical: bool = False

    @property
    def payload_type(self) -> int:
        """Its number in the chain."""
        return PayloadType.VENDOR_ID

    def encode(self) -> bytes:
        """The bytes behind the generic header."""
        return self.data

    @classmethod
    def parse(cls, body: bytes, critical: bool = False) -> Self:
        """Inverse of ``encode``. Anything goes."""
        return cls(body, critical)


@dataclass(frozen=True, slots=True)
class CpPayload:
    """Configuration, §3.15. ``attributes`` are (type, value)."""

    type: int
    attributes: tuple[tuple[int, bytes], ...] = ()
    critical: bool = False

    @property
    def payload_type(self) -> int:
        """Its number in the chain."""
        return PayloadType.CP

    def encode(self) -> bytes:
        """The bytes behind the generic header."""
        parts = [bytes([self.type]), _RESERVED]
        for kind, value in self.attributes:
            parts += [(kind & 0x7FFF).to_bytes(2, "big"), len(value).to_bytes(2, "big"), value]
        return b"".join(parts)

    @classmethod
    def parse(cls, body: bytes, critical: bool = False) -> Self:
        """Inverse of ``encode``."""
        _at_least(body, 4, "CP", "§3.15")
        attributes = []
        at = 4
        while at < len(body):
            if len(body) - at < 4:
                raise MalformedMessage(f"CP ends with {len(body) - at} bytes of an attribute (RFC 7296 §3.15.1)")
            kind = int.from_bytes(body[at : at + 2], "big") & 0x7FFF  # the top bit is reserved and ignored
            length = int.from_bytes(body[at + 2 : at + 4], "big")
            at += 4
            if length > len(body) - at:
                raise MalformedMessage(f"CP attribute of {length} bytes, {len(body) - at} left (RFC 7296 §3.15.1)")
            attributes.append((kind, body[at : at + length]))
            at += length
        return cls(body[0], tuple(attributes), critical)


@dataclass(frozen=True, slots=True)
class EapPayload:
    """Extensible Authentication Protocol, §3.16: one EAP message."""

    data: bytes
    critical: bool = False

    @property
    def payload_type(self) -> int:
        """Its number in the chain."""
        return PayloadType.EAP

    def encode(self) -> bytes:
        """The bytes behind the generic header."""
        return self.data

    @classmethod
    def parse(cls, body: bytes, critical: bool = False) -> Self:
        """Inverse of ``encode``."""
        _at_least(body, 4, "EAP", "§3.16")
        length = int.from_bytes(body[2:4], "big")
        if length != len(body):
            raise MalformedMessage(f"EAP message of {len(body)} bytes says {length} (RFC 7296 §3.16)")
        return cls(body, critical)


@dataclass(frozen=True, slots=True)
class UnknownPayload:
    """A payload of a type that is not known here: skipped, unless it is critical (§2.5)."""

    payload_type: int
    data: bytes
    critical: bool = False

    def encode(self) -> bytes:
        """The bytes behind the generic header."""
        return self.data


def _at_least(body: bytes, length: int, payload: str, section: str) -> None:
    if len(body) < length:
        raise MalformedMessage(f"{payload} payload has {len(body)} bytes of {length} (RFC 7296 {section})")
