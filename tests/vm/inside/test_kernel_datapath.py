"""The kernel datapath: ciphers, modes and encapsulation against the soft one, and what other programs do to it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address

import pytest

from appliance.datapath.kernel.datapath import KernelDatapath
from appliance.datapath.kernel.hearing import Hearing
from appliance.datapath.kernel.options import KernelOptions
from appliance.datapath.kernel.xfrm import Overrun
from appliance.reasons import Reason
from appliance.sa.algorithms import Encryption, Integrity, Suite
from appliance.sa.association import (
    Direction,
    Handling,
    Lifetime,
    Limits,
    Mode,
    Offload,
    PolicyAction,
    UdpEncapsulation,
)
from appliance.sa.datapath import (
    Acquire,
    Changed,
    DatapathRefusal,
    Expired,
    ExpiryKind,
    InstallRequest,
    MappingChanged,
    Vanished,
)
from tests.datapath.contract import heard, run
from tests.datapath.kernel.gateways import kernel_gateway, kernel_pair, kill, left_behind
from tests.datapath.pair import GCM, INNER, NETS, OUTER, Gateway, Pair, gateway, inside, keys, two_hosts
from tests.datapath.test_soft_traffic import SUITES, transfer
from tests.lab.capture import Capture, Kind
from tests.lab.lab import Lab


@asynccontextmanager
async def soft_and_kernel() -> AsyncIterator[Pair]:
    """Gateway 0 is soft, gateway 1 the kernel."""
    with Lab() as lab:
        spaces = two_hosts(lab)
        async with gateway(0, spaces[0]) as left, kernel_gateway(1, spaces[1]) as right:
            yield Pair(lab, (left, right))


def kernel_of(gateway: Gateway) -> KernelDatapath:
    assert isinstance(gateway.datapath, KernelDatapath)
    return gateway.datapath


async def assert_carries(pair: Pair, ends: tuple[str, str], *, udp: bool) -> None:
    ours, theirs = (gateway.namespace for gateway in pair.gateways)
    with Capture(ours, "wan") as capture:
        assert await asyncio.to_thread(transfer, ours, theirs, ends, 300_000)
        assert await asyncio.to_thread(transfer, theirs, ours, ends[::-1], 300_000)
    assert capture.count(Kind.PLAIN) == 0
    assert capture.count(Kind.ESP_IN_UDP if udp else Kind.ESP) > 100


@pytest.mark.essential
def test_a_suite_of_each_kind_carries() -> None:
    ways = (
        (GCM, Mode.TUNNEL, 4, True),
        (Suite(Encryption.AES_CBC, 256, Integrity.HMAC_SHA2_512_256, esn=True), Mode.TUNNEL, 6, False),
        (Suite(Encryption.CHACHA20_POLY1305, 256, esn=True), Mode.TRANSPORT, 4, False),
    )

    async def body() -> None:
        async with soft_and_kernel() as pair:
            for number, (suite, mode, outer, udp) in enumerate(ways):
                await pair.protect(mode=mode, outer=outer)
                spis = (0x1001 + 16 * number, 0x1002 + 16 * number)
                await pair.connect(spis, mode=mode, outer=outer, udp=udp, suite=suite)
                ends = INNER[6] if mode is Mode.TUNNEL else OUTER[outer]
                await assert_carries(pair, (ends[0], ends[1]), udp=udp)

    run(body())


@pytest.mark.parametrize("suite", SUITES, ids=str)
@pytest.mark.parametrize("mode", list(Mode), ids=str)
def test_each_suite_and_mode_carries_native_and_in_udp_over_both_families(suite: Suite, mode: Mode) -> None:
    async def body() -> None:
        async with soft_and_kernel() as pair:
            for number, (outer, udp) in enumerate(itertools.product((4, 6), (False, True))):
                await pair.protect(mode=mode, outer=outer)
                spis = (0x1001 + 16 * number, 0x1002 + 16 * number)
                await pair.connect(spis, mode=mode, outer=outer, udp=udp, suite=suite, replay_window=4096)
                for ends in [INNER[4], INNER[6]] if mode is Mode.TUNNEL else [OUTER[outer]]:
                    await assert_carries(pair, (ends[0], ends[1]), udp=udp)
                for sender, spi in enumerate(spis):
                    await pair.gateways[1 - sender].datapath.remove(
                        [pair.sa(sender, Direction.IN, spi, outer=outer).key]
                    )
                    await pair.gateways[sender].datapath.remove([pair.sa(sender, Direction.OUT, spi, outer=outer).key])
            counters = await pair.gateways[1].datapath.counters()
            wrong = (Reason.INTEGRITY, Reason.REPLAYED, Reason.SELECTOR_MISMATCH)
            assert not {reason.name: counters[reason.name] for reason in wrong if counters[reason.name]}

    run(body())


def test_a_packet_without_an_sa_asks_for_one_and_again_after_a_while() -> None:
    async def body() -> None:
        options = KernelOptions(acquire_again=0.5)
        async with kernel_pair(options) as pair:
            policy = replace(pair.policy(0), acquire=True)
            await pair.gateways[0].datapath.install_policies([policy])
            for version in (4, 6, 4):
                assert not await asyncio.to_thread(pair.ping, version, count=1)
                event = await heard(pair, 0, Acquire)
                assert isinstance(event, Acquire)
                assert (event.reqid, event.policy, event.protocol) == (1, "net", 1 if version == 4 else 58)
                assert (str(event.source), str(event.destination)) == tuple(INNER[version])
                await asyncio.sleep(0.6)
            await pair.gateways[1].datapath.install_policies([pair.policy(1)])
            await pair.connect()
            assert await asyncio.to_thread(pair.ping)

    run(body())


def test_a_nat_that_changes_is_told_once_and_ports_follow() -> None:
    async def body() -> None:
        async with soft_and_kernel() as pair:
            await pair.protect()
            await pair.connect()
            datapath = pair.gateways[1].datapath
            sa = pair.sa(0, Direction.IN, 0x1001)
            await datapath.remove([sa.key])
            elsewhere = replace(sa, encapsulation=UdpEncapsulation(4501, 4500))
            await datapath.install([InstallRequest(elsewhere, keys(0x1001, sa.suite))])
            assert await asyncio.to_thread(pair.ping)
            event = await heard(pair, 1, MappingChanged)
            assert event == MappingChanged(sa.key, sa.source, 4500)
            assert await datapath.update_endpoints(sa.key, sa.source, sa.destination, sa.encapsulation) == sa.key
            while not kernel_of(pair.gateways[1])._core.events.empty():
                kernel_of(pair.gateways[1])._core.events.get_nowait()
            assert await asyncio.to_thread(pair.ping)
            await asyncio.sleep(1.2)
            assert await asyncio.to_thread(pair.ping)
            with pytest.raises(TimeoutError):
                await heard(pair, 1, MappingChanged, 0.5)
            out = pair.sa(1, Direction.OUT, 0x1002)
            moved = UdpEncapsulation(4500, 4600)
            assert await datapath.update_endpoints(out.key, out.source, out.destination, moved) == out.key
            with Capture(pair.gateways[0].namespace, "wan") as capture:
                await asyncio.to_thread(pair.ping, count=1)
            assert any(frame.data[36:38] == (4600).to_bytes(2, "big") for frame in capture.frames)

    run(body())


def test_an_sa_that_would_repeat_ivs_is_not_moved() -> None:
    async def body() -> None:
        async with kernel_pair() as pair:
            await pair.connect(activate=False)
            out = pair.sa(0, Direction.OUT, 0x1001)
            other = ip_address("192.0.2.9")
            for source, destination, encapsulation in (
                (out.source, other, out.encapsulation),
                (other, out.destination, out.encapsulation),
                (out.source, out.destination, None),
            ):
                with pytest.raises(DatapathRefusal) as refusal:
                    await pair.gateways[0].datapath.update_endpoints(out.key, source, destination, encapsulation)
                assert refusal.value.reason is Reason.MOVE_UNSUPPORTED
            came = pair.sa(1, Direction.IN, 0x1002)
            key = await pair.gateways[0].datapath.update_endpoints(
                came.key, other, came.destination, came.encapsulation
            )
            assert key == came.key

    run(body())


def test_limits_of_bytes_are_told_as_such() -> None:
    async def body() -> None:
        async with kernel_pair() as pair:
            await pair.protect()
            await pair.connect(lifetime=Lifetime(Limits(bytes=200), Limits(bytes=1000)))
            await asyncio.to_thread(pair.ping, count=12)
            told = [await heard(pair, 0, Expired) for _ in range(2)]
            assert {event.kind for event in told if isinstance(event, Expired)} == {ExpiryKind.BYTES}

    run(body())


@pytest.mark.parametrize("direction", list(Direction), ids=str)
def test_an_sa_removed_by_another_program_is_told(direction: Direction) -> None:
    async def body() -> None:
        async with kernel_pair() as pair:
            await pair.protect()
            await pair.connect()
            sa = pair.sa(0, Direction.OUT, 0x1001) if direction is Direction.OUT else pair.sa(1, Direction.IN, 0x1002)
            words = ["src", str(sa.source), "dst", str(sa.destination), "proto", "esp", "spi", hex(sa.spi)]
            pair.gateways[0].namespace.run(["ip", "xfrm", "state", "delete", *words])
            assert await heard(pair, 0, Vanished) == Vanished(sa.key, "another program deleted it")
            with Capture(pair.gateways[0].namespace, "wan", sent=True) as capture:
                await asyncio.to_thread(pair.ping, count=1)
            assert capture.count(Kind.PLAIN) == 0
            assert sa.key in await pair.gateways[0].datapath.remove([sa.key])

    run(body())


@pytest.mark.essential
def test_everything_flushed_by_another_program_is_told_and_policies_are_put_back() -> None:
    async def body() -> None:
        async with kernel_pair() as pair:
            await pair.protect()
            await pair.connect()
            space, datapath = pair.gateways[0].namespace, pair.gateways[0].datapath
            before = space.run(["ip", "xfrm", "policy"]).stdout.count("priority")
            space.run(["ip", "xfrm", "policy", "flush"])
            changed = await heard(pair, 0, Changed)
            assert isinstance(changed, Changed) and changed.reason is Reason.CHANGED_FROM_OUTSIDE
            assert "was removed" in changed.words
            assert space.run(["ip", "xfrm", "policy"]).stdout.count("priority") == before
            assert await asyncio.to_thread(pair.ping)
            space.run(["ip", "xfrm", "state", "flush"])
            gone = {
                event.key.spi
                for event in [await heard(pair, 0, Vanished) for _ in range(2)]
                if isinstance(event, Vanished)
            }
            assert gone == {0x1001, 0x1002}
            assert len(await datapath.remove([row.sa.key for row in (await datapath.dump()).sas])) == 2

    run(body())


@pytest.mark.essential
def test_policies_and_sas_that_another_program_added_or_changed_do_not_stay() -> None:
    async def body() -> None:
        async with kernel_pair() as pair:
            await pair.protect()
            await pair.connect()
            space = pair.gateways[0].namespace
            listed = space.run(["ip", "xfrm", "policy"]).stdout
            change = ["ip", "xfrm", "policy", "update", "src", "10.1.0.0/24", "dst", "10.2.0.0/24", "dir", "out"]
            space.run([*change, "action", "allow", "priority", "9"])
            changed = await heard(pair, 0, Changed)
            assert isinstance(changed, Changed) and "was changed" in changed.words
            assert sorted(space.run(["ip", "xfrm", "policy"]).stdout.split()) == sorted(listed.split())
            reqid = kernel_of(pair.gateways[0])._core.sad.get(pair.sa(0, Direction.OUT, 0x1001).key)
            assert reqid is not None
            space.run(
                ["ip", "xfrm", "state", "add", "src", "192.0.2.2", "dst", "192.0.2.1", "proto", "esp", "spi", "0x666",
                 "mode", "tunnel", "reqid", str(reqid.reqid), "aead", "rfc4106(gcm(aes))", "0x" + "11" * 20, "128"]
            )  # fmt: skip
            changed = await heard(pair, 0, Changed)
            assert isinstance(changed, Changed) and "0x00000666 was added" in changed.words
            assert "0x00000666" not in left_behind(space)
            assert await asyncio.to_thread(pair.ping)

    run(body())


def test_lost_events_lead_to_a_look_at_everything() -> None:
    async def body() -> None:
        async with kernel_pair() as pair:
            await pair.protect()
            await pair.connect()
            datapath = kernel_of(pair.gateways[0])
            hearing = datapath._hearing
            assert isinstance(hearing, Hearing)
            # More than its buffer holds, while nobody reads.
            space = pair.gateways[0].namespace
            words = [
                f"state add src 198.51.100.1 dst 198.51.100.2 proto esp spi {0x10000 + n:#x} mode tunnel"
                f" aead rfc4106(gcm(aes)) 0x{'22' * 20} 128"
                for n in range(8000)
            ]
            place = space.directory / "many"
            words += [
                f"state delete src 192.0.2.{a} dst 192.0.2.{3 - a} proto esp spi {spi}"
                for a, spi in ((1, 0x1001), (2, 0x1002))
            ]
            place.write_text("".join(f"xfrm {line}\n" for line in words))
            receive, seen = hearing._events.receive, []

            def noting(limit: int = 64) -> list[object]:
                events = receive(limit)
                seen.extend(event for event in events if isinstance(event, Overrun))
                return events  # type: ignore[return-value]

            hearing._events.receive = noting  # type: ignore[assignment,method-assign]
            space.run(["ip", "-batch", str(place)])
            gone = {
                event.key.spi
                for event in [await heard(pair, 0, Vanished, 20) for _ in range(2)]
                if isinstance(event, Vanished)
            }
            assert gone == {0x1001, 0x1002}
            assert seen, "the buffer held everything"

    run(body())


def test_what_is_decrypted_has_to_be_what_its_own_sa_is_for() -> None:
    """Two peers of one child: what one of them sends in the other's name goes nowhere (RFC 4301 §5.2)."""

    async def body() -> None:
        async with soft_and_kernel() as pair:
            await pair.protect()
            whole = {"local": ("10.1.0.0/24",), "remote": ("10.2.0.0/24",)}
            half = {"local": ("10.1.0.0/25",), "remote": ("10.2.0.0/24",)}
            other = {"local": ("10.1.0.128/25",), "remote": ("10.2.0.0/24",)}
            soft, kernel = pair.gateways
            soft.namespace.ip("addr add 10.1.0.200/32 dev lo")
            # The sender's SA is for all of it, the receiver's for the lower half; another peer's for the upper.
            sending = pair.sa(0, Direction.OUT, 0x1001, **whole)
            receiving = pair.sa(0, Direction.IN, 0x1001, **half)
            foreign = replace(pair.sa(0, Direction.IN, 0x1003, **other), source=ip_address("192.0.2.77"))
            await kernel.datapath.install(
                [InstallRequest(receiving, keys(0x1001, GCM)), InstallRequest(foreign, keys(0x1003, GCM))]
            )
            await soft.datapath.install([InstallRequest(sending, keys(0x1001, GCM), activate=True)])
            for source in ("10.1.0.1", "10.1.0.200"):
                soft.namespace.run(["ping", "-c", "2", "-i", "0.1", "-W", "1", "-I", source, "10.2.0.1"], check=False)
            usage = (await kernel.datapath.usage([receiving.key]))[receiving.key]
            assert usage.packets == 4
            counted = kernel.namespace.run(["nstat", "-az", "IpInDelivers", "IcmpInEchos"]).stdout
            assert [line.split()[1] for line in counted.splitlines() if line.startswith("IcmpInEchos")] == ["2"]
            assert (await kernel.datapath.counters())[Reason.SELECTOR_MISMATCH.name] == 2

    run(body())


