"""Proposals: which algorithms one side offers or accepts (RFC 7296 §3.3), and their notation, strongSwan's.

A proposal's text is words joined by "-", each an alternative for its transform type: "aes256gcm16-prfsha384-ecp384" or
"aes128-aes256-sha256-x25519-modp2048". Which algorithms there are: RFC 8221 (ESP) and RFC 8247 (IKE).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from appliance.sa.algorithms import (
    ENCRYPTION,
    Encryption,
    Esn,
    Integrity,
    KeyExchangeMethod,
    Prf,
    TransformType,
)


class ProtocolId(IntEnum):
    """Security protocol identifiers, RFC 7296 §3.3.1."""

    NONE = 0
    IKE = 1
    AH = 2
    ESP = 3


@dataclass(frozen=True, slots=True)
class Transform:
    """One algorithm of a proposal; ``key_bits`` is the key length attribute or None (RFC 7296 §3.3.5)."""

    type: TransformType
    id: int
    key_bits: int | None = None


@dataclass(frozen=True, slots=True)
class Proposal:
    """Alternatives for each transform type, in order of preference. One of each type is chosen."""

    protocol: ProtocolId
    transforms: tuple[Transform, ...]

    def of_type(self, type_: TransformType) -> tuple[Transform, ...]:
        """The alternatives of one type, preferred first."""
        return tuple(t for t in self.transforms if t.type is type_)


def _encryption(id_: Encryption, bits: int | None = None) -> Transform:
    return Transform(TransformType.ENCR, id_, bits)


def _integrity(id_: Integrity) -> Transform:
    return Transform(TransformType.INTEG, id_)


def _prf(id_: Prf) -> Transform:
    return Transform(TransformType.PRF, id_)


def _method(id_: KeyExchangeMethod) -> Transform:
    return Transform(TransformType.KE, id_)


_WORDS: dict[str, Transform] = {
    "aes256gcm16": _encryption(Encryption.AES_GCM_16, 256),
    "aes192gcm16": _encryption(Encryption.AES_GCM_16, 192),
    "aes128gcm16": _encryption(Encryption.AES_GCM_16, 128),
    "chacha20poly1305": _encryption(Encryption.CHACHA20_POLY1305),
    "aes256": _encryption(Encryption.AES_CBC, 256),
    "aes192": _encryption(Encryption.AES_CBC, 192),
    "aes128": _encryption(Encryption.AES_CBC, 128),
    "null": _encryption(Encryption.NULL),
    "sha256": _integrity(Integrity.HMAC_SHA2_256_128),
    "sha384": _integrity(Integrity.HMAC_SHA2_384_192),
    "sha512": _integrity(Integrity.HMAC_SHA2_512_256),
    "prfsha256": _prf(Prf.HMAC_SHA2_256),
    "prfsha384": _prf(Prf.HMAC_SHA2_384),
    "prfsha512": _prf(Prf.HMAC_SHA2_512),
    "modp2048": _method(KeyExchangeMethod.MODP_2048),
    "modp3072": _method(KeyExchangeMethod.MODP_3072),
    "modp4096": _method(KeyExchangeMethod.MODP_4096),
    "ecp256": _method(KeyExchangeMethod.ECP_256),
    "ecp384": _method(KeyExchangeMethod.ECP_384),
    "ecp521": _method(KeyExchangeMethod.ECP_521),
    "x25519": _method(KeyExchangeMethod.CURVE25519),
    "x448": _method(KeyExchangeMethod.CURVE448),
    "modpnone": _method(KeyExchangeMethod.NONE),
    "esn": Transform(TransformType.ESN, Esn.ESN),
    "noesn": Transform(TransformType.ESN, Esn.NO_ESN),
}

_ALIASES: dict[str, str] = {
    **{f"aes{bits}gcm": f"aes{bits}gcm16" for bits in (128, 192, 256)},
    **{f"aes{bits}gcm128": f"aes{bits}gcm16" for bits in (128, 192, 256)},
    "aes": "aes128",
    "sha2_256": "sha256",
    "sha2_384": "sha384",
    "sha2_512": "sha512",
    "prfsha2_256": "prfsha256",
    "prfsha2_384": "prfsha384",
    "prfsha2_512": "prfsha512",
    "curve25519": "x25519",
    "curve448": "x448",
    "none": "modpnone",
}

_SHORT_ICV = "RFC 8221 §5 lists AES-GCM with the ICV of 16 bytes only; use aes256gcm16"
_OLD_CIPHER = "RFC 8221 §5 says SHOULD NOT (3DES) or MUST NOT: blocks of 64 bits; use aes256gcm16 or aes256"
_MD5 = "RFC 8221 §6 and RFC 8247 §2.2, §2.3 forbid MD5; use sha256 or prfsha256"
_SHA1 = "RFC 8221 §6 and RFC 8247 §2.2, §2.3 are retiring SHA-1 (MUST-); use sha256 or prfsha256"
_WEAK_GROUP = "RFC 8247 §2.4 says SHOULD NOT or MUST NOT: too weak; use x25519, ecp384 or modp3072"
_NO_CTR = "counter mode is not implemented here; use aes256gcm16, which is counter mode with authentication"
_NOT_HERE = "it is not implemented here; use aes256gcm16, chacha20poly1305 or aes256 with sha256"
_NO_GROUP = "this group is not implemented here; use x25519, x448, ecp384 or modp4096"
_POST_QUANTUM = "ML-KEM and further key exchanges (RFC 9370) are not implemented here yet; use x25519 or ecp384"

_REFUSED: dict[str, str] = {
    **dict.fromkeys(
        (f"aes{bits}gcm{icv}" for bits in (128, 192, 256) for icv in (8, 12, 64, 96)),
        _SHORT_ICV,
    ),
    **dict.fromkeys(("3des", "des", "blowfish", "blowfish128", "blowfish192", "blowfish256"), _OLD_CIPHER),
    **dict.fromkeys(("md5", "md5_128", "prfmd5"), _MD5),
    **dict.fromkeys(("sha", "sha1", "sha1_160", "prfsha1"), _SHA1),
    "sha256_96": "96 bits of SHA2-256 are a draft's mistake (RFC 4868 has 128); use sha256",
    **dict.fromkeys(
        ("modp768", "modp1024", "modp1536", "modp1024s160", "modp2048s224", "modp2048s256"),
        _WEAK_GROUP,
    ),
    **dict.fromkeys((f"aes{bits}ctr" for bits in (128, 192, 256)), _NO_CTR),
    **dict.fromkeys(
        (
            "cast128",
            "aesxcbc", "aescmac", "prfaesxcbc", "prfaescmac", "sha384_96", "aes128gmac", "aes192gmac", "aes256gmac",
            *(f"aes{bits}ccm{icv}" for bits in (128, 192, 256) for icv in ("", 8, 12, 16, 64, 96, 128)),
            *(f"camellia{bits}" for bits in ("", 128, 192, 256)),
        ),
        _NOT_HERE,
    ),
    **dict.fromkeys(("modp6144", "modp8192", "ecp192", "ecp224"), _NO_GROUP),
    **dict.fromkeys(("ecp224bp", "ecp256bp", "ecp384bp", "ecp512bp"), _NO_GROUP),
    **dict.fromkeys(("mlkem512", "mlkem768", "mlkem1024"), _POST_QUANTUM),
}  # fmt: skip

_NAMES: dict[Transform, str] = {transform: word for word, transform in _WORDS.items()}
_ORDER = (TransformType.ENCR, TransformType.INTEG, TransformType.PRF, TransformType.KE, TransformType.ESN)
_PRF_OF_INTEGRITY = {
    Integrity.HMAC_SHA2_256_128: Prf.HMAC_SHA2_256,
    Integrity.HMAC_SHA2_384_192: Prf.HMAC_SHA2_384,
    Integrity.HMAC_SHA2_512_256: Prf.HMAC_SHA2_512,
}


def parse_proposal(text: str, protocol: ProtocolId) -> Proposal:
    """Read a proposal for IKE or ESP.

    In IKE a missing PRF is that of each integrity algorithm. In ESP a key exchange method asks for perfect forward
    secrecy, and without "esn" or "noesn" there are no extended sequence numbers. Transforms come out by type, in the
    text's order within each. Raises ValueError that names the word at fault and what would be right.
    """
    if protocol not in (ProtocolId.IKE, ProtocolId.ESP):
        raise ValueError(f"there are proposals for IKE and ESP only, not for {protocol.name}")
    transforms: list[Transform] = []
    for word in text.strip().lower().split("-"):
        transform = _parse_word(word, text)
        if transform not in transforms:
            transforms.append(transform)
    if protocol is ProtocolId.IKE:
        transforms = _complete_ike(transforms, text)
    else:
        transforms = _complete_esp(transforms, text)
    return Proposal(protocol, tuple(t for type_ in _ORDER for t in transforms if t.type is type_))


def format_proposal(proposal: Proposal) -> str:
    """A proposal as text that ``parse_proposal`` reads back to the same."""
    ordered = (t for type_ in _ORDER for t in proposal.of_type(type_))
    return "-".join(format_transform(t) for t in ordered)


def format_transform(transform: Transform) -> str:
    """A transform's word; type and number where it has none."""
    word = _NAMES.get(transform)
    if word is not None:
        return word
    bits = "" if transform.key_bits is None else f"_{transform.key_bits}"
    return f"{transform.type.name.lower()}{int(transform.id)}{bits}"


