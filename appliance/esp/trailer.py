"""The ESP trailer: padding, pad length, next header (RFC 4303 §2.4 to §2.6)."""

from __future__ import annotations

from appliance.esp.drop import Drop
from appliance.esp.octets import Octets
from appliance.reasons import Reason

TRAILER = 2  # Pad Length and Next Header
NO_NEXT_HEADER = 59  # a dummy packet, RFC 4303 §2.6

# RFC 4303 §2.4: the first byte of padding is 1, the next 2, and so on. _PADDING[n] is n bytes of it and the pad length.
_PADDING = tuple(bytes(range(1, n + 1)) + bytes((n,)) for n in range(256))


def append_trailer(payload: Octets, next_header: int, alignment: int, tfc_length: int = 0) -> bytes:
    """Payload, TFC padding, padding, pad length and next header, together a multiple of ``alignment`` bytes.

    The payload is filled with zeros to ``tfc_length`` bytes if it is shorter (RFC 4303 §2.7).
    """
    length = len(payload)
    if length < tfc_length:
        fill, length = bytes(tfc_length - length), tfc_length
        return b"".join((payload, fill, _PADDING[-(length + TRAILER) % alignment], bytes((next_header,))))
    return b"".join((payload, _PADDING[-(length + TRAILER) % alignment], bytes((next_header,))))


def strip_trailer(plaintext: bytes) -> tuple[int, bytes]:
    """Next header and payload, TFC padding still behind it. Raises Drop(MALFORMED_ESP, or DUMMY for next header 59)."""
    length = len(plaintext)
    if length < TRAILER:
        raise Drop(Reason.MALFORMED_ESP, "no room for pad length and next header")
    pad_length, next_header = plaintext[-2], plaintext[-1]
    end = length - TRAILER - pad_length
    # The pad length counts bytes that must be there: the sender, authenticated or not, may say anything.
    if end < 0:
        raise Drop(Reason.MALFORMED_ESP, f"a pad length of {pad_length} in {length} bytes")
    # RFC 4303 §2.6: what else is in a dummy packet need not be well-formed.
    if next_header == NO_NEXT_HEADER:
        raise Drop(Reason.DUMMY)
    # RFC 4303 §2.4: a receiver SHOULD inspect the padding.
    if plaintext[end:-1] != _PADDING[pad_length]:
        raise Drop(Reason.MALFORMED_ESP, "the padding is not 1, 2, 3, …")
    return next_header, plaintext[:end]
