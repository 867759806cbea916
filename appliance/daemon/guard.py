"""The guard: what a configuration protects never leaves in the clear, whether the daemon runs or not.

The daemon puts it up before anything else and leaves it when it ends; ``esplanade guard`` does the same at boot.
"""

from __future__ import annotations

from appliance.config.model import Config
from appliance.daemon.translate import Reqids, interfaces_of, policies_of
from appliance.reasons import Refusal
from appliance.sa.association import SecurityPolicy


def apply(config: Config) -> None:
    """Put the guard up for a configuration, in place of an older one, and hold what is routed to tunnel interfaces.

    Raises Refusal: NO_NFTABLES, NO_PRIVILEGE, KERNEL_REFUSED.
    """
    apply_policies(config, policies_of(config, Reqids()))


def apply_policies(config: Config, policies: tuple[SecurityPolicy, ...]) -> None:
    """The same for policies that were made already."""
    from appliance.datapath.guard import install_guard
    from appliance.datapath.kernel.options import trusted_mark

    if config.interfaces:
        from appliance.datapath.kernel.interfaces import hold_routes

        hold_routes(interfaces_of(config))
    settings = config.datapath
    install_guard(
        policies,
        tun=settings.soft.tun,
        mark=settings.soft.mark,
        ports=(config.ike.port, config.ike.port_nat),
        trusted_mark=trusted_mark(settings.soft.mark) if "kernel" in settings.order else None,
    )


def remove() -> None:
    """Take the guard away: from now on protected traffic may leave in the clear. Idempotent. Raises Refusal."""
    from appliance.datapath.guard import remove_guard
    from appliance.datapath.kernel.interfaces import remove_routes

    remove_routes()
    remove_guard()


def stands() -> bool:
    """Whether a guard is up, a former daemon's or that of boot too. False also where nft cannot tell."""
    from appliance.datapath.guard import guard_status

    try:
        return guard_status().installed
    except Refusal:
        return False
