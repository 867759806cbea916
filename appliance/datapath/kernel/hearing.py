"""What the kernel tells by itself: packets without an SA, limits, NATs that changed, what other programs did."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from ipaddress import IPv4Interface, IPv6Interface
from typing import Protocol

from appliance.datapath.kernel import selectors, states
from appliance.datapath.kernel.requester import Requester, refusal_of
from appliance.datapath.kernel.sad import Row, Sad, generation_of
from appliance.datapath.kernel.xfrm import (
    Acquire,
    DeletedPolicy,
    DeletedState,
    Expire,
    FlushedPolicies,
    FlushedStates,
    Garbled,
    Group,
    Mapping,
    Message,
    Overrun,
    Policy,
    Selector,
    State,
    StateId,
    XfrmEvents,
    requests,
)
from appliance.sa import datapath as contract
from appliance.sa.association import Direction, SecurityPolicy
from appliance.sa.selector import Address, Network

GROUPS = (Group.ACQUIRE, Group.EXPIRE, Group.SA, Group.POLICY, Group.MAPPING)
EXPORT_SECONDS = 2.0


class Listener(Protocol):
    """Who is told what was heard. None of these waits for anything."""

    def acquired(self, policy: Policy, event: Callable[[SecurityPolicy], contract.DatapathEvent]) -> None:
        """A packet met a policy of the kernel's that has no SA. ``event`` makes the one to tell of a policy of ours."""

    def expired(self, row: Row, state: State, *, hard: bool) -> None:
        """An SA reached a limit, with the counters that it has."""

    def vanished(self, row: Row, detail: str) -> None:
        """An SA was deleted, and not by us."""

    def changed_from_outside(self) -> None:
        """Something was changed, and not by us; or events were lost."""

    def tell(self, event: contract.DatapathEvent) -> None:
        """An event of the contract."""

    def failed(self, error: OSError) -> None:
        """The socket is dead."""


class Hearing:
    """The events of the kernel about the SAs of ``sad`` and their policies, handed to a listener.

    What ``requester`` did is no news. Raises DatapathRefusal: NO_XFRM, NO_PRIVILEGE.
    """

    def __init__(self, sad: Sad, requester: Requester, listener: Listener) -> None:
        self._sad = sad
        self._requester = requester
        self._listener = listener
        self._loop: asyncio.AbstractEventLoop | None = None
        self._exports: dict[StateId, asyncio.Future[State]] = {}
        try:
            self._events = XfrmEvents(GROUPS)
        except OSError as error:
            raise refusal_of(error, "listening to the kernel") from error

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start to listen."""
        self._loop = loop
        loop.add_reader(self._events.fileno(), self._readable)

    def close(self) -> None:
        """Stop listening. Idempotent."""
        if self._loop is not None:
            with contextlib.suppress(OSError, ValueError):
                self._loop.remove_reader(self._events.fileno())
        self._events.close()

    async def deleted(self, requester: Requester, state: StateId) -> State:
        """Delete an SA, and wait for what the kernel says it was. Raises OSError, TimeoutError among them."""
        future: asyncio.Future[State] = asyncio.get_running_loop().create_future()
        self._exports[state] = future
        try:
            await requester.run(lambda socket: socket.do(requests.delete_state(state)))
            async with asyncio.timeout(EXPORT_SECONDS):
                return await future
        finally:
            self._exports.pop(state, None)

    def _readable(self) -> None:
        try:
            events = self._events.receive()
        except OSError as error:
            self.close()
            self._listener.failed(error)
            return
        for event in events:
            if isinstance(event, Overrun | Garbled):
                self._listener.changed_from_outside()
            else:
                self._heard(event)

    def _heard(self, message: Message) -> None:
        body, listener = message.body, self._listener
        own = message.port == self._requester.port
        if isinstance(body, Acquire):
            self._acquired(body)
        elif isinstance(body, Expire):
            row = self._row(StateId(body.state.destination, body.state.spi, body.state.protocol))
            if row is not None and not row.gone:
                listener.expired(row, body.state, hard=body.hard)
        elif isinstance(body, Mapping):
            self._mapped(body)
        elif isinstance(body, DeletedState):
            plain = StateId(body.id.destination, body.id.spi, body.id.protocol)
            future = self._exports.get(plain)
            if future is not None and body.state is not None and not future.done():
                future.set_result(body.state)
            elif not own and (row := self._row(plain)) is not None:
                listener.vanished(row, "another program deleted it")
        elif isinstance(body, State):
            # Others have SAs, too, which take nothing from ours.
            if not own and (generation_of(body.reqid) is not None or self._row(StateId.of(body)) is not None):
                listener.changed_from_outside()
        elif not own and isinstance(body, Policy | DeletedPolicy | FlushedStates | FlushedPolicies):
            listener.changed_from_outside()

    def _row(self, state: StateId) -> Row | None:
        for direction in Direction:
            found = self._sad.get(states.key_of_id(state, direction))
            if found is not None:
                return found
        return None

    def _acquired(self, acquire: Acquire) -> None:
        selector = acquire.selector
        source, destination = selector.source, selector.destination
        if source is None or destination is None:
            return
        ports = _ports(selector)
        self._listener.acquired(
            acquire.policy,
            lambda policy: contract.Acquire(
                policy.reqid,
                policy.name,
                _address(source),
                _address(destination),
                selector.protocol,
                *ports,
            ),
        )

    def _mapped(self, mapping: Mapping) -> None:
        row = self._row(StateId(mapping.id.destination, mapping.id.spi, mapping.id.protocol))
        if row is None or row.gone or row.sa.encapsulation is None:
            return
        now = mapping.new_source, mapping.new_port
        # The kernel compares with what the state was made with, and goes on telling of it.
        if now != (row.sa.source, row.sa.encapsulation.source_port):
            self._listener.tell(contract.MappingChanged(row.key, *now))


def _address(prefix: Network | IPv4Interface | IPv6Interface) -> Address:
    """Of one host: the kernel gives a packet's own addresses."""
    return prefix.ip if isinstance(prefix, IPv4Interface | IPv6Interface) else prefix.network_address


def _ports(selector: Selector) -> tuple[int | None, int | None]:
    """A packet's, as the contract has them: ICMP's type and code in both (RFC 7296 §3.13.1), none where there are none.

    The kernel has the type in one and the code in the other, and 0 for protocols without ports.
    """
    source, destination = selector.source_port, selector.destination_port
    if not isinstance(source, int) or not isinstance(destination, int):
        return None, None
    if selector.protocol in selectors.ICMP:
        both = (source & 0xFF) << 8 | destination & 0xFF
        return both, both
    return (source, destination) if selector.protocol in selectors.WITH_PORTS else (None, None)
