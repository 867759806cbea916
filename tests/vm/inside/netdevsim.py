"""netdevsim, a network device that takes offload of IPsec and shows what reached it. It neither encrypts nor decrypts.

Plain, as the kernel has it: crypto offload of AES-GCM with an ICV of 128 bits, without ESN. Lifted, by our patch: also
packet offload of SAs and of policies, ESN, and keys of 256 bits; in packet mode it counts lifetimes.
"""

from __future__ import annotations

import re
import struct
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path

BUS = Path("/sys/bus/netdevsim")
DEBUG = Path("/sys/kernel/debug/netdevsim")
MODULES = Path("/opt/netdevsim")
SAS = 33
"""As many SAs, and policies, it has room for."""
_LINE = re.compile(r"(sa|policy)\[(\d+)\] +(?:([rt])x )?(.*)")


class Variant(StrEnum):
    """Which of the two modules."""

    PLAIN = "plain"
    LIFTED = "lifted"


@dataclass(frozen=True, slots=True)
class OffloadedSa:
    """An SA in the device. ``more`` has what the lifted variant adds (offload, dir, acquire, mode, reqid, if_id, …)."""

    inbound: bool
    destination: IPv4Address | IPv6Address
    spi: int
    protocol: int
    key: bytes
    salt: bytes
    more: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class OffloadedPolicy:
    """A policy in the device. ``more``: offload, dir, index, priority, action, reqid, if_id."""

    source: IPv4Network | IPv6Network
    destination: IPv4Network | IPv6Network
    more: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Ipsec:
    """What the device shows of IPsec; the counts are its own, of SAs, policies and packets that left by an SA."""

    count: int
    policy_count: int
    transmitted: int
    sas: tuple[OffloadedSa, ...]
    policies: tuple[OffloadedPolicy, ...]

    @classmethod
    def parse(cls, text: str) -> Ipsec:
        """From debugfs' ports/0/ipsec, of either variant."""
        head = dict(pair.split("=") for pair in text.splitlines()[0].removeprefix("SA ").split())
        policy_count = re.search(r"^policy count=(\d+)$", text, re.MULTILINE)
        entries: dict[tuple[str, int], dict[str, str]] = {}
        for kind, index, side, rest in _LINE.findall(text):
            fields = entries.setdefault((kind, int(index)), {})
            # A key is several words.
            fields.update(re.findall(r"(\w+)=((?:\S+)(?: [0-9a-f]{8}\b)*)", rest))
            if side:
                fields["side"] = side
        return cls(
            count=int(head["count"]),
            policy_count=int(policy_count[1]) if policy_count else 0,
            transmitted=int(head["tx"]),
            sas=tuple(_sa(fields) for (kind, _), fields in entries.items() if kind == "sa"),
            policies=tuple(_policy(fields) for (kind, _), fields in entries.items() if kind == "policy"),
        )


def _sa(fields: dict[str, str]) -> OffloadedSa:
    words = [int(word, 16) for word in fields.pop("key").split()]
    return OffloadedSa(
        inbound=fields.pop("side") == "r",
        destination=ip_address(fields.pop("ipaddr")),
        spi=int(fields.pop("spi"), 16),
        protocol=int(fields.pop("proto"), 16),
        key=struct.pack(f"={len(words)}I", *words),
        salt=struct.pack("=I", int(fields.pop("salt"), 16)),
        more=fields,
    )


def _policy(fields: dict[str, str]) -> OffloadedPolicy:
    return OffloadedPolicy(source=ip_network(fields.pop("src")), destination=ip_network(fields.pop("dst")), more=fields)


@dataclass(frozen=True, slots=True)
class Device:
    """A device of one port. ``interface`` is its name, in whichever namespace it is."""

    number: int
    interface: str

    def ipsec(self) -> Ipsec:
        """What it shows now."""
        return Ipsec.parse(self.text())

    def found(self) -> Ipsec | None:
        """The same, None if the device is there no more."""
        return self.ipsec() if (BUS / f"devices/netdevsim{self.number}").exists() else None

    def text(self) -> str:
        """As debugfs has it."""
        return (DEBUG / f"netdevsim{self.number}/ports/0/ipsec").read_text()


@contextmanager
def loaded(variant: Variant) -> Iterator[None]:
    """This variant's module, in place of the other; neither afterwards."""
    _unload()
    _run(["modprobe", "psample"])
    _run(["insmod", str(MODULES / variant / "netdevsim.ko")])
    try:
        yield
    finally:
        _unload()


def _unload() -> None:
    if BUS.exists():
        _run(["rmmod", "netdevsim"])


@contextmanager
def device(number: int = 0, *, namespace: str | None = None) -> Iterator[Device]:
    """A device of the module that is loaded, as ``make`` makes it; nothing of it afterwards."""
    try:
        yield make(number, namespace=namespace)
    finally:
        remove(number)


def make(number: int, *, namespace: str | None = None) -> Device:
    """A device of the module that is loaded, up.

    ``namespace`` is the path of one to put it into, such as /proc/PID/ns/net. Once taken down it has no carrier
    any more: it gets one with a peer only.
    """
    (BUS / "new_device").write_text(f"{number} 1")
    (found,) = (path.name for path in (BUS / f"devices/netdevsim{number}/net").iterdir())
    interface = f"nsim{number}"
    _run(["ip", "link", "set", "dev", found, "name", interface])
    enter: list[str] = []
    if namespace is not None:
        _run(["ip", "link", "set", "dev", interface, "netns", namespace])
        enter = ["nsenter", f"--net={namespace}"]
    _run([*enter, "ip", "link", "set", "dev", interface, "up"])
    return Device(number, interface)


def remove(number: int) -> None:
    """Take a device away, as if it were pulled out. No error if it is not there."""
    if (BUS / f"devices/netdevsim{number}").exists():
        (BUS / "del_device").write_text(f"{number}")


def _run(argv: list[str]) -> None:
    subprocess.run(argv, check=True, timeout=60)
