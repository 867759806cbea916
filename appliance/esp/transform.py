"""Transforms: what the algorithms of an SA do to one ESP packet, and how to get one from IKEv2's numbers.

A transform knows keys, IVs and ICVs. It knows nothing of sequence numbers' meaning, padding, or IP.
"""

from __future__ import annotations

from typing import Protocol

from appliance.esp.aead import Aead, aes_gcm_16, chacha20_poly1305
from appliance.esp.hmac_sha2 import HMACS, HmacSha2
from appliance.esp.mac_suite import AesCbc, EncryptThenMac, Null
from appliance.esp.octets import Octets
from appliance.reasons import Reason, Refusal

__all__ = ["AES_CBC", "AES_GCM_16", "CHACHA20_POLY1305", "NO_INTEGRITY", "NULL", "Transform", "transform"]

# Transform type 1, IANA "Internet Key Exchange Version 2 (IKEv2) Parameters".
NULL = 11
AES_CBC = 12
AES_GCM_16 = 20
CHACHA20_POLY1305 = 28

# Transform type 3. The others are the keys of HMACS.
NO_INTEGRITY = 0


class Transform(Protocol):
    """The algorithms of one SA with its keys. It serves that SA only: two senders with one key would repeat IVs.

    ``iv_length`` and ``icv_length`` are bytes. The plaintext with its trailer is a multiple of ``alignment`` bytes
    (RFC 4303 §2.4: 4, or the cipher's block if larger). ``random_iv`` tells whether the IV must be unpredictable
    (RFC 3602 §3); where it is False and ``iv_length`` is not 0, the IV must never repeat (RFC 4106 §3.1).
    """

    @property
    def iv_length(self) -> int:
        """Bytes of IV in front of the ciphertext."""

    @property
    def icv_length(self) -> int:
        """Bytes of ICV at the packet's end."""

    @property
    def alignment(self) -> int:
        """What the length of plaintext and trailer is a multiple of."""

    @property
    def random_iv(self) -> bool:
        """Whether the IV comes from a random source."""

    def seal(self, header: bytes, sequence_high: bytes, iv: bytes, plaintext: Octets) -> bytes:
        """Make an ESP packet: ``header`` (SPI and low sequence, 8 bytes), IV, ciphertext, ICV.

        ``sequence_high`` is the high half of an extended sequence number (4 bytes), or empty without ESN.
        """

    def open(self, packet: Octets, sequence_high: bytes) -> bytes:
        """Verify an ESP packet and return its plaintext with the trailer. Raises Drop(INTEGRITY or MALFORMED_ESP)."""

    def wipe(self) -> None:
        """Overwrite the keys. Using the transform afterwards raises Drop(NO_SA). Idempotent."""


def transform(
    encryption_id: int, integrity_id: int, encryption_key_with_salt: bytes | bytearray, integrity_key: bytes | bytearray
) -> Transform:
    """The transform of a pair of IKEv2 transform numbers (types 1 and 3).

    The salt of an AEAD stands behind its key (RFC 4106 §8.1, RFC 7634 §2). Keys given as bytearrays are kept, not
    copied, and ``wipe`` overwrites them; after a refusal they are the caller's to wipe. Raises
    Refusal(ALGORITHM_UNSUPPORTED or BAD_KEY).
    """
    if encryption_id in (AES_GCM_16, CHACHA20_POLY1305):
        # RFC 7296 §3.3: a combined-mode cipher goes with no integrity algorithm.
        if integrity_id != NO_INTEGRITY or len(integrity_key):
            raise Refusal(Reason.ALGORITHM_UNSUPPORTED, f"encryption {encryption_id} takes no integrity algorithm")
        make = aes_gcm_16 if encryption_id == AES_GCM_16 else chacha20_poly1305
        return make(encryption_key_with_salt)
    if encryption_id not in (AES_CBC, NULL):
        raise Refusal(Reason.ALGORITHM_UNSUPPORTED, f"encryption {encryption_id}")
    if integrity_id not in HMACS:
        # RFC 4303 §3.2: NULL encryption needs integrity; RFC 8221 §4 says the same of any cipher that is no AEAD.
        raise Refusal(Reason.ALGORITHM_UNSUPPORTED, f"encryption {encryption_id} with integrity {integrity_id}")
    cipher = AesCbc(encryption_key_with_salt) if encryption_id == AES_CBC else Null(encryption_key_with_salt)
    return EncryptThenMac(cipher, HmacSha2(HMACS[integrity_id], integrity_key))


_: tuple[type[Transform], ...] = (Aead, EncryptThenMac)  # both keep the protocol, says the type checker
