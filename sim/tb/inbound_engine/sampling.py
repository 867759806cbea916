"""What a packet was for the coverage of traffic, once its fate is known."""

from __future__ import annotations

from appliance.esp import ecn
from appliance.esp.drop import Drop
from appliance.esp.ip import UDP, parse
from appliance.esp.trailer import TRAILER, strip_trailer
from appliance.reasons import Reason
from sim.coverage import traffic
from sim.tb.model.inbound import Outcome, Sa
from sim.tb.traffic.header import expected


def sampled(outcome: Outcome, edge: int, pressure: str, changed: str | None) -> traffic.Sample | None:
    """Count a packet that had its turn when the right edge was ``edge``; returns what it was if it was released.

    ``changed`` is the part of it that is not as its sender made it, if that is known.
    """
    sa = outcome.sa
    if sa is not None and not sa.transport and outcome.reason in (None, Reason.ECN_NOT_CAPABLE):
        inner, outer = parse(strip_trailer(outcome.plaintext)[1]), parse(outcome.sent)
        form = f"tunnel {inner.version} in {outer.version}"
        traffic.inbound_ecn(form, inner.traffic_class & ecn.ECN, outer.traffic_class & ecn.ECN)
    if outcome.reason is None:
        assert sa is not None
        kind = _released(outcome, sa, edge, pressure)
        traffic.inbound(kind)
        traffic.headers(traffic.inbound_headers, kind.form, outcome.leaves)
        traffic.inbound_pad_length(outcome.plaintext[-TRAILER])
        return kind
    place = traffic.mode(sa.destination.version, transport=sa.transport) if sa else traffic.family(outcome.sent)
    traffic.inbound_drop(outcome.reason, place, pressure)
    if outcome.reason is Reason.REPLAYED:
        assert sa is not None
        where = _refused(outcome, sa, edge)
        if where:
            traffic.inbound_replayed(where, sa.esn)
    if outcome.reason is Reason.INTEGRITY and changed:
        traffic.inbound_damaged(changed)
    return None


def _released(outcome: Outcome, sa: Sa, edge: int, pressure: str) -> traffic.Sample:
    inner, outer = parse(outcome.leaves), parse(outcome.sent)
    header = expected(outcome.sent)
    assert header is not None
    _, payload = strip_trailer(outcome.plaintext)
    return traffic.Sample(
        form=f"transport {inner.version}" if sa.transport else f"tunnel {inner.version} in {outer.version}",
        udp=header["protocol"] == UDP,
        key=8 * len(sa.key),
        esn=sa.esn,
        size=len(outcome.leaves),
        padding=outcome.plaintext[-TRAILER] % 4,
        tfc=not sa.transport and len(payload) > inner.total_length,
        pressure=pressure,
        replay=_accepted(outcome.sequence, edge, sa.window_size),
    )


def _accepted(sequence: int, edge: int, window: int) -> str:
    """Where a number was that is taken; those that fall out of the window are what is left of the new edge."""
    if sequence == edge + 1:
        return "next"
    if sequence > edge:
        return "ahead" if sequence < edge + window else "beyond the window"
    return "left edge" if sequence == edge - window + 1 else "in the window"


def _refused(outcome: Outcome, sa: Sa, edge: int) -> str | None:
    try:
        sequence = sa.window.infer(outcome.sequence & 0xFFFFFFFF)
    except Drop:
        return "left of the window"  # the upper half would be -1
    if sequence == 0:
        return None  # of no place: it is never sent
    return "left of the window" if edge - sequence >= sa.window_size else "duplicate"
