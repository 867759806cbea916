"""The netlink socket that asks: what belongs to which question, and what is said of a refusal."""

from __future__ import annotations

import errno
import struct
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from appliance.datapath.netlink import DUMP, NEWROUTE, Netlink, Refused, split
from appliance.datapath.rtnetlink import Request, RtNetlink
from appliance.reasons import Reason, Refusal
from tests.datapath.kernel.xfrm.scripted import HEADER, ack, done

KERNEL, PROGRAM = (0, 0), (4711, 0)
INTERRUPTED = 0x10

Answer = tuple[bytes, tuple[int, int]]
Script = Callable[[list[tuple[int, int, int, bytes]]], list[Answer]]


class Kernel:
    """It answers each datagram with datagrams and their senders."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._queue: deque[Answer] = deque()
        self.sent: list[list[tuple[int, int, int, bytes]]] = []

    def send(self, data: bytes, /) -> int:
        self.sent.append(list(split(data)))
        self._queue.extend(self._script(self.sent[-1]))
        return len(data)

    def recvfrom(self, size: int, /) -> tuple[bytes, Any]:
        if not self._queue:
            raise TimeoutError
        return self._queue.popleft()

    def close(self) -> None:
        """Nothing is open."""


def reply(number: int, payload: bytes, flags: int = 2) -> bytes:
    return HEADER.pack(16 + len(payload), NEWROUTE, flags, number, 0) + payload


def test_each_of_a_batch_has_its_own_answer() -> None:
    kernel = Kernel(
        lambda asked: [
            (ack(number, errno.EEXIST if body == b"bad!" else 0, "no" if body == b"bad!" else ""), KERNEL)
            for _, _, number, body in reversed(asked)
        ]
    )
    answers = Netlink(transport=kernel).batch([(NEWROUTE, 0, body) for body in (b"good", b"bad!", b"odd")])
    assert [answer and answer.errno for answer in answers] == [None, errno.EEXIST, None]
    assert str(answers[1]) == "[Errno 17] File exists: no"
    assert [body for _, _, _, body in kernel.sent[0]] == [b"good", b"bad!", b"odd"]


def test_an_answer_to_what_was_asked_before_is_none_to_this() -> None:
    """What a timeout left in the socket comes first."""

    def script(asked: list[tuple[int, int, int, bytes]]) -> list[Answer]:
        number = asked[0][2]
        if number == 1:
            return []
        return [(ack(1), KERNEL), (ack(number, errno.EPERM), KERNEL)]

    netlink = Netlink(transport=Kernel(script))
    with pytest.raises(TimeoutError):
        netlink.batch([(NEWROUTE, 0, b"")])
    (answer,) = netlink.batch([(NEWROUTE, 0, b"")])
    assert answer is not None and answer.errno == errno.EPERM


def test_another_program_is_not_the_kernel() -> None:
    def script(asked: list[tuple[int, int, int, bytes]]) -> list[Answer]:
        number = asked[0][2]
        return [(ack(number), PROGRAM), (reply(number, b"real"), KERNEL), (ack(number), KERNEL)]

    assert Netlink(transport=Kernel(script)).ask(NEWROUTE, b"") == [b"real"]


def test_a_list_that_changed_meanwhile_is_asked_for_again() -> None:
    def script(asked: list[tuple[int, int, int, bytes]]) -> list[Answer]:
        ((_, flags, number, _),) = asked
        assert flags & DUMP == DUMP
        interrupted = INTERRUPTED if number == 1 else 0
        return [(reply(number, b"part", 2 | interrupted), KERNEL), (done(number), KERNEL)]

    kernel = Kernel(script)
    assert Netlink(transport=kernel).dump(NEWROUTE, b"") == [b"part"]
    assert len(kernel.sent) == 2


def test_a_list_may_end_in_a_refusal() -> None:
    def script(asked: list[tuple[int, int, int, bytes]]) -> list[Answer]:
        code = struct.pack("=i", -errno.EAFNOSUPPORT)
        return [(HEADER.pack(20, 3, 2, asked[0][2], 0) + code, KERNEL)]

    with pytest.raises(Refused) as refused:
        Netlink(transport=Kernel(script)).dump(NEWROUTE, b"")
    assert refused.value.errno == errno.EAFNOSUPPORT


def requests(count: int) -> list[Request]:
    return [Request(NEWROUTE, 0, bytes((number,)), f"number {number}", (errno.EEXIST,)) for number in range(count)]


@pytest.fixture
def routes(monkeypatch: pytest.MonkeyPatch) -> tuple[RtNetlink, Kernel]:
    """The third thing that is asked for is refused, the fifth is there already."""

    def script(asked: list[tuple[int, int, int, bytes]]) -> list[Answer]:
        codes = {b"\2": errno.EINVAL, b"\4": errno.EEXIST, b"\5": errno.ENODEV}
        return [(ack(number, codes.get(body, 0), "why" if body == b"\2" else ""), KERNEL) for *_, number, body in asked]

    kernel = Kernel(script)
    monkeypatch.setattr("appliance.datapath.rtnetlink.Netlink", lambda: Netlink(transport=kernel))
    return RtNetlink(), kernel


@pytest.mark.parametrize(("go_on", "sent"), [(True, [64, 64, 2]), (False, [64])])
def test_a_refusal_is_the_first_one_and_says_what_it_was(
    routes: tuple[RtNetlink, Kernel], go_on: bool, sent: list[int]
) -> None:
    netlink, kernel = routes
    with pytest.raises(Refusal) as refused:
        netlink.do(requests(130), go_on=go_on)
    assert refused.value.reason is Reason.KERNEL_REFUSED
    assert refused.value.detail == "number 2: Invalid argument: why"
    assert [len(datagram) for datagram in kernel.sent] == sent


def test_no_answer_is_a_refusal_too(routes: tuple[RtNetlink, Kernel]) -> None:
    netlink, kernel = routes
    kernel._script = lambda asked: []
    with pytest.raises(Refusal) as refused:
        netlink.do(requests(1))
    assert refused.value.reason is Reason.DATAPATH_TIMEOUT and refused.value.detail.startswith("number 0: ")
