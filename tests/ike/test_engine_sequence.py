"""The picture in the room's README is what the engine does."""

from __future__ import annotations

from xml.etree import ElementTree

from tests.ike.sequence import PICTURE, draw, record


def test_the_sequence_picture_is_current() -> None:
    assert PICTURE.read_text(encoding="utf-8") == draw(record()), "run: python -m tests.ike.sequence"


def test_the_picture_is_the_same_each_time() -> None:
    assert draw(record()) == draw(record())


def test_the_picture_shows_both_exchanges_of_the_handshake_rfc7296_1_2() -> None:
    text = " ".join(ElementTree.fromstring(draw(record())).itertext())
    for word in ("IKE_SA_INIT request", "IKE_SA_INIT response", "IKE_AUTH request", "IKE_AUTH response", "AUTH", "TSi"):
        assert word in text
