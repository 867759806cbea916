"""ECN through a tunnel: the whole of RFC 6040's two tables, in the codepoints and in packets."""

from __future__ import annotations

import pytest

from appliance.esp import ecn
from appliance.esp.drop import Drop
from appliance.esp.encapsulation import decapsulate, encapsulate
from appliance.esp.ip import parse, with_traffic_class
from appliance.reasons import Reason
from tests.esp.cases import SUITES, ipv4, ipv6, octets, pair, tunnel

N, E1, E0, CE = 0b00, 0b01, 0b10, 0b11
OUTER_ORDER = (N, E0, E1, CE)
# RFC 6040 §4.2, figure 4, row by row as printed; None is <drop>, and the second of a pair says "(!!!)" or "(!)".
FIGURE_4: dict[int, tuple[tuple[int | None, bool], ...]] = {
    N: ((N, False), (N, True), (N, True), (None, True)),
    E0: ((E0, False), (E0, False), (E1, False), (CE, False)),
    E1: ((E1, False), (E1, True), (E1, False), (CE, False)),
    CE: ((CE, False), (CE, False), (CE, True), (CE, False)),
}
CASES = [
    (inner, outer, *FIGURE_4[inner][column]) for inner in (N, E0, E1, CE) for column, outer in enumerate(OUTER_ORDER)
]


@pytest.mark.parametrize(("inner", "outer", "expected", "alarm"), CASES)
def test_every_combination_leaves_as_figure_4_says_rfc6040_4_2(
    inner: int, outer: int, expected: int | None, alarm: bool
) -> None:
    if expected is None:
        with pytest.raises(Drop) as drop:
            ecn.leaving(inner, outer)
        assert drop.value.reason is Reason.ECN_NOT_CAPABLE
    else:
        assert ecn.leaving(inner, outer) == (expected, alarm)
        assert ecn.leaving(0xB8 | inner, 0x28 | outer) == (expected, alarm)


@pytest.mark.parametrize("inner_version", [4, 6])
@pytest.mark.parametrize("outer_version", [4, 6])
@pytest.mark.parametrize(("inner", "outer", "expected", "alarm"), CASES)
def test_packets_leave_as_figure_4_says_and_keep_their_dscp_rfc6040_4_2(
    inner_version: int, outer_version: int, inner: int, outer: int, expected: int | None, alarm: bool
) -> None:
    make = ipv4 if inner_version == 4 else ipv6
    packet = make(octets("e", 20), traffic_class=0xB8 | inner)
    out, inbound = pair(SUITES[0])
    form = tunnel(outer_version)
    marked = with_traffic_class(encapsulate(out, form, packet), 0x48 | outer)
    if expected is None:
        with pytest.raises(Drop) as drop:
            decapsulate(inbound, form, marked)
        assert drop.value.reason is Reason.ECN_NOT_CAPABLE
        return
    result = decapsulate(inbound, form, marked)
    assert result == make(octets("e", 20), traffic_class=0xB8 | expected)
    assert inbound.ecn_alarms == alarm


@pytest.mark.parametrize("inner", [N, E0, E1, CE])
def test_ingress_copies_ecn_in_normal_mode_and_clears_it_in_compatibility_mode_rfc6040_4_1(inner: int) -> None:
    out, _ = pair(SUITES[0])
    packet = ipv4(traffic_class=inner)
    assert parse(encapsulate(out, tunnel(4), packet)).traffic_class == inner
    assert parse(encapsulate(out, tunnel(6), packet)).traffic_class == inner
    assert parse(encapsulate(out, tunnel(4, copy_ecn=False), packet)).traffic_class == N
