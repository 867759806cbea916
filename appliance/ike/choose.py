"""Choosing among proposals: pure negotiation of SA payloads (RFC 7296 §2.7, §3.3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from appliance.ike.keys import IkeSuite
from appliance.ike.payloads.sa import SaPayload, WireProposal, WireTransform
from appliance.sa.algorithms import (
    ENCRYPTION,
    Encryption,
    Esn,
    Integrity,
    KeyExchangeMethod,
    Prf,
    Suite,
    TransformType,
)
from appliance.sa.proposal import Proposal, ProtocolId
from appliance.sa.spi import FIRST_SPI

_T = TransformType
_NO_INTEGRITY = WireTransform(_T.INTEG, Integrity.NONE)
_NO_KE = WireTransform(_T.KE, KeyExchangeMethod.NONE)
_ZERO_IKE_SPI = bytes(8)  # no IKE SA has it (RFC 7296 §3.1)
_NO_ESN = WireTransform(_T.ESN, Esn.NO_ESN)
_OMISSIBLE: dict[int, WireTransform] = {_T.INTEG: _NO_INTEGRITY, _T.KE: _NO_KE}
"""Types that may be left out of a proposal, and what that means (RFC 7296 §3.3.3, RFC 5282 §8)."""


@dataclass(frozen=True, slots=True)
class ChosenIke:
    """What was chosen for an IKE SA. ``spi`` is the other side's from the proposal, empty in IKE_SA_INIT."""

    number: int
    suite: IkeSuite
    spi: bytes
    transforms: tuple[WireTransform, ...]

    def to_wire(self, spi: bytes = b"") -> SaPayload:
        """The responder's SA payload, with its own SPI (8 bytes) in a rekey."""
        return SaPayload((WireProposal(self.number, ProtocolId.IKE, spi, self.transforms),))


@dataclass(frozen=True, slots=True)
class ChosenEsp:
    """What was chosen for a child. ``spi`` is the other side's; ``ke`` is NONE without a key exchange."""

    number: int
    suite: Suite
    spi: bytes
    ke: KeyExchangeMethod
    transforms: tuple[WireTransform, ...]

    def to_wire(self, spi: bytes) -> SaPayload:
        """The responder's SA payload, with its own SPI (4 bytes)."""
        return SaPayload((WireProposal(self.number, ProtocolId.ESP, spi, self.transforms),))


def to_wire(proposals: Sequence[Proposal], spi: bytes, *, ke_allowed: bool = True) -> SaPayload:
    """The offer of configured proposals, numbered from 1, all with one SPI.

    ``ke_allowed`` False leaves key exchange out of ESP proposals, as IKE_AUTH must (RFC 7296 §1.2). A proposal that has
    AEADs and other ciphers becomes two, AEADs first (RFC 5282 §8). ESP without ESN transforms offers NO_ESN; NONE of
    integrity is left out, which says the same. Proposals that become equal are offered once.
    """
    wanted: list[tuple[ProtocolId, tuple[WireTransform, ...]]] = []
    for proposal in proposals:
        for transforms in _alternatives(proposal, ke_allowed):
            if (proposal.protocol, transforms) not in wanted:
                wanted.append((proposal.protocol, transforms))
    return SaPayload(tuple(WireProposal(at, protocol, spi, ts) for at, (protocol, ts) in enumerate(wanted, 1)))


def choose_ike(offered: SaPayload, accepted: Sequence[Proposal]) -> ChosenIke | None:
    """The responder's choice for an IKE SA: the first accepted proposal that one of the offered ones satisfies.

    Within the proposal, too, our order decides. None: NO_PROPOSAL_CHOSEN. Whether the initiator's KE payload is of the
    chosen method is for the caller to see (INVALID_KE_PAYLOAD, §1.2).
    """
    for proposal, transforms in _matches(offered, accepted, ProtocolId.IKE, ke_allowed=True):
        suite = _ike_suite(transforms)
        if suite is not None and proposal.spi != _ZERO_IKE_SPI:
            return ChosenIke(proposal.number, suite, proposal.spi, transforms)
    return None


def choose_esp(offered: SaPayload, accepted: Sequence[Proposal], *, ke_allowed: bool = True) -> ChosenEsp | None:
    """The responder's choice for a child SA, as ``choose_ike``.

    ``ke_allowed`` is False in IKE_AUTH, where there is no key exchange whatever is configured (RFC 7296 §1.2).
    Otherwise configured methods are required, unless NONE is among them. Offered SPIs of 0 to 255 are never chosen
    (RFC 4303 §2.1).
    """
    for proposal, transforms in _matches(offered, accepted, ProtocolId.ESP, ke_allowed=ke_allowed):
        found = _esp_suite(transforms)
        if found is not None and int.from_bytes(proposal.spi, "big") >= FIRST_SPI:
            return ChosenEsp(proposal.number, found[0], proposal.spi, found[1], transforms)
    return None


