"""Key material of one SA: an object that installing consumes.

A key encrypts under one sequence of IVs only: an IV that repeats breaks AES-GCM and ChaCha20-Poly1305. So an SA hands
its keys to one datapath, once.
"""

from __future__ import annotations


class KeysConsumedError(Exception):
    """Keys were asked for twice."""


def wipe(buffer: bytearray) -> None:
    """Overwrite a buffer that we own with zeros."""
    buffer[:] = bytes(len(buffer))


class KeyMaterial:
    """Encryption key (its salt behind it) and integrity key of one unidirectional SA. Never shown, never copied."""

    __slots__ = ("_encryption", "_integrity")

    def __init__(self, encryption: bytes | bytearray, integrity: bytes | bytearray = b"") -> None:
        self._encryption: bytearray | None = bytearray(encryption)
        self._integrity: bytearray | None = bytearray(integrity)

    @property
    def consumed(self) -> bool:
        """Whether the keys were taken or wiped."""
        return self._encryption is None

    def take(self) -> tuple[bytearray, bytearray]:
        """Hand over (encryption key and salt, integrity key), once. The taker wipes them. Raises KeysConsumedError."""
        if self._encryption is None or self._integrity is None:
            raise KeysConsumedError("these keys were already installed or wiped")
        keys = self._encryption, self._integrity
        self._encryption = self._integrity = None
        return keys

    def wipe(self) -> None:
        """Destroy the keys; taking them afterwards fails."""
        for buffer in (self._encryption, self._integrity):
            if buffer is not None:
                wipe(buffer)
        self._encryption = self._integrity = None

    def __repr__(self) -> str:
        return "KeyMaterial(consumed)" if self.consumed else "KeyMaterial(…)"

    def __reduce__(self) -> str:
        raise TypeError("key material is not copied or serialised")

    def __copy__(self) -> KeyMaterial:
        raise TypeError("key material is not copied")

    def __deepcopy__(self, memo: object) -> KeyMaterial:
        raise TypeError("key material is not copied")
