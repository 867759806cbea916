"""The control protocol's lines, as the daemon reads and the console writes them."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.console.protocol import (
    REQUEST_LIMIT,
    ROWS,
    Answer,
    Call,
    NameArgs,
    NoArgs,
    ShowArgs,
    What,
    cause_of,
    decode_call,
    decode_request,
    encode_error,
    encode_progress,
    encode_request,
    encode_result,
    error_of,
    parse_name,
)
from appliance.reasons import Reason, Refusal
from tests.console import rows


@pytest.mark.parametrize(
    ("call", "args"),
    [
        (Call.SHOW, ShowArgs(what=What.LOG, limit=5)),
        (Call.REKEY, NameArgs(connection="a")),
        (Call.INITIATE, NameArgs(connection="a", child="b")),
        (Call.RELOAD, NoArgs()),
    ],
)
def test_requests_arrive_as_they_were_sent(call: Call, args: ShowArgs | NameArgs | NoArgs) -> None:
    line = encode_request(3, call, args)
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    request = decode_request(line)
    assert request.id == 3 and decode_call(request) == (call, args)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", Reason.CONTROL_BAD_REQUEST),
        (b"{", Reason.CONTROL_BAD_REQUEST),
        (b"[]", Reason.CONTROL_BAD_REQUEST),
        (b'{"id": "x", "call": "show"}', Reason.CONTROL_BAD_REQUEST),
        (b'{"id": 1}', Reason.CONTROL_BAD_REQUEST),
        (b"[" * 50_000, Reason.CONTROL_BAD_REQUEST),
        (b" " * (REQUEST_LIMIT + 1), Reason.CONTROL_BAD_REQUEST),
        (b'{"id": 1, "call": "dance"}', Reason.CONTROL_UNKNOWN_CALL),
        (b'{"id": 1, "call": "show"}', Reason.CONTROL_BAD_REQUEST),
        (b'{"id": 1, "call": "show", "args": {"what": "secrets"}}', Reason.CONTROL_BAD_REQUEST),
        (b'{"id": 1, "call": "initiate", "args": {"connection": 1}}', Reason.CONTROL_BAD_REQUEST),
        (b'{"id": 1, "call": "reload", "args": {"force": true}}', Reason.CONTROL_BAD_REQUEST),
    ],
)
def test_requests_that_are_wrong_are_refused_with_words(line: bytes, reason: Reason) -> None:
    with pytest.raises(Refusal) as caught:
        decode_call(decode_request(line))
    assert caught.value.reason is reason and caught.value.detail


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_a_refusal(line: bytes) -> None:
    try:
        decode_call(decode_request(line))
    except Refusal as refusal:
        assert refusal.reason in (Reason.CONTROL_BAD_REQUEST, Reason.CONTROL_UNKNOWN_CALL)


@pytest.mark.parametrize(
    ("what", "sent"),
    [
        (What.CONNECTIONS, rows.CONNECTIONS),
        (What.SA, rows.SAS),
        (What.POLICIES, rows.POLICIES),
        (What.DATAPATH, rows.DATAPATHS),
        (What.OFFLOAD, rows.OFFLOAD),
        (What.COUNTERS, rows.COUNTERS),
        (What.LOG, rows.LOG),
    ],
)
def test_rows_arrive_as_they_were_sent_with_every_key(what: What, sent: list[object]) -> None:
    answer = msgspec.json.decode(encode_result(1, sent), type=Answer)
    assert answer.ok is True
    assert [msgspec.convert(row, ROWS[what]) for row in msgspec.json.decode(answer.result)] == sent
    for row in json.loads(encode_result(1, sent))["result"]:
        assert set(row) == {field.name for field in msgspec.structs.fields(ROWS[what])}


def test_refusals_and_progress_travel() -> None:
    refusal = Refusal(Reason.PEER_SILENT, "192.0.2.2", remedy="wait")
    answer = msgspec.json.decode(encode_error(1, error_of(refusal)), type=Answer)
    assert answer.ok is False and answer.error is not None
    assert (answer.error.reason, answer.error.detail, answer.error.remedy) == ("PEER_SILENT", "192.0.2.2", "wait")
    assert cause_of(refusal, 5.0).since == 5.0
    progress = msgspec.json.decode(encode_progress(1, "half"), type=Answer)
    assert progress.ok is None and progress.progress == "half"


def test_names_are_a_connection_or_a_child_of_it() -> None:
    assert parse_name("a") == NameArgs(connection="a") and parse_name("a/b") == NameArgs(connection="a", child="b")
    for text in ("", "/", "a/", "/b", "a/b/c"):
        with pytest.raises(ValueError, match="NAME"):
            parse_name(text)
