"""Configurations as users write them, right and wrong."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.config.document import EXAMPLE
from appliance.config.load import load, loads
from appliance.config.model import Auth, CloseAction, Config, Start
from appliance.config.problem import ConfigError, Problem
from appliance.config.secret import Secret
from appliance.reasons import Reason
from appliance.sa.association import Mode, PolicyAction
from appliance.sa.proposal import DEFAULT_ESP_PROPOSALS, DEFAULT_IKE_PROPOSALS, format_proposal

CONNECTION = """\
schema = 1
[connection.a]
local = { address = "192.0.2.1", id = "a.example", auth = "psk" }
remote = { address = "192.0.2.2", id = "b.example", auth = "psk" }
psk = "correct horse battery staple"
"""
CHILD = """\
[connection.a.child.net]
local_ts = ["10.1.0.0/24"]
remote_ts = ["10.2.0.0/24"]
"""


def wrong(text: str, name: str = "gw.toml") -> tuple[Problem, ...]:
    """The errors of a text that has some, without warnings."""
    with pytest.raises(ConfigError) as caught:
        loads(text, name)
    for problem in caught.value.problems:
        assert problem.what and problem.cause and problem.remedy and problem.file == Path(name)
    return tuple(p for p in caught.value.problems if not p.warning)


def only(text: str) -> Problem:
    problems = wrong(text)
    assert len(problems) == 1, [str(p) for p in problems]
    return problems[0]


def with_connection(keys: str) -> str:
    return CONNECTION + keys + "\n" + CHILD


def with_child(keys: str) -> str:
    return CONNECTION + CHILD + keys + "\n"


def test_the_example_loads_as_it_stands() -> None:
    config = load(EXAMPLE)
    (connection,) = config.connections
    (child,) = connection.children
    assert connection.name == "site-b" and child.name == "net"
    assert connection.local.addresses == (ip_address("192.0.2.1"),)
    assert (connection.local.id, connection.remote.id) == ("gw-a.example", "gw-b.example")
    assert connection.psk is not None and connection.psk.reveal() == b"correct horse battery staple"
    assert connection.start is Start.INITIATE and child.start is Start.INITIATE
    assert (connection.dpd.interval, connection.dpd.timeout) == (30.0, 120.0)
    assert [format_proposal(p) for p in connection.ike_proposals] == [
        "aes256gcm16-prfsha384-ecp384",
        "aes256gcm16-prfsha384-x25519",
    ]
    assert [str(ts) for ts in child.local_ts + child.remote_ts] == [
        "10.1.0.0/24", "fd01::/64", "10.2.0.0/24", "fd02::/64",
    ]  # fmt: skip
    assert child.mode is Mode.TUNNEL
    assert (child.lifetime.time, child.lifetime.bytes, child.lifetime.packets) == (3600.0, 100 * 10**9, 10**9)
    assert config.datapath.order == ("soft",)


def test_absent_keys_have_the_defaults_of_the_schema() -> None:
    config = loads(CONNECTION + CHILD)
    (connection,) = config.connections
    (child,) = connection.children
    assert connection.ike_proposals == DEFAULT_IKE_PROPOSALS and child.esp_proposals == DEFAULT_ESP_PROPOSALS
    assert connection.start is Start.ON_DEMAND and child.close_action is CloseAction.ON_DEMAND
    assert (connection.lifetime.time, connection.lifetime.margin, connection.lifetime.jitter) == (14400, 1440, 720)
    assert connection.retransmit.give_up == pytest.approx(164.7, abs=0.1)
    assert config.ike.port == 500 and config.datapath.soft.tun == "esplanade0" and config.policies == ()
    assert str(config.control.path) == "/run/esplanade/control.sock"


def test_every_unit_is_understood() -> None:
    config = loads(
        with_connection('keepalive = "1m30s"\nlifetime = { time = "1.5h", margin = "5m", jitter = "0s" }')
        + 'lifetime = { bytes = "64KiB" }\ntfc = 1400\n'
    )
    connection = config.connections[0]
    assert connection.keepalive == 90.0
    assert (connection.lifetime.time, connection.lifetime.margin, connection.lifetime.jitter) == (5400, 300, 0)
    assert connection.children[0].lifetime.bytes == 65536 and connection.children[0].tfc == 1400


@pytest.mark.parametrize(
    ("text", "reason", "line", "words"),
    [
        (with_connection("dpd = { interval = 30 }"), Reason.CONFIG_UNIT, 6, ["30 has no unit", '"30s"']),
        (with_connection('dpd = { interval = "30" }'), Reason.CONFIG_UNIT, 6, ['"30s"']),
        (with_connection('keepalive = "30 sec"'), Reason.CONFIG_UNIT, 6, ["not a duration"]),
        (with_child("lifetime = { bytes = 5000 }"), Reason.CONFIG_UNIT, 9, ["5000 has no unit", '"5000B"']),
        (with_child('lifetime = { packets = "10k" }'), Reason.CONFIG_TYPE, 9, ["whole number of packets"]),
        (with_child("lifetime = { packets = 1.5 }"), Reason.CONFIG_TYPE, 9, ["1.5 is a number"]),
        (with_connection("keepalive = true"), Reason.CONFIG_TYPE, 6, ["true is a boolean"]),
        (with_connection('keepalive = "0.5s"'), Reason.CONFIG_VALUE, 6, ["out of range", '"1s" to "1h"']),
        (with_connection('ike_proposal = ["x"]'), Reason.CONFIG_UNKNOWN_KEY, 6, ["'ike_proposals'"]),
        (with_connection('mode = "tunnel"'), Reason.CONFIG_UNKNOWN_KEY, 6, ["[connection.NAME.child.NAME]"]),
        (with_child('start_action = "trap"'), Reason.CONFIG_UNKNOWN_KEY, 9, ["here it is start"]),
        (with_child('remotets = "x"'), Reason.CONFIG_UNKNOWN_KEY, 9, ["'remote_ts'"]),
        (CONNECTION + CHILD + "[datapth]\n", Reason.CONFIG_UNKNOWN_KEY, 9, ["'datapath'"]),
        (CONNECTION + CHILD + "[ike]\nnonsense = 1\n", Reason.CONFIG_UNKNOWN_KEY, 10, ["known are port"]),
        (with_connection('start = "initate"'), Reason.CONFIG_VALUE, 6, ['"initiate"']),
        (with_connection('ike_proposals = ["aes256gcm16-prfsha384-ecp384", "3des-sha1-modp1024"]'),
         Reason.CONFIG_PROPOSAL, 6, ["'3des' is refused", "ike_proposals[2]"]),
        (with_child('esp_proposals = ["aes265gcm16"]'), Reason.CONFIG_PROPOSAL, 9, ["'aes256gcm16'"]),
        (with_child("replay_window = 100"), Reason.CONFIG_VALUE, 9, ["power of two"]),
        (with_child("replay_window = 8192"), Reason.CONFIG_VALUE, 9, ["64 to 4096"]),
        (with_child('mode = "transport"\ntfc = 100').replace('"10.1.0.0/24"', '"192.0.2.1"').replace(
            '"10.2.0.0/24"', '"192.0.2.2"'), Reason.CONFIG_CONFLICT, 10, ["tfc", "tunnel mode"]),
        (with_connection('dpd = { interval = "60s", timeout = "30s" }'), Reason.CONFIG_LIFETIME, 6, ["dead"]),
        (with_child('lifetime = { time = "10m", margin = "8m", jitter = "2m" }'),
         Reason.CONFIG_LIFETIME, 9, ["whole time"]),
        (with_connection('psk_file = "x"'), Reason.CONFIG_CREDENTIAL, 6, ["both given"]),
        (with_connection('lifetime = "1h"'), Reason.CONFIG_TYPE, 6, ["a table is due"]),
        (with_connection("psk = 5").replace('psk = "correct horse battery staple"\n', ""),
         Reason.CONFIG_TYPE, 5, ["a string"]),
        (with_connection('psk = ""').replace('psk = "correct horse battery staple"\n', ""),
         Reason.CONFIG_CREDENTIAL, 5, ["empty"]),
        ((CONNECTION + CHILD).replace('psk = "correct horse battery staple"\n', ""),
         Reason.CONFIG_CREDENTIAL, 2, ["psk is missing"]),
        ((CONNECTION + CHILD).replace('"192.0.2.2"', '"gw.example.com"'), Reason.CONFIG_VALUE, 4, ["names are not"]),
        ((CONNECTION + CHILD).replace('"192.0.2.2"', '"192.0.2.0/24"'), Reason.CONFIG_VALUE, 4, ["a network"]),
        ((CONNECTION + CHILD).replace('"192.0.2.2"', '"224.0.0.1"'), Reason.CONFIG_VALUE, 4, ["one machine"]),
        ((CONNECTION + CHILD).replace('"192.0.2.2"', '"2001:db8::2"'), Reason.CONFIG_CONFLICT, 4, ["one family"]),
        ((CONNECTION + CHILD).replace('"192.0.2.2"', '["192.0.2.2", "192.0.2.2"]'),
         Reason.CONFIG_CONFLICT, 4, ["twice"]),
        ((CONNECTION + CHILD).replace(', id = "b.example"', "").replace('address = "192.0.2.2", ', ""),
         Reason.CONFIG_MISSING_KEY, 4, ["id is missing", "%any"]),
        (with_connection('start = "initiate"').replace('address = "192.0.2.2", ', ""),
         Reason.CONFIG_CONFLICT, 6, ["only the peer can start"]),
        ((CONNECTION + CHILD).replace(', auth = "psk" }\nremote', " }\nremote"),
         Reason.CONFIG_MISSING_KEY, 3, ["auth is missing"]),
        ((CONNECTION + CHILD).replace('"10.2.0.0/24"', '"10.2.0.1/24"'), Reason.CONFIG_SELECTOR, 8, ["10.2.0.0/24"]),
        ((CONNECTION + CHILD).replace('"10.2.0.0/24"', '"10.2.0.0/24",\n "fd02::/64"'),
         Reason.CONFIG_SELECTOR, 9, ["fd02::/64 is IPv6", "local_ts"]),
        ((CONNECTION + CHILD).replace('["10.2.0.0/24"]', "[]"), Reason.CONFIG_VALUE, 8, ["empty"]),
        (with_child('mode = "transport"').replace('"10.1.0.0/24"', '"192.0.2.1"'),
         Reason.CONFIG_SELECTOR, 8, ["not one address"]),
        (with_child('mode = "transport"').replace('"10.1.0.0/24"', '"192.0.2.1"').replace("10.2.0.0/24", "192.0.2.9"),
         Reason.CONFIG_SELECTOR, 8, ["not remote.address"]),
        ((CONNECTION + CHILD).replace("child.net", 'child."n t"'), Reason.CONFIG_NAME, 6, ["letters, digits"]),
        ((CONNECTION + CHILD).replace("schema = 1\n", ""), Reason.CONFIG_SCHEMA, 0, ["schema = 1"]),
        ((CONNECTION + CHILD + "nonsense = 1\n").replace("schema = 1", "schema = 2"),
         Reason.CONFIG_SCHEMA, 1, ["newer"]),
        ((CONNECTION + CHILD).replace("schema = 1", 'schema = "1"'), Reason.CONFIG_TYPE, 1, ["whole number"]),
        (CONNECTION + CHILD + '[datapath]\norder = ["soft", "fpga"]\n',
         Reason.CONFIG_VALUE, 10, ["not in this version"]),
        (CONNECTION + CHILD + "[ike]\nport = 4500\n", Reason.CONFIG_CONFLICT, 10, ["RFC 3948"]),
        (CONNECTION + CHILD + '[datapath.soft]\ntun = "a-name-that-is-too-long"\n',
         Reason.CONFIG_VALUE, 10, ["15 bytes"]),
        (CONNECTION + CHILD + '[datapath.soft]\ntun = "eth*"\n', Reason.CONFIG_VALUE, 10, ["letters, digits"]),
        (CONNECTION + CHILD + '[datapath.soft]\ntun = "all"\n', Reason.CONFIG_VALUE, 10, ["kernel's own"]),
        (CONNECTION + CHILD + "[datapath.soft]\ntable = 255\n", Reason.CONFIG_VALUE, 10, ["kernel's own"]),
        (CONNECTION + CHILD + "[datapath.soft]\ntable = 0x" + "f" * 6000, Reason.CONFIG_VALUE, 10, ["a huge number"]),
        (CONNECTION + CHILD + f'[control]\npath = "/{"x" * 200}"\n', Reason.CONFIG_VALUE, 10, ["107 bytes"]),
        (CONNECTION + CHILD + '[policy]\nname = "x"\n', Reason.CONFIG_TYPE, 9, ["[[policy]]"]),
        (CONNECTION + CHILD + '[[policy]]\nname = "x"\naction = "protect"\nlocal_ts = "::/0"\nremote_ts = "::/0"\n',
         Reason.CONFIG_VALUE, 11, ["connection.NAME.child.NAME"]),
        ((CONNECTION + CHILD).replace('"a.example"', '"*.example"'), Reason.CONFIG_VALUE, 3, ["is a pattern"]),
        ((CONNECTION + CHILD).replace('"a.example"', '"a\\u0000b"'), Reason.CONFIG_VALUE, 3, ["control characters"]),
    ],
)  # fmt: skip
def test_each_mistake_has_its_line_and_remedy(text: str, reason: Reason, line: int, words: list[str]) -> None:
    problem = only(text)
    assert (problem.reason, problem.line) == (reason, line), str(problem)
    for word in words:
        assert word in str(problem)


def test_a_missing_table_is_one_mistake() -> None:
    problem = only("schema = 1\n[connection.a]\n" + CONNECTION.split("\n", 3)[3] + CHILD)
    assert problem.reason is Reason.CONFIG_MISSING_KEY and problem.where == "connection.a.local" and problem.line == 2


def test_all_mistakes_are_told_together_by_line() -> None:
    problems = wrong(
        CONNECTION.replace('"192.0.2.1"', '"nowhere"')
        + 'start = "now"\n'
        + CHILD.replace("10.2", "10.299")
        + "[ike]\nport = 0\n"
        + "[[policy]]\n"
    )
    assert [p.line for p in problems] == [3, 6, 9, 11, 12, 12, 12, 12]
    with pytest.raises(ConfigError, match="2 of them") as caught:
        loads(CONNECTION + "a = 1\nb = 2\n")
    assert caught.value.reason is Reason.CONFIG_INVALID


def test_two_connections_with_the_same_selectors_are_an_error() -> None:
    second = (CONNECTION + CHILD).replace("schema = 1\n", "").replace("connection.a", "connection.b")
    problem = only(CONNECTION + CHILD + second)
    assert problem.reason is Reason.CONFIG_OVERLAP and problem.line == 13
    assert "b/net has the same selectors as a/net in line 6" in problem.what


def test_overlapping_selectors_are_a_warning_that_says_who_gets_the_packets() -> None:
    wide = '[connection.a.child.all]\nlocal_ts = "10.0.0.0/8"\nremote_ts = "0.0.0.0/0"\n'
    (warning,) = loads(CONNECTION + CHILD + wide).warnings
    assert warning.reason is Reason.CONFIG_OVERLAP and warning.line == 9
    assert "10.1.0.0/24 and 10.2.0.0/24" in warning.what and "a/net gets those packets" in warning.cause
    assert loads(CONNECTION + CHILD + wide + "priority = 3000\n").warnings == ()


@pytest.mark.parametrize(
    ("local", "remote"),
    [('"10.1.1.0/24"', '"10.2.0.0/24"'), ('"10.1.0.0/24[tcp]"', '"10.2.0.0/24[udp]"'), ('"fd01::/64"', '"fd02::/64"')],
)
def test_selectors_without_a_common_packet_do_not_overlap(local: str, remote: str) -> None:
    other = f"[connection.a.child.other]\nlocal_ts = {local}\nremote_ts = {remote}\n"
    assert loads(CONNECTION + CHILD + other).warnings == ()


@pytest.mark.parametrize(
    ("local", "remote", "named"),
    [
        ("0.0.0.0/0", "0.0.0.0/0", "0.0.0.0/0"),
        ("::/0", "::/0", "::/0"),
        ("192.168.0.0/24", "192.168.0.0/24[tcp]", "192.168.0.0/24"),
        ("10.1.0.0/24", "10.1.0.0-10.1.1.127", "10.1.0.0/24"),
        ("10.1.0.0/24", "0.0.0.0/0", ""),
        ("0.0.0.0/0", "10.2.0.0/24", ""),
        ("10.1.0.0/16", "10.1.2.0/24", ""),
    ],
)
def test_a_network_on_both_sides_is_a_warning(local: str, remote: str, named: str) -> None:
    child = f'[connection.a.child.net]\nlocal_ts = "{local}"\nremote_ts = "{remote}"\n'
    warnings = loads(CONNECTION + child).warnings
    assert [w.reason for w in warnings] == ([Reason.CONFIG_SIDES] if named else [])
    assert all(w.line == 6 and f"a/net has {named} on both sides" in w.what for w in warnings)


def test_policies_are_ordered_exceptions_from_children() -> None:
    policy = '[[policy]]\nname = "p"\naction = "bypass"\nlocal_ts = "10.1.0.0/16"\nremote_ts = "10.2.0.0/16"\n'
    config = loads(CONNECTION + CHILD + policy)
    assert config.warnings == () and config.policies[0].action is PolicyAction.BYPASS
    assert config.policies[0].priority < config.connections[0].children[0].priority
    twice = wrong(CONNECTION + CHILD + policy + policy)
    assert {p.reason for p in twice} == {Reason.CONFIG_OVERLAP, Reason.CONFIG_CONFLICT}


def test_a_thousand_children_are_checked_quickly() -> None:
    children = [
        f'[connection.a.child.c{n}]\nlocal_ts = "10.1.0.0/24"\nremote_ts = "10.{100 + n // 256}.{n % 256}.0/24"\n'
        for n in range(1000)
    ]
    config = loads(CONNECTION + "".join(children))
    assert len(config.connections[0].children) == 1000 and config.warnings == ()


def test_many_overlaps_are_named_up_to_a_bound() -> None:
    children = [
        f'[connection.a.child.c{n}]\nlocal_ts = "10.{n}.0.0/17"\nremote_ts = "10.{n}.0.0-10.255.255.255"\n'
        for n in range(200)
    ]
    wide = '[connection.a.child.wide]\nlocal_ts = "10.0.0.0/8"\nremote_ts = "0.0.0.0/0"\n'
    warnings = loads(CONNECTION + "".join(children) + wide).warnings
    assert len(warnings) == 51 and "150 further pairs" in warnings[0].what


def test_a_thousand_twins_are_told_once_each() -> None:
    twins = [f'[connection.a.child.c{n}]\nlocal_ts = "0.0.0.0/0"\nremote_ts = "::/0"\n' for n in range(1000)]
    problems = wrong(CONNECTION + "".join(twins).replace("0.0.0.0/0", "::/0"))
    assert len(problems) == 999 and {p.reason for p in problems} == {Reason.CONFIG_OVERLAP}


def test_absent_ids_with_psk_are_the_addresses() -> None:
    text = (CONNECTION + CHILD).replace(', id = "a.example"', "").replace(', id = "b.example"', "")
    connection = loads(text).connections[0]
    assert (connection.local.id, connection.remote.id) == ("192.0.2.1", "192.0.2.2")


def test_absent_selectors_are_the_addresses() -> None:
    child = loads(CONNECTION + '[connection.a.child.host]\nmode = "transport"\n').connections[0].children[0]
    assert (str(child.local_ts[0]), str(child.remote_ts[0])) == ("192.0.2.1", "192.0.2.2")


def test_pubkey_takes_files_and_leaves_the_id_to_the_certificate(tmp_path: Path) -> None:
    text = """\