def check_ike_choice(offered: SaPayload, response: SaPayload) -> ChosenIke | None:
    """What the responder chose from our offer. None: it is not from it, and the exchange has failed (§2.7, §3.3.6)."""
    proposal, _ = _chosen_proposal(offered, response)
    suite = None if proposal is None else _ike_suite(proposal.transforms)
    if proposal is None or suite is None or proposal.protocol != ProtocolId.IKE or proposal.spi == _ZERO_IKE_SPI:
        return None
    return ChosenIke(proposal.number, suite, proposal.spi, proposal.transforms)


def check_esp_choice(offered: SaPayload, response: SaPayload) -> ChosenEsp | None:
    """As ``check_ike_choice``, for a child SA. SPIs of 0 to 255 are refused too (RFC 4303 §2.1)."""
    proposal, _ = _chosen_proposal(offered, response)
    found = None if proposal is None else _esp_suite(proposal.transforms)
    if proposal is None or found is None or proposal.protocol != ProtocolId.ESP:
        return None
    if int.from_bytes(proposal.spi, "big") < FIRST_SPI:
        return None
    return ChosenEsp(proposal.number, found[0], proposal.spi, found[1], proposal.transforms)


def inconsistency(offered: SaPayload, response: SaPayload) -> str:
    """Why ``check_ike_choice`` or ``check_esp_choice`` gave None, for a message to a person."""
    proposal, why = _chosen_proposal(offered, response)
    return why if proposal is None else "the chosen algorithms or the SPI do not make an SA (RFC 7296 §3.3.3)"


def _wire(proposal: Proposal, type_: TransformType) -> tuple[WireTransform, ...]:
    return tuple(dict.fromkeys(WireTransform(t.type, t.id, t.key_bits) for t in proposal.of_type(type_)))


def _is_aead(transform: WireTransform) -> bool:
    return transform.id in tuple(ENCRYPTION) and ENCRYPTION[Encryption(transform.id)].aead


def _alternatives(proposal: Proposal, ke_allowed: bool) -> Iterator[tuple[WireTransform, ...]]:
    """The transforms of one configured proposal as one or two offers: AEADs, and ciphers with integrity."""
    esp = proposal.protocol is ProtocolId.ESP
    ciphers = _wire(proposal, _T.ENCR)
    aeads = tuple(t for t in ciphers if _is_aead(t))
    others = tuple(t for t in ciphers if not _is_aead(t))
    integrity = tuple(t for t in _wire(proposal, _T.INTEG) if t.id != Integrity.NONE)
    ke = _wire(proposal, _T.KE)
    if esp and (not ke_allowed or ke == (_NO_KE,)):
        ke = ()
    tail = (*ke, *((_wire(proposal, _T.ESN) or (_NO_ESN,)) if esp else ()))
    prfs = () if esp else _wire(proposal, _T.PRF)
    if aeads:
        yield (*aeads, *prfs, *tail)
    if others:
        yield (*others, *integrity, *prfs, *tail)


def _matches(
    offered: SaPayload, accepted: Sequence[Proposal], protocol: ProtocolId, *, ke_allowed: bool
) -> Iterator[tuple[WireProposal, tuple[WireTransform, ...]]]:
    """Offered proposals with the transforms chosen from them, best first."""
    if offered.proposals[0].number != 1:  # §3.3.1
        return
    for proposal in accepted:
        if proposal.protocol is not protocol:
            continue
        for alternative in _alternatives(proposal, ke_allowed):
            for offer in offered.proposals:
                if offer.protocol == protocol:
                    chosen = _match(offer, alternative)
                    if chosen is not None:
                        yield offer, chosen


def _match(offer: WireProposal, accepted: tuple[WireTransform, ...]) -> tuple[WireTransform, ...] | None:
    """One transform of each offered type that is accepted, in the order of ``accepted``; None if there are not."""
    offered: dict[int, list[WireTransform]] = {}
    for transform in offer.transforms:
        offered.setdefault(transform.type, []).append(transform)
    ours: dict[int, list[WireTransform]] = {}
    for transform in accepted:
        ours.setdefault(transform.type, []).append(transform)
    chosen: list[WireTransform] = []
    for kind in [*ours, *(k for k in offered if k not in ours)]:
        absent = [_OMISSIBLE[kind]] if kind in _OMISSIBLE else []
        mine, theirs = ours.get(kind, absent), offered.get(kind, absent)
        # Equal in every field, so never with unknown attributes, nor with another key length (§3.3.6).
        pick = next((t for t in mine if t in theirs), None)
        if pick is None:
            return None  # also for an offered type that is not understood (§3.3.6)
        if kind in offered:
            chosen.append(pick)
    return tuple(chosen)


