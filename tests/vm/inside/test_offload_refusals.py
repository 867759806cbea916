"""Offload that a device does not do, or has no room for: refused, or done another way, with the driver's words."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from appliance.datapath.kernel.xfrm import Answer
from appliance.reasons import Reason
from appliance.sa.algorithms import Encryption, Integrity, Suite
from appliance.sa.association import Offload
from appliance.sa.datapath import Carried, WhyNot
from tests.datapath.kernel.gateways import kernel_gateway, left_behind
from tests.datapath.pair import Pair, two_hosts
from tests.lab.lab import Lab
from tests.lab.namespace import Namespace
from tests.vm.inside.netdevsim import SAS, Device
from tests.vm.inside.offload import (
    AES_128,
    BY_CRYPTO,
    BY_PACKET,
    IN,
    LIFTED,
    OUT,
    PLAIN,
    THERE,
    OffloadGateway,
    on,
    refused,
    tried,
    using,
)

CBC = Suite(Encryption.AES_CBC, 256, Integrity.HMAC_SHA2_256_128)
CHACHA = Suite(Encryption.CHACHA20_POLY1305, 256)
NO_PACKET = "netdevsim: Unsupported ipsec offload type"
NO_KEY = "netdevsim: Failed to get key data for SA table"
NO_ROOM = "netdevsim: No space for SA in Rx table!"
NO_ROOM_FOR_POLICY = "netdevsim: No space for policy"
"""The driver's words."""


@on(PLAIN)
async def test_packet_offload_that_a_device_does_not_have_is_refused_with_the_drivers_words(
    gateway: OffloadGateway,
) -> None:
    refusal = await gateway.refused(gateway.request(0x1001, offload=Offload.PACKET))
    assert refusal.reason is Reason.OFFLOAD_REFUSED and NO_PACKET in refusal.detail
    assert await gateway.how() == {} and gateway.device.ipsec().count == 0


@on(PLAIN)
async def test_auto_takes_crypto_offload_where_packet_offload_is_refused_and_says_so(gateway: OffloadGateway) -> None:
    (carried,) = await gateway.install(gateway.request(0x1001, offload=Offload.AUTO))
    assert_crypto_for_packet(carried, NO_PACKET)
    assert "set offload to auto or none" in carried.why_not[0].reason.remedy
    assert list(gateway.shown()) == [0x1001]


@on(LIFTED)
async def test_packet_offload_is_refused_as_a_whole_where_the_device_refuses_the_policies(
    gateway: OffloadGateway,
) -> None:
    await gateway.protect()
    with gateway.crowded(5) as foreign:
        refusal = await gateway.refused(*gateway.child(0x1001, Offload.PACKET))
        assert refusal.reason is Reason.OFFLOAD_REFUSED and NO_ROOM_FOR_POLICY in refusal.detail
        assert gateway.held() == (0, foreign)
        assert await gateway.how() == {}


@on(LIFTED)
async def test_auto_takes_crypto_offload_where_the_device_refuses_the_policies(gateway: OffloadGateway) -> None:
    await gateway.protect()
    with gateway.crowded(5) as foreign:
        for carried in await gateway.install(*gateway.child(0x1001, Offload.AUTO)):
            assert_crypto_for_packet(carried, NO_ROOM_FOR_POLICY)
        assert gateway.device.ipsec().policy_count == foreign
        assert {sa.more["offload"] for sa in gateway.shown().values()} == {"crypto"}
        gateway.send(2)
        assert gateway.carried()[0x1002] == 2
        assert "changed_from_outside" not in await gateway.audited()


def assert_crypto_for_packet(carried: Carried, words: str) -> None:
    assert carried.how == "crypto offload on nsim0"
    assert tried(carried) == [(BY_PACKET, Reason.OFFLOAD_REFUSED)]
    assert words in carried.why_not[0].detail


