"""Key exchange methods: MODP (RFC 3526), ECP (RFC 5903), Curve25519 and Curve448 (RFC 8031).

Private values come from the random source that is passed in, so that a handshake repeats from a seed; all arithmetic is
OpenSSL's, in constant time. MODP exponents are as long as RFC 3526 §8 asks for its higher estimate.

A public value is checked before it is used, as RFC 6989 §2 asks: MODP within 2 … p-2, ECP on the curve, and for the two
Montgomery curves the result must not be zero (RFC 7748 §6). No private value is used for two exchanges here.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric import dh, ec, x448, x25519
from cryptography.utils import CryptographyDeprecationWarning

from appliance.sa.algorithms import KeyExchangeMethod

Random = Callable[[int], bytes]


class InvalidKeyExchange(Exception):  # noqa: N818
    """A peer's public value that must not be used: wrong length, outside its group, or leading to a known secret."""


class KeyExchange(Protocol):
    """Our half of one key exchange."""

    @property
    def method(self) -> KeyExchangeMethod:
        """The group or curve."""

    @property
    def public(self) -> bytes:
        """The Key Exchange Data to send."""

    def shared(self, peer: bytes) -> bytes:
        """The shared secret with the peer's Key Exchange Data, as SKEYSEED takes it. Raises InvalidKeyExchange."""


def respond(method: KeyExchangeMethod, random: Random, peer: bytes) -> tuple[bytes, bytes]:
    """A responder's half with the peer's Key Exchange Data: our public value, and the shared secret.

    The peer's value is looked at first: anybody can send one that is invalid, and to find that out is little work, to
    make a private value much. Raises InvalidKeyExchange, and ValueError for NONE.
    """
    if method in _ECP:
        _ecp_point(method, peer)
    elif method in _MODP:
        _modp_value(method, peer)
    elif method is not KeyExchangeMethod.NONE:
        _check_length(method, peer)
    own = generate(method, random)
    return own.public, own.shared(peer)


def generate(method: KeyExchangeMethod, random: Random) -> KeyExchange:
    """A fresh private value from ``random`` and its public value. Raises ValueError for NONE."""
    if method in _MODP:
        return _Modp(method, random)
    if method in _ECP:
        return _Ecp(method, random)
    if method is KeyExchangeMethod.CURVE25519:
        return _Curve25519(random)
    if method is KeyExchangeMethod.CURVE448:
        return _Curve448(random)
    raise ValueError(f"{method.name} exchanges no keys")


def public_length(method: KeyExchangeMethod) -> int:
    """Bytes of Key Exchange Data of a method."""
    if method in _MODP:
        return len(_MODP[method][0]) // 2
    if method in _ECP:
        return 2 * _ECP[method][1]
    return {KeyExchangeMethod.CURVE25519: 32, KeyExchangeMethod.CURVE448: 56}[method]


def _check_length(method: KeyExchangeMethod, peer: bytes) -> None:
    if len(peer) != public_length(method):
        raise InvalidKeyExchange(f"{method.name} public value of {len(peer)} bytes, not {public_length(method)}")


_RFC3526_3 = (
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD"
    "EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED"
    "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F"
    "83655D23DCA3AD961C62F356208552BB9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B"
    "E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF6955817183995497CEA956AE515D2261898FA0510"
    "15728E5A8AACAA68FFFFFFFFFFFFFFFF"
)
_RFC3526_4 = (
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD"
    "EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED"
    "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F"
    "83655D23DCA3AD961C62F356208552BB9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B"
    "E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF6955817183995497CEA956AE515D2261898FA0510"
    "15728E5A8AAAC42DAD33170D04507A33A85521ABDF1CBA64ECFB850458DBEF0A8AEA71575D060C7DB3970F85A6E1E4C7"
    "ABF5AE8CDB0933D71E8C94E04A25619DCEE3D2261AD2EE6BF12FFA06D98A0864D87602733EC86A64521F2B18177B200C"
    "BBE117577A615D6C770988C0BAD946E208E24FA074E5AB3143DB5BFCE0FD108E4B82D120A93AD2CAFFFFFFFFFFFFFFFF"
)
_RFC3526_5 = (
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD"
    "EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED"
    "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F"
    "83655D23DCA3AD961C62F356208552BB9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B"
    "E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF6955817183995497CEA956AE515D2261898FA0510"
    "15728E5A8AAAC42DAD33170D04507A33A85521ABDF1CBA64ECFB850458DBEF0A8AEA71575D060C7DB3970F85A6E1E4C7"
    "ABF5AE8CDB0933D71E8C94E04A25619DCEE3D2261AD2EE6BF12FFA06D98A0864D87602733EC86A64521F2B18177B200C"
    "BBE117577A615D6C770988C0BAD946E208E24FA074E5AB3143DB5BFCE0FD108E4B82D120A92108011A723C12A787E6D7"
    "88719A10BDBA5B2699C327186AF4E23C1A946834B6150BDA2583E9CA2AD44CE8DBBBC2DB04DE8EF92E8EFC141FBECAA6"
    "287C59474E6BC05D99B2964FA090C3A2233BA186515BE7ED1F612970CEE2D7AFB81BDD762170481CD0069127D5B05AA9"
    "93B4EA988D8FDDC186FFB7DC90A6C08F4DF435C934063199FFFFFFFFFFFFFFFF"
)

_MODP: dict[KeyExchangeMethod, tuple[str, int]] = {
    # The prime, and bits of the exponent: RFC 3526 §8, the higher estimate of strength.
    KeyExchangeMethod.MODP_2048: (_RFC3526_3, 320),
    KeyExchangeMethod.MODP_3072: (_RFC3526_4, 424),
    KeyExchangeMethod.MODP_4096: (_RFC3526_5, 480),
}
_GENERATOR = 2


