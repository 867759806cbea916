"""Byte for byte against Scapy's ESP, in both directions.

What cannot be compared, because Scapy does otherwise:

- the UDP checksum over IPv6: Scapy sends zero, which RFC 8200 §8.1 forbids; it is checked by itself;
- IVs: Scapy makes random ones; both sides are given the same here, and ours are the sequence number for AEADs;
- transport mode with destination options and no routing header: Scapy puts ESP behind the options, as Linux does, and
  we before them (RFC 4303 §3.1.1 allows both); each reads what the other made;
- UDP encapsulation in transport mode behind IPv6 extension headers, which Scapy does not do;
- padding and replay on receipt, which Scapy does not check; ESN, whose high half it has to be told.
"""

from __future__ import annotations

from ipaddress import IPv6Address

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.ipsec import ESP, IPSecIntegrityError, SecurityAssociation

from appliance.esp.drop import Drop
from appliance.esp.encapsulation import Transport, decapsulate, encapsulate
from appliance.esp.tunnel import Tunnel
from appliance.reasons import Reason
from tests.esp.cases import FORMS, SPI, SUITES, SuiteCase, ipv4, ipv6, octets, pair, tunnel

HIGH = 7  # of the extended sequence numbers
BY_NAME = {suite.name: suite for suite in SUITES}


def scapy_sa(suite: SuiteCase, form: Tunnel | Transport, *, esn: bool) -> SecurityAssociation:
    encryption_key, integrity_key = suite.keys
    header = None
    if isinstance(form, Tunnel):
        source, destination = str(form.source), str(form.destination)
        header = (
            IP(src=source, dst=destination, id=6, ttl=64, flags="DF")
            if form.source.version == 4
            else IPv6(src=source, dst=destination, hlim=64)
        )
    return SecurityAssociation(
        ESP,
        spi=SPI,
        crypt_algo=suite.scapy_cipher,
        crypt_key=encryption_key,
        auth_algo=suite.scapy_integrity,
        auth_key=integrity_key,
        tunnel_header=header,
        nat_t_header=UDP(sport=form.ports[0], dport=form.ports[1]) if form.ports else None,
        esn_en=esn,
        esn=HIGH if esn else 0,
    )


def read(packet: bytes) -> IP | IPv6:
    return IP(packet) if packet[0] >> 4 == 4 else IPv6(packet)


def without_udp6_checksum(packet: bytes) -> bytes:
    """The packet with its UDP checksum as Scapy leaves it over IPv6; ours must be what Scapy itself computes."""
    if packet[0] >> 4 == 4 or packet[6] != 17:
        return packet
    ours = packet[46:48]
    again = IPv6(packet)
    del again[UDP].chksum
    assert bytes(again)[46:48] == ours != b"\0\0"
    return packet[:46] + b"\0\0" + packet[48:]


INNER = {
    "v4": ipv4(octets("x", 100), dont_fragment=True, identification=0x1234, traffic_class=0),
    "v4-odd": ipv4(octets("x", 33), dont_fragment=True),
    "v6": ipv6(octets("y", 101), flow_label=0),
    "v6-empty": ipv6(b"", protocol=253),
}


@pytest.mark.parametrize("esn", [False, True], ids=["noesn", "esn"])
@pytest.mark.parametrize("form_name", FORMS)
@pytest.mark.parametrize("suite", SUITES, ids=[suite.name for suite in SUITES])
def test_scapy_makes_and_reads_the_same_packets_rfc4303(suite: SuiteCase, form_name: str, esn: bool) -> None:
    form = FORMS[form_name]
    out, inbound = pair(suite, esn=esn)
    scapy = scapy_sa(suite, form, esn=esn)
    if esn:
        out.sequence = inbound.window.highest = HIGH << 32
    out.sequence += 5
    for count, inner in enumerate(INNER.values(), start=1):
        sealed = encapsulate(out, form, inner, identification=6)
        at = 20 if sealed[0] >> 4 == 4 else 40
        at += 8 if form.ports else 0
        assert sealed[at + 4 : at + 8] == (5 + count).to_bytes(4, "big")
        iv = sealed[at + 8 : at + 8 + out.transform.iv_length]
        # Ours is what Scapy makes of the same packet, sequence number and IV …
        theirs = bytes(scapy.encrypt(read(inner), seq_num=5 + count, iv=iv))
        assert without_udp6_checksum(sealed) == theirs
        # … Scapy reads ours …
        opened = scapy.decrypt(read(sealed))
        assert bytes(opened) == inner
        # … and we read Scapy's, which is the same sequence number again and so must come first to the window.
        assert decapsulate(inbound, form, theirs) == inner
        with pytest.raises(Drop) as drop:
            decapsulate(inbound, form, sealed)
        assert drop.value.reason is Reason.REPLAYED