@on(LIFTED)
@pytest.mark.parametrize("later", [False, True], ids=["at once", "later"])
async def test_the_old_sa_goes_on_where_the_device_refuses_its_successors_policies(
    gateway: OffloadGateway, later: bool
) -> None:
    """The kernel gives a device a policy's successor before it takes that away: it needs room for one more."""
    await gateway.protect()
    await gateway.install(gateway.request(0x1002, OUT, Offload.PACKET, activate=True))
    with gateway.crowded(0):
        new = gateway.request(0x2002, OUT, Offload.PACKET, activate=not later)
        if later:
            await gateway.install(new)
        refusal = await refused(gateway.activate(new) if later else gateway.install(new))
        assert refusal.reason is Reason.OFFLOAD_REFUSED
        gateway.send(2)
        await gateway.datapath.audit()
        gateway.send(1)
        assert gateway.carried()[0x1002] == 3
        assert [row.sa.spi for row in (await gateway.datapath.dump()).sas if row.active] == [0x1002]
    if later:
        await gateway.activate(new)
    else:
        await gateway.install(gateway.request(0x2002, OUT, Offload.PACKET, activate=True))
    gateway.send(1)
    assert gateway.carried() == {0x1002: 3, 0x2002: 1}


@on(LIFTED)
async def test_keys_that_something_left_by_are_not_used_once_more(gateway: OffloadGateway) -> None:
    """The device takes the policy for IPv4 and refuses the one for IPv6; meanwhile a packet leaves."""
    await gateway.protect()
    requester = gateway.datapath._core.requester
    assert requester is not None
    batch = requester.batch

    async def busy(requests: Sequence[bytearray]) -> list[Answer]:
        answers = await batch(requests)
        if any(answer.error for answer in answers):
            gateway.send(1)
        return answers

    requester.batch = busy  # type: ignore[method-assign]
    with gateway.crowded(5) as foreign:
        request = gateway.request(0x1002, OUT, Offload.AUTO, activate=True)
        refusal = await refused(gateway.install(request), in_doubt=True)
        assert refusal.reason is Reason.OFFLOAD_REFUSED
        assert gateway.held() == (0, foreign)
        assert gateway.device.ipsec().transmitted == 1
        assert await gateway.how() == {}


@on(PLAIN)
@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"suite": CBC}, NO_KEY),
        ({"suite": CHACHA}, NO_KEY),
        ({"suite": replace(AES_128, esn=True)}, "Device doesn't support offload with ESN"),
        ({"tfc_padding": 1400}, "TFC padding can't be offloaded"),
    ],
    ids=["cbc", "chacha20", "esn", "tfc"],
)
async def test_an_sa_that_the_device_cannot_do_is_refused_or_done_in_software_with_its_words(
    gateway: OffloadGateway, how: dict[str, Any], words: str
) -> None:
    refusal = await gateway.refused(gateway.request(0x1001, OUT, Offload.CRYPTO, **how))
    assert refusal.reason is Reason.OFFLOAD_REFUSED and words in refusal.detail
    assert "auto or none" in refusal.remedy
    (carried,) = await gateway.install(gateway.request(0x1001, OUT, Offload.AUTO, **how))
    assert carried.how == ""
    assert tried(carried) == [(BY_PACKET, Reason.OFFLOAD_REFUSED), (BY_CRYPTO, Reason.OFFLOAD_REFUSED)]
    assert words in carried.why_not[1].detail
    assert gateway.device.ipsec().count == 0 and await gateway.how() == {0x1001: ""}


@on(PLAIN, LIFTED)
async def test_one_sa_more_than_the_device_has_room_for(gateway: OffloadGateway) -> None:
    first = [gateway.request(0x1000 + number) for number in range(SAS)]
    await gateway.install(*first)
    refusal = await gateway.refused(gateway.request(0x2001))
    assert refusal.reason is Reason.TABLE_FULL and "offload" in refusal.remedy
    assert NO_ROOM in refusal.detail
    (carried,) = await gateway.install(auto := gateway.request(0x2002, offload=Offload.AUTO))
    assert carried.how == "" and carried.why_not[-1].reason is Reason.TABLE_FULL
    assert NO_ROOM in carried.why_not[-1].detail
    assert gateway.device.ipsec().count == SAS
    await gateway.remove(auto, first[7])
    for offload in (Offload.CRYPTO, Offload.AUTO):
        (carried,) = await gateway.install(again := gateway.request(0x2003, offload=offload))
        assert "offload on nsim0" in carried.how and gateway.device.ipsec().count == SAS
        await gateway.remove(again)


