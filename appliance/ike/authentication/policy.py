"""What a peer must prove, and what it proved."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING

from appliance.ike.authentication.credential import PskCredential
from appliance.ike.constants import AuthMethod, HashAlgorithm
from appliance.sa.identity import Identity

if TYPE_CHECKING:
    from cryptography import x509

SUPPORTED_HASHES = (
    HashAlgorithm.SHA2_256,
    HashAlgorithm.SHA2_384,
    HashAlgorithm.SHA2_512,
    HashAlgorithm.IDENTITY,
)
"""What this side verifies and so announces in SIGNATURE_HASH_ALGORITHMS (RFC 7427 §4, RFC 8420 §2). No SHA-1."""


class Method(Enum):
    """How a peer authenticates; the value is the word of the configuration."""

    PSK = "psk"
    PUBKEY = "pubkey"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemotePolicy:
    """What is asked of a peer. ``identity`` is a pattern.

    PSK needs ``psk``; PUBKEY needs ``anchors``, the CAs (or the very certificate of the peer) that are trusted.
    ``hashes`` are those that were announced. ``allow_sha1`` takes method 1 with SHA-1, which RFC 7296 §3.8 has for RSA
    where RFC 7427 is not in use; it is off since such signatures can be forged.
    """

    method: Method
    identity: Identity
    psk: PskCredential | None = None
    anchors: tuple[x509.Certificate, ...] = field(default=(), repr=False)
    allow_sha1: bool = False
    hashes: frozenset[HashAlgorithm] = frozenset(SUPPORTED_HASHES)

    def __post_init__(self) -> None:
        if self.method is Method.PSK and self.psk is None:
            raise ValueError("a policy of method psk needs a pre-shared key")
        if self.method is Method.PUBKEY and not self.anchors:
            raise ValueError("a policy of method pubkey needs a trusted CA")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """A peer that authenticated. ``path`` leads from its certificate to the trusted CA and is empty for a PSK.

    ``algorithm`` is for the log. ``expires`` is when the first certificate of the path does: the IKE SA should not
    outlive it. ``notes`` tell what was ignored.
    """

    method: AuthMethod
    identity: Identity
    algorithm: str
    path: tuple[x509.Certificate, ...] = field(default=(), repr=False)
    expires: datetime | None = None
    notes: tuple[str, ...] = ()
