"""Against the kernel that runs here: what it takes it gives back, and its events say what they should.

What it cannot do is skipped with its own words: development machines often have XFRM and policies but no ESP.
"""

from __future__ import annotations

import errno
import select
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, TypeVar

import pytest

from appliance.datapath.kernel.xfrm import (
    Acquire,
    AddressFilter,
    Aead,
    AeEvent,
    AeFlag,
    Attribute,
    Auth,
    Crypt,
    DefaultAction,
    Defaults,
    DeletedPolicy,
    DeletedState,
    Encap,
    EncapType,
    Expire,
    ExtraFlag,
    FlushedPolicies,
    FlushedStates,
    Group,
    Iptfs,
    KeyManagerAddress,
    Lifetime,
    Mark,
    Message,
    MessageType,
    Migrate,
    MigrateState,
    MigrateStep,
    Mode,
    NoAnswer,
    OutputMark,
    Overrun,
    Policy,
    PolicyAction,
    PolicyDirection,
    PolicyExpire,
    PolicyFlag,
    PolicyId,
    PolicyType,
    Protocol,
    Replay,
    ReplayEsn,
    SadInfo,
    SaDirection,
    Selector,
    SpdInfo,
    State,
    StateFilter,
    StateFlag,
    StateId,
    Stats,
    Template,
    Usage,
    XfrmError,
    XfrmEvents,
    XfrmSocket,
    requests,
)

from .namespace import Namespace, kernel, namespace_or_skip

A, B = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")
A6, B6 = IPv6Address("2001:db8::1"), IPv6Address("2001:db8::2")
LOCAL, REMOTE = IPv4Network("10.1.0.0/24"), IPv4Network("10.2.0.0/24")
OUT = PolicyDirection.OUT
POLICY = Policy(selector=Selector(LOCAL, REMOTE), direction=OUT, priority=1000, templates=(Template(A, B, reqid=7),))
LARVAL = State(source=A, destination=B, spi=0, reqid=9)
GCM = Aead("rfc4106(gcm(aes))", bytes(range(20)), 128)
CBC = Crypt("cbc(aes)", bytes(range(32)))
SHA256 = Auth("hmac(sha256)", bytes(range(32)), 128)

T = TypeVar("T")


@pytest.fixture(scope="module")
def namespace() -> Iterator[Namespace]:
    made = namespace_or_skip()
    yield made
    made.close()


@pytest.fixture
def xfrm(namespace: Namespace) -> Iterator[XfrmSocket]:
    with namespace.call(XfrmSocket) as opened:
        opened.batch([requests.flush_states(), requests.flush_policies(), requests.flush_policies(PolicyType.SUB)])
        yield opened


@pytest.fixture
def events(namespace: Namespace, xfrm: XfrmSocket) -> Iterator[XfrmEvents]:
    with namespace.call(XfrmEvents) as opened:
        yield opened


@pytest.fixture
def esp(xfrm: XfrmSocket) -> None:
    """For tests that need SAs."""
    (answer,) = xfrm.batch([requests.new_state(replace(LARVAL, spi=0x100, aead=GCM))])
    if answer.error is not None:
        pytest.skip(f"this kernel takes no ESP SA with AES-GCM: {answer.error}")
    xfrm.do(requests.flush_states())


def wait_for(events: XfrmEvents, kind: type[T], within: float = 10.0) -> T:
    """The next event that says ``kind``."""
    end = time.monotonic() + within
    seen: list[object] = []
    while time.monotonic() < end:
        select.select([events.fileno()], [], [], max(0, end - time.monotonic()))
        for event in events.receive(1):
            body = event.body if isinstance(event, Message) else event
            if isinstance(body, kind):
                return body
            seen.append(body)
    raise AssertionError(f"no {kind.__name__} within {within} s, but {seen}")


def settled(policy: Policy) -> Policy:
    """Without what the kernel adds."""
    return replace(policy, index=0, usage=Usage())


