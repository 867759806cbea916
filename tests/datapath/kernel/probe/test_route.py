"""The device that leads to a peer: routes and links as the kernel tells them."""

from __future__ import annotations

import errno
import struct
from ipaddress import ip_address

import pytest

from appliance.datapath.kernel.probe.route import Egress, device_to
from appliance.datapath.netlink import GETLINK, GETROUTE, NEWLINK, NEWROUTE, attribute, attributes
from appliance.datapath.netlink import u32 as read_u32
from appliance.reasons import Reason, Refusal
from tests.datapath.kernel.probe.recorded import recorded, string, u32
from tests.lab import lab as laboratory
from tests.lab.namespace import why_not

PEER = ip_address("198.51.100.7")
_LINKINFO, _KIND, _DATA, _LINK, _NETNSID = 18, 1, 2, 5, 37


def link(name: str, index: int, kind: str = "", *, lower: int = 0, data: bytes = b"", hardware: int = 1) -> bytes:
    body = struct.pack("=BBHiII", 0, 0, hardware, index, 0x1043, 0) + string(3, name)
    if lower:
        body += u32(_LINK, lower)
    if kind:
        body += attribute(_LINKINFO, string(_KIND, kind) + (attribute(_DATA, data) if data else b""))
    return body


LINKS = {
    1: link("lo", 1, hardware=772),
    2: link("eth0", 2),
    3: link("eth0.10", 3, "vlan", lower=2),
    4: link("br0", 4, "bridge"),
    5: link("bond0", 5, "bond", data=attribute(1, b"\x01")),
    6: link("bond1", 6, "bond", data=attribute(1, b"\x04")),
    7: link("inner", 7, "vlan", lower=3),
    8: link("far", 8, "vlan", lower=9) + u32(_NETNSID, 0),
    9: link("tun0", 9, "tun"),
    10: link("vlan-on-bridge", 10, "vlan", lower=4),
    11: link("loop", 11, "vlan", lower=11),
    12: link("eth9", 12, "netdevsim"),
}


def leads_to(index: int, marks: list[int] | None = None):  # type: ignore[no-untyped-def]
    def answer(kind: int, payload: bytes) -> list[tuple[int, bytes]] | tuple[int, str]:
        if kind == GETROUTE:
            found = attributes(payload[12:])
            assert found[1] == PEER.packed and payload[1] == 32
            if marks is not None:
                marks.append(read_u32(found.get(16)))
            return [(NEWROUTE, struct.pack("=BBBBBBBBI", 2, 32, 0, 0, 254, 0, 0, 1, 0) + u32(4, index))]
        assert kind == GETLINK
        (wanted,) = struct.unpack_from("=i", payload, 4)
        return [(NEWLINK, LINKS[wanted])]

    return recorded(answer)


@pytest.mark.parametrize(
    ("index", "egress"),
    [
        (2, Egress("eth0", 2)),
        (3, Egress("eth0", 2, ("eth0.10",))),
        (7, Egress("eth0", 2, ("inner", "eth0.10"))),
        (5, Egress("bond0", 5)),
        (12, Egress("eth9", 12)),
    ],
)
def test_vlans_are_followed_to_their_device(index: int, egress: Egress) -> None:
    assert device_to(PEER, route=leads_to(index)) == egress


@pytest.mark.parametrize(
    ("index", "words"),
    [
        (1, "lo is the loopback"),
        (4, "br0 is of kind bridge"),
        (6, "only those in mode active-backup"),
        (8, "far leads to 198.51.100.7, and its device is not here"),
        (9, "tun0 is a TUN device"),
        (10, "over vlan-on-bridge: br0"),
        (11, "its device is not here"),
    ],
)
def test_what_can_take_no_sa_is_refused_with_words(index: int, words: str) -> None:
    with pytest.raises(Refusal) as caught:
        device_to(PEER, route=leads_to(index))
    assert caught.value.reason is Reason.NO_OFFLOAD_DEVICE and words in caught.value.detail


def test_the_route_is_that_of_marked_packets() -> None:
    marks: list[int] = []
    device_to(PEER, 0x45, route=leads_to(2, marks))
    assert marks == [0x45]


def test_a_peer_without_a_route_is_refused_in_the_kernels_words() -> None:
    with pytest.raises(Refusal) as caught:
        device_to(PEER, route=recorded(lambda kind, payload: (errno.ENETUNREACH, "")))
    assert caught.value.reason is Reason.NO_OFFLOAD_DEVICE and "Network is unreachable" in caught.value.detail


@pytest.mark.skipif(why_not() is not None, reason="no network namespaces here")
def test_in_a_real_namespace() -> None:
    with laboratory.Lab() as lab:
        near, far = lab.namespace("near"), lab.namespace("far")
        lab.link(near, "wan", far, "peer")
        near.ip("addr add 198.51.100.1/24 dev wan", "addr add 2001:db8::1/64 dev wan")
        for address, words in (
            (PEER, "wan is one end of a pair"),
            (ip_address("2001:db8::2"), "wan is one end of a pair"),
            (ip_address("203.0.113.1"), "Network is unreachable"),
            (ip_address("198.51.100.1"), "lo is the loopback"),
        ):
            with pytest.raises(Refusal, match=words):
                near.call(device_to, address)
