"""Combined-mode ciphers in ESP: AES-GCM with a 16-byte ICV (RFC 4106) and ChaCha20-Poly1305 (RFC 7634).

Both have the same shape: a nonce of 12 bytes, which is 4 of salt from the key material and the 8 of the packet's IV
(RFC 4106 §4, RFC 7634 §2), an ICV of 16, and the sequence number as additional authenticated data.
"""

from __future__ import annotations

from typing import NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from appliance.esp.drop import Drop
from appliance.esp.octets import Octets
from appliance.reasons import Reason, Refusal

HEADER = 8  # SPI and the low half of the sequence number, RFC 4303 §2
SALT = 4  # RFC 4106 §4, RFC 7634 §2
IV = 8  # RFC 4106 §3.1, RFC 7634 §2
ICV = 16  # RFC 4106 §6, RFC 7634 §2
TRAILER = 2  # Pad Length and Next Header, RFC 4303 §2
SHORTEST = HEADER + IV + 4 + ICV  # the trailer alone, padded to 4 bytes (RFC 4303 §2.4)


class Aead:
    """A combined-mode cipher with its key and salt. Make it with ``aes_gcm_16`` or ``chacha20_poly1305``."""

    __slots__ = ("_cipher", "_key", "_salt", "alignment", "icv_length", "iv_length", "name", "random_iv")

    def __init__(self, name: str, cipher: AESGCM | ChaCha20Poly1305, key_and_salt: bytearray) -> None:
        self.name = name
        self.iv_length = IV
        self.icv_length = ICV
        self.alignment = 4  # RFC 4303 §2.4: neither cipher has blocks that ask for more
        self.random_iv = False
        self._cipher: AESGCM | ChaCha20Poly1305 | _Wiped = cipher
        self._key = key_and_salt
        self._salt = bytes(key_and_salt[-SALT:])

    def seal(self, header: bytes, sequence_high: bytes, iv: bytes, plaintext: Octets) -> bytes:
        """See Transform.seal. ``iv`` must never have been used under this key (RFC 4106 §3.1)."""
        # RFC 4106 §5: the AAD is SPI and sequence number; with ESN its high half comes first, and is not sent.
        associated = header[:4] + sequence_high + header[4:] if sequence_high else header
        return b"".join((header, iv, self._cipher.encrypt(self._salt + iv, plaintext, associated)))

    def open(self, packet: Octets, sequence_high: bytes) -> bytes:
        """See Transform.open."""
        length = len(packet)
        # The IV, the ICV and at least a trailer must be there; what was encrypted ends on 4 bytes (RFC 4303 §2.4).
        if length < SHORTEST or length % 4:
            raise Drop(Reason.MALFORMED_ESP, f"{length} bytes are too few, or not a multiple of 4")
        header = bytes(packet[:8])
        associated = header[:4] + sequence_high + header[4:] if sequence_high else header
        try:
            return self._cipher.decrypt(self._salt + packet[8:16], packet[16:], associated)
        except InvalidTag:
            raise Drop(Reason.INTEGRITY) from None

    def wipe(self) -> None:
        """See Transform.wipe. The library's copy of the key goes with the cipher object, which OpenSSL cleanses."""
        self._key[:] = bytes(len(self._key))
        self._salt = bytes(SALT)
        self._cipher = _Wiped()

    def __repr__(self) -> str:
        return f"<{self.name}, keys not shown>"


class _Wiped:
    """What stands where a cipher was."""

    def encrypt(self, nonce: Octets, data: Octets, associated_data: Octets | None) -> NoReturn:
        raise Drop(Reason.NO_SA, "its keys were wiped")

    decrypt = encrypt


def aes_gcm_16(key_and_salt: bytes | bytearray) -> Aead:
    """AES-GCM with a 16-byte ICV, RFC 4106: a key of 16, 24 or 32 bytes and 4 of salt. Raises Refusal(BAD_KEY)."""
    if len(key_and_salt) not in (20, 28, 36):
        raise Refusal(Reason.BAD_KEY, f"AES-GCM takes 20, 28 or 36 bytes with the salt, not {len(key_and_salt)}")
    own = _own(key_and_salt)
    with memoryview(own) as view:
        return Aead("AES_GCM_16", AESGCM(view[:-SALT]), own)


def chacha20_poly1305(key_and_salt: bytes | bytearray) -> Aead:
    """ChaCha20-Poly1305, RFC 7634: a key of 32 bytes and 4 of salt. Raises Refusal(BAD_KEY)."""
    if len(key_and_salt) != 36:
        raise Refusal(Reason.BAD_KEY, f"ChaCha20-Poly1305 takes 36 bytes with the salt, not {len(key_and_salt)}")
    own = _own(key_and_salt)
    with memoryview(own) as view:
        return Aead("CHACHA20_POLY1305", ChaCha20Poly1305(view[:-SALT]), own)


def _own(key: bytes | bytearray) -> bytearray:
    return key if isinstance(key, bytearray) else bytearray(key)
