"""Transport mode through a NAT: checksums that cover addresses which the NAT changed (RFC 3948 §3.1.2)."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from appliance.esp.checksum import adjusted
from appliance.esp.ip import ICMPV6, TCP, UDP
from appliance.esp.octets import Octets
from appliance.esp.upper import upper_layer

Address = IPv4Address | IPv6Address

# Where the checksum is in protocols whose checksum covers the addresses: RFC 9293 §3.1, RFC 768, RFC 4443 §2.3.
_CHECKSUM_AT = {TCP: 16, UDP: 6, ICMPV6: 2}


def with_checksum_for(packet: Octets, sent_source: Address, sent_destination: Address) -> Octets:
    """A decapsulated transport-mode packet with the checksum of the addresses that it has now.

    ``sent_source`` and ``sent_destination`` are the addresses that its sender put into the header, known from IKE's
    traffic selectors (RFC 7296 §2.23.1). Raises Drop(MALFORMED_IP).
    """
    upper = upper_layer(packet)
    place = _CHECKSUM_AT.get(upper.protocol)
    # The checksum's two bytes must be there, which they are in the first fragment only.
    if place is None or upper.fragment_offset or upper.offset + place + 2 > upper.end:
        return packet
    at = upper.offset + place
    checksum = int.from_bytes(packet[at : at + 2], "big")
    if upper.protocol == UDP and checksum == 0:
        return packet  # RFC 768: no checksum was made
    sent = sent_source.packed + sent_destination.packed
    checksum = adjusted(checksum, sent, upper.header.source + upper.header.destination)
    if upper.protocol == UDP and checksum == 0:
        checksum = 0xFFFF  # RFC 768: zero is sent as all ones
    edited = bytearray(packet)
    edited[at : at + 2] = checksum.to_bytes(2, "big")
    return bytes(edited)