POLICIES = {
    "tunnel": POLICY,
    "v6": Policy(
        selector=Selector(IPv6Network("2001:db8:1::/48"), IPv6Network("2001:db8:2::/48")),
        direction=PolicyDirection.IN,
        templates=(Template(B6, A6, reqid=0xFFFFFFFF, spi=0x12345678),),
    ),
    "4 in 6": replace(POLICY, templates=(Template(A6, B6),)),
    "forward": replace(POLICY, direction=PolicyDirection.FWD, templates=(Template(B, A, optional=True),)),
    "block": replace(POLICY, action=PolicyAction.BLOCK, templates=()),
    "allow": replace(POLICY, selector=Selector(LOCAL, REMOTE, 17, 500, 4500), templates=(), priority=0xFFFFFFFF),
    "flags": replace(POLICY, flags=PolicyFlag.LOCALOK | PolicyFlag.ICMP),
    "limits": replace(POLICY, lifetime=Lifetime(1, 2, 3, 4, 50, 60, 70, 80)),
    "mark": replace(POLICY, mark=Mark(5, 7)),
    "if_id": replace(POLICY, if_id=0x42),
    "interface": replace(POLICY, selector=Selector(LOCAL, REMOTE, interface=1)),
    "two templates": replace(
        POLICY,
        direction=PolicyDirection.IN,
        templates=(Template(A, B, Protocol.COMP, optional=True), Template(A, B, mode=Mode.TRANSPORT)),
    ),
}


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_a_policy_is_given_back_as_it_was_installed(xfrm: XfrmSocket, policy: Policy) -> None:
    xfrm.do(requests.new_policy(policy))
    found = xfrm.do(requests.get_policy(PolicyId.of(policy)))
    assert isinstance(found, Policy)
    assert settled(found) == policy
    assert [settled(one) for one in xfrm.policies()] == [settled(found)]
    by_index = PolicyId(direction=policy.direction, index=found.index, mark=policy.mark, if_id=policy.if_id)
    xfrm.do(requests.delete_policy(by_index))
    assert xfrm.policies() == []


def test_a_policy_exists_once_and_can_be_replaced(xfrm: XfrmSocket) -> None:
    xfrm.do(requests.new_policy(POLICY))
    with pytest.raises(XfrmError) as caught:
        xfrm.do(requests.new_policy(POLICY))
    assert (caught.value.errno, caught.value.kind) == (errno.EEXIST, MessageType.NEWPOLICY)
    xfrm.do(requests.update_policy(replace(POLICY, templates=(Template(A, B, reqid=8),))))
    (found,) = xfrm.policies()
    assert found.templates[0].reqid == 8
    with pytest.raises(XfrmError) as caught:
        xfrm.do(requests.delete_policy(PolicyId(direction=PolicyDirection.IN, selector=POLICY.selector)))
    assert caught.value.errno == errno.ENOENT


def test_sub_policies_are_apart(xfrm: XfrmSocket) -> None:
    (answer,) = xfrm.batch([requests.new_policy(replace(POLICY, policy_type=PolicyType.SUB))])
    if answer.error is not None:
        pytest.skip(f"this kernel has no sub-policies (CONFIG_XFRM_SUB_POLICY): {answer.error}")
    xfrm.do(requests.new_policy(POLICY))
    assert len(xfrm.policies()) == 2
    assert len(xfrm.policies(PolicyType.SUB)) == 1
    xfrm.do(requests.flush_policies(PolicyType.SUB))
    assert [one.policy_type for one in xfrm.policies()] == [PolicyType.MAIN]


def test_refusals_carry_the_kernels_words_and_the_attribute(xfrm: XfrmSocket) -> None:
    with pytest.raises(XfrmError) as caught:
        xfrm.do(requests.new_policy(replace(POLICY, other=((Attribute.IF_ID, b""),))))
    assert caught.value.attribute == Attribute.IF_ID
    assert caught.value.message
    if kernel() >= (6, 4):
        with pytest.raises(XfrmError) as caught:
            xfrm.do(requests.new_policy(replace(POLICY, templates=POLICY.templates * 7)))
        assert "6" in caught.value.message


def many(count: int) -> list[Policy]:
    base = int(IPv4Address("10.64.0.0"))
    return [
        replace(POLICY, selector=Selector(LOCAL, IPv4Network((base + (number << 2), 30)))) for number in range(count)
    ]


def test_a_batch_goes_on_after_a_refusal_and_says_which_it_was(xfrm: XfrmSocket) -> None:
    policies = many(300)
    policies[200] = policies[100]
    answers = xfrm.batch([requests.new_policy(policy) for policy in policies])
    assert [at for at, answer in enumerate(answers) if answer.error is not None] == [200]
    assert len(xfrm.policies()) == 299


