"""CREATE_CHILD_SA for the IKE SA itself; its successor inherits the children (RFC 7296 §1.3.2, §2.18, §2.25.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from appliance.ike.choose import (
    check_ike_choice,
    choose_ike,
    describe_offer,
    describe_proposals,
    inconsistency,
    to_wire,
)
from appliance.ike.constants import ExchangeType, NotifyType
from appliance.ike.constants import name as name_of
from appliance.ike.exchanges import create_child, rekey_child
from appliance.ike.exchanges.child_negotiation import error_of, reason_of
from appliance.ike.exchanges.informational import DeleteChild, DeleteIke, DeleteUnannounced
from appliance.ike.ike_sa import IkeSa, error
from appliance.ike.ke import InvalidKeyExchange, generate
from appliance.ike.keys import IkeSuite, derive_rekeyed_ike_keys
from appliance.ike.payloads import KePayload, NoncePayload, NotifyPayload, Payload, SaPayload, first
from appliance.ike.states import IkeState
from appliance.reasons import Reason
from appliance.sa.algorithms import KeyExchangeMethod, TransformType

RETRY_SHARE = 0.25
"""A failed rekey is tried again after this share of what is left until the IKE SA's end."""

HOLD_CHILDREN = 12.0
"""How long rekeys of children wait, if they can, once they have put off a rekey of the IKE SA: else it may never come.
It is longer than the IKE SA's rekey waits until it is tried again."""


@dataclass(slots=True)
class RekeyIke:
    """Our request for the IKE SA's successor. It goes alone: nothing else may be under way (§2.25.2)."""

    method: KeyExchangeMethod | None = None
    attempts: int = 1
    new: IkeSa | None = None
    offer: SaPayload | None = None
    not_before: float = 0.0
    exchange_type: ExchangeType = ExchangeType.CREATE_CHILD_SA
    exclusive: bool = True
    outlives_ike_sa: bool = False

    def request(self, sa: IkeSa, now: float) -> list[Payload] | None:
        """SA with the new SPI, Ni, KEi."""
        theirs = sa.peer_successor
        if not sa.is_up or (theirs is not None and theirs.state is not IkeState.DEAD):
            return None
        new = IkeSa(sa.services, initiator=True, local=sa.local, remote=sa.remote, now=now)
        _inherit(new, sa)
        methods = [KeyExchangeMethod(t.id) for p in sa.settings.ike_proposals for t in p.of_type(TransformType.KE)]
        new.ke = generate(self.method or methods[0], sa.services.random)
        new.nonce_i = sa.services.random(create_child.NONCE_LENGTH)
        self.new = new
        self.offer = to_wire(sa.settings.ike_proposals, new.spi_i)
        return [
            self.offer,
            NoncePayload(new.nonce_i),
            KePayload(new.ke.method, new.ke.public),
        ]

    def response(self, sa: IkeSa, payloads: Sequence[Payload], now: float) -> None:
        """Take over with the successor; or find that the peer's own rekey won."""
        new = self.new
        offer = self.offer
        assert new is not None and new.ke is not None and offer is not None
        self.new = None
        new.connection = sa.connection  # the configuration may have changed in the meantime
        chosen, ke, nonce = first(payloads, SaPayload), first(payloads, KePayload), first(payloads, NoncePayload)
        refusal = error_of(payloads)
        if refusal is not None or chosen is None or ke is None or nonce is None:
            self._refused(sa, new, refusal, now)
            return
        choice = check_ike_choice(offer, chosen)
        if choice is None or choice.suite.ke is not new.ke.method or ke.method != new.ke.method:
            self._fail(sa, Reason.NO_PROPOSAL_CHOSEN, inconsistency(offer, chosen), now)
            return
        try:
            shared = new.ke.shared(ke.data)
        except InvalidKeyExchange as problem:
            self._fail(sa, Reason.INVALID_SYNTAX, str(problem), now)
            return
        new.ke = None
        new.spi_r, new.nonce_r = choice.spi, nonce.data
        _set_keys(new, sa, choice.suite, shared)
        sa.services.register(new)
        sa.claim_inheritance(now)  # the peer made a successor for it, so it knows that this one stays (§2.8.1)
        theirs = sa.peer_successor
        if theirs is not None and theirs.state is not IkeState.DEAD:
            _resolve(sa, new, theirs, now)
        else:
            _take_over(sa, new, now)

    def _refused(self, sa: IkeSa, new: IkeSa, refusal: NotifyPayload | None, now: float) -> None:
        assert new.ke is not None
        theirs = sa.peer_successor
        if theirs is not None and theirs.is_up:
            theirs.adopt(sa, now)  # the peer's own rekey is the only one
            return
        if not sa.is_up:
            return  # a successor has taken over, or it is being deleted
        type_ = refusal.type if refusal is not None else NotifyType.INVALID_SYNTAX
        if type_ == NotifyType.INVALID_KE_PAYLOAD and refusal is not None and len(refusal.data) == 2:
            number = int.from_bytes(refusal.data, "big")
            ids = {t.id for p in sa.settings.ike_proposals for t in p.of_type(TransformType.KE)}
            if number in ids and number != new.ke.method and self.attempts < create_child.MAX_ATTEMPTS:
                sa.enqueue(RekeyIke(KeyExchangeMethod(number), self.attempts + 1), now, first=True)
                return
        if type_ == NotifyType.TEMPORARY_FAILURE:
            sa.services.count(Reason.PEER_BUSY)
            sa.rekey_at = create_child.retry_time(sa, now)
            sa.hold_children_until = now + HOLD_CHILDREN
            return
        self._fail(sa, reason_of(type_), name_of(NotifyType, type_), now)

    def _fail(self, sa: IkeSa, reason: Reason, detail: str, now: float) -> None:
        sa.services.count(reason)
        sa.services.notice("warning", f"rekey of the IKE SA: {reason.words}: {detail}", sa, reason)
        theirs = sa.peer_successor
        if theirs is not None and theirs.is_up:
            theirs.adopt(sa, now)  # the peer's own rekey is the only one
            return
        if not sa.is_up:
            return
        left = (sa.expires_at or now) - now
        sa.rekey_at = now + max(left * RETRY_SHARE, 5.0)

    def abandon(self, sa: IkeSa, now: float) -> None:
        """Destroy what was prepared."""
        if self.new is not None:
            self.new.wipe()
            self.new = None


