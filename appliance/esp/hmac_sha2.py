"""HMAC-SHA-2 with a truncated output as ESP's integrity algorithm (RFC 4868)."""

from __future__ import annotations

from dataclasses import dataclass
from hmac import compare_digest

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.hmac import HMAC

from appliance.esp.drop import Drop
from appliance.esp.octets import Octets
from appliance.reasons import Reason, Refusal


@dataclass(frozen=True, slots=True)
class HmacSpec:
    """One row of RFC 4868 §2.6: key and ICV in bytes."""

    name: str
    hash: hashes.HashAlgorithm
    key: int
    icv: int


# By IKEv2 transform number, type 3 (RFC 4868 §4).
HMACS: dict[int, HmacSpec] = {
    12: HmacSpec("HMAC_SHA2_256_128", hashes.SHA256(), 32, 16),
    13: HmacSpec("HMAC_SHA2_384_192", hashes.SHA384(), 48, 24),
    14: HmacSpec("HMAC_SHA2_512_256", hashes.SHA512(), 64, 32),
}


class HmacSha2:
    """An HMAC with its key. Raises Refusal(BAD_KEY) for a key that is not as long as the hash (RFC 4868 §2.1.1)."""

    __slots__ = ("_key", "_keyed", "icv_length", "name")

    def __init__(self, spec: HmacSpec, key: bytes | bytearray) -> None:
        if len(key) != spec.key:
            raise Refusal(Reason.BAD_KEY, f"{spec.name} takes a key of {spec.key} bytes, not {len(key)}")
        self.name = spec.name
        self.icv_length = spec.icv
        self._key = key if isinstance(key, bytearray) else bytearray(key)
        # The key is hashed once; each packet starts from a copy of that state.
        self._keyed: HMAC | None = HMAC(self._key, spec.hash)

    def icv(self, *parts: Octets) -> bytes:
        """The ICV over the concatenated parts: the leftmost bytes of the HMAC (RFC 4868 §2.3)."""
        if self._keyed is None:
            raise Drop(Reason.NO_SA, "its keys were wiped")
        mac = self._keyed.copy()
        for part in parts:
            mac.update(part)
        return mac.finalize()[: self.icv_length]

    def verify(self, icv: Octets, *parts: Octets) -> None:
        """Raise Drop(INTEGRITY) unless ``icv`` is that of the parts. Takes the same time wherever they differ."""
        if not compare_digest(self.icv(*parts), icv):
            raise Drop(Reason.INTEGRITY)

    def wipe(self) -> None:
        """Overwrite the key."""
        self._key[:] = bytes(len(self._key))
        self._keyed = None

    def __repr__(self) -> str:
        return f"<{self.name}, key not shown>"
