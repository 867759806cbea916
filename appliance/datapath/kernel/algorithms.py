"""A suite in the kernel's own names (include/linux/crypto.h, net/xfrm/xfrm_algo.c)."""

from __future__ import annotations

from appliance.datapath.kernel.xfrm import Aead, Auth, Crypt
from appliance.sa.algorithms import ENCRYPTION, INTEGRITY, Encryption, Integrity, Suite

AEADS: dict[Encryption, str] = {
    Encryption.AES_GCM_16: "rfc4106(gcm(aes))",
    Encryption.CHACHA20_POLY1305: "rfc7539esp(chacha20,poly1305)",
}
CIPHERS: dict[Encryption, str] = {Encryption.AES_CBC: "cbc(aes)", Encryption.NULL: "ecb(cipher_null)"}
MACS: dict[Integrity, str] = {
    Integrity.HMAC_SHA2_256_128: "hmac(sha256)",
    Integrity.HMAC_SHA2_384_192: "hmac(sha384)",
    Integrity.HMAC_SHA2_512_256: "hmac(sha512)",
}


def algorithms(
    suite: Suite, encryption_key: bytes | bytearray, integrity_key: bytes | bytearray = b""
) -> tuple[Aead | None, Crypt | None, Auth | None]:
    """What an SA's state takes for ``suite``: an AEAD, or a cipher and an integrity algorithm.

    The salt is behind the encryption key, as in KeyMaterial. The keys are not copied: wiping them wipes them in the
    values. Raises ValueError for keys that do not fit the suite.
    """
    lengths = suite.encryption_key_length, suite.integrity_key_length
    if lengths != (len(encryption_key), len(integrity_key)):
        raise ValueError(f"{suite} takes keys of {lengths[0]} and {lengths[1]} bytes")
    spec = ENCRYPTION[suite.encryption]
    if spec.aead:
        return Aead(AEADS[suite.encryption], encryption_key, spec.icv * 8), None, None
    crypt = Crypt(CIPHERS[suite.encryption], encryption_key)
    # The truncation is said: by itself the kernel cuts hmac(sha256) to 96 bits, against RFC 4868.
    return None, crypt, Auth(MACS[suite.integrity], integrity_key, INTEGRITY[suite.integrity].icv * 8)


def algorithm_names(suite: Suite) -> tuple[str, ...]:
    """The kernel's names of a suite's algorithms."""
    if ENCRYPTION[suite.encryption].aead:
        return (AEADS[suite.encryption],)
    return CIPHERS[suite.encryption], MACS[suite.integrity]
