"""CREATE_CHILD_SA with REKEY_SA: a successor for a Child SA, whoever asks first (RFC 7296 §1.3.3, §2.8, §2.25.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from appliance.ike.child_sa import ChildSa, ChildState
from appliance.ike.connection import ChildConfig
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
    discard,
    error_of,
    make_offer,
    reason_of,
)
from appliance.ike.exchanges.informational import DeleteUnannounced, delete_child
from appliance.ike.ike_sa import IkeSa, error
from appliance.ike.payloads import NoncePayload, NotifyPayload, Payload, first
from appliance.reasons import Reason
from appliance.sa.algorithms import KeyExchangeMethod
from appliance.sa.proposal import ProtocolId


@dataclass(slots=True)
class RekeyChild:
    """Our request for a child's successor. ``wanted`` is to be made anew if there is none and the child is gone."""

    child: ChildSa
    method: KeyExchangeMethod | None = None
    attempts: int = 1
    single_pair: bool = False
    wanted: ChildConfig | None = None
    offer: Offer | None = None
    not_before: float = 0.0
    exchange_type: ExchangeType = ExchangeType.CREATE_CHILD_SA
    exclusive: bool = False
    outlives_ike_sa: bool = True

    def request(self, sa: IkeSa, now: float) -> list[Payload] | None:
        """N(REKEY_SA) with our inbound SPI, and an offer with the configuration's present values."""
        child = self.child
        if not sa.is_up or child.child_id not in sa.children or child.delete_queued:
            return None
        if child.state is not ChildState.ESTABLISHED:
            return None  # the peer was first
        child.state = ChildState.REKEYING
        config = sa.settings.child(child.config.name) or child.config
        nonce = sa.services.random(create_child.NONCE_LENGTH)
        selectors = create_child.single_pair(child.inbound.local_ts, child.inbound.remote_ts)
        self.offer = make_offer(
            sa, config, nonce, in_auth=False, method=self.method, selectors=selectors if self.single_pair else None
        )
        rekey = NotifyPayload(NotifyType.REKEY_SA, protocol=ProtocolId.ESP, spi=child.spi_in.to_bytes(4, "big"))
        return [rekey, *create_child.request_payloads(self.offer)]

    def response(self, sa: IkeSa, payloads: Sequence[Payload], now: float) -> None:
        """Use the successor and delete the old one; or find that the peer's own rekey won."""
        offer, child = self.offer, self.child
        assert offer is not None
        if not sa.is_up:  # it is being deleted, and what the peer made goes with it (§1.4.1)
            self.abandon(sa, now)
            return
        self.offer = None
        nonce, refusal = first(payloads, NoncePayload), error_of(payloads)
        if refusal is not None or nonce is None:
            sa.services.release_spi(offer.spi)
            self._refused(sa, offer, refusal, now)
            return
        try:
            new = accept_answer(sa, offer, payloads, (offer.nonce, nonce.data), now, activate=True)
        except ChildRefused as problem:
            self._end_attempt(sa, now)
            create_child.refuse_answer(sa, offer, problem, now)
            return
        theirs = child.peer_successor
        if theirs is not None and theirs.child_id in sa.children:
            self._resolve(sa, new, theirs, now)
        else:
            self._succeed(sa, new, now)

    def _succeed(self, sa: IkeSa, new: ChildSa, now: float) -> None:
        child = self.child
        announce(sa, new, replaces=child)
        child.successor = new
        if child.child_id in sa.children:  # else the peer deleted it in the meantime
            # Make before break (§2.8): it is deleted when a datapath carries its successor.
            child.state, child.awaiting = ChildState.REKEYED, True

    def _resolve(self, sa: IkeSa, new: ChildSa, theirs: ChildSa, now: float) -> None:
        """Both sides rekeyed at once: the one with the lowest of the four nonces is deleted by who made it (§2.8.1)."""
        sa.services.counters["child-rekey-collisions"] += 1
        if min(new.nonces) < min(theirs.nonces):
            self.child.successor = theirs
            self.child.state = ChildState.REKEYED
            # Its SPI stays taken until the peer has answered, so it is not released here but by the exchange.
            spi = new.spi_in
            discard(sa, new, release=False)
            sa.enqueue(DeleteUnannounced(spi), now)
        else:
            theirs.successor = new
            theirs.rekey_at = inf
            theirs.state = ChildState.REKEYED
            self._succeed(sa, new, now)

    def _refused(self, sa: IkeSa, offer: Offer, refusal: NotifyPayload | None, now: float) -> None:
        type_ = refusal.type if refusal is not None else NotifyType.INVALID_SYNTAX
        child = self.child
        method = create_child.wanted_method(offer, refusal)
        if self._end_attempt(sa, now):
            return  # the peer's own rekey of it succeeded, or it is gone
        if method is not None and self.attempts < create_child.MAX_ATTEMPTS:
            sa.enqueue(RekeyChild(child, method, self.attempts + 1, self.single_pair), now, first=True)
        elif type_ == NotifyType.CHILD_SA_NOT_FOUND:
            sa.services.count(Reason.CHILD_SA_NOT_FOUND)
            # §2.25: forget it and make a new one, unless there is another for the same.
            config = sa.settings.child(child.config.name) or child.config
            twin = sa.twin(child)
            sa.remove_child(child, Reason.CHILD_SA_NOT_FOUND, f"said by {sa.remote}")
            if twin is None:
                lost = child.inbound.local_ts, child.inbound.remote_ts
                others = {
                    (other.inbound.local_ts, other.inbound.remote_ts)
                    for other in sa.children.values()
                    if other.config.reqid == config.reqid
                }
                # Another part of the configured traffic is there: what is asked for is the part that was lost.
                selectors = lost if others and lost not in others else None
                sa.enqueue(create_child.CreateChild(config, selectors), now)
        elif type_ == NotifyType.TEMPORARY_FAILURE:
            sa.services.count(Reason.PEER_BUSY)
            child.rekey_at = min(child.rekey_at, create_child.retry_time(sa, now))
        elif type_ == NotifyType.SINGLE_PAIR_REQUIRED and not self.single_pair:
            retry = RekeyChild(child, self.method, self.attempts + 1, single_pair=True)
            sa.enqueue(retry, now, first=True)
        else:
            child_failed(sa, offer, reason_of(type_), f"rekey: {name_of(NotifyType, type_)}")

    def _end_attempt(self, sa: IkeSa, now: float) -> bool:
        """Our attempt ended without a successor. Returns whether nothing more is to be done for this child."""
        child = self.child
        if child.child_id not in sa.children:
            if self.wanted is not None:
                sa.enqueue(create_child.CreateChild(self.wanted), now)
            return True
        theirs = child.peer_successor
        if theirs is not None and theirs.child_id in sa.children:
            child.successor = theirs
            child.state = ChildState.REKEYED
            return True
        child.peer_successor = None
        if child.state is ChildState.REKEYING:
            child.state = ChildState.ESTABLISHED
        return False

    def abandon(self, sa: IkeSa, now: float) -> None:
        """Give the SPI back."""
        if self.offer is not None:
            sa.services.release_spi(self.offer.spi)
            self.offer = None


