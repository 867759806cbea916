"""The guard: nftables rules under which protected traffic never leaves in the clear, whether or not anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from appliance.datapath.soft.ingress import OWN_MARK
from appliance.sa.association import SecurityPolicy

TABLE = "esplanade_guard"


@dataclass(frozen=True, slots=True)
class GuardStatus:
    """Whether the guard stands, and what it dropped: packets leaving and arriving in the clear."""

    installed: bool
    dropped_out: int = 0
    dropped_in: int = 0


def install_guard(
    policies: Sequence[SecurityPolicy], *, tun: str = "esplanade0", mark: int = OWN_MARK, table: str = TABLE
) -> None:
    """Put the guard up for these policies, in place of an older one, in one step.

    Raises Refusal: NO_NFTABLES, NO_PRIVILEGE.
    """
    raise NotImplementedError


def remove_guard(*, table: str = TABLE) -> None:
    """Take the guard away. Idempotent. Raises Refusal: NO_NFTABLES, NO_PRIVILEGE."""
    raise NotImplementedError


def guard_status(*, table: str = TABLE) -> GuardStatus:
    """Tell whether the guard stands. Raises Refusal: NO_NFTABLES, NO_PRIVILEGE."""
    raise NotImplementedError
