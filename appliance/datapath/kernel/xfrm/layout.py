"""The structures of linux/xfrm.h, described once.

The fast path of this package packs and unpacks them with :attr:`Layout.codec`; the ``nlmsg`` classes of ``messages``
take their ``fields`` from :meth:`Layout.fields`; the tests compare sizes and offsets with what a C compiler says.

Alignment is that of every 64-bit Linux and of 32-bit ARM (a u64 starts at a multiple of 8). Numbers are in the
machine's byte order, except those that the header declares as __be16 and __be32: in :attr:`Layout.codec` they are 2 or
4 bytes as they are on the wire.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

U8, U16, U32, U64, S32 = "B", "H", "I", "Q", "i"
BE16, BE32 = ">H", ">I"
ADDRESS = "16s"
NAME = "64s"

_ALIGN = {ADDRESS: 4, NAME: 1}
_FLAT = {BE16: "2s", BE32: "4s"}


@dataclass(frozen=True, slots=True)
class Member:
    """One member: ``kind`` is a format of the struct module or a nested structure."""

    name: str
    kind: str | Layout
    offset: int
    size: int


class Layout:
    """A structure. ``size`` is C's sizeof, padded at the end; ``codec`` packs its scalars, nested ones too."""

    size: int
    align: int

    def __init__(self, name: str, **members: str | Layout) -> None:
        self.name = name
        self.members: list[Member] = []
        at = 0
        self.align = 1
        for member, kind in members.items():
            if isinstance(kind, Layout):
                align, size = kind.align, kind.size
            else:
                size = struct.calcsize(kind)
                align = _ALIGN.get(kind, size)
            at += -at % align
            self.members.append(Member(member, kind, at, size))
            at += size
            self.align = max(self.align, align)
        self.size = at + -at % self.align
        self.codec = struct.Struct("=" + self._format())
        if self.codec.size != self.size:
            raise AssertionError(f"{name}: {self.codec.size} bytes packed, {self.size} in C")

    def _format(self) -> str:
        text, at = "", 0
        for member in self.members:
            text += "x" * (member.offset - at)
            text += member.kind._format() if isinstance(member.kind, Layout) else _FLAT.get(member.kind, member.kind)
            at = member.offset + member.size
        return text + "x" * (self.size - at)

    def fields(self) -> tuple[tuple[str, Any], ...]:
        """``fields`` of an nlmsg or nla class. A nested structure is a dictionary in the message."""
        fields: list[tuple[str, Any]] = []
        at = 0
        for number, member in enumerate(self.members):
            if member.offset > at:
                fields.append((f"__pad{number}", f"{member.offset - at}x"))
            kind = member.kind
            fields.append((member.name, kind.nested() if isinstance(kind, Layout) else kind))
            at = member.offset + member.size
        if self.size > at:
            fields.append((f"__pad{len(self.members)}", f"{self.size - at}x"))
        return tuple(fields)

    def defaults(self) -> dict[str, Any]:
        """``defaults`` of an nlmsg or nla class, for fields that a 0 cannot fill."""
        return {
            member.name: {} if isinstance(member.kind, Layout) else b""
            for member in self.members
            if isinstance(member.kind, Layout) or member.kind.endswith("s")
        }

    def nested(self) -> type:
        """What pyroute2 calls a field type: it codes this structure as a dictionary inside another."""
        layout = self

        class Nested:
            """The structure inside another."""

            structure = layout

            @staticmethod
            def decode_from(data: bytes | bytearray, offset: int) -> tuple[dict[str, Any], int]:
                return layout.unpack(data, offset), offset + layout.size

            @staticmethod
            def encode_into(data: bytearray, offset: int, value: dict[str, Any]) -> int:
                data.extend(bytes(layout.size))
                layout.pack_into(data, offset, value)
                return offset + layout.size

        Nested.__name__ = Nested.__qualname__ = self.name
        return Nested

    def unpack(self, data: bytes | bytearray, offset: int = 0) -> dict[str, Any]:
        """As a dictionary of numbers, bytes and dictionaries. Member by member: not the fast path."""
        found: dict[str, Any] = {}
        for member in self.members:
            at = offset + member.offset
            if isinstance(member.kind, Layout):
                found[member.name] = member.kind.unpack(data, at)
            else:
                found[member.name] = struct.unpack_from(_exact(member.kind), data, at)[0]
        return found

    def pack_into(self, data: bytearray, offset: int, value: dict[str, Any]) -> None:
        """The reverse of :meth:`unpack`; what is missing is zero."""
        unknown = value.keys() - {member.name for member in self.members}
        if unknown:
            raise KeyError(f"struct {self.name} has no {', '.join(sorted(unknown))}")
        for member in self.members:
            if member.name not in value:
                continue
            at = offset + member.offset
            if isinstance(member.kind, Layout):
                member.kind.pack_into(data, at, value[member.name])
            else:
                struct.pack_into(_exact(member.kind), data, at, value[member.name])


