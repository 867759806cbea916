"""Network devices: what ethtool and devlink answer, what is made of it, and the child process that asks."""

from __future__ import annotations

import asyncio
import json
import struct
import subprocess
import sys
import time
from typing import Any

import pytest

from appliance.datapath.kernel.probe import devices as devices_module
from appliance.datapath.kernel.probe import features, functions
from appliance.datapath.kernel.probe.devices import OffloadDevice, PortFunction, probe_devices, read
from appliance.datapath.netlink import attribute
from appliance.reasons import Reason
from appliance.sa.datapath import Missing
from tests.datapath.kernel.probe.recorded import recorded, string, u32

ESP, CHECKSUM, SEGMENTATION = features.ESP, features.ESP_CHECKSUM, features.ESP_SEGMENTATION
FIXED = dict.fromkeys((ESP, CHECKSUM, SEGMENTATION), "off [fixed]")
ALL = dict.fromkeys((ESP, CHECKSUM, SEGMENTATION), "on")


def bitset(*names: str, mask: tuple[str, ...] = ()) -> bytes:
    """As ETHTOOL_MSG_FEATURES_GET_REPLY has them: with a mask all are listed, and those that are set have a value."""
    bits = b"".join(
        attribute(1, u32(1, n) + string(2, name) + (attribute(3, b"") if mask and name in names else b""))
        for n, name in enumerate(mask or names)
    )
    return (b"" if mask else attribute(1, b"")) + u32(2, 64) + attribute(3, bits)


def reply(index: int, hardware: bytes, wanted: bytes, active: bytes, fixed: bytes) -> bytes:
    sets = (hardware, wanted, active, fixed)
    body = attribute(1 | 0x8000, u32(1, index) + string(2, "eth0"))
    body += b"".join(attribute(n | 0x8000, one) for n, one in enumerate(sets, 2))
    return struct.pack("=BBH", 11, 1, 0) + body


def test_features_are_read_as_ethtool_prints_them() -> None:
    everything = (ESP, CHECKSUM, SEGMENTATION, "tx-checksumming")
    changeable = bitset(ESP, CHECKSUM, mask=everything)
    answers = [
        (21, reply(2, changeable, bitset(ESP, CHECKSUM), bitset(ESP), bitset("loopback"))),
        (21, reply(3, bitset("other", mask=everything), bitset(), bitset(SEGMENTATION), bitset())),
        (21, reply(4, changeable, bitset(), bitset(), bitset(CHECKSUM))),
    ]
    assert features.features(recorded(lambda kind, payload: answers), 21) == {
        2: {ESP: "on", CHECKSUM: "off [requested on]", SEGMENTATION: "off [fixed]"},
        3: {ESP: "off [fixed]", CHECKSUM: "off [fixed]", SEGMENTATION: "on [fixed]"},
        4: {ESP: "off", CHECKSUM: "off [fixed]", SEGMENTATION: "off [fixed]"},
    }


def port(index: int, number: int, caps: tuple[int, int] | None) -> bytes:
    body = struct.pack("=BBH", 7, 1, 0) + string(1, "pci") + string(2, "0000:03:00.0") + u32(3, number) + u32(6, index)
    if caps is not None:
        body += attribute(145 | 0x8000, attribute(1, bytes(6)) + attribute(4, struct.pack("=II", *caps)))
    return body


def test_devlink_ports_tell_what_their_functions_were_given() -> None:
    answers = [(22, port(2, 65535, None)), (22, port(5, 2, (0b0100, 0b1100))), (22, port(6, 3, (0b1, 0b11)))]
    assert functions.functions(recorded(lambda kind, payload: answers), 22) == [
        (5, "pci/0000:03:00.0/2", True, False),
    ]


def fact(driver: str, states: dict[str, str], **more: Any) -> dict[str, Any]:
    plain = {"name": "eth0", "index": 2, "kind": "", "why": "", "bus": "0000:03:00.0", "functions": []}
    return plain | {"driver": driver, "features": states} | more


def device(driver: str, states: dict[str, str], **more: Any) -> OffloadDevice:
    (found,) = read({"devices": [fact(driver, states, **more)], "trouble": []}).devices
    return found


