"""Many messages with one system call, and what happens when one of them cannot be sent."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

import pytest

from appliance.datapath.soft import sender as sender_module
from appliance.datapath.soft.core import Core
from appliance.datapath.soft.mmsg import Receiving, Sending, address_of, pack_control, unpack_control
from appliance.datapath.soft.options import SoftOptions
from appliance.datapath.soft.sender import Sender
from appliance.datapath.soft.tun import Tun
from appliance.reasons import Reason
from appliance.sa.algorithms import Encryption, Suite
from tests.datapath.test_soft_batches import state

STRIDE = 4096


def test_what_waits_comes_at_once_with_names_and_ancillary_data() -> None:
    buffer = bytearray(STRIDE * 8)
    receiving = Receiving(buffer, STRIDE, 8)
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as here, socket.socket(here.family, here.type) as there:
        here.bind(("::1", 0))
        here.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
        here.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        with pytest.raises(BlockingIOError):
            receiving.receive(here, names=True)
        there.bind(("::1", 0))
        for number in range(10):
            there.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, 4 * number)
            there.sendto(bytes([number]) * (100 + number), here.getsockname())
        assert receiving.receive(here, names=True) == list(range(100, 108))
        for number in range(8):
            start = number * STRIDE
            assert buffer[start : start + 101 + number] == bytes([number]) * (100 + number) + b"\0"
            assert receiving.name(number) == socket.inet_pton(socket.AF_INET6, "::1")
            found = {kind: data for _, kind, data in unpack_control(receiving.control(number))}
            assert int.from_bytes(found[socket.IPV6_TCLASS], "little") == 4 * number
            assert found[socket.IPV6_PKTINFO][:16] == receiving.name(number)
        # Fewer the next time, without names: nothing of the last time is there any more.
        assert receiving.receive(here, names=False) == [108, 109]
        assert receiving.control(0) == b""


def test_ancillary_data_survives_packing_and_damaged_data_ends_the_list() -> None:
    ancillary = [(41, 67, b"\1\2\3\4"), (0, 8, b"12345678901 "), (17, 103, b"\1\2")]
    packed = pack_control(ancillary)
    assert unpack_control(packed) == ancillary
    assert unpack_control(packed[:30]) == ancillary[:1]
    assert unpack_control(bytes(40)) == []


def test_messages_of_a_burst_go_to_their_peer_each_whole() -> None:
    """By a UDP socket that is connected: the name's port is zero, as raw sockets want it, so none is given."""
    buffer = bytearray(range(256)) * 2
    sending = Sending(64)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        sending.prepare(address_of(buffer), 250, 100, "192.0.2.2", [])
        sending._vector.name_lengths[:] = 0
        assert sending.send(ours, 0) == 3
        assert [theirs.recv(1000) for _ in range(3)] == [buffer[:100], buffer[100:200], buffer[200:250]]
        assert sending.send(ours, 2) == 1
        assert theirs.recv(1000) == buffer[200:250]


class Scripted:
    """In the place of ``Sending``: sends as many as it is told, or fails."""

    def __init__(self, script: list[int]) -> None:
        self.script = script
        self.sent: list[int] = []

    def prepare(self, *arguments: Any) -> None:
        pass

    def send(self, sock: socket.socket, first: int) -> int:
        step = self.script.pop(0)
        if step < 0:
            raise OSError(-step, os.strerror(-step))
        self.sent += range(first, first + step)
        return step


@pytest.mark.parametrize(
    ("script", "sent", "counted"),
    [
        ([6], [0, 1, 2, 3, 4, 5], {}),
        ([2, 4], [0, 1, 2, 3, 4, 5], {}),
        ([2, -errno.EMSGSIZE, 3], [0, 1, 3, 4, 5], {Reason.TOO_BIG: 1}),
        ([-errno.ECONNREFUSED, 6], [0, 1, 2, 3, 4, 5], {}),
        ([1, *[-errno.ENETUNREACH] * 3, 4], [0, 2, 3, 4, 5], {Reason.SEND_FAILED: 1}),
        ([2, -errno.EAGAIN, 1, -errno.EAGAIN, 3], [0, 1, 2, 3, 4, 5], {}),
        ([2, *[-errno.EAGAIN] * 3], [0, 1], {Reason.QUEUE_FULL: 4}),
    ],
)
def test_every_packet_of_a_burst_is_sent_or_counted_once(
    script: list[int], sent: list[int], counted: dict[Reason, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    core = Core(SoftOptions(), Tun(-1, "none", tso=True, uso=True), lambda event: None, lambda datagram: None)
    too_big = []
    sender = Sender(core, too_big.append)
    scripted = Scripted(list(script))
    monkeypatch.setattr(sender, "_messages", scripted)
    monkeypatch.setattr(sender_module, "_writable", lambda sock: True)
    out = state(Suite(Encryption.AES_GCM_16, 128))
    out.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with out.sock:
        for _ in range(6):
            sender.burst(out, 100, 0, True).added(100, 0, True)
        sender.flush()
    assert scripted.sent == sent and scripted.script == []
    drops = {reason: core.counters[reason.name] for reason in Reason if core.counters[reason.name]}
    assert drops == counted
    assert len(too_big) == counted.get(Reason.TOO_BIG, 0)
