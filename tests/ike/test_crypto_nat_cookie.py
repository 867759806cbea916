"""NAT detection hashes (RFC 7296 §2.23) and cookies (§2.6)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.ike.cookie import COOKIE_LENGTH, PERIOD, CookieJar
from appliance.ike.nat import nat_hash

NONCE, SPI = bytes(range(32)), b"initspi!"
HERE = IPv4Address("192.0.2.1")


@pytest.mark.parametrize(("address", "packed"), [("192.0.2.1", 4), ("2001:db8::1", 16)])
def test_the_hash_is_sha1_of_spis_address_and_port_rfc7296_2_23(address: str, packed: int) -> None:
    where = ip_address(address)
    assert len(where.packed) == packed
    data = SPI + b"respspi!" + where.packed + b"\x11\x94"
    assert nat_hash(SPI, b"respspi!", where, 4500) == hashlib.sha1(data).digest()


def jar(seed: int = 1) -> CookieJar:
    return CookieJar(Random(seed).randbytes)


def test_a_cookie_is_verified_by_the_jar_that_made_it_rfc7296_2_6() -> None:
    ours = jar()
    cookie = ours.make(NONCE, HERE, 500, SPI, 0.0)
    assert 1 <= len(cookie) == COOKIE_LENGTH <= 64
    assert ours.verify(cookie, NONCE, HERE, 500, SPI, 1.0)
    assert not jar(2).verify(cookie, NONCE, HERE, 500, SPI, 1.0)


CHANGES: dict[str, Callable[[CookieJar, bytes], bool]] = {
    "nonce": lambda j, c: j.verify(c, NONCE[:-1] + b"x", HERE, 500, SPI, 0.0),
    "shorter nonce": lambda j, c: j.verify(c, NONCE[:-1], HERE, 500, SPI, 0.0),
    "address": lambda j, c: j.verify(c, NONCE, IPv4Address("192.0.2.2"), 500, SPI, 0.0),
    "family": lambda j, c: j.verify(c, NONCE, IPv6Address("::192.0.2.1"), 500, SPI, 0.0),
    "port": lambda j, c: j.verify(c, NONCE, HERE, 4500, SPI, 0.0),
    "no port": lambda j, c: j.verify(c, NONCE, HERE, None, SPI, 0.0),
    "spi": lambda j, c: j.verify(c, NONCE, HERE, 500, b"initspi?", 0.0),
    "cookie": lambda j, c: j.verify(c[:-1] + bytes([c[-1] ^ 1]), NONCE, HERE, 500, SPI, 0.0),
    "cut cookie": lambda j, c: j.verify(c[:-1], NONCE, HERE, 500, SPI, 0.0),
    "no cookie": lambda j, c: j.verify(b"", NONCE, HERE, 500, SPI, 0.0),
    "version": lambda j, c: j.verify(bytes([c[0] ^ 1]) + c[1:], NONCE, HERE, 500, SPI, 0.0),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_cookie_is_good_for_what_it_was_made_for_only_rfc7296_2_6(change: str) -> None:
    ours = jar()
    assert not CHANGES[change](ours, ours.make(NONCE, HERE, 500, SPI, 0.0))


def test_the_port_may_be_left_out() -> None:
    ours = jar()
    assert ours.verify(ours.make(NONCE, HERE, None, SPI, 0.0), NONCE, HERE, None, SPI, 0.0)


def test_secrets_rotate_and_the_previous_one_is_taken_for_a_period_rfc7296_2_6() -> None:
    ours = jar()
    cookie = ours.make(NONCE, HERE, 500, SPI, 59.0)
    assert ours.verify(cookie, NONCE, HERE, 500, SPI, 60.0)
    newer = ours.make(NONCE, HERE, 500, SPI, 60.0)
    assert newer != cookie
    assert ours.verify(cookie, NONCE, HERE, 500, SPI, 119.0)
    assert not ours.verify(cookie, NONCE, HERE, 500, SPI, 120.0)
    assert ours.verify(newer, NONCE, HERE, 500, SPI, 179.0)


def test_at_most_two_secrets_are_kept() -> None:
    ours = jar()
    for second in range(0, 3600, 30):
        ours.make(NONCE, HERE, 500, SPI, float(second))
        assert len(ours._secrets) <= 2


def test_versions_wrap_without_mixing_periods() -> None:
    ours = jar()
    old = ours.make(NONCE, HERE, 500, SPI, 0.0)
    assert not ours.verify(old, NONCE, HERE, 500, SPI, 256 * PERIOD)
    assert ours.make(NONCE, HERE, 500, SPI, 256 * PERIOD)[:1] == old[:1]
    assert not ours.verify(old, NONCE, HERE, 500, SPI, 256 * PERIOD)


@given(st.binary(max_size=100))
def test_no_bytes_pass_for_a_cookie(data: bytes) -> None:
    ours = jar()
    ours.make(NONCE, HERE, 500, SPI, 0.0)
    assert not ours.verify(data, NONCE, HERE, 500, SPI, 0.0)
