"""A guard takes another's place without a moment in which neither stands."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from appliance.datapath import guard
from appliance.datapath.guard import guard_status, install_guard, remove_guard
from tests.datapath.pair import inside
from tests.datapath.test_soft_edges import policy
from tests.lab.lab import Lab
from tests.lab.namespace import Namespace, why_not

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))

POLICIES = [policy(f"p{number}", "10.1.0.0/24", f"10.2.{number}.0/24") for number in range(200)]


@dataclass(slots=True)
class Tries:
    """Datagrams that were sent as fast as it goes: the guard has the kernel refuse each (EPERM)."""

    passed: int = 0
    refused: int = 0


@contextmanager
def trying(namespace: Namespace) -> Iterator[Tries]:
    """Sends what is protected in the clear all the time."""
    tries, enough = Tries(), threading.Event()

    def send() -> None:
        while not enough.is_set():
            try:
                sock.sendto(b"in the clear", ("10.2.0.9", 9))
                tries.passed += 1
            except PermissionError:
                tries.refused += 1

    with namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        thread = threading.Thread(target=send)
        thread.start()
        try:
            yield tries
        finally:
            enough.set()
            thread.join()


@pytest.fixture
def gateway() -> Iterator[Namespace]:
    with Lab() as lab:
        namespace = lab.namespace("gw")
        namespace.ip(
            "link add wan type veth peer name other", "link set wan up", "link set other up",
            "addr add 10.1.0.1/24 dev wan", "route add 10.2.0.0/16 dev wan",
            "neigh add 10.2.0.9 lladdr 02:00:00:00:00:09 dev wan",
        )  # fmt: skip
        yield namespace


def tables(namespace: Namespace) -> list[str]:
    return namespace.run(["nft", "list", "tables"]).stdout.splitlines()


def test_nothing_passes_while_a_guard_takes_anothers_place(gateway: Namespace) -> None:
    with inside(gateway):
        install_guard(POLICIES)
        with trying(gateway) as tries:
            for _ in range(20):
                install_guard(POLICIES)
        assert guard_status().installed
    assert len(tables(gateway)) == 1
    assert tries.refused > 1000
    assert tries.passed == 0


def test_guards_that_are_put_up_at_once_leave_the_last_one_and_never_none(gateway: Namespace) -> None:
    def install(_: int) -> None:
        with inside(gateway):
            install_guard(POLICIES[:1])

    install(0)
    with trying(gateway) as tries, ThreadPoolExecutor(4) as pool:
        list(pool.map(install, range(24)))
    assert tries.passed == 0
    assert len(tables(gateway)) == 1
    with inside(gateway):
        remove_guard()
        assert not guard_status().installed
    assert tables(gateway) == []
    with trying(gateway) as tries:
        install(0)
    assert tries.passed > 0


def test_a_guard_whose_number_came_free_meanwhile_is_the_last_all_the_same(
    gateway: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    aware, nested = guard.ipsec_aware, iter([True])

    def two_others_come_and_go() -> bool:
        if next(nested, False):
            install_guard(POLICIES)
            install_guard(POLICIES)
        return aware()

    with inside(gateway):
        install_guard(POLICIES)
        monkeypatch.setattr(guard, "ipsec_aware", two_others_come_and_go)
        install_guard(POLICIES[:1])
    assert tables(gateway) == ["table inet esplanade_guard_4"]
