"""Choosing among proposals (RFC 7296 §2.7, §3.3)."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.ike.choose import (
    check_esp_choice,
    check_ike_choice,
    choose_esp,
    choose_ike,
    describe_offer,
    describe_proposals,
    inconsistency,
    to_wire,
)
from appliance.ike.payloads import SaPayload, WireProposal, WireTransform
from appliance.sa.algorithms import Encryption, Integrity, KeyExchangeMethod, Prf, TransformType
from appliance.sa.proposal import (
    DEFAULT_ESP_PROPOSALS,
    DEFAULT_IKE_PROPOSALS,
    Proposal,
    ProtocolId,
    format_proposal,
    parse_proposal,
)
from tests.ike.codec_strategies import proposals as wire_proposals

SPI = b"\x11\x22\x33\x44"
OURS = b"\x55\x66\x77\x88"
NO_KE = KeyExchangeMethod.NONE


def ike(*texts: str) -> tuple[Proposal, ...]:
    return tuple(parse_proposal(text, ProtocolId.IKE) for text in texts)


def esp(*texts: str) -> tuple[Proposal, ...]:
    return tuple(parse_proposal(text, ProtocolId.ESP) for text in texts)


def wire(protocol: int, *transforms: tuple[int, int] | tuple[int, int, int]) -> SaPayload:
    spi = SPI if protocol == ProtocolId.ESP else b""
    return SaPayload((WireProposal(1, protocol, spi, tuple(WireTransform(*t) for t in transforms)),))


# --- The responder's choice, IKE ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("offered", "accepted", "chosen"),
    [
        (["aes256gcm16-prfsha384-ecp384"], ["aes256gcm16-prfsha384-ecp384"], "aes256gcm16-prfsha384-ecp384"),
        (["aes256gcm16-prfsha384-ecp384"], ["aes128gcm16-prfsha384-ecp384"], None),
        (["aes256-sha256-modp2048"], ["aes256-sha256-modp2048"], "aes256-sha256-prfsha256-modp2048"),
        (["aes256-sha256-modp2048"], ["aes256gcm16-prfsha256-modp2048"], None),
        (["aes256-sha256-ecp256"], ["aes256-sha256-x25519"], None),
        (["aes256-sha256-prfsha384-ecp256"], ["aes256-sha256-prfsha256-ecp256"], None),
        # Our order decides, over proposals and within one.
        (
            ["aes128-sha256-x25519", "aes256gcm16-prfsha384-ecp384"],
            ["aes256gcm16-prfsha384-ecp384", "aes128-sha256-x25519"],
            "aes256gcm16-prfsha384-ecp384",
        ),
        (
            ["aes128gcm16-aes256gcm16-prfsha256-prfsha384-x25519-ecp384"],
            ["aes256gcm16-aes128gcm16-prfsha384-prfsha256-ecp384-x25519"],
            "aes256gcm16-prfsha384-ecp384",
        ),
        (["chacha20poly1305-prfsha512-x448"], ["chacha20poly1305-prfsha512-x448"], "chacha20poly1305-prfsha512-x448"),
    ],
)
def test_the_first_of_ours_that_was_offered_is_chosen_rfc7296_2_7(
    offered: list[str], accepted: list[str], chosen: str | None
) -> None:
    offer = to_wire(ike(*offered), b"")
    choice = choose_ike(offer, ike(*accepted))
    if chosen is None:
        assert choice is None
        return
    assert choice is not None
    answer = choice.to_wire()
    assert describe_offer(answer) == chosen
    assert check_ike_choice(offer, answer) == choice


def test_the_number_and_spi_of_the_chosen_proposal_are_told_rfc7296_3_3_1() -> None:
    offer = to_wire(ike("aes128-sha256-x25519", "aes256-sha256-x25519"), b"peer spi")
    choice = choose_ike(offer, ike("aes256-sha256-x25519"))
    assert choice is not None
    assert (choice.number, choice.spi) == (2, b"peer spi")
    answer = choice.to_wire(b"our spi!")
    assert answer.proposals[0].number == 2
    assert answer.proposals[0].spi == b"our spi!"
    checked = check_ike_choice(offer, answer)
    assert checked is not None
    assert checked.spi == b"our spi!"


def test_an_ike_spi_of_zero_is_neither_chosen_nor_taken_rfc7296_3_1() -> None:
    proposals = ike("aes256gcm16-prfsha384-ecp384")
    assert choose_ike(to_wire(proposals, bytes(8)), proposals) is None
    offer = to_wire(proposals, b"new spi!")
    choice = choose_ike(offer, proposals)
    assert choice is not None
    assert check_ike_choice(offer, choice.to_wire(bytes(8))) is None
    assert check_ike_choice(offer, choice.to_wire(bytes(7) + b"\1")) is not None


IKE_GCM = ((1, 20, 256), (2, 6), (4, 20))


@pytest.mark.parametrize(
    ("case", "transforms", "found"),
    [
        ("as it should be", IKE_GCM, True),
        ("integrity NONE beside an AEAD, RFC 5282 §8", (*IKE_GCM, (3, 0)), True),
        ("integrity NONE or HMAC beside an AEAD", (*IKE_GCM, (3, 12), (3, 0)), True),
        ("an HMAC beside an AEAD", (*IKE_GCM, (3, 12)), False),
        ("no PRF", ((1, 20, 256), (4, 20)), False),
        ("no key exchange", ((1, 20, 256), (2, 6)), False),
        ("no encryption", ((2, 6), (4, 20)), False),
        ("no key length", ((1, 20), (2, 6), (4, 20)), False),
        ("another key length", ((1, 20, 128), (2, 6), (4, 20)), False),
        ("ESN in IKE", (*IKE_GCM, (5, 0)), False),
        ("a transform type that nobody knows", (*IKE_GCM, (6, 36)), False),
        ("an algorithm that nobody knows, besides ours", ((1, 99), *IKE_GCM, (2, 99), (4, 1024)), True),
        ("nothing", (), False),
    ],
)
def test_every_offered_type_must_be_understood_and_chosen_rfc7296_3_3_6(
    case: str, transforms: tuple[tuple[int, ...], ...], found: bool
) -> None:
    choice = choose_ike(wire(1, *transforms), ike("aes256gcm16-prfsha384-ecp384"))
    assert (choice is not None) == found, case


def test_integrity_none_is_answered_if_it_was_offered_rfc7296_3_3_6() -> None:
    choice = choose_ike(wire(1, *IKE_GCM, (3, 0)), ike("aes256gcm16-prfsha384-ecp384"))
    assert choice is not None
    assert WireTransform(3, 0) in choice.transforms
    assert choice.suite.integrity is Integrity.NONE


def test_transforms_with_unknown_attributes_are_never_chosen_rfc7296_3_3_6() -> None:
    good = [WireTransform(*t) for t in IKE_GCM]
    for at, transform in enumerate(good):
        odd = WireTransform(transform.type, transform.id, transform.key_bits, True)
        bad = SaPayload((WireProposal(1, 1, b"", (*good[:at], odd, *good[at + 1 :])),))
        assert choose_ike(bad, ike("aes256gcm16-prfsha384-ecp384")) is None
        both = SaPayload((WireProposal(1, 1, b"", (odd, *good)),))
        choice = choose_ike(both, ike("aes256gcm16-prfsha384-ecp384"))
        assert choice is not None
        assert not any(t.unknown_attributes for t in choice.transforms)


def test_chacha20_has_no_key_length_attribute_rfc7634_5() -> None:
    accepted = ike("chacha20poly1305-prfsha256-x25519")
    assert choose_ike(wire(1, (1, 28), (2, 5), (4, 31)), accepted) is not None
    assert choose_ike(wire(1, (1, 28, 256), (2, 5), (4, 31)), accepted) is None


def test_an_offer_numbered_from_2_is_not_chosen_from_rfc7296_3_3_1() -> None:
    offer = SaPayload((WireProposal(2, 1, b"", tuple(WireTransform(*t) for t in IKE_GCM)),))
    assert choose_ike(offer, ike("aes256gcm16-prfsha384-ecp384")) is None


def test_a_mixed_offer_yields_the_cipher_that_fits_its_integrity_rfc5282_8() -> None:
    """Some send AEADs and HMACs in one proposal. It can be taken as one or the other, never as both."""
    mixed = wire(1, (1, 20, 256), (1, 12, 256), (3, 12), (2, 5), (4, 20))
    choice = choose_ike(mixed, ike("aes256gcm16-prfsha256-ecp384", "aes256-sha256-ecp384"))
    assert choice is not None
    assert choice.suite.encryption is Encryption.AES_CBC


# --- The responder's choice, ESP ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("offered", "accepted", "chosen"),
    [
        (["aes256gcm16-esn"], ["aes256gcm16-esn"], "aes256gcm16-esn"),
        (["aes256gcm16-esn"], ["aes256gcm16-noesn"], None),
        (["aes256gcm16"], ["aes256gcm16"], "aes256gcm16-noesn"),
        (["aes256gcm16-noesn-esn"], ["aes256gcm16-esn-noesn"], "aes256gcm16-esn"),
        (["aes256gcm16-noesn"], ["aes256gcm16-esn", "aes256gcm16-noesn"], "aes256gcm16-noesn"),
        (["aes128-sha256"], ["aes128-sha256"], "aes128-sha256-noesn"),
        (["aes128-sha256"], ["aes128-sha512"], None),
        (["null-sha256"], ["null-sha256"], "null-sha256-noesn"),
        (["chacha20poly1305"], ["aes256gcm16", "chacha20poly1305"], "chacha20poly1305-noesn"),
        # Perfect forward secrecy: what is configured is required, unless "none" is too.
        (["aes256gcm16-ecp384"], ["aes256gcm16-ecp384"], "aes256gcm16-ecp384-noesn"),
        (["aes256gcm16"], ["aes256gcm16-ecp384"], None),
        (["aes256gcm16"], ["aes256gcm16-ecp384-none"], "aes256gcm16-noesn"),
        (["aes256gcm16-ecp384"], ["aes256gcm16"], None),
        (["aes256gcm16-ecp384-none"], ["aes256gcm16"], "aes256gcm16-modpnone-noesn"),
    ],
)
def test_esp_choices_rfc7296_3_3_3(offered: list[str], accepted: list[str], chosen: str | None) -> None:
    offer = to_wire(esp(*offered), SPI)
    choice = choose_esp(offer, esp(*accepted))
    if chosen is None:
        assert choice is None
        return
    assert choice is not None
    assert choice.spi == SPI
    answer = choice.to_wire(OURS)
    assert describe_offer(answer) == chosen
    checked = check_esp_choice(offer, answer)
    assert checked is not None
    assert (checked.suite, checked.ke, checked.spi) == (choice.suite, choice.ke, OURS)


def test_ike_auth_has_no_key_exchange_whatever_is_configured_rfc7296_1_2() -> None:
    proposals = esp("aes256gcm16-ecp384", "aes256gcm16-x25519")
    offer = to_wire(proposals, SPI, ke_allowed=False)
    assert describe_offer(offer) == "aes256gcm16-noesn", "what became equal is offered once"
    choice = choose_esp(offer, proposals, ke_allowed=False)
    assert choice is not None
    assert choice.ke is NO_KE
    # A peer that offers methods there in spite of the RFC gets none of them.
    assert choose_esp(to_wire(proposals, SPI), proposals, ke_allowed=False) is None


def test_an_esp_proposal_without_esn_is_not_chosen_rfc7296_3_3_3() -> None:
    assert choose_esp(wire(3, (1, 20, 256)), esp("aes256gcm16-esn-noesn")) is None


def test_a_cipher_without_integrity_is_not_chosen_rfc8221_4() -> None:
    accepted = (Proposal(ProtocolId.ESP, tuple(t for t in esp("aes128-sha256")[0].transforms if t.type != 3)),)
    assert choose_esp(wire(3, (1, 12, 128), (5, 0)), accepted) is None
    assert choose_esp(wire(3, (1, 12, 128), (3, 0), (5, 0)), esp("aes128-sha256")) is None


@pytest.mark.parametrize(("text", "esn"), [("aes256gcm16-esn", True), ("aes256gcm16-noesn", False)])
def test_the_suite_says_whether_sequence_numbers_are_extended_rfc7296_3_3_2(text: str, esn: bool) -> None:
    offer = to_wire(esp(text), SPI)
    choice = choose_esp(offer, esp(text))
    assert choice is not None
    assert choice.suite.esn is esn
    checked = check_esp_choice(offer, choice.to_wire(OURS))
    assert checked is not None
    assert checked.suite.esn is esn


def test_the_first_spi_that_is_not_reserved_is_taken_rfc4303_2_1() -> None:
    offer = to_wire(esp("aes256gcm16"), (256).to_bytes(4, "big"))
    choice = choose_esp(offer, esp("aes256gcm16"))
    assert choice is not None
    assert check_esp_choice(offer, choice.to_wire((256).to_bytes(4, "big"))) is not None


@pytest.mark.parametrize(
    ("case", "transforms"),
    [
        ("no encryption at all", ((1, 11), (3, 12), (2, 5), (4, 20))),
        ("no key exchange", ((1, 20, 256), (2, 5), (4, 0))),
        ("a PRF that is not implemented", ((1, 20, 256), (2, 2), (4, 20))),
        ("a group that is not implemented", ((1, 20, 256), (2, 5), (4, 2))),
        ("a cipher that is not implemented", ((1, 3), (3, 12), (2, 5), (4, 20))),
        ("an integrity that is not implemented", ((1, 12, 256), (3, 2), (2, 5), (4, 20))),
        ("a key length that is none", ((1, 20, 100), (2, 5), (4, 20))),
        ("a type that IKE does not have", ((1, 20, 256), (2, 5), (4, 20), (5, 0))),
    ],
)
def test_an_ike_suite_that_cannot_be_is_refused_even_if_offered_rfc7296_3_3_3(
    case: str, transforms: tuple[tuple[int, ...], ...]
) -> None:
    """An offer of ours never has these; the check does not rely on that."""
    offer = wire(1, *transforms)
    assert check_ike_choice(offer, offer) is None, case
    assert "do not make an SA" in inconsistency(offer, offer)


@pytest.mark.parametrize(
    "transforms", [((1, 20, 256), (5, 2)), ((1, 20, 256), (5, 0), (4, 2)), ((1, 20, 256), (5, 0), (2, 5))]
)
def test_an_esp_suite_that_cannot_be_is_refused_even_if_offered_rfc7296_3_3_3(
    transforms: tuple[tuple[int, ...], ...],
) -> None:
    offer = wire(3, *transforms)
    assert check_esp_choice(offer, offer) is None


@pytest.mark.parametrize("spi", [0, 1, 255])
def test_reserved_spis_are_not_chosen_rfc4303_2_1(spi: int) -> None:
    offer = to_wire(esp("aes256gcm16"), spi.to_bytes(4, "big"))
    assert choose_esp(offer, esp("aes256gcm16")) is None
    good = to_wire(esp("aes256gcm16"), SPI)
    answer = SaPayload((WireProposal(1, 3, spi.to_bytes(4, "big"), good.proposals[0].transforms),))
    assert check_esp_choice(good, answer) is None


def test_ah_is_not_chosen_but_may_stand_beside_esp_rfc7296_3_3() -> None:
    ah = WireProposal(1, ProtocolId.AH, SPI, (WireTransform(3, 12), WireTransform(5, 0)))
    wanted = to_wire(esp("aes256gcm16"), SPI).proposals[0]
    assert choose_esp(SaPayload((ah,)), esp("aes256gcm16")) is None
    choice = choose_esp(SaPayload((ah, WireProposal(2, 3, SPI, wanted.transforms))), esp("aes256gcm16"))
    assert choice is not None
    assert choice.number == 2


# --- What is offered ---------------------------------------------------------------------------


def test_offers_are_numbered_and_carry_one_spi_rfc7296_3_3_1() -> None:
    offer = to_wire(esp("aes256gcm16-esn", "aes256gcm16-noesn"), SPI)
    assert [(p.number, p.spi) for p in offer.proposals] == [(1, SPI), (2, SPI)]
    assert SaPayload.parse(offer.encode()) == offer


def test_integrity_none_is_left_out_of_offers_rfc7296_3_3_3() -> None:
    offer = to_wire(DEFAULT_IKE_PROPOSALS, b"")
    assert WireTransform(3, 0) not in [t for p in offer.proposals for t in p.transforms]


def test_aeads_and_other_ciphers_are_offered_apart_rfc5282_8() -> None:
    gcm, cbc = ike("aes256gcm16-prfsha256-ecp384")[0], ike("aes256-sha256-ecp384")[0]
    mixed = Proposal(ProtocolId.IKE, tuple(dict.fromkeys((*cbc.transforms, *gcm.transforms))))
    assert describe_proposals([mixed]) == "aes256gcm16-prfsha256-ecp384, aes256-sha256-prfsha256-ecp384"


@pytest.mark.parametrize("proposals", [DEFAULT_IKE_PROPOSALS, DEFAULT_ESP_PROPOSALS])
def test_defaults_agree_with_themselves(proposals: tuple[Proposal, ...]) -> None:
    is_ike = proposals[0].protocol is ProtocolId.IKE
    offer = to_wire(proposals, b"" if is_ike else SPI)
    assert (choose_ike if is_ike else choose_esp)(offer, proposals) is not None


# --- The initiator's check ---------------------------------------------------------------------

OFFER = to_wire(ike("aes256gcm16-aes128gcm16-prfsha384-ecp384", "aes256-sha256-x25519"), b"")
ANSWER = WireProposal(1, 1, b"", tuple(WireTransform(*t) for t in IKE_GCM))


def changed(**changes: object) -> SaPayload:
    fields: dict[str, object] = {name: getattr(ANSWER, name) for name in WireProposal.__slots__}
    return SaPayload((WireProposal(**{**fields, **changes}),))  # type: ignore[arg-type]


BAD_ANSWERS = {
    "two proposals": (SaPayload((ANSWER, ANSWER)), "2 proposals"),
    "a number that was not offered": (changed(number=3), "was not offered"),
    "the number of the other proposal": (changed(number=2), "not offered"),
    "another protocol": (changed(protocol=3), "was not offered"),
    "an spi that was not asked for": (changed(spi=b"12345678"), "SPI of 8"),
    "an algorithm that was not offered": (
        changed(transforms=(WireTransform(1, 28), *ANSWER.transforms[1:])),
        "chacha20",
    ),
    "another key length": (changed(transforms=(WireTransform(1, 20, 192), *ANSWER.transforms[1:])), "aes192gcm16"),
    "no key length": (changed(transforms=(WireTransform(1, 20), *ANSWER.transforms[1:])), "aesgcm16"),
    "two ciphers": (changed(transforms=(*ANSWER.transforms, WireTransform(1, 20, 128))), "several"),
    "no PRF": (changed(transforms=(ANSWER.transforms[0], ANSWER.transforms[2])), "no transform of type 2"),
    "an integrity that was not offered": (changed(transforms=(*ANSWER.transforms, WireTransform(3, 12))), "sha256"),
    "integrity NONE that was not offered": (changed(transforms=(*ANSWER.transforms, WireTransform(3, 0))), "integ_0"),
    "nothing chosen": (changed(transforms=()), "no transform of type"),
    "unknown attributes": (
        changed(transforms=(WireTransform(1, 20, 256, True), *ANSWER.transforms[1:])),
        "aes256gcm16?",
    ),
}


def test_a_good_answer_is_taken_rfc7296_2_7() -> None:
    choice = check_ike_choice(OFFER, SaPayload((ANSWER,)))
    assert choice is not None
    assert (choice.suite.encryption, choice.suite.key_bits) == (Encryption.AES_GCM_16, 256)
    assert (choice.suite.prf, choice.suite.ke) == (Prf.HMAC_SHA2_384, KeyExchangeMethod.ECP_384)


@pytest.mark.parametrize("case", BAD_ANSWERS)
def test_an_answer_that_is_not_from_the_offer_is_refused_and_told_rfc7296_2_7(case: str) -> None:
    answer, why = BAD_ANSWERS[case]
    assert check_ike_choice(OFFER, answer) is None
    assert why in inconsistency(OFFER, answer)


def test_none_may_be_left_out_of_an_answer_rfc7296_3_3_3() -> None:
    offer = wire(3, (1, 20, 256), (3, 0), (4, 20), (4, 0), (5, 0))
    for integrity, ke in product(((), (WireTransform(3, 0),)), ((), (WireTransform(4, 0),), (WireTransform(4, 20),))):
        answer = SaPayload(
            (WireProposal(1, 3, OURS, (WireTransform(1, 20, 256), WireTransform(5, 0), *integrity, *ke)),)
        )
        choice = check_esp_choice(offer, answer)
        assert choice is not None
        assert choice.ke == (ke[0].id if ke else 0)


def test_the_protocol_must_be_the_one_that_is_negotiated_rfc7296_3_3_1() -> None:
    as_ah = SaPayload((WireProposal(1, 2, SPI, (WireTransform(1, 20, 256), WireTransform(5, 0))),))
    assert check_esp_choice(as_ah, as_ah) is None
    as_esp = SaPayload((WireProposal(1, 3, b"", ANSWER.transforms),))
    assert check_ike_choice(as_esp, as_esp) is None


def test_an_ike_answer_is_no_child_and_a_child_no_ike_rfc7296_3_3_3() -> None:
    assert check_esp_choice(OFFER, SaPayload((ANSWER,))) is None
    child = to_wire(esp("aes256gcm16"), SPI)
    assert check_ike_choice(child, child) is None
    assert inconsistency(child, child)


# --- Any input ---------------------------------------------------------------------------------


@settings(deadline=None)
@given(wire_proposals(), wire_proposals())
def test_any_offers_and_answers_are_judged_without_an_error(
    offer: tuple[WireProposal, ...], answer: tuple[WireProposal, ...]
) -> None:
    offered, response = SaPayload(offer), SaPayload(answer)
    choose_ike(offered, DEFAULT_IKE_PROPOSALS)
    choose_esp(offered, DEFAULT_ESP_PROPOSALS)
    check_ike_choice(offered, response)
    check_esp_choice(offered, response)
    assert describe_offer(offered)
    assert inconsistency(offered, response)


suites = st.builds(
    "-".join,
    st.tuples(
        st.sampled_from(
            ["aes256gcm16", "aes128gcm16-chacha20poly1305", "aes256-sha384", "aes128-aes256-sha256-sha512"]
        ),
        st.sampled_from(["prfsha256", "prfsha384-prfsha512"]),
        st.sampled_from(["ecp384", "x25519-modp2048", "ecp256-x448-ecp384"]),
    ),
)


@settings(deadline=None)
@given(st.lists(suites, min_size=1, max_size=4), st.lists(suites, min_size=1, max_size=4))
def test_whatever_a_responder_chooses_the_initiator_accepts_rfc7296_2_7(one: list[str], two: list[str]) -> None:
    offer = SaPayload.parse(to_wire(ike(*one), b"").encode())
    choice = choose_ike(offer, ike(*two))
    if choice is not None:
        assert check_ike_choice(offer, SaPayload.parse(choice.to_wire().encode())) == choice


# --- Words -------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["aes256gcm16-prfsha384-ecp384", "aes128-sha256-prfsha256-x25519"])
def test_offers_read_like_the_configuration_that_would_accept_them(text: str) -> None:
    assert describe_proposals(ike(text)) == format_proposal(ike(text)[0]) == text


def test_what_is_unknown_is_named_by_number() -> None:
    odd = wire(1, (1, 99, 256), (1, 3), (2, 2), (3, 2), (4, 2), (4, 999), (9, 1), (5, 7))
    assert describe_offer(odd) == "encr_99_256-3des-sha1-prfsha1-modp1024-ke_999-esn_7-type9_1"
    assert describe_offer(wire(2, (3, 12), (5, 0))) == "ah:sha256-noesn"
    assert describe_offer(wire(9)) == "?:nothing"
    assert describe_offer(SaPayload(())) == "nothing"


def test_every_algorithm_of_ours_has_its_word() -> None:
    for kind, algorithms in ((1, Encryption), (2, Prf), (4, KeyExchangeMethod)):
        for algorithm in algorithms:
            assert "_" not in describe_offer(wire(1, (kind, algorithm))), TransformType(kind)


def test_the_description_of_a_huge_offer_is_bounded() -> None:
    transforms = tuple(WireTransform(1, 1000 + n) for n in range(255))
    huge = SaPayload(tuple(WireProposal(n, 1, b"", transforms) for n in range(1, 65)))
    text = describe_offer(huge)
    assert len(text) < 12_000
    assert text.endswith("and 191 more, and 48 more")
