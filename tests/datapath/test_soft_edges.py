"""Steering, guard and ingress: what they set up, and what they answer when they cannot."""

from __future__ import annotations

import socket
from dataclasses import replace
from ipaddress import IPv4Address, ip_address, ip_network

import pytest

from appliance.datapath import guard
from appliance.datapath.guard import guard_rules, guard_status, install_guard, remove_guard
from appliance.datapath.ingress import demultiplex, open_ingress
from appliance.datapath.rtnetlink import BLACKHOLE_RULE, GOTO, THROW, UNREACHABLE, Route, Rule
from appliance.datapath.soft import wire
from appliance.datapath.soft.options import SoftOptions
from appliance.datapath.soft.steering import homeward, plan
from appliance.reasons import Reason, Refusal
from appliance.sa.association import Handling, PolicyAction, SecurityPolicy
from appliance.sa.selector import TrafficSelector
from tests.datapath.pair import inside
from tests.lab.lab import Lab
from tests.lab.namespace import why_not

network = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


def policy(
    name: str, local: str, remote: str, action: PolicyAction = PolicyAction.PROTECT, priority: int = 10
) -> SecurityPolicy:
    return SecurityPolicy(
        name=name, action=action, priority=priority,
        local_ts=(TrafficSelector.parse(local),), remote_ts=(TrafficSelector.parse(remote),), reqid=1,
    )  # fmt: skip


def test_a_thousand_tunnels_of_one_network_need_one_rule_each_way() -> None:
    policies = [policy(f"p{i}", "10.1.0.0/24", f"10.{i // 250 + 2}.{i % 250}.0/24") for i in range(1000)]
    items = list(plan(policies, SoftOptions(), 5, []))
    assert len({item for item in items if isinstance(item, Rule)}) == 3
    assert len({*homeward(policies, SoftOptions(), [4])}) == 3
    assert len({item for item in items if isinstance(item, Route)}) == 2000


def test_everything_remote_leaves_home_and_the_link_alone() -> None:
    items = list(plan([policy("p", "10.1.0.0/24", "0.0.0.0/0")], SoftOptions(), 5, [IPv4Address("10.1.0.1")]))
    thrown = {str(item.destination) for item in items if isinstance(item, Route) and item.kind == THROW}
    assert thrown == {"10.1.0.0/24", "224.0.0.0/4", "255.255.255.255/32"}
    everything = [item for item in items if isinstance(item, Route) and item.destination == ip_network("0.0.0.0/0")]
    assert {item.kind for item in everything} == {1, UNREACHABLE}
    assert [item.source for item in everything if item.table == 221] == [IPv4Address("10.1.0.1")]


def test_exceptions_go_first_only_where_their_order_says_so() -> None:
    protect = policy("p", "10.1.0.0/24", "10.2.0.0/24", priority=10)
    before = policy("b", "10.1.0.0/24", "10.2.0.9", PolicyAction.BYPASS, 5)
    after = policy("c", "10.1.0.0/24", "10.2.0.8", PolicyAction.BYPASS, 15)
    stop = policy("d", "10.1.0.0/24", "10.3.0.0/24[tcp/25]", PolicyAction.DISCARD, 6)
    rules = [item for item in plan([protect, before, after, stop], SoftOptions(), 5, []) if isinstance(item, Rule)]
    targets = {(str(rule.destination), rule.action) for rule in rules if rule.destination is not None}
    assert targets == {("10.2.0.9/32", GOTO), ("10.3.0.0/24", BLACKHOLE_RULE)}
    refused = next(rule for rule in rules if rule.action == BLACKHOLE_RULE)
    assert (refused.protocol, refused.destination_ports) == (6, (25, 25))


def test_guard_keeps_the_policies_order() -> None:
    rules = guard_rules(
        [
            policy("p", "10.1.0.0/24", "10.2.0.0/24", priority=10),
            policy("b", "10.1.0.0/24", "10.2.0.9", PolicyAction.BYPASS, 5),
        ],
        1, tun="tun", mark=1, ports=(500,),
    )  # fmt: skip
    outward = rules.partition("chain outward")[2].partition("}")[0]
    assert outward.index("accept") < outward.index("drop")


def chain(rules: str, name: str) -> list[str]:
    return rules.partition(f"chain {name} {{\n")[2].partition("\n}")[0].splitlines()


def test_guard_lets_the_kernels_ipsec_pass_before_it_looks_at_policies() -> None:
    policies = [policy("p", "10.1.0.0/24", "10.2.0.0/24")]
    aware = guard_rules(policies, 1, tun="tun", mark=1, ports=(500,), ipsec=True)
    leave = chain(aware, "leave")
    assert leave.index("meta mark 0x1 accept") < leave.index("rt ipsec exists accept") < leave.index("jump outward")
    assert leave.index("rt ipsec exists accept") < next(at for at, line in enumerate(leave) if "jump quoting" in line)
    for name in ("pass", "arrive"):
        assert chain(aware, name).index("meta ipsec exists accept") < chain(aware, name).index("jump inward")
    assert "ipsec" not in guard_rules(policies, 1, tun="tun", mark=1, ports=(500,))


