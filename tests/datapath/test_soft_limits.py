"""Hard limits hold within a batch too, and what waits or died stays within bounds (RFC 4301 §4.4.2.1)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from appliance.datapath.soft import coalesce, wire
from appliance.datapath.soft.coalesce import Coalescer
from appliance.datapath.soft.control import Control
from appliance.datapath.soft.inbound import Inbound
from appliance.datapath.soft.tun import GSO_TCPV4
from appliance.esp.checksum import internet_checksum
from appliance.reasons import Reason
from appliance.sa.association import Lifetime, Limits, UdpEncapsulation
from tests.datapath.lone import PEER, SUITE, NoSocket, engine, golden, inbound_sa, policy, super_header, way_out
from tests.datapath.test_soft_batches import cut, inbound_state, packet, quiet, state

LIMITS = [(Limits(packets=10), 10), (Limits(packets=1), 1), (Limits(bytes=1), 1), (Limits(bytes=1000), 8)]


@pytest.mark.parametrize(("limits", "most"), LIMITS, ids=str)
def test_a_hard_limit_holds_within_a_super_packet(limits: Limits, most: int) -> None:
    out = way_out(lifetime=Lifetime(hard=limits))
    out.give(packet(4, 6, bytes(60000)), super_header(GSO_TCPV4, 52, 100))
    assert 0 < len(out.flush()) <= most
    assert out.core.counters[Reason.LIFETIME_EXPIRED.name] == 600 - len(out.sent)
    assert out.state.spent.dead is Reason.LIFETIME_EXPIRED


def test_a_super_packet_that_ends_at_the_limit_is_sent_whole() -> None:
    out = way_out(lifetime=Lifetime(hard=Limits(packets=600)))
    out.give(packet(4, 6, bytes(60000)), super_header(GSO_TCPV4, 52, 100))
    assert len(out.flush()) == 600


def test_a_hard_limit_holds_within_fragments() -> None:
    out = way_out(lifetime=Lifetime(hard=Limits(packets=2)))
    whole = bytearray(packet(4, 17, bytes(9000)))
    whole[6], whole[10:12] = 0, bytes(2)
    whole[10:12] = internet_checksum(bytes(whole[:20])).to_bytes(2)
    out.give(bytes(whole))
    assert len(out.flush()) == 2


@pytest.mark.parametrize(("limits", "most"), [(Limits(packets=2), 2), (Limits(bytes=1), 1)], ids=str)
def test_a_hard_limit_holds_within_a_batch_that_arrives(limits: Limits, most: int) -> None:
    core, written = quiet(), []
    sa = inbound_sa(lifetime=Lifetime(hard=limits))
    core.sad.add(inbound_state(sa))
    coalescer = Coalescer(core)
    inbound, peer = Inbound(core, coalescer), golden()
    sealed = [peer.seal(packet(4, 6, bytes(100), sequence=1 + 100 * n, number=n), 4) for n in range(100)]
    data = b"".join(sealed)
    inbound._buffer[: len(data)] = data
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coalesce.os, "writev", lambda fd, parts: written.append((bytes(parts[0]), bytes(parts[1]))))
        inbound.datagrams(len(data), len(sealed[0]), PEER, 0, bytes(4), 4500)
        coalescer.flush()
    assert sum(len(cut(*one)) for one in written) == most
    assert core.counters[Reason.LIFETIME_EXPIRED.name] == 100 - most


def test_an_sa_that_reached_its_limit_does_not_come_back_with_a_new_socket() -> None:
    whole = engine()
    control = Control(whole)
    address = bytes((192, 0, 2, 1))
    whole.add_ingress(address, 4500, 500, NoSocket(1001), None)  # type: ignore[arg-type]
    lifetime = Lifetime(hard=Limits(packets=2))
    sa = replace(state(SUITE).sa, encapsulation=UdpEncapsulation(4500, 4500), lifetime=lifetime)
    control.requests["install"]([[wire.encode(sa), 20, 0, True]], bytearray(range(20)), [])
    (out,) = whole.core.sad.outbound.values()
    whole.core.spend(out, 2, 100)
    whole.remove_ingress(address, 4500)
    whole.add_ingress(address, 4500, 500, NoSocket(1002), None)  # type: ignore[arg-type]
    ends = [wire.encode(item) for item in (sa.key, sa.source, sa.destination, sa.encapsulation)]
    ends[1:3] = str(sa.source), str(sa.destination)
    control.requests["update_endpoints"](ends, bytearray(), [])
    assert out.spent.dead is Reason.LIFETIME_EXPIRED


def test_what_waits_for_sas_is_bounded_in_bytes_all_together_and_given_back() -> None:
    out = way_out()
    out.core.sad.active.clear()
    out.core.spd.remove("net")
    for n in range(50):
        out.core.spd.add(policy(f"p{n}", "10.1.0.0/24", f"10.3.{n}.0/24", reqid=100 + n, acquire=True))
        whole = bytearray(packet(4, 6, bytes(65000)))
        whole[16:20] = bytes((10, 3, n, 1))
        for _ in range(20):
            out.give(bytes(whole), super_header(GSO_TCPV4, 52, 1386))
    waiting = out.outbound._waiting
    assert 4 << 20 < sum(len(p) for w in waiting.values() for p in w.packets) == out.outbound._held <= 8 << 20
    assert out.core.counters[Reason.NO_MEMORY.name] > 0
    out.outbound.release(100)
    assert sum(len(p) for w in waiting.values() for p in w.packets) == out.outbound._held
    out.core.now += 3600
    out.outbound.expire()
    out.outbound.expire()
    assert (out.outbound._held, len(waiting)) == (0, 0)
