"""Offload of SAs and policies, as the two variants of netdevsim take and refuse it."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from typing import Any

import pytest

from appliance.datapath.kernel.xfrm import (
    Acquire,
    Aead,
    Auth,
    Crypt,
    Expire,
    Lifetime,
    Message,
    Mode,
    Offload,
    OffloadFlag,
    Policy,
    PolicyDirection,
    PolicyId,
    ReplayEsn,
    SaDirection,
    Selector,
    State,
    StateFlag,
    StateId,
    Template,
    XfrmError,
    XfrmEvents,
    XfrmSocket,
    requests,
)
from tests.datapath.kernel.xfrm.test_kernel import wait_for
from tests.lab.lab import Lab
from tests.lab.namespace import Namespace
from tests.vm.inside.netdevsim import SAS, Device, Ipsec, Variant, device, loaded

pytestmark = pytest.mark.essential

HERE, THERE = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")
KEY, SALT = bytes(range(32)), b"salt"
AES_128, AES_256 = (Aead("rfc4106(gcm(aes))", KEY[:size] + SALT, 128) for size in (16, 32))
POLICY = Policy(
    selector=Selector(IPv4Network("192.0.2.1"), IPv4Network("192.0.2.2")),
    direction=PolicyDirection.OUT,
    priority=7,
    templates=(Template(HERE, THERE, reqid=5, mode=Mode.TRANSPORT),),
)


class Bench:
    """A device in a namespace of its own, with the address HERE and a neighbour that is not there."""

    def __init__(self, device: Device, namespace: Namespace, xfrm: XfrmSocket) -> None:
        self.device = device
        self.namespace = namespace
        self.xfrm = xfrm
        self.index = namespace.call(socket.if_nametoindex, device.interface)

    def reset(self) -> None:
        self.xfrm.batch([requests.flush_states(), requests.flush_policies()])
        name = self.device.interface
        self.namespace.ip(
            f"address replace {HERE}/24 dev {name}",
            f"neighbour replace {THERE} dev {name} lladdr 02:00:00:00:00:02 nud permanent",
        )

    def offload(self, *, inbound: bool = False, packet: bool = False) -> Offload:
        flags = OffloadFlag.INBOUND if inbound else OffloadFlag(0)
        return Offload(self.index, flags | OffloadFlag.PACKET if packet else flags)

    def state(self, spi: int, *, inbound: bool = False, packet: bool = False, **more: Any) -> State:
        state = State(
            source=THERE if inbound else HERE,
            destination=HERE if inbound else THERE,
            spi=spi,
            reqid=5,
            mode=Mode.TRANSPORT,
            aead=AES_128,
            direction=SaDirection.IN if inbound else SaDirection.OUT,
            replay_window=32 if inbound else 0,
            offload=self.offload(inbound=inbound, packet=packet),
        )
        return replace(state, **more)

    def policy(self) -> Policy:
        return replace(POLICY, offload=self.offload(packet=True))

    def refused(self, request: bytearray) -> tuple[int, str]:
        with pytest.raises(XfrmError) as caught:
            self.xfrm.do(request)
        assert caught.value.errno is not None
        return caught.value.errno, caught.value.message

    def send(self, count: int) -> None:
        with self.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for _ in range(count):
                sock.sendto(bytes(100), (str(THERE), 9))


@pytest.fixture(scope="module")
def made(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with Lab() as lab:
        namespace = lab.namespace("offload")
        with (
            loaded(request.param),
            device(namespace=namespace.path) as one,
            namespace.call(XfrmSocket) as xfrm,
        ):
            yield Bench(one, namespace, xfrm)


@pytest.fixture
def bench(made: Bench) -> Bench:
    made.reset()
    return made


def variants(*which: Variant) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("made", which, indirect=True, ids=str)


EITHER, PLAIN, LIFTED = variants(*Variant), variants(Variant.PLAIN), variants(Variant.LIFTED)


def test_debugfs_of_either_variant_is_understood() -> None:
    text = (
        "SA count=1 tx=3\nsa[0] tx ipaddr=2001:db8::1\nsa[0]    spi=0x00000009 proto=0x32 salt=0x61626364 crypt=1\n"
        "sa[0]    key=0x34333231 38373635 32313039 36353433\n"
    )
    found = Ipsec.parse(text)
    assert (found.count, found.transmitted, found.policy_count, found.policies) == (1, 3, 0, ())
    (sa,) = found.sas
    assert (sa.inbound, sa.destination, sa.spi, sa.protocol) == (False, IPv6Address("2001:db8::1"), 9, 50)
    assert (sa.key, sa.salt, dict(sa.more)) == (b"1234567890123456", b"dcba", {"crypt": "1"})


@EITHER
@pytest.mark.parametrize("inbound", [False, True], ids=["out", "in"])
def test_an_sa_with_crypto_offload_reaches_the_device_and_leaves_it(bench: Bench, inbound: bool) -> None:
    state = bench.state(0x1001, inbound=inbound)
    bench.xfrm.do(requests.new_state(state))
    (found,) = bench.xfrm.states()
    assert found.offload == state.offload
    shown = bench.device.ipsec()
    assert shown.count == 1
    (sa,) = shown.sas
    assert (sa.inbound, sa.destination, sa.spi, sa.protocol) == (inbound, state.destination, 0x1001, 50)
    assert (sa.key, sa.salt) == (KEY[:16], SALT)
    bench.xfrm.do(requests.delete_state(StateId.of(state)))
    assert (bench.device.ipsec().count, bench.device.ipsec().sas) == (0, ())


@EITHER
def test_the_device_is_full_and_says_so(bench: Bench) -> None:
    states = [bench.state(0x1000 + number) for number in range(SAS + 1)]
    answers = bench.xfrm.batch([requests.new_state(one) for one in states[:-1]])
    assert not [answer.error for answer in answers if answer.error is not None]
    assert bench.refused(requests.new_state(states[-1])) == (errno.ENOSPC, "netdevsim: No space for SA in Rx table!")
    assert len(bench.xfrm.states()) == bench.device.ipsec().count == SAS
    bench.xfrm.do(requests.delete_state(StateId.of(states[7])))
    bench.xfrm.do(requests.new_state(states[-1]))
    assert {sa.spi for sa in bench.device.ipsec().sas} == {one.spi for one in states} - {states[7].spi}


@EITHER
def test_what_cannot_be_offloaded_is_refused_with_the_kernels_words(bench: Bench) -> None:
    def refused(**more: Any) -> tuple[int, str]:
        return bench.refused(requests.new_state(bench.state(0x1001, **more)))

    no_key = (errno.EINVAL, "netdevsim: Failed to get key data for SA table")
    assert refused(aead=None, crypt=Crypt("cbc(aes)", KEY), auth=Auth("hmac(sha256)", KEY, 128)) == no_key
    assert refused(aead=Aead("rfc7539esp(chacha20,poly1305)", KEY + SALT, 128)) == no_key
    assert refused(aead=Aead("rfc4106(gcm(aes))", KEY + SALT, 64)) == no_key
    assert refused(mode=Mode.TUNNEL, tfc_padding=1400) == (errno.EINVAL, "TFC padding can't be offloaded")
    away = bench.offload(inbound=True)
    assert refused(offload=away) == (errno.EINVAL, "Mismatched SA and offload direction")
    assert refused(offload=Offload(bench.index, OffloadFlag(0x80))) == (
        errno.EINVAL,
        "Unrecognized flags in offload request",
    )
    assert bench.xfrm.states() == []
    assert bench.device.ipsec().count == 0


@EITHER
def test_a_device_without_offload_takes_the_sa_and_does_nothing_of_it(bench: Bench) -> None:
    """Nothing is refused: only what is read back tells."""
    loopback = bench.namespace.call(socket.if_nametoindex, "lo")
    bench.xfrm.do(requests.new_state(bench.state(0x1001, offload=Offload(loopback))))
    (found,) = bench.xfrm.states()
    assert found.offload is None or found.offload.interface == 0
    assert bench.refused(requests.new_state(bench.state(0x1002, offload=Offload(loopback, OffloadFlag.PACKET)))) == (
        errno.EINVAL,
        "",
    )


@EITHER
def test_sas_of_an_interface_that_goes_down_are_gone_and_nobody_is_told(bench: Bench) -> None:
    with device(1, namespace=bench.namespace.path) as second, bench.namespace.call(XfrmEvents) as events:
        other = Bench(second, bench.namespace, bench.xfrm)
        bench.xfrm.do(requests.new_state(other.state(0x1001)))
        bench.xfrm.do(requests.new_state(bench.state(0x1002)))
        bench.xfrm.do(requests.new_state(bench.state(0x1003, offload=None)))
        bench.namespace.ip(f"link set dev {second.interface} down")
        assert {one.spi for one in bench.xfrm.states()} == {0x1002, 0x1003}
        assert second.ipsec().count == 0
        told = [event.body for event in events.receive(100) if isinstance(event, Message)]
        assert [body.spi for body in told if isinstance(body, State)] == [0x1001, 0x1002, 0x1003]
        assert len(told) == 3


@EITHER
def test_packets_by_an_sa_with_crypto_offload_are_counted_by_the_device(bench: Bench) -> None:
    bench.xfrm.do(requests.new_policy(POLICY))
    bench.xfrm.do(requests.new_state(bench.state(0x1001)))
    before = bench.device.ipsec().transmitted
    bench.send(3)
    assert bench.device.ipsec().transmitted == before + 3
    (found,) = bench.xfrm.states()
    assert found.usage.packets == 3


@PLAIN
def test_the_plain_variant_refuses_whole_packets_policies_and_esn(bench: Bench) -> None:
    whole = requests.new_state(bench.state(0x1001, packet=True))
    assert bench.refused(whole) == (errno.EINVAL, "netdevsim: Unsupported ipsec offload type")
    assert bench.refused(requests.new_policy(bench.policy())) == (errno.EINVAL, "Policy offload is not supported")
    window = {"replay_window": 0, "replay_esn": ReplayEsn(64, bitmap=bytes(8))}
    esn = requests.new_state(bench.state(0x1001, inbound=True, flags=StateFlag.ESN, **window))
    assert bench.refused(esn) == (errno.EINVAL, "Device doesn't support offload with ESN")
    assert bench.xfrm.states() == []
    assert bench.xfrm.policies() == []


@PLAIN
def test_the_plain_variant_takes_a_long_key_for_a_short_one(bench: Bench) -> None:
    """So a placement that tests with it has to know by itself that the device does AES-128 only."""
    bench.xfrm.do(requests.new_state(bench.state(0x1001, aead=AES_256)))
    (sa,) = bench.device.ipsec().sas
    assert (sa.key, sa.salt) == (KEY[:16], KEY[16:20])


@LIFTED
@pytest.mark.parametrize("packet", [False, True], ids=["crypto", "packet"])
@pytest.mark.parametrize("inbound", [False, True], ids=["out", "in"])
def test_the_lifted_variant_shows_what_reached_it(bench: Bench, packet: bool, inbound: bool) -> None:
    esn = ReplayEsn(1024, bitmap=bytes(128)) if inbound else ReplayEsn(0)
    how = {"mode": Mode.TUNNEL, "aead": AES_256, "flags": StateFlag.ESN, "replay_window": 0, "replay_esn": esn}
    state = bench.state(0x1001, inbound=inbound, packet=packet, if_id=3, **how)
    bench.xfrm.do(requests.new_state(state))
    (found,) = bench.xfrm.states()
    assert found.offload == state.offload
    (sa,) = bench.device.ipsec().sas
    assert (sa.key, sa.salt, sa.inbound) == (KEY, SALT, inbound)
    assert sa.more == {
        "offload": "packet" if packet else "crypto", "dir": "in" if inbound else "out", "acquire": "0",
        "mode": "1", "reqid": "5", "if_id": "3", "window": "1024" if inbound else "0", "esn": "1", "encap": "0",
        "crypt": "1", "packets": "0", "bytes": "0",
    }  # fmt: skip


@LIFTED
@pytest.mark.parametrize("direction", list(PolicyDirection)[:3], ids=lambda one: one.name.lower())
def test_the_lifted_variant_takes_policies(bench: Bench, direction: PolicyDirection) -> None:
    policy = replace(bench.policy(), direction=direction)
    bench.xfrm.do(requests.new_policy(policy))
    (found,) = bench.xfrm.policies()
    assert found.offload is not None
    assert found.offload.interface == bench.index
    assert OffloadFlag.PACKET in found.offload.flags
    shown = bench.device.ipsec()
    assert shown.policy_count == 1
    (one,) = shown.policies
    assert (one.source, one.destination) == (POLICY.selector.source, POLICY.selector.destination)
    assert one.more == {
        "offload": "packet", "dir": direction.name.lower(), "index": str(found.index), "priority": "7",
        "action": "allow", "reqid": "5", "if_id": "0",
    }  # fmt: skip
    bench.xfrm.do(requests.delete_policy(PolicyId.of(policy)))
    assert (bench.device.ipsec().policy_count, bench.device.ipsec().policies) == (0, ())


@LIFTED
def test_in_packet_mode_the_device_counts_lifetimes(bench: Bench) -> None:
    bench.xfrm.do(requests.new_policy(bench.policy()))
    state = bench.state(0x1001, packet=True, lifetime=Lifetime(soft_packets=3, hard_packets=5))
    bench.xfrm.do(requests.new_state(state))
    with bench.namespace.call(XfrmEvents) as events:
        bench.send(3)
        (sa,) = bench.device.ipsec().sas
        (found,) = bench.xfrm.states()
        assert (found.usage.packets, found.usage.bytes) == (3, int(sa.more["bytes"]))
        assert not wait_for(events, Expire).hard
        bench.send(2)
        assert wait_for(events, Expire).hard
    assert bench.xfrm.states() == []
    assert bench.device.ipsec().count == 0


@LIFTED
def test_a_policy_in_packet_mode_waits_for_an_sa_in_packet_mode(bench: Bench) -> None:
    """RFC 4301's acquire: the larval SA is offered to the device too, before it has keys."""
    bench.xfrm.do(requests.new_policy(bench.policy()))
    with bench.namespace.call(XfrmEvents) as events:
        bench.send(1)
        wait_for(events, Acquire)
    (waiting,) = bench.device.ipsec().sas
    assert (waiting.more["acquire"], waiting.more["offload"], waiting.spi) == ("1", "packet", 0)
    bench.xfrm.do(requests.new_state(bench.state(0x1001, packet=True)))
    bench.send(2)
    sas = {sa.spi: sa for sa in bench.device.ipsec().sas}
    assert sas[0x1001].more["packets"] == "2"
