"""Whatever the bytes are: values, or Malformed, and nothing else."""

from __future__ import annotations

import contextlib
import errno
import struct
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.datapath.kernel.xfrm import (
    Attribute,
    Garbled,
    Malformed,
    Message,
    MessageType,
    NoAnswer,
    Overrun,
    XfrmError,
    XfrmEvents,
    XfrmSocket,
    messages,
    parse_all,
    requests,
)
from appliance.datapath.kernel.xfrm.wire import Frame
from tests.fuzz.xfrm_target import one_input

from . import strategies
from .meanings import v4
from .reencode import reencode_values
from .scripted import ScriptedKernel

kinds = st.sampled_from([int(kind) for kind in MessageType]) | st.integers(0, 0xFFFF)
attribute_kinds = st.sampled_from([int(kind) for kind in Attribute]) | st.integers(0, 0xFFFF)


@st.composite
def attributes(draw: Any) -> bytes:
    payload = draw(st.binary(max_size=100) | st.integers(0, 300).map(bytes))
    length = 4 + len(payload) + draw(st.just(0) | st.integers(-8, 8))
    raw = struct.pack("=HH", max(length, 0), draw(attribute_kinds)) + payload
    return raw + bytes(-len(raw) % 4)


@st.composite
def messages_of_garbage(draw: Any) -> bytes:
    head = draw(st.sampled_from([0, 1, 3, 4, 24, 48, 60, 64, 132, 168, 176, 224, 232, 280]).map(bytes) | st.binary())
    body = head + bytes(-len(head) % 4) + b"".join(draw(st.lists(attributes(), max_size=6)))
    length = 16 + len(body) + draw(st.just(0) | st.integers(-20, 20))
    flags = draw(st.sampled_from([0, 1, 2, 5, 0x301]))
    return struct.pack("=IHHII", max(length, 0), draw(kinds), flags, draw(st.integers(0, 3)), 0) + body


@st.composite
def damaged(draw: Any) -> bytes:
    """A message of ours with some bytes changed, or cut."""
    raw = bytearray(reencode_values(draw(strategies.messages)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(raw) - 1))
        raw[at] = draw(strategies.u8)
    return bytes(raw[: draw(st.just(len(raw)) | st.integers(0, len(raw)))])


anything = st.binary(max_size=400) | messages_of_garbage() | damaged()


@settings(max_examples=1500, deadline=None)
@given(anything, st.booleans())
def test_reading_raises_malformed_or_nothing(raw: bytes, keys: bool) -> None:
    try:
        found = list(parse_all(raw, keys=keys))
    except Malformed:
        return
    for one in found:
        assert isinstance(repr(one), str)


@settings(max_examples=1500, deadline=None)
@given(anything)
def test_what_was_read_is_written_and_read_again_as_it_was(raw: bytes) -> None:
    one_input(raw)


def test_a_filter_of_a_dump_that_is_too_short_is_malformed() -> None:
    body = struct.pack("=HH", 38, int(Attribute.ADDRESS_FILTER)) + bytes(36)
    raw = struct.pack("=IHHII", 16 + len(body), int(MessageType.GETSA), 0x301, 0, 0) + body
    with pytest.raises(Malformed, match="GETSA"):
        list(parse_all(raw))


@settings(max_examples=500, deadline=None)
@given(anything)
def test_reading_by_nlmsg_classes_raises_malformed_or_nothing(raw: bytes) -> None:
    try:
        for one in messages.decode(raw):
            repr(one)
    except Malformed:
        pass


@settings(max_examples=300, deadline=None)
@given(st.lists(anything, max_size=4))
def test_requests_end_with_an_answer_or_a_documented_error(datagrams: list[bytes]) -> None:
    def script(_: bytes, found: list[Frame]) -> Iterable[bytes]:
        # Half of them bear the number that is waited for.
        for at, raw in enumerate(datagrams):
            yield raw[:8] + struct.pack("=I", found[0].sequence) + raw[12:] if at % 2 and len(raw) >= 16 else raw

    xfrm = XfrmSocket(ScriptedKernel(script), timeout=0.01)
    (answer,) = xfrm.batch([requests.new_state(v4())])
    assert answer.error is None or isinstance(answer.error, XfrmError)
    with contextlib.suppress(XfrmError, Malformed):
        xfrm.states()


@settings(max_examples=300, deadline=None)
@given(st.lists(anything | st.just(OSError(errno.ENOBUFS, "lost")), max_size=4))
def test_events_are_messages_or_say_that_something_is_missing(datagrams: list[bytes | OSError]) -> None:
    kernel = ScriptedKernel()
    kernel.queue.extend(datagrams)
    for event in XfrmEvents(transport=kernel).receive():
        assert isinstance(event, Message | Overrun | Garbled)


def test_an_error_that_the_kernel_does_not_number_is_one_all_the_same() -> None:
    def script(_: bytes, found: list[Frame]) -> Iterable[bytes]:
        body = struct.pack("=i", 7) + bytes(16)
        return [struct.pack("=IHHII", 16 + len(body), 2, 0, found[0].sequence, 0) + body]

    (answer,) = XfrmSocket(ScriptedKernel(script)).batch([requests.new_state(v4())])
    assert isinstance(answer.error, XfrmError)
    assert not isinstance(answer.error, NoAnswer)
    assert answer.error.errno == errno.EPROTO
