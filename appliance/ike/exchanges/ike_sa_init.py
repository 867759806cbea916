"""IKE_SA_INIT: algorithms, key exchange and nonces, in the clear (RFC 7296 §1.2, §2.6, §2.7, §2.23)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from appliance.ike.authentication import SUPPORTED_HASHES
from appliance.ike.choose import (
    check_ike_choice,
    choose_ike,
    describe_offer,
    describe_proposals,
    inconsistency,
    to_wire,
)
from appliance.ike.connection import ConnectionConfig, Endpoint
from appliance.ike.constants import ExchangeType, HashAlgorithm, NotifyType
from appliance.ike.constants import name as name_of
from appliance.ike.cookie import CookieJar
from appliance.ike.events import Datagram
from appliance.ike.exchanges import ike_auth
from appliance.ike.exchanges.child_negotiation import error_of, reason_of
from appliance.ike.flood import Flood
from appliance.ike.half_open import HalfOpen
from appliance.ike.ike_sa import IkeSa, error
from appliance.ike.ke import InvalidKeyExchange, generate, respond
from appliance.ike.keys import derive_ike_keys
from appliance.ike.message import Header, encode_message
from appliance.ike.nat import nat_hash
from appliance.ike.payloads import (
    CertReqPayload,
    KePayload,
    NoncePayload,
    NotifyPayload,
    Payload,
    SaPayload,
    all_of,
    first,
    notify,
)
from appliance.ike.services import Services
from appliance.ike.states import IkeState
from appliance.ike.window import digest
from appliance.reasons import Reason
from appliance.sa.algorithms import KeyExchangeMethod, TransformType
from appliance.sa.proposal import Proposal

NONCE_LENGTH = 32
"""At least half the key of the largest PRF, and 128 bits (RFC 7296 §2.10)."""
MAX_RETRIES = 4
"""Cookies and other key exchange methods that we let the peer ask for, in all."""
ERROR_GRACE = 2.0
"""How long we wait for a better answer after an error that anybody could have forged (RFC 7296 §2.21.1)."""
MAX_COOKIE = 64
"""Bytes of a COOKIE notification (RFC 7296 §2.6)."""


# Initiator


@dataclass(slots=True)
class Init:
    """Our IKE_SA_INIT request. It is in the clear, so its response comes by ``handle_response``."""

    not_before: float = 0.0
    exchange_type: ExchangeType = ExchangeType.IKE_SA_INIT
    exclusive: bool = True
    outlives_ike_sa: bool = False

    def request(self, sa: IkeSa, now: float) -> list[Payload] | None:
        """The payloads, with the cookie first if the peer asked for one (§2.6)."""
        assert sa.ke is not None
        payloads: list[Payload] = [NotifyPayload(NotifyType.COOKIE, sa.cookie)] if sa.cookie else []
        sa.init_offer = to_wire(sa.settings.ike_proposals, b"")
        payloads += [
            sa.init_offer,
            KePayload(sa.ke.method, sa.ke.public),
            NoncePayload(sa.nonce_i),
            *_common_notifications(sa, announce_hashes=True),
        ]
        return payloads

    def response(self, sa: IkeSa, payloads: Sequence[Payload], now: float) -> None:
        """Never called: see ``handle_response``, which needs the message itself."""

    def abandon(self, sa: IkeSa, now: float) -> None:
        """Nothing is held."""


def start(sa: IkeSa, now: float) -> None:
    """Send the first message of an IKE SA."""
    sa.nonce_i = sa.services.random(NONCE_LENGTH)
    sa.ke = generate(_methods(sa.settings.ike_proposals)[0], sa.services.random)
    _send(sa, now)


def _send(sa: IkeSa, now: float) -> None:
    init = Init()
    sa.failure = None  # an error that answered the former request says nothing about this one
    sa.send_initial(init, init.request(sa, now) or [], now)


def handle_response(sa: IkeSa, header: Header, data: bytes, payloads: Sequence[Payload], now: float) -> None:
    """Go on to IKE_AUTH, or send the request again as the peer asks, or note an error and wait for a better answer."""
    cookie = notify(payloads, NotifyType.COOKIE)
    if cookie is not None and first(payloads, SaPayload) is None:
        if not 1 <= len(cookie.data) <= MAX_COOKIE:
            sa.services.count(Reason.INVALID_SYNTAX)
            return
        if _may_retry(sa, "asks for yet another cookie", now):
            sa.cookie = cookie.data
            _send(sa, now)
        return
    other = notify(payloads, NotifyType.INVALID_KE_PAYLOAD)
    if other is not None:
        _retry_with_method(sa, other, now)
        return
    refusal = error_of(payloads)
    if refusal is not None:
        reason = reason_of(refusal.type)
        detail = f"{name_of(NotifyType, refusal.type)}; offered: {describe_proposals(sa.settings.ike_proposals)}"
        _note_failure(sa, reason, detail, now)
        return
    _accept(sa, header, data, payloads, now)


def _accept(sa: IkeSa, header: Header, data: bytes, payloads: Sequence[Payload], now: float) -> None:
    chosen = first(payloads, SaPayload)
    ke, nonce = first(payloads, KePayload), first(payloads, NoncePayload)
    if chosen is None or ke is None or nonce is None or header.responder_spi == bytes(8):
        _note_failure(sa, Reason.INVALID_SYNTAX, "the answer lacks SA, KE or Nonce, or the responder's SPI", now)
        return
    assert sa.init_offer is not None
    choice = check_ike_choice(sa.init_offer, chosen)
    if choice is None:
        _note_failure(sa, Reason.NO_PROPOSAL_CHOSEN, inconsistency(sa.init_offer, chosen), now)
        return
    assert sa.ke is not None
    suite = choice.suite
    if ke.method != sa.ke.method or suite.ke is not sa.ke.method:
        _note_failure(sa, Reason.INVALID_KE_PAYLOAD, "the answer's key exchange is not the one offered", now)
        return
    try:
        shared = sa.ke.shared(ke.data)
    except InvalidKeyExchange as problem:
        _note_failure(sa, Reason.INVALID_SYNTAX, str(problem), now)
        return
    sa.suite = suite
    sa.spi_r = header.responder_spi
    sa.nonce_r = nonce.data
    sa.init_response = data
    sa.failure = None
    sa.set_keys(derive_ike_keys(suite, shared, sa.nonce_i, sa.nonce_r, sa.spi_i, sa.spi_r))
    sa.ke = None
    _learn(sa, payloads)
    sa.requests.outstanding.clear()
    if sa.encapsulated:  # §2.23: both ports move to 4500
        sa.local = Endpoint(sa.local.address, sa.services.config.nat_port)
        sa.remote = Endpoint(sa.remote.address, _nat_port_of(sa))
    sa.state = IkeState.AUTH_SENT
    ike_auth.start(sa, now)


def _nat_port_of(sa: IkeSa) -> int:
    """The peer's NAT traversal port: 4500 behind 500, and itself where another port was configured to start with."""
    config = sa.services.config
    return config.nat_port if sa.remote.port == config.ike_port else sa.remote.port


