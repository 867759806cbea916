"""What an AUTH payload signs (RFC 7296 §2.15)."""

from __future__ import annotations

from appliance.ike.keys import prf as prf_of
from appliance.sa.algorithms import Prf

_KEY_PAD = b"Key Pad for IKEv2"


def signed_octets(real_message: bytes, peer_nonce: bytes, prf: Prf, sk_p: bytes | bytearray, id_body: bytes) -> bytes:
    """InitiatorSignedOctets or ResponderSignedOctets.

    ``real_message`` is the signer's own first message (IKE_SA_INIT request or response) from the first byte of the
    header, without the non-ESP marker: the last one sent, after cookies and INVALID_KE_PAYLOAD. ``peer_nonce`` is the
    other side's nonce data; ``sk_p`` the signer's SK_pi or SK_pr; ``id_body`` the signer's ID payload without its
    generic header, with its RESERVED bytes as they were sent.
    """
    return real_message + peer_nonce + prf_of(prf, sk_p, id_body)


def psk_auth(secret: bytes, octets: bytes, prf: Prf) -> bytes:
    """AUTH data of method 2: prf(prf(shared secret, "Key Pad for IKEv2"), octets)."""
    return prf_of(prf, prf_of(prf, secret, _KEY_PAD), octets)
