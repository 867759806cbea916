"""The numbers of linux/xfrm.h (Linux 7.3), with the kernel that each came with where that matters.

A number that is not known here is not an error: ``Mode(77)`` is a member called UNKNOWN_77, equal to 77. A kernel newer
than this file must not make an SA unreadable.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Self

NETLINK_XFRM = 6
"""The netlink protocol."""

INFINITE = (1 << 64) - 1
"""XFRM_INF: no limit of bytes or packets. A limit of seconds that does not apply is 0 instead."""

REPLAY_ESN_MAX = 4096
"""XFRMA_REPLAY_ESN_MAX: the largest replay window, in packets."""

ALGORITHM_NAME_SIZE = 64
"""Bytes of an algorithm's name with the zero that ends it."""


class Number(IntEnum):
    """An enumeration of the kernel's that may grow."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, int) or not 0 <= value <= 0xFFFFFFFF:
            return None
        member = int.__new__(cls, value)
        member._name_ = f"UNKNOWN_{value}"
        member._value_ = value
        return member


class MessageType(Number):
    """XFRM_MSG_*: ``nlmsghdr.nlmsg_type``."""

    NEWSA = 0x10
    DELSA = 0x11
    GETSA = 0x12
    NEWPOLICY = 0x13
    DELPOLICY = 0x14
    GETPOLICY = 0x15
    ALLOCSPI = 0x16
    ACQUIRE = 0x17
    EXPIRE = 0x18
    UPDPOLICY = 0x19
    UPDSA = 0x1A
    POLEXPIRE = 0x1B
    FLUSHSA = 0x1C
    FLUSHPOLICY = 0x1D
    NEWAE = 0x1E
    GETAE = 0x1F
    REPORT = 0x20
    MIGRATE = 0x21
    NEWSADINFO = 0x22
    GETSADINFO = 0x23
    NEWSPDINFO = 0x24
    GETSPDINFO = 0x25
    MAPPING = 0x26
    SETDEFAULT = 0x27  # Linux 5.15
    GETDEFAULT = 0x28  # Linux 5.15
    MIGRATE_STATE = 0x29  # Linux 7.2


class Attribute(Number):
    """XFRMA_*: the attributes of all messages but NEWSADINFO and NEWSPDINFO."""

    UNSPEC = 0
    ALG_AUTH = 1  # struct xfrm_algo
    ALG_CRYPT = 2  # struct xfrm_algo
    ALG_COMP = 3  # struct xfrm_algo
    ENCAP = 4  # struct xfrm_encap_tmpl
    TMPL = 5  # one or more struct xfrm_user_tmpl
    SA = 6  # struct xfrm_usersa_info
    POLICY = 7  # struct xfrm_userpolicy_info
    SEC_CTX = 8  # struct xfrm_user_sec_ctx and the context
    LTIME_VAL = 9  # struct xfrm_lifetime_cur
    REPLAY_VAL = 10  # struct xfrm_replay_state
    REPLAY_THRESH = 11  # u32, packets
    ETIMER_THRESH = 12  # u32, tenths of a second
    SRCADDR = 13  # xfrm_address_t
    COADDR = 14  # xfrm_address_t
    LASTUSED = 15  # u64, seconds since 1970
    POLICY_TYPE = 16  # struct xfrm_userpolicy_type
    MIGRATE = 17  # one or more struct xfrm_user_migrate
    ALG_AEAD = 18  # struct xfrm_algo_aead
    KMADDRESS = 19  # struct xfrm_user_kmaddress
    ALG_AUTH_TRUNC = 20  # struct xfrm_algo_auth; Linux 2.6.33
    MARK = 21  # struct xfrm_mark; Linux 2.6.34
    TFCPAD = 22  # u32, bytes; Linux 2.6.38
    REPLAY_ESN_VAL = 23  # struct xfrm_replay_state_esn; Linux 2.6.39
    SA_EXTRA_FLAGS = 24  # u32; Linux 3.11
    PROTO = 25  # u8; Linux 3.15
    ADDRESS_FILTER = 26  # struct xfrm_address_filter; Linux 3.15
    PAD = 27
    OFFLOAD_DEV = 28  # struct xfrm_user_offload; Linux 4.12; of policies 6.2
    SET_MARK = 29  # u32; as XFRMA_OUTPUT_MARK Linux 4.14, with a mask 4.19
    SET_MARK_MASK = 30  # u32; Linux 4.19
    IF_ID = 31  # u32; Linux 4.19
    MTIMER_THRESH = 32  # u32, seconds; Linux 5.17
    SA_DIR = 33  # u8; Linux 6.10
    NAT_KEEPALIVE_INTERVAL = 34  # u32, seconds; Linux 6.11
    SA_PCPU = 35  # u32; Linux 6.13
    IPTFS_DROP_TIME = 36  # u32, microseconds; this and those below Linux 6.14
    IPTFS_REORDER_WINDOW = 37  # u16, packets
    IPTFS_DONT_FRAG = 38  # flag
    IPTFS_INIT_DELAY = 39  # u32, microseconds
    IPTFS_MAX_QSIZE = 40  # u32, bytes
    IPTFS_PKT_SIZE = 41  # u32, bytes


class SadAttribute(Number):
    """XFRMA_SAD_*: the attributes of NEWSADINFO."""

    UNSPEC = 0
    CNT = 1  # u32
    HINFO = 2  # struct xfrmu_sadhinfo


class SpdAttribute(Number):
    """XFRMA_SPD_*: the attributes of NEWSPDINFO."""

    UNSPEC = 0
    INFO = 1  # struct xfrmu_spdinfo
    HINFO = 2  # struct xfrmu_spdhinfo
    IPV4_HTHRESH = 3  # struct xfrmu_spdhthresh; Linux 3.18
    IPV6_HTHRESH = 4  # struct xfrmu_spdhthresh; Linux 3.18


class Group(Number):
    """XFRMNLGRP_*: multicast groups."""

    ACQUIRE = 1
    EXPIRE = 2
    SA = 3
    POLICY = 4
    AEVENTS = 5
    REPORT = 6
    MIGRATE = 7
    MAPPING = 8


class Protocol(Number):
    """What an SA or a template speaks: an IP protocol number."""

    ANY = 0
    ROUTING = 43
    ESP = 50
    AH = 51
    DSTOPTS = 60
    COMP = 108
    IPSEC_ANY = 255


class Mode(Number):
    """XFRM_MODE_*."""

    TRANSPORT = 0
    TUNNEL = 1
    ROUTEOPTIMIZATION = 2
    IN_TRIGGER = 3
    BEET = 4
    IPTFS = 5  # Linux 6.14


class Share(Number):
    """XFRM_SHARE_*: who may use an SA."""

    ANY = 0
    SESSION = 1
    USER = 2
    UNIQUE = 3


class PolicyType(Number):
    """XFRM_POLICY_TYPE_*."""

    MAIN = 0
    SUB = 1
    ANY = 255


class PolicyDirection(Number):
    """XFRM_POLICY_IN, _OUT, _FWD."""

    IN = 0
    OUT = 1
    FWD = 2


class PolicyAction(Number):
    """XFRM_POLICY_ALLOW, _BLOCK."""

    ALLOW = 0
    BLOCK = 1


class DefaultAction(Number):
    """XFRM_USERPOLICY_*: what happens where no policy matches."""

    UNSPEC = 0
    BLOCK = 1
    ACCEPT = 2


class SaDirection(Number):
    """XFRM_SA_DIR_*; Linux 6.10."""

    IN = 1
    OUT = 2


class EncapType(Number):
    """UDP_ENCAP_* of linux/udp.h, and TCP's."""

    NONE = 0
    ESPINUDP_NON_IKE = 1  # dropped in Linux 6.10
    ESPINUDP = 2
    ESPINTCP = 7  # Linux 5.6


