"""Values survive the wire, both layers agree on it, and what cannot be said is refused."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import given, settings

from appliance.datapath.kernel.xfrm import (
    EVERYTHING,
    Aead,
    Attribute,
    Auth,
    Crypt,
    Encap,
    EncapType,
    Malformed,
    MaskedPort,
    Message,
    MessageType,
    Mode,
    PolicyDirection,
    PolicyId,
    ReplayEsn,
    Selector,
    State,
    Unknown,
    messages,
    parse,
    requests,
)
from appliance.datapath.kernel.xfrm.layout import SELECTOR, USERSA_INFO
from appliance.datapath.kernel.xfrm.wire import message

from . import strategies
from .meanings import GCM, A, B, v4
from .reencode import reencode, reencode_values


def fields_lost(found: Message) -> Message:
    return Message(found.kind, found.body, found.flags)


@settings(max_examples=300, deadline=None)
@given(strategies.messages)
def test_a_message_is_read_as_it_was_written(value: Message) -> None:
    assert parse(reencode_values(value), keys=True) == value


@settings(max_examples=150, deadline=None)
@given(strategies.messages)
def test_nlmsg_classes_read_and_write_the_same_bytes(value: Message) -> None:
    raw = reencode_values(value)
    (decoded,) = messages.decode(raw)
    known = [slot[0] for slot in decoded["attrs"]]
    if "UNKNOWN" not in known:  # pyroute2 does not keep the number of one
        assert bytes(reencode(decoded).data) == bytes(raw)


def test_numbers_that_this_kernel_header_does_not_have_are_kept() -> None:
    mode = Mode(77)
    assert (mode.name, int(mode), mode) == ("UNKNOWN_77", 77, 77)
    body = parse(requests.new_state(v4(mode=mode))).body
    assert isinstance(body, State)
    assert body.mode == 77


def test_messages_of_an_unknown_type_are_kept() -> None:
    found = parse(message(0x77, 0, b"abcd"))
    assert (found.kind, found.body) == (0x77, Unknown(b"abcd"))


def test_attributes_that_are_not_known_are_sent_again() -> None:
    raw = requests.new_state(v4(other=((200, b"abc"),)))
    body = parse(raw, keys=True).body
    assert isinstance(body, State)
    assert body.other == ((200, b"abc"),)
    assert requests.new_state(body) == raw


def test_of_an_attribute_that_is_there_twice_the_last_one_counts_as_it_does_for_the_kernel() -> None:
    one, two = (struct.pack("=HHI", 8, Attribute.IF_ID, number) for number in (1, 2))
    body = parse(message(MessageType.NEWSA, 0, v4(aead=None).head() + one + two)).body
    assert isinstance(body, State)
    assert body.if_id == 2


def test_the_longer_form_of_an_integrity_algorithm_counts_where_the_kernel_shows_both() -> None:
    short = v4(aead=None, auth=Auth("hmac(sha256)", b"k" * 32)).parts()
    long = v4(aead=None, auth=Auth("hmac(sha256)", b"k" * 32, 128)).parts()
    for parts in (short + long, long + short):
        body = parse(message(MessageType.NEWSA, 0, v4(aead=None).head(), parts), keys=True).body
        assert isinstance(body, State)
        assert body.auth == Auth("hmac(sha256)", b"k" * 32, 128, 256)


def test_a_port_is_exact_any_or_masked() -> None:
    selector = Selector(IPv4Network("10.0.0.0/8"), IPv4Network("0.0.0.0/0"), 17, 53, MaskedPort(0x8000, 0xC000))
    packed = SELECTOR.codec.pack(*selector.values())
    assert Selector.of(SELECTOR.codec.unpack(packed)) == selector
    assert packed[32:40].hex() == "8000c0000035ffff"


def test_port_zero_is_not_any_port() -> None:
    selector = Selector(IPv4Network("10.0.0.0/8"), IPv4Network("0.0.0.0/0"), 1, 0, None)
    assert Selector.of(SELECTOR.codec.unpack(SELECTOR.codec.pack(*selector.values()))) == selector


def test_the_selector_of_a_larval_state_has_addresses_of_no_family() -> None:
    raw = bytearray(requests.new_state(State(source=A, destination=B, spi=0, selector=between())))
    struct.pack_into("=H", raw, 16 + 40, 0)
    body = parse(raw).body
    assert isinstance(body, State)
    assert body.selector == between()


def between() -> Selector:
    return Selector(IPv4Network("192.0.2.1"), IPv4Network("192.0.2.2"))


def test_bits_right_of_the_prefix_are_kept_since_the_kernel_compares_them() -> None:
    selector = Selector(IPv4Interface("10.1.0.9/24"), IPv4Network("10.2.0.0/24"))
    raw = requests.delete_policy(PolicyId(direction=PolicyDirection.OUT, selector=selector))
    assert raw[16 + 16 : 16 + 20] == IPv4Address("10.1.0.9").packed


def test_the_selector_of_a_state_that_says_nothing_is_one_object() -> None:
    body = parse(requests.new_state(v4())).body
    assert isinstance(body, State)
    assert body.selector is EVERYTHING


@pytest.mark.parametrize(
    "state",
    [
        v4(destination=IPv6Address("::1")),
        v4(selector=Selector(IPv4Network("10.0.0.0/8"), IPv6Network("::/0"))),
        v4(selector=Selector(IPv4Network("10.0.0.0/8"), family=10)),
        v4(aead=Aead("x" * 64, b"k")),
        v4(aead=Aead("rfc4106(gcm(aes))", b"", 128, 160)),
        v4(replay_esn=ReplayEsn(4097)),
        v4(replay_esn=ReplayEsn(64, bitmap=b"1234")),
    ],
)
def test_what_cannot_be_said_is_a_value_error(state: State) -> None:
    with pytest.raises(ValueError, match=r"."):
        requests.new_state(state)


@pytest.mark.parametrize(
    "state",
    [v4(spi=1 << 32), v4(reqid=-1), v4(if_id=1 << 32), v4(encap=Encap(EncapType.ESPINUDP, 1 << 16, 1))],
)
def test_numbers_that_are_too_large_are_refused(state: State) -> None:
    with pytest.raises((struct.error, OverflowError)):
        requests.new_state(state)


def test_a_key_that_was_not_read_cannot_be_installed_by_mistake() -> None:
    body = parse(requests.new_state(v4())).body
    assert isinstance(body, State)
    assert body.aead == Aead("rfc4106(gcm(aes))", b"", 128, 160)
    with pytest.raises(ValueError, match="not read"):
        requests.new_state(body)


def test_a_key_of_bits_that_are_no_bytes_keeps_its_length() -> None:
    crypt = Crypt("odd", b"\xfe", 7)
    body = parse(requests.new_state(v4(aead=None, crypt=crypt)), keys=True).body
    assert isinstance(body, State)
    assert body.crypt == crypt


def test_a_longer_structure_of_a_newer_kernel_is_read_as_far_as_it_is_known() -> None:
    mark = struct.pack("=HHIII", 16, Attribute.MARK, 1, 2, 3)
    body = parse(message(MessageType.NEWSA, 0, v4(aead=None).head() + mark)).body
    assert isinstance(body, State)
    assert body.mark is not None
    assert (body.mark.value, body.mark.mask) == (1, 2)


@pytest.mark.parametrize("cut", range(0, 16 + USERSA_INFO.size, 7))
def test_a_truncated_message_is_malformed(cut: int) -> None:
    raw = bytes(requests.new_state(v4(aead=GCM)))[:cut]
    with pytest.raises(Malformed):
        parse(raw)
    if cut >= 16:
        with pytest.raises(Malformed):
            parse(struct.pack("=I", cut) + raw[4:])
