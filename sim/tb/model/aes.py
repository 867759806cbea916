"""AES by FIPS 197, step by step, for benches of its parts. Whole blocks are checked beside the library's."""

from __future__ import annotations


def _xtime(a: int) -> int:
    return (a << 1 ^ (0x11B if a & 0x80 else 0)) & 0xFF


def _multiply(a: int, b: int) -> int:
    product = 0
    while b:
        if b & 1:
            product ^= a
        a, b = _xtime(a), b >> 1
    return product


def _substitution(a: int) -> int:
    inverse = next((b for b in range(256) if _multiply(a, b) == 1), 0)
    rotated = [inverse << n & 0xFF | inverse >> (8 - n) for n in range(5)]
    return rotated[0] ^ rotated[1] ^ rotated[2] ^ rotated[3] ^ rotated[4] ^ 0x63


SBOX = bytes(_substitution(a) for a in range(256))
"""SubBytes, FIPS 197 §5.1.1."""


def round(state: bytes, key: bytes, *, last: bool) -> bytes:
    """One round on a block of 16 bytes, FIPS 197 §5.1; the last one is without MixColumns."""
    # ShiftRows, §5.1.2: byte r of column c comes from column c + r.
    rows = bytes(SBOX[state[4 * ((c + r) % 4) + r]] for c in range(4) for r in range(4))
    if not last:
        mixed = bytearray()
        for c in range(4):
            a = rows[4 * c : 4 * c + 4]
            for r in range(4):  # MixColumns, §5.1.3
                mixed.append(_multiply(a[r], 2) ^ _multiply(a[(r + 1) % 4], 3) ^ a[(r + 2) % 4] ^ a[(r + 3) % 4])
        rows = bytes(mixed)
    return bytes(x ^ y for x, y in zip(rows, key, strict=True))


def expand(key: bytes) -> list[bytes]:
    """The round keys of a key of 16 or 32 bytes: 11 or 15 of 16 bytes, FIPS 197 §5.2."""
    size = len(key) // 4
    words = [key[4 * i : 4 * i + 4] for i in range(size)]
    constant = 1
    for i in range(size, 4 * (size + 7)):
        word = words[-1]
        if i % size == 0:
            word = bytes(SBOX[b] for b in word[1:] + word[:1])
            word = bytes((word[0] ^ constant, *word[1:]))
            constant = _xtime(constant)
        elif size > 6 and i % size == 4:
            word = bytes(SBOX[b] for b in word)
        words.append(bytes(x ^ y for x, y in zip(words[i - size], word, strict=True)))
    return [b"".join(words[i : i + 4]) for i in range(0, len(words), 4)]