def _retry_with_method(sa: IkeSa, answer: NotifyPayload, now: float) -> None:
    """INVALID_KE_PAYLOAD names the method to use; it must be one that we offer (§1.3, §2.7)."""
    wanted = int.from_bytes(answer.data, "big") if len(answer.data) == 2 else 0
    methods = _methods(sa.settings.ike_proposals)
    if wanted not in methods:
        offered = ", ".join(m.name.lower() for m in methods)
        detail = f"the peer wants {name_of(KeyExchangeMethod, wanted)}, offered are {offered}"
        _note_failure(sa, Reason.INVALID_KE_PAYLOAD, detail, now)
        return
    assert sa.ke is not None
    if wanted == sa.ke.method:
        sa.services.count(Reason.UNEXPECTED_MESSAGE)  # an answer to the former request, or forged
        return
    if _may_retry(sa, "asks for yet another key exchange method", now):
        sa.ke = generate(KeyExchangeMethod(wanted), sa.services.random)
        _send(sa, now)


def _may_retry(sa: IkeSa, what: str, now: float) -> bool:
    sa.retries += 1
    if sa.retries > MAX_RETRIES:
        _note_failure(sa, Reason.COOKIE_LOOP, f"{sa.remote} {what}, the {sa.retries}th time", now)
        return False
    return True


def _note_failure(sa: IkeSa, reason: Reason, detail: str, now: float) -> None:
    """Fail soon, unless a good answer comes first: this one was not authenticated (§2.21.1)."""
    sa.services.count(reason)
    if sa.failure is None:
        sa.failure = (reason, detail, now + ERROR_GRACE)
        sa.services.touched.add(sa.ike_id)


# Responder