@pytest.mark.parametrize(
    ("driver", "packet", "missing"),
    [("mlx5_core", True, []), ("ixgbe", False, ["packet offload"]), ("of_tomorrow", None, [])],
)
def test_whether_whole_packets_are_taken_depends_on_what_is_known_of_the_driver(
    driver: str, packet: bool | None, missing: list[str]
) -> None:
    found = device(driver, ALL)
    assert found.crypto and found.packet is packet and found.segmentation and found.checksum
    assert [gap.what for gap in found.missing] == missing


def test_a_feature_that_is_off_is_told_with_the_command_that_turns_it_on() -> None:
    found = device("mlx5_core", ALL | {ESP: "off"})
    assert not found.crypto and found.packet is False
    assert found.missing == (
        Missing(
            "crypto offload",
            Reason.OFFLOAD_UNSUPPORTED,
            "esp-hw-offload is off",
            "ethtool -K eth0 esp-hw-offload on",
        ),
    )
    found = device("mlx5_core", ALL | {SEGMENTATION: "off"})
    assert found.crypto and not found.segmentation
    assert [gap.remedy for gap in found.missing] == ["ethtool -K eth0 tx-esp-segmentation on"]


def test_a_driver_without_the_feature_is_named() -> None:
    found = device("virtio_net", FIXED)
    assert not found.crypto and found.packet is False
    assert [gap.detail for gap in found.missing] == ["the driver virtio_net has no esp-hw-offload here"]
    assert "asked for" in device("ixgbe", FIXED | {ESP: "off [requested on]"}).missing[0].detail
    assert "nothing is known" in device("ixgbe", {}).missing[0].detail


def test_an_interface_that_is_no_hardware_takes_no_sas_whatever_it_inherits() -> None:
    found = device("", ALL, name="br0", kind="bridge", why="br0 is of kind bridge")
    assert not found.crypto and found.packet is False
    assert [(gap.reason, gap.detail) for gap in found.missing] == [(Reason.NO_OFFLOAD_DEVICE, "br0 is of kind bridge")]


def test_a_port_function_without_offload_is_told_with_the_command_that_gives_it() -> None:
    found = device(
        "mlx5_core", ALL, functions=[["pci/0000:03:00.0/2", True, False], ["pci/0000:03:00.0/3", None, True]]
    )
    assert found.functions == (
        PortFunction("pci/0000:03:00.0/2", True, False),
        PortFunction("pci/0000:03:00.0/3", None, True),
    )
    (gap,) = found.missing
    assert gap.what == "ipsec_packet of pci/0000:03:00.0/2"
    assert gap.remedy.startswith("devlink port function set pci/0000:03:00.0/2 ipsec_packet enable")


def test_here_the_child_tells_of_the_loopback_within_two_seconds() -> None:
    began = time.monotonic()
    found = asyncio.run(probe_devices("lo"))
    assert time.monotonic() - began < 2
    assert found.missing == () and [one.name for one in found.devices] == ["lo"]


def test_an_interface_that_is_not_there_is_told() -> None:
    found = asyncio.run(probe_devices("nothing0"))
    assert found.devices == () and [gap.reason for gap in found.missing] == [Reason.NO_OFFLOAD_DEVICE]


def test_a_driver_that_does_not_answer_is_left_behind() -> None:
    began = time.monotonic()
    found = asyncio.run(probe_devices(seconds=0.01))
    assert time.monotonic() - began < 1
    assert [gap.reason for gap in found.missing] == [Reason.DATAPATH_TIMEOUT]


@pytest.mark.parametrize("output", [b"", b"{}", b"[]", b'{"devices": [{}], "trouble": []}', b'{"trouble": 1}'])
def test_it_never_raises(monkeypatch: pytest.MonkeyPatch, output: bytes) -> None:
    async def child(name: str | None, seconds: float) -> bytes:
        return output

    monkeypatch.setattr(devices_module, "_child", child)
    found = asyncio.run(probe_devices())
    assert [gap.reason for gap in found.missing] == [Reason.INTERNAL]


def test_the_child_needs_nothing_but_the_standard_library() -> None:
    code = (
        "import json, sys; from appliance.datapath.kernel.probe import facts; facts.facts()\n"
        "heavy = {'asyncio', 'pyroute2', 'appliance.reasons', 'appliance.sa', 'appliance.datapath.kernel.xfrm'}\n"
        "print(json.dumps(sorted(heavy & set(sys.modules))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout) == []
