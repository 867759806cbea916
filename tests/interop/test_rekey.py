"""Rekeys of child and IKE SAs: by us, by strongSwan, by both at the same time; traffic flows throughout."""

from __future__ import annotations

import time

import pytest

from tests.interop.pair import NAME, Pair, Role
from tests.lab.flow import Flow
from tests.lab.topology import HOST_A, HOST_B

BOTH = pytest.mark.parametrize("role", list(Role), ids=lambda role: role.value)
WHO = pytest.mark.parametrize("who", ["ours", "theirs", "both"])


def rekey(pair: Pair, who: str, *, child: bool) -> None:
    if who in ("theirs", "both"):
        pair.charon.rekey(child="net") if child else pair.charon.rekey(ike=NAME)
    if who in ("ours", "both"):
        pair.gateway.rekey(NAME, "net" if child else None)


def settled(pair: Pair, spis_before: set[str]) -> bool:
    """One IKE SA, one child SA on both sides, the same one, and not the old one."""
    sas = pair.charon.sas()
    if len(sas) != 1 or sas[0].state != "ESTABLISHED" or len(sas[0].children) != 1:
        return False
    child = sas[0].children[0]
    ours = {sa.spi.removeprefix("0x").lower() for sa in pair.gateway.sas()}
    return child.state == "INSTALLED" and ours == {child.spi_in, child.spi_out} and not ours & spis_before


@WHO
@BOTH
def test_child_rekey_loses_nothing_rfc7296_2_8(pair: Pair, role: Role, who: str) -> None:
    pair.configure()
    pair.up(role)
    before = {sa.spi.removeprefix("0x").lower() for sa in pair.gateway.sas()}
    there = Flow(pair.sites.host_a, pair.sites.host_b, HOST_B, rate=500)
    back = Flow(pair.sites.host_b, pair.sites.host_a, HOST_A, rate=500)
    time.sleep(0.3)
    rekey(pair, who, child=True)
    pair.gateway.wait("rekeyed once", lambda: settled(pair, before), 15)
    time.sleep(0.3)
    assert (there.stop().lost, back.stop().lost) == (0, 0), pair.charon.log[-3000:]
    pair.traffic(1)
    pair.down(role)


@WHO
@BOTH
def test_ike_rekey_keeps_the_children_rfc7296_2_18(pair: Pair, role: Role, who: str) -> None:
    pair.configure()
    pair.up(role)
    before = pair.charon.established(NAME)
    flow = Flow(pair.sites.host_a, pair.sites.host_b, HOST_B, rate=500)
    rekey(pair, who, child=False)

    def done() -> bool:
        sas = pair.charon.sas()
        return len(sas) == 1 and sas[0].state == "ESTABLISHED" and sas[0].spi_i != before.spi_i

    pair.gateway.wait("rekeyed", done, 15)
    assert flow.stop().lost == 0
    seen = pair.traffic(1)
    assert seen.child.spi_in == before.children[0].spi_in
    assert seen.ours.spi_initiator is not None
    assert seen.ours.spi_initiator.removeprefix("0x") == seen.theirs.spi_i
    # The new IKE SA works: a request each way is answered on it.
    rekey(pair, "ours", child=True)
    pair.gateway.wait("rekeyed", lambda: settled(pair, {before.children[0].spi_in}), 15)
    pair.down(role)


def test_child_and_ike_rekeys_that_cross_end_in_agreement_rfc7296_2_25(pair: Pair) -> None:
    pair.configure()
    pair.up(Role.INITIATOR)
    for _ in range(5):
        before = {sa.spi.removeprefix("0x").lower() for sa in pair.gateway.sas()}
        pair.charon.rekey(ike=NAME)
        pair.gateway.rekey(NAME, "net")
        pair.gateway.wait("settled", lambda before=before: settled(pair, before), 20)  # type: ignore[misc]
        pair.traffic(1)
    pair.down(Role.INITIATOR)


def test_lifetimes_make_rekeys_by_themselves(pair: Pair) -> None:
    pair.configure(our_child={"lifetime": {"time": "4s", "margin": "2s", "jitter": "0s"}})
    pair.up(Role.INITIATOR)
    first = pair.gateway.child(NAME).spi_in
    rekeys = pair.charon.counters()["child-rekey"]
    with Flow(pair.sites.host_a, pair.sites.host_b, HOST_B, rate=200) as flow:
        pair.gateway.wait("rekeyed twice", lambda: pair.charon.counters()["child-rekey"] >= rekeys + 2, 15)
        time.sleep(0.5)
        assert flow.stop().lost == 0
    assert pair.gateway.child(NAME).spi_in != first
    pair.down(Role.INITIATOR)


@pytest.mark.verify
def test_a_hundred_collisions(pair: Pair) -> None:
    pair.configure()
    pair.up(Role.INITIATOR)
    for number in range(100):
        before = {sa.spi.removeprefix("0x").lower() for sa in pair.gateway.sas()}
        rekey(pair, "both", child=number % 3 != 0)
        if number % 3:
            pair.gateway.wait("settled", lambda before=before: settled(pair, before), 30)  # type: ignore[misc]
        else:
            pair.gateway.wait("one IKE SA", lambda: len(pair.charon.sas()) == 1, 30)
    pair.traffic(1)
    pair.down(Role.INITIATOR)
