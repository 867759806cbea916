"""Clamping the maximum segment size in TCP's SYN (RFC 9293 §3.7.1), for paths that ICMP does not reach."""

from __future__ import annotations

from appliance.esp.checksum import adjusted
from appliance.esp.ip import IPV4_HEADER, IPV6_HEADER, TCP
from appliance.esp.octets import Octets
from appliance.esp.upper import upper_layer

TCP_HEADER = 20
_SYN = 0x02
_END = 0  # option kinds, RFC 9293 §3.2
_NO_OPERATION = 1
_MSS = 2


def mss_for(version: int, mtu: int) -> int:
    """The MSS of packets of ``mtu`` bytes without options or extension headers (RFC 9293 §3.7.1); at least 1."""
    return max(1, mtu - TCP_HEADER - (IPV4_HEADER if version == 4 else IPV6_HEADER))


def clamp_mss(packet: Octets, mss: int, *, partial_checksum: bool = False) -> Octets:
    """A packet whose SYN announces at most ``mss`` bytes; every other packet as it is.

    A SYN without the option is left alone: its peer assumes 536 or 1220 (RFC 9293 §3.7.1). With ``partial_checksum``
    the checksum field holds the pseudo-header's sum only, as with checksum offload, and stays. Raises
    Drop(MALFORMED_IP).
    """
    upper = upper_layer(packet)
    start = upper.offset
    # The header of a TCP segment is in the first fragment; 20 bytes of it must be there before they are looked at.
    if upper.protocol != TCP or upper.fragment_offset or upper.end - start < TCP_HEADER:
        return packet
    if not packet[start + 13] & _SYN:
        return packet
    end = start + (packet[start + 12] >> 4) * 4
    # The data offset counts the header itself, and must not point behind the packet.
    if not start + TCP_HEADER <= end <= upper.end:
        return packet
    at = _find_mss(packet, start + TCP_HEADER, end)
    if at is None or int.from_bytes(packet[at : at + 2], "big") <= mss:
        return packet
    edited = bytearray(packet)
    edited[at : at + 2] = mss.to_bytes(2, "big")
    if not partial_checksum:
        # An option may stand at an odd place; the checksum is of words that start at even ones of the segment.
        low = at - (at - start) % 2
        high = low + 2 if low == at else low + 4
        field = start + 16
        checksum = int.from_bytes(packet[field : field + 2], "big")
        edited[field : field + 2] = adjusted(checksum, packet[low:high], edited[low:high]).to_bytes(2, "big")
    return bytes(edited)


def _find_mss(packet: Octets, at: int, end: int) -> int | None:
    """The place of the value of the MSS option between ``at`` and ``end``; None too where options are malformed."""
    while at < end:
        kind = packet[at]
        if kind == _END:
            return None
        if kind == _NO_OPERATION:
            at += 1
            continue
        # Every other option has a length that counts kind and length, so at least 2, and stays inside.
        if at + 2 > end or packet[at + 1] < 2 or at + packet[at + 1] > end:
            return None
        if kind == _MSS:
            return at + 2 if packet[at + 1] == 4 else None
        at += packet[at + 1]
    return None
