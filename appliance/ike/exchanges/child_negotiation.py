"""What IKE_AUTH and CREATE_CHILD_SA have in common: offering a Child SA, answering the offer, making both SAs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from appliance.ike.child_sa import ChildSa
from appliance.ike.choose import (
    ChosenEsp,
    check_esp_choice,
    choose_esp,
    describe_offer,
    describe_proposals,
    inconsistency,
    to_wire,
)
from appliance.ike.connection import ChildConfig, ConnectionConfig
from appliance.ike.constants import NotifyType
from appliance.ike.events import ChildFailed, ChildUp
from appliance.ike.ike_sa import IkeSa
from appliance.ike.ke import InvalidKeyExchange, KeyExchange, generate
from appliance.ike.keys import derive_child_keys
from appliance.ike.narrowing import is_subset, narrow, same_families, with_address
from appliance.ike.payloads import KePayload, NotifyPayload, Payload, SaPayload, TsPayload, first, notify
from appliance.reasons import Reason, Refusal
from appliance.sa.algorithms import KeyExchangeMethod, TransformType
from appliance.sa.association import Direction, Lifetime, Limits, Mode, SecurityAssociation
from appliance.sa.proposal import Proposal
from appliance.sa.selector import TrafficSelector

Selectors = tuple[TrafficSelector, ...]

MAX_CHILDREN = 1024
"""More Child SAs than this in one IKE SA are refused with NO_ADDITIONAL_SAS."""
SOFT_SHARE = 0.9
"""Share of a byte or packet limit at which a rekey is asked for; up to a tenth less by chance."""


class ChildRefused(Refusal):
    """A Child SA was not agreed on. ``answer`` is what a responder sends, ``data`` goes with it."""

    def __init__(self, reason: Reason, detail: str, answer: NotifyType, data: bytes = b"") -> None:
        super().__init__(reason, detail)
        self.answer = answer
        self.data = data


@dataclass(slots=True)
class Offer:
    """A Child SA that we offered, until its answer. ``ke`` is None in IKE_AUTH and where no proposal asks for one."""

    config: ChildConfig
    spi: int
    nonce: bytes
    ke: KeyExchange | None
    sa: SaPayload
    tsi: Selectors
    tsr: Selectors

    def payloads(self) -> list[Payload]:
        """SA, TSi, TSr, and the notification of transport mode; without nonce and KE, which IKE_AUTH has not."""
        payloads: list[Payload] = [self.sa, TsPayload(True, self.tsi), TsPayload(False, self.tsr)]
        if self.config.mode is Mode.TRANSPORT:
            payloads.insert(0, NotifyPayload(NotifyType.USE_TRANSPORT_MODE))
        return payloads


def offered_methods(proposals: Sequence[Proposal]) -> list[KeyExchangeMethod]:
    """The key exchange methods of ESP proposals, preferred first."""
    methods = [KeyExchangeMethod(t.id) for p in proposals for t in p.of_type(TransformType.KE)]
    return [method for method in dict.fromkeys(methods) if method is not KeyExchangeMethod.NONE]


def make_offer(
    sa: IkeSa,
    config: ChildConfig,
    nonce: bytes,
    *,
    in_auth: bool,
    method: KeyExchangeMethod | None = None,
    selectors: tuple[Selectors, Selectors] | None = None,
) -> Offer:
    """Offer a Child SA. ``selectors`` (ours, the peer's) replace the configured ones, ``method`` the preferred one."""
    methods = [] if in_auth else offered_methods(config.proposals)
    chosen = method or (methods[0] if methods else None)
    ke = generate(chosen, sa.services.random) if chosen is not None else None
    spi = sa.services.allocate_spi()
    local, remote = selectors or (config.local_ts, config.remote_ts)
    # The keys of IKE_AUTH's child come from the IKE SA's own key exchange (RFC 7296 §1.2).
    wire = to_wire(config.proposals, spi.to_bytes(4, "big"), ke_allowed=not in_auth)
    return Offer(config, spi, nonce, ke, wire, local, remote)


def accept_answer(
    sa: IkeSa, offer: Offer, payloads: Sequence[Payload], nonces: tuple[bytes, bytes], now: float, *, activate: bool
) -> ChildSa:
    """Check a responder's answer and make the Child SA; the caller has dealt with error notifications.

    ``nonces`` are the initiator's and the responder's of this exchange. Raises ChildRefused.
    """
    sa_payload, tsi, tsr = first(payloads, SaPayload), _selectors(payloads, True), _selectors(payloads, False)
    if sa_payload is None or tsi is None or tsr is None:
        raise ChildRefused(Reason.INVALID_SYNTAX, "the answer lacks SA or TS payloads", NotifyType.INVALID_SYNTAX)
    chosen = check_esp_choice(offer.sa, sa_payload)
    if chosen is None:
        detail = inconsistency(offer.sa, sa_payload)
        raise ChildRefused(Reason.NO_PROPOSAL_CHOSEN, detail, NotifyType.NO_PROPOSAL_CHOSEN)
    if offer.config.mode is Mode.TRANSPORT and notify(payloads, NotifyType.USE_TRANSPORT_MODE) is None:
        # RFC 7296 §1.3.1: a tunnel that the initiator does not want is to be deleted.
        raise ChildRefused(Reason.NO_PROPOSAL_CHOSEN, "the peer declined transport mode", NotifyType.NO_PROPOSAL_CHOSEN)
    offered_i, offered_r = offer.tsi, offer.tsr
    if offer.config.mode is Mode.TRANSPORT and sa.encapsulated:
        tsi, tsr = with_address(tsi, sa.local.address), with_address(tsr, sa.remote.address)
        offered_i = with_address(offered_i, sa.local.address)
        offered_r = with_address(offered_r, sa.remote.address)
    if not (is_subset(tsi, offered_i) and is_subset(tsr, offered_r)):
        detail = f"the peer's answer {_text(tsi)} to {_text(tsr)} is outside of what was offered"
        raise ChildRefused(Reason.TS_UNACCEPTABLE, detail, NotifyType.TS_UNACCEPTABLE)
    if not same_families(tsi, tsr):
        detail = f"{_text(tsi)} to {_text(tsr)} match no packet"
        raise ChildRefused(Reason.TS_UNACCEPTABLE, detail, NotifyType.TS_UNACCEPTABLE)
    shared = b""
    if chosen.ke is not KeyExchangeMethod.NONE:
        shared = _shared(offer.ke, chosen, payloads)
    child = _make(sa, offer.config, chosen, (offer.spi, _spi(chosen)), (tsi, tsr), nonces, shared, now, True, activate)
    _heed_tfc(child, payloads)
    return child


@dataclass(slots=True)
class Answer:
    """What a responder answers to an offer, and the Child SA that it made."""

    child: ChildSa
    payloads: list[Payload]


def answer_offer(
    sa: IkeSa,
    payloads: Sequence[Payload],
    nonces: tuple[bytes, bytes],
    now: float,
    *,
    in_auth: bool,
    replaces: ChildSa | None = None,
) -> Answer:
    """Answer the SA, TS and KE payloads of a request. ``nonces`` are the initiator's and ours. Raises ChildRefused.

    Keys and SPIs are taken only after everything else was agreed on.
    """
    sa_payload, tsi, tsr = first(payloads, SaPayload), _selectors(payloads, True), _selectors(payloads, False)
    if sa_payload is None or tsi is None or tsr is None:
        raise ChildRefused(Reason.INVALID_SYNTAX, "the request lacks SA or TS payloads", NotifyType.INVALID_SYNTAX)
    if replaces is None and len(sa.children) >= MAX_CHILDREN:
        raise ChildRefused(
            Reason.NO_ADDITIONAL_SAS, f"{MAX_CHILDREN} Child SAs are the limit", NotifyType.NO_ADDITIONAL_SAS
        )
    transport = notify(payloads, NotifyType.USE_TRANSPORT_MODE) is not None
    if transport and sa.encapsulated:  # RFC 7296 §2.23.1: the peer's addresses are those it has behind its NAT
        tsi, tsr = with_address(tsi, sa.remote.address), with_address(tsr, sa.local.address)
    config, local, remote = _match_config(sa, tsi, tsr, transport, replaces)
    chosen = choose_esp(sa_payload, config.proposals, ke_allowed=not in_auth)
    if chosen is None:
        accepted = describe_proposals(config.proposals, ke_allowed=not in_auth)
        detail = f"offered: {describe_offer(sa_payload)}; accepted here: {accepted}"
        raise ChildRefused(Reason.NO_PROPOSAL_CHOSEN, detail, NotifyType.NO_PROPOSAL_CHOSEN)
    ke_answer, shared = _answer_ke(sa, chosen, payloads)
    spi = sa.services.allocate_spi()
    child = _make(
        sa, config, chosen, (spi, _spi(chosen)), (local, remote), nonces, shared, now, False, replaces is None
    )
    _heed_tfc(child, payloads)
    answer: list[Payload] = [chosen.to_wire(spi.to_bytes(4, "big"))]
    if ke_answer is not None:
        answer.append(ke_answer)
    answer += [TsPayload(True, remote), TsPayload(False, local)]
    if transport:
        answer.insert(0, NotifyPayload(NotifyType.USE_TRANSPORT_MODE))
    return Answer(child, answer)


def _heed_tfc(child: ChildSa, payloads: Sequence[Payload]) -> None:
    """Send no TFC padding to a peer that says it takes none (RFC 7296 §1.3.1)."""
    if notify(payloads, NotifyType.ESP_TFC_PADDING_NOT_SUPPORTED) is not None:
        child.outbound = replace(child.outbound, tfc_padding=0)


def has_child_for(connection: ConnectionConfig, payloads: Sequence[Payload]) -> bool:
    """Whether one of a connection's children overlaps with the selectors of a request."""
    tsi, tsr = _selectors(payloads, True), _selectors(payloads, False)
    if tsi is None or tsr is None:
        return False
    return any(narrow(child.local_ts, tsr) and narrow(child.remote_ts, tsi) for child in connection.children)


def _match_config(
    sa: IkeSa, tsi: Selectors, tsr: Selectors, transport: bool, replaces: ChildSa | None
) -> tuple[ChildConfig, Selectors, Selectors]:
    """The child an offer is for: the rekeyed one, else one with just these selectors, else the first that overlaps."""
    configs = sa.settings.children
    if replaces is not None:
        current = sa.settings.child(replaces.config.name)
        configs = (current or replaces.config,)
    mode = Mode.TRANSPORT if transport else Mode.TUNNEL
    found: tuple[ChildConfig, Selectors, Selectors] | None = None
    wrong_mode = None
    for config in configs:
        local, remote = narrow(config.local_ts, tsr), narrow(config.remote_ts, tsi)
        if not local or not remote or not same_families(local, remote):
            continue
        if config.mode is not mode:
            wrong_mode = wrong_mode or config
            continue
        if set(local) == set(config.local_ts) and set(remote) == set(config.remote_ts):
            return config, local, remote
        found = found or (config, local, remote)
    if found is not None:
        return found
    if wrong_mode is not None:
        detail = f"the peer asks for {mode.value} mode, child {wrong_mode.name} has mode {wrong_mode.mode.value}"
        raise ChildRefused(Reason.NO_PROPOSAL_CHOSEN, detail, NotifyType.NO_PROPOSAL_CHOSEN)
    here = "; ".join(f"{c.name}: {_text(c.local_ts)} to {_text(c.remote_ts)}" for c in configs) or "no child"
    detail = f"the peer offers {_text(tsr)} here to {_text(tsi)} there; configured: {here}"
    raise ChildRefused(Reason.TS_UNACCEPTABLE, detail, NotifyType.TS_UNACCEPTABLE)


def _answer_ke(sa: IkeSa, chosen: ChosenEsp, payloads: Sequence[Payload]) -> tuple[KePayload | None, bytes]:
    if chosen.ke is KeyExchangeMethod.NONE:
        return None, b""
    theirs = first(payloads, KePayload)
    if theirs is None or theirs.method != chosen.ke:
        detail = f"{chosen.ke.name.lower()} is wanted"
        raise ChildRefused(
            Reason.INVALID_KE_PAYLOAD, detail, NotifyType.INVALID_KE_PAYLOAD, chosen.ke.to_bytes(2, "big")
        )
    ke = generate(chosen.ke, sa.services.random)
    try:
        shared = ke.shared(theirs.data)
    except InvalidKeyExchange as error:
        raise ChildRefused(Reason.INVALID_SYNTAX, str(error), NotifyType.INVALID_SYNTAX) from error
    return KePayload(ke.method, ke.public), shared


def _shared(ke: KeyExchange | None, chosen: ChosenEsp, payloads: Sequence[Payload]) -> bytes:
    theirs = first(payloads, KePayload)
    if ke is None or theirs is None or theirs.method != ke.method or chosen.ke is not ke.method:
        raise ChildRefused(
            Reason.INVALID_KE_PAYLOAD, "the answer's key exchange is not the one offered", NotifyType.INVALID_SYNTAX
        )
    try:
        return ke.shared(theirs.data)
    except InvalidKeyExchange as error:
        raise ChildRefused(Reason.INVALID_SYNTAX, str(error), NotifyType.INVALID_SYNTAX) from error


def _make(
    sa: IkeSa,
    config: ChildConfig,
    chosen: ChosenEsp,
    spis: tuple[int, int],
    selectors: tuple[Selectors, Selectors],
    nonces: tuple[bytes, bytes],
    shared: bytes,
    now: float,
    initiated: bool,
    activate: bool,
) -> ChildSa:
    """Derive the keys, make both SAs. The event with the keys is emitted by ``announce``."""
    services = sa.services
    spi_in, spi_out = spis
    inbound_encapsulation, outbound_encapsulation = sa.encapsulation
    common = {
        "suite": chosen.suite,
        "mode": config.mode,
        "local_ts": selectors[0],
        "remote_ts": selectors[1],
        "reqid": config.reqid,
        "child": f"{sa.connection_name}/{config.name}",
        "replay_window": config.replay_window,
        "tfc_padding": config.tfc_padding,
        "dscp": config.dscp,
        "df": config.df,
        "handling": config.handling,
    }
    inbound = SecurityAssociation(
        direction=Direction.IN,
        spi=spi_in,
        source=sa.remote.address,
        destination=sa.local.address,
        encapsulation=inbound_encapsulation,
        lifetime=_lifetime(sa, config),
        **common,  # type: ignore[arg-type]  # one mapping for both, each key of its field's type
    )
    outbound = SecurityAssociation(
        direction=Direction.OUT,
        spi=spi_out,
        source=sa.local.address,
        destination=sa.remote.address,
        encapsulation=outbound_encapsulation,
        lifetime=_lifetime(sa, config),
        **common,  # type: ignore[arg-type]
    )
    assert sa.suite is not None and sa.keys is not None
    of_initiator, of_responder = derive_child_keys(
        sa.suite.prf, sa.keys.sk_d, chosen.suite, nonces[0], nonces[1], shared
    )
    child = ChildSa(
        child_id=services.new_child_id(),
        config=config,
        inbound=inbound,
        outbound=outbound,
        initiated=initiated,
        nonces=nonces,
        established_at=now,
        rekey_at=services.rekey_time(config.lifetime, now),
        expires_at=now + config.lifetime.seconds,
    )
    child.pending_keys = (of_responder, of_initiator) if initiated else (of_initiator, of_responder)
    child.activate = activate
    return child


def announce(sa: IkeSa, child: ChildSa, *, replaces: ChildSa | None = None) -> None:
    """Enter a Child SA into its IKE SA and hand both SAs and their keys to the datapath."""
    assert child.pending_keys is not None
    inbound_keys, outbound_keys = child.pending_keys
    child.pending_keys = None
    sa.children[child.child_id] = child
    sa.services.owners[child.child_id] = sa
    sa.services.touched.add(sa.ike_id)
    sa.services.emit(
        ChildUp(
            child_id=child.child_id,
            ike_id=sa.ike_id,
            connection=sa.connection_name or "",
            child=child.config.name,
            inbound=child.inbound,
            outbound=child.outbound,
            inbound_keys=inbound_keys,
            outbound_keys=outbound_keys,
            activate=child.activate,
            replaces=replaces.child_id if replaces is not None else None,
        )
    )
    if child.spi_out in sa.early_deletes:
        # The peer made it and deleted it before its answer arrived here.
        sa.early_deletes.remove(child.spi_out)
        sa.remove_child(child, Reason.DELETED_BY_PEER, f"by {sa.remote}, at once")


def discard(sa: IkeSa, child: ChildSa, *, release: bool = True) -> None:
    """Forget a Child SA that was never announced. ``release`` its SPI too, if the peer does not know it."""
    if child.pending_keys is not None:
        for keys in child.pending_keys:
            keys.wipe()
        child.pending_keys = None
    if release:
        sa.services.release_spi(child.spi_in)


def _lifetime(sa: IkeSa, config: ChildConfig) -> Lifetime:
    """Limits for the datapath. Its hard time limit is the child's own; soft time limits are the engine's timers."""

    def soft(limit: int | None) -> int | None:
        return None if limit is None else max(1, int(limit * SOFT_SHARE - sa.services.uniform(limit / 10)))

    return Lifetime(
        soft=Limits(bytes=soft(config.bytes), packets=soft(config.packets)),
        hard=Limits(seconds=config.lifetime.seconds, bytes=config.bytes, packets=config.packets),
    )


def _selectors(payloads: Sequence[Payload], initiator: bool) -> Selectors | None:
    found = [p for p in payloads if isinstance(p, TsPayload) and p.initiator is initiator]
    return found[0].selectors if found else None


def _spi(chosen: ChosenEsp) -> int:
    return int.from_bytes(chosen.spi, "big")


def _text(selectors: Sequence[TrafficSelector]) -> str:
    return ", ".join(str(ts) for ts in selectors) or "nothing"


ERRORS: dict[int, Reason] = {
    NotifyType.NO_PROPOSAL_CHOSEN: Reason.NO_PROPOSAL_CHOSEN,
    NotifyType.TS_UNACCEPTABLE: Reason.TS_UNACCEPTABLE,
    NotifyType.SINGLE_PAIR_REQUIRED: Reason.SINGLE_PAIR_REQUIRED,
    NotifyType.NO_ADDITIONAL_SAS: Reason.NO_ADDITIONAL_SAS,
    NotifyType.TEMPORARY_FAILURE: Reason.PEER_BUSY,
    NotifyType.CHILD_SA_NOT_FOUND: Reason.CHILD_SA_NOT_FOUND,
    NotifyType.INVALID_KE_PAYLOAD: Reason.INVALID_KE_PAYLOAD,
    NotifyType.AUTHENTICATION_FAILED: Reason.PEER_REFUSED_AUTHENTICATION,
    NotifyType.INVALID_SYNTAX: Reason.INVALID_SYNTAX,
    NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD: Reason.UNSUPPORTED_CRITICAL_PAYLOAD,
    NotifyType.INVALID_MAJOR_VERSION: Reason.INVALID_MAJOR_VERSION,
}
"""Error notifications and the reasons they are shown as; others are PEER_ERROR."""


def error_of(payloads: Sequence[Payload]) -> NotifyPayload | None:
    """The first error notification: types below 16384 are errors (RFC 7296 §3.10.1)."""
    return next((p for p in payloads if isinstance(p, NotifyPayload) and p.type < 16384), None)


def reason_of(type_: int) -> Reason:
    """How an error notification is shown."""
    return ERRORS.get(type_, Reason.PEER_ERROR)


def child_failed(sa: IkeSa, offer: Offer, reason: Reason, detail: str) -> None:
    """Tell that a child that we asked for was not made, with what was offered."""
    sa.services.count(reason)
    if reason is Reason.NO_PROPOSAL_CHOSEN:
        detail = f"{detail}; offered: {describe_offer(offer.sa)}"
    elif reason is Reason.TS_UNACCEPTABLE:
        detail = f"{detail}; offered: {_text(offer.tsi)} here to {_text(offer.tsr)} there"
    sa.services.emit(ChildFailed(sa.ike_id, sa.connection_name or "", offer.config.name, reason, detail))
