"""Configurations of datapaths, offload and route-based tunnels, right and wrong."""

from __future__ import annotations

import pytest

from appliance.config.load import loads
from appliance.config.model import DefaultPolicy, KernelDatapath
from appliance.config.problem import ConfigError
from appliance.reasons import Reason
from appliance.sa.association import Offload
from appliance.sa.selector import EVERYTHING
from tests.config.test_load import CHILD, CONNECTION, only, with_child

KERNEL = '[datapath]\norder = ["kernel", "soft"]\n'


def routed(keys: str, interface: str = "", *, name: str = "ipsec0", child: str = "", more: str = "") -> str:
    """A route-based tunnel: ``keys`` and ``child`` of its child, in lines 8 and then on, and ``interface``'s keys."""
    text = f'{CONNECTION}[connection.a.child.net]\ninterface = "{name}"\n{keys or "tfc = 1000"}\n'
    text += f"[interface.{name}]\n{interface or 'mtu = 1300'}\n"
    if child:
        text = text.replace("[interface", f"{child}\n[interface")
    if more:
        text += f'[interface.{more}]\n[connection.a.child.other]\ninterface = "{more}"\n'
    return text + KERNEL


@pytest.mark.parametrize(
    ("text", "reason", "line", "words"),
    [
        (CONNECTION + CHILD + '[datapath]\norder = ["kernel", "soft", "kernel"]\n',
         Reason.CONFIG_CONFLICT, 10, ["twice"]),
        (CONNECTION + CHILD + '[datapath]\norder = ["Kernal"]\n', Reason.CONFIG_VALUE, 10, ['did you mean "kernel"?']),
        (CONNECTION + CHILD + '[datapath]\nreturn_after = "never"\n',
         Reason.CONFIG_UNIT, 10, ["not a duration", 'or "off"']),
        (CONNECTION + CHILD + '[datapath.kernel]\ndefault_policy = "blok"\n', Reason.CONFIG_VALUE, 10, ['"block"']),
        (CONNECTION + CHILD + '[datapath.kernel]\ndefault_policy = "block"\n',
         Reason.CONFIG_CONFLICT, 10, ["nothing would be dropped", 'add "kernel"']),
        (CONNECTION + CHILD + '[datapath.kernel]\nsurvivors = "2h"\n', Reason.CONFIG_VALUE, 10, ['"0s" to "1h"']),
        (with_child("if_id_in = 5"), Reason.CONFIG_UNKNOWN_KEY, 9, ["[interface.NAME]"]),
        (with_child("hw_offload = true"), Reason.CONFIG_UNKNOWN_KEY, 9, ["here it is offload"]),
        (with_child('datapath = "fpga"'), Reason.CONFIG_VALUE, 9, ["not in this version"]),
        (with_child('datapath = "kernel"'), Reason.CONFIG_CONFLICT, 9, ["datapath.order", 'has "soft"']),
        (with_child('offload = "full"'), Reason.CONFIG_VALUE, 9, ['"packet"']),
        (with_child('offload = "packet"'), Reason.CONFIG_CONFLICT, 9, ['add "kernel" to [datapath] order']),
        (with_child('datapath = "soft"\noffload = "crypto"'),
         Reason.CONFIG_CONFLICT, 10, ['write datapath = "kernel"']),
        (with_child('offload_device = "eth0"'), Reason.CONFIG_CONFLICT, 9, ['add "kernel" to [datapath] order']),
        (with_child('offload_device = "eth0"\noffload = "none"\n' + KERNEL),
         Reason.CONFIG_CONFLICT, 9, ["does anything"]),
        (with_child('offload_device = "a/b"\n' + KERNEL), Reason.CONFIG_VALUE, 9, ["more than letters"]),
        (with_child('offload_device = "enp129s0f0np0v63"\n' + KERNEL), Reason.CONFIG_VALUE, 9, ["16 bytes long"]),
        (with_child('offload_device = "esplanade0"\n' + KERNEL), Reason.CONFIG_CONFLICT, 9, ["no hardware"]),
        (routed('offload_device = "ipsec0"'), Reason.CONFIG_CONFLICT, 8, ["that Esplanade makes"]),
        (with_child('tfc = 1000\noffload = "packet"\n' + KERNEL),
         Reason.CONFIG_CONFLICT, 9, ['offload = "packet"', "auto or none"]),
        (with_child('df = "set"\ndatapath = "kernel"\n' + KERNEL),
         Reason.CONFIG_CONFLICT, 9, ["copies DF or clears it", "let soft take the child"]),
        (with_child('df = "set"\n' + KERNEL.replace(', "soft"', "")), Reason.CONFIG_CONFLICT, 9, ["kernel's datapath"]),
        (routed('df = "set"'), Reason.CONFIG_CONFLICT, 8, ["kernel's datapath"]),
        (with_child('interface = "ipsec0"\n' + KERNEL), Reason.CONFIG_CONFLICT, 9, ["add [interface.ipsec0]"]),
        (routed('mode = "transport"', child='local_ts = "192.0.2.1"\nremote_ts = "192.0.2.2"'),
         Reason.CONFIG_CONFLICT, 7, ["transport mode", 'mode = "tunnel"']),
        (routed('datapath = "soft"').replace('["kernel"', '["soft", "kernel"').replace('l", "soft"]', 'l"]'),
         Reason.CONFIG_CONFLICT, 7, ['datapath = "soft"', "are the kernel's"]),
        (routed("").replace('"kernel", "soft"', '"soft"'), Reason.CONFIG_CONFLICT, 7, ["not in datapath.order"]),
        (routed("", 'address = "10.9.0.1"'), Reason.CONFIG_VALUE, 10, ["no prefix", '"10.9.0.1/32"']),
        (routed("", 'address = "10.9.0.0/30"'), Reason.CONFIG_VALUE, 10, ["the network itself", '"10.9.0.1/30"']),
        (routed("", 'address = "10.9.0.256/30"'), Reason.CONFIG_VALUE, 10, ["not an address"]),
        (routed("", 'address = "224.0.0.1/24"'), Reason.CONFIG_VALUE, 10, ["not an address that an interface"]),
        (routed("", 'routes = ["10.2.0.0/16", "10.2.0.1/24"]'),
         Reason.CONFIG_VALUE, 10, ['"10.2.0.0/24"', "routes[2]"]),
        (routed("", 'routes = ["10.2.0.0/16[tcp/80]"]'),
         Reason.CONFIG_VALUE, 10, ['write "10.2.0.0/16"', "no protocols"]),
        (routed("", 'routes = ["default"]'), Reason.CONFIG_VALUE, 10, ['"0.0.0.0/0"']),
        (routed("", 'address = "fd09::1/64"\nmtu = 1279'), Reason.CONFIG_CONFLICT, 11, ["IPv6", "1280 or more"]),
        (routed("", "if_id = 0"), Reason.CONFIG_VALUE, 10, ["from 1 to 4294967295"]),
        (routed("", 'device = "ipsec0"'), Reason.CONFIG_CONFLICT, 10, ["is a tunnel interface itself"]),
        (routed("", "", more="ipsec1").replace("ipsec1]", "ipsec1]\nif_id = 947130767"),
         Reason.CONFIG_CONFLICT, 12, ["both have if_id 947130767", "give ipsec1 an if_id"]),
        (routed("", 'routes = "10.2.0.0/16"', more="ipsec1").replace("ipsec1]", 'ipsec1]\nroutes = "10.2.0.0/16"'),
         Reason.CONFIG_CONFLICT, 12, ["routed to ipsec0 already, in line 9"]),
        (routed("", 'routes = "10.9.0.0/30"', more="ipsec1").replace("ipsec1]", 'ipsec1]\naddress = "10.9.0.1/30"'),
         Reason.CONFIG_CONFLICT, 12, ["address[1]", "10.9.0.0/30 is routed to ipsec0 already"]),
        (routed("").replace("[interface.ipsec0]", "[[interface]]").replace('interface = "ipsec0"\n', ""),
         Reason.CONFIG_TYPE, 8, ["write [interface.NAME]"]),
        (routed("", name="esplanade0"), Reason.CONFIG_CONFLICT, 9, ["TUN device"]),
    ],
)  # fmt: skip
def test_each_mistake_has_its_line_and_remedy(text: str, reason: Reason, line: int, words: list[str]) -> None:
    problem = only(text)
    assert (problem.reason, problem.line) == (reason, line), str(problem)
    for word in words:
        assert word in str(problem)


