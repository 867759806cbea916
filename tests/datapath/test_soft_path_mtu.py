"""The path MTU: who may say what it is, who is heard, and what is sent by it (RFC 4301 §8)."""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import replace
from ipaddress import ip_address

import pytest

from appliance.datapath.ingress import TooBig, open_ingress, read_errors
from appliance.datapath.soft.bypass import Bypass
from appliance.datapath.soft.outbound import Outbound
from appliance.datapath.soft.pmtu import PathMtu
from appliance.datapath.soft.sender import Sender
from appliance.esp.checksum import internet_checksum
from appliance.esp.ip import Ipv4Header, Ipv6Header
from appliance.sa.association import UdpEncapsulation
from appliance.sa.selector import Address
from tests.datapath.lone import SUITE
from tests.datapath.pair import inside
from tests.datapath.test_soft_batches import packet, quiet, state
from tests.lab.lab import Lab
from tests.lab.namespace import why_not

network = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


def too_big(ours: Address, peer: Address, spi: int, mtu: int = 1300) -> bytes:
    """What a router says about ESP in UDP (RFC 792, RFC 4443 §3.2)."""
    quoted = struct.pack("!HHHH", 4500, 4500, 1380, 0) + spi.to_bytes(4) + bytes(20)
    if ours.version == 6:
        head = Ipv6Header(source=ours.packed, destination=peer.packed, protocol=17, total_length=1400).build()
        return struct.pack("!BBHI", 2, 0, 0, mtu) + head + quoted
    head = Ipv4Header(source=ours.packed, destination=peer.packed, protocol=17, total_length=1400).build()
    message = bytearray(struct.pack("!BBHHH", 3, 4, 0, 0, mtu) + head + quoted)
    message[2:4] = internet_checksum(bytes(message)).to_bytes(2)
    return bytes(message)


@network
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("df", [True, False], ids=["df", "no-df"])
def test_routers_are_heard_for_every_peer_whatever_was_sent_last(version: int, df: bool) -> None:
    """Two sockets share the port, and the kernel gives each peer's ICMP errors to one of them."""
    ours = ip_address("192.0.2.1" if version == 4 else "2001:db8::1")
    peers = [ip_address(f"198.51.100.{n}" if version == 4 else f"2001:db8:1::{n + 1:x}") for n in range(32)]
    kind = (socket.AF_INET, socket.IPPROTO_ICMP) if version == 4 else (socket.AF_INET6, socket.IPPROTO_ICMPV6)
    core = quiet()
    learnt, sender = PathMtu(core), Sender(core, lambda state: None)
    with Lab() as lab:
        space = lab.namespace("gw")
        space.ip(f"addr add {ours}/{24 if version == 4 else 64} dev lo" + (" nodad" if version == 6 else ""))
        if version == 6:
            space.ip("route add default dev lo")
        with inside(space):
            ingress = open_ingress(ours)
            sender._set_df(ingress.esp, df)
            with socket.socket(kind[0], socket.SOCK_RAW, kind[1]) as router:
                for n, peer in enumerate(peers):
                    out = state(SUITE)
                    out.sa = replace(
                        out.sa, spi=0x1000 + n, destination=peer, encapsulation=UdpEncapsulation(4500, 4500)
                    )
                    out.target = (str(peer), 4500)
                    core.sad.add(out)
                    router.sendto(too_big(ours, peer, out.sa.spi), (str(ours), 0))
            heard = {sock: [e for _ in range(3) for e in read_errors(sock)] for sock in (ingress.esp, ingress.natt)}
            ingress.close()
    assert all(heard.values()), "the kernel gave all to one socket, so nothing is proved"
    for errors in heard.values():
        for error in errors:
            learnt.hear(error)
    assert [out.path_mtu for out in core.sad.outbound.values()] == [1300] * 32


