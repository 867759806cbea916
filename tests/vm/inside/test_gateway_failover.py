"""A gateway with both datapaths, as a whole: what one cannot carry any more the other one does, and back."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.interop.pair import NAME, Pair, Role
from tests.lab import config, topology
from tests.lab.capture import Capture, Frame, Kind
from tests.lab.flow import Flow, FlowResult
from tests.lab.gateway import GatewayError
from tests.lab.lab import Lab
from tests.lab.topology import HOST_A, HOST_B, Middle, SiteToSite
from tests.vm.inside.netdevsim import Device, Variant, device, loaded

RATE = 100


@contextmanager
def gateways(*order: str, middle: Middle = Middle.SWITCH, v6: bool = False) -> Iterator[Pair]:
    """Ours with these datapaths, strongSwan on its kernel's."""
    with Lab() as lab:
        pair = Pair(SiteToSite(lab, middle), v6=v6, order=order, kernel_peer=True)
        pair.sections["datapath"] = {"order": list(order), "return_after": "4s"}
        yield pair


class Watch:
    """Traffic both ways and all that our gateway sends meanwhile."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self._wire = Capture(pair.sites.gw_a, "wan", sent=True)

    def __enter__(self) -> Watch:
        sites = self._pair.sites
        self._wire.__enter__()
        self._flows = [
            Flow(sites.host_a, sites.host_b, HOST_B, rate=RATE),
            Flow(sites.host_b, sites.host_a, HOST_A, rate=RATE),
        ]
        time.sleep(0.3)
        return self

    def __exit__(self, *error: object) -> None:
        for flow in self._flows:
            flow.stop()
        self._wire.__exit__(*error)

    def ends(self) -> list[FlowResult]:
        """What became of the traffic, after nothing was sent in the clear and no IV twice."""
        results = [flow.stop() for flow in self._flows]
        assert not self._wire.leaks(*topology.INSIDE)
        sent = [_numbers(frame) for frame in self._wire.frames if frame.kind in (Kind.ESP, Kind.ESP_IN_UDP)]
        assert len(sent) > RATE / 2
        # AES-GCM: the IV is what must never come again under one key (RFC 4106 §2).
        for numbers in (sent, [(spi, iv) for spi, _, iv in sent], [(spi, sequence) for spi, sequence, _ in sent]):
            assert len(set(numbers)) == len(numbers)
        return results


def _numbers(frame: Frame) -> tuple[int, int, int]:
    """SPI, sequence number and IV (RFC 4303 §2, RFC 4106 §3)."""
    data = frame.data
    at = 14 + ((data[14] & 15) * 4 if data[12:14] == b"\x08\x00" else 40) + (8 if frame.kind is Kind.ESP_IN_UDP else 0)
    return (
        int.from_bytes(data[at : at + 4], "big"),
        int.from_bytes(data[at + 4 : at + 8], "big"),
        int.from_bytes(data[at + 8 : at + 16], "big"),
    )


def runs_on(pair: Pair, datapath: str) -> Callable[[], bool]:
    """Whether the pair that is in use is there."""
    return lambda: (
        {sa.datapath for sa in pair.gateway.sas() if sa.active} == {datapath}
        and any(sa.direction == "out" and sa.active for sa in pair.gateway.sas())
    )


def spis(pair: Pair) -> set[str]:
    return {sa.spi for sa in pair.gateway.sas()}


@pytest.mark.parametrize(
    ("middle", "v6"),
    [(Middle.SWITCH, False), (Middle.SWITCH, True), (Middle.NAT, False)],
    ids=["native v4", "native v6", "in udp"],
)
def test_soft_dies_the_kernel_takes_over_and_gives_back(middle: Middle, v6: bool) -> None:
    with gateways("soft", "kernel", middle=middle, v6=v6) as pair:
        pair.configure()
        pair.up(Role.INITIATOR)
        pair.traffic(1)
        assert runs_on(pair, "soft")()
        seen = spis(pair)
        with Watch(pair) as watch:
            os.kill(pair.gateway.pids["datapath"], signal.SIGKILL)
            began = time.monotonic()
            pair.gateway.wait("on the kernel", runs_on(pair, "kernel"), 20)
            outage = time.monotonic() - began
            time.sleep(0.5)
            results = watch.ends()
        # What was sent until the rekey was done is lost, and no more than that.
        assert all(result.lost <= (outage + 1) * RATE for result in results), (results, outage)
        assert not spis(pair) & seen
        row = next(sa for sa in pair.gateway.sas() if sa.direction == "out")
        assert row.why_not or row.returns_in is not None
        with Watch(pair) as watch:
            pair.gateway.wait("back on soft", runs_on(pair, "soft"), 60)
            time.sleep(0.5)
            results = watch.ends()
        assert [result.lost for result in results] == [0, 0]
        pair.traffic(1)
        pair.down(Role.INITIATOR)


def test_sas_that_go_behind_our_back_come_again_and_elsewhere_if_it_is_done_again() -> None:
    with gateways("kernel", "soft") as pair:
        pair.configure()
        pair.up(Role.INITIATOR)
        pair.traffic(1)
        assert runs_on(pair, "kernel")()
        space = pair.gateway.namespace
        with Watch(pair) as watch:
            # So long that it counts as an accident.
            time.sleep(11)
            for expected in ("kernel", "soft"):
                seen = spis(pair)
                space.ip("xfrm state flush")
                pair.gateway.wait("replaced", lambda seen=seen: not spis(pair) & seen and spis(pair), 20)  # type: ignore[misc]
                pair.gateway.wait(f"on {expected}", runs_on(pair, expected), 20)
            time.sleep(0.5)
            watch.ends()
        pair.traffic(1)
        # The kernel is kept off for a while, and has it back then.
        with Watch(pair) as watch:
            pair.gateway.wait("back in the kernel", runs_on(pair, "kernel"), 60)
            time.sleep(0.5)
            assert [result.lost for result in watch.ends()] == [0, 0]
        pair.down(Role.INITIATOR)


def told(pair: Pair) -> list[str]:
    """Why the SAs are not carried better."""
    return [line for sa in pair.gateway.sas() for line in sa.why_not]


@contextmanager
def with_device(pair: Pair) -> Iterator[Device]:
    """A device of netdevsim in our gateway's namespace. Packets leave by another, so the kernel does the work itself
    and what counts is where the SAs are."""
    with device(namespace=f"/proc/{os.getpid()}/fd/{pair.gateway.namespace.fd}") as made:
        yield made


def fill(pair: Pair, count: int) -> None:
    for number in range(count):
        pair.gateway.namespace.ip(
            f"xfrm state add src 203.0.113.1 dst 203.0.113.2 proto esp spi {0x100 + number:#x} "
            f"aead rfc4106(gcm(aes)) 0x{'a5' * 20} 128 mode tunnel offload dev nsim0 dir out"
        )


def test_the_device_goes_and_the_kernel_goes_on_without_it() -> None:
    with loaded(Variant.PLAIN), gateways("kernel", "soft") as pair, with_device(pair) as nsim:
        pair.configure(esp="aes128gcm16", our_child={"offload": "auto", "offload_device": "nsim0"})
        pair.up(Role.INITIATOR)
        pair.traffic(1)
        assert {sa.how for sa in pair.gateway.sas()} == {"crypto offload on nsim0"}
        assert nsim.ipsec().count == 2 and any("packet" in line for line in told(pair))
        with Watch(pair) as watch:
            time.sleep(11)  # so long that it is no failure of the datapath
            pair.gateway.namespace.ip("link set dev nsim0 down")
            pair.gateway.wait("in the kernel alone", lambda: {sa.how for sa in pair.gateway.sas()} == {""}, 30)
            time.sleep(0.5)
            watch.ends()
        assert runs_on(pair, "kernel")() and any("nsim0" in line for line in told(pair)), told(pair)
        pair.gateway.namespace.ip("link set dev nsim0 up")
        with Watch(pair) as watch:
            pair.gateway.rekey(NAME, "net")
            there = {"crypto offload on nsim0"}
            pair.gateway.wait("on the device", lambda: {sa.how for sa in pair.gateway.sas() if sa.active} == there, 20)
            time.sleep(0.5)
            assert [result.lost for result in watch.ends()] == [0, 0]
        pair.down(Role.INITIATOR)


def test_what_has_to_be_offloaded_waits_for_its_device() -> None:
    with loaded(Variant.PLAIN), gateways("kernel", "soft") as pair, with_device(pair) as nsim:
        child = {"offload": "crypto", "offload_device": "nsim0"}
        pair.configure(esp="aes128gcm16", our_child=child, ours={"start": "initiate"})
        pair.gateway.wait_established(NAME)
        pair.traffic(1)
        assert nsim.ipsec().count == 2
        with Watch(pair) as watch:
            pair.gateway.namespace.ip("link set dev nsim0 down")
            pair.gateway.wait("without SAs", lambda: not pair.gateway.sas(), 30)
            # It is tried, and refused with the reason, and never carried without.
            row = pair.gateway.wait_log(lambda row: row.reason == "NO_OFFLOAD_DEVICE", "refused", 30)
            assert "nsim0" in row.text
            assert not pair.gateway.sas()
            watch.ends()
        pair.gateway.namespace.ip("link set dev nsim0 up")
        pair.gateway.wait_established(NAME, timeout=60)
        pair.traffic(1)
        assert nsim.ipsec().count == 2
        pair.down(Role.INITIATOR)


def test_one_more_than_the_device_has_room_for() -> None:
    """Each child takes two of 33 places, and its successor two more: make before break."""
    with loaded(Variant.PLAIN), gateways("kernel", "soft") as pair, with_device(pair) as nsim:
        fill(pair, 31)
        child = {"offload": "crypto", "offload_device": "nsim0"}
        pair.configure(esp="aes128gcm16", our_child=child, ours={"start": "initiate"})
        pair.gateway.wait_established(NAME)
        pair.traffic(1)
        assert nsim.ipsec().count == 33
        seen = spis(pair)
        with pytest.raises(GatewayError, match="No space for SA in Rx table"):
            pair.gateway.rekey(NAME, "net")
        # The old one made room.
        pair.gateway.wait("there anew", lambda: runs_on(pair, "kernel")() and not spis(pair) & seen, 30)
        pair.traffic(1)
        assert nsim.ipsec().count == 33
        pair.down(Role.INITIATOR)
        pair.configure(esp="aes128gcm16", our_child={"offload": "auto", "offload_device": "nsim0"})
        pair.up(Role.INITIATOR)
        seen = spis(pair)
        pair.gateway.rekey(NAME, "net")
        pair.gateway.wait("rekeyed", lambda: not spis(pair) & seen and runs_on(pair, "kernel")(), 20)
        pair.traffic(1)
        assert {sa.how for sa in pair.gateway.sas() if sa.active} == {""} and "nsim0" in " ".join(told(pair))
        pair.down(Role.INITIATOR)


def test_packet_offload_has_sas_policies_and_our_own_ike_in_the_device_through_rekeys() -> None:
    with loaded(Variant.LIFTED), gateways("kernel", "soft") as pair, with_device(pair) as nsim:
        pair.configure(esp="aes128gcm16-esn", our_child={"offload": "packet", "offload_device": "nsim0"})
        pair.up(Role.INITIATOR)
        for _ in range(2):
            assert {sa.how for sa in pair.gateway.sas()} == {"packet offload on nsim0"}
            there = nsim.ipsec()
            assert {f"{sa.spi:#010x}" for sa in there.sas} == spis(pair)
            # Both families each way, and IKE's four.
            assert there.policy_count == 8, nsim.text()
            seen = spis(pair)
            pair.gateway.rekey(NAME, "net")
            pair.gateway.wait("rekeyed", lambda seen=seen: len(spis(pair)) == 2 and not spis(pair) & seen, 20)  # type: ignore[misc]
        pair.gateway.rekey(NAME)
        # While a look takes long it says so, and to ask again.
        pair.gateway.wait("shown", lambda: "nsim0" in pair.gateway.cli("show", "offload").out, 20)
        pair.down(Role.INITIATOR)
        pair.gateway.wait("nothing in the device", lambda: not nsim.ipsec().count and not nsim.ipsec().policy_count)


@pytest.mark.parametrize(("before", "after"), [("kernel", "soft"), ("soft", "kernel")])
def test_what_a_killed_daemon_left_in_one_datapath_is_not_in_the_way_of_the_other(before: str, after: str) -> None:
    with gateways(before) as pair:
        if before == "kernel":
            pair.sections["datapath"] = {"order": [before], "kernel": {"default_policy": "block"}}
            pair.gateway.stop()
            pair.gateway.write(config.document({}, **pair.sections))
            pair.gateway.start()
        pair.configure()
        pair.up(Role.INITIATOR)
        pair.traffic(1)
        assert runs_on(pair, before)()
        pair.gateway.kill9()
        written = pair.gateway.config.read_text()
        changed = written.replace(f'order = ["{before}"]', f'order = ["{after}"]').replace('"block"', '"pass"')
        with Capture(pair.sites.gw_a, "wan", sent=True) as wire:
            pair.gateway.write(changed)
            pair.gateway.start()
            space = pair.sites.gw_a
            if before == "soft":
                assert "lookup 220" not in space.run(["ip", "rule"]).stdout
                assert "esplanade0" not in space.run(["ip", "link"]).stdout
            if before == "kernel":
                listed = space.run(["ip", "xfrm", "state"]).stdout + space.run(["ip", "xfrm", "policy"]).stdout
                assert "proto esp" not in listed
                assert "block" not in space.run(["ip", "xfrm", "policy", "getdefault"]).stdout
            pair.up(Role.INITIATOR)
            pair.traffic(1)
            assert runs_on(pair, after)()
            assert not wire.leaks(*topology.INSIDE)
