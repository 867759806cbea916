"""What changed between two configurations, and when each change takes effect: a reload disturbs nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass

from appliance.config.model import Child, Config, Connection
from appliance.config.schema import ROOT
from appliance.config.tree import Effect, Key, Named, Table
from appliance.sa.proposal import Proposal


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildChange:
    """A child that both have. ``keys`` differ, such as "lifetime.time"; ``effect`` is the strongest of theirs.

    LIVE: its policy, timers and start action. REKEY: its next SAs. REESTABLISH: its SAs do not fit any more.
    """

    name: str
    keys: tuple[str, ...]
    effect: Effect


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionChange:
    """A connection that both have. ``keys`` are its own, not its children's; ``effect`` is theirs, None if none differ.

    REESTABLISH: peer, identity, authentication or encapsulation differ, so the IKE SA and all its children go.
    With REKEY or LIVE the IKE SA stays and the new values are used from now on.
    """

    old: Connection
    new: Connection
    keys: tuple[str, ...]
    effect: Effect | None
    children_added: tuple[str, ...]
    children_removed: tuple[str, ...]
    children_changed: tuple[ChildChange, ...]

    @property
    def name(self) -> str:
        """The connection's name."""
        return self.new.name

    @property
    def reestablish(self) -> bool:
        """Whether the IKE SA has to be made anew."""
        return self.effect is Effect.REESTABLISH


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigDiff:
    """The differences of two configurations.

    ``live`` and ``restart`` are keys outside connections and policies, such as "log.level", "interface.ipsec0.mtu" and
    "ike.port": those that can be applied at once, and those that need a new daemon. ``reordered``: children or policies
    of equal priority stand in another order, so policies have to be installed anew though none differs by itself.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[ConnectionChange, ...]
    policies_added: tuple[str, ...]
    policies_removed: tuple[str, ...]
    policies_changed: tuple[str, ...]
    reordered: bool
    interfaces_added: tuple[str, ...]
    interfaces_removed: tuple[str, ...]
    live: tuple[str, ...]
    restart: tuple[str, ...]

    @property
    def empty(self) -> bool:
        """Whether nothing differs."""
        return not any(getattr(self, field.name) for field in fields(self))


def diff(old: Config, new: Config) -> ConfigDiff:
    """Compare two configurations. Secrets are compared and never named but by their key."""
    before = {c.name: c for c in old.connections}
    after = {c.name: c for c in new.connections}
    changed = (_connection_change(before[name], after[name]) for name in after if name in before)
    old_policies = {p.name: p for p in old.policies}
    new_policies = {p.name: p for p in new.policies}
    old_interfaces = {i.name: i for i in old.interfaces}
    new_interfaces = {i.name: i for i in new.interfaces}
    globals_ = [
        (f"{name}.{key}", _effect((name, *key.split("."))))
        for name in ("datapath", "ike", "log", "control")
        for key in _different(getattr(old, name), getattr(new, name))
    ]
    globals_ += [
        (f"interface.{name}.{key}", _effect(("interface", "NAME", key)))
        for name, interface in new_interfaces.items()
        if name in old_interfaces
        for key in _different(old_interfaces[name], interface)
    ]
    return ConfigDiff(
        added=_missing(after, before),
        removed=_missing(before, after),
        changed=tuple(change for change in changed if change is not None),
        policies_added=_missing(new_policies, old_policies),
        policies_removed=_missing(old_policies, new_policies),
        policies_changed=tuple(n for n in new_policies if n in old_policies and new_policies[n] != old_policies[n]),
        reordered=_reordered(old, new),
        interfaces_added=_missing(new_interfaces, old_interfaces),
        interfaces_removed=_missing(old_interfaces, new_interfaces),
        live=tuple(key for key, effect in globals_ if effect is not Effect.RESTART),
        restart=tuple(key for key, effect in globals_ if effect is Effect.RESTART),
    )


def _missing(some: Mapping[str, object], others: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(name for name in some if name not in others)


def _reordered(old: Config, new: Config) -> bool:
    """Whether things that both have stand in another order."""

    def names(config: Config) -> list[str]:
        children = [f"{c.name}/{child.name}" for c in config.connections for child in c.children]
        return children + [p.name for p in config.policies]

    before, after = names(old), names(new)
    common = set(before) & set(after)
    return [n for n in before if n in common] != [n for n in after if n in common]


def _connection_change(old: Connection, new: Connection) -> ConnectionChange | None:
    if old == new:
        return None
    keys = tuple(key for key in _different(old, new) if key != "children")
    before = {c.name: c for c in old.children}
    after = {c.name: c for c in new.children}
    changes = (_child_change(before[name], after[name]) for name in after if name in before)
    path = ("connection", "NAME")
    change = ConnectionChange(
        old=old,
        new=new,
        keys=keys,
        effect=_strongest([_weakened(old, new, key) or _effect((*path, *key.split("."))) for key in keys]),
        children_added=tuple(n for n in after if n not in before),
        children_removed=tuple(n for n in before if n not in after),
        children_changed=tuple(change for change in changes if change is not None),
    )
    only_reordered = not (keys or change.children_added or change.children_removed or change.children_changed)
    return None if only_reordered else change


def _weakened(old: Connection, new: Connection, key: str) -> Effect | None:
    """A trust anchor more takes nothing from a peer that is authenticated; only one less does."""
    if key == "remote.ca" and set(old.remote.ca) <= set(new.remote.ca):
        return Effect.LIVE
    return None


def _child_change(old: Child, new: Child) -> ChildChange | None:
    keys = tuple(_different(old, new))
    if not keys:
        return None
    effects = [_effect(("connection", "NAME", "child", "NAME", *key.split("."))) for key in keys]
    return ChildChange(name=new.name, keys=keys, effect=_strongest(effects) or Effect.LIVE)


def _strongest(effects: list[Effect]) -> Effect | None:
    order = list(Effect)
    return max(effects, key=order.index, default=None)


def _different(old: object, new: object) -> Iterator[str]:
    """The dotted field names in which two values of one dataclass differ, as the file names them."""
    assert is_dataclass(old) and is_dataclass(new)
    for field in fields(old):
        if not field.compare:
            continue
        a, b = getattr(old, field.name), getattr(new, field.name)
        if a == b:
            continue
        name = _FILE_NAMES.get(field.name, field.name)
        if name == "fragment_size" and None in (a, b):
            name = "fragmentation"
        if is_dataclass(a) and is_dataclass(b) and type(a) is type(b) and not isinstance(a, Proposal):
            yield from (f"{name}.{inner}" for inner in _different(a, b))
        else:
            yield name


_FILE_NAMES = {"addresses": "address"}


def _effect(path: tuple[str, ...]) -> Effect:
    """The effect of a key by its path in the schema; user-given names are any word."""
    node: object = ROOT
    for name in path:
        if isinstance(node, Named):
            node = node.table
            continue
        assert isinstance(node, Table)
        node = node.keys[name]
    assert isinstance(node, Key)
    return node.effect
