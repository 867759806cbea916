"""From a peer's certificate to a trusted CA: building and validating the path (RFC 5280 §6.1, RFC 4158).

Paths are searched depth first. Their length and the number of steps are bounded, so that no set of certificates costs
more than some tens of milliseconds. Revocation is not checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from appliance.ike.authentication.certificate import Certificate
from appliance.ike.authentication.failure import AuthenticationFailed
from appliance.ike.authentication.name_constraints import forbidden_name
from appliance.reasons import Reason

MAX_PATH = 8
"""Certificates in a path, the peer's own and the trusted CA's included."""

MAX_STEPS = 32
"""Pairs of a certificate and its possible issuer that are looked at for one peer: so many signatures at most."""


@dataclass(slots=True)
class _Search:
    anchors: Sequence[Certificate]
    intermediates: Sequence[Certificate]
    now: datetime
    steps: int = 0
    failures: list[AuthenticationFailed] = field(default_factory=list)


def validate(
    end_entity: Certificate, intermediates: Sequence[Certificate], anchors: Sequence[Certificate], now: datetime
) -> tuple[Certificate, ...]:
    """The path from the end entity (first) to a trust anchor (last), every certificate of which is in order.

    A certificate that is itself an anchor is trusted as it stands, while it is valid. Raises AuthenticationFailed with
    the reason that is nearest to the peer's certificate, CERT_UNKNOWN_ISSUER if there is no better one.
    """
    end_entity.check(now)
    end_entity.check_end_entity()
    if any(anchor.der == end_entity.der for anchor in anchors):
        return (end_entity,)
    search = _Search(anchors, intermediates, now)
    for path in _paths((end_entity,), search):
        try:
            _check_path(path)
        except AuthenticationFailed as failure:
            search.failures.append(failure)
            continue
        return path
    raise search.failures[0] if search.failures else _unknown_issuer((end_entity,), search)


def _paths(path: tuple[Certificate, ...], search: _Search) -> Iterator[tuple[Certificate, ...]]:
    """All paths to an anchor that begin so and whose signatures verify, with failures noted on the way."""
    last = path[-1]
    for anchor in _issuers(last, search.anchors):
        if _usable(last, anchor, search):
            yield (*path, anchor)
    candidates = [issuer for issuer in _issuers(last, search.intermediates) if issuer not in path]
    if candidates and len(path) >= MAX_PATH - 1:
        detail = f"a path of more than {MAX_PATH} certificates is not followed"
        search.failures.append(AuthenticationFailed(Reason.CERT_PATH_LENGTH, detail))
        return
    for issuer in candidates:
        if _usable(last, issuer, search):
            before = len(search.failures)
            yield from _paths((*path, issuer), search)
            if len(search.failures) == before and not _issuers(issuer, [*search.anchors, *search.intermediates]):
                search.failures.append(_unknown_issuer((*path, issuer), search))


def _issuers(certificate: Certificate, among: Sequence[Certificate]) -> list[Certificate]:
    """Those with the issuer's name, first the ones whose key identifier fits too (RFC 5280 §4.2.1.1)."""
    wanted = certificate.authority_key_id
    # CAs encode their name as issuer just as it is in their own certificate (RFC 5280 §4.1.2.6), so bytes compare.
    named = [issuer for issuer in among if issuer.subject_der == certificate.issuer_der]
    return sorted(named, key=lambda issuer: wanted is None or issuer.subject_key_id != wanted)


def _usable(certificate: Certificate, issuer: Certificate, search: _Search) -> bool:
    """Whether the issuer is a CA in order and its key signed the certificate; a failure is noted."""
    search.steps += 1
    if search.steps > MAX_STEPS:  # ends the search: no failure among others
        raise AuthenticationFailed(Reason.CERT_TOO_MANY, f"no path was found in {MAX_STEPS} steps")
    try:
        issuer.check(search.now)
        # A version 1 certificate cannot say that it is a CA's; as a trust anchor it need not (RFC 5280 §6.1.1 (d)).
        if not (issuer.version1 and issuer in search.anchors):
            issuer.check_issuer()
        if issuer not in search.anchors:
            issuer.check_purposes()
        if not _signed(certificate, issuer):
            detail = f"{certificate.title} was not signed by the key of {issuer.title}"
            raise AuthenticationFailed(Reason.CERT_BAD_SIGNATURE, detail)
    except AuthenticationFailed as failure:
        search.failures.append(failure)
        return False
    return True


def _signed(certificate: Certificate, issuer: Certificate) -> bool:
    try:
        certificate.certificate.verify_directly_issued_by(issuer.certificate)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True


def _check_path(path: tuple[Certificate, ...]) -> None:
    """What RFC 5280 §6.1 asks of a path as a whole: path lengths and name constraints."""
    for position in range(1, len(path)):
        ca = path[position]
        # (l), (m): certificates below that are self-issued do not count; the end entity's never does.
        below = sum(not certificate.self_issued for certificate in path[1:position])
        if ca.path_length is not None and below > ca.path_length:
            allowed = f"{ca.title} allows {ca.path_length} CAs below it, there are {below}"
            raise AuthenticationFailed(Reason.CERT_PATH_LENGTH, allowed)
        for index, certificate in enumerate(path[:position]):
            # (b), (c): self-issued certificates are exempt, except the end entity's.
            if (index == 0 or not certificate.self_issued) and (name := forbidden_name(ca, certificate)):
                raise AuthenticationFailed(
                    Reason.CERT_NAME_CONSTRAINTS, f"{ca.title} may not certify what {certificate.title} has: {name}"
                )


def _unknown_issuer(path: tuple[Certificate, ...], search: _Search) -> AuthenticationFailed:
    last = path[-1]
    trusted = ", ".join(anchor.title for anchor in search.anchors[:4]) or "none"
    detail = f"{last.title} is issued by {last.issuer_title}; trusted are {trusted}"
    return AuthenticationFailed(Reason.CERT_UNKNOWN_ISSUER, detail)