def _chosen_proposal(offered: SaPayload, response: SaPayload) -> tuple[WireProposal | None, str]:
    """The answer's one proposal if it is from the offer, else why it is not."""
    if len(response.proposals) != 1:
        return None, f"{len(response.proposals)} proposals in an answer (RFC 7296 §3.3)"
    answer = response.proposals[0]
    offer = next((p for p in offered.proposals if p.number == answer.number), None)
    if offer is None or offer.protocol != answer.protocol:
        return None, f"proposal {answer.number} of the answer was not offered (RFC 7296 §3.3.1)"
    if len(offer.spi) != len(answer.spi):
        return None, f"the answer has an SPI of {len(answer.spi)} bytes (RFC 7296 §3.3.1)"
    kinds = [t.type for t in answer.transforms]
    if len(set(kinds)) != len(kinds):
        return None, "the answer has several transforms of one type (RFC 7296 §3.3.6)"
    for transform in answer.transforms:
        if transform.unknown_attributes or transform not in offer.transforms:
            return None, f"the answer has {describe_transform(transform)}, which was not offered (RFC 7296 §3.3.6)"
    for kind in {t.type for t in offer.transforms} - set(kinds):
        if kind not in _OMISSIBLE or _OMISSIBLE[kind] not in offer.transforms:
            return None, f"the answer has no transform of type {kind} (RFC 7296 §3.3.6)"
    return answer, ""


def _by_type(transforms: Sequence[WireTransform]) -> dict[int, WireTransform]:
    return {t.type: t for t in transforms}


def _cipher(chosen: dict[int, WireTransform]) -> tuple[Encryption, int, Integrity] | None:
    """Encryption, key bits and integrity, if they make an authenticated cipher with a legal key length."""
    encr, integ = chosen.get(_T.ENCR), chosen.get(_T.INTEG, _NO_INTEGRITY)
    if encr is None or encr.id not in tuple(Encryption) or integ.id not in tuple(Integrity):
        return None
    encryption, integrity = Encryption(encr.id), Integrity(integ.id)
    spec = ENCRYPTION[encryption]
    if spec.key_length_attribute != (encr.key_bits is not None):  # §3.3.5: variable ciphers have it, fixed ones not
        return None
    bits = spec.key_bits[0] if encr.key_bits is None else encr.key_bits
    if bits not in spec.key_bits or spec.aead != (integrity is Integrity.NONE):
        return None
    return encryption, bits, integrity


def _ike_suite(transforms: Sequence[WireTransform]) -> IkeSuite | None:
    chosen = _by_type(transforms)
    cipher = _cipher(chosen)
    prf, ke = chosen.get(_T.PRF), chosen.get(_T.KE)
    if cipher is None or prf is None or ke is None or set(chosen) - {_T.ENCR, _T.INTEG, _T.PRF, _T.KE}:
        return None
    if cipher[0] is Encryption.NULL or ke.id == KeyExchangeMethod.NONE:
        return None
    if prf.id not in tuple(Prf) or ke.id not in tuple(KeyExchangeMethod):
        return None
    return IkeSuite(*cipher, Prf(prf.id), KeyExchangeMethod(ke.id))


def _esp_suite(transforms: Sequence[WireTransform]) -> tuple[Suite, KeyExchangeMethod] | None:
    chosen = _by_type(transforms)
    cipher = _cipher(chosen)
    ke, esn = chosen.get(_T.KE, _NO_KE), chosen.get(_T.ESN)
    if cipher is None or esn is None or set(chosen) - {_T.ENCR, _T.INTEG, _T.KE, _T.ESN}:
        return None
    if esn.id not in tuple(Esn) or ke.id not in tuple(KeyExchangeMethod):
        return None
    return Suite(*cipher, esn=esn.id == Esn.ESN), KeyExchangeMethod(ke.id)


