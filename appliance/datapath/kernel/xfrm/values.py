"""The small values that states, policies and events are made of.

All are frozen. ``pack`` gives the kernel's structure, ``unpack`` reads it (struct.error or Malformed if it is too
short; :func:`parse.parse` makes both Malformed). Ports and numbers are as people write them, times are seconds.
"""

from __future__ import annotations

import builtins
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from . import layout
from .constants import (
    ALGORITHM_NAME_SIZE,
    INFINITE,
    NO_OFFLOAD_FLAGS,
    REPLAY_ESN_MAX,
    EncapType,
    Mode,
    OffloadFlag,
    PolicyType,
    Protocol,
    Share,
)
from .errors import Malformed
from .wire import (
    AF_INET,
    AF_INET6,
    AF_UNSPEC,
    Address,
    Buffer,
    Key,
    Prefix,
    family_of,
    read_address,
    read_guessed_address,
    read_optional_address,
    read_prefix,
    write_prefix,
)

mode_of = lru_cache(maxsize=256)(Mode)
protocol_of = lru_cache(maxsize=256)(Protocol)
share_of = lru_cache(maxsize=256)(Share)

_NO_PORT, _EVERY_BIT = b"\0\0", b"\xff\xff"


@dataclass(frozen=True, slots=True)
class MaskedPort:
    """A port of which only the bits in ``mask`` count."""

    value: int
    mask: int


Port = int | MaskedPort | None
"""An exact port; or None for all ports. For ICMP the type is the source port and the code the destination port."""


def _port(port: Port) -> tuple[bytes, bytes]:
    if port is None:
        return _NO_PORT, _NO_PORT
    if isinstance(port, MaskedPort):
        return port.value.to_bytes(2, "big"), port.mask.to_bytes(2, "big")
    return port.to_bytes(2, "big"), _EVERY_BIT


def _read_port(value: bytes, mask: bytes) -> Port:
    if mask == _EVERY_BIT:
        return int.from_bytes(value, "big")
    if mask == value == _NO_PORT:
        return None
    return MaskedPort(int.from_bytes(value, "big"), int.from_bytes(mask, "big"))


@dataclass(frozen=True, slots=True)
class Selector:
    """struct xfrm_selector: which packets. The default is all packets of the SA's own family.

    ``source`` and ``destination`` are None only where no family is told; when building one, ``family`` may then say
    whose ``/0`` is meant (read back it is that network). ``interface`` is an index and ``user`` a user id, 0 for any.
    Larval SAs have addresses in a selector of no family: they are read as of the SA's own, or as they look.
    """

    source: Prefix | None = None
    destination: Prefix | None = None
    protocol: int = 0
    source_port: Port = None
    destination_port: Port = None
    interface: int = 0
    user: int = 0
    family: int = 0

    def values(self) -> tuple[Any, ...]:
        """The scalars of the structure."""
        if self is EVERYTHING:
            return _NO_VALUES
        source, destination = self.source, self.destination
        if source is None and destination is None:
            family, raw_source, raw_destination, source_bits, destination_bits = self.family, b"", b"", 0, 0
        else:
            family = family_of(source, destination)
            if self.family not in (AF_UNSPEC, family):
                raise ValueError(f"{source} and {destination} are not of address family {self.family}")
            raw_source, source_bits = write_prefix(source)
            raw_destination, destination_bits = write_prefix(destination)
        return (
            raw_destination,
            raw_source,
            *_port(self.destination_port),
            *_port(self.source_port),
            family,
            destination_bits,
            source_bits,
            self.protocol,
            self.interface,
            self.user,
        )

    @classmethod
    def of(cls, values: tuple[Any, ...], near: int = AF_UNSPEC) -> Selector:
        """From the scalars of the structure, of which it has :data:`SELECTOR_VALUES`.

        ``near``: the family of the addresses around it, for where it has none.
        """
        # Nearly all SAs have the same, without prefixes; policies have each their own.
        return cls._of(values, near) if values[_BITS] or values[_BITS + 1] else cls._of_few(values, near)

    @classmethod
    @lru_cache(maxsize=256)
    def _of_few(cls, values: tuple[Any, ...], near: int) -> Selector:
        return cls._of(values, near)

    @classmethod
    def _of(cls, values: tuple[Any, ...], near: int) -> Selector:
        daddr, saddr, dport, dmask, sport, smask, family, dbits, sbits, protocol, interface, user = values
        if family == AF_UNSPEC:
            if dbits or sbits or any(daddr) or any(saddr):
                wide = dbits > 32 or sbits > 32 or any(daddr[4:]) or any(saddr[4:])
                family = near or (AF_INET6 if wide else AF_INET)
            elif not (protocol or interface or user) and dmask == smask == dport == sport == _NO_PORT:
                return EVERYTHING
        if family == AF_UNSPEC:
            source = destination = None
        else:
            source = read_prefix(saddr, family, sbits)
            destination = read_prefix(daddr, family, dbits)
        return cls(source, destination, protocol, _read_port(sport, smask), _read_port(dport, dmask), interface, user)