schema = 1
[connection.a]
local = { address = "192.0.2.1", auth = "pubkey", cert = "gw.pem", key = "private/gw.key" }
remote = { address = "192.0.2.2", auth = "pubkey", ca = ["ca.pem", "/etc/ca2.pem"] }
"""
    config = loads(text + CHILD, tmp_path / "gw.toml")
    connection = config.connections[0]
    assert connection.local.auth is Auth.PUBKEY and connection.local.id is None and connection.remote.id == "%any"
    assert connection.local.key == tmp_path / "private/gw.key"
    assert connection.remote.ca == (tmp_path / "ca.pem", Path("/etc/ca2.pem"))
    assert any("every certificate of the ca" in w.cause for w in config.warnings)
    problems = wrong(text.replace(', cert = "gw.pem"', "").replace(', ca = ["ca.pem", "/etc/ca2.pem"]', "") + CHILD)
    assert [p.what for p in problems] == ["cert is missing", "ca is missing"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("correct horse battery staple", "short"), "shorter than 16 bytes"),
        (("correct horse", "0xc0ffee horse"), "taken as it stands"),
        (('auth = "psk" }\nremote', 'auth = "psk", cert = "x" }\nremote'), "cert is not used"),
        (('remote_ts = ["10.2.0.0/24"]\n', 'remote_ts = ["10.2.0.0/24"]\nlifetime = { time = "9h" }\n'), "live for 9h"),
        ((CHILD, ""), "no child"),
    ],
)
def test_what_is_only_suspicious_is_a_warning(change: tuple[str, str], words: str) -> None:
    (warning,) = loads((CONNECTION + CHILD).replace(*change)).warnings
    assert warning.warning and words in warning.what


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("schema = 1\n[connection.a]\nlocal = { address = \"192.0.2.1\", id =", 3, "cut short"),
        ("schema = 1\npsk = \"half", 2, "cut short"),
        ("schema = 1\nx = [\n 1,\n", 3, "cut short"),
        ("schema = 1\n[connection", 2, "cut short"),
        ("schema = 1\n[connection.a]\nstart = initiate\npsk = \"x\"\n", 3, 'write "initiate" in quotes'),
        ("schema = 1\ndpd = 30s\n", 2, "in quotes"),
        ("schema = 1\nschema = 1\n", 2, "twice"),
        ("[a]\n[a]\n", 2, "twice"),
        ("schema = 1\npsk = \"half\nx = 1\n", 2, "close it on the same line"),
        ("\ufeffschema = 1\n", 1, "byte order mark"),
        ("x = " + "[" * 5000 + "]" * 5000, 1, "nested too deeply"),
        ("x = " + "9" * 5000, 1, ""),
    ],
)  # fmt: skip
def test_broken_toml_says_where_and_what_to_do(text: str, line: int, words: str) -> None:
    problem = only(text)
    assert problem.reason is Reason.CONFIG_SYNTAX and problem.line == line, str(problem)
    assert words in str(problem)


def test_bytes_that_are_not_utf8_are_placed() -> None:
    with pytest.raises(ConfigError) as caught:
        loads(b'schema = 1\nx = "\xff"\n')
    (problem,) = caught.value.problems
    assert (problem.line, problem.column) == (2, 6) and "0xff" in problem.what


def test_a_file_cut_anywhere_is_answered_never_a_traceback() -> None:
    text = EXAMPLE.read_text()
    for end in range(0, len(text), 3):
        try:
            loads(text[:end])
        except ConfigError as error:
            assert all(p.remedy for p in error.problems)


@settings(max_examples=150)
@given(st.data())
def test_a_damaged_file_is_answered_never_a_traceback(data: st.DataObject) -> None:
    text = EXAMPLE.read_text()
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        junk = data.draw(
            st.sampled_from(["", '"', "[", "]", "{", "}", "\n", ".", "=", "0", "-", "x", "#", "é", "\\", ","])
        )
        text = text[:at] + junk + text[at + data.draw(st.integers(0, 12)) :]
    try:
        assert isinstance(loads(text), Config)
    except ConfigError as error:
        assert error.problems


odd = st.recursive(
    st.one_of(st.integers(), st.floats(), st.booleans(), st.text(max_size=5), st.just("1979-05-27")),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.sampled_from("ab"), inner, max_size=2)),
    max_leaves=4,
)


@settings(max_examples=150)
@given(
    st.sampled_from(
        ["schema", "policy", "connection", "connection.a", "connection.a.local", "connection.a.remote.auth", "ike",
         "connection.a.psk", "connection.a.child", "connection.a.child.x", "connection.a.child.x.local_ts", "datapath",
         "connection.a.dpd", "connection.a.lifetime.time", "datapath.order", "ike.port", "control.path", "log.level",
         "interface", "interface.x", "interface.x.address", "interface.x.routes", "connection.a.child.x.interface"]
    ),
    odd,
)  # fmt: skip
def test_any_type_of_value_anywhere_is_answered_never_a_traceback(key: str, value: object) -> None:
    try:
        loads(f"{'' if key == 'schema' else 'schema = 1'}\n{key} = {toml(value)}\n")
    except ConfigError as error:
        assert all(p.what and p.cause and p.remedy for p in error.problems)


def toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, float):
        return str(value) if "." in str(value) or "n" in str(value) else f"{value:.1f}"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "")


def test_secrets_are_never_shown() -> None:
    config = loads(CONNECTION + CHILD)
    secret = config.connections[0].psk
    assert isinstance(secret, Secret)
    for shown in (repr(config), str(secret), f"{secret:>5}", repr(secret)):
        assert "horse" not in shown
    for serialise in (pickle.dumps, json.dumps):
        with pytest.raises(TypeError):
            serialise(secret)
    assert secret == Secret(b"correct horse battery staple") and secret != Secret(b"x")
    for broken in (CONNECTION + "psk_file = 1\n" + CHILD, CONNECTION.replace("staple", "sta\\u0000ple") + "x = 1\n"):
        assert "horse" not in "".join(str(p) for p in wrong(broken))


@pytest.mark.parametrize(
    "line",
    [
     'psk = correct horse', 'psk = "corr"ect horse"', "psk = 'corr'ect horse'", 'psk = """', 'psk == "x horse"',
     'local = { address = "192.0.2.1", psk = horse }', 'pre-shared = horse',
     '"psk = horse', "connection.a.psk = horse",
    ],
)  # fmt: skip
def test_a_broken_line_with_a_secret_is_not_quoted(line: str) -> None:
    for problem in wrong(f"schema = 1\n[connection.a]\n{line}\n"):
        assert "horse" not in str(problem)


