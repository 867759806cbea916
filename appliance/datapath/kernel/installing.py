"""Putting states into the kernel: all of a batch or none, each by the best way that is taken, and read back."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass

from appliance.datapath.kernel import states
from appliance.datapath.kernel.requester import refusal_of
from appliance.datapath.kernel.sad import Row
from appliance.datapath.kernel.states import Device
from appliance.datapath.kernel.xfrm import (
    NoAnswer,
    OffloadFlag,
    State,
    StateId,
    XfrmError,
    XfrmSocket,
    requests,
    wipe,
)
from appliance.reasons import Reason
from appliance.sa.association import Offload
from appliance.sa.datapath import Carried, DatapathRefusal, WhyNot


@dataclass(frozen=True, slots=True)
class Attempt:
    """One way to carry an SA: the device that takes part, or None; and NEWSA for it."""

    device: Device | None
    state: State


def way(device: Device | None) -> str:
    """A way's name among the datapaths that did not take an SA."""
    if device is None:
        return "kernel"
    return f"kernel, {'packet' if device.packet else 'crypto'} offload"


def install(socket: XfrmSocket, rows: Sequence[Row], ways: Sequence[Sequence[Attempt]]) -> None:
    """Install an SA for each row by the first of its ways that the kernel takes; tells the rows which.

    Raises DatapathRefusal; then none is there, unless it is in doubt.
    """
    done: list[State] = []
    try:
        for row, attempts in zip(rows, ways, strict=True):
            done.append(_first(socket, row, attempts))
    except BaseException:
        left = remove(socket, done)
        if left is not None:
            raise left from None
        raise


def lower(
    rows: Sequence[Row], ways: Sequence[Sequence[Attempt]], refusal: DatapathRefusal
) -> list[list[Attempt]] | None:
    """The ways that are left where a device took SAs and ``refusal`` is what it said to their policies.

    None if that is not what happened, or an SA has no other way. The rows are told why.
    """
    packet = [row for row in rows if row.device is not None and row.device.packet]
    left = [[one for one in attempts if one.device is None or not one.device.packet] for attempts in ways]
    if not packet or refusal.reason is not Reason.OFFLOAD_REFUSED or not all(left):
        return None
    for row in packet:
        why = WhyNot(way(row.device), refusal.reason, refusal.detail)
        row.carried = Carried("", (*row.carried.why_not, why))
        row.device = None
    return left


def _first(socket: XfrmSocket, row: Row, attempts: Sequence[Attempt]) -> State:
    why_not: list[WhyNot] = list(row.carried.why_not)
    refusal = DatapathRefusal(Reason.NO_OFFLOAD_DEVICE, "")
    for number, attempt in enumerate(attempts):
        software = any(other.device is None for other in attempts[number + 1 :])
        try:
            there = _one(socket, row, attempt, software=software)
        except DatapathRefusal as refused:
            if refused.in_doubt or refused.reason is Reason.ALREADY_INSTALLED:
                raise
            refusal = refused
            why_not.append(WhyNot(way(attempt.device), refused.reason, refused.detail))
            continue
        device = attempt.device
        if device is not None and there.offload is None:
            why_not.append(WhyNot(way(device), Reason.OFFLOAD_NOT_DONE, device.name))
            device = None
        row.device, row.state = device, there
        row.carried = Carried("" if device is None else device.how, tuple(why_not))
        return there
    if len(why_not) > 1:
        raise DatapathRefusal(refusal.reason, "; ".join(str(one) for one in why_not))
    raise refusal


def _one(socket: XfrmSocket, row: Row, attempt: Attempt, *, software: bool) -> State:
    """``software``: it may also be done without the device, as the kernel does where that takes no part."""
    request = requests.new_state(attempt.state)
    try:
        socket.do(request)
    except OSError as error:
        raise _refusal(error, row, attempt.device) from None
    finally:
        wipe(request)
    try:
        there = socket.do(requests.get_state(StateId.of(attempt.state)))
        if not isinstance(there, State):
            raise DatapathRefusal(Reason.KERNEL_REFUSED, f"{row.key}: it is not there after it was installed")
        _check(row, attempt, there, software=software)
    except OSError as error:
        left = remove(socket, [attempt.state])
        raise left or refusal_of(error, f"reading back {row.key}") from None
    except DatapathRefusal:
        left = remove(socket, [attempt.state])
        if left is not None:
            raise left from None
        raise
    return there


def _check(row: Row, attempt: Attempt, there: State, *, software: bool) -> None:
    """Old kernels pay no heed to what they do not know, and any kernel may do in software what it was to offload."""
    offload = there.offload
    if attempt.device is not None and not (software and offload is None):
        packet = offload is not None and bool(offload.flags & OffloadFlag.PACKET)
        if offload is None or offload.interface != attempt.device.index or packet is not attempt.device.packet:
            raise DatapathRefusal(Reason.OFFLOAD_NOT_DONE, f"{attempt.device.how} was asked for")
    words = states.unlike(attempt.state, there)
    if words:
        raise DatapathRefusal(Reason.KERNEL_TOO_OLD, f"{row.key}: it took the SA without {words}")


def _refusal(error: OSError, row: Row, device: Device | None) -> DatapathRefusal:
    if error.errno == errno.EEXIST:
        return DatapathRefusal(Reason.ALREADY_INSTALLED, str(row.key))
    if isinstance(error, NoAnswer) or device is None:
        return refusal_of(error, str(row.key))
    if error.errno == errno.EINVAL and isinstance(error, XfrmError) and not error.message:
        # Every refusal of packet offload has words but the one where the driver knows nothing of IPsec.
        return refusal_of(error, f"{row.key}: {device.how}", Reason.OFFLOAD_UNSUPPORTED)
    full = error.errno in (errno.ENOSPC, errno.ENOBUFS)
    return refusal_of(error, f"{row.key}: {device.how}", Reason.TABLE_FULL if full else Reason.OFFLOAD_REFUSED)


def remove(socket: XfrmSocket, there: Sequence[State]) -> DatapathRefusal | None:
    """Take states out again. Returns why it is in doubt whether they are gone, if it is."""
    if not there:
        return None
    answers = socket.batch([requests.delete_state(StateId.of(state)) for state in there])
    for answer in answers:
        if answer.error is not None and answer.error.errno != errno.ESRCH:
            refusal = refusal_of(answer.error, "taking an SA out again")
            return DatapathRefusal(refusal.reason, refusal.detail, in_doubt=True)
    return None


def levels(offload: Offload) -> tuple[bool | None, ...]:
    """The ways that a child's ``offload`` allows, best first: packet offload, crypto offload, none."""
    return {
        Offload.AUTO: (True, False, None),
        Offload.PACKET: (True,),
        Offload.CRYPTO: (False,),
        Offload.NONE: (None,),
    }[offload]
