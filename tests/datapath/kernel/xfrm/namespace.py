"""A network namespace of a test's own, that ends with it. Not ``tests.lab``: these tests run in a bare machine too."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

import pytest

from appliance.datapath.kernel.xfrm import XfrmSocket

P = ParamSpec("P")
T = TypeVar("T")

_CLONE_NEWNET = 0x40000000


class Namespace:
    """One thread is in it, and does what it is asked; sockets that it opened work from everywhere."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        try:
            self.call(_enter)
        except OSError:
            self.close()
            raise

    def call(self, function: Callable[P, T], *args: P.args, **more: P.kwargs) -> T:
        return self._thread.submit(function, *args, **more).result(timeout=120)

    def ip(self, words: str) -> None:
        self.call(subprocess.run, ["ip", *words.split()], check=True, timeout=30)

    def sysctl(self, name: str, value: int) -> None:
        """Those that are a namespace's own."""
        self.call(Path("/proc/thread-self/root/proc/sys", *name.split(".")).write_text, str(value))

    def close(self) -> None:
        self._thread.shutdown()


def _enter() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def namespace_or_skip() -> Namespace:
    """With an interface that everything is routed to: policies do not count on the loopback."""
    try:
        namespace = Namespace()
    except OSError as error:
        pytest.skip(f"no network namespace can be made here: {error.strerror}")
    try:
        namespace.call(XfrmSocket).close()
    except OSError as error:
        namespace.close()
        pytest.skip(f"this kernel has no NETLINK_XFRM (CONFIG_XFRM_USER): {error.strerror}")
    try:
        for words in (
            "link set lo up",
            "link add name xfrm-near type veth peer name xfrm-far",
            "link set xfrm-near up",
            "link set xfrm-far up",
            "address add 192.0.2.1/24 dev xfrm-near",
            "address add 10.1.0.1/24 dev xfrm-near",
            "route add default dev xfrm-near",
        ):
            namespace.ip(words)
    except FileNotFoundError:
        namespace.close()
        pytest.skip("no iproute2 here")
    return namespace


def kernel() -> tuple[int, int]:
    """Such as (6, 12)."""
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int("".join(char for char in minor if char.isdigit()))
