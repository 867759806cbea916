"""What a kernel can do for IPsec, as it was found by trying."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from appliance.sa.algorithms import Suite
from appliance.sa.association import Mode
from appliance.sa.datapath import Missing


class Ability(Enum):
    """One thing that a kernel has or has not; the value is its name for people."""

    ESP_IPV4 = "ESP over IPv4"
    ESP_IPV6 = "ESP over IPv6"
    TUNNEL = "tunnel mode"
    TRANSPORT = "transport mode"
    UDP_IPV4 = "ESP in UDP over IPv4"
    UDP_IPV6 = "ESP in UDP over IPv6"
    ESN = "extended sequence numbers"
    WIDE_WINDOW = "replay window of 4096 packets"
    DIRECTION = "direction of an SA"
    MAPPING_MAX_AGE = "interval of NAT mapping events"
    INTERFACE_ID = "SAs of an interface"
    OUTPUT_MARK = "output mark"
    CRYPTO_OFFLOAD = "crypto offload by a device"
    PACKET_OFFLOAD = "packet offload by a device"
    POLICIES = "policies"
    DEFAULT_POLICY = "default policy"
    INTERFACES = "xfrm interfaces"


SINCE: dict[Ability, tuple[int, int]] = {
    Ability.UDP_IPV6: (5, 8),
    Ability.DIRECTION: (6, 10),
    Ability.MAPPING_MAX_AGE: (5, 17),
    Ability.INTERFACE_ID: (4, 19),
    Ability.OUTPUT_MARK: (4, 19),
    Ability.CRYPTO_OFFLOAD: (4, 12),
    Ability.PACKET_OFFLOAD: (6, 2),
    Ability.DEFAULT_POLICY: (5, 15),
    Ability.INTERFACES: (4, 19),
}
"""The kernels that brought them. Distributions carry some back: what an older kernel does, it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelAbilities:
    """What this kernel can do, and why not the rest. What could not be tried, for lack of another, is in neither."""

    release: str
    able: frozenset[Ability] = frozenset()
    suites: tuple[Suite, ...] = ()
    missing: tuple[Missing, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether it can carry an SA at all."""
        return bool(self.suites) and Ability.POLICIES in self.able

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The modes that it does."""
        named = ((Ability.TUNNEL, Mode.TUNNEL), (Ability.TRANSPORT, Mode.TRANSPORT))
        return tuple(mode for ability, mode in named if ability in self.able)

    @property
    def native(self) -> bool:
        """Whether it does ESP without UDP."""
        return not self.able.isdisjoint((Ability.ESP_IPV4, Ability.ESP_IPV6))

    @property
    def udp_encapsulation(self) -> bool:
        """Whether it does ESP in UDP, at least over one of the two."""
        return not self.able.isdisjoint((Ability.UDP_IPV4, Ability.UDP_IPV6))

    @property
    def replay_windows(self) -> tuple[int, int]:
        """The narrowest and the widest window in packets; (0, 0) for none."""
        if not self.suites:
            return 0, 0
        return 1, 4096 if Ability.WIDE_WINDOW in self.able else 32


def kernel_version(release: str) -> tuple[int, int] | None:
    """Such as (6, 12), from what uname calls the release. None if it does not say."""
    parts = release.split("-")[0].split(".")
    try:
        return int(parts[0]), int(parts[1])
    except (ValueError, IndexError):
        return None