def test_thousands_are_listed_whole(xfrm: XfrmSocket) -> None:
    policies = many(3000)
    assert all(answer.error is None for answer in xfrm.batch([requests.new_policy(policy) for policy in policies]))
    found = xfrm.policies()
    assert sorted(settled(one).selector.destination for one in found) == [  # type: ignore[type-var]
        policy.selector.destination for policy in policies
    ]
    info = xfrm.do(requests.get_spd_info())
    assert isinstance(info, SpdInfo)
    assert info.outbound == 3000


def test_thresholds_of_the_policy_hash_can_be_set(xfrm: XfrmSocket) -> None:
    xfrm.do(requests.set_spd_info(SpdInfo(ipv4_threshold=(24, 25), ipv6_threshold=(48, 64))))
    info = xfrm.do(requests.get_spd_info())
    assert isinstance(info, SpdInfo)
    assert (info.ipv4_threshold, info.ipv6_threshold) == ((24, 25), (48, 64))


def test_what_becomes_of_packets_without_a_policy_can_be_set(xfrm: XfrmSocket) -> None:
    before = xfrm.do(requests.get_defaults())
    assert isinstance(before, Defaults)
    xfrm.do(requests.set_defaults(Defaults(forward=DefaultAction.BLOCK)))
    assert xfrm.do(requests.get_defaults()) == replace(before, forward=DefaultAction.BLOCK)
    xfrm.do(requests.set_defaults(before))


def test_changes_of_policies_are_told(xfrm: XfrmSocket, events: XfrmEvents) -> None:
    xfrm.do(requests.new_policy(POLICY))
    assert settled(wait_for(events, Policy)) == POLICY
    xfrm.do(requests.delete_policy(PolicyId.of(POLICY)))
    gone = wait_for(events, DeletedPolicy)
    assert gone.id.selector == POLICY.selector
    assert gone.policy is not None
    assert settled(gone.policy) == POLICY
    xfrm.do(requests.new_policy(POLICY))
    xfrm.do(requests.flush_policies())
    assert wait_for(events, FlushedPolicies) == FlushedPolicies(PolicyType.MAIN)


def test_a_policy_that_ends_says_so(xfrm: XfrmSocket, events: XfrmEvents) -> None:
    xfrm.do(requests.new_policy(replace(POLICY, lifetime=Lifetime(hard_seconds=1))))
    expiry = wait_for(events, PolicyExpire)
    assert expiry.hard
    assert expiry.policy.selector == POLICY.selector
    assert xfrm.policies() == []


def test_more_events_than_the_buffer_holds_are_told_as_an_overrun(namespace: Namespace, xfrm: XfrmSocket) -> None:
    with namespace.call(XfrmEvents, (Group.POLICY,), buffer=8192) as events:
        xfrm.batch([requests.new_policy(policy) for policy in many(400)])
        found = events.receive(1000)
    assert Overrun() in found
    assert any(isinstance(event, Message) for event in found)


def allocate(xfrm: XfrmSocket, state: State, *limits: int) -> State:
    found = xfrm.do(requests.allocate_spi(state, *limits))
    assert isinstance(found, State)
    return found


def test_an_spi_is_chosen_and_held_by_a_larval_state(xfrm: XfrmSocket, events: XfrmEvents) -> None:
    first = allocate(xfrm, replace(LARVAL, mark=Mark(3, 7), if_id=5), 0x1000, 0x1000)
    assert (first.spi, first.reqid, first.mark, first.if_id) == (0x1000, 9, Mark(3, 7), 5)
    second = allocate(xfrm, replace(LARVAL, source=A6, destination=B6))
    assert second.spi >= 0x100
    assert second.source == A6
    listed = {state.spi: state for state in xfrm.states()}
    assert set(listed) == {0x1000, second.spi}
    assert listed[0x1000].selector == Selector(IPv4Network("192.0.2.1"), IPv4Network("192.0.2.2"))
    info = xfrm.do(requests.get_sad_info())
    assert isinstance(info, SadInfo)
    assert info.count == 2
    with pytest.raises(XfrmError) as caught:
        xfrm.do(requests.get_state(StateId(B, 0x1000)))
    assert caught.value.errno == errno.ESRCH, "the mark belongs to its name"
    assert xfrm.do(requests.get_state(StateId.of(first))) == first
    xfrm.do(requests.delete_state(StateId.of(first)))
    gone = wait_for(events, DeletedState)
    assert gone.id.spi == 0x1000
    assert gone.state is not None
    assert gone.state.if_id == 5
    with pytest.raises(XfrmError) as caught:
        xfrm.do(requests.delete_state(StateId.of(first)))
    assert caught.value.errno == errno.ESRCH


