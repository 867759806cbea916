"""SAs and policies to try a kernel with, each for one ability. Their keys are random and protect nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, ip_network

from appliance.datapath.kernel.algorithms import algorithms
from appliance.datapath.kernel.probe.abilities import Ability
from appliance.datapath.kernel.xfrm import (
    Encap,
    EncapType,
    Mode,
    Offload,
    OffloadFlag,
    OutputMark,
    Policy,
    PolicyDirection,
    ReplayEsn,
    SaDirection,
    Selector,
    State,
    StateFlag,
    Template,
)
from appliance.sa.algorithms import Suite, every_suite
from appliance.sa.selector import Address

_ENDS: dict[int, tuple[Address, Address]] = {
    4: (IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")),
    6: (IPv6Address("2001:db8::1"), IPv6Address("2001:db8::2")),
}
_INTERFACE = 7
_MARK = OutputMark(0x45, 0xFF)
_LOOPBACK = 1
"""The index of ``lo``, the only device of an empty namespace."""


@dataclass(frozen=True, slots=True)
class Trial:
    """An SA to install, and whether the SA that is read back has what was asked."""

    what: Suite | Ability
    state: State
    kept: Callable[[State], bool]


def suite_trials(version: int, first_spi: int) -> list[Trial]:
    """One SA for each suite, over IPv4 or IPv6."""
    return [Trial(suite, _state(version, first_spi + n, suite), _has(suite)) for n, suite in enumerate(every_suite())]


def ability_trials(version: int, first_spi: int, suite: Suite) -> list[Trial]:
    """One SA for each ability that an SA shows, with a suite that the kernel has."""

    def state() -> State:
        nonlocal first_spi
        first_spi += 1
        return _state(version, first_spi, suite)

    inward = replace(state(), encap=_encap(), mapping_max_age=30)
    udp = Ability.UDP_IPV4 if version == 4 else Ability.UDP_IPV6
    return [
        Trial(Ability.TUNNEL, replace(state(), flags=StateFlag.AF_UNSPEC), lambda sa: sa.mode is Mode.TUNNEL),
        Trial(Ability.TRANSPORT, replace(state(), mode=Mode.TRANSPORT), lambda sa: sa.mode is Mode.TRANSPORT),
        Trial(udp, replace(state(), encap=_encap()), lambda sa: sa.encap is not None),
        Trial(
            Ability.WIDE_WINDOW,
            replace(state(), replay_esn=ReplayEsn(4096)),
            lambda sa: sa.replay_esn is not None and sa.replay_esn.window == 4096,
        ),
        Trial(
            Ability.DIRECTION, replace(state(), direction=SaDirection.OUT), lambda sa: sa.direction is SaDirection.OUT
        ),
        Trial(Ability.MAPPING_MAX_AGE, inward, lambda sa: sa.mapping_max_age == 30),
        Trial(Ability.INTERFACE_ID, replace(state(), if_id=_INTERFACE), lambda sa: sa.if_id == _INTERFACE),
        Trial(Ability.OUTPUT_MARK, replace(state(), output_mark=_MARK), lambda sa: sa.output_mark == _MARK),
    ]


def other_family_trials(version: int, first_spi: int, suite: Suite) -> list[Trial]:
    """What is to be known of the other address family: ESP at all, and in UDP."""
    esp, udp = (Ability.ESP_IPV4, Ability.UDP_IPV4) if version == 4 else (Ability.ESP_IPV6, Ability.UDP_IPV6)
    return [
        Trial(esp, _state(version, first_spi, suite), lambda _: True),
        Trial(udp, replace(_state(version, first_spi + 1, suite), encap=_encap()), lambda sa: sa.encap is not None),
    ]


def offload_trial(version: int, spi: int, suite: Suite) -> State:
    """An SA that the loopback is to carry whole, which it never does: how the kernel says so is what tells."""
    return replace(_state(version, spi, suite), offload=Offload(_LOOPBACK, OffloadFlag.PACKET))


def policy_trial() -> Policy:
    """A policy as those of a tunnel are."""
    ours, peers = _ENDS[4]
    selector = Selector(ip_network("10.1.0.0/24"), ip_network("10.2.0.0/24"))
    return Policy(
        selector=selector, direction=PolicyDirection.OUT, priority=1000, templates=(Template(ours, peers, reqid=1),)
    )


def _state(version: int, spi: int, suite: Suite) -> State:
    source, destination = _ENDS[version]
    keys = bytearray(os.urandom(suite.encryption_key_length)), bytearray(os.urandom(suite.integrity_key_length))
    aead, crypt, auth = algorithms(suite, *keys)
    return State(
        source=source,
        destination=destination,
        spi=spi,
        reqid=1,
        aead=aead,
        crypt=crypt,
        auth=auth,
        flags=StateFlag.ESN if suite.esn else StateFlag(0),
        replay_esn=ReplayEsn(64) if suite.esn else None,
    )


def _has(suite: Suite) -> Callable[[State], bool]:
    def kept(state: State) -> bool:
        if suite.esn and not (state.flags & StateFlag.ESN and state.replay_esn is not None):
            return False
        if state.aead is not None:
            return state.aead.icv_bits == suite.icv_length * 8
        return state.auth is not None and state.auth.truncation_bits == suite.icv_length * 8

    return kept


def _encap() -> Encap:
    return Encap(EncapType.ESPINUDP, 4500, 4500)