def test_a_wrong_type_of_secret_is_not_quoted() -> None:
    problem = only((CONNECTION + CHILD).replace('"correct horse battery staple"', '["tell", "nobody"]'))
    assert "nobody" not in str(problem)


@pytest.mark.parametrize("kind", ["missing", "directory", "device"])
def test_a_configuration_that_cannot_be_read_is_a_problem_like_others(tmp_path: Path, kind: str) -> None:
    path = {"missing": tmp_path / "no.toml", "directory": tmp_path, "device": Path("/dev/null")}[kind]
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert caught.value.reason is Reason.CONFIG_UNREADABLE


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_configuration_of_somebody_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "gw.toml"
    path.write_text(CONNECTION)
    path.chmod(0)
    with pytest.raises(ConfigError, match="may not read"):
        load(path)


def test_psk_files_are_for_their_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "gw.toml"
    path.write_text((CONNECTION + CHILD).replace('psk = "correct horse battery staple"', 'psk_file = "site.psk"'))
    with pytest.raises(ConfigError) as caught:
        load(path)
    (missing,) = caught.value.problems
    assert (missing.line, missing.where) == (5, "connection.a.psk_file") and "site.psk" in missing.cause
    secret = tmp_path / "site.psk"
    secret.touch(mode=0o644)
    secret.chmod(0o644)
    secret.write_text("correct horse battery staple\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    (readable,) = caught.value.problems
    assert "0644" in readable.cause and f"chmod 600 {secret}" in readable.remedy
    secret.chmod(0o600)
    assert load(path).warnings == ()
    assert "horse" not in str(readable)


def test_a_readable_configuration_with_a_psk_is_warned_about(tmp_path: Path) -> None:
    path = tmp_path / "gw.toml"
    path.write_text(CONNECTION + CHILD)
    path.chmod(0o644)
    (warning,) = load(path).warnings
    assert "0644" in warning.what and "chmod 600" in warning.remedy
    path.chmod(0o600)
    assert load(path).warnings == ()


def test_lines_do_not_make_configurations_differ() -> None:
    one, two = loads(CONNECTION + CHILD), loads("\n\n" + CONNECTION + "\n" + CHILD, "elsewhere.toml")
    assert one == two and one.connections[0].line != two.connections[0].line
    assert replace(one, policies=()) == one


def test_the_reference_in_the_readme_is_the_schemas() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "appliance.config.document", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_the_room_imports_without_cryptography() -> None:
    code = "import sys, appliance.config; sys.exit('cryptography' in sys.modules or 'appliance.ike' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
