"""What each of ``commands.py`` means, in this package's own values."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Network
from typing import Any

from appliance.datapath.kernel.xfrm import (
    AddressFilter,
    Aead,
    Auth,
    Crypt,
    DefaultAction,
    Defaults,
    Encap,
    EncapType,
    ExtraFlag,
    Lifetime,
    Mark,
    Mode,
    Offload,
    OffloadFlag,
    OutputMark,
    Policy,
    PolicyAction,
    PolicyDirection,
    PolicyFlag,
    PolicyId,
    PolicyType,
    Protocol,
    Replay,
    ReplayEsn,
    SaDirection,
    SecurityContext,
    Selector,
    SpdInfo,
    State,
    StateFilter,
    StateFlag,
    StateId,
    Template,
    requests,
)

A, B = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")
A6, B6 = IPv6Address("2001:db8::1"), IPv6Address("2001:db8::2")
SPI, SPI6 = 0xC0FFEE01, 0xC0FFEE06
AES256 = bytes(range(32))
GCM = Aead("rfc4106(gcm(aes))", bytes(range(20)), 128)
CBC = Crypt("cbc(aes)", AES256)
SHA256 = Auth("hmac(sha256)", bytes(range(64, 96)), 128)
ANY4 = IPv4Network("0.0.0.0/0")
CONTEXT = SecurityContext(b"system_u:object_r:ipsec_spd_t:s0\0")
NOTHING_YET = Lifetime(0, 0, 0, 0)
"""iproute2 leaves the limits of a larval SA zero; the kernel does not look at them."""

SEQ_99, SEQ_5 = 0x99000000, 0x05000000
"""iproute2 swaps the bytes of ``seq``, which the kernel keeps as they are: 0x99 and 5 on a little-endian machine."""


def v4(**fields: Any) -> State:
    return State(**{"source": A, "destination": B, "spi": SPI, "aead": GCM, **fields})


def v6(**fields: Any) -> State:
    return v4(**{"source": A6, "destination": B6, "spi": SPI6, **fields})


def larval(**fields: Any) -> State:
    return State(**{"source": A, "destination": B, "spi": 0, "lifetime": NOTHING_YET, **fields})


def between(**fields: Any) -> Selector:
    return Selector(IPv4Network("192.0.2.1"), IPv4Network("192.0.2.2"), **fields)


OUT4 = Selector(IPv4Network("10.1.0.0/24"), IPv4Network("10.2.0.0/24"))
TUNNEL = Template(A, B)
TRANSPORT = Template(mode=Mode.TRANSPORT, family=2)


def out4(**fields: Any) -> Policy:
    return Policy(**{"selector": OUT4, "direction": PolicyDirection.OUT, "templates": (TUNNEL,), **fields})


def out4_id(**fields: Any) -> PolicyId:
    return PolicyId(direction=PolicyDirection.OUT, **{"selector": OUT4, **fields})


def new(**fields: Any) -> bytearray:
    return requests.new_state(v4(**fields))


def transport(**fields: Any) -> bytearray:
    return new(mode=Mode.TRANSPORT, **fields)


def policy(**fields: Any) -> bytearray:
    return requests.new_policy(out4(**fields))


def transport_policy(**fields: Any) -> bytearray:
    return policy(templates=(TRANSPORT,), **fields)


STATES: dict[str, bytearray] = {
    "state-add-gcm": new(reqid=7),
    "state-add-chacha": new(aead=Aead("rfc7539esp(chacha20,poly1305)", AES256 + bytes.fromhex("a0a1a2a3"), 128)),
    "state-add-ccm-64": transport(aead=Aead("rfc4309(ccm(aes))", b"\xab" * 19, 64)),
    "state-add-gmac": new(aead=Aead("rfc4543(gcm(aes))", b"\x5a" * 20, 128)),
    "state-add-cbc-sha256": new(aead=None, crypt=CBC, auth=SHA256),
    "state-add-cbc-sha512": new(aead=None, crypt=CBC, auth=Auth("hmac(sha512)", bytes(range(64, 128)), 256)),
    "state-add-auth-legacy": new(
        aead=None, crypt=Crypt("cbc(aes)", b"\x11" * 16), auth=Auth("hmac(sha1)", bytearray(b"\x22" * 20))
    ),
    "state-add-ctr-xcbc": transport(
        aead=None, crypt=Crypt("rfc3686(ctr(aes))", b"\x33" * 20), auth=Auth("xcbc(aes)", b"\x44" * 16, 96)
    ),
    "state-add-null": new(aead=None, crypt=Crypt("ecb(cipher_null)"), auth=SHA256),
    "state-add-ah": new(aead=None, protocol=Protocol.AH, spi=0x1001, auth=Auth("hmac(sha384)", b"\x66" * 48, 192)),
    "state-add-comp": new(aead=None, protocol=Protocol.COMP, spi=0x1002, comp=Crypt("deflate")),
    "state-add-route2": requests.new_state(
        v6(
            aead=None,
            spi=0,
            protocol=Protocol.ROUTING,
            mode=Mode.ROUTEOPTIMIZATION,
            care_of=IPv6Address("2001:db8::77"),
        )
    ),
    "state-add-hao": requests.new_state(
        v6(
            aead=None,
            spi=0,
            protocol=Protocol.DSTOPTS,
            mode=Mode.ROUTEOPTIMIZATION,
            care_of=IPv6Address("2001:db8::78"),
        )
    ),
    "state-add-v6": requests.new_state(
        v6(
            mode=Mode.TRANSPORT,
            reqid=9,
            selector=Selector(IPv6Network("2001:db8::1"), IPv6Network("2001:db8::2")),
        )
    ),
    "state-add-beet": new(mode=Mode.BEET, selector=Selector(IPv4Network("10.0.0.1"), IPv4Network("10.0.0.2"))),
    "state-add-4-in-6": requests.new_state(
        v6(selector=Selector(IPv4Network("10.1.0.0/16"), IPv4Network("10.2.0.0/16")))
    ),
    "state-add-window-32": new(replay_window=32, replay=Replay(out_sequence=0x22, sequence=0x11)),
    "state-add-window-128": new(replay_esn=ReplayEsn(128)),
    "state-add-esn": new(replay_esn=ReplayEsn(64), flags=StateFlag.ESN),
    "state-add-esn-4096": new(
        flags=StateFlag.ESN, replay_esn=ReplayEsn(4096, out_sequence=0x4_0000_1002, sequence=0x3_0000_1001)
    ),
    "state-add-flags": new(flags=StateFlag(0x7F)),
    "state-add-extra-flags": new(extra_flags=ExtraFlag.DONT_ENCAP_DSCP | ExtraFlag.OSEQ_MAY_WRAP),
    "state-add-encap": new(encap=Encap(EncapType.ESPINUDP, 4500, 4501)),
    "state-add-encap-oa": new(encap=Encap(EncapType.ESPINUDP_NON_IKE, 500, 501, IPv4Address("198.51.100.1"))),
    "state-add-encap-tcp": new(encap=Encap(EncapType.ESPINTCP, 4500, 4500)),
    "state-add-encap-v6": requests.new_state(v6(encap=Encap(EncapType.ESPINUDP, 4500, 4500))),
    "state-add-mark": new(mark=Mark(0x15, 0xFF)),
    "state-add-mark-full": new(mark=Mark(0xDEADBEEF)),
    "state-add-if-id": new(if_id=0x42),
    "state-add-tfcpad": new(tfc_padding=1400),
    "state-add-output-mark": new(output_mark=OutputMark(0x17)),
    "state-add-output-mark-mask": new(output_mark=OutputMark(0x17, 0xFFFF)),
    "state-add-dir-in": new(direction=SaDirection.IN),
    "state-add-dir-out": new(direction=SaDirection.OUT),
    "state-add-limits": new(
        lifetime=Lifetime(
            soft_bytes=1000000,
            hard_bytes=2000000,
            soft_packets=5000,
            hard_packets=6000,
            soft_seconds=3000,
            hard_seconds=3600,
            soft_use_seconds=100,
            hard_use_seconds=200,
        )
    ),
    "state-add-sel-ports": transport(selector=between(protocol=17, source_port=4000, destination_port=53)),
    "state-add-sel-icmp": transport(selector=between(protocol=1, source_port=8, destination_port=0)),
    "state-add-sel-gre": transport(
        selector=between(protocol=47, source_port=0x1234, destination_port=0x5678, interface=1)
    ),
    "state-add-seq": new(seq=SEQ_99, reqid=0xFFFFFFFF),
    "state-add-ctx": new(security_context=CONTEXT),
    "state-add-everything": new(
        encap=Encap(EncapType.ESPINUDP, 4500, 4500),
        mark=Mark(1, 3),
        extra_flags=ExtraFlag.DONT_ENCAP_DSCP,
        reqid=3,
        replay_esn=ReplayEsn(1024),
        flags=StateFlag.ESN | StateFlag.DECAP_DSCP,
        selector=Selector(IPv4Network("10.0.0.0/8"), ANY4),
        lifetime=Lifetime(hard_bytes=99),
        output_mark=OutputMark(5, 0xF),
        if_id=6,
        tfc_padding=7,
    ),
    "state-add-everything-else": transport(
        aead=None,
        crypt=CBC,
        auth=SHA256,
        security_context=SecurityContext(b"a:b:c\0"),
        mark=Mark(1),
        extra_flags=ExtraFlag.OSEQ_MAY_WRAP,
        replay_window=32,
        replay=Replay(sequence=1),
        offload=Offload(1, OffloadFlag.PACKET),
        direction=SaDirection.OUT,
        output_mark=OutputMark(5),
        if_id=6,
        tfc_padding=7,
    ),
    "state-update": requests.update_state(v4(reqid=7)),
    "state-delete": requests.delete_state(StateId(B, SPI, source=A)),
    "state-delete-mark": requests.delete_state(StateId(B, SPI, source=A, mark=Mark(0x15, 0xFF))),
    "state-delete-v6": requests.delete_state(StateId(B6, SPI6, source=A6)),
    "state-delete-route2": requests.delete_state(StateId(B6, 0, Protocol.ROUTING, A6)),
    "state-get": requests.get_state(StateId(B, SPI, source=A)),
    "state-get-mark": requests.get_state(StateId(B6, SPI6, source=A6, mark=Mark(7))),
    "state-list": requests.dump_states(StateFilter(addresses=AddressFilter())),
    "state-list-addresses": requests.dump_states(
        StateFilter(Protocol.ESP, AddressFilter(IPv4Network("192.0.2.0/24"), IPv4Network("198.51.100.0/24")))
    ),
    "state-list-v6": requests.dump_states(StateFilter(Protocol.AH, AddressFilter(source=IPv6Network("2001:db8::/32")))),
    "state-flush": requests.flush_states(),
    "state-flush-esp": requests.flush_states(Protocol.ESP),
    "state-count": requests.get_sad_info(),
    "state-allocspi": requests.allocate_spi(larval(reqid=4, seq=SEQ_5), 0x100, 0xFFFFFFFF),
    "state-allocspi-mark": requests.allocate_spi(larval(mark=Mark(3, 7), mode=Mode.TRANSPORT), 0x100, 0x0FFFFFFF),
    "state-allocspi-dir": requests.allocate_spi(larval(direction=SaDirection.IN), 0x100, 0x200),
}

OFFLOAD: dict[str, dict[str, bytearray]] = {
    # What 6.1 says with the flag of the offload, 6.15 says in XFRMA_SA_DIR too.
    "6.1.0": {
        "state-add-offload-crypto": transport(offload=Offload(1, OffloadFlag.INBOUND)),
        "state-add-offload-out": transport(offload=Offload(1)),
    },
    "6.15.0": {
        "state-add-offload-crypto": transport(offload=Offload(1, OffloadFlag.INBOUND), direction=SaDirection.IN),
        "state-add-offload-out": transport(offload=Offload(1), direction=SaDirection.OUT),
        "state-add-offload-packet": new(
            offload=Offload(1, OffloadFlag.INBOUND | OffloadFlag.PACKET), direction=SaDirection.IN
        ),
    },
}

POLICIES: dict[str, bytearray] = {
    "policy-add": policy(priority=1000, templates=(Template(A, B, reqid=7),)),
    "policy-add-v6": requests.new_policy(
        Policy(
            selector=Selector(IPv6Network("2001:db8:1::/48"), IPv6Network("2001:db8:2::/48")),
            direction=PolicyDirection.IN,
            templates=(Template(B6, A6, spi=0x10, reqid=8),),
        )
    ),
    "policy-add-4-in-6": policy(templates=(Template(A6, B6),)),
    "policy-add-fwd": requests.new_policy(
        Policy(
            selector=Selector(OUT4.destination, OUT4.source),
            direction=PolicyDirection.FWD,
            priority=5,
            templates=(Template(B, A, reqid=7, optional=True),),
        )
    ),
    "policy-add-block": policy(action=PolicyAction.BLOCK, priority=0xFFFFFFFF, templates=()),
    "policy-add-allow": policy(selector=Selector(ANY4, ANY4, 17, destination_port=500), priority=1, templates=()),
    "policy-add-ports": policy(
        selector=Selector(IPv4Network("10.1.0.1"), IPv4Network("10.2.0.1"), 6, 443, 8443),
        templates=(Template(mode=Mode.TRANSPORT, reqid=1, family=2),),
    ),
    "policy-add-icmp6": policy(
        selector=Selector(IPv6Network("::/0"), IPv6Network("ff02::1"), 58, 135, 0), templates=()
    ),
    "policy-add-two-templates": policy(
        templates=(Template(A, B, Protocol.COMP, optional=True), TRANSPORT),
    ),
    "policy-add-beet": policy(templates=(Template(A, B, mode=Mode.BEET),)),
    "policy-add-mark": policy(mark=Mark(2, 0xF)),
    "policy-add-if-id": policy(if_id=0x42),
    "policy-add-index": transport_policy(index=0x1001),
    "policy-add-sub": transport_policy(policy_type=PolicyType.SUB),
    "policy-add-flags": transport_policy(flags=PolicyFlag.LOCALOK | PolicyFlag.ICMP),
    "policy-add-limits": transport_policy(lifetime=Lifetime(50, 60, 70, 80, 10, 20, 30, 40)),
    "policy-add-dev": transport_policy(selector=Selector(OUT4.source, OUT4.destination, interface=1)),
    "policy-add-host-bits": policy(
        selector=Selector(IPv4Interface("10.1.0.9/24"), IPv4Interface("10.2.0.9/24")),
        action=PolicyAction.BLOCK,
        templates=(),
    ),
    "policy-add-offload": policy(templates=(Template(A, B, reqid=7),), offload=Offload(1, OffloadFlag.PACKET)),
    "policy-add-ctx": transport_policy(security_context=CONTEXT),
    "policy-add-everything": transport_policy(
        security_context=SecurityContext(b"a:b:c\0"),
        mark=Mark(1),
        policy_type=PolicyType.SUB,
        priority=7,
        if_id=3,
        offload=Offload(1, OffloadFlag.PACKET),
    ),
    "policy-update": requests.update_policy(out4(priority=1001)),
    "policy-delete": requests.delete_policy(out4_id()),
    "policy-delete-index": requests.delete_policy(out4_id(selector=Selector(family=2), index=0x1001)),
    "policy-delete-mark-if-id": requests.delete_policy(out4_id(mark=Mark(2, 0xF), if_id=0x42)),
    "policy-delete-sub": requests.delete_policy(out4_id(policy_type=PolicyType.SUB)),
    "policy-get": requests.get_policy(out4_id()),
    "policy-get-index": requests.get_policy(out4_id(selector=Selector(family=2), index=0x1001)),
    "policy-list": requests.dump_policies(),
    "policy-flush": requests.flush_policies(),
    "policy-flush-sub": requests.flush_policies(PolicyType.SUB),
    "policy-count": requests.get_spd_info(),
    "policy-set-hthresh": requests.set_spd_info(SpdInfo(ipv4_threshold=(24, 32), ipv6_threshold=(64, 128))),
    "policy-setdefault": requests.set_defaults(
        Defaults(inbound=DefaultAction.BLOCK, forward=DefaultAction.BLOCK, outbound=DefaultAction.ACCEPT)
    ),
    "policy-setdefault-one": requests.set_defaults(Defaults(outbound=DefaultAction.BLOCK)),
    "policy-getdefault": requests.get_defaults(),
}


def meaning(name: str, version: str) -> bytearray:
    return OFFLOAD[version].get(name) or STATES.get(name) or POLICIES[name]