def proposal_words() -> dict[str, tuple[str, ...]]:
    """Every word that a proposal may have, by kind, aliases behind the words that they stand for."""
    kinds = {
        "cipher": TransformType.ENCR,
        "integrity": TransformType.INTEG,
        "PRF (IKE)": TransformType.PRF,
        "key exchange": TransformType.KE,
        "sequence numbers (ESP)": TransformType.ESN,
    }
    return {
        kind: tuple(
            name
            for word, transform in _WORDS.items()
            if transform.type is type_
            for name in (word, *(alias for alias, meant in _ALIASES.items() if meant == word))
        )
        for kind, type_ in kinds.items()
    }


def _parse_word(word: str, text: str) -> Transform:
    word = word.strip()
    transform = _WORDS.get(_ALIASES.get(word, word))
    if transform is not None:
        return transform
    if not word:
        raise ValueError(f"{text!r} has an empty word; words are joined by single '-'")
    if word == "default":
        raise ValueError("'default' is not a proposal; leave the key out to have the defaults")
    if word.startswith("ke") and word[2:3].isdigit() and "_" in word:
        raise ValueError(f"{word!r}: {_POST_QUANTUM}")
    if word in _REFUSED:
        raise ValueError(f"{word!r} is refused: {_REFUSED[word]}")
    if "," in word or "!" in word:
        raise ValueError(f"{word!r}: write each proposal as a string of its own in the list, without ',' or '!'")
    from difflib import get_close_matches

    near = get_close_matches(word, [*_WORDS, *_ALIASES], n=1)
    hint = f"did you mean {near[0]!r}?" if near else "known are " + ", ".join(_WORDS)
    raise ValueError(f"{word!r} is no algorithm; {hint}")


