"""What the configuration wants, in the terms of the rooms that do it."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.config.model import CloseAction, DatapathSettings, Start
from appliance.ike.connection import ChildConfig, ConnectionConfig, EngineConfig
from appliance.sa.association import SecurityPolicy
from appliance.sa.interface import TunnelInterface


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedChild:
    """A child that is wanted, and the policy that leads packets to it."""

    config: ChildConfig
    start: Start
    close_action: CloseAction
    policy: SecurityPolicy

    def same_traffic(self, other: WantedChild) -> bool:
        """Whether its SAs still fit: selectors, mode and interface are the same. What else changes counts from the next
        rekey.
        """
        return self._traffic == other._traffic

    @property
    def _traffic(self) -> tuple[object, ...]:
        config = self.config
        return config.local_ts, config.remote_ts, config.mode, config.handling.interface, config.handling.if_id

    def same_packets(self, other: WantedChild) -> bool:
        """Whether its SAs treat packets the same way: algorithms, window, padding and outer header."""
        return all(getattr(self.config, name) == getattr(other.config, name) for name in _OF_THE_PACKETS)

    @property
    def name(self) -> str:
        """Its name within its connection."""
        return self.config.name


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedConnection:
    """A connection that is wanted. Two are equal if nothing that matters differs, credentials included."""

    config: ConnectionConfig
    start: Start
    remote_port: int
    children: tuple[WantedChild, ...]

    @property
    def name(self) -> str:
        """Its name."""
        return self.config.name

    def same_peer(self, other: WantedConnection) -> bool:
        """Whether peer, identities, credentials and the like are the same, so that the IKE SA may stay."""
        mine, theirs = self.config, other.config
        return all(getattr(mine, name) == getattr(theirs, name) for name in _OF_THE_PEER)


_OF_THE_PACKETS = ("proposals", "replay_window", "tfc_padding", "dscp", "df", "handling")
_OF_THE_PEER = (
    "local_addresses",
    "remote_addresses",
    "local_id",
    "remote_id",
    "credential",
    "remote_policy",
    "fragmentation",
    "force_encapsulation",
)
"""What an IKE SA was made with and cannot change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """All that is wanted. ``policies`` has those of children and those of the configuration's own.

    ``return_after``: seconds that a better datapath is up before children are moved back to it; None: they are not.
    """

    connections: dict[str, WantedConnection]
    policies: tuple[SecurityPolicy, ...]
    engine: EngineConfig
    datapath: DatapathSettings
    interfaces: tuple[TunnelInterface, ...] = ()
    return_after: float | None = None
    log_level: str = "info"
