"""The picture in the room's README is what the engine does."""

from __future__ import annotations

from xml.etree import ElementTree

from appliance.ike.constants import ExchangeType
from appliance.ike.states import IkeState, Kind, accepts
from tests.ike.sequence import PICTURE, draw, record


def test_the_sequence_picture_is_current() -> None:
    assert PICTURE.read_text(encoding="utf-8") == draw(record()), "run: python -m tests.ike.sequence"


def test_the_picture_is_the_same_each_time() -> None:
    assert draw(record()) == draw(record())


def test_the_picture_shows_both_exchanges_of_the_handshake_rfc7296_1_2() -> None:
    text = " ".join(ElementTree.fromstring(draw(record())).itertext())
    for word in ("IKE_SA_INIT request", "IKE_SA_INIT response", "IKE_AUTH request", "IKE_AUTH response", "AUTH", "TSi"):
        assert word in text


def test_the_readmes_table_of_states_is_the_one_of_the_code() -> None:
    rows = {}
    for line in (PICTURE.parent / "README.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and cells[0] in {state.value for state in IkeState}:
            rows[cells[0]] = cells[2], cells[3]
    for state in IkeState:
        for kind, cell in zip(Kind, rows[state.value], strict=True):
            wanted = {exchange.name for exchange in ExchangeType if accepts(state, exchange, kind)}
            assert {name for name in cell.split(", ") if name} == wanted, (state, kind)