def _exact(kind: str) -> str:
    return kind if kind.startswith(">") else "=" + kind


ID = Layout("xfrm_id", daddr=ADDRESS, spi=BE32, proto=U8)

SELECTOR = Layout(
    "xfrm_selector",
    daddr=ADDRESS,
    saddr=ADDRESS,
    dport=BE16,
    dport_mask=BE16,
    sport=BE16,
    sport_mask=BE16,
    family=U16,
    prefixlen_d=U8,
    prefixlen_s=U8,
    proto=U8,
    ifindex=S32,
    user=U32,
)

LIFETIME_CFG = Layout(
    "xfrm_lifetime_cfg",
    soft_byte_limit=U64,
    hard_byte_limit=U64,
    soft_packet_limit=U64,
    hard_packet_limit=U64,
    soft_add_expires_seconds=U64,
    hard_add_expires_seconds=U64,
    soft_use_expires_seconds=U64,
    hard_use_expires_seconds=U64,
)

LIFETIME_CUR = Layout("xfrm_lifetime_cur", bytes=U64, packets=U64, add_time=U64, use_time=U64)

REPLAY_STATE = Layout("xfrm_replay_state", oseq=U32, seq=U32, bitmap=U32)

REPLAY_STATE_ESN = Layout(
    "xfrm_replay_state_esn", bmp_len=U32, oseq=U32, seq=U32, oseq_hi=U32, seq_hi=U32, replay_window=U32
)
"""``bmp_len`` words of u32 follow."""

ALGO = Layout("xfrm_algo", alg_name=NAME, alg_key_len=U32)
"""The key follows, as in the next two; ``alg_key_len`` is its length in bits."""

ALGO_AUTH = Layout("xfrm_algo_auth", alg_name=NAME, alg_key_len=U32, alg_trunc_len=U32)
ALGO_AEAD = Layout("xfrm_algo_aead", alg_name=NAME, alg_key_len=U32, alg_icv_len=U32)

STATS = Layout("xfrm_stats", replay_window=U32, replay=U32, integrity_failed=U32)

USER_SEC_CTX = Layout("xfrm_user_sec_ctx", len=U16, exttype=U16, ctx_alg=U8, ctx_doi=U8, ctx_len=U16)
"""``ctx_len`` bytes follow; ``len`` counts all."""

USER_TMPL = Layout(
    "xfrm_user_tmpl",
    id=ID,
    family=U16,
    saddr=ADDRESS,
    reqid=U32,
    mode=U8,
    share=U8,
    optional=U8,
    aalgos=U32,
    ealgos=U32,
    calgos=U32,
)

ENCAP_TMPL = Layout("xfrm_encap_tmpl", encap_type=U16, encap_sport=BE16, encap_dport=BE16, encap_oa=ADDRESS)

USERPOLICY_TYPE = Layout("xfrm_userpolicy_type", type=U8, reserved1=U16, reserved2=U8)

MARK = Layout("xfrm_mark", v=U32, m=U32)

SADHINFO = Layout("xfrmu_sadhinfo", sadhcnt=U32, sadhmcnt=U32)
SPDINFO = Layout("xfrmu_spdinfo", incnt=U32, outcnt=U32, fwdcnt=U32, inscnt=U32, outscnt=U32, fwdscnt=U32)
SPDHINFO = Layout("xfrmu_spdhinfo", spdhcnt=U32, spdhmcnt=U32)
SPDHTHRESH = Layout("xfrmu_spdhthresh", lbits=U8, rbits=U8)