@pytest.mark.parametrize("esn", [False, True], ids=["noesn", "esn"])
@pytest.mark.parametrize("name", ["gcm256", "chacha", "cbc128-SHA2-256-128", "null-SHA2-512-256"])
def test_scapy_refuses_what_we_refuse_and_we_what_scapy_refuses_rfc4303_3_4_4(name: str, esn: bool) -> None:
    suite, form = BY_NAME[name], FORMS["tunnel4"]
    out, inbound = pair(suite, esn=esn)
    if esn:
        out.sequence = inbound.window.highest = HIGH << 32
    scapy = scapy_sa(suite, form, esn=esn)
    ours = encapsulate(out, form, INNER["v4"])
    theirs = bytes(scapy.encrypt(read(INNER["v4"]), seq_num=1))
    # From the low half of the sequence number to the last byte of the ICV: every byte is authenticated.
    for at in (27, 28, 36, 60, len(ours) - 1):
        for packet in (ours, theirs):
            broken = bytearray(packet)
            broken[at] ^= 0x10
            with pytest.raises(Drop) as drop:
                decapsulate(inbound, form, bytes(broken))
            assert drop.value.reason is Reason.INTEGRITY
            with pytest.raises(IPSecIntegrityError):
                scapy.decrypt(read(bytes(broken)))
    other = bytearray(ours)
    other[23] ^= 1
    with pytest.raises(Drop) as drop:
        decapsulate(inbound, form, bytes(other))
    assert drop.value.reason is Reason.UNKNOWN_SPI
    with pytest.raises(TypeError):
        scapy.decrypt(read(bytes(other)))
    # The wrong high half of an ESN is a wrong ICV for both (RFC 4303 §2.2.1).
    if esn:
        inbound.window.highest += 1 << 32
        with pytest.raises(Drop) as drop:
            decapsulate(inbound, form, ours)
        assert drop.value.reason is Reason.INTEGRITY
        with pytest.raises(IPSecIntegrityError):
            scapy.decrypt(read(ours), esn=HIGH + 1)
        inbound.window.highest -= 1 << 32
    assert decapsulate(inbound, form, ours) == INNER["v4"]


@pytest.mark.parametrize("name", ["gcm128", "cbc256-SHA2-512-256"])
def test_transport_mode_with_extension_headers_and_options_agrees_with_scapy_rfc4303_3_1_1(name: str) -> None:
    suite, form = BY_NAME[name], Transport()
    base = {"src": "fd01::5", "dst": "fd02::9"}
    hop = IPv6ExtHdrHopByHop()
    routing = IPv6ExtHdrRouting(addresses=["fd03::1"], segleft=0)
    udp = UDP(sport=1000, dport=2000) / octets("z", 30)
    packets = [
        bytes(IPv6(**base) / hop / udp),
        bytes(IPv6(**base) / routing / udp),
        bytes(IPv6(**base) / hop / routing / udp),
        bytes(IPv6(**base) / hop / IPv6ExtHdrDestOpt() / routing / udp),
        bytes(IPv6(**base) / hop / IPv6ExtHdrDestOpt() / routing / IPv6ExtHdrDestOpt() / udp),
        ipv4(octets("o", 50), options=b"\x94\x04\0\0"),
    ]
    for packet in packets:
        out, inbound = pair(suite)
        scapy = scapy_sa(suite, form, esn=False)
        sealed = encapsulate(out, form, packet)
        at = sealed.index(SPI.to_bytes(4, "big"))
        iv = sealed[at + 8 : at + 8 + out.transform.iv_length]
        assert sealed == bytes(scapy.encrypt(read(packet), seq_num=1, iv=iv))
        assert bytes(scapy.decrypt(read(sealed))) == packet
        assert decapsulate(inbound, form, sealed) == packet


def test_destination_options_for_the_final_destination_are_protected_and_scapy_reads_them_rfc4303_3_1_1() -> None:
    suite, form = BY_NAME["gcm128"], Transport()
    packet = bytes(IPv6(src="fd01::5", dst="fd02::9") / IPv6ExtHdrDestOpt() / UDP(sport=1, dport=2) / b"data")
    out, inbound = pair(suite)
    scapy = scapy_sa(suite, form, esn=False)
    ours = encapsulate(out, form, packet)
    assert ours[6] == 50
    assert bytes(scapy.decrypt(read(ours))) == packet
    theirs = bytes(scapy.encrypt(read(packet), seq_num=1, iv=b"\0\0\0\0\0\0\0\1"))
    assert theirs[6] == 60
    assert decapsulate(inbound, form, theirs) == packet


def test_udp_checksum_over_ipv6_is_what_scapy_computes_also_where_it_comes_out_as_zero_rfc8200_8_1() -> None:
    suite, form = BY_NAME["gcm128"], tunnel(6, ports=(4500, 4500))
    assert isinstance(form.source, IPv6Address)
    out, _ = pair(suite)
    for length in range(40):
        without_udp6_checksum(encapsulate(out, form, ipv6(octets(f"c{length}", length))))
