"""What the probe found, in the words of the contract."""

from __future__ import annotations

from appliance.datapath.kernel.probe.abilities import Ability, KernelAbilities
from appliance.datapath.kernel.states import Features
from appliance.reasons import Reason
from appliance.sa.datapath import Capabilities, Missing

_NEEDED = (Ability.POLICIES, Ability.ESP_IPV4, Ability.ESP_IPV6, Ability.OUTPUT_MARK)
_OPTIONAL = frozenset(ability.value for ability in Ability if ability not in _NEEDED)


def capabilities_of(abilities: KernelAbilities, *, max_sas: int | None = None) -> Capabilities:
    """What the kernel datapath can do here. Without output marks its own packets could not be told from others'."""
    missing = abilities.missing
    usable = abilities.usable and Ability.OUTPUT_MARK in abilities.able
    if not usable and not missing:
        missing = (Missing("the kernel's IPsec", Reason.KERNEL_TOO_OLD, abilities.release),)
    if not usable:
        # The first is why: not that an old kernel has no default policies either.
        missing = tuple(sorted(missing, key=lambda gap: gap.what in _OPTIONAL))
    return Capabilities(
        name="kernel",
        usable=usable,
        suites=abilities.suites,
        modes=abilities.modes,
        native=abilities.native,
        udp_encapsulation=abilities.udp_encapsulation,
        interfaces=Ability.INTERFACES in abilities.able and Ability.INTERFACE_ID in abilities.able,
        offload=Ability.CRYPTO_OFFLOAD in abilities.able,
        replay_windows=abilities.replay_windows,
        max_sas=max_sas,
        missing=missing,
    )


def features_of(abilities: KernelAbilities) -> Features:
    """Which attributes it keeps."""
    return Features(
        direction=Ability.DIRECTION in abilities.able, mapping_age=Ability.MAPPING_MAX_AGE in abilities.able
    )