def _complete_ike(transforms: list[Transform], text: str) -> list[Transform]:
    _check_ciphers(transforms, text)
    if any(t.id == Encryption.NULL for t in transforms if t.type is TransformType.ENCR):
        raise ValueError(f"{text!r}: IKE must encrypt (RFC 8247 §2.1); 'null' is for ESP only")
    if any(t.type is TransformType.ESN for t in transforms):
        raise ValueError(f"{text!r}: 'esn' and 'noesn' are for ESP only (RFC 7296 §3.3.3)")
    methods = [t for t in transforms if t.type is TransformType.KE]
    if not methods or any(t.id == KeyExchangeMethod.NONE for t in methods):
        raise ValueError(
            f"{text!r}: IKE needs a key exchange method (RFC 7296 §3.3.3); add one such as 'ecp384' or 'x25519'"
        )
    if not any(t.type is TransformType.PRF for t in transforms):
        derived = [_prf(_PRF_OF_INTEGRITY[Integrity(t.id)]) for t in transforms if t.type is TransformType.INTEG]
        if not derived:
            raise ValueError(
                f"{text!r}: an AEAD cipher has no integrity algorithm to take the PRF from; add one such as 'prfsha384'"
            )
        transforms = [*transforms, *derived]
    return transforms


def _complete_esp(transforms: list[Transform], text: str) -> list[Transform]:
    _check_ciphers(transforms, text)
    prfs = [t for t in transforms if t.type is TransformType.PRF]
    if prfs:
        raise ValueError(
            f"{text!r}: a PRF ({format_transform(prfs[0])!r}) is for IKE only (RFC 7296 §3.3.3); remove it"
        )
    if not any(t.type is TransformType.ESN for t in transforms):
        transforms = [*transforms, _WORDS["noesn"]]
    return transforms


