"""What the network devices can do of IPsec, and why not the rest."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import appliance
from appliance.datapath.kernel.probe.features import ESP, ESP_CHECKSUM, ESP_SEGMENTATION
from appliance.reasons import Reason
from appliance.sa.datapath import Missing

PACKET_DRIVERS = frozenset({"mlx5_core"})
CRYPTO_DRIVERS = frozenset({"netdevsim", "ixgbe", "ixgbevf", "nfp", "cxgb4", "rvu_nicpf", "rvu-nicpf"})
"""Drivers of which it is known that they take whole packets, or crypto only. No driver tells: others must be tried."""

_ROOT = str(Path(appliance.__file__).resolve().parents[1])
_CRYPTO_SWITCH, _PACKET_SWITCH = "ipsec_crypto", "ipsec_packet"


@dataclass(frozen=True, slots=True)
class PortFunction:
    """The function behind a devlink port, such as pci/0000:03:00.0/2, and whether it was given IPsec offload.

    None: its driver has no such switch.
    """

    port: str
    crypto: bool | None
    packet: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OffloadDevice:
    """One interface. ``kind`` is "" for hardware, as in ip -details link otherwise.

    ``crypto`` and ``packet``: whether it takes SAs in these modes; ``packet`` is None where only trying tells.
    ``segmentation`` and ``checksum``: whether it does TSO and checksums inside ESP.
    """

    name: str
    index: int
    kind: str = ""
    driver: str = ""
    bus: str = ""
    crypto: bool = False
    packet: bool | None = False
    segmentation: bool = False
    checksum: bool = False
    functions: tuple[PortFunction, ...] = ()
    missing: tuple[Missing, ...] = ()


@dataclass(frozen=True, slots=True)
class Devices:
    """The interfaces in their order, and what could not be found out."""

    devices: tuple[OffloadDevice, ...] = ()
    missing: tuple[Missing, ...] = ()


async def probe_devices(name: str | None = None, *, seconds: float = 5.0) -> Devices:
    """Ask all devices, or the one of this name, in a child process. Never raises.

    No device of that name, or no answer within ``seconds``, is a row of ``missing``.
    """
    try:
        output = await _child(name, seconds)
        return read(json.loads(output), name)
    except TimeoutError:
        detail = f"a network driver did not answer within {seconds:g} s"
        return Devices((), (Missing("network devices", Reason.DATAPATH_TIMEOUT, detail),))
    except (OSError, ValueError, LookupError, TypeError) as error:
        return Devices((), (Missing("network devices", Reason.INTERNAL, f"{type(error).__name__}: {error}"),))


async def _child(name: str | None, seconds: float) -> bytes:
    # As root, modules come from where this one came from and from nowhere else; nothing of site-packages is needed.
    environment = dict(os.environ) | {"PYTHONPATH": _ROOT}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-S",
        "-P",
        "-m",
        "appliance.datapath.kernel.probe.facts",
        *([] if name is None else [name]),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        env=environment,
        start_new_session=True,  # a terminal's ^C is for the daemon
    )
    try:
        async with asyncio.timeout(seconds):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            # One that waits in the kernel dies when it comes out, and is not waited for.
            with contextlib.suppress(ProcessLookupError, TimeoutError):
                process.kill()
                async with asyncio.timeout(0.2):
                    await process.communicate()
    if process.returncode:
        raise OSError(f"its process ended with {process.returncode}")
    return output


def read(facts: dict[str, Any], name: str | None = None) -> Devices:
    """From what the child says. Raises LookupError, TypeError for what it never says."""
    missing = [Missing("network devices", Reason.KERNEL_REFUSED, words) for words in facts["trouble"]]
    devices = tuple(_device(fact) for fact in facts["devices"])
    if name is not None and not devices and not missing:
        missing.append(Missing(name, Reason.NO_OFFLOAD_DEVICE, f"there is no interface {name}"))
    return Devices(devices, tuple(missing))


def _device(fact: dict[str, Any]) -> OffloadDevice:
    name, driver, states = fact["name"], fact["driver"], fact["features"]
    functions = tuple(PortFunction(*function) for function in fact["functions"])
    on = {feature for feature, state in states.items() if state.startswith("on")}
    crypto = ESP in on and not fact["why"]
    packet = None if crypto else False
    if crypto and driver in PACKET_DRIVERS | CRYPTO_DRIVERS:
        packet = driver in PACKET_DRIVERS
    if fact["why"]:
        missing = [Missing("IPsec offload", Reason.NO_OFFLOAD_DEVICE, fact["why"])]
    else:
        missing = list(_lacks(name, driver, states, on))
    missing += [lack for function in functions for lack in _withheld(function)]
    return OffloadDevice(
        name=name,
        index=fact["index"],
        kind=fact["kind"],
        driver=driver,
        bus=fact["bus"],
        crypto=crypto,
        packet=packet,
        segmentation=ESP_SEGMENTATION in on,
        checksum=ESP_CHECKSUM in on,
        functions=functions,
        missing=tuple(missing),
    )


def _lacks(name: str, driver: str, states: dict[str, str], on: set[str]) -> list[Missing]:
    found = [] if ESP in on else [_off(name, driver, ESP, "crypto offload", states)]
    if ESP in on:
        if driver in CRYPTO_DRIVERS:
            detail = f"the driver {driver} does crypto only"
            found.append(Missing("packet offload", Reason.OFFLOAD_UNSUPPORTED, detail, "none is needed"))
        for feature, what in ((ESP_SEGMENTATION, "segmentation of ESP"), (ESP_CHECKSUM, "checksums inside ESP")):
            if feature not in on:
                found.append(_off(name, driver, feature, what, states))
    return found


def _off(name: str, driver: str, feature: str, what: str, states: dict[str, str]) -> Missing:
    """A feature that is not on: because it was never asked for, or because the driver has it not."""
    state = states.get(feature)
    if state == "off":
        command = f"ethtool -K {name} {feature} on"
        return Missing(what, Reason.OFFLOAD_UNSUPPORTED, f"{feature} is off", command)
    if state == "off [requested on]":
        detail = f"{feature} was asked for and is not on: another feature that it needs is off"
        return Missing(what, Reason.OFFLOAD_UNSUPPORTED, detail, f"see the others: ethtool -k {name}")
    if state is None:
        return Missing(what, Reason.OFFLOAD_UNSUPPORTED, f"nothing is known of {feature}")
    whose = f"the driver {driver}" if driver else "its driver"
    return Missing(
        what,
        Reason.OFFLOAD_UNSUPPORTED,
        f"{whose} has no {feature} here",
        "set offload to auto or none, or use a NIC that has it",
    )


def _withheld(function: PortFunction) -> list[Missing]:
    """Offload that is kept from the function behind a port."""
    return [
        Missing(
            f"{switch} of {function.port}",
            Reason.OFFLOAD_UNSUPPORTED,
            "the port's function was not given it",
            f"devlink port function set {function.port} {switch} enable, before the function's driver starts",
        )
        for switch, given in ((_CRYPTO_SWITCH, function.crypto), (_PACKET_SWITCH, function.packet))
        if given is False
    ]