def test_ports_types_and_ranges_are_as_the_selectors_say() -> None:
    async def body() -> None:
        async with kernel_pair() as pair:
            some = {"local": ("10.1.0.1-10.1.0.6",), "remote": ("10.2.0.0/24[icmp]",)}
            await pair.protect(**some)
            await pair.connect(**some)
            assert await asyncio.to_thread(pair.ping)
            with pytest.raises(DatapathRefusal) as refusal:
                await pair.gateways[0].datapath.install_policies(
                    [pair.policy(0, name="opaque", remote=("10.2.0.0/24[tcp/opaque]",))]
                )
            assert refusal.value.reason is Reason.SELECTORS_UNSUPPORTED

    run(body())


def test_bypass_and_discard_come_in_their_order() -> None:
    async def body() -> None:
        async with kernel_pair() as pair:
            await pair.protect()
            await pair.connect()
            bypass = {"name": "icmp", "action": PolicyAction.BYPASS, "reqid": 0}
            for end in pair.gateways:
                await end.datapath.install_policies(
                    [
                        pair.policy(
                            end.number,
                            priority=10,
                            local=("10.1.0.0/24[icmp]",),
                            remote=("10.2.0.0/24[icmp]",),
                            **bypass,
                        )
                    ]  # type: ignore[arg-type]
                )
            with Capture(pair.gateways[0].namespace, "wan", sent=True) as capture:
                assert await asyncio.to_thread(pair.ping)
            assert capture.count(Kind.PLAIN) == 3 and capture.count(Kind.ESP_IN_UDP) == 0
            discard = pair.policy(0, name="none", action=PolicyAction.DISCARD, priority=5, reqid=0)
            await pair.gateways[0].datapath.install_policies([discard])
            with Capture(pair.gateways[0].namespace, "wan", sent=True) as capture:
                assert not await asyncio.to_thread(pair.ping, count=1)
            assert capture.count(Kind.PLAIN) == 0
            await pair.gateways[0].datapath.remove_policies(["none"])
            for end in pair.gateways:
                await end.datapath.remove_policies(["icmp"])
            with Capture(pair.gateways[0].namespace, "wan", sent=True) as capture:
                assert await asyncio.to_thread(pair.ping)
            assert capture.count(Kind.PLAIN) == 0

    run(body())


