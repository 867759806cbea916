"""AES-GCM by NIST SP 800-38D: GHASH by its definition, and packets as the slots that gcm_core takes (gcm_pkg)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from sim.tb.model import aes

INTERVALS = (1, 2, 7, 14)

R = 0xE1 << 120
"""The polynomial that products are reduced by, SP 800-38D §6.3; a block's first bit is the highest of the number."""


def multiply(x: bytes, y: bytes) -> bytes:
    """The product of two blocks, SP 800-38D §6.3 algorithm 1."""
    a, z, v = int.from_bytes(x, "big"), 0, int.from_bytes(y, "big")
    for i in range(127, -1, -1):
        if a >> i & 1:
            z ^= v
        v = v >> 1 ^ (R if v & 1 else 0)
    return z.to_bytes(16, "big")


def ghash(h: bytes, blocks: Iterable[bytes]) -> bytes:
    """GHASH of blocks of 16 bytes, SP 800-38D §6.4 algorithm 2."""
    y = bytes(16)
    for block in blocks:
        y = multiply(bytes(a ^ b for a, b in zip(y, block, strict=True)), h)
    return y


def encrypt(key: bytes, block: bytes) -> bytes:
    """AES of one block, or of several one by one."""
    return Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(block)


def hash_key(key: bytes) -> bytes:
    """H, the encryption of a block of zeros (SP 800-38D §7.1 step 1)."""
    return encrypt(key, bytes(16))


def latency(interval: int) -> int:
    """Cycles of a product (gcm_pkg::product_latency)."""
    return max(interval, 4)


def pipeline_latency(interval: int) -> int:
    """Cycles of a block in the cipher (aes_pkg::pipeline_latency)."""
    return 30 if interval == 7 else 16


def powers(interval: int) -> int:
    """How many powers of H an SA has (gcm_pkg::powers)."""
    return latency(interval) // interval


def powers_of(h: bytes, count: int) -> list[bytes]:
    """H^1 to H^count."""
    result = [h]
    while len(result) < count:
        result.append(multiply(result[-1], h))
    return result


def packed(block: bytes) -> int:
    """Bytes as the RTL has them: the first is lowest."""
    return int.from_bytes(block, "little")


class Kind(IntEnum):
    """gcm_pkg::slot_kind_e."""

    FIRST = 0
    AAD = 1
    TEXT = 2
    LAST = 3
    KEY = 4


@dataclass(frozen=True)
class Slot:
    """gcm_pkg::slot_t, and the SA beside it."""

    kind: Kind
    sa: int = 0
    key256: bool = False
    decrypt: bool = False
    following: int = 0
    nonce: bytes = bytes(12)
    count: int = 0
    data: bytes = bytes(16)

    def pack(self) -> int:
        """As the packed structure is, its first member highest."""
        word = int(self.kind)
        members = ((self.key256, 1), (self.decrypt, 1), (self.following, 13), (packed(self.nonce), 96), (self.count, 5))
        for value, bits in members:
            word = word << bits | value
        return word << 128 | packed(self.data)


def blocks(data: bytes) -> list[bytes]:
    """In blocks of 16 bytes, the last one padded with zeros (SP 800-38D §7.1 step 5)."""
    return [data[i : i + 16].ljust(16, b"\0") for i in range(0, len(data), 16)]


def packet(
    sa: int, key256: bool, nonce: bytes, aad: bytes, text: bytes, *, decrypt: bool, rubbish: bytes = bytes(16)
) -> Iterator[Slot]:
    """The slots of one packet. ``rubbish`` is behind the text in its last block, where anything may be."""
    aads, texts = blocks(aad), blocks(text)
    first, rest = (aads[0], aads[1:]) if aads else (bytes(16), [])
    yield Slot(Kind.FIRST, sa, key256, decrypt, len(rest) + len(texts) + 1, nonce, data=first)
    for block in rest:
        yield Slot(Kind.AAD, data=block)
    for i in range(0, len(text), 16):
        part = text[i : i + 16]
        yield Slot(Kind.TEXT, count=len(part), data=part + rubbish[len(part) :])
    yield Slot(Kind.LAST, data=(8 * len(aad)).to_bytes(8, "big") + (8 * len(text)).to_bytes(8, "big"))


def staged_round_keys(key: bytes) -> list[bytes]:
    """The round keys at the 16 places that aes_pipeline has them at; a key of 128 bits has the last ten rounds."""
    keys = aes.expand(key)
    return [keys[0], *[bytes(16)] * (15 - len(keys)), *keys[1:], bytes(16)]