@lru_cache(maxsize=len(_MODP))
def _modp_numbers(method: KeyExchangeMethod) -> dh.DHParameterNumbers:
    prime = int(_MODP[method][0], 16)
    return dh.DHParameterNumbers(prime, _GENERATOR, (prime - 1) // 2)


class _Modp:
    """MODP. The library generates private values from its own randomness only, and computing 2^x in Python would take
    ten times as long and leak the exponent by its timing. So 2^x is an exchange with the public value 2 in OpenSSL.
    """

    __slots__ = ("_private", "method", "public")

    def __init__(self, method: KeyExchangeMethod, random: Random) -> None:
        self.method = method
        bits = _MODP[method][1]
        # The top bit is set: the exponent has full length, and every one of this length is as likely.
        exponent = int.from_bytes(random(bits // 8), "big") | 1 << (bits - 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)  # RFC 8247 §2.4 has group 14 as MUST
            numbers = _modp_numbers(method)
            self._private = dh.DHPrivateNumbers(exponent, dh.DHPublicNumbers(_GENERATOR, numbers)).private_key()
            self.public = self._private.exchange(dh.DHPublicNumbers(_GENERATOR, numbers).public_key())

    def shared(self, peer: bytes) -> bytes:
        value = _modp_value(self.method, peer)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)
            numbers = _modp_numbers(self.method)
            try:
                # Filled with zeros in front to the length of the prime, as RFC 7296 §2.14 has it.
                return self._private.exchange(dh.DHPublicNumbers(value, numbers).public_key())
            except ValueError as error:
                raise InvalidKeyExchange(f"{self.method.name} public value: {error}") from None


def _modp_value(method: KeyExchangeMethod, peer: bytes) -> int:
    """A peer's public value. Raises InvalidKeyExchange."""
    _check_length(method, peer)
    value = int.from_bytes(peer, "big")
    if not 2 <= value <= _modp_numbers(method).p - 2:  # RFC 6989 §2.1; 0, 1 and p-1 make the secret known
        raise InvalidKeyExchange(f"{method.name} public value outside 2 to p-2 (RFC 6989 §2.1)")
    return value


_ECP: dict[KeyExchangeMethod, tuple[ec.EllipticCurve, int, int]] = {
    # The curve, bytes of a coordinate, and the order of its group (FIPS 186-4 D.1.2).
    KeyExchangeMethod.ECP_256: (
        ec.SECP256R1(),
        32,
        0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    ),
    KeyExchangeMethod.ECP_384: (
        ec.SECP384R1(),
        48,
        (1 << 384) - 0x389CB27E0BC8D220A7E5F24DB74F58851313E695333AD68D,
    ),
    KeyExchangeMethod.ECP_521: (
        ec.SECP521R1(),
        66,
        (1 << 521) - 0x5AE79787C40D069948033FEB708F65A2FC44A36477663B851449048E16EC79BF7,
    ),
}
_EXTRA = 8  # bytes more than the order has, so that the remainder is not biased (FIPS 186-5 A.2.1)


class _Ecp:
    """ECP. Public is x | y; shared is x alone (RFC 5903 §7)."""

    __slots__ = ("_private", "method", "public")

    def __init__(self, method: KeyExchangeMethod, random: Random) -> None:
        self.method = method
        curve, size, order = _ECP[method]
        scalar = int.from_bytes(random(size + _EXTRA), "big") % (order - 1) + 1
        self._private = ec.derive_private_key(scalar, curve)
        numbers = self._private.public_key().public_numbers()
        self.public = numbers.x.to_bytes(size, "big") + numbers.y.to_bytes(size, "big")

    def shared(self, peer: bytes) -> bytes:
        return self._private.exchange(ec.ECDH(), _ecp_point(self.method, peer))


def _ecp_point(method: KeyExchangeMethod, peer: bytes) -> ec.EllipticCurvePublicKey:
    """A peer's public value. Raises InvalidKeyExchange."""
    _check_length(method, peer)
    curve, size, _ = _ECP[method]
    x, y = int.from_bytes(peer[:size], "big"), int.from_bytes(peer[size:], "big")
    try:
        return ec.EllipticCurvePublicNumbers(x, y, curve).public_key()
    except ValueError:  # a coordinate beyond the field, or a point off the curve (RFC 6989 §2.3)
        raise InvalidKeyExchange(f"{method.name} public value is not on the curve (RFC 6989 §2.3)") from None


class _Curve25519:
    __slots__ = ("_private", "method", "public")

    def __init__(self, random: Random) -> None:
        self.method = KeyExchangeMethod.CURVE25519
        self._private = x25519.X25519PrivateKey.from_private_bytes(random(32))
        self.public = self._private.public_key().public_bytes_raw()

    def shared(self, peer: bytes) -> bytes:
        _check_length(self.method, peer)
        try:
            return self._private.exchange(x25519.X25519PublicKey.from_public_bytes(peer))
        except ValueError:  # OpenSSL refuses a secret of zeros
            raise InvalidKeyExchange("CURVE25519 public value has a small order (RFC 7748 §6.1)") from None


class _Curve448:
    __slots__ = ("_private", "method", "public")

    def __init__(self, random: Random) -> None:
        self.method = KeyExchangeMethod.CURVE448
        self._private = x448.X448PrivateKey.from_private_bytes(random(56))
        self.public = self._private.public_key().public_bytes_raw()

    def shared(self, peer: bytes) -> bytes:
        _check_length(self.method, peer)
        try:
            return self._private.exchange(x448.X448PublicKey.from_public_bytes(peer))
        except ValueError:  # OpenSSL refuses a secret of zeros
            raise InvalidKeyExchange("CURVE448 public value has a small order (RFC 7748 §6.2)") from None
