"""What leads packets to the kernel's policies: rules and routes, and tunnel interfaces."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from appliance.datapath.kernel.core import Core
from appliance.datapath.kernel.enforcement import Enforcement
from appliance.datapath.kernel.link_events import LinkChange
from appliance.datapath.kernel.requester import Requester, refusal_of
from appliance.datapath.kernel.steering import KernelSteering
from appliance.datapath.kernel.tunnels import Tunnels
from appliance.reasons import Reason, Refusal
from appliance.sa.datapath import Changed, DatapathRefusal
from appliance.sa.interface import TunnelInterface


class Surroundings:
    """``open`` first. Changes are made with ``Core.lock`` held, in the thread that asks the kernel."""

    def __init__(self, core: Core, enforcement: Enforcement) -> None:
        self._core = core
        self._enforcement = enforcement
        self._steering: KernelSteering | None = None
        self._tunnels: Tunnels | None = None
        self._refused: tuple[Reason, str] | None = None

    def open(self, changed: Callable[[LinkChange | None], None]) -> None:
        """In the network namespace of the calling thread. Raises OSError, Refusal.

        ``changed`` hears of interfaces once it is attached.
        """
        if self._core.options.steer:
            self._steering = KernelSteering(self._core.options)
        self._tunnels = Tunnels(changed)

    @property
    def tunnels(self) -> Tunnels:
        """The tunnel interfaces, once it is open."""
        assert self._tunnels is not None
        return self._tunnels

    async def steer(self, *, look: bool = False) -> list[str]:
        """Have rules and routes be what the policies need: after those, so that nothing passes where they go.

        ``look``: whether all are there that should be. Returns what another program did, in words.
        """
        asked, steering, policies = self._core.asked, self._steering, tuple(self._enforcement.policies.values())
        if steering is None:
            return []
        elsewhere = self._enforcement.elsewhere

        def work(_: object) -> int:
            steering.apply(policies, elsewhere)
            return steering.mend() if look else 0

        try:
            missing = await asked.run(work)
        except Refusal as refusal:
            raise DatapathRefusal(refusal.reason, refusal.detail) from refusal
        except OSError as error:
            raise refusal_of(error, "setting rules and routes") from error
        return [f"{missing} of our rules and routes were removed"] if missing else []

    def want(self, interfaces: Sequence[TunnelInterface]) -> None:
        """Want these tunnel interfaces and no others."""
        self.tunnels.wanted = tuple(interfaces)
        self._enforcement.discard_on(interface.if_id for interface in interfaces)

    async def keep_interfaces(self) -> list[str]:
        """Have the tunnel interfaces that are wanted. Returns what was done, in words.

        What is refused is told. Raises DatapathRefusal where it cannot even look.
        """
        asked, tunnels = self._core.asked, self.tunnels
        try:
            done, refusal = await asked.run(lambda _: tunnels.apply())
        except Refusal as refused:
            raise DatapathRefusal(refused.reason, refused.detail) from refused
        except OSError as error:
            raise refusal_of(error, "setting up tunnel interfaces") from error
        now = (refusal.reason, f"{refusal.detail}; {refusal.remedy}") if refusal is not None else None
        if now is not None and now != self._refused:
            self._core.tell(Changed(*now))
        self._refused = now
        self._enforcement.reach_interfaces(tunnels.indices.values())
        return done

    async def remove(self, requester: Requester) -> None:
        """Take away all of it, the rules last: they keep from default routes what SAs bring."""
        if (tunnels := self._tunnels) is not None:
            with contextlib.suppress(OSError, Refusal):
                await requester.run(lambda _: tunnels.remove())
        if (steering := self._steering) is not None:
            with contextlib.suppress(OSError, Refusal):
                await requester.run(lambda _: steering.remove())

    def close(self) -> None:
        """Close the sockets; everything stays as it is. Idempotent."""
        if self._steering is not None:
            self._steering.close()
        if self._tunnels is not None:
            self._tunnels.close()
