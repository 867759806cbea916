"""Features of network devices, over ethtool netlink; drivers by the older ioctl, which alone tells them."""

from __future__ import annotations

import array
import fcntl
import socket
import struct
from collections.abc import Iterator

from appliance.datapath.netlink import NESTED, Netlink, attribute, attribute_list, attributes, generic, text, u32

ESP, ESP_CHECKSUM, ESP_SEGMENTATION = "esp-hw-offload", "esp-tx-csum-hw-offload", "tx-esp-segmentation"

_GET = 11
_HEADER, _HARDWARE, _WANTED, _ACTIVE, _NOCHANGE = 1, 2, 3, 4, 5
_INDEX = 1
_NOMASK, _BITS, _BIT, _BIT_NAME, _BIT_VALUE = 1, 3, 1, 2, 3
_SIOCETHTOOL, _GDRVINFO = 0x8946, 3
_DRVINFO = struct.Struct("=I32s32s32s32s32s12s5I")


def features(ethtool: Netlink, family: int) -> dict[int, dict[str, str]]:
    """The state of each device's ESP features by its index: as ethtool -k has it. Raises OSError."""
    body = generic(_GET, attribute(_HEADER | NESTED, b""))
    return dict(read(payload) for payload in ethtool.dump(family, body))


def read(payload: bytes) -> tuple[int, dict[str, str]]:
    """One FEATURES_GET_REPLY: "on" or "off", with "[fixed]" where nobody can change it, or "[requested on]"."""
    found = attributes(payload[4:])
    hardware, wanted, active, fixed = (set(_names(found.get(n, b""))) for n in (_HARDWARE, _WANTED, _ACTIVE, _NOCHANGE))
    states: dict[str, str] = {}
    for name in (ESP, ESP_CHECKSUM, ESP_SEGMENTATION):
        state = "on" if name in active else "off"
        if name not in hardware or name in fixed:
            state += " [fixed]"
        elif (name in wanted) != (name in active):
            state += " [requested on]" if name in wanted else " [requested off]"
        states[name] = state
    return u32(attributes(found.get(_HEADER, b"")).get(_INDEX)), states


def _names(bitset: bytes) -> Iterator[str]:
    """The bits of a bitset that are set: all that are listed, or with a mask those that have a value."""
    found = attributes(bitset)
    for kind, bit in attribute_list(found.get(_BITS, b"")):
        parts = attributes(bit)
        if kind == _BIT and (_NOMASK in found or _BIT_VALUE in parts):
            yield text(parts.get(_BIT_NAME))


def driver(name: str) -> tuple[str, str]:
    """An interface's driver and where on its bus it is; empty where it has none (ETHTOOL_GDRVINFO)."""
    info = array.array("B", _DRVINFO.pack(_GDRVINFO, b"", b"", b"", b"", b"", b"", 0, 0, 0, 0, 0))
    request = struct.pack("@16sP16x", name.encode()[:15], info.buffer_info()[0])
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            fcntl.ioctl(sock, _SIOCETHTOOL, request)
    except OSError:
        return "", ""
    fields = _DRVINFO.unpack(info.tobytes())
    bus = text(fields[4])
    return text(fields[1]), "" if bus == "N/A" else bus