def test_a_dump_lists_what_its_filter_lets_through(xfrm: XfrmSocket) -> None:
    four = allocate(xfrm, LARVAL)
    six = allocate(xfrm, replace(LARVAL, source=A6, destination=B6, protocol=Protocol.AH))
    spis = [four.spi], [six.spi]
    assert [one.spi for one in xfrm.states(StateFilter(Protocol.ESP))] == spis[0]
    assert [one.spi for one in xfrm.states(StateFilter(Protocol.AH))] == spis[1]
    assert [one.spi for one in xfrm.states(StateFilter(addresses=AddressFilter(IPv4Network("192.0.2.0/28"))))] == spis[
        0
    ]
    assert [one.spi for one in xfrm.states(StateFilter(addresses=AddressFilter(IPv6Network("2001:db8::/64"))))] == spis[
        1
    ]
    assert xfrm.states(StateFilter(addresses=AddressFilter(IPv4Network("198.51.100.0/24")))) == []


def test_an_spi_that_is_not_to_be_had_is_refused_and_leaves_a_larval_state_behind(xfrm: XfrmSocket) -> None:
    """The kernel's doing: the caller has to expect a state of SPI 0 until it expires."""
    allocate(xfrm, LARVAL, 0x2000, 0x2000)
    with pytest.raises(XfrmError) as caught:
        xfrm.do(requests.allocate_spi(replace(LARVAL, reqid=10), 0x2000, 0x2000))
    assert caught.value.errno == errno.ENOENT
    assert {state.spi for state in xfrm.states()} <= {0, 0x2000}


def test_flushing_states_is_told(xfrm: XfrmSocket, events: XfrmEvents) -> None:
    allocate(xfrm, LARVAL)
    xfrm.do(requests.flush_states(Protocol.ESP))
    assert wait_for(events, FlushedStates) == FlushedStates(Protocol.ESP)
    assert xfrm.states() == []


def test_a_packet_that_wants_an_sa_is_told_and_a_larval_state_waits(
    namespace: Namespace, xfrm: XfrmSocket, events: XfrmEvents
) -> None:
    namespace.sysctl("net.core.xfrm_acq_expires", 2)
    xfrm.do(requests.new_policy(POLICY))
    (installed,) = xfrm.policies()
    with namespace.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("10.1.0.1", 4000))
        sock.sendto(b"hello", ("10.2.0.9", 5000))
    acquire = wait_for(events, Acquire)
    assert (acquire.source, acquire.destination, acquire.protocol) == (A, B, Protocol.ESP)
    assert acquire.policy.index == installed.index
    assert acquire.policy.templates == POLICY.templates
    wanted = Selector(IPv4Network("10.1.0.1"), IPv4Network("10.2.0.9"), 17, 4000, 5000)
    assert replace(acquire.selector, interface=0) == wanted
    (larval,) = xfrm.states()
    assert (larval.spi, larval.reqid, larval.seq) == (0, 7, acquire.seq)
    expiry = wait_for(events, Expire)
    assert expiry.hard
    assert expiry.state.seq == acquire.seq


def test_a_policy_moves_to_other_addresses(xfrm: XfrmSocket, events: XfrmEvents) -> None:
    xfrm.do(requests.new_policy(POLICY))
    moved = IPv4Address("192.0.2.77")
    step = MigrateStep(old_source=A, old_destination=B, new_source=A, new_destination=moved, reqid=7)
    migration = Migrate(selector=POLICY.selector, direction=OUT, steps=(step,), key_manager=KeyManagerAddress(A, moved))
    (answer,) = xfrm.batch([requests.migrate(migration)])
    if answer.error is not None and answer.error.errno == errno.ENOPROTOOPT:
        pytest.skip("this kernel has no CONFIG_XFRM_MIGRATE")
    assert answer.error is None
    told = wait_for(events, Migrate)
    assert (told.selector, told.direction, told.steps) == (migration.selector, OUT, migration.steps)
    assert told.key_manager == migration.key_manager
    (found,) = xfrm.policies()
    assert found.templates[0].destination == moved