def carried(sa: IkeSa, child: ChildSa, now: float) -> None:
    """A datapath carries a child: delete what it is the successor of."""
    for old in list(sa.children.values()):
        successor = old.successor
        while successor is not None and successor is not child:
            successor = successor.successor
        if old.awaiting and successor is child:
            old.awaiting = False
            delete_child(sa, old, Reason.REKEYED, "", now)


def handle_request(
    sa: IkeSa, rekey: NotifyPayload, nonce: bytes, payloads: Sequence[Payload], now: float
) -> list[Payload]:
    """The peer wants a successor for one of our children (§2.25.1 for what may be under way at the same time)."""
    number = int.from_bytes(rekey.spi, "big")
    child = next((c for c in sa.children.values() if c.spi_out == number), None)
    if child is None and sa.expects_child:
        return error(NotifyType.TEMPORARY_FAILURE)  # it may be one whose answer is still on its way to us
    if child is None or rekey.protocol != ProtocolId.ESP:
        sa.services.count(Reason.CHILD_SA_NOT_FOUND)
        return [NotifyPayload(NotifyType.CHILD_SA_NOT_FOUND, protocol=rekey.protocol, spi=rekey.spi)]
    if child.delete_queued or child.state in (ChildState.DELETING, ChildState.REKEYED):
        return error(NotifyType.TEMPORARY_FAILURE)
    if child.peer_successor is not None and child.peer_successor.child_id in sa.children:
        return error(NotifyType.TEMPORARY_FAILURE)
    own_nonce = sa.services.random(create_child.NONCE_LENGTH)
    try:
        answer = answer_offer(sa, payloads, (nonce, own_nonce), now, in_auth=False, replaces=child)
    except ChildRefused as problem:
        return create_child.answer_refusal(sa, problem)
    announce(sa, answer.child, replaces=child)
    if child.state is ChildState.REKEYING:
        child.peer_successor = answer.child  # which of the two stays is known when our own answer comes
    else:
        child.successor = answer.child
        child.state = ChildState.REKEYED
    child.rekey_at = inf
    return create_child.with_nonce(answer.payloads, own_nonce)
