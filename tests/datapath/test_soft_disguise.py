"""Packets that are not what they look like: damaged ones inside, hidden protocols, another family outside."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import replace
from ipaddress import ip_address

import pytest

from appliance.datapath.guard import guard_status, install_guard
from appliance.datapath.soft import coalesce, wire
from appliance.datapath.soft import core as core_module
from appliance.datapath.soft.coalesce import Coalescer
from appliance.datapath.soft.control import Control
from appliance.datapath.soft.inbound import Inbound
from appliance.datapath.soft.packet import parse
from appliance.datapath.soft.reassembly import PIECES, Reassembler
from appliance.datapath.soft.spd import Spd
from appliance.esp.checksum import internet_checksum
from appliance.esp.drop import Drop
from appliance.esp.ip import Ipv4Header
from appliance.reasons import Reason, Refusal
from appliance.sa.association import PolicyAction, UdpEncapsulation
from appliance.sa.datapath import DatapathEvent, MappingChanged
from tests.datapath.lone import PEER, SUITE, NoSocket, engine, golden, inbound_sa, ipv6, policy, way_out
from tests.datapath.pair import inside
from tests.datapath.test_soft_batches import cut, inbound_state, packet, quiet, state
from tests.lab.lab import Lab
from tests.lab.namespace import why_not

network = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


def ipv4_that_says_it_has(length: int) -> bytes:
    damaged = bytearray(packet(4, 17, bytes(20)))
    damaged[2:4], damaged[10:12] = length.to_bytes(2), bytes(2)
    damaged[10:12] = internet_checksum(bytes(damaged[:20])).to_bytes(2)
    return bytes(damaged)


@pytest.mark.parametrize("length", [0, 1, 19])
@pytest.mark.parametrize("tos", range(4))
def test_an_inner_packet_shorter_than_its_header_is_dropped_rfc791(length: int, tos: int) -> None:
    core = quiet()
    core.sad.add(inbound_state(inbound_sa()))
    inbound = Inbound(core, Coalescer(core))
    sealed = golden().seal(ipv4_that_says_it_has(length), 4)
    inbound._buffer[: len(sealed)] = sealed
    inbound.esp(0, len(sealed), PEER, tos)
    assert core.counters[Reason.MALFORMED_IP.name] == 1


def test_one_peers_bad_packet_does_not_take_the_others_of_a_batch_with_it() -> None:
    written: list[tuple[bytes, bytes]] = []
    core = quiet()
    peers = {}
    for spi in (0x1001, 0x1002):
        core.sad.add(inbound_state(inbound_sa(spi), port=0))
        peers[spi] = golden(spi)
    coalescer = Coalescer(core)
    inbound = Inbound(core, coalescer)
    lengths = []
    for n in range(20):
        hostile = n == 3
        inner = ipv4_that_says_it_has(0) if hostile else packet(4, 17, bytes(20 + n % 3), number=n)
        sealed = peers[0x1002 if hostile else 0x1001].seal(inner, 4)
        source = bytes((192, 0, 2, 1 + hostile))
        head = Ipv4Header(
            source=source, destination=bytes((192, 0, 2, 9)), protocol=50, total_length=20 + len(sealed)
        ).build()
        start = n * (65536 + 192)
        inbound._buffer[start : start + 20 + len(sealed)] = head + sealed
        lengths.append(20 + len(sealed))

    class Arrived:
        def receive(self, sock: socket.socket, *, names: bool) -> list[int]:
            return lengths

    def take(fd: int, parts: list[bytes]) -> None:
        written.append((bytes(parts[0]), bytes(parts[1])))

    inbound._raw = Arrived()  # type: ignore[assignment]
    with pytest.MonkeyPatch.context() as patch, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        patch.setattr(coalesce.os, "writev", take)
        patch.setattr(core_module.os, "writev", take)
        inbound.read_raw(sock, 1)
        coalescer.flush()
    assert sum(len(cut(*one)) for one in written) == 19


def test_what_was_decrypted_is_delivered_although_a_later_packet_meets_a_fault() -> None:
    whole = engine()
    whole.add_ingress(bytes((192, 0, 2, 1)), 4500, 500, NoSocket(1001), None)  # type: ignore[arg-type]
    (way,) = whole.ways.values()
    flushed = []

    def fail(*_: object) -> bool:
        raise ZeroDivisionError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(whole.inbound, "read_udp", fail)
        patch.setattr(whole._coalescer, "flush", lambda: flushed.append("in"))
        patch.setattr(whole.outbound, "read", fail)
        patch.setattr(whole.sender, "flush", lambda: flushed.append("out"))
        with pytest.raises(ZeroDivisionError):
            whole.read_socket(way.esp, way, error=False)
        with pytest.raises(ZeroDivisionError):
            whole.read_tun()
    assert flushed == ["in", "out"]


def test_many_extension_headers_do_not_hide_a_protocol_from_the_policies_rfc4301_4_4_1_1() -> None:
    spd = Spd()
    discard = PolicyAction.DISCARD
    spd.add(policy("no-mail", "fd01::/64", "fd02::/64[tcp/25]", action=discard, priority=1))
    spd.add(policy("all", "fd01::/64", "fd02::/64"))
    tcp = (4321).to_bytes(2) + (25).to_bytes(2) + bytes(16)
    for count in range(1, 12):
        chain = b"".join(bytes((60 if n < count - 1 else 6, 0, 1, 4, 0, 0, 0, 0)) for n in range(count))
        flow = parse(ipv6(chain, tcp, 60))
        found = None if flow is None else spd.match(flow)
        assert (found is None) == (count > 8), count
        assert found is None or found.name == "no-mail"  # type: ignore[union-attr]


def hidden(*, offset: int, identification: int = 9) -> bytes:
    """A fragment whose protocol, TCP, is behind extension headers that are behind the fragment header."""
    tcp = (4321).to_bytes(2) + (25).to_bytes(2) + bytes(20)
    body = b"secret " * 8 if offset else bytes((6, 0, 1, 4, 0, 0, 0, 0)) + tcp
    more = 0 if offset else 1
    return ipv6(bytes((60, 0)) + (offset | more).to_bytes(2) + identification.to_bytes(4), body, 44)


@pytest.mark.parametrize("first", [True, False], ids=["after-its-first", "alone"])
def test_a_later_fragment_has_the_protocol_of_its_first_one_rfc4301_7(first: bool) -> None:
    for protected in (True, False):
        out = way_out()
        clear: list[bytes] = []
        out.outbound._bypass.send = lambda header, packet, into=clear: into.append(bytes(packet))  # type: ignore
        out.core.spd.remove("net")
        if protected:
            out.core.spd.add(policy("tcp", "fd01::/64[tcp]", "fd02::/64[tcp]", priority=1))
            out.core.spd.add(policy("rest", "fd01::/64", "fd02::/64", action=PolicyAction.BYPASS))
        else:
            mail = policy("mail", "fd01::/64", "fd02::/64[tcp/25]", action=PolicyAction.DISCARD, priority=1)
            out.core.spd.add(mail)
            out.core.spd.add(policy("all", "fd01::/64", "fd02::/64"))
        if first:
            out.give(hidden(offset=0))
        out.give(hidden(offset=32))
        assert not clear
        assert len(out.flush()) == (2 if protected and first else 0)


@network
def test_the_guard_drops_a_later_fragment_that_hides_its_protocol() -> None:
    with Lab() as lab:
        left, right = lab.namespace("left"), lab.namespace("right")
        lab.link(left, "wan", right, "wan")
        left.ip("addr add fd01::1/64 dev wan nodad", "route add fd02::/64 via fd01::2")
        right.ip("addr add fd01::2/64 dev wan nodad")
        with inside(left):
            install_guard([policy("tcp", "fd01::/64[tcp]", "fd02::/64[tcp]")])
            with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
                for number in range(3):
                    with contextlib.suppress(PermissionError):
                        sock.sendto(hidden(offset=32, identification=number), ("fd02::1", 0))
                # What it is not for passes.
                sock.sendto(ipv6(b"", bytes(20), 17), ("fd02::1", 0))
            assert guard_status().dropped_out == 3


def test_a_mapping_does_not_change_to_another_family() -> None:
    core = quiet()
    events: list[DatapathEvent] = []
    core.emit = events.append
    core.sad.add(inbound_state(inbound_sa(encapsulated=True)))
    inbound, peer = Inbound(core, Coalescer(core)), golden()
    inbound.inject(peer.seal(packet(4, 17, b"x"), 4), ("2001:db8::66", 4500), ip_address("2001:db8::1").packed)
    assert not [event for event in events if isinstance(event, MappingChanged)]
    inbound.inject(peer.seal(packet(4, 17, b"x"), 4), ("192.0.2.77", 4500), bytes((192, 0, 2, 2)))
    assert [event.source for event in events if isinstance(event, MappingChanged)] == [ip_address("192.0.2.77")]


def test_endpoints_of_two_families_are_refused() -> None:
    whole = engine()
    control = Control(whole)
    whole.add_ingress(bytes((192, 0, 2, 1)), 4500, 500, NoSocket(1001), None)  # type: ignore[arg-type]
    sa = replace(state(SUITE).sa, encapsulation=UdpEncapsulation(4500, 4500))
    control.requests["install"]([[wire.encode(sa), 20, 0, True]], bytearray(range(20)), [])
    ends = [wire.encode(sa.key), "192.0.2.1", "2001:db8::66", wire.encode(sa.encapsulation)]
    with pytest.raises(Refusal) as refusal:
        control.requests["update_endpoints"](ends, bytearray(), [])
    assert refusal.value.reason is Reason.MODE_UNSUPPORTED


def test_a_datagram_in_too_many_fragments_is_given_up() -> None:
    reassembler = Reassembler()
    for n in range(PIECES):
        piece = ipv4_fragment(n)
        assert reassembler.add(piece, parse(piece), 0.0) is None  # type: ignore[arg-type]
    piece = ipv4_fragment(PIECES)
    with pytest.raises(Drop):
        reassembler.add(piece, parse(piece), 0.0)  # type: ignore[arg-type]


def ipv4_fragment(number: int) -> bytes:
    head = bytearray(packet(4, 17, bytes(8))[:20])
    head[2:4], head[6:8], head[10:12] = (28).to_bytes(2), (0x2000 | number).to_bytes(2), bytes(2)
    return bytes(head) + bytes(8)