def test_whether_single_states_can_move_is_known_from_the_refusal(xfrm: XfrmSocket) -> None:
    migration = MigrateState(id=StateId(B, 0x1234), source=A, destination=B, reqid=1)
    (answer,) = xfrm.batch([requests.migrate_state(migration)])
    assert answer.error is not None
    expected = (errno.ESRCH, errno.ENOPROTOOPT) if kernel() >= (7, 2) else (errno.EINVAL,)
    assert answer.error.errno in expected


def test_the_window_and_the_counters_of_a_state_can_be_asked_for(xfrm: XfrmSocket) -> None:
    state = allocate(xfrm, LARVAL)
    ae = AeEvent(id=StateId(B, state.spi), source=A, flags=AeFlag.RTHR | AeFlag.ETHR)
    found = xfrm.do(requests.get_ae(ae))
    assert isinstance(found, AeEvent)
    assert (found.id.spi, found.reqid, found.replay) == (state.spi, 9, Replay())
    assert found.usage is not None
    assert found.replay_threshold is not None
    with pytest.raises(XfrmError) as caught:
        xfrm.do(requests.new_ae(replace(ae, replay=Replay(1, 2, 3))))
    assert caught.value.errno == errno.EINVAL, "a larval state has no window to set"


# From here on ESP is needed.

STATE = replace(LARVAL, spi=0x1000, aead=GCM)

STATES: dict[str, tuple[State, tuple[int, int]]] = {
    "gcm": (STATE, (0, 0)),
    "gcm 256": (replace(STATE, aead=Aead("rfc4106(gcm(aes))", bytes(range(36)), 128)), (0, 0)),
    "gcm icv 64": (replace(STATE, aead=Aead("rfc4106(gcm(aes))", bytes(range(20)), 64)), (0, 0)),
    "chacha": (replace(STATE, aead=Aead("rfc7539esp(chacha20,poly1305)", bytes(range(36)), 128)), (0, 0)),
    "cbc sha256": (replace(STATE, aead=None, crypt=CBC, auth=SHA256), (0, 0)),
    "cbc sha384": (
        replace(STATE, aead=None, crypt=CBC, auth=Auth("hmac(sha384)", bytes(range(48)), 192)),
        (0, 0),
    ),
    "cbc sha512": (
        replace(STATE, aead=None, crypt=CBC, auth=Auth("hmac(sha512)", bytes(range(64)), 256)),
        (0, 0),
    ),
    "transport": (replace(STATE, mode=Mode.TRANSPORT), (0, 0)),
    "v6": (replace(STATE, source=A6, destination=B6), (0, 0)),
    "selector": (
        replace(STATE, mode=Mode.TRANSPORT, selector=Selector(LOCAL, REMOTE, 17, 1, 2)),
        (0, 0),
    ),
    "window 32": (replace(STATE, replay_window=32), (0, 0)),
    "window 4096": (replace(STATE, replay_esn=ReplayEsn(4096, bitmap=bytes(512))), (0, 0)),
    "esn": (
        replace(STATE, flags=StateFlag.ESN, replay_esn=ReplayEsn(1024, 0x1_0000_0001, 0x2_0000_0002, bytes(128))),
        (0, 0),
    ),
    "encap": (replace(STATE, encap=Encap(EncapType.ESPINUDP, 4500, 4501)), (0, 0)),
    "flags": (
        replace(STATE, flags=StateFlag.NOECN | StateFlag.DECAP_DSCP | StateFlag.NOPMTUDISC | StateFlag.AF_UNSPEC),
        (0, 0),
    ),
    "extra flags": (replace(STATE, extra_flags=ExtraFlag.DONT_ENCAP_DSCP | ExtraFlag.OSEQ_MAY_WRAP), (5, 9)),
    "limits": (replace(STATE, lifetime=Lifetime(10, 20, 30, 40, 50, 60, 70, 80)), (0, 0)),
    "mark": (replace(STATE, mark=Mark(1, 0xFF)), (0, 0)),
    "output mark": (replace(STATE, output_mark=OutputMark(1, 0xFF)), (4, 19)),
    "if_id": (replace(STATE, if_id=77), (4, 19)),
    "tfc": (replace(STATE, tfc_padding=1400), (0, 0)),
    "direction in": (replace(STATE, direction=SaDirection.IN, replay_window=32), (6, 10)),
    "direction out": (replace(STATE, direction=SaDirection.OUT), (6, 10)),
    "nat keepalive": (
        replace(STATE, direction=SaDirection.OUT, encap=Encap(EncapType.ESPINUDP, 4500, 4500), nat_keepalive=20),
        (6, 11),
    ),
    "mapping age": (replace(STATE, encap=Encap(EncapType.ESPINUDP, 4500, 4500), mapping_max_age=9), (5, 17)),
    "cpu": (replace(STATE, direction=SaDirection.OUT, cpu=0), (6, 12)),
}


