"""A kernel's SAs and policies in memory: as much of NETLINK_XFRM as the kernel datapath asks, and faults."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator

from appliance.datapath.kernel.spd import Place
from appliance.datapath.kernel.xfrm import (
    DefaultAction,
    Defaults,
    DeletedPolicy,
    DeletedState,
    MessageType,
    Policy,
    State,
    StateId,
    XfrmSocket,
    requests,
)
from appliance.datapath.kernel.xfrm.parse import parse_frame
from appliance.datapath.kernel.xfrm.wire import Frame
from tests.datapath.kernel.xfrm.scripted import HEADER, ScriptedKernel, ack, done, numbered


class MemoryKernel:
    """``refuse`` gives the errno for a request, 0 to do it, None for no answer; ``before`` hears of each datagram."""

    def __init__(self) -> None:
        self.states: dict[StateId, bytes] = {}
        """As they were asked for."""
        self.policies: dict[Place, Policy] = {}
        self.installed: list[StateId] = []
        self.defaults = Defaults(DefaultAction.ACCEPT, DefaultAction.ACCEPT, DefaultAction.ACCEPT)
        self.refuse: Callable[[MessageType, object], int | None] = lambda kind, body: 0
        self.before: Callable[[], None] = lambda: None

    def add(self, state: State) -> None:
        """Somebody else does, or the kernel itself."""
        self.states[StateId(state.destination, state.spi, state.protocol)] = bytes(requests.new_state(state))

    def socket(self) -> XfrmSocket:
        """One to ask it by."""
        return XfrmSocket(ScriptedKernel(self._script), timeout=0.1)

    def _script(self, data: bytes, received: list[Frame]) -> Iterable[bytes]:
        self.before()
        return [answer for frame in received for answer in self._answer(data, frame)]

    def _answer(self, data: bytes, frame: Frame) -> Iterator[bytes]:
        message = parse_frame(memoryview(data), frame)
        code = self.refuse(message.kind, message.body)
        if code is None:
            return
        if frame.flags & 0x300 == 0x300 and message.kind in (MessageType.GETSA, MessageType.GETPOLICY):
            yield from self._list(message.kind, frame.sequence, code)
            return
        yield from (
            (ack(frame.sequence, code),)
            if code
            else self._do(message.kind, message.body, frame.sequence, _whole(data, frame))
        )

    def _list(self, kind: MessageType, number: int, code: int) -> Iterator[bytes]:
        if code:
            yield ack(number, code)
            return
        if kind is MessageType.GETSA:
            yield from (numbered(state, number, 2) for state in self.states.values())
        else:
            yield from (numbered(requests.new_policy(policy), number, 2) for policy in self.policies.values())
        yield done(number)

    def _do(self, kind: MessageType, body: object, number: int, whole: bytes) -> Iterator[bytes]:
        code = 0
        if isinstance(body, State):
            one = StateId(body.destination, body.spi, body.protocol)
            if one in self.states:
                code = errno.EEXIST
            else:
                self.states[one] = whole
                self.installed.append(one)
        elif isinstance(body, StateId):
            state = self.states.get(_plain(body))
            if state is not None:
                yield numbered(state, number)
            code = errno.ESRCH if state is None else 0
        elif isinstance(body, DeletedState):
            code = 0 if self.states.pop(_plain(body.id), None) is not None else errno.ESRCH
        elif isinstance(body, Policy):
            self.policies[Place.of(body)] = body
        elif kind is MessageType.SETDEFAULT and isinstance(body, Defaults):
            self.defaults = body
        elif kind is MessageType.GETDEFAULT:
            answer = requests.set_defaults(self.defaults)
            yield numbered(answer, number, kind=MessageType.GETDEFAULT)
        elif isinstance(body, DeletedPolicy):
            gone = [place for place, policy in self.policies.items() if policy.index == body.id.index]
            for place in gone:
                del self.policies[place]
            code = 0 if gone else errno.ENOENT
        yield ack(number, code)


def _whole(data: bytes, frame: Frame) -> bytes:
    return data[frame.start - HEADER.size : frame.end]


def _plain(state: StateId) -> StateId:
    return StateId(state.destination, state.spi, state.protocol)