@on(PLAIN)
async def test_two_children_in_a_batch_are_installed_both_or_none(gateway: OffloadGateway) -> None:
    await gateway.protect()
    refusal = await gateway.refused(
        *gateway.child(0x1001),
        gateway.request(0x2001, IN, suite=CBC, reqid=2),
        gateway.request(0x2002, OUT, reqid=2),
    )
    assert refusal.reason is Reason.OFFLOAD_REFUSED and NO_KEY in refusal.detail
    assert gateway.device.ipsec().count == 0 and await gateway.how() == {}
    assert "spi" not in left_behind(gateway.space)


@contextmanager
def dummy(space: Namespace) -> Iterator[str]:
    space.ip("link add dummy7 type dummy")
    yield "dummy7"


@contextmanager
def old_hardware(space: Namespace) -> Iterator[str]:
    """A device without a kind, as hardware is, whose driver knows nothing of IPsec."""
    subprocess.run(["modprobe", "eql"], check=True)
    try:
        subprocess.run(["ip", "link", "set", "dev", "eql", "netns", space.path], check=True)
        space.ip("link set dev eql up")
        yield "eql"
    finally:
        subprocess.run(["rmmod", "eql"], check=True)


@asynccontextmanager
async def linked(other: Callable[[Namespace], AbstractContextManager[str]]) -> AsyncIterator[OffloadGateway]:
    """A gateway that is linked to its peer by "wan", one end of a pair, and has another device."""
    with Lab() as lab:
        space, _ = two_hosts(lab)
        with other(space) as name:
            async with kernel_gateway(0, space) as gateway:
                yield OffloadGateway(Pair(lab, (gateway,)), Device(0, name))


@using(partial(linked, dummy))
@pytest.mark.parametrize(
    ("device", "words"),
    [
        ("wan", "wan is one end of a pair, and no hardware"),
        ("dummy7", "dummy7 is of kind dummy"),
        ("lo", "lo is the loopback"),
        ("nothing0", "there is no interface nothing0"),
        (None, f"where packets to {THERE} leave: wan is one end of a pair, and no hardware"),
    ],
    ids=["wan", "dummy7", "lo", "nothing0", "where packets leave"],
)
async def test_what_is_no_hardware_or_not_there_is_no_device_for_offload(
    gateway: OffloadGateway, device: str | None, words: str
) -> None:
    for offload in (Offload.CRYPTO, Offload.PACKET):
        refusal = await gateway.refused(gateway.request(0x1001, OUT, offload, device=device))
        assert (refusal.reason, refusal.detail) == (Reason.NO_OFFLOAD_DEVICE, words)
        assert "offload_device" in refusal.remedy
    request = gateway.request(0x1001, OUT, Offload.AUTO, device=device)
    assert await gateway.install(request) == (
        Carried("", (WhyNot("kernel, offload", Reason.NO_OFFLOAD_DEVICE, words),)),
    )


@using(partial(linked, old_hardware))
async def test_a_driver_without_offload_says_nothing_and_only_what_is_read_back_tells(gateway: OffloadGateway) -> None:
    """An old driver that looks like hardware: the kernel does crypto offload on it in software, and says it is done."""
    name = gateway.device.interface
    refusal = await gateway.refused(gateway.request(0x1001, OUT, Offload.CRYPTO, device=name))
    assert (refusal.reason, refusal.detail) == (Reason.OFFLOAD_NOT_DONE, f"crypto offload on {name} was asked for")
    refusal = await gateway.refused(gateway.request(0x1001, OUT, Offload.PACKET, device=name))
    assert refusal.reason is Reason.OFFLOAD_UNSUPPORTED and name in refusal.detail
    assert left_behind(gateway.space).count("spi") == 0
    (carried,) = await gateway.install(gateway.request(0x1001, OUT, Offload.AUTO, device=name))
    assert carried.how == "" and await gateway.how() == {0x1001: ""}
    assert tried(carried) == [(BY_PACKET, Reason.OFFLOAD_UNSUPPORTED), (BY_CRYPTO, Reason.OFFLOAD_NOT_DONE)]
