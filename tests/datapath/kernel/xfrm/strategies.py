"""Values of every kind, and bytes that are nearly messages."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

from hypothesis import strategies as st

from appliance.datapath.kernel.xfrm import (
    Acquire,
    Aead,
    AeEvent,
    AeFlag,
    Auth,
    Crypt,
    Defaults,
    DeletedPolicy,
    DeletedState,
    Encap,
    Expire,
    Iptfs,
    KeyManagerAddress,
    Lifetime,
    Mapping,
    Mark,
    Message,
    MessageType,
    Migrate,
    MigrateState,
    MigrateStep,
    Mode,
    Offload,
    OffloadFlag,
    OutputMark,
    Policy,
    PolicyExpire,
    PolicyFlag,
    PolicyId,
    PolicyType,
    Protocol,
    Replay,
    ReplayEsn,
    Report,
    SaDirection,
    SecurityContext,
    Selector,
    Share,
    State,
    StateFlag,
    StateId,
    Stats,
    Template,
    Usage,
)
from appliance.datapath.kernel.xfrm.constants import (
    DefaultAction,
    EncapType,
    ExtraFlag,
    PolicyAction,
    PolicyDirection,
)

u8 = st.integers(0, 0xFF)
u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFFFFFF)
u64 = st.integers(0, (1 << 64) - 2)
positive = st.integers(1, 0xFFFFFFFF)
limit = st.none() | u64
seconds = st.none() | st.integers(1, (1 << 64) - 1)
v4 = st.integers(0, 0xFFFFFFFF).map(IPv4Address)
v6 = st.integers(0, (1 << 128) - 1).map(IPv6Address)
key = st.binary(max_size=72)
name = st.from_regex(r"[a-z0-9()-]{1,63}", fullmatch=True)
ports = st.none() | u16


def flags(kind: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(list(kind)).map(kind) | st.just(kind(0))


def number(kind: Any) -> st.SearchStrategy[Any]:
    """A member, or a number that a newer kernel might have."""
    return st.sampled_from(list(kind)) | st.integers(200, 255).map(kind)


@st.composite
def networks(draw: Callable[[Any], Any], six: bool) -> Any:
    if six:
        bits = draw(st.integers(0, 128))
        return IPv6Network((draw(st.integers(0, (1 << 128) - 1)) >> (128 - bits) << (128 - bits), bits))
    bits = draw(st.integers(0, 32))
    return IPv4Network((draw(st.integers(0, (1 << 32) - 1)) >> (32 - bits) << (32 - bits), bits))


@st.composite
def selectors(draw: Callable[[Any], Any]) -> Selector:
    six = draw(st.booleans())
    network = networks(six)
    return Selector(
        draw(network), draw(network), draw(u8), draw(ports), draw(ports), draw(st.integers(0, 1 << 30)), draw(u32)
    )


lifetimes = st.builds(Lifetime, limit, limit, limit, limit, seconds, seconds, seconds, seconds)
usages = st.builds(Usage, u64, u64, u64, u64)
marks = st.builds(Mark, u32, u32)
aeads = st.builds(lambda n, k, i: Aead(n, k, i, len(k) * 8), name, key, u32)
crypts = st.builds(lambda n, k: Crypt(n, k, len(k) * 8), name, key)
auths = st.builds(lambda n, k, t: Auth(n, k, t, len(k) * 8), name, key, st.none() | u32)
encaps = st.builds(Encap, number(EncapType), u16, u16)
offloads = st.builds(Offload, st.integers(0, 1 << 30), flags(OffloadFlag))
replays = st.builds(Replay, u32, u32, u32)
contexts = st.builds(SecurityContext, st.binary(max_size=60), u8, u8)
policy_types = st.sampled_from([PolicyType.MAIN, PolicyType.SUB])


@st.composite
def windows(draw: Callable[[Any], Any]) -> ReplayEsn:
    window = draw(st.integers(1, 4096))
    size = 4 * ((window + 31) // 32)
    bitmap = draw(st.just(b"") | st.just(bytes(range(256)) * 2).map(lambda raw: raw[:size].ljust(size, b"\x55")))
    return ReplayEsn(window, draw(u64), draw(u64), bitmap)


@st.composite
def templates(draw: Callable[[Any], Any]) -> Template:
    address = v6 if draw(st.booleans()) else v4
    return Template(
        draw(address),
        draw(address),
        draw(number(Protocol)),
        draw(u32),
        draw(u32),
        draw(number(Mode)),
        draw(number(Share)),
        draw(st.booleans()),
        draw(u32),
        draw(u32),
        draw(u32),
    )


@st.composite
def states(draw: Callable[[Any], Any]) -> State:
    address = v6 if draw(st.booleans()) else v4
    maybe = st.none()
    iptfs = st.builds(
        Iptfs,
        drop_time=maybe | u32,
        reorder_window=maybe | u16,
        dont_fragment=st.booleans(),
        init_delay=u32,
        max_queue=maybe | u32,
        packet_size=maybe | u32,
    )
    return State(
        source=draw(address),
        destination=draw(address),
        spi=draw(u32),
        protocol=draw(number(Protocol)),
        mode=draw(number(Mode)),
        reqid=draw(u32),
        selector=draw(selectors() | st.just(Selector())),
        aead=draw(maybe | aeads),
        crypt=draw(maybe | crypts),
        auth=draw(maybe | auths),
        comp=draw(maybe | crypts),
        flags=draw(flags(StateFlag)),
        extra_flags=draw(flags(ExtraFlag)),
        replay_window=draw(u8),
        replay=draw(maybe | replays),
        replay_esn=draw(maybe | windows()),
        lifetime=draw(lifetimes),
        usage=draw(usages),
        stats=draw(st.builds(Stats, u32, u32, u32)),
        seq=draw(u32),
        encap=draw(maybe | encaps),
        care_of=draw(maybe | st.just(IPv4Address("198.51.100.1")) | st.just(IPv6Address("2001:db8::1"))),
        security_context=draw(maybe | contexts),
        offload=draw(maybe | offloads),
        mark=draw(maybe | marks),
        if_id=draw(u32),
        tfc_padding=draw(u32),
        output_mark=draw(maybe | st.builds(OutputMark, u32, maybe | u32)),
        direction=draw(maybe | number(SaDirection)),
        replay_threshold=draw(maybe | u32),
        timer_threshold=draw(maybe | u32),
        last_used=draw(u64),
        mapping_max_age=draw(u32),
        nat_keepalive=draw(u32),
        cpu=draw(maybe | u32),
        iptfs=draw(maybe | iptfs),
        other=draw(st.just(()) | st.just(((99, b"new"), (100, b"")))),
    )


policies = st.builds(
    Policy,
    selector=selectors(),
    direction=number(PolicyDirection),
    action=number(PolicyAction),
    priority=u32,
    templates=st.lists(templates(), max_size=6).map(tuple),
    index=u32,
    flags=flags(PolicyFlag),
    share=number(Share),
    lifetime=lifetimes,
    usage=usages,
    policy_type=policy_types,
    mark=st.none() | marks,
    security_context=st.none() | contexts,
    if_id=u32,
    offload=st.none() | offloads,
    sa_direction=st.none() | number(SaDirection),
    cpu=st.none() | u32,
    other=st.just(()) | st.just(((99, b"new"),)),
)
state_ids = st.builds(StateId, v4, u32, number(Protocol), st.none() | v4, st.none() | marks)
bare_ids = st.builds(StateId, v6, u32, number(Protocol))
policy_ids = st.builds(
    PolicyId,
    direction=number(PolicyDirection),
    selector=selectors(),
    index=u32,
    policy_type=policy_types,
    mark=st.none() | marks,
    security_context=st.none() | contexts,
    if_id=u32,
)


@st.composite
def acquires(draw: Callable[[Any], Any]) -> Acquire:
    """As the kernel makes them: the addresses are of the family of the template with the same protocol."""
    policy = draw(policies.filter(lambda one: one.templates))
    template = policy.templates[0]
    return Acquire(
        source=template.source,
        destination=template.destination,
        protocol=template.protocol,
        spi=draw(u32),
        selector=draw(selectors()),
        policy=policy,
        seq=draw(u32),
    )


mappings = st.builds(
    Mapping,
    id=bare_ids,
    reqid=u32,
    old_source=v6,
    new_source=v6,
    old_port=u16,
    new_port=u16,
    other=st.just(()) | st.just(((31, b"abcd"),)),
)
reports = st.builds(Report, u8, selectors(), st.none() | st.just(IPv6Address("2001:db8::9")))
steps = st.builds(
    MigrateStep,
    old_source=v4,
    old_destination=v4,
    new_source=v6,
    new_destination=v6,
    protocol=number(Protocol),
    mode=number(Mode),
    reqid=u32,
)
migrations = st.builds(
    Migrate,
    selector=selectors(),
    direction=number(PolicyDirection),
    steps=st.lists(steps, max_size=6).map(tuple),
    key_manager=st.none() | st.builds(KeyManagerAddress, v4, v4),
    policy_type=policy_types,
    encap=st.none() | encaps,
    if_id=u32,
    offload=st.none() | offloads,
    index=u32,
)
state_migrations = st.builds(
    MigrateState,
    id=st.builds(StateId, v4, u32, number(Protocol), st.none(), st.none() | st.builds(Mark, positive, u32)),
    source=v6,
    destination=v6,
    reqid=u32,
    selector=selectors(),
    flags=st.integers(0, 3),
    mark=st.none() | marks,
    encap=st.none() | encaps,
    offload=st.none() | offloads,
    output_mark=st.none() | st.builds(OutputMark, u32, st.none() | u32),
    nat_keepalive=st.none() | u32,
    mapping_max_age=st.none() | u32,
    direction=st.none() | number(SaDirection),
)
ae_events = st.builds(
    AeEvent,
    id=st.builds(StateId, v6, u32, number(Protocol), st.none(), st.none() | marks),
    source=v6,
    reqid=u32,
    flags=flags(AeFlag),
    replay=st.none() | replays,
    replay_esn=st.none() | windows(),
    usage=st.none() | usages,
    replay_threshold=st.none() | u32,
    timer_threshold=st.none() | u32,
    if_id=u32,
    cpu=st.none() | u32,
    direction=st.none() | number(SaDirection),
)
actions = number(DefaultAction)

messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(Message, st.sampled_from([MessageType.NEWSA, MessageType.UPDSA]), states(), st.just(5)),
    st.builds(Message, st.sampled_from([MessageType.NEWPOLICY, MessageType.UPDPOLICY]), policies, st.just(5)),
    st.builds(Message, st.just(MessageType.DELSA), st.builds(DeletedState, state_ids), st.just(5)),
    st.builds(Message, st.just(MessageType.DELSA), states().map(lambda s: DeletedState(id_told_by(s), s)), st.just(0)),
    st.builds(Message, st.just(MessageType.GETSA), state_ids, st.just(1)),
    st.builds(Message, st.just(MessageType.DELPOLICY), st.builds(DeletedPolicy, policy_ids), st.just(5)),
    st.builds(Message, st.just(MessageType.GETPOLICY), policy_ids, st.just(1)),
    st.builds(Message, st.just(MessageType.ACQUIRE), acquires(), st.just(0)),
    st.builds(Message, st.just(MessageType.EXPIRE), st.builds(Expire, states(), st.booleans()), st.just(0)),
    st.builds(Message, st.just(MessageType.POLEXPIRE), st.builds(PolicyExpire, policies, st.booleans()), st.just(0)),
    st.builds(Message, st.just(MessageType.MAPPING), mappings, st.just(0)),
    st.builds(Message, st.just(MessageType.REPORT), reports, st.just(0)),
    st.builds(Message, st.just(MessageType.MIGRATE), migrations, st.just(5)),
    st.builds(Message, st.just(MessageType.MIGRATE_STATE), state_migrations, st.just(5)),
    st.builds(Message, st.sampled_from([MessageType.NEWAE, MessageType.GETAE]), ae_events, st.just(1)),
    st.builds(Message, st.just(MessageType.SETDEFAULT), st.builds(Defaults, actions, actions, actions), st.just(5)),
)
"""Everything that holds more than a number or two."""


def id_told_by(state: State) -> StateId:
    """What a DELSA event with this state in it says: no source address, and its mark is the state's."""
    return StateId(state.destination, state.spi, state.protocol, None, state.mark)