def test_guard_leaves_tunnel_interfaces_to_their_routes() -> None:
    plain = policy("p", "10.1.0.0/24", "10.2.0.0/24")
    routed = replace(policy("r", "0.0.0.0/0", "0.0.0.0/0"), handling=Handling(interface="ipsec7", if_id=7))
    rules = guard_rules([plain, routed], 1, tun="tun", mark=1, ports=(500,))
    without = guard_rules([plain], 1, tun="tun", mark=1, ports=(500,))
    assert rules == without.replace('{ "tun", "lo" }', '{ "tun", "lo", "ipsec7" }')
    assert rules.count('"ipsec7"') == 3


@network
def test_guard_knows_whether_the_kernel_tells_of_ipsec_and_stands_where_it_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Lab() as lab:
        namespace = lab.namespace("guarded")
        with inside(namespace):
            aware = guard.ipsec_aware()
            install_guard([policy("p", "10.1.0.0/24", "10.2.0.0/24")])
            assert ("ipsec exists" in namespace.run(["nft", "list", "ruleset"]).stdout) == aware
            guard._try_ipsec.cache_clear()
            monkeypatch.setattr(guard, "_DECRYPTED", "meta nonsense exists accept")
            assert not guard.ipsec_aware()
            install_guard([policy("p", "10.1.0.0/24", "10.2.0.0/24")])
            assert guard_status().installed
            assert "ipsec exists" not in namespace.run(["nft", "list", "ruleset"]).stdout
        guard._try_ipsec.cache_clear()


@network
def test_guard_takes_a_thousand_overlapping_pairs_and_is_idempotent() -> None:
    with Lab() as lab, inside(lab.namespace("guarded")):
        policies = [policy(f"p{i}", "10.1.0.0/24", f"10.{i // 250 + 2}.{i % 250}.0/24") for i in range(1000)]
        policies += [policy("wide", "10.1.0.0/16", "10.0.0.0/8"), policy("v6", "fd01::/64", "::/0")]
        policies += [policy("all", "0.0.0.0/0", "0.0.0.0/0")]
        for _ in range(2):
            install_guard(policies)
        assert guard_status().installed
        for _ in range(2):
            remove_guard()
        assert not guard_status().installed


@network
def test_ports_in_use_and_foreign_addresses_are_refused_with_names() -> None:
    with Lab() as lab, inside(lab.namespace("ports")):
        anywhere, here = ip_address("0.0.0.0"), ip_address("127.0.0.1")
        first = open_ingress(here)
        for address in (here, anywhere):
            with pytest.raises(Refusal) as refusal:
                open_ingress(address)
            assert refusal.value.reason is Reason.PORT_IN_USE and str(address) in refusal.value.detail
        first.close()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("0.0.0.0", 4500))
            with pytest.raises(Refusal) as refusal:
                open_ingress(here)
            assert refusal.value.reason is Reason.PORT_IN_USE and "4500" in refusal.value.detail
        open_ingress(anywhere).close()
        with pytest.raises(Refusal) as refusal:
            open_ingress(ip_address("192.0.2.77"))
        assert refusal.value.reason is Reason.BAD_ADDRESS


def test_port_4500_tells_ike_esp_and_keepalives_apart_rfc3948_2() -> None:
    assert demultiplex(bytes(4) + b"ike") == (b"ike", None)
    assert demultiplex(b"\0\0\1\0" + bytes(20)) == (None, b"\0\0\1\0" + bytes(20))
    for nothing in (b"", b"\xff", b"\1\2\3", b"\1\2\3\4\5"):
        assert demultiplex(nothing) == (None, None)


def test_frames_survive_being_cut_anywhere_and_nonsense_is_refused() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    sender, receiver = wire.Channel(ours), wire.Channel(theirs)
    secret = bytearray(b"key")
    sender.push(["install", 1, [1, 2]], secret, [theirs.fileno()])
    assert secret == bytes(3)
    sender.push(["dump", 2, None])
    frames = receiver.pull()
    assert frames is not None and [(value[0], bytes(key), len(fds)) for value, key, fds in frames] == [
        ("install", b"key", 1), ("dump", b"", 0)
    ]  # fmt: skip
    for _, _, fds in frames:
        for fd in fds:
            socket.close(fd)
    ours.send(b"\xff" * 9)
    with pytest.raises(wire.WireError):
        receiver.pull()
    sender.close()
    receiver.close()
