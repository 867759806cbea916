"""What the configuration wants, in the terms of the rooms that do it."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.config.model import CloseAction, DatapathSettings, Start
from appliance.ike.connection import ChildConfig, ConnectionConfig, EngineConfig
from appliance.sa.association import SecurityPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedChild:
    """A child that is wanted, and the policy that leads packets to it."""

    config: ChildConfig
    start: Start
    close_action: CloseAction
    policy: SecurityPolicy

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
        """Whether the two differ in their children at most, so that the IKE SA may stay."""
        from dataclasses import replace

        mine, theirs = replace(self.config, children=()), replace(other.config, children=())
        return mine == theirs and self.remote_port == other.remote_port


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """All that is wanted. ``policies`` has those of children and those of the configuration's own."""

    connections: dict[str, WantedConnection]
    policies: tuple[SecurityPolicy, ...]
    engine: EngineConfig
    datapath: DatapathSettings
    log_level: str = "info"
