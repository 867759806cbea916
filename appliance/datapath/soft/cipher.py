"""The algorithms of one SA, as the batched paths use them.

AEADs encrypt and decrypt straight between buffers. The rest goes packet by packet through ``appliance.esp``, which is
also what says how both must look on the wire.
"""

from __future__ import annotations

from collections.abc import Callable

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from appliance.esp.octets import Octets
from appliance.esp.transform import Transform, transform
from appliance.reasons import Reason, Refusal
from appliance.sa.algorithms import ENCRYPTION, Encryption, Integrity, Suite
from appliance.sa.keys import wipe

SALT = 4
_Into = Callable[[Octets, Octets, Octets | None, memoryview], int]


class AeadCipher:
    """AES-GCM or ChaCha20-Poly1305 between buffers. ``salt`` is the nonce's fixed part."""

    __slots__ = ("_cipher", "_key", "decrypt_into", "encrypt_into", "salt")

    alignment = 4
    iv_length = 8
    icv_length = 16

    def __init__(self, cipher: AESGCM | ChaCha20Poly1305, key: bytearray) -> None:
        self._cipher: AESGCM | ChaCha20Poly1305 | None = cipher
        self._key = key
        self.salt = bytes(key[-SALT:])
        self.encrypt_into: _Into = cipher.encrypt_into
        self.decrypt_into: _Into = cipher.decrypt_into

    def wipe(self) -> None:
        """Overwrite the key; the library's copy goes with its object."""
        wipe(self._key)
        self._cipher = None
        self.salt = bytes(SALT)
        self.encrypt_into = self.decrypt_into = _wiped

    def __repr__(self) -> str:
        return "AeadCipher(…)"


class MacCipher:
    """A cipher with an HMAC beside it, packet by packet."""

    __slots__ = ("alignment", "icv_length", "iv_length", "transform")

    def __init__(self, transform_: Transform) -> None:
        self.transform = transform_
        self.alignment = transform_.alignment
        self.iv_length = transform_.iv_length
        self.icv_length = transform_.icv_length

    def wipe(self) -> None:
        """Overwrite the keys."""
        self.transform.wipe()

    def __repr__(self) -> str:
        return "MacCipher(…)"


Cipher = AeadCipher | MacCipher


def make_cipher(suite: Suite, encryption: bytearray, integrity: bytearray) -> Cipher:
    """The algorithms of a suite with their keys, which they own from now on.

    Raises Refusal: ALGORITHM_UNSUPPORTED, BAD_KEY.
    """
    if len(encryption) != suite.encryption_key_length or len(integrity) != suite.integrity_key_length:
        raise Refusal(
            Reason.BAD_KEY,
            f"{suite} takes {suite.encryption_key_length} and {suite.integrity_key_length} bytes, "
            f"not {len(encryption)} and {len(integrity)}",
        )
    if suite.key_bits not in ENCRYPTION[suite.encryption].key_bits:
        raise Refusal(Reason.ALGORITHM_UNSUPPORTED, f"{suite}")
    if ENCRYPTION[suite.encryption].aead:
        if suite.integrity is not Integrity.NONE:
            raise Refusal(Reason.ALGORITHM_UNSUPPORTED, f"{suite}: an AEAD takes no integrity algorithm")
        with memoryview(encryption) as view, view[:-SALT] as key:
            cipher = AESGCM(key) if suite.encryption is Encryption.AES_GCM_16 else ChaCha20Poly1305(key)
        return AeadCipher(cipher, encryption)
    return MacCipher(transform(suite.encryption, suite.integrity, encryption, integrity))


def _wiped(nonce: Octets, data: Octets, associated_data: Octets | None, buf: memoryview) -> int:
    raise Refusal(Reason.NO_SA, "its keys were wiped")
