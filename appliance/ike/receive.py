"""A protected message of a known IKE SA: window, decryption, reassembly, and on to its exchange."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.ike.connection import Endpoint
from appliance.ike.constants import ExchangeType, NotifyType, PayloadType
from appliance.ike.errors import IntegrityFailure, MalformedMessage, UnsupportedCritical
from appliance.ike.exchanges import create_child, ike_auth, informational
from appliance.ike.fragment import Reassembler, fragment_number
from appliance.ike.ike_sa import IkeSa, error
from appliance.ike.message import Header, open_message
from appliance.ike.payloads import Payload, notify, parse_payloads
from appliance.ike.states import IkeState, Kind, accepts
from appliance.ike.window import digest
from appliance.reasons import Reason


def error_notification(problem: MalformedMessage) -> tuple[NotifyType, bytes]:
    """What a malformed request is answered with (RFC 7296 §2.5, §2.21)."""
    if isinstance(problem, UnsupportedCritical):
        return NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD, bytes([problem.payload_type])
    return NotifyType.INVALID_SYNTAX, b""


def protected(sa: IkeSa, header: Header, data: bytes, local: Endpoint, remote: Endpoint, now: float) -> None:
    """Take one protected message. What does not verify or does not fit is counted and otherwise ignored."""
    services = sa.services
    kind = Kind.RESPONSE if header.response else Kind.REQUEST
    if kind is Kind.REQUEST and _repeat_response(sa, header, data, local, remote):
        return
    if not accepts(sa.state, header.exchange, kind):
        services.count(Reason.UNEXPECTED_MESSAGE)
        return
    if kind is Kind.REQUEST and not sa.responses.acceptable(header.message_id):
        services.count(Reason.OUTSIDE_WINDOW)
        return
    if kind is Kind.RESPONSE:
        waiting = sa.requests.outstanding.get(header.message_id)
        if waiting is None or waiting.exchange.exchange_type != header.exchange:
            services.count(Reason.UNEXPECTED_MESSAGE)
            return
    opened = _open(sa, header, data)
    if opened is None:
        return
    first_type, plaintext, request_digest = opened
    _authenticated(sa, local, remote, now)
    try:
        payloads = parse_payloads(first_type, plaintext)
    except MalformedMessage as problem:
        _malformed(sa, header, problem, request_digest, local, remote, now)
        return
    if kind is Kind.RESPONSE:
        request = sa.requests.outstanding.pop(header.message_id)
        if header.exchange == ExchangeType.CREATE_CHILD_SA and notify(payloads, NotifyType.INVALID_SYNTAX) is not None:
            # §2.21.3: fatal, and the peer has deleted it already.
            request.exchange.abandon(sa, now)
            sa.services.count(Reason.INVALID_SYNTAX)
            sa.end(Reason.INVALID_SYNTAX, f"said by {sa.remote}", now, retry=True)
            return
        request.exchange.response(sa, payloads, now)
        if not sa.expects_child:
            sa.early_deletes = []
        sa.pump(now)
    else:
        _request(sa, header, payloads, request_digest, local, remote, now)


def _repeat_response(sa: IkeSa, header: Header, data: bytes, local: Endpoint, remote: Endpoint) -> bool:
    """Answer a retransmitted request with the answer it had; of a fragmented one only the first fragment counts."""
    cached = sa.responses.cache.get(header.message_id)
    if cached is None:
        return False
    if cached.request_digest == digest(data) or _is_fragmented_anew(sa, header, data):
        sa.services.counters["retransmissions-answered"] += 1
        sa.transmit(cached.datagrams, local, remote)
    else:
        sa.services.counters["retransmissions-ignored"] += 1
    return True


def _is_fragmented_anew(sa: IkeSa, header: Header, data: bytes) -> bool:
    """Whether this is the first fragment of a request that came before in others (RFC 7383 §2.5.2, §2.6.1)."""
    if header.next_payload != PayloadType.SKF or sa.sealer_in is None:
        return False
    try:
        number, total = fragment_number(data, header)
        if number != 1:
            return False
        Reassembler(max_fragments=total).add(data, header, sa.sealer_in)
    except (IntegrityFailure, MalformedMessage):
        return False
    return True


def _open(sa: IkeSa, header: Header, data: bytes) -> tuple[int, bytes, bytes] | None:
    """Decrypt: (type of the first payload, payloads, digest by which a retransmission is known). None: not (yet)."""
    services = sa.services
    assert sa.sealer_in is not None
    key = (header.response, header.message_id)
    try:
        if header.next_payload != PayloadType.SKF:
            first_type, plaintext = open_message(data, header, sa.sealer_in)
            sa.reassemblers.pop(key, None)
            return first_type, plaintext, digest(data)
        if not sa.fragmentation:
            services.count(Reason.UNEXPECTED_MESSAGE)
            return None
        entry = sa.reassemblers.get(key)
        reassembler = entry if entry is not None else Reassembler()
        complete = reassembler.add(data, header, sa.sealer_in)
        if complete is None:
            sa.reassemblers[key] = reassembler  # kept only now that one fragment of it has verified
            return None
        sa.reassemblers.pop(key, None)
        return *complete, digest(reassembler.first_fragment)
    except IntegrityFailure:
        services.count(Reason.MESSAGE_UNVERIFIED)
    except MalformedMessage:
        services.count(Reason.INVALID_SYNTAX)
    return None


def _authenticated(sa: IkeSa, local: Endpoint, remote: Endpoint, now: float) -> None:
    """A new authentic message: a sign of life, and of where the peer is now."""
    # What was collected of other messages of the same direction is old once the window has moved past it.
    for key in [k for k in sa.reassemblers if not k[0] and k[1] < sa.responses.expected]:
        del sa.reassemblers[key]
    if sa.state in (IkeState.HALF_OPEN, IkeState.AUTH_SENT):
        if sa.state is IkeState.HALF_OPEN:  # the initiator may have moved to port 4500 (§2.23)
            sa.local, sa.remote = local, remote
        return
    sa.alive(now)
    if remote != sa.remote and sa.nat_remote and not sa.nat_local and local == sa.local:
        sa.move_remote(remote, now)


def _malformed(
    sa: IkeSa,
    header: Header,
    problem: MalformedMessage,
    request_digest: bytes,
    local: Endpoint,
    remote: Endpoint,
    now: float,
) -> None:
    """An authentic message that breaks the rules: told to the peer, and fatal where the RFC says so (§2.5, §2.21.3)."""
    critical = isinstance(problem, UnsupportedCritical)
    reason = Reason.UNSUPPORTED_CRITICAL_PAYLOAD if critical else Reason.INVALID_SYNTAX
    sa.services.count(reason)
    if sa.state is IkeState.HALF_OPEN:
        sa.services.notice_stranger(f"{reason.words}: {problem}", reason, now, sa)
    else:
        sa.services.notice("warning", f"{reason.words}: {problem}", sa, reason)
    if header.response:
        sa.requests.outstanding.pop(header.message_id).exchange.abandon(sa, now)
        if sa.is_up:
            informational.delete_and_forget(sa, reason, str(problem), now, retry=True)
        else:
            sa.end(reason, str(problem), now, retry=True)
        return
    type_, contents = error_notification(problem)
    exchange = ExchangeType(header.exchange)
    sa.respond(exchange, header.message_id, error(type_, contents), request_digest, local, remote)
    if not critical or sa.state is IkeState.HALF_OPEN:
        sa.end(reason, str(problem), now, retry=True)


def _request(
    sa: IkeSa,
    header: Header,
    payloads: Sequence[Payload],
    request_digest: bytes,
    local: Endpoint,
    remote: Endpoint,
    now: float,
) -> None:
    exchange = ExchangeType(header.exchange)
    end: tuple[Reason, str] | None = None
    if exchange is ExchangeType.IKE_AUTH:
        answer = ike_auth.handle_request(sa, payloads, now)
        if sa.failure is not None:
            end = sa.failure[0], sa.failure[1]
    elif exchange is ExchangeType.CREATE_CHILD_SA:
        answer = create_child.handle_request(sa, payloads, now)
        if notify(answer, NotifyType.INVALID_SYNTAX) is not None:
            end = Reason.INVALID_SYNTAX, f"in a request of {sa.remote}"  # §2.21.3: fatal
    else:
        outcome = informational.handle_request(sa, payloads, now)
        answer, end = outcome.payloads, outcome.end
    sa.respond(exchange, header.message_id, answer, request_digest, local, remote)
    if end is not None:
        ours = informational.own_deletion(sa)
        if ours is not None:  # both sides delete it at once: each for its own reason
            sa.end(ours.reason, ours.detail, now, retry=ours.retry)
        else:
            sa.end(*end, now, retry=end[0] is not Reason.DUPLICATE_IKE_SA)
    else:
        sa.pump(now)