def settled_state(found: State, asked: State) -> State:
    """Without what the kernel adds: counters, the family's own selector, an empty window."""
    selector = asked.selector if asked.selector == Selector() else found.selector
    replay = asked.replay if found.replay == Replay() else found.replay
    return replace(
        found,
        usage=Usage(),
        stats=Stats(),
        selector=selector,
        replay=replay,
        last_used=0,
        offload=None if found.offload is not None and found.offload.interface == 0 else found.offload,
    )


def explicit(state: State) -> State:
    """With the lengths of its keys, as they are read."""
    fields: dict[str, Any] = {}
    for name in ("aead", "crypt", "auth"):
        algorithm = getattr(state, name)
        if algorithm is not None:
            fields[name] = replace(algorithm, key_bits=len(algorithm.key) * 8)
    return replace(state, **fields)


@pytest.mark.usefixtures("esp")
@pytest.mark.parametrize(("state", "since"), STATES.values(), ids=STATES)
def test_a_state_is_given_back_as_it_was_installed(
    xfrm: XfrmSocket, events: XfrmEvents, state: State, since: tuple[int, int]
) -> None:
    if kernel() < since:
        pytest.skip(f"came with Linux {since[0]}.{since[1]}")
    (answer,) = xfrm.batch([requests.new_state(state)])
    if answer.error is not None and answer.error.errno in (errno.ENOSYS, errno.EPROTONOSUPPORT, errno.EOPNOTSUPP):
        pytest.skip(f"this kernel lacks it: {answer.error}")
    assert answer.error is None
    found = xfrm.do(requests.get_state(StateId.of(state)), keys=True)
    assert isinstance(found, State)
    assert settled_state(found, state) == explicit(state)
    (listed,) = xfrm.states(keys=True)
    assert settled_state(listed, state) == explicit(state)
    told = wait_for(events, State)
    assert told.aead is None or told.aead.key == b""
    xfrm.do(requests.delete_state(StateId.of(state)))
    assert wait_for(events, DeletedState).id.spi == state.spi


@pytest.mark.usefixtures("esp")
def test_a_larval_state_gets_its_keys_by_an_update(xfrm: XfrmSocket) -> None:
    larval = allocate(xfrm, LARVAL)
    xfrm.do(requests.update_state(replace(STATE, spi=larval.spi)))
    (found,) = xfrm.states()
    assert found.aead is not None
    with pytest.raises(XfrmError) as caught:
        xfrm.do(requests.new_state(replace(STATE, spi=larval.spi)))
    assert caught.value.errno == errno.EEXIST


@pytest.mark.usefixtures("esp")
def test_the_window_of_a_state_can_be_moved(xfrm: XfrmSocket, events: XfrmEvents) -> None:
    esn = ReplayEsn(4096, bitmap=bytes(512))
    xfrm.do(requests.new_state(replace(STATE, flags=StateFlag.ESN, replay_esn=esn)))
    moved = ReplayEsn(4096, 0x1_0000_0010, 0x1_0000_0020, b"\x0f" + bytes(511))
    ae = AeEvent(id=StateId(B, STATE.spi), source=A, replay_esn=moved, usage=Usage(1000, 10, 1, 2))
    xfrm.do(requests.new_ae(ae))
    found = xfrm.do(requests.get_ae(AeEvent(id=StateId(B, STATE.spi), source=A)))
    assert isinstance(found, AeEvent)
    assert found.replay_esn == moved
    assert found.usage is not None
    assert (found.usage.bytes, found.usage.packets) == (1000, 10)
    assert AeFlag.CU in wait_for(events, AeEvent).flags


