"""From the configuration to what is wanted: connections for the engine, policies for the datapaths, credentials."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeVar, cast

from appliance.config.model import Auth, Child, Config, Connection, Encapsulation, Start
from appliance.config.model import CloseAction as Close
from appliance.daemon.desired import Desired, WantedChild, WantedConnection
from appliance.ike.authentication.credential import LocalCredential, PskCredential
from appliance.ike.authentication.policy import Method, RemotePolicy
from appliance.ike.connection import (
    ChildConfig,
    ConnectionConfig,
    EngineConfig,
    RekeyPolicy,
    Retransmission,
    Unique,
)
from appliance.reasons import Refusal
from appliance.sa.association import Handling, PolicyAction, SecurityPolicy
from appliance.sa.identity import Identity
from appliance.sa.interface import TunnelInterface

PRIORITY_STEP = 1 << 16
"""Between two priorities of the configuration there is room for the file's order."""
_NO_FRAGMENT_SIZE = 1280
_Value = TypeVar("_Value", bound=Hashable)


class Reqids:
    """Numbers for children, by "connection/child": the same one for as long as the daemon runs."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def of(self, name: str) -> int:
        """The child's number, from 1."""
        return self._numbers.setdefault(name, len(self._numbers) + 1)


class _Shared:
    """Equal values as one object: a thousand connections seldom have a thousand different proposals or lifetimes."""

    def __init__(self) -> None:
        self._known: dict[Hashable, Hashable] = {}

    def of(self, value: _Value) -> _Value:
        return cast(_Value, self._known.setdefault(value, value))


def desired_of(config: Config, reqids: Reqids, *, warn: Callable[[str], None] = lambda text: None) -> Desired:
    """All that a configuration wants. Reads the credential files. Raises Refusal that names connection and file."""
    policies = {policy.name: policy for policy in policies_of(config, reqids)}
    connections: dict[str, WantedConnection] = {}
    shared = _Shared()
    for connection in config.connections:
        try:
            connections[connection.name] = _connection(connection, config, reqids, policies, shared, warn)
        except Refusal as refusal:
            where = f"connection {connection.name} ({config.path}:{connection.line})"
            raise Refusal(refusal.reason, f"{where}: {refusal.detail}", remedy=refusal.remedy) from refusal
    return Desired(
        connections=connections,
        policies=tuple(policies.values()),
        engine=EngineConfig(
            ike_port=config.ike.port,
            nat_port=config.ike.port_nat,
            cookie_threshold=config.ike.cookie_threshold,
            half_open_limit=config.ike.half_open_limit,
            half_open_per_address=config.ike.half_open_per_address,
            half_open_timeout=config.ike.half_open_timeout,
            max_ike_sas=config.ike.max_ike_sas,
        ),
        datapath=config.datapath,
        interfaces=interfaces_of(config),
        return_after=config.datapath.return_after,
        log_level=config.log.level.value,
    )


def policies_of(config: Config, reqids: Reqids) -> tuple[SecurityPolicy, ...]:
    """The security policy database: children's selectors and the configuration's own policies, first match first."""
    policies: list[SecurityPolicy] = []
    shared = _Shared()
    if_ids = {interface.name: interface.if_id for interface in config.interfaces}
    for connection in config.connections:
        for child in connection.children:
            name = f"{connection.name}/{child.name}"
            policies.append(
                SecurityPolicy(
                    name=name,
                    action=PolicyAction.PROTECT,
                    priority=child.priority * PRIORITY_STEP + len(policies),
                    local_ts=child.local_ts,
                    remote_ts=child.remote_ts,
                    reqid=reqids.of(name),
                    acquire=child.start is Start.ON_DEMAND or child.close_action is Close.ON_DEMAND,
                    mode=child.mode,
                    handling=shared.of(_handling(child, if_ids)),
                )
            )
    for policy in config.policies:
        policies.append(
            SecurityPolicy(
                name=policy.name,
                action=policy.action,
                priority=policy.priority * PRIORITY_STEP + len(policies),
                local_ts=policy.local_ts,
                remote_ts=policy.remote_ts,
            )
        )
    return tuple(sorted(policies, key=lambda policy: policy.priority))


def interfaces_of(config: Config) -> tuple[TunnelInterface, ...]:
    """The tunnel interfaces, in the file's order."""
    return tuple(
        TunnelInterface(
            name=interface.name,
            if_id=interface.if_id,
            addresses=interface.addresses,
            mtu=interface.mtu,
            routes=interface.routes,
            device=interface.device,
        )
        for interface in config.interfaces
    )


