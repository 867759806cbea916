"""Requests, batches, dumps and events, against answers that are short, unordered, repeated, lost or foreign."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable
from ipaddress import IPv4Address
from typing import Any

import pytest

from appliance.datapath.kernel.xfrm import (
    Aead,
    Attribute,
    DumpInterrupted,
    Expire,
    Garbled,
    Malformed,
    Message,
    MessageType,
    NoAnswer,
    Overrun,
    SadInfo,
    State,
    StateId,
    XfrmError,
    XfrmEvents,
    XfrmSocket,
    requests,
)
from appliance.datapath.kernel.xfrm.wire import NLM_F_DUMP_INTR, U32, Frame, message

from .scripted import HEADER, ScriptedKernel, ack, attribute, done, numbered

A, B = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")


def state(spi: int) -> State:
    return State(source=A, destination=B, spi=spi, aead=Aead("rfc4106(gcm(aes))", b"k" * 20))


def socket_with(script: Any, **more: Any) -> tuple[XfrmSocket, ScriptedKernel]:
    kernel = ScriptedKernel(script, **more)
    return XfrmSocket(kernel, timeout=0.05), kernel


def every(_: bytes, found: list[Frame]) -> Iterable[bytes]:
    return [ack(frame.sequence) for frame in found]


def test_a_batch_is_one_datagram_and_every_message_asks_for_its_acknowledgement() -> None:
    xfrm, kernel = socket_with(every)
    answers = xfrm.batch([requests.new_state(state(spi)) for spi in range(256, 266)])
    assert [answer.error for answer in answers] == [None] * 10
    (sent,) = kernel.sent
    headers = [HEADER.unpack_from(sent, at) for at in range(0, len(sent), 336)]
    assert [header[1:3] for header in headers] == [(0x10, 5)] * 10
    assert len({header[3] for header in headers}) == 10


def test_messages_that_end_in_the_middle_of_a_word_are_padded_in_a_batch() -> None:
    xfrm, kernel = socket_with(every)
    answers = xfrm.batch([requests.flush_states(), requests.flush_policies(), requests.flush_states()])
    assert [answer.error for answer in answers] == [None, None, None]
    assert len(kernel.sent[0]) == 20 + 16 + 20


def test_a_large_batch_goes_in_several_datagrams_so_that_the_answers_fit_into_the_receive_buffer() -> None:
    xfrm, kernel = socket_with(every)
    assert all(answer.error is None for answer in xfrm.batch([requests.new_state(state(n)) for n in range(1000)]))
    assert len(kernel.sent) == 8
    assert max(map(len, kernel.sent)) <= 1 << 16


def test_answers_count_by_their_number_and_not_by_their_order() -> None:
    def script(_: bytes, found: list[Frame]) -> Iterable[bytes]:
        return [ack(frame.sequence, errno.EEXIST if at == 2 else 0) for at, frame in enumerate(found)][::-1]

    xfrm, _ = socket_with(script)
    answers = xfrm.batch([requests.new_state(state(n)) for n in range(4)])
    assert [answer.error.errno if answer.error else 0 for answer in answers] == [0, 0, errno.EEXIST, 0]


def test_repeated_and_late_answers_change_nothing() -> None:
    def script(_: bytes, found: list[Frame]) -> Iterable[bytes]:
        first, second = found
        return [
            ack(first.sequence - 100, errno.ENOMEM),
            ack(first.sequence),
            ack(first.sequence, errno.EINVAL),
            ack(second.sequence),
        ]

    xfrm, _ = socket_with(script)
    assert [answer.error for answer in xfrm.batch([requests.flush_states(), requests.flush_states()])] == [None, None]
    assert xfrm.strays == 2


def test_an_answer_from_another_process_is_none() -> None:
    xfrm, _ = socket_with(every, sender=(4711, 0))
    with pytest.raises(NoAnswer):
        xfrm.do(requests.flush_states())
    assert xfrm.strays == 1


def test_a_missing_answer_leaves_open_whether_it_was_done_and_only_for_that_request() -> None:
    def script(_: bytes, found: list[Frame]) -> Iterable[bytes]:
        return [ack(frame.sequence) for frame in found[:2]]

    xfrm, _ = socket_with(script)
    answers = xfrm.batch([requests.new_state(state(n)) for n in range(3)])
    assert [answer.error for answer in answers[:2]] == [None, None]
    assert isinstance(answers[2].error, NoAnswer)
    assert answers[2].error.errno == errno.ETIMEDOUT


def test_acknowledgements_that_the_receive_buffer_lost_leave_their_requests_open() -> None:
    def script(_: bytes, found: list[Frame]) -> Iterable[bytes | OSError]:
        return [ack(found[0].sequence), OSError(errno.ENOBUFS, "No buffer space available")]

    xfrm, _ = socket_with(script)
    first, second = xfrm.batch([requests.new_state(state(n)) for n in range(2)])
    assert first.error is None
    assert isinstance(second.error, NoAnswer)
    assert second.error.errno == errno.ENOBUFS


def test_an_answer_larger_than_the_buffer_is_no_answer() -> None:
    xfrm, _ = socket_with(lambda _, found: [bytes((1 << 17) + 4)])
    with pytest.raises(NoAnswer, match="131076 bytes"):
        xfrm.do(requests.new_state(state(1)))
    kernel = ScriptedKernel()
    kernel.queue.append(bytes((1 << 17) + 4))
    assert [type(one) for one in XfrmEvents(transport=kernel).receive()] == [Garbled]


@pytest.mark.parametrize("cut", [1, 15, 17, 19, 21, 35])
def test_a_short_answer_is_no_answer(cut: int) -> None:
    def script(_: bytes, found: list[Frame]) -> Iterable[bytes]:
        return [ack(found[0].sequence, errno.EINVAL, "words")[:cut]]

    xfrm, _ = socket_with(script)
    with pytest.raises(NoAnswer, match="cannot be read"):
        xfrm.do(requests.new_state(state(1)))


def test_what_could_not_be_sent_was_refused() -> None:
    class Full(ScriptedKernel):
        def sendmsg(self, buffers: Iterable[bytes | bytearray], /) -> int:
            raise OSError(errno.EMSGSIZE, "Message too long")

    answers = XfrmSocket(Full()).batch([requests.new_state(state(1))])
    assert type(answers[0].error) is XfrmError
    assert answers[0].error.errno == errno.EMSGSIZE


def test_a_refusal_says_number_words_and_the_attribute_that_the_kernel_pointed_at() -> None:
    def script(data: bytes, found: list[Frame]) -> Iterable[bytes]:
        return [ack(found[0].sequence, errno.EINVAL, "Unsupported key size", offset=16 + 224)]

    xfrm, _ = socket_with(script)
    with pytest.raises(XfrmError) as caught:
        xfrm.do(requests.new_state(state(1)))
    error = caught.value
    assert not isinstance(error, NoAnswer)
    assert (error.errno, error.message) == (errno.EINVAL, "Unsupported key size")
    assert (error.attribute, error.kind) == (Attribute.ALG_AEAD, MessageType.NEWSA)
    assert str(error) == "NEWSA: Invalid argument: Unsupported key size (XFRMA_ALG_AEAD)"


def test_a_refusal_says_which_attribute_is_missing() -> None:
    xfrm, _ = socket_with(lambda _, found: [ack(found[0].sequence, errno.EINVAL, "Missing", missing=33)])
    with pytest.raises(XfrmError) as caught:
        xfrm.do(requests.new_state(state(1)))
    assert caught.value.attribute == Attribute.SA_DIR


@pytest.mark.parametrize("offset", [0, 19, 335, 336, 1 << 31])
def test_an_offset_where_no_attribute_begins_names_none(offset: int) -> None:
    xfrm, _ = socket_with(lambda _, found: [ack(found[0].sequence, errno.EINVAL, "x", offset=offset)])
    with pytest.raises(XfrmError) as caught:
        xfrm.do(requests.new_state(state(1)))
    assert caught.value.attribute is None


def test_an_acknowledgement_with_the_whole_request_in_it_is_read_too() -> None:
    """Without NETLINK_CAP_ACK."""

    def script(data: bytes, found: list[Frame]) -> Iterable[bytes]:
        body = struct.pack("=i", -errno.EINVAL) + data + attribute(1, b"uncapped\0")
        return [HEADER.pack(16 + len(body), 2, 0x200, found[0].sequence, 0) + body]

    xfrm, _ = socket_with(script)
    with pytest.raises(XfrmError, match="uncapped"):
        xfrm.do(requests.new_state(state(1)))


def test_a_warning_is_kept_although_it_was_done() -> None:
    xfrm, _ = socket_with(lambda _, found: [ack(found[0].sequence, 0, "nobody was told")])
    (answer,) = xfrm.batch([requests.new_state(state(1))])
    assert (answer.error, answer.warning) == (None, "nobody was told")


def test_a_reply_comes_before_its_acknowledgement() -> None:
    info = message(MessageType.NEWSADINFO, 0, U32.pack(0) + attribute(1, U32.pack(3)))
    xfrm, _ = socket_with(lambda _, found: [numbered(info, found[0].sequence) + ack(found[0].sequence)])
    assert xfrm.do(requests.get_sad_info()) == SadInfo(count=3)


def test_a_dump_in_a_batch_is_refused_before_it_is_sent() -> None:
    xfrm, kernel = socket_with(every)
    with pytest.raises(ValueError, match="dump"):
        xfrm.batch([requests.dump_states()])
    assert not kernel.sent


def listing(*spis: int, flags: int = 2) -> Any:
    def script(_: bytes, found: list[Frame]) -> Iterable[bytes]:
        number = found[0].sequence
        parts = [numbered(requests.new_state(state(spi)), number, flags) for spi in spis]
        return [b"".join(parts[:2]), *parts[2:], done(number)]

    return script


def test_a_dump_gives_all_without_keys_and_wipes_what_it_received() -> None:
    xfrm, _ = socket_with(listing(1, 2, 3, 4))
    states = xfrm.states()
    assert [one.spi for one in states] == [1, 2, 3, 4]
    assert states[0].aead == Aead("rfc4106(gcm(aes))", b"", 128, 160)
    assert b"k" * 20 not in xfrm._buffer
    assert xfrm.states(keys=True)[0].aead == Aead("rfc4106(gcm(aes))", b"k" * 20, 128, 160)
    assert b"k" * 20 not in xfrm._buffer


def test_a_dump_during_which_the_table_changed_is_asked_for_again_and_then_given_up() -> None:
    calls = []

    def once(data: bytes, found: list[Frame]) -> Iterable[bytes]:
        calls.append(1)
        return listing(1, 2, flags=2 | (NLM_F_DUMP_INTR if len(calls) == 1 else 0))(data, found)

    xfrm, _ = socket_with(once)
    assert [one.spi for one in xfrm.states()] == [1, 2]
    assert len(calls) == 2
    xfrm, kernel = socket_with(listing(1, flags=2 | NLM_F_DUMP_INTR))
    with pytest.raises(DumpInterrupted):
        xfrm.states()
    assert len(kernel.sent) == 3


def test_a_dump_that_the_kernel_refuses_or_ends_with_an_error_raises_it() -> None:
    xfrm, _ = socket_with(lambda _, found: [ack(found[0].sequence, errno.EPERM)])
    with pytest.raises(XfrmError) as caught:
        xfrm.states()
    assert caught.value.errno == errno.EPERM
    xfrm, _ = socket_with(lambda _, found: [done(found[0].sequence, errno.EMSGSIZE)])
    with pytest.raises(XfrmError) as caught:
        xfrm.policies()
    assert caught.value.errno == errno.EMSGSIZE


def test_a_dump_without_an_end_is_no_answer() -> None:
    xfrm, _ = socket_with(lambda _, found: [numbered(requests.new_state(state(1)), found[0].sequence, 2)])
    with pytest.raises(NoAnswer):
        xfrm.states()


def test_a_message_of_a_dump_that_cannot_be_read_fails_it_after_it_was_read_to_its_end() -> None:
    def script(_: bytes, found: list[Frame]) -> Iterable[bytes]:
        number = found[0].sequence
        broken = numbered(message(MessageType.NEWSA, 0, b"short"), number, 2)
        return [broken + numbered(requests.new_state(state(1)), number, 2), done(number)]

    xfrm, kernel = socket_with(script)
    with pytest.raises(Malformed, match="NEWSA of 5 bytes"):
        xfrm.states()
    assert not kernel.queue


def test_late_messages_of_an_older_dump_do_not_enter_the_next_one() -> None:
    def script(data: bytes, found: list[Frame]) -> Iterable[bytes]:
        old = found[0].sequence - 1
        return [numbered(requests.new_state(state(9)), old, 2), done(old), *listing(1)(data, found)]

    xfrm, _ = socket_with(script)
    assert [one.spi for one in xfrm.states()] == [1]


def test_events_come_in_order_and_loss_is_told_where_it_happened() -> None:
    kernel = ScriptedKernel()
    events = XfrmEvents(transport=kernel)
    expire = message(MessageType.EXPIRE, 0, Expire(state(1), True).head())
    gone = requests.delete_state(StateId(B, 7))
    kernel.queue.extend(
        [
            bytes(expire) + bytes(gone),
            OSError(errno.ENOBUFS, "No buffer space available"),
            bytes(gone)[:-1],
            bytes(gone),
        ]
    )
    found = events.receive()
    assert [type(one) for one in found] == [Message, Message, Overrun, Garbled, Message]
    first = found[0]
    assert isinstance(first, Message)
    assert isinstance(first.body, Expire)
    assert first.body.hard
    assert events.receive() == []


def test_an_event_that_says_nonsense_hides_none_of_those_around_it() -> None:
    kernel = ScriptedKernel()
    gone = bytes(requests.delete_state(StateId(B, 7)))
    kernel.queue.append(gone + bytes(message(MessageType.EXPIRE, 0, b"nons")) + gone)
    found = XfrmEvents(transport=kernel).receive()
    assert [type(one) for one in found] == [Message, Garbled, Message]


def test_a_reply_that_says_nonsense_is_no_answer_and_spoils_no_other() -> None:
    def script(_: bytes, found: list[Frame]) -> Iterable[bytes]:
        first, second = found
        broken = numbered(message(MessageType.NEWSADINFO, 0, b"n"), first.sequence)
        return [broken, ack(first.sequence), ack(second.sequence)]

    xfrm, _ = socket_with(script)
    first, second = xfrm.batch([requests.get_sad_info(), requests.flush_states()])
    assert isinstance(first.error, NoAnswer)
    assert second.error is None


def test_events_of_other_processes_are_not_the_kernels() -> None:
    kernel = ScriptedKernel(sender=(4711, 4))
    kernel.queue.append(bytes(requests.delete_state(StateId(B, 7))))
    assert XfrmEvents(transport=kernel).receive() == []


def test_one_turn_takes_a_bounded_number_of_datagrams() -> None:
    kernel = ScriptedKernel()
    kernel.queue.extend([bytes(requests.delete_state(StateId(B, 7)))] * 10)
    events = XfrmEvents(transport=kernel)
    assert [len(events.receive(4)) for _ in range(4)] == [4, 4, 2, 0]


def test_a_dead_socket_is_told() -> None:
    kernel = ScriptedKernel()
    kernel.queue.append(OSError(errno.EBADF, "Bad file descriptor"))
    with pytest.raises(OSError, match="Bad file"):
        XfrmEvents(transport=kernel).receive()
