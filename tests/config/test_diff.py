"""What changed between two configurations, and what it takes to apply it."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

import pytest

from appliance.config.diff import ConfigDiff, _effect, diff
from appliance.config.load import loads
from appliance.config.model import Config
from appliance.config.schema import ROOT
from appliance.config.tree import Effect, Key, Named, Rows, Table

BASE = """\
schema = 1
[connection.a]
local = { address = "192.0.2.1", id = "a.example", auth = "psk" }
remote = { address = "192.0.2.2", id = "b.example", auth = "psk" }
psk = "correct horse battery staple"
[connection.a.child.net]
local_ts = ["10.1.0.0/24"]
remote_ts = ["10.2.0.0/24"]
[connection.a.child.other]
local_ts = ["10.1.1.0/24"]
remote_ts = ["10.2.1.0/24"]
[[policy]]
name = "dns"
action = "bypass"
local_ts = "10.1.0.53[udp/53]"
remote_ts = "0.0.0.0/0"
"""
ROUTED = """\
schema = 1
[connection.a]
local = { address = "192.0.2.1", id = "a.example", auth = "psk" }
remote = { address = "192.0.2.2", id = "b.example", auth = "psk" }
psk = "correct horse battery staple"
[connection.a.child.net]
interface = "ipsec0"
[interface.ipsec0]
address = ["10.9.0.1/30"]
[datapath]
order = ["kernel", "soft"]
"""
SECOND = BASE.split("[connection.a.child.other]")[0].replace("schema = 1", "").replace("connection.a", "connection.b")


def change(old: str, new: str, base: str = BASE) -> ConfigDiff:
    assert old in base
    return diff(loads(base), loads(base.replace(old, new)))


def test_the_same_configuration_has_no_difference() -> None:
    assert diff(loads(BASE), loads("# a comment\n\n" + BASE)).empty


def test_defaults_written_out_are_no_difference() -> None:
    written = 'psk = "correct horse battery staple"\nstart = "on-demand"\nkeepalive = "20000ms"\nfragmentation = true'
    assert change('psk = "correct horse battery staple"', written).empty


def test_connections_come_and_go() -> None:
    second = SECOND.replace("10.2.0.0", "10.3.0.0")
    added = diff(loads(BASE), loads(BASE + second))
    assert (added.added, added.removed, added.changed) == (("b",), (), ())
    removed = diff(loads(BASE + second), loads(BASE))
    assert (removed.added, removed.removed) == ((), ("b",)) and not removed.empty


@pytest.mark.parametrize(
    ("old", "new", "key", "effect"),
    [
        ('"192.0.2.2"', '"192.0.2.3"', "remote.address", Effect.REESTABLISH),
        ('"b.example"', '"c.example"', "remote.id", Effect.REESTABLISH),
        ("staple", "stable", "psk", Effect.REESTABLISH),
        ("\n[connection.a.child.net]", '\nencapsulation = "always"\n[connection.a.child.net]', "encapsulation",
         Effect.REESTABLISH),
        ("\n[connection.a.child.net]", "\nfragmentation = false\n[connection.a.child.net]", "fragmentation",
         Effect.REESTABLISH),
        ("\n[connection.a.child.net]", '\ndpd = { interval = "off" }\n[connection.a.child.net]', "dpd.interval",
         Effect.LIVE),
        ("\n[connection.a.child.net]", '\nike_proposals = "aes256gcm16-prfsha384-x25519"\n[connection.a.child.net]',
         "ike_proposals", Effect.REKEY),
    ],
)  # fmt: skip
def test_a_connections_own_change_leaves_its_children_alone(old: str, new: str, key: str, effect: Effect) -> None:
    found = change(old, new)
    (changed,) = found.changed
    assert (changed.keys, changed.effect, changed.reestablish) == ((key,), effect, effect is Effect.REESTABLISH)
    assert changed.children_added == changed.children_removed == changed.children_changed == ()
    assert "correct horse" not in repr(found)


@pytest.mark.parametrize(
    ("new", "key", "effect"),
    [
        ('remote_ts = ["10.2.0.0/23"]\npriority = 1', "remote_ts", Effect.REESTABLISH),
        ('remote_ts = ["10.2.0.0/24"]\nlifetime = { bytes = "1GB" }', "lifetime.bytes", Effect.REKEY),
        ('remote_ts = ["10.2.0.0/24"]\nreplay_window = 64', "replay_window", Effect.REKEY),
        ('remote_ts = ["10.2.0.0/24"]\nclose_action = "none"', "close_action", Effect.LIVE),
    ],
)
def test_only_the_child_that_changed_is_named(new: str, key: str, effect: Effect) -> None:
    (changed,) = change('remote_ts = ["10.2.0.0/24"]', new).changed
    assert changed.keys == () and changed.effect is None and not changed.reestablish
    (child,) = changed.children_changed
    assert child.name == "net" and key in child.keys and child.effect is effect


def test_children_come_and_go() -> None:
    (changed,) = change("child.other", "child.new").changed
    assert (changed.children_added, changed.children_removed) == (("new",), ("other",))
    assert changed.keys == () and changed.children_changed == ()


def test_a_further_trust_anchor_disturbs_nobody_and_one_less_does() -> None:
    base = BASE.replace('"b.example", auth = "psk"', '"b.example", auth = "pubkey", ca = ["x.pem", "y.pem"]')
    more = change('"y.pem"]', '"y.pem", "z.pem"]', base).changed[0]
    less = change(', "y.pem"]', "]", base).changed[0]
    assert (more.keys, more.effect) == (("remote.ca",), Effect.LIVE)
    assert (less.keys, less.effect) == (("remote.ca",), Effect.REESTABLISH)


@pytest.mark.parametrize(
    ("old", "new", "key", "effect"),
    [
        ('interface = "ipsec0"', 'interface = "ipsec0"\noffload = "none"', "offload", Effect.REKEY),
        ('interface = "ipsec0"', 'interface = "ipsec0"\noffload_device = "eth0"', "offload_device", Effect.REKEY),
        ('interface = "ipsec0"', 'interface = "ipsec0"\ndatapath = "kernel"', "datapath", Effect.REKEY),
        ('interface = "ipsec0"', 'local_ts = "0.0.0.0/0"\nremote_ts = "0.0.0.0/1"', "interface", Effect.REESTABLISH),
    ],
)
def test_how_a_child_is_carried_changes_at_a_rekey_and_its_interface_at_once(
    old: str, new: str, key: str, effect: Effect
) -> None:
    (changed,) = change(old, new, ROUTED).changed
    (child,) = changed.children_changed
    assert key in child.keys and child.effect is effect and not changed.reestablish


def test_interfaces_come_go_and_change_in_place() -> None:
    more = ROUTED + '[interface.ipsec1]\naddress = "10.9.1.1/30"\n'
    assert diff(loads(ROUTED), loads(more)).interfaces_added == ("ipsec1",)
    assert diff(loads(more), loads(ROUTED)).interfaces_removed == ("ipsec1",)
    keys = 'address = ["10.9.0.1/29"]\nmtu = 1300\nroutes = "10.2.0.0/16"\nif_id = 7\ndevice = "eth0"'
    found = change('address = ["10.9.0.1/30"]', keys, ROUTED)
    assert found.live == tuple(f"interface.ipsec0.{key}" for key in ("address", "routes", "mtu", "if_id", "device"))
    assert found.restart == () and found.changed == ()


def test_policies_come_go_and_change() -> None:
    assert change('"dns"', '"names"').policies_added == ("names",)
    assert change('"dns"', '"names"').policies_removed == ("dns",)
    assert change('"bypass"', '"discard"').policies_changed == ("dns",)


def test_another_order_of_children_is_a_difference() -> None:
    parts = BASE.split("[connection.a.child.")
    tail = parts[2].partition("[[policy]]")
    swapped = f"{parts[0]}[connection.a.child.{tail[0]}[connection.a.child.{parts[1]}[[policy]]{tail[2]}"
    found = diff(loads(BASE), loads(swapped))
    assert found.reordered and not found.empty
    assert found.changed == ()


def test_globals_are_live_or_need_a_restart() -> None:
    found = diff(loads(BASE), loads(BASE + '[ike]\nport = 501\ncookie_threshold = 1\n[log]\nlevel = "debug"\n'))
    assert (found.live, found.restart) == (("ike.cookie_threshold", "log.level"), ("ike.port",))
    assert diff(loads(BASE), loads(BASE + '[datapath.soft]\ntun = "x0"')).restart == ("datapath.soft.tun",)
    kernel = '[datapath]\norder = ["kernel"]\nreturn_after = "off"\n[datapath.kernel]\nsurvivors = "0s"\n'
    found = diff(loads(BASE), loads(BASE + kernel))
    assert found.live == ("datapath.return_after",)
    assert found.restart == ("datapath.order", "datapath.kernel.survivors")


def test_every_field_of_the_model_has_its_effect_in_the_schema() -> None:
    def walk(value: Any, path: tuple[str, ...]) -> None:
        for field in fields(value):
            inner = getattr(value, field.name)
            name = "address" if field.name == "addresses" else field.name
            if field.name in ("name", "line", "path", "warnings", "connections", "interfaces", "policies", "children"):
                continue
            if is_dataclass(inner):
                walk(inner, (*path, name))
            else:
                assert isinstance(_effect((*path, name)), Effect)

    config: Config = loads(BASE)
    walk(config.connections[0], ("connection", "NAME"))
    walk(config.connections[0].children[0], ("connection", "NAME", "child", "NAME"))
    walk(loads(ROUTED).interfaces[0], ("interface", "NAME"))
    for name in ("datapath", "ike", "log", "control"):
        walk(getattr(config, name), (name,))


def test_every_key_of_the_schema_says_what_it_is_for() -> None:
    def walk(table: Table) -> None:
        assert table.help
        for node in table.keys.values():
            match node:
                case Key():
                    assert node.help and node.type.words
                    assert node.required or node.default is not None or node.default_words
                    if node.default is not None:
                        node.type.parse(node.default)
                case Table():
                    walk(node)
                case Named() | Rows():
                    walk(node.table)

    walk(ROOT)
