"""What comes out of a tunnel goes where a route names its network, or nowhere: the kernel is asked for each packet."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator

import pytest

from appliance.datapath.soft.options import SoftOptions
from appliance.datapath.soft.steering import Steering, remove_leftovers
from appliance.sa.association import PolicyAction, SecurityPolicy
from appliance.sa.datapath import Changed, Failed
from appliance.sa.selector import TrafficSelector
from tests.datapath.contract import heard
from tests.datapath.pair import inside, pair
from tests.lab.lab import Lab
from tests.lab.namespace import Namespace, why_not

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
NOWHERE = "nowhere"


class Router:
    """A gateway with a network behind "lan", a default route by "wan", and the rules of its policies."""

    def __init__(self, lab: Lab) -> None:
        self.namespace: Namespace = lab.namespace("gw", forwarding=True)
        self.host = lab.namespace("host")
        lab.link(self.namespace, "lan", self.host, "lan")
        lab.link(self.namespace, "wan", lab.namespace("out"), "wan")
        self.namespace.sysctl(ipv4__conf__all__rp_filter=0)
        self.namespace.ip(
            "tuntap add dev esplanade0 mode tun", "link set dev esplanade0 up",
            "addr add 10.1.0.1/24 dev lan", "addr add fd01::1/64 dev lan nodad",
            "addr add 192.0.2.1/24 dev wan", "addr add 2001:db8::1/64 dev wan nodad",
            "route add default via 192.0.2.2", "route add default via 2001:db8::2",
        )  # fmt: skip
        with inside(self.namespace):
            self.steering = Steering(SoftOptions())

    def apply(self, *policies: tuple[str, str]) -> None:
        """Protect from local to remote networks."""
        self.steering.apply([
            SecurityPolicy(
                name=f"{local} {remote}", action=PolicyAction.PROTECT, priority=10, reqid=number,
                local_ts=(TrafficSelector.parse(local),), remote_ts=(TrafficSelector.parse(remote),),
            )
            for number, (local, remote) in enumerate(policies, 1)
        ])  # fmt: skip

    def way(self, source: str, target: str) -> str:
        """The interface by which the kernel sends on a packet that came out of the tunnel, or NOWHERE."""
        argv = ["ip", "route", "get", target, "from", source, "iif", "esplanade0"]
        done = self.namespace.run(argv, check=False)
        words = done.stdout.split()
        if done.returncode != 0 or words[0] == "unreachable" or words[words.index("dev") + 1] == "lo":
            # "Invalid argument" is how the kernel says "blackhole".
            said = done.stdout + done.stderr
            assert "unreachable" in said or "Invalid argument" in said or "local" in words, said
            return "here" if "local" in words else NOWHERE
        return words[words.index("dev") + 1]

    def rules(self) -> str:
        """All rules of ours that the kernel has."""
        listed = [self.namespace.run(["ip", version, "rule"]).stdout for version in ("-4", "-6")]
        return "\n".join(line for line in "".join(listed).splitlines() if "229" < line.partition(":")[0] < "266")


@pytest.fixture
def router() -> Iterator[Router]:
    with Lab() as lab:
        made = Router(lab)
        yield made
        made.steering.close()


SITE = (("10.1.0.0/24", "10.2.0.0/24"), ("fd01::/64", "fd02::/64"))
FROM_SITE = (("10.2.0.5", "10.1.0.9"), ("fd02::5", "fd01::9"))


def test_default_routes_are_no_way_to_a_site_whenever_its_own_route_goes(router: Router) -> None:
    router.apply(*SITE)
    assert [router.way(*packet) for packet in FROM_SITE] == ["lan", "lan"]
    router.namespace.ip("route del 10.1.0.0/24 dev lan", "route del fd01::/64 dev lan")
    assert [router.way(*packet) for packet in FROM_SITE] == [NOWHERE, NOWHERE]
    router.namespace.ip("route add 10.0.0.0/8 dev lan", "route add fd00::/8 dev lan")
    assert [router.way(*packet) for packet in FROM_SITE] == ["lan", "lan"]
    # What is for the gateway itself stays here, and what did not come out of a tunnel is none of this.
    assert router.way("10.2.0.5", "10.1.0.1") == "here"
    assert "dev wan" in router.namespace.run(["ip", "route", "get", "203.0.113.9"]).stdout


def test_halves_of_a_default_route_are_one_too(router: Router) -> None:
    router.apply(*SITE)
    router.namespace.ip(
        "route del 10.1.0.0/24 dev lan", "route del fd01::/64 dev lan",
        "route add 0.0.0.0/1 via 192.0.2.2", "route add 128.0.0.0/1 via 192.0.2.2",
        "route add 8000::/1 via 2001:db8::2", "route add f000::/4 via 2001:db8::2",
    )  # fmt: skip
    assert [router.way(*packet) for packet in FROM_SITE] == [NOWHERE, NOWHERE]


def test_a_link_that_is_down_is_no_reason_to_take_the_default_route(router: Router) -> None:
    router.apply(*SITE)
    router.namespace.ip("link set dev lan down")
    assert [router.way(*packet) for packet in FROM_SITE] == [NOWHERE, NOWHERE]


def test_a_link_without_carrier_is_no_reason_to_take_the_default_route(router: Router) -> None:
    for interface in ("all", "lan"):
        router.namespace.sysctl(**{f"ipv4__conf__{interface}__ignore_routes_with_linkdown": 1})
    router.apply(*SITE)
    assert router.way("10.2.0.5", "10.1.0.9") == "lan"
    router.host.ip("link set lan down")
    deadline = time.monotonic() + 5
    while "linkdown" not in router.namespace.run(["ip", "route"]).stdout and time.monotonic() < deadline:
        time.sleep(0.01)  # the kernel tells the routes in its own time
    assert router.way("10.2.0.5", "10.1.0.9") == NOWHERE


@pytest.mark.parametrize("wide", ["0.0.0.0/0", "0.0.0.0-9.255.255.255", "11.0.0.0-172.15.255.255", "::/0", "2000::/3"])
def test_default_routes_are_ways_to_a_local_side_wider_than_any_site(router: Router, wide: str) -> None:
    remote, source, target, beyond = {
        "0.0.0.0-9.255.255.255": ("10.2.0.0/24", "10.2.0.5", "8.8.8.8", "203.0.113.9"),
        "11.0.0.0-172.15.255.255": ("10.2.0.0/24", "10.2.0.5", "100.1.2.3", "203.0.113.9"),
        "0.0.0.0/0": ("10.2.0.0/24", "10.2.0.5", "203.0.113.9", ""),
        "2000::/3": ("fd02::/64", "fd02::5", "2001:db8:77::1", "fd77::1"),
        "::/0": ("fd02::/64", "fd02::5", "2001:db8:77::1", ""),
    }[wide]
    router.apply((wide, remote))
    assert router.way(source, target) == "wan"
    assert not beyond or router.way(source, beyond) == NOWHERE
    # A site that is named beside it still needs a route of its own.
    version = 6 if ":" in wide else 4
    router.apply((wide, remote), SITE[version == 6])
    router.namespace.ip(f"route del {SITE[version == 6][0]} dev lan")
    assert router.way(*FROM_SITE[version == 6]) == NOWHERE
    assert router.way(source, target) == "wan"


@pytest.mark.parametrize("site", ["10.0.0.0/8", "fc00::/7"])
def test_the_widest_private_networks_are_sites(router: Router, site: str) -> None:
    version = 6 if ":" in site else 4
    router.apply((site, SITE[version == 6][1]))
    assert router.way(*FROM_SITE[version == 6]) == "lan"
    target = "10.77.0.1" if version == 4 else "fd77::1"
    assert router.way(FROM_SITE[version == 6][0], target) == NOWHERE


def test_out_of_one_tunnel_and_into_another(router: Router) -> None:
    """Hub and spoke: what is remote to one policy is local to the other."""
    router.apply(
        ("10.3.0.0/24", "10.2.0.0/24"), ("10.2.0.0/24", "10.3.0.0/24"),
        ("fd03::/64", "fd02::/64"), ("fd02::/64", "fd03::/64"),
    )  # fmt: skip
    for source, target in (("10.2.0.5", "10.3.0.9"), ("10.3.0.9", "10.2.0.5"), ("fd02::5", "fd03::9")):
        assert router.way(source, target) == "esplanade0"
    # The other spoke's policy goes: then there is no way to it, and not the default one.
    router.apply(("10.3.0.0/24", "10.2.0.0/24"))
    assert router.way("10.2.0.5", "10.3.0.9") == NOWHERE


def test_an_sa_that_outlives_its_policy_finds_no_default_route(router: Router) -> None:
    router.namespace.ip("route del 10.1.0.0/24 dev lan", "route del fd01::/64 dev lan")
    router.apply(*SITE)
    router.apply(("10.9.0.0/24", "10.8.0.0/24"))
    assert [router.way(*packet) for packet in FROM_SITE] == [NOWHERE, NOWHERE]
    router.apply()
    assert [router.way(*packet) for packet in FROM_SITE] == [NOWHERE, NOWHERE]


def test_rules_go_with_the_policies_that_need_them_and_a_successor_finds_those_of_a_killed_process(
    router: Router,
) -> None:
    router.apply(*SITE)
    before = router.rules()
    assert before.count("suppress_prefixlength") == 2
    router.apply(*SITE, ("0.0.0.0/0", "10.2.0.0/24"))
    assert "263:" in router.rules() and "265:" in router.rules()
    router.steering.close()
    with inside(router.namespace):
        router.steering = Steering(SoftOptions())
    router.apply(*SITE)
    assert sorted(router.rules().splitlines()) == sorted(before.splitlines())
    router.steering.remove()
    assert not router.rules()


def test_the_rules_stay_until_the_process_that_decrypts_has_ended() -> None:
    async def closing() -> list[bool]:
        ended: list[bool] = []
        async with pair() as both:
            await both.protect()
            await both.connect()
            assert both.ping()
            datapath = both.gateways[0].datapath
            assert datapath._steering is not None and datapath._process is not None
            remove, process = datapath._steering.remove, datapath._process

            def watched() -> None:
                ended.append(process.poll() is not None)
                remove()

            datapath._steering.remove = watched  # type: ignore[method-assign]
            await datapath.close()
            left = both.gateways[0].namespace.run(["ip", "rule"]).stdout
            assert "esplanade0" not in left and "lookup 220" not in left
        return ended

    assert asyncio.run(closing()) == [True]


def test_rules_and_routes_that_another_program_removes_come_back() -> None:
    async def body() -> None:
        async with pair(SoftOptions(audit=0.2)) as both:
            await both.gateways[0].datapath.install_policies([both.policy(0)])
            space = both.gateways[0].namespace
            before = space.run(["ip", "rule"]).stdout, space.run(["ip", "route", "show", "table", "220"]).stdout
            space.ip("rule flush pref 258", "route flush table 220")
            told = await heard(both, 0, Changed)
            assert isinstance(told, Changed) and "rules and routes were removed" in told.words
            after = space.run(["ip", "rule"]).stdout, space.run(["ip", "route", "show", "table", "220"]).stdout
            assert after == before

    asyncio.run(body())


def test_what_a_killed_process_left_goes_where_nobody_wants_the_soft_datapath_any_more() -> None:
    async def body() -> None:
        async with pair() as both:
            await both.gateways[0].datapath.install_policies([both.policy(0)])
            space, left = both.gateways[0].namespace, both.gateways[0].datapath
            with inside(space):
                remove_leftovers(SoftOptions(table=999))  # one that reads its TUN device keeps it
            assert "esplanade0" in space.run(["ip", "link"]).stdout
            assert left.pid is not None
            os.kill(left.pid, signal.SIGKILL)
            await heard(both, 0, Failed)
            assert "esplanade0" in space.run(["ip", "link"]).stdout
            with inside(space):
                remove_leftovers(SoftOptions())
                remove_leftovers(SoftOptions())
            assert "esplanade0" not in space.run(["ip", "link"]).stdout
            assert "220" not in space.run(["ip", "rule"]).stdout
            assert space.run(["ip", "route", "show", "table", "220"], check=False).stdout == ""

    asyncio.run(body())
