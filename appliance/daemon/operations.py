"""What an operator asks for: bring up, take down, rekey. Each waits for the outcome, for so long at most."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from appliance.config.model import Start
from appliance.console.protocol import Done
from appliance.daemon.reconcile import Reconciler
from appliance.daemon.runtime import ChildRuntime, ConnectionRuntime, Why
from appliance.reasons import Reason, Refusal

UP_SECONDS = 180.0
"""Longer than the default retransmission gives up, so that the reason is the peer's silence and not our patience."""
DOWN_SECONDS = 10.0
REKEY_SECONDS = 60.0
STILL_WAITING = 5.0

Progress = Callable[[str], None]
_T = TypeVar("_T")


class Operations:
    """The verbs of the control socket, on the reconciler's connections."""

    def __init__(self, reconciler: Reconciler) -> None:
        self._reconciler = reconciler
        self._loop = asyncio.get_running_loop()

    async def initiate(self, name: str, child_name: str | None, progress: Progress) -> Done:
        """Bring a connection with its children up, or one child of it. Raises Refusal with why it is down."""
        runtime, child = self._find(name, child_name)
        wanted = [child] if child is not None else list(runtime.children.values())
        full = _full(name, child_name)
        if not runtime.held and runtime.established and all(c.installed for c in wanted):
            return Done(name=full, text=f"{full} is up already", details=_details(wanted))
        if runtime.established is None and not runtime.wanted.config.remote_addresses:
            raise Refusal(
                Reason.BAD_ADDRESS,
                f"{name} has no remote.address, so only its peer can start it",
                remedy="give remote.address, or start it at the peer",
            )
        self._release(runtime, wanted)
        runtime.demanded = True
        for one in wanted:
            one.demanded, one.closed = True, False
            one.retry.reset()
        runtime.retry.reset()
        failures = (runtime.failures, {one.name: one.failures for one in wanted})
        told: set[str] = set()

        def outcome() -> Done | None:
            self._still_there(runtime)
            self._tell_initiate(runtime, wanted, told, progress)
            if runtime.established is not None and all(one.installed for one in wanted):
                return Done(name=full, text=f"{full} is up", details=_details(wanted))
            if runtime.held:
                raise Refusal(Reason.TERMINATED, full)
            if runtime.failures > failures[0] and runtime.connecting is None and runtime.established is None:
                raise _because(runtime.why)
            for one in wanted:
                if one.failures > failures[1][one.name] and not one.installed:
                    raise _because(one.why)
            return None

        self._reconciler.ensure(runtime)
        try:
            return await self._wait(runtime, outcome, UP_SECONDS, progress)
        except TimeoutError:
            raise _because(next((one.why for one in wanted if one.why), runtime.why), f"{full} is not up") from None

    async def terminate(self, name: str, child_name: str | None, progress: Progress) -> Done:
        """Take a connection or a child down and keep it down. Waits for the peer's answer."""
        runtime, child = self._find(name, child_name)
        full = _full(name, child_name)
        engine, now = self._reconciler.ike.engine, self._loop.time()
        if child is None:
            details = [f"IKE SA with {record.peer or 'the peer'}" for record in runtime.ikes.values()]
            gone = set(runtime.ikes)
            # A connection that only the peer starts is the peer's to start again; others stay down.
            runtime.held = runtime.wanted.start is not Start.RESPOND
            runtime.demanded = False
            for one in runtime.children.values():
                one.demanded = False
                one.retry.cancel()
            runtime.retry.cancel()
            runtime.why = Why(Reason.TERMINATED, "terminated by operator", self._reconciler.wall())
            self._reconciler.accept()
            self._reconciler.delete_ikes(runtime, Reason.TERMINATED)

            def left() -> bool:
                return bool(gone & set(runtime.ikes))
        else:
            details = _details([child])
            ids = set(child.negotiated)
            child.held = True
            child.demanded = False
            child.retry.cancel()
            child.why = Why(Reason.TERMINATED, "terminated by operator", self._reconciler.wall())
            self._reconciler.accept()
            for child_id in sorted(ids):
                self._reconciler.ike.command(
                    "deleting a child",
                    lambda child_id=child_id: engine.delete_child(child_id, now, Reason.TERMINATED),  # type: ignore[misc]
                    name,
                )

            def left() -> bool:
                return bool(ids & child.negotiated)

        runtime.changed()
        if not details:
            return Done(name=full, text=f"{full} was down already", details=[])
        try:
            await self._wait(runtime, lambda: None if left() else True, DOWN_SECONDS, progress)
        except TimeoutError:
            return Done(
                name=full, text=f"{full} is terminated here; the peer has not confirmed it yet", details=details
            )
        return Done(name=full, text=f"{full} is terminated", details=details)

    async def rekey(self, name: str, child_name: str | None, progress: Progress) -> Done:
        """Rekey the IKE SA of a connection, or a child. Raises Refusal if there is none, or if it did not succeed."""
        runtime, child = self._find(name, child_name)
        full = _full(name, child_name)
        ike, now = self._reconciler.ike, self._loop.time()
        record = runtime.established
        if record is None:
            raise _because(runtime.why, f"{full} is not up")
        if child is None:
            before = runtime.rekeys
            ike.command("rekeying", lambda: ike.engine.rekey_ike(record.ike_id, now), name)

            def outcome() -> Done | None:
                self._still_there(runtime)
                new = runtime.established
                if runtime.rekeys > before and new is not None and new.ike_id != record.ike_id:
                    return Done(name=full, text=f"the IKE SA of {full} is rekeyed", details=[new.suite])
                if new is None and not any(r.up for r in runtime.ikes.values()):
                    raise _because(runtime.why, f"the IKE SA of {full} is gone")
                return None
        else:
            if not child.installed:
                raise _because(child.why, f"{full} is not up")
            child_id = max(child.installed)
            failures = child.failures
            ike.command("rekeying a child", lambda: ike.engine.rekey_child(child_id, now), name)

            def outcome() -> Done | None:
                self._still_there(runtime)
                if child.installed and max(child.installed) > child_id:
                    return Done(name=full, text=f"{full} is rekeyed", details=_details([child]))
                if not child.negotiated:
                    raise _because(child.why, f"{full} is gone")
                if child.failures > failures:
                    raise _because(child.why, f"{full} was not rekeyed" + _old(child.why))
                return None

        try:
            return await self._wait(runtime, outcome, REKEY_SECONDS, progress)
        except TimeoutError:
            raise Refusal(
                Reason.PEER_SILENT, f"{full} was not rekeyed within {REKEY_SECONDS:g} s; its old SAs are still in use"
            ) from None

    def _find(self, name: str, child_name: str | None) -> tuple[ConnectionRuntime, ChildRuntime | None]:
        runtime = self._reconciler.connections.get(name)
        if runtime is None:
            known = ", ".join(sorted(self._reconciler.connections)[:10]) or "none"
            raise Refusal(Reason.UNKNOWN_NAME, f"{name!r}; there are: {known}")
        if child_name is None:
            return runtime, None
        child = runtime.children.get(child_name)
        if child is None:
            known = ", ".join(sorted(runtime.children)[:10]) or "none"
            raise Refusal(Reason.UNKNOWN_NAME, f"{name}/{child_name}; children of {name}: {known}")
        return runtime, child

    def _release(self, runtime: ConnectionRuntime, wanted: list[ChildRuntime]) -> None:
        held = runtime.held or any(child.held for child in wanted)
        runtime.held = False
        for child in wanted:
            child.held = False
        # Nor is it down any more because of that.
        downs: list[ConnectionRuntime | ChildRuntime] = [runtime, *wanted]
        for one in downs:
            if one.why is not None and one.why.reason is Reason.TERMINATED:
                one.why = None
        if held:
            self._reconciler.accept()

    def _still_there(self, runtime: ConnectionRuntime) -> None:
        if self._reconciler.connections.get(runtime.name) is not runtime:
            raise Refusal(Reason.CONFIGURATION_CHANGED, runtime.name)

    def _tell_initiate(
        self, runtime: ConnectionRuntime, wanted: list[ChildRuntime], told: set[str], progress: Progress
    ) -> None:
        def once(text: str) -> None:
            if text not in told:
                told.add(text)
                progress(text)

        if (attempt := runtime.connecting) is not None:
            once(f"connecting to {attempt.peer}")
        if (record := runtime.established) is not None:
            once(f"IKE SA established with {record.peer}, {record.suite}")
        for child in wanted:
            if child.installed:
                once(f"child {child.name} is up")

    async def _wait(
        self, runtime: ConnectionRuntime, outcome: Callable[[], _T | None], seconds: float, progress: Progress
    ) -> _T:
        """Ask ``outcome`` at each change until it gives something. Raises what it raises, and TimeoutError."""
        found: asyncio.Future[_T] = self._loop.create_future()

        def look() -> None:
            if found.done():
                return
            try:
                result = outcome()
            except Refusal as refusal:
                found.set_exception(refusal)
                return
            if result is not None:
                found.set_result(result)

        start = self._loop.time()
        runtime.watchers.add(look)
        try:
            look()
            async with asyncio.timeout(seconds):
                while not found.done():
                    await asyncio.wait((found,), timeout=STILL_WAITING)
                    if not found.done():
                        progress(f"still waiting after {self._loop.time() - start:.0f} s")
                return await found
        finally:
            runtime.watchers.discard(look)
            found.cancel()


def _full(name: str, child_name: str | None) -> str:
    return name if child_name is None else f"{name}/{child_name}"


def _details(children: list[ChildRuntime]) -> list[str]:
    return [f"child {child.name}" for child in children if child.negotiated]


def _old(why: Why | None) -> str:
    return "; its old SAs are still in use" if why is None else ", and ends"


def _because(why: Why | None, what: str = "") -> Refusal:
    """A refusal for what is down, with the reason that is known."""
    if why is None:
        return Refusal(Reason.NOT_UP, what)
    detail = f"{what}: {why.detail}" if what and why.detail else what or why.detail
    return Refusal(why.reason, detail, remedy=why.remedy)
