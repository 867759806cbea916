"""``show offload``: rows of findings, remembered, and never waited for long."""

from __future__ import annotations

import asyncio

import pytest

from appliance.daemon import offload
from appliance.daemon.offload import OffloadProbe, device_rows, kernel_rows
from appliance.datapath.kernel.probe.abilities import Ability, KernelAbilities
from appliance.datapath.kernel.probe.devices import Devices, OffloadDevice, PortFunction
from appliance.reasons import Reason
from appliance.sa.algorithms import every_suite
from appliance.sa.datapath import Missing

OLD = KernelAbilities(
    release="6.1.0",
    able=frozenset(Ability) - {Ability.DIRECTION},
    suites=every_suite(),
    missing=(
        Missing("chacha20poly1305", Reason.ALGORITHM_UNSUPPORTED, "its words"),
        Missing("direction of an SA", Reason.KERNEL_TOO_OLD, "6.10"),
    ),
)
NIC = OffloadDevice(
    name="eth0", index=2, driver="new_nic", bus="0000:03:00.0", crypto=True, packet=None, segmentation=True,
    functions=(PortFunction("pci/0000:03:00.0/2", True, False),),
    missing=(
        Missing("checksums inside ESP", Reason.OFFLOAD_UNSUPPORTED, "off", "ethtool -K eth0 esp-tx-csum-hw-offload on"),
        Missing("ipsec_packet of pci/0000:03:00.0/2", Reason.OFFLOAD_UNSUPPORTED, "not given", "devlink …"),
    ),
)  # fmt: skip
BRIDGE = OffloadDevice(name="br0", index=3, kind="bridge", missing=(Missing("x", Reason.NO_OFFLOAD_DEVICE),))


def test_the_kernels_rows_say_yes_or_why_not() -> None:
    rows = {row.what: row for row in kernel_rows(OLD)}
    assert rows[""].text == "Linux 6.1.0" and rows["suites"].able and "-esn" not in rows["suites"].text
    assert rows["ESP over IPv6"].able and rows["direction of an SA"].able is False
    assert rows["direction of an SA"].reason is not None
    assert rows["direction of an SA"].reason.remedy == Reason.KERNEL_TOO_OLD.remedy
    assert rows["chacha20poly1305"].able is False
    assert len(rows) == 1 + 1 + 1 + len(Ability)


def test_what_could_not_be_tried_has_no_row() -> None:
    found = KernelAbilities(release="6.18", missing=(Missing("the kernel's IPsec", Reason.NO_PRIVILEGE, "root"),))
    assert [row.what for row in kernel_rows(found)] == ["", "the kernel's IPsec"]


def test_devices_have_rows_and_what_is_no_hardware_is_counted() -> None:
    rows = device_rows(Devices((NIC, BRIDGE, BRIDGE)))
    able = {(row.subject, row.what): row.able for row in rows}
    assert able == {
        ("eth0", ""): None,
        ("eth0", "crypto offload"): True,
        ("eth0", "packet offload"): None,
        ("eth0", "segmentation of ESP"): True,
        ("eth0", "checksums inside ESP"): False,
        ("eth0", "ipsec_crypto of pci/0000:03:00.0/2"): True,
        ("eth0", "ipsec_packet of pci/0000:03:00.0/2"): False,
        ("devices", "no hardware"): None,
    }
    assert rows[-1].text == "2 bridge"
    assert {row.reason.remedy for row in rows if row.reason} == {
        "ethtool -K eth0 esp-tx-csum-hw-offload on",
        "devlink …",
    }


def test_one_look_serves_all_who_ask_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0

    async def look() -> tuple[KernelAbilities, Devices]:
        nonlocal looks
        looks += 1
        await asyncio.sleep(0.01)
        return OLD, Devices((NIC,))

    async def scenario() -> None:
        probe = OffloadProbe(look)
        first, second = await asyncio.gather(probe.rows(), probe.rows())
        assert first == second == await probe.rows() and looks == 1
        monkeypatch.setattr(offload, "REMEMBERED_SECONDS", 0.0)
        await probe.rows()
        assert looks == 2

    asyncio.run(scenario())


def test_a_machine_that_is_slow_to_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offload, "ANSWER_SECONDS", 0.01)
    monkeypatch.setattr(offload, "REMEMBERED_SECONDS", 0.0)
    answered = asyncio.Event()

    async def look() -> tuple[KernelAbilities, Devices]:
        await answered.wait()
        answered.clear()
        return OLD, Devices((NIC,))

    async def scenario() -> None:
        probe = OffloadProbe(look)
        (row,) = await probe.rows()
        assert "slow to answer" in row.text
        answered.set()
        rows = await probe.rows()
        assert len(rows) > 5
        assert await probe.rows() == rows  # those of the last look, while the next one takes its time

    asyncio.run(scenario())


def test_a_look_that_fails_is_an_error_and_the_next_one_is_not() -> None:
    fails = True

    async def look() -> tuple[KernelAbilities, Devices]:
        if fails:
            raise ZeroDivisionError
        return OLD, Devices()

    async def scenario() -> None:
        nonlocal fails
        probe = OffloadProbe(look)
        with pytest.raises(ZeroDivisionError):
            await probe.rows()
        fails = False
        assert await probe.rows()

    asyncio.run(scenario())
