"""Verifying a peer's AUTH payload (RFC 7296 §2.15, RFC 7427, RFC 4754) against what the configuration asks of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from hmac import compare_digest

from appliance.ike.authentication.failure import AuthenticationFailed
from appliance.ike.authentication.octets import psk_auth
from appliance.ike.authentication.policy import Method, RemotePolicy, Verified
from appliance.ike.constants import AuthMethod, name
from appliance.ike.payloads import AuthPayload, CertPayload
from appliance.reasons import Reason
from appliance.sa.algorithms import Prf
from appliance.sa.identity import Identity

_SIGNATURES = {
    AuthMethod.RSA_DIGITAL_SIGNATURE,
    AuthMethod.ECDSA_SHA256_P256,
    AuthMethod.ECDSA_SHA384_P384,
    AuthMethod.ECDSA_SHA512_P521,
    AuthMethod.DIGITAL_SIGNATURE,
}


def verify_auth(
    policy: RemotePolicy,
    auth: AuthPayload,
    identity: Identity,
    certificates: Sequence[CertPayload | bytes],
    octets: bytes,
    prf: Prf,
    now: datetime,
) -> Verified:
    """Verify that a peer is who it says, and one that the policy lets in.

    ``certificates`` are its CERT payloads in their order (or the DER of X.509 ones), the end entity's first
    (RFC 7296 §3.6); ``octets`` what ``signed_octets`` gives for the peer; ``now`` has a time zone. Whatever the peer
    sent, the only exception is AuthenticationFailed.
    """
    if now.tzinfo is None:
        raise ValueError("now has no time zone")
    _check_method(policy, auth)
    if not identity.is_valid:
        raise AuthenticationFailed(Reason.AUTH_IDENTITY_INVALID, f"{identity.described}")
    if not identity.matches(policy.identity):
        wanted = f"{policy.identity.described}"
        raise AuthenticationFailed(
            Reason.AUTH_IDENTITY_MISMATCH, f"the peer says {identity.described}, expected is {wanted}"
        )
    if policy.method is Method.PSK:
        assert policy.psk is not None
        if not compare_digest(psk_auth(policy.psk.secret, octets, prf), auth.data):
            raise AuthenticationFailed(Reason.AUTH_PSK_MISMATCH, f"peer {identity}")
        return Verified(method=AuthMethod.SHARED_KEY_MIC, identity=identity, algorithm="pre-shared key")
    from appliance.ike.authentication.verify_public_key import verify_public_key

    return verify_public_key(policy, auth, identity, certificates, octets, now)


def _check_method(policy: RemotePolicy, auth: AuthPayload) -> None:
    shown = name(AuthMethod, auth.method)
    if auth.method != AuthMethod.SHARED_KEY_MIC and auth.method not in _SIGNATURES:
        raise AuthenticationFailed(Reason.AUTH_METHOD_UNSUPPORTED, shown)
    if (auth.method == AuthMethod.SHARED_KEY_MIC) != (policy.method is Method.PSK):
        wanted = f"the peer used {shown}, remote.auth is {policy.method.value}"
        raise AuthenticationFailed(Reason.AUTH_METHOD_MISMATCH, wanted)
