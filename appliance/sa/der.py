"""The little DER that names and algorithm identifiers need (X.690): strict, bounded, and nothing else.

Every length is checked before use; whatever is not exactly DER raises ValueError.
"""

from __future__ import annotations

INTEGER, BIT_STRING, NULL, OBJECT_IDENTIFIER, SEQUENCE, SET = 0x02, 0x03, 0x05, 0x06, 0x30, 0x31


def element(tag: int, value: bytes) -> bytes:
    """One element: tag, shortest length, value."""
    if len(value) < 0x80:
        return bytes((tag, len(value))) + value
    length = len(value).to_bytes((len(value).bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + value


def read(data: bytes, tag: int) -> tuple[bytes, bytes]:
    """(value, rest) of the element at the start, which must have this tag. Raises ValueError."""
    found, value, rest = read_any(data)
    if found != tag:
        raise ValueError(f"tag {found:#04x} where {tag:#04x} is due")
    return value, rest


def read_any(data: bytes) -> tuple[int, bytes, bytes]:
    """(tag, value, rest) of the element at the start; lengths to 65,535 bytes. Raises ValueError."""
    if len(data) < 2:
        raise ValueError("DER ends early")
    length, start = data[1], 2
    if length & 0x80:
        count = length & 0x7F
        if not 1 <= count <= 2 or len(data) < 2 + count:
            raise ValueError("a DER length that is indefinite, too long or cut off")
        length, start = int.from_bytes(data[2 : 2 + count], "big"), 2 + count
        if length < 0x80 or (count == 2 and length < 0x100):
            raise ValueError("a DER length that is not the shortest")
    end = start + length
    if end > len(data):
        raise ValueError("DER ends early")
    return data[0], data[start:end], data[end:]


def encode_oid(oid: str) -> bytes:
    """The element of a dotted object identifier. Raises ValueError."""
    first, second, *others = (int(arc) for arc in oid.split("."))
    if first > 2 or (first < 2 and second > 39):
        raise ValueError(f"{oid} is not an object identifier")
    out = b""
    for arc in (first * 40 + second, *others):
        digits = bytes((arc & 0x7F,))
        while arc := arc >> 7:
            digits = bytes((0x80 | arc & 0x7F,)) + digits
        out += digits
    return element(OBJECT_IDENTIFIER, out)


def decode_oid(value: bytes) -> str:
    """The dotted object identifier in an element's value; at most 32 arcs of 64 bits. Raises ValueError."""
    arcs: list[int] = []
    arc, pending = 0, False
    for byte in value:
        if not pending and byte == 0x80:
            raise ValueError("an object identifier with padding")
        arc, pending = arc << 7 | byte & 0x7F, bool(byte & 0x80)
        if arc >> 64:
            raise ValueError("an object identifier with a huge arc")
        if not pending:
            arcs.append(arc)
            arc = 0
    if pending or not arcs or len(arcs) > 32:
        raise ValueError("an object identifier that is empty, too long or cut off")
    first = min(arcs[0] // 40, 2)
    return ".".join(str(number) for number in (first, arcs[0] - 40 * first, *arcs[1:]))