def test_what_matches_nothing_is_blocked_if_the_user_asks_and_freed_at_the_end() -> None:
    async def body() -> None:
        options = KernelOptions(block=True)
        with Lab() as lab:
            spaces = two_hosts(lab)
            outer = ["ping", "-q", "-n", "-c", "1", "-W", "1", OUTER[4][1]]
            async with kernel_gateway(0, spaces[0], options) as left, kernel_gateway(1, spaces[1]) as right:
                pair = Pair(lab, (left, right))
                await pair.protect()
                await pair.connect()
                assert await asyncio.to_thread(pair.ping) and await asyncio.to_thread(pair.ping, 6)
                assert spaces[0].run(outer, check=False).returncode != 0
            assert spaces[0].run(outer, check=False).returncode == 0
            assert left_behind(spaces[0]) == left_behind(spaces[1]) == ""

    run(body())


@pytest.mark.parametrize("block", [False, True])
def test_a_default_of_block_that_a_killed_daemon_left_ends_with_its_successor(block: bool) -> None:
    async def body() -> None:
        with Lab() as lab:
            spaces = two_hosts(lab)
            outer = ["ping", "-q", "-n", "-c", "1", "-W", "1", OUTER[4][1]]

            def passes() -> bool:
                return spaces[0].run(outer, check=False).returncode == 0

            async with kernel_gateway(0, spaces[0], KernelOptions(block=True)) as left:
                pair = Pair(lab, (left,))
                await left.datapath.install_policies([pair.policy(0)])
                assert not passes()
                kill(kernel_of(left))
            assert not passes()
            async with kernel_gateway(0, spaces[0], KernelOptions(block=block)) as again:
                await again.datapath.install_policies([pair.policy(0)])
                assert passes() is not block
            assert passes()
            assert left_behind(spaces[0]) == ""

    run(body())


