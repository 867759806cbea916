"""Any bytes: parsed or refused, never another exception, in bounded time (RFC 7296 §2.21, §3)."""

from __future__ import annotations

import time
from itertools import chain as concatenate
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.ike.constants import PayloadType
from appliance.ike.fragment import Reassembler
from appliance.ike.message import HEADER_LENGTH, MalformedMessage, open_message, parse_header
from appliance.ike.payloads import encode_payloads, parse_payloads
from tests.fuzz import message_targets
from tests.fuzz.corpus import files, read
from tests.ike import make_corpus

VALID, BROKEN = files("valid"), files("broken")


def parse(message: bytes) -> None:
    """All that a receiver does to a datagram."""
    header = parse_header(message)
    opener = message_targets.sealers()[1]
    if header.next_payload == PayloadType.SK:
        parse_payloads(*open_message(message, header, opener))
    elif header.next_payload == PayloadType.SKF:
        Reassembler().add(message, header, opener)
    else:
        payloads = parse_payloads(header.next_payload, message[HEADER_LENGTH:])
        assert encode_payloads(payloads) == (header.next_payload, message[HEADER_LENGTH:])


def test_the_corpus_is_there() -> None:
    assert len(VALID) >= 18
    assert len(BROKEN) >= 30


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_valid_messages_of_the_corpus_parse(path: Path) -> None:
    parse(read(path))


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_broken_messages_of_the_corpus_are_malformed(path: Path) -> None:
    with pytest.raises(MalformedMessage):
        parse(read(path))


def test_the_corpus_is_what_its_maker_makes() -> None:
    """The wire format is stable: what was written once is written again, bit for bit."""
    for kind, made in (("valid", make_corpus.valid()), ("broken", make_corpus.broken())):
        stored = {path.stem: read(path) for path in files(kind) if not path.stem.startswith("captured-")}
        assert {name: message for name, _, message in made} == stored


@settings(deadline=None, max_examples=400)
@given(st.binary(max_size=400))
def test_arbitrary_bytes_raise_nothing_unexpected(data: bytes) -> None:
    for target in message_targets.TARGETS:
        target(data)


SEEDS = [read(path) for path in concatenate(VALID, BROKEN)]


@pytest.mark.parametrize("seed", range(8))
def test_mutated_messages_raise_nothing_unexpected(seed: int) -> None:
    random = Random(seed)
    for _ in range(2500):
        data = bytearray(random.choice(SEEDS))
        for _ in range(random.randint(1, 4)):
            mutate(data, random)
        if len(data) >= HEADER_LENGTH and random.random() < 0.8:  # most get past the check of the length
            data[24:28] = len(data).to_bytes(4, "big")
        message_targets.datagram(bytes(data))
        message_targets.chain(bytes(data[16:17] + data[28:]))
        message_targets.proposals(bytes(data[32:]))


def mutate(data: bytearray, random: Random) -> None:
    """One change: a bit, a byte, a length-like field, a cut, a repeat, an insertion."""
    at = random.randrange(len(data)) if data else 0
    match random.randrange(6):
        case 0 if data:
            data[at] ^= 1 << random.randrange(8)
        case 1 if data:
            data[at] = random.choice((0, 1, 2, 3, 4, 0x7F, 0x80, 0xFF))
        case 2:
            data[at : at + 2] = random.choice((0, 3, 4, 8, len(data), 0xFFFF)).to_bytes(2, "big")
        case 3:
            del data[at : at + random.randint(1, 40)]
        case 4:
            data[at:at] = data[at : at + random.randint(1, 40)]
        case _:
            data[at:at] = random.randbytes(random.randint(1, 8))


def _worst_cases() -> dict[str, tuple[int, bytes]]:
    """The most work that 64 KiB can ask for, one for each loop of the parser."""
    room = 65_000

    def payload(kind: int, body: bytes, next_type: int = 0) -> bytes:
        return bytes([next_type, 0]) + (4 + len(body)).to_bytes(2, "big") + body

    transforms = [bytes([3, 0, 0, 8, 1, 0, 0, 20])] * 254 + [bytes([0, 0, 0, 8, 1, 0, 0, 20])]
    proposal = b"".join(transforms)
    numbered = [
        bytes([2 if n < 31 else 0, 0]) + (8 + len(proposal)).to_bytes(2, "big") + bytes([n, 1, 0, 255]) + proposal
        for n in range(1, 32)
    ]
    attributes = bytes.fromhex("8011ffff") * 16000
    wide = bytes([0, 0]) + (8 + len(attributes)).to_bytes(2, "big") + bytes([1, 0, 0, 20]) + attributes
    selector = bytes.fromhex("080000280000ffff") + bytes(15) + b"\1" + b"\xff" * 16
    return {
        "proposals": (PayloadType.SA, payload(PayloadType.SA, b"".join(numbered))),
        "attributes": (
            PayloadType.SA,
            payload(PayloadType.SA, bytes([0, 0]) + (8 + len(wide)).to_bytes(2, "big") + bytes([1, 1, 0, 1]) + wide),
        ),
        "selectors": (PayloadType.TSI, payload(PayloadType.TSI, bytes([255, 0, 0, 0]) + selector * 255)),
        "deleted": (PayloadType.DELETE, payload(PayloadType.DELETE, b"\3\4\x3f\x00" + bytes(4 * 0x3F00))),
        "configured": (PayloadType.CP, payload(PayloadType.CP, b"\1\0\0\0" + bytes(room // 4 * 4))),
        "payloads": (PayloadType.VENDOR_ID, bytes([PayloadType.VENDOR_ID, 0, 0, 4]) * (room // 4)),
    }


@pytest.mark.parametrize("case", _worst_cases())
def test_the_worst_message_costs_bounded_work(case: str) -> None:
    """CPU time, not wall clock: the bound is about the work. A tenth of it is usual."""
    first_type, data = _worst_cases()[case]
    start = time.process_time()
    try:
        payloads = parse_payloads(first_type, data)
    except MalformedMessage as error:
        assert case == "payloads", error.detail
    else:
        assert len(payloads) == 1
    assert time.process_time() - start < 0.5