def test_a_route_based_tunnel_has_its_defaults() -> None:
    config = loads(routed("", 'address = ["10.9.0.1/30", "fd09::1/64"]\nroutes = ["10.2.0.0/16", "0.0.0.0/1"]'))
    (interface,) = config.interfaces
    (child,) = config.connections[0].children
    assert (interface.name, interface.mtu, interface.if_id, interface.device) == ("ipsec0", 1400, 947130767, None)
    assert [str(a) for a in interface.addresses] == ["10.9.0.1/30", "fd09::1/64"]
    assert [str(r) for r in interface.routes] == ["10.2.0.0/16", "0.0.0.0/1"]
    assert child.interface == "ipsec0" and config.interface("ipsec0") is interface
    assert child.local_ts == child.remote_ts == EVERYTHING
    assert (child.datapath, child.offload, child.offload_device) == (None, Offload.AUTO, None)
    assert (config.datapath.order, config.datapath.return_after) == (("kernel", "soft"), 60.0)
    assert config.datapath.kernel == KernelDatapath(default_policy=DefaultPolicy.PASS, survivors=180.0)


def test_a_side_that_is_not_said_is_everything_of_the_other_ones_family() -> None:
    (child,) = loads(routed('local_ts = "10.1.0.0/16"')).connections[0].children
    assert [str(ts) for ts in child.remote_ts] == ["0.0.0.0/0"]
    (child,) = loads(routed('remote_ts = "fd02::/48"')).connections[0].children
    assert [str(ts) for ts in child.local_ts] == ["::/0"]