def test_sas_of_a_killed_daemon_carry_on_until_they_are_replaced() -> None:
    async def body() -> None:
        with Lab() as lab:
            spaces = two_hosts(lab)
            async with kernel_gateway(1, spaces[1]) as right:
                async with kernel_gateway(0, spaces[0]) as left:
                    pair = Pair(lab, (left, right))
                    await pair.protect()
                    await pair.connect(udp=False)
                    assert await asyncio.to_thread(pair.ping)
                    kill(kernel_of(left))
                assert await asyncio.to_thread(pair.ping)
                again = KernelDatapath(KernelOptions(survivors=30.0))
                with inside(spaces[0]):
                    await again.start()
                try:
                    pair = Pair(lab, (replace(left, datapath=again), right))
                    assert (await again.counters())["survivors"] == 2
                    await again.install_policies(
                        [pair.policy(0), pair.policy(0, name="more", priority=5, remote=("10.3.0.0/24",))]
                    )
                    assert await asyncio.to_thread(pair.ping)
                    with Capture(spaces[0], "wan", sent=True) as capture:
                        await pair.connect((0x2001, 0x2002), udp=False)
                        assert await asyncio.to_thread(pair.ping)
                    assert capture.count(Kind.PLAIN) == 0
                    assert (await again.usage([pair.sa(0, Direction.OUT, 0x2001).key])).popitem()[1].packets == 3
                    await asyncio.sleep(5.5)
                    assert (await again.counters())["survivors"] == 0
                    assert "0x00001001" not in left_behind(spaces[0])
                    assert await asyncio.to_thread(pair.ping)
                finally:
                    await again.close()
                assert left_behind(spaces[0]) == ""

    run(body())


