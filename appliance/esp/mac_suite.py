"""Ciphers that need an integrity algorithm beside them: AES-CBC (RFC 3602) and NULL (RFC 2410), and the pairing.

ESP encrypts first and authenticates what it encrypted (RFC 4303 §3.3.2.1), so a receiver verifies before it decrypts.
"""

from __future__ import annotations

from typing import Protocol

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from appliance.esp.drop import Drop
from appliance.esp.hmac_sha2 import HmacSha2
from appliance.esp.octets import Octets
from appliance.reasons import Reason, Refusal

HEADER = 8  # SPI and the low half of the sequence number, RFC 4303 §2
AES_BLOCK = 16


class _Encryption(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def iv_length(self) -> int: ...
    @property
    def alignment(self) -> int: ...
    def encrypt(self, iv: bytes, plaintext: Octets) -> Octets: ...
    def decrypt(self, iv: Octets, ciphertext: Octets) -> bytes: ...
    def wipe(self) -> None: ...


class AesCbc:
    """AES in cipher block chaining mode, RFC 3602: a key of 16, 24 or 32 bytes. Raises Refusal(BAD_KEY)."""

    __slots__ = ("_algorithm", "_key", "alignment", "iv_length", "name")

    def __init__(self, key: bytes | bytearray) -> None:
        if len(key) not in (16, 24, 32):
            raise Refusal(Reason.BAD_KEY, f"AES-CBC takes a key of 16, 24 or 32 bytes, not {len(key)}")
        self.name = "AES_CBC"
        self.iv_length = AES_BLOCK  # RFC 3602 §3
        self.alignment = AES_BLOCK  # RFC 3602 §2.4
        self._key = key if isinstance(key, bytearray) else bytearray(key)
        # The cipher object refers to our buffer, so overwriting that overwrites the only lasting copy.
        self._algorithm: algorithms.AES | None = algorithms.AES(self._key)

    def encrypt(self, iv: bytes, plaintext: Octets) -> bytes:
        """Encrypt whole blocks."""
        return self._cipher(iv).encryptor().update(plaintext)

    def decrypt(self, iv: Octets, ciphertext: Octets) -> bytes:
        """Decrypt whole blocks."""
        return self._cipher(iv).decryptor().update(ciphertext)

    def _cipher(self, iv: Octets) -> Cipher[modes.CBC]:
        if self._algorithm is None:
            raise Drop(Reason.NO_SA, "its keys were wiped")
        return Cipher(self._algorithm, modes.CBC(bytes(iv)))

    def wipe(self) -> None:
        """Overwrite the key."""
        self._key[:] = bytes(len(self._key))
        self._algorithm = None

    def __repr__(self) -> str:
        return f"<{self.name}, key not shown>"


class Null:
    """No encryption, RFC 2410: no key, no IV, blocks of one byte. Raises Refusal(BAD_KEY) for a key."""

    __slots__ = ("alignment", "iv_length", "name")

    def __init__(self, key: bytes | bytearray = b"") -> None:
        if len(key):
            raise Refusal(Reason.BAD_KEY, f"NULL takes no key, not {len(key)} bytes")
        self.name = "NULL"
        self.iv_length = 0
        self.alignment = 4  # RFC 2410 §2.3 has blocks of 1; RFC 4303 §2.4 asks for 4

    def encrypt(self, iv: bytes, plaintext: Octets) -> Octets:
        """The plaintext."""
        return plaintext

    def decrypt(self, iv: Octets, ciphertext: Octets) -> bytes:
        """The ciphertext."""
        return bytes(ciphertext)

    def wipe(self) -> None:
        """Nothing to overwrite."""

    def __repr__(self) -> str:
        return f"<{self.name}>"


class EncryptThenMac:
    """A cipher and an HMAC over SPI, sequence number, IV, ciphertext and the high half of an ESN."""

    __slots__ = ("_cipher", "_hmac", "_shortest", "alignment", "icv_length", "iv_length", "name", "random_iv")

    def __init__(self, cipher: _Encryption, hmac: HmacSha2) -> None:
        self.name = f"{cipher.name}/{hmac.name}"
        self.iv_length = cipher.iv_length
        self.icv_length = hmac.icv_length
        self.alignment = cipher.alignment
        self.random_iv = cipher.iv_length > 0
        self._cipher = cipher
        self._hmac = hmac
        self._shortest = HEADER + self.iv_length + self.alignment + self.icv_length

    def seal(self, header: bytes, sequence_high: bytes, iv: bytes, plaintext: Octets) -> bytes:
        """See Transform.seal. ``iv`` must be unpredictable (RFC 3602 §3)."""
        ciphertext = self._cipher.encrypt(iv, plaintext)
        # RFC 4303 §2.2.1 and §2.8: the high half of an ESN is authenticated behind the Next Header, and not sent.
        return b"".join((header, iv, ciphertext, self._hmac.icv(header, iv, ciphertext, sequence_high)))

    def open(self, packet: Octets, sequence_high: bytes) -> bytes:
        """See Transform.open."""
        length = len(packet)
        body = length - HEADER - self.iv_length - self.icv_length
        # The IV, the ICV and at least one aligned trailer must be there, and whole blocks (RFC 4303 §2.4).
        if length < self._shortest or body % self.alignment:
            raise Drop(Reason.MALFORMED_ESP, f"{length} bytes are too few, or no whole blocks of {self.alignment}")
        view = memoryview(packet)
        end = length - self.icv_length
        self._hmac.verify(view[end:], view[:end], sequence_high)
        start = HEADER + self.iv_length
        return self._cipher.decrypt(view[HEADER:start], view[start:end])

    def wipe(self) -> None:
        """See Transform.wipe."""
        self._cipher.wipe()
        self._hmac.wipe()

    def __repr__(self) -> str:
        return f"<{self.name}, keys not shown>"