class StateFlag(IntFlag):
    """XFRM_STATE_*: ``xfrm_usersa_info.flags``."""

    NOECN = 1
    DECAP_DSCP = 2
    NOPMTUDISC = 4
    WILDRECV = 8
    ICMP = 16
    AF_UNSPEC = 32
    ALIGN4 = 64
    ESN = 128


class ExtraFlag(IntFlag):
    """XFRM_SA_XFLAG_*: of XFRMA_SA_EXTRA_FLAGS."""

    DONT_ENCAP_DSCP = 1  # Linux 3.11
    OSEQ_MAY_WRAP = 2  # Linux 5.9


class PolicyFlag(IntFlag):
    """``xfrm_userpolicy_info.flags``."""

    LOCALOK = 1
    ICMP = 2
    CPU_ACQUIRE = 4  # Linux 6.13


class OffloadFlag(IntFlag):
    """XFRM_OFFLOAD_*. Without PACKET it is crypto offload."""

    IPV6 = 1  # no kernel ever looked at it
    INBOUND = 2
    PACKET = 4  # Linux 6.2


class AeFlag(IntFlag):
    """XFRM_AE_*: what an NEWAE message holds, what GETAE asks for, and why an event came."""

    RTHR = 1  # replay threshold
    RVAL = 2  # replay value
    LVAL = 4  # lifetime value
    ETHR = 8  # expiry timer threshold
    CR = 16  # cause: the replay threshold
    CE = 32  # cause: the timer
    CU = 64  # cause: the value was set


class MigrateStateFlag(IntFlag):
    """XFRM_MIGRATE_STATE_*; Linux 7.2."""

    CLEAR_OFFLOAD = 1
    UPDATE_H2H_SEL = 2


NO_STATE_FLAGS = StateFlag(0)
NO_EXTRA_FLAGS = ExtraFlag(0)
NO_POLICY_FLAGS = PolicyFlag(0)
NO_OFFLOAD_FLAGS = OffloadFlag(0)
NO_AE_FLAGS = AeFlag(0)