EVERYTHING = Selector()
"""The selector of zeros."""

_NO_VALUES = (b"", b"", _NO_PORT, _NO_PORT, _NO_PORT, _NO_PORT, AF_UNSPEC, 0, 0, 0, 0, 0)
SELECTOR_VALUES = len(_NO_VALUES)
_BITS = 7
"""Where among them the prefix lengths are."""


@dataclass(frozen=True, slots=True)
class Lifetime:
    """struct xfrm_lifetime_cfg. At a soft limit an Expire comes; at a hard one the SA or policy ends. None: no limit.

    ``*_seconds`` count from installation, ``*_use_seconds`` from the first packet.
    """

    soft_bytes: int | None = None
    hard_bytes: int | None = None
    soft_packets: int | None = None
    hard_packets: int | None = None
    soft_seconds: int | None = None
    hard_seconds: int | None = None
    soft_use_seconds: int | None = None
    hard_use_seconds: int | None = None

    def values(self) -> tuple[int, ...]:
        """The scalars of the structure."""
        if self is UNLIMITED:
            return _UNLIMITED_VALUES
        return (
            INFINITE if self.soft_bytes is None else self.soft_bytes,
            INFINITE if self.hard_bytes is None else self.hard_bytes,
            INFINITE if self.soft_packets is None else self.soft_packets,
            INFINITE if self.hard_packets is None else self.hard_packets,
            self.soft_seconds or 0,
            self.hard_seconds or 0,
            self.soft_use_seconds or 0,
            self.hard_use_seconds or 0,
        )

    @staticmethod
    @lru_cache(maxsize=1024)
    def of(values: tuple[int, ...]) -> Lifetime:
        """From the eight scalars of the structure."""
        amounts = (None if value == INFINITE else value for value in values[:4])
        return Lifetime(*amounts, *(value or None for value in values[4:]))


UNLIMITED = Lifetime()
_UNLIMITED_VALUES = (INFINITE,) * 4 + (0,) * 4


@dataclass(frozen=True, slots=True)
class Usage:
    """struct xfrm_lifetime_cur. ``added`` and ``used`` (first use) are seconds since 1970, 0 for not yet."""

    bytes: int = 0
    packets: int = 0
    added: int = 0
    used: int = 0

    def pack(self) -> builtins.bytes:
        """Struct xfrm_lifetime_cur."""
        return layout.LIFETIME_CUR.codec.pack(self.bytes, self.packets, self.added, self.used)

    @classmethod
    def unpack(cls, data: Buffer) -> Usage:
        """From struct xfrm_lifetime_cur."""
        return cls(*layout.LIFETIME_CUR.codec.unpack_from(data))


UNUSED = Usage()