@dataclass(slots=True)
class InitResponder:
    """What answering IKE_SA_INIT needs beyond the IKE SA: cookies, and which requests were answered already."""

    services: Services
    cookies: CookieJar
    half_open: HalfOpen = field(default_factory=HalfOpen)
    flood: Flood = field(init=False)

    def __post_init__(self) -> None:
        self.flood = Flood(self.services, self.half_open)

    def handle_request(
        self, header: Header, data: bytes, payloads: Sequence[Payload], local: Endpoint, remote: Endpoint, now: float
    ) -> None:
        """Answer one request: with a new half-open IKE SA, an error, or a cookie."""
        services = self.services
        offer, ke, nonce = first(payloads, SaPayload), first(payloads, KePayload), first(payloads, NoncePayload)
        if offer is None or ke is None or nonce is None:
            services.count(Reason.INVALID_SYNTAX)
            self.answer_error(header, error(NotifyType.INVALID_SYNTAX), local, remote)
            return
        proven = self._cookie_is_good(header, payloads, nonce, remote, now)
        if not proven and self._wants_cookie(remote):
            services.counters["cookies-asked"] += 1
            if services.config.cookie_threshold:  # with 0 everybody is asked, always
                self.flood.cookie(remote, now)
            cookie = self.cookies.make(nonce.data, remote.address, remote.port, header.initiator_spi, now)
            self.answer_error(header, [NotifyPayload(NotifyType.COOKIE, cookie)], local, remote)
            return
        limit = self._limit(remote, proven=proven)
        if limit is not None:
            services.count(limit)
            if limit is not Reason.IKE_SA_LIMIT:
                self.flood.refused(limit, remote, now)
            return
        candidates = services.candidates(local, remote)
        if not candidates:
            services.count(Reason.NO_CONNECTION)
            text = f"{remote} wants an IKE SA with {local}: no connection is for these addresses"
            services.notice_stranger(text, Reason.NO_CONNECTION, now)
            self.answer_error(header, error(NotifyType.NO_PROPOSAL_CHOSEN), local, remote)
            return
        # Many connections for one pair of addresses share their proposals: each tuple of them is compared once.
        distinct = {id(c.ike_proposals): c.ike_proposals for c in candidates}
        for proposals in distinct.values():
            chosen = choose_ike(offer, proposals)
            if chosen is not None:
                connection = next(c for c in candidates if c.ike_proposals is proposals)
                break
        else:
            self._refuse_proposals(header, offer, candidates, local, remote, now)
            return
        suite = chosen.suite
        if ke.method != suite.ke:
            services.count(Reason.INVALID_KE_PAYLOAD)
            wanted = suite.ke.to_bytes(2, "big")
            self.answer_error(header, error(NotifyType.INVALID_KE_PAYLOAD, wanted), local, remote)
            return
        try:
            public, shared = respond(suite.ke, services.random, ke.data)
        except InvalidKeyExchange:
            services.count(Reason.INVALID_SYNTAX)
            self.answer_error(header, error(NotifyType.INVALID_SYNTAX), local, remote)
            return
        sa = IkeSa(services, initiator=False, local=local, remote=remote, now=now)
        fits = {
            key: proposals is connection.ike_proposals or choose_ike(offer, proposals) == chosen
            for key, proposals in distinct.items()
        }
        if not all(fits.values()):
            candidates = tuple(c for c in candidates if fits[id(c.ike_proposals)])
        sa.candidates = candidates
        sa.suite = suite
        sa.spi_i = header.initiator_spi
        sa.nonce_i, sa.nonce_r = nonce.data, services.random(NONCE_LENGTH)
        sa.init_request = data
        sa.set_keys(derive_ike_keys(suite, shared, sa.nonce_i, sa.nonce_r, sa.spi_i, sa.spi_r))
        _learn(sa, payloads)
        answer: list[Payload] = [
            chosen.to_wire(b""),
            KePayload(suite.ke, public),
            NoncePayload(sa.nonce_r),
            *_common_notifications(sa, announce_hashes=bool(sa.peer_hashes)),
            *ike_auth.certificate_requests(sa.candidates),
        ]
        sa.init_response = encode_message(sa.header(ExchangeType.IKE_SA_INIT, 0, response=True), answer)
        sa.init_key = digest(data)
        sa.half_open_until = now + services.config.half_open_timeout
        sa.responses.expected = 1
        services.register(sa)
        self.half_open.add(sa.init_key, sa, proven=proven)
        sa.transmit([sa.init_response])

    def _wants_cookie(self, remote: Endpoint) -> bool:
        """Whether there are so many half-open IKE SAs, here or of this source, that it has to prove its address."""
        config = self.services.config
        many = len(self.half_open) >= config.cookie_threshold
        return many or self.half_open.of_source(remote.address) >= config.half_open_per_address

    def _limit(self, remote: Endpoint, *, proven: bool) -> Reason | None:
        """The limit that keeps another IKE SA out. One source's is for its proven ones: others may be forged."""
        services = self.services
        if proven and self.half_open.proven(remote.address) >= services.config.half_open_per_address:
            return Reason.HALF_OPEN_PER_ADDRESS
        if len(self.half_open) >= services.config.half_open_limit:
            return Reason.HALF_OPEN_LIMIT
        return (
            Reason.IKE_SA_LIMIT if len(services.ike_sas) - len(services.dead) >= services.config.max_ike_sas else None
        )

    def _cookie_is_good(
        self, header: Header, payloads: Sequence[Payload], nonce: NoncePayload, remote: Endpoint, now: float
    ) -> bool:
        cookie = notify(payloads, NotifyType.COOKIE)
        return cookie is not None and self.cookies.verify(
            cookie.data, nonce.data, remote.address, remote.port, header.initiator_spi, now
        )

    def _refuse_proposals(
        self,
        header: Header,
        offer: SaPayload,
        candidates: Sequence[ConnectionConfig],
        local: Endpoint,
        remote: Endpoint,
        now: float,
    ) -> None:
        services = self.services

        def text() -> str:
            accepted = "; ".join(f"{c.name}: {describe_proposals(c.ike_proposals)}" for c in candidates[:4])
            return f"{remote} offers {describe_offer(offer)}; accepted by {accepted}"

        services.count(Reason.NO_PROPOSAL_CHOSEN)
        services.notice_stranger(text, Reason.NO_PROPOSAL_CHOSEN, now)
        self.answer_error(header, error(NotifyType.NO_PROPOSAL_CHOSEN), local, remote)

    def answer_error(self, header: Header, payloads: Sequence[Payload], local: Endpoint, remote: Endpoint) -> None:
        """Answer in the clear and remember nothing. The responder's SPI is zero then (RFC 7296 §2.6, §2.7)."""
        answer = Header(
            initiator_spi=header.initiator_spi,
            responder_spi=bytes(8),
            next_payload=0,
            exchange=header.exchange,
            message_id=header.message_id,
            initiator=False,
            response=True,
            length=0,
        )
        self.services.emit(Datagram(encode_message(answer, payloads), local, remote))