def _check_ciphers(transforms: list[Transform], text: str) -> None:
    """RFC 7296 §3.3.3, RFC 5282 §8: an AEAD stands without integrity, every other cipher with it."""
    ciphers = [t for t in transforms if t.type is TransformType.ENCR]
    integrity = [t for t in transforms if t.type is TransformType.INTEG]
    if not ciphers:
        raise ValueError(f"{text!r} has no cipher; add one such as 'aes256gcm16'")
    aead = [t for t in ciphers if ENCRYPTION[Encryption(t.id)].aead]
    plain = [t for t in ciphers if t not in aead]
    if aead and plain:
        raise ValueError(
            f"{text!r}: {format_transform(aead[0])!r} authenticates by itself and {format_transform(plain[0])!r}"
            " does not; write two proposals (RFC 5282 §8)"
        )
    if aead and integrity:
        raise ValueError(
            f"{text!r}: {format_transform(aead[0])!r} authenticates by itself, so {format_transform(integrity[0])!r}"
            " has no place beside it (RFC 5282 §8); remove it, or for the PRF write"
            f" 'prf{format_transform(integrity[0])}'"
        )
    if plain and not integrity:
        raise ValueError(
            f"{text!r}: {format_transform(plain[0])!r} does not authenticate (RFC 8221 §4); add an integrity algorithm"
            " such as 'sha256'"
        )
    if len(plain) > 1 and any(t.id == Encryption.NULL for t in plain):
        raise ValueError(f"{text!r}: 'null' beside a cipher lets the peer choose no encryption; write two proposals")


_IKE_GROUPS = "x25519-ecp384-ecp256-x448-ecp521-modp4096-modp3072-modp2048"

DEFAULT_IKE_PROPOSALS: tuple[Proposal, ...] = tuple(
    parse_proposal(f"{algorithms}-{_IKE_GROUPS}", ProtocolId.IKE)
    for algorithms in (
        "aes256gcm16-aes128gcm16-chacha20poly1305-prfsha384-prfsha256-prfsha512",
        "aes256-aes128-sha384-sha256-sha512",
    )
)
"""All that RFC 8247 recommends and we have, AEAD first."""

DEFAULT_ESP_PROPOSALS: tuple[Proposal, ...] = tuple(
    parse_proposal(algorithms, ProtocolId.ESP)
    for algorithms in (
        "aes256gcm16-aes128gcm16-chacha20poly1305-esn-noesn",
        "aes256-aes128-sha384-sha256-sha512-esn-noesn",
    )
)
"""All that RFC 8221 recommends and we have, AEAD and ESN first, without a further key exchange."""