@pytest.mark.usefixtures("esp")
def test_a_state_expires_softly_and_then_hard(xfrm: XfrmSocket, events: XfrmEvents) -> None:
    xfrm.do(requests.new_state(replace(STATE, lifetime=Lifetime(soft_seconds=1, hard_seconds=2))))
    assert not wait_for(events, Expire).hard
    assert wait_for(events, Expire).hard
    assert xfrm.states() == []


@pytest.mark.usefixtures("esp")
def test_a_state_moves_with_its_sequence_numbers(xfrm: XfrmSocket, events: XfrmEvents) -> None:
    if kernel() < (7, 2):
        pytest.skip("came with Linux 7.2")
    esn = ReplayEsn(1024, 0, 0x1_0000_0020, b"\x0f" + bytes(127))
    inbound = replace(STATE, flags=StateFlag.ESN, replay_esn=esn, direction=SaDirection.IN)
    xfrm.do(requests.new_state(inbound))
    moved = IPv4Address("192.0.2.77")
    encap = Encap(EncapType.ESPINUDP, 4500, 4500)
    migration = MigrateState(
        id=StateId(B, STATE.spi), source=moved, destination=B, reqid=10, encap=encap, mapping_max_age=5
    )
    xfrm.do(requests.migrate_state(migration))
    told = wait_for(events, MigrateState)
    assert (told.id, told.source, told.encap, told.direction) == (migration.id, moved, encap, SaDirection.IN)
    (found,) = xfrm.states()
    assert (found.source, found.reqid, found.encap, found.mapping_max_age) == (moved, 10, encap, 5)
    assert found.replay_esn == esn


IPTFS_IN = replace(STATE, mode=Mode.IPTFS, direction=SaDirection.IN, iptfs=Iptfs(drop_time=1000, reorder_window=5))
IPTFS_OUT = replace(
    STATE,
    mode=Mode.IPTFS,
    direction=SaDirection.OUT,
    iptfs=Iptfs(dont_fragment=True, init_delay=20, max_queue=100000, packet_size=1400),
)


@pytest.mark.usefixtures("esp")
@pytest.mark.parametrize("state", [IPTFS_IN, IPTFS_OUT], ids=["in", "out"])
def test_aggregation_is_given_back_as_it_was_installed(xfrm: XfrmSocket, state: State) -> None:
    if kernel() < (6, 14):
        pytest.skip("came with Linux 6.14")
    (answer,) = xfrm.batch([requests.new_state(state)])
    if answer.error is not None and answer.error.errno in (errno.ENOSYS, errno.EPROTONOSUPPORT, errno.EOPNOTSUPP):
        pytest.skip(f"this kernel lacks it (CONFIG_XFRM_IPTFS): {answer.error}")
    assert answer.error is None
    (found,) = xfrm.states()
    if found.iptfs is None:
        pytest.skip("this kernel takes the mode and does nothing of it (CONFIG_XFRM_IPTFS is not set)")
    assert found.iptfs == state.iptfs


@pytest.mark.usefixtures("esp")
def test_a_thousand_states_are_installed_listed_and_removed(xfrm: XfrmSocket) -> None:
    states = [replace(STATE, spi=0x10000 + number) for number in range(1000)]
    assert all(answer.error is None for answer in xfrm.batch([requests.new_state(one) for one in states]))
    assert {one.spi for one in xfrm.states()} == {one.spi for one in states}
    removals = [requests.delete_state(StateId.of(one)) for one in states]
    assert all(answer.error is None for answer in xfrm.batch(removals))
    assert xfrm.states() == []


@pytest.mark.usefixtures("esp")
@pytest.mark.parametrize(
    "wrong",
    [
        lambda state: replace(state, aead=Aead("rfc4106(gcm(aes))", b"short", 128)),
        lambda state: replace(state, aead=Aead("none-such", b"k" * 20, 128)),
        lambda state: replace(state, aead=None),
        lambda state: replace(state, mode=Mode(9)),
    ],
)
def test_a_state_that_cannot_be_is_refused_and_not_in_doubt(xfrm: XfrmSocket, wrong: Callable[[State], State]) -> None:
    (answer,) = xfrm.batch([requests.new_state(wrong(STATE))])
    assert isinstance(answer.error, XfrmError)
    assert not isinstance(answer.error, NoAnswer)
    assert xfrm.states() == []