def test_a_tunnel_interfaces_packets_are_its_own() -> None:
    two = routed("", more="ipsec1")
    assert loads(two).warnings == ()
    policy_based = '[connection.a.child.third]\nlocal_ts = "0.0.0.0/0"\nremote_ts = "10.0.0.0/8"\n'
    assert loads(two + policy_based).warnings == ()


def test_children_that_share_an_interface_share_its_packets() -> None:
    second = '[connection.a.child.second]\ninterface = "ipsec0"\n'
    assert only(routed("") + second).reason is Reason.CONFIG_OVERLAP
    (warning,) = loads(routed("") + second + 'remote_ts = "10.2.0.0/16"').warnings
    assert warning.reason is Reason.CONFIG_OVERLAP
    assert loads(routed("") + second + 'remote_ts = "10.2.0.0/16"\npriority = 100').warnings == ()


def test_an_interface_that_no_child_uses_is_a_warning() -> None:
    (warning,) = loads(CONNECTION + CHILD + "[interface.ipsec0]\n").warnings
    assert warning.line == 9 and "no child uses" in warning.what and "dropped" in warning.cause


def test_what_newer_kernels_refuse_is_a_warning() -> None:
    (warning,) = loads(routed('offload = "crypto"')).warnings
    assert warning.line == 8 and "Linux 6.16" in warning.cause
    assert loads(routed('offload = "auto"')).warnings == ()


def test_df_is_set_where_the_soft_datapath_may_take_the_child() -> None:
    for keys in ('df = "set"', 'df = "set"\ndatapath = "soft"'):
        assert loads(with_child(keys + "\n" + KERNEL)).warnings == ()


def test_a_wrong_interfaces_name_is_told_by_itself() -> None:
    text = routed("", name="ipsec0-too-long-by-far")
    with pytest.raises(ConfigError) as caught:
        loads(text)
    assert [problem.line for problem in caught.value.problems] == [7, 9]
    assert all("22 bytes long" in problem.what for problem in caught.value.problems)


def test_an_address_whose_network_swallows_the_peer_is_a_warning() -> None:
    (warning,) = loads(routed("", 'address = "192.0.2.9/24"')).warnings
    assert (warning.reason, warning.line) == (Reason.CONFIG_SIDES, 10)
    assert "192.0.2.0/24 leads 192.0.2.2" in warning.what


def test_a_route_that_swallows_the_peer_is_a_warning() -> None:
    (warning,) = loads(routed("", 'routes = ["10.0.0.0/8", "0.0.0.0/0"]')).warnings
    assert (warning.reason, warning.line) == (Reason.CONFIG_SIDES, 10)
    assert "0.0.0.0/0 leads 192.0.2.2" in warning.what and "192.0.2.2/32" in warning.remedy


@pytest.mark.parametrize("name", ["lo", "all", "default", "sixteen-letters1", "-x", ".."])
def test_an_interfaces_name_is_one_that_the_kernel_takes(name: str) -> None:
    problem = only(routed("", name="ipsec0").replace("[interface.ipsec0]", f'[interface."{name}"]\n[interface.ipsec0]'))
    assert (problem.reason, problem.line) == (Reason.CONFIG_NAME, 9)
