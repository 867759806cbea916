"""Encrypting and authenticating the contents of SK and SKF payloads (RFC 7296 §3.14, RFC 5282, RFC 7383 §2.5)."""

from __future__ import annotations

from collections.abc import Callable
from hmac import compare_digest

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hmac import HMAC

from appliance.ike.errors import IntegrityFailure, MalformedMessage
from appliance.sa.algorithms import ENCRYPTION, INTEGRITY, Encryption, Integrity
from appliance.sa.keys import wipe

_MAX_IV = (1 << 64) - 1
_HASHES = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}
_PAD_LENGTH = 1  # the field behind the padding


class SealerExhausted(Exception):  # noqa: N818
    """All IVs of an AEAD key are used: the IKE SA must not send any more. Or the sealer was wiped."""


class Sealer:
    """The keys of one direction of an IKE SA, and the sequence of its IVs.

    ``encryption_key`` has the salt behind the key for an AEAD (RFC 5282 §7.1, RFC 7634 §2). AEAD IVs are a counter of
    this object, so there is exactly one sealer for a key: it is neither copied nor serialised. CBC IVs come from
    ``random`` (unpredictable, RFC 7296 §3.14). Keys are copied into buffers that ``wipe`` overwrites; the ciphers
    themselves live only as long as one message.
    """

    __slots__ = ("_encryption", "_encryption_key", "_integrity", "_integrity_key", "_next_iv", "_random", "_spec")

    def __init__(
        self,
        encryption: Encryption,
        key_bits: int,
        integrity: Integrity,
        encryption_key: bytes | bytearray,
        integrity_key: bytes | bytearray,
        random: Callable[[int], bytes],
    ) -> None:
        spec = ENCRYPTION[encryption]
        if encryption is Encryption.NULL or key_bits not in spec.key_bits:
            raise ValueError(f"{encryption.name} with {key_bits} bits does not protect IKE")  # RFC 7296 §5
        if spec.aead != (integrity is Integrity.NONE):
            raise ValueError(f"{encryption.name} with {integrity.name}: exactly one of them authenticates")
        if len(encryption_key) != key_bits // 8 + spec.salt:
            raise ValueError("the encryption key has a wrong length")
        if len(integrity_key) != (0 if spec.aead else INTEGRITY[integrity].key):
            raise ValueError("the integrity key has a wrong length")
        self._encryption = encryption
        self._integrity = integrity
        self._spec = spec
        self._encryption_key = bytearray(encryption_key)
        self._integrity_key = bytearray(integrity_key)
        self._random = random
        self._next_iv = 0

    @property
    def icv_length(self) -> int:
        """Bytes of the ICV."""
        return self._spec.icv or INTEGRITY[self._integrity].icv

    def overhead(self, plaintext_length: int) -> int:
        """Bytes that ``seal`` adds to so much plaintext: IV, padding, pad length, ICV."""
        return self._spec.iv + self._padding(plaintext_length) + _PAD_LENGTH + self.icv_length

    def capacity(self, room: int) -> int:
        """The most plaintext whose sealed form fits into ``room`` bytes; 0 or less if none does."""
        inside = room - self._spec.iv - self.icv_length
        return inside - inside % self._spec.block - _PAD_LENGTH

    def seal(self, aad: bytes, plaintext: bytes) -> bytes:
        """IV, ciphertext and ICV of payloads. ``aad``: the message from its header to the SK or SKF payload's fields.

        Its lengths must already count what this returns (``overhead``). Raises SealerExhausted when an AEAD has used
        all its IVs.
        """
        padding = self._padding(len(plaintext))
        padded = plaintext + bytes(padding) + bytes([padding])
        if self._spec.aead:
            iv = self._counter_iv()
            return iv + self._aead().encrypt(self._salt() + iv, padded, aad)
        self._check_alive()
        iv = self._random(self._spec.iv)
        encryptor = self._cbc(iv).encryptor()
        body = iv + encryptor.update(padded) + encryptor.finalize()
        return body + self._icv(aad, body)

    def open(self, aad: bytes, body: bytes) -> bytes:
        """The payloads in what ``seal`` returned. Nothing is decrypted, let alone returned, before the ICV verified.

        Raises IntegrityFailure if it does not, MalformedMessage for authentic contents that break the format.
        """
        self._check_alive()
        spec = self._spec
        inside = len(body) - spec.iv - self.icv_length
        if inside < 1:
            raise MalformedMessage(f"encrypted payload of {len(body)} bytes is too short (RFC 7296 §3.14)")
        iv = body[: spec.iv]
        if spec.aead:
            try:
                padded = self._aead().decrypt(self._salt() + iv, body[spec.iv :], aad)
            except InvalidTag:
                raise IntegrityFailure("the ICV does not verify (RFC 5282 §3)") from None
        else:
            body, icv = body[: -self.icv_length], body[-self.icv_length :]
            if not compare_digest(self._icv(aad, body), icv):
                raise IntegrityFailure("the ICV does not verify (RFC 7296 §3.14)")
            if inside % spec.block:
                raise MalformedMessage(f"ciphertext of {inside} bytes is not in blocks of {spec.block}")
            decryptor = self._cbc(iv).decryptor()
            padded = decryptor.update(body[spec.iv :]) + decryptor.finalize()
        padding = padded[-1]  # its bytes may be anything (RFC 7296 §3.14)
        if padding + _PAD_LENGTH > len(padded):
            raise MalformedMessage(f"padding of {padding} bytes in {len(padded)} (RFC 7296 §3.14)")
        return padded[: len(padded) - padding - _PAD_LENGTH]

    def wipe(self) -> None:
        """Destroy the keys; sealing and opening fail from now on."""
        wipe(self._encryption_key)
        wipe(self._integrity_key)
        self._next_iv = -1

    def _padding(self, plaintext_length: int) -> int:
        return -(plaintext_length + _PAD_LENGTH) % self._spec.block

    def _check_alive(self) -> None:
        if self._next_iv < 0:
            raise SealerExhausted("the keys were wiped")

    def _counter_iv(self) -> bytes:
        self._check_alive()
        if self._next_iv > _MAX_IV:
            raise SealerExhausted("all IVs of the key are used (RFC 5282 §3)")
        iv = self._next_iv.to_bytes(8, "big")
        self._next_iv += 1
        return iv

    def _salt(self) -> bytes:
        return bytes(self._encryption_key[-self._spec.salt :])

    def _aead(self) -> AESGCM | ChaCha20Poly1305:
        key = memoryview(self._encryption_key)[: -self._spec.salt]
        return AESGCM(key) if self._encryption is Encryption.AES_GCM_16 else ChaCha20Poly1305(key)

    def _cbc(self, iv: bytes) -> Cipher[modes.CBC]:
        return Cipher(algorithms.AES(self._encryption_key), modes.CBC(iv))

    def _icv(self, aad: bytes, body: bytes) -> bytes:
        spec = INTEGRITY[self._integrity]
        mac = HMAC(self._integrity_key, _HASHES[spec.hash])
        mac.update(aad)
        mac.update(body)
        return mac.finalize()[: spec.icv]

    def __repr__(self) -> str:
        return f"Sealer({self._encryption.name}, {self._integrity.name}, keys …)"

    def __reduce__(self) -> str:
        raise TypeError("a sealer is neither copied nor serialised: its IVs would repeat")
