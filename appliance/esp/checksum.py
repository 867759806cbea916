"""The Internet checksum (RFC 1071), its incremental update (RFC 1624), and pseudo-headers."""

from __future__ import annotations

from struct import pack

from appliance.esp.octets import Octets


def internet_checksum(octets: Octets) -> int:
    """The checksum of ``octets``, its field counted as zero. Over octets that hold a right checksum it is 0.

    The one's complement sum of 16-bit words is the number they form, modulo 0xFFFF: 2^16 is 1 there (RFC 1071 §2).
    """
    if len(octets) % 2:
        octets = b"".join((octets, b"\0"))  # RFC 1071 §1: an odd octet is padded with zero on its right
    number = int.from_bytes(octets, "big")
    # Of the two zeros, the sum is 0x0000 only if every word is; any other multiple of 0xFFFF sums to 0xFFFF.
    total = number % 0xFFFF or (0xFFFF if number else 0)
    return total ^ 0xFFFF


def adjusted(checksum: int, old: Octets, new: Octets) -> int:
    """A checksum after ``old`` was replaced by ``new``, both of the same even length at an even offset.

    RFC 1624 §3, equation 3: HC' = ~(~HC + ~m + m').
    """
    total = checksum ^ 0xFFFF
    for at in range(0, len(old), 2):
        total += (int.from_bytes(old[at : at + 2], "big") ^ 0xFFFF) + int.from_bytes(new[at : at + 2], "big")
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def pseudo_header(source: bytes, destination: bytes, protocol: int, length: int) -> bytes:
    """The pseudo-header of an upper-layer packet of ``length`` bytes: RFC 768 for IPv4, RFC 8200 §8.1 for IPv6."""
    if len(source) == 4:
        return pack("!4s4sBBH", source, destination, 0, protocol, length)
    return pack("!16s16sI3xB", source, destination, length, protocol)
