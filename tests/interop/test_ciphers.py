"""Every cipher and group that strongSwan and we both have, read back from strongSwan's own view of the SAs."""

from __future__ import annotations

import pytest

from tests.interop.pair import ESP, IKE, Pair, Role

# Our and strongSwan's notation, and what strongSwan calls it once negotiated.
ESP_SUITES = {
    "aes128gcm16": ("AES_GCM_16-128", ""),
    "aes256gcm16": ("AES_GCM_16-256", ""),
    "chacha20poly1305": ("CHACHA20_POLY1305", ""),
    "aes128-sha256": ("AES_CBC-128", "HMAC_SHA2_256_128"),
    "aes256-sha256": ("AES_CBC-256", "HMAC_SHA2_256_128"),
    "aes128-sha384": ("AES_CBC-128", "HMAC_SHA2_384_192"),
    "aes256-sha512": ("AES_CBC-256", "HMAC_SHA2_512_256"),
    "null-sha256": ("NULL", "HMAC_SHA2_256_128"),
}
IKE_CIPHERS = {
    "aes128gcm16-prfsha256": ("AES_GCM_16-128", "", "PRF_HMAC_SHA2_256"),
    "aes256gcm16-prfsha512": ("AES_GCM_16-256", "", "PRF_HMAC_SHA2_512"),
    "chacha20poly1305-prfsha256": ("CHACHA20_POLY1305", "", "PRF_HMAC_SHA2_256"),
    "aes128-sha256": ("AES_CBC-128", "HMAC_SHA2_256_128", "PRF_HMAC_SHA2_256"),
    "aes256-sha384": ("AES_CBC-256", "HMAC_SHA2_384_192", "PRF_HMAC_SHA2_384"),
    "aes256-sha512": ("AES_CBC-256", "HMAC_SHA2_512_256", "PRF_HMAC_SHA2_512"),
}
GROUPS = {
    "modp2048": "MODP_2048",
    "modp3072": "MODP_3072",
    "modp4096": "MODP_4096",
    "ecp256": "ECP_256",
    "ecp384": "ECP_384",
    "ecp521": "ECP_521",
    "x25519": "CURVE_25519",
    "x448": "CURVE_448",
}
BOTH = pytest.mark.parametrize("role", list(Role), ids=lambda role: role.value)


def matches(seen: str, wanted: str) -> bool:
    # Some versions print the size of ciphers that have one size only.
    return seen == wanted or seen == f"{wanted}-256"


@BOTH
@pytest.mark.parametrize("esp", ESP_SUITES)
def test_esp_suite_carries_traffic_both_ways_rfc8221(pair: Pair, esp: str, role: Role) -> None:
    pair.configure(esp=esp)
    pair.up(role)
    seen = pair.traffic()
    encryption, integrity = ESP_SUITES[esp]
    assert matches(seen.child.encryption, encryption)
    assert seen.child.integrity == integrity
    assert seen.child.encapsulated
    # What an initiator of ours asks for without PFS has no key exchange of its own (RFC 7296 §1.3.1).
    assert seen.child.key_exchange == ""
    pair.down(role)


@pytest.mark.parametrize(
    ("ike", "role"),
    [(ike, list(Role)[n % 2]) for n, ike in enumerate(IKE_CIPHERS)],
    ids=lambda value: value.value if isinstance(value, Role) else value,
)
def test_ike_cipher_rfc8247_rfc5282(pair: Pair, ike: str, role: Role) -> None:
    pair.configure(ike=f"{ike}-ecp256")
    pair.up(role)
    seen = pair.traffic(1).theirs
    encryption, integrity, prf = IKE_CIPHERS[ike]
    assert matches(seen.encryption, encryption)
    assert (seen.integrity, seen.prf) == (integrity, prf)
    pair.down(role)


@BOTH
@pytest.mark.parametrize("group", GROUPS)
def test_key_exchange_rfc8247(pair: Pair, group: str, role: Role) -> None:
    pair.configure(ike=f"aes256gcm16-prfsha384-{group}")
    pair.up(role)
    assert pair.traffic(1).theirs.key_exchange == GROUPS[group]
    pair.down(role)


@BOTH
def test_invalid_ke_payload_costs_one_round_rfc7296_1_2(pair: Pair, role: Role) -> None:
    # Each side prefers another group; the responder names the one that it takes.
    ours = {"ike_proposals": ["aes256gcm16-prfsha384-x25519", "aes256gcm16-prfsha384-ecp384"]}
    theirs = {"proposals": ["aes256gcm16-prfsha384-ecp384"]}
    if role is Role.RESPONDER:
        ours = {"ike_proposals": ["aes256gcm16-prfsha384-ecp384"]}
        theirs = {"proposals": ["aes256gcm16-prfsha384-x25519-ecp384"]}
    pair.configure(ours=ours, theirs=theirs)
    pair.up(role)
    assert pair.traffic(1).theirs.key_exchange == "ECP_384"
    pair.down(role)


@BOTH
def test_child_with_perfect_forward_secrecy_rfc7296_1_3(pair: Pair, role: Role) -> None:
    pair.configure(esp="aes256gcm16-x25519")
    pair.up(role)
    pair.traffic(1)
    # The first child has the IKE SA's key exchange; its own comes with the rekey.
    if role is Role.INITIATOR:
        pair.gateway.rekey("peer", "net")
    else:
        pair.charon.rekey(child="net")
    pair.gateway.wait(
        "rekeyed",
        lambda: [c for c in pair.charon.established("peer").installed if c.key_exchange == "CURVE_25519"],
    )
    pair.traffic(1)
    pair.down(role)


@BOTH
def test_narrowing_rfc7296_2_9(pair: Pair, role: Role) -> None:
    if role is Role.INITIATOR:  # we ask for more than they give
        pair.configure(our_child={"remote_ts": ["10.2.0.0/16", "fd02::/48"]})
    else:
        pair.configure(their_child={"remote_ts": ["10.1.0.0/16", "fd01::/48"]})
    pair.up(role)
    child = pair.traffic(1).child
    assert set(child.remote_ts) == {"10.1.0.0/24", "fd01::/64"}
    assert set(child.local_ts) == {"10.2.0.0/24", "fd02::/64"}
    pair.down(role)


@pytest.mark.verify
@BOTH
@pytest.mark.parametrize("esp", ESP_SUITES)
@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("ike", IKE_CIPHERS)
def test_every_combination(pair: Pair, ike: str, group: str, esp: str, role: Role) -> None:
    pair.configure(ike=f"{ike}-{group}", esp=esp)
    pair.up(role)
    seen = pair.traffic(1)
    assert matches(seen.child.encryption, ESP_SUITES[esp][0])
    assert seen.theirs.key_exchange == GROUPS[group]
    pair.down(role)


def test_defaults_agree_without_any_proposal(pair: Pair) -> None:
    # A user who configures no algorithms on either side gets a tunnel.
    pair.configure(
        ike=IKE,
        esp=ESP,
        ours={"ike_proposals": ""},
        our_child={"esp_proposals": ""},
        theirs={"proposals": ["default"]},
        their_child={"esp_proposals": ["default"]},
    )
    pair.up(Role.INITIATOR)
    pair.traffic(1)
    pair.down(Role.INITIATOR)
    pair.up(Role.RESPONDER)
    pair.traffic(1)
    pair.down(Role.RESPONDER)