@dataclass(frozen=True, slots=True)
class Stats:
    """struct xfrm_stats: packets dropped as too old (``replay_window``), as repeated (``replay``), and as forged."""

    replay_window: int = 0
    replay: int = 0
    integrity_failed: int = 0


NO_STATS = Stats()


def _name(name: str) -> bytes:
    raw = name.encode("ascii")
    if len(raw) >= ALGORITHM_NAME_SIZE:
        raise ValueError(f"the algorithm name {name} is longer than {ALGORITHM_NAME_SIZE - 1} bytes")
    return raw


@lru_cache(maxsize=256)
def _read_name(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode("ascii", "replace")


def _key_bits(key: Key, bits: int | None) -> int:
    if bits is None:
        return len(key) * 8
    if (bits + 7) // 8 != len(key):
        raise ValueError(f"a key of {bits} bits is {len(key)} bytes here: it was not read, or it was wiped")
    return bits


def _read_key(data: memoryview, bits: int, start: int, keys: bool) -> Key:
    """An own copy of the key that follows a structure of ``start`` bytes; nothing unless ``keys``."""
    length = (bits + 7) // 8
    if start + length > len(data):
        raise Malformed(f"a key of {bits} bits in {len(data) - start} bytes")
    return bytearray(data[start : start + length]) if keys else b""


@dataclass(frozen=True, slots=True)
class Crypt:
    """A cipher (XFRMA_ALG_CRYPT), such as ``cbc(aes)``; for counter modes the key ends with the nonce.

    ``key`` is the caller's own object, never copied, so that wiping it wipes it here. ``key_bits`` is None where it
    follows from the key; where it was read without the key (the default of parsing), it says how long that is, and
    the value cannot be encoded.
    """

    name: str
    key: Key = field(default=b"", repr=False)
    key_bits: int | None = None

    def part(self) -> tuple[bytes, Key]:
        """Struct xfrm_algo and the key."""
        return layout.ALGO.codec.pack(_name(self.name), _key_bits(self.key, self.key_bits)), self.key

    @classmethod
    def unpack(cls, data: memoryview, keys: bool) -> Crypt:
        """From struct xfrm_algo."""
        name, bits = layout.ALGO.codec.unpack_from(data)
        return cls(_read_name(name), _read_key(data, bits, layout.ALGO.size, keys), bits)


@dataclass(frozen=True, slots=True)
class Auth:
    """An integrity algorithm, such as ``hmac(sha256)``. ``truncation_bits``: the ICV on the wire.

    Without it XFRMA_ALG_AUTH is sent and the kernel's own default counts: 96 bits for hmac(sha256), against RFC 4868.
    """

    name: str
    key: Key = field(default=b"", repr=False)
    truncation_bits: int | None = None
    key_bits: int | None = None

    def part(self) -> tuple[bytes, Key]:
        """Struct xfrm_algo or xfrm_algo_auth, and the key."""
        bits = _key_bits(self.key, self.key_bits)
        if self.truncation_bits is None:
            return layout.ALGO.codec.pack(_name(self.name), bits), self.key
        return layout.ALGO_AUTH.codec.pack(_name(self.name), bits, self.truncation_bits), self.key

    @classmethod
    def unpack(cls, data: memoryview, keys: bool) -> Auth:
        """From struct xfrm_algo_auth."""
        name, bits, truncation = layout.ALGO_AUTH.codec.unpack_from(data)
        return cls(_read_name(name), _read_key(data, bits, layout.ALGO_AUTH.size, keys), truncation, bits)

    @classmethod
    def unpack_plain(cls, data: memoryview, keys: bool) -> Auth:
        """From struct xfrm_algo."""
        name, bits = layout.ALGO.codec.unpack_from(data)
        return cls(_read_name(name), _read_key(data, bits, layout.ALGO.size, keys), None, bits)


@dataclass(frozen=True, slots=True)
class Aead:
    """A combined algorithm, such as ``rfc4106(gcm(aes))``; the key ends with the salt. ``icv_bits``: 64, 96 or 128."""

    name: str
    key: Key = field(default=b"", repr=False)
    icv_bits: int = 128
    key_bits: int | None = None

    def part(self) -> tuple[bytes, Key]:
        """Struct xfrm_algo_aead and the key."""
        bits = _key_bits(self.key, self.key_bits)
        return layout.ALGO_AEAD.codec.pack(_name(self.name), bits, self.icv_bits), self.key

    @classmethod
    def unpack(cls, data: memoryview, keys: bool) -> Aead:
        """From struct xfrm_algo_aead."""
        name, bits, icv = layout.ALGO_AEAD.codec.unpack_from(data)
        return cls(_read_name(name), _read_key(data, bits, layout.ALGO_AEAD.size, keys), icv, bits)


@dataclass(frozen=True, slots=True)
class Encap:
    """struct xfrm_encap_tmpl: ESP in UDP or TCP, with the ports as packets of this SA carry them.

    ``original`` is the address before a NAT (transport mode checksums); its family is told nowhere, so an IPv6
    address of which only the first four bytes are not zero is read as IPv4.
    """

    kind: EncapType
    source_port: int
    destination_port: int
    original: Address | None = None

    def pack(self) -> bytes:
        """Struct xfrm_encap_tmpl."""
        source, destination = self.source_port.to_bytes(2, "big"), self.destination_port.to_bytes(2, "big")
        original = b"" if self.original is None else self.original.packed
        return layout.ENCAP_TMPL.codec.pack(self.kind, source, destination, original)

    @classmethod
    def unpack(cls, data: Buffer) -> Encap:
        """From struct xfrm_encap_tmpl."""
        kind, source, destination, original = layout.ENCAP_TMPL.codec.unpack_from(data)
        return cls(
            EncapType(kind),
            int.from_bytes(source, "big"),
            int.from_bytes(destination, "big"),
            read_guessed_address(original),
        )


@dataclass(frozen=True, slots=True)
class Mark:
    """struct xfrm_mark: matches packets and lookups whose mark is ``value`` in the bits of ``mask``."""

    value: int
    mask: int = 0xFFFFFFFF

    def pack(self) -> bytes:
        """Struct xfrm_mark."""
        return layout.MARK.codec.pack(self.value, self.mask)

    @classmethod
    def unpack(cls, data: Buffer) -> Mark:
        """From struct xfrm_mark."""
        return cls(*layout.MARK.codec.unpack_from(data))


@dataclass(frozen=True, slots=True)
class OutputMark:
    """XFRMA_SET_MARK and its mask: what packets are marked with after the transform. None: all bits."""

    value: int
    mask: int | None = None


@dataclass(frozen=True, slots=True)
class Offload:
    """struct xfrm_user_offload: the index of the interface, 0 in a state that the kernel shows without offload."""

    interface: int
    flags: OffloadFlag = NO_OFFLOAD_FLAGS

    def pack(self) -> bytes:
        """Struct xfrm_user_offload."""
        return layout.USER_OFFLOAD.codec.pack(self.interface, self.flags)

    @classmethod
    def unpack(cls, data: Buffer) -> Offload:
        """From struct xfrm_user_offload."""
        interface, flags = layout.USER_OFFLOAD.codec.unpack_from(data)
        return cls(interface, OffloadFlag(flags))


@dataclass(frozen=True, slots=True)
class Replay:
    """struct xfrm_replay_state: a window of up to 32 packets without ESN.

    ``out_sequence`` was the last one sent and ``sequence`` the highest received; bit 0 of ``bitmap`` is that one.
    """

    out_sequence: int = 0
    sequence: int = 0
    bitmap: int = 0

    def pack(self) -> bytes:
        """Struct xfrm_replay_state."""
        return layout.REPLAY_STATE.codec.pack(self.out_sequence, self.sequence, self.bitmap)

    @classmethod
    def unpack(cls, data: Buffer) -> Replay:
        """From struct xfrm_replay_state."""
        return cls(*layout.REPLAY_STATE.codec.unpack_from(data))


@dataclass(frozen=True, slots=True)
class ReplayEsn:
    """struct xfrm_replay_state_esn: windows of up to 4096 packets, with StateFlag.ESN or without.

    ``window`` in packets; sequence numbers are whole (64 bits; 32 without ESN). ``bitmap`` is the kernel's ring of
    u32 words in the machine's byte order, ``ceil(window / 32)`` of them; empty means that nothing was received yet
    and is how a new SA is installed.
    """

    window: int
    out_sequence: int = 0
    sequence: int = 0
    bitmap: bytes = b""

    def pack(self) -> bytes:
        """Struct xfrm_replay_state_esn, with the bitmap if there is one."""
        if not 0 <= self.window <= REPLAY_ESN_MAX:
            raise ValueError(f"a replay window of {self.window} packets")
        words = (self.window + 31) // 32
        if self.bitmap and len(self.bitmap) != 4 * words:
            raise ValueError(f"a bitmap of {len(self.bitmap)} bytes for a window of {self.window} packets")
        head = layout.REPLAY_STATE_ESN.codec.pack(
            words,
            self.out_sequence & 0xFFFFFFFF,
            self.sequence & 0xFFFFFFFF,
            self.out_sequence >> 32,
            self.sequence >> 32,
            self.window,
        )
        return head + self.bitmap

    @classmethod
    def unpack(cls, data: memoryview) -> ReplayEsn:
        """From struct xfrm_replay_state_esn."""
        words, out_low, low, out_high, high, window = layout.REPLAY_STATE_ESN.codec.unpack_from(data)
        start = layout.REPLAY_STATE_ESN.size
        if window > REPLAY_ESN_MAX or words != (window + 31) // 32:
            raise Malformed(f"a replay window of {window} packets in {words} words")
        if len(data) == start:
            return cls(window, out_high << 32 | out_low, high << 32 | low)
        if len(data) < start + 4 * words:
            raise Malformed(f"a replay bitmap of {words} words in {len(data) - start} bytes")
        return cls(window, out_high << 32 | out_low, high << 32 | low, bytes(data[start : start + 4 * words]))


@dataclass(frozen=True, slots=True)
class SecurityContext:
    """struct xfrm_user_sec_ctx: an LSM's context, with the zero byte that ends it. 1, 1 is SELinux."""

    context: bytes
    doi: int = 1
    algorithm: int = 1

    def pack(self) -> bytes:
        """Struct xfrm_user_sec_ctx and the context."""
        head = layout.USER_SEC_CTX
        total, length = head.size + len(self.context), len(self.context)
        return head.codec.pack(total, 8, self.algorithm, self.doi, length) + self.context

    @classmethod
    def unpack(cls, data: memoryview) -> SecurityContext:
        """From struct xfrm_user_sec_ctx."""
        _, _, algorithm, doi, length = layout.USER_SEC_CTX.codec.unpack_from(data)
        start = layout.USER_SEC_CTX.size
        if start + length > len(data):
            raise Malformed(f"a security context of {length} bytes in {len(data) - start}")
        return cls(bytes(data[start : start + length]), doi, algorithm)


@dataclass(frozen=True, slots=True)
class Template:
    """struct xfrm_user_tmpl: an SA that a policy wants. None and 0 mean any.

    ``optional``: packets may pass without it ("level use"). The masks say which algorithms of PF_KEY's numbers may be
    used; nobody narrows them.
    """

    source: Address | None = None
    destination: Address | None = None
    protocol: Protocol = Protocol.ESP
    spi: int = 0
    reqid: int = 0
    mode: Mode = Mode.TUNNEL
    share: Share = Share.ANY
    optional: bool = False
    auth_mask: int = 0xFFFFFFFF
    crypt_mask: int = 0xFFFFFFFF
    comp_mask: int = 0xFFFFFFFF
    family: int = 0
    """Of the addresses where both are None and zeros are meant; read back they are 0.0.0.0 or ::."""

    def pack(self) -> bytes:
        """Struct xfrm_user_tmpl."""
        source, destination = self.source, self.destination
        return layout.USER_TMPL.codec.pack(
            b"" if destination is None else destination.packed,
            self.spi.to_bytes(4, "big"),
            self.protocol,
            family_of(source, destination) or self.family,
            b"" if source is None else source.packed,
            self.reqid,
            self.mode,
            self.share,
            self.optional,
            self.auth_mask,
            self.crypt_mask,
            self.comp_mask,
        )

    @classmethod
    def unpack(cls, data: Buffer, at: int = 0) -> Template:
        """From struct xfrm_user_tmpl."""
        values = layout.USER_TMPL.codec.unpack_from(data, at)
        daddr, spi, protocol, family, saddr, reqid, mode, share, optional, auth, crypt, comp = values
        return cls(
            read_optional_address(saddr, family),
            read_optional_address(daddr, family),
            protocol_of(protocol),
            int.from_bytes(spi, "big"),
            reqid,
            mode_of(mode),
            share_of(share),
            bool(optional),
            auth,
            crypt,
            comp,
        )


def unpack_templates(data: memoryview) -> tuple[Template, ...]:
    """From XFRMA_TMPL."""
    size = layout.USER_TMPL.size
    if len(data) % size:
        raise Malformed(f"templates in {len(data)} bytes")
    return tuple(Template.unpack(data, at) for at in range(0, len(data), size))


@dataclass(frozen=True, slots=True)
class AddressFilter:
    """struct xfrm_address_filter: a dump's outer addresses. None: any, but both of one family if one is given."""

    source: Prefix | None = None
    destination: Prefix | None = None

    def pack(self) -> bytes:
        """Struct xfrm_address_filter."""
        source, source_bits = write_prefix(self.source)
        destination, destination_bits = write_prefix(self.destination)
        family = family_of(self.source, self.destination)
        return layout.ADDRESS_FILTER.codec.pack(source, destination, family, source_bits, destination_bits)

    @classmethod
    def unpack(cls, data: Buffer) -> AddressFilter:
        """From struct xfrm_address_filter."""
        source, destination, family, source_bits, destination_bits = layout.ADDRESS_FILTER.codec.unpack_from(data)
        if family == AF_UNSPEC:
            return cls()
        return cls(read_prefix(source, family, source_bits), read_prefix(destination, family, destination_bits))


@dataclass(frozen=True, slots=True)
class KeyManagerAddress:
    """struct xfrm_user_kmaddress: the addresses that IKE shall use after a migration."""

    local: Address
    remote: Address

    def pack(self) -> bytes:
        """Struct xfrm_user_kmaddress."""
        family = family_of(self.local, self.remote)
        return layout.USER_KMADDRESS.codec.pack(self.local.packed, self.remote.packed, 0, family)

    @classmethod
    def unpack(cls, data: Buffer) -> KeyManagerAddress:
        """From struct xfrm_user_kmaddress."""
        local, remote, _, family = layout.USER_KMADDRESS.codec.unpack_from(data)
        return cls(read_address(local, family), read_address(remote, family))


def pack_policy_type(kind: PolicyType) -> bytes:
    """Struct xfrm_userpolicy_type."""
    return layout.USERPOLICY_TYPE.codec.pack(kind, 0, 0)


def unpack_policy_type(data: Buffer) -> PolicyType:
    """From struct xfrm_userpolicy_type."""
    return PolicyType(layout.USERPOLICY_TYPE.codec.unpack_from(data)[0])


def raw_address(address: Address) -> bytes:
    """An xfrm_address_t."""
    return address.packed.ljust(16, b"\0")
