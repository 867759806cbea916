"""What can be set on the soft datapath."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.datapath.ingress import OWN_MARK


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftOptions:
    """Settings of one soft datapath. Sizes in bytes, times in seconds.

    ``tun_mtu`` is what hosts see: the longest packet that fits into 1500 bytes with an AEAD in UDP over IPv4. An SA
    with less room cuts TCP to it, and tells hosts of other packets that are too big. ``steer`` keeps rules and routes
    that lead protected traffic to the TUN device, in ``table``, by rules from ``preference`` on; every ``audit`` those
    that another program removed come back. ``discards``: they drop what is to be discarded; without, something else
    does, so that what comes first for a policy of another datapath gets there. ``mtu_floor_*`` bound what ICMP messages
    may make of the path MTU, ``path_mtu`` is what is assumed before any.
    """

    tun: str = "esplanade0"
    tun_mtu: int = 1438
    mark: int = OWN_MARK
    steer: bool = True
    audit: float = 60.0
    table: int = 220
    preference: int = 220
    discards: bool = True
    clamp_mss: bool = True
    path_mtu: int = 1500
    mtu_floor_ipv4: int = 576
    mtu_floor_ipv6: int = 1280
    mtu_age: float = 600.0
    acquire_interval: float = 1.0
    acquire_queue: int = 16
    acquire_hold: float = 3.0
    sequence_headroom: float = 0.9
    max_sas: int = 65536
