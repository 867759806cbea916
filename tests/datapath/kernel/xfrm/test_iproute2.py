"""Byte for byte what two releases of iproute2 send (``captures.json``), by the nlmsg classes and by the fast path."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from appliance.datapath.kernel.xfrm import MessageType, messages, parse

from .commands import COMMANDS
from .meanings import meaning
from .reencode import reencode, reencode_values

CAPTURES: list[dict[str, Any]] = json.loads((Path(__file__).parent / "captures.json").read_text())
CASES = [
    pytest.param(
        capture["name"], capture["iproute2"], bytes.fromhex(request), id=f"{capture['iproute2']}-{capture['name']}"
    )
    for capture in CAPTURES
    for request in capture["requests"]
]


def test_every_command_was_captured_by_at_least_one_release_and_says_what_it_says_now() -> None:
    for capture in CAPTURES:
        assert capture["command"] == f"ip xfrm {COMMANDS[capture['name']]}"
    assert {capture["name"] for capture in CAPTURES} == set(COMMANDS)
    assert {capture["iproute2"] for capture in CAPTURES} == {"6.1.0", "6.15.0"}


@pytest.mark.parametrize(("name", "version", "request_"), CASES)
def test_the_same_request_in_our_own_words_is_the_same_bytes(name: str, version: str, request_: bytes) -> None:
    assert meaning(name, version).hex() == request_.hex()


@pytest.mark.parametrize(("name", "version", "request_"), CASES)
def test_read_into_values_and_written_again_it_is_the_same_bytes(name: str, version: str, request_: bytes) -> None:
    assert reencode_values(parse(request_, keys=True)).hex() == request_.hex()


@pytest.mark.parametrize(("name", "version", "request_"), CASES)
def test_read_by_nlmsg_classes_and_written_again_it_is_the_same_bytes(name: str, version: str, request_: bytes) -> None:
    (message,) = messages.decode(request_)
    assert bytes(reencode(message).data).hex() == request_.hex()


def test_the_two_layers_read_the_same() -> None:
    seen = set()
    for case in CASES:
        request = case.values[2]
        assert isinstance(request, bytes)
        value = parse(request, keys=True)
        (message,) = messages.decode(request)
        assert value.kind == message["header"]["type"]
        assert type(message).__name__.upper() in (value.kind.name, f"DUMP{value.kind.name[3:]}")
        seen.add(value.kind)
    assert seen >= {
        MessageType.NEWSA,
        MessageType.UPDSA,
        MessageType.DELSA,
        MessageType.GETSA,
        MessageType.FLUSHSA,
        MessageType.ALLOCSPI,
        MessageType.NEWPOLICY,
        MessageType.UPDPOLICY,
        MessageType.DELPOLICY,
        MessageType.GETPOLICY,
        MessageType.FLUSHPOLICY,
        MessageType.SETDEFAULT,
        MessageType.GETDEFAULT,
        MessageType.GETSADINFO,
        MessageType.GETSPDINFO,
        MessageType.NEWSPDINFO,
    }