@network
def test_ike_is_sent_although_an_error_about_somebody_else_is_queued() -> None:
    ours, peer = ip_address("192.0.2.1"), ip_address("192.0.2.2")
    with Lab() as lab:
        space = lab.namespace("gw")
        space.ip(f"addr add {ours}/24 dev lo", f"addr add {peer}/24 dev lo")
        with inside(space), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind((str(peer), 4500))
            other.settimeout(2)
            ingress = open_ingress(ours)
            # Nobody listens there: "port unreachable" comes back, to one of the two sockets.
            for number in range(3, 35):
                space.ip(f"addr add 192.0.2.{number}/24 dev lo")
                ingress.send(b"to nobody", ip_address(f"192.0.2.{number}"), 4500, natt=True)
                ingress.send(b"to the peer", peer, 4500, natt=True)
                assert other.recv(100) == bytes(4) + b"to the peer"
            ingress.close()


def test_forged_icmp_cannot_push_the_path_mtu_below_its_floor_rfc4301_8_2() -> None:
    core = quiet()
    try:
        out = state(SUITE)
        core.sad.add(out)
        learnt = PathMtu(core)
        learnt.hear(TooBig(ip_address("192.0.2.2"), 68, bytes.fromhex("0badc0de")))
        assert learnt.of(out) == 1500
        learnt.hear(TooBig(ip_address("192.0.2.99"), 68, b""))
        assert learnt.of(out) == 1500
        learnt.hear(TooBig(ip_address("192.0.2.2"), 68, out.sa.spi.to_bytes(4)))
        assert learnt.of(out) == 576 == out.path_mtu
        learnt.hear(TooBig(ip_address("192.0.2.2"), 9000, out.sa.spi.to_bytes(4)))
        assert learnt.of(out) == 576
        core.now += 601
        learnt.age()
        assert learnt.of(out) == 1500 == out.path_mtu
    finally:
        os.close(core.tun.fd)


@pytest.mark.parametrize(("mtu", "believed"), [(0, 576), (300, 576), (1300, 1300), (1500, 1500), (9000, 1500)])
def test_what_a_router_says_is_bounded_and_none_means_the_least_rfc1191_5(mtu: int, believed: int) -> None:
    core = quiet()
    out = state(SUITE)
    core.sad.add(out)
    learnt = PathMtu(core)
    learnt.hear(TooBig(ip_address("192.0.2.2"), mtu, out.sa.spi.to_bytes(4)))
    assert learnt.of(out) == out.path_mtu == believed


def test_a_destination_that_gives_way_to_others_has_its_path_mtu_back() -> None:
    core = quiet()
    learnt = PathMtu(core)
    states = []
    for n in range(4097):
        out = state(SUITE)
        address = ip_address(f"198.18.{n // 256}.{n % 256}")
        out.sa = replace(out.sa, spi=0x1000 + n, destination=address)
        out.target = (str(address), 4500)
        states.append(out)
        core.sad.outbound = {kept.sa.key: kept for kept in (states[0], out)}
        learnt.hear(TooBig(address, 600, out.sa.spi.to_bytes(4)))
    assert (states[0].path_mtu, states[1].path_mtu) == (1500, 600)
    # To hear once more of one that is known costs nobody else's.
    core.sad.outbound = {kept.sa.key: kept for kept in states[1:3]}
    learnt.hear(TooBig(states[2].sa.destination, 600, states[2].sa.spi.to_bytes(4)))
    assert states[1].path_mtu == 600


@pytest.mark.parametrize("encapsulated", [True, False])
@pytest.mark.parametrize("version", [4, 6])
def test_ipv6_at_its_minimum_mtu_passes_a_smaller_path_in_fragments_rfc8200_5(version: int, encapsulated: bool) -> None:
    core = quiet()
    ends = ("192.0.2.1", "192.0.2.2") if version == 4 else ("2001:db8::1", "2001:db8::2")
    for path_mtu in range(1280, 1400):
        sender = Sender(core, lambda state: None)
        out = state(SUITE)
        out.sa = replace(
            out.sa,
            source=ip_address(ends[0]),
            destination=ip_address(ends[1]),
            encapsulation=UdpEncapsulation(4500, 4500) if encapsulated else None,
        )
        out.set_path_mtu(path_mtu)
        inner = packet(6, 17, bytes(1280 - 48))
        assert len(inner) == 1280
        Outbound(core, sender, PathMtu(core), Bypass(core))._one(out, memoryview(bytearray(inner + bytes(8))), 1280)
        (burst,) = sender._open.values()
        outer = burst.used + (20 if version == 4 else 40) + (8 if encapsulated else 0)
        assert burst.df == (outer <= path_mtu), path_mtu