# strongSwan's words for algorithms, also for those that are not implemented here: an offer is to be understood.
_ENCR_NAMES = {
    2: "des", 3: "3des", 7: "blowfish", 11: "null", 12: "aes{}", 13: "aes{}ctr", 14: "aes{}ccm8", 15: "aes{}ccm12",
    16: "aes{}ccm16", 18: "aes{}gcm8", 19: "aes{}gcm12", 20: "aes{}gcm16", 21: "aes{}gmac", 23: "camellia{}",
    24: "camellia{}ctr", 25: "camellia{}ccm8", 26: "camellia{}ccm12", 27: "camellia{}ccm16", 28: "chacha20poly1305",
}  # fmt: skip
_PRF_NAMES = {
    1: "prfmd5",
    2: "prfsha1",
    4: "prfaesxcbc",
    5: "prfsha256",
    6: "prfsha384",
    7: "prfsha512",
    8: "prfaescmac",
}
_INTEG_NAMES = {
    1: "md5", 2: "sha1", 5: "aesxcbc", 6: "md5_128", 7: "sha1_160", 8: "aescmac", 12: "sha256", 13: "sha384",
    14: "sha512",
}  # fmt: skip
_KE_NAMES = {
    0: "modpnone", 1: "modp768", 2: "modp1024", 5: "modp1536", 14: "modp2048", 15: "modp3072", 16: "modp4096",
    17: "modp6144", 18: "modp8192", 19: "ecp256", 20: "ecp384", 21: "ecp521", 22: "modp1024s160", 23: "modp2048s224",
    24: "modp2048s256", 25: "ecp192", 26: "ecp224", 27: "ecp224bp", 28: "ecp256bp", 29: "ecp384bp", 30: "ecp512bp",
    31: "x25519", 32: "x448", 35: "mlkem512", 36: "mlkem768", 37: "mlkem1024",
}  # fmt: skip
_SHOWN_ORDER: tuple[int, ...] = (_T.ENCR, _T.INTEG, _T.PRF, _T.KE, _T.ESN)
_PREFIXES: dict[int, str] = {ProtocolId.IKE: "", ProtocolId.ESP: "", ProtocolId.AH: "ah:"}
_MAX_SHOWN_PROPOSALS = 16
_MAX_SHOWN_TRANSFORMS = 64
_NAMES: dict[int, tuple[str, dict[int, str]]] = {
    _T.ENCR: ("encr", _ENCR_NAMES),
    _T.INTEG: ("integ", _INTEG_NAMES),
    _T.PRF: ("prf", _PRF_NAMES),
    _T.KE: ("ke", _KE_NAMES),
    _T.ESN: ("esn", {0: "noesn", 1: "esn"}),
}


def describe_transform(transform: WireTransform) -> str:
    """One transform in strongSwan's notation, "aes256gcm16"; unknown ones by number, "encr_99_256"."""
    kind, names = _NAMES.get(transform.type, (f"type{transform.type}", {}))
    known = names.get(transform.id)
    extra = "?" if transform.unknown_attributes else ""
    if known is None:
        return f"{kind}_{transform.id}" + ("" if transform.key_bits is None else f"_{transform.key_bits}") + extra
    return known.format("" if transform.key_bits is None else transform.key_bits) + extra


def describe_offer(offered: SaPayload) -> str:
    """All proposals in strongSwan's notation: "aes256gcm16-prfsha384-ecp384, aes128-sha256-prfsha256-x25519".

    A "?" marks transforms with attributes that are not understood. NONE of integrity is not shown. What exceeds 16
    proposals or 64 transforms in one is only counted: anybody can send an offer that would fill the log.
    """
    shown = [_describe(p) for p in offered.proposals[:_MAX_SHOWN_PROPOSALS]]
    if len(offered.proposals) > _MAX_SHOWN_PROPOSALS:
        shown.append(f"and {len(offered.proposals) - _MAX_SHOWN_PROPOSALS} more")
    return ", ".join(shown) or "nothing"


def describe_proposals(accepted: Sequence[Proposal], *, ke_allowed: bool = True) -> str:
    """Configured proposals, as they would be offered, in the notation of ``describe_offer``."""
    return describe_offer(to_wire(accepted, b"", ke_allowed=ke_allowed))


def _describe(proposal: WireProposal) -> str:
    transforms = proposal.transforms[:_MAX_SHOWN_TRANSFORMS]
    known = [t for kind in _SHOWN_ORDER for t in transforms if t.type == kind and t != _NO_INTEGRITY]
    words = [describe_transform(t) for t in (*known, *(t for t in transforms if t.type not in _SHOWN_ORDER))]
    if len(proposal.transforms) > _MAX_SHOWN_TRANSFORMS:
        words.append(f"and {len(proposal.transforms) - _MAX_SHOWN_TRANSFORMS} more")
    return _PREFIXES.get(proposal.protocol, "?:") + ("-".join(words) or "nothing")
