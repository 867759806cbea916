"""A kernel that has what a test says, behind a socket."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from appliance.datapath.kernel.xfrm import Defaults, MessageType, Policy, State, StateId, XfrmSocket, requests
from appliance.datapath.kernel.xfrm.parse import parse_frame
from appliance.datapath.kernel.xfrm.wire import Frame
from tests.datapath.kernel.xfrm.scripted import ScriptedKernel, ack, done, numbered

Refusal = tuple[int, str] | None


class PretendedKernel:
    """``refuse`` gives errno and words for an SA, or None to take it; ``ignored`` are fields that it does not know."""

    def __init__(
        self,
        refuse: Callable[[State], Refusal] = lambda state: (errno.EINVAL, "") if state.offload else None,
        ignored: dict[str, Any] | None = None,
        *,
        defaults: bool = True,
    ) -> None:
        self._refuse = refuse
        self._ignored = ignored or {}
        self._defaults = defaults
        self._states: dict[tuple[str, int], State] = {}
        self._policies: list[Policy] = []
        self._default = Defaults()

    def socket(self) -> XfrmSocket:
        return XfrmSocket(ScriptedKernel(self._script), timeout=0.1)

    def _script(self, data: bytes, received: list[Frame]) -> Iterable[bytes]:
        for frame in received:
            yield from self._answer(memoryview(data), frame)

    def _answer(self, data: memoryview, frame: Frame) -> Iterable[bytes]:
        number = frame.sequence
        if frame.kind == MessageType.GETPOLICY:
            for policy in self._policies:
                yield numbered(requests.new_policy(policy), number, flags=2)
            yield done(number)
            return
        body = parse_frame(data, frame, keys=True).body
        if isinstance(body, State):
            refusal = self._refuse(body)
            if refusal is None:
                kept = replace(body, **self._ignored)
                self._states[str(body.destination), body.spi] = kept
            yield ack(number, *(refusal or ()))
        elif isinstance(body, StateId):
            found = self._states.get((str(body.destination), body.spi))
            if found is not None:
                yield numbered(requests.new_state(found), number)
            yield ack(number, 0 if found else errno.ESRCH)
        elif isinstance(body, Policy):
            self._policies.append(body)
            yield ack(number)
        elif isinstance(body, Defaults) and not self._defaults:
            yield ack(number, errno.EINVAL)
        elif isinstance(body, Defaults):
            if frame.kind == MessageType.SETDEFAULT:
                self._default = body
            else:
                yield numbered(requests.set_defaults(self._default), number, kind=MessageType.GETDEFAULT)
            yield ack(number)
