"""Making this side's AUTH payload (RFC 7296 §2.15)."""

from __future__ import annotations

from collections.abc import Collection

from appliance.ike.authentication.credential import LocalCredential
from appliance.ike.authentication.credential import PskCredential as Psk
from appliance.ike.authentication.octets import psk_auth
from appliance.ike.constants import AuthMethod, HashAlgorithm
from appliance.ike.payloads import AuthPayload
from appliance.sa.algorithms import Prf


def make_auth(
    credential: LocalCredential, octets: bytes, prf: Prf, *, peer_hashes: Collection[HashAlgorithm]
) -> AuthPayload:
    """The AUTH payload over ``signed_octets``.

    ``peer_hashes`` is what the peer announced in SIGNATURE_HASH_ALGORITHMS, empty if it did not: then the methods from
    before RFC 7427 are used. Raises AuthenticationFailed if the key has no signature that the peer accepts.
    """
    if isinstance(credential, Psk):
        return AuthPayload(AuthMethod.SHARED_KEY_MIC, psk_auth(credential.secret, octets, prf))
    from appliance.ike.authentication.make_signature import make_signature

    return make_signature(credential, octets, peer_hashes=peer_hashes)
