"""Proposal strings: strongSwan's notation, RFC 7296 §3.3, RFC 8221, RFC 8247."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.sa.algorithms import Encryption, Esn, Integrity, KeyExchangeMethod, Prf, TransformType
from appliance.sa.proposal import (
    DEFAULT_ESP_PROPOSALS,
    DEFAULT_IKE_PROPOSALS,
    Proposal,
    ProtocolId,
    Transform,
    format_proposal,
    format_transform,
    parse_proposal,
    proposal_words,
)

IKE, ESP = ProtocolId.IKE, ProtocolId.ESP


def ids(proposal: Proposal, type_: TransformType) -> list[int]:
    return [t.id for t in proposal.of_type(type_)]


def test_an_aead_proposal_has_cipher_prf_and_method() -> None:
    proposal = parse_proposal("aes256gcm16-prfsha384-ecp384", IKE)
    assert proposal.transforms == (
        Transform(TransformType.ENCR, Encryption.AES_GCM_16, 256),
        Transform(TransformType.PRF, Prf.HMAC_SHA2_384),
        Transform(TransformType.KE, KeyExchangeMethod.ECP_384),
    )


def test_the_prf_follows_each_integrity_algorithm_when_absent() -> None:
    proposal = parse_proposal("aes128-aes256-sha256-sha384-modp2048-x25519", IKE)
    assert [t.key_bits for t in proposal.of_type(TransformType.ENCR)] == [128, 256]
    assert ids(proposal, TransformType.INTEG) == [Integrity.HMAC_SHA2_256_128, Integrity.HMAC_SHA2_384_192]
    assert ids(proposal, TransformType.PRF) == [Prf.HMAC_SHA2_256, Prf.HMAC_SHA2_384]
    assert ids(proposal, TransformType.KE) == [KeyExchangeMethod.MODP_2048, KeyExchangeMethod.CURVE25519]


@pytest.mark.parametrize(
    ("text", "esn"),
    [
        ("aes256gcm16-esn", [Esn.ESN]),
        ("aes256gcm16-x25519-noesn", [Esn.NO_ESN]),
        ("chacha20poly1305", [Esn.NO_ESN]),
        ("aes256-sha256-esn-noesn", [Esn.ESN, Esn.NO_ESN]),
        ("null-sha256", [Esn.NO_ESN]),
    ],
)
def test_esp_always_says_whether_it_has_esn_rfc7296_3_3_2(text: str, esn: list[Esn]) -> None:
    assert ids(parse_proposal(text, ESP), TransformType.ESN) == esn


def test_chacha20_and_null_have_no_key_length_attribute_rfc7296_3_3_5() -> None:
    for text in ("chacha20poly1305", "null-sha256"):
        assert parse_proposal(text, ESP).of_type(TransformType.ENCR)[0].key_bits is None


@pytest.mark.parametrize(
    ("alias", "word"),
    [
        ("aes256gcm128", "aes256gcm16"),
        ("aes128gcm", "aes128gcm16"),
        ("aes-sha2_256", "aes128-sha256"),
        ("aes256gcm16-curve25519", "aes256gcm16-x25519"),
        ("aes256gcm16-curve448", "aes256gcm16-x448"),
        ("AES256GCM16-NoESN", "aes256gcm16"),
    ],
)
def test_strongswans_aliases_mean_the_same(alias: str, word: str) -> None:
    assert parse_proposal(alias, ESP) == parse_proposal(word, ESP)


@pytest.mark.parametrize(
    ("text", "protocol", "words"),
    [
        ("aes265gcm16", ESP, ["'aes265gcm16'", "'aes256gcm16'"]),
        ("", ESP, ["empty word"]),
        ("aes256--sha256", ESP, ["empty word"]),
        ("aes256gcm16-sha256-ecp384", IKE, ["'sha256'", "prfsha256", "RFC 5282"]),
        ("aes256gcm16-sha256", ESP, ["authenticates by itself"]),
        ("aes256gcm16-aes256-sha256", ESP, ["two proposals"]),
        ("aes256", ESP, ["does not authenticate", "RFC 8221"]),
        ("sha256", ESP, ["no cipher"]),
        ("aes256gcm16-prfsha256", ESP, ["PRF", "IKE only"]),
        ("aes256gcm16-prfsha256", IKE, ["key exchange", "ecp384"]),
        ("aes256gcm16-prfsha256-modpnone", IKE, ["key exchange"]),
        ("aes256gcm16-ecp384", IKE, ["PRF", "prfsha384"]),
        ("aes256-sha256-ecp384-esn", IKE, ["ESP only"]),
        ("null-sha256-ecp384", IKE, ["must encrypt", "RFC 8247"]),
        ("null-aes256-sha256", ESP, ["no encryption", "two proposals"]),
        ("3des-sha256", ESP, ["'3des' is refused", "RFC 8221"]),
        ("aes256-sha1", ESP, ["'sha1' is refused", "SHA-1"]),
        ("aes256-md5", ESP, ["'md5' is refused", "RFC 8221"]),
        ("aes256-sha256-modp1024", IKE, ["'modp1024' is refused", "RFC 8247 §2.4"]),
        ("aes256gcm8", ESP, ["'aes256gcm8' is refused", "ICV"]),
        ("aes256ctr-sha256", ESP, ["counter mode"]),
        ("aes256gcm16-prfsha384-x25519-ke1_mlkem768", IKE, ["ML-KEM"]),
        ("aes256-sha256,aes128-sha256", ESP, ["string of its own"]),
        ("aes256-sha256!", ESP, ["string of its own"]),
        ("default", ESP, ["leave the key out"]),
    ],
)
def test_what_is_wrong_is_named_with_what_would_be_right(text: str, protocol: ProtocolId, words: list[str]) -> None:
    with pytest.raises(ValueError) as caught:
        parse_proposal(text, protocol)
    for word in words:
        assert word in str(caught.value)


def test_there_are_no_ah_proposals() -> None:
    with pytest.raises(ValueError, match="AH"):
        parse_proposal("sha256", ProtocolId.AH)


def test_repeated_words_count_once() -> None:
    assert parse_proposal("aes256-aes256-sha256", ESP) == parse_proposal("aes256-sha256", ESP)


@pytest.mark.parametrize("proposal", DEFAULT_IKE_PROPOSALS + DEFAULT_ESP_PROPOSALS)
def test_defaults_read_back_from_their_text(proposal: Proposal) -> None:
    assert parse_proposal(format_proposal(proposal), proposal.protocol) == proposal


def test_defaults_hold_what_rfc8247_and_rfc8221_want_and_nothing_weak() -> None:
    ciphers = {t.id for p in DEFAULT_ESP_PROPOSALS for t in p.of_type(TransformType.ENCR)}
    assert {Encryption.AES_GCM_16, Encryption.AES_CBC, Encryption.CHACHA20_POLY1305} == ciphers
    methods = {t.id for p in DEFAULT_IKE_PROPOSALS for t in p.of_type(TransformType.KE)}
    assert {14, 15, 16, 19, 20, 21, 31, 32} == methods


def test_numbers_without_a_word_are_shown_as_numbers() -> None:
    assert format_transform(Transform(TransformType.ENCR, 3)) == "encr3"
    assert format_transform(Transform(TransformType.ENCR, 13, 256)) == "encr13_256"


@given(st.lists(st.sampled_from(sorted(w for words in proposal_words().values() for w in words)), max_size=8))
def test_any_words_give_a_proposal_that_reads_back_or_a_value_error(words: list[str]) -> None:
    for protocol in (IKE, ESP):
        try:
            proposal = parse_proposal("-".join(words), protocol)
        except ValueError as error:
            assert str(error)
        else:
            assert parse_proposal(format_proposal(proposal), protocol) == proposal


@given(st.text(max_size=40))
def test_any_text_gives_a_proposal_or_a_value_error(text: str) -> None:
    try:
        parse_proposal(text, ESP)
    except ValueError as error:
        assert str(error)