def _handling(child: Child, if_ids: dict[str, int]) -> Handling:
    return Handling(
        datapath=child.datapath,
        offload=child.offload,
        offload_device=child.offload_device,
        interface=child.interface,
        if_id=if_ids[child.interface] if child.interface is not None else 0,
    )


def _connection(
    connection: Connection,
    config: Config,
    reqids: Reqids,
    policies: dict[str, SecurityPolicy],
    shared: _Shared,
    warn: Callable[[str], None],
) -> WantedConnection:
    credential, default_id = _credential(connection, warn)
    local_id = _identity(connection.local.id) if connection.local.id is not None else default_id or Identity.any()
    remote_id = _identity(connection.remote.id)
    children = tuple(_child(connection, child, reqids, policies, shared) for child in connection.children)
    settings = ConnectionConfig(
        name=connection.name,
        local_addresses=connection.local.addresses,
        remote_addresses=connection.remote.addresses,
        local_id=shared.of(local_id),
        remote_id=remote_id,
        credential=credential,
        remote_policy=_remote_policy(connection, remote_id, warn),
        ike_proposals=shared.of(connection.ike_proposals),
        children=tuple(child.config for child in children),
        lifetime=shared.of(
            RekeyPolicy(connection.lifetime.time, connection.lifetime.margin, connection.lifetime.jitter)
        ),
        dpd_interval=connection.dpd.interval,
        dpd_timeout=connection.dpd.timeout,
        retransmission=shared.of(
            Retransmission(
                timeout=connection.retransmit.timeout,
                base=connection.retransmit.base,
                maximum=connection.retransmit.limit,
                give_up=connection.retransmit.give_up,
            )
        ),
        fragmentation=connection.fragment_size is not None,
        fragment_size=connection.fragment_size or _NO_FRAGMENT_SIZE,
        force_encapsulation=connection.encapsulation is Encapsulation.ALWAYS,
        keepalive_interval=connection.keepalive,
        unique=Unique(connection.unique.value),
        window=config.ike.window,
    )
    return WantedConnection(
        config=settings, start=connection.start, remote_port=connection.remote.port, children=children
    )


def _child(
    connection: Connection, child: Child, reqids: Reqids, policies: dict[str, SecurityPolicy], shared: _Shared
) -> WantedChild:
    name = f"{connection.name}/{child.name}"
    return WantedChild(
        config=ChildConfig(
            name=child.name,
            reqid=reqids.of(name),
            local_ts=child.local_ts,
            remote_ts=child.remote_ts,
            proposals=shared.of(child.esp_proposals),
            mode=child.mode,
            lifetime=shared.of(RekeyPolicy(child.lifetime.time, child.lifetime.margin, child.lifetime.jitter)),
            bytes=child.lifetime.bytes,
            packets=child.lifetime.packets,
            replay_window=child.replay_window,
            tfc_padding=child.tfc or 0,
            dscp=child.dscp,
            df=child.df,
            handling=policies[name].handling,
        ),
        start=child.start,
        close_action=child.close_action,
        policy=policies[name],
    )


def _credential(connection: Connection, warn: Callable[[str], None]) -> tuple[LocalCredential, Identity | None]:
    """What we authenticate with, and the identity that comes with it."""
    if connection.local.auth is Auth.PSK:
        return _psk(connection, warn), None
    from appliance.config.credentials import load_credential

    assert connection.local.cert is not None and connection.local.key is not None  # the configuration was checked
    identity = _identity(connection.local.id) if connection.local.id is not None else None
    return load_credential(connection.local.cert, connection.local.key, identity=identity, warn=warn)


def _remote_policy(connection: Connection, identity: Identity, warn: Callable[[str], None]) -> RemotePolicy:
    if connection.remote.auth is Auth.PSK:
        return RemotePolicy(method=Method.PSK, identity=identity, psk=_psk(connection, warn))
    from appliance.config.credentials import load_anchors

    return RemotePolicy(method=Method.PUBKEY, identity=identity, anchors=load_anchors(connection.remote.ca, warn=warn))


def _psk(connection: Connection, warn: Callable[[str], None]) -> PskCredential:
    if connection.psk is not None:
        return PskCredential(connection.psk.reveal())
    from appliance.config.credentials import load_psk

    assert connection.psk_file is not None
    return PskCredential(load_psk(connection.psk_file, warn=warn))


def _identity(text: str) -> Identity:
    return Identity.parse(text)
