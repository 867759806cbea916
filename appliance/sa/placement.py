"""Placement: which datapath takes a pair of SAs, and why those before it in the order did not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from appliance.reasons import Reason
from appliance.sa.association import Handling, Mode, Offload, SecurityAssociation, SecurityPolicy
from appliance.sa.datapath import Capabilities, Carried, Datapath, DatapathRefusal, InstallRequest, WhyNot
from appliance.sa.keys import KeyMaterial, wipe

Install = Callable[[Datapath, Sequence[InstallRequest]], Awaitable[tuple[Carried, ...]]]


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a pair of SAs runs, and how each of them. ``why_not`` has the datapaths that were asked before."""

    datapath: Datapath
    why_not: tuple[WhyNot, ...] = ()
    carried: tuple[Carried, ...] = ()


class Unplaced(DatapathRefusal):
    """No datapath took the SAs. ``why_not`` has each that was asked; the last of them may be ``in_doubt``."""

    def __init__(self, reason: Reason, detail: str, why_not: Sequence[WhyNot], *, in_doubt: bool = False) -> None:
        super().__init__(reason, detail, in_doubt=in_doubt)
        self.why_not = tuple(why_not)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One datapath of the configured order and what it said it can do. ``datapath`` None: it is gone for now."""

    name: str
    datapath: Datapath | None
    capabilities: Capabilities | None
    reason: Reason = Reason.DATAPATH_GONE
    """Why there is none, where there is none."""
    detail: str = ""


def objection(candidate: Candidate, sa: SecurityAssociation) -> WhyNot | None:
    """Why a datapath cannot take an SA by what it said about itself; None if it can."""
    found = _unfit(candidate, sa.handling, sa.mode)
    capabilities = candidate.capabilities
    if found is not None or capabilities is None:
        return found
    name = candidate.name
    if sa.suite not in capabilities.suites:
        return WhyNot(name, Reason.ALGORITHM_UNSUPPORTED, str(sa.suite))
    if sa.encapsulation is None and not capabilities.native:
        return WhyNot(name, Reason.MODE_UNSUPPORTED, "ESP without UDP")
    if sa.encapsulation is not None and not capabilities.udp_encapsulation:
        return WhyNot(name, Reason.MODE_UNSUPPORTED, "ESP in UDP")
    low, high = capabilities.replay_windows
    if not low <= sa.replay_window <= high:
        return WhyNot(name, Reason.MODE_UNSUPPORTED, f"replay window {sa.replay_window}, it has {low} to {high}")
    return None


def policy_objection(candidate: Candidate, policy: SecurityPolicy) -> WhyNot | None:
    """Why a datapath cannot be the home of a PROTECT policy by what it said about itself; None if it can."""
    return _unfit(candidate, policy.handling, policy.mode)


def _unfit(candidate: Candidate, handling: Handling, mode: Mode) -> WhyNot | None:
    """What an SA and the policy that leads to it have in common."""
    name, capabilities = candidate.name, candidate.capabilities
    if handling.datapath not in (None, name):
        return WhyNot(name, Reason.PINNED, f"to {handling.datapath}")
    if candidate.datapath is None or capabilities is None:
        return WhyNot(name, candidate.reason, candidate.detail)
    if not capabilities.usable:
        first = next(iter(capabilities.missing), None)
        return WhyNot(name, first.reason, first.detail) if first else WhyNot(name, Reason.DATAPATH_GONE, "not usable")
    if mode not in capabilities.modes:
        return WhyNot(name, Reason.MODE_UNSUPPORTED, f"{mode.value} mode")
    if handling.interface is not None and not capabilities.interfaces:
        return WhyNot(name, Reason.INTERFACE_UNSUPPORTED, handling.interface)
    if handling.offload in (Offload.PACKET, Offload.CRYPTO) and not capabilities.offload:
        return WhyNot(name, Reason.OFFLOAD_UNSUPPORTED, f'the child asks for offload = "{handling.offload.value}"')
    return None


async def _ask(datapath: Datapath, requests: Sequence[InstallRequest]) -> tuple[Carried, ...]:
    return await datapath.install(requests)


async def place(candidates: Sequence[Candidate], requests: Sequence[InstallRequest], install: Install = _ask) -> Placed:
    """Install the SAs of one child, together, on the first datapath that takes them.

    Keys are consumed whatever happens. They are handed out a second time only after a proven "not installed": a
    refusal in doubt ends the search, since another datapath would repeat IVs under the same key. ``install`` asks one
    datapath. Raises Unplaced: the only one's own reason, or one that names each datapath and why it did not take them.
    """
    why_not: list[WhyNot] = []
    able: list[Datapath] = []
    for candidate in candidates:
        found = next((o for request in requests if (o := objection(candidate, request.sa)) is not None), None)
        if found is None and candidate.datapath is not None:
            able.append(candidate.datapath)
        elif found is not None and not able:
            why_not.append(found)
    if not able:
        for request in requests:
            request.keys.wipe()
        raise _refused(why_not)
    if len(able) == 1:
        try:
            carried = await install(able[0], requests)
        except DatapathRefusal as refusal:
            asked = WhyNot(able[0].name, refusal.reason, refusal.detail)
            if not why_not:
                raise Unplaced(refusal.reason, refusal.detail, [asked], in_doubt=refusal.in_doubt) from refusal
            raise _refused([*why_not, asked], in_doubt=refusal.in_doubt) from refusal
        finally:
            for request in requests:
                request.keys.wipe()
        return Placed(able[0], tuple(why_not), carried)
    return await _search(able, requests, why_not, install)


async def _search(
    able: Sequence[Datapath], requests: Sequence[InstallRequest], why_not: list[WhyNot], install: Install
) -> Placed:
    taken = [request.keys.take() for request in requests]
    try:
        for datapath in able:
            attempt = [
                replace(request, keys=KeyMaterial(encryption, integrity))
                for request, (encryption, integrity) in zip(requests, taken, strict=True)
            ]
            try:
                carried = await install(datapath, attempt)
            except DatapathRefusal as refusal:
                why_not.append(WhyNot(datapath.name, refusal.reason, refusal.detail))
                if refusal.in_doubt:
                    raise _refused(why_not, in_doubt=True) from refusal
            else:
                return Placed(datapath, tuple(why_not), carried)
            finally:
                for request in attempt:
                    request.keys.wipe()
        raise _refused(why_not)
    finally:
        for encryption, integrity in taken:
            wipe(encryption)
            wipe(integrity)


def _refused(why_not: Sequence[WhyNot], *, in_doubt: bool = False) -> Unplaced:
    if not why_not:
        return Unplaced(Reason.DATAPATH_GONE, "no datapath is configured", ())
    # What a child is pinned to matters, not that the others are not it.
    telling = [why for why in why_not if why.reason is not Reason.PINNED] or why_not
    if len(telling) == 1:
        only = telling[0]
        return Unplaced(only.reason, f"{only.datapath}: {only.detail}".rstrip(": "), why_not, in_doubt=in_doubt)
    return Unplaced(telling[-1].reason, "; ".join(map(str, telling)), why_not, in_doubt=in_doubt)