# Both


def _methods(proposals: Sequence[Proposal]) -> list[KeyExchangeMethod]:
    return list(dict.fromkeys(KeyExchangeMethod(t.id) for p in proposals for t in p.of_type(TransformType.KE)))


def _common_notifications(sa: IkeSa, *, announce_hashes: bool) -> list[Payload]:
    """NAT detection, and the extensions that we have."""
    settings = sa.settings
    source = nat_hash(sa.spi_i, sa.spi_r, sa.local.address, sa.local.port)
    if settings.force_encapsulation:
        # A hash that fits no address makes both sides see a NAT, so both encapsulate.
        source = hashlib.sha1(sa.own_spi + b"encapsulate", usedforsecurity=False).digest()
    notifications: list[Payload] = [
        NotifyPayload(NotifyType.NAT_DETECTION_SOURCE_IP, source),
        NotifyPayload(
            NotifyType.NAT_DETECTION_DESTINATION_IP, nat_hash(sa.spi_i, sa.spi_r, sa.remote.address, sa.remote.port)
        ),
    ]
    if settings.fragmentation and (sa.initiator or sa.fragmentation):
        notifications.append(NotifyPayload(NotifyType.IKEV2_FRAGMENTATION_SUPPORTED))
    if announce_hashes:
        data = b"".join(algorithm.to_bytes(2, "big") for algorithm in SUPPORTED_HASHES)
        notifications.append(NotifyPayload(NotifyType.SIGNATURE_HASH_ALGORITHMS, data))
    return notifications


def _learn(sa: IkeSa, payloads: Sequence[Payload]) -> None:
    """What the peer's notifications tell: NAT, fragmentation, hashes, certificate authorities."""
    spi_r = bytes(8) if not sa.initiator else sa.spi_r  # in a request the responder's SPI is zero (§2.23)
    sources = [p.data for p in all_of(payloads, NotifyPayload) if p.type == NotifyType.NAT_DETECTION_SOURCE_IP]
    destinations = [
        p.data for p in all_of(payloads, NotifyPayload) if p.type == NotifyType.NAT_DETECTION_DESTINATION_IP
    ]
    if sources and destinations:
        sa.nat_remote = nat_hash(sa.spi_i, spi_r, sa.remote.address, sa.remote.port) not in sources
        sa.nat_local = nat_hash(sa.spi_i, spi_r, sa.local.address, sa.local.port) not in destinations
        sa.forced_encapsulation = sa.settings.force_encapsulation
    sa.fragmentation = notify(payloads, NotifyType.IKEV2_FRAGMENTATION_SUPPORTED) is not None
    hashes = notify(payloads, NotifyType.SIGNATURE_HASH_ALGORITHMS)
    if hashes is not None:
        numbers = {int.from_bytes(hashes.data[at : at + 2], "big") for at in range(0, len(hashes.data) - 1, 2)}
        sa.peer_hashes = frozenset(h for h in HashAlgorithm if h in numbers)
    sa.certificate_requests = all_of(payloads, CertReqPayload)
