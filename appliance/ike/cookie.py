"""Stateless cookies for a responder under load (RFC 7296 §2.6)."""

from __future__ import annotations

from collections.abc import Callable
from hmac import compare_digest

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.hmac import HMAC

from appliance.sa.selector import Address

PERIOD = 60.0
"""Seconds that a secret is used to make cookies; it is accepted for one period more."""

_SECRET = 32
COOKIE_LENGTH = 1 + 32


class CookieJar:
    """Makes and verifies cookies without remembering anybody. ``now`` is in seconds and never goes back.

    A cookie is <version of the secret> | HMAC-SHA-256(secret, Ni | IPi | port | SPIi): the RFC's hash, with the secret
    as a proper key. Each part that can vary in length is preceded by its length.
    """

    __slots__ = ("_random", "_secrets")

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._random = random
        self._secrets: dict[int, bytes] = {}

    def make(self, nonce_i: bytes, address: Address, port: int | None, spi_i: bytes, now: float) -> bytes:
        """The COOKIE notification's contents, 33 bytes, for a request from ``address``; ``port`` None is not bound."""
        period = self._rotate(now)
        if period not in self._secrets:
            self._secrets[period] = self._random(_SECRET)
        return self._cookie(period, nonce_i, address, port, spi_i)

    def verify(
        self, cookie: bytes, nonce_i: bytes, address: Address, port: int | None, spi_i: bytes, now: float
    ) -> bool:
        """Whether this jar made the cookie for these values, in this period or the one before."""
        period = self._rotate(now)
        for candidate in (period, period - 1):
            if candidate in self._secrets and cookie[:1] == _version(candidate):
                return compare_digest(cookie, self._cookie(candidate, nonce_i, address, port, spi_i))
        return False

    def _rotate(self, now: float) -> int:
        period = int(now // PERIOD)
        for old in [p for p in self._secrets if p < period - 1]:
            del self._secrets[old]
        return period

    def _cookie(self, period: int, nonce_i: bytes, address: Address, port: int | None, spi_i: bytes) -> bytes:
        place = b"" if port is None else port.to_bytes(2, "big")
        data = b"".join(len(part).to_bytes(2, "big") + part for part in (nonce_i, address.packed, place)) + spi_i
        mac = HMAC(self._secrets[period], hashes.SHA256())
        mac.update(data)
        return _version(period) + mac.finalize()


def _version(period: int) -> bytes:
    return bytes([period & 0xFF])
