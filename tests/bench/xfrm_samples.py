"""SAs and policies as a large gateway has them, as values and as words of ip-xfrm(8)."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from appliance.datapath.kernel.xfrm import (
    Aead,
    Lifetime,
    Policy,
    PolicyDirection,
    PolicyId,
    ReplayEsn,
    Selector,
    State,
    StateFlag,
    Template,
)

HERE = IPv4Address("192.0.2.1")
LOCAL = IPv4Network("10.1.0.0/24")
KEY = bytes(range(36))
OUT = int(PolicyDirection.OUT)


def address(number: int) -> IPv4Address:
    return IPv4Address(0x0A400000 + number)


def state(number: int) -> State:
    """AES-256-GCM, ESN, a window of 1024, lifetimes; each with a peer of its own."""
    return State(
        source=HERE,
        destination=address(number),
        spi=0x10000 + number,
        reqid=number + 1,
        aead=Aead("rfc4106(gcm(aes))", KEY, 128),
        flags=StateFlag.ESN,
        replay_esn=ReplayEsn(1024),
        lifetime=Lifetime(soft_seconds=3000, hard_seconds=3600),
    )


def policy(number: int) -> Policy:
    """For a network of its own by its peer's SA, with an index of our choice, as the kernel datapath has it."""
    return Policy(
        selector=Selector(LOCAL, IPv4Network((0x0A800000 + (number << 2), 30))),
        direction=PolicyDirection.OUT,
        priority=1000,
        index=(number + 1) << 3 | OUT,
        templates=(Template(HERE, address(number), reqid=number + 1),),
    )


def by_index(one: Policy) -> PolicyId:
    return PolicyId(direction=one.direction, index=one.index)


def add_state_words(one: State) -> str:
    return (
        f"xfrm state add src {one.source} dst {one.destination} proto esp spi {one.spi:#x} mode tunnel"
        f" reqid {one.reqid} flag esn replay-window 1024 aead rfc4106(gcm(aes)) 0x{KEY.hex()} 128"
        " limit time-soft 3000 limit time-hard 3600"
    )


def delete_state_words(one: State) -> str:
    return f"xfrm state delete src {one.source} dst {one.destination} proto esp spi {one.spi:#x}"


def add_policy_words(one: Policy) -> str:
    (template,) = one.templates
    return (
        f"xfrm policy add src {one.selector.source} dst {one.selector.destination} dir out index {one.index}"
        f" priority 1000 tmpl src {template.source} dst {template.destination} proto esp reqid {template.reqid}"
        " mode tunnel"
    )


def delete_policy_words(one: Policy) -> str:
    return f"xfrm policy delete src {one.selector.source} dst {one.selector.destination} dir out"


def delete_policy_by_index_words(one: Policy) -> str:
    return f"xfrm policy delete index {one.index} dir out"
