"""The guard beside the kernel's IPsec: what that protects passes, and nothing else."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from appliance.datapath.guard import guard_status, install_guard, ipsec_aware
from appliance.datapath.ingress import OWN_MARK
from appliance.sa.association import Direction, Mode
from tests.datapath.pair import INNER, NETS, OUTER, Pair, inside, two_hosts
from tests.datapath.test_soft_traffic import transfer
from tests.lab.capture import Capture, Kind
from tests.lab.lab import Lab
from tests.lab.namespace import Namespace
from tests.vm.inside.kernel import add_policies, add_state, errors, flush, plain_sent

HOST = {4: "10.1.0.2", 6: "fd01::2"}


@contextmanager
def guarded(mode: Mode) -> Iterator[tuple[Namespace, Namespace, Namespace]]:
    """A host, its gateway with the guard, and another gateway; the kernel's IPsec between the two."""
    with Lab() as lab:
        left, right = two_hosts(lab)
        host = lab.namespace("host")
        lab.link(host, "eth", left, "lan")
        left.sysctl(ipv4__ip_forward=1, ipv6__conf__all__forwarding=1)
        left.ip("route add 10.1.0.2 dev lan", "route add fd01::2 dev lan")
        left.ip("addr add 198.51.100.1/24 dev lan", "addr add 2001:db8:1::1/64 dev lan nodad")
        host.ip(f"addr add {HOST[4]}/32 dev eth", f"addr add {HOST[6]}/128 dev eth nodad")
        host.ip("addr add 198.51.100.2/24 dev eth", "addr add 2001:db8:1::2/64 dev eth nodad")
        host.ip("route add default via 198.51.100.1", "route add default via 2001:db8:1::1")
        pair = Pair(lab, ())
        with inside(left):
            assert ipsec_aware()
            install_guard([pair.policy(0, mode=mode)])
        for sender, spi in enumerate((0x1001, 0x1002)):
            sa = pair.sa(sender, Direction.OUT, spi, mode=mode, udp=False)
            add_state(left, sa, mark=OWN_MARK if sender == 0 else 0)
            add_state(right, sa)
        ends = OUTER[4][0], OUTER[4][1]
        for ours, theirs in NETS.values() if mode is Mode.TUNNEL else [ends]:
            add_policies(left, (ours, theirs), ends, mode=mode)
            add_policies(right, (theirs, ours), ends[::-1], mode=mode)
        yield host, left, right


def arrives(source: Namespace, target: Namespace, ends: tuple[str, str]) -> bool:
    """Whether one datagram does."""
    family = socket.AF_INET6 if ":" in ends[0] else socket.AF_INET
    with target.socket(family, socket.SOCK_DGRAM) as receiver, source.socket(family, socket.SOCK_DGRAM) as sender:
        receiver.bind((ends[1], 0))
        receiver.settimeout(0.5)
        sender.bind((ends[0], 0))
        try:
            sender.sendto(b"hear", receiver.getsockname()[:2])
            return receiver.recv(100) == b"hear"
        except (TimeoutError, PermissionError):
            return False


@pytest.mark.parametrize("mode", [Mode.TUNNEL, pytest.param(Mode.TRANSPORT, marks=pytest.mark.essential)], ids=str)
def test_what_the_kernel_protects_passes_and_plain_does_not_in_either_direction(mode: Mode) -> None:
    with guarded(mode) as (host, left, right):
        ways: list[tuple[Namespace, tuple[str, str]]]
        if mode is Mode.TUNNEL:
            ways = [(left, (INNER[version][0], INNER[version][1])) for version in (4, 6)]
            ways += [(host, (HOST[version], INNER[version][1])) for version in (4, 6)]
        else:
            ways = [(left, (OUTER[4][0], OUTER[4][1]))]
        with Capture(left, "wan") as capture:
            for ours, ends in ways:
                assert transfer(ours, right, ends, 50_000), (ends, errors(left), errors(right))
                assert transfer(right, ours, ends[::-1], 50_000), (ends, errors(left), errors(right))
                assert arrives(ours, right, ends)
                assert arrives(right, ours, ends[::-1])
        assert plain_sent(capture) == 0
        assert capture.count(Kind.ESP) > 100
        with inside(left):
            assert guard_status().dropped_out == guard_status().dropped_in == 0

        # Without SAs and policies nothing but the guard is between the networks and the line.
        flush(left)
        flush(right)
        with Capture(left, "wan") as capture:
            for ours, ends in ways:
                assert not arrives(ours, right, ends)
            assert plain_sent(capture) == 0
            with inside(left):
                assert guard_status().dropped_out >= len(ways)
            for ours, ends in ways:
                assert not arrives(right, ours, ends[::-1])
        time.sleep(0.1)
        with inside(left):
            assert guard_status().dropped_in >= len(ways)
