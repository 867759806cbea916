"""What the golden model says about a packet's headers, and ip_header_t as the RTL gives it, field by field."""

from __future__ import annotations

from appliance.datapath.soft.packet import _ports
from appliance.esp.drop import Drop
from appliance.esp.extension import walk
from appliance.esp.ip import ESP, UDP, Ipv6Header, parse
from appliance.esp.transport import _behind, split_received, split_to_protect
from appliance.esp.udp import Datagram, classify, udp_payload
from appliance.esp.upper import upper_layer
from sim.tb.structs import layout

ESP_HEADER = 16  # SPI, sequence number and IV
HEADER = layout("ip_header_t")


def expected(packet: bytes) -> dict[str, int] | None:
    """The fields that mean something, for a packet and what may be behind it; None for a malformed one."""
    try:
        header = parse(packet)
        upper = upper_layer(packet)
    except Drop:
        return None
    v6 = isinstance(header, Ipv6Header)
    found = {
        "v6": int(v6),
        "total_length": header.total_length,
        "traffic_class": header.traffic_class,
        "source": int.from_bytes(header.source, "big"),
        "destination": int.from_bytes(header.destination, "big"),
        "protocol": upper.protocol,
        "upper_at": upper.offset,
        "later_fragment": int(upper.fragment_offset > 0),
    }
    if isinstance(header, Ipv6Header):
        chain = walk(packet, header)
        found |= {
            "flow_label": header.flow_label,
            "dont_fragment": 0,
            "fragment": int(chain.is_fragment),
            "upper_protocol_at": _behind(chain, len(chain.headers))[1],
            "headers": len(chain.headers),
        }
    else:
        found |= {
            "flow_label": 0,
            "dont_fragment": int(header.dont_fragment),
            "fragment": int(header.is_fragment),
            "upper_protocol_at": 9,
            "headers": 0,
        }
    cut = packet[: header.total_length]
    ports = (None, None) if upper.fragment_offset else _ports(cut, upper.offset, upper.protocol)
    found["has_ports"] = int(ports[0] is not None)
    if ports[0] is not None and ports[1] is not None:
        found |= {"source_port": ports[0], "destination_port": ports[1]}
    found["has_esp"] = 0
    if not found["fragment"]:
        parts = split_to_protect(packet)
        found |= {"esp_at": len(parts.head), "protocol_at": parts.protocol_at, "esp_protocol": parts.protocol}
        found |= _esp(packet)
    return found


def _esp(packet: bytes) -> dict[str, int]:
    parts = split_received(packet)
    begin, esp = len(parts.head), parts.payload
    if parts.protocol == UDP:
        try:
            esp = bytes(udp_payload(esp))
        except Drop:
            return {}
        begin += 8
        if classify(esp) is not Datagram.ESP:
            return {}
    elif parts.protocol != ESP:
        return {}
    if len(esp) < ESP_HEADER:
        return {}
    spi, sequence = int.from_bytes(esp[:4], "big"), int.from_bytes(esp[4:8], "big")
    return {"has_esp": 1, "esp_begin": begin, "esp_end": begin + len(esp), "spi": spi, "sequence_low": sequence}


def differences(packet: bytes, value: int) -> dict[str, tuple[int, int]]:
    """Where the RTL's header is not the golden model's, as (RTL, golden). Who has counted the bytes is the caller."""
    got, want = HEADER.unpack(value), expected(packet)
    malformed = got["malformed"] or got["total_length"] > len(packet)
    if want is None:
        return {} if malformed else {"malformed": (0, 1)}
    if malformed:
        return {"malformed": (1, 0)}
    return {name: (got[name], value) for name, value in want.items() if got[name] != value}