def test_sas_of_a_killed_daemon_that_nobody_replaces_go() -> None:
    async def body() -> None:
        with Lab() as lab:
            spaces = two_hosts(lab)
            words = "state add src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x77 mode tunnel reqid 0xe5420001"
            aead = ["aead", "rfc4106(gcm(aes))", "0x" + "33" * 20, "128"]
            spaces[0].run(["ip", "xfrm", *words.split(), *aead])
            async with kernel_gateway(0, spaces[0], KernelOptions(survivors=1.0)) as left:
                await left.datapath.install_policies([])
                assert "0x00000077" in left_behind(spaces[0])
                await asyncio.sleep(1.5)
                assert "0x00000077" not in left_behind(spaces[0])

    run(body())


def test_offload_that_no_device_takes_is_refused_or_done_without_with_reasons() -> None:
    async def body() -> None:
        async with kernel_pair() as pair:
            datapath = pair.gateways[1].datapath
            handling = Handling(offload=Offload.AUTO, offload_device="wan")
            (carried,) = await datapath.install(
                [InstallRequest(pair.sa(0, Direction.IN, 0x1001, handling=handling), keys(0x1001, GCM))]
            )
            assert carried.how == "" and [why.reason for why in carried.why_not] == [Reason.NO_OFFLOAD_DEVICE]
            for offload in (Offload.PACKET, Offload.CRYPTO):
                handling = Handling(offload=offload, offload_device="nothing0")
                with pytest.raises(DatapathRefusal) as refusal:
                    await datapath.install(
                        [InstallRequest(pair.sa(0, Direction.IN, 0x1002, handling=handling), keys(0x1002, GCM))]
                    )
                assert refusal.value.reason is Reason.NO_OFFLOAD_DEVICE and "nothing0" in refusal.value.detail
            assert [row.sa.spi for row in (await datapath.dump()).sas] == [0x1001]

    run(body())


