"""Functions behind devlink ports, and whether IPsec offload is given to them (devlink-port(8))."""

from __future__ import annotations

import struct

from appliance.datapath.netlink import Netlink, attributes, generic, text, u32

_PORT_GET = 5
_BUS, _DEVICE, _PORT, _INTERFACE, _FUNCTION = 1, 2, 3, 6, 145
_CAPS = 4
_CRYPTO, _PACKET = 1 << 2, 1 << 3
_BITFIELD = struct.Struct("=II")


def functions(devlink: Netlink, family: int) -> list[tuple[int, str, bool | None, bool | None]]:
    """Ports whose function may have IPsec offload. Raises OSError.

    For each its interface's index, its name, and whether ``ipsec_crypto`` and ``ipsec_packet`` are enabled (None: there
    is no such switch).
    """
    answers = [read(payload) for payload in devlink.dump(family, generic(_PORT_GET))]
    return [port for port in answers if port[2:] != (None, None)]


def read(payload: bytes) -> tuple[int, str, bool | None, bool | None]:
    """One answer to PORT_GET."""
    found = attributes(payload[4:])
    name = f"{text(found.get(_BUS))}/{text(found.get(_DEVICE))}/{u32(found.get(_PORT))}"
    caps = attributes(found.get(_FUNCTION, b"")).get(_CAPS, b"")
    value, known = _BITFIELD.unpack_from(caps) if len(caps) >= _BITFIELD.size else (0, 0)
    crypto, packet = (bool(value & bit) if known & bit else None for bit in (_CRYPTO, _PACKET))
    return u32(found.get(_INTERFACE)), name, crypto, packet
