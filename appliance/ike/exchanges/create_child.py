"""CREATE_CHILD_SA for new children, and the choice between its three uses (RFC 7296 §1.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from appliance.ike.child_sa import ChildState
from appliance.ike.connection import ChildConfig
from appliance.ike.constants import ExchangeType, NotifyType
from appliance.ike.constants import name as name_of
from appliance.ike.exchanges import duplicates, rekey_child, rekey_ike
from appliance.ike.exchanges.child_negotiation import (
    ChildRefused,
    Offer,
    Selectors,
    accept_answer,
    announce,
    answer_offer,
    child_failed,
    error_of,
    make_offer,
    offered_methods,
    reason_of,
)
from appliance.ike.exchanges.informational import DeleteUnannounced
from appliance.ike.ike_sa import IkeSa, error
from appliance.ike.payloads import KePayload, NoncePayload, NotifyPayload, Payload, SaPayload, first, notify
from appliance.ike.states import IkeState
from appliance.reasons import Reason
from appliance.sa.algorithms import KeyExchangeMethod
from appliance.sa.proposal import ProtocolId

NONCE_LENGTH = 32
RETRY_DELAY = 4.0
"""How long after TEMPORARY_FAILURE we try again; up to as long again by chance (§2.25)."""
MAX_ATTEMPTS = 8


@dataclass(slots=True)
class CreateChild:
    """Our request for a new Child SA."""

    config: ChildConfig
    selectors: tuple[Selectors, Selectors] | None = None
    method: KeyExchangeMethod | None = None
    attempts: int = 1
    offer: Offer | None = None
    not_before: float = 0.0
    exchange_type: ExchangeType = ExchangeType.CREATE_CHILD_SA
    exclusive: bool = False
    outlives_ike_sa: bool = True

    def request(self, sa: IkeSa, now: float) -> list[Payload] | None:
        """SA, Ni, KEi if a proposal has a key exchange, TSi, TSr."""
        if not sa.is_up or (self.selectors is None and (self._is_there(sa) or self._waits_for_rekey(sa))):
            return None
        nonce = sa.services.random(NONCE_LENGTH)
        self.offer = make_offer(sa, self.config, nonce, in_auth=False, method=self.method, selectors=self.selectors)
        return request_payloads(self.offer)

    def response(self, sa: IkeSa, payloads: Sequence[Payload], now: float) -> None:
        """Take the child, or try again as the peer asks, or tell why there is none."""
        offer = self.offer
        assert offer is not None
        if not sa.is_up:  # it is being deleted, and what the peer made goes with it (§1.4.1)
            self.abandon(sa, now)
            return
        self.offer = None
        nonce = first(payloads, NoncePayload)
        refusal = error_of(payloads)
        if refusal is not None or nonce is None:
            sa.services.release_spi(offer.spi)
            self._refused(sa, offer, refusal, now)
            return
        try:
            child = accept_answer(sa, offer, payloads, (offer.nonce, nonce.data), now, activate=True)
        except ChildRefused as problem:
            refuse_answer(sa, offer, problem, now)
            return
        announce(sa, child)
        duplicates.resolve(sa, child, now)

    def _refused(self, sa: IkeSa, offer: Offer, refusal: NotifyPayload | None, now: float) -> None:
        type_ = refusal.type if refusal is not None else NotifyType.INVALID_SYNTAX
        retry = CreateChild(self.config, self.selectors, self.method, self.attempts + 1)
        if self.attempts < MAX_ATTEMPTS:
            if type_ == NotifyType.TEMPORARY_FAILURE:
                sa.services.count(Reason.PEER_BUSY)
                retry.not_before = retry_time(sa, now)
                sa.enqueue(retry, now)
                return
            method = wanted_method(offer, refusal)
            if method is not None:
                retry.method = method
                sa.enqueue(retry, now, first=True)
                return
            if type_ == NotifyType.SINGLE_PAIR_REQUIRED and self.selectors is None:
                child_failed(sa, offer, Reason.SINGLE_PAIR_REQUIRED, "trying with the first pair")
                retry_single_pair(sa, offer, now)
                return
        child_failed(sa, offer, reason_of(type_), name_of(NotifyType, type_))

    def _is_there(self, sa: IkeSa) -> bool:
        """Whether it came up while this request waited, by a rekey whose answer was late or made by the peer, or is
        asked for already: one that the peer made may be gone before the answer to our own request is here."""
        asked = (request.exchange for request in sa.requests.outstanding.values())
        return any(
            child.config.reqid == self.config.reqid
            and child.state in (ChildState.ESTABLISHED, ChildState.REKEYING)
            and not child.delete_queued
            for child in sa.children.values()
        ) or any(
            isinstance(other, CreateChild) and other.selectors is None and other.config.reqid == self.config.reqid
            for other in asked
        )

    def _waits_for_rekey(self, sa: IkeSa) -> bool:
        """Whether a successor of one that is gone by now is asked for: it comes by that, or is asked for after that."""
        for request in sa.requests.outstanding.values():
            rekey = request.exchange
            if (
                isinstance(rekey, rekey_child.RekeyChild)
                and rekey.child.config.reqid == self.config.reqid
                and rekey.child.child_id not in sa.children
            ):
                rekey.wanted = self.config
                return True
        return False

    def abandon(self, sa: IkeSa, now: float) -> None:
        """Give the SPI back."""
        if self.offer is not None:
            sa.services.release_spi(self.offer.spi)
            self.offer = None


def request_payloads(offer: Offer) -> list[Payload]:
    """An offer as a CREATE_CHILD_SA request has it: the nonce and the key exchange behind the SA payload."""
    payloads = offer.payloads()
    at = payloads.index(offer.sa) + 1
    extra: list[Payload] = [NoncePayload(offer.nonce)]
    if offer.ke is not None:
        extra.append(KePayload(offer.ke.method, offer.ke.public))
    return [*payloads[:at], *extra, *payloads[at:]]


def retry_time(sa: IkeSa, now: float) -> float:
    """When to try again what the peer was too busy for."""
    return now + RETRY_DELAY + sa.services.uniform(RETRY_DELAY)


def wanted_method(offer: Offer, refusal: NotifyPayload | None) -> KeyExchangeMethod | None:
    """The method that INVALID_KE_PAYLOAD asks for, if it was offered and not yet tried (§1.3)."""
    if refusal is None or refusal.type != NotifyType.INVALID_KE_PAYLOAD or len(refusal.data) != 2:
        return None
    number = int.from_bytes(refusal.data, "big")
    if offer.ke is not None and number == offer.ke.method:
        return None
    return next((m for m in offered_methods(offer.config.proposals) if m == number), None)


def retry_single_pair(sa: IkeSa, offer: Offer, now: float) -> None:
    """Offer again, one selector on each side (§2.9: SINGLE_PAIR_REQUIRED)."""
    pair = single_pair(offer.tsi, offer.tsr)
    if pair is not None:
        sa.enqueue(CreateChild(offer.config, pair), now)


def single_pair(local: Selectors, remote: Selectors) -> tuple[Selectors, Selectors] | None:
    """The first selectors of each side that are of one family."""
    pairs = ((one, other) for one in local for other in remote if one.version == other.version)
    return next((((one,), (other,)) for one, other in pairs), None)


def refuse_answer(sa: IkeSa, offer: Offer, problem: ChildRefused, now: float) -> None:
    """The peer made a Child SA that we cannot take: have it deleted there, and tell."""
    child_failed(sa, offer, problem.reason, problem.detail)
    sa.enqueue(DeleteUnannounced(offer.spi), now)


def create_wanted(sa: IkeSa, now: float) -> None:
    """Ask for the children that did not fit into IKE_AUTH."""
    while sa.wanted_children:
        config = sa.settings.child(sa.wanted_children.pop(0))
        if config is not None:
            sa.enqueue(CreateChild(config), now)


def handle_request(sa: IkeSa, payloads: Sequence[Payload], now: float) -> list[Payload]:
    """Answer a request for a new child, or to rekey a child or the IKE SA; which of them, its payloads tell."""
    offer = first(payloads, SaPayload)
    nonce = first(payloads, NoncePayload)
    if offer is None or nonce is None or not offer.proposals:
        sa.services.count(Reason.INVALID_SYNTAX)
        return error(NotifyType.INVALID_SYNTAX)
    if sa.state is not IkeState.ESTABLISHED:  # it is being closed, or has a successor (§2.25.2)
        return error(NotifyType.TEMPORARY_FAILURE)
    sa.claim_inheritance(now)
    if offer.proposals[0].protocol == ProtocolId.IKE:
        return rekey_ike.handle_request(sa, offer, nonce.data, payloads, now)
    if rekey_ike.under_way(sa):  # §2.25.2
        return error(NotifyType.TEMPORARY_FAILURE)
    rekey = notify(payloads, NotifyType.REKEY_SA)
    if rekey is not None:
        return rekey_child.handle_request(sa, rekey, nonce.data, payloads, now)
    own_nonce = sa.services.random(NONCE_LENGTH)
    try:
        answer = answer_offer(sa, payloads, (nonce.data, own_nonce), now, in_auth=False)
    except ChildRefused as problem:
        return answer_refusal(sa, problem)
    announce(sa, answer.child)
    duplicates.resolve(sa, answer.child, now)
    return with_nonce(answer.payloads, own_nonce)


def answer_refusal(sa: IkeSa, problem: ChildRefused) -> list[Payload]:
    """Say no, and why in the log."""
    sa.services.count(problem.reason)
    sa.services.notice("warning", str(problem), sa, problem.reason)
    return error(problem.answer, problem.data)


def with_nonce(payloads: list[Payload], nonce: bytes) -> list[Payload]:
    """A response's payloads with the nonce behind the SA payload."""
    at = next(i for i, p in enumerate(payloads) if isinstance(p, SaPayload)) + 1
    return [*payloads[:at], NoncePayload(nonce), *payloads[at:]]
