"""IKE_AUTH: identities, authentication, and the first Child SA (RFC 7296 §1.2, §2.15, §2.16, §2.21.2)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from appliance.ike import uniqueness
from appliance.ike.authentication import (
    AuthenticationFailed,
    PublicKeyCredential,
    certreq_for,
    chain_for,
    make_auth,
    signed_octets,
    verify_auth,
)
from appliance.ike.connection import ConnectionConfig, Unique
from appliance.ike.constants import ExchangeType, NotifyType
from appliance.ike.constants import name as name_of
from appliance.ike.exchanges import create_child
from appliance.ike.exchanges.child_negotiation import (
    ChildRefused,
    Offer,
    accept_answer,
    announce,
    answer_offer,
    child_failed,
    error_of,
    has_child_for,
    make_offer,
    reason_of,
)
from appliance.ike.exchanges.informational import Informational
from appliance.ike.ike_sa import IkeSa, error
from appliance.ike.payloads import (
    AuthPayload,
    CertPayload,
    CertReqPayload,
    IdPayload,
    NotifyPayload,
    Payload,
    SaPayload,
    all_of,
    first,
    notify,
)
from appliance.reasons import Reason
from appliance.sa.identity import Identity


@dataclass(slots=True)
class Auth:
    """Our IKE_AUTH request, with the first of the wanted children."""

    offer: Offer | None
    not_before: float = 0.0
    exchange_type: ExchangeType = ExchangeType.IKE_AUTH
    exclusive: bool = True
    outlives_ike_sa: bool = False

    def request(self, sa: IkeSa, now: float) -> list[Payload] | None:
        """IDi, CERT, INITIAL_CONTACT, CERTREQ, IDr, AUTH, and the child's payloads, in the RFC's order."""
        settings = sa.settings
        sa.local_id = settings.local_id
        mine = IdPayload(True, settings.local_id.type, settings.local_id.data)
        payloads: list[Payload] = [mine, *_certificates(sa)]
        if uniqueness.is_first_contact(sa):
            payloads.append(NotifyPayload(NotifyType.INITIAL_CONTACT))
        payloads += certificate_requests((settings,))
        if not settings.remote_id.is_pattern:
            payloads.append(IdPayload(False, settings.remote_id.type, settings.remote_id.data))
        payloads.append(_make_auth(sa, mine))
        if settings.window > 1:
            payloads.append(NotifyPayload(NotifyType.SET_WINDOW_SIZE, settings.window.to_bytes(4, "big")))
        sa.responses.window = settings.window
        if self.offer is not None:
            payloads += self.offer.payloads()
        return payloads

    def response(self, sa: IkeSa, payloads: Sequence[Payload], now: float) -> None:
        """Verify the responder, then look at the child."""
        theirs, auth = first(payloads, IdPayload), first(payloads, AuthPayload)
        refusal = error_of(payloads)
        if theirs is None or auth is None or theirs.initiator:
            self.abandon(sa, now)
            if refusal is not None:
                reason = reason_of(refusal.type)
                detail = f"{name_of(NotifyType, refusal.type)} from {sa.remote}, to our id {sa.settings.local_id}"
            else:
                reason, detail = Reason.INVALID_SYNTAX, "the answer to IKE_AUTH lacks IDr or AUTH"
            sa.services.count(reason)
            sa.end(reason, detail, now, retry=True)
            return
        try:
            _verify(sa, sa.settings, theirs, auth, payloads, now)
        except AuthenticationFailed as problem:
            # RFC 7296 §2.21.2: the one error in a response that is told to the peer in an exchange of its own.
            sa.services.count(problem.reason)
            self.abandon(sa, now)
            told = Informational(error(NotifyType.AUTHENTICATION_FAILED))
            sa.send_request(told, told.payloads, now)
            sa.end(problem.reason, problem.detail, now, retry=True)
            return
        _learn_window(sa, payloads)
        sa.establish(now)
        self._child(sa, payloads, refusal, now)
        uniqueness.enforce(sa, now)
        create_child.create_wanted(sa, now)
        sa.pump(now)

    def _child(self, sa: IkeSa, payloads: Sequence[Payload], refusal: NotifyPayload | None, now: float) -> None:
        offer = self.offer
        if offer is None:
            return
        if first(payloads, SaPayload) is None:
            sa.services.release_spi(offer.spi)
            type_ = refusal.type if refusal is not None else NotifyType.INVALID_SYNTAX
            child_failed(sa, offer, reason_of(type_), name_of(NotifyType, type_))
            if type_ == NotifyType.SINGLE_PAIR_REQUIRED:
                create_child.retry_single_pair(sa, offer, now)
            return
        try:
            child = accept_answer(sa, offer, payloads, (sa.nonce_i, sa.nonce_r), now, activate=True)
        except ChildRefused as problem:
            create_child.refuse_answer(sa, offer, problem, now)
            return
        announce(sa, child)

    def abandon(self, sa: IkeSa, now: float) -> None:
        """Give the SPI back."""
        if self.offer is not None:
            sa.services.release_spi(self.offer.spi)
            self.offer = None


def start(sa: IkeSa, now: float) -> None:
    """Authenticate, with the first wanted child in the same exchange."""
    config = None
    while sa.wanted_children and config is None:
        config = sa.settings.child(sa.wanted_children.pop(0))
    offer = make_offer(sa, config, sa.nonce_i, in_auth=True, selectors=sa.first_selectors) if config else None
    auth = Auth(offer)
    try:
        payloads = auth.request(sa, now) or []
    except AuthenticationFailed as problem:  # this side cannot sign as the peer wants
        auth.abandon(sa, now)
        sa.services.count(problem.reason)
        sa.end(problem.reason, problem.detail, now, retry=True)
        return
    sa.send_request(auth, payloads, now)


def handle_request(sa: IkeSa, payloads: Sequence[Payload], now: float) -> list[Payload]:
    """Verify the initiator, prove ourselves, answer its child. The IKE SA ends if anything of the first two fails."""
    theirs = next((p for p in all_of(payloads, IdPayload) if p.initiator), None)
    auth = first(payloads, AuthPayload)
    if theirs is None or auth is None:
        # No AUTH at all asks for EAP (RFC 7296 §2.16), which no connection here offers.
        detail = "IKE_AUTH without IDi or AUTH: the peer may want EAP, which is not offered here"
        return _refuse(sa, Reason.UNEXPECTED_MESSAGE, detail, now)
    wanted = next((p for p in all_of(payloads, IdPayload) if not p.initiator), None)
    connection = _select(sa, theirs, wanted, payloads)
    if connection is None:
        asked = f", and asks for {_identity(wanted)}" if wanted is not None else ""
        names = ", ".join(f"{c.name} ({c.local_id} with {c.remote_id})" for c in sa.candidates[:4])
        detail = f"{sa.remote} says it is {_identity(theirs)}{asked}; candidates: {names}"
        return _refuse(sa, Reason.NO_CONNECTION, detail, now)
    sa.connection, sa.candidates = connection, ()
    try:
        _verify(sa, connection, theirs, auth, payloads, now)
        sa.local_id = connection.local_id
        mine = IdPayload(False, connection.local_id.type, connection.local_id.data)
        requests = all_of(payloads, CertReqPayload)
        if requests:
            sa.certificate_requests = requests
        answer: list[Payload] = [mine, *_certificates(sa), _make_auth(sa, mine)]
    except AuthenticationFailed as problem:
        return _refuse(sa, problem.reason, problem.detail, now)
    if connection.unique is Unique.KEEP and uniqueness.others(sa):
        return _refuse(sa, Reason.DUPLICATE_IKE_SA, f"{sa.remote_id} has an IKE SA already, and unique = keep", now)
    if connection.window > 1:
        answer.append(NotifyPayload(NotifyType.SET_WINDOW_SIZE, connection.window.to_bytes(4, "big")))
    sa.responses.window = connection.window
    _learn_window(sa, payloads)
    if notify(payloads, NotifyType.INITIAL_CONTACT) is not None:
        uniqueness.initial_contact(sa, now)
    sa.establish(now)
    uniqueness.enforce(sa, now)
    if first(payloads, SaPayload) is None:
        return answer  # an IKE SA without a child (RFC 6023)
    try:
        child = answer_offer(sa, payloads, (sa.nonce_i, sa.nonce_r), now, in_auth=True)
    except ChildRefused as problem:
        sa.services.count(problem.reason)
        sa.services.notice("warning", str(problem), sa, problem.reason)
        return [*answer, NotifyPayload(problem.answer, problem.data)]
    announce(sa, child.child)
    return [*answer, *child.payloads]


def _refuse(sa: IkeSa, reason: Reason, detail: str, now: float) -> list[Payload]:
    """The peer learns only that it failed; the log learns why."""
    sa.services.count(reason)
    sa.services.notice_stranger(f"{reason.words}: {detail}", reason, now, sa)
    sa.failure = (reason, detail, now)
    return error(NotifyType.AUTHENTICATION_FAILED)


def _select(
    sa: IkeSa, theirs: IdPayload, wanted: IdPayload | None, payloads: Sequence[Payload]
) -> ConnectionConfig | None:
    """The candidate that expects this peer, and is who the peer wants, if it says so (RFC 7296 §1.2, IDr).

    Of several between the same identities, the first that has a child for the offered selectors. They are taken as they
    are configured now: that may have changed since IKE_SA_INIT.
    """
    known = sa.services.connection_by_name
    candidates = [known[candidate.name] for candidate in sa.candidates if candidate.name in known]
    peer = Identity(theirs.id_type, theirs.data)
    us = Identity(wanted.id_type, wanted.data) if wanted is not None else None
    if not peer.is_valid:
        return None  # told once, and not by each candidate
    found = [
        connection
        for connection in candidates
        if peer.matches(connection.remote_id) and (us is None or us.matches(connection.local_id))
    ]
    fitting = (connection for connection in found if has_child_for(connection, payloads))
    return next(fitting, found[0]) if len(found) > 1 else next(iter(found), None)


def _verify(
    sa: IkeSa,
    connection: ConnectionConfig,
    theirs: IdPayload,
    auth: AuthPayload,
    payloads: Sequence[Payload],
    now: float,
) -> None:
    assert sa.keys is not None and sa.suite is not None
    identity = Identity(theirs.id_type, theirs.data)
    if sa.initiator:
        message, nonce, key = sa.init_response, sa.nonce_i, sa.keys.sk_pr
    else:
        message, nonce, key = sa.init_request, sa.nonce_r, sa.keys.sk_pi
    octets = signed_octets(message, nonce, sa.suite.prf, bytes(key), theirs.body)
    wall = sa.services.wall_clock(now)
    certificates = all_of(payloads, CertPayload)
    verified = verify_auth(connection.remote_policy, auth, identity, certificates, octets, sa.suite.prf, wall)
    sa.remote_id = identity
    if verified.expires is not None:
        sa.authenticated_until = now + (verified.expires - wall).total_seconds()
    for note in verified.notes:
        sa.services.notice("info", note, sa)


def _make_auth(sa: IkeSa, mine: IdPayload) -> AuthPayload:
    assert sa.keys is not None and sa.suite is not None
    if sa.initiator:
        message, nonce, key = sa.init_request, sa.nonce_r, sa.keys.sk_pi
    else:
        message, nonce, key = sa.init_response, sa.nonce_i, sa.keys.sk_pr
    octets = signed_octets(message, nonce, sa.suite.prf, bytes(key), mine.body)
    return make_auth(sa.settings.credential, octets, sa.suite.prf, peer_hashes=sa.peer_hashes)


def _certificates(sa: IkeSa) -> Sequence[Payload]:
    credential = sa.settings.credential
    if not isinstance(credential, PublicKeyCredential):
        return ()
    requests = [p for p in sa.certificate_requests if isinstance(p, CertReqPayload)]
    return chain_for(credential, requests)


def certificate_requests(connections: Iterable[ConnectionConfig]) -> list[Payload]:
    """One CERTREQ for the authorities of all these connections, none if none uses certificates (RFC 7296 §3.7)."""
    anchors = {id(anchor): anchor for connection in connections for anchor in connection.remote_policy.anchors}
    return [certreq_for(list(anchors.values()))] if anchors else []


def _learn_window(sa: IkeSa, payloads: Sequence[Payload]) -> None:
    """How many requests the peer takes at once (RFC 7296 §2.3)."""
    window = notify(payloads, NotifyType.SET_WINDOW_SIZE)
    if window is not None and len(window.data) == 4:
        sa.requests.window = max(1, min(int.from_bytes(window.data, "big"), 64))


def _identity(payload: IdPayload | None) -> str:
    return str(Identity(payload.id_type, payload.data)) if payload is not None else "nobody"