USERSA_INFO = Layout(
    "xfrm_usersa_info",
    sel=SELECTOR,
    id=ID,
    saddr=ADDRESS,
    lft=LIFETIME_CFG,
    curlft=LIFETIME_CUR,
    stats=STATS,
    seq=U32,
    reqid=U32,
    family=U16,
    mode=U8,
    replay_window=U8,
    flags=U8,
)

USERSA_ID = Layout("xfrm_usersa_id", daddr=ADDRESS, spi=BE32, family=U16, proto=U8)

AEVENT_ID = Layout("xfrm_aevent_id", sa_id=USERSA_ID, saddr=ADDRESS, flags=U32, reqid=U32)

USERSPI_INFO = Layout("xfrm_userspi_info", info=USERSA_INFO, min=U32, max=U32)

USERPOLICY_INFO = Layout(
    "xfrm_userpolicy_info",
    sel=SELECTOR,
    lft=LIFETIME_CFG,
    curlft=LIFETIME_CUR,
    priority=U32,
    index=U32,
    dir=U8,
    action=U8,
    flags=U8,
    share=U8,
)

USERPOLICY_ID = Layout("xfrm_userpolicy_id", sel=SELECTOR, index=U32, dir=U8)

USER_ACQUIRE = Layout(
    "xfrm_user_acquire",
    id=ID,
    saddr=ADDRESS,
    sel=SELECTOR,
    policy=USERPOLICY_INFO,
    aalgos=U32,
    ealgos=U32,
    calgos=U32,
    seq=U32,
)

USER_EXPIRE = Layout("xfrm_user_expire", state=USERSA_INFO, hard=U8)
USER_POLEXPIRE = Layout("xfrm_user_polexpire", pol=USERPOLICY_INFO, hard=U8)
USERSA_FLUSH = Layout("xfrm_usersa_flush", proto=U8)
USER_REPORT = Layout("xfrm_user_report", proto=U8, sel=SELECTOR)

USER_KMADDRESS = Layout("xfrm_user_kmaddress", local=ADDRESS, remote=ADDRESS, reserved=U32, family=U16)

USER_MIGRATE = Layout(
    "xfrm_user_migrate",
    old_daddr=ADDRESS,
    old_saddr=ADDRESS,
    new_daddr=ADDRESS,
    new_saddr=ADDRESS,
    proto=U8,
    mode=U8,
    reserved=U16,
    reqid=U32,
    old_family=U16,
    new_family=U16,
)

USER_MIGRATE_STATE = Layout(
    "xfrm_user_migrate_state",
    id=USERSA_ID,
    new_daddr=ADDRESS,
    new_saddr=ADDRESS,
    old_mark=MARK,
    new_sel=SELECTOR,
    new_reqid=U32,
    flags=U32,
    new_family=U16,
    reserved=U16,
)
"""Linux 7.2."""

USER_MAPPING = Layout(
    "xfrm_user_mapping",
    id=USERSA_ID,
    reqid=U32,
    old_saddr=ADDRESS,
    new_saddr=ADDRESS,
    old_sport=BE16,
    new_sport=BE16,
)

ADDRESS_FILTER = Layout("xfrm_address_filter", saddr=ADDRESS, daddr=ADDRESS, family=U16, splen=U8, dplen=U8)

USER_OFFLOAD = Layout("xfrm_user_offload", ifindex=S32, flags=U8)

# The header's own names of these members are keywords of Python ("in"), so they end in an underscore.
USERPOLICY_DEFAULT = Layout("xfrm_userpolicy_default", in_=U8, fwd=U8, out=U8)

NLMSGHDR = Layout("nlmsghdr", length=U32, type=U16, flags=U16, sequence_number=U32, pid=U32)
NLATTR = Layout("nlattr", length=U16, type=U16)

STRUCTURES: tuple[Layout, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Layout))
"""All of them."""
