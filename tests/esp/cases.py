"""What the tests of this room share: suites with keys, pairs of SAs, and packets to protect."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import shake_128
from ipaddress import ip_address

from appliance.esp.encapsulation import Transport
from appliance.esp.inbound import InboundSa
from appliance.esp.ip import Ipv4Header, Ipv6Header
from appliance.esp.outbound import OutboundSa
from appliance.esp.replay import ReplayWindow
from appliance.esp.transform import Transform, transform
from appliance.esp.tunnel import Tunnel
from appliance.reasons import Reason

SPI = 0xC0FFEE01


def octets(label: str, length: int) -> bytes:
    """Bytes that look random and are the same every time."""
    return shake_128(label.encode()).digest(length)


@dataclass(frozen=True)
class SuiteCase:
    """One suite: IKEv2 numbers, key lengths in bytes, and what Scapy calls its algorithms."""

    name: str
    encryption: int
    integrity: int
    key: int
    integrity_key: int
    scapy_cipher: str
    scapy_integrity: str | None

    @property
    def keys(self) -> tuple[bytes, bytes]:
        return octets(f"{self.name} e", self.key), octets(f"{self.name} a", self.integrity_key)

    def transform(self) -> Transform:
        return transform(self.encryption, self.integrity, *self.keys)


_HMACS = ((12, 32, "SHA2-256-128"), (13, 48, "SHA2-384-192"), (14, 64, "SHA2-512-256"))

SUITES = (
    *(SuiteCase(f"gcm{bits}", 20, 0, bits // 8 + 4, 0, "AES-GCM", None) for bits in (128, 192, 256)),
    SuiteCase("chacha", 28, 0, 36, 0, "CHACHA20-POLY1305", None),
    *(
        SuiteCase(f"cbc{bits}-{name}", 12, number, bits // 8, length, "AES-CBC", name)
        for bits in (128, 192, 256)
        for number, length, name in _HMACS
    ),
    *(SuiteCase(f"null-{name}", 11, number, 0, length, "NULL", name) for number, length, name in _HMACS),
)


def pair(suite: SuiteCase, *, esn: bool = False, window: int = 64) -> tuple[OutboundSa, InboundSa]:
    """Both ends of an SA. IVs of CBC come from a counter, so that a test repeats."""
    count = 0

    def random(length: int) -> bytes:
        nonlocal count
        count += 1
        return octets(f"iv {count}", length)

    out = OutboundSa(SPI, suite.transform(), esn=esn, random=random)
    return out, InboundSa(SPI, suite.transform(), ReplayWindow(window, esn=esn))


V4_SOURCE, V4_DESTINATION = ip_address("10.1.0.5"), ip_address("10.2.0.9")
V6_SOURCE, V6_DESTINATION = ip_address("fd01::5"), ip_address("fd02::9")
OUTER = {
    4: (ip_address("192.0.2.1"), ip_address("192.0.2.2")),
    6: (ip_address("2001:db8::1"), ip_address("2001:db8::2")),
}


def ipv4(payload: bytes = b"", *, protocol: int = 253, **fields: object) -> bytes:
    """An IPv4 packet with any header fields. Protocol 253 is for experiments (RFC 3692)."""
    options = fields.get("options", b"")
    assert isinstance(options, bytes)
    values: dict[str, object] = {
        "source": V4_SOURCE.packed,
        "destination": V4_DESTINATION.packed,
        "protocol": protocol,
        "total_length": 20 + len(options) + len(payload),
        **fields,
    }
    return Ipv4Header(**values).build() + payload  # type: ignore[arg-type]


def ipv6(payload: bytes = b"", *, protocol: int = 253, **fields: object) -> bytes:
    """An IPv6 packet with any header fields."""
    values: dict[str, object] = {
        "source": V6_SOURCE.packed,
        "destination": V6_DESTINATION.packed,
        "protocol": protocol,
        "total_length": 40 + len(payload),
        **fields,
    }
    return Ipv6Header(**values).build() + payload  # type: ignore[arg-type]


def tunnel(version: int, **fields: object) -> Tunnel:
    """A tunnel between documentation addresses."""
    source, destination = OUTER[version]
    return Tunnel(source=source, destination=destination, **fields)  # type: ignore[arg-type]


FORMS = {
    "tunnel4": tunnel(4),
    "tunnel6": tunnel(6),
    "tunnel4-udp": tunnel(4, ports=(4500, 4500)),
    "tunnel6-udp": tunnel(6, ports=(4500, 61000)),
    "transport": Transport(),
    "transport-udp": Transport(ports=(4500, 4500)),
}

DROPS = frozenset(reason for reason in Reason if reason.kind == "drop")
