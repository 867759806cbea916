"""Authentication of IKE SAs: AUTH, certificates and identities, without I/O and without a clock."""

from __future__ import annotations

from appliance.ike.authentication.credential import (
    LocalCredential,
    PrivateKey,
    PskCredential,
    PublicKeyCredential,
    RsaScheme,
)
from appliance.ike.authentication.failure import AuthenticationFailed
from appliance.ike.authentication.make import make_auth
from appliance.ike.authentication.octets import signed_octets
from appliance.ike.authentication.policy import SUPPORTED_HASHES, Method, RemotePolicy, Verified
from appliance.ike.authentication.request import certreq_for, chain_for
from appliance.ike.authentication.verify import verify_auth

__all__ = [
    "SUPPORTED_HASHES",
    "AuthenticationFailed",
    "LocalCredential",
    "Method",
    "PrivateKey",
    "PskCredential",
    "PublicKeyCredential",
    "RemotePolicy",
    "RsaScheme",
    "Verified",
    "certreq_for",
    "chain_for",
    "make_auth",
    "signed_octets",
    "verify_auth",
]
