"""Placement: which datapath takes a pair of SAs, and why those before it in the order did not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from appliance.reasons import Reason
from appliance.sa.association import Offload, SecurityAssociation
from appliance.sa.datapath import Capabilities, Carried, Datapath, DatapathRefusal, InstallRequest, WhyNot
from appliance.sa.keys import KeyMaterial, wipe


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a pair of SAs runs, and how each of them. ``why_not`` has the datapaths that were asked before."""

    datapath: Datapath
    why_not: tuple[WhyNot, ...] = ()
    carried: tuple[Carried, ...] = ()


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
    name, capabilities = candidate.name, candidate.capabilities
    handling = sa.handling
    if handling.datapath not in (None, name):
        return WhyNot(name, Reason.PINNED, f"to {handling.datapath}")
    if candidate.datapath is None or capabilities is None:
        return WhyNot(name, candidate.reason, candidate.detail)
    if not capabilities.usable:
        first = next(iter(capabilities.missing), None)
        return WhyNot(name, first.reason, first.detail) if first else WhyNot(name, Reason.DATAPATH_GONE, "not usable")
    if sa.suite not in capabilities.suites:
        return WhyNot(name, Reason.ALGORITHM_UNSUPPORTED, str(sa.suite))
    if sa.mode not in capabilities.modes:
        return WhyNot(name, Reason.MODE_UNSUPPORTED, f"{sa.mode.value} mode")
    if sa.encapsulation is None and not capabilities.native:
        return WhyNot(name, Reason.MODE_UNSUPPORTED, "ESP without UDP")
    if sa.encapsulation is not None and not capabilities.udp_encapsulation:
        return WhyNot(name, Reason.MODE_UNSUPPORTED, "ESP in UDP")
    if handling.interface is not None and not capabilities.interfaces:
        return WhyNot(name, Reason.INTERFACE_UNSUPPORTED, handling.interface)
    if handling.offload in (Offload.PACKET, Offload.CRYPTO) and not capabilities.offload:
        return WhyNot(name, Reason.OFFLOAD_UNSUPPORTED, f'the child asks for offload = "{handling.offload.value}"')
    low, high = capabilities.replay_windows
    if not low <= sa.replay_window <= high:
        return WhyNot(name, Reason.MODE_UNSUPPORTED, f"replay window {sa.replay_window}, it has {low} to {high}")
    return None


async def place(candidates: Sequence[Candidate], requests: Sequence[InstallRequest]) -> Placed:
    """Install the SAs of one child, together, on the first datapath that takes them.

    Keys are consumed whatever happens. They are handed out a second time only after a proven "not installed": a
    refusal in doubt ends the search, since another datapath would repeat IVs under the same key.
    Raises DatapathRefusal: the only one's own, or one that names each datapath and why it did not take them.
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
            carried = await able[0].install(requests)
        except DatapathRefusal as refusal:
            if not why_not:
                raise
            why_not.append(WhyNot(able[0].name, refusal.reason, refusal.detail))
            raise _refused(why_not, in_doubt=refusal.in_doubt) from refusal
        finally:
            for request in requests:
                request.keys.wipe()
        return Placed(able[0], tuple(why_not), carried)
    return await _search(able, requests, why_not)


async def _search(able: Sequence[Datapath], requests: Sequence[InstallRequest], why_not: list[WhyNot]) -> Placed:
    taken = [request.keys.take() for request in requests]
    try:
        for datapath in able:
            attempt = [
                replace(request, keys=KeyMaterial(encryption, integrity))
                for request, (encryption, integrity) in zip(requests, taken, strict=True)
            ]
            try:
                carried = await datapath.install(attempt)
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


def _refused(why_not: Sequence[WhyNot], *, in_doubt: bool = False) -> DatapathRefusal:
    if not why_not:
        return DatapathRefusal(Reason.DATAPATH_GONE, "no datapath is configured")
    if len(why_not) == 1:
        only = why_not[0]
        return DatapathRefusal(only.reason, f"{only.datapath}: {only.detail}".rstrip(": "), in_doubt=in_doubt)
    return DatapathRefusal(why_not[-1].reason, "; ".join(str(w) for w in why_not), in_doubt=in_doubt)