def test_another_programs_sa_of_the_same_spi_is_left_alone() -> None:
    async def body() -> None:
        async with kernel_pair() as pair:
            space, datapath = pair.gateways[1].namespace, pair.gateways[1].datapath
            foreign = ["src", "192.0.2.1", "dst", "192.0.2.2", "proto", "esp", "spi", "0x1001", "mode", "tunnel"]
            space.run(["ip", "xfrm", "state", "add", *foreign, "aead", "rfc4106(gcm(aes))", "0x" + "44" * 20, "128"])
            requests = [InstallRequest(pair.sa(0, Direction.IN, spi), keys(spi, GCM)) for spi in (0x1005, 0x1001)]
            with pytest.raises(DatapathRefusal) as refusal:
                await datapath.install(requests)
            assert refusal.value.reason is Reason.ALREADY_INSTALLED and not refusal.value.in_doubt
            assert "0x00001001" in left_behind(space) and "0x00001005" not in left_behind(space)
            assert (await datapath.dump()).sas == ()

    run(body())


def test_nothing_is_left_in_the_kernel_after_it_is_closed() -> None:
    async def body() -> None:
        with Lab() as lab:
            spaces = two_hosts(lab)
            async with kernel_gateway(0, spaces[0]) as left, kernel_gateway(1, spaces[1]) as right:
                pair = Pair(lab, (left, right))
                await pair.protect(acquire=True)
                await pair.connect()
                assert "0x00001001" in left_behind(spaces[0])
            assert left_behind(spaces[0]) == left_behind(spaces[1]) == ""

    run(body())


def test_another_programs_policies_are_left_alone() -> None:
    """The kernel numbers them from 0: none of ours is to have such a number, by which it would be removed."""

    async def body() -> None:
        foreign = [f"xfrm policy add src 198.51.100.{n} dst 198.51.100.{n} dir out" for n in range(40)]
        async with kernel_pair(setup=lambda _, spaces: spaces[0].ip(*foreign)) as pair:
            space, datapath = pair.gateways[0].namespace, pair.gateways[0].datapath
            await pair.protect()
            await pair.connect()
            sas = [row.sa.key for row in (await datapath.dump()).sas]
            await datapath.remove(sas)
            assert await datapath.remove_policies(["net"]) == ("net",)
            listed = left_behind(space)
            assert listed.count("src 198.51.100.") == len(foreign) and NETS[4][1] not in listed

    run(body())


def test_its_own_changes_are_not_taken_for_another_programs() -> None:
    async def body() -> None:
        async with kernel_pair() as pair:
            datapath, told = kernel_of(pair.gateways[0]), []
            datapath._upkeep.changed_from_outside = lambda: told.append(1)  # type: ignore[method-assign]
            await pair.protect()
            await pair.connect()
            await pair.connect((0x2001, 0x2002))
            await datapath.remove([row.sa.key for row in (await datapath.dump()).sas])
            await datapath.remove_policies(["net"])
            await asyncio.sleep(0.2)
            assert not told
            pair.gateways[0].namespace.ip("xfrm policy add src 198.51.100.1 dst 198.51.100.1 dir out")
            await asyncio.sleep(0.2)
            assert told

    run(body())