def under_way(sa: IkeSa) -> bool:
    """Whether our own request to rekey the IKE SA waits for its answer."""
    return any(isinstance(request.exchange, RekeyIke) for request in sa.requests.outstanding.values())


def handle_request(sa: IkeSa, offer: SaPayload, nonce: bytes, payloads: Sequence[Payload], now: float) -> list[Payload]:
    """The peer wants a successor for the IKE SA."""
    child_exchanges = (create_child.CreateChild, rekey_child.RekeyChild, DeleteChild, DeleteUnannounced)
    if any(isinstance(request.exchange, child_exchanges) for request in sa.requests.outstanding.values()):
        sa.hold_children_until = now + HOLD_CHILDREN
        return error(NotifyType.TEMPORARY_FAILURE)  # §2.25.2
    if sa.peer_successor is not None and sa.peer_successor.state is not IkeState.DEAD:
        return error(NotifyType.TEMPORARY_FAILURE)
    accepted = sa.settings.ike_proposals
    chosen = choose_ike(offer, accepted)
    if chosen is None or len(chosen.spi) != 8 or chosen.spi == bytes(8):
        detail = f"offered: {describe_offer(offer)}; accepted here: {describe_proposals(accepted)}"
        sa.services.count(Reason.NO_PROPOSAL_CHOSEN)
        sa.services.notice("warning", f"rekey of the IKE SA: {detail}", sa, Reason.NO_PROPOSAL_CHOSEN)
        return error(NotifyType.NO_PROPOSAL_CHOSEN)
    ke = first(payloads, KePayload)
    if ke is None or ke.method != chosen.suite.ke:
        sa.services.count(Reason.INVALID_KE_PAYLOAD)
        return error(NotifyType.INVALID_KE_PAYLOAD, chosen.suite.ke.to_bytes(2, "big"))
    own = generate(chosen.suite.ke, sa.services.random)
    try:
        shared = own.shared(ke.data)
    except InvalidKeyExchange:
        sa.services.count(Reason.INVALID_SYNTAX)
        return error(NotifyType.INVALID_SYNTAX)
    new = IkeSa(sa.services, initiator=False, local=sa.local, remote=sa.remote, now=now)
    _inherit(new, sa)
    new.spi_i = chosen.spi
    new.nonce_i, new.nonce_r = nonce, sa.services.random(create_child.NONCE_LENGTH)
    _set_keys(new, sa, chosen.suite, shared)
    sa.services.register(new)
    new.establish(now, replaces=sa.ike_id)
    if under_way(sa):
        new.predecessor = sa
        sa.peer_successor = new  # which of the two stays is known when our own answer comes
    else:
        new.adopt(sa, now)
    return [chosen.to_wire(new.spi_r), NoncePayload(new.nonce_r), KePayload(own.method, own.public)]


def _take_over(sa: IkeSa, new: IkeSa, now: float) -> None:
    new.establish(now, replaces=sa.ike_id)
    new.adopt(sa, now)
    sa.enqueue(DeleteIke(Reason.REKEYED, ""), now, first=True)


def _resolve(sa: IkeSa, new: IkeSa, theirs: IkeSa, now: float) -> None:
    """Both sides rekeyed at once: the one with the lowest of the four nonces is deleted by who made it (§2.8.1)."""
    sa.services.counters["ike-rekey-collisions"] += 1
    if min(new.nonce_i, new.nonce_r) < min(theirs.nonce_i, theirs.nonce_r):
        new.state = IkeState.ESTABLISHED
        new.successor = theirs
        theirs.adopt(sa, now)
        new.enqueue(DeleteIke(Reason.REKEYED, ""), now)
    else:
        theirs.successor = new
        new.adopt(theirs, now)
        _take_over(sa, new, now)


def _inherit(new: IkeSa, old: IkeSa) -> None:
    """What does not change by a rekey."""
    new.connection, new.candidates = old.connection, old.candidates
    new.local_id, new.remote_id = old.local_id, old.remote_id
    new.peer_hashes, new.fragmentation = old.peer_hashes, old.fragmentation
    new.authenticated_until = old.authenticated_until
    new.nat_local, new.nat_remote = old.nat_local, old.nat_remote
    new.forced_encapsulation = old.forced_encapsulation
    # The peer's window starts at 1 again (§2.18); we go on to take as many as before.
    new.responses.window = old.responses.window


def _set_keys(new: IkeSa, old: IkeSa, suite: IkeSuite, shared: bytes | bytearray) -> None:
    assert old.keys is not None and old.suite is not None
    new.suite = suite
    new.set_keys(
        derive_rekeyed_ike_keys(
            old.suite.prf, old.keys.sk_d, suite, shared, new.nonce_i, new.nonce_r, new.spi_i, new.spi_r
        )
    )
