"""Traffic through two soft datapaths: what gets through, what does not, and what nobody may see."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import signal
import socket
from ipaddress import ip_address

import pytest

from appliance.datapath.guard import guard_status, install_guard
from appliance.datapath.ingress import Datagram
from appliance.datapath.soft.options import SoftOptions
from appliance.esp.outbound import OutboundSa
from appliance.esp.transform import transform
from appliance.reasons import Reason
from appliance.sa.algorithms import Encryption, Integrity, Suite
from appliance.sa.association import Direction, Mode, PolicyAction
from appliance.sa.datapath import Acquire, Failed, MappingChanged
from tests.datapath.contract import heard, run
from tests.datapath.pair import GCM, INNER, OUTER, Pair, inside, pair
from tests.lab.capture import Capture, Kind
from tests.lab.lab import Lab
from tests.lab.namespace import Namespace, why_not

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))

SUITES = [
    GCM,
    Suite(Encryption.AES_GCM_16, 128, esn=True),
    Suite(Encryption.CHACHA20_POLY1305, 256),
    Suite(Encryption.CHACHA20_POLY1305, 256, esn=True),
    Suite(Encryption.AES_CBC, 256, Integrity.HMAC_SHA2_512_256, esn=True),
    Suite(Encryption.AES_CBC, 128, Integrity.HMAC_SHA2_256_128),
    Suite(Encryption.NULL, 0, Integrity.HMAC_SHA2_384_192),
]


def transfer(source: Namespace, target: Namespace, addresses: tuple[str, str], size: int = 1 << 20) -> bool:
    """Whether random bytes arrive whole by TCP from one namespace's address to the other's."""
    family = socket.AF_INET6 if ":" in addresses[0] else socket.AF_INET
    data = os.urandom(size)
    with target.socket(family, socket.SOCK_STREAM) as listener, source.socket(family, socket.SOCK_STREAM) as sender:
        listener.bind((addresses[1], 0))
        listener.listen(1)
        listener.settimeout(10)
        sender.bind((addresses[0], 0))
        sender.settimeout(10)
        sender.connect((addresses[1], listener.getsockname()[1]))
        accepted, _ = listener.accept()
        accepted.settimeout(10)
        import threading

        def send() -> None:
            sender.sendall(data)
            sender.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=send)
        thread.start()
        digest = hashlib.sha256()
        with accepted:
            while part := accepted.recv(1 << 16):
                digest.update(part)
        thread.join()
    return digest.digest() == hashlib.sha256(data).digest()


def inner(version: int) -> tuple[str, str]:
    return INNER[version][0], INNER[version][1]


async def carries(pair: Pair, version: int) -> bool:
    spaces = [gateway.namespace for gateway in pair.gateways]
    return await asyncio.to_thread(pair.ping, version) and await asyncio.to_thread(
        transfer, spaces[0], spaces[1], inner(version)
    )


@pytest.mark.parametrize("suite", SUITES, ids=str)
def test_each_suite_carries_both_families_by_udp_and_native(suite: Suite) -> None:
    async def body() -> None:
        async with pair() as p:
            await p.protect()
            for number, (outer, udp) in enumerate(itertools.product((4, 6), (True, False))):
                spis = (0x1001 + 16 * number, 0x1002 + 16 * number)
                await p.connect(spis, suite=suite, outer=outer, udp=udp)
                for version in (4, 6):
                    assert await carries(p, version), (outer, udp, version)
            counters = [await gateway.datapath.counters() for gateway in p.gateways]
            assert not any(
                found.get(reason.name) for found in counters for reason in (Reason.INTEGRITY, Reason.INTERNAL)
            )

    run(body())


@pytest.mark.parametrize("outer", [4, 6])
@pytest.mark.parametrize("udp", [True, False], ids=["udp", "native"])
def test_transport_mode_carries_between_hosts_rfc4303_3_1_1(outer: int, udp: bool) -> None:
    async def body() -> None:
        async with pair() as p:
            await p.protect(mode=Mode.TRANSPORT, outer=outer)
            await p.connect(mode=Mode.TRANSPORT, outer=outer, udp=udp)
            left, right = (gateway.namespace for gateway in p.gateways)
            with Capture(left, "wan") as capture:
                ends = OUTER[outer][0], OUTER[outer][1]
                assert await asyncio.to_thread(transfer, left, right, ends, 200_000)
            assert capture.count(Kind.PLAIN) == 0
            assert capture.count(Kind.ESP_IN_UDP if udp else Kind.ESP) > 0
            # What its host cut, ESP takes whole (RFC 4303 §3.3.4); the outer packet is cut then.
            with Capture(left, "wan") as capture:
                argv = ["ping", "-q", "-n", "-c2", "-i0.05", "-W2", "-s", "5000", "-p", "c0ffee", "-I", *ends]
                assert "2 received" in (await asyncio.to_thread(left.run, argv, check=False)).stdout
            assert len(capture.frames) >= 16
            assert not capture.leaks(marker=bytes.fromhex("c0ffeec0ffee"))

    run(body())


@pytest.mark.parametrize("version", [4, 6])
def test_everything_selectors_leave_ike_and_esp_alone(version: int) -> None:
    async def body() -> None:
        async with pair() as p:
            remote = ("0.0.0.0/0", "::/0")
            await p.gateways[0].datapath.install_policies([p.policy(0, remote=remote)])
            await p.gateways[1].datapath.install_policies([p.policy(1, remote=remote)])
            await p.connect(outer=version, remote=remote)
            with Capture(p.gateways[0].namespace, "wan") as capture:
                assert await carries(p, 4)
                assert await carries(p, 6)
            assert not capture.leaks("10.1.0.0/24", "fd01::/64")

    run(body())


def test_killed_datapath_leaks_nothing_and_a_successor_carries_again() -> None:
    async def body() -> None:
        async with pair() as p:
            left = p.gateways[0].namespace
            await p.protect()
            await p.connect()
            with inside(left):
                install_guard([p.policy(0)])
            with Capture(left, "wan") as capture:
                pinging = asyncio.create_task(asyncio.to_thread(p.ping, count=30, extra=("-W", "0.1")))
                await asyncio.sleep(0.5)
                assert p.gateways[0].datapath.pid is not None
                os.kill(p.gateways[0].datapath.pid, signal.SIGKILL)
                assert await heard(p, 0, Failed)
                assert not await pinging
                # Not even with the device gone.
                left.ip("link del dev esplanade0")
                assert not await asyncio.to_thread(p.ping, count=2, extra=("-W", "0.1"))
            assert not capture.leaks("10.1.0.0/24", "10.2.0.0/24")

    run(body())


def test_guard_drops_before_anything_runs_and_plain_arrivals() -> None:
    async def body() -> None:
        async with pair(SoftOptions(steer=False)) as p:
            left, right = (gateway.namespace for gateway in p.gateways)
            with inside(left):
                install_guard([p.policy(0)])
            with Capture(left, "wan") as capture:
                assert not await asyncio.to_thread(p.ping, count=2, extra=("-W", "0.1"))
            assert not capture.leaks("10.2.0.0/24")
            right.run(["ping", "-c2", "-i0.1", "-W0.1", "-I", INNER[4][1], INNER[4][0]], check=False)
            with inside(left):
                status = guard_status()
            assert status.installed and status.dropped_out >= 2 and status.dropped_in == 2

    run(body())


def test_small_link_mtu_is_learnt_and_tcp_passes() -> None:
    async def body() -> None:
        async with pair(mtu=1300) as p:
            await p.protect()
            await p.connect()
            spaces = [gateway.namespace for gateway in p.gateways]
            for version in (4, 6):
                assert await asyncio.to_thread(transfer, spaces[0], spaces[1], inner(version)), version

    run(body())


def test_packets_without_df_are_fragmented_before_encryption_rfc4301_8() -> None:
    async def body() -> None:
        async with pair() as p:
            await p.protect()
            await p.connect()
            for version in (4, 6):
                assert await asyncio.to_thread(p.ping, version, size=4000), version

    run(body())


def golden(p: Pair, spi: int) -> OutboundSa:
    """Another sender with the keys of an SA, to make what the network might bring."""
    key = bytes((spi + at) & 0xFF for at in range(36))
    return OutboundSa(spi, transform(20, 0, key, b""), esn=False)


def ipv4_udp(source: str, target: str) -> bytes:
    from appliance.esp.ip import Ipv4Header

    payload = bytes.fromhex("123409010010000068656c6c6f212121")
    header = Ipv4Header(
        source=ip_address(source).packed, destination=ip_address(target).packed, protocol=17, total_length=36
    )
    return header.build() + payload


def test_forged_replayed_foreign_and_unknown_packets_are_dropped_with_their_reasons() -> None:
    async def body() -> None:
        async with pair() as p:
            await p.protect()
            await p.connect(activate=False)
            datapath = p.gateways[1].datapath
            sender = golden(p, 0x1001)
            addresses = [ip_address(text) for text in OUTER[4]]

            def arrive(data: bytes) -> None:
                datapath.inject_esp(Datagram(data, addresses[0], 4500, addresses[1], 4500))

            good = sender.seal(ipv4_udp("10.1.0.1", "10.2.0.1"), 4)
            arrive(good)
            arrive(good)
            forged = bytearray(sender.seal(ipv4_udp("10.1.0.1", "10.2.0.1"), 4))
            forged[-1] ^= 1
            arrive(bytes(forged))
            arrive(sender.seal(ipv4_udp("10.9.0.1", "10.2.0.1"), 4))
            arrive(b"\0\0\x77\x77" + good[4:])
            arrive(sender.dummy(40))
            arrive(good[:20])
            counters = await datapath.counters()
            wanted = ("REPLAYED", "INTEGRITY", "SELECTOR_MISMATCH", "UNKNOWN_SPI", "DUMMY")
            assert {name: counters.get(name) for name in wanted} == {
                "REPLAYED": 2, "INTEGRITY": 1, "SELECTOR_MISMATCH": 1, "UNKNOWN_SPI": 1, "DUMMY": 1
            }  # fmt: skip
            key = p.sa(0, Direction.IN, 0x1001).key
            usage = (await datapath.usage([key]))[key]
            assert (usage.replays, usage.integrity_failures, usage.sequence) == (2, 1, 4)

    run(body())


def test_acquire_holds_the_packet_until_the_sa_is_there_rfc4301_4_4_1() -> None:
    async def body() -> None:
        async with pair() as p:
            await p.protect(acquire=True)
            pinging = asyncio.create_task(asyncio.to_thread(p.ping, count=3))
            event = await heard(p, 0, Acquire)
            assert isinstance(event, Acquire)
            assert (event.policy, str(event.source), str(event.destination)) == ("net", *inner(4))
            await p.connect()
            assert await pinging

    run(body())


def test_ike_and_esp_on_one_port_go_their_ways_rfc3948_2_2() -> None:
    async def body() -> None:
        async with pair() as p:
            await p.protect()
            await p.connect()
            got: list[bytes] = []
            ingress = p.gateways[1].ingress[0]
            datapath = p.gateways[1].datapath
            ingress.attach(
                asyncio.get_running_loop(), lambda d: got.append(d.data), datapath.inject_esp, datapath.inject_too_big
            )
            pinging = asyncio.create_task(asyncio.to_thread(p.ping, count=100, extra=("-i", "0.002")))
            for number in range(50):
                p.gateways[0].ingress[0].send(b"%03d" % number * 40, ip_address(OUTER[4][1]), 4500, natt=True)
                p.gateways[0].ingress[0].send_keepalive(ip_address(OUTER[4][1]), 4500)
                await asyncio.sleep(0.002)
            assert await pinging
            await asyncio.sleep(0.1)
            got += [datagram.data for datagram in p.gateways[1].ike]
            assert sorted(got) == [b"%03d" % number * 40 for number in range(50)]
            assert not (await p.gateways[1].datapath.counters()).get("MALFORMED_ESP")

    run(body())


def test_a_new_source_port_is_told_once_authenticated_rfc7296_2_23() -> None:
    async def body() -> None:
        async with pair() as p:
            await p.connect(activate=False)
            addresses = [ip_address(text) for text in OUTER[4]]
            packet = golden(p, 0x1001).seal(ipv4_udp("10.1.0.1", "10.2.0.1"), 4)
            p.gateways[1].datapath.inject_esp(Datagram(packet, addresses[0], 61000, addresses[1], 4500))
            event = await heard(p, 1, MappingChanged)
            assert event == MappingChanged(p.sa(0, Direction.IN, 0x1001).key, addresses[0], 61000)
            key = event.key
            assert (
                await p.gateways[1].datapath.update_endpoints(
                    key, addresses[0], addresses[1], p.sa(0, Direction.IN, 1).encapsulation
                )
                == key
            )

    run(body())


def test_bypass_before_protect_goes_plain_and_discard_is_dropped_rfc4301_4_4_1() -> None:
    async def body() -> None:
        async with pair() as p:
            left, right = (gateway.namespace for gateway in p.gateways)
            right.ip("addr add 10.2.0.9/32 dev lo", "addr add 10.2.0.8/32 dev lo")
            left_policies = [
                p.policy(0),
                p.policy(0, name="b", action=PolicyAction.BYPASS, priority=5, remote=("10.2.0.9",)),
                p.policy(0, name="d", action=PolicyAction.DISCARD, priority=6, remote=("10.2.0.8",)),
            ]
            right_policies = [
                p.policy(1),
                p.policy(1, name="b", action=PolicyAction.BYPASS, priority=5, remote=("10.2.0.9",)),
            ]
            await p.gateways[0].datapath.install_policies(left_policies)
            await p.gateways[1].datapath.install_policies(right_policies)
            await p.connect()

            def reaches(target: str) -> bool:
                argv = ["ping", "-c1", "-W0.3", "-I", INNER[4][0], target]
                return left.run(argv, check=False).returncode == 0

            with Capture(left, "wan") as capture:
                assert await asyncio.to_thread(reaches, "10.2.0.9")
                assert await asyncio.to_thread(reaches, "10.2.0.1")
                assert not await asyncio.to_thread(reaches, "10.2.0.8")
            assert len(capture.leaks("10.2.0.0/24")) == 2

    run(body())


@pytest.mark.parametrize("guarded", [False, True], ids=["bare", "guarded"])
def test_networks_behind_the_gateways_reach_each_other(guarded: bool) -> None:
    hosts: list[Namespace] = []

    def behind(lab: Lab, spaces: list[Namespace]) -> None:
        for number, space in enumerate(spaces):
            host = lab.namespace(f"host{number}")
            hosts.append(host)
            lab.link(host, "eth", space, "lan")
            space.sysctl(ipv4__ip_forward=1, ipv6__conf__all__forwarding=1)
            left, right = INNER[4][number], INNER[6][number]
            space.ip(f"addr del {left}/32 dev lo", f"addr del {right}/128 dev lo")
            space.ip(f"addr add 10.{number + 1}.0.254/24 dev lan", f"addr add fd0{number + 1}::fe/64 dev lan nodad")
            host.ip(f"addr add {left}/24 dev eth", f"addr add {right}/64 dev eth nodad")
            host.ip(f"route add default via 10.{number + 1}.0.254", f"route add default via fd0{number + 1}::fe")

    async def body() -> None:
        async with pair(setup=behind) as p:
            for gateway in p.gateways:
                if guarded:
                    with inside(gateway.namespace):
                        install_guard([p.policy(gateway.number)])
            await p.protect()
            await p.connect()
            with Capture(p.gateways[0].namespace, "wan") as capture:
                for version in (4, 6):
                    assert await asyncio.to_thread(transfer, hosts[0], hosts[1], inner(version)), version
                    assert await asyncio.to_thread(transfer, hosts[1], hosts[0], inner(version)[::-1]), version
            assert not capture.leaks("10.1.0.0/24", "10.2.0.0/24", "fd01::/64", "fd02::/64")

            def too_big() -> str:
                argv = ["ping", "-c1", "-W1", "-M", "do", "-s", "1450", INNER[4][1]]
                return hosts[0].run(argv, check=False).stdout

            assert "mtu = 1438" in await asyncio.to_thread(too_big)

    run(body())
