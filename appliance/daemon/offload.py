"""Rows for ``show offload``: the kernel and the network devices, looked at on demand and for a while remembered."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from appliance.console.protocol import Cause, OffloadRow
from appliance.reasons import Reason
from appliance.sa.datapath import Missing

if TYPE_CHECKING:
    from appliance.datapath.kernel.probe.abilities import KernelAbilities
    from appliance.datapath.kernel.probe.devices import Devices, OffloadDevice

REMEMBERED_SECONDS = 5.0
ANSWER_SECONDS = 0.6
"""How long somebody who asks is kept waiting for a look that is not over."""

Look = Callable[[], Awaitable["tuple[KernelAbilities, Devices]"]]


async def look_at_machine() -> tuple[KernelAbilities, Devices]:
    """The probe of both."""
    from appliance.datapath.kernel.probe.devices import probe_devices

    return await asyncio.gather(asyncio.to_thread(_look_at_kernel), probe_devices())


def _look_at_kernel() -> KernelAbilities:
    # Imported when it is first wanted, and not on the event loop: it takes memory that few daemons need, and its time.
    from appliance.datapath.kernel.probe.kernel import probe_kernel

    return probe_kernel()


class OffloadProbe:
    """One look at a time, shared by all who ask, who wait for ``patience`` seconds at most, or for its end."""

    def __init__(self, look: Look = look_at_machine, *, patience: float | None = ANSWER_SECONDS) -> None:
        self._look = look
        self._patience = patience
        self._task: asyncio.Task[list[OffloadRow]] | None = None
        self._rows: list[OffloadRow] = []
        self._looked_at = float("-inf")

    async def rows(self) -> list[OffloadRow]:
        """The rows, fresh or remembered; while a look takes long, those of the one before."""
        loop = asyncio.get_running_loop()
        if loop.time() - self._looked_at < REMEMBERED_SECONDS:
            return self._rows
        if self._task is None:
            self._task = loop.create_task(self._fetch())
        task = self._task
        done, _ = await asyncio.wait([task], timeout=self._patience)
        if done:
            return task.result()
        text = "the kernel or a network driver is slow to answer; ask again in a while"
        return self._rows or [OffloadRow(subject="kernel", what="", text=text)]

    async def _fetch(self) -> list[OffloadRow]:
        try:
            kernel, devices = await self._look()
            self._rows = [*kernel_rows(kernel), *device_rows(devices)]
            self._looked_at = asyncio.get_running_loop().time()
            return self._rows
        finally:
            self._task = None


def kernel_rows(kernel: KernelAbilities) -> list[OffloadRow]:
    """A row for each ability and for what is missing, in the order in which one needs them."""
    from appliance.datapath.kernel.probe.abilities import Ability

    rows = [OffloadRow(subject="kernel", what="", text=f"Linux {kernel.release}")]
    missing = {gap.what: gap for gap in kernel.missing}
    if kernel.suites:
        suites = dict.fromkeys(str(suite).removesuffix("-esn") for suite in kernel.suites)
        rows.append(OffloadRow(subject="kernel", what="suites", able=True, text=", ".join(suites)))
    known = {ability.value for ability in Ability}
    rows += [_missing("kernel", gap) for gap in kernel.missing if gap.what not in known]
    for ability in Ability:
        if ability in kernel.able:
            rows.append(OffloadRow(subject="kernel", what=ability.value, able=True))
        elif ability.value in missing:
            rows.append(_missing("kernel", missing[ability.value]))
    return rows


def device_rows(devices: Devices) -> list[OffloadRow]:
    """Rows of each device that is hardware or takes SAs; the others are counted."""
    rows = [_missing("devices", gap) for gap in devices.missing]
    others: Counter[str] = Counter()
    for device in devices.devices:
        if device.kind in ("", "bond", "netdevsim") or device.crypto or device.functions:
            rows += _device(device)
        else:
            others[device.kind] += 1
    if others:
        text = ", ".join(f"{count} {kind}" for kind, count in sorted(others.items()))
        rows.append(OffloadRow(subject="devices", what="no hardware", text=text))
    return rows


def _device(device: OffloadDevice) -> list[OffloadRow]:
    what = ", ".join(part for part in (device.driver or device.kind, device.bus) if part)
    rows = [OffloadRow(subject=device.name, what="", text=what)]
    missing = {gap.what: gap for gap in device.missing}
    can = {"crypto offload": device.crypto, "packet offload": device.packet}
    if device.crypto:
        can |= {"segmentation of ESP": device.segmentation, "checksums inside ESP": device.checksum}
    for name, able in can.items():
        if name in missing:
            rows.append(_missing(device.name, missing.pop(name)))
        elif able is None:
            rows.append(
                OffloadRow(subject=device.name, what=name, text="the driver does not tell; an SA has to be tried")
            )
        elif able:
            rows.append(OffloadRow(subject=device.name, what=name, able=True))
    for function in device.functions:
        for switch, given in (("ipsec_crypto", function.crypto), ("ipsec_packet", function.packet)):
            if given:
                rows.append(OffloadRow(subject=device.name, what=f"{switch} of {function.port}", able=True))
    return rows + [_missing(device.name, gap) for gap in missing.values()]


def _missing(subject: str, gap: Missing) -> OffloadRow:
    reason: Reason = gap.reason
    cause = Cause(
        reason=reason.name, words=reason.words, detail=gap.detail, remedy=gap.remedy or reason.remedy, since=None
    )
    return OffloadRow(subject=subject, what=gap.what, able=False, reason=cause)
