"""Every request, as the bytes that go to the kernel. :class:`socket.XfrmSocket` numbers and sends them.

Each is one ``bytearray`` of its own: where it holds keys, the caller wipes it (``request[:] = bytes(len(request))``)
once it was sent. Raises ValueError or struct.error for values that no structure can hold; nothing is sent then.
"""

from __future__ import annotations

from .attributes import POLICY_TYPE, Writer
from .constants import MessageType, PolicyType, Protocol
from .events import AeEvent, FlushedPolicies, Migrate, MigrateState
from .layout import USERSA_FLUSH
from .policy import Defaults, Policy, PolicyId
from .state import State, StateId
from .tables import SpdInfo, SpiRequest, StateFilter
from .wire import NLM_F_ACK, NLM_F_DUMP, NLM_F_REPLACE, NLM_F_REQUEST, U32, message

_DO = NLM_F_REQUEST | NLM_F_ACK
_ASK = NLM_F_REQUEST
_LIST = NLM_F_REQUEST | NLM_F_DUMP
_WRITE_TYPE = Writer((POLICY_TYPE,))


def new_state(state: State) -> bytearray:
    """Install an SA. EEXIST where its id is taken."""
    return message(MessageType.NEWSA, _DO, state.head(), state.parts())


def update_state(state: State) -> bytearray:
    """Give a larval SA its keys, or change a full one: encapsulation, care-of address, lifetimes, and little else.

    ESRCH where there is none. Keys, mode, flags and windows of a full SA stay as they were, and no error says so.
    """
    return message(MessageType.UPDSA, _DO, state.head(), state.parts())


def delete_state(state: StateId) -> bytearray:
    """Delete an SA. ESRCH where there is none."""
    return message(MessageType.DELSA, _DO, state.head(), state.parts())


def get_state(state: StateId) -> bytearray:
    """Ask for an SA: a State, with keys if the kernel gives them. ESRCH where there is none."""
    return message(MessageType.GETSA, _ASK, state.head(), state.parts())


def dump_states(which: StateFilter | None = None) -> bytearray:
    """Ask for all SAs, or those of a protocol or between addresses."""
    return message(MessageType.GETSA, _LIST, b"", [] if which is None else which.parts())


def flush_states(protocol: Protocol = Protocol.ANY) -> bytearray:
    """Delete all SAs of a protocol, or all. ESRCH where there were none."""
    return message(MessageType.FLUSHSA, _DO, USERSA_FLUSH.codec.pack(protocol))


def allocate_spi(state: State, low: int = 0x100, high: int = 0xFFFFFFFF) -> bytearray:
    """Have the kernel choose an SPI and keep a larval SA for it: a State. ENOENT where none between the two is free.

    Of ``state`` the addresses, protocol, mode, reqid, seq, mark, if_id, direction and cpu count.
    """
    request = SpiRequest(state, low, high)
    return message(MessageType.ALLOCSPI, _ASK, request.head(), request.parts())


def new_policy(policy: Policy) -> bytearray:
    """Install a policy. EEXIST where one has its selector, mark, if_id and priority."""
    return message(MessageType.NEWPOLICY, _DO, policy.head(), policy.parts())


def update_policy(policy: Policy) -> bytearray:
    """Install a policy, in place of the one with its selector, mark and if_id if there is such."""
    return message(MessageType.UPDPOLICY, _DO, policy.head(), policy.parts())


def delete_policy(policy: PolicyId) -> bytearray:
    """Delete a policy. ENOENT where there is none."""
    return message(MessageType.DELPOLICY, _DO, policy.head(), policy.parts())


def get_policy(policy: PolicyId) -> bytearray:
    """Ask for a policy. ENOENT where there is none."""
    return message(MessageType.GETPOLICY, _ASK, policy.head(), policy.parts())


def dump_policies(policy_type: PolicyType | None = None) -> bytearray:
    """Ask for all policies, sub-policies and those of sockets too.

    Kernels pay no heed to ``policy_type`` here.
    """
    parts = [] if policy_type is None else _WRITE_TYPE(FlushedPolicies(policy_type))
    return message(MessageType.GETPOLICY, _LIST, b"", parts)


def flush_policies(policy_type: PolicyType = PolicyType.MAIN) -> bytearray:
    """Delete all policies of a type but those of sockets. ESRCH where there were none."""
    return message(MessageType.FLUSHPOLICY, _DO, b"", _WRITE_TYPE(FlushedPolicies(policy_type)))


def set_defaults(defaults: Defaults) -> bytearray:
    """Say what becomes of packets that no policy matches (Linux 5.15)."""
    return message(MessageType.SETDEFAULT, _DO, defaults.head())


def get_defaults() -> bytearray:
    """Ask for that: a Defaults."""
    return message(MessageType.GETDEFAULT, _ASK, Defaults().head())


def get_ae(state: AeEvent) -> bytearray:
    """Ask for an SA's replay window and counters: an AeEvent. ``flags`` RTHR and ETHR ask for the thresholds too."""
    return message(MessageType.GETAE, _ASK, state.head(), state.parts())


def new_ae(state: AeEvent) -> bytearray:
    """Set an SA's replay window, counters or thresholds. The window has to be as wide as the SA's own."""
    return message(MessageType.NEWAE, _DO | NLM_F_REPLACE, state.head(), state.parts())


def migrate(migration: Migrate) -> bytearray:
    """Move a policy and its SAs to other addresses (CONFIG_XFRM_MIGRATE)."""
    return message(MessageType.MIGRATE, _DO, migration.head(), migration.parts())


def migrate_state(migration: MigrateState) -> bytearray:
    """Move one SA to other addresses, with its sequence numbers (Linux 7.2, CONFIG_XFRM_MIGRATE)."""
    return message(MessageType.MIGRATE_STATE, _DO, migration.head(), migration.parts())


def get_sad_info() -> bytearray:
    """Ask how many SAs there are: a SadInfo."""
    return message(MessageType.GETSADINFO, _ASK, U32.pack(0xFFFFFFFF))


def get_spd_info() -> bytearray:
    """Ask how many policies there are: a SpdInfo."""
    return message(MessageType.GETSPDINFO, _ASK, U32.pack(0xFFFFFFFF))


def set_spd_info(info: SpdInfo) -> bytearray:
    """Set the thresholds of ``info``, which are the only thing of it that can be set."""
    return message(MessageType.NEWSPDINFO, _DO, U32.pack(0xFFFFFFFF), info.parts())
